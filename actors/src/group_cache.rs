//! Per-session group cache. Owned by the session actor. Never does IO.
//!
//! Each group is the server's truth as far as it is known (`record`), plus our own acknowledged writes that no
//! notification has confirmed yet (`own`). What callers see is both together (G-2). Facts reach the record in any
//! order and are merged by versions and times, never by arrival; what cannot be ordered marks the group for one
//! coalesced read.
//!
//! A sequence number counts every change here. A read remembers the number at its start, so that its answer, which
//! travels in a task of its own, never undoes what was learnt after it was asked.

mod event;
mod own;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use event::{GroupAction, GroupEvent, Versions};
pub(crate) use own::{OwnChange, WriteId};
pub(crate) use record::{GroupRecord, GroupSettings, Member, Person, Role};

use crate::model::{Group, GroupId, GroupSummary};
use event::Applied;
use own::OwnWrite;

/// Notifications kept per group until the ones before them arrive; beyond it the group is read instead.
const PENDING_EVENTS_MAX: usize = 1024;

/// Counts the changes of one session's cache.
pub(crate) type Sequence = u64;

/// All groups of one session.
#[derive(Default)]
pub(crate) struct GroupCache {
    /// This account: its own notifications are recognised by it.
    me: Person,
    groups: BTreeMap<GroupId, CachedGroup>,
    /// Groups that left the cache, and when: a read that was asked before must not bring them back.
    gone: BTreeMap<GroupId, Sequence>,
    /// Groups that are not cached but were heard of.
    unknown: BTreeSet<GroupId>,
    /// Groups whose stored record is older than the cached one (or is to be deleted).
    unsaved: BTreeSet<GroupId>,
    sequence: Sequence,
    next_write: u64,
    /// The list as callers see it; dropped by every change.
    summaries: Option<Arc<Vec<GroupSummary>>>,
}

struct CachedGroup {
    record: GroupRecord,
    /// Our writes that are in flight or not yet confirmed by a notification or a read.
    own: Vec<OwnWrite>,
    /// Notifications that came before the ones they follow on, with the moment they came.
    pending: Vec<(Sequence, GroupEvent)>,
    /// Has to be read: something came that could not be ordered or understood.
    must_read: bool,
    /// The last change by a notification or an own write.
    touched: Sequence,
}

impl GroupCache {
    /// A cache restored from stored records; nothing of it counts as unsaved.
    pub(crate) fn restore(me: Person, records: Vec<GroupRecord>) -> Self {
        let groups = records.into_iter().map(|record| (record.id.clone(), CachedGroup::new(record, 0))).collect();
        Self { me, groups, ..Self::default() }
    }

    /// Sets whose account this is (known after linking).
    pub(crate) fn set_me(&mut self, me: Person) {
        self.me = me;
        self.summaries = None;
    }

    /// The group as callers see it.
    pub(crate) fn group(&self, id: &GroupId) -> Option<Group> {
        self.groups.get(id).map(|group| group.view().to_model())
    }

