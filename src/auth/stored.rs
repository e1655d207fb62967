//! The rows of [`Table::Keys`], all at the daemon's own number:
//!
//! | key | value |
//! |---|---|
//! | `r`, id (16 bytes), in parts | the record, as JSON |
//! | `u`, id | how often it was used, as JSON; written on its own, so that use never rewrites a record |
//! | `p` | the pepper's fingerprint |
//! | `q` | the pepper itself, as hex: of a backup that was restored, until the next start writes it into its file |
//!
//! The first version kept records under their bare id, with use, and with hashes without a pepper. They are rewritten
//! when they are read.

use std::collections::HashMap;

use hex::FromHex;
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, Table, delete_parts, parts_in, put_parts, scan_parts,
};
use serde_json::Value;
use uuid::Uuid;

use super::KeysError;
use super::keys::{KeyRecord, Usage};
use super::pepper::{KeyHash, Pepper};

const RECORD_MARK: u8 = b'r';
const USAGE_MARK: u8 = b'u';
const PEPPER_KEY: &[u8] = b"p";
const RESTORED_PEPPER_KEY: &[u8] = b"q";
const ID_BYTES: usize = 16;
/// Bytes of a record: 1,024 groups, 100 sessions and 100 addresses are 45 KiB.
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Old records rewritten in one batch: each takes its parts, its use, and the removal of the old row.
const REWRITTEN_IN_BATCH_MAX: usize = BATCH_OPERATIONS_MAX / (parts_in(RECORD_BYTES_MAX) + 2);

fn row(mark: u8, id: Uuid) -> Vec<u8> {
    [&[mark][..], id.as_bytes()].concat()
}

/// All keys, with their use. Rewrites old records. Blocks for two scans.
pub(super) async fn read(store: &dyn Store, pepper: &Pepper) -> Result<Vec<(KeyRecord, Usage)>, KeysError> {
    rewrite_old(store, pepper).await?;
    check_pepper(store, pepper).await?;
    let mut usage = HashMap::new();
    for (key, value) in store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[USAGE_MARK])? {
        if let Ok(id) = Uuid::from_slice(&key[1..]) {
            usage.insert(id, serde_json::from_slice::<Usage>(&value)?);
        }
    }
    let with_usage = |record: KeyRecord| {
        let usage = usage.get(&record.id).copied().unwrap_or_default();
        (record, usage)
    };
    Ok(records(store)?.into_iter().map(with_usage).collect())
}

/// Whether the store holds keys that need the pepper they were made with.
pub(super) fn needs_its_pepper(store: &dyn Store) -> Result<bool, KeysError> {
    Ok(store.get(SessionNumber::DAEMON, Table::Keys, PEPPER_KEY)?.is_some())
}

/// The pepper's fingerprint in the store, if there is one.
pub(super) fn pepper_row(store: &dyn Store) -> Result<Option<Vec<u8>>, KeysError> {
    Ok(store.get(SessionNumber::DAEMON, Table::Keys, PEPPER_KEY)?)
}

/// The records of all keys, without their use.
pub(super) fn records(store: &dyn Store) -> Result<Vec<KeyRecord>, KeysError> {
    let records = scan_parts(store, SessionNumber::DAEMON, Table::Keys, &[RECORD_MARK])?;
    records.into_iter().map(|(_, value)| Ok(serde_json::from_slice(&value)?)).collect()
}

/// The pepper that came with a backup and is not in its file yet.
pub(super) fn restored_pepper(store: &dyn Store) -> Result<Option<Pepper>, KeysError> {
    let row = store.get(SessionNumber::DAEMON, Table::Keys, RESTORED_PEPPER_KEY)?;
    row.map(|row| serde_json::from_slice(&row).map_err(KeysError::from)).transpose()
}

