//! One API key: its rights, its record in the store, and its use. Knows no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, RateLimiter};
use rookery_actors::RateLimit;
use rookery_model::{Event, EventKind, GroupId, Session, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::pepper::KeyHash;
use super::rate::{KeyRate, RateState};
use super::{AddressRange, KeyLimits, Refusal, Role};

/// Reads of events of one key at a time, of pages and streams alike: what its filters leave out costs time as well, and others
/// need the threads.
const EVENT_READS_MAX: usize = 2;

/// Messages of all sockets of one key in a second, and at once after a pause, as with OpenWA.
const SOCKET_MESSAGES: (u32, u32) = (60, 120);

/// The rights of a key, as its owner sets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyTerms {
    /// The key's name, as its owner chose it.
    pub(crate) name: String,
    /// The key's role.
    pub(crate) role: Role,
    /// The addresses from which the key may be used; any address when empty.
    pub(crate) allowed_ips: Vec<AddressRange>,
    /// The sessions that the key may see and touch; all when empty.
    pub(crate) allowed_sessions: Vec<SessionId>,
    /// The groups that the key may see and touch; `None`: all groups of its sessions.
    #[serde(default)]
    pub(crate) allowed_groups: Option<BTreeSet<GroupId>>,
    /// Whether a key that is limited to groups may make, join and leave some.
    #[serde(default)]
    pub(crate) allow_group_creation: bool,
    /// The account epochs of sessions (0 where one is left out) at the time when the key's groups were last set. In a
    /// session that changed hands since then, those groups belong to another account.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) account_epochs: BTreeMap<SessionId, u32>,
    /// When the key expires.
    pub(crate) expires_at: Option<Timestamp>,
}

/// New values of some terms; `None` leaves a term as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyChange {
    pub(crate) name: Option<String>,
    pub(crate) role: Option<Role>,
    pub(crate) allowed_ips: Option<Vec<AddressRange>>,
    pub(crate) allowed_sessions: Option<Vec<SessionId>>,
    pub(crate) allowed_groups: Option<Option<BTreeSet<GroupId>>>,
    pub(crate) allow_group_creation: Option<bool>,
    /// With a new scope: [`KeyTerms::account_epochs`].
    pub(crate) account_epochs: Option<BTreeMap<SessionId, u32>>,
    pub(crate) expires_at: Option<Option<Timestamp>>,
}

/// The record of a key in the store, without its use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// The key's public id.
    pub(crate) id: Uuid,
    /// The first characters of the key, for recognition.
    pub(crate) prefix: String,
    pub(super) keyed_hash: KeyHash,
    /// The secret before a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Previous>,
    /// The key's rights.
    #[serde(flatten)]
    pub(crate) terms: KeyTerms,
    /// False once the key was revoked.
    pub(crate) is_active: bool,
    /// The key is from the configuration, and is removed when it is no longer there.
    #[serde(default)]
    pub(crate) is_bootstrap: bool,
    /// When the key was made.
    pub(crate) created_at: Timestamp,
}

/// A secret that still works for a while.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub(super) struct Previous {
    pub(super) keyed_hash: KeyHash,
    pub(super) ends_at: Timestamp,
}

/// A key in memory.
#[derive(Debug)]
pub(crate) struct Key {
    record: KeyRecord,
    /// Shared by all versions of the key's record.
    live: Arc<Live>,
}

/// The counters of a key, without a lock.
#[derive(Debug)]
struct Live {
    usage_count: AtomicU64,
    /// Milliseconds since the epoch; 0 is never.
    last_used_ms: AtomicI64,
    usage_count_stored: AtomicU64,
    rate: Option<KeyRate>,
    in_flight: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    event_reads: Semaphore,
    socket_messages: DefaultDirectRateLimiter,
}

/// How often a key was accepted, and when last.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    #[serde(rename = "usage_count")]
    pub(crate) count: u64,
    pub(crate) last_used_at: Option<Timestamp>,
}

/// Why a request with a valid key is refused for now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Throttle {
    /// More requests than its rate allows.
    Rate {
        /// Seconds after which there is room.
        retry_after_s: u32,
    },
    /// As many of its requests as allowed are in flight.
    InFlight,
}

