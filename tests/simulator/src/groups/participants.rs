//! Who is in a group: add, remove, promote, demote, leave.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::asked::{Asked, Refusal, refusal, refused_node};
use super::{Notice, Refusable, joining, requests};
use crate::stanza::{attr, children};
use crate::world::State;
use crate::world::group::telling::ToldAt;
use crate::world::group::{Group, group_user};
use crate::world::view::Role;

/// A change of a group's participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParticipantChange {
    /// Somebody gets in.
    Add,
    /// Somebody is thrown out.
    Remove,
    /// A member becomes an admin.
    Promote,
    /// An admin becomes a member.
    Demote,
}

impl ParticipantChange {
    pub(crate) fn from_tag(tag: &str) -> Option<Self> {
        Some(match tag {
            "add" => Self::Add,
            "remove" => Self::Remove,
            "promote" => Self::Promote,
            "demote" => Self::Demote,
            _ => return None,
        })
    }

    fn tag(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Promote => "promote",
            Self::Demote => "demote",
        }
    }
}

/// A client asks for a change. Each person has a result of its own.
pub(super) fn change_requested(
    state: &mut State,
    actor: &str,
    group: &str,
    change: ParticipantChange,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let asked = Asked::read_all(state, operation);
    let (results, mut notices) = change_participants(state, actor, group, change, asked)?;
    if attr(operation, "linked_groups").as_deref() == Some("true") && change == ParticipantChange::Remove {
        let mut gone: Vec<String> =
            Asked::read_all(state, operation).into_iter().filter_map(|asked| asked.phone).collect();
        // People who may not be removed from the community stay in its subgroups too.
        let stay = state.groups.get(group).map(Group::phones).unwrap_or_default();
        gone.retain(|phone| !stay.contains(phone));
        notices.extend(remove_from_subgroups(state, actor, group, &gone));
    }
    Ok((vec![NodeBuilder::new(change.tag()).children(state.shaped(results)).build()], notices))
}

/// Changes what may be changed. Returns a `<participant>` for each person asked for, with `error` if refused.
fn change_participants(
    state: &mut State,
    actor: &str,
    group_id: &str,
    change: ParticipantChange,
    asked: Vec<Asked>,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let settings = state.group_of(group_id, actor)?.settings;
    let is_admin = state.group_of(group_id, actor)?.is_admin(actor);
    let is_for_members = change == ParticipantChange::Add && settings.members_add;
    if !is_admin && !is_for_members {
        return Err(403);
    }
    // The group leaves the map, so that accounts can be read while it is changed.
    let mut group = state.groups.remove(group_id).ok_or(404_u16)?;
    let before = group.phones();
    let (mut results, mut changed, mut pending) = (Vec::new(), Vec::new(), Vec::new());
    for asked in asked {
        let refused = refusal(state, &group, change, actor, &asked);
        let asks_admins = refused.is_none() && settings.approval && !is_admin;
        if asks_admins {
            pending.extend(asked.phone.clone());
        }
        let refused = refused.or_else(|| asks_admins.then(Refusal::until_approved));
        if let Some(refusal) = refused {
            results.push(refused_node(state, &mut group, actor, &asked, refusal));
            continue;
        }
        let Some(phone) = asked.phone else { continue };
        if let Some(account) = state.accounts.get(&phone) {
            results.push(group.participant(account).build());
        }
        if group.apply(change, &phone) {
            changed.push(phone);
        }
    }
    state.groups.insert(group_id.to_owned(), group);
    let mut notices = changed_notices(state, actor, group_id, change, before, &changed, None);
    if change == ParticipantChange::Add {
        notices.extend(joining::follow_into_community(state, actor, group_id, &changed));
    }
    notices.extend(requests::ask_for_others(state, actor, group_id, &pending));
    Ok((results, notices))
}

/// Removes people from those subgroups of a community that they are in.
fn remove_from_subgroups(state: &mut State, actor: &str, community: &str, phones: &[String]) -> Vec<Notice> {
    let subgroups: Vec<String> = state.subgroups(community).map(|group| group.id.clone()).collect();
    subgroups.iter().flat_map(|id| expel(state, actor, id, phones)).collect()
}

/// Removes people whatever their roles; those who are no members are passed over.
pub(super) fn expel(state: &mut State, actor: &str, group_id: &str, phones: &[String]) -> Vec<Notice> {
    let Some(group) = state.groups.get_mut(group_id) else { return Vec::new() };
    let before = group.phones();
    let gone: Vec<String> =
        phones.iter().filter(|phone| group.apply(ParticipantChange::Remove, phone)).cloned().collect();
    changed_notices(state, actor, group_id, ParticipantChange::Remove, before, &gone, None)
}

