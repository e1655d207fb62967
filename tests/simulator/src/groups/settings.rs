//! A group's subject, description, settings and invite code.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::query::invite_node;
use super::{Notice, Refusable};
use crate::stanza::{attr, child_bytes, empty, leaf, now, text};
use crate::world::State;
use crate::world::group::settings::Setting;
use crate::world::group::{Description, Group};

/// A change of anything but participants.
pub(crate) enum Change {
    Subject(String),
    /// `previous` is the id of the description that the client has seen; a stale one is refused.
    Description {
        id: String,
        previous: Option<String>,
        body: Option<String>,
    },
    Setting(Setting),
    /// A new invite code; the old one is void.
    Invite,
}

impl Change {
    fn read(operation: &Node) -> Option<Self> {
        Some(match operation.tag.as_ref() {
            "subject" => Self::Subject(text(operation)),
            "description" => Self::Description {
                id: attr(operation, "id").unwrap_or_default(),
                previous: attr(operation, "prev"),
                body: operation
                    .get_optional_child("body")
                    .map(|_| String::from_utf8_lossy(&child_bytes(operation, "body")).into_owned()),
            },
            "invite" => Self::Invite,
            _ => match Setting::read(operation)? {
                // Only `w:mex` changes these.
                Setting::MembersLink(_) | Setting::MembersShareHistory(_) => return None,
                setting => Self::Setting(setting),
            },
        })
    }

    /// Every member may change the subject and description of a group that is not locked.
    fn is_for_members(&self, group: &Group) -> bool {
        matches!(self, Self::Subject(_) | Self::Description { .. }) && !group.settings.locked
    }
}

/// A client asks for a change.
pub(super) fn change_requested(
    state: &mut State,
    actor: &str,
    group: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let change = Change::read(operation).ok_or(400_u16)?;
    let answered_with_code = matches!(change, Change::Invite);
    let notices = change_group(state, actor, group, change)?;
    let code = state.groups.get(group).filter(|_| answered_with_code).map(|group| invite_node(&group.invite_code));
    Ok((code.into_iter().collect(), notices))
}

/// Changes one thing, or returns the code with which WhatsApp refuses. Versions count changes of participants: they
/// stay.
pub(crate) fn change_group(state: &mut State, actor: &str, group_id: &str, change: Change) -> Refusable<Vec<Notice>> {
    let invite_code = state.new_invite_code();
    let group = state.group_of(group_id, actor)?;
    if !change.is_for_members(group) && !group.is_admin(actor) {
        return Err(403);
    }
    let action = match change {
        Change::Subject(subject) => return change_subject(state, actor, group_id, subject),
        Change::Description { id, previous, body } => group.change_description(actor, id, previous, body)?,
        Change::Setting(setting) => {
            group.settings.set(setting);
            setting.action()
        }
        Change::Invite => {
            let old = std::mem::replace(&mut group.invite_code, invite_code);
            group.revoked_codes.insert(old);
            invite_node(&group.invite_code)
        }
    };
    Ok(state.notice_to_members(group_id, actor, action))
}

fn change_subject(state: &mut State, actor: &str, group_id: &str, subject: String) -> Refusable<Vec<Notice>> {
    let owner = state.accounts.get(actor).ok_or(403_u16)?;
    let group = state.groups.get_mut(group_id).ok_or(404_u16)?;
    let action = NodeBuilder::new("subject")
        .attr("subject", subject.as_str())
        .attr("s_t", now().to_string())
        .attr("s_o", group.jid_of(owner));
    let action = group.with_number(action, "s_o_pn", owner).build();
    group.subject = subject;
    group.subject_owner = actor.to_owned();
    group.subject_time = now();
    Ok(state.notice_to_members(group_id, actor, action))
}

impl Group {
    fn change_description(
        &mut self,
        actor: &str,
        id: String,
        previous: Option<String>,
        body: Option<String>,
    ) -> Refusable<Node> {
        if previous.as_deref() != self.description.as_ref().map(|description| description.id.as_str()) {
            return Err(409);
        }
        let content = match &body {
            Some(body) => leaf("body", body.as_str()),
            None => empty("delete"),
        };
        let action = NodeBuilder::new("description").attr("id", id.as_str()).children([content]).build();
        self.description = body.map(|body| Description { id, body, owner: actor.to_owned(), time: now() });
        Ok(action)
    }
}
