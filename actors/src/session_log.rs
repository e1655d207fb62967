//! A session's part of the event log: the key that its events are encrypted with, the number of the latest one on disk,
//! and the way in and out. Decides nothing.
//!
//! The store has two rows of it: the key, and the number up to which the store's state shows the events. What the state
//! lacks after a crash is in the log, beside the events ([`Redo`]).

mod messages;
mod reading;
mod redo;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use rookery_model::{Event, SessionId};
use rookery_store::{
    Append, BATCH_OPERATIONS_MAX, Batch, EventKey, EventLog, SessionNumber, SpaceUse, Store, StoreError, Table, Ticket,
    get_parts, layout,
};
use serde_json::Value;
use tokio::sync::watch;

use crate::message_events::index_of;
pub use messages::{KeptMessage, MessagePage, MessagesOf, Reaction, StoredMessage, Vote};
pub(crate) use reading::blocking;
pub use reading::{EventPage, EventSpan, SessionEvents};
pub(crate) use redo::{Redo, RedoGroup};

/// The most events that an unreadable row of the layout before can have had: their numbers are not given again.
const EVENTS_UNREADABLE: u64 = 10_000;

/// In place of an event that nobody may read. Its number is taken all the same.
const NO_EVENT: &[u8] = &[0];

/// A session's key, and the number of the first event that is encrypted with it. Events before are gone.
pub(crate) struct LogKey {
    key: EventKey,
    first: u64,
}

/// What is stored of a session's log, as its journal begins with it.
pub(crate) struct Stored {
    /// The number of the latest event.
    pub(crate) last: u64,
    /// What the store's state lacks of the latest events.
    pub(crate) redo: Option<Redo>,
}

/// A session's part of the event log.
pub(crate) struct SessionLog {
    /// Tasks that an engine left behind may hold the session's entry for a while. They keep no log open.
    log: Weak<EventLog>,
    session: SessionId,
    number: SessionNumber,
    /// `None` until it was read.
    key: ArcSwapOption<LogKey>,
    /// The number of the latest event on disk; 0 until it was read from the log.
    latest: watch::Sender<u64>,
    /// It was logged that events cannot be read: readers may meet them again and again.
    is_damage_logged: AtomicBool,
}

impl LogKey {
    /// A new key for the events from this number on.
    pub(crate) fn generate(first: u64) -> Result<Self, StoreError> {
        Ok(Self { key: EventKey::generate()?, first })
    }

    /// Puts the key in its row. The key of before is gone then, and what it encrypted.
    pub(crate) fn put(&self, batch: &mut Batch, number: SessionNumber) {
        let row = [&self.first.to_be_bytes(), self.key.reveal()].concat();
        batch.put(number, Table::Events, layout::EVENT_KEY, row);
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let (first, key) = row.split_first_chunk()?;
        Some(Self { key: EventKey::from_bytes(key)?, first: u64::from_be_bytes(*first) })
    }
}

/// The number of a session's latest event, as store and log have it before the sessions run. Blocks.
///
/// # Errors
/// The store or the log cannot be read.
pub fn last_event(store: &dyn Store, log: &EventLog, number: SessionNumber) -> Result<u64, StoreError> {
    let applied = applied(store, number)?;
    Ok(applied.max(log.head(number)?.map_or(0, |head| head.last)))
}

/// The number up to which the store's state shows the events.
fn applied(store: &dyn Store, number: SessionNumber) -> Result<u64, StoreError> {
    let row = store.get(number, Table::Events, layout::EVENTS_APPLIED)?;
    Ok(row.and_then(|row| Some(u64::from_be_bytes(row.try_into().ok()?))).unwrap_or_default())
}

/// Notes that the store's state shows all events up to this number.
pub(crate) fn put_applied(batch: &mut Batch, number: SessionNumber, last: u64) {
    batch.put(number, Table::Events, layout::EVENTS_APPLIED, last.to_be_bytes());
}

impl SessionLog {
    pub(crate) fn new(log: &Arc<EventLog>, session: SessionId, number: SessionNumber) -> Self {
        let log = Arc::downgrade(log);
        Self {
            log,
            session,
            number,
            key: ArcSwapOption::empty(),
            latest: watch::Sender::new(0),
            is_damage_logged: AtomicBool::new(false),
        }
    }

