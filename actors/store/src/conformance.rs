//! One suite for both stores: the promises of [`Store`], apart from those that need a disk (`tests/store.rs`).

use std::path::Path;
use std::sync::Arc;

use super::*;

const ALICE: SessionNumber = SessionNumber(1);
const BOB: SessionNumber = SessionNumber(2);

/// Makes an empty store; the directory is for those that need one.
type Open = fn(&Path) -> Arc<dyn Store>;

fn sled(path: &Path) -> Arc<dyn Store> {
    open(path, StoreOptions { cache_bytes: 4 * 1024 * 1024, ..StoreOptions::default() }).unwrap()
}

fn encrypted(path: &Path) -> Arc<dyn Store> {
    let key = Some(StoreKey::from_bytes([7; 32]));
    open(path, StoreOptions { cache_bytes: 4 * 1024 * 1024, key, ..StoreOptions::default() }).unwrap()
}

fn memory(_: &Path) -> Arc<dyn Store> {
    open_memory()
}

macro_rules! on_both_stores {
    ($($test:ident)+) => {
        mod on_sled { $(#[test] fn $test() { super::with(super::sled, super::$test) })+ }
        mod on_encrypted_sled { $(#[test] fn $test() { super::with(super::encrypted, super::$test) })+ }
        mod on_memory { $(#[test] fn $test() { super::with(super::memory, super::$test) })+ }
    };
}

on_both_stores! {
    a_batch_changes_several_tables_at_once
    the_later_of_two_changes_counts
    a_scan_shows_one_sessions_prefix_in_order
    limits_are_exact_and_leave_nothing_behind
    a_record_in_parts_grows_shrinks_and_goes
    a_record_too_large_for_parts_is_refused_whole
    left_over_parts_are_not_read
    an_export_restores_every_row
    a_damaged_export_is_refused
    a_wipe_leaves_the_others_alone
    debug_output_shows_no_content
}

fn with(open: Open, test: fn(Arc<dyn Store>, Open)) {
    let directory = tempfile::tempdir().unwrap();
    test(open(directory.path()), open);
}

fn commit(store: &Arc<dyn Store>, fill: impl FnOnce(&mut Batch)) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    fill(&mut batch);
    store.commit(batch).wait_blocking()
}

fn a_batch_changes_several_tables_at_once(store: Arc<dyn Store>, _: Open) {
    commit(&store, |batch| {
        for (at, table) in (0_u8..).zip(Table::ALL) {
            batch.put(ALICE, *table, "k", [at]);
        }
    })
    .unwrap();
    for (at, table) in (0_u8..).zip(Table::ALL) {
        assert_eq!(store.get(ALICE, *table, b"k").unwrap(), Some(vec![at]));
        assert_eq!(store.get(BOB, *table, b"k").unwrap(), None);
    }
    assert_eq!(store.health(), Health::Ok);
}

fn the_later_of_two_changes_counts(store: Arc<dyn Store>, _: Open) {
    let tickets: Vec<Ticket> = (0..500_u32)
        .map(|number| {
            let mut batch = Batch::new();
            batch.put(ALICE, Table::Groups, "last", number.to_be_bytes());
            batch.put(ALICE, Table::Groups, "gone", "x");
            batch.delete(ALICE, Table::Groups, "gone");
            store.commit(batch)
        })
        .collect();
    for ticket in tickets {
        ticket.wait_blocking().unwrap();
    }
    assert_eq!(store.get(ALICE, Table::Groups, b"last").unwrap(), Some(499_u32.to_be_bytes().to_vec()));
    assert_eq!(store.get(ALICE, Table::Groups, b"gone").unwrap(), None);
}

fn a_scan_shows_one_sessions_prefix_in_order(store: Arc<dyn Store>, _: Open) {
    commit(&store, |batch| {
        for key in ["b2", "a", "b1", "b", "c"] {
            batch.put(ALICE, Table::Groups, key, key);
        }
        batch.put(BOB, Table::Groups, "b3", "bob");
        batch.put(ALICE, Table::Device, "b4", "another table");
    })
    .unwrap();
    let keys = |prefix: &[u8]| -> Vec<String> {
        let rows = store.scan_prefix(ALICE, Table::Groups, prefix).unwrap();
        rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    };
    assert_eq!(keys(b"b"), ["b", "b1", "b2"]);
    assert_eq!(keys(b""), ["a", "b", "b1", "b2", "c"]);
    assert!(keys(b"d").is_empty());
}

fn limits_are_exact_and_leave_nothing_behind(store: Arc<dyn Store>, _: Open) {
    let fill = |operations: usize, value: usize, key: usize| {
        move |batch: &mut Batch| {
            for at in 0..operations {
                batch.put(ALICE, Table::Groups, format!("{at:0>key$}"), vec![0; value]);
            }
        }
    };
    let groups = Table::Groups;
    let bytes = VALUE_BYTES_MAX + 1;
    assert_eq!(commit(&store, fill(2, bytes, 1)), Err(StoreError::ValueTooLarge { table: groups, bytes }));
    let bytes = KEY_BYTES_MAX + 1;
    assert_eq!(commit(&store, fill(2, 1, bytes)), Err(StoreError::KeyTooLong { table: groups, bytes }));
    let operations = BATCH_OPERATIONS_MAX + 1;
    assert_eq!(commit(&store, fill(operations, 1, 1)), Err(StoreError::BatchTooLarge { operations }));
    assert!(store.scan_prefix(ALICE, groups, b"").unwrap().is_empty());
    assert_eq!(store.health(), Health::Ok, "a refused batch is no failure");

    commit(&store, fill(BATCH_OPERATIONS_MAX, VALUE_BYTES_MAX, KEY_BYTES_MAX)).unwrap();
    assert_eq!(store.scan_prefix(ALICE, groups, b"").unwrap().len(), BATCH_OPERATIONS_MAX);
}

fn put_record(store: &Arc<dyn Store>, key: &str, record: &[u8]) -> Result<usize, StoreError> {
    let mut batch = Batch::new();
    let added = put_parts(&**store, &mut batch, ALICE, Table::Groups, key.as_bytes(), record)?;
    assert_eq!(added, batch.len());
    store.commit(batch).wait_blocking().map(|()| added)
}

fn get_record(store: &Arc<dyn Store>, key: &str) -> Option<Vec<u8>> {
    get_parts(&**store, ALICE, Table::Groups, key.as_bytes()).unwrap()
}

fn a_record_in_parts_grows_shrinks_and_goes(store: Arc<dyn Store>, _: Open) {
    let record = |bytes: usize| -> Vec<u8> { (0..bytes).map(|at| (at % 251) as u8).collect() };
    put_record(&store, "12", b"neighbour").unwrap();
    let mut parts_before = 0;
    for bytes in [0, 1, VALUE_BYTES_MAX - 8, VALUE_BYTES_MAX - 7, 100_000, RECORD_BYTES_MAX, 50_000, 10] {
        let added = put_record(&store, "1", &record(bytes)).unwrap();
        assert_eq!(added, parts_in(bytes).max(parts_before), "{bytes} bytes");
        assert_eq!(get_record(&store, "1").unwrap(), record(bytes));
        parts_before = parts_in(bytes);
    }
    assert_eq!(store.scan_prefix(ALICE, Table::Groups, b"").unwrap().len(), 2, "no stale part stays");
    let records = scan_parts(&*store, ALICE, Table::Groups, b"1").unwrap();
    assert_eq!(records, [(b"1".to_vec(), record(10)), (b"12".to_vec(), b"neighbour".to_vec())]);

    let mut batch = Batch::new();
    assert_eq!(delete_parts(&*store, &mut batch, ALICE, Table::Groups, b"1").unwrap(), 1);
    store.commit(batch).wait_blocking().unwrap();
    assert_eq!(get_record(&store, "1"), None);
    assert_eq!(get_record(&store, "12").unwrap(), b"neighbour");
}

fn a_record_too_large_for_parts_is_refused_whole(store: Arc<dyn Store>, _: Open) {
    let bytes = RECORD_BYTES_MAX + 1;
    let refused = put_record(&store, "1", &vec![0; bytes]);
    assert_eq!(refused, Err(StoreError::RecordTooLarge { table: Table::Groups, bytes }));
    assert_eq!(get_record(&store, "1"), None);
}

fn left_over_parts_are_not_read(store: Arc<dyn Store>, _: Open) {
    put_record(&store, "1", b"short").unwrap();
    commit(&store, |batch| {
        batch.put(ALICE, Table::Groups, layout::part(b"1", 1), "left over");
        batch.put(ALICE, Table::Groups, layout::part(b"2", 3), "left over");
    })
    .unwrap();
    assert_eq!(get_record(&store, "1").unwrap(), b"short");
    assert_eq!(get_record(&store, "2"), None);
    put_record(&store, "1", b"shorter").unwrap();
    assert_eq!(store.get(ALICE, Table::Groups, &layout::part(b"1", 1)).unwrap(), None);
}

fn export(store: &Arc<dyn Store>) -> Vec<u8> {
    let mut stream = Vec::new();
    store.export(&mut stream).unwrap();
    stream
}

fn fill_for_export(store: &Arc<dyn Store>) {
    for session in [SessionNumber::DAEMON, ALICE, SessionNumber(u32::MAX)] {
        for table in Table::ALL {
            commit(store, |batch| {
                for at in 0..20_u16 {
                    batch.put(session, *table, at.to_be_bytes(), vec![at as u8; usize::from(at) * 100]);
                }
            })
            .unwrap();
        }
    }
}

fn an_export_restores_every_row(store: Arc<dyn Store>, open: Open) {
    fill_for_export(&store);
    let directory = tempfile::tempdir().unwrap();
    let restored = open(directory.path());
    restored.import(&mut export(&store).as_slice()).unwrap();
    for session in [SessionNumber::DAEMON, ALICE, BOB, SessionNumber(u32::MAX)] {
        for table in Table::ALL {
            let rows = |store: &Arc<dyn Store>| store.scan_prefix(session, *table, b"").unwrap();
            let own_mark = |(key, _): &Row| stream::is_own_mark(*table, session, key);
            let (mut before, mut after) = (rows(&store), rows(&restored));
            before.retain(|row| !own_mark(row));
            after.retain(|row| !own_mark(row));
            assert!(before == after, "{session:?} {table:?}: {} rows became {}", before.len(), after.len());
        }
    }
    assert_eq!(restored.import(&mut export(&store).as_slice()), Err(StoreError::NotEmpty));
}

fn a_damaged_export_is_refused(store: Arc<dyn Store>, open: Open) {
    fill_for_export(&store);
    let good = export(&store);
    let refused = |stream: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        let error = open(directory.path()).import(&mut &*stream).unwrap_err();
        assert!(matches!(error, StoreError::Stream(_)), "{error}");
    };
    refused(b"");
    refused(b"something else entirely, long enough");
    refused(&good[..good.len() - 1]);
    refused(&good[..good.len() / 2]);
    for at in [0, 16, 20, 24, 28, 32, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        refused(&bad);
    }
}

fn a_wipe_leaves_the_others_alone(store: Arc<dyn Store>, _: Open) {
    fill_for_export(&store);
    commit(&store, |batch| batch.put(BOB, Table::Groups, "bob", "here")).unwrap();
    for round in 0..20_u8 {
        commit(&store, |batch| (0..100).for_each(|at| batch.put(ALICE, Table::PreKeys, [round, at], "many"))).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(wipe_session(&*store, ALICE, Wipe::Account)).unwrap();
    for table in Table::ALL {
        let is_left = !store.scan_prefix(ALICE, *table, b"").unwrap().is_empty();
        assert_eq!(is_left, !table.is_per_account(), "{table:?}");
    }
    runtime.block_on(wipe_session(&*store, ALICE, Wipe::Session)).unwrap();
    for table in Table::ALL {
        let left = store.scan_prefix(ALICE, *table, b"").unwrap().len();
        assert_eq!(left, if table.is_per_session() { 0 } else { 20 }, "{table:?}");
        assert!(!store.scan_prefix(SessionNumber(u32::MAX), *table, b"").unwrap().is_empty());
    }
    assert_eq!(store.get(BOB, Table::Groups, b"bob").unwrap(), Some(b"here".to_vec()));
}

fn debug_output_shows_no_content(store: Arc<dyn Store>, _: Open) {
    let mut batch = Batch::new();
    batch.put(ALICE, Table::Device, "15550100001", "top secret");
    let shown = format!("{batch:?} {:?} {:?}", batch.changes(), store.commit(batch.clone()));
    assert!(!shown.contains("secret") && !shown.contains("15550100001") && !shown.contains("116, 111"), "{shown}");
}
