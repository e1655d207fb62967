//! Making a group, a community with its first subgroups, or a subgroup of a community.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::asked::{Asked, add_refusal, refused_node};
use super::community::linked;
use super::{Notice, Refusable};
use crate::stanza::{attr, child_bytes, children, jid_attr, now};
use crate::world::State;
use crate::world::group::settings::Setting;
use crate::world::group::telling::ToldAt;
use crate::world::group::{Community, Description, Group};
use crate::world::view::Role;

/// The subject that WhatsApp gives to the general chat of a new community.
const GENERAL_CHAT_SUBJECT: &str = "General";

/// Answers with the group. The answer lists people who did not get in with an `error`; the notification lists only
/// people who did. The client's `key` comes back to the creator, so that a lost answer can be matched.
pub(super) fn create(state: &mut State, actor: &str, operation: &Node) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let subject = attr(operation, "subject").filter(|subject| !subject.is_empty()).ok_or(400_u16)?;
    let parent = parent_of_new(state, actor, operation)?;
    let mut group = state.new_group(subject, actor);
    read_settings(&mut group, actor, operation);

    let mut refused = Vec::new();
    for asked in Asked::read_all(state, operation) {
        if asked.phone.as_deref() == Some(actor) {
            continue;
        }
        match (add_refusal(state, &group, asked.phone.as_deref()), &asked.phone) {
            (None, Some(phone)) => {
                group.members.insert(phone.clone(), Role::Member);
            }
            (refusal, _) => {
                refused.push(refused_node(state, &mut group, actor, &asked, refusal.unwrap_or_default()));
            }
        }
    }
    // The group is linked from the start: the answer and the notifications about it already say so.
    group.parent.clone_from(&parent);
    let answer = group.node(&state.accounts, refused, ToldAt::Notification);
    let (id, is_community) = (group.id.clone(), group.community.is_some());
    let mut notices = publish_new(state, actor, group, attr(operation, "key"));
    if let Some(parent) = parent {
        notices.extend(linked(state, actor, &parent, &id));
    }
    if is_community {
        let general_chat = operation.get_optional_child("create_general_chat").is_some();
        notices.extend(make_first_subgroups(state, actor, &id, general_chat));
    }
    Ok((vec![answer], notices))
}

/// The community of the subgroup to be made. The community's admins may make a subgroup, its members only if the
/// community allows it.
fn parent_of_new(state: &mut State, actor: &str, operation: &Node) -> Refusable<Option<String>> {
    let Some(parent) = operation.get_optional_child("linked_parent") else { return Ok(None) };
    let id = jid_attr(parent, "jid").unwrap_or_default().user.to_string();
    let group = state.group_of(&id, actor)?;
    match &group.community {
        None => Err(406),
        Some(community) if community.members_create_groups || group.is_admin(actor) => Ok(Some(id)),
        Some(_) => Err(403),
    }
}

/// Makes the announcement group, where only admins write, and the general chat if it is wanted.
pub(crate) fn make_first_subgroups(state: &mut State, actor: &str, community: &str, general_chat: bool) -> Vec<Notice> {
    let Some(parent) = state.groups.get(community) else { return Vec::new() };
    let (subject, members, addressing) = (parent.subject.clone(), parent.members.clone(), parent.addressing);
    let mut announcements = state.new_group(subject, actor);
    announcements.settings.announce = true;
    announcements.default_sub_group = true;
    let mut subgroups = vec![announcements];
    if general_chat {
        let mut general = state.new_group(GENERAL_CHAT_SUBJECT.to_owned(), actor);
        general.general_chat = true;
        subgroups.push(general);
    }
    let mut notices = Vec::new();
    for mut group in subgroups {
        group.parent = Some(community.to_owned());
        group.addressing = addressing;
        group.members.clone_from(&members);
        notices.extend(publish_new(state, actor, group, None));
    }
    notices
}

/// Adds the group to the world and notifies its members.
fn publish_new(state: &mut State, actor: &str, group: Group, key: Option<String>) -> Vec<Notice> {
    let id = group.id.clone();
    state.groups.insert(id.clone(), group);
    announce(state, actor, &id, key)
}

/// Notifies the members of a group that it was created.
pub(crate) fn announce(state: &mut State, actor: &str, id: &str, key: Option<String>) -> Vec<Notice> {
    let Some(group) = state.groups.get(id) else { return Vec::new() };
    let published = group.node(&state.accounts, vec![], ToldAt::Notification);
    let others: Vec<String> = group.phones().into_iter().filter(|phone| phone != actor).collect();
    let created = |key: Option<String>| {
        let create = NodeBuilder::new("create").attr("type", "new");
        let create = match key {
            Some(key) => create.attr("key", key),
            None => create,
        };
        create.children([published.clone()]).build()
    };
    let to_creator = state.notice(id, actor, [actor.to_owned()], created(key));
    let to_others = state.notice(id, actor, others, created(None));
    to_creator.into_iter().chain(to_others).collect()
}

fn read_settings(group: &mut Group, actor: &str, operation: &Node) {
    children(operation).iter().filter_map(Setting::read).for_each(|setting| group.settings.set(setting));
    if let Some(parent) = operation.get_optional_child("parent") {
        group.community = Some(Community {
            closed: attr(parent, "default_membership_approval_mode").as_deref() == Some("request_required"),
            members_create_groups: operation.get_optional_child("allow_non_admin_sub_group_creation").is_some(),
        });
    }
    if let Some(description) = operation.get_optional_child("description") {
        group.description = Some(Description {
            id: attr(description, "id").unwrap_or_default(),
            body: String::from_utf8_lossy(&child_bytes(description, "body")).into_owned(),
            owner: actor.to_owned(),
            time: now(),
        });
    }
}

impl State {
    /// A group that is not in the world yet.
    pub(crate) fn new_group(&mut self, subject: String, owner: &str) -> Group {
        let (id, invite) = (self.free_group_id(), self.new_invite_code());
        Group::new(id, subject, owner.to_owned(), self.created_addressing, invite)
    }
}
