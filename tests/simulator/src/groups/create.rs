//! Making a group.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::participants::{Asked, add_refusal, refused_node};
use super::{Notice, Refusable};
use crate::stanza::{attr, child_bytes, now, text};
use crate::world::State;
use crate::world::group::{Description, Group};
use crate::world::view::Role;

/// Answers with the group. Those who did not get in are listed in it with an `error`; the notification has only those
/// who did. The client's `key` comes back to the creator, so that a lost answer can be matched.
pub(super) fn create(state: &mut State, actor: &str, operation: &Node) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let subject = attr(operation, "subject").filter(|subject| !subject.is_empty()).ok_or(400_u16)?;
    let (id, invite) = (state.free_group_id(), state.new_invite_code());
    let mut group = Group::new(id.clone(), subject, actor.to_owned(), state.created_addressing, invite);
    read_settings(&mut group, actor, operation);

    let mut refused = Vec::new();
    for participant in operation.get_children_by_tag("participant") {
        let asked = Asked::read(state, participant);
        if asked.phone.as_deref() == Some(actor) {
            continue;
        }
        match (add_refusal(state, &group, asked.phone.as_deref()), &asked.phone) {
            (None, Some(phone)) => {
                group.members.insert(phone.clone(), Role::Member);
            }
            (refusal, _) => refused.push(refused_node(state, &group, &asked, refusal.unwrap_or_default())),
        }
    }
    let answer = group.node(&state.accounts, refused);
    let published = group.node(&state.accounts, vec![]);
    let others: Vec<String> = group.phones().into_iter().filter(|phone| phone != actor).collect();
    state.groups.insert(id.clone(), group);

    let created = |key: Option<String>| {
        let create = NodeBuilder::new("create").attr("type", "new");
        let create = match key {
            Some(key) => create.attr("key", key),
            None => create,
        };
        create.children([published.clone()]).build()
    };
    let to_creator = state.notice(&id, actor, [actor.to_owned()], created(attr(operation, "key")));
    let to_others = state.notice(&id, actor, others, created(None));
    Ok((vec![answer], to_creator.into_iter().chain(to_others).collect()))
}

fn read_settings(group: &mut Group, actor: &str, operation: &Node) {
    let child = |tag: &str| operation.get_optional_child(tag);
    group.announce = child("announcement").is_some();
    group.locked = child("locked").is_some();
    group.approval = child("membership_approval_mode").is_some();
    group.ephemeral_s = child("ephemeral").and_then(|node| attr(node, "expiration")?.parse().ok());
    if let Some(mode) = child("member_add_mode") {
        group.member_add_mode = text(mode);
    }
    if let Some(description) = child("description") {
        group.description = Some(Description {
            id: attr(description, "id").unwrap_or_default(),
            body: String::from_utf8_lossy(&child_bytes(description, "body")).into_owned(),
            owner: actor.to_owned(),
            time: now(),
        });
    }
}
