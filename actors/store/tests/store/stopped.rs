//! Stopped at any step of an opening, by a full disk or a kill: the store opens with every row once there is room.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rookery_store::{StoreError, StoreKey, StoreOptions, open, open_encrypted};

use super::child::{self, Running, say};
use super::full_disk::{RUN, fill_volume, in_own_namespace};
use super::rows::{self, Random};

/// Enough for several segments, some of them used again.
const BATCHES: u64 = 200;

/// Openings that are killed, each after another time.
const KILLS: u64 = 12;
/// An opening of that store takes some 20 ms, with a start of the process before.
const KILL_AFTER_US_MAX: u64 = 60_000;

/// Free KiB on the volume when the store is opened: from nothing to more than an opening takes.
const FREE_KIB: [u64; 14] = [0, 4, 8, 12, 16, 32, 64, 128, 512, 1024, 3072, 4096, 6144, 9216];

fn unwatched() -> StoreOptions {
    StoreOptions { free_space_min_bytes: 0, ..StoreOptions::default() }
}

/// Makes a store of [`BATCHES`], opened several times.
fn make(store: &Path) {
    for half in [0..BATCHES / 2, BATCHES / 2..BATCHES] {
        let store = open(store, unwatched()).unwrap();
        half.for_each(|number| drop(store.commit(rows::batch(number))));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn snapshot_of(store: &Path) -> PathBuf {
    let snapshots = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let mut snapshots = snapshots.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap."));
    let only = snapshots.next().expect("a store that was opened twice has one");
    assert_eq!(snapshots.next(), None);
    only
}

/// Beginnings of a file, the empty one and the whole one among them.
fn beginnings(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let cuts = [0, 1, 4, 8, 9, 12, 13, 20, bytes.len() / 2, bytes.len() - 4, bytes.len() - 1, bytes.len()];
    cuts.into_iter().map(|cut| &bytes[..cut.min(bytes.len())])
}

/// `then` sees a copy of the store for each way to stop an opening.
fn for_each_stop(store: &Path, mut then: impl FnMut(&str, &Path)) {
    let parent = store.parent().unwrap();
    let snapshot = snapshot_of(store);
    let name = snapshot.file_name().unwrap().to_string_lossy().into_owned();
    let bytes_of = |file: &str| fs::read(store.join(file)).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for unfinished in [format!("{name}.generating"), "snap.0FFFFFFFFFFFFFFF.generating".to_owned()] {
        files.extend(beginnings(&bytes_of(&name)).map(|bytes| (unfinished.clone(), bytes.to_vec())));
    }
    files.extend(beginnings(&bytes_of("conf")).map(|bytes| ("conf".to_owned(), bytes.to_vec())));
    files.extend(beginnings(&bytes_of("witness")).map(|bytes| ("witness".to_owned(), bytes.to_vec())));
    // The snapshot before it is removed only after the rename.
    files.push(("snap.0000000000000014".to_owned(), bytes_of(&name)));
    for (file, bytes) in files {
        let stopped = parent.join("stopped");
        copy(store, &stopped);
        fs::write(stopped.join(&file), &bytes).unwrap();
        then(&format!("`{file}` of {} bytes", bytes.len()), &stopped);
        fs::remove_dir_all(&stopped).unwrap();
    }
}

#[test]
fn an_opening_that_was_stopped_at_any_step_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    make(&good);
    for_each_stop(&good, |stop, stopped| {
        for _ in 0..2 {
            let store = open(stopped, unwatched()).unwrap_or_else(|error| panic!("{stop}: {error}"));
            assert_eq!(rows::check(&*store), Ok(Some(BATCHES - 1)), "{stop}");
        }
    });
}

#[test]
fn a_first_opening_that_was_stopped_at_any_step_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    drop(open(&good, unwatched()).unwrap());
    let of = |file: &str| fs::read(good.join(file)).unwrap();
    let (conf, db) = (of("conf"), of("db"));
    let mut stops: Vec<Vec<(&str, Vec<u8>)>> = vec![Vec::new()];
    stops.extend(beginnings(&conf).map(|bytes| vec![("conf", bytes.to_vec())]));
    stops.push(vec![("conf", vec![0; conf.len()])]);
    for cut in (0..=16).map(|part| db.len() * part / 16) {
        stops.push(vec![("conf", conf.clone()), ("db", db[..cut].to_vec())]);
    }
    stops.extend(
        beginnings(&of("witness"))
            .map(|bytes| vec![("conf", conf.clone()), ("db", db.clone()), ("witness", bytes.to_vec())]),
    );
    for (number, files) in stops.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        fs::create_dir_all(path.join("blobs")).unwrap();
        let what: Vec<_> = files.iter().map(|(file, bytes)| format!("`{file}` of {} bytes", bytes.len())).collect();
        for (file, bytes) in files {
            fs::write(path.join(file), bytes).unwrap();
        }
        for _ in 0..2 {
            let store = open(&path, unwatched()).unwrap_or_else(|error| panic!("{what:?}: {error}"));
            assert_eq!(rows::check(&*store), Ok(None), "{what:?}");
        }
    }
}

