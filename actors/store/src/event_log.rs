//! The event log: what happened in each session, numbered per session, encrypted with a key of the session's own, in
//! files beside the store. It knows rows, never what is in them.
//!
//! ```text
//! append --> committer (one thread): all that waits in one commit and one fsync --> tickets, `latest`
//! read   --> segments, oldest first; nobody waits for anybody
//! trimmer (one thread): drops old segments, packs closed ones, takes from sessions that are over their share
//! ```
//!
//! A segment is one redb file: it takes events for a day, or until it is large, and is closed then. A closed segment
//! changes no more, except that it is rewritten with fewer rows. So its file can go as a whole, which gives its room
//! back to the disk.

mod committer;
mod key;
mod reserve;
mod segment;
mod segments;
mod stream;
mod trimming;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::queue::{Queue, Queued};
use super::space::{SpaceUse, SpaceWatch};
use super::{Health, SessionNumber, StoreError, Ticket};
use committer::Committer;
pub use key::EventKey;
pub use segment::Head;
use segments::Segments;
use trimming::Trimmer;

/// Days that events are kept when nobody says otherwise.
pub const EVENTS_KEPT_DAYS_DEFAULT: u32 = 30;
/// Bytes on disk of all events when nobody says otherwise.
pub const EVENTS_BYTES_MAX_DEFAULT: u64 = 10 * 1024 * 1024 * 1024;
/// The least that the log may be limited to: some segments of the least size.
pub const EVENTS_BYTES_MAX_MIN: u64 = 64 * 1024 * 1024;
/// A segment takes at most this part of all bytes, so that trimming can take small steps...
const SEGMENTS_MIN: u64 = 16;
/// ... and at most this many bytes: after a kill, opening reads all of the newest segment, at some 1,000 MB/s.
const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of the events that one read returns, beyond its first: what a reader holds in memory.
pub const READ_BYTES_MAX: usize = 1024 * 1024;

/// What an append takes beside its events.
const APPEND_BYTES: usize = 128;
/// The same for each row of the index.
const INDEX_ROW_BYTES: usize = 32;

/// How to open the event log.
#[derive(Clone)]
pub struct EventLogOptions {
    /// Days that events are kept.
    pub kept_days: u32,
    /// Bytes on disk of all segments; what is over is taken from the sessions with the largest part.
    pub bytes_max: u64,
    /// Free space on the volume below which appends are refused with [`StoreError::LowSpace`], in bytes; half of it is
    /// enough for appends that go with a removal. 0 asks for none.
    pub free_space_min_bytes: u64,
    /// Numbers and positions are of this epoch: a log that begins anew, also from a backup, has a later one.
    pub epoch: u64,
    /// The time that ages are counted by, in Unix milliseconds. It should not follow a clock that jumps ahead: events
    /// would be dropped.
    pub now: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// Events of one session to be appended.
#[derive(Clone, Debug)]
pub struct Append {
    /// The session.
    pub session: SessionNumber,
    /// The number of the first event. Higher than every number before; numbers are the caller's.
    pub first: u64,
    /// The events, encrypted ([`EventKey::encrypt`]).
    pub events: Vec<Vec<u8>>,
    /// What the caller needs to bring its own state up to these events, encrypted. It replaces that of the append before.
    pub redo: Vec<u8>,
    /// What the events are found by.
    pub index: Vec<IndexRow>,
    /// How little space it is written with.
    pub space: SpaceUse,
}

/// One thing that an event is found by: a tag, which several events may have. Rows go with their events.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// The tag ([`EventKey::tag`]).
    pub tag: u64,
    /// The number of the event in its session.
    pub number: u64,
    /// What the caller wants to know of the event without reading it.
    pub mark: u8,
}

impl Queued for Append {
    /// As many as batches of the store, which follow.
    const WAITING_MAX: usize = 16_384;
    const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
    /// Bytes: some thousand usual events.
    const ROUND_COST_MAX: usize = 2 * 1024 * 1024;

    fn bytes(&self) -> usize {
        APPEND_BYTES
            + self.index.len() * INDEX_ROW_BYTES
            + self.redo.len()
            + self.events.iter().map(Vec::len).sum::<usize>()
    }

    fn cost(&self) -> usize {
        self.bytes()
    }
}

/// Events that were appended together, in the order of the whole log: positions follow each other without a gap. Some or all of them
/// may be gone since.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The position of the first one in the whole log.
    pub position: u64,
    /// The session.
    pub session: SessionNumber,
    /// The number of the first one in its session.
    pub first: u64,
    /// How many follow each other, by number and by position.
    pub count: u32,
}

