//! The task that writes the log. Gives each waiting entry its number and hash, and commits the entries as one batch.
//! Removes the records that `retention.rs` names, and makes a record of the removal in the same batch.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::Duration;

use rookery_model::Timestamp;
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use super::gaps::{GAP_OPERATIONS_MAX, Gaps};
use super::record::{self, AuditEvent, AuditRecord, Because, ChainHash, EXTENT_KEY, Gap, LogBounds, Outcome, Removal};
use super::repeats::{self, Repeats};
use super::retention::{Plan, Retention};
use super::sends::Sends;
use super::share::Known;
use super::{AuditError, Note, Shared, chain};
use crate::clock::Clock;

/// Records of one commit: one operation each, and one for the extent.
const COMMIT_RECORDS_MAX: usize = BATCH_OPERATIONS_MAX / 2;
/// How often repeated refusals are written, and the number of records is checked.
const REPEATS_INTERVAL: Duration = Duration::from_secs(10);
/// The pause before entries that could not be written are tried again.
const UNWRITTEN_RETRY: Duration = Duration::from_secs(1);
/// How often old records are removed, the first time after so long. Each removal leaves a record, so records do not go
/// one by one.
const AGED_INTERVAL: Duration = Duration::from_secs(3_600);
/// Operations of a removal's batch that are not about the removed records: its own record and the extent.
const REMOVAL_OPERATIONS: usize = 2;
/// Entries kept while they cannot be written: all calls in flight by then, and refusals.
const UNWRITTEN_MAX: usize = 8_192;
/// The action of records about records that were removed.
const REMOVE_ACTION: &str = "audit_remove";

/// The task that writes the log.
pub(super) struct Writer {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    extent: LogBounds,
    retention: Retention,
    clock: Clock,
    repeats: Repeats,
    sends: Sends,
    /// Entries that could not be written yet, in order.
    unwritten: Vec<AuditEvent>,
    /// The records to remove, the next one last.
    plan: Plan,
    planning: Option<JoinHandle<Result<Plan, AuditError>>>,
    aged_at: Instant,
}

