//! Messages that refer to earlier ones: replies, forwards, reactions, edits, deletions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use rookery_actors::StoredMessage;
use rookery_actors::commands::{CheckReady, MarkMessage, Recipient};
use rookery_model::{
    ChatId, EarlierContent, EarlierMessage, MessageMark, MessageSeed, OutgoingContent, Quote, SessionId, Timestamp,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::message_history::may_read;
use super::messages::{Sent, Written, chat_id, mentioned, not_sent, send};
use crate::app::App;
use crate::http::error::{ApiError, MessageError};
use crate::http::limits::{MENTIONS_MAX, MESSAGE_CHARS, MESSAGE_ID_CHARS, WRITTEN_ID_CHARS};
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::seed::Seed;
use crate::http::request::written::{ChatField, ParticipantField, shorten};
use crate::http::response::happened::{Happened, Tells, Told};
use crate::http::response::json::Created;

/// WhatsApp's clients take no other text for a message that is older.
const EDIT_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// WhatsApp's clients delete no message for everybody that is older.
const DELETE_TIME_MAX: Duration = Duration::from_secs(60 * 60 * 60);

/// An answer to a message.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewReply {
    #[schema(inline)]
    chat_id: ChatField,
    /// The id of the message that is quoted.
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    quoted_message_id: String,
    #[schema(min_length = 1, max_length = 4096, pattern = r"\S", example = "At eight")]
    text: String,
    /// People who are notified even when they have muted the chat.
    #[schema(max_items = 1024, nullable = false)]
    mentions: Option<Vec<ParticipantField>>,
}

impl FromFields for NewReply {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            chat_id: chat_id(fields).unwrap_or_default(),
            quoted_message_id: fields.text("quotedMessageId", MESSAGE_ID_CHARS),
            text: fields.text("text", MESSAGE_CHARS),
            mentions: mentions(fields),
        }
    }
}

fn mentions(fields: &mut Fields<'_>) -> Option<Vec<ParticipantField>> {
    fields.has("mentions").then(|| fields.distinct("mentions", 0..=MENTIONS_MAX, ApiError::Participants))
}

/// A message to be sent on to another chat, or to the same.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewForward {
    /// The chat that the message is in.
    #[schema(inline)]
    from_chat_id: ChatField,
    /// The chat that it goes to.
    #[schema(inline)]
    to_chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: String,
}

impl FromFields for NewForward {
    fn read(fields: &mut Fields<'_>) -> Self {
        let mut chat = |name| fields.parsed(name, WRITTEN_ID_CHARS, ApiError::Chats).unwrap_or_default();
        let (from_chat_id, to_chat_id) = (chat("fromChatId"), chat("toChatId"));
        Self { from_chat_id, to_chat_id, message_id: fields.text("messageId", MESSAGE_ID_CHARS) }
    }
}

/// A reaction to a message.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewReaction {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: String,
    /// One emoji; `""` takes the reaction back.
    #[schema(example = "👍")]
    emoji: String,
}

impl FromFields for NewReaction {
    fn read(fields: &mut Fields<'_>) -> Self {
        let (chat_id, message_id) = (chat_id(fields).unwrap_or_default(), fields.text("messageId", MESSAGE_ID_CHARS));
        let emoji = fields.optional_text("emoji");
        if !emoji.as_ref().is_some_and(|emoji| emoji.is_empty() || emojis::get(emoji).is_some()) {
            fields.broken("emoji", r#"must be one emoji, or "" to take the reaction back"#);
        }
        Self { chat_id, message_id, emoji: emoji.unwrap_or_default() }
    }
}

/// Another text for a message of the account's own.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewEdit {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: String,
    #[schema(min_length = 1, max_length = 4096, pattern = r"\S", example = "At nine")]
    body: String,
    /// The people whom it mentions now.
    #[schema(max_items = 1024, nullable = false)]
    mentions: Option<Vec<ParticipantField>>,
}

impl FromFields for NewEdit {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            chat_id: chat_id(fields).unwrap_or_default(),
            message_id: fields.text("messageId", MESSAGE_ID_CHARS),
            body: fields.text("body", MESSAGE_CHARS),
            mentions: mentions(fields),
        }
    }
}

