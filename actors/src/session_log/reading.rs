//! Reading a session's log: events that are on disk, in order, from a position of the reader's own.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use rookery_model::{Event, Timestamp};
use rookery_store::{IndexRow, Run, StoreError};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::{LogKey, SessionLog};
use crate::error::CommandError;

/// Events that a reader fetches at a time.
const READ_COUNT: usize = 256;
/// Events that one page looks at: some 20 ms, whatever its filter leaves out.
const PAGE_SEEN_MAX: u64 = 10_000;

/// A session's events, for callers. Holds no session: after its deletion nothing can be read.
#[derive(Clone)]
pub struct SessionEvents(Weak<SessionLog>);

/// The numbers of the events that there are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EventSpan {
    /// The oldest one; one more than the latest where there is none.
    pub oldest: u64,
    /// The latest one; 0 before the first.
    pub latest: u64,
}

/// A page of a session's events.
#[derive(Debug)]
pub struct EventPage {
    /// Oldest first.
    pub events: Vec<Event>,
    /// The number of the latest event that was looked at.
    pub seen: u64,
    /// There are events behind that one.
    pub has_more: bool,
    /// The events up to this number are gone, or cannot be read: the page is empty, and behind them it goes on.
    pub gap: Option<u64>,
}

impl SessionLog {
    /// Reads events after this number, as many as a reader may hold. An event that is gone, or that this version cannot
    /// read, is left out. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read_after(&self, after: u64, count: usize) -> Result<Vec<Event>, StoreError> {
        let Some(key) = self.key.load_full() else { return Ok(Vec::new()) };
        let (mut first, latest) = (after.saturating_add(1).max(key.first), self.latest());
        while first <= latest {
            let rows = self.log()?.read(self.number, first..=latest, count)?;
            let Some((last, _)) = rows.last() else { break };
            first = last + 1;
            let events = self.decrypted(&key, rows);
            if !events.is_empty() {
                return Ok(events);
            }
        }
        Ok(Vec::new())
    }

    /// Reads events that follow each other in the whole log, and so are on disk. Leaves out as [`Self::read_after`] does. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read_run(&self, run: &Run) -> Result<Vec<Event>, StoreError> {
        let Some(key) = self.key.load_full() else { return Ok(Vec::new()) };
        let last = run.first + u64::from(run.count) - 1;
        let first = run.first.max(key.first);
        if first > last {
            return Ok(Vec::new());
        }
        let rows = self.log()?.read(self.number, first..=last, run.count as usize)?;
        Ok(self.decrypted(&key, rows))
    }

    /// The rows of this name in the index, with numbers before `before`, the newest first ([`EventLog::tagged`](rookery_store::EventLog::tagged)).
    /// Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn tagged(
        &self,
        name: &[&[u8]],
        before: u64,
        count: usize,
        since: Option<i64>,
    ) -> Result<Vec<IndexRow>, StoreError> {
        let Some(key) = self.key.load_full() else { return Ok(Vec::new()) };
        self.log()?.tagged(self.number, key.key.tag(name), before, count, since)
    }

    /// How many events have this name and a mark that is wanted. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn count_tagged(&self, name: &[&[u8]], is_wanted: impl Fn(u8) -> bool) -> Result<usize, StoreError> {
        let Some(key) = self.key.load_full() else { return Ok(0) };
        self.log()?.count_tagged(self.number, key.key.tag(name), is_wanted)
    }

    /// Reads the events with these numbers, in their order. Leaves out as [`Self::read_after`] does. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read_these(&self, numbers: &[u64]) -> Result<Vec<Event>, StoreError> {
        let Some(key) = self.key.load_full() else { return Ok(Vec::new()) };
        let (log, mut events) = (self.log()?, Vec::new());
        for number in numbers {
            events.extend(self.decrypted(&key, log.read(self.number, *number..=*number, 1)?));
        }
        Ok(events)
    }

    /// Reads one event with all that is kept of it. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read_whole(&self, number: u64) -> Result<Option<Event>, StoreError> {
        let Some(key) = self.key.load_full() else { return Ok(None) };
        let row = self.log()?.read(self.number, number..=number, 1)?.pop();
        Ok(row.and_then(|(number, encrypted)| self.decrypted_whole(&key, number, &encrypted)))
    }

    fn decrypted_whole(&self, key: &LogKey, number: u64, encrypted: &[u8]) -> Option<Event> {
        let json = key.key.decrypt(self.number, number, encrypted)?;
        Some(Event { session: self.session, number, ..serde_json::from_slice(&json).ok()? })
    }

    /// Leaves out what cannot be read, and of messages what is not shown: it may be larger than all the rest.
    fn decrypted(&self, key: &LogKey, rows: Vec<(u64, Vec<u8>)>) -> Vec<Event> {
        let (count, event) = (rows.len(), |(number, encrypted): (u64, Vec<u8>)| {
            let mut event = self.decrypted_whole(key, number, &encrypted)?;
            if let Some(note) = &mut event.message {
                note.protocol = None;
            }
            Some(event)
        });
        let events: Vec<Event> = rows.into_iter().filter_map(event).collect();
        if events.len() < count && !self.is_damage_logged.swap(true, Ordering::Relaxed) {
            warn!(session.id = %self.session, events = count - events.len(), "events cannot be read: their file is damaged, or another version wrote them");
        }
        events
    }

    /// The number of the oldest event that can be read; the next number where there is none. Blocks.
    ///
    /// # Errors
    /// As [`Self::read_after`].
    pub(crate) fn oldest(&self) -> Result<u64, StoreError> {
        let next = self.latest() + 1;
        let Some(key) = self.key.load_full() else { return Ok(next) };
        Ok(self.log()?.oldest(self.number)?.map_or(next, |oldest| oldest.max(key.first)).min(next))
    }
}

