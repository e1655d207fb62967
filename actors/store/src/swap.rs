//! Replaces a store by one that is made beside it, so that there always is a whole store, whenever this is stopped.
//!
//! | there is | what happened | what is done at the next opening |
//! |---|---|---|
//! | `store` | nothing, or all | it is opened |
//! | `store`, `store.next` | stopped while `store.next` was being made | `store.next` is removed |
//! | `store.before`, `store.next` | stopped between the two renames | `store.next` becomes `store` |
//! | `store.before` | somebody removed `store.next` | `store.before` becomes `store` again |
//! | `store`, `store.before` | stopped before the old files were removed | `store.before` is removed |

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::{Store, StoreError, StoreOptions, open, sled};

/// A file in a store that is to be kept when it is replaced. It holds the name that the store then gets.
const KEEP_FILE: &str = "keep-as";
const UNFINISHED_KEEP_FILE: &str = "keep-as.new";

/// Whether there is a store in this directory, or one that was stopped while it was replaced.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.is_dir() || before(path).is_dir()
}

/// Opens a new store beside the one in this directory, and removes one that was left there before. Blocks.
///
/// # Errors
/// As [`open`].
pub fn open_next(path: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    discard_next(path)?;
    open(&next(path), options)
}

/// Removes the store that was made beside the one in this directory, if there is one. Blocks.
///
/// # Errors
/// [`StoreError::Io`].
pub fn discard_next(path: &Path) -> Result<(), StoreError> {
    let next = next(path);
    remove(&next).map_err(|error| io_error(&next, &error))
}

/// Replaces the store by the one that was made beside it. The old store, if there was one, is then removed, or kept
/// beside the new one under the name in `keep`. Neither may be open, and nobody may open one meanwhile. Blocks.
///
/// # Errors
/// [`StoreError::Io`]; the store is then unchanged.
pub fn replace(path: &Path, keep: Option<&str>) -> Result<(), StoreError> {
    let (next, before) = (next(path), before(path));
    let replaced = dispose_of(&before).and_then(|()| {
        if !path.exists() {
            return rename(&next, path);
        }
        if let Some(name) = keep {
            write_keep(path, name)?;
        }
        rename(path, &before)?;
        rename(&next, path).inspect_err(|_| {
            let _ = rename(&before, path);
        })
    });
    if replaced.is_err() {
        forget_keep(path);
    }
    replaced.map_err(|error| io_error(path, &error))?;
    dispose_or_warn(&before);
    Ok(())
}

/// Gives a store its name back when its replacement was stopped in the middle. To be called before the store is opened.
///
/// # Errors
/// [`StoreError::Io`].
pub fn settle(path: &Path) -> Result<(), StoreError> {
    let (next, before) = (next(path), before(path));
    if path.exists() || !before.exists() {
        return Ok(());
    }
    // Without a next store, only the store before is left.
    let left = if next.exists() { &next } else { &before };
    rename(left, path).map_err(|error| io_error(path, &error))
}

/// Removes old directories beside a store. The store has to be open, and not new: beside a store that does not open,
/// the old one may be the only one that does, or may be in use. A directory that cannot be removed does no harm.
pub(super) fn clear(path: &Path) {
    forget_keep(path);
    dispose_or_warn(&before(path));
    dispose_or_warn(&next(path));
}

fn dispose_or_warn(left: &Path) {
    if let Err(error) = dispose_of(left) {
        warn!(directory = %left.display(), %error, "could not remove what is left of a store that was replaced");
    }
}

/// Removes a replaced store, or renames it if it has a [`KEEP_FILE`].
fn dispose_of(left: &Path) -> io::Result<()> {
    match fs::read_to_string(left.join(KEEP_FILE)) {
        Ok(name) if !name.is_empty() => rename(left, &left.with_file_name(name)),
        // A version before this one could be stopped while it wrote the name.
        Ok(_) => rename(left, &beside(left, "kept")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => remove(left),
        Err(error) => Err(error),
    }
}

/// Marks the store as one to be kept. The name is whole and on disk when this returns: with half a name, later
/// replacements could fail.
fn write_keep(store: &Path, name: &str) -> io::Result<()> {
    let unfinished = store.join(UNFINISHED_KEEP_FILE);
    let mut file = File::create(&unfinished)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    rename(&unfinished, &store.join(KEEP_FILE))
}

/// Removes the mark from a store that is in use: it was not replaced.
fn forget_keep(store: &Path) {
    let _ = fs::remove_file(store.join(KEEP_FILE));
    let _ = fs::remove_file(store.join(UNFINISHED_KEEP_FILE));
}

/// Whether something was ever written into this store.
pub(super) fn is_new(path: &Path) -> bool {
    !path.join(sled::DATA_FILE).exists()
}

/// The directory of the store that is to take the place of this one.
pub(super) fn next(path: &Path) -> PathBuf {
    beside(path, "next")
}

fn before(path: &Path) -> PathBuf {
    beside(path, "before")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// The new name is on disk when this returns.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn io_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), reason: error.to_string() }
}
