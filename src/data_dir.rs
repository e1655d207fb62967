//! The data directory: made for its owner alone, used by one process at a time, and left to its owner by root.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::fs::OFlags;
use tracing::warn;
use uuid::Uuid;

use crate::files::{UNFINISHED_SUFFIX, keep_private};

/// The file in the data directory without which no API key can be checked.
pub(crate) const PEPPER_FILE: &str = "api-keys.pepper";

/// A killed daemon, or a command, ends within this time.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY_AFTER: Duration = Duration::from_millis(20);
/// The names of our files and directories in the data directory; some have a suffix.
const OWN_NAMES: [&str; 6] = ["store", "events", "api-keys.pepper", "admin.key", "before-restore-", "control.sock"];

/// The start of a spool's name, which the spool has for a moment only; a UUID follows.
const SPOOL_PREFIX: &str = "spool-";

/// Makes the directory when it is missing, for its owner alone. Rights that others have to it, or to the files in it that hold
/// secrets, are taken away, with a warning.
///
/// # Errors
/// The directory cannot be made or read, or others have rights to it that cannot be taken away.
pub(crate) fn prepare(path: &Path) -> Result<()> {
    let named = || format!("could not use the data directory `{}`", path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(named)?;
    let mode = fs::metadata(path).with_context(named)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let private = fs::set_permissions(path, Permissions::from_mode(mode & !0o077));
        private.with_context(|| {
            format!("others may use the data directory `{}` (mode {mode:o}): `chmod 700` it", path.display())
        })?;
        warn!(data_dir = %path.display(), mode = format_args!("{mode:o}"), "others could use the data directory: their rights were taken away");
    }
    keep_secrets_private(path)
}

/// Takes the rights of others to the secret files away: a process that had the directory open may still reach them.
fn keep_secrets_private(path: &Path) -> Result<()> {
    let named = |path: &Path| format!("could not use `{}`", path.display());
    for entry in fs::read_dir(path).with_context(|| named(path))? {
        let entry = entry.with_context(|| named(path))?;
        let is_secret =
            entry.file_name().to_str().is_some_and(|name| OWN_NAMES.iter().any(|own| name.starts_with(own)));
        // A link is not followed.
        if is_secret && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let path = entry.path();
            let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
            let file =
                OpenOptions::new().read(true).custom_flags(no_follow).open(&path).with_context(|| named(&path))?;
            keep_private(&file, &path).with_context(|| named(&path))?;
        }
    }
    Ok(())
}

/// Removes the unfinished files of a killed daemon or command. The caller holds the directory's lock.
///
/// # Errors
/// The files cannot be listed or removed.
fn remove_unfinished(path: &Path) -> Result<()> {
    let named = |path: &Path| format!("could not remove what is left in `{}`", path.display());
    for entry in fs::read_dir(path).with_context(|| named(path))? {
        let entry = entry.with_context(|| named(path))?;
        let is_left = entry.file_name().to_str().is_some_and(is_unfinished);
        if is_left && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            fs::remove_file(entry.path()).with_context(|| named(&entry.path()))?;
        }
    }
    Ok(())
}

/// Whether this is an unfinished file: a secret or a backup before it got its name, or a spool, which should have no
/// name.
fn is_unfinished(name: &str) -> bool {
    let is_own = OWN_NAMES.iter().any(|own| name.starts_with(own));
    let spool = name.strip_prefix(SPOOL_PREFIX).is_some_and(|id| id.parse::<Uuid>().is_ok());
    spool || (is_own && name.ends_with(UNFINISHED_SUFFIX))
}

/// The right to use a data directory. The store has a lock of its own, but has to be closed to be replaced.
pub(crate) struct Lock {
    _directory: File,
}

impl Lock {
    /// Waits for the lock, for 2 s, and removes the unfinished files of its last holder. Blocks.
    ///
    /// # Errors
    /// Another daemon or command has the lock, there is no such directory, or an unfinished file cannot be removed.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let named = || format!("could not use the data directory `{}`", path.display());
        let directory = File::open(path).with_context(named)?;
        let began = Instant::now();
        loop {
            match directory.try_lock() {
                Ok(()) => {
                    remove_unfinished(path)?;
                    return Ok(Self { _directory: directory });
                }
                Err(TryLockError::Error(error)) => return Err(error).with_context(named),
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_RETRY_AFTER),
                Err(TryLockError::WouldBlock) => {
                    bail!("another daemon uses this directory, or a command for it: `{}`", path.display())
                }
            }
        }
    }
}

