//! Backups: one encrypted file (`ArchiveWriter` in the store) with everything that a daemon needs to go on elsewhere,
//! except the key of its store. It holds the length of the manifest (4 bytes, big-endian), the manifest as JSON, and an
//! export of the store, which the events follow.

mod client;
pub mod commands;
pub(crate) mod control;
mod home;
mod restore;
#[cfg(test)]
mod tests;
mod transfer;

use std::io::{self, Read, Write};
use std::path::Path;

use rookery_model::Timestamp;
use rookery_store::{ArchiveError, ArchiveReader, ArchiveWriter, EventLog, Store, StoreError, StoreKey};
use serde::{Deserialize, Serialize};

use crate::auth::{ApiKeys, KeysError, Pepper};
use crate::data_dir::PEPPER_FILE;
use crate::files::SecretFileError;
use home::Home;

/// Bytes of a manifest: all its parts but a path have a fixed size.
const MANIFEST_BYTES_MAX: u32 = 64 * 1024;

/// The metadata of a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    made_at: Timestamp,
    /// The place of the daemon, which may still run there.
    home: Home,
    /// The pepper, without which no API key could be checked.
    pepper: Option<Pepper>,
    /// The events follow the store; older versions kept none.
    #[serde(default)]
    has_events: bool,
}

/// Why a backup cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The file is no backup of this program, or is encrypted with another key.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store cannot be read, or is not in the backup as it should be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API keys cannot be read.
    #[error(transparent)]
    ApiKeys(#[from] KeysError),
    /// The pepper cannot be read.
    #[error("could not use `{PEPPER_FILE}`; to go on without it, so that no API key can be checked, move it away")]
    Pepper(#[from] SecretFileError),
    /// The manifest is malformed.
    #[error("the beginning of the backup is malformed")]
    Manifest,
    /// Writing failed.
    #[error("could not write the backup")]
    Io(#[from] io::Error),
}

/// Writes a backup of this data directory as it is at one moment. Commits wait until the store is written, so `to` should be
/// a local file. Blocks.
fn write<W: Write>(
    store: &dyn Store,
    events: Option<&EventLog>,
    data_dir: &Path,
    key: &StoreKey,
    to: W,
) -> Result<W, BackupError> {
    let made_at = Timestamp::now();
    let manifest = Manifest {
        made_at,
        home: Home::of(data_dir),
        pepper: pepper_of(store, data_dir)?,
        has_events: events.is_some(),
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|_| BackupError::Manifest)?;
    let length = u32::try_from(manifest.len()).ok().filter(|length| *length <= MANIFEST_BYTES_MAX);
    let mut archive = ArchiveWriter::begin(to, key)?;
    archive.write_all(&length.ok_or(BackupError::Manifest)?.to_be_bytes())?;
    archive.write_all(&manifest)?;
    store.export(&mut archive)?;
    // The log is read after the store, and so has every event that the store shows.
    if let Some(events) = events {
        events.export(&mut archive)?;
    }
    Ok(archive.finish()?)
}

/// The pepper that the keys of a store belong to.
fn pepper_of(store: &dyn Store, data_dir: &Path) -> Result<Option<Pepper>, BackupError> {
    match ApiKeys::restored_pepper(store)? {
        Some(pepper) => Ok(Some(pepper)),
        None => Ok(Pepper::read(&data_dir.join(PEPPER_FILE))?),
    }
}

/// Reads the manifest; the export follows in the reader.
fn read<R: Read>(from: R, key: &StoreKey) -> Result<(Manifest, ArchiveReader<R>), BackupError> {
    let mut archive = ArchiveReader::begin(from, key)?;
    let manifest = manifest(&mut archive)?;
    Ok((manifest, archive))
}

fn manifest(from: &mut impl Read) -> Result<Manifest, BackupError> {
    let read_error = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Manifest,
        _ => ArchiveError::Io(error).into(),
    };
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(read_error)?;
    let length = u32::from_be_bytes(length);
    if length > MANIFEST_BYTES_MAX {
        return Err(BackupError::Manifest);
    }
    let mut manifest = Vec::new();
    from.take(length.into()).read_to_end(&mut manifest).map_err(read_error)?;
    serde_json::from_slice(&manifest).map_err(|_| BackupError::Manifest)
}

/// Reads a whole backup and keeps nothing. Returns when it was made, and the names of its sessions. Blocks.
fn check(from: impl Read, key: &StoreKey) -> Result<(Timestamp, Vec<String>), BackupError> {
    let (manifest, mut export) = read(from, key)?;
    let store = rookery_store::open_memory();
    store.import(&mut export)?;
    if manifest.has_events {
        EventLog::check_export(&mut export)?;
    }
    Ok((manifest.made_at, restore::names(&*store)?))
}

/// Reads the fuzzer's bytes as a backup file, as the content of an archive, and as rows. Nothing may panic, and
/// encrypted content has to come back. Exists only under cargo-fuzz (`tests/fuzz/`).
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let key = StoreKey::from_bytes([7; 32]);
    let _ = check(bytes, &key);
    let mut archive = ArchiveWriter::begin(Vec::new(), &key).expect("there is randomness");
    archive.write_all(bytes).expect("memory");
    let archive = archive.finish().expect("memory");
    let mut content = Vec::new();
    let read = ArchiveReader::begin(archive.as_slice(), &key).expect("a whole one").read_to_end(&mut content);
    assert!(read.is_ok() && content == bytes);
    let _ = check(archive.as_slice(), &key);
    let _ = rookery_store::open_memory().import(&mut &*bytes);
    rookery_store::fuzz_rows(bytes);
}
