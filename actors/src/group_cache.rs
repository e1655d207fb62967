//! Per-session group cache. Owned by the session actor. Never does IO.
//!
//! Each group is the server's record as far as it is known (`record`), plus our own acknowledged writes that no
//! notification has confirmed yet (`writes`). Callers see both together (G-2). Facts reach the record in any order and
//! are merged by versions and times, never by arrival. A fact that cannot be ordered marks the group for one coalesced
//! read.
//!
//! A sequence number counts every change here. A read remembers the number at its start. So its answer, which travels
//! in a task of its own, never undoes a change that came after the read was asked for.

mod cached;
mod diff;
mod merge;
mod names;
mod notifications;
mod numbers;
mod pending_change;
mod pending_writes;
mod refresh;
mod view;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use diff::GroupDiff;
pub(crate) use names::{Name, Names};
pub(crate) use numbers::{KnownNumber, Numbers, other_spelling};
pub(crate) use pending_change::{PendingChange, is_so};
use pending_writes::Unsure;
pub(crate) use pending_writes::{Heard, WriteId};
use rookery_model::{Group, GroupId, GroupRecord, GroupSummary, ParticipantIds, Tagged, tag_of};

use cached::CachedGroup;
use diff::Cause;
pub(crate) use view::to_summary;

/// Groups that the account left are remembered up to this number. Beyond it, only those are remembered that a read
/// under way could bring back.
const TOMBSTONES_MAX: usize = 4096;

/// Counts the changes of one session's cache.
pub(crate) type Sequence = u64;

/// The stored state of a group that has changed since.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    /// Nothing.
    Nothing,
    /// This record.
    Record(Box<GroupRecord>),
    /// The stored state is not known.
    Unknown,
}

/// All groups of one session.
#[derive(Default)]
pub(crate) struct GroupCache {
    /// This account: its own notifications are recognised by it.
    me: ParticipantIds,
    /// Names of people.
    pub(crate) names: Names,
    /// Phone numbers that WhatsApp was asked about.
    pub(crate) numbers: Numbers,
    /// All groups were read before: every difference from now on is an event.
    filled: bool,
    /// Differences that nobody has taken yet.
    diffs: Vec<GroupDiff>,
    groups: BTreeMap<GroupId, CachedGroup>,
    /// Groups that left the cache, and when: a read that was asked before must not bring them back.
    tombstones: BTreeMap<GroupId, Sequence>,
    /// Groups that are not cached but were heard of, and when.
    unknown: BTreeMap<GroupId, Sequence>,
    /// Groups that are to be read alone, as a read of all groups does not show them whole.
    alone: BTreeSet<GroupId>,
    /// Settings that are missing in a group's stored record, until the group is read: their first values are no events.
    unread: BTreeMap<GroupId, Vec<&'static str>>,
    /// Groups whose stored record is older than the cached one (or is to be deleted), and what is stored of them.
    unsaved: BTreeMap<GroupId, Stored>,
    sequence: Sequence,
    next_write: u64,
    /// The list as callers see it; dropped by every change.
    summaries: Option<Arc<Vec<GroupSummary>>>,
}

impl GroupCache {
    /// A cache restored from stored records; nothing of it counts as unsaved. `filled`: these are all groups that there
    /// were, so that a difference to them is an event.
    pub(crate) fn restore(me: ParticipantIds, records: Vec<GroupRecord>, names: Names, filled: bool) -> Self {
        let groups = records.into_iter().map(|record| (record.id.clone(), CachedGroup::new(record, 0))).collect();
        Self { me, groups, names, filled, ..Self::default() }
    }

    /// Notes that the stored record of this group lacks these settings.
    pub(crate) fn note_unread_settings(&mut self, id: GroupId, settings: Vec<&'static str>) {
        self.unread.insert(id, settings);
    }

    /// Sets whose account this is (known after linking).
    pub(crate) fn set_me(&mut self, me: ParticipantIds) {
        self.me = me;
        self.summaries = None;
    }

    /// The group as callers see it, without its value when its tag is one of `known`. `None`: the group is not cached.
    pub(crate) fn group(&mut self, id: &GroupId, known: &[u64]) -> Option<Tagged<Group>> {
        let names = &self.names;
        let group = self.groups.get_mut(id)?;
        if let Some((tag, _)) = group.tag.filter(|(tag, version)| *version == names.version() && known.contains(tag)) {
            return Some(Tagged { tag, value: None });
        }
        let value = view::to_group(&group.view(), names);
        let tag = match group.tag {
            Some((tag, version)) if version == names.version() => tag,
            _ => tag_of(&value),
        };
        group.tag = Some((tag, names.version()));
        Some(Tagged { tag, value: (!known.contains(&tag)).then(|| Arc::new(value)) })
    }

