//! Messages that were sent, also those that WhatsApp refused or did not answer: the first one of a key in a session becomes a record
//! at once; those of the next minute become one record with a count. Else a hub's messages would push its changes out of the log.
//! Never does IO.

use std::collections::HashMap;

use rookery_model::SessionId;
use tokio::time::Instant;
use uuid::Uuid;

use super::record::{AuditEvent, Outcome};
use super::repeats::Repeated;

/// The action of all of them, whatever kind of message it was.
pub(crate) const SEND_ACTION: &str = "messages_send";
/// Kinds in all, of half a kilobyte each: one minute of 10,000 busy sessions, several times over. Above this, each message of a further
/// kind has a record of its own.
const KINDS_MAX: usize = 65_536;

/// Messages of one kind are counted together.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    key: Option<Uuid>,
    session: Option<SessionId>,
    outcome: Outcome,
    code: Option<String>,
    is_replay: bool,
}

/// All kinds of the last minute.
#[derive(Default)]
pub(super) struct Sends(HashMap<Kind, Repeated>);

impl Sends {
    /// Returns the entry when it has to be written now; otherwise counts it.
    pub(super) fn take(&mut self, entry: AuditEvent, now: Instant) -> Option<AuditEvent> {
        let entry = AuditEvent { action: SEND_ACTION.into(), ..entry };
        let kind = Kind {
            key: entry.api_key_id,
            session: entry.session_id,
            outcome: entry.outcome,
            code: entry.code.clone(),
            is_replay: entry.replayed,
        };
        if let Some(repeated) = self.0.get_mut(&kind) {
            repeated.count(entry);
            return None;
        }
        if self.0.len() < KINDS_MAX {
            self.0.insert(kind, Repeated::since(now));
        }
        Some(entry)
    }

    /// The counted messages of kinds whose minute is over; these kinds begin anew.
    pub(super) fn due(&mut self, now: Instant) -> Vec<AuditEvent> {
        self.0.extract_if(|_, repeated| repeated.is_over(now)).filter_map(|(_, repeated)| repeated.last()).collect()
    }

    /// All counted messages.
    pub(super) fn drain(&mut self) -> Vec<AuditEvent> {
        self.0.drain().filter_map(|(_, repeated)| repeated.last()).collect()
    }
}
