//! The store's errors, in words for the operator. They never hold a key or a value of a row.

use std::path::PathBuf;

use thiserror::Error;

use super::Table;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, Error)]
pub enum StoreError {
    /// The lock of the directory is held by another process.
    #[error("another daemon uses this directory: `{}`", path.display())]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The files on disk cannot be read.
    #[error("the store in `{}` is damaged ({reason}): stop, keep a copy of it, and restore the latest backup of this directory", path.display())]
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// The damage that was found.
        reason: String,
    },
    /// A file of the event log cannot be read.
    #[error(
        "the event log's file `{}` is damaged ({reason}): stop, and restore the latest backup, or move that file away to go on \
         without the events in it",
        path.display()
    )]
    DamagedLog {
        /// The file.
        path: PathBuf,
        /// The damage that was found.
        reason: String,
    },
    /// The store was made by a version with another layout.
    #[error("the store in `{}` has layout `{found}`, this version knows `{known}`: use the version that made it to export it", path.display())]
    UnknownLayout {
        /// The store's directory.
        path: PathBuf,
        /// The layout on disk.
        found: String,
        /// The layout of this version.
        known: u32,
    },
    /// The store is encrypted, and no key was given.
    #[error("the store in `{}` is encrypted: the key it was encrypted with is needed", path.display())]
    Encrypted {
        /// The store's directory.
        path: PathBuf,
    },
    /// The store is not encrypted, but a key was given.
    #[error("the store in `{}` is not encrypted", path.display())]
    Unencrypted {
        /// The store's directory.
        path: PathBuf,
    },
    /// The store is encrypted with another key. Nothing was changed.
    #[error("the store in `{}` is encrypted with another key: give the one that it was made or last re-keyed with", path.display())]
    WrongKey {
        /// The store's directory.
        path: PathBuf,
    },
    /// An import into this directory was interrupted.
    #[error("an import into `{}` did not finish: empty this directory and import again", path.display())]
    UnfinishedImport {
        /// The store's directory.
        path: PathBuf,
    },
    /// The directory or a file in it cannot be used.
    #[error("could not open the store in `{}`: {reason}", path.display())]
    Io {
        /// The store's directory.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The volume is too full to open the store. Nothing was touched.
    #[error(
        "could not open the store in `{}`: its volume has {free_bytes} bytes free, and {needed_bytes} are needed: make room \
         on it, then start again",
        path.display()
    )]
    NoRoomToOpen {
        /// The store's directory.
        path: PathBuf,
        /// Free bytes on its volume.
        free_bytes: u64,
        /// Free bytes that opening needs.
        needed_bytes: u64,
    },
    /// The volume is nearly full. Passes by itself once there is space again.
    #[error("the disk is nearly full: {free_bytes} bytes free, {needed_bytes} needed")]
    LowSpace {
        /// Free bytes at the last check.
        free_bytes: u64,
        /// Free bytes that were needed: the set minimum, half of it for a removal; for a copy, its own bytes as well.
        needed_bytes: u64,
    },
    /// More operations than a batch may hold.
    #[error("a batch of {operations} operations is too large")]
    BatchTooLarge {
        /// Operations in the batch.
        operations: usize,
    },
    /// One value over the limit; larger records go in parts.
    #[error("a value of {bytes} bytes in table `{}` is too large", table.tree_name())]
    ValueTooLarge {
        /// The table.
        table: Table,
        /// Size of the value.
        bytes: usize,
    },
    /// A key over the limit.
    #[error("a key of {bytes} bytes in table `{}` is too long", table.tree_name())]
    KeyTooLong {
        /// The table.
        table: Table,
        /// Size of the key.
        bytes: usize,
    },
    /// A record that is too large even in parts.
    #[error("a record of {bytes} bytes in table `{}` is too large", table.tree_name())]
    RecordTooLarge {
        /// The table.
        table: Table,
        /// Size of the record.
        bytes: usize,
    },
    /// The queue of commits is full: the disk does not keep up. Nothing was written; the commit may be tried again.
    #[error("the store is busy: too many writes are waiting for the disk")]
    Busy,
    /// Import into a store that holds rows.
    #[error("the store is not empty")]
    NotEmpty,
    /// An export could not be written, or an import could not be read.
    #[error("backup stream: {0}")]
    Stream(String),
    /// An earlier commit or read failed, and nothing is written any more until the process is started again. Also for
    /// one call alone: a record does not fit together, or a value could not be encrypted.
    #[error("the store has failed: {0}")]
    Failed(String),
}

/// Whether the store takes commits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Health {
    /// The store takes commits.
    Ok,
    /// The volume is nearly full; commits are refused until there is space again.
    LowSpace {
        /// Free bytes at the last check, at most a second ago.
        free_bytes: u64,
        /// The set minimum.
        needed_bytes: u64,
        /// There is still room for removals ([`Batch::for_removal`](crate::Batch::for_removal)).
        has_room_for_removals: bool,
    },
    /// A commit or a read failed; all further commits are refused. Says why.
    Failed(String),
}
