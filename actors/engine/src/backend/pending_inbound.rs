//! Messages that were decrypted and are not in the event log yet.
//!
//! A message cannot be decrypted twice. So when the encryption state that its decryption left is on disk, the message has to be there, too,
//! until the log has it. It is put on disk together with that state: most messages are in the log by then, and need no write of their
//! own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wacore::store::error::Result;

use super::rows::{Changes, Rows};
use super::timed::TimedRecords;
use rookery_store::Table;

/// The messages of one device.
pub(super) struct PendingInbound {
    /// By key: chat, sender, id.
    waiting: Mutex<HashMap<Vec<u8>, Waiting>>,
    stored: TimedRecords,
}

struct Waiting {
    message: Vec<u8>,
    /// Unix seconds.
    since: i64,
    /// It is on disk, too.
    is_stored: bool,
}

/// The messages that go on disk with a change of the encryption state.
pub(super) struct Along(Vec<Vec<u8>>);

impl PendingInbound {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), stored: TimedRecords::new(Table::PendingInbound) }
    }

    /// Takes a message. It goes on disk with the next change of the encryption state, unless it is gone by then.
    pub(super) fn put(&self, key: Vec<u8>, message: &[u8]) {
        let waiting = Waiting { message: message.to_vec(), since: wacore::time::now_secs(), is_stored: false };
        self.lock().insert(key, waiting);
    }

    pub(super) fn get(&self, rows: &Rows, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let waiting = self.lock().get(key).map(|waiting| waiting.message.clone());
        waiting.map_or_else(|| self.stored.get(rows, key), |message| Ok(Some(message)))
    }

    /// Removes messages that the log has.
    pub(super) async fn delete(&self, rows: &Rows, keys: impl Iterator<Item = Vec<u8>>) -> Result<()> {
        let mut changes = rows.changes();
        for key in keys {
            let waiting = self.lock().remove(&key);
            // One that is not waiting is of an engine before.
            if waiting.is_none_or(|waiting| waiting.is_stored) {
                self.stored.delete(&mut changes, &key)?;
            }
        }
        changes.commit().await
    }

    /// Adds the messages that wait to a change of the encryption state: call it before the change itself is added.
    pub(super) fn go_along(&self, changes: &mut Changes<'_>) -> Result<Along> {
        let mut along = Vec::new();
        for (key, waiting) in self.lock().iter().filter(|(_, waiting)| !waiting.is_stored) {
            self.stored.put(changes, key, &waiting.message)?;
            along.push(key.clone());
        }
        Ok(Along(along))
    }

    /// The change is on disk with these messages. Those that the log has by now are removed again.
    pub(super) async fn went_along(&self, rows: &Rows, along: Along) -> Result<()> {
        let mut changes = rows.changes();
        for key in along.0 {
            match self.lock().get_mut(&key) {
                Some(waiting) => waiting.is_stored = true,
                None => self.stored.delete(&mut changes, &key)?,
            }
        }
        changes.commit().await
    }

    /// Deletes the messages that were taken before the cutoff (Unix seconds); returns how many.
    pub(super) async fn sweep(&self, rows: &Rows, cutoff: i64) -> Result<u32> {
        let mut unstored = 0;
        self.lock().retain(|_, waiting| {
            let is_expired = waiting.since < cutoff;
            unstored += u32::from(is_expired && !waiting.is_stored);
            !is_expired
        });
        Ok(unstored + self.stored.sweep(rows, cutoff).await?)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
