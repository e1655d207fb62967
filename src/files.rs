//! Files that hold secrets. Never reads one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes one line into a file for its owner alone; it is on disk when this returns. One that is there is replaced, not
/// reused: a broken start may have left it behind with any mode.
///
/// # Errors
/// When the file cannot be made or written.
pub(crate) fn write_secret(path: &Path, line: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    // Its name, too, has to be on disk before the secret counts.
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
