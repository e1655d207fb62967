//! Between the engine's types and ours. Never does IO.
//!
//! Shapes of `w:g2` answers and `w:gp2` notifications: as the engine's parsers read them (wacore `iq/groups.rs`,
//! `stanza/groups.rs`); version attributes `v_id`, `prev_v_id`, `p_v_id`, `a_v_id` as seen on WhatsApp Web's wire.

use std::num::NonZeroU64;

use wacore::iq::groups::{GroupInfoResponse, ParticipantType};
use wacore::protocol::ProtocolNode;
use wacore::stanza::groups::{GroupNotification, GroupNotificationAction, GroupParticipantInfo, GroupParticipantType};
use wacore::types::message::AddressingMode;
use wacore_binary::{Jid, NodeRef, Server};

use crate::group_cache::{GroupAction, GroupEvent, GroupRecord, GroupSettings, Member, Person, Role, Versions};
use crate::model::{GroupId, ParticipantId};

/// The person behind one id; `None` for bots, newsletters and other non-people.
pub(super) fn person(jid: &Jid) -> Option<Person> {
    let digits = jid.user.parse::<NonZeroU64>().ok()?;
    match jid.server {
        Server::Pn | Server::Hosted | Server::Legacy => Some(Person { phone: Some(digits), lid: None }),
        Server::Lid | Server::HostedLid => Some(Person { phone: None, lid: Some(digits) }),
        _ => None,
    }
}

/// The person behind all ids that one stanza gives for them.
pub(super) fn person_of(ids: [Option<&Jid>; 3]) -> Option<Person> {
    let mut whole: Option<Person> = None;
    for known in ids.into_iter().flatten().filter_map(person) {
        match &mut whole {
            Some(whole) => whole.learn(&known),
            None => whole = Some(known),
        }
    }
    whole
}

/// The id as it goes out to WhatsApp.
pub(super) fn jid(id: ParticipantId) -> Jid {
    match id {
        ParticipantId::Phone(digits) => Jid::pn(digits.to_string()),
        ParticipantId::Lid(digits) => Jid::lid(digits.to_string()),
    }
}

pub(super) fn group_jid(id: &GroupId) -> Jid {
    Jid::group(id.user())
}

pub(super) fn group_id(jid: &Jid) -> Option<GroupId> {
    (jid.server == Server::Group).then(|| GroupId::from_user(&jid.user).ok()).flatten()
}

/// Reads a `<group>` node of an answer or of a `<create>` notification. People whom WhatsApp refused (`error` on the
/// participant) are not members.
pub(super) fn group_record(node: &NodeRef<'_>) -> anyhow::Result<GroupRecord> {
    let info = GroupInfoResponse::try_from_node_ref(node)?;
    let id = group_id(&info.id).ok_or_else(|| anyhow::anyhow!("the answer names no group id"))?;
    let refused: Vec<Jid> = participants(node).filter(|p| p.get_attr("error").is_some()).filter_map(jid_of).collect();
    let members = info.participants.iter().filter(|p| !refused.contains(&p.jid)).filter_map(|participant| {
        let ids = [Some(&participant.jid), participant.phone_number.as_ref(), participant.lid.as_ref()];
        let role = match participant.participant_type {
            ParticipantType::Member => Role::Member,
            ParticipantType::Admin => Role::Admin,
            ParticipantType::SuperAdmin => Role::SuperAdmin,
        };
        Some(Member { person: person_of(ids)?, role })
    });
    Ok(GroupRecord {
        id,
        subject: info.subject.as_str().to_owned(),
        subject_at: info.subject_time.unwrap_or(0),
        description_at: info.description_time.unwrap_or(0),
        description: info.description,
        description_id: info.description_id,
        owner: person_of([info.creator.as_ref(), info.creator_pn.as_ref(), None]),
        created_at: info.creation_time,
        settings: GroupSettings {
            announce: (info.is_announcement, 0),
            locked: (info.is_locked, 0),
            ephemeral_seconds: (info.ephemeral.and_then(|e| e.expiration).filter(|seconds| *seconds > 0), 0),
            // The engine's parser takes string content only and these words arrive as bytes.
            member_add_mode: (text_of(node, "member_add_mode"), 0),
        },
        linked_parent: info.parent_group_jid.as_ref().and_then(group_id),
        is_community: info.is_parent_group,
        lid_addressing: info.addressing_mode == AddressingMode::Lid,
        participants_version: info.participant_version_id.and_then(|version| version.parse().ok()),
        admins_version: info.admin_version_id.and_then(|version| version.parse().ok()),
        members: members.collect(),
    })
}

/// The `<participant>` children of a node.
pub(super) fn participants<'a, 'b: 'a>(node: &'a NodeRef<'b>) -> impl Iterator<Item = &'a NodeRef<'b>> {
    node.get_children_by_tag("participant")
}

