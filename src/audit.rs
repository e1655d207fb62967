//! The audit log in the store: every call that changed something or was refused. Each record is chained by hash to the
//! one before it. `retention.rs` decides which records are removed; a removal is itself a record. Knows no HTTP beyond
//! a status.
//!
//! One task writes (`writer.rs`), so that there is one order. A call that changed something waits for its record. The
//! messages of a key in a session become one record a minute, with a count: only the first of them waits.
//! Refusals and replays do not wait; those that repeat within a minute become one record with a count, so that a flood
//! of them is a few records and not a full disk.

mod chain;
mod gaps;
mod record;
mod repeats;
mod retention;
mod sends;
mod share;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;
use rookery_store::{Health, Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::clock::Clock;
use chain::Log;
pub(crate) use chain::{AuditFilter, Found, Verdict};
use gaps::Gaps;
use record::LogBounds;
pub(crate) use record::{AuditEvent, AuditRecord, Outcome};
pub use retention::Retention;
pub(crate) use sends::SEND_ACTION;
use writer::Writer;

/// Entries that wait for the task: as many writes as may be in flight, and refusals beside them.
const WAITING_MAX: usize = 4_096;

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("a record of the audit log cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    /// A row about removed records cannot be read.
    #[error("it cannot be read which records of the audit log were removed")]
    Gap,
    /// The disk is nearly full.
    #[error("the disk is nearly full")]
    LowSpace,
    /// The last record could not be written.
    #[error("the audit log cannot be written")]
    Unwritable,
    /// Another caller reads the log now.
    #[error("the audit log is being read")]
    Busy,
    /// A task of ours died.
    #[error("reading the audit log was cut short")]
    CutShort,
}

/// The handle to the log.
pub(crate) struct Audit {
    store: Arc<dyn Store>,
    sender: mpsc::Sender<Note>,
    shared: Arc<Shared>,
    /// One reader at a time: a search reads all of it.
    reading: Arc<Semaphore>,
}

/// The state that the task and the callers share.
struct Shared {
    extent: ArcSwap<LogBounds>,
    gaps: Arc<RwLock<Gaps>>,
    /// Tells the task that plans a removal to stop.
    is_ending: Arc<AtomicBool>,
    /// The last commit failed; its records are still unwritten.
    is_failing: AtomicBool,
    /// Refusals that found no room in the queue.
    dropped: AtomicU64,
}

/// The messages to the task.
enum Note {
    /// A call that changed something; the caller waits until it is on disk.
    Write { entry: Box<AuditEvent>, reply: oneshot::Sender<()> },
    /// A call that changed nothing.
    Unchanged(Box<AuditEvent>),
    /// Verify the whole chain, while nothing is added to it.
    Verify { permit: OwnedSemaphorePermit, reply: oneshot::Sender<Result<Verdict, AuditError>> },
}

impl Audit {
    /// Reads where the log ends and which records are missing, and starts the task, which ends when the handle is
    /// dropped. Blocks for a row and a scan.
    ///
    /// # Errors
    /// [`AuditError::Store`], [`AuditError::Record`], [`AuditError::Gap`].
    pub(crate) fn open(
        store: Arc<dyn Store>,
        retention: Retention,
        clock: Clock,
    ) -> Result<(Self, JoinHandle<()>), AuditError> {
        let extent = chain::extent(&*store)?;
        let shared = Arc::new(Shared {
            extent: ArcSwap::from_pointee(extent),
            gaps: Arc::new(RwLock::new(chain::gaps(&*store, &extent)?)),
            is_ending: Arc::default(),
            is_failing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let (sender, notes) = mpsc::channel(WAITING_MAX);
        let writer = Writer::new(Arc::clone(&store), Arc::clone(&shared), retention, clock);
        let task = tokio::spawn(writer.run(notes));
        Ok((Self { store, sender, shared, reading: Arc::new(Semaphore::new(1)) }, task))
    }

    /// Fails when nothing may be changed now, because each change has to be recorded. `removes`: the change removes
    /// something. When the store has no room for other changes, it still has room for removals and their records.
    ///
    /// # Errors
    /// [`AuditError::LowSpace`], [`AuditError::Unwritable`].
    pub(crate) fn check_writable(&self, removes: bool) -> Result<(), AuditError> {
        match self.store.health() {
            Health::Ok if self.shared.is_failing.load(Ordering::Relaxed) || self.sender.is_closed() => {
                Err(AuditError::Unwritable)
            }
            Health::Ok => Ok(()),
            Health::LowSpace { has_room_for_removals: true, .. } if removes => Ok(()),
            Health::LowSpace { .. } => Err(AuditError::LowSpace),
            Health::Failed(_) => Err(AuditError::Unwritable),
        }
    }

    /// Records a call that changed something. Returns when the record is on disk, or cannot be written now, which is
    /// logged.
    pub(crate) async fn note(&self, entry: AuditEvent) {
        let (reply, written) = oneshot::channel();
        if self.sender.send(Note::Write { entry: Box::new(entry), reply }).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Records a call that changed nothing: a refusal, a failure or a replay. Never waits.
    pub(crate) fn note_unchanged(&self, entry: AuditEvent) {
        if self.sender.try_send(Note::Unchanged(Box::new(entry))).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A page of the records that match, newest first, and how many match in all.
    ///
    /// # Errors
    /// [`AuditError::Busy`] when another caller reads, [`AuditError::Store`], [`AuditError::Record`].
    pub(crate) async fn page(
        &self,
        filter: AuditFilter,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<AuditRecord>, usize), AuditError> {
        let log = self.shared.log();
        self.read(move |store| chain::page(store, &log, &filter, offset, limit)).await
    }

    /// Whether each record follows on the one before. Nothing is added meanwhile: changes wait for it.
    ///
    /// # Errors
    /// [`AuditError::Busy`] when another caller reads, [`AuditError::Store`], [`AuditError::Record`].
    pub(crate) async fn verify(&self) -> Result<Verdict, AuditError> {
        // The permit goes with the message: a verification whose client is gone still runs.
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

/// Looks up a record in a store that nobody writes. Blocks.
///
/// # Errors
/// [`AuditError::Store`], [`AuditError::Record`], [`AuditError::Gap`].
pub(crate) fn find(store: &dyn Store, id: u64) -> Result<Found, AuditError> {
    chain::find(store, id)
}

impl Shared {
    /// The log as it is now.
    fn log(&self) -> Log {
        Log { next: self.extent.load().next, gaps: Arc::clone(&self.gaps), is_ending: Arc::clone(&self.is_ending) }
    }
}
