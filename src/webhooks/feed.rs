//! The events of one session on their way to one webhook: how far they have come, and which deliveries failed. Never does IO.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rookery_model::{SessionId, Timestamp};
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, SessionNumber};
use uuid::Uuid;

use super::rows::{self, Failure, StoredPosition};

/// Failures that are kept of one feed: the oldest go first.
const FAILURES_MAX: usize = 100;

/// Rows that are written at a time.
pub(super) const SAVED_MAX: usize = 32;

/// The events of one session on their way to one webhook.
pub(crate) struct Feed {
    pub(crate) webhook: Uuid,
    pub(crate) session: SessionId,
    /// The session's number in the store.
    pub(super) number: SessionNumber,
    state: Mutex<State>,
}

struct State {
    position: u64,
    /// The number of the latest event that is known of.
    target: u64,
    /// Counts how often the position was set by somebody else than the worker.
    moves: u64,
    is_running: bool,
    tried_at: Option<Timestamp>,
    /// When the worker tries a failed delivery again.
    next_attempt_at: Option<Timestamp>,
    /// The event that the worker tries to deliver, or tried last.
    awaited: Option<u64>,
    failures: BTreeMap<u64, Failure>,
    /// What is not in the store yet.
    is_position_unsaved: bool,
    unsaved_failures: BTreeSet<u64>,
    /// What is being written.
    saving_failures: BTreeSet<u64>,
    /// Counts how often failed deliveries were to be tried as if they were new.
    renewals: u64,
}

/// A position, and the state of the feed's `moves` for which it holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: u64,
    moves: u64,
}

impl State {
    fn drop_oldest_failures(&mut self) {
        while self.failures.len() > FAILURES_MAX {
            if let Some((oldest, _)) = self.failures.pop_first() {
                self.unsaved_failures.insert(oldest);
            }
        }
    }
}