#[test]
fn a_snapshot_that_is_not_whole_is_done_without_when_no_row_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (good, path) = (directory.path().join("good"), directory.path().join("store"));
    let options = StoreOptions { key: Some(StoreKey::from_bytes([1; 32])), ..unwatched() };
    for half in [0..BATCHES / 2, BATCHES / 2..BATCHES] {
        let store = open(&good, options.clone()).unwrap();
        half.for_each(|number| drop(store.commit(rows::batch(number))));
    }
    let snapshot = snapshot_of(&good);
    let (name, whole) = (snapshot.file_name().unwrap().to_owned(), fs::read(&snapshot).unwrap());
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for bytes in [&[][..], &whole[..7], &whole[..whole.len() - 1], &flipped] {
        copy(&good, &path);
        fs::write(path.join(&name), bytes).unwrap();
        let refused = open(&path, options.clone()).err().unwrap().to_string();
        assert!(refused.contains("is not whole") && refused.contains("restore the latest backup"), "{refused}");
        let store = open_encrypted(&path, options.clone()).unwrap();
        assert_eq!(rows::check(&*store), Ok(Some(BATCHES - 1)));
        drop(store);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left beside it");
        fs::remove_dir_all(&path).unwrap();
    }
    // With rows missing it is refused, and nothing was changed.
    copy(&good, &path);
    fs::write(path.join(&name), &whole[..7]).unwrap();
    let mut db = fs::read(path.join("db")).unwrap();
    let length = db.len();
    db[length / 2..].fill(0);
    fs::write(path.join("db"), &db).unwrap();
    let refused = open_encrypted(&path, options).err().unwrap();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(fs::read(path.join("db")).unwrap() == db && fs::read(path.join(&name)).unwrap().len() == 7);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

/// The child: opens and closes the store until it is killed.
pub(super) fn reopen(directory: &Path) {
    loop {
        say("opening");
        drop(open(directory, unwatched()).unwrap());
    }
}

#[test]
fn a_kill_while_a_store_is_opened_loses_nothing() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    make(directory.path());
    for kill in 0..KILLS {
        let mut running = Running::start(child::command("reopen", directory.path()));
        assert_eq!(running.line().as_deref(), Some("opening"), "seed {seed}");
        std::thread::sleep(Duration::from_micros(random.below(KILL_AFTER_US_MAX)));
        running.kill();
        drop(running.end());
        let store =
            open(directory.path(), unwatched()).unwrap_or_else(|error| panic!("seed {seed}, kill {kill}: {error}"));
        assert_eq!(rows::check(&*store), Ok(Some(BATCHES - 1)), "seed {seed}, kill {kill}");
    }
}

/// The child, on a small volume: opens a new store and one with rows at each of [`FREE_KIB`], and again with more room.
pub(super) fn starve(directory: &Path) {
    let good = directory.join("good");
    make(&good);
    for is_new in [true, false] {
        for free_kib in FREE_KIB {
            let store = directory.join("store");
            if !is_new {
                copy(&good, &store);
            }
            let what = format!("new: {is_new}, {free_kib} KiB free");
            let ballast = directory.join("ballast");
            fill_volume(&ballast, directory, free_kib);
            let before = names(&store);
            let watched = open(&store, StoreOptions::default()).err();
            assert!(
                matches!(watched, Some(StoreError::NoRoomToOpen { .. } | StoreError::Io { .. })),
                "{what}: {watched:?}"
            );
            assert!(is_new || names(&store) == before, "{what}: nothing was touched");
            if let Err(error) = open(&store, unwatched()) {
                say(&format!("refused: {what}: {error}"));
            }
            fs::remove_file(&ballast).unwrap();
            let opened = open(&store, unwatched()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(rows::check(&*opened), Ok((!is_new).then_some(BATCHES - 1)), "{what}");
            drop(opened);
            fs::remove_dir_all(&store).unwrap();
        }
    }
    say("went through");
}

fn names(directory: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .map(Result::unwrap)
        .filter(|entry| entry.file_name() != "blobs")
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
        .collect();
    names.sort();
    names
}

#[test]
fn a_start_on_a_full_disk_is_refused_and_the_store_opens_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{RUN}
        mount -t tmpfs -o size=60m tmpfs "$ROOKERY_STORE_DIRECTORY"
        run "$1" starve"#
    );
    let Some(ended) = in_own_namespace(&script, directory.path()) else {
        // Nothing can be mounted here: the limit is higher than the disk is large.
        let options = StoreOptions { free_space_min_bytes: u64::MAX / 2, ..StoreOptions::default() };
        let refused = open(directory.path(), options).err().unwrap();
        assert!(matches!(refused, StoreError::NoRoomToOpen { .. }), "{refused}");
        assert!(refused.to_string().contains("make room"), "{refused}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "sled was not asked");
        return;
    };
    assert!(ended.success, "{:?}\n{}", ended.lines, ended.errors);
    assert!(!ended.errors.contains("panicked"), "{}", ended.errors);
    assert_eq!(ended.lines.last().map(String::as_str), Some("went through"), "{:?}", ended.lines);
    let refused: Vec<_> = ended.lines.iter().filter(|line| line.starts_with("refused:")).collect();
    assert!(!refused.is_empty(), "the disk was never full");
    assert!(refused.iter().all(|line| !line.contains("restore the latest backup")), "{refused:?}");
}
