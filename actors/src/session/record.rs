//! What the store keeps of a session beside its credentials and groups.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::group_cache::Person;
use crate::model::{Restriction, Session, SessionConfig, SessionId, SessionName, SessionStatus, Timestamp};
use crate::store::{Batch, SessionNumber, Store, StoreError, Table, Ticket};

/// One session's stored record, JSON in [`Table::Sessions`] under the session's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) id: SessionId,
    pub(crate) name: SessionName,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) status: SessionStatus,
    /// Comes back by itself after a restart of the daemon.
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
    /// All groups of this account were written down once: what differs from them later is news.
    #[serde(default)]
    pub(crate) groups_stored: bool,
    /// The account that it belongs to, also while none is linked (session/account.rs).
    #[serde(default)]
    pub(crate) account: Option<Person>,
    /// Counts the times it changed hands.
    #[serde(default)]
    pub(crate) account_epoch: u32,
}

/// How far the account is linked.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Link {
    /// No credentials that were ever used.
    None,
    /// A phone accepted; the session was not `ready` since.
    Linking,
    /// It was `ready` with these credentials.
    Linked,
}

/// The names of a store's sessions that hold credentials: those that a phone is linked to, or is being linked to. Blocks for
/// a scan.
///
/// # Errors
/// When the store cannot be read.
pub fn linked_sessions(store: &dyn Store) -> Result<Vec<SessionName>, StoreError> {
    let records = SessionRecord::load_all(store)?.into_iter().map(|(_, record)| record);
    Ok(records.filter(|record| record.link != Link::None && !record.deleting).map(|record| record.name).collect())
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
            groups_stored: false,
            account: None,
            account_epoch: 0,
        }
    }

    /// The account behind the session.
    pub(crate) fn me(&self) -> Person {
        Person { phone: self.phone, lid: self.lid }
    }

    /// Forgets the account: its credentials are gone.
    pub(crate) fn forget_account(&mut self) {
        self.link = Link::None;
        self.phone = None;
        self.lid = None;
        self.push_name = None;
        self.groups_stored = false;
    }

    /// The session as API callers see it.
    pub(crate) fn to_model(&self, engine_loaded: bool) -> Session {
        Session {
            id: self.id,
            name: self.name.clone(),
            status: self.status,
            phone: self.phone.map(|digits| digits.to_string()),
            push_name: self.push_name.clone(),
            connected_at: self.connected_at,
            last_active: self.last_active,
            created_at: self.created_at,
            updated_at: self.updated_at,
            last_error: self.last_error.clone(),
            restriction: self.restriction.clone(),
            engine_loaded,
            account_epoch: self.account_epoch,
        }
    }

    /// Writes the record.
    pub(crate) fn save(&self, store: &dyn Store, number: SessionNumber) -> Ticket {
        let mut batch = Batch::new();
        // Plain data without foreign maps: it always has a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_default();
        debug_assert!(!json.is_empty());
        batch.put(SessionNumber::DAEMON, Table::Sessions, key(number), json);
        store.commit(batch)
    }

    /// Removes a record.
    pub(crate) fn delete(store: &dyn Store, number: SessionNumber) -> Ticket {
        let mut batch = Batch::new();
        batch.delete(SessionNumber::DAEMON, Table::Sessions, key(number));
        store.commit(batch)
    }

    /// Reads one record.
    pub(crate) fn load(store: &dyn Store, number: SessionNumber) -> Result<Self, StoreError> {
        let json = store.get(SessionNumber::DAEMON, Table::Sessions, &key(number))?;
        let unreadable = || StoreError::Failed(format!("the record of session number {} cannot be read", number.0));
        serde_json::from_slice(&json.ok_or_else(unreadable)?).map_err(|_| unreadable())
    }

    /// Reads every record with its number, in order of the numbers.
    pub(crate) fn load_all(store: &dyn Store) -> Result<Vec<(SessionNumber, Self)>, StoreError> {
        let rows = store.scan_prefix(SessionNumber::DAEMON, Table::Sessions, b"")?;
        let read = |(key, json): (Vec<u8>, Vec<u8>)| {
            let unreadable = || StoreError::Failed("a session's record cannot be read".into());
            let number = SessionNumber(u32::from_be_bytes(key.try_into().map_err(|_| unreadable())?));
            Ok((number, serde_json::from_slice(&json).map_err(|_| unreadable())?))
        };
        rows.into_iter().map(read).collect()
    }
}

fn key(number: SessionNumber) -> [u8; 4] {
    number.0.to_be_bytes()
}
