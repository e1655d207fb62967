//! The event log's place in the data directory: `events`, with a directory for each epoch. The store names the epoch that it
//! belongs to. So a store that takes the place of another, as a backup does, takes its log along, whenever that is stopped.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rookery_model::Timestamp;
use rookery_store::{Batch, EventKey, EventLog, EventLogOptions, SessionNumber, Store, StoreError, Table, layout};
use tracing::warn;

/// The directory of all epochs in the data directory.
const EVENTS_DIRECTORY: &str = "events";

/// Opens the log that belongs to a store, or begins one. Blocks.
///
/// # Errors
/// In words for the operator: a file of the log cannot be read, or the store cannot be written.
pub(crate) fn open(store: &dyn Store, data_dir: &Path, options: EventLogOptions) -> Result<Arc<EventLog>> {
    let known = epoch_of(store)?;
    let epoch = match known {
        Some(epoch) if directory_of(data_dir, epoch).is_dir() => epoch,
        Some(lost) => {
            warn!(directory = %directory_of(data_dir, lost).display(), "the event log is gone: it begins anew");
            epoch_after(Some(lost))
        }
        None => epoch_after(None),
    };
    let log = EventLog::open(&directory_of(data_dir, epoch), EventLogOptions { epoch, ..options })?;
    if known != Some(epoch) {
        let mut batch = Batch::for_removal();
        put_epoch(&mut batch, epoch);
        store.commit(batch).wait_blocking()?;
    }
    remove_others(data_dir, epoch);
    Ok(Arc::new(log))
}

/// The key that hides positions in the whole log, made at the first start. Blocks.
///
/// # Errors
/// The store cannot be read or written.
pub(crate) fn cursor_key(store: &dyn Store) -> Result<EventKey, StoreError> {
    let stored = store.get(SessionNumber::DAEMON, Table::Meta, layout::EVENTS_CURSOR_KEY)?;
    if let Some(key) = stored.as_deref().and_then(EventKey::from_bytes) {
        return Ok(key);
    }
    let key = EventKey::generate()?;
    let mut batch = Batch::for_removal();
    batch.put(SessionNumber::DAEMON, Table::Meta, layout::EVENTS_CURSOR_KEY, key.reveal());
    store.commit(batch).wait_blocking()?;
    Ok(key)
}

/// Opens the log of a store that no daemon uses, for a backup. `None`: it has none. Blocks.
///
/// # Errors
/// A file of the log cannot be read.
pub(crate) fn open_existing(store: &dyn Store, data_dir: &Path) -> Result<Option<EventLog>, StoreError> {
    let Some(epoch) = epoch_of(store)? else { return Ok(None) };
    let directory = directory_of(data_dir, epoch);
    // Reading needs no room, and removes nothing: how long events are kept is the daemon's setting.
    let options = EventLogOptions {
        epoch,
        free_space_min_bytes: 0,
        kept_days: u32::MAX,
        bytes_max: u64::MAX,
        ..EventLogOptions::default()
    };
    if directory.is_dir() { EventLog::open(&directory, options).map(Some) } else { Ok(None) }
}

/// Unpacks the events of a backup for `next`, the store of that backup, which takes them along when it takes its place. `now`:
/// the store that is to be replaced. Returns their epoch. Blocks.
///
/// # Errors
/// The events cannot be read or written; nothing is left of them then.
pub(crate) fn unpack(from: &mut dyn Read, next: &dyn Store, now: Option<&dyn Store>, data_dir: &Path) -> Result<u64> {
    let epochs = [epoch_of(next)?, now.map(epoch_of).transpose()?.flatten()];
    let epoch = epoch_after(epochs.into_iter().flatten().max());
    let directory = directory_of(data_dir, epoch);
    let unpacked = (|| {
        // The store of the backup shows events up to these numbers. Later ones happen again for it.
        let applied = applied_of(next)?;
        let last = |session| applied.get(&session).copied().unwrap_or_default();
        EventLog::import(&directory, from, last).context("could not unpack the events")?;
        let mut batch = Batch::new();
        put_epoch(&mut batch, epoch);
        next.commit(batch).wait_blocking()?;
        Ok(epoch)
    })();
    if unpacked.is_err() {
        discard(data_dir, epoch);
    }
    unpacked
}

