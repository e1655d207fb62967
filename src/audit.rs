//! The audit log: every call that changed something or was refused, in the store, each record chained by hash to the one
//! before it. Only appended to; the oldest go after a time. Knows no HTTP beyond a status.
//!
//! One task writes, so that there is one order: it takes what waits, gives each its number and hash, and commits that as one
//! batch. Whoever changed something waits for it; refusals do not wait, and those that repeat themselves within a minute
//! become one record with a count, so that a flood of them is a few records and not a full disk.

mod chain;
mod record;
mod repeats;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rookery_actors::model::Timestamp;
use rookery_actors::store::{BATCH_OPERATIONS_MAX, Batch, Health, SessionNumber, Store, StoreError, Table};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info};

pub(crate) use chain::{AuditFilter, Verdict};
pub(crate) use record::{AuditRecord, ChainHash, Entry, Outcome};
use record::{EXTENT_KEY, Extent};
use repeats::Repeats;

/// Entries that wait for the task: as many writes as may be in flight, and refusals beside them.
const WAITING_MAX: usize = 4_096;
/// Records of one commit: one operation each, and one for the extent.
const COMMIT_RECORDS_MAX: usize = BATCH_OPERATIONS_MAX / 2;
/// How often repeated refusals are written down.
const REPEATS_INTERVAL: Duration = Duration::from_secs(10);
/// Old records removed in one commit.
const REMOVED_IN_BATCH_MAX: u64 = BATCH_OPERATIONS_MAX as u64 / 2;
/// Such commits at once: changes wait for them.
const REMOVALS_IN_TICK_MAX: usize = 16;
/// Records kept while they cannot be written: all calls in flight by then, and refusals.
const UNWRITTEN_MAX: usize = 8_192;

/// How long records are kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days.
    pub days: u32,
    /// Records at most.
    pub records_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        // A record is half a kilobyte: 50 MB of the disk, and a third of a second to search.
        Self { days: 90, records_max: 100_000 }
    }
}

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("a record of the audit log cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    /// The disk is nearly full.
    #[error("the disk is nearly full")]
    LowSpace,
    /// The last record could not be written.
    #[error("the audit log cannot be written")]
    Unwritable,
    /// Somebody else reads it now.
    #[error("the audit log is being read")]
    Busy,
    /// A task of ours died.
    #[error("reading the audit log was cut short")]
    CutShort,
}

/// The door to the log.
pub(crate) struct Audit {
    store: Arc<dyn Store>,
    sender: mpsc::Sender<Note>,
    shared: Arc<Shared>,
    /// One reader at a time: a search reads all of it.
    reading: Arc<Semaphore>,
}

/// What the task and the callers both know.
struct Shared {
    extent: ArcSwap<Extent>,
    /// The last commit failed, and what it held is still to be written.
    is_failing: AtomicBool,
    /// Refusals that found no room.
    dropped: AtomicU64,
}

/// What the task is told.
enum Note {
    /// A call that changed something; the caller waits until it is on disk.
    Write { entry: Box<Entry>, reply: oneshot::Sender<()> },
    /// A refusal.
    Refusal(Box<Entry>),
    /// Look at the whole chain, while nothing is added to it.
    Verify { permit: OwnedSemaphorePermit, reply: oneshot::Sender<Result<Verdict, AuditError>> },
}