/// A change made elsewhere. Returns the code of the first refusal, if any.
pub(crate) fn change_participants_by_phone(
    state: &mut State,
    actor: &str,
    group: &str,
    change: ParticipantChange,
    phones: &[&str],
) -> Refusable<(Option<u16>, Vec<Notice>)> {
    let asked = phones.iter().map(|phone| Asked::by_phone(state, phone)).collect();
    let (results, notices) = change_participants(state, actor, group, change, asked)?;
    let refused = results.iter().find_map(|result| attr(result, "error")?.parse().ok());
    Ok((refused, notices))
}

impl Group {
    /// Applies an allowed change; false when there was nothing to change. A person who gets in has no request or
    /// invitation any more.
    pub(super) fn apply(&mut self, change: ParticipantChange, phone: &str) -> bool {
        if change == ParticipantChange::Add {
            self.join_requests.remove(phone);
            self.invitations.remove(phone);
            self.left.remove(phone);
        }
        let role = match change {
            ParticipantChange::Remove => return self.members.remove(phone).is_some(),
            ParticipantChange::Add | ParticipantChange::Demote => Role::Member,
            ParticipantChange::Promote if self.is_admin(phone) => return false,
            ParticipantChange::Promote => Role::Admin,
        };
        self.members.insert(phone.to_owned(), role) != Some(role)
    }
}

/// One action for all people who changed, with the new version and the one before. New members get the whole group
/// instead.
pub(super) fn changed_notices(
    state: &mut State,
    actor: &str,
    group_id: &str,
    change: ParticipantChange,
    before: Vec<String>,
    changed: &[String],
    reason: Option<&'static str>,
) -> Vec<Notice> {
    if changed.is_empty() {
        return Vec::new();
    }
    let Some(group) = state.groups.get_mut(group_id) else { return Vec::new() };
    let (version, previous) = match change {
        ParticipantChange::Add | ParticipantChange::Remove => group.next_participant_version(),
        ParticipantChange::Promote | ParticipantChange::Demote => group.next_admin_version(),
    };
    let accounts = changed.iter().filter_map(|phone| state.accounts.get(phone));
    let participants: Vec<Node> = accounts.map(|account| group.participant(account).build()).collect();
    let with_reason = |action: NodeBuilder| match reason {
        Some(reason) => action.attr("reason", reason),
        None => action,
    };
    let action = with_reason(NodeBuilder::new(change.tag()))
        .attr("v_id", version.to_string())
        .attr("prev_v_id", previous.to_string())
        .children(participants);
    let joined = (change == ParticipantChange::Add).then(|| {
        with_reason(NodeBuilder::new("create"))
            .children([group.node(&state.accounts, vec![], ToldAt::Notification)])
            .build()
    });
    let to_members = state.notice(group_id, actor, before, action.build());
    let to_joined = joined.and_then(|create| state.notice(group_id, actor, changed.to_vec(), create));
    to_members.into_iter().chain(to_joined).collect()
}

/// `<leave>` names one group or more, and so does its answer.
pub(super) fn leave_all(state: &mut State, actor: &str, operation: &Node) -> (Vec<Node>, Vec<Notice>) {
    let (mut left, mut notices) = (Vec::new(), Vec::new());
    for node in children(operation) {
        let id = attr(node, "id").unwrap_or_default();
        let answer = NodeBuilder::new("group").attr("id", id.as_str());
        match leave(state, actor, group_user(&id)) {
            Ok(told) => {
                notices.extend(told);
                left.push(answer.build());
            }
            Err(code) => left.push(answer.attr("error", code.to_string()).build()),
        }
    }
    (vec![NodeBuilder::new("leave").children(left).build()], notices)
}

/// Somebody leaves. Leaving a community means leaving its subgroups too.
pub(crate) fn leave(state: &mut State, phone: &str, group_id: &str) -> Refusable<Vec<Notice>> {
    let mut notices = leave_one(state, phone, group_id)?;
    let is_mine = |group: &&Group| group.members.contains_key(phone);
    let subgroups: Vec<String> = state.subgroups(group_id).filter(is_mine).map(|group| group.id.clone()).collect();
    for id in subgroups {
        notices.extend(leave_one(state, phone, &id)?);
    }
    Ok(notices)
}

/// Somebody leaves one group. A group that is left without an admin gets one.
fn leave_one(state: &mut State, phone: &str, group_id: &str) -> Refusable<Vec<Notice>> {
    let group = state.group_of(group_id, phone).map_err(|_| 404_u16)?;
    let before = group.phones();
    group.members.remove(phone);
    group.left.insert(phone.to_owned());
    let heir = match group.members.keys().any(|member| group.is_admin(member)) {
        true => None,
        false => group.members.keys().next().cloned(),
    };
    let removed = [phone.to_owned()];
    let mut notices = changed_notices(state, phone, group_id, ParticipantChange::Remove, before, &removed, None);
    if let (Some(heir), Some(group)) = (heir, state.groups.get_mut(group_id)) {
        group.apply(ParticipantChange::Promote, &heir);
        let members = group.phones();
        let promoted = [heir];
        notices.extend(changed_notices(state, phone, group_id, ParticipantChange::Promote, members, &promoted, None));
    }
    Ok(notices)
}
