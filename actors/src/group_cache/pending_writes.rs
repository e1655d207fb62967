//! Our own writes of one group, in the order in which they were begun, until a notification about them or a read has brought
//! them into the record. Never does IO.
//!
//! WhatsApp sends no notification for a write that changes nothing (promoting an admin, for one). So parts of a
//! confirmed write are unsure: those that callers saw already when it was confirmed, and those about which something
//! was learnt between request and answer. The unsure parts are kept for a moment only. That is long enough for their
//! notification, if there is one, and for late notifications of older changes. It is too short to hide what others do
//! afterwards.

use std::borrow::Cow;

use super::Sequence;
use super::pending_change::{PendingChange, any_is, changes_admins, is_so, participants_of};
use rookery_model::GroupNotification;
use rookery_model::ParticipantChange;
use rookery_model::{GroupRecord, ParticipantIds, Role};

/// Names one write of a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteId(pub(super) u64);

/// The writes of ours that are in flight, or confirmed and not yet in the record.
#[derive(Default)]
pub(super) struct PendingWrites {
    writes: Vec<PendingWrite>,
    /// Notifications heard about each write until its result is known, also after the end of the connection that it was
    /// sent on.
    watched: Vec<Watched>,
}

struct Watched {
    id: WriteId,
    change: PendingChange,
    heard: Heard,
}

struct PendingWrite {
    id: WriteId,
    /// The change that was asked for; once confirmed, the part that was done and is not in the record yet.
    change: PendingChange,
    /// When WhatsApp confirmed the write.
    confirmed: Option<Sequence>,
    /// People, or the field, that a notification has brought already.
    echoed_participants: Vec<ParticipantIds>,
    echoed_field: bool,
    /// People, or the field, for which a notification may or may not be still to come: they were as asked for before
    /// the write was confirmed, or something was learnt about them meanwhile.
    participants_unsure: Vec<ParticipantIds>,
    field_unsure: bool,
}

/// What notifications reported about the people or the field of a write while it was in flight: the write may be done
/// and undone by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    participants: Vec<ParticipantIds>,
    field: bool,
    /// Notifications were not noted: anything may have happened.
    is_partial: bool,
}

impl Heard {
    /// Whether something may have happened to this person.
    pub(crate) fn may_be_about(&self, person: &ParticipantIds) -> bool {
        self.is_partial || any_is(&self.participants, person)
    }

    /// Whether something may have happened to the field.
    pub(crate) fn may_be_about_field(&self) -> bool {
        self.is_partial || self.field
    }
}

/// The result of ending the unsure parts.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsure {
    /// There was no unsure part.
    Nothing,
    /// The record shows the same.
    Shown,
    /// The record shows something else now: a later change, or one without a notification. A read decides.
    Revealed,
}

/// Whether a notification is in the record since now, or was there before.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The notification has just changed the record.
    New,
    /// The record had the change before, by a read: the notification can only be the echo of a write that WhatsApp has
    /// confirmed.
    Before,
}

/// What a read has brought into the record.
#[derive(Copy, Clone)]
pub(super) struct ReadTaken {
    /// When the read was asked for.
    pub(super) asked: Sequence,
    /// Something changed after that.
    pub(super) touched_since: bool,
    /// The participants are those of the read.
    pub(super) participants: bool,
}

impl PendingWrites {
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// The changes that were asked for, or were done and are not in the record yet.
    pub(super) fn changes(&self) -> impl Iterator<Item = &PendingChange> {
        self.writes.iter().map(|write| &write.change)
    }

    /// Registers a write before it is sent.
    pub(super) fn begin(&mut self, id: WriteId, change: PendingChange, record: &GroupRecord) {
        self.watched.push(Watched { id, change: change.clone(), heard: Heard::default() });
        self.writes.push(PendingWrite {
            id,
            change,
            confirmed: None,
            echoed_participants: Vec::new(),
            echoed_field: false,
            participants_unsure: Vec::new(),
            field_unsure: false,
        });
        self.note_unsure(record);
    }

    /// What was heard about a write whose result is not known yet.
    pub(super) fn heard(&self, id: WriteId) -> Heard {
        let watched = self.watched.iter().find(|watched| watched.id == id);
        watched.map_or(Heard { is_partial: true, ..Heard::default() }, |watched| watched.heard.clone())
    }

    /// Takes note of a notification, whether or not it can be put in order.
    pub(super) fn hear(&mut self, event: &GroupNotification) {
        if self.watched.is_empty() {
            return;
        }
        let (participants, field) = (participants_of(&event.action), PendingChange::told_by(&event.action));
        for Watched { change, heard, .. } in &mut self.watched {
            match (change, &participants) {
                (PendingChange::Participants(_, mine), Some((_, participants))) => {
                    heard.participants.extend(participants.iter().filter(|person| any_is(mine, person)));
                }
                (own, _) => heard.field |= field.as_ref().is_some_and(|field| own.touches(field)),
            }
        }
    }

