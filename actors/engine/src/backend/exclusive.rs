//! The lock of a read-modify-write: a read under the lock sees the last write under it.

use tokio::sync::{Mutex, MutexGuard};
use wacore::store::error::Result;

use super::rows::{Changes, Rows};

/// Held from the read until the write is on disk. The engine may drop a call at any await: then the lock is free again
/// while the batch is still being written, so the next holder first waits for that batch.
#[derive(Default)]
pub(super) struct Exclusive(Mutex<Unsettled>);

/// Whether a commit was begun under the lock and nobody saw its result.
type Unsettled = bool;

/// The lock, held.
pub(super) struct Held<'a>(MutexGuard<'a, Unsettled>);

impl Exclusive {
    pub(super) async fn lock(&self, rows: &Rows) -> Result<Held<'_>> {
        let mut unsettled = self.0.lock().await;
        if *unsettled {
            rows.settle().await?;
            *unsettled = false;
        }
        Ok(Held(unsettled))
    }
}

impl Held<'_> {
    /// Commits the changes that follow from the rows read under the lock. The lock stays held.
    pub(super) async fn commit(&mut self, changes: Changes<'_>) -> Result<()> {
        *self.0 = true;
        let outcome = changes.commit().await;
        *self.0 = false;
        outcome
    }
}
