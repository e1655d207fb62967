//! Namespace `w:g2`: groups. Each request ends in an [`Outcome`]: an answer, and notices to the members.
//!
//! Refusals follow WhatsApp: a code for the whole request, or one per participant in an answer that is a success.

mod create;
mod notify;
mod participants;
mod query;
mod settings;

pub(crate) use notify::Notice;
pub use participants::ParticipantChange;
pub(crate) use participants::{change_participants_by_phone, leave};
pub(crate) use settings::{Setting, change_setting};

use wacore_binary::Node;

use crate::stanza::{children, iq_error, iq_result, jid_attr};
use crate::world::State;
use crate::world::account::DeviceRef;
use crate::world::group::Group;

/// What a request leads to.
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
type Refusable<T> = Result<T, u16>;

/// Answers a `w:g2` request, and applies what it asks for.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node, set: bool) -> Outcome {
    let Some(operation) = children(request).first() else { return iq_error(request, 400, None).into() };
    let group = jid_attr(request, "to").unwrap_or_default().user.to_string();
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
            "invite" => participants::join(state, actor, operation),
            _ => Err(400),
        };
    }
    match ParticipantChange::from_tag(&operation.tag) {
        Some(change) => participants::change_requested(state, actor, group, change, operation),
        None => settings::change_requested(state, actor, group, operation),
    }
}

impl State {
    /// The group, when this account may see it.
    fn group_of(&mut self, group: &str, phone: &str) -> Refusable<&mut Group> {
        let group = self.groups.get_mut(group).ok_or(404_u16)?;
        if group.members.contains_key(phone) { Ok(group) } else { Err(403) }
    }

    /// The group, when this account may administer it.
    fn group_of_admin(&mut self, group: &str, phone: &str) -> Refusable<&mut Group> {
        let group = self.group_of(group, phone)?;
        if group.is_admin(phone) { Ok(group) } else { Err(403) }
    }
}
