//! The events of all sessions in the order in which they came to disk, for callers who may see some of them.

use std::sync::{Arc, Weak};

use rookery_model::{Event, Session};
use rookery_store::{EventLog, StoreError};
use tokio::sync::watch;

use crate::directory::Directory;
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

    /// At most `count` of the events after this position: of sessions that `sees` lets through, those that `is_wanted` does. One
    /// page looks at a bounded number of events, so it may have fewer, or none, while there are more.
    ///
    /// # Errors
    /// As [`Self::span`].
    pub async fn page(
        &self,
        after: u64,
        count: usize,
        sees: impl Fn(&Session) -> bool + Send + 'static,
        is_wanted: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Result<AllEventsPage, CommandError> {
        let (log, directory) = (self.log()?, Arc::clone(&self.directory));
        blocking(move || {
            let mut page = AllEventsPage { events: Vec::new(), seen: after, has_more: true };
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
                    let entry = directory.by_number(run.session).filter(|entry| sees(&entry.session.load()));
                    let Some(entry) = entry else {
                        page.seen = end;
                        continue;
                    };
                    let events = entry.log.read_run(&run)?;
                    let is_whole = events.last().is_none_or(|last| last.number + 1 == run.first + u64::from(run.count));
                    for event in events {
                        if page.events.len() >= count || events_left == 0 {
                            return Ok(page);
                        }
                        events_left -= 1;
                        page.seen = run.position + (event.number - run.first);
                        if is_wanted(&event) {
                            page.events.push((page.seen, event));
                        }
                    }
                    if !is_whole {
                        // The rest of the run is read next, or cannot be read.
                        break;
                    }
                    page.seen = end;
                }
            }
            Ok(page)
        })
        .await
    }
}