/// A message to be deleted.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewDeletion {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: String,
    /// For everybody, as by default, or for the account's own devices alone.
    #[schema(nullable = false)]
    for_everyone: Option<bool>,
}

impl FromFields for NewDeletion {
    fn read(fields: &mut Fields<'_>) -> Self {
        let for_everyone = fields.optional_flag("forEveryone");
        Self {
            chat_id: chat_id(fields).unwrap_or_default(),
            message_id: fields.text("messageId", MESSAGE_ID_CHARS),
            for_everyone,
        }
    }
}

/// A change that WhatsApp has taken.
#[derive(Serialize, ToSchema)]
pub(crate) struct Changed {
    #[schema(example = true)]
    success: bool,
    /// For the audit log.
    #[serde(skip)]
    happened: Happened,
}

impl Tells for Changed {
    fn happened(&self) -> Happened {
        self.happened.clone()
    }
}

/// Answer a message
///
/// Sends a text that quotes an earlier message of the same chat. As with each message, the response comes when WhatsApp has it.
#[utoipa::path(
    post,
    path = "",
    request_body = NewReply,
    responses(
        (status = 201, description = "WhatsApp has the message", body = Sent),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn reply(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewReply>,
) -> Result<Created<Sent>, ApiError> {
    let quoted = quote(&app, session, &caller, &body.chat_id, body.quoted_message_id).await?;
    let written = Written {
        quoted: Some(quoted),
        mentions: mentioned(body.mentions),
        ..OutgoingContent::Text { text: body.text, preview: None }.into()
    };
    send(&app, session, &caller, seed, body.chat_id, written).await.map(Created)
}

/// Forward a message
///
/// Sends an earlier message on, to the same or another chat. Files are not uploaded again.
#[utoipa::path(
    post,
    path = "",
    request_body = NewForward,
    responses(
        (status = 201, description = "WhatsApp has the message", body = Sent),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn forward(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewForward>,
) -> Result<Created<Sent>, ApiError> {
    let stored = stored(&app, session, &caller, &body.from_chat_id, body.message_id).await?;
    let content = OutgoingContent::Forward(content_of(stored)?.1);
    send(&app, session, &caller, seed, body.to_chat_id, content.into()).await.map(Created)
}

/// React to a message
#[utoipa::path(
    post,
    path = "",
    request_body = NewReaction,
    responses(
        (status = 200, description = "WhatsApp has the reaction", body = Changed),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn react(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewReaction>,
) -> Result<Told<Changed>, ApiError> {
    let stored = stored(&app, session, &caller, &body.chat_id, body.message_id).await?;
    let content = OutgoingContent::Reaction { to: stored.message, emoji: body.emoji };
    changed(&app, session, &caller, seed, body.chat_id, content.into()).await
}

/// Edit a message
///
/// Gives a text of the account's own another text, within 15 minutes.
#[utoipa::path(
    post,
    path = "",
    request_body = NewEdit,
    responses(
        (status = 200, description = "WhatsApp has the edit", body = Sent),
        (status = 403, description = "Somebody else wrote the message (`not_own_message`)"),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn edit(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewEdit>,
) -> Result<Told<Sent>, ApiError> {
    let stored = stored(&app, session, &caller, &body.chat_id, body.message_id).await?;
    let id = stored.message.id.clone();
    if !stored.message.is_from_me {
        return Err(MessageError::NotOwn.into());
    }
    if stored.kind != "text" {
        return Err(MessageError::NotText.into());
    }
    check_age(&stored, EDIT_TIME_MAX)?;
    let content = OutgoingContent::Edit { of: stored.message, text: body.body };
    let written = Written { mentions: mentioned(body.mentions), ..content.into() };
    let mut sent = send(&app, session, &caller, seed, body.chat_id, written).await?;
    // The message keeps its id.
    sent.message_id = id;
    Ok(Told(sent))
}

/// Delete a message
///
/// Deletes a message for everybody: one of the account's own, or, in a group that it is an admin of, one of somebody else, within 60 hours.
/// With `"forEveryone": false` it is deleted on the account's own devices, whoever wrote it and however old it is; what Rookery keeps of it stays.
#[utoipa::path(
    post,
    path = "",
    request_body = NewDeletion,
    responses(
        (status = 200, description = "WhatsApp has the deletion", body = Changed),
        (status = 403, description = "Somebody else wrote the message, and this is no group (`not_own_message`)"),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewDeletion>,
) -> Result<Told<Changed>, ApiError> {
    let stored = stored(&app, session, &caller, &body.chat_id, body.message_id).await?;
    if body.for_everyone == Some(false) {
        return marked(&app, session, body.chat_id, stored, MessageMark::Deleted).await;
    }
    if !stored.message.is_from_me && body.chat_id.is_person() {
        return Err(MessageError::NotOwn.into());
    }
    check_age(&stored, DELETE_TIME_MAX)?;
    let content = OutgoingContent::Revocation(stored.message);
    changed(&app, session, &caller, seed, body.chat_id, content.into()).await
}

pub(super) async fn changed(
    app: &App,
    session: SessionId,
    caller: &Caller,
    seed: MessageSeed,
    chat: ChatField,
    written: Written,
) -> Result<Told<Changed>, ApiError> {
    let sent = send(app, session, caller, seed, chat, written).await?;
    Ok(Told(Changed { success: true, happened: sent.happened() }))
}

/// Marks a message for the account alone.
pub(super) async fn marked(
    app: &App,
    session: SessionId,
    chat: ChatField,
    stored: StoredMessage,
    mark: MessageMark,
) -> Result<Told<Changed>, ApiError> {
    let groups = if let Recipient::Group(group) = &chat.0 { vec![group.to_string()] } else { Vec::new() };
    let happened = Happened { groups, ..Happened::to(&stored.message.id) };
    let command = MarkMessage { chat: chat.0, message: stored.message, at: stored.at, mark };
    app.gateway.execute(session, command).await.map_err(|error| not_sent(session, error))?;
    Ok(Told(Changed { success: true, happened }))
}

/// The message that a new one quotes.
async fn quote(
    app: &App,
    session: SessionId,
    caller: &Caller,
    chat: &ChatField,
    id: String,
) -> Result<Quote, ApiError> {
    let (message, content) = content_of(stored(app, session, caller, chat, id).await?)?;
    Ok(Quote { message, content })
}

/// As [`quote`], where the new message quotes one.
pub(super) async fn quote_if(
    app: &App,
    session: SessionId,
    caller: &Caller,
    chat: &ChatField,
    id: Option<String>,
) -> Result<Option<Quote>, ApiError> {
    match id {
        Some(id) => quote(app, session, caller, chat, id).await.map(Some),
        None => Ok(None),
    }
}

/// An earlier message of a chat that the caller may read.
pub(super) async fn stored(
    app: &App,
    session: SessionId,
    caller: &Caller,
    chat: &ChatField,
    id: String,
) -> Result<StoredMessage, ApiError> {
    let chat = match &chat.0 {
        Recipient::Group(group) => ChatId::Group(group.clone()),
        Recipient::Person(person) => ChatId::Person(person.id()),
    };
    may_read(caller, &chat)?;
    // What is wrong with the session comes before what is wrong with the message.
    app.gateway.execute(session, CheckReady).await.map_err(|error| not_sent(session, error))?;
    let events = app.gateway.events(session).await?;
    let found = events.stored_message(chat.to_string(), id.clone()).await?;
    let found = found.ok_or_else(|| MessageError::Unknown(shorten(&id)))?;
    if found.kind == "revoked" { Err(MessageError::Deleted.into()) } else { Ok(found) }
}

pub(super) fn content_of(stored: StoredMessage) -> Result<(EarlierMessage, EarlierContent), ApiError> {
    let content = stored.content.ok_or(MessageError::NotKept)?;
    Ok((stored.message, content))
}

fn check_age(stored: &StoredMessage, most: Duration) -> Result<(), MessageError> {
    let age = Timestamp::now().0.saturating_sub(stored.at.0);
    let is_too_old = u64::try_from(age).is_ok_and(|age| Duration::from_millis(age) > most);
    if is_too_old { Err(MessageError::TooOld { minutes_max: most.as_secs() / 60 }) } else { Ok(()) }
}
