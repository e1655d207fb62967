//! Groups: list, make, read, rename, describe, leave. Reads come from the session's cache unless `?refresh=true`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use rookery_actors::model::{CreatedGroup, Group, GroupSummary};
use utoipa::ToSchema;

use super::answer::{Acknowledged, Created, JsonResult, acknowledged, tagged, with_total};
use super::error::ApiError;
use super::extract::{GroupPath, JsonObject, KnownTag, Page, Refresh, SessionPath};
use super::fields::{Fields, Person, participants};
use super::limits::{DESCRIPTION_CHARS_MAX, SUBJECT_CHARS};
use crate::app::App;

/// List the groups
///
/// Ordered by id, so that pages stay stable.
#[utoipa::path(
    get,
    path = "/api/sessions/{session}/groups",
    params(Page, Refresh, KnownTag),
    responses(
        (status = 200, description = "The groups", body = Vec<GroupSummary>, headers(
            ("X-Total-Count" = u32, description = "How many groups there are in all"),
            ("ETag" = String, description = "For `If-None-Match`"),
        )),
        (status = 304, description = "Unchanged since the answer with this `ETag`"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    page: Page,
    Refresh(refresh): Refresh,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let groups = app.gateway.groups(session, refresh).await?;
    Ok(with_total(groups.len(), tagged(&headers, page.of(&groups))?))
}

/// A group to be made.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct NewGroup {
    /// The subject.
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "Trip")]
    name: String,
    #[schema(min_items = 1, max_items = 256)]
    participants: Vec<Person>,
}

/// Make a group
///
/// WhatsApp may refuse single people: `results` says what became of each.
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/groups",
    request_body = NewGroup,
    responses((status = 201, description = "The new group, whoever was refused", body = CreatedGroup)),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonObject(body): JsonObject,
) -> Result<Created<CreatedGroup>, ApiError> {
    let mut fields = Fields::of(body, &["name", "participants"]);
    let name = fields.text("name", SUBJECT_CHARS);
    let participants = participants(fields)?;
    Ok(Created(app.gateway.create_group(session, name, participants, None, false).await?))
}

/// Read a group
#[utoipa::path(
    get,
    path = "/api/sessions/{session}/groups/{group}",
    params(Refresh, KnownTag),
    responses(
        (status = 200, description = "The group", body = Group, headers(
            ("ETag" = String, description = "For `If-None-Match`"),
        )),
        (status = 304, description = "Unchanged since the answer with this `ETag`"),
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    Refresh(refresh): Refresh,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let group = app.gateway.group(session, group, Vec::new(), refresh).await?;
    let value = group.value.ok_or_else(|| ApiError::Internal("a group without its value".into()))?;
    tagged(&headers, &*value)
}

/// A group's new subject.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct NewSubject {
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "Launch Team")]
    subject: String,
}

/// Change the subject
#[utoipa::path(
    put,
    path = "/api/sessions/{session}/groups/{group}/subject",
    request_body = NewSubject,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Group subject updated" }))),
)]
pub(crate) async fn set_subject(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    JsonObject(body): JsonObject,
) -> JsonResult<Acknowledged> {
    let mut fields = Fields::of(body, &["subject"]);
    let subject = fields.text("subject", SUBJECT_CHARS);
    fields.finish()?;
    app.gateway.set_subject(session, group, subject).await?;
    Ok(acknowledged("Group subject updated"))
}

/// A group's new description.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct NewDescription {
    /// An empty one clears it.
    #[schema(max_length = 1024, example = "Where the project is talked about")]
    description: String,
}

/// Change the description
#[utoipa::path(
    put,
    path = "/api/sessions/{session}/groups/{group}/description",
    request_body = NewDescription,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Group description updated" }))),
)]
pub(crate) async fn set_description(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    JsonObject(body): JsonObject,
) -> JsonResult<Acknowledged> {
    let mut fields = Fields::of(body, &["description"]);
    let description = fields.text_or_empty("description", DESCRIPTION_CHARS_MAX);
    fields.finish()?;
    app.gateway.set_description(session, group, description).await?;
    Ok(acknowledged("Group description updated"))
}

/// Leave a group
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/groups/{group}/leave",
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Left the group" }))),
)]
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<Acknowledged> {
    app.gateway.leave_group(session, group).await?;
    Ok(acknowledged("Left the group"))
}
