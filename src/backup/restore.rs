//! Restoring: a backup is unpacked beside the store, checked, and then takes the store's place as a whole.

use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rookery_actors::linked_sessions;
use rookery_model::Timestamp;
use rookery_store::{Batch, EventLog, Health, Store, StoreError, StoreKey};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{BackupError, Home, pepper_of, read, write};
use crate::auth::ApiKeys;
use crate::config::DataLocation;
use crate::data_dir;
use crate::event_log;
use crate::files::SecretFile;
use crate::store_key::{self, STORE_DIRECTORY};

/// Names in a message; further names are only counted.
const NAMES_MAX: usize = 10;

/// Said in errors, where that is known.
pub(super) const NOTHING_CHANGED: &str = "nothing was changed";

/// The result of a restore.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Restored {
    /// When the backup was made.
    pub(super) made_at: Timestamp,
    /// The sessions that have credentials.
    pub(super) sessions: Vec<String>,
    /// A backup of the earlier store, or that store itself when it could not be read; `None` when there was none.
    pub(super) before: Option<PathBuf>,
    /// The changes of API keys, a line each.
    #[serde(default)]
    pub(super) keys: Vec<String>,
    /// The epoch of the restored events; `None`: there were none in the backup.
    #[serde(default)]
    pub(super) events_epoch: Option<u64>,
}

/// The operator's options.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// Restore even if sessions may be alive elsewhere, or are lost here.
    pub(super) force: bool,
    /// The API keys stay as they are.
    pub(super) keep_keys: bool,
}

/// Unpacks a backup beside the store; nothing is changed yet. `now` is the store that is to be replaced. Blocks.
///
/// # Errors
/// In words for the operator: it cannot be read, or (without `force`) its sessions may be alive elsewhere, or (with `keep_keys`)
/// there are no API keys that could be kept.
pub(super) fn unpack(
    location: &DataLocation,
    key: &StoreKey,
    from: impl Read,
    backup_key: &StoreKey,
    now: Option<&dyn Store>,
    wish: Wish,
) -> Result<Restored> {
    let Wish { force, keep_keys } = wish;
    if keep_keys && now.is_none() {
        bail!("there is no store here that can be read, and so no API keys that could be kept: leave --keep-keys out");
    }
    let (manifest, mut export) = read(from, backup_key)?;
    let here = Home::of(&location.data_dir);
    let path = location.data_dir.join(STORE_DIRECTORY);
    if !force && let Some(now) = now {
        let linked = names(now)?;
        if !linked.is_empty() {
            bail!(
                "there are sessions here that a phone is linked to ({}): a restore takes them back to {}, or away, and what \
                 they agreed on with WhatsApp since then is lost. If that is meant, repeat it with --force; a backup of what \
                 is here now is made first",
                list(&linked),
                manifest.made_at
            );
        }
    }
    let next = rookery_store::open_next(&path, store_key::with_key(key))?;
    let mut events_epoch = None;
    let unpacked = (|| {
        next.import(&mut export)?;
        let unpack_events = || event_log::unpack(&mut export, &*next, now, &location.data_dir);
        events_epoch = manifest.has_events.then(unpack_events).transpose()?;
        let sessions = names(&*next)?;
        if !force && !sessions.is_empty() {
            check_home(&manifest.home, &here, &sessions)?;
        }
        let (mut pepper, mut keys) = (manifest.pepper, Vec::new());
        match now {
            Some(now) if keep_keys => {
                ApiKeys::carry_over(now, &*next)?;
                pepper = pepper_of(now, &location.data_dir)?;
            }
            Some(now) => keys = ApiKeys::differences(now, &*next)?,
            None => {}
        }
        let mut batch = Batch::new();
        ApiKeys::keep_restored_pepper(&mut batch, pepper.as_ref())?;
        next.commit(batch).wait_blocking()?;
        Ok(Restored { made_at: manifest.made_at, sessions, before: None, keys, events_epoch })
    })();
    drop(next);
    if unpacked.is_err() {
        if let Some(epoch) = events_epoch {
            event_log::discard(&location.data_dir, epoch);
        }
        rookery_store::discard_next(&path)?;
    }
    unpacked
}