    /// Forgets a write that was refused, or whose outcome is not known.
    pub(super) fn drop_write(&mut self, id: WriteId) {
        self.watched.retain(|watched| watched.id != id);
        self.writes.retain(|write| write.id != id);
    }

    /// Forgets the writes that are in flight.
    pub(super) fn drop_unconfirmed(&mut self) {
        self.writes.retain(|write| write.confirmed.is_some());
    }

    /// Whether a write was confirmed until `before` and is not in the record yet.
    pub(super) fn waits_since(&self, before: Sequence) -> bool {
        self.writes.iter().any(|write| write.confirmed.is_some_and(|at| at <= before))
    }

    /// The record with the confirmed writes on top.
    pub(super) fn on_top_of<'a>(&self, record: &'a GroupRecord) -> Cow<'a, GroupRecord> {
        on_top_of(&self.writes, record)
    }

    /// WhatsApp confirmed a write; `done` is what it did. The part that no notification has brought is shown on top of
    /// the record.
    pub(super) fn confirm(&mut self, id: WriteId, mut done: PendingChange, record: &GroupRecord, now: Sequence) {
        self.watched.retain(|watched| watched.id != id);
        let Some(at) = self.writes.iter().position(|write| write.id == id) else { return };
        let shown = on_top_of(&self.writes[..at], record);
        let write = &mut self.writes[at];
        write.note_unsure(&shown);
        let is_in = match &mut done {
            PendingChange::Participants(_, participants) => {
                participants.retain(|person| !any_is(&write.echoed_participants, person));
                participants.is_empty()
            }
            _ => write.echoed_field,
        };
        if is_in {
            return self.take_out(at);
        }
        (write.change, write.confirmed) = (done, Some(now));
    }

    /// Notes the parts of writes in flight that the record shows already.
    fn note_unsure(&mut self, record: &GroupRecord) {
        for write in self.writes.iter_mut().filter(|write| write.confirmed.is_none()) {
            write.note_unsure(record);
        }
    }

    /// Ends the time in which a notification may come after its answer. The unsure parts of writes that were confirmed
    /// until `before` are shown by the record alone from now on.
    pub(super) fn end_unsure(&mut self, before: Sequence, record: &GroupRecord) -> Unsure {
        let mut ended = Unsure::Nothing;
        let mut end = |is_in: bool| ended = ended.max(if is_in { Unsure::Shown } else { Unsure::Revealed });
        self.writes.retain_mut(|write| {
            if write.confirmed.is_none_or(|at| at > before) {
                return true;
            }
            let unsure = std::mem::take(&mut write.participants_unsure);
            match &mut write.change {
                PendingChange::Participants(change, participants) => {
                    participants.retain(|person| {
                        let is_unsure = any_is(&unsure, person);
                        if is_unsure {
                            end(is_so(*change, record.member(person).map(|member| member.role)));
                        }
                        !is_unsure
                    });
                    !participants.is_empty()
                }
                field => {
                    if write.field_unsure {
                        end(field.is_field_in(record));
                    }
                    !write.field_unsure
                }
            }
        });
        ended
    }

    /// Whether a confirmed write shows another value of the field that this notification changed.
    pub(super) fn hides(&self, event: &GroupNotification) -> bool {
        let Some(told) = PendingChange::told_by(&event.action) else { return false };
        self.writes.iter().any(|write| write.confirmed.is_some() && write.change.touches(&told))
    }

    /// Takes a notification that is in the record. True when it is the echo of a write of ours.
    pub(super) fn take_event(
        &mut self,
        event: &GroupNotification,
        me: &ParticipantIds,
        record: &GroupRecord,
        seen: Seen,
    ) -> bool {
        let is_ours = event.author.is_some_and(|author| author.is(me));
        let eligible = |write: &PendingWrite| write.matches(event) && (seen == Seen::New || write.confirmed.is_some());
        let echoed = self.writes.iter().position(eligible).filter(|_| is_ours);
        match participants_of(&event.action) {
            Some((change, participants)) => {
                if let Some(at) = echoed {
                    self.writes[at].echoed_participants.extend(&participants);
                }
                for person in &participants {
                    let role = record.member(person).map(|member| member.role);
                    self.end_about(person, change, role, echoed, seen);
                }
                self.writes.retain(|write| write.confirmed.is_none() || !write.change.is_empty());
                self.note_unsure(record);
            }
            None => {
                if let Some(at) = echoed {
                    self.writes[at].echoed_field = true;
                    if self.writes[at].confirmed.is_some() {
                        self.take_out(at);
                    }
                }
            }
        }
        echoed.is_some()
    }

    /// Ends what the confirmed writes say about a person to whom `change` happened, and who has `role` now. `echoed`:
    /// our own write that the notification is about, if it is ours; the writes before that one were carried out before.
    /// Another write stays if it would change something: its own notification is still to come.
    fn end_about(
        &mut self,
        person: &ParticipantIds,
        change: ParticipantChange,
        mut role: Option<Role>,
        echoed: Option<usize>,
        seen: Seen,
    ) {
        for (at, write) in self.writes.iter_mut().enumerate() {
            let PendingChange::Participants(own, participants) = &mut write.change else { continue };
            if !any_is(participants, person) {
                continue;
            }
            let is_same_list = changes_admins(*own) == changes_admins(change);
            if write.confirmed.is_none() {
                // This write may be older than the notification, or newer: then its own notification comes with the
                // answer.
                if (is_same_list || change == ParticipantChange::Remove) && !any_is(&write.participants_unsure, person)
                {
                    write.participants_unsure.push(*person);
                }
                continue;
            }
            let is_older = echoed.is_some_and(|echoed| at <= echoed);
            let ends = if is_same_list {
                is_older || (seen == Seen::New && is_so(*own, role))
            } else {
                // A removed person is no admin either.
                change == ParticipantChange::Remove && (is_older || (seen == Seen::New && echoed.is_none()))
            };
            if ends {
                participants.retain(|other| !other.is(person));
            } else {
                role = role_after(*own, role);
            }
        }
    }

    /// Ends the writes that a read has brought into the record.
    pub(super) fn take_read(&mut self, record: &GroupRecord, read: ReadTaken) {
        let is_settled = |write: &PendingWrite| {
            let is_in = match &write.change {
                PendingChange::Participants(..) => read.participants,
                field => !read.touched_since || field.is_field_in(record),
            };
            is_in && write.confirmed.is_some_and(|at| at <= read.asked)
        };
        while let Some(at) = self.writes.iter().rposition(is_settled) {
            self.take_out(at);
        }
        for write in self.writes.iter_mut().filter(|write| write.confirmed.is_none()) {
            // The write may have been carried out before the read or after it.
            match &write.change {
                PendingChange::Participants(_, participants) => write.participants_unsure.clone_from(participants),
                field => write.field_unsure |= field.is_field_in(record),
            }
        }
    }

    /// Takes out a write that is in the record. WhatsApp works in order: earlier confirmed writes of the same field are
    /// in the record too, or undone by this one.
    fn take_out(&mut self, at: usize) {
        let done = self.writes.remove(at);
        let mut place = 0;
        self.writes.retain(|earlier| {
            place += 1;
            place > at || earlier.confirmed.is_none() || !earlier.change.touches(&done.change)
        });
    }
}

