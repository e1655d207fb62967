//! The log on a real disk, and its trimming.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const ALICE: SessionNumber = SessionNumber(1);
const BOB: SessionNumber = SessionNumber(2);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

struct Bench {
    directory: tempfile::TempDir,
    now: Arc<AtomicI64>,
    options: EventLogOptions,
}

impl Bench {
    fn new() -> Self {
        let now = Arc::new(AtomicI64::new(20_000 * DAY_MS));
        let clock = Arc::clone(&now);
        let now_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(move || clock.load(Ordering::Relaxed));
        let options = EventLogOptions { free_space_min_bytes: 0, now: now_ms, ..EventLogOptions::default() };
        Self { directory: tempfile::tempdir().unwrap(), now, options }
    }

    fn open(&self) -> EventLog {
        EventLog::open(&self.directory.path().join("events"), self.options.clone()).unwrap()
    }

    fn pass_days(&self, days: i64) {
        self.now.fetch_add(days * DAY_MS, Ordering::Relaxed);
    }
}

/// The event with this number: 100 bytes.
fn event(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(13)
}

/// The tag of every event, and those of the events with odd and with even numbers.
const EVERY: u64 = u64::MAX;
const ODD: u64 = 1;

/// The rows of the index for the event with this number; its mark is its last digit.
fn rows(number: u64) -> [IndexRow; 2] {
    [EVERY, number % 2].map(|tag| IndexRow { tag, number, mark: (number % 10) as u8 })
}

/// The numbers of the events with this tag, the newest first.
fn tagged(log: &EventLog, session: SessionNumber, tag: u64) -> Vec<u64> {
    let rows = log.tagged(session, tag, u64::MAX, usize::MAX, None).unwrap();
    assert_eq!(log.count_tagged(session, tag, |_| true).unwrap(), rows.len());
    rows.iter().map(|row| row.number).collect()
}

fn append(log: &EventLog, session: SessionNumber, numbers: std::ops::RangeInclusive<u64>) {
    let (first, redo) = (*numbers.start(), numbers.end().to_be_bytes().to_vec());
    let index = numbers.clone().flat_map(rows).collect();
    let append = Append { session, first, events: numbers.map(event).collect(), redo, index, space: SpaceUse::Writing };
    log.append(append).wait_blocking().unwrap();
}

/// The numbers of all events that a session has; each event is the one with its number.
fn numbers(log: &EventLog, session: SessionNumber) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let next = numbers.last().map_or(0, |last| last + 1);
        let events = log.read(session, next..=u64::MAX, 1_000).unwrap();
        if events.is_empty() {
            return numbers;
        }
        for (number, value) in events {
            assert_eq!(value, event(number));
            numbers.push(number);
        }
    }
}

/// Session, first number and count of each run, after a position.
fn runs(log: &EventLog, position: u64) -> Vec<(u64, u32, u64, u32)> {
    let runs = log.runs_after(position, 100).unwrap();
    runs.into_iter().map(|run| (run.position, run.session.0, run.first, run.count)).collect()
}

#[test]
fn events_are_read_in_the_order_of_their_session_and_of_the_log_also_after_a_start() {
    let bench = Bench::new();
    let log = bench.open();
    append(&log, ALICE, 1..=3);
    append(&log, BOB, 1..=1);
    append(&log, ALICE, 4..=4);
    let mut open = Some(log);
    for _ in 0..2 {
        let log = open.take().unwrap_or_else(|| bench.open());
        assert_eq!((numbers(&log, ALICE), numbers(&log, BOB)), (vec![1, 2, 3, 4], vec![1]));
        assert_eq!(log.read(ALICE, 2..=3, 10).unwrap(), [(2, event(2)), (3, event(3))]);
        assert_eq!(log.read(ALICE, 2..=4, 1).unwrap(), [(2, event(2))]);
        assert_eq!(log.read(SessionNumber(3), 0..=9, 10).unwrap(), []);
        assert_eq!(runs(&log, 0), [(1, 1, 1, 3), (4, 2, 1, 1), (5, 1, 4, 1)]);
        assert_eq!(runs(&log, 2), [(3, 1, 3, 1), (4, 2, 1, 1), (5, 1, 4, 1)], "from the middle of a run");
        assert_eq!(runs(&log, 5), []);
        assert_eq!(*log.latest().borrow(), 5);
        let head = log.head(ALICE).unwrap().unwrap();
        assert_eq!((head.first, head.last, head.redo), (1, 4, 4_u64.to_be_bytes().to_vec()));
        assert_eq!((log.oldest(ALICE).unwrap(), log.oldest(SessionNumber(3)).unwrap()), (Some(1), None));
    }
}

