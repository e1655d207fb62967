//! Copies all rows of a store into the one that is made beside it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Store, StoreError, StoreOptions, swap};

/// Copies all rows of `from`. Both stores are closed when this returns. On an error nothing is left beside the store.
///
/// # Errors
/// A store cannot be read or written; there is no room.
pub(super) fn copy_beside(path: &Path, from: Arc<dyn Store>, options: &StoreOptions) -> Result<(), StoreError> {
    let copied = swap::open_next(path, options.clone()).and_then(|next| copy(&*from, &*next));
    drop(from);
    if copied.is_err() {
        swap::discard_next(path)?;
    }
    copied
}

fn copy(from: &dyn Store, to: &dyn Store) -> Result<(), StoreError> {
    let stream_error = |error: io::Error| StoreError::Stream(error.to_string());
    let (mut reader, mut writer) = io::pipe().map_err(stream_error)?;
    let (exported, imported) = std::thread::scope(|scope| {
        let export = scope.spawn(move || from.export(&mut writer));
        let imported = to.import(&mut reader);
        // An export that still writes gets an error instead of waiting forever.
        drop(reader);
        (export.join().unwrap_or_else(|_| Err(StoreError::Stream("the export was cut short".to_owned()))), imported)
    });
    match (exported, imported) {
        // When the export could not write on, the import has the reason.
        (Err(StoreError::Stream(_)) | Ok(()), imported) => imported,
        (exported, _) => exported,
    }
}
