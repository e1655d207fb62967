//! Opens the files of a store, or says clearly why that cannot be done.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::super::encryption::ValueCipher;
use super::super::guard;
use super::super::space;
use super::super::{SessionNumber, StoreError, StoreKey, StoreOptions, Table, layout};
use super::leftovers;
use super::tally::{self, Tally, Witness};

/// sled's unit of writing and of reuse; fixed when a store is made. Pages over a quarter of it would go to `blobs/`.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;

/// Bytes behind the end of sled's file that are reserved: twice what one round adds.
pub(super) const RESERVED_BYTES: u64 = 4 * SEGMENT_BYTES as u64;

/// sled's log.
pub(in super::super) const DATA_FILE: &str = "db";

/// Page cache while the rows are counted: each page is read once, so there is nothing to keep.
const COUNTING_CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// How long to try for the lock: a closed store holds it for some milliseconds more, a killed daemon no longer than this.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Pause between two tries for the lock.
const LOCK_RETRY_AFTER: Duration = Duration::from_millis(20);

/// The files of an open store.
pub(super) struct Opened {
    path: PathBuf,
    db: ::sled::Db,
    /// One tree per table, in the order of [`Table::ALL`].
    pub(super) trees: Vec<::sled::Tree>,
    /// The cipher for its values; taken out by the [`SledStore`](super::SledStore), which reads and writes them.
    pub(super) value_cipher: Option<ValueCipher>,
    /// The tally of all rows.
    pub(super) tally: Tally,
    /// Bytes of all rows when the store was opened.
    pub(super) live_bytes: u64,
    /// The number of transactions, kept beside sled.
    pub(super) witness: Witness,
    /// A handle of our own on sled's file, to sync what sled only hands to the system.
    file: File,
    /// The length of sled's file when room behind it was reserved.
    reserved_from: u64,
}

impl Opened {
    /// Returns when everything written so far survives a power cut.
    pub(super) fn sync(&self) -> Result<(), ::sled::Error> {
        self.db.flush()?;
        self.file.sync_data()?;
        Ok(())
    }

    /// Reserves room for what sled is about to write at the end of its file: sled does not survive a write that fails. A volume that cannot reserve
    /// room has none.
    ///
    /// # Errors
    /// The disk is full.
    pub(super) fn reserve(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        // A file that became shorter has lost what was reserved behind it.
        if !(self.reserved_from..self.reserved_from + RESERVED_BYTES / 2).contains(&len) {
            match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, len, RESERVED_BYTES) {
                Err(full @ (Errno::NOSPC | Errno::DQUOT)) => return Err(full.into()),
                _ => self.reserved_from = len,
            }
        }
        Ok(())
    }

    /// sled never syncs its files in `blobs/`. Our limits keep that folder empty; else durability is not given.
    pub(super) fn check_blobs(&self) -> Result<(), StoreError> {
        check_blobs(&self.path)
    }
}

/// Opens or makes the store in this directory.
///
/// A store that is not new is opened twice: counting its rows reads every page, so an instance with a small cache does
/// that and is thrown away.
pub(super) fn open(path: &Path, options: &StoreOptions) -> Result<Opened, StoreError> {
    make_directory(path).map_err(|error| io_error(path, &error))?;
    check_blobs(path)?;
    if let (_, Some(snapshot)) = prepare(path, options)? {
        return Err(damaged(path, format!("its snapshot `{snapshot}` is not whole")));
    }
    // sled's error for a disk that became full meanwhile may look like damage.
    open_prepared(path, options).map_err(|error| {
        match (space::check_opening(path, options.free_space_min_bytes), error) {
            (Err(no_room), StoreError::Damaged { .. } | StoreError::Io { .. }) => no_room,
            (_, error) => error,
        }
    })
}

/// Makes sure, under sled's lock, that the disk has room, and removes files that were never finished. Returns the lock,
/// and the name of a snapshot that sled cannot read.
pub(super) fn prepare(path: &Path, options: &StoreOptions) -> Result<(Option<File>, Option<String>), StoreError> {
    let lock = lock(path)?;
    space::check_opening(path, options.free_space_min_bytes)?;
    let cleared = leftovers::clear(path).and_then(|()| leftovers::unreadable_snapshot(path));
    Ok((lock, cleared.map_err(|error| io_error(path, &error))?))
}

