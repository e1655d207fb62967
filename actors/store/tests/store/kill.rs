//! kill -9 in a loop (K-2, K-4).

use std::collections::VecDeque;
use std::path::Path;

use rookery_store::{Append, EventLog, EventLogOptions, SessionNumber, SpaceUse, StoreOptions, open};

use super::child::{self, Running, say};
use super::rows::{self, Random};

/// Each round is a kill at another moment; the first two are at the very beginning.
const ROUNDS: u64 = 12;

/// Acknowledgements a round waits for at most, so that it ends within a second or so.
const ACKNOWLEDGED_MAX: u64 = 250;

/// Batches on their way at a time, so that a kill hits merged transactions.
const WAITING_MAX: usize = 12;

/// The child: continues where the store ends, and names each batch whose ticket resolved.
pub(super) fn write(directory: &Path) {
    say("opening");
    let store = open(directory, StoreOptions::default()).unwrap();
    let mut number = rows::last(&*store).map_or(0, |last| last + 1);
    let mut waiting = VecDeque::new();
    loop {
        waiting.push_back((number, store.commit(rows::batch(number))));
        number += 1;
        if waiting.len() == WAITING_MAX {
            let (number, ticket) = waiting.pop_front().unwrap();
            ticket.wait_blocking().unwrap();
            say(&number.to_string());
        }
    }
}

/// Sessions that the child appends events of.
const SESSIONS: u32 = 7;

fn event(session: u32, number: u64) -> Vec<u8> {
    [session.to_be_bytes().as_slice(), &number.to_be_bytes()].concat().repeat(20)
}

fn open_log(directory: &Path) -> EventLog {
    // Segments of 4 MiB, so that some are closed and packed on the way.
    let options = EventLogOptions { bytes_max: 64 * 1024 * 1024, ..EventLogOptions::default() };
    EventLog::open(directory, options).unwrap()
}

/// The child: goes on with the numbers of each session, and names the events whose ticket resolved.
pub(super) fn append(directory: &Path) {
    say("opening");
    let log = open_log(directory);
    let last = |session| log.head(SessionNumber(session)).unwrap().map_or(0, |head| head.last);
    let mut lasts: Vec<u64> = (0..SESSIONS).map(last).collect();
    let mut waiting = VecDeque::new();
    for session in (0..SESSIONS).cycle() {
        let (first, count) = (lasts[session as usize] + 1, 1 + u64::from(session));
        let events = (first..first + count).map(|number| event(session, number)).collect();
        let append = Append {
            session: SessionNumber(session),
            first,
            events,
            redo: first.to_be_bytes().into(),
            index: Vec::new(),
            space: SpaceUse::Writing,
        };
        waiting.push_back((session, first + count - 1, log.append(append)));
        lasts[session as usize] += count;
        if waiting.len() == WAITING_MAX {
            let (session, last, ticket) = waiting.pop_front().unwrap();
            ticket.wait_blocking().unwrap();
            say(&format!("{session} {last}"));
        }
    }
}

#[test]
fn a_kill_loses_no_acknowledged_event_and_leaves_no_gap() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; SESSIONS as usize];
    for round in 0..ROUNDS {
        let mut running = Running::start(child::command("append", directory.path()));
        let kill_after = if round < 2 { round } else { random.below(8 * ACKNOWLEDGED_MAX) };
        assert_eq!(running.line().as_deref(), Some("opening"), "seed {seed}");
        let mut lines = Vec::new();
        for _ in 0..kill_after {
            lines.extend(running.line());
        }
        running.kill();
        lines.extend(running.end().lines);
        for line in lines {
            let (session, last) = line.split_once(' ').unwrap();
            acknowledged[session.parse::<usize>().unwrap()] = last.parse().unwrap();
        }
        let log = open_log(directory.path());
        for session in 0..SESSIONS {
            let mut next = 1;
            loop {
                let events = log.read(SessionNumber(session), next..=u64::MAX, 500).unwrap();
                if events.is_empty() {
                    break;
                }
                for (number, value) in events {
                    assert_eq!(number, next, "seed {seed}, round {round}: a gap");
                    assert_eq!(value, event(session, number), "seed {seed}, round {round}");
                    next += 1;
                }
            }
            let acknowledged = &mut acknowledged[session as usize];
            assert!(
                next > *acknowledged,
                "seed {seed}, round {round}: {acknowledged} was acknowledged, {next} is missing"
            );
            *acknowledged = next - 1;
            let head = log.head(SessionNumber(session)).unwrap();
            assert_eq!(head.map_or(0, |head| head.last), next - 1, "seed {seed}, round {round}");
        }
        let runs = log.runs_after(0, usize::MAX).unwrap();
        let total: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        assert_eq!((total, *log.latest().borrow()), (acknowledged.iter().sum(), total), "seed {seed}, round {round}");
    }
    assert!(acknowledged.iter().sum::<u64>() > ROUNDS, "seed {seed}: hardly anything was written");
}

#[test]
fn a_kill_loses_nothing_nothing_acknowledged_and_leaves_nothing_half() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged_before = None;
    for round in 0..ROUNDS {
        let mut running = Running::start(child::command("write", directory.path()));
        let kill_after = if round < 2 { round } else { random.below(ACKNOWLEDGED_MAX) };
        assert_eq!(running.line().as_deref(), Some("opening"), "seed {seed}");
        let mut acknowledged = acknowledged_before;
        for _ in 0..kill_after {
            let line = running.line().unwrap_or_else(|| panic!("seed {seed}, round {round}: the child has ended"));
            acknowledged = acknowledged.max(Some(line.parse::<u64>().unwrap()));
        }
        running.kill();
        let said = running.end().lines;
        acknowledged = acknowledged.max(said.last().map(|line| line.parse().unwrap()));

        let store = open(directory.path(), StoreOptions::default())
            .unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        let last = rows::check(&*store).unwrap_or_else(|wrong| panic!("seed {seed}, round {round}: {wrong}"));
        assert!(
            last >= acknowledged,
            "seed {seed}, round {round}: {acknowledged:?} was acknowledged, {last:?} is there"
        );
        acknowledged_before = last;
    }
    assert!(acknowledged_before > Some(ROUNDS), "seed {seed}: hardly anything was written");
}
