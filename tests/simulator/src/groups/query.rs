//! Reading groups.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::Refusable;
use crate::stanza::{attr, empty};
use crate::world::State;

pub(super) fn answer(state: &mut State, phone: &str, group: &str, operation: &Node) -> Refusable<Vec<Node>> {
    match (operation.tag.as_ref(), group) {
        ("participating", _) => Ok(vec![participating(state, phone)]),
        ("invite", "") => by_invite_code(state, &attr(operation, "code").unwrap_or_default()),
        ("invite", group) => invite_code(state, group, phone),
        ("query", group) => {
            state.group_of(group, phone)?;
            let group = state.groups.get(group).ok_or(404_u16)?;
            Ok(vec![group.node(&state.accounts, vec![])])
        }
        ("membership_approval_requests", group) => {
            state.group_of_admin(group, phone)?;
            Ok(vec![empty("membership_approval_requests")])
        }
        _ => Err(400),
    }
}

fn participating(state: &State, phone: &str) -> Node {
    let mine = state.groups.values().filter(|group| group.members.contains_key(phone));
    let nodes = mine.map(|group| group.node(&state.accounts, vec![]));
    NodeBuilder::new("groups").children(nodes).build()
}

/// What a person sees who follows an invite link.
fn by_invite_code(state: &State, code: &str) -> Refusable<Vec<Node>> {
    let group = state.groups.values().find(|group| group.invite_code == code);
    match group {
        Some(group) => Ok(vec![group.node(&state.accounts, vec![])]),
        None => Err(invalid_code(state, code)),
    }
}

/// 410 for a code that was revoked, 406 for one that never was.
pub(super) fn invalid_code(state: &State, code: &str) -> u16 {
    if state.groups.values().any(|group| group.revoked_codes.contains(code)) { 410 } else { 406 }
}

/// The code is for admins; others are told 401, not 403.
fn invite_code(state: &mut State, group: &str, phone: &str) -> Refusable<Vec<Node>> {
    let group = state.group_of(group, phone)?;
    if !group.is_admin(phone) {
        return Err(401);
    }
    Ok(vec![invite_node(&group.invite_code)])
}

pub(super) fn invite_node(code: &str) -> Node {
    NodeBuilder::new("invite").attr("code", code).build()
}
