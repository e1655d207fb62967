//! Messages that were sent and received, as the event log has them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{HeaderMap, HeaderValue, LINK};
use axum::http::request::Parts;
use rookery_actors::{KeptMessage, MessagesOf};
use rookery_model::{ChatId, Event, Message, MessageType, ParticipantId, Reached, SessionId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use uuid::Uuid;

use crate::app::App;
use crate::http::error::{AccessError, ApiError, MessageError};
use crate::http::request::caller::Caller;
use crate::http::request::extract::{Page, SessionPath, number_of, path_parameter, query, query_parameter, value_of};
use crate::http::request::written::{query_flag, shorten};
use crate::media::INCLUDED_BYTES_MAX;
use crate::shares::User;

/// Messages of a history when nobody says how many.
const HISTORY_DEFAULT: usize = 50;
/// Messages of one answer at most: of each, what became of it is looked up.
const HISTORY_MAX: usize = 1_000;

/// Time to fetch the files of a history: the rest of a request's time is for everything else.
const FILES_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes of the files in one history.
const FILES_BYTES_MAX: u64 = 8 * INCLUDED_BYTES_MAX;

/// The chat that a path names; the caller's key may read it.
pub(crate) struct ChatPath(pub(crate) ChatId);

impl<S: Sync> FromRequestParts<S> for ChatPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let chat = ChatId::parse_written(&path_parameter(parts, "chat")?)?;
        may_read(&Caller::from_request_parts(parts, state).await?, &chat)?;
        Ok(Self(chat))
    }
}

/// The message that a path names.
pub(crate) struct MessagePath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for MessagePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        path_parameter(parts, "message").map(Self)
    }
}

/// Whether the caller's key may read a chat: of a key that is limited to groups, its groups alone.
pub(super) fn may_read(caller: &Caller, chat: &ChatId) -> Result<(), AccessError> {
    match chat {
        ChatId::Group(group) => caller.may_touch(std::slice::from_ref(group)),
        ChatId::Person(_) if caller.key.is_limited_to_groups() => Err(AccessError::GroupScopedKey),
        ChatId::Person(_) => Ok(()),
    }
}

/// Which messages are asked for.
pub(crate) struct AskedMessages {
    chat: Option<ChatId>,
    from: Option<String>,
    page: Page,
}

impl utoipa::IntoParams for AskedMessages {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let mut all = vec![
            query_parameter("chatId", text(), "Only messages of this chat: a person, or a group"),
            query_parameter(
                "from",
                text(),
                "Only messages of this person, or of this group. Looks at the latest 10,000 messages, and `total` counts those of them",
            ),
        ];
        all.extend(<Page as utoipa::IntoParams>::into_params(place));
        all
    }
}

impl<S: Sync> FromRequestParts<S> for AskedMessages {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = query(parts)?;
        let chat = value_of(&query, "chatId").map(ChatId::parse_written).transpose()?;
        if let Some(chat) = &chat {
            may_read(&Caller::from_request_parts(parts, state).await?, chat)?;
        }
        let from = value_of(&query, "from").map(ChatId::parse_written).transpose()?.map(|from| from.to_string());
        Ok(Self { chat, from, page: Page::read(&query)? })
    }
}

/// Which messages of a history are asked for.
pub(crate) struct AskedHistory {
    limit: usize,
    offset: usize,
    include_media: bool,
}