/// Removes events that were unpacked and are not to be used.
pub(crate) fn discard(data_dir: &Path, epoch: u64) {
    let _ = fs::remove_dir_all(directory_of(data_dir, epoch));
    // Fails where there are others.
    let _ = fs::remove_dir(data_dir.join(EVENTS_DIRECTORY));
}

/// Moves the logs of a store that cannot be read beside it, where its restored successor, whose log has this epoch, lets
/// them be.
pub(crate) fn keep_others(data_dir: &Path, epoch: Option<u64>, name: &str) {
    for (other, directory) in epochs(data_dir) {
        if Some(other) != epoch {
            let kept = data_dir.join(name);
            let moved = fs::create_dir_all(&kept).and_then(|()| fs::rename(&directory, kept.join(other.to_string())));
            if let Err(error) = moved {
                warn!(directory = %directory.display(), %error, "could not keep the event log of an unreadable store");
            }
        }
    }
}

/// Removes logs that belong to no store any more: a restore replaced their store, or was stopped before it did.
fn remove_others(data_dir: &Path, epoch: u64) {
    for (other, directory) in epochs(data_dir) {
        if other != epoch
            && let Err(error) = fs::remove_dir_all(&directory)
        {
            warn!(directory = %directory.display(), %error, "could not remove an event log that is replaced");
        }
    }
}

fn epochs(data_dir: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(data_dir.join(EVENTS_DIRECTORY)).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect()
}

fn directory_of(data_dir: &Path, epoch: u64) -> PathBuf {
    data_dir.join(EVENTS_DIRECTORY).join(epoch.to_string())
}

/// Unix seconds, and later than the epoch before, whatever the clock shows.
fn epoch_after(before: Option<u64>) -> u64 {
    let now = u64::try_from(Timestamp::now().0 / 1_000).unwrap_or_default();
    now.max(before.map_or(1, |before| before + 1))
}

fn epoch_of(store: &dyn Store) -> Result<Option<u64>, StoreError> {
    let epoch = store.get(SessionNumber::DAEMON, Table::Meta, layout::EVENTS_EPOCH)?;
    Ok(epoch.and_then(|epoch| std::str::from_utf8(&epoch).ok()?.parse().ok()))
}

fn put_epoch(batch: &mut Batch, epoch: u64) {
    batch.put(SessionNumber::DAEMON, Table::Meta, layout::EVENTS_EPOCH, epoch.to_string());
}

/// The number of the last event that the store shows, by session.
fn applied_of(store: &dyn Store) -> Result<HashMap<SessionNumber, u64>, StoreError> {
    let rows = store.scan_all(Table::Events)?.into_iter();
    let applied = rows.filter(|(_, (key, _))| key == layout::EVENTS_APPLIED);
    Ok(applied.filter_map(|(session, (_, last))| Some((session, u64::from_be_bytes(last.try_into().ok()?)))).collect())
}

#[cfg(test)]
mod tests {
    use rookery_store::{Append, SpaceUse, StoreOptions};

    use super::*;

    #[test]
    fn a_backup_without_a_daemon_removes_no_event_whatever_its_age() {
        const ALICE: SessionNumber = SessionNumber(1);
        const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
        let data = tempfile::tempdir().unwrap();
        let store = rookery_store::open(&data.path().join("store"), StoreOptions::default()).unwrap();
        for day in 1..4 {
            let now: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(move || day * DAY_MS);
            let log = open(&*store, data.path(), EventLogOptions { now, ..EventLogOptions::default() }).unwrap();
            let first = u64::try_from(day).unwrap();
            let events = vec![b"event".to_vec()];
            let append =
                Append { session: ALICE, first, events, redo: Vec::new(), index: Vec::new(), space: SpaceUse::Writing };
            log.append(append).wait_blocking().unwrap();
        }
        let log = open_existing(&*store, data.path()).unwrap().unwrap();
        log.trim().unwrap();
        assert_eq!(log.read(ALICE, 0..=9, 9).unwrap().len(), 3);
    }
}
