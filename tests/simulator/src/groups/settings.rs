//! A group's subject, description, settings and invite code.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::query::invite_node;
use super::{Notice, Refusable};
use crate::stanza::{attr, child_bytes, empty, leaf, now, text};
use crate::world::State;
use crate::world::group::{Description, Group};

/// A change of what is not a participant.
pub(crate) enum Setting {
    Subject(String),
    /// `previous` is the id of the description that the client has seen; a stale one is refused.
    Description {
        id: String,
        previous: Option<String>,
        body: Option<String>,
    },
    Announce(bool),
    Locked(bool),
    Ephemeral(Option<u32>),
    Approval(bool),
    MemberAddMode(String),
    /// A new invite code; the old one is void.
    Invite,
}

impl Setting {
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
            "announcement" => Self::Announce(true),
            "not_announcement" => Self::Announce(false),
            "locked" => Self::Locked(true),
            "unlocked" => Self::Locked(false),
            "ephemeral" => Self::Ephemeral(attr(operation, "expiration").and_then(|seconds| seconds.parse().ok())),
            "not_ephemeral" => Self::Ephemeral(None),
            "membership_approval_mode" => {
                let join = operation.get_optional_child("group_join");
                Self::Approval(join.and_then(|join| attr(join, "state")).as_deref() == Some("on"))
            }
            "member_add_mode" => Self::MemberAddMode(text(operation)),
            "invite" => Self::Invite,
            _ => return None,
        })
    }

    /// Subject and description of a group that is not locked are every member's business.
    fn for_members(&self, group: &Group) -> bool {
        matches!(self, Self::Subject(_) | Self::Description { .. }) && !group.locked
    }
}

/// A client asks for a change.
pub(super) fn change_requested(
    state: &mut State,
    actor: &str,
    group: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let setting = Setting::read(operation).ok_or(400_u16)?;
    let answered_with_code = matches!(setting, Setting::Invite);
    let notices = change_setting(state, actor, group, setting)?;
    let code = state.groups.get(group).filter(|_| answered_with_code).map(|group| invite_node(&group.invite_code));
    Ok((code.into_iter().collect(), notices))
}

/// Changes a setting, or says with which code WhatsApp refuses.
pub(crate) fn change_setting(
    state: &mut State,
    actor: &str,
    group_id: &str,
    setting: Setting,
) -> Refusable<Vec<Notice>> {
    let invite_code = state.new_invite_code();
    let group = state.group_of(group_id, actor)?;
    if !setting.for_members(group) && !group.is_admin(actor) {
        return Err(403);
    }
    let action = match setting {
        Setting::Subject(subject) => return change_subject(state, actor, group_id, subject),
        Setting::Description { id, previous, body } => group.change_description(actor, id, previous, body)?,
        Setting::Announce(on) => {
            group.announce = on;
            empty(if on { "announcement" } else { "not_announcement" })
        }
        Setting::Locked(on) => {
            group.locked = on;
            empty(if on { "locked" } else { "unlocked" })
        }
        Setting::Ephemeral(seconds) => {
            group.ephemeral_s = seconds.filter(|seconds| *seconds > 0);
            match group.ephemeral_s {
                Some(seconds) => NodeBuilder::new("ephemeral").attr("expiration", seconds.to_string()).build(),
                None => empty("not_ephemeral"),
            }
        }
        Setting::Approval(on) => {
            group.approval = on;
            let join = NodeBuilder::new("group_join").attr("state", if on { "on" } else { "off" });
            NodeBuilder::new("membership_approval_mode").children([join.build()]).build()
        }
        Setting::MemberAddMode(mode) => {
            let action = leaf("member_add_mode", mode.as_str());
            group.member_add_mode = mode;
            action
        }
        Setting::Invite => {
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
        .attr("s_o", group.jid_of(owner))
        .attr("s_o_pn", owner.pn_jid())
        .build();
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
