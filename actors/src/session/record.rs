//! What the store keeps of a session beside its credentials and groups.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::error;
use uuid::Uuid;

use rookery_model::{
    ParticipantIds, Proxy, Restriction, Session, SessionConfig, SessionId, SessionName, SessionStatus, Timestamp,
};
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, Ticket, layout};

/// One session's stored record, JSON in [`Table::Sessions`] under [`layout::SESSION`]. In layout 1 the record was among
/// the daemon's rows, under the session's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) id: SessionId,
    pub(crate) name: SessionName,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) status: SessionStatus,
    /// The session starts by itself after a restart of the daemon.
    pub(crate) started: bool,
    pub(crate) link: Link,
    pub(crate) phone: Option<NonZeroU64>,
    pub(crate) lid: Option<NonZeroU64>,
    pub(crate) push_name: Option<String>,
    pub(crate) connected_at: Option<Timestamp>,
    pub(crate) last_active: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
    pub(crate) restriction: Option<Restriction>,
    /// Being deleted: a restart goes on with wiping it.
    pub(crate) deleting: bool,
    #[serde(default)]
    pub(crate) config: SessionConfig,
    /// Its credentials are to be wiped, and were not yet: a restart goes on with that.
    #[serde(default)]
    pub(crate) wiping: bool,
    /// All groups of this account were stored once: later differences from them are events.
    #[serde(default)]
    pub(crate) groups_stored: bool,
    /// The account that the session belongs to, also while none is linked (session/account.rs).
    #[serde(default)]
    pub(crate) account: Option<ParticipantIds>,
    /// Counts the changes of that account.
    #[serde(default)]
    pub(crate) account_epoch: u32,
    /// What the session's connections go through; in the store as a URL, with the credentials.
    #[serde(default)]
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// The number of the latest event when the record was written. A record in the log beside later events is newer.
    #[serde(default)]
    pub(crate) last_event: u64,
    /// Whether the account is shown as online while the session is connected.
    #[serde(default = "yes")]
    pub(crate) is_available: bool,
}

fn yes() -> bool {
    true
}

/// A record as it is found in the store.
pub(crate) enum StoredSession {
    /// As this version writes it.
    Readable(Box<SessionRecord>),
    /// Written by another version, or changed by somebody. The session's other rows may be intact.
    Unreadable(UnreadableRecord),
}

/// A session whose record cannot be read.
pub(crate) struct UnreadableRecord {
    /// The session's own id, or one made of its number, so that it is the same after the next start.
    pub(crate) id: SessionId,
    /// The session's own name, when known.
    name: Option<SessionName>,
    created_at: Timestamp,
    /// The record says that the session is being deleted.
    pub(crate) deleting: bool,
}

/// The first half of the id of a session whose own is not known: a UUID of a version that no other id has.
const UNREADABLE_ID: u64 = 0x7261_6462_6c65_8000;
/// Names tried for a session whose own is not known.
const NAMES_TRIED_MAX: u32 = 100;
const UNREADABLE: &str = "this version of Rookery cannot read what is stored of this session, and left it as it is: start the \
                          version that wrote it, restore a backup, or delete the session";

/// How far the account is linked.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Link {
    /// No credentials that were ever used.
    None,
    /// A phone accepted; the session was not `ready` since.
    Linking,
    /// The session was `ready` with these credentials.
    Linked,
}

/// The names of a store's sessions that hold credentials: those that a phone is linked to, or is being linked to. Blocks for
/// a scan.
///
/// # Errors
/// When the store cannot be read.
pub fn linked_sessions(store: &dyn Store) -> Result<Vec<SessionName>, StoreError> {
    let sessions = SessionRecord::load_all(store)?.into_iter();
    let linked = sessions.filter_map(|(number, session)| match session {
        StoredSession::Readable(record) => (record.link != Link::None && !record.deleting).then_some(record.name),
        // The session may be linked.
        StoredSession::Unreadable(record) => (!record.deleting).then(|| record.name_or(number, |_| false)).flatten(),
    });
    Ok(linked.collect())
}