impl KeyTerms {
    /// The default for a new key: an operator without limits.
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            role: Role::Operator,
            allowed_ips: Vec::new(),
            allowed_sessions: Vec::new(),
            allowed_groups: None,
            allow_group_creation: false,
            account_epochs: BTreeMap::new(),
            expires_at: None,
        }
    }

    pub(crate) fn with(self, change: KeyChange) -> Self {
        Self {
            name: change.name.unwrap_or(self.name),
            role: change.role.unwrap_or(self.role),
            allowed_ips: change.allowed_ips.unwrap_or(self.allowed_ips),
            allowed_sessions: change.allowed_sessions.unwrap_or(self.allowed_sessions),
            allowed_groups: change.allowed_groups.unwrap_or(self.allowed_groups),
            allow_group_creation: change.allow_group_creation.unwrap_or(self.allow_group_creation),
            account_epochs: change.account_epochs.unwrap_or(self.account_epochs),
            expires_at: change.expires_at.unwrap_or(self.expires_at),
        }
    }

    fn is_scoped(&self) -> bool {
        !self.allowed_sessions.is_empty() || self.allowed_groups.is_some()
    }
}

impl KeyRecord {
    /// Whether the key may be used at all at this time.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        self.is_active && self.terms.expires_at.is_none_or(|end| now < end)
    }

    /// Whether the key can make and remove keys: it is an admin's, without a scope that it could widen.
    pub(super) fn can_manage_keys(&self, now: Timestamp) -> bool {
        self.terms.role == Role::Admin && !self.terms.is_scoped() && self.is_usable(now)
    }

    /// Whether the key can manage keys from anywhere and without an end: there must always be such a key.
    pub(super) fn is_lasting_admin(&self, now: Timestamp) -> bool {
        self.can_manage_keys(now) && self.terms.expires_at.is_none() && self.terms.allowed_ips.is_empty()
    }

    /// When the secret before the last rotation ends, while it still works.
    pub(crate) fn previous_ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.previous.map(|previous| previous.ends_at).filter(|end| now < *end)
    }
}

impl Key {
    pub(super) fn new(record: KeyRecord, usage: Usage, limits: &KeyLimits) -> Self {
        let (count, burst) = SOCKET_MESSAGES;
        let live = Live {
            usage_count: AtomicU64::new(usage.count),
            last_used_ms: AtomicI64::new(usage.last_used_at.map_or(0, |time| time.0)),
            usage_count_stored: AtomicU64::new(usage.count),
            rate: limits.rate.map(KeyRate::new),
            in_flight: Arc::new(Semaphore::new(limits.in_flight_max)),
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            event_reads: Semaphore::new(EVENT_READS_MAX),
            socket_messages: RateLimiter::direct(RateLimit::new(count, Duration::from_secs(1), burst).quota()),
        };
        Self { record, live: Arc::new(live) }
    }

    /// The same key with another record.
    pub(super) fn with(&self, record: KeyRecord) -> Self {
        Self { record, live: Arc::clone(&self.live) }
    }

    /// The key's public id.
    pub(crate) fn id(&self) -> Uuid {
        self.record.id
    }

    /// The key's role.
    pub(crate) fn role(&self) -> Role {
        self.record.terms.role
    }

    pub(crate) fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// The key's use up to now.
    pub(crate) fn usage(&self) -> Usage {
        let last_used_ms = self.live.last_used_ms.load(Ordering::Relaxed);
        Usage {
            count: self.live.usage_count.load(Ordering::Relaxed),
            last_used_at: (last_used_ms != 0).then_some(Timestamp(last_used_ms)),
        }
    }

