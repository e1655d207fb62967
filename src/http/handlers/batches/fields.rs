//! The body of a batch: its messages, each checked as a single one would be, and how they are sent.

use std::collections::BTreeMap;

use base64::Engine as _;
use rookery_model::FileKind;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::handlers::messages::chat_id;
use crate::http::limits::{BATCH_DELAY_MS, BATCH_ID_CHARS, BATCH_MESSAGES, MENTIONS_MAX, MESSAGE_CHARS, VARIABLES_MAX};
use crate::http::request::fields::{Fields, FromFields, Known};
use crate::http::request::written::{ChatField, ParticipantField};
use crate::picture::BASE64;
use crate::url_fetch::read_url;

/// Messages to be sent one after the other.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewBatch {
    /// Each with its chat, its type and the content of this type.
    #[schema(min_items = 1, max_items = 500)]
    pub(super) messages: Vec<BatchMessage>,
    /// A name of the caller's own for the batch; without it one is made up.
    #[schema(min_length = 1, max_length = 64, nullable = false, example = "batch-2026-01")]
    pub(super) batch_id: Option<String>,
    #[schema(nullable = false, inline)]
    pub(super) options: Option<NewBatchOptions>,
    /// The messages as they were written.
    #[schema(ignore)]
    #[serde(skip)]
    pub(super) written: Vec<Map<String, Value>>,
}

/// How a batch is sent.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewBatchOptions {
    /// The pause between two messages; 3,000 by default.
    #[schema(minimum = 1_000, maximum = 60_000, nullable = false)]
    pub(super) delay_between_messages: Option<u32>,
    /// Make each pause up to two seconds longer, by chance; true by default.
    #[schema(nullable = false)]
    pub(super) randomize_delay: Option<bool>,
    /// Stop at the first message that cannot be sent; false by default.
    #[schema(nullable = false)]
    pub(super) stop_on_error: Option<bool>,
}

/// One message of a batch.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BatchMessage {
    #[schema(inline)]
    pub(crate) chat_id: ChatField,
    #[serde(rename = "type")]
    #[schema(inline)]
    pub(crate) kind: BatchMessageType,
    #[schema(inline)]
    pub(crate) content: BatchContent,
    /// `{name}` in the text, the caption, the URL and the file's name is replaced by the variable of this name.
    #[schema(nullable = false, example = json!({ "name": "Bob" }))]
    variables: Option<BTreeMap<String, String>>,
}

/// What a message of a batch is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum BatchMessageType {
    /// A text.
    Text,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A sound.
    Audio,
    /// Any file.
    Document,
}

impl BatchMessageType {
    const WORDS: [(&str, Self); 5] = [
        ("text", Self::Text),
        ("image", Self::Image),
        ("video", Self::Video),
        ("audio", Self::Audio),
        ("document", Self::Document),
    ];

    /// `None`: it is a text.
    pub(crate) fn file_kind(self) -> Option<FileKind> {
        match self {
            Self::Text => None,
            Self::Image => Some(FileKind::Image),
            Self::Video => Some(FileKind::Video),
            Self::Audio => Some(FileKind::Audio),
            Self::Document => Some(FileKind::Document),
        }
    }
}

/// The content of a message: `text`, or the file under the name of its type.
#[derive(Debug, Default, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BatchContent {
    #[schema(min_length = 1, max_length = 4096, nullable = false, example = "Hello {name}")]
    pub(crate) text: Option<String>,
    #[schema(nullable = false)]
    image: Option<BatchFile>,
    #[schema(nullable = false)]
    video: Option<BatchFile>,
    #[schema(nullable = false)]
    audio: Option<BatchFile>,
    #[schema(nullable = false)]
    document: Option<BatchFile>,
    /// The text below a picture, a film or a document.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) caption: Option<String>,
    /// People who are notified even when they have muted the chat.
    #[schema(max_items = 1024, nullable = false)]
    pub(crate) mentions: Option<Vec<ParticipantField>>,
}

/// A file of a batch: `url` or `base64`, as with single messages. The whole body has 1 MiB at most.
#[derive(Debug, Default, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BatchFile {
    #[schema(nullable = false)]
    pub(crate) url: Option<String>,
    #[schema(nullable = false)]
    pub(crate) base64: Option<String>,
    #[schema(max_length = 255, nullable = false)]
    pub(crate) mimetype: Option<String>,
    #[schema(max_length = 255, nullable = false)]
    pub(crate) filename: Option<String>,
    #[schema(nullable = false)]
    pub(crate) ptt: Option<bool>,
}

impl FromFields for BatchFile {
    fn read(fields: &mut Fields<'_>) -> Self {
        let mut given = |name| fields.optional_text(name).filter(|text| !text.trim().is_empty());
        let (url, base64, mimetype, filename) = (given("url"), given("base64"), given("mimetype"), given("filename"));
        let ptt = fields.optional_flag("ptt");
        if url.is_none() && base64.is_none() {
            fields.message("url or base64 is required".into());
        }
        let plain = base64.as_deref().map(|data| data.split_once(";base64,").map_or(data, |(_, data)| data));
        if plain.is_some_and(|data| BASE64.decode(data.split_ascii_whitespace().collect::<String>()).is_err()) {
            fields.broken("base64", "must be standard base64 or a data: URL of it");
        }
        Self { url, base64, mimetype, filename, ptt }
    }
}

