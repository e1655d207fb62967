//! Files that hold secrets.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hex::FromHex;
use tracing::warn;

/// Mode bits that a secret's file must not have: only its owner may use it, and its group may read it.
const RIGHTS_OF_OTHERS: u32 = 0o037;

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The file holds something else.
    #[error("it must hold 64 hex digits")]
    Content,
    /// Others have rights to the file that cannot be taken away.
    #[error(
        "others may read or change it (mode {mode:o}), so it is no secret: `chmod 600` it, or give it to the daemon's user"
    )]
    Rights {
        /// The file's mode.
        mode: u32,
    },
}

/// The 32 bytes in a file of 64 hex digits, `None` when there is no such file.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub(crate) fn read_secret(path: &Path) -> Result<Option<[u8; 32]>, SecretFileError> {
    let text = read_private(path)?;
    text.map(|text| FromHex::from_hex(text.trim()).map_err(|_| SecretFileError::Content)).transpose()
}

/// The content of a file that holds a secret, `None` when there is no such file. Takes the rights of others away, with
/// a warning. The group may read the file: an operator may have given it to the daemon in that way.
///
/// # Errors
/// The file cannot be read, or others have rights to it that cannot be taken away.
pub(crate) fn read_private(path: &Path) -> Result<Option<String>, SecretFileError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    keep_private(&file, path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Takes the rights of others to a file away, and its group's right to change it.
///
/// # Errors
/// The rights cannot be taken away.
pub(crate) fn keep_private(file: &File, path: &Path) -> Result<(), SecretFileError> {
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & RIGHTS_OF_OTHERS == 0 {
        return Ok(());
    }
    let private = Permissions::from_mode(mode & !RIGHTS_OF_OTHERS);
    file.set_permissions(private).map_err(|_| SecretFileError::Rights { mode })?;
    warn!(file = %path.display(), mode = format_args!("{mode:o}"), "others could read or change a secret: their rights were taken away");
    Ok(())
}

/// Writes one line into a file for its owner alone; the file is on disk, complete, when this returns. An existing file
/// is replaced, not reused: it may have any mode.
///
/// # Errors
/// When the file cannot be made or written.
pub(crate) fn write_secret(path: &Path, line: &str) -> io::Result<()> {
    let mut file = SecretFile::begin(path)?;
    writeln!(file, "{line}")?;
    file.finish()
}

/// The end of an unfinished file's name.
pub(crate) const UNFINISHED_SUFFIX: &str = ".new";

/// A file for its owner alone. It gets its name when it is complete; until then it has another name, and is removed
/// when dropped.
pub(crate) struct SecretFile {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
}

impl SecretFile {
    /// Makes the file, under its unfinished name.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED_SUFFIX);
        let unfinished = PathBuf::from(unfinished);
        remove_file(&unfinished)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        Ok(Self { file, unfinished, path: path.to_owned() })
    }

    /// Gives the file its name; it is on disk when this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
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
    /// A finished file has another name by now.
    fn drop(&mut self) {
        let _ = remove_file(&self.unfinished);
    }
}

/// Renames a file; the new name is on disk when this returns.
///
/// # Errors
/// When the file cannot be renamed.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let directory = to.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Removes a file that may be gone already.
///
/// # Errors
/// When the file cannot be removed.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        for (given, expected) in [(0o600, 0o600), (0o644, 0o640), (0o666, 0o640), (0o440, 0o440), (0o601, 0o600)] {
            fs::write(&path, "secret").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(given)).unwrap();
            assert_eq!(read_private(&path).unwrap().as_deref(), Some("secret"));
            assert_eq!(mode(), expected, "{given:o}");
            remove_file(&path).unwrap();
        }
        // On a read-only file system nobody can take the rights away.
        let read_only = Path::new("/proc/self/status");
        assert!(matches!(read_private(read_only), Err(SecretFileError::Rights { mode: 0o444 })));
        assert_eq!(read_private(&path).unwrap(), None);
    }

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
