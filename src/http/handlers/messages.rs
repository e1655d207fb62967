//! Sending messages to people and groups.

use std::sync::Arc;

use axum::extract::State;
use rookery_actors::CommandError;
use rookery_actors::commands::{Recipient, Requested, SendMessage, SentMessage};
use rookery_model::{LinkPreview, MessageSeed, OutgoingContent, ParticipantId, Quote, SessionId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::message_changes::quote_if;
use crate::app::App;
use crate::http::error::{AccessError, ApiError};
use crate::http::limits::{
    CONTACT_NAME_CHARS, LINK_CHARS, LINK_TEXT_CHARS_MAX, MENTIONS_MAX, MESSAGE_CHARS, MESSAGE_ID_CHARS,
    PLACE_CHARS_MAX, POLL_CHARS, POLL_OPTION_CHARS, POLL_OPTIONS, WRITTEN_ID_CHARS,
};
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::seed::Seed;
use crate::http::request::written::{ChatField, NumberField, ParticipantField, requested};
use crate::http::response::happened::{Happened, Tells};
use crate::http::response::json::Created;

/// A text to be sent.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewText {
    #[schema(inline)]
    chat_id: ChatField,
    /// The text. `@` and the number of somebody in `mentions` is shown as that person's name.
    #[schema(min_length = 1, max_length = 4096, pattern = r"\S", example = "Hello @15550100002!")]
    text: String,
    /// People who are notified even when they have muted the chat.
    #[schema(max_items = 1024, nullable = false)]
    mentions: Option<Vec<ParticipantField>>,
    /// Everybody in the group is mentioned.
    #[schema(nullable = false)]
    mention_all: Option<bool>,
    /// Whether `customLinkPreview` is shown; true by default. Rookery fetches no pages.
    #[schema(nullable = false)]
    link_preview: Option<bool>,
    #[schema(nullable = false)]
    custom_link_preview: Option<NewLinkPreview>,
    /// The id of a message of the same chat that it quotes.
    #[schema(min_length = 1, max_length = 128, nullable = false, example = "3EB0D1C5A7F2E4B6908A13")]
    quoted_message_id: Option<String>,
}

/// What is shown of a link in the text.
#[derive(Debug, PartialEq, ToSchema)]
#[schema(as = LinkPreview)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLinkPreview {
    /// The link, as it stands in the text.
    #[schema(min_length = 1, max_length = 2048, example = "https://example.org/")]
    url: String,
    #[schema(min_length = 1, max_length = 2048, example = "Example")]
    title: String,
    #[schema(max_length = 2048, nullable = false)]
    description: Option<String>,
}

impl FromFields for NewLinkPreview {
    fn read(fields: &mut Fields<'_>) -> Self {
        let url = fields.text("url", LINK_CHARS);
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            fields.broken("url", "must begin with http:// or https://");
        }
        Self {
            url,
            title: fields.text("title", LINK_CHARS),
            description: fields.optional_text_up_to("description", LINK_TEXT_CHARS_MAX),
        }
    }
}

impl FromFields for NewText {
    fn read(fields: &mut Fields<'_>) -> Self {
        let chat_id = chat_id(fields);
        let mention_all = fields.optional_flag("mentionAll");
        if mention_all == Some(true) && chat_id.as_ref().is_some_and(ChatField::is_person) {
            fields.broken("mentionAll", "can only be used in a group");
        }
        let mentions =
            fields.has("mentions").then(|| fields.distinct("mentions", 0..=MENTIONS_MAX, ApiError::Participants));
        let text = fields.text("text", MESSAGE_CHARS);
        let custom_link_preview = fields.optional_object::<NewLinkPreview>("customLinkPreview");
        if custom_link_preview.as_ref().is_some_and(|preview| !text.contains(&preview.url)) {
            fields.broken("customLinkPreview.url", "must stand in the text: people see no other link");
        }
        Self {
            chat_id: chat_id.unwrap_or_default(),
            text,
            mentions,
            mention_all,
            link_preview: fields.optional_flag("linkPreview"),
            custom_link_preview,
            quoted_message_id: quoted_message_id(fields),
        }
    }
}

