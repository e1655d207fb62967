//! Reading groups.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::{Refusable, community, requests};
use crate::pictures;
use crate::stanza::{attr, children, jid_attr};
use crate::world::State;
use crate::world::group::telling::ToldAt;

pub(super) fn answer(state: &mut State, phone: &str, group: &str, operation: &Node) -> Refusable<Vec<Node>> {
    match (operation.tag.as_ref(), group) {
        ("participating", _) => Ok(vec![participating(state, phone)]),
        ("pictures", _) => Ok(vec![pictures::batch(state, phone, operation)]),
        ("invite", "") => by_invite_code(state, &attr(operation, "code").unwrap_or_default()),
        ("invite", group) => invite_code(state, group, phone),
        ("query", "") => Ok(vec![batch(state, phone, operation)]),
        ("query", group) => {
            state.group_of(group, phone)?;
            let group = state.groups.get(group).ok_or(404_u16)?;
            Ok(vec![group.node(&state.accounts, vec![], ToldAt::Single)])
        }
        ("sub_groups", group) => community::sub_groups(state, phone, group),
        ("query_linked", group) => community::query_linked(state, phone, group, operation),
        ("linked_groups_participants", group) => community::linked_participants(state, phone, group),
        ("membership_approval_requests", group) => requests::list(state, group, phone, operation),
        _ => Err(400),
    }
}

fn participating(state: &State, phone: &str) -> Node {
    let mine = state.groups.values().filter(|group| group.members.contains_key(phone));
    let nodes = mine.map(|group| group.node(&state.accounts, vec![], ToldAt::Full));
    NodeBuilder::new("groups").children(nodes).build()
}

/// Many groups at once. Each comes in full, or with nothing but its size if it is large, or with an error.
fn batch(state: &State, phone: &str, operation: &Node) -> Node {
    let answers = children(operation).iter().filter_map(|asked| {
        let jid = jid_attr(asked, "jid")?;
        let answer = NodeBuilder::new("group").attr("id", jid.user.as_str());
        Some(match state.groups.get(jid.user.as_str()) {
            None => answer.attr("error", "404").build(),
            Some(group) if !group.members.contains_key(phone) => answer.attr("error", "403").build(),
            Some(group) if group.members.len() > state.batch_participants_max => {
                answer.attr("truncated", "true").attr("size", group.members.len().to_string()).build()
            }
            Some(group) => group.node(&state.accounts, vec![], ToldAt::Single),
        })
    });
    NodeBuilder::new("groups").children(answers).build()
}

/// The group behind an invite link, as a person sees it before joining.
fn by_invite_code(state: &State, code: &str) -> Refusable<Vec<Node>> {
    let group = state.groups.values().find(|group| group.invite_code == code);
    match group {
        Some(group) => Ok(vec![group.node(&state.accounts, vec![], ToldAt::Single)]),
        None => Err(invalid_code(state, code)),
    }
}

/// For a revoked code 410, or the code that [`crate::World::set_answers`] set; 406 for a code that never existed.
pub(super) fn invalid_code(state: &State, code: &str) -> u16 {
    if state.groups.values().any(|group| group.revoked_codes.contains(code)) { state.answers.revoked_link } else { 406 }
}

/// The invite code is for admins, or for all members if the link mode says so. Others get 401, not 403.
fn invite_code(state: &mut State, group: &str, phone: &str) -> Refusable<Vec<Node>> {
    let group = state.group_of(group, phone)?;
    if !group.settings.members_link && !group.is_admin(phone) {
        return Err(401);
    }
    Ok(vec![invite_node(&group.invite_code)])
}

pub(super) fn invite_node(code: &str) -> Node {
    NodeBuilder::new("invite").attr("code", code).build()
}
