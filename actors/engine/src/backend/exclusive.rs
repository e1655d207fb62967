//! The lock of a read-modify-write: what is read under it is what was last written under it.

use tokio::sync::{Mutex, MutexGuard};
use wacore::store::error::Result;

use super::rows::{Changes, Rows};

/// Held from the read until the write is on disk. The engine may drop a call at any await: the batch is then on its way
/// while the lock is free again, so the next holder first waits for it.
#[derive(Default)]
pub(super) struct Exclusive(Mutex<Unsettled>);

/// Whether a commit was begun under the lock and nobody saw its end.
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
    /// Commits what follows from the rows read under the lock. The lock is held on.
    pub(super) async fn commit(&mut self, changes: Changes<'_>) -> Result<()> {
        *self.0 = true;
        let outcome = changes.commit().await;
        *self.0 = false;
        outcome
    }
}