    /// Whether a group is cached.
    pub(crate) fn has(&self, id: &GroupId) -> bool {
        self.groups.contains_key(id)
    }

    /// The ids of all groups.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &GroupId> {
        self.groups.keys()
    }

    /// The server's record of a group, with our confirmed writes that are not in it yet.
    pub(crate) fn record(&self, id: &GroupId) -> Option<Cow<'_, GroupRecord>> {
        self.groups.get(id).map(CachedGroup::view)
    }

    /// All groups, ordered by id. The list is shared until something changes.
    pub(crate) fn summaries(&mut self) -> Arc<Vec<GroupSummary>> {
        let (groups, me) = (&self.groups, &self.me);
        let build = || Arc::new(groups.values().map(|group| to_summary(&group.view(), me)).collect());
        self.summaries.get_or_insert_with(build).clone()
    }

    /// Whether all groups were read once: the cache has all that there were then.
    pub(crate) fn is_filled(&self) -> bool {
        self.filled
    }

    /// The number a read has to bring back with its answer.
    pub(crate) fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Takes the differences since the last call.
    pub(crate) fn take_diffs(&mut self) -> Vec<GroupDiff> {
        std::mem::take(&mut self.diffs)
    }

    /// Does `work` on a group, and notes the difference that callers see, with its cause.
    fn with_diff<T>(&mut self, id: &GroupId, cause: impl FnOnce(&T) -> Cause, work: impl FnOnce(&mut Self) -> T) -> T {
        if !self.filled {
            return work(self);
        }
        let before = self.record(id).map(Cow::into_owned);
        let was_saved = !self.unsaved.contains_key(id);
        let unread = self.unread.get(id).cloned().unwrap_or_default();
        let authors = self.groups.get(id).map(|group| self.authors(group)).unwrap_or_default();
        let done = work(self);
        let after = self.record(id);
        let mut diffs = diff::between(before.as_ref(), after.as_deref(), &self.me, cause(&done));
        diffs.retain_mut(|diff| diff.is_left_without(&unread));
        for diff in diffs.iter_mut().filter(|diff| diff.actor.is_none()) {
            if let Some((_, author, at)) = authors.iter().rev().find(|(change, ..)| change.explains(diff)) {
                (diff.actor, diff.at, diff.is_reconciled) = (Some(*author), *at, false);
            }
        }
        self.diffs.extend(diffs);
        if let Some(stored) = self.unsaved.get_mut(id).filter(|_| was_saved) {
            *stored = before.map_or(Stored::Nothing, |before| Stored::Record(Box::new(before)));
        }
        done
    }

    /// Changes that a read may bring before their own notification or answer does, with their authors: our own writes,
    /// and notifications that only a read can order.
    fn authors(&self, group: &CachedGroup) -> Vec<(PendingChange, ParticipantIds, Option<u64>)> {
        let own = group.writes.changes().map(|change| (change.clone(), self.me, None));
        let ambiguous = group.ambiguous.iter();
        let ambiguous =
            ambiguous.filter_map(|told| Some((PendingChange::told_by(&told.action)?, told.author?, Some(told.at))));
        own.chain(ambiguous).collect()
    }

    /// Registers a write before it is sent, so that its echo is recognised even when it comes before the answer.
    pub(crate) fn begin_write(&mut self, id: &GroupId, change: PendingChange) -> WriteId {
        self.next_write += 1;
        let write = WriteId(self.next_write);
        if let Some(group) = self.groups.get_mut(id) {
            group.writes.begin(write, change, &group.record);
        }
        write
    }

    /// What notifications have reported about a write in flight.
    pub(crate) fn heard(&self, id: &GroupId, write: WriteId) -> Heard {
        self.groups.get(id).map(|group| group.writes.heard(write)).unwrap_or_default()
    }

    /// WhatsApp confirmed a write: `done` is what it really did (fewer people than asked, perhaps none).
    pub(crate) fn confirm_write(&mut self, id: &GroupId, write: WriteId, done: Option<PendingChange>) {
        let now = self.count();
        let ours = Cause { actor: Some(self.me), at: None };
        self.with_diff(
            id,
            |()| ours,
            |cache| {
                cache.changed(id);
                let Some(group) = cache.groups.get_mut(id) else { return };
                group.touched = now;
                match done {
                    Some(done) => group.writes.confirm(write, done, &group.record, now),
                    None => group.writes.drop_write(write),
                }
            },
        );
    }

    /// Drops a write that was refused (`unknown` is false) or whose outcome is unknown: the group is read then.
    pub(crate) fn drop_write(&mut self, id: &GroupId, write: WriteId, unknown: bool) {
        let now = self.count();
        let Some(group) = self.groups.get_mut(id) else { return };
        group.writes.drop_write(write);
        if unknown {
            group.stale_since = Some(now);
        }
    }

    /// Forgets the writes in flight, as their engine is gone. The next read of all groups shows what they did.
    pub(crate) fn forget_writes(&mut self) {
        for group in self.groups.values_mut() {
            group.writes.drop_unconfirmed();
        }
    }

    /// Our account left the group.
    pub(crate) fn left(&mut self, id: &GroupId) {
        let ours = Cause { actor: Some(self.me), at: None };
        self.with_diff(id, |()| ours, |cache| cache.remove(id));
    }

    /// Adds a group that we created; `asked` is when.
    pub(crate) fn created(&mut self, record: GroupRecord, asked: Sequence) {
        let (id, ours) = (record.id.clone(), Cause { actor: Some(self.me), at: None });
        self.with_diff(&id, |()| ours, |cache| cache.merge(record, asked));
    }

    /// Ends the time in which a notification may come after its answer. The unsure parts of our writes that were
    /// confirmed until `before` are shown by the record alone from now on. True when the group is in doubt by that.
    pub(crate) fn end_unsure(&mut self, id: &GroupId, before: Sequence) -> bool {
        let end = |cache: &mut Self| {
            let Some(group) = cache.groups.get_mut(id) else { return Unsure::Nothing };
            group.writes.end_unsure(before, &group.record)
        };
        let ended = self.with_diff(id, |_| Cause::default(), end);
        if ended != Unsure::Nothing {
            self.changed(id);
        }
        if ended == Unsure::Revealed {
            self.mark_for_read(id);
        }
        ended == Unsure::Revealed
    }

    /// Marks groups whose confirmed writes have had no echo since `before`.
    pub(crate) fn mark_unechoed(&mut self, before: Sequence) {
        let now = self.count();
        for group in self.groups.values_mut() {
            if group.writes.waits_since(before) {
                group.stale_since = Some(now);
            }
        }
    }

    /// Groups that are to be written to the store, and what is stored of them.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = (&GroupId, &Stored)> {
        self.unsaved.iter()
    }

    /// Whether a group is to be written to the store.
    pub(crate) fn is_unsaved(&self, id: &GroupId) -> bool {
        self.unsaved.contains_key(id)
    }

    /// The next group that is to be written to the store, as it is now.
    pub(crate) fn take_unsaved(&mut self) -> Option<(GroupId, Stored)> {
        self.unsaved.pop_first()
    }

    /// Takes back a group that could not be written: its state at the next try is written then.
    pub(crate) fn put_back_unsaved(&mut self, id: GroupId, stored: Stored) {
        self.unsaved.insert(id, stored);
    }

    /// The differences between the stored and the current state of the groups that are to be written. They are reported
    /// in place of all events of these groups meanwhile.
    pub(crate) fn differences(&self) -> Vec<GroupDiff> {
        let of_group = |(id, stored): (&GroupId, &Stored)| {
            let before = match stored {
                Stored::Nothing => None,
                Stored::Record(record) => Some(&**record),
                Stored::Unknown => return Vec::new(),
            };
            diff::between(before, self.record(id).as_deref(), &self.me, Cause::default())
        };
        self.unsaved.iter().flat_map(of_group).collect()
    }

    fn insert(&mut self, record: GroupRecord) {
        let now = self.count();
        self.changed(&record.id);
        self.unknown.remove(&record.id);
        self.tombstones.remove(&record.id);
        self.groups.insert(record.id.clone(), CachedGroup::new(record, now));
    }

    fn remove(&mut self, id: &GroupId) {
        self.miss(id);
        self.changed(id);
        self.groups.remove(id);
    }

    /// Remembers that our account is not in a group. Returns false: there is nothing to read about that.
    fn miss(&mut self, id: &GroupId) -> bool {
        let now = self.count();
        self.tombstones.insert(id.clone(), now);
        false
    }

    /// Remembers a group that is not cached.
    fn hear(&mut self, id: &GroupId) {
        let now = self.count();
        self.unknown.insert(id.clone(), now);
    }

    /// Counts something that happened.
    fn count(&mut self) -> Sequence {
        self.sequence += 1;
        self.sequence
    }

    /// Notes that callers see another state of a group now.
    fn changed(&mut self, id: &GroupId) {
        self.unsaved.entry(id.clone()).or_insert(Stored::Unknown);
        self.summaries = None;
        if let Some(group) = self.groups.get_mut(id) {
            group.tag = None;
        }
    }
}

#[cfg(test)]
mod tests;
