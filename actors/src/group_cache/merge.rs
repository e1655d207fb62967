//! Merges WhatsApp's data into a group's record: readings of the group, and single changes from notifications. Both
//! come in any order. Versions and times decide, never the order of arrival. Never does IO.

use rookery_model::{Completeness, GroupAction, GroupNotification, GroupRecord, ParticipantIds, Setting, Versions};

/// The result of applying an event.
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
    /// Another value of the same second: only a read can tell which one came last. The record keeps the value from
    /// before.
    Tied,
    /// Our account is not in the group any longer.
    Left,
}

/// The result of merging a reading.
#[derive(Copy, Clone)]
pub(super) struct Merged {
    /// The group has to be read again.
    pub(super) again: bool,
    /// The participants are those of the reading.
    pub(super) participants: bool,
}

/// Which of the two lists a change belongs to.
#[derive(Copy, Clone)]
enum List {
    Participants,
    Admins,
}

fn list_of(action: &GroupAction) -> Option<List> {
    match action {
        GroupAction::Added(_) | GroupAction::Removed(_) => Some(List::Participants),
        GroupAction::Promoted(_) | GroupAction::Demoted(_) => Some(List::Admins),
        _ => None,
    }
}

/// Whether the event is the next one of its list.
pub(super) fn follows(record: &GroupRecord, event: &GroupNotification) -> bool {
    let Some((known, versions)) = versions_of(record, event) else { return false };
    versions.previous == Some(known) && versions.this > known
}

/// Whether the record already holds the event.
pub(super) fn has(record: &GroupRecord, event: &GroupNotification) -> bool {
    versions_of(record, event).is_some_and(|(known, versions)| versions.this <= known)
}

fn versions_of(record: &GroupRecord, event: &GroupNotification) -> Option<(u64, Versions)> {
    let known = match list_of(&event.action)? {
        List::Participants => record.participants_version,
        List::Admins => record.admins_version,
    };
    known.zip(event.versions)
}

/// Merges one event.
pub(super) fn apply(record: &mut GroupRecord, event: &GroupNotification, me: &ParticipantIds) -> Applied {
    let at = event.at;
    match &event.action {
        GroupAction::Subject(subject) => {
            let mut field = (std::mem::take(&mut record.subject), record.subject_at);
            let applied = set_by_time(&mut field, subject.clone(), at);
            (record.subject, record.subject_at) = field;
            applied
        }
        GroupAction::Description { id, text } => {
            let known = (record.description.take(), record.description_id.take());
            let mut field = (known, record.description_at);
            let applied = set_by_time(&mut field, (text.clone(), text.is_some().then(|| id.clone())), at);
            ((record.description, record.description_id), record.description_at) = field;
            applied
        }
        GroupAction::Set(setting) => apply_setting(record, *setting, at),
        GroupAction::Deleted => Applied::Left,
        GroupAction::Created { .. } | GroupAction::Told(..) | GroupAction::Ignored => Applied::Stale,
        GroupAction::Unclear => Applied::Unordered,
        GroupAction::Added(_) | GroupAction::Removed(_) | GroupAction::Promoted(_) | GroupAction::Demoted(_) => {
            apply_to_lists(record, event, me)
        }
    }
}

/// Each setting has a time of its own.
fn apply_setting(record: &mut GroupRecord, setting: Setting, at: u64) -> Applied {
    let at = u32::try_from(at).unwrap_or(u32::MAX);
    let known_at = std::mem::replace(&mut record.settings_at[setting.index()], at);
    if at < known_at {
        record.settings_at[setting.index()] = known_at;
        return Applied::Stale;
    }
    if record.settings.has(setting) {
        return Applied::Done;
    }
    if at == known_at {
        return Applied::Tied;
    }
    record.settings.apply(setting);
    Applied::Done
}

fn apply_to_lists(record: &mut GroupRecord, event: &GroupNotification, me: &ParticipantIds) -> Applied {
    let ordered = match versions_of(record, event) {
        Some(_) if has(record, event) => return Applied::Stale,
        Some(_) if follows(record, event) => true,
        Some((_, Versions { previous: Some(_), .. })) => return Applied::Gap,
        _ => false,
    };
    match (list_of(&event.action), event.versions) {
        (Some(List::Participants), Some(versions)) => record.participants_version = Some(versions.this),
        (Some(List::Admins), Some(versions)) => record.admins_version = Some(versions.this),
        _ => {}
    }
    let mut all_are_members = true;
    match &event.action {
        GroupAction::Added(members) => members.iter().for_each(|member| record.add(*member)),
        GroupAction::Removed(participants) if participants.iter().any(|person| person.is(me)) => return Applied::Left,
        GroupAction::Removed(participants) => participants.iter().for_each(|person| record.remove(person)),
        // Somebody who became an admin became a member before. The notification of the other list about that has yet to
        // come.
        GroupAction::Promoted(participants) => {
            participants.iter().for_each(|person| all_are_members &= record.set_admin(person, true));
        }
        GroupAction::Demoted(participants) => {
            participants.iter().for_each(|person| all_are_members &= record.set_admin(person, false));
        }
        _ => {}
    }
    if ordered && all_are_members { Applied::Done } else { Applied::Unordered }
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

/// Merges a reading of the same group. `touched_since`: something changed here after the reading was asked for.
pub(super) fn merge_reading(known: &mut GroupRecord, mut read: GroupRecord, touched_since: bool) -> Merged {
    if read.completeness == Completeness::Stub {
        if known.completeness != Completeness::Stub {
            known.completeness = Completeness::Outdated;
        }
        known.size = read.size.or(known.size);
        return Merged { again: false, participants: false };
    }
    (known.completeness, known.size) = (read.completeness, read.size);
    if read.completeness == Completeness::Part {
        keep_known(&mut read, known);
    }
    let older = |read: Option<u64>, known: Option<u64>| read.is_some() && read < known;
    let versions_known = read.participants_version.is_some() && read.admins_version.is_some();
    let stale = older(read.participants_version, known.participants_version)
        || older(read.admins_version, known.admins_version);
    let mut again = touched_since && (stale || !versions_known);
    if !stale {
        known.participants_version = read.participants_version;
        known.admins_version = read.admins_version;
        known.lid_addressing = read.lid_addressing;
        known.members = read.members;
    }
    let wins = |read_at: u64, known_at: u64| read_at > known_at || (read_at == known_at && !touched_since);
    if wins(read.subject_at, known.subject_at) {
        known.subject = read.subject;
        known.subject_at = read.subject_at;
    } else {
        again |= touched_since && known.subject != read.subject;
    }
    if wins(read.description_at, known.description_at) || (read.description.is_none() && !touched_since) {
        known.description = read.description;
        known.description_id = read.description_id;
        known.description_at = read.description_at.max(known.description_at);
    } else {
        again |= touched_since && known.description != read.description;
    }
    if touched_since {
        again |= known.settings != read.settings;
    } else {
        known.settings = read.settings;
    }
    known.owner = read.owner.or(known.owner);
    known.created_at = read.created_at.or(known.created_at);
    known.linked_parent = read.linked_parent;
    known.is_community = read.is_community;
    known.community_role = read.community_role;
    Merged { again, participants: !stale }
}

/// Fills in what a partial reading left out and was known before.
fn keep_known(read: &mut GroupRecord, known: &GroupRecord) {
    if read.subject.is_empty() {
        read.subject.clone_from(&known.subject);
        read.subject_at = known.subject_at;
    }
    if read.members.is_empty() {
        read.members.clone_from(&known.members);
    }
}
