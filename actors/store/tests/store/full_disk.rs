//! A full disk, on a small tmpfs in a mount namespace of its own: it goes when the last process in it ends.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use rookery_store::{
    Append, Batch, EventLog, EventLogOptions, Health, SessionNumber, SpaceUse, Store, StoreError, StoreOptions, Table,
    Ticket, open,
};

use super::child::{self, Ended, Running, say};
use super::rows;

/// No batch of these tests is that far: the file cannot grow long before.
const BATCHES_MAX: u64 = 100_000;
/// Batches on a full disk: the file's segments are used again and again.
const FULL_BATCHES: u64 = 5_000;

/// With the watch off: writes until sled's file cannot grow, then some more.
pub(super) fn fail(directory: &Path) {
    let (store, mut acknowledged) = (open_unwatched(directory), None);
    let error = loop {
        let number = acknowledged.map_or(0, |last| last + 1);
        assert!(number < BATCHES_MAX, "the file may always grow");
        if let Err(error) = store.commit(rows::batch(number)).wait_blocking() {
            break error;
        }
        acknowledged = Some(number);
    };
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    assert!(matches!(store.health(), Health::Failed(_)), "{:?}", store.health());
    for number in 0..3 {
        let refused = store.commit(rows::batch(number)).wait_blocking();
        assert!(matches!(refused, Err(StoreError::Failed(_))), "the failure is sticky");
    }
    drop(store);
    say(&format!("failed: {error}"));
    say(&format!("acknowledged: {}", acknowledged.expect("some batches fit")));
}

