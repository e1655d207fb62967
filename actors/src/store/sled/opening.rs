//! Opens the files of a store and says clearly why that cannot be done.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::{SessionNumber, StoreError, Table, keys};
use super::guard;

/// sled's unit of writing and of reuse; fixed when a store is made. Pages over a quarter of it would go to `blobs/`.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;

/// How long to try for the lock: a closed store holds it for some milliseconds more, a killed daemon no longer than this.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Pause between two tries for the lock.
const LOCK_RETRY_AFTER: Duration = Duration::from_millis(20);

/// Present once the store was made. Tells an emptied `db` from a new one.
const MADE_FILE: &str = "made";

/// The files of an open store.
pub(super) struct Opened {
    path: PathBuf,
    db: ::sled::Db,
    /// One tree per table, in the order of [`Table::ALL`].
    pub(super) trees: Vec<::sled::Tree>,
    /// A handle of our own on sled's file, to sync what sled only hands to the system.
    file: File,
}

impl Opened {
    /// Returns when everything written so far survives a power cut.
    pub(super) fn sync(&self) -> Result<(), ::sled::Error> {
        self.db.flush()?;
        self.file.sync_data()?;
        Ok(())
    }

    /// sled never syncs what it keeps in `blobs/`. Our limits keep it empty; if it is not, durability is not given.
    pub(super) fn check_blobs(&self) -> Result<(), StoreError> {
        check_blobs(&self.path)
    }
}

/// Opens or makes the store in this directory.
pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Opened, StoreError> {
    make_directory(path).map_err(|error| io_error(path, &error))?;
    check_blobs(path)?;
    let db = open_db(path, cache_bytes)?;
    let trees = guard::run(|| Table::ALL.iter().map(|table| db.open_tree(table.tree_name())).collect())
        .map_err(|reason| damaged(path, reason))?;
    let file = File::open(path.join("db")).map_err(|error| io_error(path, &error))?;
    let opened = Opened { path: path.to_owned(), db, trees, file };
    check_layout(&opened)?;
    Ok(opened)
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens sled, for two seconds if need be: the lock outlives the one who held it by a little.
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

/// sled 0.34.7 has no kind of its own for a lock that is taken, only this text.
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

/// Checks the layout version, or writes it into a store that is new.
fn check_layout(opened: &Opened) -> Result<(), StoreError> {
    let path = &opened.path;
    let meta = &opened.trees[Table::Meta.index()];
    let read = |key| {
        let row = keys::row(SessionNumber::DAEMON, key);
        guard::run(|| meta.get(row)).map_err(|reason| damaged(path, reason))
    };
    if read(keys::IMPORTING)?.is_some() {
        return Err(StoreError::UnfinishedImport { path: path.clone() });
    }
    match read(keys::LAYOUT)? {
        Some(version) if *version == *keys::LAYOUT_VERSION.to_string().as_bytes() => mark_made(opened),
        Some(version) => Err(StoreError::UnknownLayout {
            path: path.clone(),
            found: String::from_utf8_lossy(&version).into_owned(),
            known: keys::LAYOUT_VERSION,
        }),
        None => make(opened),
    }
}

fn make(opened: &Opened) -> Result<(), StoreError> {
    let path = &opened.path;
    if path.join(MADE_FILE).exists() {
        return Err(damaged(path, "its rows are gone".to_owned()));
    }
    let row = keys::row(SessionNumber::DAEMON, keys::LAYOUT);
    let version = keys::LAYOUT_VERSION.to_string();
    guard::run(|| {
        opened.trees[Table::Meta.index()].insert(row, version.as_bytes())?;
        opened.sync()
    })
    .map_err(|reason| StoreError::Io { path: path.clone(), reason })?;
    mark_made(opened)
}

/// Makes the mark, and the directory entries of all files, survive a power cut.
fn mark_made(opened: &Opened) -> Result<(), StoreError> {
    let path = &opened.path;
    let mark = path.join(MADE_FILE);
    if mark.exists() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = || {
        File::open(path.join("conf"))?.sync_all()?;
        File::create(&mark)?.sync_all()?;
        File::open(path)?.sync_all()?;
        File::open(parent)?.sync_all()
    };
    made().map_err(|error| io_error(path, &error))
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
