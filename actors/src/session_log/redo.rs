//! What the store's state lacks of the latest events after a crash: it lies in the log beside them, and is written into
//! the store with the next batch.

use rookery_model::GroupId;
use rookery_store::{EventKey, Head, SessionNumber, StoreError};
use serde::{Deserialize, Serialize};

use crate::journal::GroupWrite;
use crate::session::record::SessionRecord;

/// The changes of state that go with the latest events.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Redo {
    /// The session's record, where it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<Box<SessionRecord>>,
    /// The groups that the events are about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<RedoGroup>,
}

/// How a group was to be written.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RedoGroup {
    pub(crate) id: GroupId,
    pub(crate) write: GroupWrite,
}

impl Redo {
    /// The redo of a head; `None`: it was encrypted with another key, or by another version.
    pub(super) fn read(key: &EventKey, number: SessionNumber, head: &Head) -> Option<Self> {
        let json = key.decrypt_redo(number, head.last, &head.redo)?;
        serde_json::from_slice(&json).ok()
    }

    pub(super) fn encrypt(&self, key: &EventKey, number: SessionNumber, last: u64) -> Result<Vec<u8>, StoreError> {
        key.encrypt_redo(number, last, &serde_json::to_vec(self).unwrap_or_default())
    }
}
