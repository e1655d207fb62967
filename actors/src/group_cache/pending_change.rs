//! What a write of ours changes in a group. Never does IO.

use serde_json::{Value, json};

use super::diff::GroupDiff;
use rookery_model::GroupAction;
use rookery_model::{GroupEventKind, ParticipantChange, Setting};
use rookery_model::{GroupRecord, Member, ParticipantIds, Role};

/// What a write changes in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PendingChange {
    /// Members or admins.
    Participants(ParticipantChange, Vec<ParticipantIds>),
    /// The subject.
    Subject(String),
    /// The description; `None` when it is deleted.
    Description(Option<String>),
    /// A setting.
    Setting(Setting),
}

impl PendingChange {
    pub(super) fn apply(&self, record: &mut GroupRecord) {
        match self {
            Self::Participants(change, participants) => {
                for person in participants {
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

impl PendingChange {
    /// Whether the change is about participants and names nobody.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Participants(_, participants) if participants.is_empty())
    }

    /// Whether the change is of a field, and the record has its value. Versions decide who is a participant.
    pub(super) fn is_field_in(&self, record: &GroupRecord) -> bool {
        match self {
            Self::Participants(..) => false,
            Self::Subject(subject) => record.subject == *subject,
            Self::Description(text) => record.description == *text,
            Self::Setting(setting) => record.settings.has(*setting),
        }
    }

    /// Whether both change the same field.
    pub(super) fn touches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Subject(_), Self::Subject(_)) | (Self::Description(_), Self::Description(_)) => true,
            (Self::Setting(one), Self::Setting(other)) => one.index() == other.index(),
            _ => false,
        }
    }

    /// The change that a notification reports, for changes that carry a time.
    pub(super) fn told_by(action: &GroupAction) -> Option<Self> {
        match action {
            GroupAction::Subject(subject) => Some(Self::Subject(subject.clone())),
            GroupAction::Description { text, .. } => Some(Self::Description(text.clone())),
            GroupAction::Set(setting) => Some(Self::Setting(*setting)),
            _ => None,
        }
    }

    /// Whether this write alone makes this difference.
    pub(super) fn explains(&self, diff: &GroupDiff) -> bool {
        let only = |field: &str, value: Value| {
            diff.kind == GroupEventKind::Update
                && diff.changes.as_ref().is_some_and(|changes| changes.len() == 1 && changes.get(field) == Some(&value))
        };
        match self {
            Self::Participants(change, participants) => {
                let kind = match change {
                    ParticipantChange::Add => GroupEventKind::Join,
                    ParticipantChange::Remove => GroupEventKind::Leave,
                    ParticipantChange::Promote => GroupEventKind::Promote,
                    ParticipantChange::Demote => GroupEventKind::Demote,
                };
                diff.kind == kind && diff.participants.iter().all(|person| any_is(participants, person))
            }
            Self::Subject(subject) => only("name", json!(subject)),
            Self::Description(text) => only("description", json!(text)),
            Self::Setting(setting) => only(setting.name(), setting.value()),
        }
    }
}

/// Whether a change is true of somebody with this role; `None` for those who are no members.
pub(crate) fn is_so(change: ParticipantChange, role: Option<Role>) -> bool {
    match change {
        ParticipantChange::Add => role.is_some(),
        ParticipantChange::Remove => role.is_none(),
        ParticipantChange::Promote => role.is_some_and(|role| role != Role::Member),
        ParticipantChange::Demote => role == Some(Role::Member),
    }
}

/// The participants that a notification is about, and what happened to them.
pub(super) fn participants_of(action: &GroupAction) -> Option<(ParticipantChange, Vec<ParticipantIds>)> {
    match action {
        GroupAction::Added(members) => Some((ParticipantChange::Add, members.iter().map(|m| m.person).collect())),
        GroupAction::Removed(participants) => Some((ParticipantChange::Remove, participants.clone())),
        GroupAction::Promoted(participants) => Some((ParticipantChange::Promote, participants.clone())),
        GroupAction::Demoted(participants) => Some((ParticipantChange::Demote, participants.clone())),
        _ => None,
    }
}

/// Whether a change is of the admin list; the others are of the participant list. Each list has a version of its own.
pub(super) fn changes_admins(change: ParticipantChange) -> bool {
    matches!(change, ParticipantChange::Promote | ParticipantChange::Demote)
}

pub(super) fn any_is(participants: &[ParticipantIds], person: &ParticipantIds) -> bool {
    participants.iter().any(|other| other.is(person))
}
