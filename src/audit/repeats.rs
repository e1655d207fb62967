//! Refusals that repeat themselves: the first is a record at once, the others of the next minute are one with a count.
//! Never does IO.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::record::{Entry, Outcome};

/// Refusals within this time of the first are counted rather than written.
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds of refusals that are told apart at once; beyond it those of one action and code are one kind, wherever they come
/// from.
const KINDS_MAX: usize = 1_000;
/// The action of refusals that were too many to be looked at.
const LOST_ACTION: &str = "audit_overflow";

/// What makes two refusals the same. Not the session or group: whoever makes those up would fill the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    action: Arc<str>,
    code: Option<String>,
    api_key_id: Option<Uuid>,
    ip_address: Option<IpAddr>,
}

/// Refusals of one kind since the first of them was written.
struct Repeated {
    since: Instant,
    /// The last one, with how many there were; `None` until there is a second one.
    last: Option<Entry>,
}

/// All kinds of refusals of the last minute.
#[derive(Default)]
pub(super) struct Repeats(HashMap<Kind, Repeated>);

impl Repeats {
    /// Gives the refusal back when it is to be written now; else it is counted.
    pub(super) fn take(&mut self, entry: Entry, now: Instant) -> Option<Entry> {
        let mut entry = entry;
        let mut kind = Kind::of(&entry);
        if !self.0.contains_key(&kind) && self.0.len() >= KINDS_MAX {
            (entry.api_key_id, entry.api_key_name, entry.ip_address) = (None, None, None);
            (entry.session_id, entry.group_id) = (None, None);
            kind = Kind::of(&entry);
        }
        match self.0.get_mut(&kind) {
            None => {
                self.0.insert(kind, Repeated { since: now, last: None });
                Some(entry)
            }
            Some(repeated) => {
                let count = repeated.last.as_ref().map_or(0, |last| last.count);
                repeated.last = Some(Entry { count: count + entry.count, ..entry });
                None
            }
        }
    }

    /// What is to be written of kinds whose minute is over; they begin anew.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Entry> {
        let mut due = Vec::new();
        self.0.retain(|_, repeated| {
            if now.duration_since(repeated.since) < WINDOW {
                return true;
            }
            due.extend(repeated.last.take());
            false
        });
        due
    }

    /// All that was counted.
    pub(super) fn drain(&mut self) -> Vec<Entry> {
        self.0.drain().filter_map(|(_, repeated)| repeated.last).collect()
    }
}

impl Kind {
    fn of(entry: &Entry) -> Self {
        Self {
            action: Arc::clone(&entry.action),
            code: entry.code.clone(),
            api_key_id: entry.api_key_id,
            ip_address: entry.ip_address,
        }
    }
}

/// Refusals that nobody could look at, as one record.
pub(super) fn lost(count: u64) -> Entry {
    Entry { count, ..Entry::of(LOST_ACTION.into(), Outcome::Refused) }
}