/// What the log, its committer and its trimmer share.
struct Shared {
    segments: Segments,
    queue: Queue<Append>,
    space: SpaceWatch,
    options: EventLogOptions,
    /// The position of the latest event on disk; 0: there never was one.
    latest: watch::Sender<u64>,
    /// Why the log has failed: the first reason; sticky.
    failure: OnceLock<String>,
}

impl Shared {
    fn failed(&self) -> Option<StoreError> {
        self.failure.get().map(|reason| StoreError::Failed(format!("event log: {reason}")))
    }

    fn fail(&self, reason: String) {
        let _ = self.failure.set(reason);
    }
}

/// The open log. Dropping it writes what is queued and closes the files.
pub struct EventLog {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// `None` once the log is being closed.
    trimmer: Option<Arc<Trimmer>>,
}

impl EventLog {
    /// Opens the log in this directory, which is made when missing. Blocks: for some 0.3 s after a kill.
    ///
    /// # Errors
    /// [`StoreError::DamagedLog`], [`StoreError::NoRoomToOpen`] or [`StoreError::Io`]; each says what to do.
    pub fn open(path: &Path, options: EventLogOptions) -> Result<Self, StoreError> {
        super::space::check_opening(path.parent().unwrap_or(path), options.free_space_min_bytes)?;
        let today = segments::day_of((options.now)());
        let segments = Segments::open(path, today, options.segment_bytes_max())?;
        let space = SpaceWatch::new(path, options.free_space_min_bytes);
        Self::begin(segments, space, options)
    }

    /// A log that forgets everything when dropped: for tests.
    ///
    /// # Panics
    /// Without memory.
    #[must_use]
    #[expect(clippy::expect_used, reason = "only memory can be missing")]
    pub fn open_memory() -> Arc<Self> {
        let options = EventLogOptions::default();
        let segments = Segments::memory(segments::day_of((options.now)())).expect("memory");
        Arc::new(Self::begin(segments, SpaceWatch::new(Path::new("/"), 0), options).expect("memory"))
    }