impl SessionEvents {
    pub(crate) fn new(log: &Arc<SessionLog>) -> Self {
        Self(Arc::downgrade(log))
    }

    pub(super) fn log(&self) -> Result<Arc<SessionLog>, StoreError> {
        self.0.upgrade().ok_or_else(|| StoreError::Failed("the session is gone".to_owned()))
    }

    /// The epoch of the events' numbers: they begin anew in each.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.log().and_then(|log| log.log()).map_or(0, |log| log.epoch())
    }

    /// The numbers of the events that there are.
    ///
    /// # Errors
    /// [`CommandError::Store`] when the log cannot be read.
    pub async fn span(&self) -> Result<EventSpan, CommandError> {
        let log = self.log()?;
        let latest = log.latest();
        let oldest = blocking(move || log.oldest()).await?;
        Ok(EventSpan { oldest: oldest.min(latest + 1), latest })
    }

    /// At most `count` of the events after this number, up to the first one that is gone. One page looks at a bounded number of events, so it
    /// may have fewer, or none, while there are more.
    ///
    /// # Errors
    /// As [`Self::span`].
    pub async fn page(
        &self,
        after: u64,
        count: usize,
        is_wanted: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Result<EventPage, CommandError> {
        let log = self.log()?;
        blocking(move || {
            let (mut page, latest) =
                (EventPage { events: Vec::new(), seen: after, has_more: false, gap: None }, log.latest());
            let seen_max = after.saturating_add(PAGE_SEEN_MAX).min(latest);
            'reading: while page.seen < seen_max && page.events.len() < count {
                let read = log.read_after(page.seen, READ_COUNT)?;
                if read.is_empty() && page.seen == after {
                    page.gap = Some(latest);
                }
                if read.is_empty() {
                    break;
                }
                for event in read {
                    if event.number != page.seen + 1 {
                        page.gap = (page.seen == after).then_some(event.number - 1);
                        break 'reading;
                    }
                    if page.events.len() == count {
                        break 'reading;
                    }
                    page.seen = event.number;
                    if is_wanted(&event) {
                        page.events.push(event);
                    }
                }
            }
            page.has_more = page.seen < latest;
            Ok(page)
        })
        .await
    }

    /// The number of the first event that was seen at this time or later; the next number where there is none. Takes the times to grow with the
    /// numbers: where the clock was set back, it is one of several.
    ///
    /// # Errors
    /// As [`Self::span`].
    pub async fn first_since(&self, time: Timestamp, span: EventSpan) -> Result<u64, CommandError> {
        let log = self.log()?;
        blocking(move || {
            let (mut low, mut high) = (span.oldest, span.latest + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                // What cannot be read counts as the next that can.
                let found = log.read_after(middle - 1, 1)?.into_iter().next();
                match found.filter(|event| event.number < high) {
                    Some(event) if event.seen_at < time => low = event.number + 1,
                    _ => high = middle,
                }
            }
            Ok(low)
        })
        .await
    }

    /// The number of the latest event on disk, and of each later one. Its sender goes with the session.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.log().map_or_else(|_| watch::channel(0).1, |log| log.latest.subscribe())
    }
}

/// Reads on a thread where nobody waits.
pub(crate) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, CommandError> {
    let cut_short = |_| StoreError::Failed("reading events was cut short".to_owned());
    spawn_blocking(read).await.map_err(cut_short).flatten().map_err(CommandError::Store)
}