#[test]
fn a_day_begins_a_segment_and_a_clock_that_goes_back_begins_none() {
    let bench = Bench::new();
    let log = bench.open();
    append(&log, ALICE, 1..=2);
    bench.pass_days(1);
    append(&log, ALICE, 3..=3);
    append(&log, BOB, 1..=1);
    bench.pass_days(-1);
    append(&log, ALICE, 4..=5);
    assert_eq!(log.shared.segments.all().len(), 2);
    log.trim().unwrap();
    drop(log);
    let log = bench.open();
    append(&log, ALICE, 6..=6);
    assert_eq!(log.shared.segments.all().len(), 2);
    assert_eq!(numbers(&log, ALICE), [1, 2, 3, 4, 5, 6]);
    assert_eq!(log.head(ALICE).unwrap().unwrap().last, 6);
    assert_eq!(runs(&log, 0), [(1, 1, 1, 2), (3, 1, 3, 1), (4, 2, 1, 1), (5, 1, 4, 2), (7, 1, 6, 1)]);
    assert_eq!(runs(&log, 1)[0], (2, 1, 2, 1));
}

#[test]
fn old_segments_go_with_their_files_and_positions_go_on() {
    let bench = Bench::new();
    let log = bench.open();
    append(&log, ALICE, 1..=2);
    bench.pass_days(1);
    append(&log, ALICE, 3..=3);
    bench.pass_days(29);
    append(&log, BOB, 1..=1);
    log.trim().unwrap();
    assert_eq!(numbers(&log, ALICE), [1, 2, 3], "30 days old, and not older");
    bench.pass_days(1);
    append(&log, BOB, 2..=2);
    log.trim().unwrap();
    assert_eq!(numbers(&log, ALICE), [3]);
    assert_eq!(log.head(ALICE).unwrap().unwrap().last, 3, "what is carried over is never older than what is there");
    bench.pass_days(400);
    append(&log, BOB, 3..=3);
    log.trim().unwrap();
    assert_eq!((numbers(&log, ALICE), numbers(&log, BOB)), (vec![], vec![3]));
    assert_eq!((log.oldest(BOB).unwrap(), log.oldest(ALICE).unwrap()), (Some(3), Some(4)));
    assert_eq!(log.head(ALICE).unwrap().unwrap().last, 3, "its numbers go on");
    assert_eq!((runs(&log, 0), log.oldest_position().unwrap()), (vec![(6, 2, 3, 1)], Some(6)));
    let files = std::fs::read_dir(bench.directory.path().join("events")).unwrap().count();
    assert_eq!(files, 2, "a segment and the reserve");
    drop(log);
    bench.pass_days(400);
    let log = bench.open();
    log.trim().unwrap();
    append(&log, BOB, 4..=4);
    log.trim().unwrap();
    assert_eq!((numbers(&log, BOB), runs(&log, 0)), (vec![4], vec![(7, 2, 4, 1)]));
    append(&log, ALICE, 4..=5);
    assert_eq!((numbers(&log, ALICE), log.oldest(ALICE).unwrap()), (vec![4, 5], Some(4)));
}

