//! Reading a session's log: events that are on disk, in order, from a position of the reader's own.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use rookery_model::{Event, SessionId};
use rookery_store::{SessionNumber, Store, StoreError, Table, scan_parts_each};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// Reads a session's events one after the other. A slow one delays nobody, and holds no event in memory that it has not asked for.
pub struct EventReader {
    /// Whoever listens keeps no store open.
    store: Weak<dyn Store>,
    session: SessionId,
    number: SessionNumber,
    /// The number of the latest event that was given.
    position: u64,
    /// The number of the latest event on disk.
    latest: watch::Receiver<u64>,
    read: VecDeque<Event>,
}

/// Why the next event cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    /// So many events were removed before they were read; the next call goes on behind them.
    #[error("{0} events were removed before they were read")]
    Missed(u64),
    /// The session was deleted, or the daemon ends.
    #[error("the session is gone")]
    Gone,
    /// The store could not be read.
    #[error("the events cannot be read: {0}")]
    Store(#[from] StoreError),
}

impl EventReader {
    /// Of what comes after now.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        session: SessionId,
        number: SessionNumber,
        latest: watch::Receiver<u64>,
    ) -> Self {
        let position = *latest.borrow();
        Self { store: Arc::downgrade(store), session, number, position, latest, read: VecDeque::new() }
    }

    /// Follows another one's latest event from the same position on.
    #[cfg(test)]
    pub(super) fn follow(&mut self, latest: watch::Receiver<u64>) {
        self.latest = latest;
    }

    /// The next event, as soon as there is one. Dropping this loses nothing.
    ///
    /// # Errors
    /// [`EventsError`].
    pub async fn next(&mut self) -> Result<Event, EventsError> {
        if self.read.is_empty() {
            let position = self.position;
            self.latest.wait_for(|latest| *latest > position).await.map_err(|_| EventsError::Gone)?;
            let store = self.store.upgrade().ok_or(EventsError::Gone)?;
            let (session, number) = (self.session, self.number);
            let read = spawn_blocking(move || events_after(&*store, session, number, position)).await;
            self.read = read.map_err(|_| EventsError::Gone)??.into();
        }
        let Some(event) = self.read.front() else {
            // What is told is on disk: it was removed meanwhile.
            let latest = *self.latest.borrow();
            let missed = latest - std::mem::replace(&mut self.position, latest);
            return Err(EventsError::Missed(missed));
        };
        let missed = event.number - self.position - 1;
        if missed > 0 {
            self.position = event.number - 1;
            return Err(EventsError::Missed(missed));
        }
        self.position = event.number;
        self.read.pop_front().ok_or(EventsError::Gone)
    }
}

/// The events behind this number, in order. An event that this version cannot read is left out.
fn events_after(
    store: &dyn Store,
    session: SessionId,
    number: SessionNumber,
    position: u64,
) -> Result<Vec<Event>, StoreError> {
    let rows = scan_parts_each(store, number, Table::Events, b"")?;
    let events = rows.into_iter().filter_map(|(key, row)| Some((first_of(&key)?, row.ok()?)));
    let events = events.flat_map(|(first, row)| (first..).zip(values_of(&row)));
    let event = |(number, value): (u64, serde_json::Value)| {
        let event: Event = serde_json::from_value(value).ok()?;
        Some(Event { session, number, ..event })
    };
    Ok(events.filter(|(number, _)| *number > position).filter_map(event).collect())
}

/// The numbers with which the rows of a session's events begin, and the number of the next event.
pub(crate) fn rows_of(store: &dyn Store, number: SessionNumber) -> Result<(Vec<u64>, u64), StoreError> {
    let rows = scan_parts_each(store, number, Table::Events, b"")?;
    let mut next = 1;
    let mut firsts = Vec::with_capacity(rows.len());
    for (key, row) in rows {
        let Some(first) = first_of(&key) else { continue };
        // One that cannot be read held one event at least.
        let count = row.map_or(1, |row| values_of(&row).len() as u64);
        next = next.max(first + count.max(1));
        firsts.push(first);
    }
    Ok((firsts, next))
}

fn first_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn values_of(row: &[u8]) -> Vec<serde_json::Value> {
    serde_json::from_slice(row).unwrap_or_default()
}