    fn begin(segments: Segments, space: SpaceWatch, options: EventLogOptions) -> Result<Self, StoreError> {
        let latest = watch::Sender::new(segments.latest()?);
        let (queue, failure) = (Queue::default(), OnceLock::new());
        let shared = Arc::new(Shared { segments, queue, space, options, latest, failure });
        let trimmer = Arc::new(Trimmer::new(Arc::clone(&shared)));
        let (committing, trimming) = (Committer::new(Arc::clone(&shared), Arc::clone(&trimmer)), Arc::clone(&trimmer));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|error| StoreError::Failed(format!("no thread for the event log: {error}")))
        };
        let committer = spawn("event-committer", Box::new(move || committing.run()))?;
        let threads = vec![committer, spawn("event-trimmer", Box::new(move || trimming.run()))?];
        Ok(Self { shared, threads, trimmer: Some(trimmer) })
    }

    /// Queues the events and returns at once; never blocks. Appends take effect in the order of the calls. The ticket
    /// resolves when the events are on disk, or to why they are not.
    pub fn append(&self, append: Append) -> Ticket {
        match self.shared.failed() {
            Some(failed) => Ticket::decided(Err(failed)),
            None if append.events.is_empty() => Ticket::decided(Ok(())),
            None => self.shared.queue.push(append),
        }
    }

    /// The newest head of a session: the number of its latest event, and the redo beside it. `None`: it has no events. Blocks.
    ///
    /// # Errors
    /// [`StoreError::DamagedLog`] when the log cannot be read.
    pub fn head(&self, session: SessionNumber) -> Result<Option<Head>, StoreError> {
        let newest_first = self.shared.segments.all().into_iter().rev();
        newest_first.map(|segment| segment.head(session)).find_map(Result::transpose).transpose()
    }

    /// The number of a session's oldest event, or of the next one when all are gone; `None`: it never had any. Blocks.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn oldest(&self, session: SessionNumber) -> Result<Option<u64>, StoreError> {
        let mut oldest = None;
        for segment in self.shared.segments.all() {
            // A segment may have none of a session's events any more.
            oldest = segment.head(session)?.map(|head| (head.first, head.bytes > 0)).or(oldest);
            if oldest.is_some_and(|(_, has_events)| has_events) {
                break;
            }
        }
        Ok(oldest.map(|(first, _)| first))
    }

    /// Events of a session with these numbers, in order, as they were appended: at most `count`, and [`READ_BYTES_MAX`]
    /// beyond the first. Blocks.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn read(
        &self,
        session: SessionNumber,
        numbers: std::ops::RangeInclusive<u64>,
        count: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let (mut events, mut bytes_left) = (Vec::new(), READ_BYTES_MAX);
        let segments = self.shared.segments.all();
        // Most readers are near the end: the segments before the first number are not looked at.
        let mut begin = 0;
        for (at, segment) in segments.iter().enumerate().rev() {
            if segment.head(session)?.is_some_and(|head| head.first <= *numbers.start()) {
                begin = at;
                break;
            }
        }
        for segment in &segments[begin..] {
            if events.len() >= count || !segment.read(session, &numbers, count, &mut bytes_left, &mut events)? {
                break;
            }
        }
        Ok(events)
    }

    /// A session's events with this tag and numbers before `before`, the newest first: at most `count`. With `since`, a time in Unix
    /// milliseconds, those that were appended on an earlier day may be left out. Blocks.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn tagged(
        &self,
        session: SessionNumber,
        tag: u64,
        before: u64,
        count: usize,
        since: Option<i64>,
    ) -> Result<Vec<IndexRow>, StoreError> {
        let (mut rows, since) = (Vec::new(), since.map_or(0, segments::day_of));
        for segment in self.shared.segments.all().iter().rev() {
            segment.tagged(session, tag, before, count, &mut rows)?;
            // The segments before this one were closed when it was made.
            if rows.len() >= count || segment.facts.day < since {
                break;
            }
        }
        Ok(rows)
    }

    /// How many of a session's events have this tag, and a mark that is wanted. Reads all of their rows: some milliseconds for 100,000. Blocks.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn count_tagged(
        &self,
        session: SessionNumber,
        tag: u64,
        is_wanted: impl Fn(u8) -> bool,
    ) -> Result<usize, StoreError> {
        let each = self.shared.segments.all().into_iter().map(|segment| {
            let mut rows = Vec::new();
            segment.tagged(session, tag, u64::MAX, usize::MAX, &mut rows)?;
            Ok(rows.iter().filter(|row| is_wanted(row.mark)).count())
        });
        each.sum()
    }

    /// What was appended after this position, over all sessions, in order: at most `count` runs. The first one may begin
    /// in the middle of what was appended together. Blocks.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn runs_after(&self, position: u64, count: usize) -> Result<Vec<Run>, StoreError> {
        let mut runs = Vec::new();
        let segments = self.shared.segments.all();
        let begin = segments.iter().rposition(|segment| segment.facts.position <= position + 1).unwrap_or_default();
        for segment in &segments[begin..] {
            if runs.len() < count {
                segment.runs_after(position, count, &mut runs)?;
            }
        }
        Ok(runs)
    }

    /// The position of the oldest event in the log; `None`: there is none. Blocks.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn oldest_position(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.runs_after(0, 1)?.first().map(|run| run.position))
    }

    /// The position of the latest event on disk, and of each later one; 0: there never was one.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.shared.latest.subscribe()
    }

    /// The epoch that numbers and positions are of ([`EventLogOptions::epoch`]).
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.options.epoch
    }

    /// Bytes of all segments on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.shared.segments.all().iter().map(|segment| segment.disk_bytes()).sum()
    }

    /// Whether appends are accepted now. [`Health::Failed`] is for good: only a new process gets out of it.
    #[must_use]
    pub fn health(&self) -> Health {
        if let Some(reason) = self.shared.failure.get() {
            return Health::Failed(format!("event log: {reason}"));
        }
        match self.shared.space.check() {
            Err(StoreError::LowSpace { free_bytes, needed_bytes }) => Health::LowSpace {
                free_bytes,
                needed_bytes,
                has_room_for_removals: self.shared.space.check_for(SpaceUse::Removing).is_ok(),
            },
            _ => Health::Ok,
        }
    }

    /// Trims now what is due by age and size, as happens by itself every minute. Blocks.
    ///
    /// # Errors
    /// A segment could not be read or rewritten. Nothing is lost then; it is tried again.
    pub fn trim(&self) -> Result<(), StoreError> {
        self.trimmer.as_ref().map_or(Ok(()), |trimmer| trimmer.trim())
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(trimmer) = self.trimmer.take() {
            trimmer.stop();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl EventLogOptions {
    fn segment_bytes_max(&self) -> u64 {
        (self.bytes_max / SEGMENTS_MIN).min(SEGMENT_BYTES_MAX)
    }

    /// Above this the log is trimmed: what comes until then, and the segment that is being rewritten, have room as well.
    fn trimmed_above_bytes(&self) -> u64 {
        self.bytes_max - 4 * self.segment_bytes_max()
    }
}

impl Default for EventLogOptions {
    fn default() -> Self {
        let now = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        Self {
            kept_days: EVENTS_KEPT_DAYS_DEFAULT,
            bytes_max: EVENTS_BYTES_MAX_DEFAULT,
            free_space_min_bytes: super::FREE_SPACE_MIN_BYTES_DEFAULT,
            epoch: 1,
            now: Arc::new(now),
        }
    }
}

#[cfg(test)]
mod power_cuts;
#[cfg(test)]
mod tests;
