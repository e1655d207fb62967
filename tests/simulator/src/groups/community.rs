//! Communities: groups that others are linked to. Making one, linking, unlinking, deactivating, and reading its
//! subgroups.
//!
//! Members of a subgroup are members of the community and of its announcement group; members of the community need not
//! be in any other subgroup.

use std::collections::BTreeSet;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::joining::follow_into_community;
use super::participants::expel;
use super::{Notice, Refusable};
use crate::stanza::{attr, children, empty, jid_attr};
use crate::world::State;
use crate::world::group::Group;
use crate::world::group::telling::ToldAt;

/// Why a group is not linked any more.
const REASON_UNLINKED: &str = "unlink_group";
const REASON_DEACTIVATED: &str = "delete_parent";

/// What happens to the members who were in the community only through the group that is unlinked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// They stay in the community.
    Keep,
    /// They are removed from it.
    Remove,
}

/// The results for each group, with the code of its refusal, if any.
type PerGroup = Vec<(String, Option<u16>)>;

impl State {
    /// The community, when this account may administer it.
    fn community_of_admin(&mut self, community: &str, phone: &str) -> Refusable<&mut Group> {
        let group = self.group_of_admin(community, phone)?;
        if group.community.is_some() { Ok(group) } else { Err(406) }
    }

    /// `<link>` or `<unlink>`: the notice about `about` to the members of `of`.
    fn link_notice(&mut self, of: &str, actor: &str, about: &str, action: NodeBuilder) -> Vec<Notice> {
        let Some(about) = self.groups.get(about) else { return Vec::new() };
        let group = NodeBuilder::new("group")
            .attr("jid", about.jid())
            .attr("subject", about.subject.as_str())
            .attr("s_t", about.subject_time.to_string());
        let action = action.children([group.build()]).build();
        self.notice_to_members(of, actor, action)
    }
}

/// A client links groups.
pub(super) fn link_requested(
    state: &mut State,
    actor: &str,
    community: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let asked = operation.get_optional_child("link").ok_or(400_u16)?;
    let (results, notices) = link(state, actor, community, &group_ids(asked))?;
    let link = NodeBuilder::new("link").attr("link_type", "sub_group").children(result_nodes(results));
    Ok((vec![NodeBuilder::new("links").children([link.build()]).build()], notices))
}

/// A client unlinks groups.
pub(super) fn unlink_requested(
    state: &mut State,
    actor: &str,
    community: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let removes = |group: &Node| attr(group, "remove_orphaned_members").as_deref() == Some("true");
    let orphans = if children(operation).iter().any(removes) { Orphans::Remove } else { Orphans::Keep };
    let (results, notices) = unlink(state, actor, community, &group_ids(operation), orphans)?;
    let unlink = NodeBuilder::new("unlink").attr("unlink_type", "sub_group").children(result_nodes(results));
    Ok((vec![unlink.build()], notices))
}

fn group_ids(list: &Node) -> Vec<String> {
    children(list).iter().filter_map(|group| Some(jid_attr(group, "jid")?.user.to_string())).collect()
}

fn result_nodes(results: PerGroup) -> Vec<Node> {
    let node = |(id, refused): (String, Option<u16>)| {
        let node = NodeBuilder::new("group").attr("jid", Jid::group(id));
        match refused {
            Some(code) => node.attr("error", code.to_string()).build(),
            None => node.build(),
        }
    };
    results.into_iter().map(node).collect()
}

/// Links groups to a community; their members become its members.
pub(crate) fn link(
    state: &mut State,
    actor: &str,
    community: &str,
    groups: &[String],
) -> Refusable<(PerGroup, Vec<Notice>)> {
    state.community_of_admin(community, actor)?;
    let (mut results, mut notices) = (Vec::new(), Vec::new());
    for id in groups {
        let refused = link_refusal(state, actor, id);
        results.push((id.clone(), refused));
        if refused.is_none() {
            notices.extend(link_one(state, actor, community, id));
        }
    }
    Ok((results, notices))
}

fn link_refusal(state: &State, actor: &str, id: &str) -> Option<u16> {
    match state.groups.get(id) {
        None => Some(404),
        Some(group) if !group.is_admin(actor) => Some(403),
        Some(group) if group.community.is_some() => Some(406),
        Some(group) if group.parent.is_some() => Some(409),
        Some(_) => None,
    }
}

/// Notifies the members of both groups, then makes the group's members members of the community.
pub(crate) fn link_one(state: &mut State, actor: &str, community: &str, id: &str) -> Vec<Notice> {
    let Some(group) = state.groups.get_mut(id) else { return Vec::new() };
    group.parent = Some(community.to_owned());
    let mut notices = state.link_notice(id, actor, community, link_action("parent_group"));
    notices.extend(linked(state, actor, community, id));
    notices
}

/// Notifies the community's members of a subgroup, and lets the subgroup's members into the community.
pub(super) fn linked(state: &mut State, actor: &str, community: &str, id: &str) -> Vec<Notice> {
    let members = state.groups.get(id).map(Group::phones).unwrap_or_default();
    let mut notices = state.link_notice(community, actor, id, link_action("sub_group"));
    notices.extend(follow_into_community(state, actor, id, &members));
    notices
}

fn link_action(kind: &'static str) -> NodeBuilder {
    NodeBuilder::new("link").attr("link_type", kind)
}

