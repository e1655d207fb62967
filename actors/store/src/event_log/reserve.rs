//! Room on the disk that the log holds for what has to be written when another process has filled the disk: what was begun while there was
//! room. It is a file of its own, which is removed when the room is needed, and made again when there is room.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Database, StorageBackend};
use rustix::fs::FallocateFlags;

/// Bytes of the file: four rounds of the committer.
const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// The room that is held.
#[derive(Debug)]
pub(super) struct Reserve {
    /// `None`: for a log in memory.
    path: Option<PathBuf>,
    is_held: AtomicBool,
    /// The volume cannot reserve room.
    is_impossible: AtomicBool,
}

impl Reserve {
    /// The reserve in this directory.
    pub(super) fn new(directory: Option<&Path>) -> Self {
        let path = directory.map(|directory| directory.join("reserve"));
        // That of the process before.
        let file = path.as_deref().and_then(|path| std::fs::metadata(path).ok());
        let is_held = file.is_some_and(|file| file.blocks() * 512 >= RESERVE_BYTES);
        Self { path, is_held: AtomicBool::new(is_held), is_impossible: AtomicBool::new(false) }
    }

    /// Takes the room, if it is there.
    pub(super) fn hold(&self) {
        let is_done = self.is_held.load(Ordering::Acquire) || self.is_impossible.load(Ordering::Relaxed);
        let Some(path) = self.path.as_deref().filter(|_| !is_done) else { return };
        match reserve(path) {
            Ok(()) => self.is_held.store(true, Ordering::Release),
            Err(error) => {
                self.is_impossible.store(!is_full(&error), Ordering::Relaxed);
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Gives the room back to the disk. False: it was not held.
    pub(super) fn release(&self) -> bool {
        let is_held = self.is_held.swap(false, Ordering::AcqRel);
        is_held && self.path.as_deref().is_some_and(|path| std::fs::remove_file(path).is_ok())
    }
}

fn reserve(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?)
}

/// Opens or makes a segment's file. `reserve`: where it takes events.
pub(super) fn database(
    path: &Path,
    is_new: bool,
    cache_bytes: usize,
    reserve: Option<&Arc<Reserve>>,
) -> Result<Database, redb::Error> {
    let file = OpenOptions::new().read(true).write(true).create(is_new).truncate(false).open(path)?;
    let (mut builder, file) = (Database::builder(), FileBackend::new(file)?);
    builder.set_cache_size(cache_bytes);
    Ok(match reserve {
        Some(reserve) => builder.create_with_backend(Reserved::new(file, reserve.clone()))?,
        None => builder.create_with_backend(file)?,
    })
}

/// A segment's file whose writes have the reserve where the disk is full: redb cannot go on after a write that failed.
#[derive(Debug)]
pub(super) struct Reserved<F> {
    file: F,
    reserve: Arc<Reserve>,
}

impl<F: StorageBackend> Reserved<F> {
    pub(super) fn new(file: F, reserve: Arc<Reserve>) -> Self {
        Self { file, reserve }
    }

    fn written(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match write() {
            Err(error) if is_full(&error) && self.reserve.release() => write(),
            written => written,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl<F: StorageBackend> StorageBackend for Reserved<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written(|| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::super::super::{SessionNumber, SpaceUse};
    use super::super::Append;
    use super::super::segment::{Facts, Segment};
    use super::*;

    /// A volume that is full while there is a reserve on it.
    #[derive(Debug)]
    struct Full {
        file: InMemoryBackend,
        reserve: PathBuf,
        is_full: Arc<AtomicBool>,
    }

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if self.is_full.load(Ordering::Relaxed) && self.reserve.exists() {
                return Err(ErrorKind::StorageFull.into());
            }
            self.file.write(offset, data)
        }
    }

    #[test]
    fn a_disk_that_fills_up_during_a_write_takes_the_reserve_and_not_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let (reserve, is_full) = (Arc::new(Reserve::new(Some(directory.path()))), Arc::new(AtomicBool::new(false)));
        reserve.hold();
        let path = directory.path().join("reserve");
        assert!(path.exists() && Reserve::new(Some(directory.path())).path == Some(path.clone()));
        let full = Full { file: InMemoryBackend::new(), reserve: path.clone(), is_full: is_full.clone() };
        let facts = Facts { day: 1, position: 1, is_packed: false };
        let segment = Segment::on(Reserved::new(full, reserve.clone()), facts).unwrap();
        is_full.store(true, Ordering::Relaxed);
        let append = |first| Append {
            session: SessionNumber(1),
            first,
            events: vec![b"event".to_vec()],
            redo: Vec::new(),
            index: Vec::new(),
            space: SpaceUse::Reporting,
        };
        assert_eq!(segment.append(std::iter::once(&append(1))).unwrap(), 1);
        assert!(!path.exists(), "its room is the disk's again");
        assert_eq!(segment.append(std::iter::once(&append(2))).unwrap(), 2);
        assert!(!reserve.release(), "there is none twice");
        is_full.store(false, Ordering::Relaxed);
        reserve.hold();
        assert!(Reserve::new(Some(directory.path())).release(), "the next process takes it over");
        assert!(!path.exists());
    }
}
