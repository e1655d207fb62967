//! Opens an encrypted store. A store from before stores were encrypted is encrypted first, into new files, so that the
//! old files can be removed as a whole. When stopped in the middle, this begins anew, or goes on where nothing can be
//! lost (`swap.rs`).

use std::path::Path;
use std::sync::Arc;

use super::sled::SledStore;
use super::{Store, StoreError, StoreKey, StoreOptions, compacting, copying, open, rebuilding, swap};

/// Opens the encrypted store in this directory with `options.key`. A store that is not encrypted is encrypted first. A
/// store that is mostly dead space is compacted. A store whose snapshot is not whole is rebuilt from its log, if that
/// has every row. Blocks.
///
/// # Errors
/// As [`open`]; [`StoreError::WrongKey`] changes nothing.
pub fn open_encrypted(path: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    swap::settle(path)?;
    let is_new = swap::is_new(path);
    if !is_new {
        rebuilding::rebuild(path, &options)?;
    }
    let opened = match SledStore::open(path, &options) {
        Err(StoreError::Unencrypted { .. }) => {
            let plain = open(path, StoreOptions { key: None, ..options.clone() })?;
            copying::copy_beside(path, plain, &options)?;
            swap::replace(path, None)?;
            SledStore::open(path, &options)?
        }
        opened => opened?,
    };
    if is_new {
        return Ok(Arc::new(opened));
    }
    swap::clear(path);
    Ok(Arc::new(compacting::compact(path, &options, opened)?))
}

/// Encrypts the store's own key with another key; the key before it no longer opens the store. Blocks.
///
/// # Errors
/// As [`open`]; the store is then unchanged.
pub fn rekey(path: &Path, options: StoreOptions, new: &StoreKey) -> Result<(), StoreError> {
    SledStore::open(path, &options)?.rekey(new)
}
