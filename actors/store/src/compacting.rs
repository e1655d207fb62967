//! Compacts a store at a start when most of its file is dead space. The rows are copied into a fresh store beside it,
//! which then takes its place (`swap.rs`), so that one is always whole. sled reuses dead space only in part, and never
//! frees it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::sled::{self, SledStore};
use super::{StoreError, StoreOptions, copying, space, swap};

/// Below this size compacting is not worth it: a store without rows has one or two of sled's segments of 4 MiB already.
const FILE_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// A fresh store with many rows has up to about twice the bytes of its rows, so it is far from being due itself.
const FRESH_PARTS: u64 = 2;

/// Whether more than half of the file is dead space, compared with the size of a fresh store.
fn is_due(file_bytes: u64, live_bytes: u64) -> bool {
    file_bytes >= FILE_BYTES_MIN && live_bytes.saturating_mul(2 * FRESH_PARTS) < file_bytes
}

/// Compacts the store if it is due, and returns it, open. A store that cannot be compacted stays as it is.
///
/// # Errors
/// The store cannot be opened again.
pub(super) fn compact(path: &Path, options: &StoreOptions, store: SledStore) -> Result<SledStore, StoreError> {
    let file_bytes = file_bytes(path);
    if !is_due(file_bytes, store.live_bytes()) {
        return Ok(store);
    }
    let began = Instant::now();
    let copy_bytes = store.live_bytes().saturating_mul(FRESH_PARTS);
    let copied = space::check_writing(path, copy_bytes, options.free_space_min_bytes)
        .and_then(|()| copying::copy_beside(path, Arc::new(store), options))
        .and_then(|()| swap::replace(path, None));
    match copied {
        Ok(()) => info!(
            store = %path.display(),
            bytes_before = file_bytes,
            bytes = self::file_bytes(path),
            took_ms = began.elapsed().as_millis(),
            "compacted the store"
        ),
        Err(error) => {
            warn!(store = %path.display(), %error, "could not compact the store, it stays as it is");
            swap::settle(path)?;
        }
    }
    SledStore::open(path, options)
}

fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path.join(sled::DATA_FILE)).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_compacted_when_more_than_half_of_it_is_dead() {
        let mib = |mib: u64| mib * 1024 * 1024;
        for (file, live, due) in
            [(31, 0, false), (32, 0, true), (100, 24, true), (100, 25, false), (100, 60, false), (4_000, 999, true)]
        {
            assert_eq!(is_due(mib(file), mib(live)), due, "{live} of {file} MiB");
        }
        assert!(!is_due(u64::MAX, u64::MAX));
    }
}