    fn log(&self) -> Result<Arc<EventLog>, StoreError> {
        self.log.upgrade().ok_or_else(|| StoreError::Failed("the event log is closed".to_owned()))
    }

    /// Takes another key: for a session that was just created, or whose account changed.
    pub(crate) fn set_key(&self, key: LogKey) {
        self.key.store(Some(Arc::new(key)));
    }

    /// Reads what is stored. A session without a key gets one. Blocks.
    ///
    /// # Errors
    /// The store or the log cannot be read, or a new key cannot be written.
    pub(crate) fn load(&self, store: &dyn Store) -> Result<Stored, StoreError> {
        let row = store.get(self.number, Table::Events, layout::EVENT_KEY)?;
        let applied = applied(store, self.number)?;
        let head = self.log()?.head(self.number)?;
        let key = row.as_deref().and_then(LogKey::decode);
        let last = applied.max(head.as_ref().map_or(0, |head| head.last));
        let (key, last) = match key {
            Some(key) => (key, last),
            None => self.begin(store, last)?,
        };
        let redo = head.filter(|head| head.last > applied && head.last >= key.first);
        let redo = redo.and_then(|head| Redo::read(&key.key, self.number, &head));
        self.set_key(key);
        self.publish(last);
        Ok(Stored { last, redo })
    }

    /// Gives the session a key, and removes the events that layout 4 had in the store: nobody but the daemon itself had
    /// read them. Their numbers are not given again.
    fn begin(&self, store: &dyn Store, mut last: u64) -> Result<(LogKey, u64), StoreError> {
        let mut batch = Batch::for_removal();
        for (row, _) in store.scan_prefix(self.number, Table::Events, b"")? {
            if let Some(first) = row.first_chunk().map(|first| u64::from_be_bytes(*first)) {
                let json = get_parts(store, self.number, Table::Events, &first.to_be_bytes());
                let events = json.ok().flatten().and_then(|json| serde_json::from_slice::<Vec<Value>>(&json).ok());
                last = last.max(first + events.map_or(EVENTS_UNREADABLE, |events| events.len().max(1) as u64) - 1);
            }
            if batch.len() < BATCH_OPERATIONS_MAX - 2 {
                batch.delete(self.number, Table::Events, row);
            }
        }
        let key = LogKey::generate(last + 1)?;
        key.put(&mut batch, self.number);
        put_applied(&mut batch, self.number, last);
        store.commit(batch).wait_blocking()?;
        Ok((key, last))
    }

    /// Queues events; the ticket resolves when they are on disk. They are numbered, one after the other.
    ///
    /// # Errors
    /// They could not be encrypted.
    pub(crate) fn append(&self, events: &[Event], redo: &Redo, space: SpaceUse) -> Result<Ticket, StoreError> {
        let Some(key) = self.key.load_full() else { return Err(StoreError::Failed("no key for events".to_owned())) };
        let first = events.first().map_or(0, |event| event.number);
        let last = events.last().map_or(0, |event| event.number);
        let encrypted = events.iter().map(|event| {
            if event.number < key.first {
                // Of the account before: nobody could read it.
                return Ok(NO_EVENT.to_vec());
            }
            let json = serde_json::to_vec(event).unwrap_or_default();
            key.key.encrypt(self.number, event.number, &json)
        });
        let index = events.iter().filter(|event| event.number >= key.first);
        let index = index.flat_map(|event| index_of(event, |name| key.key.tag(name))).collect();
        let events = encrypted.collect::<Result<_, _>>()?;
        let redo = redo.encrypt(&key.key, self.number, last)?;
        Ok(self.log()?.append(Append { session: self.number, first, events, redo, index, space }))
    }

    /// Whose log it is.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// Whether the session was read, so that its events can be.
    pub(crate) fn is_loaded(&self) -> bool {
        self.key.load().is_some()
    }

    /// Lets readers see the events up to this number: they are on disk.
    pub(crate) fn publish(&self, latest: u64) {
        self.latest.send_replace(latest);
    }

    /// The number of the latest event on disk.
    pub(crate) fn latest(&self) -> u64 {
        *self.latest.borrow()
    }
}
