//! Reading a session's log: events that are on disk, in order, from a position of the reader's own.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use rookery_model::{Event, SessionId, Timestamp};
use rookery_store::{SessionNumber, Store, StoreError, Table, get_parts, layout, parts_in, scan_parts_each};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::EventRow;

/// The most events that an unreadable row can have had: their numbers are not given again.
const EVENTS_UNREADABLE: u64 = 10_000;
/// Parts of the largest row.
const EVENT_PARTS_MAX: u8 = 64;

/// Reads a session's events one after the other. A slow reader delays nobody, and holds no event in memory that it has
/// not asked for.
pub struct EventReader {
    /// A listener keeps no store open.
    store: Weak<dyn Store>,
    session: SessionId,
    number: SessionNumber,
    /// The number of the latest event that was returned.
    position: u64,
    /// The number of the first event in the next row to be read.
    next_row: u64,
    /// The number of the latest event on disk.
    latest: watch::Receiver<u64>,
    read: VecDeque<Event>,
}

/// Why the next event cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    /// So many events were removed before they were read; the next call goes on after them.
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
    /// A reader of the events that come after now.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        session: SessionId,
        number: SessionNumber,
        latest: watch::Receiver<u64>,
    ) -> Self {
        let position = *latest.borrow();
        let (store, next_row) = (Arc::downgrade(store), position + 1);
        Self { store, session, number, position, next_row, latest, read: VecDeque::new() }
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
            let next_row = self.next_row;
            let latest = *self.latest.wait_for(|latest| *latest >= next_row).await.map_err(|_| EventsError::Gone)?;
            let store = self.store.upgrade().ok_or(EventsError::Gone)?;
            let number = self.number;
            let read = spawn_blocking(move || row_from(&*store, number, next_row, latest)).await;
            let row = read.map_err(|_| EventsError::Gone)??;
            self.next_row = row.end;
            self.read = row.events.into();
            if self.read.is_empty() {
                // A published event was on disk: it was removed meanwhile, or is damaged.
                let missed = row.end - 1 - std::mem::replace(&mut self.position, row.end - 1);
                return Err(EventsError::Missed(missed));
            }
        }
        let Some(event) = self.read.front() else { return Err(EventsError::Gone) };
        let missed = event.number - self.position - 1;
        if missed > 0 {
            self.position = event.number - 1;
            return Err(EventsError::Missed(missed));
        }
        self.position = event.number;
        let event = self.read.pop_front().ok_or(EventsError::Gone)?;
        Ok(Event { session: self.session, ..event })
    }
}

/// A row that was read.
struct Row {
    /// An event that this version cannot read is left out.
    events: Vec<Event>,
    /// The number after the row's last event.
    end: u64,
}

impl Row {
    fn of(first: u64, json: &[u8]) -> Self {
        let values = values_of(json);
        let end = first + values.len() as u64;
        let event = |(number, value)| Some(Event { number, ..serde_json::from_value(value).ok()? });
        Self { events: (first..).zip(values).filter_map(event).collect(), end }
    }
}

/// The row that begins with this number, or else the next published row. Without one: no events, up to the latest
/// number.
fn row_from(store: &dyn Store, number: SessionNumber, first: u64, latest: u64) -> Result<Row, StoreError> {
    if let Ok(Some(json)) = get_parts(store, number, Table::Events, &layout::events(first)) {
        return Ok(Row::of(first, &json));
    }
    let rows = scan_parts_each(store, number, Table::Events, b"")?;
    let rows = rows.into_iter().filter_map(|(key, json)| Some((first_of(&key)?, json.ok()?)));
    let next = rows.into_iter().find(|(begin, _)| (first..=latest).contains(begin));
    Ok(next.map_or_else(|| Row { events: Vec::new(), end: latest + 1 }, |(begin, json)| Row::of(begin, &json)))
}

/// The rows of a session's events, and the number of the next event.
pub(crate) fn rows_of(store: &dyn Store, number: SessionNumber) -> Result<(Vec<EventRow>, u64), StoreError> {
    let written_at = Timestamp::now();
    let mut next = 1;
    let mut rows = Vec::new();
    let mut stored = scan_parts_each(store, number, Table::Events, b"")?.into_iter().peekable();
    while let Some((key, json)) = stored.next() {
        let Some(first) = first_of(&key) else { continue };
        // Numbers are without a gap: only the last row has to be read for them.
        if stored.peek().is_none() {
            next = first + json.as_ref().map_or(EVENTS_UNREADABLE, |json| (values_of(json).len() as u64).max(1));
        }
        let parts = json.map_or(u8::MAX, |json| u8::try_from(parts_in(json.len())).unwrap_or(u8::MAX));
        rows.push(EventRow { first, parts: parts.min(EVENT_PARTS_MAX), written_at });
    }
    Ok((rows, next))
}

fn first_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn values_of(row: &[u8]) -> Vec<serde_json::Value> {
    serde_json::from_slice(row).unwrap_or_default()
}
