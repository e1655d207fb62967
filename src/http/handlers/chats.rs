//! What the account does in chats beside writing: typing, reading, and what its own devices show of a chat.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use rookery_actors::commands::{ChangeChat, Recipient, Requested};
use rookery_actors::{MessagesOf, SessionEvents};
use rookery_model::{ChatChange, ChatId, Event, ParticipantIds, SessionId, Timestamp, Typing};
use serde_json::Value;
use utoipa::ToSchema;

use super::message_history::ChatPath;
use super::messages::{chat_id, not_sent};
use crate::app::App;
use crate::http::error::{ApiError, MessageError};
use crate::http::limits::READ_MESSAGES;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::{ChatField, shorten};
use crate::http::response::json::{Acknowledged, JsonResult, acknowledged};

/// The latest messages that are looked at for one that somebody else wrote.
const LATEST_COUNT: usize = 50;

/// A chat.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OfChat {
    #[schema(inline)]
    chat_id: ChatField,
}

impl FromFields for OfChat {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { chat_id: chat_id(fields).unwrap_or_default() }
    }
}

/// What was read.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReadMessages {
    #[schema(inline)]
    chat_id: ChatField,
    /// The messages; by default the latest that somebody else wrote.
    #[schema(min_items = 1, max_items = 100, nullable = false)]
    message_ids: Option<Vec<String>>,
}

impl FromFields for ReadMessages {
    fn read(fields: &mut Fields<'_>) -> Self {
        let chat_id = chat_id(fields).unwrap_or_default();
        let has_ids = fields.has("messageIds");
        Self { chat_id, message_ids: has_ids.then(|| fields.texts("messageIds", READ_MESSAGES)) }
    }
}

/// A chat with something that is true or false of it.
macro_rules! flagged {
    ($(#[$doc:meta])* $name:ident, $field:ident) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, ToSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(crate) struct $name {
            #[schema(inline)]
            chat_id: ChatField,
            $field: bool,
        }

        impl FromFields for $name {
            fn read(fields: &mut Fields<'_>) -> Self {
                let chat_id = chat_id(fields).unwrap_or_default();
                if !fields.has(stringify!($field)) {
                    fields.broken(stringify!($field), "must be a boolean value");
                }
                Self { chat_id, $field: fields.optional_flag(stringify!($field)).unwrap_or_default() }
            }
        }
    };
}

flagged! {
    /// Whether a chat is in the archive.
    ArchivedChat, archive
}

flagged! {
    /// Whether a chat is at the top of the list.
    PinnedChat, pin
}

/// Until when a chat notifies of nothing.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MutedChat {
    #[schema(inline)]
    chat_id: ChatField,
    /// Milliseconds since 1970, in the future; `null`: it notifies again.
    #[schema(required = true, example = 1_924_992_000_000_i64)]
    mute_until: Option<i64>,
}

impl FromFields for MutedChat {
    fn read(fields: &mut Fields<'_>) -> Self {
        let chat_id = chat_id(fields).unwrap_or_default();
        let until = fields.take("muteUntil");
        let mute_until = until.as_ref().and_then(Value::as_i64);
        match (&until, mute_until) {
            (Some(Value::Null), _) => {}
            (_, Some(until)) if until > fields.known().now.0 => {}
            (_, Some(_)) => fields.broken("muteUntil", "must be in the future, in milliseconds since 1970, or null"),
            _ => fields.broken("muteUntil", "must be a time in milliseconds since 1970, or null"),
        }
        Self { chat_id, mute_until }
    }
}

/// What the account does in a chat.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TypingInChat {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(value_type = String, pattern = "^(typing|recording|paused)$", example = "typing")]
    state: Typing,
}

impl FromFields for TypingInChat {
    fn read(fields: &mut Fields<'_>) -> Self {
        let chat_id = chat_id(fields).unwrap_or_default();
        let words = [("typing", Typing::Composing), ("recording", Typing::Recording), ("paused", Typing::Paused)];
        if !fields.has("state") {
            fields.broken("state", "must be one of the following values: typing, recording, paused");
        }
        Self { chat_id, state: fields.optional_word("state", &words).unwrap_or(Typing::Paused) }
    }
}

async fn change(app: &App, session: SessionId, chat: Recipient, change: ChatChange) -> JsonResult<Acknowledged> {
    let changed = app.gateway.execute(session, ChangeChat { chat, change }).await;
    changed.map_err(|error| not_sent(session, error))?;
    Ok(acknowledged("Chat updated"))
}

/// Show that the account types
///
/// Others see it for some seconds, or until a message comes; `paused` ends it. WhatsApp does not confirm it.
#[utoipa::path(
    post,
    path = "",
    request_body = TypingInChat,
    responses((status = 200, description = "Sent", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" }))),
)]
pub(crate) async fn typing(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<TypingInChat>,
) -> JsonResult<Acknowledged> {
    change(&app, session, body.chat_id.0, ChatChange::Typing(body.state)).await
}

