//! Getting in: by the invite link, by an invitation message, through a community.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::participants::changed_notices;
use super::query::invalid_code;
use super::{Notice, ParticipantChange, Refusable, SUSPENDED, requests};
use crate::stanza::{attr, jid_attr, now};
use crate::world::State;
use crate::world::group::Group;
use crate::world::group::telling::ToldAt;
use crate::world::view::JoinMethod;

/// The reason in the notice of a join that follows from membership in another group of the same community.
const REASON_LINKED: &str = "linked_group_join";

/// Lets people in, into the community too if the group belongs to one. People who are members already stay as they are.
pub(super) fn admit(
    state: &mut State,
    actor: &str,
    group_id: &str,
    phones: &[String],
    reason: Option<&'static str>,
) -> Vec<Notice> {
    let mut notices = admit_here(state, actor, group_id, phones, reason);
    notices.extend(follow_into_community(state, actor, group_id, phones));
    notices
}

/// Members of a subgroup are also members of its community and of the community's announcement group.
pub(super) fn follow_into_community(state: &mut State, actor: &str, group_id: &str, phones: &[String]) -> Vec<Notice> {
    let Some(group) = state.groups.get(group_id) else { return Vec::new() };
    let community = match (&group.parent, &group.community) {
        (Some(parent), _) => parent.clone(),
        (None, Some(_)) => group_id.to_owned(),
        (None, None) => return Vec::new(),
    };
    let announcements = state.subgroups(&community).find(|group| group.default_sub_group).map(|group| group.id.clone());
    let others = [Some(community), announcements].into_iter().flatten().filter(|id| id != group_id);
    let others: Vec<String> = others.collect();
    others.iter().flat_map(|id| admit_here(state, actor, id, phones, Some(REASON_LINKED))).collect()
}

fn admit_here(
    state: &mut State,
    actor: &str,
    group_id: &str,
    phones: &[String],
    reason: Option<&'static str>,
) -> Vec<Notice> {
    let Some(group) = state.groups.get_mut(group_id) else { return Vec::new() };
    let before = group.phones();
    let new: Vec<String> = phones.iter().filter(|phone| !group.members.contains_key(*phone)).cloned().collect();
    new.iter().for_each(|phone| {
        group.apply(ParticipantChange::Add, phone);
    });
    changed_notices(state, actor, group_id, ParticipantChange::Add, before, &new, reason)
}

/// Somebody follows an invite link. Where admins have to approve, they are asked.
pub(super) fn join(state: &mut State, actor: &str, operation: &Node) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let code = attr(operation, "code").unwrap_or_default();
    let group = state.groups.values().find(|group| group.invite_code == code);
    let Some(group) = group else { return Err(invalid_code(state, &code)) };
    let (id, jid) = (group.id.clone(), group.jid());
    if group.members.contains_key(actor) {
        return match state.answers.join_of_member {
            200 => Ok((vec![NodeBuilder::new("group").attr("jid", jid).build()], vec![])),
            code => Err(code),
        };
    }
    match enter(state, actor, &id, JoinMethod::InviteLink)? {
        Entered::In(notices) => Ok((vec![NodeBuilder::new("group").attr("jid", jid).build()], notices)),
        Entered::Pending(notices) => Ok((vec![pending_node(jid)], notices)),
    }
}

/// The result of an attempt to join.
pub(crate) enum Entered {
    In(Vec<Notice>),
    Pending(Vec<Notice>),
}

/// Somebody joins without an invitation message.
pub(crate) fn enter(state: &mut State, phone: &str, group_id: &str, method: JoinMethod) -> Refusable<Entered> {
    let group = state.groups.get(group_id).ok_or(404_u16)?;
    room_for(group, phone)?;
    if group.is_suspended() {
        return Err(SUSPENDED);
    }
    if group.asks_admins() {
        return Ok(Entered::Pending(requests::ask(state, phone, group_id, &[phone.to_owned()], method)));
    }
    let reason = match method {
        JoinMethod::LinkedGroupJoin => REASON_LINKED,
        _ => "invite",
    };
    Ok(Entered::In(admit(state, phone, group_id, &[phone.to_owned()], Some(reason))))
}

pub(super) fn room_for(group: &Group, phone: &str) -> Refusable<()> {
    if group.members.contains_key(phone) {
        return Err(409);
    }
    if group.members.len() >= group.participants_max { Err(419) } else { Ok(()) }
}

fn pending_node(group: Jid) -> Node {
    NodeBuilder::new("membership_approval_request").attr("jid", group).build()
}

/// Somebody accepts an invitation that came as a message. 410 for one that is too old or was revoked.
pub(super) fn accept(
    state: &mut State,
    actor: &str,
    group_id: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let admin = jid_attr(operation, "admin").and_then(|jid| state.phone_of(&jid));
    let group = state.groups.get(group_id).ok_or(404_u16)?;
    room_for(group, actor)?;
    let invitation = group.invitations.get(actor).ok_or(410_u16)?;
    if attr(operation, "code").as_ref() != Some(&invitation.code) || admin.as_ref() != Some(&invitation.admin) {
        return Err(406);
    }
    if invitation.expires_at <= now() {
        return Err(410);
    }
    let jid = group.jid();
    let notices = admit(state, actor, group_id, &[actor.to_owned()], Some("invite"));
    // WhatsApp Web wants no child here, whatsapp-rust 0.7.0 fails without one: see `World::set_join_answers_bare`.
    let answer = match state.join_answers_bare {
        true => vec![],
        false => vec![NodeBuilder::new("group").attr("jid", jid).build()],
    };
    Ok((answer, notices))
}

/// A member of a community joins one of its subgroups.
pub(super) fn join_linked(
    state: &mut State,
    actor: &str,
    community: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    state.group_of(community, actor)?;
    let id = jid_attr(operation, "jid").unwrap_or_default().user.to_string();
    let group = state.groups.get(&id).filter(|group| group.parent.as_deref() == Some(community)).ok_or(404_u16)?;
    let jid = group.jid();
    let notices = match enter(state, actor, &id, JoinMethod::LinkedGroupJoin)? {
        Entered::In(notices) => notices,
        Entered::Pending(notices) => return Ok((vec![pending_node(jid)], notices)),
    };
    if state.join_answers_bare {
        return Ok((vec![], notices));
    }
    let group = state.groups.get(&id).map(|group| group.node(&state.accounts, vec![], ToldAt::Notification));
    Ok((vec![NodeBuilder::new("linked_group").children(group).build()], notices))
}