/// On the small volume with the watch off, which others have filled: writes into what is reserved, and goes on when there is space.
pub(super) fn fill(directory: &Path) {
    let store = open_unwatched(directory);
    let options = EventLogOptions { free_space_min_bytes: 0, ..EventLogOptions::default() };
    let log = EventLog::open(&directory.join("events"), options).unwrap();
    let append = |first| {
        let (events, space) = (vec![vec![7; 10_000]], SpaceUse::Writing);
        let append = Append { session: SessionNumber(1), first, events, redo: Vec::new(), index: Vec::new(), space };
        log.append(append).wait_blocking()
    };
    append(1).unwrap();
    store.commit(rows::batch(0)).wait_blocking().unwrap();
    let ballast = directory.join("ballast");
    fill_volume(&ballast, directory, 0);
    let (mut written, mut refused) = (1, 0);
    while written < FULL_BATCHES && refused == 0 {
        match store.commit(rows::batch(written)).wait_blocking() {
            Ok(()) => written += 1,
            Err(StoreError::LowSpace { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(written > 50, "{written} batches had room");
    (2..100).for_each(|number| append(number).unwrap());
    fs::remove_file(&ballast).unwrap();
    store.commit(rows::batch(written)).wait_blocking().unwrap();
    assert_eq!((store.health(), rows::check(&*store).unwrap()), (Health::Ok, Some(written)));
    append(100).unwrap();
    drop((store, log));
    say(&format!("acknowledged: {written}"));
}

fn open_unwatched(directory: &Path) -> std::sync::Arc<dyn Store> {
    let options = StoreOptions { free_space_min_bytes: 0, ..StoreOptions::default() };
    open(&directory.join("store"), options).unwrap()
}

/// With space again: nothing acknowledged is missing, and the store works.
pub(super) fn check(directory: &Path) {
    let store = open_unwatched(directory);
    let last = rows::check(&*store).unwrap().expect("some batches fit");
    store.commit(rows::batch(last + 1)).wait_blocking().unwrap();
    assert_eq!(rows::check(&*store).unwrap(), Some(last + 1));
    say(&format!("there: {last}"));
}

/// With the watch on: refuses in time, and takes writes again once there is space.
pub(super) fn watch(directory: &Path) {
    let needed_bytes = 16 * 1024 * 1024;
    let options = StoreOptions { free_space_min_bytes: needed_bytes, ..StoreOptions::default() };
    let store = open(&directory.join("store"), options).unwrap();
    store.commit(rows::batch(0)).wait_blocking().unwrap();
    let ballast = directory.join("ballast");
    fill_volume(&ballast, directory, 12 * 1024);
    wait_for(&*store, |health| matches!(health, Health::LowSpace { free_bytes, .. } if *free_bytes < needed_bytes));
    let refused = store.commit(rows::batch(1)).wait_blocking();
    assert!(matches!(refused, Err(StoreError::LowSpace { .. })), "{refused:?}");
    assert_eq!(rows::check(&*store).unwrap(), Some(0));
    // Rows can be deleted from a nearly full disk, until there is just enough left to open the store again.
    let session = SessionNumber(7);
    let mut removal = Batch::for_removal();
    removal.delete(session, Table::Names, "k");
    let mixed = [store.commit(removal.clone()), store.commit(rows::batch(1)), store.commit(Batch::new())];
    let [removed, refused, waited] = mixed.map(Ticket::wait_blocking);
    assert!(
        removed == Ok(()) && matches!(refused, Err(StoreError::LowSpace { .. })) && waited == Ok(()),
        "{refused:?}"
    );
    fs::remove_file(&ballast).unwrap();
    fill_volume(&ballast, directory, 5 * 1024);
    wait_for(&*store, |health| matches!(health, Health::LowSpace { free_bytes, .. } if *free_bytes < needed_bytes / 2));
    let refused = store.commit(removal).wait_blocking();
    assert!(matches!(refused, Err(StoreError::LowSpace { .. })), "{refused:?}");
    assert_eq!(store.commit(Batch::new()).wait_blocking(), Ok(()));
    fs::remove_file(&ballast).unwrap();
    wait_for(&*store, |health| *health == Health::Ok);
    store.commit(rows::batch(1)).wait_blocking().unwrap();
    say("recovered");
}

/// Fills the volume until only `free_kib` KiB are free.
pub(super) fn fill_volume(ballast: &Path, volume: &Path, free_kib: u64) {
    let free = || {
        let volume = rustix::fs::statvfs(volume).unwrap();
        volume.f_bavail * volume.f_frsize
    };
    let mut file = fs::File::create(ballast).unwrap();
    while let Some(more) = free().checked_sub(free_kib * 1024).filter(|more| *more > 0) {
        file.write_all(&vec![1; usize::try_from(more.min(1024 * 1024)).unwrap()]).unwrap();
    }
}

/// The watch checks at most once a second.
fn wait_for(store: &dyn Store, reached: impl Fn(&Health) -> bool) {
    let began = std::time::Instant::now();
    while !reached(&store.health()) {
        assert!(began.elapsed().as_secs() < 30, "{:?}", store.health());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Runs a shell script in a mount namespace of its own, as root there; `None` where that is not permitted.
pub(super) fn in_own_namespace(script: &str, directory: &Path) -> Option<Ended> {
    let root: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(root).args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
        command.arg(std::env::current_exe().unwrap());
        child::tell(&mut command, "none", directory);
        command
    };
    let probe = format!("mount -t tmpfs -o size=1m tmpfs '{}'", directory.display());
    if !unshare(&probe).output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    Some(Running::start(unshare(script)).end())
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// Runs the child in a role, from a shell whose `$1` is this binary.
pub(super) const RUN: &str =
    r#"run() { ROOKERY_STORE_CHILD="$2" "$1" --exact store::child::child --nocapture --test-threads=1; }"#;

fn number(ended: &Ended, name: &str) -> u64 {
    let line = ended.lines.iter().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no `{name}` in {:?}\n{}", ended.lines, ended.errors)).trim().parse().unwrap()
}

#[test]
fn a_file_that_cannot_grow_fails_the_store_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // 20,480 blocks of 512 bytes.
    let limited = format!(r#"{RUN}; (trap '' XFSZ; ulimit -f 20480; run "$1" fail); run "$1" check"#);
    let mut command = Command::new("sh");
    command.args(["-ec", &limited, "sh"]).arg(std::env::current_exe().unwrap());
    child::tell(&mut command, "none", directory.path());
    let ended = Running::start(command).end();
    assert!(ended.success, "{:?}\n{}", ended.lines, ended.errors);
    assert!(!ended.errors.contains("panicked"), "{}", ended.errors);
    assert!(number(&ended, "there:") >= number(&ended, "acknowledged:"), "{:?}", ended.lines);
}

#[test]
fn a_disk_that_others_fill_at_once_does_not_fail_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{RUN}
        mount -t tmpfs -o size=48m tmpfs "$ROOKERY_STORE_DIRECTORY"
        run "$1" fill
        run "$1" check"#
    );
    let Some(ended) = in_own_namespace(&script, directory.path()) else {
        // Where nothing can be mounted, no disk can be filled: the room is reserved.
        let store = open_unwatched(directory.path());
        store.commit(rows::batch(0)).wait_blocking().unwrap();
        let file = fs::metadata(directory.path().join("store/db")).unwrap();
        assert!(file.blocks() * 512 > file.len() + 4 * 1024 * 1024, "{file:?}");
        return;
    };
    assert!(ended.success, "{:?}\n{}", ended.lines, ended.errors);
    assert_eq!(number(&ended, "there:"), number(&ended, "acknowledged:"), "{:?}", ended.lines);
}

#[test]
fn writes_stop_before_the_disk_is_full_and_go_on_with_space() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{RUN}
        mount -t tmpfs -o size=48m tmpfs "$ROOKERY_STORE_DIRECTORY"
        run "$1" watch"#
    );
    let Some(ended) = in_own_namespace(&script, directory.path()) else {
        let options = StoreOptions { free_space_min_bytes: u64::MAX / 2, ..StoreOptions::default() };
        let store = open(directory.path(), options).unwrap();
        let refused = store.commit(rows::batch(0)).wait_blocking();
        assert!(matches!(refused, Err(StoreError::LowSpace { .. })), "{refused:?}");
        return;
    };
    assert!(ended.success, "{:?}\n{}", ended.lines, ended.errors);
    assert_eq!(ended.lines, ["recovered"]);
}
