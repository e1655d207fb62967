//! Reading a session's log: events that are on disk, in order, from a position of the reader's own.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use rookery_model::Event;
use rookery_store::StoreError;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::SessionLog;

/// Events that a reader fetches at a time.
const READ_COUNT: usize = 256;

/// Reads a session's events one after the other. A slow reader delays nobody, and holds few events in memory that it has
/// not asked for.
pub struct EventReader {
    /// A listener keeps no log open.
    log: Weak<SessionLog>,
    /// The number of the latest event that was returned.
    position: u64,
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
    /// The log could not be read.
    #[error("the events cannot be read: {0}")]
    Store(#[from] StoreError),
}

impl SessionLog {
    /// Reads events after this number, as many as a reader may hold. An event that is gone, or that this version cannot
    /// read, is left out. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read_after(&self, after: u64, count: usize) -> Result<Vec<Event>, StoreError> {
        let Some(key) = self.key.load_full() else { return Ok(Vec::new()) };
        let first = after.saturating_add(1).max(key.first);
        let latest = self.latest();
        if first > latest {
            return Ok(Vec::new());
        }
        let rows = self.log.read(self.number, first..=latest, count)?.into_iter();
        let event = |(number, encrypted): (u64, Vec<u8>)| {
            let json = key.key.decrypt(self.number, number, &encrypted)?;
            Some(Event { session: self.session, number, ..serde_json::from_slice(&json).ok()? })
        };
        Ok(rows.filter_map(event).collect())
    }

    /// The number of the oldest event that can be read; the next number where there is none. Blocks.
    ///
    /// # Errors
    /// As [`Self::read_after`].
    pub(crate) fn oldest(&self) -> Result<u64, StoreError> {
        let next = self.latest() + 1;
        let Some(key) = self.key.load_full() else { return Ok(next) };
        Ok(self.log.oldest(self.number)?.map_or(next, |oldest| oldest.max(key.first)).min(next))
    }

    /// A reader of the events after this number.
    pub(crate) fn reader(self: &Arc<Self>, after: u64) -> EventReader {
        let latest = self.latest.subscribe();
        EventReader { log: Arc::downgrade(self), position: after, latest, read: VecDeque::new() }
    }
}

impl EventReader {
    /// The next event, as soon as there is one. Dropping this loses nothing.
    ///
    /// # Errors
    /// [`EventsError`].
    pub async fn next(&mut self) -> Result<Event, EventsError> {
        if self.read.is_empty() {
            let position = self.position;
            let latest = *self.latest.wait_for(|latest| *latest > position).await.map_err(|_| EventsError::Gone)?;
            let log = self.log.upgrade().ok_or(EventsError::Gone)?;
            let read = spawn_blocking(move || log.read_after(position, READ_COUNT)).await;
            self.read = read.map_err(|_| EventsError::Gone)??.into();
            if self.read.is_empty() {
                // A published event was on disk: it was removed meanwhile, or cannot be read.
                return Err(EventsError::Missed(latest - std::mem::replace(&mut self.position, latest)));
            }
        }
        let Some(event) = self.read.front() else { return Err(EventsError::Gone) };
        let missed = event.number - self.position - 1;
        if missed > 0 {
            self.position = event.number - 1;
            return Err(EventsError::Missed(missed));
        }
        self.position = event.number;
        self.read.pop_front().ok_or(EventsError::Gone)
    }
}
