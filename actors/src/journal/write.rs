//! Puts a batch together and commits it. Knows what rows there are; decides nothing.

use rookery_model::GroupId;
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, delete_parts, layout, put_parts,
};

use super::{Draft, GroupDraft, GroupWrite};
use crate::group_cache::Name;
use rookery_model::ParticipantId;

/// A batch that is on disk, or not.
pub(crate) struct Written {
    pub(super) draft: Draft,
    /// What became of the session's record and of the events.
    pub(super) first: Result<(), StoreError>,
    /// What became of the rest, which may take several batches.
    pub(super) rest: Result<(), StoreError>,
    /// CRC-32 of the records that were written whole.
    pub(super) checksums: Vec<(GroupId, u32)>,
    /// A group is too large to be saved.
    pub(super) is_group_missing: bool,
}

impl Written {
    /// Of a draft that holds nothing of groups.
    pub(crate) fn of_session(draft: Draft, first: Result<(), StoreError>) -> Self {
        Self { draft, first, rest: Ok(()), checksums: Vec::new(), is_group_missing: false }
    }
}

/// Writes a draft; `record` is the session's record, in a batch that is for removal if it is, where the draft holds it. Never fails
/// halfway without saying so.
pub(crate) async fn write(store: &dyn Store, number: SessionNumber, record: Batch, draft: Draft) -> Written {
    let (mut checksums, mut is_group_missing) = (Vec::new(), false);
    let batches = batches(store, number, record, &draft, &mut checksums, &mut is_group_missing);
    let (first, rest) = match batches {
        Ok(batches) => {
            let mut batches = batches.into_iter();
            // State is never ahead of its events.
            let first = match batches.next() {
                Some(batch) => store.commit(batch).await,
                None => Ok(()),
            };
            let mut rest = Ok(());
            for ticket in batches.filter(|_| first.is_ok()).map(|batch| store.commit(batch)).collect::<Vec<_>>() {
                rest = rest.and(ticket.await);
            }
            (first, rest)
        }
        Err(error) => (Err(error), Ok(())),
    };
    Written { draft, first, rest, checksums, is_group_missing }
}

/// In order; the first has the session's record and the events.
fn batches(
    store: &dyn Store,
    number: SessionNumber,
    record: Batch,
    draft: &Draft,
    checksums: &mut Vec<(GroupId, u32)>,
    is_group_missing: &mut bool,
) -> Result<Vec<Batch>, StoreError> {
    let mut batches = vec![session_batch(store, number, record, draft)?];
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
        match group_batch(store, number, group, checksums) {
            Ok(batch) => add(batch),
            Err(
                StoreError::RecordTooLarge { .. } | StoreError::ValueTooLarge { .. } | StoreError::BatchTooLarge { .. },
            ) => *is_group_missing = true,
            Err(error) => return Err(error),
        }
    }
    add(name_batch(number, &draft.names));
    Ok(batches)
}

/// The session's record and the events. Where nothing of groups is in the draft, it has room wherever the record has: that an account
/// was logged out is told although the disk is nearly full.
pub(crate) fn session_batch(
    store: &dyn Store,
    number: SessionNumber,
    record: Batch,
    draft: &Draft,
) -> Result<Batch, StoreError> {
    let mut batch = record;
    let Some(first) = draft.events.first() else { return Ok(batch) };
    let mut events = if draft.is_of_session() { Batch::for_removal() } else { Batch::new() };
    let json = serde_json::to_vec(&draft.events).unwrap_or_default();
    put_parts(store, &mut events, number, Table::Events, &layout::events(first.number), &json)?;
    for old in &draft.old_rows {
        delete_parts(store, &mut events, number, Table::Events, &layout::events(*old))?;
    }
    batch.append(events);
    Ok(batch)
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

fn name_batch(number: SessionNumber, names: &[(ParticipantId, Option<Name>)]) -> Batch {
    let mut batch = Batch::new();
    for (id, name) in names {
        let key = id.to_string().into_bytes();
        match name {
            Some(name) => batch.put(number, Table::Names, key, serde_json::to_vec(name).unwrap_or_default()),
            None => batch.delete(number, Table::Names, key),
        }
    }
    batch
}