/// A place to be sent.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewLocation {
    #[schema(inline)]
    chat_id: ChatField,
    /// Degrees north.
    #[schema(minimum = -90, maximum = 90, example = 52.5163)]
    latitude: f64,
    /// Degrees east.
    #[schema(minimum = -180, maximum = 180, example = 13.3777)]
    longitude: f64,
    /// The name of the place.
    #[schema(max_length = 256, nullable = false)]
    description: Option<String>,
    #[schema(max_length = 256, nullable = false)]
    address: Option<String>,
    /// The id of an earlier message of the chat that this one quotes.
    #[schema(min_length = 1, max_length = 128, nullable = false)]
    quoted_message_id: Option<String>,
}

impl FromFields for NewLocation {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            chat_id: chat_id(fields).unwrap_or_default(),
            latitude: fields.decimal("latitude", -90.0..=90.0),
            longitude: fields.decimal("longitude", -180.0..=180.0),
            description: fields.optional_text_up_to("description", PLACE_CHARS_MAX),
            address: fields.optional_text_up_to("address", PLACE_CHARS_MAX),
            quoted_message_id: quoted_message_id(fields),
        }
    }
}

/// Somebody's name and number to be sent.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewContact {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "Bob")]
    contact_name: String,
    #[schema(inline)]
    contact_number: NumberField,
    /// The id of an earlier message of the chat that this one quotes.
    #[schema(min_length = 1, max_length = 128, nullable = false)]
    quoted_message_id: Option<String>,
}

impl FromFields for NewContact {
    fn read(fields: &mut Fields<'_>) -> Self {
        let nobody = NumberField(std::num::NonZeroU64::MIN);
        Self {
            chat_id: chat_id(fields).unwrap_or_default(),
            contact_name: fields.plain_text("contactName", CONTACT_NAME_CHARS),
            contact_number: fields.parsed("contactNumber", WRITTEN_ID_CHARS, ApiError::Numbers).unwrap_or(nobody),
            quoted_message_id: quoted_message_id(fields),
        }
    }
}

/// A poll to be sent.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewPoll {
    #[schema(inline)]
    chat_id: ChatField,
    /// The question.
    #[schema(min_length = 1, max_length = 255, pattern = r"\S", example = "When do we meet?")]
    name: String,
    /// What can be chosen; all different.
    #[schema(min_items = 2, max_items = 12, example = json!(["Monday", "Tuesday"]))]
    options: Vec<String>,
    /// Whether more than one option may be chosen; false by default.
    #[schema(nullable = false)]
    allow_multiple_answers: Option<bool>,
    /// The id of an earlier message of the chat that this one quotes.
    #[schema(min_length = 1, max_length = 128, nullable = false)]
    quoted_message_id: Option<String>,
}

impl FromFields for NewPoll {
    fn read(fields: &mut Fields<'_>) -> Self {
        let chat_id = chat_id(fields).unwrap_or_default();
        let name = fields.text("name", POLL_CHARS);
        let options = fields.texts("options", POLL_OPTIONS);
        if options.len() == 1 {
            fields.broken("options", "must contain at least 2 elements");
        }
        if options.iter().enumerate().any(|(index, option)| options[..index].contains(option)) {
            fields.broken("options", "must all be different: people could not tell equal ones apart");
        }
        if options.iter().any(|option| option.trim().is_empty() || option.chars().count() > POLL_OPTION_CHARS) {
            fields.message(format!("each value in options must have 1 to {POLL_OPTION_CHARS} characters"));
        }
        Self {
            chat_id,
            name,
            options,
            allow_multiple_answers: fields.optional_flag("allowMultipleAnswers"),
            quoted_message_id: quoted_message_id(fields),
        }
    }
}

/// The chat that a message goes to; `None` when the field is broken.
pub(super) fn chat_id(fields: &mut Fields<'_>) -> Option<ChatField> {
    fields.parsed("chatId", WRITTEN_ID_CHARS, ApiError::Chats)
}

/// The id of the message that another one quotes; `None`: it quotes none, or the field is broken.
pub(super) fn quoted_message_id(fields: &mut Fields<'_>) -> Option<String> {
    fields.has("quotedMessageId").then(|| fields.text("quotedMessageId", MESSAGE_ID_CHARS))
}

/// A message that WhatsApp has taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sent {
    /// Its id.
    #[schema(example = "3EB0D1C5A7F2E4B6908A13")]
    pub(crate) message_id: String,
    /// When WhatsApp took it, in seconds since 1970.
    #[schema(example = 1_764_518_400)]
    timestamp: i64,
    /// For the scopes of keys.
    #[serde(skip)]
    chat: Option<String>,
}

