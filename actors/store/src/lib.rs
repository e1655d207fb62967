//! The durable store: one narrow trait over sled and over memory. It knows rows, never what is in them.
//!
//! A row is (session, table, key) -> value. All changes pass through [`Store::commit`] as atomic, ordered batches, so
//! this is also the place where a replicated journal would listen. No sled type leaves `store/sled`.

mod archive;
mod batch;
mod compacting;
#[cfg(test)]
mod conformance;
mod copying;
mod encrypting;
mod encryption;
mod error;
mod event_log;
mod guard;
pub mod layout;
mod memory;
mod parts;
mod queue;
mod rebuilding;
mod sled;
mod space;
mod stream;
mod swap;
mod table;
mod ticket;
mod upgrading;
mod wipe;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use archive::{ArchiveError, ArchiveReader, ArchiveWriter};
pub use batch::{BATCH_OPERATIONS_MAX, Batch, Change, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use encrypting::{open_encrypted, rekey};
pub use encryption::StoreKey;
pub use error::{Health, StoreError};
pub use event_log::{
    Append, EVENTS_BYTES_MAX_DEFAULT, EVENTS_BYTES_MAX_MIN, EVENTS_KEPT_DAYS_DEFAULT, EventKey, EventLog,
    EventLogOptions, Head, IndexRow, READ_BYTES_MAX, Run,
};
pub use parts::{
    RECORD_BYTES_MAX, ReadRecord, delete_parts, get_parts, parts_in, put_parts, scan_parts, scan_parts_each,
};
pub use space::{SpaceUse, SpaceWatch};
#[cfg(fuzzing)]
pub use stream::fuzz_rows;
pub use swap::{discard_next, exists, open_next, replace, settle};
pub use table::Table;
pub use ticket::Ticket;
pub use upgrading::mark_as_current;
pub use wipe::{Wipe, wipe_session};

/// Page cache of the whole daemon. sled's own default is 1 GiB; at 64 MiB, 5,000 sessions still restart from memory.
const CACHE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// Free space below which nothing is written: sixteen of sled's 4 MiB segments, enough for all that is in flight.
/// A full disk cannot be recovered from in-process, so writes have to stop before it.
const FREE_SPACE_MIN_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// Names one session's rows in every table. Given out once per session and never again.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionNumber(pub u32);

impl SessionNumber {
    /// The daemon itself: its layout version, API keys and audit log.
    pub const DAEMON: Self = Self(0);
}

/// A row's key, without the session number, and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A durable map with atomic batches. Two implementations, one conformance suite.
pub trait Store: Send + Sync + 'static {
    /// Queues the batch and returns at once; never blocks. The batch is atomic over all tables, and batches take
    /// effect in the order of the calls. The ticket resolves when the batch is on disk (K-2), or to why it is not.
    ///
    /// Until then reads may or may not show the batch, but never a part of it: a caller that needs to read its own
    /// write awaits the ticket first. A queue that is full resolves the ticket to [`StoreError::Busy`].
    fn commit(&self, batch: Batch) -> Ticket;

    /// The value of one row, `None` when there is no such row. May read one page from disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the page cannot be read; the store then refuses all further commits.
    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// All rows of a session's table whose key begins with `prefix`, in the order of their keys, without the session
    /// number. Shows no batch half applied. Reads as many pages as the rows fill: meant for one session's rows.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan_prefix(&self, session: SessionNumber, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError>;

    /// All rows of a table, of every session and the daemon itself, in the order of the numbers and then of the keys. Shows no
    /// batch half applied. Blocks for as many pages as the table fills: meant for the start, and for tables of small rows.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan_all(&self, table: Table) -> Result<Vec<(SessionNumber, Row)>, StoreError>;

    /// Writes every row as one checksummed stream: a backup, and in a fresh directory a compaction. Shows one moment:
    /// commits wait until it has ended (about 2 s for 1,000 sessions), so `to` should be a local file. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Stream`] when `to` fails, else as [`Store::get`].
    fn export(&self, to: &mut dyn Write) -> Result<(), StoreError>;

    /// Reads a stream of [`Store::export`] into this store, which has to be empty. Returns when all of it is on disk.
    /// Blocks; not to be called from async code. A store whose import did not end refuses to open.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], [`StoreError::Stream`] when the stream is damaged or cut short, or why a commit failed.
    fn import(&self, from: &mut dyn Read) -> Result<(), StoreError>;

    /// Whether commits are accepted now. [`Health::Failed`] is for good: only a new process gets out of it.
    fn health(&self) -> Health;
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Upper bound of sled's page cache, in bytes.
    pub cache_bytes: u64,
    /// Free space on the volume below which commits are refused with [`StoreError::LowSpace`], in bytes. Half of it is
    /// enough for deletions ([`Batch::for_removal`]), a quarter for opening. 0 asks for none.
    pub free_space_min_bytes: u64,
    /// The operator's key; `None`: the values are not encrypted.
    pub key: Option<StoreKey>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES_DEFAULT, free_space_min_bytes: FREE_SPACE_MIN_BYTES_DEFAULT, key: None }
    }
}

/// Opens the store in this directory, which is made (mode 0700) when missing. Blocks, for up to 2 s when the directory
/// is in use. Dropping the last `Arc` writes what is queued, closes the files and blocks until that is done.
///
/// # Errors
/// [`StoreError::InUse`], [`StoreError::NoRoomToOpen`], [`StoreError::Damaged`], [`StoreError::UnknownLayout`],
/// [`StoreError::UnfinishedImport`], [`StoreError::Encrypted`], [`StoreError::Unencrypted`], [`StoreError::WrongKey`]
/// or [`StoreError::Io`]; each says what to do. Never panics over damage on the disk.
pub fn open(path: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(sled::SledStore::open(path, &options)?))
}

/// A store that forgets everything when dropped: for tests, with the same limits and errors as the real one.
#[must_use]
pub fn open_memory() -> Arc<dyn Store> {
    Arc::new(memory::MemoryStore::default())
}
