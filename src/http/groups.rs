//! Groups: list, make, read, rename, describe, leave. Reads come from the session's cache unless `?refresh=true`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use rookery_actors::model::CreatedGroup;

use super::answer::{Acknowledged, Created, JsonResult, acknowledged, tagged, with_total};
use super::error::ApiError;
use super::extract::{GroupPath, JsonObject, Page, Refresh, SessionPath};
use super::fields::{Fields, participants};
use super::limits::{DESCRIPTION_CHARS_MAX, SUBJECT_CHARS};
use crate::app::App;

/// GET /api/sessions/{session}/groups: ordered by id, so that pages stay stable.
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

/// POST /api/sessions/{session}/groups
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

/// GET /api/sessions/{session}/groups/{group}
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

/// PUT /api/sessions/{session}/groups/{group}/subject
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

/// PUT /api/sessions/{session}/groups/{group}/description: an empty one clears it.
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

/// POST /api/sessions/{session}/groups/{group}/leave
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<Acknowledged> {
    app.gateway.leave_group(session, group).await?;
    Ok(acknowledged("Left the group"))
}
