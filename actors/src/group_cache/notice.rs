//! One change of a group, told by WhatsApp in a notification, and its merge into the record. Never does IO.
//!
//! Participant changes carry the version of the list they lead to and the one they follow on (`v_id`, `prev_v_id` on
//! the action of a `w:gp2` notification): adds and removals version the member list, promotions and demotions the
//! admin list. Other changes carry a time in seconds.

use super::record::{GroupRecord, Member, Person, Role};
use crate::model::{GroupEventKind, GroupId, Setting};

/// A change of a group, told by WhatsApp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) group: GroupId,
    /// Who made it, when WhatsApp says so.
    pub(crate) author: Option<Person>,
    /// Unix seconds.
    pub(crate) at: u64,
    /// Of participant changes, when WhatsApp says so.
    pub(crate) versions: Option<Versions>,
    pub(crate) action: GroupAction,
}

/// The list version a change leads to, and the one it follows on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) this: u64,
    pub(crate) previous: Option<u64>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupAction {
    /// People are members now.
    Added(Vec<Member>),
    /// People are members no longer.
    Removed(Vec<Person>),
    /// People are admins now.
    Promoted(Vec<Person>),
    /// People are admins no longer.
    Demoted(Vec<Person>),
    /// The subject.
    Subject(String),
    /// The description and its id; `None` when it was deleted.
    Description {
        /// The server's token for it.
        id: String,
        /// The text.
        text: Option<String>,
    },
    /// A setting has this value now.
    Set(Setting),
    /// The group was made, or made visible to us, with everything in it.
    Created {
        /// The group.
        record: Box<GroupRecord>,
        /// The `key` of the request that made it: only its sender gets to see it.
        key: Option<String>,
    },
    /// The group is no more.
    Deleted,
    /// Something changed that only a read can tell.
    Unclear,
    /// Something happened that the cache does not hold, but others want to know: picture, invite link, requests.
    Told(GroupEventKind, Vec<Person>),
    /// Nothing that concerns anybody here.
    Ignored,
}

/// What became of an event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// The record has it now.
    Done,
    /// The record had it, or something newer, before.
    Stale,
    /// Events before it are missing.
    Gap,
    /// It could not be ordered: the record may be wrong now.
    Unordered,
    /// Another value of the same second: which one came last only a read can tell. The record has the one before.
    Tied,
    /// Our account is not in the group any longer.
    Left,
}

/// Which of the two lists a change belongs to.
#[derive(Copy, Clone)]
enum List {
    Participants,
    Admins,
}

impl GroupAction {
    fn list(&self) -> Option<List> {
        match self {
            Self::Added(_) | Self::Removed(_) => Some(List::Participants),
            Self::Promoted(_) | Self::Demoted(_) => Some(List::Admins),
            _ => None,
        }
    }
}

impl GroupRecord {
    /// Whether the event is the next one of its list.
    pub(super) fn follows(&self, event: &Notice) -> bool {
        let Some((known, versions)) = self.versions_of(event) else { return false };
        versions.previous == Some(known) && versions.this > known
    }

    /// Whether the record already holds the event.
    pub(super) fn has(&self, event: &Notice) -> bool {
        self.versions_of(event).is_some_and(|(known, versions)| versions.this <= known)
    }

    fn versions_of(&self, event: &Notice) -> Option<(u64, Versions)> {
        let known = match event.action.list()? {
            List::Participants => self.participants_version,
            List::Admins => self.admins_version,
        };
        known.zip(event.versions)
    }

    /// Merges one event.
    pub(super) fn apply(&mut self, event: &Notice, me: &Person) -> Applied {
        let at = event.at;
        match &event.action {
            GroupAction::Subject(subject) => {
                let mut field = (std::mem::take(&mut self.subject), self.subject_at);
                let applied = set_by_time(&mut field, subject.clone(), at);
                (self.subject, self.subject_at) = field;
                applied
            }
            GroupAction::Description { id, text } => {
                let known = (self.description.take(), self.description_id.take());
                let mut field = (known, self.description_at);
                let applied = set_by_time(&mut field, (text.clone(), text.is_some().then(|| id.clone())), at);
                ((self.description, self.description_id), self.description_at) = field;
                applied
            }
            GroupAction::Set(setting) => self.apply_setting(*setting, at),
            GroupAction::Deleted => Applied::Left,
            GroupAction::Created { .. } | GroupAction::Told(..) | GroupAction::Ignored => Applied::Stale,
            GroupAction::Unclear => Applied::Unordered,
            GroupAction::Added(_) | GroupAction::Removed(_) | GroupAction::Promoted(_) | GroupAction::Demoted(_) => {
                self.apply_to_lists(event, me)
            }
        }
    }

    /// Settings carry a time, each its own.
    fn apply_setting(&mut self, setting: Setting, at: u64) -> Applied {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let known_at = std::mem::replace(&mut self.settings_at[setting.index()], at);
        if at < known_at {
            self.settings_at[setting.index()] = known_at;
            return Applied::Stale;
        }
        if self.settings.has(setting) {
            return Applied::Done;
        }
        if at == known_at {
            return Applied::Tied;
        }
        self.settings.apply(setting);
        Applied::Done
    }

    fn apply_to_lists(&mut self, event: &Notice, me: &Person) -> Applied {
        let ordered = match self.versions_of(event) {
            Some(_) if self.has(event) => return Applied::Stale,
            Some(_) if self.follows(event) => true,
            Some((_, Versions { previous: Some(_), .. })) => return Applied::Gap,
            _ => false,
        };
        match (event.action.list(), event.versions) {
            (Some(List::Participants), Some(versions)) => self.participants_version = Some(versions.this),
            (Some(List::Admins), Some(versions)) => self.admins_version = Some(versions.this),
            _ => {}
        }
        let mut all_are_members = true;
        match &event.action {
            GroupAction::Added(members) => members.iter().for_each(|member| self.add(*member)),
            GroupAction::Removed(people) if people.iter().any(|person| person.is(me)) => return Applied::Left,
            GroupAction::Removed(people) => people.iter().for_each(|person| self.remove(person)),
            // Somebody who became an admin has become a member before, which the other list has yet to say.
            GroupAction::Promoted(people) => {
                people.iter().for_each(|person| all_are_members &= self.set_admin(person, true));
            }
            GroupAction::Demoted(people) => {
                people.iter().for_each(|person| all_are_members &= self.set_admin(person, false));
            }
            _ => {}
        }
        if ordered && all_are_members { Applied::Done } else { Applied::Unordered }
    }
}

/// Sets a field unless a newer change of it is known; two different values of one second cannot be ordered.
fn set_by_time<T: PartialEq>(field: &mut (T, u64), value: T, at: u64) -> Applied {
    if at < field.1 {
        return Applied::Stale;
    }
    if field.0 == value {
        field.1 = at;
        return Applied::Done;
    }
    if at == field.1 {
        return Applied::Tied;
    }
    *field = (value, at);
    Applied::Done
}

impl Member {
    /// A member without rights.
    pub(crate) fn plain(person: Person) -> Self {
        Self { person, role: Role::Member }
    }
}
