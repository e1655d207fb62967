//! Groups: list, count, make, read, rename, describe, leave. Reads come from the session's cache unless `?refresh=true`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use rookery_actors::commands::{CreateGroup, LeaveGroup, ListGroups, ReadGroup, SetDescription, SetSubject};
use rookery_model::{CreatedGroup, Group, GroupId, GroupSummary, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::{DESCRIPTION_CHARS_MAX, SUBJECT_CHARS};
use crate::http::middleware::authorization::community_scope::may_touch_linked;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{GroupPath, JsonBody, KnownTag, Page, Refresh, SessionPath, Stale};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::group_filter::GroupFilter;
use crate::http::request::written::{ParticipantField, requested};
use crate::http::response::etag::{known_tags, tagged, tagged_as};
use crate::http::response::json::{Acknowledged, Created, JsonResult, acknowledged, with_total};
use crate::http::response::staleness::answered;

/// List groups
///
/// Ordered by id, so that pages stay stable.
#[utoipa::path(
    get,
    path = "",
    params(GroupFilter, Page, Refresh, Stale, KnownTag),
    responses(
        (status = 200, description = "The groups", body = Vec<GroupSummary>, headers(
            ("X-Total-Count" = u32, description = "How many such groups there are in all"),
            ("ETag" = String, description = "For `If-None-Match`"),
            ("Age" = u32, description = "With `stale=true`: seconds since the session last heard from WhatsApp"),
            ("Warning" = String, description = "With it: `110 - \"Response is Stale\"`"),
        )),
        (status = 304, description = "Unchanged since the answer with this `ETag`"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    filter: GroupFilter,
    page: Page,
    refresh: Refresh,
    stale: Stale,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let list = ListGroups { source: stale.or(refresh) };
    answered(app.gateway.execute(session, list).await?, |groups| {
        let groups = filter.of(&groups);
        Ok(with_total(groups.len(), tagged(&headers, page.of(&groups))?))
    })
}

/// How many groups there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupCount {
    /// All groups.
    #[schema(example = 12)]
    total: usize,
    /// The groups that this account is an admin of.
    #[schema(example = 3)]
    admin: usize,
    /// The groups that are communities.
    #[schema(example = 1)]
    communities: usize,
}

/// Count groups
///
/// With a filter, only matching groups are counted.
#[utoipa::path(
    get,
    path = "",
    params(GroupFilter, Stale),
    responses((status = 200, description = "How many groups there are", body = GroupCount)),
)]
pub(crate) async fn count(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    filter: GroupFilter,
    stale: Stale,
) -> Result<Response, ApiError> {
    let list = ListGroups { source: stale.source() };
    answered(app.gateway.execute(session, list).await?, |groups| {
        let groups = filter.of(&groups);
        let admin = groups.iter().filter(|group| group.is_admin).count();
        let communities = groups.iter().filter(|group| group.is_community).count();
        Ok(Json(GroupCount { total: groups.len(), admin, communities }).into_response())
    })
}

/// A group to be made.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewGroup {
    /// The subject.
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "Trip")]
    name: String,
    #[schema(min_items = 1, max_items = 256)]
    participants: Vec<ParticipantField>,
    /// Whether participants who may only be invited are sent WhatsApp's private invitation; false by default.
    #[schema(nullable = false)]
    invite_fallback: Option<bool>,
}

impl FromFields for NewGroup {
    fn read(fields: &mut Fields<'_>) -> Self {
        let name = fields.text("name", SUBJECT_CHARS);
        let invite_fallback = fields.optional_flag("inviteFallback");
        if fields.is_empty_list("participants") {
            fields.broken("participants", "must name somebody: WhatsApp makes a group with at least one other person");
        }
        Self { name, participants: fields.participants(), invite_fallback }
    }
}

impl NewGroup {
    /// The command that makes the group, in a community when one is named.
    pub(crate) fn command(self, community: Option<GroupId>) -> CreateGroup {
        let Self { name, participants, invite_fallback } = self;
        let invite_fallback = invite_fallback.unwrap_or(false);
        CreateGroup { name, participants: requested(participants), community, invite_fallback }
    }
}

/// Create a group
///
/// WhatsApp may refuse single participants: `results` has the outcome of each participant.
#[utoipa::path(
    post,
    path = "",
    request_body = NewGroup,
    responses((status = 201, description = "The new group, whoever was refused", body = CreatedGroup)),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    JsonBody(new): JsonBody<NewGroup>,
) -> Result<Created<CreatedGroup>, ApiError> {
    create_in(&app, session, &caller, new.command(None)).await
}