    /// The server's truth about a group, with our unconfirmed writes applied.
    pub(crate) fn record(&self, id: &GroupId) -> Option<std::borrow::Cow<'_, GroupRecord>> {
        self.groups.get(id).map(CachedGroup::view)
    }

    /// All groups, ordered by id. The list is shared until something changes.
    pub(crate) fn summaries(&mut self) -> Arc<Vec<GroupSummary>> {
        let (groups, me) = (&self.groups, &self.me);
        let build = || Arc::new(groups.values().map(|group| group.view().to_summary(me)).collect());
        self.summaries.get_or_insert_with(build).clone()
    }

    /// The number a read has to bring back with its answer.
    pub(crate) fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Takes a notification; true when the group is in doubt now (see [`Self::take_reads`]).
    pub(crate) fn apply_event(&mut self, event: GroupEvent) -> bool {
        if event.action == GroupAction::Ignored {
            return false;
        }
        let id = event.group.clone();
        if !self.groups.contains_key(&id) {
            return self.apply_to_unknown(event);
        }
        let now = self.tick(&id);
        let Some(group) = self.groups.get_mut(&id) else { return false };
        group.touched = now;
        let me = self.me;
        if group.take(event, now, &me) == Fate::Left || group.settle_pending(&me) == Fate::Left {
            self.remove(&id);
            return false;
        }
        group.needs_read()
    }

    fn apply_to_unknown(&mut self, event: GroupEvent) -> bool {
        let mine = |people: &[Person]| people.iter().any(|person| person.is(&self.me));
        match event.action {
            GroupAction::Deleted => false,
            GroupAction::Removed(people) if mine(&people) => false,
            GroupAction::Created(record) if record.member(&self.me).is_some() => {
                let now = self.tick(&event.group);
                self.insert(*record, now);
                false
            }
            _ => self.unknown.insert(event.group),
        }
    }

    /// Registers a write before it is sent, so that its echo is recognised even when it comes before the answer.
    pub(crate) fn begin_write(&mut self, id: &GroupId, change: OwnChange) -> WriteId {
        self.next_write += 1;
        let write = WriteId(self.next_write);
        if let Some(group) = self.groups.get_mut(id) {
            group.own.push(OwnWrite::new(write, change));
        }
        write
    }

    /// WhatsApp confirmed a write: `done` is what it really did (fewer people than asked, perhaps none).
    pub(crate) fn confirm_write(&mut self, id: &GroupId, write: WriteId, done: Option<OwnChange>) {
        let now = self.tick(id);
        let Some(group) = self.groups.get_mut(id) else { return };
        group.touched = now;
        let Some(at) = group.own.iter().position(|own| own.id == write) else { return };
        match done {
            Some(done) if !group.own[at].echoed(&done) => group.own[at].confirm(done, now),
            _ => {
                group.own.remove(at);
            }
        }
    }

    /// A write that was refused (`unknown` false) or whose outcome nobody told us: then the group is read.
    pub(crate) fn drop_write(&mut self, id: &GroupId, write: WriteId, unknown: bool) {
        let Some(group) = self.groups.get_mut(id) else { return };
        group.own.retain(|own| own.id != write);
        group.must_read |= unknown;
    }

    /// Our account left the group.
    pub(crate) fn left(&mut self, id: &GroupId) {
        self.remove(id);
    }

    /// Something is known to have changed in a group, but not what.
    pub(crate) fn mark_for_read(&mut self, id: &GroupId) {
        match self.groups.get_mut(id) {
            Some(group) => group.must_read = true,
            None => {
                self.unknown.insert(id.clone());
            }
        }
    }

    /// Takes the answer to a read of one group that was asked at `asked`; `None` when the account is not in it.
    pub(crate) fn apply_read(&mut self, id: &GroupId, asked: Sequence, answer: Option<GroupRecord>) {
        self.unknown.remove(id);
        let newer_than_read = self.groups.get(id).is_some_and(|group| group.touched > asked);
        match answer {
            Some(record) => self.absorb(record, asked),
            None if newer_than_read => self.mark_for_read(id),
            None if self.groups.contains_key(id) => self.remove(id),
            None => {}
        }
    }

    /// A group that we made; `asked` is when.
    pub(crate) fn created(&mut self, record: GroupRecord, asked: Sequence) {
        self.absorb(record, asked);
    }

    /// Takes the answer to a read of all groups that was asked at `asked`.
    pub(crate) fn apply_read_all(&mut self, asked: Sequence, answers: Vec<GroupRecord>) {
        let named: BTreeSet<GroupId> = answers.iter().map(|record| record.id.clone()).collect();
        let missing: Vec<GroupId> = self.groups.keys().filter(|id| !named.contains(id)).cloned().collect();
        for id in missing {
            self.apply_read(&id, asked, None);
        }
        for record in answers {
            self.unknown.remove(&record.id);
            self.absorb(record, asked);
        }
        self.gone.clear();
    }

    /// Takes the groups that have to be read now: gaps that did not close, and what could not be ordered.
    pub(crate) fn take_reads(&mut self) -> Vec<GroupId> {
        let mut reads: Vec<GroupId> = std::mem::take(&mut self.unknown).into_iter().collect();
        for (id, group) in &mut self.groups {
            if group.needs_read() {
                group.must_read = false;
                reads.push(id.clone());
            }
        }
        reads
    }

    /// Whether [`Self::take_reads`] would return anything. Looks at every group.
    pub(crate) fn needs_reads(&self) -> bool {
        !self.unknown.is_empty() || self.groups.values().any(CachedGroup::needs_read)
    }

    /// Marks groups whose confirmed writes have had no echo since `before`.
    pub(crate) fn mark_unechoed(&mut self, before: Sequence) {
        for group in self.groups.values_mut() {
            group.must_read |= group.own.iter().any(|own| own.confirmed.is_some_and(|at| at <= before));
        }
    }

    /// Takes the groups to be written to the store: the record, or `None` when it is to be deleted.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(GroupId, Option<GroupRecord>)> {
        let unsaved = std::mem::take(&mut self.unsaved);
        unsaved.into_iter().map(|id| (id.clone(), self.record(&id).map(std::borrow::Cow::into_owned))).collect()
    }

    fn absorb(&mut self, record: GroupRecord, asked: Sequence) {
        let id = record.id.clone();
        if self.gone.get(&id).is_some_and(|left| *left > asked) {
            return;
        }
        let Some(group) = self.groups.get_mut(&id) else {
            let now = self.tick(&id);
            return self.insert(record, now);
        };
        let (before, own_before) = (group.record.clone(), group.own.len());
        let touched_since = group.touched > asked;
        group.must_read |= group.record.absorb(record, touched_since);
        group.own.retain(|own| own.confirmed.is_none_or(|at| at > asked));
        group.pending.retain(|(came, event)| *came > asked && !group.record.has(event));
        let fate = group.settle_pending(&self.me);
        if group.record != before || group.own.len() != own_before {
            self.tick(&id);
        }
        if fate == Fate::Left {
            self.remove(&id);
        }
    }

    fn insert(&mut self, record: GroupRecord, now: Sequence) {
        self.unknown.remove(&record.id);
        self.gone.remove(&record.id);
        self.groups.insert(record.id.clone(), CachedGroup::new(record, now));
    }

    fn remove(&mut self, id: &GroupId) {
        let now = self.tick(id);
        self.groups.remove(id);
        self.gone.insert(id.clone(), now);
    }

    /// Counts a change to a group.
    fn tick(&mut self, id: &GroupId) -> Sequence {
        self.sequence += 1;
        self.unsaved.insert(id.clone());
        self.summaries = None;
        self.sequence
    }
}

