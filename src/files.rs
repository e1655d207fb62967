//! Files that hold secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    let mut file = SecretFile::begin(path)?;
    writeln!(file, "{line}")?;
    file.finish()
}

/// A file for its owner alone that has its name only when it is whole; until then it has another one, and goes when dropped.
pub(crate) struct SecretFile {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
}

impl SecretFile {
    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        remove_file(&unfinished)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        Ok(Self { file, unfinished, path: path.to_owned() })
    }

    /// Gives it its name; it is on disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        rename(&self.unfinished, &self.path)
    }
}

impl io::Write for SecretFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for SecretFile {
    /// One that is finished has another name by now.
    fn drop(&mut self) {
        let _ = remove_file(&self.unfinished);
    }
}

/// Gives a file another name; that is on disk when this returns.
///
/// # Errors
/// When that fails.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let directory = to.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Removes a file that may be gone already.
///
/// # Errors
/// When that fails.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mut file = SecretFile::begin(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        write_secret(&path, "old").unwrap();
        let mut file = SecretFile::begin(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old\n");
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
