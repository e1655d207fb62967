//! A group's record as callers see it. Never does IO.

use rookery_model::{Group, GroupRecord, GroupSummary, Participant, ParticipantIds, Role};

use super::names::Names;

/// The group as API callers see it.
pub(super) fn to_group(record: &GroupRecord, names: &Names) -> Group {
    let participants = record.members.iter().filter_map(|member| {
        Some(Participant {
            id: member.person.id()?,
            name: names.of(&member.person),
            is_admin: member.role != Role::Member,
            is_super_admin: member.role == Role::SuperAdmin,
        })
    });
    Group {
        id: record.id.clone(),
        name: record.subject.clone(),
        description: record.description.clone(),
        owner: record.owner.and_then(|owner| owner.id()),
        created_at: record.created_at,
        is_read_only: record.settings.announce,
        is_announce: record.settings.announce,
        settings: record.settings.clone(),
        linked_parent_jid: record.linked_parent.clone(),
        is_community: record.is_community,
        incomplete: !record.completeness.is_whole(),
        participants: participants.collect(),
    }
}

/// The group in a list, seen by `me`.
pub(crate) fn to_summary(record: &GroupRecord, me: &ParticipantIds) -> GroupSummary {
    GroupSummary {
        id: record.id.clone(),
        name: record.subject.clone(),
        participants_count: participants_count(record),
        is_admin: record.member(me).is_some_and(|member| member.role != Role::Member),
        linked_parent_jid: record.linked_parent.clone(),
        is_community: record.is_community,
        incomplete: !record.completeness.is_whole(),
    }
}

/// How many people are in it.
fn participants_count(record: &GroupRecord) -> u32 {
    let known = u32::try_from(record.members.len()).unwrap_or(u32::MAX);
    record.size.map_or(known, |size| size.max(known))
}
