//! Namespace `w:mex`: GraphQL by document id, for the parts of groups that are not in `w:g2`.
//!
//! The name of an operation is not on the wire, only the number of its document; [`operation`] knows the names of those
//! that are answered here. All others get empty data. A refusal is a result with GraphQL errors, not an IQ error.

use serde_json::{Value, json};
use wacore::iq::mex_operations::{
    fetch_all_subgroups, fetch_new_chat_message_capping_info, fetch_reachout_timelock,
    query_subgroup_participant_count, update_group_property,
};
use wacore_binary::Node;

use crate::groups::{Change, Notice, Outcome, Refusable, SUSPENDED, change_group};
use crate::limits;
use crate::stanza::{attr, bytes, iq_result, leaf};
use crate::world::State;
use crate::world::account::DeviceRef;
use crate::world::group::settings::Setting;
use crate::world::group::{Group, group_user};

/// The operations that are answered: document id, the client's name for it, and the short one that tests use.
const OPERATIONS: [(&str, &str, &str); 5] = [
    (update_group_property::DOC_ID, update_group_property::NAME, "update_group_property"),
    (fetch_all_subgroups::DOC_ID, fetch_all_subgroups::NAME, "fetch_all_subgroups"),
    (
        query_subgroup_participant_count::DOC_ID,
        query_subgroup_participant_count::NAME,
        "query_subgroup_participant_count",
    ),
    (fetch_reachout_timelock::DOC_ID, fetch_reachout_timelock::NAME, "fetch_reachout_timelock"),
    (
        fetch_new_chat_message_capping_info::DOC_ID,
        fetch_new_chat_message_capping_info::NAME,
        "fetch_new_chat_message_capping_info",
    ),
];

/// All names of the operation that a `w:mex` request is for; the short one, or the document id, comes first.
pub(crate) fn operation(request: &Node) -> Vec<String> {
    let document = document(request);
    match OPERATIONS.iter().find(|(id, _, _)| *id == document) {
        Some((_, name, short)) => vec![(*short).to_owned(), (*name).to_owned(), document],
        None => vec![document],
    }
}

/// Whether the request changes a group.
pub(crate) fn is_change(request: &Node) -> bool {
    document(request) == update_group_property::DOC_ID
}

fn document(request: &Node) -> String {
    request.get_optional_child("query").and_then(|query| attr(query, "query_id")).unwrap_or_default()
}

/// Answers a `w:mex` request.
pub(crate) fn answer(state: &mut State, me: &DeviceRef, request: &Node) -> Outcome {
    let query = request.get_optional_child("query").map(bytes).unwrap_or_default();
    let variables = serde_json::from_slice::<Value>(&query).unwrap_or_default()["variables"].take();
    let result = match document(request).as_str() {
        update_group_property::DOC_ID => update_property(state, &me.phone, &variables),
        fetch_all_subgroups::DOC_ID => subgroups(state, &me.phone, &variables["group_id"]).map(|data| (data, vec![])),
        query_subgroup_participant_count::DOC_ID => {
            subgroups(state, &me.phone, &variables["input"]["group_jid"]).map(|data| (data, vec![]))
        }
        fetch_reachout_timelock::DOC_ID => Ok((limits::timelock_data(state, &me.phone), vec![])),
        fetch_new_chat_message_capping_info::DOC_ID => Ok((limits::capping_data(state, &me.phone), vec![])),
        _ => Ok((json!({}), vec![])),
    };
    let (body, notices) = match result {
        Ok((data, notices)) => (json!({ "data": data }), notices),
        Err(code) => (errors(code), vec![]),
    };
    Outcome { answer: iq_result(request, vec![leaf("result", body.to_string())]), notices }
}

fn errors(code: u16) -> Value {
    let extensions = json!({ "error_code": code, "is_summary": true, "is_retryable": false, "severity": "CRITICAL" });
    json!({ "data": null, "errors": [{ "message": crate::stanza::error_text(code), "extensions": extensions }] })
}

fn update_property(state: &mut State, actor: &str, variables: &Value) -> Refusable<(Value, Vec<Notice>)> {
    let group = group_user(variables["group_id"].as_str().ok_or(400_u16)?).to_owned();
    let setting = read_update(&variables["update"]).ok_or(400_u16)?;
    if state.is_suspended(&group) {
        return Err(SUSPENDED);
    }
    let notices = change_group(state, actor, &group, Change::Setting(setting))?;
    let updated = json!({ "id": variables["group_id"], "state": "ACTIVE" });
    Ok((json!({ "xwa2_group_update_property": updated }), notices))
}

fn read_update(update: &Value) -> Option<Setting> {
    let one_of = |word: &Value, yes: &str, no: &str| match word.as_str() {
        Some(word) if word == yes => Some(true),
        Some(word) if word == no => Some(false),
        _ => None,
    };
    let (property, value) = update.as_object()?.iter().next()?;
    Some(match property.as_str() {
        "member_link_mode" => Setting::MembersLink(one_of(value, "ALL_MEMBER_LINK", "ADMIN_LINK")?),
        "member_share_group_history_mode" => {
            Setting::MembersShareHistory(one_of(value, "ALL_MEMBER_SHARE", "ADMIN_SHARE")?)
        }
        "limit_sharing" => Setting::LimitSharing(value["limit_sharing_enabled"].as_bool()?),
        _ => return None,
    })
}

/// A community's subgroups, each with its size. Both operations that ask for them get the same.
fn subgroups(state: &mut State, phone: &str, community: &Value) -> Refusable<Value> {
    let id = group_user(community.as_str().ok_or(400_u16)?);
    state.group_of(id, phone)?;
    let edges: Vec<Value> = state
        .subgroups(id)
        .filter(|group| !group.default_sub_group)
        .map(|group| json!({ "node": subgroup(group) }))
        .collect();
    let announcements = state.subgroups(id).find(|group| group.default_sub_group).map(subgroup);
    let found = json!({
        "__typename": "XWA2GroupCommunity",
        "id": community,
        "default_sub_group": announcements,
        "sub_groups": { "edges": edges },
    });
    Ok(json!({ "xwa2_group_query_by_id": found }))
}

fn subgroup(group: &Group) -> Value {
    json!({
        "id": group.jid().to_string(),
        "subject": { "value": group.subject, "creation_time": group.created_at.to_string() },
        "total_participants_count": group.members.len(),
        "membership_approval_requests": { "total_count": group.join_requests.len() },
        "properties": {
            "general_chat": group.general_chat.to_string(),
            "membership_approval_mode_enabled": group.settings.approval,
        },
    })
}
