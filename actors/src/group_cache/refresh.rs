//! The cache's reads at WhatsApp: it takes their answers, and names the groups that need a read. Never does IO.

use std::collections::BTreeSet;

use super::cached::CachedGroup;
use super::diff::Cause;
use super::merge::{has, merge_reading};
use super::pending_writes::ReadTaken;
use super::{GroupCache, Sequence, TOMBSTONES_MAX};
use rookery_model::{AllGroups, GroupId, GroupRecord};

impl GroupCache {
    /// Takes the answer to a read of one group that was asked at `asked`; `None` when the account is not in it.
    pub(crate) fn apply_read(&mut self, id: &GroupId, asked: Sequence, answer: Option<GroupRecord>) {
        self.with_diff(id, |()| Cause::default(), |cache| cache.take_read(id, asked, answer));
    }

    fn take_read(&mut self, id: &GroupId, asked: Sequence, answer: Option<GroupRecord>) {
        let newer_than_read = self.groups.get(id).is_some_and(|group| group.touched > asked);
        if let Some(record) = &answer {
            self.numbers.seen(record.members.iter().map(|member| &member.person));
        }
        match answer {
            Some(record) => self.merge(record, asked),
            None if !self.groups.contains_key(id) => self.settle_unknown(id, asked),
            None if newer_than_read => self.mark_for_read(id),
            None => self.remove(id),
        }
    }

    /// Takes the answer to a read of all groups that was asked at `asked`.
    pub(crate) fn apply_read_all(&mut self, asked: Sequence, all: AllGroups) {
        let named: BTreeSet<GroupId> = all.groups.iter().map(|record| record.id.clone()).collect();
        let missing = self.groups.iter().filter(|(id, _)| !named.contains(id));
        // Each missing group may be one of those that could not be read.
        let untold = |group: &CachedGroup| (all.unreadable > 0).then(|| group.record.untold());
        let missing: Vec<_> = missing.map(|(id, group)| (id.clone(), untold(group))).collect();
        for (id, untold) in missing {
            let is_there = untold.is_some();
            self.apply_read(&id, asked, untold);
            if is_there {
                self.alone.insert(id);
            }
        }
        for record in all.groups {
            let (id, is_whole) = (record.id.clone(), record.completeness.is_whole());
            self.apply_read(&id, asked, Some(record));
            if !is_whole && self.has(&id) {
                // WhatsApp may show more of a group when it is asked for alone.
                self.alone.insert(id);
            }
        }
        self.filled = true;
        self.unknown.retain(|_, heard| *heard > asked);
        if self.tombstones.len() > TOMBSTONES_MAX {
            self.tombstones.retain(|_, left| *left > asked);
        }
    }

    /// Takes the groups that have to be read now: gaps that did not close, and changes that could not be ordered.
    pub(crate) fn take_reads(&mut self) -> Vec<GroupId> {
        let mut reads: Vec<GroupId> = std::mem::take(&mut self.unknown).into_keys().collect();
        for (id, group) in &mut self.groups {
            if group.needs_read() {
                group.stale_since = None;
                reads.push(id.clone());
            }
        }
        reads
    }

    /// Whether the cached group may differ from WhatsApp's.
    pub(crate) fn is_in_doubt(&self, id: &GroupId) -> bool {
        self.unknown.contains_key(id) || self.groups.get(id).is_some_and(CachedGroup::needs_read)
    }

    /// Whether [`Self::take_reads`] would return anything. Looks at every group.
    pub(crate) fn needs_reads(&self) -> bool {
        !self.unknown.is_empty() || self.groups.values().any(CachedGroup::needs_read)
    }

    /// Takes groups that are to be read alone: a read of all groups does not show them whole.
    pub(crate) fn take_alone(&mut self, count_max: usize) -> Vec<GroupId> {
        (0..count_max).map_while(|_| self.alone.pop_first()).collect()
    }

    /// Whether [`Self::take_alone`] would return anything.
    pub(crate) fn has_alone(&self) -> bool {
        !self.alone.is_empty()
    }

    /// Has the incomplete groups read alone, once more.
    pub(crate) fn mark_incomplete(&mut self) {
        let incomplete = self.groups.iter().filter(|(_, group)| !group.record.completeness.is_whole());
        self.alone = incomplete.map(|(id, _)| id.clone()).collect();
    }

    /// Whether there are incomplete groups. Looks at every group.
    pub(crate) fn has_incomplete(&self) -> bool {
        self.groups.values().any(|group| !group.record.completeness.is_whole())
    }

    /// Marks a group for a read: something has changed in it, but it is not known what.
    pub(crate) fn mark_for_read(&mut self, id: &GroupId) {
        let now = self.count();
        match self.groups.get_mut(id) {
            Some(group) => group.stale_since = Some(now),
            None => self.hear(id),
        }
    }

    pub(super) fn merge(&mut self, record: GroupRecord, asked: Sequence) {
        let id = record.id.clone();
        if self.tombstones.get(&id).is_some_and(|left| *left > asked) {
            return;
        }
        let Some(group) = self.groups.get_mut(&id) else {
            let heard_since = self.unknown.get(&id).is_some_and(|heard| *heard > asked);
            self.insert(record);
            if heard_since {
                self.mark_for_read(&id);
            }
            return;
        };
        self.unread.remove(&id);
        let (before, own_before) = (group.record.clone(), group.writes.len());
        let touched_since = group.touched > asked;
        // A doubt from before this read was asked for is settled by it.
        group.stale_since = group.stale_since.filter(|at| *at > asked);
        let merged = merge_reading(&mut group.record, record, touched_since);
        if merged.again {
            group.stale_since = Some(group.touched);
        }
        if group.stale_since.is_none() {
            group.ambiguous.clear();
        }
        let read = ReadTaken { asked, touched_since, participants: merged.participants };
        group.writes.take_read(&group.record, read);
        group.early.retain(|(came, event)| *came > asked && !has(&group.record, event));
        let changed = group.record != before || group.writes.len() != own_before;
        if changed {
            self.count();
            self.changed(&id);
        }
        while let Some((came, event)) = self.groups.get_mut(&id).and_then(CachedGroup::next_early) {
            self.take_silently(&id, came, event);
        }
    }

    /// Notes that our account is not in this group: no notification about it from before the read is of use.
    fn settle_unknown(&mut self, id: &GroupId, asked: Sequence) {
        if self.unknown.get(id).is_some_and(|heard| *heard <= asked) {
            self.unknown.remove(id);
        }
    }
}
