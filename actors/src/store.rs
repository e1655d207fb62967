//! placeholder for the store that is being written: same API.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A session's number in the store; 0 is the daemon itself.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug, serde::Serialize, serde::Deserialize)]
pub struct SessionNumber(pub u32);
impl SessionNumber {
    /// The daemon itself.
    pub const DAEMON: Self = Self(0);
}
/// Tables.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Table {
    /// Layout version.
    Meta,
    /// API keys.
    Keys,
    /// Session records.
    Sessions,
    /// Group records.
    Groups,
}
/// Atomic batch.
#[derive(Default)]
pub struct Batch(Vec<(SessionNumber, Table, Vec<u8>, Option<Vec<u8>>)>);
impl Batch {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Put.
    pub fn put(&mut self, session: SessionNumber, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((session, table, key.into(), Some(value.into())));
    }
    /// Delete.
    pub fn delete(&mut self, session: SessionNumber, table: Table, key: impl Into<Vec<u8>>) {
        self.0.push((session, table, key.into(), None));
    }
}
/// Health.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Fine.
    Ok,
    /// Writes are refused.
    LowSpace {
        /// Free bytes.
        free_bytes: u64,
    },
    /// Sticky failure.
    Failed(String),
}
/// Error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// Low space.
    #[error("the disk is nearly full ({free_bytes} bytes left)")]
    LowSpace {
        /// Free bytes.
        free_bytes: u64,
    },
    /// Failed.
    #[error("the store failed: {0}")]
    Failed(String),
}
/// Ticket.
pub struct Ticket(Option<Result<(), StoreError>>);
impl Future for Ticket {
    type Output = Result<(), StoreError>;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.0.take().unwrap_or(Ok(())))
    }
}
/// The store.
pub trait Store: Send + Sync + 'static {
    /// Queues the batch.
    fn commit(&self, batch: Batch) -> Ticket;
    /// Reads.
    ///
    /// # Errors
    /// Store.
    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Scans.
    ///
    /// # Errors
    /// Store.
    fn scan_prefix(
        &self,
        session: SessionNumber,
        table: Table,
        prefix: &[u8],
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;
    /// Health.
    fn health(&self) -> Health;
}
struct Memory(std::sync::Mutex<std::collections::BTreeMap<(SessionNumber, u8, Vec<u8>), Vec<u8>>>);
impl Store for Memory {
    fn commit(&self, batch: Batch) -> Ticket {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (session, table, key, value) in batch.0 {
            let key = (session, table as u8, key);
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ticket(Some(Ok(())))
    }
    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&(session, table as u8, key.to_vec()))
            .cloned())
    }
    fn scan_prefix(
        &self,
        session: SessionNumber,
        table: Table,
        prefix: &[u8],
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(map
            .iter()
            .filter(|((s, t, k), _)| *s == session && *t == table as u8 && k.starts_with(prefix))
            .map(|((_, _, k), v)| (k.clone(), v.clone()))
            .collect())
    }
    fn health(&self) -> Health {
        Health::Ok
    }
}
/// In memory.
#[must_use]
pub fn open_memory() -> Arc<dyn Store> {
    Arc::new(Memory(std::sync::Mutex::default()))
}
/// Options.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {}
/// Opens.
///
/// # Errors
/// Store.
pub fn open(_path: &std::path::Path, _options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(open_memory())
}