impl Audit {
    /// Reads where the log ends, and starts the task; it ends when the door is dropped. Blocks for one row.
    ///
    /// # Errors
    /// [`AuditError::Store`], [`AuditError::Record`].
    pub(crate) fn open(store: Arc<dyn Store>, retention: Retention) -> Result<(Self, JoinHandle<()>), AuditError> {
        let extent = chain::extent(&*store)?;
        let shared = Arc::new(Shared {
            extent: ArcSwap::from_pointee(extent),
            is_failing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let (sender, notes) = mpsc::channel(WAITING_MAX);
        let writer = Writer {
            store: store.clone(),
            shared: shared.clone(),
            extent,
            retention,
            repeats: Repeats::default(),
            unwritten: Vec::new(),
        };
        let task = tokio::spawn(writer.run(notes));
        Ok((Self { store, sender, shared, reading: Arc::new(Semaphore::new(1)) }, task))
    }

    /// Why nothing may be changed now: what is changed has to be written down.
    ///
    /// # Errors
    /// [`AuditError::LowSpace`], [`AuditError::Unwritable`].
    pub(crate) fn check_writable(&self) -> Result<(), AuditError> {
        match self.store.health() {
            Health::Ok if self.shared.is_failing.load(Ordering::Relaxed) || self.sender.is_closed() => {
                Err(AuditError::Unwritable)
            }
            Health::Ok => Ok(()),
            Health::LowSpace { .. } => Err(AuditError::LowSpace),
            Health::Failed(_) => Err(AuditError::Unwritable),
        }
    }

    /// Notes a call that changed something; returns when that is on disk, or cannot be put there now, which is logged.
    pub(crate) async fn note(&self, entry: Entry) {
        let (reply, written) = oneshot::channel();
        if self.sender.send(Note::Write { entry: Box::new(entry), reply }).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Notes a refusal. Never waits.
    pub(crate) fn note_refusal(&self, entry: Entry) {
        if self.sender.try_send(Note::Refusal(Box::new(entry))).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A page of the records that match, newest first, and how many match in all.
    ///
    /// # Errors
    /// [`AuditError::Busy`] when somebody else reads, [`AuditError::Store`], [`AuditError::Record`].
    pub(crate) async fn page(
        &self,
        filter: AuditFilter,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<AuditRecord>, usize), AuditError> {
        let extent = **self.shared.extent.load();
        self.read(move |store| chain::page(store, extent, &filter, offset, limit)).await
    }

    /// Whether each record follows on the one before. Nothing is added meanwhile: changes wait for it.
    ///
    /// # Errors
    /// [`AuditError::Busy`] when somebody else reads, [`AuditError::Store`], [`AuditError::Record`].
    pub(crate) async fn verify(&self) -> Result<Verdict, AuditError> {
        // It goes along: one whose client is gone is still under way.
        let permit = Arc::clone(&self.reading).try_acquire_owned().map_err(|_| AuditError::Busy)?;
        let (reply, verdict) = oneshot::channel();
        self.sender.send(Note::Verify { permit, reply }).await.map_err(|_| AuditError::CutShort)?;
        verdict.await.unwrap_or(Err(AuditError::CutShort))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let permit = Arc::clone(&self.reading).try_acquire_owned().map_err(|_| AuditError::Busy)?;
        let store = Arc::clone(&self.store);
        let work = spawn_blocking(move || {
            let _permit = permit;
            read(&*store)
        });
        work.await.unwrap_or(Err(AuditError::CutShort))
    }
}

/// Whether each record follows on the one before. Reads the whole log of a store that nobody writes, and blocks.
///
/// # Errors
/// [`AuditError::Store`], [`AuditError::Record`].
pub(crate) fn verify(store: &dyn Store) -> Result<Verdict, AuditError> {
    chain::verify(store)
}

/// The hash of a record of a store that nobody writes, `None` when it is not there. Blocks.
///
/// # Errors
/// [`AuditError::Store`].
pub(crate) fn hash_of(store: &dyn Store, id: u64) -> Result<Option<ChainHash>, AuditError> {
    chain::hash_of(store, id)
}

/// The one who writes.
struct Writer {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    extent: Extent,
    retention: Retention,
    repeats: Repeats,
    /// What could not be written yet, in order.
    unwritten: Vec<Entry>,
}

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut ticks = tokio::time::interval(REPEATS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                count = notes.recv_many(&mut waiting, COMMIT_RECORDS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    self.take(&mut waiting).await;
                }
                _ = ticks.tick() => {
                    let due = self.repeats.due(Instant::now());
                    self.write_repeats(due).await;
                    self.remove_old().await;
                }
            }
        }
        let rest = self.repeats.drain();
        self.write_repeats(rest).await;
    }

    async fn take(&mut self, waiting: &mut Vec<Note>) {
        let (mut entries, mut replies, mut questions) = (Vec::new(), Vec::new(), Vec::new());
        for note in waiting.drain(..) {
            match note {
                Note::Write { entry, reply } => {
                    entries.push(*entry);
                    replies.push(reply);
                }
                Note::Refusal(entry) => entries.extend(self.repeats.take(*entry, Instant::now())),
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

    /// Also of refusals that found no room to wait in.
    async fn write_repeats(&mut self, entries: Vec<Entry>) {
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
        let lost = (dropped > 0).then(|| repeats::lost(dropped));
        self.write(entries.into_iter().chain(lost).collect()).await;
    }

    /// Writes what could not be written before, and then these. What still cannot be is kept, so that the chain goes on from
    /// what is on disk and nothing is left out.
    async fn write(&mut self, entries: Vec<Entry>) {
        self.unwritten.extend(entries);
        let surplus = self.unwritten.len().saturating_sub(UNWRITTEN_MAX);
        if surplus > 0 {
            self.unwritten.truncate(UNWRITTEN_MAX);
            error!(count = surplus, "the audit log could not be written for too long, records are lost");
        }
        let mut at_once = COMMIT_RECORDS_MAX;
        while !self.unwritten.is_empty() {
            let count = self.unwritten.len().min(at_once);
            match self.commit(count).await {
                Ok(()) => drop(self.unwritten.drain(..count)),
                // One of them does not fit: the others do.
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

    /// Appends the first of what is unwritten.
    async fn commit(&mut self, count: usize) -> Result<(), AuditError> {
        let (batch, extent) = self.batch(self.unwritten[..count].to_vec())?;
        self.store.commit(batch).await?;
        self.extent = extent;
        self.shared.extent.store(Arc::new(extent));
        Ok(())
    }

    fn batch(&self, entries: Vec<Entry>) -> Result<(Batch, Extent), serde_json::Error> {
        let (mut batch, mut extent, created_at) = (Batch::new(), self.extent, Timestamp::now());
        for entry in entries {
            let id = extent.next;
            let json = serde_json::to_vec(&AuditRecord { id, created_at, entry })?;
            extent.last = extent.last.after(&json);
            extent.next += 1;
            batch.put(SessionNumber::DAEMON, Table::Audit, record::key(id), record::value(extent.last, &json));
        }
        batch.put(SessionNumber::DAEMON, Table::Audit, EXTENT_KEY, serde_json::to_vec(&extent)?);
        Ok((batch, extent))
    }

    /// Removes what is too old, and what is too much.
    async fn remove_old(&mut self) {
        let mut removed = 0;
        for _ in 0..REMOVALS_IN_TICK_MAX {
            match self.remove_some().await {
                Some(count) => removed += count,
                None => break,
            }
        }
        if removed > 0 {
            info!(removed, "removed the oldest records of the audit log");
        }
    }

    /// Removes a batch of the oldest ones; `None` when there is nothing more to remove, or it could not be.
    async fn remove_some(&mut self) -> Option<u64> {
        let extent = self.extent;
        let surplus = (extent.next - extent.first).saturating_sub(self.retention.records_max);
        let oldest_at = Timestamp(Timestamp::now().0 - i64::from(self.retention.days) * 86_400_000);
        let last = extent.next.min(extent.first + REMOVED_IN_BATCH_MAX);
        let (mut batch, mut kept) = (Batch::new(), extent);
        for id in extent.first..last {
            let value = self.store.get(SessionNumber::DAEMON, Table::Audit, &record::key(id)).ok()?;
            let Some((hash, json)) = value.as_deref().and_then(record::split_value) else {
                // What comes behind it could not be proved any more.
                error!(record = id, "a record of the audit log is missing or cut short, it and all behind it are kept");
                break;
            };
            let is_old =
                || serde_json::from_slice::<AuditRecord>(json).is_ok_and(|record| record.created_at < oldest_at);
            if id - extent.first >= surplus && !is_old() {
                break;
            }
            batch.delete(SessionNumber::DAEMON, Table::Audit, record::key(id));
            (kept.first, kept.before_first) = (id + 1, hash);
        }
        if batch.is_empty() {
            return None;
        }
        batch.put(SessionNumber::DAEMON, Table::Audit, EXTENT_KEY, serde_json::to_vec(&kept).ok()?);
        self.store.commit(batch).await.ok()?;
        self.extent = kept;
        self.shared.extent.store(Arc::new(kept));
        Some(kept.first - extent.first)
    }
}