impl Sent {
    /// When WhatsApp took it.
    pub(crate) fn at(&self) -> Timestamp {
        Timestamp(self.timestamp.saturating_mul(1_000))
    }
}

impl Tells for Sent {
    fn happened(&self) -> Happened {
        Happened { groups: self.chat.clone().into_iter().collect(), ..Happened::to(&self.message_id) }
    }
}

/// Send a text
///
/// The response comes when WhatsApp has the message. Without a word of WhatsApp it is `503 outcome_unknown`: the same request with the
/// same `Idempotency-Key` sends the same message again, which people see once.
#[utoipa::path(
    post,
    path = "",
    request_body = NewText,
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_text(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewText>,
) -> Result<Created<Sent>, ApiError> {
    let NewText { chat_id, text, mentions, mention_all, link_preview, custom_link_preview, quoted_message_id } = body;
    let preview = custom_link_preview.filter(|_| link_preview != Some(false));
    let preview = preview.map(|NewLinkPreview { url, title, description }| LinkPreview { url, title, description });
    let content = OutgoingContent::Text { text, preview };
    let quoted = quote_if(&app, session, &caller, &chat_id, quoted_message_id).await?;
    let (mentions, mentions_all) = (mentioned(mentions), mention_all.unwrap_or(false));
    let written = Written { content, quoted, mentions, mentions_all };
    send(&app, session, &caller, seed, chat_id, written).await.map(Created)
}

/// Send a place
#[utoipa::path(
    post,
    path = "",
    request_body = NewLocation,
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_location(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewLocation>,
) -> Result<Created<Sent>, ApiError> {
    let NewLocation { chat_id, latitude, longitude, description, address, quoted_message_id } = body;
    let content = OutgoingContent::Location { latitude, longitude, name: description, address };
    let quoted = quote_if(&app, session, &caller, &chat_id, quoted_message_id).await?;
    send(&app, session, &caller, seed, chat_id, Written { quoted, ..content.into() }).await.map(Created)
}

/// Send a contact
#[utoipa::path(
    post,
    path = "",
    request_body = NewContact,
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_contact(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewContact>,
) -> Result<Created<Sent>, ApiError> {
    let NewContact { chat_id, contact_name, contact_number, quoted_message_id } = body;
    let content = OutgoingContent::Contact { name: contact_name, number: contact_number.0.get() };
    let quoted = quote_if(&app, session, &caller, &chat_id, quoted_message_id).await?;
    send(&app, session, &caller, seed, chat_id, Written { quoted, ..content.into() }).await.map(Created)
}

/// Send a poll
#[utoipa::path(
    post,
    path = "",
    request_body = NewPoll,
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_poll(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewPoll>,
) -> Result<Created<Sent>, ApiError> {
    let NewPoll { chat_id, name, options, allow_multiple_answers, quoted_message_id } = body;
    let content = OutgoingContent::Poll { name, options, allows_many: allow_multiple_answers.unwrap_or(false) };
    let quoted = quote_if(&app, session, &caller, &chat_id, quoted_message_id).await?;
    send(&app, session, &caller, seed, chat_id, Written { quoted, ..content.into() }).await.map(Created)
}

/// A message without its chat.
pub(crate) struct Written {
    pub(crate) content: OutgoingContent,
    pub(crate) quoted: Option<Quote>,
    pub(crate) mentions: Vec<ParticipantId>,
    pub(crate) mentions_all: bool,
}

impl From<OutgoingContent> for Written {
    fn from(content: OutgoingContent) -> Self {
        Self { content, quoted: None, mentions: Vec::new(), mentions_all: false }
    }
}

/// The people whom a message mentions.
pub(crate) fn mentioned(mentions: Option<Vec<ParticipantField>>) -> Vec<ParticipantId> {
    requested(mentions.unwrap_or_default()).iter().map(Requested::id).collect()
}