/// Two daemons with the credentials of one session disconnect each other and lose messages.
fn check_home(home: &Home, here: &Home, sessions: &[String]) -> Result<()> {
    let (sessions, directory) = (list(sessions), home.directory.display());
    let where_else = if home.machine.is_none() || here.machine.is_none() {
        format!(
            "nothing tells this machine from others (it has neither a machine id nor a host name), so that the sessions of the \
             backup ({sessions}) may be alive elsewhere"
        )
    } else if !home.is_on_the_machine_of(here) {
        format!("the backup was made on another machine, where its sessions ({sessions}) may be alive")
    } else if home.directory == here.directory {
        return Ok(());
    } else if !home.directory.is_dir() {
        format!(
            "the sessions of the backup ({sessions}) may be alive in the daemon of `{directory}`, which cannot be seen from here"
        )
    } else if data_dir::is_in_use(&home.directory) {
        format!("the sessions of the backup ({sessions}) are alive in the daemon of `{directory}`")
    } else {
        return Ok(());
    };
    bail!(
        "{where_else}: connected from two places an account loses messages. Stop that daemon for good, then repeat this, with \
         --force where it cannot be seen that it is stopped"
    );
}

/// Puts the unpacked backup into the place of the store, which must not be open. The old store is written to a backup
/// first; a store that cannot be read is kept as it is, under another name. Blocks.
///
/// # Errors
/// In words for the operator; the store is unchanged then.
pub(super) fn replace(location: &DataLocation, key: &StoreKey, restored: Restored) -> Result<Restored> {
    let path = location.data_dir.join(STORE_DIRECTORY);
    if !rookery_store::exists(&path) {
        rookery_store::replace(&path, None)?;
        return Ok(restored);
    }
    let time = file_time(Timestamp::now());
    if let Some(now) = open_readable(location, key)? {
        let file = location.data_dir.join(format!("before-restore-{time}.backup"));
        let events = event_log::open_existing(&*now, &location.data_dir).unwrap_or_else(|error| {
            warn!(%error, "the events that are here now are not in the backup that is made of it");
            None
        });
        let saved = save(&*now, events.as_ref(), &location.data_dir, key, &file);
        let is_readable = !matches!(now.health(), Health::Failed(_));
        drop(now);
        if saved.is_ok() || is_readable {
            saved.with_context(|| format!("could not write `{}`, so nothing was changed", file.display()))?;
            rookery_store::replace(&path, None)?;
            return Ok(Restored { before: Some(file), ..restored });
        }
    }
    let name = format!("{STORE_DIRECTORY}.unreadable-{time}");
    event_log::keep_others(&location.data_dir, restored.events_epoch, &format!("events.unreadable-{time}"));
    rookery_store::replace(&path, Some(&name))?;
    Ok(Restored { before: Some(location.data_dir.join(name)), ..restored })
}

/// The store of this data directory; `None`: there is none, or none that could ever be read. Blocks.
///
/// # Errors
/// The store could be read, but not now or not with this key.
pub(super) fn open_readable(location: &DataLocation, key: &StoreKey) -> Result<Option<Arc<dyn Store>>> {
    let path = location.data_dir.join(STORE_DIRECTORY);
    if !rookery_store::exists(&path) {
        return Ok(None);
    }
    rookery_store::settle(&path)?;
    // Not `open_encrypted`, which would remove the unpacked backup.
    match rookery_store::open(&path, store_key::with_key(key)) {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::Damaged { .. } | StoreError::UnfinishedImport { .. } | StoreError::UnknownLayout { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "could not open the store that is to be replaced; to restore without it, move `{}` away",
                path.display()
            )
        }),
    }
}

/// Writes a backup into a file, for its owner alone; it is on disk when this returns. Blocks.
///
/// # Errors
/// The file cannot be written, or the store or its event log cannot be read.
pub(super) fn save(
    store: &dyn Store,
    events: Option<&EventLog>,
    data_dir: &Path,
    key: &StoreKey,
    file: &Path,
) -> Result<(), BackupError> {
    let to = BufWriter::new(SecretFile::begin(file)?);
    let written = write(store, events, data_dir, key, to)?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(written.finish()?)
}

/// The names of the sessions that have credentials.
pub(super) fn names(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    Ok(linked_sessions(store)?.iter().map(ToString::to_string).collect())
}

/// Names in a sentence.
pub(super) fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// A time as a part of a file's name.
fn file_time(time: Timestamp) -> String {
    time.to_string().chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The key of the store, for a data directory that a backup is to be restored into.
///
/// # Errors
/// There is no key: a new one would open no backup.
pub(super) fn key_of(location: &DataLocation) -> Result<StoreKey> {
    store_key::find(location)?.map(|(key, _)| key).with_context(|| {
        format!(
            "there is no key in `{}`, and a backup opens with the key of its store only: put `store.key` back first, or name \
             the key with --store-key-file",
            location.data_dir.display()
        )
    })
}
