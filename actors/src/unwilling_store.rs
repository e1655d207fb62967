//! A store for tests that refuses, delays or holds something else than this version writes.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};

use rookery_store::{
    Batch, Change, EventLog, Health, Row, SessionNumber, Store, StoreError, Table, Ticket, layout, open_memory,
};
use tokio::sync::oneshot;

/// A store in memory that refuses some changes, and lets some reads wait.
pub(crate) struct Unwilling {
    pub(crate) rows: Arc<dyn Store>,
    refused: Mutex<fn(&Change) -> bool>,
    /// The event log beside it.
    pub(crate) log: Arc<EventLog>,
    /// The session whose reads of groups wait.
    held: Mutex<Option<SessionNumber>>,
    released: Condvar,
}

impl Unwilling {
    pub(crate) fn new() -> Arc<Self> {
        let (refused, held) = (Mutex::new(nothing as fn(&Change) -> bool), Mutex::new(None));
        Arc::new(Self { rows: open_memory(), log: EventLog::open_memory(), refused, held, released: Condvar::new() })
    }

    pub(crate) fn refuse(&self, refused: fn(&Change) -> bool) {
        *self.refused.lock().unwrap() = refused;
    }

    pub(crate) fn hold(&self, session: Option<SessionNumber>) {
        *self.held.lock().unwrap() = session;
        self.released.notify_all();
    }

    pub(crate) fn put(&self, session: SessionNumber, table: Table, key: &[u8], value: impl Into<Vec<u8>>) {
        let mut batch = Batch::new();
        batch.put(session, table, key, value);
        drop(self.rows.commit(batch));
    }

    pub(crate) fn record(&self, number: SessionNumber) -> serde_json::Value {
        let json = self.rows.get(number, Table::Sessions, layout::SESSION).unwrap();
        serde_json::from_slice(&json.unwrap()).unwrap()
    }

    pub(crate) fn put_record(&self, number: SessionNumber, json: impl Into<Vec<u8>>) {
        self.put(number, Table::Sessions, layout::SESSION, json);
    }
}

pub(crate) fn nothing(_: &Change) -> bool {
    false
}

impl Store for Unwilling {
    fn commit(&self, batch: Batch) -> Ticket {
        if !batch.changes().iter().any(|change| (self.refused.lock().unwrap())(change)) {
            return self.rows.commit(batch);
        }
        let (answer, ticket) = oneshot::channel();
        answer.send(Err(StoreError::LowSpace { free_bytes: 1, needed_bytes: 2 })).unwrap();
        Ticket::waiting(ticket)
    }

    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(session, table, key)
    }

    fn scan_prefix(&self, session: SessionNumber, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        let held = self.held.lock().unwrap();
        let held = self.released.wait_while(held, |held| table == Table::Groups && *held == Some(session)).unwrap();
        drop(held);
        self.rows.scan_prefix(session, table, prefix)
    }

    fn scan_all(&self, table: Table) -> Result<Vec<(SessionNumber, Row)>, StoreError> {
        self.rows.scan_all(table)
    }

    fn export(&self, to: &mut dyn Write) -> Result<(), StoreError> {
        self.rows.export(to)
    }

    fn import(&self, from: &mut dyn Read) -> Result<(), StoreError> {
        self.rows.import(from)
    }

    fn health(&self) -> Health {
        self.rows.health()
    }
}
