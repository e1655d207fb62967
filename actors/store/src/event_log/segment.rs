//! One file of the event log: events of a day, or as many as fit. Knows how its rows are laid out; decides nothing.
//!
//! | table | key | value |
//! |---|---|---|
//! | `events` | session, number | the event, encrypted by the caller |
//! | `heads` | session | its first and last number here, bytes of its events, and the latest redo |
//! | `index` | session, tag, number | the caller's mark; missing in files that older versions made |
//! | `runs` | position of the first event | session, number of the first event, count |
//! | `facts` | name | a number: `day`, `position` (that of the first event to come when the file was made), `packed` |

use std::fmt::Display;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use super::super::guard;
use super::super::{SessionNumber, StoreError};
use super::reserve::{Reserve, database};
use super::{Append, IndexRow, Run};

const EVENTS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("events");
const INDEX: TableDefinition<'_, (u32, u64, u64), u8> = TableDefinition::new("index");
const HEADS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("heads");
const RUNS: TableDefinition<'_, u64, (u32, u64, u32)> = TableDefinition::new("runs");
const FACTS: TableDefinition<'_, &'static str, u64> = TableDefinition::new("facts");

/// redb's page cache of the segment that takes events: the upper pages of its trees.
const CACHE_BYTES_NEWEST: usize = 4 * 1024 * 1024;
/// The same of a closed segment. With 30 days of them, 8 MiB.
const CACHE_BYTES: usize = 256 * 1024;
/// Bytes of a head before its redo: three numbers.
const HEAD_BYTES: usize = 24;

/// What one segment knows of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of the first event in this segment.
    pub first: u64,
    /// The number of the last one; before [`Self::first`] where the segment has none, and those before it are gone.
    pub last: u64,
    /// Bytes of the events.
    pub bytes: u64,
    /// The redo of the latest append ([`Append::redo`](super::Append)).
    pub redo: Vec<u8>,
}

impl Head {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, redo) = bytes.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| Some(u64::from_be_bytes(numbers.get(at..at + 8)?.try_into().ok()?));
        Some(Self { first: number(0)?, last: number(8)?, bytes: number(16)?, redo: redo.to_vec() })
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = [self.first, self.last, self.bytes].map(u64::to_be_bytes);
        [numbers.as_flattened(), &self.redo].concat()
    }
}

/// What is the same for all of a segment's events.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Days since 1970 when the file was made.
    pub(super) day: u64,
    /// The position of the first event to come when the file was made.
    pub(super) position: u64,
    /// The file was rewritten since it was closed: its pages are full.
    pub(super) is_packed: bool,
}

impl Facts {
    fn named(self) -> [(&'static str, u64); 3] {
        let Self { day, position, is_packed } = self;
        [("day", day), ("position", position), ("packed", u64::from(is_packed))]
    }

    fn read(table: &impl ReadableTable<&'static str, u64>) -> Result<Option<Self>, redb::Error> {
        let fact = |name: &'static str| Ok::<_, redb::Error>(table.get(name)?.map(|value| value.value()));
        let (Some(day), Some(position)) = (fact("day")?, fact("position")?) else {
            return Ok(None);
        };
        Ok(Some(Self { day, position, is_packed: fact("packed")?.is_some_and(|packed| packed > 0) }))
    }
}

/// An open segment.
pub(super) struct Segment {
    /// Its place in the order of segments, and its file's name.
    pub(super) number: u32,
    pub(super) facts: Facts,
    /// `None`: in memory.
    path: Option<PathBuf>,
    database: Database,
}

impl Segment {
    /// The file of the segment with this number.
    pub(super) fn file(directory: &Path, number: u32) -> PathBuf {
        directory.join(format!("{number:08}.redb"))
    }

    /// Makes a segment, on disk when this returns. A kill in between leaves no half of one. `reserve`: where it takes events.
    pub(super) fn create(
        directory: Option<&Path>,
        number: u32,
        facts: Facts,
        reserve: Option<&Arc<Reserve>>,
    ) -> Result<Self, StoreError> {
        let Some(directory) = directory else { return Self::create_at(None, number, facts, None) };
        let unfinished = directory.join(UNFINISHED);
        remove_if_there(&unfinished)?;
        let segment = Self::create_at(Some(unfinished.clone()), number, facts, reserve)?;
        let path = Self::file(directory, number);
        std::fs::rename(&unfinished, &path).map_err(|error| failed(&error))?;
        sync_directory(directory)?;
        Ok(Self { path: Some(path), ..segment })
    }

