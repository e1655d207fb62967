//! The queue between callers and the committer. Ordered and bounded; a caller never waits in it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::super::{StoreError, Ticket};
use super::Append;

/// Bytes that wait for the disk: the memory the queue may take.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that share one commit: more would only make each ticket wait longer.
const ROUND_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What an append takes beside its events.
const APPEND_BYTES: usize = 128;

/// An append and the sender for its ticket.
pub(super) struct Job {
    pub(super) append: Append,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The queue. Closing it lets the committer finish what is in it.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Bytes that are not answered yet, those with the committer included.
    bytes: usize,
    is_closed: bool,
}

impl Append {
    pub(super) fn bytes(&self) -> usize {
        APPEND_BYTES + self.redo.len() + self.events.iter().map(Vec::len).sum::<usize>()
    }
}

impl Queue {
    /// Takes an append. Its place in the order is decided here.
    pub(super) fn push(&self, append: Append) -> Ticket {
        let bytes = append.bytes();
        let mut waiting = self.lock();
        let is_full = waiting.bytes > 0 && waiting.bytes + bytes > WAITING_BYTES_MAX;
        if is_full || waiting.is_closed {
            return Ticket::decided(Err(StoreError::Busy));
        }
        let (done, ticket) = oneshot::channel();
        waiting.bytes += bytes;
        waiting.jobs.push_back(Job { append, done });
        drop(waiting);
        self.wake.notify_one();
        Ticket::waiting(ticket)
    }

    /// Lets the committer end once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Drops the waiting appends: their tickets resolve to a failure.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.jobs.clear();
    }

    /// Waits for appends and takes as many as share one commit; `None` when the queue is closed and empty.
    pub(super) fn take_round(&self) -> Option<Vec<Job>> {
        let waiting = self.lock();
        let waits = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.is_closed;
        let mut waiting = self.wake.wait_while(waiting, waits).unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let fits = |job: &&Job| {
            bytes += job.append.bytes();
            bytes <= ROUND_BYTES_MAX
        };
        let taken = waiting.jobs.iter().take_while(fits).count().max(1).min(waiting.jobs.len());
        let jobs: Vec<Job> = waiting.jobs.drain(..taken).collect();
        (!jobs.is_empty()).then_some(jobs)
    }

    /// Answers a round's tickets and frees the round's place in the queue.
    pub(super) fn answer(&self, jobs: Vec<Job>, outcome: &Result<(), StoreError>) {
        self.lock().bytes -= jobs.iter().map(|job| job.append.bytes()).sum::<usize>();
        for job in jobs {
            // A dropped ticket is no error: its caller does not wait for the outcome.
            let _ = job.done.send(outcome.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
