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
                        ParticipantChange::Promote => record.set_admin(person, true),
                        ParticipantChange::Demote => record.set_admin(person, false),
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
    /// Whether a notification is about the same field. People are merged by versions.
    pub(super) fn is_about(&self, event: &Notice) -> bool {
        match (self, &event.action) {
            (Self::Subject(_), GroupAction::Subject(_)) | (Self::Description(_), GroupAction::Description { .. }) => {
                true
            }
            (Self::Setting(mine), GroupAction::Set(setting)) => mine.index() == setting.index(),
            _ => false,
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

fn any_is(people: &[Person], person: &Person) -> bool {
    people.iter().any(|other| other.is(person))
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
