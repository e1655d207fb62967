//! Watches the free space of the volume, so that writes stop before the disk is full. sled does not survive a full disk,
//! whatever fills it.

use std::path::{Path, PathBuf};

use super::{FREE_SPACE_MIN_BYTES_DEFAULT, StoreError};

/// A use of free space. A use that needs less of the minimum is refused later as the disk fills.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SpaceUse {
    /// All of the minimum: the minimum itself is left for the other uses.
    Writing,
    /// Half of the minimum: deletions have to be possible when the disk is nearly full, and leave enough to open the
    /// store again.
    Removing,
    /// A quarter of the minimum, so four of sled's segments: each start opens the store twice, and each opening
    /// overwrites the end of the last segment, begins another one and writes a snapshot.
    Opening,
    /// A sixteenth of the minimum: to tell of what is done and cannot be undone.
    Reporting,
}

impl SpaceUse {
    fn needed_bytes(self, min_bytes: u64) -> u64 {
        match self {
            Self::Writing => min_bytes,
            Self::Removing => min_bytes / 2,
            Self::Opening => min_bytes / 4,
            Self::Reporting => min_bytes / 16,
        }
    }
}

/// Refuses to open a store when there is too little space: on a full disk, sled leaves files behind that block its next
/// opening.
pub(super) fn check_opening(path: &Path, min_bytes: u64) -> Result<(), StoreError> {
    check_copying(path, 0, min_bytes)
}

/// As [`check_opening`], for a store that is copied first.
pub(super) fn check_copying(path: &Path, copy_bytes: u64, min_bytes: u64) -> Result<(), StoreError> {
    let (free_bytes, needed_bytes) =
        (free_bytes(path), copy_bytes.saturating_add(SpaceUse::Opening.needed_bytes(min_bytes)));
    if free_bytes < needed_bytes {
        return Err(StoreError::NoRoomToOpen { path: path.to_owned(), free_bytes, needed_bytes });
    }
    Ok(())
}

/// Whether this many bytes can be written into a store on this volume.
pub(super) fn check_writing(path: &Path, bytes: u64, min_bytes: u64) -> Result<(), StoreError> {
    let (free_bytes, needed_bytes) =
        (free_bytes(path), bytes.saturating_add(SpaceUse::Writing.needed_bytes(min_bytes)));
    if free_bytes < needed_bytes { Err(StoreError::LowSpace { free_bytes, needed_bytes }) } else { Ok(()) }
}

/// Watches one directory's volume. Each check measures, as another process may fill a disk within milliseconds; that takes some microseconds.
pub struct SpaceWatch {
    path: PathBuf,
    min_bytes: u64,
}

impl SpaceWatch {
    /// For files beside a store in this directory: they leave twice the space that the store needs.
    #[must_use]
    pub fn beside_store(directory: &Path) -> Self {
        Self::new(directory, 2 * FREE_SPACE_MIN_BYTES_DEFAULT)
    }

    pub(super) fn new(path: &Path, min_bytes: u64) -> Self {
        Self { path: path.to_owned(), min_bytes }
    }

    /// Whether more may be written. A volume that does not report its free space is taken to have enough.
    ///
    /// # Errors
    /// [`StoreError::LowSpace`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.check_for(SpaceUse::Writing)
    }

    /// The error for a use that turned out to have too little space.
    pub(super) fn too_little_for(&self, needed_bytes: u64) -> StoreError {
        StoreError::LowSpace { free_bytes: free_bytes(&self.path), needed_bytes }
    }

    pub(super) fn check_for(&self, what: SpaceUse) -> Result<(), StoreError> {
        let (free_bytes, needed_bytes) = (free_bytes(&self.path), what.needed_bytes(self.min_bytes));
        if free_bytes < needed_bytes { Err(StoreError::LowSpace { free_bytes, needed_bytes }) } else { Ok(()) }
    }
}

/// Bytes that a process without privileges can still write.
fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |volume| volume.f_bavail.saturating_mul(volume.f_frsize))
}