/// A new file that is gone when it is closed: its name is taken away at once.
///
/// # Errors
/// The file cannot be made.
pub(crate) fn nameless_file(path: &Path) -> io::Result<File> {
    let path = path.join(format!("{SPOOL_PREFIX}{}", Uuid::new_v4()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Whether a daemon or a command uses this data directory; a directory that cannot be opened counts as used.
pub(crate) fn is_in_use(path: &Path) -> bool {
    File::open(path).and_then(|directory| Ok(directory.try_lock()?)).is_err()
}

/// The right to use a data directory without a daemon. Files that root writes meanwhile are given to the directory's
/// owner at the end: the daemon could not use root's files.
pub(crate) struct Offline {
    path: PathBuf,
    _lock: Lock,
}

impl Offline {
    /// As [`Lock::take`].
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), _lock: Lock::take(path)? })
    }

    /// Gives the files that root wrote so far to the directory's owner.
    pub(crate) fn hand_over(&self) {
        if let Err(error) = hand_over(&self.path) {
            warn!(data_dir = %self.path.display(), %error, "could not give all files to the owner of the data directory");
        }
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        self.hand_over();
    }
}

fn hand_over(path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let directory = File::open(path)?;
    let owner = directory.metadata()?;
    give_all(&directory, owner.uid(), owner.gid(), |name| OWN_NAMES.iter().any(|own| name.starts_with(own)))
}

/// Gives root's files to the directory's owner. Follows no symbolic link and skips files with a second name: a user who
/// may write in the directory could mislead root.
fn give_all(directory: &File, user: u32, group: u32, is_ours: fn(&str) -> bool) -> io::Result<()> {
    let no_follow_no_wait = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    for entry in fs::read_dir(&path)? {
        let name = entry?.file_name();
        if !name.to_str().is_some_and(&is_ours) {
            continue;
        }
        let opened = OpenOptions::new().read(true).custom_flags(no_follow_no_wait).open(path.join(&name));
        // A link, a socket, or a file that is gone by now.
        let Ok(opened) = opened else { continue };
        let metadata = opened.metadata()?;
        if metadata.uid() == 0 && (metadata.is_dir() || (metadata.is_file() && metadata.nlink() == 1)) {
            fchown(&opened, Some(user), Some(group))?;
        }
        if metadata.is_dir() {
            give_all(&opened, user, group, |_| true)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_may_use_is_mended_with_the_secrets_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        prepare(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for name in ["admin.key", "store.key", "readme"] {
            fs::write(path.join(name), "").unwrap();
            fs::set_permissions(path.join(name), Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        prepare(&path).unwrap();
        let modes = ["admin.key", "store.key", "readme"].map(|name| mode(&path.join(name)));
        assert_eq!((mode(&path), modes), (0o700, [0o640, 0o640, 0o644]));
    }

    #[test]
    fn a_directory_is_used_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path()).unwrap();
        let refused = Lock::take(directory.path()).map(drop).unwrap_err().to_string();
        assert!(refused.contains("another daemon uses this directory"), "{refused}");
        drop(lock);
        drop(Lock::take(directory.path()).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "it needs no file");
    }

    /// Only root can give files away; for others this must have no effect.
    #[test]
    fn what_root_leaves_in_a_directory_belongs_to_the_directorys_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let owner_of = |name: &str| fs::symlink_metadata(path(name)).unwrap().uid();
        fs::create_dir(path("store")).unwrap();
        for name in ["store/db", "before-restore-1.backup", "somebody-elses", "outside", "linked-to"] {
            fs::write(path(name), "").unwrap();
        }
        symlink(path("linked-to"), path("store/link")).unwrap();
        fs::hard_link(path("outside"), path("store/second-name")).unwrap();
        let own = owner_of("outside");
        let owner = if own == 0 { 12_345 } else { own };
        lchown(directory.path(), Some(owner), None).unwrap();
        drop(Offline::begin(directory.path()).unwrap());
        for name in ["store", "store/db", "before-restore-1.backup"] {
            assert_eq!(owner_of(name), owner, "{name}");
        }
        for name in ["outside", "somebody-elses", "linked-to", "store/link"] {
            assert_eq!(owner_of(name), own, "{name}");
        }
    }

    #[test]
    fn what_a_killed_one_did_not_finish_goes_with_the_next_lock_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let spool = format!("{SPOOL_PREFIX}{}", Uuid::new_v4());
        let left = [spool.as_str(), "admin.key.new", "before-restore-20261129.backup.new"];
        let kept = ["admin.key", "before-restore-20261129.backup", "spool-of-thread", "notes.new", "store.key"];
        for name in left.into_iter().chain(kept) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join("store.new")).unwrap();
        drop(Lock::take(directory.path()).unwrap());
        let is_there = |name: &str| directory.path().join(name).exists();
        assert_eq!(left.map(is_there), [false; 3]);
        assert_eq!(kept.map(is_there), [true; 5]);
        assert!(is_there("store.new"));
    }
}
