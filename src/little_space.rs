//! For tests: a store with less space than it wants for changes, and enough for removals.

use std::path::Path;
use std::sync::Arc;

use rookery_store::{Store, StoreOptions, open};

/// The disk has three quarters of the space that changes need, which is half as much again as removals need.
pub(crate) fn open_with_little_space(directory: &Path) -> Arc<dyn Store> {
    let volume = rustix::fs::statvfs(directory).unwrap();
    let free_bytes = volume.f_bavail * volume.f_frsize;
    open(directory, StoreOptions { free_space_min_bytes: free_bytes / 3 * 4, ..StoreOptions::default() }).unwrap()
}
