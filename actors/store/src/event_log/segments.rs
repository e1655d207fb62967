//! The segments of the log in order, and which of them takes events.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::warn;

use super::super::StoreError;
use super::reserve::Reserve;
use super::segment::{Facts, Segment, UNFINISHED, UNFINISHED_REWRITE, remove_if_there};

/// As long as the store waits for its own lock.
const FREE_WAIT_MAX: Duration = Duration::from_secs(2);
const FREE_RETRY: Duration = Duration::from_millis(20);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Days since 1970.
pub(super) fn day_of(now_ms: i64) -> u64 {
    u64::try_from(now_ms / DAY_MS).unwrap_or_default()
}

/// The segments.
pub(super) struct Segments {
    /// `None`: in memory.
    directory: Option<PathBuf>,
    /// For the segment that takes events.
    reserve: Arc<Reserve>,
    /// Oldest first. There always is one.
    open: RwLock<Vec<Arc<Segment>>>,
}

impl Segments {
    /// Opens the segments in this directory, or begins a new log in it.
    pub(super) fn open(directory: &Path, today: u64, bytes_max: u64) -> Result<Self, StoreError> {
        let io = |error: std::io::Error| StoreError::Io { path: directory.to_owned(), reason: error.to_string() };
        std::fs::create_dir_all(directory).map_err(io)?;
        std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(io)?;
        for unfinished in [UNFINISHED, UNFINISHED_REWRITE] {
            remove_if_there(&directory.join(unfinished))?;
        }
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".redb"));
            numbers.extend(name.and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        let until = Instant::now() + FREE_WAIT_MAX;
        let (mut open, reserve) = (Vec::with_capacity(numbers.len()), Arc::new(Reserve::new(Some(directory))));
        for number in &numbers {
            let reserve = Some(&reserve).filter(|_| Some(number) == numbers.last());
            open.push(Arc::new(open_when_free(directory, *number, reserve, until)?));
        }
        check_order(directory, &open)?;
        let segments = Self { directory: Some(directory.to_owned()), reserve, open: RwLock::new(open) };
        segments.newest_for(today, bytes_max)?;
        Ok(segments)
    }

    /// A log in memory.
    pub(super) fn memory(today: u64) -> Result<Self, StoreError> {
        let segments = Self { directory: None, reserve: Arc::new(Reserve::new(None)), open: RwLock::default() };
        segments.newest_for(today, u64::MAX)?;
        Ok(segments)
    }

    pub(super) fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// All segments, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The position of the latest event; 0: there never was one.
    pub(super) fn latest(&self) -> Result<u64, StoreError> {
        self.all().last().map_or(Ok(0), |segment| Ok(segment.next_position()? - 1))
    }

    /// The segment that takes events, a new one if need be, and whether it is new. A clock that goes back begins none.
    pub(super) fn newest_for(&self, today: u64, bytes_max: u64) -> Result<(Arc<Segment>, bool), StoreError> {
        let newest = self.all().pop();
        let (number, position) = match &newest {
            Some(segment) if segment.facts.day >= today && segment.disk_bytes() < bytes_max => {
                return Ok((segment.clone(), false));
            }
            Some(segment) => (segment.number + 1, segment.next_position()?),
            None => (1, 1),
        };
        let day = newest.map_or(today, |newest| newest.facts.day.max(today));
        let facts = Facts { day, position, is_packed: false };
        let segment = Arc::new(Segment::create(self.directory.as_deref(), number, facts, Some(&self.reserve))?);
        self.open.write().unwrap_or_else(PoisonError::into_inner).push(segment.clone());
        Ok((segment, true))
    }

    /// Takes a closed segment out, or puts a rewritten one in its place. Its file is the caller's.
    pub(super) fn replace(&self, number: u32, by: Option<Segment>) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = open.iter().position(|segment| segment.number == number) else { return };
        match by {
            Some(segment) => open[at] = Arc::new(segment),
            None => drop(open.remove(at)),
        }
    }
}

/// Each segment has to follow on the one before: a copy of one is none, and one that somebody removed is missed.
fn check_order(directory: &Path, segments: &[Arc<Segment>]) -> Result<(), StoreError> {
    for pair in segments.windows(2) {
        let (next, begin) = (pair[0].next_position()?, pair[1].facts.position);
        if begin < next {
            let path = Segment::file(directory, pair[1].number);
            return Err(StoreError::DamagedLog { path, reason: "it has events of the file before it".to_owned() });
        }
        if begin > next {
            warn!(
                after = pair[0].number,
                before = pair[1].number,
                events = begin - next,
                "files of the event log are missing"
            );
        }
    }
    Ok(())
}

/// A log that is being closed is free soon: tasks of the daemon that closes it may hold it for a moment longer.
fn open_when_free(
    directory: &Path,
    number: u32,
    reserve: Option<&Arc<Reserve>>,
    until: Instant,
) -> Result<Segment, StoreError> {
    loop {
        match Segment::open(directory, number, reserve) {
            Err(StoreError::InUse { .. }) if Instant::now() < until => std::thread::sleep(FREE_RETRY),
            opened => return opened,
        }
    }
}
