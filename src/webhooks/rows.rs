//! The rows of webhooks, each at the number of its session, so that they go with it; the records of those of several sessions are at the
//! daemon's own number.
//!
//! | table | key | value |
//! |---|---|---|
//! | [`Table::Webhooks`] | id (16 bytes), in parts | the record, as JSON |
//! | [`Table::WebhookPositions`] | id | [`StoredPosition`], as JSON |
//! | [`Table::WebhookFailures`] | id, number of the event (8 bytes) | [`Failure`], as JSON |

use std::collections::{BTreeSet, HashMap};

use rookery_actors::{last_event, session_numbers};
use rookery_model::Timestamp;
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, EventLog, SessionNumber, Store, StoreError, Table, delete_parts, put_parts,
    scan_parts_each,
};
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::record::WebhookRecord;

const ID_BYTES: usize = 16;
/// Records first.
const TABLES: [Table; 3] = [Table::Webhooks, Table::WebhookPositions, Table::WebhookFailures];

/// How far a webhook has come in the events of a session.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredPosition {
    /// The number of the latest event that needs no delivery any more.
    pub(super) number: u64,
    /// When a delivery was last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tried_at: Option<Timestamp>,
}

/// A delivery that failed, and that the receiver has not had since then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The word of the event.
    pub(crate) event: String,
    /// `None`: the events up to this one were gone before they could be delivered.
    pub(crate) event_id: Option<Uuid>,
    /// When the first attempt was.
    pub(crate) since: Timestamp,
    pub(crate) attempts: u32,
    /// The status of the latest answer; `None`: there was none.
    pub(crate) status: Option<u16>,
    /// What was wrong at the latest attempt.
    pub(crate) error: String,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_at: Option<Timestamp>,
}

/// All that is stored of webhooks.
#[derive(Default)]
pub(crate) struct Stored {
    pub(super) records: Vec<WebhookRecord>,
    pub(super) positions: Vec<(SessionNumber, Uuid, StoredPosition)>,
    pub(super) failures: Vec<(SessionNumber, Uuid, u64, Failure)>,
}

/// Reads everything; what cannot be read is left out, with a line in the log. A position is never behind the last event: in a restored
/// backup it may have been read a moment after the events. Call it before the sessions run. Blocks.
pub(crate) fn read(store: &dyn Store, log: &EventLog) -> Result<Stored, StoreError> {
    let mut stored = Stored::default();
    let rows = store.scan_all(Table::Webhooks)?;
    let numbers: BTreeSet<SessionNumber> = rows.into_iter().map(|(number, _)| number).collect();
    for number in numbers {
        for (_, record) in scan_parts_each(store, number, Table::Webhooks, &[])? {
            stored.records.extend(record.ok().and_then(|json| readable(&json)));
        }
    }
    let mut last_events = HashMap::new();
    for (number, (key, json)) in store.scan_all(Table::WebhookPositions)? {
        let id = Uuid::from_slice(&key).ok();
        let Some((id, position)) = id.zip(readable::<StoredPosition>(&json)) else { continue };
        let last = match last_events.get(&number) {
            Some(last) => *last,
            None => *last_events.entry(number).or_insert(last_event(store, log, number)?),
        };
        stored.positions.push((number, id, StoredPosition { number: position.number.min(last), ..position }));
    }
    for (number, (key, json)) in store.scan_all(Table::WebhookFailures)? {
        let place = key
            .split_at_checked(ID_BYTES)
            .and_then(|(id, event)| Some((Uuid::from_slice(id).ok()?, u64::from_be_bytes(event.try_into().ok()?))));
        let failure = place.zip(readable(&json));
        stored.failures.extend(failure.map(|((id, event), failure)| (number, id, event, failure)));
    }
    Ok(stored)
}

/// The removal of all rows of a session. Blocks.
pub(super) fn of_session(store: &dyn Store, number: SessionNumber) -> Result<Vec<Batch>, StoreError> {
    let mut keys = Vec::new();
    for table in TABLES {
        keys.extend(store.scan_prefix(number, table, b"")?.into_iter().map(|(key, _)| (number, table, key)));
    }
    Ok(removal(&keys))
}

/// The removal of rows that a crash left behind: of sessions that are gone, and of webhooks without a record. Call it before the sessions
/// run. Blocks.
pub(crate) fn orphans(store: &dyn Store) -> Result<Vec<Batch>, StoreError> {
    let mut rows = Vec::new();
    for table in TABLES {
        rows.extend(store.scan_all(table)?.into_iter().map(|(number, (key, _))| (number, table, key)));
    }
    if rows.is_empty() {
        // Most daemons have none, and need not read every session for that.
        return Ok(Vec::new());
    }
    let mut sessions: BTreeSet<SessionNumber> = session_numbers(store)?.into_values().collect();
    sessions.insert(SessionNumber::DAEMON);
    let mut webhooks = BTreeSet::new();
    rows.retain(|(number, table, key)| {
        let id = key.get(..ID_BYTES).map(<[u8]>::to_vec).unwrap_or_default();
        let is_left = sessions.contains(number);
        match table {
            Table::Webhooks if is_left => {
                webhooks.insert(id);
                false
            }
            _ => !is_left || !webhooks.contains(&id),
        }
    });
    Ok(removal(&rows))
}

fn removal(keys: &[(SessionNumber, Table, Vec<u8>)]) -> Vec<Batch> {
    let batches = keys.chunks(BATCH_OPERATIONS_MAX).map(|keys| {
        let mut batch = Batch::for_removal();
        keys.iter().for_each(|(number, table, key)| batch.delete(*number, *table, key.as_slice()));
        batch
    });
    batches.collect()
}

fn readable<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Option<T> {
    // The error's text may hold a part of the row, and so of a secret.
    serde_json::from_slice(json).inspect_err(|_| warn!("a row of a webhook cannot be read, it is left out")).ok()
}

pub(super) fn put_record(
    store: &dyn Store,
    batch: &mut Batch,
    number: SessionNumber,
    record: &WebhookRecord,
) -> Result<(), StoreError> {
    put_parts(store, batch, number, Table::Webhooks, record.id.as_bytes(), &json(record)).map(drop)
}

pub(super) fn delete_record(
    store: &dyn Store,
    batch: &mut Batch,
    number: SessionNumber,
    id: Uuid,
) -> Result<(), StoreError> {
    delete_parts(store, batch, number, Table::Webhooks, id.as_bytes()).map(drop)
}

pub(super) fn put_position(batch: &mut Batch, number: SessionNumber, id: Uuid, position: StoredPosition) {
    batch.put(number, Table::WebhookPositions, id.as_bytes(), json(&position));
}

pub(super) fn delete_position(batch: &mut Batch, number: SessionNumber, id: Uuid) {
    batch.delete(number, Table::WebhookPositions, id.as_bytes());
}

/// Writes a failure; `None` removes it.
pub(super) fn put_failure(batch: &mut Batch, number: SessionNumber, id: Uuid, event: u64, failure: Option<&Failure>) {
    let key = [&id.as_bytes()[..], &event.to_be_bytes()].concat();
    match failure {
        Some(failure) => batch.put(number, Table::WebhookFailures, key, json(failure)),
        None => batch.delete(number, Table::WebhookFailures, key),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
