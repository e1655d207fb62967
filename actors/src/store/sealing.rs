//! Opening a sealed store: one that was made before stores were sealed is sealed first, into new files, so that the old
//! ones can go as a whole. Stopped in the middle it begins anew, or goes on where nothing can be lost (`replacing.rs`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Store, StoreError, StoreKey, StoreOptions, open, rebuilding, replacing, sled};

/// Opens the sealed store in this directory with `options.key`, and seals it first when it is not. Blocks.
///
/// # Errors
/// As [`open`]; [`StoreError::WrongKey`] changes nothing.
pub fn open_sealed(path: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    replacing::settle(path)?;
    let is_new = replacing::is_new(path);
    if !is_new {
        rebuilding::rebuild(path, &options)?;
    }
    let opened = match open(path, options.clone()) {
        Err(StoreError::Unsealed { .. }) => {
            copy_sealed(path, &options)?;
            replacing::replace(path, None)?;
            open(path, options)?
        }
        opened => opened?,
    };
    if !is_new {
        replacing::clear(path);
    }
    Ok(opened)
}

/// Seals the store's own key with another key; the one before opens nothing any more. Blocks.
///
/// # Errors
/// As [`open`]; nothing was changed then.
pub fn rekey(path: &Path, options: StoreOptions, new: &StoreKey) -> Result<(), StoreError> {
    sled::SledStore::open(path, &options)?.rekey(new)
}

fn copy_sealed(path: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    let plain = open(path, StoreOptions { key: None, ..options.clone() })?;
    let sealed = replacing::open_next(path, options.clone())?;
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
