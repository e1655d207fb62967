//! Invite codes of groups: read, and replace by a new one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_actors::commands::{ReadInviteCode, RevokeInviteCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::request::extract::{GroupPath, SessionPath};
use crate::http::response::json::JsonResult;

/// WhatsApp's own address for invitations.
const INVITE_LINK: &str = "https://chat.whatsapp.com/";

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InviteAnswer {
    #[schema(example = "AbCdEfGhIjKlMnOpQrStUv")]
    invite_code: String,
    #[schema(example = "https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv")]
    invite_link: String,
    /// Only when a new code was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "Invite code revoked and new one generated")]
    message: Option<&'static str>,
}

/// Get the invite code
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The code and its link", body = InviteAnswer)),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<InviteAnswer> {
    let code = app.gateway.execute(session, ReadInviteCode { group }).await?;
    Ok(answer(code, None))
}

/// Revoke the invite code
///
/// The old code and link stop working.
#[utoipa::path(
    post,
    path = "",
    responses((status = 200, description = "The new code and its link", body = InviteAnswer)),
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<InviteAnswer> {
    let code = app.gateway.execute(session, RevokeInviteCode { group }).await?;
    Ok(answer(code, Some("Invite code revoked and new one generated")))
}

fn answer(invite_code: String, message: Option<&'static str>) -> Json<InviteAnswer> {
    let invite_link = format!("{INVITE_LINK}{invite_code}");
    Json(InviteAnswer { invite_code, invite_link, message })
}
