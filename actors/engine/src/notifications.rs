//! `w:gp2` notifications of groups: between the engine's types and ours. Never does IO.
//!
//! Shapes of `w:gp2` notifications: as the engine's parser reads them (wacore `stanza/groups.rs`); version attributes
//! `v_id`, `prev_v_id`, `p_v_id`, `a_v_id` as seen on WhatsApp Web's wire.

use wacore::stanza::groups::{
    GroupNotification as ParsedNotification, GroupNotificationAction, GroupParticipantInfo, GroupParticipantType,
};
use wacore_binary::NodeRef;

use super::group_node::{group_record, who_may};
use super::ids::{group_id, person_of};
use rookery_model::{GroupAction, GroupNotification, Member, ParticipantIds, Role, Versions};
use rookery_model::{GroupEventKind, Setting};

/// The author of a `w:gp2` notification and their display name, when the notification has both.
pub(super) fn named_author(node: &NodeRef<'_>) -> Option<(ParticipantIds, String)> {
    let mut attrs = node.attrs();
    if attrs.optional_string("type").as_deref() != Some("w:gp2") {
        return None;
    }
    let (author, phone) = (attrs.optional_jid("participant"), attrs.optional_jid("participant_pn"));
    let name = attrs.optional_string("notify")?.into_owned();
    Some((person_of([author.as_ref(), phone.as_ref(), None])?, name)).filter(|(_, name)| !name.is_empty())
}

/// Every change in one `w:gp2` notification; nothing for other stanzas.
pub(super) fn group_events(node: &NodeRef<'_>) -> Vec<GroupNotification> {
    if node.attrs().optional_string("type").as_deref() != Some("w:gp2") {
        return Vec::new();
    }
    let Some(notification) = ParsedNotification::try_from_node_ref(node) else { return Vec::new() };
    let Some(group) = group_id(&notification.group_jid) else { return Vec::new() };
    let author = person_of([notification.participant.as_ref(), notification.participant_pn.as_ref(), None]);
    let event = |at: u64, versions: Option<Versions>, action: GroupAction| GroupNotification {
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
        A::Remove { participants, .. } => ids_of(&participants).map_or(GroupAction::Unclear, GroupAction::Removed),
        A::Promote { participants } => ids_of(&participants).map_or(GroupAction::Unclear, GroupAction::Promoted),
        A::Demote { participants } => ids_of(&participants).map_or(GroupAction::Unclear, GroupAction::Demoted),
        A::Subject { subject, .. } => GroupAction::Subject(subject),
        A::Description { id, description } => GroupAction::Description { id, text: description },
        A::Locked { .. } => GroupAction::Set(Setting::Locked(true)),
        A::Unlocked => GroupAction::Set(Setting::Locked(false)),
        A::Announce => GroupAction::Set(Setting::Announce(true)),
        A::NotAnnounce => GroupAction::Set(Setting::Announce(false)),
        A::Ephemeral { expiration, .. } => GroupAction::Set(Setting::EphemeralSeconds(expiration)),
        A::MembershipApprovalMode { enabled } => GroupAction::Set(Setting::MembershipApproval(enabled)),
        A::MemberAddMode { mode } => {
            who_may(&mode).map_or(GroupAction::Unclear, |who| GroupAction::Set(Setting::MemberAddMode(who)))
        }
        A::NoFrequentlyForwarded => GroupAction::Set(Setting::NoFrequentlyForwarded(true)),
        A::FrequentlyForwardedOk => GroupAction::Set(Setting::NoFrequentlyForwarded(false)),
        A::LimitSharingEnabled { .. } => GroupAction::Set(Setting::LimitSharing(true)),
        A::AllowAdminReports => GroupAction::Set(Setting::AllowAdminReports(true)),
        A::NotAllowAdminReports => GroupAction::Set(Setting::AllowAdminReports(false)),
        // The engine calls this "joined by link"; WhatsApp sends it with the code that replaced another.
        A::Invite { .. } | A::RevokeInvite => GroupAction::Told(GroupEventKind::InviteRevoked, Vec::new()),
        A::CreatedMembershipRequests { requests, .. } => ids_of(&requests)
            .map_or(GroupAction::Ignored, |participants| GroupAction::Told(GroupEventKind::JoinRequest, participants)),
        A::Delete { .. } => GroupAction::Deleted,
        A::Create { .. } => {
            let group = node.get_optional_child("group").and_then(group_record);
            let key = node.attrs().optional_string("key").map(|key| key.into_owned());
            let created = |record| GroupAction::Created { record: Box::new(record), key };
            group.map_or(GroupAction::Unclear, created)
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

fn person_of_info(info: &GroupParticipantInfo) -> Option<ParticipantIds> {
    person_of([Some(&info.jid), info.phone_number.as_ref(), info.lid.as_ref()])
}

fn ids_of(infos: &[GroupParticipantInfo]) -> Option<Vec<ParticipantIds>> {
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
