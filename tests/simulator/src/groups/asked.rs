//! The people whom a request names, and why they are refused. Changes no membership.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::ParticipantChange;
use crate::stanza::{jid_attr, now};
use crate::world::group::{Group, Invitation};
use crate::world::view::Role;
use crate::world::{Addable, State};

/// How long the invitation in a refused add is valid: three days.
const ADD_REQUEST_VALID_S: u64 = 3 * 24 * 3600;
/// The admins have been asked to let that person in before.
const ALREADY_ASKED: &str = "304";

/// A person named in a request: how the client named it, and the account behind it, if there is one.
pub(super) struct Asked {
    jid: Jid,
    pub(super) phone: Option<String>,
}

impl Asked {
    pub(super) fn read_all(state: &State, operation: &Node) -> Vec<Self> {
        operation.get_children_by_tag("participant").map(|node| Self::read(state, node)).collect()
    }

    fn read(state: &State, participant: &Node) -> Self {
        let jid = jid_attr(participant, "jid").unwrap_or_default().to_non_ad();
        let number = jid_attr(participant, "phone_number");
        let phone = state.phone_of(&jid).or_else(|| state.phone_of(&number?));
        Self { jid, phone }
    }

    /// The person's JID as the client named it.
    pub(super) fn jid(&self) -> &Jid {
        &self.jid
    }

    pub(super) fn by_phone(state: &State, phone: &str) -> Self {
        let jid = Jid::pn(phone);
        Self { phone: state.phone_of(&jid), jid }
    }
}

/// Why a participant was refused.
#[derive(Clone, Copy, Default)]
pub(super) struct Refusal {
    code: u16,
    /// What can be done instead.
    instead: Option<Instead>,
}

#[derive(Clone, Copy)]
enum Instead {
    /// The person may be sent an invitation.
    Invite,
    /// An admin has to let the person in, and was asked to.
    Approval,
}

impl Refusal {
    /// Admins have to approve, and are asked.
    pub(super) fn until_approved() -> Self {
        Self { code: 421, instead: Some(Instead::Approval) }
    }
}

impl From<u16> for Refusal {
    fn from(code: u16) -> Self {
        Self { code, instead: None }
    }
}

/// Why this person cannot be added; `None` when the add is allowed.
pub(super) fn add_refusal(state: &State, group: &Group, phone: Option<&str>) -> Option<Refusal> {
    let Some(account) = phone.and_then(|phone| state.accounts.get(phone)) else { return Some(404.into()) };
    if group.members.contains_key(&account.phone) {
        return Some(409.into());
    }
    if group.left.contains(&account.phone) {
        return Some(408.into());
    }
    match account.addable {
        Addable::InviteOnly => return Some(Refusal { code: 403, instead: Some(Instead::Invite) }),
        Addable::Nobody => return Some(403.into()),
        Addable::Refused(code) => return Some(code.into()),
        Addable::Everyone => {}
    }
    (group.members.len() >= group.participants_max).then(|| 419.into())
}

/// Why this change is not made to this person; `None` when the change is allowed.
pub(super) fn refusal(
    state: &State,
    group: &Group,
    change: ParticipantChange,
    actor: &str,
    asked: &Asked,
) -> Option<Refusal> {
    if change == ParticipantChange::Add {
        return add_refusal(state, group, asked.phone.as_deref());
    }
    let phone = asked.phone.as_deref().unwrap_or_default();
    match (group.members.get(phone), change) {
        (None, _) => Some(404.into()),
        (Some(Role::SuperAdmin), ParticipantChange::Remove | ParticipantChange::Demote) if phone != actor => {
            Some(405.into())
        }
        _ => None,
    }
}

/// `<participant>` with the code of a refusal. An invitation is remembered: it can be accepted.
pub(super) fn refused_node(state: &mut State, group: &mut Group, actor: &str, asked: &Asked, refusal: Refusal) -> Node {
    let account = asked.phone.as_ref().and_then(|phone| state.accounts.get(phone));
    let node = match account {
        Some(account) => group.participant(account),
        None => NodeBuilder::new("participant").attr("jid", &asked.jid),
    };
    let node = node.attr("error", refusal.code.to_string());
    match (refusal.instead, &asked.phone) {
        (Some(Instead::Invite), Some(phone)) => {
            let (code, expires_at) = (state.new_invitation_code(), now() + ADD_REQUEST_VALID_S);
            let request =
                NodeBuilder::new("add_request").attr("code", code.as_str()).attr("expiration", expires_at.to_string());
            group.invitations.insert(phone.clone(), Invitation { code, expires_at, admin: actor.to_owned() });
            node.children([request.build()]).build()
        }
        (Some(Instead::Approval), Some(phone)) => {
            let request = NodeBuilder::new("membership_approval_request");
            let is_asked = group.join_requests.contains_key(phone);
            let request = if is_asked { request.attr("error", ALREADY_ASKED) } else { request };
            node.children([request.build()]).build()
        }
        _ => node.build(),
    }
}