    /// Whether the secret with this hash may be used at this time.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn usable(&self, hash: KeyHash, now: Timestamp) -> Result<(), Refusal> {
        if self.record.keyed_hash != hash && self.record.previous_ends_at(now).is_none() {
            return Err(Refusal::Invalid);
        }
        match (self.record.is_active, self.record.is_usable(now)) {
            (false, _) => Err(Refusal::Revoked),
            (true, false) => Err(Refusal::Expired),
            (true, true) => Ok(()),
        }
    }

    /// Whether the key may be used from this address; `None`: the address is unknown.
    pub(crate) fn allows_address(&self, address: Option<IpAddr>) -> bool {
        let ranges = &self.record.terms.allowed_ips;
        let is_within = |address| ranges.iter().any(|range| range.contains(address));
        ranges.is_empty() || address.is_some_and(is_within)
    }

    /// Whether the key may see and touch this session.
    pub(crate) fn allows_session(&self, session: SessionId) -> bool {
        let sessions = &self.record.terms.allowed_sessions;
        sessions.is_empty() || sessions.contains(&session)
    }

    /// Whether the key may see this session as it is now.
    pub(crate) fn sees(&self, session: &Session) -> bool {
        self.allows_session(session.id) && !self.is_of_account_before(session.id, session.account_epoch)
    }

    /// Whether the key may see and touch this group.
    pub(crate) fn allows_group(&self, group: &GroupId) -> bool {
        self.record.terms.allowed_groups.as_ref().is_none_or(|groups| groups.contains(group))
    }

    /// Whether the key may see this event of one of its sessions: of a key that is limited to groups, what happens in its
    /// groups, and the session's status; QRs as where they are asked for.
    pub(crate) fn sees_event(&self, event: &Event) -> bool {
        match &event.group {
            Some(group) => self.allows_group(group),
            None => self.may_see(event.kind),
        }
    }

    /// Whether the key may see events of this kind, of its sessions and groups.
    pub(crate) fn may_see(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Group(_) | EventKind::SessionStatus => true,
            EventKind::Qr => !self.is_limited_to_groups() && self.role() >= Role::Operator,
            _ => !self.is_limited_to_groups(),
        }
    }

    /// Whether the key can be used at this time.
    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        self.record.is_usable(now)
    }

    /// Whether the key is limited to sessions or groups.
    pub(crate) fn is_limited(&self) -> bool {
        self.record.terms.is_scoped()
    }

    /// Whether the key's scope is void in a session with this account epoch: its groups belong to an earlier account.
    pub(crate) fn is_of_account_before(&self, session: SessionId, account_epoch: u32) -> bool {
        let granted = self.record.terms.account_epochs.get(&session).copied().unwrap_or_default();
        self.is_limited_to_groups() && granted != account_epoch
    }

    /// Whether the key is limited to some sessions.
    pub(crate) fn is_limited_to_sessions(&self) -> bool {
        !self.record.terms.allowed_sessions.is_empty()
    }

    /// Whether the key can reach one session only.
    pub(crate) fn is_limited_to_one_session(&self) -> bool {
        self.record.terms.allowed_sessions.len() == 1
    }

    /// Whether the key is limited to some groups.
    pub(crate) fn is_limited_to_groups(&self) -> bool {
        self.record.terms.allowed_groups.is_some()
    }

    /// Whether the key may make, join and leave groups, as far as its scope goes.
    pub(crate) fn allows_group_creation(&self) -> bool {
        !self.is_limited_to_groups() || self.record.terms.allow_group_creation
    }

    /// Counts a request against the key's limits: the state of its rate limit, and the permit to hold while the request
    /// runs.
    pub(crate) fn admit(&self) -> (Option<RateState>, Result<OwnedSemaphorePermit, Throttle>) {
        let (state, taken) = match self.live.rate.as_ref().map(KeyRate::take) {
            None => (None, Ok(())),
            Some(Ok(state)) => (Some(state), Ok(())),
            Some(Err((state, retry_after_s))) => (Some(state), Err(Throttle::Rate { retry_after_s })),
        };
        let permit = || Arc::clone(&self.live.in_flight).try_acquire_owned().map_err(|_| Throttle::InFlight);
        (state, taken.and_then(|()| permit()))
    }

    /// A permit for a stream of events; `None`: the key has as many as it may.
    pub(crate) fn admit_stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.live.streams).try_acquire_owned().ok()
    }

    /// Counts a message of a socket of this key; whether it is within the limit.
    pub(crate) fn takes_message(&self) -> bool {
        self.live.socket_messages.check().is_ok()
    }

    /// Waits until the key may read events: reading and decrypting takes a thread, for 20 ms at most each time. `None` never
    /// comes.
    pub(crate) async fn read_events(&self) -> Option<SemaphorePermit<'_>> {
        self.live.event_reads.acquire().await.ok()
    }

    /// Whether the key, or its secret, ends without anybody doing anything.
    pub(crate) fn ends_by_itself(&self) -> bool {
        self.record.terms.expires_at.is_some() || self.record.previous.is_some()
    }

    pub(super) fn note_use(&self, now: Timestamp) {
        self.live.usage_count.fetch_add(1, Ordering::Relaxed);
        self.live.last_used_ms.store(now.0, Ordering::Relaxed);
    }

    /// Whether the key was used since its use was last written.
    pub(super) fn has_unwritten_use(&self) -> bool {
        self.live.usage_count.load(Ordering::Relaxed) != self.live.usage_count_stored.load(Ordering::Relaxed)
    }

    pub(super) fn note_written(&self, usage: Usage) {
        self.live.usage_count_stored.store(usage.count, Ordering::Relaxed);
    }
}
