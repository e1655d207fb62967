//! One group of the cache: the server's record, our own writes on top of it, and events that wait for the ones before
//! them. Never does IO.

use std::borrow::Cow;

use super::Sequence;
use super::merge::{self, Applied};
use super::pending_writes::{PendingWrites, Seen};
use rookery_model::GroupNotification;
use rookery_model::{GroupRecord, ParticipantIds};

/// Notifications kept per group until the ones before them arrive; beyond it the group is read instead.
const PENDING_EVENTS_MAX: usize = 1024;

/// A group of the cache.
pub(super) struct CachedGroup {
    pub(super) record: GroupRecord,
    /// Our writes that are in flight or not yet in the record.
    pub(super) writes: PendingWrites,
    /// Notifications that came before the ones that they follow, with the moment they came.
    pub(super) early: Vec<(Sequence, GroupNotification)>,
    /// Notifications that only a read can order: they say who made the change that the read brings.
    pub(super) ambiguous: Vec<GroupNotification>,
    /// The group has to be read by a read that is asked for after this: something came that could not be ordered or
    /// understood.
    pub(super) stale_since: Option<Sequence>,
    /// The last change by a notification or an own write.
    pub(super) touched: Sequence,
    /// The tag of the group as callers see it, and the version of the names in it; `None` since the last change.
    pub(super) tag: Option<(u64, u64)>,
}

/// The effect of an event on a group.
#[derive(PartialEq, Eq)]
pub(super) enum Taken {
    Changed,
    /// The event ended a write of ours that was shown on top: the state that shows now was in the record before.
    Revealed,
    Unchanged,
    Left,
}

impl CachedGroup {
    pub(super) fn new(record: GroupRecord, touched: Sequence) -> Self {
        let (writes, early, ambiguous) = (PendingWrites::default(), Vec::new(), Vec::new());
        Self { record, writes, early, ambiguous, stale_since: None, touched, tag: None }
    }

    pub(super) fn view(&self) -> Cow<'_, GroupRecord> {
        self.writes.on_top_of(&self.record)
    }

    pub(super) fn needs_read(&self) -> bool {
        self.stale_since.is_some() || !self.early.is_empty()
    }

    pub(super) fn take(&mut self, event: GroupNotification, now: Sequence, me: &ParticipantIds) -> Taken {
        self.writes.hear(&event);
        match merge::apply(&mut self.record, &event, me) {
            Applied::Left => Taken::Left,
            applied @ (Applied::Done | Applied::Unordered) => {
                // Our own write is shown on top, and may be older than this change.
                let hidden = !self.writes.take_event(&event, me, &self.record, Seen::New) && self.writes.hides(&event);
                if hidden || applied == Applied::Unordered {
                    self.stale_since = Some(now);
                }
                Taken::Changed
            }
            // A write of ours stays on top until the read.
            Applied::Tied => {
                self.stale_since = Some(now);
                if self.ambiguous.len() < PENDING_EVENTS_MAX {
                    self.ambiguous.push(event);
                }
                Taken::Unchanged
            }
            Applied::Stale if self.writes.take_event(&event, me, &self.record, Seen::Before) => Taken::Revealed,
            Applied::Stale => Taken::Unchanged,
            Applied::Gap => {
                if self.early.len() < PENDING_EVENTS_MAX {
                    self.early.push((now, event));
                } else {
                    self.stale_since = Some(now);
                }
                Taken::Unchanged
            }
        }
    }

    /// Takes out a waiting notification that can be applied now.
    pub(super) fn next_early(&mut self) -> Option<(Sequence, GroupNotification)> {
        let next = self
            .early
            .iter()
            .position(|(_, event)| merge::follows(&self.record, event) || merge::has(&self.record, event))?;
        Some(self.early.swap_remove(next))
    }
}
