//! Sending files: pictures, films, sounds, documents, stickers. `request/file_body.rs` has taken the file in, unless a URL is given.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use rookery_actors::EncryptedFile;
use rookery_actors::commands::BeginUpload;
use rookery_model::{FileKind, MessageSeed, OutgoingContent, ParticipantId, Quote, SessionId, ShownFile};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::message_changes::quote_if;
use super::messages::{Sent, Written, chat_id, may_write, mentioned, not_sent, quoted_message_id, send};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::{MENTIONS_MAX, MESSAGE_CHARS};
use crate::http::middleware::authorization::{Admission, AdmissionOf};
use crate::http::request::caller::Caller;
use crate::http::request::characters::is_control;
use crate::http::request::context::RequestContext;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::file_body::ReceivedFile;
use crate::http::request::seed::Seed;
use crate::http::request::written::{ChatField, ParticipantField};
use crate::http::response::json::Created;
use crate::media::{Description, FILENAME_CHARS_MAX, Said};
use crate::shares::User;

/// A file to be sent: `base64`, or `url`, or a form with a part `file` beside these fields. `base64` wins over `url`.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "chatId": "120363021234567890@g.us", "url": "https://example.com/team.png", "caption": "The team" }))]
pub(crate) struct NewFile {
    #[schema(inline)]
    chat_id: ChatField,
    /// The file in standard base64, or a `data:` URL of it.
    #[schema(nullable = false)]
    base64: Option<String>,
    /// An http or https URL that the file is fetched from now; its host has to have public addresses only.
    #[schema(nullable = false)]
    url: Option<String>,
    /// The media type; by default what the file shows. To say another one is an error.
    #[schema(max_length = 255, nullable = false)]
    mimetype: Option<String>,
    /// The name of a document. WhatsApp shows no name of other files.
    #[schema(max_length = 255, nullable = false)]
    filename: Option<String>,
    /// The text below it. WhatsApp shows none with sounds and stickers.
    #[schema(max_length = 4096, nullable = false)]
    caption: Option<String>,
    /// People who are notified even when they have muted the chat. `@` and somebody's digits in the caption is shown as a name.
    #[schema(max_items = 1024, nullable = false)]
    mentions: Option<Vec<ParticipantField>>,
    /// The id of an earlier message of the chat that this one quotes.
    #[schema(min_length = 1, max_length = 128, nullable = false)]
    quoted_message_id: Option<String>,
    /// Only of sounds: send it as a voice note, which has to be Ogg with Opus; false by default.
    #[schema(nullable = false)]
    ptt: Option<bool>,
}

impl FromFields for NewFile {
    fn read(fields: &mut Fields<'_>) -> Self {
        let kind = fields.known().file;
        let chat_id = chat_id(fields).unwrap_or_default();
        let mut given = |name| fields.optional_text(name).filter(|text| !text.trim().is_empty());
        let (base64, url, mimetype, filename) = (given("base64"), given("url"), given("mimetype"), given("filename"));
        let caption = fields.optional_text_up_to("caption", *MESSAGE_CHARS.end()).filter(|text| !text.is_empty());
        let ptt = fields.optional_flag("ptt");
        let has_mentions = fields.has("mentions");
        let mentions = has_mentions.then(|| fields.distinct("mentions", 0..=MENTIONS_MAX, ApiError::Participants));
        let quoted_message_id = quoted_message_id(fields);
        if base64.is_none() && url.is_none() {
            fields.message("base64, url, or a form with a file that is not empty, is required".into());
        }
        if filename.as_ref().is_some_and(|name| name.chars().any(is_control)) {
            fields.broken("filename", "must not contain control characters or line breaks");
        }
        if filename.as_ref().is_some_and(|name| name.chars().count() > FILENAME_CHARS_MAX) {
            fields.broken("filename", &format!("must be shorter than or equal to {FILENAME_CHARS_MAX} characters"));
        }
        if caption.is_some() && matches!(kind, Some(FileKind::Audio | FileKind::Sticker)) {
            fields.broken("caption", "is shown neither with sounds nor with stickers: send a text beside it");
        }
        if ptt.is_some() && kind != Some(FileKind::Audio) {
            fields.broken("ptt", "can only be used with send-audio");
        }
        Self { chat_id, base64, url, mimetype, filename, caption, mentions, quoted_message_id, ptt }
    }
}

/// Who sends a file, and until when it has to be at WhatsApp.
pub(crate) struct FileSender {
    session: SessionId,
    caller: Caller,
    admission: Arc<Admission>,
    seed: MessageSeed,
    received: ReceivedFile,
    until: Instant,
}

impl FromRequestParts<Arc<App>> for FileSender {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let SessionPath(session) = SessionPath::from_request_parts(parts, app).await?;
        let AdmissionOf(admission) = AdmissionOf::from_request_parts(parts, app).await?;
        let Seed(seed) = Seed::from_request_parts(parts, app).await?;
        let caller = Caller::from_request_parts(parts, app).await?;
        let received = ReceivedFile::from_request_parts(parts, app).await?;
        let until = file_deadline(parts, app)?;
        Ok(Self { session, caller, admission, seed, received, until })
    }
}

/// When the file of a request has to be where it goes.
pub(super) fn file_deadline(parts: &Parts, app: &App) -> Result<Instant, ApiError> {
    let context = parts.extensions.get::<Arc<RequestContext>>();
    let context = context.ok_or_else(|| ApiError::Internal("a request has no context".into()))?;
    Ok(context.begun() + app.http.limits.file_time_max())
}