/// The `jid` attribute of a node.
pub(super) fn jid_of(node: &NodeRef<'_>) -> Option<Jid> {
    node.attrs().optional_jid("jid")
}

fn text_of(node: &NodeRef<'_>, tag: &str) -> Option<String> {
    node.get_optional_child(tag)?.content_as_string().map(|text| text.to_string())
}

/// Every change that one `w:gp2` notification tells; nothing for other stanzas.
pub(super) fn group_events(node: &NodeRef<'_>) -> Vec<GroupEvent> {
    if node.attrs().optional_string("type").as_deref() != Some("w:gp2") {
        return Vec::new();
    }
    let Some(notification) = GroupNotification::try_from_node_ref(node) else { return Vec::new() };
    let Some(group) = group_id(&notification.group_jid) else { return Vec::new() };
    let author = person_of([notification.participant.as_ref(), notification.participant_pn.as_ref(), None]);
    let event = |at: u64, versions: Option<Versions>, action: GroupAction| GroupEvent {
        group: group.clone(),
        author,
        at,
        versions,
        action,
    };
    let children: Vec<&NodeRef<'_>> = node
        .children()
        .unwrap_or_default()
        .iter()
        .filter(|child| child.tag != "missing_participant_identification")
        .collect();
    if notification.has_incomplete_participant_information || children.len() != notification.actions.len() {
        return vec![event(notification.timestamp, None, GroupAction::Unclear)];
    }
    let convert = |(child, parsed): (&NodeRef<'_>, GroupNotificationAction)| {
        let at = match &parsed {
            GroupNotificationAction::Subject { subject_time: Some(at), .. } => *at,
            _ => notification.timestamp,
        };
        event(at, versions(child), action(child, parsed))
    };
    children.into_iter().zip(notification.actions).map(convert).collect()
}

fn versions(action: &NodeRef<'_>) -> Option<Versions> {
    let mut attrs = action.attrs();
    let this = attrs.optional_u64("v_id")?;
    Some(Versions { this, previous: attrs.optional_u64("prev_v_id") })
}

fn action(node: &NodeRef<'_>, parsed: GroupNotificationAction) -> GroupAction {
    use GroupNotificationAction as A;
    match parsed {
        A::Add { participants, .. } => members_of(&participants).map_or(GroupAction::Unclear, GroupAction::Added),
        A::Remove { participants, .. } => people_of(&participants).map_or(GroupAction::Unclear, GroupAction::Removed),
        A::Promote { participants } => people_of(&participants).map_or(GroupAction::Unclear, GroupAction::Promoted),
        A::Demote { participants } => people_of(&participants).map_or(GroupAction::Unclear, GroupAction::Demoted),
        A::Subject { subject, .. } => GroupAction::Subject(subject),
        A::Description { id, description } => GroupAction::Description { id, text: description },
        A::Locked { .. } => GroupAction::Locked(true),
        A::Unlocked => GroupAction::Locked(false),
        A::Announce => GroupAction::Announce(true),
        A::NotAnnounce => GroupAction::Announce(false),
        A::Ephemeral { expiration, .. } => GroupAction::Ephemeral(expiration),
        A::MemberAddMode { mode } => GroupAction::MemberAddMode(mode),
        A::Delete { .. } => GroupAction::Deleted,
        A::Create { .. } => {
            let group = node.get_optional_child("group").map(group_record);
            group.and_then(Result::ok).map_or(GroupAction::Unclear, |record| GroupAction::Created(Box::new(record)))
        }
        A::Modify { .. }
        | A::Link { .. }
        | A::Unlink { .. }
        | A::LinkedGroupPromote { .. }
        | A::LinkedGroupDemote { .. }
        | A::ChangeNumber { .. }
        | A::Suspended
        | A::Unsuspended
        | A::Unknown { .. } => GroupAction::Unclear,
        _ => GroupAction::Ignored,
    }
}

fn person_of_info(info: &GroupParticipantInfo) -> Option<Person> {
    person_of([Some(&info.jid), info.phone_number.as_ref(), info.lid.as_ref()])
}

fn people_of(infos: &[GroupParticipantInfo]) -> Option<Vec<Person>> {
    infos.iter().map(person_of_info).collect()
}

fn members_of(infos: &[GroupParticipantInfo]) -> Option<Vec<Member>> {
    let member = |info: &GroupParticipantInfo| {
        let role = match info.r#type {
            Some(GroupParticipantType::Admin) => Role::Admin,
            Some(GroupParticipantType::SuperAdmin) => Role::SuperAdmin,
            _ => Role::Member,
        };
        Some(Member { person: person_of_info(info)?, role })
    };
    infos.iter().map(member).collect()
}