impl Feed {
    pub(super) fn new(webhook: Uuid, session: SessionId, number: SessionNumber, stored: StoredPosition) -> Self {
        let state = State {
            position: stored.number,
            target: stored.number,
            moves: 0,
            is_running: false,
            tried_at: stored.tried_at,
            next_attempt_at: None,
            awaited: None,
            failures: BTreeMap::new(),
            is_position_unsaved: false,
            unsaved_failures: BTreeSet::new(),
            saving_failures: BTreeSet::new(),
            renewals: 0,
        };
        Self { webhook, session, number, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the latest event that needs no delivery any more.
    pub(crate) fn position(&self) -> u64 {
        self.state().position
    }

    pub(super) fn place(&self) -> Place {
        let state = self.state();
        Place { position: state.position, moves: state.moves }
    }

    /// When a delivery was last tried.
    pub(crate) fn tried_at(&self) -> Option<Timestamp> {
        self.state().tried_at
    }

    /// Notes that there is an event with this number; whether a worker has to be started for it.
    pub(super) fn wake(&self, latest: u64) -> bool {
        let mut state = self.state();
        state.target = state.target.max(latest);
        if state.is_running || state.position >= state.target {
            return false;
        }
        state.is_running = true;
        true
    }

    /// The worker has nothing to do: whether it may end. Otherwise there is something by now.
    pub(super) fn may_end(&self) -> bool {
        let mut state = self.state();
        state.is_running = state.position < state.target;
        !state.is_running
    }

    /// The event with this number was announced, and does not come. Nothing changes when another one was announced meanwhile.
    pub(super) fn expect_no_more(&self, target: u64) {
        let mut state = self.state();
        if state.target == target {
            state.target = state.position;
        }
    }

    /// The worker ends, whatever there is to do.
    pub(super) fn end(&self) {
        self.state().is_running = false;
    }

    pub(super) fn target(&self) -> u64 {
        self.state().target
    }

    /// Moves on to this position, unless somebody else set another one meanwhile.
    pub(super) fn advance(&self, from: Place, position: u64) -> bool {
        let mut state = self.state();
        if state.moves != from.moves {
            return false;
        }
        state.is_position_unsaved |= state.position != position;
        state.position = position;
        state.target = state.target.max(position);
        true
    }

    /// Sets the position, also backwards.
    pub(super) fn move_to(&self, position: u64, latest: u64) {
        let mut state = self.state();
        state.moves += 1;
        (state.position, state.is_position_unsaved, state.awaited) = (position, true, None);
        state.target = state.target.max(latest);
    }

    pub(super) fn note_tried(&self, now: Timestamp) {
        let mut state = self.state();
        (state.tried_at, state.is_position_unsaved) = (Some(now), true);
    }

    /// When a failed delivery is tried again.
    pub(crate) fn next_attempt_at(&self) -> Option<Timestamp> {
        self.state().next_attempt_at
    }

    /// The worker waits until then before it tries again, or does not wait.
    pub(super) fn note_waiting(&self, until: Option<Timestamp>) {
        self.state().next_attempt_at = until;
    }

    /// The failed delivery of this event.
    pub(crate) fn failure(&self, event: u64) -> Option<Failure> {
        self.state().failures.get(&event).cloned()
    }

    /// The failed deliveries, by the numbers of their events.
    pub(crate) fn failures(&self) -> Vec<(u64, Failure)> {
        self.state().failures.iter().map(|(event, failure)| (*event, failure.clone())).collect()
    }

    pub(super) fn note_failure(&self, event: u64, failure: Failure) {
        let mut state = self.state();
        state.failures.insert(event, failure);
        state.unsaved_failures.insert(event);
        state.drop_oldest_failures();
    }

    /// The delivery of this event failed once more, unless the receiver has it meanwhile.
    pub(super) fn note_failed_again(&self, event: u64, status: Option<u16>, error: String) {
        let mut state = self.state();
        if let Some(failure) = state.failures.get_mut(&event) {
            (failure.attempts, failure.status, failure.error) = (failure.attempts.saturating_add(1), status, error);
            state.unsaved_failures.insert(event);
        }
    }

    /// The event was delivered after all.
    pub(super) fn forget_failure(&self, event: u64) {
        let mut state = self.state();
        if state.failures.remove(&event).is_some() {
            state.unsaved_failures.insert(event);
        }
    }

    /// The events behind this position, up to the other number, are gone.
    pub(super) fn forget_failures(&self, position: u64, gap: u64) {
        let mut state = self.state();
        let gone: Vec<u64> = state.failures.range(position + 1..=gap).map(|(event, _)| *event).collect();
        for event in gone {
            state.failures.remove(&event);
            state.unsaved_failures.insert(event);
        }
    }

    /// The event was delivered apart from the others: whether the position moves over it.
    pub(super) fn deliver_out_of_turn(&self, event: u64) -> bool {
        self.forget_failure(event);
        let mut state = self.state();
        let is_next = state.awaited == Some(event) && state.position < event;
        if is_next {
            state.moves += 1;
            (state.position, state.is_position_unsaved) = (event, true);
        }
        is_next
    }

    /// Whether this is the event that the worker tries to deliver.
    pub(super) fn is_awaited(&self, event: u64) -> bool {
        self.state().awaited == Some(event)
    }

    /// The worker tries this event now: nothing behind it is delivered before it.
    pub(super) fn await_event(&self, event: u64) {
        self.state().awaited = Some(event);
    }

    /// The time for repeating deliveries, and their attempts, begin anew.
    pub(super) fn begin_anew(&self, now: Timestamp) {
        let mut state = self.state();
        state.renewals += 1;
        let position = state.position;
        let waiting: Vec<u64> = state.failures.range(position + 1..).map(|(event, _)| *event).collect();
        for event in waiting {
            if let Some(failure) = state.failures.get_mut(&event) {
                (failure.since, failure.attempts, failure.next_at) = (now, 0, None);
            }
            state.unsaved_failures.insert(event);
        }
    }

    /// Takes a failure as the store has it.
    pub(super) fn restore_failure(&self, event: u64, failure: Failure) {
        let mut state = self.state();
        state.failures.insert(event, failure);
        state.drop_oldest_failures();
    }

    /// Changes whenever failed deliveries are to be tried as if they were new.
    pub(super) fn renewals(&self) -> u64 {
        self.state().renewals
    }

    /// Adds what is not in the store yet, [`SAVED_MAX`] rows at most, and counts it as written. Whether that is all.
    pub(super) fn save(&self, batch: &mut Batch) -> bool {
        let mut state = self.state();
        if std::mem::take(&mut state.is_position_unsaved) {
            let position = StoredPosition { number: state.position, tried_at: state.tried_at };
            rows::put_position(batch, self.number, self.webhook, position);
        }
        for _ in 1..SAVED_MAX {
            let Some(event) = state.unsaved_failures.pop_first() else { break };
            state.saving_failures.insert(event);
            rows::put_failure(batch, self.number, self.webhook, event, state.failures.get(&event));
        }
        state.unsaved_failures.is_empty()
    }

    /// What was counted as written is written, or not.
    pub(super) fn note_saved(&self, is_saved: bool) {
        let mut state = self.state();
        let failures = std::mem::take(&mut state.saving_failures);
        if !is_saved {
            state.is_position_unsaved = true;
            state.unsaved_failures.extend(failures);
        }
    }

    /// The removal of all rows, in batches that the store takes.
    pub(super) fn removal(&self) -> Vec<Batch> {
        let state = self.state();
        let written = state.failures.keys().chain(&state.unsaved_failures).chain(&state.saving_failures);
        let events: Vec<u64> = written.copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut first = Batch::for_removal();
        rows::delete_position(&mut first, self.number, self.webhook);
        let rest = events.chunks(BATCH_OPERATIONS_MAX).map(|events| {
            let mut batch = Batch::for_removal();
            for event in events {
                rows::put_failure(&mut batch, self.number, self.webhook, *event, None);
            }
            batch
        });
        std::iter::once(first).chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(position: u64) -> Feed {
        let stored = StoredPosition { number: position, tried_at: None };
        Feed::new(Uuid::nil(), SessionId(Uuid::nil()), SessionNumber(1), stored)
    }

    #[test]
    fn one_worker_runs_and_none_ends_over_an_event_that_came_meanwhile() {
        let feed = feed(4);
        assert!(!feed.wake(4), "nothing to do");
        assert!(feed.wake(5) && !feed.wake(6));
        let place = feed.place();
        assert!(feed.advance(place, 5));
        assert!(!feed.may_end(), "event 6 came");
        assert!(feed.advance(place, 6) && feed.may_end());
        assert!(feed.wake(7));
    }

    #[test]
    fn a_position_that_somebody_set_is_not_overwritten_by_the_worker() {
        let feed = feed(9);
        let place = feed.place();
        feed.move_to(3, 9);
        assert!(!feed.advance(place, 10));
        assert_eq!(feed.position(), 3);
        assert!(feed.wake(9), "what was delivered is delivered again");
    }

    #[test]
    fn what_changed_is_written_once_and_again_when_that_failed() {
        let feed = feed(0);
        let rows = || {
            let mut batch = Batch::new();
            feed.save(&mut batch);
            batch.len()
        };
        assert_eq!(rows(), 0);
        let failure = Failure {
            event: "group.join".into(),
            event_id: None,
            since: Timestamp(0),
            attempts: 1,
            status: None,
            error: String::new(),
            next_at: None,
        };
        feed.note_failure(1, failure.clone());
        feed.note_tried(Timestamp(1));
        assert_eq!((rows(), rows()), (2, 0));
        let removed = || feed.removal().iter().map(Batch::len).sum::<usize>();
        assert_eq!(removed(), 2);
        feed.note_saved(false);
        assert_eq!(rows(), 2);
        feed.note_saved(true);
        feed.forget_failure(1);
        assert_eq!((rows(), feed.failures().len(), removed()), (1, 0, 2));
        feed.note_saved(false);
        assert_eq!(rows(), 2, "that it is gone is written, too");
        feed.note_saved(true);
        for event in 0..=FAILURES_MAX as u64 {
            feed.note_failure(event, failure.clone());
        }
        assert_eq!((feed.failures().len(), feed.failures()[0].0), (FAILURES_MAX, 1));
    }
}
