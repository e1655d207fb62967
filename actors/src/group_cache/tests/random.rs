//! Random changes of one group, by us and by others, against a model of WhatsApp. Notifications come in another order
//! than they were sent. Answers come before or after them or not at all. Reads are slow, some changes change nothing,
//! and a request may name a person twice. When everything has arrived, the cache shows what the model has, without the
//! later read for writes that had no notification. The seed is printed when it does not.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rookery_model::{GroupAction, GroupNotification, Member, Role};

use super::*;

const SEEDS: u64 = 400;
const STEPS: usize = 60;
const PEOPLE: [u64; 3] = [ALICE, BOB, BOB + 1];
/// A notification overtakes at most this many others.
const OVERTAKEN_MAX: usize = 4;

/// WhatsApp's side of the group, and what is on its way to us.
struct Model {
    rng: StdRng,
    cache: GroupCache,
    group: GroupRecord,
    version: u64,
    /// Notifications that did not arrive yet, each with its place in the order in which they were sent.
    notices: Vec<(u64, GroupNotification)>,
    sent: u64,
    /// Answers that did not arrive yet: the write, what it did, and how many notifications were sent before.
    answers: Vec<(WriteId, Option<PendingChange>, u64)>,
    /// Confirmed writes: when, and how many notifications were sent before.
    confirmed: Vec<(Sequence, u64)>,
    /// Reads that did not arrive yet.
    reads: Vec<(Sequence, GroupRecord)>,
    log: Vec<String>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let members = [(ME, Role::SuperAdmin), (ALICE, Role::Member)];
        Self {
            rng: StdRng::seed_from_u64(seed),
            cache: cache(),
            group: record(&members, 10, 10),
            version: 10,
            notices: Vec::new(),
            sent: 0,
            answers: Vec::new(),
            confirmed: Vec::new(),
            reads: Vec::new(),
            log: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..10) {
            0 | 1 => self.somebody_else(),
            2..=4 => self.write(),
            5 | 6 => self.notify(),
            7 => self.answer(),
            8 => self.reads.push((self.cache.sequence(), self.group.clone())),
            _ => self.read(),
        }
        self.end_unsure();
    }

    fn a_change(&mut self) -> (ParticipantChange, Vec<ParticipantIds>) {
        use ParticipantChange::{Add, Demote, Promote, Remove};
        let change = *[Add, Remove, Promote, Promote, Demote].choose(&mut self.rng).unwrap();
        let count = self.rng.random_range(1..=2);
        (change, (0..count).map(|_| person(*PEOPLE.choose(&mut self.rng).unwrap())).collect())
    }

    /// Carries out a change. Returns the people whom WhatsApp names as done: new members of an add, and members in any
    /// other change.
    fn change(
        &mut self,
        author: u64,
        change: ParticipantChange,
        participants: &[ParticipantIds],
    ) -> Vec<ParticipantIds> {
        let (mut done, mut changed) = (Vec::new(), Vec::new());
        for person in participants {
            let role = self.group.member(person).map(|member| member.role);
            let answers_done = match change {
                ParticipantChange::Add => role.is_none(),
                ParticipantChange::Remove | ParticipantChange::Promote | ParticipantChange::Demote => role.is_some(),
            };
            if answers_done {
                done.push(*person);
            }
            if answers_done && !is_so(change, role) {
                changed.push(*person);
                PendingChange::Participants(change, vec![*person]).apply(&mut self.group);
            }
        }
        if !changed.is_empty() {
            self.version += 1;
            let list = match change {
                ParticipantChange::Add | ParticipantChange::Remove => &mut self.group.participants_version,
                ParticipantChange::Promote | ParticipantChange::Demote => &mut self.group.admins_version,
            };
            let previous = list.replace(self.version).unwrap_or_default();
            let action = match change {
                ParticipantChange::Add => GroupAction::Added(changed.into_iter().map(Member::plain).collect()),
                ParticipantChange::Remove => GroupAction::Removed(changed),
                ParticipantChange::Promote => GroupAction::Promoted(changed),
                ParticipantChange::Demote => GroupAction::Demoted(changed),
            };
            self.notices.push((self.sent, event(author, Some((previous, self.version)), action)));
            self.sent += 1;
        }
        done
    }

    fn somebody_else(&mut self) {
        let (change, participants) = self.a_change();
        self.log.push(format!("somebody else: {change:?} {participants:?}"));
        self.change(BOB + 7, change, &participants);
    }

    fn write(&mut self) {
        let (change, participants) = self.a_change();
        let write = self.cache.begin_write(&id(), PendingChange::Participants(change, participants.clone()));
        let done = self.change(ME, change, &participants);
        self.log.push(format!("we, {write:?}: {change:?} {participants:?}, done {done:?}"));
        let done = (!done.is_empty()).then_some(PendingChange::Participants(change, done));
        self.answers.push((write, done, self.sent));
    }

    fn notify(&mut self) {
        if self.notices.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.notices.len().min(OVERTAKEN_MAX));
        let (_, notice) = self.notices.remove(at);
        self.log.push(format!("notification: {:?} {:?}", notice.action, notice.versions));
        self.cache.apply_event(notice);
    }

    /// Requests are answered in their order; some answers never come.
    fn answer(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let (write, done, sent) = self.answers.remove(0);
        if self.rng.random_bool(0.1) {
            self.log.push(format!("no answer to {write:?}"));
            return self.cache.drop_write(&id(), write, true);
        }
        self.log.push(format!("answer to {write:?}"));
        self.cache.confirm_write(&id(), write, done);
        self.confirmed.push((self.cache.sequence(), sent));
    }

    fn read(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let (asked, record) = self.reads.remove(0);
        self.log.push(format!("a read asked at {asked}"));
        self.cache.apply_read(&id(), asked, Some(record));
    }

    /// A notification comes at most a moment after the answers that were sent after it.
    fn end_unsure(&mut self) {
        let first_to_come = self.notices.iter().map(|(number, _)| *number).min().unwrap_or(u64::MAX);
        while let Some((at, _)) = self.confirmed.first().copied().filter(|(_, sent)| *sent <= first_to_come) {
            self.confirmed.remove(0);
            self.cache.end_unsure(&id(), at);
        }
    }

    /// Lets everything arrive that is on its way, and the reads that the cache asks for.
    fn quiet(&mut self) {
        while !(self.notices.is_empty() && self.answers.is_empty() && self.reads.is_empty()) {
            match self.rng.random_range(0..3) {
                0 => self.notify(),
                1 => self.answer(),
                _ => self.read(),
            }
            self.end_unsure();
        }
        for _ in self.cache.take_reads() {
            self.cache.apply_read(&id(), self.cache.sequence(), Some(self.group.clone()));
        }
    }

    fn members(record: &GroupRecord) -> Vec<(Option<ParticipantId>, bool)> {
        let mut members: Vec<_> = record.members.iter().map(|m| (m.person.id(), m.role != Role::Member)).collect();
        members.sort();
        members
    }
}

#[test]
fn whatever_comes_in_whatever_order_the_cache_shows_what_whatsapp_has_once_all_has_come() {
    for seed in 0..SEEDS {
        let mut model = Model::new(seed);
        for round in 0..4 {
            (0..STEPS).for_each(|_| model.step());
            model.quiet();
            let shown = Model::members(&model.cache.record(&id()).unwrap());
            let group = &model.cache.groups[&id()];
            let own: Vec<_> = group.writes.changes().collect();
            let kept = format!("{:?}, {own:?}, {:?}, {:?}", group.record, group.early, group.stale_since);
            let log = &model.log[model.log.len().saturating_sub(30)..];
            assert_eq!(shown, Model::members(&model.group), "seed {seed}, round {round}: {kept}\n{}", log.join("\n"));
        }
    }
}
