//! Repeated refusals and replays: the first one becomes a record at once; those of the next minute become one record
//! with a count. No caller can use up the kinds that others need. Never does IO.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rookery_model::SessionId;
use tokio::time::Instant;
use uuid::Uuid;

use super::record::{AuditEvent, Outcome};

/// Repeats within this time of the first one are counted and not written.
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds per key, and of all callers without a key together: more than a faulty client has. Above this, the others of
/// the key are one kind.
const KINDS_PER_KEY_MAX: usize = 64;
/// While a key has fewer kinds than this, failures in different groups are different kinds.
const KINDS_WITH_GROUP_MAX: usize = 32;
/// Kinds in all: 64 keys with as many as they may have. Above this, a key without a kind is counted like callers
/// without a key.
const KINDS_MAX: usize = 4_096;
/// The action of events that are beyond these limits.
const OTHER_ACTION: &str = "audit_other";
/// The action of refusals that found no room in the queue.
const LOST_ACTION: &str = "audit_overflow";

/// Events of one kind are counted together. A kind leaves out the address of a caller without a key, and the session
/// and group of a refused call: a caller who makes those up would fill the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    action: Arc<str>,
    outcome: Outcome,
    code: Option<String>,
    ip_address: Option<IpAddr>,
    is_replay: bool,
    group: Option<(Option<SessionId>, String)>,
}

/// The kinds of one key, or of all callers without a key.
type OfKey = HashMap<Kind, Repeated>;

/// The events of one kind since the first of them was written.
pub(super) struct Repeated {
    since: Instant,
    /// The last event, with how many there were; `None` until there is a second one.
    last: Option<AuditEvent>,
}

/// All kinds of the last minute, by key.
#[derive(Default)]
pub(super) struct Repeats {
    by_key: HashMap<Option<Uuid>, OfKey>,
    /// The number of kinds of all keys.
    kinds: usize,
}

impl Repeats {
    /// Returns the entry when it has to be written now; otherwise counts it.
    pub(super) fn take(&mut self, entry: AuditEvent, now: Instant) -> Option<AuditEvent> {
        let mut entry = entry;
        let mut key = entry.api_key_id;
        let of_key = self.by_key.get(&key);
        let kinds = of_key.map_or(0, HashMap::len);
        let is_known = |kind: &Kind| of_key.is_some_and(|kinds| kinds.contains_key(kind));
        let mut kind = Kind::of(&entry, true);
        if kinds >= KINDS_WITH_GROUP_MAX && !is_known(&kind) {
            kind = Kind::of(&entry, false);
        }
        let is_known = is_known(&kind);
        if !is_known && (kinds >= KINDS_PER_KEY_MAX || self.kinds >= KINDS_MAX) {
            if kinds == 0 {
                (entry.api_key_id, entry.api_key_name, key) = (None, None, None);
            }
            entry.make_other();
            kind = Kind::of(&entry, false);
        }
        let kinds = self.by_key.entry(key).or_default();
        match kinds.get_mut(&kind) {
            None => {
                kinds.insert(kind, Repeated::since(now));
                self.kinds += 1;
                Some(entry)
            }
            Some(repeated) => {
                repeated.count(entry);
                None
            }
        }
    }

    /// The counted events of kinds whose minute is over; these kinds begin anew.
    pub(super) fn due(&mut self, now: Instant) -> Vec<AuditEvent> {
        let mut due = Vec::new();
        self.by_key.retain(|_, kinds| {
            kinds.retain(|_, repeated| {
                if !repeated.is_over(now) {
                    return true;
                }
                due.extend(repeated.last.take());
                false
            });
            !kinds.is_empty()
        });
        self.kinds = self.by_key.values().map(HashMap::len).sum();
        due
    }

    /// All counted events.
    pub(super) fn drain(&mut self) -> Vec<AuditEvent> {
        self.kinds = 0;
        self.by_key.drain().flat_map(|(_, kinds)| kinds.into_values()).filter_map(|repeated| repeated.last).collect()
    }
}

impl Repeated {
    /// The first event is being written.
    pub(super) const fn since(now: Instant) -> Self {
        Self { since: now, last: None }
    }

    pub(super) fn count(&mut self, entry: AuditEvent) {
        let count = self.last.as_ref().map_or(0, |last| last.count);
        self.last = Some(AuditEvent { count: count + entry.count, ..entry });
    }

    /// Whether the next event begins a new minute.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= WINDOW
    }

    /// The counted events as one.
    pub(super) fn last(self) -> Option<AuditEvent> {
        self.last
    }
}

impl Kind {
    fn of(entry: &AuditEvent, tells_groups_apart: bool) -> Self {
        let group = entry.group_id.clone().filter(|_| tells_groups_apart && entry.outcome == Outcome::Failed);
        Self {
            group: group.map(|group| (entry.session_id, group)),
            action: Arc::clone(&entry.action),
            outcome: entry.outcome,
            code: entry.code.clone(),
            ip_address: entry.ip_address.filter(|_| entry.api_key_id.is_some()),
            is_replay: entry.replayed,
        }
    }
}

impl AuditEvent {
    /// Clears all that distinguishes the event from others of the same key.
    fn make_other(&mut self) {
        self.action = OTHER_ACTION.into();
        (self.outcome, self.code, self.status_code) = (Outcome::Refused, None, 0);
        (self.session_id, self.group_id, self.target_id) = (None, None, None);
        (self.ip_address, self.replayed) = (None, false);
        self.results.clear();
    }
}

/// One record for refusals that found no room in the queue.
pub(super) fn lost(count: u64) -> AuditEvent {
    AuditEvent { count, ..AuditEvent::of(LOST_ACTION.into(), Outcome::Refused) }
}
