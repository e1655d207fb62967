//! Opening a sealed store: one that was made before stores were sealed is sealed first, into new files, so that the old
//! ones can go as a whole. Stopped in the middle it begins anew, or goes on where nothing can be lost.
//!
//! | there is | what happened | what is done |
//! |---|---|---|
//! | `store` | nothing, or all | it is opened |
//! | `store`, `store.sealing` | stopped while copying | the copy is made anew |
//! | `store.unsealed`, `store.sealing` | stopped between the two renames | the copy becomes `store` |
//! | `store.unsealed` | somebody removed the copy | it becomes `store` and is copied anew |
//! | `store`, `store.unsealed` | stopped before the old files were removed | they are removed |

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Store, StoreError, StoreKey, StoreOptions, open, sled};

/// Opens the sealed store in this directory with `options.key`, and seals it first when it is not. Blocks.
///
/// # Errors
/// As [`open`]; [`StoreError::WrongKey`] changes nothing.
pub fn open_sealed(path: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    let (copy, old) = (beside(path, "sealing"), beside(path, "unsealed"));
    let io_error = |error: &io::Error| StoreError::Io { path: path.to_owned(), reason: error.to_string() };
    if !path.exists() && old.exists() {
        // Without a copy the old one is all there is.
        let left = if copy.exists() { &copy } else { &old };
        rename(left, path).map_err(|error| io_error(&error))?;
    }
    match open(path, options.clone()) {
        Ok(store) => {
            remove(&old).and_then(|()| remove(&copy)).map_err(|error| io_error(&error))?;
            return Ok(store);
        }
        Err(StoreError::Unsealed { .. }) => {}
        // What lies beside a store that does not open may be the only one that does, or somebody may be at it.
        Err(error) => return Err(error),
    }
    remove(&copy).map_err(|error| io_error(&error))?;
    copy_sealed(path, &copy, &options)?;
    rename(path, &old).and_then(|()| rename(&copy, path)).map_err(|error| io_error(&error))?;
    let opened = open(path, options)?;
    remove(&old).map_err(|error| io_error(&error))?;
    Ok(opened)
}

/// Seals the store's own key with another key; the one before opens nothing any more. Blocks.
///
/// # Errors
/// As [`open`]; nothing was changed then.
pub fn rekey(path: &Path, options: StoreOptions, new: &StoreKey) -> Result<(), StoreError> {
    sled::SledStore::open(path, &options)?.rekey(new)
}

fn copy_sealed(from: &Path, to: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    let plain = open(from, StoreOptions { key: None, ..options.clone() })?;
    let sealed = open(to, options.clone())?;
    let stream_error = |error: io::Error| StoreError::Stream(error.to_string());
    let (mut reader, mut writer) = io::pipe().map_err(stream_error)?;
    let (exported, imported) = std::thread::scope(|scope| {
        let export = scope.spawn(move || plain.export(&mut writer));
        let imported = sealed.import(&mut reader);
        // Whoever still writes gets an error rather than waiting for ever.
        drop(reader);
        (export.join().unwrap_or_else(|_| Err(StoreError::Stream("the export was cut short".to_owned()))), imported)
    });
    match (exported, imported) {
        // One who cannot write on is told by the other why.
        (Err(StoreError::Stream(_)) | Ok(()), imported) => imported,
        (exported, _) => exported,
    }
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
