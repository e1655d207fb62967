//! The queue between callers and a committer. Ordered and bounded; a caller never waits in it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{StoreError, Ticket};

/// What waits in a queue, and how much of it may.
pub(super) trait Queued {
    /// How many may wait for the disk.
    const WAITING_MAX: usize;
    /// Bytes that may wait for the disk: the memory the queue may take.
    const WAITING_BYTES_MAX: usize;
    /// The cost that shares one flush. More would only make each ticket wait longer, as the flush then no longer takes most
    /// of the time.
    const ROUND_COST_MAX: usize;

    /// Bytes that it takes while it waits.
    fn bytes(&self) -> usize;

    /// Its part of a round's cost.
    fn cost(&self) -> usize;
}

/// Something to be written, and the sender for its ticket.
pub(super) struct Job<T> {
    pub(super) item: T,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The queue. Closing it lets the committer finish what is in it.
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    wake: Condvar,
}

struct Waiting<T> {
    jobs: VecDeque<Job<T>>,
    /// Jobs and bytes that are not answered yet, those with the committer included.
    count: usize,
    bytes: usize,
    is_closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let waiting = Waiting { jobs: VecDeque::new(), count: 0, bytes: 0, is_closed: false };
        Self { waiting: Mutex::new(waiting), wake: Condvar::new() }
    }
}

impl<T: Queued> Queue<T> {
    /// Takes something that was checked. Its place in the order is decided here.
    pub(super) fn push(&self, item: T) -> Ticket {
        let bytes = item.bytes();
        let mut waiting = self.lock();
        let is_full = waiting.count >= T::WAITING_MAX || waiting.bytes + bytes > T::WAITING_BYTES_MAX;
        if is_full || waiting.is_closed {
            return Ticket::decided(Err(StoreError::Busy));
        }
        let (done, ticket) = oneshot::channel();
        waiting.count += 1;
        waiting.bytes += bytes;
        waiting.jobs.push_back(Job { item, done });
        drop(waiting);
        self.wake.notify_one();
        Ticket::waiting(ticket)
    }

    /// Lets the committer end once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Drops the waiting jobs: their tickets resolve to a failure.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.jobs.clear();
    }

    /// Waits for jobs and takes as many as share one flush; `None` when the queue is closed and empty.
    pub(super) fn take_round(&self) -> Option<Vec<Job<T>>> {
        let waiting = self.lock();
        let waits = |waiting: &mut Waiting<T>| waiting.jobs.is_empty() && !waiting.is_closed;
        let mut waiting = self.wake.wait_while(waiting, waits).unwrap_or_else(PoisonError::into_inner);
        let mut cost = 0;
        let mut taken = 0;
        for job in &waiting.jobs {
            cost += job.item.cost();
            if taken > 0 && cost > T::ROUND_COST_MAX {
                break;
            }
            taken += 1;
        }
        let jobs: Vec<Job<T>> = waiting.jobs.drain(..taken).collect();
        (!jobs.is_empty()).then_some(jobs)
    }

    /// Answers a round's tickets and frees the round's place in the queue.
    pub(super) fn answer(&self, jobs: Vec<Job<T>>, outcome: &Result<(), StoreError>) {
        let bytes: usize = jobs.iter().map(|job| job.item.bytes()).sum();
        let mut waiting = self.lock();
        waiting.count -= jobs.len();
        waiting.bytes -= bytes;
        drop(waiting);
        for job in jobs {
            // A dropped ticket is no error: its caller does not wait for the outcome.
            let _ = job.done.send(outcome.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
