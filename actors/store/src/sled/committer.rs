//! The one thread that writes and flushes.
//!
//! Round: take waiting batches, apply them in transactions of up to 128 operations, flush once, sync once, answer the
//! tickets. `flush()` alone is not safe against a power cut on Linux (sled uses `sync_file_range`): 7 of 20 cuts lost
//! or broke data; with `sync_data()` on a handle of our own 105 of 105 were whole. `apply_batch` on one tree after the
//! other left half batches behind in 25 of 40 kills, hence transactions. `flush_async` deadlocks under load.

use std::sync::{Arc, PoisonError};

use ::sled::Transactional;
use ::sled::transaction::{TransactionError, TransactionalTree};

use super::super::batch::BATCH_OPERATIONS_MAX;
use super::super::guard;
use super::super::queue;
use super::super::space::SpaceUse;
use super::super::{Batch, Change, StoreError, Table, layout};
use super::Shared;
use super::opening::{self, Opened};
use super::tally::{self, Tally};

/// Bytes of one transaction that several batches share: a quarter segment. A single batch may have more.
const MERGED_BYTES_MAX: usize = 1024 * 1024;

type Job = queue::Job<Batch>;

pub(super) struct Committer {
    opened: Opened,
    shared: Arc<Shared>,
}

impl Committer {
    pub(super) fn new(opened: Opened, shared: Arc<Shared>) -> Self {
        Self { opened, shared }
    }

    /// Writes until the queue is closed and empty. However this ends, no ticket is left without an answer.
    pub(super) fn run(self) {
        let shared = Arc::clone(&self.shared);
        if let Err(place) = guard::catch(|| self.serve()) {
            shared.fail(format!("its writer has ended: {place}"));
            shared.queue.abandon();
        }
    }

    fn serve(mut self) {
        while let Some(jobs) = self.shared.queue.take_round() {
            let jobs = self.admit(jobs);
            let outcome = self.commit_round(&jobs);
            self.shared.queue.answer(jobs, &outcome);
        }
    }

    /// Refuses the jobs that there is no space for, and returns the others: with little space left, only removals.
    fn admit(&self, jobs: Vec<Job>) -> Vec<Job> {
        let jobs = self.admit_for(SpaceUse::Writing, jobs, |job| job.item.is_for_removal());
        self.admit_for(SpaceUse::Removing, jobs, |job| job.item.is_empty())
    }

    /// All jobs if there is space for this use, else those that do not need it.
    fn admit_for(&self, what: SpaceUse, jobs: Vec<Job>, needs_it_not: impl Fn(&Job) -> bool) -> Vec<Job> {
        if jobs.iter().all(&needs_it_not) {
            return jobs;
        }
        let Err(low) = self.shared.space.check_for(what) else { return jobs };
        let (others, refused) = jobs.into_iter().partition(needs_it_not);
        self.shared.queue.answer(refused, &Err(low));
        others
    }

    fn commit_round(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        if let Some(failed) = self.shared.failed() {
            return Err(failed);
        }
        if jobs.iter().all(|job| job.item.is_empty()) {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.opened.reserve().map_err(|_| shared.space.too_little_for(opening::RESERVED_BYTES))?;
        let _no_export = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(jobs).map_err(|reason| {
            shared.fail(reason.clone());
            StoreError::Failed(reason)
        })
    }

    fn write(&mut self, jobs: &[Job]) -> Result<(), String> {
        for group in merge(jobs) {
            let _no_scan = self.shared.rows.write().unwrap_or_else(PoisonError::into_inner);
            self.opened.tally = guard::run(|| self.apply(group))?;
        }
        guard::run(|| self.opened.sync())?;
        self.opened.witness.write(self.opened.tally.commits).map_err(|error| error.to_string())?;
        self.opened.check_blobs().map_err(|error| error.to_string())
    }

    /// One transaction over the trees that the group touches and `Meta`, where the tally is. Returns the new tally.
    fn apply(&self, group: &[Job]) -> Result<Tally, ::sled::Error> {
        let mut tables: Vec<Table> = changes(group).map(|change| change.table).chain([Table::Meta]).collect();
        tables.sort_unstable();
        tables.dedup();
        let trees: Vec<&::sled::Tree> = tables.iter().map(|table| &self.opened.trees[table.index()]).collect();
        let outcome = trees.as_slice().transaction(|views: &Vec<TransactionalTree>| {
            let view = |table: Table| tables.binary_search(&table).map(|at| &views[at]);
            let mut tally = self.opened.tally;
            tally.commits += 1;
            for change in changes(group) {
                let Ok(view) = view(change.table) else { continue };
                let row = layout::row(change.session, &change.key);
                let before = match &change.value {
                    Some(value) => view.insert(row.as_slice(), value.as_slice())?,
                    None => view.remove(row.as_slice())?,
                };
                tally.change(change.table, &row, before.as_deref(), change.value.as_deref());
            }
            if let Ok(meta) = view(Table::Meta) {
                meta.insert(tally::row(), &tally.encode())?;
            }
            Ok(tally)
        });
        outcome.map_err(|error: TransactionError<()>| match error {
            TransactionError::Storage(error) => error,
            TransactionError::Abort(()) => ::sled::Error::Unsupported("a transaction was aborted".to_owned()),
        })
    }
}

fn changes(group: &[Job]) -> impl Iterator<Item = &Change> {
    group.iter().flat_map(|job| job.item.changes())
}

/// Cuts a round into groups of whole batches, each within a transaction's limits.
fn merge(mut jobs: &[Job]) -> Vec<&[Job]> {
    let mut groups = Vec::new();
    while !jobs.is_empty() {
        let (mut operations, mut bytes) = (0, 0);
        let within = jobs.iter().take_while(|job| {
            operations += job.item.len();
            bytes += job.item.bytes();
            operations <= BATCH_OPERATIONS_MAX && bytes <= MERGED_BYTES_MAX
        });
        let (group, rest) = jobs.split_at(within.count().max(1));
        groups.push(group);
        jobs = rest;
    }
    groups
}
