//! Files that hold secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::hex::unhex;

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It holds something else.
    #[error("it must hold 64 hex digits")]
    Content,
}

/// The 32 bytes in a file of 64 hex digits, `None` when there is no such file.
///
/// # Errors
/// It cannot be read, or holds something else.
pub(crate) fn read_secret(path: &Path) -> Result<Option<[u8; 32]>, SecretFileError> {
    match fs::read_to_string(path) {
        Ok(text) => unhex(text.trim()).map(Some).ok_or(SecretFileError::Content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes one line into a file for its owner alone; it is on disk, whole, when this returns. One that is there is replaced,
/// not reused: it may have any mode.
///
/// # Errors
/// When the file cannot be made or written.
pub(crate) fn write_secret(path: &Path, line: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    // Its name, too, has to be on disk before the secret counts.
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
