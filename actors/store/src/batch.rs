//! A batch of changes and its limits.

use std::fmt;

use super::{SessionNumber, StoreError, Table};

/// Operations in one batch. Larger transactions made sled grow to 2.6 GB, past any cache limit.
pub const BATCH_OPERATIONS_MAX: usize = 128;

/// Bytes of one value. sled moves pages over a quarter segment (1 MiB) to `blobs/`, which it never syncs: a page holds
/// some twenty values before it is split, so values of 16 KiB stay well below.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one key. Twice the longest chat, sender and message id seen together; keys are copied into index pages.
pub const KEY_BYTES_MAX: usize = 1024;

/// One change of one row.
#[derive(Clone, Eq, PartialEq)]
pub struct Change {
    /// The session that owns the row.
    pub session: SessionNumber,
    /// The table.
    pub table: Table,
    /// The key, without the session number.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

/// Changes that take effect together or not at all. Of two changes of one row the later one counts.
#[derive(Clone, Default)]
pub struct Batch {
    changes: Vec<Change>,
    is_for_removal: bool,
}

impl Batch {
    /// An empty batch; committing it is a way to wait for all batches before it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch for a deletion and the writes that belong to it. It is accepted with less free space than others,
    /// so that a full disk can be emptied. Not for rows that can be added to without end.
    #[must_use]
    pub fn for_removal() -> Self {
        Self { is_for_removal: true, ..Self::default() }
    }

    /// Sets a row.
    pub fn put(&mut self, session: SessionNumber, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change { session, table, key: key.into(), value: Some(value.into()) });
    }

    /// Deletes a row; no error when there is none.
    pub fn delete(&mut self, session: SessionNumber, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.push(Change { session, table, key: key.into(), value: None });
    }

    /// Adds the changes of another batch behind its own. The result is for removal only if both batches are.
    pub fn append(&mut self, other: Self) {
        self.is_for_removal &= other.is_for_removal;
        self.changes.extend(other.changes);
    }

    /// Number of operations, of at most [`BATCH_OPERATIONS_MAX`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether the batch changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether the batch is accepted with little free space; an empty batch is, too.
    pub(super) fn is_for_removal(&self) -> bool {
        self.is_for_removal || self.is_empty()
    }

    /// A batch without changes, for removal when this one is.
    pub(super) fn emptied(&self) -> Self {
        Self { changes: Vec::new(), is_for_removal: self.is_for_removal }
    }

    /// The changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Bytes of all keys and values: what the batch holds in memory while it waits.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(Change::bytes).sum()
    }

    /// Refuses what sled would not survive.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.len() > BATCH_OPERATIONS_MAX {
            return Err(StoreError::BatchTooLarge { operations: self.len() });
        }
        self.changes.iter().try_for_each(Change::check)
    }
}

impl Change {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }

    fn check(&self) -> Result<(), StoreError> {
        let table = self.table;
        if self.key.len() > KEY_BYTES_MAX {
            return Err(StoreError::KeyTooLong { table, bytes: self.key.len() });
        }
        match &self.value {
            Some(value) if value.len() > VALUE_BYTES_MAX => {
                Err(StoreError::ValueTooLarge { table, bytes: value.len() })
            }
            _ => Ok(()),
        }
    }
}

/// Keys and values are secrets or name people (P-1): only their sizes are shown.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("session", &self.session)
            .field("table", &self.table)
            .field("key_bytes", &self.key.len())
            .field("value_bytes", &self.value.as_ref().map(Vec::len))
            .finish()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.changes).finish()
    }
}
