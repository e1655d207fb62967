//! One group of the cache: the server's record, our own writes on top of it, and events that wait for the ones before
//! them. Never does IO.

use std::borrow::Cow;

use super::Sequence;
use super::event::{Applied, GroupEvent};
use super::own::OwnWrite;
use super::record::{GroupRecord, Person};

/// Notifications kept per group until the ones before them arrive; beyond it the group is read instead.
const PENDING_EVENTS_MAX: usize = 1024;

/// A group of the cache.
pub(super) struct CachedGroup {
    pub(super) record: GroupRecord,
    /// Our writes that are in flight or not yet confirmed by a notification or a read.
    pub(super) own: Vec<OwnWrite>,
    /// Notifications that came before the ones they follow on, with the moment they came.
    pub(super) pending: Vec<(Sequence, GroupEvent)>,
    /// Has to be read: something came that could not be ordered or understood.
    pub(super) must_read: bool,
    /// The last change by a notification or an own write.
    pub(super) touched: Sequence,
}

/// What an event did to a group.
#[derive(PartialEq, Eq)]
pub(super) enum Taken {
    Changed,
    Unchanged,
    Left,
}

/// Whether our account is still in the group.
#[derive(PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Left,
}

impl CachedGroup {
    pub(super) fn new(record: GroupRecord, touched: Sequence) -> Self {
        Self { record, own: Vec::new(), pending: Vec::new(), must_read: false, touched }
    }

    pub(super) fn view(&self) -> Cow<'_, GroupRecord> {
        if !self.own.iter().any(|own| own.confirmed.is_some()) {
            return Cow::Borrowed(&self.record);
        }
        let mut record = self.record.clone();
        for own in self.own.iter().filter(|own| own.confirmed.is_some()) {
            own.change.apply(&mut record);
        }
        Cow::Owned(record)
    }

    pub(super) fn needs_read(&self) -> bool {
        self.must_read || !self.pending.is_empty()
    }

    pub(super) fn take(&mut self, event: GroupEvent, now: Sequence, me: &Person) -> Taken {
        let applied = self.record.apply(&event, me);
        match applied {
            Applied::Left => return Taken::Left,
            Applied::Done => self.recognise(&event, me, false),
            Applied::Unordered => {
                self.must_read = true;
                self.recognise(&event, me, false);
            }
            Applied::Stale => self.recognise(&event, me, true),
            Applied::Gap if self.pending.len() < PENDING_EVENTS_MAX => self.pending.push((now, event)),
            Applied::Gap => self.must_read = true,
        }
        match applied {
            Applied::Done | Applied::Unordered => Taken::Changed,
            _ => Taken::Unchanged,
        }
    }

    /// Applies the waiting notifications that follow on by now.
    pub(super) fn settle_pending(&mut self, me: &Person) -> Fate {
        loop {
            let next = self.pending.iter().position(|(_, event)| self.record.follows(event) || self.record.has(event));
            let Some(at) = next else { return Fate::Stays };
            let (came, event) = self.pending.swap_remove(at);
            if self.take(event, came, me) == Taken::Left {
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