    fn create_at(
        path: Option<PathBuf>,
        number: u32,
        facts: Facts,
        reserve: Option<&Arc<Reserve>>,
    ) -> Result<Self, StoreError> {
        let database = match &path {
            Some(path) => database(path, true, CACHE_BYTES_NEWEST, reserve),
            None => Database::builder().create_with_backend(InMemoryBackend::new()).map_err(redb::Error::from),
        };
        let segment = Self { number, facts, path, database: database.map_err(|error| failed(&error))? };
        let written = segment.write(|transaction| {
            let mut table = transaction.open_table(FACTS)?;
            for (name, value) in facts.named() {
                table.insert(name, value)?;
            }
            drop(table);
            // A read finds every table.
            drop((transaction.open_table(EVENTS)?, transaction.open_table(HEADS)?));
            drop((transaction.open_table(RUNS)?, transaction.open_table(INDEX)?));
            Ok(())
        });
        written.map(|()| segment)
    }

    /// A segment in a test's own storage, made if it is not there yet.
    #[cfg(test)]
    pub(super) fn on(backend: impl redb::StorageBackend, facts: Facts) -> Result<Self, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create_with_backend(backend).map_err(|error| failed(&error))?;
        let segment = Self { number: 1, facts, path: None, database };
        segment.append(std::iter::empty()).map(|_| segment)
    }

