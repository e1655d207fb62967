//! The effect of a restore on the keys: the keys of the backup replace the existing keys, unless these are carried
//! over. Blocks.

use std::collections::HashMap;

use rookery_model::Timestamp;
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, Table};
use uuid::Uuid;

use super::KeysError;
use super::keys::KeyRecord;
use super::stored;

/// One line for each key whose rights or validity change; none for keys that stay as they are.
pub(super) fn differences(now: &dyn Store, next: &dyn Store, at: Timestamp) -> Result<Vec<String>, KeysError> {
    let has_one_pepper = stored::pepper_row(now)? == stored::pepper_row(next)?;
    let by_id = |records: Vec<KeyRecord>| records.into_iter().map(|record| (record.id, record)).collect();
    let (now, next): (HashMap<Uuid, KeyRecord>, HashMap<Uuid, KeyRecord>) =
        (by_id(stored::records(now)?), by_id(stored::records(next)?));
    let mut lines: Vec<_> = next
        .values()
        .filter(|restored| restored.is_usable(at))
        .filter_map(|restored| {
            let what = match now.get(&restored.id) {
                None => "works again: it was deleted since",
                Some(live) if !live.is_usable(at) => "works again: it was revoked or had expired",
                Some(live) if has_one_pepper && live.keyed_hash != restored.keyed_hash => {
                    "works with its earlier secret again, and no longer with the later one: it was rotated since"
                }
                Some(live) if live.terms != restored.terms => {
                    "may do again what it was allowed then: that was changed since"
                }
                Some(_) => return None,
            };
            Some(line(restored, what))
        })
        .collect();
    let is_lost = |live: &&KeyRecord| live.is_usable(at) && next.get(&live.id).is_none_or(|next| !next.is_usable(at));
    lines.extend(now.values().filter(is_lost).map(|live| line(live, "no longer works: it was made since")));
    lines.sort();
    Ok(lines)
}

fn line(record: &KeyRecord, what: &str) -> String {
    format!("{:?} ({}..., {}) {what}", record.terms.name, record.prefix, record.terms.role.as_str())
}

/// Replaces all rows of the keys, their pepper's fingerprint included.
pub(super) fn carry_over(now: &dyn Store, next: &dyn Store) -> Result<(), KeysError> {
    let scan = |store: &dyn Store| store.scan_prefix(SessionNumber::DAEMON, Table::Keys, &[]);
    for rows in scan(next)?.chunks(BATCH_OPERATIONS_MAX) {
        let mut batch = Batch::new();
        rows.iter().for_each(|(key, _)| batch.delete(SessionNumber::DAEMON, Table::Keys, key.clone()));
        next.commit(batch).wait_blocking()?;
    }
    for rows in scan(now)?.chunks(BATCH_OPERATIONS_MAX) {
        let mut batch = Batch::new();
        for (key, value) in rows {
            batch.put(SessionNumber::DAEMON, Table::Keys, key.clone(), value.clone());
        }
        next.commit(batch).wait_blocking()?;
    }
    Ok(())
}
