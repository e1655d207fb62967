//! Our own writes until WhatsApp's notification about them, or a read, has brought them into the record. Never does IO.

use serde_json::{Value, json};

use super::Sequence;
use super::news::News;
use super::notice::{GroupAction, Notice};
use super::record::{GroupRecord, Member, Person};
use crate::model::{GroupEventKind, ParticipantChange, Setting};

/// Names one write of a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteId(pub(super) u64);

/// What a write changes in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnChange {
    /// Members or admins.
    Participants(ParticipantChange, Vec<Person>),
    /// The subject.
    Subject(String),
    /// The description; `None` when it is deleted.
    Description(Option<String>),
    /// A setting.
    Setting(Setting),
}

/// A write in flight, or confirmed and not yet seen in a notification.
pub(super) struct OwnWrite {
    pub(super) id: WriteId,
    /// What was asked; once confirmed, what was done and is not in the record yet.
    pub(super) change: OwnChange,
    /// When WhatsApp confirmed it.
    pub(super) confirmed: Option<Sequence>,
    /// People, or the field, that a notification has brought already.
    echoed_people: Vec<Person>,
    echoed_field: bool,
}

impl OwnChange {
    pub(super) fn apply(&self, record: &mut GroupRecord) {
        match self {
            Self::Participants(change, people) => {
                for person in people {
                    match change {
                        ParticipantChange::Add => record.add(Member::plain(*person)),
                        ParticipantChange::Remove => record.remove(person),
                        ParticipantChange::Promote => drop(record.set_admin(person, true)),
                        ParticipantChange::Demote => drop(record.set_admin(person, false)),
                    }
                }
            }
            Self::Subject(subject) => record.subject.clone_from(subject),
            Self::Description(text) => record.description.clone_from(text),
            Self::Setting(setting) => record.settings.apply(*setting),
        }
    }
}

impl OwnChange {
    /// Whether it is a field, and the record has its value. Who is a member is a matter of versions.
    pub(super) fn is_field_in(&self, record: &GroupRecord) -> bool {
        match self {
            Self::Participants(..) => false,
            Self::Subject(subject) => record.subject == *subject,
            Self::Description(text) => record.description == *text,
            Self::Setting(setting) => record.settings.has(*setting),
        }
    }

    /// Whether a notification is about the same field. People are merged by versions.
    pub(super) fn is_about(&self, event: &Notice) -> bool {
        Self::told_by(&event.action).is_some_and(|told| self.touches(&told))
    }

    /// Whether both change the same field, or the same person in the same list: members and admins have a version each,
    /// and what is known of one says nothing about the other.
    fn touches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Subject(_), Self::Subject(_)) | (Self::Description(_), Self::Description(_)) => true,
            (Self::Setting(one), Self::Setting(other)) => one.index() == other.index(),
            (Self::Participants(change, some), Self::Participants(other, others)) => {
                changes_admins(*change) == changes_admins(*other) && some.iter().any(|person| any_is(others, person))
            }
            _ => false,
        }
    }

    /// The same change as a notification tells it, for those that carry a time.
    pub(super) fn told_by(action: &GroupAction) -> Option<Self> {
        match action {
            GroupAction::Subject(subject) => Some(Self::Subject(subject.clone())),
            GroupAction::Description { text, .. } => Some(Self::Description(text.clone())),
            GroupAction::Set(setting) => Some(Self::Setting(*setting)),
            _ => None,
        }
    }

    /// Whether this write alone makes such news.
    pub(super) fn explains(&self, news: &News) -> bool {
        let only = |field: &str, value: Value| {
            news.kind == GroupEventKind::Update
                && news.changes.as_ref().is_some_and(|changes| changes.len() == 1 && changes.get(field) == Some(&value))
        };
        match self {
            Self::Participants(change, people) => {
                let kind = match change {
                    ParticipantChange::Add => GroupEventKind::Join,
                    ParticipantChange::Remove => GroupEventKind::Leave,
                    ParticipantChange::Promote => GroupEventKind::Promote,
                    ParticipantChange::Demote => GroupEventKind::Demote,
                };
                news.kind == kind && news.people.iter().all(|person| any_is(people, person))
            }
            Self::Subject(subject) => only("name", json!(subject)),
            Self::Description(text) => only("description", json!(text)),
            Self::Setting(setting) => only(setting.name(), setting.value()),
        }
    }
}

/// The people of a notification, when it is of this kind of change.
fn people_of(action: &GroupAction, change: ParticipantChange) -> Option<Vec<Person>> {
    match (action, change) {
        (GroupAction::Added(members), ParticipantChange::Add) => Some(members.iter().map(|m| m.person).collect()),
        (GroupAction::Removed(people), ParticipantChange::Remove)
        | (GroupAction::Promoted(people), ParticipantChange::Promote)
        | (GroupAction::Demoted(people), ParticipantChange::Demote) => Some(people.clone()),
        _ => None,
    }
}

fn changes_admins(change: ParticipantChange) -> bool {
    matches!(change, ParticipantChange::Promote | ParticipantChange::Demote)
}

fn any_is(people: &[Person], person: &Person) -> bool {
    people.iter().any(|other| other.is(person))
}

/// Takes a write out that the record has by now. WhatsApp works in order: confirmed ones before it that changed the same
/// are in the record too, or undone by it, and must not show on top.
pub(super) fn take_out(own: &mut Vec<OwnWrite>, at: usize) {
    let done = own.remove(at);
    let mut place = 0;
    own.retain(|earlier| {
        place += 1;
        place > at || earlier.confirmed.is_none() || !earlier.change.touches(&done.change)
    });
}

impl OwnWrite {
    pub(super) fn new(id: WriteId, change: OwnChange) -> Self {
        Self { id, change, confirmed: None, echoed_people: Vec::new(), echoed_field: false }
    }

    /// Whether a notification by ourselves is about this write.
    pub(super) fn matches(&self, event: &Notice) -> bool {
        match (&self.change, &event.action) {
            (OwnChange::Participants(change, mine), action) => {
                people_of(action, *change).is_some_and(|people| people.iter().any(|person| any_is(mine, person)))
            }
            (OwnChange::Subject(mine), GroupAction::Subject(subject)) => mine == subject,
            (OwnChange::Description(mine), GroupAction::Description { text, .. }) => mine == text,
            (OwnChange::Setting(mine), GroupAction::Set(setting)) => mine == setting,
            _ => false,
        }
    }

    /// Takes a notification about this write; true when nothing of the write is missing from the record now.
    pub(super) fn echo(&mut self, event: &Notice) -> bool {
        match &self.change {
            OwnChange::Participants(change, mine) => {
                self.echoed_people.extend(people_of(&event.action, *change).unwrap_or_default());
                mine.iter().all(|person| any_is(&self.echoed_people, person))
            }
            _ => {
                self.echoed_field = true;
                true
            }
        }
    }

    /// Whether notifications have brought all of what was done.
    pub(super) fn echoed(&self, done: &OwnChange) -> bool {
        match done {
            OwnChange::Participants(_, people) => people.iter().all(|person| any_is(&self.echoed_people, person)),
            _ => self.echoed_field,
        }
    }

    /// WhatsApp confirmed the write: what no notification has brought is shown on top of the record.
    pub(super) fn confirm(&mut self, done: OwnChange, now: Sequence) {
        self.change = match done {
            OwnChange::Participants(change, people) => {
                let missing = people.into_iter().filter(|person| !any_is(&self.echoed_people, person));
                OwnChange::Participants(change, missing.collect())
            }
            other => other,
        };
        self.confirmed = Some(now);
    }
}