/// Mark messages as read
///
/// Their authors see it, unless the account hides that, and the account's own devices show the chat as read.
#[utoipa::path(
    post,
    path = "",
    request_body = ReadMessages,
    responses(
        (status = 200, description = "Sent", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" })),
        (status = 404, description = "One of the messages is not kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<ReadMessages>,
) -> JsonResult<Acknowledged> {
    let ReadMessages { chat_id: ChatField(chat), message_ids } = body;
    let events = app.gateway.events(session).await?;
    let id = match &chat {
        Recipient::Group(group) => ChatId::Group(group.clone()),
        Recipient::Person(person) => ChatId::Person(person.id()),
    };
    let read = match message_ids {
        Some(ids) => named(&events, &id, ids).await?,
        None => latest(&events, &id).await?,
    };
    change(&app, session, chat, ChatChange::Read(read)).await
}

/// These messages by their authors. The account's own are left out.
async fn named(
    events: &SessionEvents,
    chat: &ChatId,
    ids: Vec<String>,
) -> Result<Vec<(ParticipantIds, Vec<String>)>, ApiError> {
    let mut by_author: BTreeMap<String, (ParticipantIds, Vec<String>)> = BTreeMap::new();
    for id in ids {
        let stored = events.stored_message(chat.to_string(), id.clone()).await?;
        let message = stored.ok_or_else(|| MessageError::Unknown(shorten(&id)))?.message;
        if !message.is_from_me {
            let author = message.author.id().map(|id| id.to_string()).unwrap_or_default();
            by_author.entry(author).or_insert_with(|| (message.author, Vec::new())).1.push(id);
        }
    }
    Ok(by_author.into_values().collect())
}

/// The latest message that somebody else wrote.
async fn latest(events: &SessionEvents, chat: &ChatId) -> Result<Vec<(ParticipantIds, Vec<String>)>, ApiError> {
    let every = None::<fn(&Event) -> bool>;
    let page = events.messages(MessagesOf::Chat(chat.to_string()), 0, LATEST_COUNT, every).await?;
    let of_others = |event: &Event| event.data.get("fromMe") == Some(&Value::Bool(false));
    let found = page.messages.into_iter().map(|message| message.event).find(of_others);
    let id = found.and_then(|event| event.data.get("id").and_then(Value::as_str).map(str::to_owned));
    match id {
        Some(id) => named(events, chat, vec![id]).await,
        None => Ok(Vec::new()),
    }
}

/// Mark a chat as unread
///
/// For the account's own devices.
#[utoipa::path(
    post,
    path = "",
    request_body = OfChat,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" }))),
)]
pub(crate) async fn unread(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<OfChat>,
) -> JsonResult<Acknowledged> {
    change(&app, session, body.chat_id.0, ChatChange::Unread).await
}

/// Archive a chat
///
/// For the account's own devices; with `archive: false` it comes back.
#[utoipa::path(
    post,
    path = "",
    request_body = ArchivedChat,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" }))),
)]
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<ArchivedChat>,
) -> JsonResult<Acknowledged> {
    change(&app, session, body.chat_id.0, ChatChange::Archived(body.archive)).await
}

/// Pin a chat
///
/// To the top of the list, on the account's own devices; with `pin: false` no more.
#[utoipa::path(
    post,
    path = "",
    request_body = PinnedChat,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" }))),
)]
pub(crate) async fn pin(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<PinnedChat>,
) -> JsonResult<Acknowledged> {
    change(&app, session, body.chat_id.0, ChatChange::Pinned(body.pin)).await
}

/// Mute a chat
///
/// Until a time, on the account's own devices.
#[utoipa::path(
    post,
    path = "",
    request_body = MutedChat,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" }))),
)]
pub(crate) async fn mute(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<MutedChat>,
) -> JsonResult<Acknowledged> {
    change(&app, session, body.chat_id.0, ChatChange::Muted(body.mute_until.map(Timestamp))).await
}

/// Delete a chat
///
/// On the account's own devices. What Rookery keeps of it stays.
#[utoipa::path(
    post,
    path = "",
    request_body = OfChat,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" }))),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<OfChat>,
) -> JsonResult<Acknowledged> {
    change(&app, session, body.chat_id.0, ChatChange::Deleted).await
}

/// Clear a chat
///
/// The account's own devices forget its messages and keep the chat. What Rookery keeps of it stays.
#[utoipa::path(
    delete,
    path = "",
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Chat updated" }))),
)]
pub(crate) async fn clear(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    ChatPath(chat): ChatPath,
) -> JsonResult<Acknowledged> {
    let chat = match chat {
        ChatId::Person(person) => Recipient::Person(Requested::from(person)),
        ChatId::Group(group) => Recipient::Group(group),
    };
    change(&app, session, chat, ChatChange::Cleared).await
}