    /// Opens a segment's file. `reserve`: where it takes events.
    pub(super) fn open(directory: &Path, number: u32, reserve: Option<&Arc<Reserve>>) -> Result<Self, StoreError> {
        let path = Self::file(directory, number);
        let damaged = |reason: String| StoreError::DamagedLog { path: path.clone(), reason };
        let opened = guard::catch(|| -> Result<Option<Self>, redb::Error> {
            let cache_bytes = if reserve.is_some() { CACHE_BYTES_NEWEST } else { CACHE_BYTES };
            let database = database(&path, false, cache_bytes, reserve)?;
            let facts = Facts::read(&database.begin_read()?.open_table(FACTS)?)?;
            Ok(facts.map(|facts| Self { number, facts, path: Some(path.clone()), database }))
        });
        match opened.map_err(damaged)? {
            Ok(Some(segment)) => Ok(segment),
            Ok(None) => Err(damaged("it does not say what it is".to_owned())),
            Err(redb::Error::DatabaseAlreadyOpen) => Err(StoreError::InUse { path: directory.to_owned() }),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// On disk when this returns. Returns the position of the last event.
    pub(super) fn append<'a>(&self, appends: impl Iterator<Item = &'a Append>) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let mut events = transaction.open_table(EVENTS)?;
            let mut heads = transaction.open_table(HEADS)?;
            let mut runs = transaction.open_table(RUNS)?;
            let mut index = transaction.open_table(INDEX)?;
            let mut next = next_position(&runs, &self.facts)?;
            for Append { session, first, events: values, redo, index: rows, .. } in appends {
                for row in rows {
                    index.insert((session.0, row.tag, row.number), row.mark)?;
                }
                let before = heads.get(session.0)?.and_then(|head| Head::decode(head.value()));
                let mut head = before.unwrap_or(Head { first: *first, last: first - 1, bytes: 0, redo: Vec::new() });
                debug_assert!(*first > head.last, "O-1: a number is given once");
                if head.bytes == 0 {
                    head.first = *first;
                }
                for (number, value) in (*first..).zip(values) {
                    events.insert((session.0, number), value.as_slice())?;
                    head.bytes += value.len() as u64;
                    head.last = number;
                }
                head.redo.clone_from(redo);
                heads.insert(session.0, head.encode().as_slice())?;
                let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
                runs.insert(next, (session.0, *first, count))?;
                next += u64::from(count);
            }
            Ok(next - 1)
        })
    }

    /// Notes the last numbers of sessions that the segment knows nothing of.
    pub(super) fn carry(&self, heads: &[(SessionNumber, Head)]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(HEADS)?;
            for (session, head) in heads {
                if table.get(session.0)?.is_none() {
                    let head = Head { first: head.last + 1, bytes: 0, ..head.clone() };
                    table.insert(session.0, head.encode().as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// What the segment knows of a session; `None`: nothing.
    pub(super) fn head(&self, session: SessionNumber) -> Result<Option<Head>, StoreError> {
        self.look(|transaction| {
            let head = transaction.open_table(HEADS)?.get(session.0)?;
            Ok(head.and_then(|head| Head::decode(head.value())))
        })
    }

    /// The heads of all sessions in this segment.
    pub(super) fn heads(&self) -> Result<Vec<(SessionNumber, Head)>, StoreError> {
        self.look(|transaction| {
            let mut heads = Vec::new();
            for row in transaction.open_table(HEADS)?.iter()? {
                let (session, head) = row?;
                heads.extend(Head::decode(head.value()).map(|head| (SessionNumber(session.value()), head)));
            }
            Ok(heads)
        })
    }

    /// Adds a session's events with these numbers, until there are `count`. False: `bytes_left` are used up.
    pub(super) fn read(
        &self,
        session: SessionNumber,
        numbers: &RangeInclusive<u64>,
        count: usize,
        bytes_left: &mut usize,
        events: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<bool, StoreError> {
        self.look(|transaction| {
            let range = (session.0, *numbers.start())..=(session.0, *numbers.end());
            for row in transaction.open_table(EVENTS)?.range(range)? {
                if events.len() >= count {
                    break;
                }
                let (key, value) = row?;
                let bytes = value.value().len();
                if bytes > *bytes_left && !events.is_empty() {
                    return Ok(false);
                }
                *bytes_left = bytes_left.saturating_sub(bytes);
                events.push((key.value().1, value.value().to_vec()));
            }
            Ok(true)
        })
    }

    /// Bytes of each of a session's events in order, as long as `is_wanted` says so.
    pub(super) fn sizes(
        &self,
        session: SessionNumber,
        mut is_wanted: impl FnMut(u64, u64) -> bool,
    ) -> Result<(), StoreError> {
        self.look(|transaction| {
            for row in transaction.open_table(EVENTS)?.range((session.0, 0)..=(session.0, u64::MAX))? {
                let (key, value) = row?;
                if !is_wanted(key.value().1, value.value().len() as u64) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Adds a session's rows with this tag and numbers before `before`, the newest first, until there are `count`.
    pub(super) fn tagged(
        &self,
        session: SessionNumber,
        tag: u64,
        before: u64,
        count: usize,
        rows: &mut Vec<IndexRow>,
    ) -> Result<(), StoreError> {
        self.look(|transaction| {
            let Some(index) = index_of(transaction)? else { return Ok(()) };
            for row in index.range((session.0, tag, 0)..(session.0, tag, before))?.rev() {
                if rows.len() >= count {
                    break;
                }
                let (key, mark) = row?;
                rows.push(IndexRow { tag, number: key.value().2, mark: mark.value() });
            }
            Ok(())
        })
    }

    /// All rows of the index, in the order of sessions.
    pub(super) fn index(&self) -> Result<Vec<(SessionNumber, IndexRow)>, StoreError> {
        self.look(|transaction| {
            let mut rows = Vec::new();
            let Some(index) = index_of(transaction)? else { return Ok(rows) };
            for row in index.iter()? {
                let (key, mark) = row?;
                let ((session, tag, number), mark) = (key.value(), mark.value());
                rows.push((SessionNumber(session), IndexRow { tag, number, mark }));
            }
            Ok(rows)
        })
    }

    /// Adds rows to the index. On disk when this returns.
    pub(super) fn put_index(&self, rows: &[(SessionNumber, IndexRow)]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut index = transaction.open_table(INDEX)?;
            for (session, row) in rows {
                index.insert((session.0, row.tag, row.number), row.mark)?;
            }
            Ok(())
        })
    }

    /// Adds what was appended after this position, until there are `count` runs.
    pub(super) fn runs_after(&self, position: u64, count: usize, runs: &mut Vec<Run>) -> Result<(), StoreError> {
        self.look(|transaction| {
            let table = transaction.open_table(RUNS)?;
            let begun = table.range(..=position)?.next_back().transpose()?.map_or(0, |(begin, _)| begin.value());
            for row in table.range(begun..)? {
                if runs.len() >= count {
                    break;
                }
                let (begin, run) = row?;
                let (begin, (session, first, count)) = (begin.value(), run.value());
                let seen = u32::try_from((position + 1).saturating_sub(begin)).unwrap_or(u32::MAX).min(count);
                if seen < count {
                    let (first, position) = (first + u64::from(seen), begin + u64::from(seen));
                    runs.push(Run { position, session: SessionNumber(session), first, count: count - seen });
                }
            }
            Ok(())
        })
    }

    /// The position of the next event.
    pub(super) fn next_position(&self) -> Result<u64, StoreError> {
        self.look(|transaction| next_position(&transaction.open_table(RUNS)?, &self.facts))
    }

    /// Bytes of the file on disk; 0 in memory.
    pub(super) fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let file = self.path.as_ref().and_then(|path| std::fs::metadata(path).ok());
        file.map_or(0, |file| file.blocks() * 512)
    }

    /// Rewrites the segment into full pages, without the events that `is_kept` leaves out, and returns what takes its place. Readers
    /// of this one go on with it.
    pub(super) fn rewrite(
        &self,
        directory: &Path,
        is_kept: impl Fn(SessionNumber, u64) -> bool,
    ) -> Result<Self, StoreError> {
        let next = directory.join(UNFINISHED_REWRITE);
        remove_if_there(&next)?;
        let rewritten =
            Self::create_at(Some(next.clone()), self.number, Facts { is_packed: true, ..self.facts }, None)?;
        self.copy_into(&rewritten, is_kept)?;
        drop(rewritten);
        std::fs::rename(&next, Self::file(directory, self.number)).map_err(|error| failed(&error))?;
        sync_directory(directory)?;
        Self::open(directory, self.number, None)
    }

    fn copy_into(&self, other: &Self, is_kept: impl Fn(SessionNumber, u64) -> bool) -> Result<(), StoreError> {
        self.look(|from| {
            let copied = other.write(|to| {
                let (mut events, mut heads, mut runs) =
                    (to.open_table(EVENTS)?, to.open_table(HEADS)?, to.open_table(RUNS)?);
                for row in from.open_table(HEADS)?.iter()? {
                    let (session, head) = row?;
                    let Some(mut head) = Head::decode(head.value()) else { continue };
                    let session = session.value();
                    (head.first, head.bytes) = (u64::MAX, 0);
                    for row in from.open_table(EVENTS)?.range((session, 0)..=(session, u64::MAX))? {
                        let (key, value) = row?;
                        let (_, number) = key.value();
                        if is_kept(SessionNumber(session), number) {
                            events.insert((session, number), value.value())?;
                            head.first = head.first.min(number);
                            head.bytes += value.value().len() as u64;
                        }
                    }
                    if head.bytes == 0 {
                        head.first = head.last + 1;
                    }
                    heads.insert(session, head.encode().as_slice())?;
                }
                let mut index = to.open_table(INDEX)?;
                if let Some(rows) = index_of(from)? {
                    for row in rows.iter()? {
                        let (key, mark) = row?;
                        let (session, _, number) = key.value();
                        if is_kept(SessionNumber(session), number) {
                            index.insert(key.value(), mark.value())?;
                        }
                    }
                }
                // All of them: a reader of the whole log learns from a run without events that some are gone.
                for row in from.open_table(RUNS)?.iter()? {
                    let (position, run) = row?;
                    runs.insert(position.value(), run.value())?;
                }
                Ok(())
            });
            Ok(copied)
        })?
    }

    /// Whether the segment has any event left.
    pub(super) fn has_events(&self) -> Result<bool, StoreError> {
        Ok(self.heads()?.iter().any(|(_, head)| head.bytes > 0))
    }

    /// Removes the segment's file.
    pub(super) fn remove(&self) -> Result<(), StoreError> {
        self.path.as_deref().map_or(Ok(()), remove_if_there)
    }

    fn look<T>(&self, with: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let read = guard::catch(|| with(&self.database.begin_read()?));
        read.map_err(|place| self.damaged(place))?.map_err(|error| self.damaged(error.to_string()))
    }

    /// One transaction; on disk when this returns. The commit is of one phase: a file that was not closed is read whole
    /// when it is opened, which its size allows. The other kind writes half as much again for each commit.
    fn write<T>(&self, with: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let written = || -> Result<T, redb::Error> {
            let transaction = self.database.begin_write()?;
            let done = with(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        written().map_err(|error| failed(&error))
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::DamagedLog { path: self.path.clone().unwrap_or_default(), reason }
    }
}

/// A segment that is being made, and one that is being rewritten. A start removes both.
pub(super) const UNFINISHED: &str = "made.redb";
pub(super) const UNFINISHED_REWRITE: &str = "rewritten.redb";

fn next_position(runs: &impl ReadableTable<u64, (u32, u64, u32)>, facts: &Facts) -> Result<u64, redb::Error> {
    let last = runs.last()?.map(|(position, run)| position.value() + u64::from(run.value().2));
    Ok(last.unwrap_or(facts.position).max(facts.position))
}

type IndexTable = ReadOnlyTable<(u32, u64, u64), u8>;

/// The index of a segment; `None`: an older version made the segment.
fn index_of(transaction: &ReadTransaction) -> Result<Option<IndexTable>, redb::Error> {
    match transaction.open_table(INDEX) {
        Ok(index) => Ok(Some(index)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&error)),
        _ => Ok(()),
    }
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| failed(&error))
}

pub(super) fn failed(error: &dyn Display) -> StoreError {
    StoreError::Failed(error.to_string())
}
