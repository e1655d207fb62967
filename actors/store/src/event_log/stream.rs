//! The export of the log: all events in the order of the log, as they were appended, and the days that they are kept by. The
//! reader checks how they fit together, not that they are unchanged: backups do that.
//!
//! Magic; then entries, each with a mark (1 byte): `1` a segment with its day (8); `2` a run with its session (4), the number of
//! its first event (8), how many there are (4), and each with its length (4); `3` what events of the segment before are found by: session (4),
//! how many rows (4), and each with tag (8), number (8) and mark (1); `0` the end, with the number of events (8).
//! Numbers are big-endian.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use super::super::queue::Queued as _;
use super::super::{SessionNumber, SpaceUse, SpaceWatch, StoreError};
use super::segment::{Facts, Segment, failed};
use super::{Append, EventLog, INDEX_ROW_BYTES, IndexRow, READ_BYTES_MAX};

const MAGIC: &[u8; 16] = b"rookery-events1\n";
const SEGMENT: u8 = 1;
const RUN: u8 = 2;
const INDEX: u8 = 3;
const END: u8 = 0;
/// Runs that are read at a time.
const RUNS_COUNT: usize = 1_024;
/// More than a run ever had.
const RUN_EVENTS_MAX: u32 = 100_000;
/// More than an event ever had.
const EVENT_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Rows of the index in one entry.
const INDEX_ROWS_MAX: usize = 65_536;
/// Bytes of the events that an import commits together.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

impl EventLog {
    /// Writes all events of this moment as one stream. What the caller needs to bring its own state up to them
    /// ([`Append::redo`]) is not in it. Nobody waits for it. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Stream`] when `to` fails, else as [`Self::read`].
    pub fn export(&self, to: &mut dyn Write) -> Result<(), StoreError> {
        let latest = *self.shared.latest.borrow();
        let mut events = 0_u64;
        put(to, MAGIC)?;
        for segment in self.shared.segments.all() {
            put(to, &[SEGMENT])?;
            put(to, &segment.facts.day.to_be_bytes())?;
            let (mut position, mut last_of) = (0, BTreeMap::new());
            loop {
                let mut runs = Vec::new();
                segment.runs_after(position, RUNS_COUNT, &mut runs)?;
                runs.retain(|run| run.position + u64::from(run.count) - 1 <= latest);
                let Some(last) = runs.last() else { break };
                position = last.position + u64::from(last.count) - 1;
                for run in runs {
                    let numbers = run.first..=run.first + u64::from(run.count) - 1;
                    let (mut values, mut bytes_left) = (Vec::new(), usize::MAX);
                    segment.read(run.session, &numbers, usize::MAX, &mut bytes_left, &mut values)?;
                    // A session that was over its share may have lost a part of the run meanwhile.
                    let (Some((first, _)), Some((last, _))) = (values.first(), values.last()) else { continue };
                    last_of.insert(run.session, *last);
                    put(to, &[RUN])?;
                    put(to, &run.session.0.to_be_bytes())?;
                    put(to, &first.to_be_bytes())?;
                    put(to, &u32::try_from(values.len()).unwrap_or(u32::MAX).to_be_bytes())?;
                    for (_, value) in &values {
                        put(to, &u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes())?;
                        put(to, value)?;
                    }
                    events += values.len() as u64;
                }
            }
            let mut rows = segment.index()?;
            rows.retain(|(session, row)| last_of.get(session).is_some_and(|last| row.number <= *last));
            put_index(to, &rows)?;
        }
        put(to, &[END])?;
        put(to, &events.to_be_bytes())
    }

    /// Reads a stream of [`Self::export`] into a new log in this directory, which must not exist. Of each
    /// session, only events up to the number that `last` gives are taken. Returns when all of it is on disk. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Stream`] when the stream is malformed or cut short, or why the log cannot be written.
    pub fn import(
        directory: &Path,
        from: &mut dyn Read,
        last: impl Fn(SessionNumber) -> u64,
    ) -> Result<(), StoreError> {
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let space = SpaceWatch::beside_store(directory);
        let mut importing =
            Importing { directory, space, segment: None, appends: Vec::new(), index: Vec::new(), bytes: 0 };
        read_stream(from, |entry| match entry {
            Entry::Segment(day) => importing.begin(day),
            Entry::Run(session, first, mut events) => {
                let kept = (last(session) + 1).saturating_sub(first);
                events.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
                importing.add(Append {
                    session,
                    first,
                    events,
                    redo: Vec::new(),
                    index: Vec::new(),
                    space: SpaceUse::Writing,
                })
            }
            Entry::Index(session, mut rows) => {
                rows.retain(|row| row.number <= last(session));
                importing.add_index(session, rows)
            }
        })?;
        importing.commit()
    }

    /// Reads a stream of [`Self::export`] to its end and keeps nothing; returns the number of events in it.
    ///
    /// # Errors
    /// [`StoreError::Stream`].
    pub fn check_export(from: &mut dyn Read) -> Result<u64, StoreError> {
        let mut count = 0;
        read_stream(from, |entry| {
            if let Entry::Run(_, _, events) = entry {
                count += events.len() as u64;
            }
            Ok(())
        })?;
        Ok(count)
    }
}