impl utoipa::IntoParams for AskedHistory {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = || ObjectBuilder::new().schema_type(Type::Integer);
        let limit = "Messages to answer, 1 to 1,000, 50 by default; a number beyond is taken as the nearest of these";
        let offset = "Messages to leave out at the start, none by default; a number below 0 is taken as 0";
        let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true", "false", "1", "0"]));
        let include_media = "Fetch the files of up to 1 MiB, as `media.data` in base64: 8 MiB in all and what comes within 20 s; the others stay `omitted`";
        vec![
            query_parameter("limit", number(), limit),
            query_parameter("offset", number(), offset),
            query_parameter("includeMedia", words, include_media),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for AskedHistory {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = query(parts)?;
        let limit = number_of(&query, "limit", HISTORY_DEFAULT, 1..=HISTORY_MAX)?;
        let include_media = match value_of(&query, "includeMedia") {
            None => false,
            Some(text) => {
                query_flag(text).ok_or_else(|| ApiError::Query("includeMedia must be true or false".into()))?
            }
        };
        Ok(Self { limit, offset: number_of(&query, "offset", 0, 0..=usize::MAX)?, include_media })
    }
}

/// A message as it is kept.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageRecord {
    /// The id of the event that told of it.
    id: Uuid,
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    /// Its id at WhatsApp.
    #[schema(value_type = String, example = "3EB0D1C5A7F2E4B6908A13")]
    wa_message_id: Value,
    #[schema(value_type = String, example = "120363021234567890@g.us")]
    chat_id: Value,
    /// Who sent it, or the group that it came in.
    #[schema(value_type = String, example = "120363021234567890@g.us")]
    from: Value,
    #[schema(value_type = String, example = "15550100001@c.us")]
    to: Value,
    /// The latest text of it.
    #[schema(value_type = String, example = "See you at eight")]
    body: Value,
    #[serde(rename = "type")]
    #[schema(value_type = MessageType)]
    kind: Value,
    direction: Direction,
    /// Who wrote it, in a group.
    #[schema(value_type = Option<String>, example = "15550100002@c.us")]
    author: Value,
    /// The type of the file in it.
    #[schema(value_type = Option<String>, example = "image/jpeg")]
    media_mimetype: Value,
    /// When WhatsApp took it, in seconds since 1970.
    #[schema(value_type = i64, example = 1_769_851_800)]
    timestamp: Value,
    /// `reactions` by the person who reacted, and `edited`, where there are any.
    metadata: Option<MessageMetadata>,
    status: MessageStatus,
    /// When the daemon saw it.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The text was longer than what is kept of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    /// False: texts are not kept here, and so are not in it.
    #[serde(skip_serializing_if = "std::clone::Clone::clone")]
    #[schema(example = true)]
    text_stored: bool,
}

/// What became of a message.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageMetadata {
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object, example = json!({ "15550100002@c.us": "👍" }))]
    reactions: Map<String, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    edited: bool,
}

/// Whether a message came or went.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Incoming,
    Outgoing,
}

/// How far a message has come: in a group, with all people whom it was sent to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum MessageStatus {
    /// WhatsApp has it.
    Sent,
    /// It was received.
    Delivered,
    /// It was read.
    Read,
}

impl MessageRecord {
    fn of(message: KeptMessage) -> Self {
        let KeptMessage { event, reactions, is_edited, reached } = message;
        let of_data = |field: &str| event.data.get(field).cloned().unwrap_or_default();
        let is_own = of_data("fromMe") == Value::Bool(true);
        let reactions: Map<String, Value> =
            reactions.into_iter().map(|reaction| (reaction.sender.to_string(), json!(reaction.emoji))).collect();
        let has_metadata = is_edited || !reactions.is_empty();
        Self {
            id: event.id,
            session_id: event.session,
            wa_message_id: of_data("id"),
            chat_id: of_data("chatId"),
            from: of_data("from"),
            to: of_data("to"),
            body: of_data("body"),
            kind: of_data("type"),
            direction: if is_own { Direction::Outgoing } else { Direction::Incoming },
            author: of_data("author"),
            media_mimetype: event
                .data
                .get("media")
                .and_then(|media| media.get("mimetype"))
                .cloned()
                .unwrap_or_default(),
            timestamp: of_data("timestamp"),
            metadata: has_metadata.then_some(MessageMetadata { reactions, edited: is_edited }),
            status: match reached {
                None if is_own => MessageStatus::Sent,
                None | Some(Reached::Delivered) => MessageStatus::Delivered,
                Some(Reached::Read | Reached::Played) => MessageStatus::Read,
            },
            created_at: event.seen_at,
            truncated: of_data("truncated") == Value::Bool(true),
            text_stored: of_data("textStored") != Value::Bool(false),
        }
    }
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagePage {
    /// The newest first.
    messages: Vec<MessageRecord>,
    /// How many there are in all.
    #[schema(example = 1)]
    total: usize,
    /// The `offset` of the next page, where there is one: pages of very long texts end before `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_000)]
    next_offset: Option<usize>,
}

/// List messages
///
/// The messages of a session that were sent and received while events are kept, 30 days by default. Of messages that were edited or deleted since, the latest state.
#[utoipa::path(
    get,
    path = "",
    params(AskedMessages),
    responses((status = 200, description = "The newest first", body = MessagePage)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    asked: AskedMessages,
) -> Result<Json<MessagePage>, ApiError> {
    let AskedMessages { chat, from, page } = asked;
    let events = app.gateway.events(session).await?;
    let key = caller.key.clone();
    let is_filtered = from.is_some() || (chat.is_none() && key.is_limited_to_groups());
    let is_wanted = is_filtered
        .then_some(move |event: &Event| key.sees_event(event) && from.as_ref().is_none_or(|from| is_from(event, from)));
    let of = chat.map_or(MessagesOf::All, |chat| MessagesOf::Chat(chat.to_string()));
    let _reading = caller.key.read_events().await;
    let found = events.messages(of, page.offset(), page.limit(), is_wanted).await?;
    let next_offset = found.has_more.then(|| page.offset().saturating_add(found.messages.len()));
    let messages = found.messages.into_iter().map(MessageRecord::of).collect();
    Ok(Json(MessagePage { messages, total: found.total, next_offset }))
}

/// Whether a message is from this person, by any id, or from this group.
fn is_from(event: &Event, from: &str) -> bool {
    let is_author = |id: &ParticipantId| id.to_string() == from;
    event.data.get("from").is_some_and(|sender| sender == from)
        || event.message.as_ref().is_some_and(|note| note.authors.iter().any(is_author))
}

/// Get a chat's history
///
/// The latest messages of a chat, as far as events are kept. Of messages that were edited or deleted since, the latest state. Pages of very long
/// texts end before `limit`.
#[utoipa::path(
    get,
    path = "",
    params(AskedHistory),
    responses((
        status = 200,
        description = "The newest first",
        body = Vec<Message>,
        headers(("link" = String, description = "The path of the next page, as `<...>; rel=\"next\"`, where there is one")),
    )),
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    ChatPath(chat): ChatPath,
    caller: Caller,
    AskedHistory { limit, offset, include_media }: AskedHistory,
) -> Result<(HeaderMap, Json<Vec<Map<String, Value>>>), ApiError> {
    let events = app.gateway.events(session).await?;
    let every = None::<fn(&Event) -> bool>;
    let found = {
        let _reading = caller.key.read_events().await;
        events.messages(MessagesOf::Chat(chat.to_string()), offset, limit, every).await?
    };
    let mut headers = HeaderMap::new();
    if found.has_more {
        let offset = offset.saturating_add(found.messages.len());
        let path = format!("/api/sessions/{session}/messages/{chat}/history?limit={limit}&offset={offset}");
        headers.extend(HeaderValue::from_str(&format!("<{path}>; rel=\"next\"")).ok().map(|next| (LINK, next)));
    }
    let mut messages: Vec<_> = found.messages.into_iter().map(|message| message.event.data).collect();
    if include_media {
        include_files(&app, User { key: caller.key.id(), session }, &mut messages).await;
    }
    Ok((headers, Json(messages)))
}

