//! The engine's storage on our store: all that one device has to keep, as rows of one session.
//!
//! A write returns only after its ticket (K-2), but for messages that wait for the event log (`pending_inbound.rs`). Never caches rows, never logs, knows no other session.
//!
//! These are atomic: a record with its parts, an app state key with the mark that it came last, a mapping with its
//! reverse, and the read-modify-writes, which run under a lock of their group. A batch of the traits is many such units,
//! independent of each other. A batch over the store's cap is split between units, and all of it is on disk on return.

mod app_sync;
mod device;
mod exclusive;
mod mappings;
mod pending_inbound;
mod pre_keys;
mod protocol;
mod rows;
mod secrets;
mod sender_key_devices;
mod signal;
#[cfg(test)]
mod tests;
mod timed;
mod tokens;

use std::sync::Arc;

use exclusive::Exclusive;
use pending_inbound::PendingInbound;
use rookery_store::{SessionNumber, Store, Table};
use rows::Rows;
use secrets::Expiry;
use timed::TimedRecords;

/// One session's rows as the engine's `Backend`. Never make two of one session at a time (K-1): the locks of the
/// read-modify-writes are in here.
///
/// The `Device` it loads has the default `device_props` and `client_profile`; the caller starting the engine sets them.
pub(crate) struct SessionBackend {
    rows: Rows,
    pre_keys: Exclusive,
    mappings: Exclusive,
    tokens: Exclusive,
    sender_key_devices: Exclusive,
    secrets: Exclusive,
    secrets_expiry: Expiry,
    sent_messages: TimedRecords,
    pending_inbound: PendingInbound,
}

impl SessionBackend {
    /// Reads and writes nothing yet.
    pub(crate) fn new(store: Arc<dyn Store>, session: SessionNumber) -> Self {
        Self {
            rows: Rows::new(store, session),
            pre_keys: Exclusive::default(),
            mappings: Exclusive::default(),
            tokens: Exclusive::default(),
            sender_key_devices: Exclusive::default(),
            secrets: Exclusive::default(),
            secrets_expiry: Expiry::default(),
            sent_messages: TimedRecords::new(Table::SentMessages),
            pending_inbound: PendingInbound::new(),
        }
    }

    /// Puts messages on disk that were decrypted and are not in the event log.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) async fn put_pending_on_disk(&self) -> wacore::store::error::Result<()> {
        self.pending_inbound.put_on_disk(&self.rows).await
    }

    /// Lets go of the store: later writes by tasks of a finished engine fail, so that the next engine of the device, or
    /// a wipe, is alone with its rows (K-1).
    pub(crate) fn close(&self) {
        self.rows.close();
    }
}
