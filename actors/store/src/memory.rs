//! The store in memory. Same limits, order and errors as the one on disk; a commit takes effect within the call.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{PoisonError, RwLock};

use super::{Batch, Health, Row, SessionNumber, Store, StoreError, Table, Ticket, stream};

/// One ordered map per table would save nothing: the table leads the key.
type Rows = BTreeMap<(Table, SessionNumber, Vec<u8>), Vec<u8>>;

#[derive(Default)]
pub(super) struct MemoryStore {
    rows: RwLock<Rows>,
}

impl MemoryStore {
    fn read<T>(&self, look: impl FnOnce(&Rows) -> T) -> T {
        look(&self.rows.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> Ticket {
        if let Err(refused) = batch.check() {
            return Ticket::decided(Err(refused));
        }
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for change in batch.into_changes() {
            let row = (change.table, change.session, change.key);
            match change.value {
                Some(value) => rows.insert(row, value),
                None => rows.remove(&row),
            };
        }
        Ticket::decided(Ok(()))
    }

    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read(|rows| rows.get(&(table, session, key.to_vec())).cloned()))
    }

    fn scan_prefix(&self, session: SessionNumber, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        Ok(self.read(|rows| {
            rows.range((table, session, prefix.to_vec())..)
                .take_while(|((t, s, key), _)| *t == table && *s == session && key.starts_with(prefix))
                .map(|((_, _, key), value)| (key.clone(), value.clone()))
                .collect()
        }))
    }

    fn scan_all(&self, table: Table) -> Result<Vec<(SessionNumber, Row)>, StoreError> {
        Ok(self.read(|rows| {
            let rows = rows.iter().filter(|((t, ..), _)| *t == table);
            rows.map(|((_, session, key), value)| (*session, (key.clone(), value.clone()))).collect()
        }))
    }

    fn export(&self, to: &mut dyn Write) -> Result<(), StoreError> {
        let mut writer = stream::Writer::begin(to)?;
        self.read(|rows| {
            rows.iter().try_for_each(|((table, session, key), value)| writer.row(*table, *session, key, value))
        })?;
        writer.end()
    }

    fn import(&self, from: &mut dyn Read) -> Result<(), StoreError> {
        if self.read(|rows| !rows.is_empty()) {
            return Err(StoreError::NotEmpty);
        }
        stream::import(self, from)
    }

    fn health(&self) -> Health {
        Health::Ok
    }
}
