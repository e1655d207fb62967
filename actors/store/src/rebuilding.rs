//! Rebuilds a store whose newest snapshot cannot be read. sled refuses such a store, although a snapshot only saves
//! reading the log from its beginning. So sled reads the log of a copy, where it can do no harm. If the copy then holds
//! every row, by the count and the witness, it takes the store's place (`swap.rs`); else nothing is changed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use tracing::warn;

use super::{StoreError, StoreOptions, open, sled, space, swap};

/// The files of a store without its snapshots.
const FILES: [&str; 3] = [sled::DATA_FILE, "conf", "witness"];

/// Rebuilds the store if its newest snapshot cannot be read. It must not be open, nor another one be made beside it.
///
/// # Errors
/// As [`open`]; the store is then unchanged.
pub(super) fn rebuild(path: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    let Some((_lock, snapshot)) = sled::unreadable_snapshot(path, options)? else { return Ok(()) };
    if let Err(error) = copy(path, options).and_then(|()| check(path, options)) {
        swap::discard_next(path)?;
        return Err(match error {
            StoreError::Damaged { reason, .. } => StoreError::Damaged {
                path: path.to_owned(),
                reason: format!("its snapshot `{snapshot}` is not whole, and without it {reason}"),
            },
            error => error,
        });
    }
    swap::replace(path, None)?;
    warn!(store = %path.display(), snapshot, "a snapshot of the store was not whole: the store was read from its log, no row is missing");
    Ok(())
}

/// Copies the store, without its snapshots, to where the next one is made.
fn copy(path: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    swap::discard_next(path)?;
    let next = swap::next(path);
    let bytes = fs::metadata(path.join(sled::DATA_FILE)).map_or(0, |file| file.len());
    space::check_copying(path, bytes, options.free_space_min_bytes)?;
    let copied = DirBuilder::new().mode(0o700).create(&next).and_then(|()| {
        for file in FILES {
            copy_file(&path.join(file), &next.join(file))?;
        }
        File::open(&next)?.sync_all()
    });
    copied.map_err(|error| StoreError::Io { path: next, reason: error.to_string() })
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        Ok(_) => File::open(to)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the copy has every row. Opening checks the key only after the rows, so an error about the key is none here.
fn check(path: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    match open(&swap::next(path), options.clone()) {
        Ok(_) | Err(StoreError::Encrypted { .. } | StoreError::Unencrypted { .. } | StoreError::WrongKey { .. }) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}
