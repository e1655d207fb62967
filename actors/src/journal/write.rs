//! Puts a batch together and commits it. Knows what rows there are; decides nothing.

use std::fmt::Display;

use rookery_model::GroupId;
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, delete_known_parts, delete_parts, layout,
    put_new_parts, put_parts,
};
use serde::Serialize;

use super::{Draft, GroupDraft, GroupWrite};

/// A batch that is on disk, or not.
pub(crate) struct Written {
    pub(super) draft: Draft,
    /// The result for the session's record and the events.
    pub(super) first: Result<(), StoreError>,
    /// The result for the rest, which may take several batches.
    pub(super) rest: Result<(), StoreError>,
    /// Parts of the row of events.
    pub(super) event_parts: u8,
    /// Older rows of events are removed.
    pub(super) are_old_removed: bool,
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
    /// A draft that holds nothing of groups, and is not on disk.
    #[cfg(test)]
    pub(super) fn refused(draft: Draft, error: StoreError) -> Self {
        let groups = WrittenGroups::default();
        Self { draft, first: Err(error), rest: Ok(()), event_parts: 0, are_old_removed: false, groups }
    }
}

/// Writes a draft that holds nothing of groups. The batch is on its way when this returns, and nothing was read for it.
pub(crate) fn begin_of_session(
    store: &dyn Store,
    number: SessionNumber,
    record: Batch,
    draft: Draft,
) -> impl Future<Output = Written> + Send + use<> {
    // In a draft without groups, events have room wherever the record has. So the event of a log-out is published
    // although the disk is nearly full.
    let first = session_batch(number, record, &draft, Batch::for_removal());
    let first = first.map(|(batch, parts)| (store.commit(batch), parts));
    let removal = store.commit(removal_of_old_rows(number, &draft));
    async move {
        let (first, event_parts) = match first {
            Ok((ticket, parts)) => (ticket.await, parts),
            Err(error) => (Err(error), 0),
        };
        let are_old_removed = removal.await.is_ok();
        Written { draft, first, rest: Ok(()), event_parts, are_old_removed, groups: WrittenGroups::default() }
    }
}

/// Writes a draft. `record`: a batch with the session's record where the draft holds it; it is a batch for removal
/// where the record is one. Reports every failure, also halfway.
pub(crate) async fn write(store: &dyn Store, number: SessionNumber, record: Batch, draft: Draft) -> Written {
    let mut groups = WrittenGroups::default();
    let (mut first, mut rest, mut event_parts) = (Ok(()), Ok(()), 0);
    match batches(store, number, record, &draft, &mut groups) {
        Ok((batches, parts)) => {
            event_parts = parts;
            let mut batches = batches.into_iter();
            // State is never ahead of its events.
            if let Some(batch) = batches.next() {
                first = store.commit(batch).await;
            }
            for ticket in batches.filter(|_| first.is_ok()).map(|batch| store.commit(batch)).collect::<Vec<_>>() {
                rest = rest.and(ticket.await);
            }
        }
        Err(error) => first = Err(error),
    }
    let are_old_removed = store.commit(removal_of_old_rows(number, &draft)).await.is_ok();
    Written { draft, first, rest, event_parts, are_old_removed, groups }
}

/// The batches in order, and the parts of the row of events. The first batch has the session's record and the events.
fn batches(
    store: &dyn Store,
    number: SessionNumber,
    record: Batch,
    draft: &Draft,
    groups: &mut WrittenGroups,
) -> Result<(Vec<Batch>, u8), StoreError> {
    let (first, parts) = session_batch(number, record, draft, Batch::new())?;
    let mut batches = vec![first];
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
    Ok((batches, parts))
}

/// The batch with the session's record and the row of events, and the parts of that row. The row is added to `events`.
fn session_batch(
    number: SessionNumber,
    record: Batch,
    draft: &Draft,
    mut events: Batch,
) -> Result<(Batch, u8), StoreError> {
    let mut batch = record;
    let Some(first) = draft.events.first() else { return Ok((batch, 0)) };
    let json = serde_json::to_vec(&draft.events).unwrap_or_default();
    let parts = put_new_parts(&mut events, number, Table::Events, &layout::events(first.number), &json)?;
    batch.append(events);
    Ok((batch, parts))
}

/// Removes old rows of events in a batch of its own: that need not happen together with the write.
fn removal_of_old_rows(number: SessionNumber, draft: &Draft) -> Batch {
    let mut batch = Batch::for_removal();
    for row in &draft.old_rows {
        delete_known_parts(&mut batch, number, Table::Events, &layout::events(row.first), row.parts);
    }
    batch
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
