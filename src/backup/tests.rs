use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rookery_store::{Batch, SessionNumber, Store, Table, layout};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::home::Home;
use super::restore::{self, Restored};
use super::*;
use crate::config::DataLocation;
use crate::data_dir;
use crate::store_key::{self, STORE_DIRECTORY};

const KEY: [u8; 32] = [7; 32];

/// A data directory with a store in which this session has credentials.
struct Bench {
    data: TempDir,
    key: StoreKey,
}

impl Bench {
    fn new() -> Self {
        Self { data: tempfile::tempdir().unwrap(), key: StoreKey::from_bytes(KEY) }
    }

    fn location(&self) -> DataLocation {
        DataLocation { data_dir: self.data.path().to_owned(), ..DataLocation::default() }
    }

    fn path(&self) -> PathBuf {
        self.data.path().join(STORE_DIRECTORY)
    }

    fn open(&self) -> Arc<dyn Store> {
        rookery_store::open(&self.path(), store_key::with_key(&self.key)).unwrap()
    }

    fn put_session(&self, number: u32, name: &str, link: &str) {
        let id = Uuid::from_u128(number.into());
        let record = json!({
            "id": id, "name": name, "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
            "status": "ready", "started": true, "link": link, "phone": null, "lid": null, "push_name": null,
            "connected_at": null, "last_active": null, "last_error": null, "restriction": null, "deleting": false,
        });
        let mut batch = Batch::new();
        batch.put(SessionNumber(number), Table::Sessions, layout::SESSION, record.to_string());
        self.open().commit(batch).wait_blocking().unwrap();
    }

    /// A backup as it would have been made there.
    fn backup(&self, home: &Home) -> Vec<u8> {
        let manifest = Manifest { made_at: Timestamp::now(), home: home.clone(), pepper: None, has_events: false };
        let mut archive = ArchiveWriter::begin(Vec::new(), &self.key).unwrap();
        archive.write_all(&framed(&serde_json::to_vec(&manifest).unwrap())).unwrap();
        self.open().export(&mut archive).unwrap();
        archive.finish().unwrap()
    }

    fn unpack(&self, backup: &[u8], force: bool) -> Result<Restored, String> {
        let now = restore::open_readable(&self.location(), &self.key).unwrap();
        let unpacked = restore::unpack(
            &self.location(),
            &self.key,
            backup,
            &self.key,
            now.as_deref(),
            restore::Wish { force, keep_keys: false },
        );
        unpacked.map_err(|error| format!("{error:#}"))
    }

