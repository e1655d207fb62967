//! Invite codes of groups: read, and replace by a new one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::answer::JsonResult;
use super::extract::{GroupPath, SessionPath};
use crate::app::App;

/// WhatsApp's own address for invitations.
const INVITE_LINK: &str = "https://chat.whatsapp.com/";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InviteAnswer {
    invite_code: String,
    invite_link: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

/// GET /api/sessions/{session}/groups/{group}/invite-code
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<InviteAnswer> {
    let code = app.gateway.invite_code(session, group).await?;
    Ok(answer(code, None))
}

/// POST /api/sessions/{session}/groups/{group}/invite-code/revoke
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<InviteAnswer> {
    let code = app.gateway.revoke_invite_code(session, group).await?;
    Ok(answer(code, Some("Invite code revoked and new one generated")))
}

fn answer(invite_code: String, message: Option<&'static str>) -> Json<InviteAnswer> {
    let invite_link = format!("{INVITE_LINK}{invite_code}");
    Json(InviteAnswer { invite_code, invite_link, message })
}
