//! The file of a message: fetched from WhatsApp when it is asked for, and answered once it is known to be whole.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use rookery_actors::file_in;
use tokio::time::Instant;

use super::message_files::file_deadline;
use super::message_history::{ChatPath, MessagePath};
use crate::app::App;
use crate::http::error::{ApiError, MessageError};
use crate::http::middleware::authorization::{Admission, AdmissionOf};
use crate::http::request::caller::Caller;
use crate::http::request::extract::SessionPath;
use crate::http::request::written::shorten;
use crate::http::response::file::{FileAnswer, not_modified};
use crate::shares::User;

/// Until when the file has to be here, and the right to have it.
pub(crate) struct Reading {
    until: Instant,
    admission: Arc<Admission>,
}

impl FromRequestParts<Arc<App>> for Reading {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let AdmissionOf(admission) = AdmissionOf::from_request_parts(parts, app).await?;
        Ok(Self { until: file_deadline(parts, app)?, admission })
    }
}

/// Get the file of a message
///
/// The picture, film, sound, document or sticker in a message, of the account's own or of others, as far as events are kept. It is fetched from
/// WhatsApp now; if it is gone there, the phone is asked to upload it again. Nothing is answered before the file is whole and known to be the
/// message's. `Range` gives a part of it, `If-None-Match` with the `ETag` of an earlier answer gives 304 without fetching anything.
#[utoipa::path(
    get,
    path = "",
    responses(
        (status = 200, description = "The file, with its media type", body = String, content_type = "application/octet-stream"),
        (status = 206, description = "The part of the file that `Range` asks for", body = String, content_type = "application/octet-stream"),
        (status = 304, description = "The caller has it already"),
        (status = 404, description = "No such message is kept (`message_not_found`), or there is no file in it (`no_media`)"),
        (status = 410, description = "WhatsApp and the phone do not have it any more (`file_gone`)"),
        (status = 416, description = "The file ends before `Range`"),
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    ChatPath(chat): ChatPath,
    MessagePath(id): MessagePath,
    Reading { until, admission }: Reading,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let user = User { key: caller.key.id(), session };
    let share = app.media.admit_fetch(user)?;
    let stored = {
        let events = app.gateway.events(session).await?;
        let _reading = caller.key.read_events().await;
        events.stored_message(chat.to_string(), id.clone()).await?
    };
    let stored = stored.ok_or_else(|| MessageError::Unknown(shorten(&id)))?;
    if stored.kind == "revoked" {
        return Err(MessageError::Deleted.into());
    }
    let content = stored.content.as_ref().ok_or(MessageError::NotKept)?;
    let found = file_in(&content.protocol).ok_or(MessageError::NoMedia)?;
    if let Some(answer) = not_modified(&headers, &found.file.sha256) {
        return Ok(answer);
    }
    let file = app.media.file_of(&app.gateway, user, chat, (stored, &found), until).await?;
    let answer = FileAnswer { file, share, admission, mimetype: found.mimetype, filename: found.filename };
    Ok(answer.respond(&headers))
}