/// Keeps a pepper with its keys; `None`: the pepper is in its file now.
pub(super) fn keep_restored_pepper(batch: &mut Batch, pepper: Option<&Pepper>) -> Result<(), KeysError> {
    match pepper {
        Some(pepper) => {
            batch.put(SessionNumber::DAEMON, Table::Keys, RESTORED_PEPPER_KEY, serde_json::to_vec(pepper)?);
        }
        None => batch.delete(SessionNumber::DAEMON, Table::Keys, RESTORED_PEPPER_KEY),
    }
    Ok(())
}

pub(super) fn put(store: &dyn Store, batch: &mut Batch, record: &KeyRecord) -> Result<(), KeysError> {
    let value = serde_json::to_vec(record)?;
    if value.len() > RECORD_BYTES_MAX {
        return Err(KeysError::TooLarge);
    }
    put_parts(store, batch, SessionNumber::DAEMON, Table::Keys, &row(RECORD_MARK, record.id), &value)?;
    Ok(())
}

pub(super) fn put_usage(batch: &mut Batch, id: Uuid, usage: Usage) -> Result<(), KeysError> {
    batch.put(SessionNumber::DAEMON, Table::Keys, row(USAGE_MARK, id), serde_json::to_vec(&usage)?);
    Ok(())
}

pub(super) fn delete(store: &dyn Store, batch: &mut Batch, id: Uuid) -> Result<(), KeysError> {
    delete_parts(store, batch, SessionNumber::DAEMON, Table::Keys, &row(RECORD_MARK, id))?;
    batch.delete(SessionNumber::DAEMON, Table::Keys, row(USAGE_MARK, id));
    Ok(())
}

/// Removes every row; returns how many keys there were.
pub(super) async fn clear(store: &dyn Store) -> Result<usize, KeysError> {
    let rows = store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[])?;
    let is_first_part = |key: &[u8]| key.len() == ID_BYTES || (key[0] == RECORD_MARK && key.last() == Some(&0));
    let keys = rows.iter().filter(|(key, _)| is_first_part(key)).count();
    for some in rows.chunks(BATCH_OPERATIONS_MAX) {
        let mut batch = Batch::new();
        some.iter().for_each(|(key, _)| batch.delete(SessionNumber::DAEMON, Table::Keys, key.clone()));
        store.commit(batch).await?;
    }
    Ok(keys)
}

/// Checks that the store's hashes are of this pepper: another one would silently make every key unknown.
async fn check_pepper(store: &dyn Store, pepper: &Pepper) -> Result<(), KeysError> {
    let known = store.get(SessionNumber::DAEMON, Table::Keys, PEPPER_KEY)?;
    match known {
        Some(known) if serde_json::from_slice::<KeyHash>(&known)? == pepper.fingerprint() => Ok(()),
        Some(_) => Err(KeysError::OtherPepper),
        None => {
            let mut batch = Batch::new();
            let fingerprint = serde_json::to_vec(&pepper.fingerprint())?;
            batch.put(SessionNumber::DAEMON, Table::Keys, PEPPER_KEY, fingerprint);
            Ok(store.commit(batch).await?)
        }
    }
}

/// Rewrites old rows, which are recognised by the length of their keys.
async fn rewrite_old(store: &dyn Store, pepper: &Pepper) -> Result<(), KeysError> {
    let rows = store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[])?;
    let old: Vec<_> = rows.into_iter().filter(|(key, _)| key.len() == ID_BYTES).collect();
    for some in old.chunks(REWRITTEN_IN_BATCH_MAX) {
        let mut batch = Batch::new();
        for (key, value) in some {
            let mut value: Value = serde_json::from_slice(value)?;
            let plain =
                value["hash"].as_str().and_then(|hash| FromHex::from_hex(hash).ok()).ok_or(KeysError::OldRecord)?;
            value["keyed_hash"] = serde_json::to_value(pepper.hash_of_plain(plain))?;
            let usage: Usage = serde_json::from_value(value.clone())?;
            let record: KeyRecord = serde_json::from_value(value)?;
            put(store, &mut batch, &record)?;
            put_usage(&mut batch, record.id, usage)?;
            batch.delete(SessionNumber::DAEMON, Table::Keys, key.clone());
        }
        store.commit(batch).await?;
    }
    Ok(())
}
