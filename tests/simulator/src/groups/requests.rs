//! Requests to be let in, where admins have to approve: asking, listing, approving, rejecting, taking back.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::asked::Asked;
use super::joining::{admit, room_for};
use super::{Notice, Refusable};
use crate::stanza::{attr, children, now};
use crate::world::State;
use crate::world::group::{Group, JoinRequest};
use crate::world::view::JoinMethod;

/// What admins do with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Approve,
    Reject,
}

impl Decision {
    fn tag(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// `requestor` asks for these people to be let in. People who wait already are not announced again.
pub(super) fn ask(
    state: &mut State,
    requestor: &str,
    group_id: &str,
    phones: &[String],
    method: JoinMethod,
) -> Vec<Notice> {
    let Some(group) = state.groups.get_mut(group_id) else { return Vec::new() };
    let mut new = Vec::new();
    for phone in phones.iter().filter(|phone| state.accounts.contains_key(*phone)) {
        if !group.join_requests.contains_key(phone) {
            let request = JoinRequest { requestor: requestor.to_owned(), method, time: now() };
            group.join_requests.insert(phone.clone(), request);
            new.push(phone.clone());
        }
    }
    if new.is_empty() {
        return Vec::new();
    }
    let accounts = new.iter().filter_map(|phone| state.accounts.get(phone));
    let users: Vec<Node> = accounts.map(|account| group.person("requested_user", account).build()).collect();
    let mut action = NodeBuilder::new("created_membership_requests").attr("request_method", method.word());
    if let (JoinMethod::LinkedGroupJoin, Some(parent)) = (method, &group.parent) {
        action = action.attr("parent_group_jid", wacore_binary::Jid::group(parent.as_str()));
    }
    state.notice_to_admins(group_id, requestor, action.children(users).build())
}

/// `requestor`, a member who is no admin, wanted to add these people.
pub(super) fn ask_for_others(state: &mut State, requestor: &str, group_id: &str, phones: &[String]) -> Vec<Notice> {
    ask(state, requestor, group_id, phones, JoinMethod::NonAdminAdd)
}

/// The requests of a group, for its admins.
pub(super) fn list(state: &mut State, group_id: &str, phone: &str, operation: &Node) -> Refusable<Vec<Node>> {
    state.group_of_admin(group_id, phone)?;
    let group = state.groups.get(group_id).ok_or(404_u16)?;
    let nodes = group.join_requests.iter().filter_map(|(phone, request)| request_node(state, group, phone, request));
    let mut list = NodeBuilder::new("membership_approval_requests").children(nodes);
    if let Some(fetch) = attr(operation, "requestor_fetch") {
        list = list.attr("requestor_fetch", fetch);
    }
    Ok(vec![list.build()])
}

fn request_node(state: &State, group: &Group, phone: &str, request: &JoinRequest) -> Option<Node> {
    let requestor = state.accounts.get(&request.requestor)?;
    let node = group
        .person("membership_approval_request", state.accounts.get(phone)?)
        .attr("requestor", group.jid_of(requestor));
    let mut node = group
        .with_number(node, "requestor_pn", requestor)
        .attr("request_method", request.method.word())
        .attr("request_time", request.time.to_string());
    if let (JoinMethod::LinkedGroupJoin, Some(parent)) = (request.method, &group.parent) {
        node = node.attr("parent_group_jid", wacore_binary::Jid::group(parent.as_str()));
    }
    Some(node.build())
}

/// An admin's client approves or rejects. Each person has a result of its own.
pub(super) fn decide_requested(
    state: &mut State,
    actor: &str,
    group_id: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let (mut answers, mut notices) = (Vec::new(), Vec::new());
    for list in children(operation) {
        let decision = match list.tag.as_ref() {
            "approve" => Decision::Approve,
            "reject" => Decision::Reject,
            _ => return Err(400),
        };
        let asked = Asked::read_all(state, list);
        let (results, told) = decide(state, actor, group_id, decision, asked)?;
        answers.push(NodeBuilder::new(decision.tag()).children(state.shaped(results)).build());
        notices.extend(told);
    }
    Ok((vec![NodeBuilder::new("membership_requests_action").children(answers).build()], notices))
}

/// An approval or rejection made elsewhere. Returns the code of the first refusal, if any.
pub(crate) fn decide_by_phone(
    state: &mut State,
    actor: &str,
    group_id: &str,
    decision: Decision,
    phones: &[&str],
) -> Refusable<(Option<u16>, Vec<Notice>)> {
    let asked = phones.iter().map(|phone| Asked::by_phone(state, phone)).collect();
    let (results, notices) = decide(state, actor, group_id, decision, asked)?;
    Ok((results.iter().find_map(|result| attr(result, "error")?.parse().ok()), notices))
}

fn decide(
    state: &mut State,
    actor: &str,
    group_id: &str,
    decision: Decision,
    asked: Vec<Asked>,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    state.group_of_admin(group_id, actor)?;
    let (mut results, mut notices, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    for asked in asked {
        let group = state.group_of_admin(group_id, actor)?;
        let phone = asked.phone.clone().unwrap_or_default();
        let waits = group.join_requests.contains_key(&phone);
        let refused = match room_for(group, &phone) {
            Err(code) if code == 409 || (waits && decision == Decision::Approve) => Some(code),
            _ if !waits => Some(404),
            _ => None,
        };
        results.push(result_node(state, group_id, &asked, refused)?);
        match (refused, decision) {
            (Some(_), _) => {}
            (None, Decision::Approve) => notices.extend(admit(state, actor, group_id, &[phone], None)),
            (None, Decision::Reject) => rejected.push(phone),
        }
    }
    notices.extend(withdraw(state, actor, group_id, &rejected));
    Ok((results, notices))
}

/// Somebody takes back requests that they made, for themselves or for others.
pub(super) fn cancel(
    state: &mut State,
    actor: &str,
    group_id: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let (mut results, mut taken_back) = (Vec::new(), Vec::new());
    for asked in Asked::read_all(state, operation) {
        let phone = asked.phone.clone().unwrap_or_default();
        let group = state.groups.get(group_id).ok_or(404_u16)?;
        let request = group.join_requests.get(&phone);
        let is_theirs = request.is_some_and(|request| phone == actor || request.requestor == actor);
        results.push(result_node(state, group_id, &asked, (!is_theirs).then_some(404))?);
        if is_theirs {
            taken_back.push(phone);
        }
    }
    let notices = withdraw(state, actor, group_id, &taken_back);
    Ok((vec![NodeBuilder::new("cancel_membership_requests").children(state.shaped(results)).build()], notices))
}

/// An admin revokes invitations that were, or could be, sent as messages.
pub(super) fn revoke_codes(
    state: &mut State,
    actor: &str,
    group_id: &str,
    operation: &Node,
) -> Refusable<(Vec<Node>, Vec<Notice>)> {
    let mut results = Vec::new();
    for asked in Asked::read_all(state, operation) {
        let group = state.group_of_admin(group_id, actor)?;
        let revoked = asked.phone.as_ref().and_then(|phone| group.invitations.remove(phone));
        results.push(result_node(state, group_id, &asked, revoked.is_none().then_some(404))?);
    }
    Ok((vec![NodeBuilder::new("revoke").children(state.shaped(results)).build()], vec![]))
}

/// Removes requests and notifies the admins.
pub(crate) fn withdraw(state: &mut State, actor: &str, group_id: &str, phones: &[String]) -> Vec<Notice> {
    let Some(group) = state.groups.get_mut(group_id).filter(|_| !phones.is_empty()) else { return Vec::new() };
    phones.iter().for_each(|phone| {
        group.join_requests.remove(phone);
    });
    let accounts = phones.iter().filter_map(|phone| state.accounts.get(phone));
    let participants: Vec<Node> = accounts.map(|account| group.participant(account).build()).collect();
    let action = NodeBuilder::new("revoked_membership_requests").children(participants).build();
    state.notice_to_admins(group_id, actor, action)
}

fn result_node(state: &State, group_id: &str, asked: &Asked, refused: Option<u16>) -> Refusable<Node> {
    let group = state.groups.get(group_id).ok_or(404_u16)?;
    let account = asked.phone.as_ref().and_then(|phone| state.accounts.get(phone));
    let node = match account {
        Some(account) => group.participant(account),
        None => NodeBuilder::new("participant").attr("jid", asked.jid()),
    };
    Ok(match refused {
        Some(code) => node.attr("error", code.to_string()).build(),
        None => node.build(),
    })
}
