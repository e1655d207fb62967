//! Messages that are marked: with a star for the account alone, or pinned for everybody in the chat.

use std::sync::Arc;

use axum::extract::State;
use rookery_model::{MessageMark, OutgoingContent};
use utoipa::ToSchema;

use super::message_changes::{Changed, changed, marked, stored};
use super::messages::chat_id;
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::MESSAGE_ID_CHARS;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::seed::Seed;
use crate::http::request::written::ChatField;
use crate::http::response::happened::Told;

/// The times for which WhatsApp's clients pin a message, and that of OpenWA where none is given.
const PIN_SECONDS: [u32; 3] = [86_400, 604_800, 2_592_000];
const PIN_SECONDS_DEFAULT: u32 = 86_400;

/// A message to be marked with a star, or not to be any more.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewStar {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: String,
    /// Whether it has a star.
    #[schema(example = true)]
    star: bool,
}

impl FromFields for NewStar {
    fn read(fields: &mut Fields<'_>) -> Self {
        let (chat_id, message_id) = (chat_id(fields).unwrap_or_default(), fields.text("messageId", MESSAGE_ID_CHARS));
        let star = fields.has("star").then(|| fields.optional_flag("star"));
        if star.is_none() {
            fields.broken("star", "must be a boolean value");
        }
        Self { chat_id, message_id, star: star.flatten().unwrap_or_default() }
    }
}

/// A message to be shown at the top of its chat.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewPin {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: String,
    /// For how long: 86400 (a day, the default), 604800 (a week) or 2592000 (30 days).
    #[schema(nullable = false, example = 604_800)]
    duration_seconds: Option<u32>,
}

impl FromFields for NewPin {
    fn read(fields: &mut Fields<'_>) -> Self {
        let duration_seconds = fields.nullable_number("durationSeconds", 1..=u32::MAX).flatten();
        if duration_seconds.is_some_and(|seconds| !PIN_SECONDS.contains(&seconds)) {
            fields.broken("durationSeconds", "must be one of the following values: 86400, 604800, 2592000");
        }
        Self {
            chat_id: chat_id(fields).unwrap_or_default(),
            message_id: fields.text("messageId", MESSAGE_ID_CHARS),
            duration_seconds,
        }
    }
}

/// A message that is not to be shown at the top any more.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewUnpin {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: String,
}

impl FromFields for NewUnpin {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { chat_id: chat_id(fields).unwrap_or_default(), message_id: fields.text("messageId", MESSAGE_ID_CHARS) }
    }
}

/// Star a message
///
/// Marks a message with a star, or takes it away again. The account's own devices show it, and nobody else's.
#[utoipa::path(
    post,
    path = "",
    request_body = NewStar,
    responses(
        (status = 200, description = "WhatsApp has it", body = Changed),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn star(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    JsonBody(body): JsonBody<NewStar>,
) -> Result<Told<Changed>, ApiError> {
    let stored = stored(&app, session, &caller, &body.chat_id, body.message_id).await?;
    let mark = if body.star { MessageMark::Starred } else { MessageMark::NotStarred };
    marked(&app, session, body.chat_id, stored, mark).await
}

/// Pin a message
///
/// Shows a message at the top of its chat, to everybody in it.
#[utoipa::path(
    post,
    path = "",
    request_body = NewPin,
    responses(
        (status = 200, description = "WhatsApp has it", body = Changed),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn pin(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewPin>,
) -> Result<Told<Changed>, ApiError> {
    let of = stored(&app, session, &caller, &body.chat_id, body.message_id).await?.message;
    let content = OutgoingContent::Pin { of, seconds: Some(body.duration_seconds.unwrap_or(PIN_SECONDS_DEFAULT)) };
    changed(&app, session, &caller, seed, body.chat_id, content.into()).await
}

/// Unpin a message
#[utoipa::path(
    post,
    path = "",
    request_body = NewUnpin,
    responses(
        (status = 200, description = "WhatsApp has it", body = Changed),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn unpin(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewUnpin>,
) -> Result<Told<Changed>, ApiError> {
    let of = stored(&app, session, &caller, &body.chat_id, body.message_id).await?.message;
    changed(&app, session, &caller, seed, body.chat_id, OutgoingContent::Pin { of, seconds: None }.into()).await
}