/// Sends the file of a request.
async fn send_file(app: &App, sender: FileSender, body: NewFile) -> Result<Created<Sent>, ApiError> {
    let FileSender { session, caller, admission, seed, received, until } = sender;
    let quoted = quote_if(app, session, &caller, &body.chat_id, body.quoted_message_id).await?;
    let file = FileToSend {
        kind: received.kind,
        file: received.file.clone(),
        url: body.url.unwrap_or_default(),
        said: Said {
            mimetype: body.mimetype.or(received.said.mimetype.clone()),
            filename: body.filename,
            is_voice: body.ptt == Some(true),
            ..received.said.clone()
        },
        caption: body.caption,
        mentions: mentioned(body.mentions),
        quoted,
    };
    send_given(app, session, &caller, (seed, until), body.chat_id, file, || admission.check_again()).await.map(Created)
}

/// A file with what its message says beside it.
pub(crate) struct FileToSend {
    pub(crate) kind: FileKind,
    /// `None`: it is fetched from the URL.
    pub(crate) file: Option<Arc<EncryptedFile>>,
    pub(crate) url: String,
    pub(crate) said: Said,
    pub(crate) caption: Option<String>,
    pub(crate) mentions: Vec<ParticipantId>,
    pub(crate) quoted: Option<Quote>,
}

/// Sends a file to a chat that the caller may write to; it has to be at WhatsApp at `until`. What was checked before the transfer is checked
/// again after it: `check_again` gives the caller as it is then.
pub(crate) async fn send_given(
    app: &App,
    session: SessionId,
    caller: &Caller,
    (seed, until): (MessageSeed, Instant),
    chat: ChatField,
    given: FileToSend,
    check_again: impl FnOnce() -> Result<Caller, ApiError>,
) -> Result<Sent, ApiError> {
    may_write(caller, &chat)?;
    let begun = app.gateway.execute(session, BeginUpload { chat: chat.0.clone() }).await;
    let upload = begun.map_err(|error| not_sent(session, error))?;
    let FileToSend { kind, file, url, said, caption, mentions, quoted } = given;
    let (file, field, said) = match file {
        Some(file) => (file, "the file", said),
        None => {
            let user = User { key: caller.key.id(), session };
            let (file, found) = app.media.fetch(&url, kind, user, until).await?;
            (
                file,
                "url",
                Said { filename: said.filename.or(found.filename), mimetype_of_host: found.mimetype_of_host, ..said },
            )
        }
    };
    let Description { mimetype, filename, preview } = app.media.describe(&file, field, said).await?;
    let file = upload.run(&file, until).await?;
    let caller = check_again()?;
    let shown = ShownFile { file, mimetype, filename, caption, preview };
    let written = Written { content: OutgoingContent::File(Box::new(shown)), quoted, mentions, mentions_all: false };
    send(app, session, &caller, seed, chat, written).await
}

/// Send a picture
///
/// A JPEG, PNG, WebP or GIF; sent as it is, with what its camera wrote into it. The response comes when WhatsApp has the message, within
/// `--media-timeout-s`. Up to 64 MiB, in JSON or in a form.
#[utoipa::path(
    post,
    path = "",
    request_body(content((NewFile = "application/json"), (NewFile = "multipart/form-data"))),
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_image(
    State(app): State<Arc<App>>,
    sender: FileSender,
    JsonBody(body): JsonBody<NewFile>,
) -> Result<Created<Sent>, ApiError> {
    send_file(&app, sender, body).await
}

/// Send a film
///
/// An MP4, 3GP or QuickTime film: WhatsApp's clients play no others. Otherwise as with pictures.
#[utoipa::path(
    post,
    path = "",
    request_body(content((NewFile = "application/json"), (NewFile = "multipart/form-data"))),
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_video(
    State(app): State<Arc<App>>,
    sender: FileSender,
    JsonBody(body): JsonBody<NewFile>,
) -> Result<Created<Sent>, ApiError> {
    send_file(&app, sender, body).await
}

/// Send a sound
///
/// An Ogg, MP3, M4A, AAC, AMR, WAV or FLAC sound, or with `ptt` a voice note: Ogg with Opus. Otherwise as with pictures.
#[utoipa::path(
    post,
    path = "",
    request_body(content((NewFile = "application/json"), (NewFile = "multipart/form-data"))),
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_audio(
    State(app): State<Arc<App>>,
    sender: FileSender,
    JsonBody(body): JsonBody<NewFile>,
) -> Result<Created<Sent>, ApiError> {
    send_file(&app, sender, body).await
}

/// Send a document
///
/// Any file. Otherwise as with pictures.
#[utoipa::path(
    post,
    path = "",
    request_body(content((NewFile = "application/json"), (NewFile = "multipart/form-data"))),
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_document(
    State(app): State<Arc<App>>,
    sender: FileSender,
    JsonBody(body): JsonBody<NewFile>,
) -> Result<Created<Sent>, ApiError> {
    send_file(&app, sender, body).await
}

/// Send a sticker
///
/// A WebP picture, also a moving one. WhatsApp's clients show it 512 pixels wide. Otherwise as with pictures.
#[utoipa::path(
    post,
    path = "",
    request_body(content((NewFile = "application/json"), (NewFile = "multipart/form-data"))),
    responses((status = 201, description = "WhatsApp has the message", body = Sent)),
)]
pub(crate) async fn send_sticker(
    State(app): State<Arc<App>>,
    sender: FileSender,
    JsonBody(body): JsonBody<NewFile>,
) -> Result<Created<Sent>, ApiError> {
    send_file(&app, sender, body).await
}
