//! Encrypted stores on disk: what the files show, what a key opens, and how a store that was not encrypted becomes one.

use std::fs;
use std::path::Path;

use rookery_store::{
    Batch, SessionNumber, Store, StoreError, StoreKey, StoreOptions, Table, open, open_encrypted, open_next, rekey,
    replace,
};

const ALICE: SessionNumber = SessionNumber(1);
const SECRET: &[u8] = b"the private key of a device, in plain text";

fn key(byte: u8) -> StoreKey {
    StoreKey::from_bytes([byte; 32])
}

fn options(key: Option<StoreKey>) -> StoreOptions {
    StoreOptions { cache_bytes: 4 * 1024 * 1024, key, ..StoreOptions::default() }
}

fn with_key(byte: u8) -> StoreOptions {
    options(Some(key(byte)))
}

fn put(store: &dyn Store, key: &str, value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(ALICE, Table::Device, key, value);
    store.commit(batch).wait_blocking().unwrap();
}

fn get(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.get(ALICE, Table::Device, key.as_bytes()).unwrap()
}

/// Whether any file below holds these bytes.
fn is_on_disk(directory: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_on_disk(&path, bytes);
        }
        fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}

fn plain_store(path: &Path) {
    let store = open(path, options(None)).unwrap();
    for number in 0..500 {
        put(&*store, &format!("k{number}"), SECRET);
    }
}

#[test]
fn the_files_of_an_encrypted_store_show_no_value() {
    for (options, shows) in [(options(None), true), (with_key(1), false)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = open(&path, options.clone()).unwrap();
        put(&*store, "k", SECRET);
        assert_eq!(get(&*store, "k").as_deref(), Some(SECRET));
        drop(store);
        assert_eq!(is_on_disk(directory.path(), SECRET), shows);
        assert_eq!(get(&*open(&path, options).unwrap(), "k").as_deref(), Some(SECRET));
    }
}

#[test]
fn a_wrong_key_or_none_opens_nothing_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    put(&*open(&path, with_key(1)).unwrap(), "k", SECRET);
    for _ in 0..2 {
        let refused = |options| open_encrypted(&path, options).err().unwrap();
        assert_eq!(refused(with_key(2)), StoreError::WrongKey { path: path.clone() });
        assert_eq!(open(&path, options(None)).err(), Some(StoreError::Encrypted { path: path.clone() }));
    }
    assert_eq!(get(&*open_encrypted(&path, with_key(1)).unwrap(), "k").as_deref(), Some(SECRET));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_lies_beside_a_store_that_does_not_open_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let beside = ["store.before", "store.next"].map(|name| path.with_file_name(name));
    let is_there = || beside.iter().all(|path| path.exists());
    let in_use = open(&path, with_key(1)).unwrap();
    beside.iter().for_each(|path| fs::create_dir(path).unwrap());
    assert_eq!(open_encrypted(&path, with_key(1)).err(), Some(StoreError::InUse { path: path.clone() }));
    assert!(is_there());
    drop(in_use);
    assert_eq!(open_encrypted(&path, with_key(2)).err(), Some(StoreError::WrongKey { path: path.clone() }));
    assert!(is_there());
    drop(open_encrypted(&path, with_key(1)).unwrap());
    assert!(beside.iter().all(|path| !path.exists()));
}

#[test]
fn a_new_key_takes_the_place_of_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    put(&*open(&path, with_key(1)).unwrap(), "k", SECRET);
    assert_eq!(rekey(&path, with_key(3), &key(2)).err(), Some(StoreError::WrongKey { path: path.clone() }));
    rekey(&path, with_key(1), &key(2)).unwrap();
    assert_eq!(open(&path, with_key(1)).err(), Some(StoreError::WrongKey { path: path.clone() }));
    assert_eq!(get(&*open(&path, with_key(2)).unwrap(), "k").as_deref(), Some(SECRET));
}

#[test]
fn a_store_that_was_not_encrypted_is_encrypted_wherever_it_was_stopped() {
    let states: [&dyn Fn(&Path); 6] = [
        &|_| {},
        // While copying.
        &|path| drop(open(&path.with_file_name("store.next"), with_key(1)).unwrap()),
        &|path| fs::create_dir(path.with_file_name("store.next")).unwrap(),
        // Between the two renames.
        &|path| {
            drop(open_encrypted(path, with_key(1)).unwrap());
            fs::rename(path, path.with_file_name("store.next")).unwrap();
            fs::create_dir(path.with_file_name("store.before")).unwrap();
        },
        // Somebody removed the copy.
        &|path| fs::rename(path, path.with_file_name("store.before")).unwrap(),
        // Before the old one was removed.
        &|path| {
            drop(open_encrypted(path, with_key(1)).unwrap());
            plain_store(&path.with_file_name("store.before"));
        },
    ];
    for (number, stop) in states.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        plain_store(&path);
        stop(&path);
        let store = open_encrypted(&path, with_key(1)).unwrap();
        let rows = store.scan_prefix(ALICE, Table::Device, &[]).unwrap();
        assert!(rows.len() == 500 && rows.iter().all(|(_, value)| value == SECRET), "{number}");
        drop(store);
        assert!(!is_on_disk(directory.path(), SECRET), "{number}");
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["store"], "{number}");
    }
}

#[test]
fn a_replacing_that_was_stopped_before_its_first_rename_leaves_no_trace() {
    for (file, name) in [("keep-as", "kept"), ("keep-as", ""), ("keep-as.new", "ke")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        put(&*open(&path, with_key(1)).unwrap(), "k", b"old");
        fs::write(path.join(file), name).unwrap();
        drop(open_encrypted(&path, with_key(1)).unwrap());
        put(&*open_next(&path, with_key(1)).unwrap(), "k", b"new");
        replace(&path, None).unwrap();
        assert_eq!(get(&*open_encrypted(&path, with_key(1)).unwrap(), "k").as_deref(), Some(&b"new"[..]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the old one is gone");
    }
}

#[test]
fn a_store_that_is_to_be_kept_is_kept_wherever_its_replacing_was_stopped() {
    let stops: [&dyn Fn(&Path); 3] = [
        &|_| {},
        // Before the old one has the name that it is kept under.
        &|path| fs::rename(path.with_file_name("kept"), path.with_file_name("store.before")).unwrap(),
        // Between the two renames.
        &|path| {
            fs::rename(path.with_file_name("kept"), path.with_file_name("store.before")).unwrap();
            fs::rename(path, path.with_file_name("store.next")).unwrap();
        },
    ];
    for (number, stop) in stops.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        put(&*open(&path, with_key(1)).unwrap(), "k", b"old");
        put(&*open_next(&path, with_key(1)).unwrap(), "k", b"new");
        replace(&path, Some("kept")).unwrap();
        stop(&path);
        assert_eq!(get(&*open_encrypted(&path, with_key(1)).unwrap(), "k").as_deref(), Some(&b"new"[..]), "{number}");
        let kept = path.with_file_name("kept");
        assert_eq!(get(&*open(&kept, with_key(1)).unwrap(), "k").as_deref(), Some(&b"old"[..]), "{number}");
    }
}