fn on_top_of<'a>(writes: &[PendingWrite], record: &'a GroupRecord) -> Cow<'a, GroupRecord> {
    let mut shown = Cow::Borrowed(record);
    for write in writes.iter().filter(|write| write.confirmed.is_some()) {
        write.change.apply(shown.to_mut());
    }
    shown
}

/// The role of somebody after a change.
fn role_after(change: ParticipantChange, role: Option<Role>) -> Option<Role> {
    match change {
        ParticipantChange::Add => role.or(Some(Role::Member)),
        ParticipantChange::Remove => None,
        ParticipantChange::Promote => Some(Role::Admin),
        ParticipantChange::Demote => Some(Role::Member),
    }
}

impl PendingWrite {
    /// Notes the parts of the write that this record shows already. Others may change them again before the answer
    /// comes.
    fn note_unsure(&mut self, record: &GroupRecord) {
        match &self.change {
            PendingChange::Participants(change, participants) => {
                let role = |person: &ParticipantIds| record.member(person).map(|member| member.role);
                let so = participants.iter().filter(|person| is_so(*change, role(person)));
                let new: Vec<ParticipantIds> =
                    so.filter(|person| !any_is(&self.participants_unsure, person)).copied().collect();
                self.participants_unsure.extend(new);
            }
            field => self.field_unsure |= field.is_field_in(record),
        }
    }

    /// Whether a notification by ourselves is about this write.
    fn matches(&self, event: &GroupNotification) -> bool {
        match (&self.change, participants_of(&event.action)) {
            (PendingChange::Participants(change, mine), Some((told, participants))) => {
                *change == told && participants.iter().any(|person| any_is(mine, person))
            }
            (field, None) => PendingChange::told_by(&event.action).is_some_and(|told| *field == told),
            _ => false,
        }
    }
}
