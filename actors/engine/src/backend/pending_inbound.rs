//! Messages that were decrypted and are not in the event log yet.
//!
//! A message cannot be decrypted twice. So when the encryption state that its decryption left is on disk, the message has to be there, too,
//! until the log has it. It is put on disk just before that state: most messages are in the log by then, and need no write of their own.
//! Between decryption and here is a moment, in which the state can be about to be written already. So that write waits a little while
//! messages come.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wacore::store::error::Result;

use super::rows::Rows;
use super::timed::TimedRecords;
use rookery_store::{KEY_BYTES_MAX, RECORD_BYTES_MAX, Table};

/// Bytes of a key and of a message that the store takes, with what is stored beside them.
const PENDING_KEY_BYTES_MAX: usize = KEY_BYTES_MAX - 16;
const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX - 1_024;
/// More than a message takes from its decryption to here. The engine decrypts nothing while it writes states, so this must be short.
const TAKEN_WITHIN: Duration = Duration::from_millis(1);
/// Messages come, as long as the latest one came less than this ago.
const COMING: Duration = Duration::from_secs(1);

/// The messages of one device.
pub(super) struct PendingInbound {
    /// By key: chat, sender, id.
    waiting: Mutex<HashMap<Vec<u8>, Waiting>>,
    stored: TimedRecords,
    /// When the latest message came.
    taken_at: Mutex<Option<Instant>>,
}

struct Waiting {
    message: Vec<u8>,
    /// Unix seconds.
    since: i64,
    /// The store takes it.
    is_storable: bool,
    /// It is on disk, too.
    is_stored: bool,
}

impl PendingInbound {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), stored: TimedRecords::new(Table::PendingInbound), taken_at: Mutex::default() }
    }

    /// Takes messages. They go on disk with the next change of the encryption state, unless they are gone by then.
    pub(super) fn put<'a>(&self, messages: impl Iterator<Item = (Vec<u8>, &'a [u8])>) {
        for (key, message) in messages {
            let since = wacore::time::now_secs();
            // What is too large for the store stays here alone: it must not keep the state of others from being written.
            let is_storable = key.len() <= PENDING_KEY_BYTES_MAX && message.len() <= MESSAGE_BYTES_MAX;
            self.lock().insert(key, Waiting { message: message.to_vec(), since, is_storable, is_stored: false });
        }
        *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Puts the messages that wait on disk.
    pub(super) async fn put_on_disk(&self, rows: &Rows) -> Result<()> {
        let (mut changes, mut along) = (rows.changes(), Vec::new());
        for (key, waiting) in self.lock().iter().filter(|(_, waiting)| waiting.is_storable && !waiting.is_stored) {
            self.stored.put(&mut changes, key, &waiting.message)?;
            along.push(key.clone());
        }
        changes.commit().await?;
        // Those that the log has by now are removed again.
        let mut changes = rows.changes();
        for key in along {
            match self.lock().get_mut(&key) {
                Some(waiting) => waiting.is_stored = true,
                None => self.stored.delete(&mut changes, &key)?,
            }
        }
        changes.commit().await
    }

    /// A change of the encryption state is about to be written: the messages go first.
    pub(super) async fn before_state(&self, rows: &Rows) -> Result<()> {
        let taken_at = *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner);
        if taken_at.is_some_and(|at| at.elapsed() < COMING) {
            tokio::time::sleep(TAKEN_WITHIN).await;
        }
        self.put_on_disk(rows).await
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
