//! Puts a batch together and commits it. Knows what rows there are; decides nothing.

use std::fmt::Display;
use std::sync::Arc;

use rookery_model::GroupId;
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, delete_parts, layout, put_parts,
};
use serde::Serialize;

use super::{Draft, GroupDraft, GroupWrite};
use crate::crash_point::{CrashPoint, reach};
use crate::session::record::SessionRecord;
use crate::session_log::{LogKey, SessionLog, put_applied};

/// Where a session's batches go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Arc<SessionLog>,
    pub(crate) number: SessionNumber,
}

/// A batch that is on disk, or not.
pub(crate) struct Written {
    pub(super) draft: Draft,
    /// The result for the events. Nothing else is written unless they are.
    pub(super) told: Result<(), StoreError>,
    /// The result for the session's record.
    pub(super) record: Result<(), StoreError>,
    /// The result for the rest, which may take several batches.
    pub(super) rest: Result<(), StoreError>,
    pub(super) groups: WrittenGroups,
}

/// Facts about the groups that were written.
#[derive(Default)]
pub(crate) struct WrittenGroups {
    /// CRC-32 of the records that were written whole.
    pub(super) checksums: Vec<(GroupId, u32)>,
    /// Groups that are too large to be saved.
    pub(super) too_large: Vec<GroupId>,
}

impl Written {
    /// A draft of which nothing is on disk.
    pub(super) fn refused(draft: Draft, error: StoreError) -> Self {
        Self { draft, told: Err(error), record: Ok(()), rest: Ok(()), groups: WrittenGroups::default() }
    }
}

/// Writes a draft: its events into the log, and its records into the store once the events are on disk and published.
/// `record`: the session's record, where the draft holds it. Reports every failure, also halfway.
pub(crate) async fn write(target: &Target, record: Option<SessionRecord>, draft: Draft) -> Written {
    let Target { store, number, .. } = target;
    reach(CrashPoint::BeforeLog);
    if let Err(error) = tell(target, record.as_ref(), &draft).await {
        return Written::refused(draft, error);
    }
    let (mut groups, mut saved, mut rest) = (WrittenGroups::default(), Ok(()), Ok(()));
    match batches(&**store, *number, record.as_ref(), &draft, &mut groups) {
        Ok(batches) => {
            let mut batches = batches.into_iter();
            if let Some(batch) = batches.next() {
                saved = store.commit(batch).await;
            }
            for ticket in batches.filter(|_| saved.is_ok()).map(|batch| store.commit(batch)).collect::<Vec<_>>() {
                rest = rest.and(ticket.await);
            }
        }
        Err(error) => saved = Err(error),
    }
    reach(CrashPoint::Stored);
    Written { draft, told: Ok(()), record: saved, rest, groups }
}

/// Puts the draft's events on disk, and publishes them.
async fn tell(target: &Target, record: Option<&SessionRecord>, draft: &Draft) -> Result<(), StoreError> {
    let Some(last) = draft.events.last() else { return Ok(()) };
    if let Some(first) = draft.account_changed_at() {
        // The events of the account before are gone from here on. A crash now finds the change of accounts once more.
        let key = LogKey::generate(first)?;
        let mut batch = Batch::for_removal();
        key.put(&mut batch, target.number);
        target.store.commit(batch).await?;
        target.log.set_key(key);
    }
    target.log.append(&draft.events, &draft.redo(record.cloned()), draft.space())?.await?;
    reach(CrashPoint::Logged);
    target.log.publish(last.number);
    reach(CrashPoint::Published);
    Ok(())
}

/// The batches for the store, in order. The first one has the session's record, the last one says how far the store
/// follows the log.
fn batches(
    store: &dyn Store,
    number: SessionNumber,
    record: Option<&SessionRecord>,
    draft: &Draft,
    groups: &mut WrittenGroups,
) -> Result<Vec<Batch>, StoreError> {
    let mut batches = vec![record.map_or_else(Batch::new, |record| record.batch(number, draft.is_removal))];
    let mut add = |batch: Batch| {
        if batch.is_empty() {
            return;
        }
        match batches.last_mut() {
            Some(last) if last.is_empty() => *last = batch,
            Some(last) if last.len() + batch.len() <= BATCH_OPERATIONS_MAX => last.append(batch),
            _ => batches.push(batch),
        }
    };
    for group in &draft.groups {
        match group_batch(store, number, group, &mut groups.checksums) {
            Ok(batch) => add(batch),
            Err(
                StoreError::RecordTooLarge { .. } | StoreError::ValueTooLarge { .. } | StoreError::BatchTooLarge { .. },
            ) => groups.too_large.push(group.id.clone()),
            Err(error) => return Err(error),
        }
    }
    add(learnt_batch(number, Table::Names, &draft.names));
    add(learnt_batch(number, Table::Numbers, &draft.numbers));
    if let Some(last) = draft.applied {
        let mut applied = Batch::for_removal();
        put_applied(&mut applied, number, last);
        add(applied);
    }
    Ok(batches)
}

fn group_batch(
    store: &dyn Store,
    number: SessionNumber,
    group: &GroupDraft,
    checksums: &mut Vec<(GroupId, u32)>,
) -> Result<Batch, StoreError> {
    let (mut batch, key) = (Batch::new(), group.id.user().as_bytes());
    match &group.write {
        GroupWrite::Whole(record) => {
            let json = serde_json::to_vec(record).unwrap_or_default();
            put_parts(store, &mut batch, number, Table::Groups, key, &json)?;
            checksums.push((group.id.clone(), crc32fast::hash(&json)));
        }
        GroupWrite::Delta(delta) => {
            let json = serde_json::to_vec(delta).unwrap_or_default();
            batch.put(number, Table::GroupDeltas, layout::group_delta(key, group.deltas), json);
            return Ok(batch);
        }
        GroupWrite::Gone => drop(delete_parts(store, &mut batch, number, Table::Groups, key)?),
    }
    for place in 0..group.deltas {
        batch.delete(number, Table::GroupDeltas, layout::group_delta(key, place));
    }
    Ok(batch)
}

/// Rows of names or phone numbers: each under its key as text, deleted where there is no value.
fn learnt_batch<K: Display, V: Serialize>(session: SessionNumber, table: Table, learnt: &[(K, Option<V>)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in learnt {
        let key = key.to_string().into_bytes();
        match value {
            Some(value) => batch.put(session, table, key, serde_json::to_vec(value).unwrap_or_default()),
            None => batch.delete(session, table, key),
        }
    }
    batch
}