impl FromFields for BatchContent {
    fn read(fields: &mut Fields<'_>) -> Self {
        let text = fields.has("text").then(|| fields.text("text", MESSAGE_CHARS));
        let [image, video, audio, document] =
            ["image", "video", "audio", "document"].map(|name| fields.optional_object::<BatchFile>(name));
        let caption = fields.optional_text_up_to("caption", *MESSAGE_CHARS.end()).filter(|text| !text.is_empty());
        let has_mentions = fields.has("mentions");
        let mentions = has_mentions.then(|| fields.distinct("mentions", 0..=MENTIONS_MAX, ApiError::Participants));
        Self { text, image, video, audio, document, caption, mentions }
    }
}

impl FromFields for BatchMessage {
    fn read(fields: &mut Fields<'_>) -> Self {
        let chat_id = chat_id(fields).unwrap_or_default();
        let has_type = fields.has("type");
        let kind = fields.optional_word("type", &BatchMessageType::WORDS);
        if !has_type {
            fields.broken("type", "must be one of the following values: text, image, video, audio, document");
        }
        let kind = kind.unwrap_or(BatchMessageType::Text);
        let content = fields.take_object("content");
        let content = fields.inner("content", content, BatchContent::read);
        let variables = fields.take("variables").filter(|variables| !variables.is_null());
        let read: Option<BTreeMap<String, String>> =
            variables.as_ref().and_then(|variables| serde_json::from_value(variables.clone()).ok());
        if variables.is_some() && read.as_ref().is_none_or(|read| read.len() > VARIABLES_MAX) {
            fields.broken("variables", &format!("must be an object of up to {VARIABLES_MAX} texts"));
        }
        let had_text = content.text.as_ref().is_some_and(|text| !text.trim().is_empty());
        let message = Self { chat_id, kind, content, variables: read }.with_variables();
        let is_there = match kind {
            BatchMessageType::Text => message.content.text.is_some(),
            _ => message.file().is_some(),
        };
        let name = BatchMessageType::WORDS.iter().find(|(_, of)| *of == kind).map_or("text", |(word, _)| word);
        if !is_there {
            fields.broken(&format!("content.{name}"), &format!("is required with the type {name}"));
        }
        if had_text && message.content.text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            fields.broken("content.text", "should not be empty with its variables");
        }
        let url = message.file().and_then(|file| file.url.as_deref());
        if let Some(Err(error)) = url.map(read_url) {
            fields.message(format!("content.{name}.url {error}"));
        }
        let longest =
            message.content.text.iter().chain(&message.content.caption).map(|text| text.chars().count()).max();
        if longest.is_some_and(|longest| longest > *MESSAGE_CHARS.end()) {
            fields.broken(
                "content",
                &format!("must be shorter than or equal to {} characters with its variables", MESSAGE_CHARS.end()),
            );
        }
        if message.content.caption.is_some() && kind == BatchMessageType::Audio {
            fields.broken("content.caption", "is not shown with sounds: send a text beside it");
        }
        message
    }
}

impl BatchMessage {
    /// A message as it was kept.
    ///
    /// # Errors
    /// As for its caller.
    pub(crate) fn of(message: Map<String, Value>) -> Result<Self, ApiError> {
        Fields::parse(message, Known::default())
    }

    /// The file of its type.
    pub(crate) fn file(&self) -> Option<&BatchFile> {
        let BatchContent { image, video, audio, document, .. } = &self.content;
        match self.kind {
            BatchMessageType::Text => None,
            BatchMessageType::Image => image.as_ref(),
            BatchMessageType::Video => video.as_ref(),
            BatchMessageType::Audio => audio.as_ref(),
            BatchMessageType::Document => document.as_ref(),
        }
    }

    /// With its variables in their places.
    fn with_variables(mut self) -> Self {
        let Some(variables) = &self.variables else { return self };
        let BatchContent { text, image, video, audio, document, caption, .. } = &mut self.content;
        let files = [image, video, audio, document].into_iter().flatten();
        let texts = files.flat_map(|file| [&mut file.url, &mut file.filename]).chain([text, caption]);
        texts.flatten().for_each(|text| *text = with_variables(text, variables));
        self
    }
}

/// The text with the value of each variable in the place of its name in braces. Other braces stay.
fn with_variables(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        shown.push_str(before);
        let value = from.find('}').and_then(|end| Some((variables.get(&from[1..end])?, end)));
        match value {
            Some((value, end)) => {
                shown.push_str(value);
                rest = &from[end + 1..];
            }
            None => {
                shown.push('{');
                rest = &from[1..];
            }
        }
    }
    shown.push_str(rest);
    shown
}

