//! The disk that files of messages take while somebody sends or reads them: files without names, a bound for all of them, and a share of it for
//! each key. Knows nothing of what is in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rookery_actors::{FileError, NoRoom, Room, TempFile};
use rookery_store::SpaceWatch;
use uuid::Uuid;

use crate::data_dir::nameless_file;
use crate::shares::{Share, Shares};

/// Bytes of a share: a file takes as many shares as it needs.
const SHARE_BYTES: u64 = 1024 * 1024;

/// The disk for files.
pub(crate) struct Spool {
    directory: PathBuf,
    space: Arc<SpaceWatch>,
    shares: Arc<Shares<Uuid>>,
}

impl Spool {
    /// Files on the volume of this directory, of so many bytes in all.
    pub(crate) fn new(directory: &Path, bytes_max: u64) -> Self {
        let shares = usize::try_from(bytes_max / SHARE_BYTES).unwrap_or(usize::MAX).max(2);
        let space = Arc::new(SpaceWatch::beside_store(directory));
        Self { directory: directory.to_owned(), space, shares: Shares::new(shares) }
    }

    /// An empty file for this user. Blocks for some microseconds.
    ///
    /// # Errors
    /// [`FileError::NoRoom`], [`FileError::Disk`].
    pub(crate) fn begin(&self, user: Uuid) -> Result<TempFile, FileError> {
        let mut room =
            SpoolRoom { space: Arc::clone(&self.space), of: Arc::clone(&self.shares), user, taken: Vec::new() };
        room.widen(1)?;
        Ok(TempFile::new(nameless_file(&self.directory)?, Box::new(room)))
    }
}

/// The room of one file.
struct SpoolRoom {
    space: Arc<SpaceWatch>,
    of: Arc<Shares<Uuid>>,
    user: Uuid,
    taken: Vec<Share<Uuid>>,
}

impl Room for SpoolRoom {
    fn widen(&mut self, bytes: u64) -> Result<(), NoRoom> {
        self.space.check().map_err(|_| NoRoom::Disk)?;
        while self.taken.len() as u64 * SHARE_BYTES < bytes {
            self.taken.push(self.of.take(self.user).ok_or(NoRoom::Share)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_half_of_the_room_and_gives_it_back_and_no_file_has_a_name() {
        const MIB: u64 = SHARE_BYTES;
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path(), 8 * MIB);
        let room = |user: u128| SpoolRoom {
            space: Arc::clone(&spool.space),
            of: Arc::clone(&spool.shares),
            user: Uuid::from_u128(user),
            taken: Vec::new(),
        };
        let (mut first, mut second, mut other) = (room(1), room(1), room(2));
        assert_eq!(first.widen(3 * MIB), Ok(()));
        assert_eq!((second.widen(MIB), second.widen(MIB + 1)), (Ok(()), Err(NoRoom::Share)));
        assert_eq!(other.widen(2 * MIB), Ok(()), "others have their own");
        drop(first);
        assert_eq!(second.widen(3 * MIB), Ok(()));
        let file = spool.begin(Uuid::from_u128(3)).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        drop((file, second, other));
        assert_eq!(room(1).widen(4 * MIB), Ok(()));
    }
}
