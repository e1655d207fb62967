//! The account's own profile: its name, the text about it, its picture. `picture.rs` prepares the picture in a body.

use std::sync::Arc;

use axum::extract::State;
use rookery_actors::commands::{ChangeProfile, CheckReady};
use rookery_model::ProfileChange;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::picture::NewPicture;
use crate::app::App;
use crate::http::limits::{ABOUT_CHARS_MAX, PUSH_NAME_CHARS};
use crate::http::middleware::authorization::AdmissionOf;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::json::{Acknowledged, JsonResult, acknowledged};
use crate::shares::User;

/// The account's name.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProfileName {
    #[schema(min_length = 1, max_length = 25, pattern = r"\S", example = "Team Berlin")]
    name: String,
}

impl FromFields for NewProfileName {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { name: fields.plain_text("name", PUSH_NAME_CHARS) }
    }
}

/// The text about the account.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProfileStatus {
    /// An empty one removes it.
    #[schema(max_length = 139, example = "Mondays to Fridays")]
    status: String,
}

impl FromFields for NewProfileStatus {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { status: fields.text_or_empty("status", ABOUT_CHARS_MAX) }
    }
}

/// Set the account's name
///
/// The name that people see who have not saved the account's number. WhatsApp does not confirm it.
#[utoipa::path(
    put,
    path = "",
    request_body = NewProfileName,
    responses((status = 200, description = "Sent", body = Acknowledged, example = json!({ "success": true, "message": "Name updated" }))),
)]
pub(crate) async fn set_name(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(NewProfileName { name }): JsonBody<NewProfileName>,
) -> JsonResult<Acknowledged> {
    let change = ProfileChange::Name(name);
    app.gateway.execute(session, ChangeProfile { change, begun: Instant::now() }).await?;
    Ok(acknowledged("Name updated"))
}

/// Set the text about the account
#[utoipa::path(
    put,
    path = "",
    request_body = NewProfileStatus,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Status updated" }))),
)]
pub(crate) async fn set_status(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(NewProfileStatus { status }): JsonBody<NewProfileStatus>,
) -> JsonResult<Acknowledged> {
    let change = ProfileChange::About(status);
    app.gateway.execute(session, ChangeProfile { change, begun: Instant::now() }).await?;
    Ok(acknowledged("Status updated"))
}

/// Set the account's picture
///
/// As with a group's picture: the square in the middle, at most 640 pixels a side, without metadata.
#[utoipa::path(
    put,
    path = "",
    request_body = NewPicture,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Profile picture updated" }))),
)]
pub(crate) async fn set_picture(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    AdmissionOf(admission): AdmissionOf,
    JsonBody(new): JsonBody<NewPicture>,
) -> JsonResult<Acknowledged> {
    let begun = Instant::now();
    let source = new.source()?;
    app.gateway.execute(session, CheckReady).await?;
    // Counted before the work: above the rate limit, nothing is fetched or decoded.
    app.gateway.count_picture(session)?;
    let jpeg = app.pictures.prepare(source, User { key: caller.key.id(), session }).await?;
    // Fetching and decoding takes seconds.
    admission.check_again()?;
    app.gateway.execute(session, ChangeProfile { change: ProfileChange::Picture(Some(jpeg)), begun }).await?;
    Ok(acknowledged("Profile picture updated"))
}

/// Remove the account's picture
#[utoipa::path(
    delete,
    path = "",
    responses((status = 200, description = "Done; also when there was none", body = Acknowledged, example = json!({ "success": true, "message": "Profile picture removed" }))),
)]
pub(crate) async fn remove_picture(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
) -> JsonResult<Acknowledged> {
    let change = ProfileChange::Picture(None);
    app.gateway.execute(session, ChangeProfile { change, begun: Instant::now() }).await?;
    Ok(acknowledged("Profile picture removed"))
}
