//! Namespace `w:g2`: groups.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::stanza::{children, iq_error, iq_result, jid_attr};
use crate::world::State;
use crate::world::account::DeviceRef;

/// Answers a `w:g2` request.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node, _set: bool) -> Node {
    let Some(operation) = children(request).first() else { return iq_error(request, 400, None) };
    let to = jid_attr(request, "to").unwrap_or_default();
    match (operation.tag.as_ref(), to.user.as_str()) {
        ("participating", _) => participating(state, me, request),
        ("query", id) => query(state, me, request, id),
        _ => iq_error(request, 400, None),
    }
}

fn participating(state: &State, me: &DeviceRef, request: &Node) -> Node {
    let mine = state.groups.values().filter(|group| group.members.contains_key(&me.phone));
    let nodes = mine.map(|group| group.node(&state.accounts, vec![]));
    iq_result(request, vec![NodeBuilder::new("groups").children(nodes).build()])
}

fn query(state: &State, me: &DeviceRef, request: &Node, id: &str) -> Node {
    match state.groups.get(id) {
        None => iq_error(request, 404, None),
        Some(group) if !group.members.contains_key(&me.phone) => iq_error(request, 403, None),
        Some(group) => iq_result(request, vec![group.node(&state.accounts, vec![])]),
    }
}