/// Sends a message to a chat that the caller may write to.
pub(crate) async fn send(
    app: &App,
    session: SessionId,
    caller: &Caller,
    seed: MessageSeed,
    chat: ChatField,
    written: Written,
) -> Result<Sent, ApiError> {
    may_write(caller, &chat)?;
    let ChatField(chat) = chat;
    let group = if let Recipient::Group(group) = &chat { Some(group.to_string()) } else { None };
    let Written { content, quoted, mentions, mentions_all } = written;
    let message = SendMessage { seed, chat, quoted, content, mentions, mentions_all };
    let sent = app.gateway.execute(session, message).await;
    let SentMessage { id, at } = sent.map_err(|error| not_sent(session, error))?;
    Ok(Sent { message_id: id.as_str().to_owned(), timestamp: at.0.div_euclid(1_000), chat: group })
}

/// Whether the caller's key may write to a chat.
pub(super) fn may_write(caller: &Caller, ChatField(chat): &ChatField) -> Result<(), AccessError> {
    match chat {
        Recipient::Group(group) => caller.may_touch(std::slice::from_ref(group)),
        Recipient::Person(_) if caller.key.is_limited_to_groups() => Err(AccessError::GroupScopedKey),
        Recipient::Person(_) => Ok(()),
    }
}

/// Why nothing was sent. A session that is not started has a text of OpenWA's here.
pub(super) fn not_sent(session: SessionId, error: CommandError) -> ApiError {
    match error {
        CommandError::NotStarted => ApiError::SessionInactive(session),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    fn refusal<T: FromFields>(body: Value) -> Vec<String> {
        let Value::Object(map) = body else { panic!("an object") };
        match Fields::parse::<T>(map, Known::default()) {
            Ok(_) => Vec::new(),
            Err(ApiError::Body(messages)) => messages,
            Err(other) => vec![other.to_string()],
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_the_name_of_its_field() {
        let group = "120363021234567890@g.us";
        let cases = [
            (refusal::<NewText>(json!({ "chatId": group, "text": "hi", "mentionAll": true })), ""),
            (
                refusal::<NewText>(json!({ "chatId": "15550100002", "text": "hi", "mentionAll": true })),
                "mentionAll can only",
            ),
            (
                refusal::<NewText>(json!({ "chatId": "status@broadcast", "text": "hi" })),
                "status@broadcast is not a chat id",
            ),
            (refusal::<NewText>(json!({ "text": "hi" })), "chatId must be"),
            (refusal::<NewText>(json!({ "chatId": group, "text": " " })), "text should not be empty"),
            (refusal::<NewText>(json!({ "chatId": group, "text": "a".repeat(4097) })), "text must be shorter"),
            (
                refusal::<NewText>(json!({ "chatId": group, "text": "a", "mentions": ["bob"] })),
                "bob is not a participant",
            ),
            (
                refusal::<NewText>(json!({ "chatId": group, "text": "a", "customLinkPreview": { "url": "x" } })),
                "customLinkPreview.title must be",
            ),
            (
                refusal::<NewText>(
                    json!({ "chatId": group, "text": "a", "customLinkPreview": { "url": "x", "title": "X" } }),
                ),
                "customLinkPreview.url must begin",
            ),
            (
                refusal::<NewText>(
                    json!({ "chatId": group, "text": "a", "customLinkPreview": { "url": "https://b.example", "title": "X" } }),
                ),
                "customLinkPreview.url must stand",
            ),
            (
                refusal::<NewLocation>(json!({ "chatId": group, "latitude": 91, "longitude": 0 })),
                "latitude must not be greater",
            ),
            (refusal::<NewLocation>(json!({ "chatId": group, "latitude": "52.5", "longitude": -180.0 })), ""),
            (
                refusal::<NewLocation>(json!({ "chatId": group, "latitude": "north", "longitude": 0 })),
                "latitude must be a number",
            ),
            (
                refusal::<NewContact>(json!({ "chatId": group, "contactName": "B", "contactNumber": "x" })),
                "x is not a phone number",
            ),
            (
                refusal::<NewPoll>(json!({ "chatId": group, "name": "?", "options": ["a"] })),
                "options must contain at least 2",
            ),
            (
                refusal::<NewPoll>(json!({ "chatId": group, "name": "?", "options": ["a", "a"] })),
                "options must all be different",
            ),
            (
                refusal::<NewPoll>(json!({ "chatId": group, "name": "?", "options": ["a", ""] })),
                "each value in options",
            ),
        ];
        for (messages, expected) in cases {
            match expected {
                "" => assert_eq!(messages, Vec::<String>::new()),
                _ => assert!(messages.iter().any(|message| message.starts_with(expected)), "{expected}: {messages:?}"),
            }
        }
    }
}
