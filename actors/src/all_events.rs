//! The events of all sessions in the order in which they came to disk, for callers who may see some of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use rookery_model::{Event, Session, SessionId};
use rookery_store::{EventLog, SessionNumber, StoreError};
use tokio::sync::watch;

use crate::directory::{Directory, SessionHandle};
use crate::error::CommandError;
use crate::session_log::{EventSpan, blocking};

/// Runs that are read at a time.
const RUNS_COUNT: usize = 512;
/// Runs that one page looks at: some 20 ms, whosever they are.
const PAGE_RUNS_MAX: usize = 20_000;
/// Events that one page decrypts.
const PAGE_EVENTS_MAX: usize = 10_000;

/// The events of all sessions.
#[derive(Clone)]
pub struct AllEvents {
    log: Weak<EventLog>,
    directory: Arc<Directory>,
}

/// A page of events of all sessions.
#[derive(Debug)]
pub struct AllEventsPage {
    /// In the order in which they came to disk, each with its position.
    pub events: Vec<(u64, Event)>,
    /// The position of the latest event that was looked at.
    pub seen: u64,
    /// There are events behind that one, of whatever session.
    pub has_more: bool,
    /// The next event that the caller may see is gone, or cannot be read: the page is empty.
    pub is_gap: bool,
}

/// A place in the whole log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// Behind the event with this position.
    pub position: u64,
    /// Events up to this position that are gone are passed over: the caller was told of them.
    pub told: u64,
}

/// What a page is made of, as far as it could be read.
struct Reading {
    page: AllEventsPage,
    /// This session is being read from the store: its events can be read later.
    waits_for: Option<Arc<SessionHandle>>,
}

impl AllEvents {
    pub(crate) fn new(log: Weak<EventLog>, directory: Arc<Directory>) -> Self {
        Self { log, directory }
    }

    fn log(&self) -> Result<Arc<EventLog>, StoreError> {
        self.log.upgrade().ok_or_else(|| StoreError::Failed("the event log is closed".to_owned()))
    }

    /// The epoch of the positions: they begin anew in each.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.log().map_or(0, |log| log.epoch())
    }

    /// The positions of the events that there are.
    ///
    /// # Errors
    /// [`CommandError::Store`] when the log cannot be read.
    pub async fn span(&self) -> Result<EventSpan, CommandError> {
        let log = self.log()?;
        blocking(move || {
            let latest = *log.latest().borrow();
            Ok(EventSpan { oldest: log.oldest_position()?.unwrap_or(latest + 1).min(latest + 1), latest })
        })
        .await
    }

    /// The position of the latest event, and of each later one. Its sender goes with the daemon.
    ///
    /// # Errors
    /// As [`Self::span`].
    pub fn latest(&self) -> Result<watch::Receiver<u64>, CommandError> {
        Ok(self.log()?.latest())
    }

    /// The sessions that have events after this position, each with the number of its latest one among them, and the position up to which
    /// that goes. Looks at a bounded number of events.
    ///
    /// # Errors
    /// As [`Self::span`].
    pub async fn sessions_after(&self, position: u64) -> Result<(HashMap<SessionId, u64>, u64), CommandError> {
        let (log, directory) = (self.log()?, Arc::clone(&self.directory));
        blocking(move || {
            let (mut latest, mut seen) = (HashMap::new(), position);
            for run in log.runs_after(position, RUNS_COUNT)? {
                let count = u64::from(run.count);
                seen = run.position + count - 1;
                if let Some(entry) = directory.by_number(run.session) {
                    latest.insert(entry.id, run.first + count - 1);
                }
            }
            Ok((latest, seen))
        })
        .await
    }

    /// At most `count` of the events after this place, up to the first one that is gone: of sessions that `sees` lets through, those
    /// that `is_wanted` does. One page looks at a bounded number of events, so it may have fewer, or none, while there are more. Waits
    /// for sessions that are being read from the store.
    ///
    /// # Errors
    /// As [`Self::span`].
    pub async fn page(
        &self,
        after: LogPlace,
        count: usize,
        sees: impl Fn(&Session) -> bool + Clone + Send + 'static,
        is_wanted: impl Fn(&Event) -> bool + Clone + Send + 'static,
    ) -> Result<AllEventsPage, CommandError> {
        let mut unreadable = HashSet::new();
        loop {
            let (log, directory, passed_over) = (self.log()?, Arc::clone(&self.directory), unreadable.clone());
            let (sees, is_wanted) = (sees.clone(), is_wanted.clone());
            let find = move |number: SessionNumber| {
                let entry = directory.by_number(number).filter(|entry| !passed_over.contains(&entry.id))?;
                sees(&entry.session.load()).then_some(entry)
            };
            let reading = blocking(move || read(&log, after, count, find, is_wanted)).await?;
            match reading.waits_for {
                Some(entry) if reading.page.events.is_empty() && reading.page.seen == after.position => {
                    if entry.actor().await.is_none() {
                        unreadable.insert(entry.id);
                    }
                }
                _ => return Ok(reading.page),
            }
        }
    }
}

fn read(
    log: &EventLog,
    after: LogPlace,
    count: usize,
    find: impl Fn(SessionNumber) -> Option<Arc<SessionHandle>>,
    is_wanted: impl Fn(&Event) -> bool,
) -> Result<Reading, StoreError> {
    let LogPlace { position, told } = after;
    let page = AllEventsPage { events: Vec::new(), seen: position, has_more: true, is_gap: false };
    let mut reading = Reading { page, waits_for: None };
    let page = &mut reading.page;
    let (mut runs_left, mut events_left) = (PAGE_RUNS_MAX, PAGE_EVENTS_MAX);
    while runs_left > 0 {
        let runs = log.runs_after(page.seen, RUNS_COUNT.min(runs_left))?;
        if runs.is_empty() {
            page.has_more = false;
            break;
        }
        for run in runs {
            runs_left -= 1;
            let end = run.position + u64::from(run.count) - 1;
            // Whoever's events were in a file that is missing.
            if run.position > (page.seen + 1).max(told + 1) {
                page.is_gap = page.seen == position;
                return Ok(reading);
            }
            let Some(entry) = find(run.session) else {
                page.seen = end;
                continue;
            };
            if !entry.log.is_loaded() {
                reading.waits_for = Some(entry);
                return Ok(reading);
            }
            let mut at = run.position;
            for event in entry.log.read_run(&run)? {
                if page.events.len() >= count || events_left == 0 {
                    return Ok(reading);
                }
                let of_event = run.position + (event.number - run.first);
                if of_event > at.max(told + 1) {
                    page.is_gap = page.seen == position;
                    return Ok(reading);
                }
                events_left -= 1;
                (page.seen, at) = (of_event, of_event + 1);
                if is_wanted(&event) {
                    page.events.push((of_event, event));
                }
            }
            if at <= end && at > run.position {
                // There was more than one read returns, or the rest is gone: the next look tells.
                break;
            }
            if at <= end && end > told {
                page.is_gap = page.seen == position;
                return Ok(reading);
            }
            page.seen = end;
        }
    }
    Ok(reading)
}

#[cfg(test)]
mod tests;
