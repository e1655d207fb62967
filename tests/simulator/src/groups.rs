//! Namespace `w:g2`: groups. Each request ends in an [`Outcome`]: an answer, and notices to the members.
//!
//! Refusals follow WhatsApp: a code for the whole request, or one per participant in an answer that is a success.

mod answers;
mod asked;
mod community;
mod create;
mod joining;
mod notify;
mod participants;
mod query;
mod requests;
mod settings;

pub use answers::{AnswerIds, Answers};
pub use community::Orphans;
pub(crate) use community::{deactivate, link, link_one, unlink};
pub(crate) use create::{announce, make_first_subgroups};
pub(crate) use joining::{Entered, enter};
pub(crate) use notify::Notice;
pub use participants::ParticipantChange;
pub(crate) use participants::{change_participants_by_phone, leave};
pub(crate) use requests::{Decision, decide_by_phone, withdraw};
pub(crate) use settings::{Change, change_group};

use wacore_binary::Node;

use crate::limits;
use crate::stanza::{children, iq_error, iq_result, jid_attr};
use crate::world::State;
use crate::world::account::DeviceRef;
use crate::world::group::Group;

/// The code with which a suspended group refuses all requests but reading and leaving.
pub(crate) const SUSPENDED: u16 = 403;

/// The result of a request.
pub(crate) struct Outcome {
    pub(crate) answer: Node,
    pub(crate) notices: Vec<Notice>,
}

impl From<Node> for Outcome {
    fn from(answer: Node) -> Self {
        Self { answer, notices: Vec::new() }
    }
}

/// A change, or the code with which WhatsApp refuses it.
pub(crate) type Refusable<T> = Result<T, u16>;

/// Answers a `w:g2` request, and applies what it asks for.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node, set: bool) -> Outcome {
    let Some(operation) = children(request).first() else { return iq_error(request, 400, None).into() };
    let group = jid_attr(request, "to").unwrap_or_default().user.to_string();
    if set && let Some(refusal) = limits::refusal(state, me, request) {
        return refusal.into();
    }
    let outcome = if set {
        change(state, &me.phone, &group, operation)
    } else {
        query::answer(state, &me.phone, &group, operation).map(|children| (children, vec![]))
    };
    match outcome {
        Ok((children, notices)) => Outcome { answer: iq_result(request, children), notices },
        Err(code) => iq_error(request, code, None).into(),
    }
}

fn change(state: &mut State, actor: &str, group: &str, operation: &Node) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    if group.is_empty() {
        return match operation.tag.as_ref() {
            "create" => create::create(state, actor, operation),
            "leave" => Ok(participants::leave_all(state, actor, operation)),
            "invite" => joining::join(state, actor, operation),
            _ => Err(400),
        };
    }
    if state.is_suspended(group) && operation.tag != "ack" {
        return Err(SUSPENDED);
    }
    match ParticipantChange::from_tag(&operation.tag) {
        Some(change) => participants::change_requested(state, actor, group, change, operation),
        None => change_other(state, actor, group, operation),
    }
}

fn change_other(state: &mut State, actor: &str, group: &str, operation: &Node) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    match operation.tag.as_ref() {
        "accept" => joining::accept(state, actor, group, operation),
        "membership_requests_action" => requests::decide_requested(state, actor, group, operation),
        "cancel_membership_requests" => requests::cancel(state, actor, group, operation),
        "revoke" => requests::revoke_codes(state, actor, group, operation),
        "links" => community::link_requested(state, actor, group, operation),
        "unlink" => community::unlink_requested(state, actor, group, operation),
        "join_linked_group" => joining::join_linked(state, actor, group, operation),
        "delete_parent" => deactivate(state, actor, group).map(|notices| (vec![], notices)),
        // The client has taken note of the group.
        "ack" => Ok((vec![], vec![])),
        _ => settings::change_requested(state, actor, group, operation),
    }
}

impl State {
    /// The group, when this account may see it.
    pub(crate) fn group_of(&mut self, group: &str, phone: &str) -> Refusable<&mut Group> {
        let group = self.groups.get_mut(group).ok_or(404_u16)?;
        if group.members.contains_key(phone) { Ok(group) } else { Err(403) }
    }

    /// The group, when this account may administer it.
    fn group_of_admin(&mut self, group: &str, phone: &str) -> Refusable<&mut Group> {
        let group = self.group_of(group, phone)?;
        if group.is_admin(phone) { Ok(group) } else { Err(403) }
    }
}