    /// The names in the data directory.
    fn entries(&self) -> Vec<String> {
        let names = fs::read_dir(self.data.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn framed(manifest: &[u8]) -> Vec<u8> {
    [&u32::try_from(manifest.len()).unwrap().to_be_bytes()[..], manifest].concat()
}

fn home(machine: Option<&str>, directory: &Path) -> Home {
    Home { machine: machine.map(Into::into), directory: directory.to_owned() }
}

#[test]
fn a_backup_of_this_place_comes_back_with_its_sessions_and_its_pepper() {
    let (from, to) = (Bench::new(), Bench::new());
    from.put_session(1, "alice", "Linked");
    from.put_session(2, "bob", "None");
    let pepper = Pepper::generate().unwrap();
    pepper.write(&from.data.path().join(PEPPER_FILE)).unwrap();
    let backup = write(&*from.open(), None, from.data.path(), &from.key, Vec::new()).unwrap();
    assert_eq!(check(backup.as_slice(), &from.key).unwrap().1, ["alice"]);
    // The backup was made in another directory of this machine, where nobody has it open.
    let unpacked = to.unpack(&backup, false).unwrap();
    assert_eq!(to.entries(), ["store.next"]);
    let restored = restore::replace(&to.location(), &to.key, unpacked).unwrap();
    assert_eq!((restored.sessions, restored.before), (vec!["alice".to_owned()], None));
    assert_eq!(to.entries(), ["store"]);
    let store = to.open();
    assert_eq!(store.scan_all(Table::Sessions).unwrap().len(), 2);
    let came = ApiKeys::restored_pepper(&*store).unwrap().expect("it comes along");
    assert_eq!(String::from(came.clone()), String::from(pepper));
    // A restored directory that was never started has its pepper in the store, and its backup has the pepper all the
    // same.
    let again = write(&*store, None, to.data.path(), &to.key, Vec::new()).unwrap();
    let (manifest, _) = read(again.as_slice(), &to.key).unwrap();
    assert_eq!(manifest.pepper.map(String::from), Some(String::from(came)));
}

#[test]
fn sessions_that_may_be_alive_are_not_restored_unless_that_is_meant() {
    let (from, to) = (Bench::new(), Bench::new());
    from.put_session(1, "alice", "Linked");
    let here = Home::of(to.data.path());
    let machine = here.machine.as_deref();
    let elsewhere = [
        (home(Some("another"), to.data.path()), "on another machine"),
        (home(None, to.data.path()), "nothing tells this machine from others"),
        (home(machine, from.data.path()), "are alive in the daemon of"),
        (home(machine, Path::new("/nowhere")), "cannot be seen from here"),
    ];
    for (home, why) in &elsewhere {
        let backup = from.backup(home);
        let _in_use = data_dir::Lock::take(from.data.path()).unwrap();
        let why = if machine.is_none() { "nothing tells this machine from others" } else { why };
        let refused = to.unpack(&backup, false).unwrap_err();
        assert!(refused.contains(why) && refused.contains("alice"), "{refused}");
        assert!(to.entries().iter().all(|name| name != "store.next"), "{home:?}");
        assert_eq!(to.unpack(&backup, true).unwrap().sessions, ["alice"]);
    }
    // Sessions that are here would be lost, wherever the backup comes from.
    to.put_session(9, "carol", "Linking");
    let refused = to.unpack(&from.backup(&here), false).unwrap_err();
    assert!(refused.contains("carol") && refused.contains("--force"), "{refused}");
}

#[test]
fn sessions_without_credentials_stand_in_nobodys_way() {
    let (from, to) = (Bench::new(), Bench::new());
    from.put_session(1, "alice", "None");
    to.put_session(9, "carol", "None");
    let unpacked = to.unpack(&from.backup(&home(Some("another"), Path::new("/nowhere"))), false).unwrap();
    let restored = restore::replace(&to.location(), &to.key, unpacked).unwrap();
    let before = restored.before.expect("what was there is kept");
    let (_, mut export) = read(fs::File::open(before).unwrap(), &to.key).unwrap();
    let store = rookery_store::open_memory();
    store.import(&mut export).unwrap();
    assert_eq!(store.scan_all(Table::Sessions).unwrap()[0].0, SessionNumber(9));
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    for malformed in [&b""[..], b"{}", b"null", b"{\"madeAt\":\"now\"}", &[b' '; 70_000]] {
        let mut archive = ArchiveWriter::begin(Vec::new(), &StoreKey::from_bytes(KEY)).unwrap();
        archive.write_all(&framed(malformed)).unwrap();
        let backup = archive.finish().unwrap();
        let error = read(backup.as_slice(), &StoreKey::from_bytes(KEY)).map(drop).unwrap_err();
        assert!(matches!(error, BackupError::Manifest), "{error}");
    }
}

#[test]
fn a_store_that_was_stopped_while_it_was_replaced_is_settled_before_the_next_restore() {
    let bench = Bench::new();
    bench.put_session(1, "alice", "Linked");
    let aside = |name: &str| bench.data.path().join(name);
    // A kill between the two renames: the next store was complete.
    fs::rename(bench.path(), aside("store.next")).unwrap();
    fs::create_dir(aside("store.before")).unwrap();
    let refused = restore::open_readable(&bench.location(), &bench.key).unwrap().expect("it is there");
    assert_eq!(restore::names(&*refused).unwrap(), ["alice"]);
    drop(refused);
    // A store that was put aside before it was read.
    fs::rename(bench.path(), aside("store.before")).unwrap();
    assert!(bench.unpack(b"no backup", false).unwrap_err().contains("no backup"));
    assert_eq!(restore::names(&*bench.open()).unwrap(), ["alice"]);
}

#[test]
fn a_store_that_cannot_be_read_keeps_its_files() {
    let (from, to) = (Bench::new(), Bench::new());
    from.put_session(1, "alice", "None");
    to.put_session(9, "carol", "None");
    fs::write(to.path().join("db"), vec![0x5a; 100_000]).unwrap();
    let unpacked = to.unpack(&from.backup(&Home::of(to.data.path())), false).unwrap();
    let restored = restore::replace(&to.location(), &to.key, unpacked).unwrap();
    let aside = restored.before.expect("it is kept");
    assert!(aside.join("db").exists() && aside.display().to_string().contains("store.unreadable-"));
    assert_eq!(to.entries().len(), 2);
    drop(to.open());
}