/// Takes the lock that sled holds while it is open; `None` when there is no store yet. Waits for it as long as
/// [`open_db`].
fn lock(path: &Path) -> Result<Option<File>, StoreError> {
    let file = match File::open(path.join(DATA_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| io_error(path, &error))?,
    };
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(io_error(path, &error)),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_RETRY_AFTER),
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
        }
    }
}

fn open_prepared(path: &Path, options: &StoreOptions) -> Result<Opened, StoreError> {
    let witness = Witness::open(path).map_err(|error| io_error(path, &error))?;
    let commits_seen = witness.as_ref().map(Witness::read);
    let known = with_sled(path, COUNTING_CACHE_BYTES, |db| check(path, &tables(path, &db)?, commits_seen))?;
    with_sled(path, options.cache_bytes, |db| {
        let trees = tables(path, &db)?;
        let file = OpenOptions::new().read(true).write(true).open(path.join(DATA_FILE));
        let file = file.map_err(|error| io_error(path, &error))?;
        let key = options.key.as_ref();
        let live_bytes = known.map_or(0, |(_, bytes)| bytes);
        let (tally, value_cipher) = match known {
            Some((tally, _)) => (tally, value_cipher(path, &trees, key)?),
            None => {
                let value_cipher = key.map(|_| ValueCipher::generate()).transpose()?;
                let wrapped_key =
                    value_cipher.as_ref().zip(key).map(|(value_cipher, key)| value_cipher.wrap(key)).transpose()?;
                (make(path, &db, &trees, &file, wrapped_key)?, value_cipher)
            }
        };
        // Without a witness, the store is new, or was never finished.
        let witness = witness.map_or_else(|| make_witness(path, tally.commits), Ok);
        let witness = witness.map_err(|error| io_error(path, &error))?;
        Ok(Opened {
            path: path.to_owned(),
            db,
            trees,
            value_cipher,
            tally,
            live_bytes,
            witness,
            file,
            reserved_from: u64::MAX / 2,
        })
    })
}

/// Opens sled and calls `act` with it. Reading or closing a damaged store may panic: both are caught.
fn with_sled<T>(
    path: &Path,
    cache_bytes: u64,
    act: impl FnOnce(::sled::Db) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let db = open_db(path, cache_bytes)?;
    guard::catch(|| act(db)).unwrap_or_else(|place| Err(damaged(path, place)))
}

fn tables(path: &Path, db: &::sled::Db) -> Result<Vec<::sled::Tree>, StoreError> {
    guard::run(|| Table::ALL.iter().map(|table| db.open_tree(table.tree_name())).collect())
        .map_err(|reason| damaged(path, reason))
}

/// Checks that the rows are whole and of a known layout. Returns their tally and bytes; `None` for a new store.
fn check(path: &Path, trees: &[::sled::Tree], commits_seen: Option<u64>) -> Result<Option<(Tally, u64)>, StoreError> {
    let counted = match (read_mark(path, trees, layout::LAYOUT)?, commits_seen) {
        (Some(layout), commits_seen) => {
            check_layout(path, &layout)?;
            check_rows(path, trees, commits_seen.unwrap_or_default())?
        }
        (None, Some(_)) => return Err(damaged(path, "its rows are gone".to_owned())),
        (None, None) => return Ok(None),
    };
    if read_mark(path, trees, layout::IMPORTING)?.is_some() {
        return Err(StoreError::UnfinishedImport { path: path.to_owned() });
    }
    Ok(Some(counted))
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens sled, and tries for up to two seconds: a lock is released shortly after its holder has ended.
fn open_db(path: &Path, cache_bytes: u64) -> Result<::sled::Db, StoreError> {
    let began = Instant::now();
    loop {
        let config = ::sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .mode(::sled::Mode::LowSpace)
            .use_compression(false)
            .flush_every_ms(None);
        match guard::catch(|| config.open()) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(::sled::Error::Io(error))) if is_lock_refusal(&error) => {
                if began.elapsed() >= LOCK_WAIT {
                    return Err(StoreError::InUse { path: path.to_owned() });
                }
                std::thread::sleep(LOCK_RETRY_AFTER);
            }
            Ok(Err(::sled::Error::Io(error))) if is_of_the_system(&error) => {
                return Err(io_error(path, &error));
            }
            Ok(Err(error)) => return Err(damaged(path, guard::words(&error))),
            Err(place) => return Err(damaged(path, place)),
        }
    }
}

/// sled 0.34.7 has no error kind for a lock that is taken, only this text.
fn is_lock_refusal(error: &io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

/// Whether the error is about the volume or the rights rather than about what the files hold.
fn is_of_the_system(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::NotFound
    )
}