enum Entry {
    Segment(u64),
    Run(SessionNumber, u64, Vec<Vec<u8>>),
    Index(SessionNumber, Vec<IndexRow>),
}

/// A log that is being made of a stream.
struct Importing<'a> {
    directory: &'a Path,
    /// A store beside it may be in use.
    space: SpaceWatch,
    segment: Option<Segment>,
    appends: Vec<Append>,
    index: Vec<(SessionNumber, IndexRow)>,
    bytes: usize,
}

impl Importing<'_> {
    fn begin(&mut self, day: u64) -> Result<(), StoreError> {
        self.commit()?;
        let (number, position) = match &self.segment {
            Some(segment) => (segment.number + 1, segment.next_position()?),
            None => (1, 1),
        };
        let facts = Facts { day, position, is_packed: false };
        self.segment = Some(Segment::create(Some(self.directory), number, facts, None)?);
        Ok(())
    }

    fn add(&mut self, append: Append) -> Result<(), StoreError> {
        if append.events.is_empty() {
            return Ok(());
        }
        self.bytes += append.bytes();
        self.appends.push(append);
        if self.bytes < COMMIT_BYTES { Ok(()) } else { self.commit() }
    }

    fn add_index(&mut self, session: SessionNumber, rows: Vec<IndexRow>) -> Result<(), StoreError> {
        self.bytes += rows.len() * INDEX_ROW_BYTES;
        self.index.extend(rows.into_iter().map(|row| (session, row)));
        if self.bytes < COMMIT_BYTES { Ok(()) } else { self.commit() }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let Some(segment) = &self.segment else { return Ok(()) };
        self.space.check()?;
        if !self.appends.is_empty() {
            segment.append(self.appends.iter())?;
        }
        if !self.index.is_empty() {
            segment.put_index(&self.index)?;
        }
        (self.appends, self.index, self.bytes) = (Vec::new(), Vec::new(), 0);
        Ok(())
    }
}

fn read_stream(from: &mut dyn Read, mut with: impl FnMut(Entry) -> Result<(), StoreError>) -> Result<(), StoreError> {
    if take(from)? != *MAGIC {
        return Err(malformed());
    }
    let (mut events, mut has_segment) = (0_u64, false);
    loop {
        match take::<1>(from)? {
            [SEGMENT] => {
                has_segment = true;
                with(Entry::Segment(u64::from_be_bytes(take(from)?)))?;
            }
            [RUN] if has_segment => {
                let session = SessionNumber(u32::from_be_bytes(take(from)?));
                let (first, count) = (u64::from_be_bytes(take(from)?), u32::from_be_bytes(take(from)?));
                if count > RUN_EVENTS_MAX || first == 0 || first.checked_add(u64::from(count)).is_none() {
                    return Err(malformed());
                }
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(take_value(from)?);
                }
                events += u64::from(count);
                with(Entry::Run(session, first, values))?;
            }
            [INDEX] if has_segment => {
                let session = SessionNumber(u32::from_be_bytes(take(from)?));
                let count = u32::from_be_bytes(take(from)?) as usize;
                if count > INDEX_ROWS_MAX {
                    return Err(malformed());
                }
                let mut rows = Vec::new();
                for _ in 0..count {
                    let (tag, number) = (u64::from_be_bytes(take(from)?), u64::from_be_bytes(take(from)?));
                    let [mark] = take(from)?;
                    rows.push(IndexRow { tag, number, mark });
                }
                with(Entry::Index(session, rows))?;
            }
            [END] if u64::from_be_bytes(take(from)?) == events => return Ok(()),
            _ => return Err(malformed()),
        }
    }
}

/// Writes the rows of a segment's index, which are in the order of sessions.
fn put_index(to: &mut dyn Write, rows: &[(SessionNumber, IndexRow)]) -> Result<(), StoreError> {
    for of_session in rows.chunk_by(|one, other| one.0 == other.0) {
        for part in of_session.chunks(INDEX_ROWS_MAX) {
            put(to, &[INDEX])?;
            put(to, &part[0].0.0.to_be_bytes())?;
            put(to, &u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes())?;
            for (_, row) in part {
                put(to, &row.tag.to_be_bytes())?;
                put(to, &row.number.to_be_bytes())?;
                put(to, &[row.mark])?;
            }
        }
    }
    Ok(())
}

fn put(to: &mut dyn Write, bytes: &[u8]) -> Result<(), StoreError> {
    to.write_all(bytes).map_err(|error| StoreError::Stream(error.to_string()))
}

fn take<const N: usize>(from: &mut dyn Read) -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(|error| StoreError::Stream(error.to_string()))?;
    Ok(bytes)
}

/// Memory is taken as bytes arrive, not as the stream says.
fn take_value(from: &mut dyn Read) -> Result<Vec<u8>, StoreError> {
    let length = u32::from_be_bytes(take(from)?);
    if length > EVENT_BYTES_MAX {
        return Err(malformed());
    }
    let mut value = Vec::with_capacity((length as usize).min(READ_BYTES_MAX));
    from.take(u64::from(length)).read_to_end(&mut value).map_err(|error| StoreError::Stream(error.to_string()))?;
    if value.len() == length as usize { Ok(value) } else { Err(malformed()) }
}

fn malformed() -> StoreError {
    StoreError::Stream("the events in it are malformed".to_owned())
}
