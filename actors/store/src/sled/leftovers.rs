//! Files that block sled: leftovers of an opening that was stopped by a full disk, a kill or a power cut.
//!
//! Beside its log, sled 0.34.7 writes two files, and is not careful when it reads them:
//!
//! | file | written | what may be left of it | what sled makes of that | what is done here |
//! |---|---|---|---|---|
//! | `conf` | once, in two writes, never synced | a beginning of it, or zeroes | more than 8 bytes: refused | removed: sled writes it again |
//! | `snap.<lsn>.generating` | at every opening, then renamed to `snap.<lsn>` | nothing, a beginning, or all of it | its name sorts last: the newest snapshot, and refused for good | removed: the snapshot before it is still there |
//! | an older `snap.<lsn>` | removed after that rename | all of it | the newest one is taken | nothing |
//!
//! The log, `db`, is never touched here. sled finds the end of its whole part, and the tally says whether that is all
//! (`tally.rs`). The witness may be left empty: then it proves nothing.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::tally::Witness;

pub(super) const CONF_FILE: &str = "conf";
/// The text that sled writes into `conf` for our options, before its checksum. The options never change for a store.
const CONF_TEXT: &str = "segment_size: 4194304\nuse_compression: false\nversion: 0.34\n";
const SNAPSHOT_PREFIX: &str = "snap.";
const UNFINISHED_SUFFIX: &str = ".generating";
/// After a snapshot's content: its length and its checksum.
const SNAPSHOT_LENGTH_BYTES: usize = 8;
const SNAPSHOT_CHECKSUM_BYTES: usize = 4;

/// Removes the beginnings of files that were never finished. The caller holds sled's lock on the store.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    let conf = path.join(CONF_FILE);
    if let Some(bytes) = read(&conf)?
        && is_unfinished_conf(&bytes, Witness::open(path)?.is_some())
    {
        fs::remove_file(conf)?;
    }
    for snapshot in snapshots(path)? {
        if snapshot.as_os_str().as_encoded_bytes().ends_with(UNFINISHED_SUFFIX.as_bytes()) {
            fs::remove_file(snapshot)?;
        }
    }
    Ok(())
}

/// The name of the snapshot that sled would read, if it could not read it. `None`: it could, or there is none. sled's own
/// order of writing leaves no such file, but a copy that was cut short may.
pub(super) fn unreadable_snapshot(path: &Path) -> io::Result<Option<String>> {
    let Some(newest) = snapshots(path)?.into_iter().max() else { return Ok(None) };
    let is_whole = read(&newest)?.is_none_or(|bytes| is_whole_snapshot(&bytes));
    let name = || newest.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((!is_whole).then(name))
}

/// `is_made`: the store has a witness, so that its `conf` was synced once.
fn is_unfinished_conf(bytes: &[u8], is_made: bool) -> bool {
    let whole = [CONF_TEXT.as_bytes(), &crc32fast::hash(CONF_TEXT.as_bytes()).to_le_bytes()].concat();
    let is_beginning = bytes.len() < whole.len() && whole.starts_with(bytes);
    is_beginning || (!is_made && bytes.iter().all(|byte| *byte == 0))
}

/// The same check as sled's.
fn is_whole_snapshot(bytes: &[u8]) -> bool {
    let Some((rest, checksum)) = bytes.split_last_chunk::<SNAPSHOT_CHECKSUM_BYTES>() else { return false };
    let Some((content, _)) = rest.split_last_chunk::<SNAPSHOT_LENGTH_BYTES>() else { return false };
    !content.is_empty() && crc32fast::hash(content) == u32::from_le_bytes(*checksum)
}

/// Every file that sled takes for a snapshot.
fn snapshots(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut snapshots = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if is_snapshot(&entry.file_name()) {
            snapshots.push(entry.path());
        }
    }
    Ok(snapshots)
}

fn is_snapshot(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(SNAPSHOT_PREFIX.as_bytes())
}

fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreOptions, open};

    #[test]
    fn the_files_of_a_store_are_as_sled_writes_them() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            drop(open(directory.path(), StoreOptions::default()).unwrap());
        }
        let conf = fs::read(directory.path().join(CONF_FILE)).unwrap();
        assert!(!is_unfinished_conf(&conf, true));
        for cut in 0..conf.len() {
            assert!(is_unfinished_conf(&conf[..cut], true), "cut at {cut}");
        }
        assert!(is_unfinished_conf(&vec![0; conf.len()], false) && !is_unfinished_conf(&vec![0; conf.len()], true));
        let snapshots = snapshots(directory.path()).unwrap();
        assert_eq!(snapshots.len(), 1);
        let snapshot = fs::read(&snapshots[0]).unwrap();
        assert!(is_whole_snapshot(&snapshot));
        for cut in 0..snapshot.len() {
            assert!(!is_whole_snapshot(&snapshot[..cut]), "cut at {cut}");
        }
    }
}