impl Writer {
    pub(super) fn new(store: Arc<dyn Store>, shared: Arc<Shared>, retention: Retention, clock: Clock) -> Self {
        let extent = **shared.extent.load();
        Self {
            store,
            shared,
            extent,
            retention,
            clock,
            repeats: Repeats::default(),
            sends: Sends::default(),
            unwritten: Vec::new(),
            plan: Plan::default(),
            planning: None,
            aged_at: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut ticks = tokio::time::interval(REPEATS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Vec::new();
        loop {
            let can_remove = !self.plan.ids.is_empty() && self.unwritten.is_empty();
            tokio::select! {
                count = notes.recv_many(&mut waiting, COMMIT_RECORDS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    self.take(&mut waiting).await;
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    let due = [self.repeats.due(now), self.sends.due(now)].concat();
                    self.write_repeats(due).await;
                    self.account_for_beginning().await;
                    self.plan_removal();
                }
                plan = async { self.planning.as_mut()?.await.ok() }, if self.planning.is_some() => {
                    self.planning = None;
                    self.take_plan(plan);
                }
                // Changes are refused until the entries are written, so no other event may trigger a retry.
                () = tokio::time::sleep(UNWRITTEN_RETRY), if !self.unwritten.is_empty() => self.write(Vec::new()).await,
                // One batch, and then the waiting entries again: changes are not held up by a long removal.
                () = std::future::ready(()), if can_remove => self.remove_some().await,
            }
        }
        let rest = [self.repeats.drain(), self.sends.drain()].concat();
        self.write_repeats(rest).await;
        // The planning task holds the store, which has to be closed.
        self.shared.is_ending.store(true, Ordering::Relaxed);
        if let Some(planning) = self.planning.take() {
            let _ = planning.await;
        }
    }

    async fn take(&mut self, waiting: &mut Vec<Note>) {
        let (mut entries, mut replies, mut questions) = (Vec::new(), Vec::new(), Vec::new());
        for note in waiting.drain(..) {
            match note {
                Note::Write { entry, reply } => {
                    let entry = *entry;
                    match entry.sends {
                        true => entries.extend(self.sends.take(entry, Instant::now())),
                        false => entries.push(entry),
                    }
                    replies.push(reply);
                }
                Note::Unchanged(entry) => entries.extend(self.repeats.take(*entry, Instant::now())),
                Note::Verify { permit, reply } => questions.push((permit, reply)),
            }
        }
        self.write(entries).await;
        for reply in replies {
            let _ = reply.send(());
        }
        for (_permit, reply) in questions {
            let store = Arc::clone(&self.store);
            let verdict = spawn_blocking(move || chain::verify(&*store)).await;
            let _ = reply.send(verdict.unwrap_or(Err(AuditError::CutShort)));
        }
    }

    /// Writes these entries, and the count of refusals that found no room in the queue.
    async fn write_repeats(&mut self, entries: Vec<AuditEvent>) {
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
        let lost = (dropped > 0).then(|| repeats::lost(dropped));
        self.write(entries.into_iter().chain(lost).collect()).await;
    }

    /// Writes the entries that could not be written before, and then these. Entries that still fail are kept, so that
    /// the chain goes on from the records on disk and nothing is left out.
    async fn write(&mut self, entries: Vec<AuditEvent>) {
        self.unwritten.extend(entries);
        let surplus = self.unwritten.len().saturating_sub(UNWRITTEN_MAX);
        if surplus > 0 {
            self.unwritten.truncate(UNWRITTEN_MAX);
            error!(count = surplus, "the audit log could not be written for too long, records are lost");
        }
        // An entry of a removal may use space that others may not. The entries before it use it, too: they come first.
        let removes = self.unwritten.iter().any(|entry| entry.removes);
        let mut at_once = COMMIT_RECORDS_MAX;
        while !self.unwritten.is_empty() {
            let count = self.unwritten.len().min(at_once);
            match self.commit(count, removes).await {
                Ok(()) => drop(self.unwritten.drain(..count)),
                // One of the entries does not fit: write them one by one.
                Err(AuditError::Store(StoreError::ValueTooLarge { .. })) if count > 1 => at_once = 1,
                Err(error @ (AuditError::Store(StoreError::ValueTooLarge { .. }) | AuditError::Record(_))) => {
                    self.unwritten.remove(0);
                    error!(%error, "a record does not fit into the audit log and is lost");
                }
                Err(error) => {
                    if !self.shared.is_failing.swap(true, Ordering::Relaxed) {
                        error!(%error, "could not write to the audit log, changes are refused until it works again");
                    }
                    return;
                }
            }
        }
        if self.shared.is_failing.swap(false, Ordering::Relaxed) {
            info!("the audit log can be written again");
        }
    }

    /// Commits the first `count` unwritten entries.
    async fn commit(&mut self, count: usize, removes: bool) -> Result<(), AuditError> {
        let batch = if removes { Batch::for_removal() } else { Batch::new() };
        let (batch, extent) = self.filled(batch, self.unwritten[..count].to_vec())?;
        self.put(batch, extent).await
    }

    fn filled(&self, mut batch: Batch, entries: Vec<AuditEvent>) -> Result<(Batch, LogBounds), serde_json::Error> {
        let (mut extent, created_at) = (self.extent, self.clock.system());
        for entry in entries {
            append(&mut batch, &mut extent, created_at, entry)?;
        }
        batch.put(SessionNumber::DAEMON, Table::Audit, EXTENT_KEY, serde_json::to_vec(&extent)?);
        Ok((batch, extent))
    }

    async fn put(&mut self, batch: Batch, extent: LogBounds) -> Result<(), AuditError> {
        self.store.commit(batch).await?;
        self.extent = extent;
        self.shared.extent.store(Arc::new(extent));
        Ok(())
    }

    /// Plans a removal, in a task of its own, as this reads the whole log.
    fn plan_removal(&mut self) {
        if self.planning.is_some() || !self.plan.ids.is_empty() || !self.unwritten.is_empty() {
            return;
        }
        let (store, log, retention) = (Arc::clone(&self.store), self.shared.log(), self.retention);
        if log.records() > retention.records_max {
            self.planning = Some(spawn_blocking(move || retention.surplus(&*store, &log)));
        } else if self.aged_at.elapsed() >= AGED_INTERVAL {
            self.aged_at = Instant::now();
            // A record has to be too old by the system's clock and by the daemon's: a clock that is wrong for a while
            // removes nothing.
            let now = self.clock.earliest();
            self.planning = Some(spawn_blocking(move || retention.aged(&*store, &log, now)));
        }
    }

    /// `None`: the planning task died.
    fn take_plan(&mut self, plan: Option<Result<Plan, AuditError>>) {
        match plan.unwrap_or(Err(AuditError::CutShort)) {
            Ok(plan) if plan.ids.is_empty() => {}
            Ok(mut plan) => {
                info!(records = plan.ids.len(), because = ?plan.because, "removing records of the audit log");
                plan.ids.reverse();
                self.plan = plan;
            }
            Err(error) => warn!(%error, "could not find out which records of the audit log are to go, will retry"),
        }
    }

    /// Removes a batch of the planned records, and makes a record of it.
    async fn remove_some(&mut self) {
        let removed = match self.removal() {
            Ok(Some((batch, extent))) => self.put(batch, extent).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            warn!(%error, "could not remove records of the audit log, will retry");
            self.plan = Plan::default();
            match chain::gaps(&*self.store, &self.extent) {
                Ok(gaps) => *self.gaps() = gaps,
                Err(error) => error!(%error, "could not read again which records of the audit log are missing"),
            }
        }
    }

    /// The batch of a removal; `None`: none of the planned records can be removed.
    fn removal(&mut self) -> Result<Option<(Batch, LogBounds)>, AuditError> {
        let (mut batch, mut runs, mut by_api_key) = (Batch::new(), Vec::<(u64, Gap)>::new(), BTreeMap::new());
        let mut operations = REMOVAL_OPERATIONS;
        while let Some(&id) = self.plan.ids.last() {
            let run = runs.last_mut().filter(|(_, gap)| gap.last + 1 == id);
            operations += if run.is_some() { 1 } else { 1 + GAP_OPERATIONS_MAX };
            if operations > BATCH_OPERATIONS_MAX {
                break;
            }
            self.plan.ids.pop();
            let value = self.store.get(SessionNumber::DAEMON, Table::Audit, &record::key(id))?;
            let Some((hash, json)) = value.as_deref().and_then(record::split_value) else {
                // The records behind it could not be verified any more.
                error!(record = id, "a record of the audit log is missing or cut short, it is not removed");
                continue;
            };
            let share = serde_json::from_slice::<Known>(json)?.share();
            *by_api_key.entry(share.to_string()).or_default() += 1;
            batch.delete(SessionNumber::DAEMON, Table::Audit, record::key(id));
            match run {
                Some((_, gap)) => *gap = Gap { last: id, hash },
                None => runs.push((id, Gap { last: id, hash })),
            }
        }
        let (Some((first_id, _)), Some((_, Gap { last: last_id, .. }))) = (runs.first(), runs.last()) else {
            return Ok(None);
        };
        let (first_id, last_id, because) = (*first_id, *last_id, self.plan.because);
        let (removed_in_all, missing) = {
            let mut gaps = self.gaps();
            runs.into_iter().for_each(|(first, gap)| gaps.add(&mut batch, first, gap));
            (gaps.records(), gaps.hash())
        };
        let removal = Removal { because, first_id, last_id, by_api_key, removed_in_all, missing };
        let extent = note_removal(&mut batch, self.extent, self.clock.system(), removal)?;
        Ok(Some((batch, extent)))
    }

    /// Adds the missing record to a log from before there were gaps: for the records that were removed at its
    /// beginning.
    async fn account_for_beginning(&mut self) {
        let Some(last_id) = self.extent.first.checked_sub(1).filter(|_| self.unwritten.is_empty()) else { return };
        let mut batch = Batch::new();
        let (removed_in_all, missing) = {
            let mut gaps = self.gaps();
            let gap = gaps.around(0).map_or(Gap { last: last_id, hash: self.extent.before_first }, |(_, gap)| gap);
            batch.put(SessionNumber::DAEMON, Table::Audit, record::gap_key(0), record::gap_value(gap));
            (gaps.records(), gaps.hash())
        };
        let by_api_key = BTreeMap::new();
        let removal = Removal { because: Because::Before, first_id: 0, last_id, by_api_key, removed_in_all, missing };
        let accounted = LogBounds { first: 0, before_first: ChainHash::default(), ..self.extent };
        let committed = match note_removal(&mut batch, accounted, self.clock.system(), removal) {
            Ok(extent) => self.put(batch, extent).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = committed {
            warn!(%error, "could not note what was removed from the audit log before, will retry");
        }
    }

    fn gaps(&self) -> RwLockWriteGuard<'_, Gaps> {
        self.shared.gaps.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a record to the batch, and moves the end of the log behind it.
fn append(
    batch: &mut Batch,
    extent: &mut LogBounds,
    created_at: Timestamp,
    entry: AuditEvent,
) -> Result<(), serde_json::Error> {
    let id = extent.next;
    let json = serde_json::to_vec(&AuditRecord { id, created_at, entry })?;
    extent.last = extent.last.after(&json);
    extent.next += 1;
    batch.put(SessionNumber::DAEMON, Table::Audit, record::key(id), record::value(extent.last, &json));
    Ok(())
}

/// Adds the record about a removal to the batch; returns the extent behind it.
fn note_removal(
    batch: &mut Batch,
    extent: LogBounds,
    created_at: Timestamp,
    removal: Removal,
) -> Result<LogBounds, serde_json::Error> {
    let mut extent = extent;
    let count = match removal.by_api_key.values().sum() {
        0 => removal.removed_in_all,
        count => count,
    };
    let entry =
        AuditEvent { count, removal: Some(Box::new(removal)), ..AuditEvent::of(REMOVE_ACTION.into(), Outcome::Done) };
    append(batch, &mut extent, created_at, entry)?;
    batch.put(SessionNumber::DAEMON, Table::Audit, EXTENT_KEY, serde_json::to_vec(&extent)?);
    Ok(extent)
}