fn read_mark(path: &Path, trees: &[::sled::Tree], mark: &[u8]) -> Result<Option<::sled::IVec>, StoreError> {
    let row = layout::row(SessionNumber::DAEMON, mark);
    guard::run(|| trees[Table::Meta.index()].get(row)).map_err(|reason| damaged(path, reason))
}

fn check_layout(path: &Path, layout: &[u8]) -> Result<(), StoreError> {
    if layout::is_known_version(layout) {
        return Ok(());
    }
    let found = String::from_utf8_lossy(layout).into_owned();
    Err(StoreError::UnknownLayout { path: path.to_owned(), found, known: layout::LAYOUT_VERSION })
}

/// Counts the rows: sled may open a store without an error although rows are missing or old.
fn check_rows(path: &Path, trees: &[::sled::Tree], commits_seen: u64) -> Result<(Tally, u64), StoreError> {
    let stored = guard::run(|| Tally::stored(trees)).map_err(|reason| damaged(path, reason))?;
    let Some(stored) = stored else { return Err(damaged(path, "its count of rows is gone".to_owned())) };
    let lost = commits_seen.saturating_sub(stored.commits);
    if lost > 0 {
        return Err(damaged(path, format!("its last {lost} transactions are gone")));
    }
    let counted = guard::run(|| Tally::count(trees, stored.commits)).map_err(|reason| damaged(path, reason))?;
    if counted.0 != stored {
        return Err(damaged(path, "rows are missing or are not the last ones written".to_owned()));
    }
    Ok(counted)
}

/// The cipher for the values of an existing store, if `key` is the one that the store was encrypted with.
fn value_cipher(
    path: &Path,
    trees: &[::sled::Tree],
    key: Option<&StoreKey>,
) -> Result<Option<ValueCipher>, StoreError> {
    let path = || path.to_owned();
    match (read_mark(&path(), trees, layout::STORE_KEY)?, key) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(StoreError::Unencrypted { path: path() }),
        (Some(_), None) => Err(StoreError::Encrypted { path: path() }),
        (Some(wrapped_key), Some(key)) => {
            ValueCipher::unwrap(key, &wrapped_key).map(Some).ok_or_else(|| StoreError::WrongKey { path: path() })
        }
    }
}

/// Writes the layout version, the encrypted key and the first tally.
fn make(
    path: &Path,
    db: &::sled::Db,
    trees: &[::sled::Tree],
    file: &File,
    wrapped_key: Option<Vec<u8>>,
) -> Result<Tally, StoreError> {
    let (mut tally, _) = guard::run(|| Tally::count(trees, 0)).map_err(|reason| damaged(path, reason))?;
    if tally != Tally::default() {
        return Err(damaged(path, "its layout version is gone".to_owned()));
    }
    let layout = layout::row(SessionNumber::DAEMON, layout::LAYOUT);
    let version = layout::version_text(layout::LAYOUT_VERSION, wrapped_key.is_some());
    tally.commits = 1;
    let mut batch = ::sled::Batch::default();
    let wrapped_key =
        wrapped_key.map(|wrapped_key| (layout::row(SessionNumber::DAEMON, layout::STORE_KEY), wrapped_key));
    for (row, value) in std::iter::once((layout, version.as_bytes().to_vec())).chain(wrapped_key) {
        tally.change(Table::Meta, &row, None, Some(&value));
        batch.insert(row, value);
    }
    batch.insert(tally::row(), &tally.encode());
    let write = || {
        trees[Table::Meta.index()].apply_batch(batch)?;
        db.flush()?;
        Ok(file.sync_data()?)
    };
    guard::run(write).map_err(|reason| StoreError::Io { path: path.to_owned(), reason })?;
    Ok(tally)
}

/// Makes the witness, and syncs the directory entries of all files, so that they survive a power cut.
fn make_witness(path: &Path, commits: u64) -> io::Result<Witness> {
    File::open(path.join(leftovers::CONF_FILE))?.sync_all()?;
    let witness = Witness::make(path, commits)?;
    File::open(path)?.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    Ok(witness)
}

fn check_blobs(path: &Path) -> Result<(), StoreError> {
    let blobs = match std::fs::read_dir(path.join("blobs")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path, &error)),
        Ok(mut entries) => entries.next().is_some(),
    };
    if blobs { Err(damaged(path, "its `blobs` folder is not empty".to_owned())) } else { Ok(()) }
}

fn damaged(path: &Path, reason: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason }
}

fn io_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), reason: error.to_string() }
}