impl SessionRecord {
    pub(crate) fn new(name: SessionName) -> Self {
        let now = Timestamp::now();
        Self {
            id: SessionId::random(),
            name,
            created_at: now,
            updated_at: now,
            status: SessionStatus::Created,
            started: false,
            link: Link::None,
            phone: None,
            lid: None,
            push_name: None,
            connected_at: None,
            last_active: None,
            last_error: None,
            restriction: None,
            deleting: false,
            config: SessionConfig::default(),
            wiping: false,
            groups_stored: false,
            account: None,
            account_epoch: 0,
            proxy: None,
            last_event: 0,
            is_available: true,
        }
    }

    /// The account behind the session.
    pub(crate) fn me(&self) -> ParticipantIds {
        ParticipantIds { phone: self.phone, lid: self.lid }
    }

    /// Forgets the account: its credentials are gone.
    pub(crate) fn forget_account(&mut self) {
        self.link = Link::None;
        self.phone = None;
        self.lid = None;
        self.push_name = None;
        self.groups_stored = false;
    }

    /// The session as API callers see it until its actor has it. A session that was started is `initializing`, whatever
    /// its status was when the daemon ended.
    pub(crate) fn while_loading(&self) -> Session {
        let session = self.to_model(false);
        match self.started {
            true => Session { status: SessionStatus::Initializing, last_error: None, ..session },
            false => session,
        }
    }

    /// The session as API callers see it.
    pub(crate) fn to_model(&self, engine_loaded: bool) -> Session {
        Session {
            id: self.id,
            name: self.name.clone(),
            status: self.status,
            phone: self.phone.map(|digits| digits.to_string()),
            bound_phone: self.account.and_then(|account| account.phone).map(|digits| digits.to_string()),
            push_name: self.push_name.clone(),
            connected_at: self.connected_at,
            last_active: self.last_active,
            created_at: self.created_at,
            updated_at: self.updated_at,
            last_error: self.last_error.clone(),
            restriction: self.restriction.clone(),
            linking: None,
            engine_loaded,
            account_epoch: self.account_epoch,
        }
    }

    /// Whether the record says that something of the session is to go, or that the session is stopped. Such a record is
    /// written with little space, too.
    pub(crate) fn is_removal(&self) -> bool {
        self.deleting || self.wiping || !self.started
    }

    /// Writes the record. The record of a session with an actor is written by its journal.
    pub(crate) fn save(&self, store: &dyn Store, number: SessionNumber) -> Ticket {
        store.commit(self.batch(number, self.is_removal()))
    }

    /// The record as a batch.
    pub(crate) fn batch(&self, number: SessionNumber, is_removal: bool) -> Batch {
        let mut batch = if is_removal { Batch::for_removal() } else { Batch::new() };
        // Plain data without foreign maps: it always has a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_default();
        debug_assert!(!json.is_empty());
        batch.put(number, Table::Sessions, layout::SESSION, json);
        batch
    }

    /// Reads one record.
    pub(crate) fn load(store: &dyn Store, number: SessionNumber) -> Result<StoredSession, StoreError> {
        let json = store.get(number, Table::Sessions, layout::SESSION)?;
        Ok(StoredSession::read(number, &json.unwrap_or_default()))
    }

    /// Reads every record with its number: those that can be read first, in order of the numbers.
    ///
    /// # Errors
    /// The store cannot be read. A record that cannot be read is one of the answers.
    pub(crate) fn load_all(store: &dyn Store) -> Result<Vec<(SessionNumber, StoredSession)>, StoreError> {
        let mut sessions = Vec::new();
        for (number, (key, json)) in store.scan_all(Table::Sessions)? {
            let Some(number) = number_of(number, &key) else {
                error!("a row among the sessions' records has no number and is left alone");
                continue;
            };
            sessions.push((number, StoredSession::read(number, &json)));
        }
        sessions.sort_by_key(|(_, session)| matches!(session, StoredSession::Unreadable(_)));
        Ok(sessions)
    }
}