/// Makes a group, and adds it to the groups of a key that is limited to groups.
pub(crate) async fn create_in(
    app: &App,
    session: SessionId,
    caller: &Caller,
    command: CreateGroup,
) -> Result<Created<CreatedGroup>, ApiError> {
    let created = app.gateway.execute(session, command).await?;
    caller.add_to_scope(app, vec![created.summary.id.clone()]).await;
    Ok(Created(created))
}

/// Get a group
#[utoipa::path(
    get,
    path = "",
    params(Refresh, Stale, KnownTag),
    responses(
        (status = 200, description = "The group", body = Group, headers(
            ("ETag" = String, description = "For `If-None-Match`"),
            ("Age" = u32, description = "With `stale=true`: seconds since the session last heard from WhatsApp"),
            ("Warning" = String, description = "With it: `110 - \"Response is Stale\"`"),
        )),
        (status = 304, description = "Unchanged since the answer with this `ETag`"),
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    refresh: Refresh,
    stale: Stale,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let known = known_tags(&headers);
    let read = ReadGroup { group, known, source: stale.or(refresh) };
    answered(app.gateway.execute(session, read).await?, |group| {
        let body = group.value.as_deref().map(Group::to_json).transpose();
        Ok(tagged_as(&headers, group.tag, body.map_err(|error| ApiError::Internal(error.to_string()))?))
    })
}

/// A group's new subject.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSubject {
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "Launch Team")]
    subject: String,
}

impl FromFields for NewSubject {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { subject: fields.text("subject", SUBJECT_CHARS) }
    }
}

/// Update the group subject
#[utoipa::path(
    put,
    path = "",
    request_body = NewSubject,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Group subject updated" }))),
)]
pub(crate) async fn set_subject(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    JsonBody(NewSubject { subject }): JsonBody<NewSubject>,
) -> JsonResult<Acknowledged> {
    app.gateway.execute(session, SetSubject { group, subject }).await?;
    Ok(acknowledged("Group subject updated"))
}

/// A group's new description.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDescription {
    /// An empty text clears the description.
    #[schema(max_length = 2048, example = "Where the project is talked about")]
    description: String,
}

impl FromFields for NewDescription {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { description: fields.text_or_empty("description", DESCRIPTION_CHARS_MAX) }
    }
}

/// Update the group description
#[utoipa::path(
    put,
    path = "",
    request_body = NewDescription,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Group description updated" }))),
)]
pub(crate) async fn set_description(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    JsonBody(NewDescription { description }): JsonBody<NewDescription>,
) -> JsonResult<Acknowledged> {
    app.gateway.execute(session, SetDescription { group, description }).await?;
    Ok(acknowledged("Group description updated"))
}

/// Leave a group
///
/// Leaving a community means leaving all its groups: a key that is limited to groups needs every one of them.
#[utoipa::path(
    post,
    path = "",
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Left the group" }))),
)]
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    caller: Caller,
) -> JsonResult<Acknowledged> {
    let linked = may_touch_linked(&app, &caller, session, &group).await?;
    app.gateway.execute(session, LeaveGroup { group: group.clone() }).await?;
    caller.remove_from_scope(&app, &group).await;
    for group in linked.iter().filter(|linked| **linked != group) {
        caller.remove_from_scope(&app, group).await;
    }
    Ok(acknowledged("Left the group"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    #[test]
    fn a_new_group_has_a_name_and_people_and_may_invite() {
        let check = |body: Value| match Fields::parse::<NewGroup>(body.as_object().cloned().unwrap(), Known::default())
        {
            Ok(NewGroup { name, participants, invite_fallback }) => {
                Ok((name, participants.len(), invite_fallback == Some(true)))
            }
            Err(ApiError::Body(messages)) => Err(messages),
            Err(other) => panic!("{other:?}"),
        };
        let participants = ["15550100001", "15550100001@c.us"];
        let cases = [
            (json!({"name": "Trip", "participants": participants}), Ok(("Trip".to_owned(), 1, false))),
            (
                json!({"name": "Trip", "participants": participants, "inviteFallback": true}),
                Ok(("Trip".to_owned(), 1, true)),
            ),
            (
                json!({"name": "Trip", "participants": participants, "inviteFallback": null}),
                Err(vec!["inviteFallback must be a boolean value".to_owned()]),
            ),
            (
                json!({"name": "Trip", "participants": []}),
                Err(vec![
                    "participants must name somebody: WhatsApp makes a group with at least one other person".to_owned(),
                    "participants should not be empty".to_owned(),
                ]),
            ),
            (
                json!({"name": "", "inviteFallback": 1}),
                Err(vec![
                    "name should not be empty".to_owned(),
                    "inviteFallback must be a boolean value".to_owned(),
                    "participants must be an array".to_owned(),
                ]),
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(check(body.clone()), expected, "{body}");
        }
    }
}