/// Puts the small files of messages into their data, as long as there is time and room for them.
async fn include_files(app: &App, user: User, messages: &mut [Map<String, Value>]) {
    let (until, mut bytes) = (Instant::now() + FILES_TIME_MAX, 0);
    for data in messages.iter_mut().filter(|data| data.contains_key("media")) {
        bytes += app.media.include(&app.gateway, user, data, until).await;
        if bytes > FILES_BYTES_MAX - INCLUDED_BYTES_MAX || Instant::now() >= until {
            return;
        }
    }
}

/// People who reacted to a message with the same emoji.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageReaction {
    #[schema(example = "👍")]
    emoji: String,
    senders: Vec<ReactionSender>,
}

/// Somebody who reacted to a message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReactionSender {
    sender_id: ParticipantId,
    #[schema(example = "👍")]
    emoji: String,
    /// When, in seconds since 1970.
    #[schema(example = 1_769_851_800)]
    timestamp: i64,
}

/// Get the reactions to a message
#[utoipa::path(
    get,
    path = "",
    responses(
        (status = 200, description = "Each emoji with the people who chose it", body = Vec<MessageReaction>),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn reactions(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    ChatPath(chat): ChatPath,
    MessagePath(id): MessagePath,
    caller: Caller,
) -> Result<Json<Vec<MessageReaction>>, ApiError> {
    let events = app.gateway.events(session).await?;
    let _reading = caller.key.read_events().await;
    let message = events.message(chat.to_string(), id.clone()).await?;
    let message = message.ok_or_else(|| MessageError::Unknown(shorten(&id)))?;
    let mut reactions: Vec<MessageReaction> = Vec::new();
    for reaction in message.reactions {
        let sender =
            ReactionSender { sender_id: reaction.sender, emoji: reaction.emoji.clone(), timestamp: reaction.timestamp };
        match reactions.iter_mut().find(|of| of.emoji == reaction.emoji) {
            Some(of) => of.senders.push(sender),
            None => reactions.push(MessageReaction { emoji: reaction.emoji, senders: vec![sender] }),
        }
    }
    Ok(Json(reactions))
}
