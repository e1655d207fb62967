//! Compacting at a start: the store gets small, loses nothing, and may be stopped anywhere.

use std::fs;
use std::path::Path;

use rookery_store::{Batch, SessionNumber, StoreKey, StoreOptions, Table, VALUE_BYTES_MAX, open_encrypted, open_next};

use super::rows;

const BATCHES: u64 = 50;
const BALLAST: SessionNumber = SessionNumber(9);
/// 36 MiB, nearly all of which is deleted again.
const BALLAST_ROWS: usize = 2_304;
const BALLAST_BATCH: usize = 32;

fn options() -> StoreOptions {
    StoreOptions { key: Some(StoreKey::from_bytes([1; 32])), ..StoreOptions::default() }
}

fn ballast(change: impl Fn(&mut Batch, [u8; 8])) -> Vec<Batch> {
    let numbers: Vec<_> = (0..BALLAST_ROWS).map(usize::to_be_bytes).collect();
    let fill = |numbers: &[[u8; 8]]| {
        let mut batch = Batch::new();
        numbers.iter().for_each(|number| change(&mut batch, *number));
        batch
    };
    numbers.chunks(BALLAST_BATCH).map(fill).collect()
}

/// Makes a store that is mostly dead.
fn make(path: &Path) {
    let store = open_encrypted(path, options()).unwrap();
    let value = vec![7; VALUE_BYTES_MAX - 64];
    for batch in ballast(|batch, number| batch.put(BALLAST, Table::Names, number, value.clone())) {
        store.commit(batch).wait_blocking().unwrap();
    }
    for batch in ballast(|batch, number| batch.delete(BALLAST, Table::Names, number)) {
        store.commit(batch).wait_blocking().unwrap();
    }
    (0..BATCHES).for_each(|number| store.commit(rows::batch(number)).wait_blocking().unwrap());
}

fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path.join("db")).unwrap().len()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_store_that_is_mostly_dead_gets_small_wherever_its_compacting_was_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    make(&good);
    let before = file_bytes(&good);
    let stops: [&dyn Fn(&Path); 4] = [
        &|_| {},
        // While the rows are copied.
        &|path| drop(open_next(path, options()).unwrap().commit(rows::batch(0))),
        // Between the two renames.
        &|path| {
            drop(open_encrypted(path, options()).unwrap());
            fs::rename(path, path.with_file_name("store.next")).unwrap();
            copy(&path.with_file_name("good"), &path.with_file_name("store.before"));
        },
        // Before the old files were removed.
        &|path| {
            drop(open_next(path, options()).unwrap());
            fs::remove_dir_all(path.with_file_name("store.next")).unwrap();
            copy(path, &path.with_file_name("store.before"));
        },
    ];
    for (number, stop) in stops.into_iter().enumerate() {
        let path = directory.path().join("store");
        copy(&good, &path);
        stop(&path);
        for _ in 0..2 {
            let store = open_encrypted(&path, options()).unwrap();
            assert_eq!(rows::check(&*store), Ok(Some(BATCHES - 1)), "{number}");
            drop(store);
            assert!(file_bytes(&path) < before / 2, "{number}: {before} bytes before, {} after", file_bytes(&path));
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "{number}: nothing is left beside it");
        }
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_store_that_cannot_be_compacted_opens_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    make(&path);
    let before = file_bytes(&path);
    // There is no room for a second store.
    let store = open_encrypted(&path, StoreOptions { free_space_min_bytes: free_bytes(&path), ..options() }).unwrap();
    assert_eq!(rows::check(&*store), Ok(Some(BATCHES - 1)));
    drop(store);
    assert!(file_bytes(&path) >= before);
}

fn free_bytes(path: &Path) -> u64 {
    let volume = rustix::fs::statvfs(path).unwrap();
    volume.f_bavail * volume.f_frsize
}
