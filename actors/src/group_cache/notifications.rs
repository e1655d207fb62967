//! Takes WhatsApp's notifications into the cache, in any order. Never does IO.

use super::cached::{CachedGroup, Taken};
use super::diff::{Cause, GroupDiff};
use super::{GroupCache, Sequence};
use rookery_model::GroupId;
use rookery_model::ParticipantIds;
use rookery_model::{GroupAction, GroupNotification};
use serde_json::Map;

impl GroupCache {
    /// Takes a notification; true when the group is in doubt now (see [`Self::take_reads`]).
    pub(crate) fn apply_event(&mut self, event: GroupNotification) -> bool {
        if event.action == GroupAction::Ignored {
            return false;
        }
        self.numbers.seen(event.author.iter().chain(event.action.participants()));
        let id = event.group.clone();
        if !self.groups.contains_key(&id) {
            return self.apply_to_unknown(event);
        }
        if let GroupAction::Told(kind, participants) = event.action {
            let (actor, at) = (event.author, Some(event.at));
            let (changes, before, is_reconciled) = (None, Map::new(), false);
            self.diffs.push(GroupDiff { kind, group: id, participants, actor, at, changes, before, is_reconciled });
            return false;
        }
        let now = self.count();
        if let Some(group) = self.groups.get_mut(&id) {
            group.touched = now;
        }
        let mut next = Some((now, event));
        while let Some((came, event)) = next {
            if self.take(&id, came, event) == Taken::Left {
                break;
            }
            next = self.groups.get_mut(&id).and_then(CachedGroup::next_early);
        }
        self.groups.get(&id).is_some_and(CachedGroup::needs_read)
    }

    /// Takes one notification about a group that is cached.
    fn take(&mut self, id: &GroupId, came: Sequence, event: GroupNotification) -> Taken {
        let told = Cause { actor: event.author, at: Some(event.at) };
        // The state that a stale notification reveals was set by somebody else.
        let cause = |taken: &Taken| if *taken == Taken::Revealed { Cause::default() } else { told };
        self.with_diff(id, cause, |cache| cache.take_silently(id, came, event))
    }

    /// As [`Self::take`], for a caller that notes the difference itself.
    pub(super) fn take_silently(&mut self, id: &GroupId, came: Sequence, event: GroupNotification) -> Taken {
        let Some(group) = self.groups.get_mut(id) else { return Taken::Unchanged };
        let taken = group.take(event, came, &self.me);
        match taken {
            Taken::Left => self.remove(id),
            Taken::Changed | Taken::Revealed => self.changed(id),
            Taken::Unchanged => {}
        }
        taken
    }

    fn apply_to_unknown(&mut self, event: GroupNotification) -> bool {
        let mine = |participants: &[ParticipantIds]| participants.iter().any(|person| person.is(&self.me));
        let cause = Cause { actor: event.author, at: Some(event.at) };
        match event.action {
            GroupAction::Deleted => self.miss(&event.group),
            GroupAction::Removed(participants) if mine(&participants) => self.miss(&event.group),
            // A group with a tombstone may have been left before or after this notification was sent: a read decides.
            GroupAction::Created { record, .. }
                if record.member(&self.me).is_some() && !self.tombstones.contains_key(&event.group) =>
            {
                let heard_before = self.unknown.contains_key(&event.group);
                self.with_diff(&event.group, |()| cause, |cache| cache.insert(*record));
                if heard_before {
                    self.mark_for_read(&event.group);
                }
                heard_before
            }
            _ => {
                self.hear(&event.group);
                true
            }
        }
    }
}
