//! kill -9 in a loop (K-2, K-4).

use std::collections::VecDeque;
use std::path::Path;

use rookery_store::{StoreOptions, open};

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

#[test]
fn a_kill_loses_nothing_acknowledged_and_leaves_nothing_half() {
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