/// Whether our account is still in the group.
#[derive(PartialEq, Eq)]
enum Fate {
    Stays,
    Left,
}

impl CachedGroup {
    fn new(record: GroupRecord, touched: Sequence) -> Self {
        Self { record, own: Vec::new(), pending: Vec::new(), must_read: false, touched }
    }

    fn view(&self) -> std::borrow::Cow<'_, GroupRecord> {
        if !self.own.iter().any(|own| own.confirmed.is_some()) {
            return std::borrow::Cow::Borrowed(&self.record);
        }
        let mut record = self.record.clone();
        for own in self.own.iter().filter(|own| own.confirmed.is_some()) {
            own.change.apply(&mut record);
        }
        std::borrow::Cow::Owned(record)
    }

    fn needs_read(&self) -> bool {
        self.must_read || !self.pending.is_empty()
    }

    fn take(&mut self, event: GroupEvent, now: Sequence, me: &Person) -> Fate {
        match self.record.apply(&event, me) {
            Applied::Left => return Fate::Left,
            Applied::Done => self.recognise(&event, me, false),
            Applied::Unordered => {
                self.must_read = true;
                self.recognise(&event, me, false);
            }
            Applied::Stale => self.recognise(&event, me, true),
            Applied::Gap if self.pending.len() < PENDING_EVENTS_MAX => self.pending.push((now, event)),
            Applied::Gap => self.must_read = true,
        }
        Fate::Stays
    }

    /// Applies the waiting notifications that follow on by now.
    fn settle_pending(&mut self, me: &Person) -> Fate {
        loop {
            let next = self.pending.iter().position(|(_, event)| self.record.follows(event) || self.record.has(event));
            let Some(at) = next else { return Fate::Stays };
            let (came, event) = self.pending.swap_remove(at);
            if self.take(event, came, me) == Fate::Left {
                return Fate::Left;
            }
        }
    }

    /// Ends the own write whose echo this notification is. A stale one may be the echo of an older write that a read
    /// has settled: it says nothing about a write that is still in flight.
    fn recognise(&mut self, event: &GroupEvent, me: &Person, stale: bool) {
        if !event.author.is_some_and(|author| author.is(me)) {
            return;
        }
        let eligible = |own: &OwnWrite| own.matches(event) && (!stale || own.confirmed.is_some());
        if let Some(at) = self.own.iter().position(eligible) {
            let own = &mut self.own[at];
            if own.echo(event) && own.confirmed.is_some() {
                self.own.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests;
