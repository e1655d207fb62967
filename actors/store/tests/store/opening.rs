//! Opening and closing.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rookery_store::{Batch, SessionNumber, StoreError, StoreOptions, Table, layout, open};

use super::rows;

fn options() -> StoreOptions {
    StoreOptions::default()
}

#[test]
fn a_second_opener_is_told_that_the_directory_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path, options()).unwrap();
    let began = Instant::now();
    let error = open(&path, options()).err().unwrap();
    assert_eq!(error, StoreError::InUse { path: path.clone() });
    assert!(error.to_string().contains("another daemon uses this directory"));
    assert!(began.elapsed() >= Duration::from_secs(2), "a lock may outlive its holder a little");
    store.commit(rows::batch(0)).wait_blocking().unwrap();
}

#[test]
fn a_dropped_store_wrote_what_was_queued_and_opens_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let store = open(directory.path(), options()).unwrap();
        assert_eq!(rows::check(&*store).unwrap(), (round * 10_u64).checked_sub(1));
        for number in round * 10..(round + 1) * 10 {
            drop(store.commit(rows::batch(number)));
        }
    }
}

#[test]
fn the_directory_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/here");
    drop(open(&path, options()).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn another_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options()).unwrap();
    let mut batch = Batch::new();
    batch.put(SessionNumber::DAEMON, Table::Meta, layout::LAYOUT, "99");
    store.commit(batch).wait_blocking().unwrap();
    drop(store);
    let error = open(directory.path(), options()).err().unwrap();
    assert!(matches!(error, StoreError::UnknownLayout { ref found, .. } if found == "99"), "{error}");
}

#[test]
fn an_unfinished_import_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let mut export = Vec::new();
    let store = open(&from, options()).unwrap();
    store.commit(rows::batch(0)).wait_blocking().unwrap();
    store.export(&mut export).unwrap();
    export.pop();
    let store = open(&to, options()).unwrap();
    assert!(matches!(store.import(&mut export.as_slice()), Err(StoreError::Stream(_))));
    drop(store);
    assert_eq!(open(&to, options()).err().unwrap(), StoreError::UnfinishedImport { path: to });
}

#[test]
fn a_place_that_cannot_be_a_store_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "in the way").unwrap();
    let error = open(&path, options()).err().unwrap();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
}
