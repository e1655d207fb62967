//! One session's rows, with the store's errors as the engine's.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;
use wacore::store::error::{Result, StoreError as EngineError};

use rookery_store::{BATCH_OPERATIONS_MAX, Batch, Row, SessionNumber, Store, StoreError, Table, Ticket};

/// Reads at once; writes return when they are on disk. A *row* is one value, a *record* may be in parts.
pub(super) struct Rows {
    /// `None` once the engine is closed. Locked while a batch is handed to the store: after [`Rows::close`], none is on
    /// its way there.
    store: RwLock<Option<Arc<dyn Store>>>,
    session: SessionNumber,
}

impl Rows {
    pub(super) fn new(store: Arc<dyn Store>, session: SessionNumber) -> Self {
        Self { store: RwLock::new(Some(store)), session }
    }

    /// Lets go of the store: every later call fails, and the store has the batches of all earlier ones.
    pub(super) fn close(&self) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn store(&self) -> Result<Arc<dyn Store>> {
        open(&self.lock()).cloned()
    }

    fn lock(&self) -> RwLockReadGuard<'_, Option<Arc<dyn Store>>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands batches to the store.
    fn hand_over(&self, batches: impl Iterator<Item = Batch>) -> Result<Vec<Ticket>> {
        let lock = self.lock();
        let store = open(&lock)?;
        Ok(batches.map(|batch| store.commit(batch)).collect())
    }

    pub(super) fn session(&self) -> SessionNumber {
        self.session
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.store()?.get(self.session, table, key).map_err(engine_error)
    }

    pub(super) fn scan(&self, table: Table, prefix: &[u8]) -> Result<Vec<Row>> {
        self.store()?.scan_prefix(self.session, table, prefix).map_err(engine_error)
    }

    pub(super) fn get_record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        rookery_store::get_parts(&*self.store()?, self.session, table, key).map_err(engine_error)
    }

    pub(super) fn scan_records(&self, table: Table, prefix: &[u8]) -> Result<Vec<Row>> {
        rookery_store::scan_parts(&*self.store()?, self.session, table, prefix).map_err(engine_error)
    }

    pub(super) fn changes(&self) -> Changes<'_> {
        Changes { rows: self, batches: Vec::new() }
    }

    pub(super) async fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        let mut changes = self.changes();
        changes.put(table, key, value);
        changes.commit().await
    }

    pub(super) async fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        let mut changes = self.changes();
        changes.delete(table, key);
        changes.commit().await
    }

    pub(super) async fn put_record(&self, table: Table, key: &[u8], record: &[u8]) -> Result<()> {
        let mut changes = self.changes();
        changes.put_record(table, key, record)?;
        changes.commit().await
    }

    pub(super) async fn delete_record(&self, table: Table, key: &[u8]) -> Result<()> {
        let mut changes = self.changes();
        changes.delete_record(table, key)?;
        changes.commit().await
    }

    /// Returns when all earlier commits are on disk or have failed.
    pub(super) async fn settle(&self) -> Result<()> {
        self.store()?.commit(Batch::new()).await.map_err(engine_error)
    }
}

/// Changes on their way: units that stay whole, packed into as few batches as the cap allows.
pub(super) struct Changes<'a> {
    rows: &'a Rows,
    batches: Vec<Batch>,
}

impl Changes<'_> {
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let mut unit = Batch::new();
        unit.put(self.rows.session, table, key, value);
        self.add(unit);
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) {
        let mut unit = Batch::new();
        unit.delete(self.rows.session, table, key);
        self.add(unit);
    }

    pub(super) fn put_record(&mut self, table: Table, key: &[u8], record: &[u8]) -> Result<()> {
        let mut unit = Batch::new();
        rookery_store::put_parts(&*self.rows.store()?, &mut unit, self.rows.session, table, key, record)
            .map_err(engine_error)?;
        self.add(unit);
        Ok(())
    }

    pub(super) fn delete_record(&mut self, table: Table, key: &[u8]) -> Result<()> {
        let mut unit = Batch::new();
        rookery_store::delete_parts(&*self.rows.store()?, &mut unit, self.rows.session, table, key)
            .map_err(engine_error)?;
        self.add(unit);
        Ok(())
    }

    /// Adds changes that take effect together.
    pub(super) fn unit(&mut self, fill: impl FnOnce(&mut Batch, SessionNumber)) {
        let mut unit = Batch::new();
        fill(&mut unit, self.rows.session);
        self.add(unit);
    }

    fn add(&mut self, unit: Batch) {
        match self.batches.last_mut() {
            Some(last) if last.len() + unit.len() <= BATCH_OPERATIONS_MAX => last.append(unit),
            _ => self.batches.push(unit),
        }
    }

    /// Returns when all batches are decided: on disk, or the first reason why not. Does not wait without changes.
    pub(super) async fn commit(self) -> Result<()> {
        let tickets = self.rows.hand_over(self.batches.into_iter().filter(|batch| !batch.is_empty()))?;
        let mut outcome = Ok(());
        for ticket in tickets {
            outcome = outcome.and(ticket.await);
        }
        outcome.map_err(engine_error)
    }
}

/// The store of an engine that is not closed yet.
fn open(store: &Option<Arc<dyn Store>>) -> Result<&Arc<dyn Store>> {
    store.as_ref().ok_or_else(|| EngineError::Validation("the engine is closed".into()))
}

pub(super) fn engine_error(error: StoreError) -> EngineError {
    EngineError::Database(Box::new(error))
}

/// A stored value that cannot be parsed. The error names the table, never the content.
pub(super) fn unreadable(table: Table) -> EngineError {
    EngineError::Validation(format!("a record in table `{}` is unreadable", table.tree_name()))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| EngineError::Serialization(Box::new(error)))
}

/// serde's own message may quote the value, hence [`unreadable`].
pub(super) fn from_json<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| unreadable(table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_store::open_memory;

    /// K-1: a batch that reached the store after the wipe brought the device back.
    #[tokio::test]
    async fn nothing_reaches_the_store_once_it_is_let_go_of() {
        let store = open_memory();
        let rows = Rows::new(store.clone(), SessionNumber(1));
        let batches = std::iter::once_with(|| {
            assert!(rows.store.try_write().is_err(), "closing waits for batches that are being handed over");
            Batch::new()
        });
        assert_eq!(rows.hand_over(batches).unwrap().len(), 1);
        rows.close();
        assert!(rows.put(Table::Device, b"key", b"value").await.is_err());
        assert_eq!(store.scan_prefix(SessionNumber(1), Table::Device, b"").unwrap(), []);
    }
}