impl StoredSession {
    /// Whether the record says that the session's deletion was begun.
    pub(crate) fn is_deleting(&self) -> bool {
        match self {
            Self::Readable(record) => record.deleting,
            Self::Unreadable(record) => record.deleting,
        }
    }

    fn read(number: SessionNumber, json: &[u8]) -> Self {
        match serde_json::from_slice(json) {
            Ok(record) => Self::Readable(Box::new(record)),
            Err(_) => Self::Unreadable(UnreadableRecord::read(number, json)),
        }
    }
}

impl UnreadableRecord {
    /// The session's own name, or one made of its number that no session has. `None`: all of these are taken.
    pub(crate) fn name_or(
        &self,
        number: SessionNumber,
        is_taken: impl Fn(&SessionName) -> bool,
    ) -> Option<SessionName> {
        let made = (1..=NAMES_TRIED_MAX).map(|nth| match nth {
            1 => format!("unreadable-{}", number.0),
            nth => format!("unreadable-{}-{nth}", number.0),
        });
        let mut names = self.name.iter().cloned().chain(made.filter_map(|name| name.parse().ok()));
        names.find(|name| !is_taken(name))
    }

    /// Reads what can be read of a record: its fields are looked at one by one.
    fn read(number: SessionNumber, json: &[u8]) -> Self {
        let fields: Value = serde_json::from_slice(json).unwrap_or_default();
        let (id, name, created_at) = (field(&fields, "id"), field(&fields, "name"), field(&fields, "created_at"));
        let id = id.unwrap_or_else(|| SessionId(Uuid::from_u64_pair(UNREADABLE_ID, u64::from(number.0))));
        let deleting = field(&fields, "deleting").unwrap_or_default();
        Self { id, name, created_at: created_at.unwrap_or_else(Timestamp::now), deleting }
    }

    /// The session as API callers see it. `name`: its own, or one that no other session has.
    pub(crate) fn to_model(&self, name: SessionName) -> Session {
        let record = SessionRecord { id: self.id, created_at: self.created_at, ..SessionRecord::new(name) };
        let last_error = Some(UNREADABLE.to_owned());
        Session { status: SessionStatus::Failed, last_error, ..record.to_model(false) }
    }
}

fn field<T: DeserializeOwned>(fields: &Value, name: &str) -> Option<T> {
    serde_json::from_value(fields.get(name)?.clone()).ok()
}

/// The session that this row of [`Table::Sessions`] belongs to; `None`: the row's key fits to none.
fn number_of(number: SessionNumber, key: &[u8]) -> Option<SessionNumber> {
    match number {
        SessionNumber::DAEMON => Some(SessionNumber(u32::from_be_bytes(key.try_into().ok()?))),
        number => (key == layout::SESSION).then_some(number),
    }
}

/// Moves the records that layout 1 had among the daemon's rows to the rows of their sessions. Blocks.
///
/// # Errors
/// Why the store could not be read or written; the next start goes on.
pub fn migrate_sessions(store: &dyn Store) -> Result<(), StoreError> {
    let rows = store.scan_prefix(SessionNumber::DAEMON, Table::Sessions, b"")?;
    for rows in rows.chunks(BATCH_OPERATIONS_MAX / 2) {
        let mut batch = Batch::new();
        for (key, json) in rows {
            let Some(number) = number_of(SessionNumber::DAEMON, key) else { continue };
            batch.delete(SessionNumber::DAEMON, Table::Sessions, key.as_slice());
            batch.put(number, Table::Sessions, layout::SESSION, json.as_slice());
        }
        store.commit(batch).wait_blocking()?;
    }
    Ok(())
}

/// The number of every session in the store. Blocks.
///
/// # Errors
/// Why the store could not be read.
pub fn session_numbers(store: &dyn Store) -> Result<HashMap<SessionId, SessionNumber>, StoreError> {
    let id = |session: StoredSession| match session {
        StoredSession::Readable(record) => record.id,
        StoredSession::Unreadable(record) => record.id,
    };
    Ok(SessionRecord::load_all(store)?.into_iter().map(|(number, session)| (id(session), number)).collect())
}