#[test]
fn a_session_over_its_share_loses_its_own_oldest_events_and_the_disk_gets_the_room_back() {
    let mut bench = Bench::new();
    bench.options.bytes_max = 8 * 1024 * 1024;
    let log = bench.open();
    let (mut alice, mut bob) = (0, 0);
    for _ in 0..60 {
        append(&log, ALICE, alice + 1..=alice + 2_000);
        append(&log, BOB, bob + 1..=bob + 10);
        (alice, bob) = (alice + 2_000, bob + 10);
    }
    assert!(log.shared.segments.all().len() > 4);
    log.trim().unwrap();
    let (of_alice, of_bob) = (numbers(&log, ALICE), numbers(&log, BOB));
    assert_eq!(of_bob, (1..=600).collect::<Vec<_>>(), "who has little loses nothing");
    let first = of_alice[0];
    assert!(first > 10_000 && of_alice == (first..=alice).collect::<Vec<_>>(), "{first}");
    assert_eq!(log.oldest(ALICE).unwrap(), Some(first));
    assert!(log.disk_bytes() <= bench.options.bytes_max, "{}", log.disk_bytes());
    // The order of the whole log has no gap: what went is missing in its run.
    let all = log.runs_after(0, usize::MAX).unwrap();
    for pair in all.windows(2) {
        assert_eq!(pair[0].position + u64::from(pair[0].count), pair[1].position);
    }
    let end = all.last().map(|run| run.position + u64::from(run.count) - 1);
    assert_eq!(end, Some(*log.latest().borrow()));
    drop(log);
    let log = bench.open();
    assert_eq!((numbers(&log, ALICE), numbers(&log, BOB)), (of_alice, of_bob));
    assert_eq!((tagged(&log, ALICE, EVERY), tagged(&log, BOB, EVERY).len()), ((first..=alice).rev().collect(), 600));
}

#[test]
fn events_are_found_by_what_they_are_tagged_with_the_newest_first() {
    let bench = Bench::new();
    let log = bench.open();
    append(&log, ALICE, 1..=5);
    append(&log, BOB, 1..=2);
    bench.pass_days(3);
    append(&log, ALICE, 6..=9);
    let today = 20_003 * DAY_MS;
    log.trim().unwrap();
    let mut open = Some(log);
    for _ in 0..2 {
        let log = open.take().unwrap_or_else(|| bench.open());
        assert_eq!(tagged(&log, ALICE, ODD), [9, 7, 5, 3, 1]);
        assert_eq!((tagged(&log, BOB, EVERY), tagged(&log, BOB, 77)), (vec![2, 1], vec![]));
        let some = |before, count, since| -> Vec<u64> {
            log.tagged(ALICE, EVERY, before, count, since).unwrap().iter().map(|row| row.number).collect()
        };
        assert_eq!((some(8, 3, None), some(6, 1, None), some(1, 9, None)), (vec![7, 6, 5], vec![5], vec![]));
        assert_eq!(some(u64::MAX, 99, Some(today + DAY_MS)), [9, 8, 7, 6], "the file before was closed by then");
        assert_eq!(some(u64::MAX, 99, Some(today)), [9, 8, 7, 6, 5, 4, 3, 2, 1], "it may have been open on that day");
        assert_eq!(log.count_tagged(ALICE, EVERY, |mark| mark < 4).unwrap(), 3);
    }
}

