//! What goes into the next batch: groups with all of their events, and as many other events as fit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rookery_model::{Event, GroupDelta, GroupId, GroupRecord};
use rookery_store::{BATCH_OPERATIONS_MAX, VALUE_BYTES_MAX};
use tracing::warn;

use super::draft::{GroupDraft, WaitingEvent};
use super::{
    DELTAS_MAX, Draft, EVENTS_BYTES_HARD_MAX, EVENTS_BYTES_MAX, GroupWrite, Journal, NAMES_PER_BATCH_MAX,
    OPERATIONS_RESERVED, is_large,
};
use crate::group_cache::{GroupCache, Stored};

impl Journal {
    /// Adds as many groups as fit with all of their events.
    pub(super) fn fill_groups(&mut self, draft: &mut Draft, cache: &mut GroupCache) {
        draft.names = cache.names.take_unsaved(NAMES_PER_BATCH_MAX);
        draft.numbers = cache.numbers.take_unsaved(NAMES_PER_BATCH_MAX);
        let loud: BTreeSet<GroupId> = self
            .bytes_by_group()
            .into_iter()
            .filter(|(_, bytes)| *bytes > EVENTS_BYTES_MAX)
            .map(|(id, _)| id)
            .collect();
        if !loud.is_empty() {
            self.tell_differences(cache, |group| loud.contains(group));
        }
        let event_bytes = self.bytes_by_group();
        let (mut operations, mut bytes) = (OPERATIONS_RESERVED + draft.names.len() + draft.numbers.len(), 0);
        while let Some((id, stored)) = cache.take_unsaved() {
            let now = cache.record(&id);
            let deltas = self.bases.get(&id).map_or(0, |base| base.deltas);
            let write = self.group_write(&id, &stored, now.as_deref());
            let cost = write.operations_max() + usize::from(deltas);
            let bytes_of_group = event_bytes.get(&id).copied().unwrap_or_default();
            let is_too_much = operations + cost > BATCH_OPERATIONS_MAX || bytes + bytes_of_group > EVENTS_BYTES_MAX;
            if is_too_much && !draft.groups.is_empty() {
                cache.put_back_unsaved(id, stored);
                break;
            }
            operations += cost;
            bytes += bytes_of_group;
            draft.groups.push(GroupDraft { id, stored, write, deltas });
        }
    }

    /// Bytes of the events that wait, by their groups.
    fn bytes_by_group(&self) -> BTreeMap<GroupId, usize> {
        let mut bytes = BTreeMap::new();
        for waiting in &self.waiting_events {
            if let Some(group) = waiting.event.group_of_state() {
                *bytes.entry(group.clone()).or_default() += waiting.bytes;
            }
        }
        bytes
    }

    /// Adds the events that may be published with this batch: all of its groups' events, and as many others as fit.
    pub(super) fn fill_events(&mut self, draft: &mut Draft, may_be_told: impl Fn(&WaitingEvent) -> bool) {
        let groups: BTreeSet<&GroupId> = draft.groups.iter().map(|group| &group.id).collect();
        let mut bytes = 0;
        let mut left = VecDeque::new();
        for waiting in std::mem::take(&mut self.waiting_events) {
            let group = waiting.event.group_of_state();
            let bytes_max =
                if group.is_some_and(|id| groups.contains(id)) { EVENTS_BYTES_HARD_MAX } else { EVENTS_BYTES_MAX };
            if waiting.bytes > EVENTS_BYTES_HARD_MAX {
                warn!(session.id = %self.session, event.bytes = waiting.bytes, "an event is too large to be saved, it is not told");
                // It would not fit the next time either.
                waiting.claim.note_kept();
            } else if !may_be_told(&waiting) || (bytes > 0 && bytes + waiting.bytes > bytes_max) {
                left.push_back(waiting);
            } else {
                bytes += waiting.bytes;
                let number = self.next_event + draft.events.len() as u64;
                draft.events.push(Event { number, ..waiting.event });
                draft.claims.push(waiting.claim);
            }
        }
        self.waiting_events = left;
    }

    fn group_write(&self, id: &GroupId, stored: &Stored, now: Option<&GroupRecord>) -> GroupWrite {
        let Some(now) = now else { return GroupWrite::Gone };
        let whole = || GroupWrite::Whole(Box::new(now.clone()));
        let (Some(base), Stored::Record(before)) = (self.bases.get(id), stored) else { return whole() };
        if base.deltas >= DELTAS_MAX || !is_large(now) {
            return whole();
        }
        match GroupDelta::between(base.checksum, before, now) {
            // The delta has to fit in one value.
            Some(delta) if serde_json::to_vec(&delta).is_ok_and(|json| json.len() <= VALUE_BYTES_MAX) => {
                GroupWrite::Delta(Box::new(delta))
            }
            _ => whole(),
        }
    }
}