impl FromFields for NewBatchOptions {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            delay_between_messages: fields.nullable_number("delayBetweenMessages", BATCH_DELAY_MS).flatten(),
            randomize_delay: fields.optional_flag("randomizeDelay"),
            stop_on_error: fields.optional_flag("stopOnError"),
        }
    }
}

impl FromFields for NewBatch {
    fn read(fields: &mut Fields<'_>) -> Self {
        let batch_id = fields.has("batchId").then(|| fields.plain_text("batchId", BATCH_ID_CHARS));
        let options = fields.optional_object("options");
        let values = match fields.take("messages") {
            Some(Value::Array(values)) => Some(values),
            _ => None,
        };
        let most = *BATCH_MESSAGES.end();
        match values.as_ref().map(Vec::len) {
            None => fields.broken("messages", "must be an array"),
            Some(0) => fields.broken("messages", "should not be empty"),
            Some(count) if count > most => {
                fields.broken("messages", &format!("must contain no more than {most} elements"));
            }
            Some(_) => {}
        }
        let mut written = Vec::new();
        for value in values.unwrap_or_default().into_iter().take(most) {
            match value {
                Value::Object(message) => written.push(message),
                _ => fields.message("each value in messages must be an object".into()),
            }
        }
        let counted = written.iter().enumerate();
        let messages = counted
            .map(|(place, message)| fields.inner(&format!("messages.{place}"), message.clone(), BatchMessage::read))
            .collect();
        Self { messages, batch_id, options, written }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(message: Value) -> Vec<String> {
        let body = json!({ "messages": [message] });
        match Fields::parse::<NewBatch>(body.as_object().cloned().unwrap(), Known::default()) {
            Ok(_) => Vec::new(),
            Err(ApiError::Body(messages)) => messages,
            Err(other) => vec![other.to_string()],
        }
    }

    #[test]
    fn a_message_that_cannot_be_sent_is_refused_by_its_place_and_the_name_of_its_field() {
        let text = |content: Value| json!({ "chatId": "15550100002", "type": "text", "content": content });
        let file = |content: Value| json!({ "chatId": "15550100002", "type": "image", "content": content });
        let cases = [
            (text(json!({ "text": "hi" })), ""),
            (text(json!({ "text": "" })), "messages.0.content.text should not be empty"),
            (text(json!({ "caption": "hi" })), "messages.0.content.text is required with the type text"),
            (file(json!({ "text": "hi" })), "messages.0.content.image is required"),
            (file(json!({ "image": {} })), "messages.0.content.image.url or base64 is required"),
            (file(json!({ "image": { "base64": "!" } })), "messages.0.content.image.base64 must be"),
            (file(json!({ "image": { "url": "https://a.test/b" }, "caption": "c" })), ""),
            (json!({ "chatId": "x", "type": "text", "content": { "text": "hi" } }), "x is not a chat id"),
            (json!({ "chatId": "15550100002", "content": { "text": "hi" } }), "messages.0.type must be"),
            (json!({ "chatId": "15550100002", "type": "text" }), "messages.0.content must be an object"),
            (json!("hi"), "each value in messages must be an object"),
            (
                json!({ "chatId": "15550100002", "type": "text", "content": { "text": "hi" }, "variables": { "a": 1 } }),
                "messages.0.variables must be an object",
            ),
            (
                json!({ "chatId": "15550100002", "type": "text", "content": { "text": "{a}{a}" }, "variables": { "a": "x".repeat(3_000) } }),
                "messages.0.content must be shorter",
            ),
            (
                json!({ "chatId": "15550100002", "type": "text", "content": { "text": "{a}" }, "variables": { "a": " " } }),
                "messages.0.content.text should not be empty with its variables",
            ),
            (file(json!({ "image": { "url": "file:///etc/passwd" } })), "messages.0.content.image.url must be an http"),
            (file(json!({ "image": { "url": "https://a:b@a.test/" } })), "messages.0.content.image.url must not hold"),
            (
                json!({ "chatId": "15550100002", "type": "image", "variables": { "a": "https://a.test/b" },
                        "content": { "image": { "url": "{a}" } } }),
                "",
            ),
        ];
        for (message, expected) in cases {
            let messages = refusal(message);
            match expected {
                "" => assert_eq!(messages, Vec::<String>::new()),
                _ => assert!(messages.iter().any(|message| message.starts_with(expected)), "{expected}: {messages:?}"),
            }
        }
    }

    #[test]
    fn variables_take_the_place_of_their_names_and_other_braces_stay() {
        let variables = BTreeMap::from([("name".to_owned(), "Bob {x}".to_owned()), ("x".to_owned(), "y".to_owned())]);
        let cases = [
            ("Hello {name}!", "Hello Bob {x}!"),
            ("{name}{x}", "Bob {x}y"),
            ("{unknown} {", "{unknown} {"),
            ("{{name}}", "{Bob {x}}"),
            ("no", "no"),
        ];
        for (text, expected) in cases {
            assert_eq!(with_variables(text, &variables), expected, "{text}");
        }
    }
}