#[test]
fn an_export_is_read_back_in_order_by_its_days_and_up_to_a_number() {
    let bench = Bench::new();
    let log = bench.open();
    append(&log, ALICE, 1..=3);
    append(&log, BOB, 1..=1);
    bench.pass_days(2);
    append(&log, ALICE, 4..=6);
    append(&log, BOB, 2..=2);
    let mut export = Vec::new();
    log.export(&mut export).unwrap();
    assert_eq!(EventLog::check_export(&mut &*export).unwrap(), 8);
    let other =
        Bench { directory: tempfile::tempdir().unwrap(), now: Arc::clone(&bench.now), options: bench.options.clone() };
    let path = other.directory.path().join("events");
    let last = |session| if session == ALICE { 5 } else { 2 };
    EventLog::import(&path, &mut &*export, last).unwrap();
    let copy = other.open();
    assert_eq!((numbers(&copy, ALICE), numbers(&copy, BOB)), (vec![1, 2, 3, 4, 5], vec![1, 2]));
    assert_eq!((tagged(&copy, ALICE, EVERY), tagged(&copy, BOB, ODD)), (vec![5, 4, 3, 2, 1], vec![1]));
    assert_eq!(runs(&copy, 0), [(1, 1, 1, 3), (4, 2, 1, 1), (5, 1, 4, 2), (7, 2, 2, 1)]);
    append(&copy, ALICE, 6..=6);
    bench.pass_days(29);
    append(&copy, BOB, 3..=3);
    copy.trim().unwrap();
    assert_eq!((numbers(&copy, ALICE), numbers(&copy, BOB)), (vec![4, 5, 6], vec![2, 3]), "each is as old as it was");
    for cut in [0, 5, 16, 17, 30, export.len() / 2, export.len() - 1] {
        assert!(EventLog::check_export(&mut &export[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn one_read_returns_little_and_yet_always_something() {
    let log = EventLog::open_memory();
    let large = vec![7; READ_BYTES_MAX + 1];
    for first in 1..=2 {
        let append = Append {
            session: ALICE,
            first,
            events: vec![large.clone()],
            redo: vec![],
            index: Vec::new(),
            space: SpaceUse::Writing,
        };
        log.append(append).wait_blocking().unwrap();
    }
    assert_eq!(log.read(ALICE, 1..=9, 9).unwrap().len(), 1);
}

#[test]
fn a_damaged_file_is_refused_with_its_name_and_the_others_are_usable_without_it() {
    let bench = Bench::new();
    let log = bench.open();
    append(&log, ALICE, 1..=500);
    bench.pass_days(1);
    append(&log, ALICE, 501..=502);
    log.trim().unwrap();
    drop(log);
    let file = bench.directory.path().join("events/00000001.redb");
    for damage in [&b"no database"[..], &[0_u8; 5_000]] {
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, damage).unwrap();
        let Err(StoreError::DamagedLog { path, .. }) =
            EventLog::open(&bench.directory.path().join("events"), bench.options.clone())
        else {
            panic!("it opens")
        };
        assert_eq!(path, file);
        std::fs::write(&file, whole).unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    let log = bench.open();
    assert_eq!((numbers(&log, ALICE), runs(&log, 0)), (vec![501, 502], vec![(501, 1, 501, 2)]));
}

#[test]
fn an_event_is_opened_in_its_place_and_nowhere_else() {
    let (key, other) = (EventKey::generate().unwrap(), EventKey::generate().unwrap());
    let encrypted = key.encrypt(ALICE, 7, b"secret").unwrap();
    assert_eq!(key.decrypt(ALICE, 7, &encrypted).as_deref(), Some(&b"secret"[..]));
    assert_eq!(key.decrypt(ALICE, 8, &encrypted), None);
    assert_eq!(key.decrypt(BOB, 7, &encrypted), None);
    assert_eq!(key.decrypt_redo(ALICE, 7, &encrypted), None);
    assert_eq!(other.decrypt(ALICE, 7, &encrypted), None);
    assert_eq!(EventKey::from_bytes(key.reveal()), Some(key.clone()));
    assert_eq!((EventKey::from_bytes(b"short"), format!("{key:?}")), (None, "EventKey(..)".to_owned()));
}

#[test]
fn what_is_done_already_is_written_with_less_space_than_others() {
    let bench = Bench::new();
    let volume = rustix::fs::statvfs(bench.directory.path()).unwrap();
    let options =
        EventLogOptions { free_space_min_bytes: 4 * volume.f_bavail * volume.f_frsize, ..bench.options.clone() };
    // Opening needs a quarter: the log is there before the disk fills up.
    drop(bench.open());
    let log = EventLog::begin(
        Segments::open(&bench.directory.path().join("events"), 1, u64::MAX).unwrap(),
        SpaceWatch::new(bench.directory.path(), options.free_space_min_bytes),
        options,
    )
    .unwrap();
    let append = |first, space| {
        let events = vec![b"event".to_vec()];
        log.append(Append { session: ALICE, first, events, redo: Vec::new(), index: Vec::new(), space }).wait_blocking()
    };
    assert!(matches!(append(1, SpaceUse::Writing), Err(StoreError::LowSpace { .. })));
    assert!(matches!(append(1, SpaceUse::Removing), Err(StoreError::LowSpace { .. })));
    append(1, SpaceUse::Reporting).unwrap();
    assert!(matches!(append(2, SpaceUse::Writing), Err(StoreError::LowSpace { .. })));
    assert_eq!(log.read(ALICE, 0..=9, 9).unwrap().len(), 1);
}
