//! Whose share of the log a record belongs to, read from its JSON. Never does IO.

use rookery_model::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::record::Outcome;

/// The owner of a record.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Share {
    /// The daemon's own, and the commands'.
    Daemon,
    /// Callers without a known key: all of them have one share, whatever their addresses are.
    Nobody,
    /// A key's.
    Key(Uuid),
}

/// The fields of a record that decide about its removal.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Known {
    pub(super) created_at: Timestamp,
    outcome: Outcome,
    api_key_id: Option<Uuid>,
    ip_address: Option<IgnoredAny>,
}

impl Known {
    pub(super) fn share(&self) -> Share {
        match self.api_key_id {
            Some(key) => Share::Key(key),
            None if self.ip_address.is_some() || self.outcome == Outcome::Refused => Share::Nobody,
            None => Share::Daemon,
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Daemon => f.write_str("daemon"),
            Self::Nobody => f.write_str("none"),
            Self::Key(id) => id.fmt(f),
        }
    }
}
