//! The queue between callers and the committer. Ordered and bounded; a caller never waits in it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::super::{Batch, StoreError, Ticket};

/// Batches that wait for the disk. A session awaits its tickets, so 5,000 sessions have about one each waiting.
const WAITING_BATCHES_MAX: usize = 16_384;

/// Bytes that wait for the disk: the memory the queue may take. A usual batch has some 2 KiB.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Operations that share one flush: eight full transactions. More would only make each ticket wait longer, as the flush
/// then no longer takes most of the time.
const ROUND_OPERATIONS_MAX: usize = 1024;

/// A batch and the sender for its ticket.
pub(super) struct Job {
    pub(super) batch: Batch,
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
    /// Batches and bytes that are not answered yet, those with the committer included.
    batches: usize,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Takes a batch that was checked. Its place in the order is decided here.
    pub(super) fn push(&self, batch: Batch) -> Ticket {
        let bytes = batch.bytes();
        let mut waiting = self.lock();
        let full = waiting.batches >= WAITING_BATCHES_MAX || waiting.bytes + bytes > WAITING_BYTES_MAX;
        if full || waiting.closed {
            return Ticket::decided(Err(StoreError::Busy));
        }
        let (done, ticket) = oneshot::channel();
        waiting.batches += 1;
        waiting.bytes += bytes;
        waiting.jobs.push_back(Job { batch, done });
        drop(waiting);
        self.wake.notify_one();
        Ticket::waiting(ticket)
    }

    /// Lets the committer end once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Drops the waiting batches: their tickets resolve to a failure.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.jobs.clear();
    }

    /// Waits for batches and takes as many as share one flush; `None` when the queue is closed and empty.
    pub(super) fn take_round(&self) -> Option<Vec<Job>> {
        let waiting = self.lock();
        let mut waiting = self
            .wake
            .wait_while(waiting, |waiting| waiting.jobs.is_empty() && !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let mut operations = 0;
        let mut taken = 0;
        for job in &waiting.jobs {
            operations += job.batch.len();
            if taken > 0 && operations > ROUND_OPERATIONS_MAX {
                break;
            }
            taken += 1;
        }
        let jobs: Vec<Job> = waiting.jobs.drain(..taken).collect();
        (!jobs.is_empty()).then_some(jobs)
    }

    /// Answers a round's tickets and frees the round's place in the queue.
    pub(super) fn answer(&self, jobs: Vec<Job>, outcome: &Result<(), StoreError>) {
        let bytes: usize = jobs.iter().map(|job| job.batch.bytes()).sum();
        let mut waiting = self.lock();
        waiting.batches -= jobs.len();
        waiting.bytes -= bytes;
        drop(waiting);
        for job in jobs {
            // A dropped ticket is no error: its caller does not wait for the outcome.
            let _ = job.done.send(outcome.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