/// Unlinks groups from a community.
pub(crate) fn unlink(
    state: &mut State,
    actor: &str,
    community: &str,
    groups: &[String],
    orphans: Orphans,
) -> Refusable<(PerGroup, Vec<Notice>)> {
    state.community_of_admin(community, actor)?;
    let (mut results, mut notices) = (Vec::new(), Vec::new());
    for id in groups {
        let refused = match state.groups.get(id) {
            Some(group) if group.default_sub_group => Some(406),
            Some(group) if group.parent.as_deref() == Some(community) => None,
            _ => Some(404),
        };
        results.push((id.clone(), refused));
        if refused.is_some() {
            continue;
        }
        notices.extend(unlink_one(state, actor, community, id, REASON_UNLINKED));
        if orphans == Orphans::Remove {
            notices.extend(remove_orphans(state, actor, community, id));
        }
    }
    Ok((results, notices))
}

fn unlink_one(state: &mut State, actor: &str, community: &str, id: &str, reason: &'static str) -> Vec<Notice> {
    let unlink =
        |kind: &'static str| NodeBuilder::new("unlink").attr("unlink_type", kind).attr("unlink_reason", reason);
    let mut notices = state.link_notice(community, actor, id, unlink("sub_group"));
    notices.extend(state.link_notice(id, actor, community, unlink("parent_group")));
    if let Some(group) = state.groups.get_mut(id) {
        group.parent = None;
        group.general_chat = false;
    }
    notices
}

/// Removes the members who were in the community only through `unlinked`. The community's admins are never orphans.
fn remove_orphans(state: &mut State, actor: &str, community: &str, unlinked: &str) -> Vec<Notice> {
    let others = state.subgroups(community).filter(|group| !group.default_sub_group);
    let kept: BTreeSet<String> = others.flat_map(Group::phones).collect();
    let (Some(group), Some(parent)) = (state.groups.get(unlinked), state.groups.get(community)) else {
        return Vec::new();
    };
    let is_orphan = |phone: &String| !kept.contains(phone) && !parent.is_admin(phone);
    let orphans: Vec<String> = group.phones().into_iter().filter(is_orphan).collect();
    let announcements = state.subgroups(community).find(|group| group.default_sub_group).map(|group| group.id.clone());
    let from: Vec<String> = [Some(community.to_owned()), announcements].into_iter().flatten().collect();
    from.iter().flat_map(|id| expel(state, actor, id, &orphans)).collect()
}

/// Deactivates a community: its announcement group is removed too, the other subgroups are unlinked.
pub(crate) fn deactivate(state: &mut State, actor: &str, community: &str) -> Refusable<Vec<Notice>> {
    state.community_of_admin(community, actor)?;
    let subgroups: Vec<(String, bool)> =
        state.subgroups(community).map(|group| (group.id.clone(), group.default_sub_group)).collect();
    let delete = || NodeBuilder::new("delete").attr("reason", REASON_DEACTIVATED).build();
    let mut notices = Vec::new();
    for (id, is_announcements) in subgroups {
        if is_announcements {
            notices.extend(state.notice_to_members(&id, actor, delete()));
            state.groups.remove(&id);
        } else {
            notices.extend(unlink_one(state, actor, community, &id, REASON_DEACTIVATED));
        }
    }
    notices.extend(state.notice_to_members(community, actor, delete()));
    state.groups.remove(community);
    Ok(notices)
}

/// The subgroups of a community by id and subject; the announcement group is marked.
pub(super) fn sub_groups(state: &mut State, phone: &str, community: &str) -> Refusable<Vec<Node>> {
    state.group_of(community, phone)?;
    let groups = state.subgroups(community).map(|group| {
        let node = NodeBuilder::new("group")
            .attr("id", group.id.as_str())
            .attr("subject", group.subject.as_str())
            .attr("s_t", group.subject_time.to_string())
            .attr("size", group.members.len().to_string());
        match group.default_sub_group {
            true => node.children([empty("default_sub_group")]).build(),
            false => node.build(),
        }
    });
    Ok(vec![NodeBuilder::new("sub_groups").children(groups).build()])
}

/// A subgroup as a member of the community sees it, even without being in the subgroup.
pub(super) fn query_linked(state: &mut State, phone: &str, community: &str, operation: &Node) -> Refusable<Vec<Node>> {
    state.group_of(community, phone)?;
    let id = jid_attr(operation, "jid").unwrap_or_default().user.to_string();
    let group = state.groups.get(&id).filter(|group| group.parent.as_deref() == Some(community)).ok_or(404_u16)?;
    let node = group.node(&state.accounts, vec![], ToldAt::Single);
    Ok(vec![NodeBuilder::new("linked_group").children([node]).build()])
}

/// Everybody in any of the community's subgroups, once.
pub(super) fn linked_participants(state: &mut State, phone: &str, community: &str) -> Refusable<Vec<Node>> {
    state.group_of(community, phone)?;
    let parent = state.groups.get(community).ok_or(404_u16)?;
    let phones: BTreeSet<&String> = state.subgroups(community).flat_map(|group| group.members.keys()).collect();
    let accounts = phones.into_iter().filter_map(|phone| state.accounts.get(phone));
    let participants = accounts.map(|account| parent.member(account));
    Ok(vec![NodeBuilder::new("linked_groups_participants").children(participants).build()])
}
