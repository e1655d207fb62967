//! Every way a request can fail, and the only place where a failure gets its status code, its error code and its text.
//! Never logs: the cause for the operator travels in [`Cause`] to `middleware/request_context.rs`, which logs it with
//! the request id.

mod access;
mod effect;
mod files;
mod layers;
mod messages;
mod undone;

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rookery_actors::{CommandError, FileError};
use rookery_model::{
    CHAT_ID_FORM, GROUP_ID_FORM, IdError, LinkResult, NUMBER_FORM, PERSON_ID_FORM, ParticipantResult, SessionId,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::AuditError;
use crate::auth::KeysError;
use crate::http::bulk::BatchError;
use crate::http::response::happened::Happened;
use crate::http::response::readiness::Details;
use crate::idempotency::IdempotencyError;
use crate::media::MediaError;
use crate::picture::PictureError;
use crate::webhooks::WebhookError;
pub(crate) use access::AccessError;
pub(crate) use effect::{InDoubt, NothingDone};
use files::{media_response, picture_response};
use layers::{audit_response, command_response, idempotency_response, key_rule, keys_response, webhook_response};
pub(crate) use messages::MessageError;
use messages::batch_response;
use undone::{all_refused, are_partly_unknown, nobody_done, resend_refused, stopped, too_slow};

/// A request may be repeated after a time-out: by then the connection to WhatsApp is back or known to be lost.
const TIMEOUT_RETRY_S: u32 = 5;
/// WhatsApp sent 429 without a hint: its own clients wait about a minute.
const REFUSED_RETRY_S: u32 = 60;
/// The first call with an idempotency key is most often over by then.
const KEY_IN_USE_RETRY_S: u32 = 2;
/// A search of the whole log takes less.
const AUDIT_RETRY_S: u32 = 2;
/// The earlier pictures are prepared by then.
const PICTURES_BUSY_RETRY_S: u32 = 5;
/// Expired keys are removed every few minutes.
const KEYS_EXHAUSTED_RETRY_S: u32 = 600;

const EVENTS_GONE: &str = "Events after this cursor are gone: read on from `oldest`";

/// Why a request was not carried out. Its text is what callers get to see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The caller was not let in.
    Access(#[from] AccessError),
    /// No route has this path.
    UnknownRoute(Method, String),
    /// Clients may expect it, and it is not done here; says what is there instead.
    NotHere(&'static str),
    /// Nothing can be done with an earlier message.
    Message(#[from] MessageError),
    /// The route has other methods.
    MethodNotAllowed(Method, String),
    /// Path and query are too long.
    UrlTooLong {
        /// Bytes that are allowed.
        bytes_max: usize,
    },
    /// Others could read the head as another request; with the reason.
    Head(&'static str),
    /// The body breaks these rules, one message each.
    Body(Vec<String>),
    /// The body is not a JSON object; says why.
    BodyNotJson(String),
    /// The body is longer than allowed.
    BodyTooLarge {
        /// Bytes that are allowed.
        bytes_max: usize,
    },
    /// The body is compressed.
    BodyCompressed,
    /// The body did not arrive in time, or too slowly.
    BodyTooSlow,
    /// The connection ended within the body.
    BodyEndedEarly,
    /// A part of the path or the query cannot be read; says which.
    Query(String),
    /// These are not people; as written by the caller.
    Participants(Vec<String>),
    /// These are not groups; as written by the caller.
    Groups(Vec<String>),
    /// These are not chats; as written by the caller.
    Chats(Vec<String>),
    /// A message is to be sent by a session that is not started; its id.
    SessionInactive(SessionId),
    /// No group has the invite code of a request to join: WhatsApp's 406.
    InviteCode,
    /// Texts that are no phone numbers.
    Numbers(Vec<String>),
    /// No group has the invite code of a preview.
    InviteCodeUnknown,
    /// A picture cannot be used.
    Picture(#[from] PictureError),
    /// Nothing can be done with a batch of messages.
    Batch(#[from] BatchError),
    /// A file cannot be sent.
    Media(#[from] MediaError),
    /// WhatsApp refused every participant of a batch.
    AllRefused {
        /// The request, as a noun phrase that can start a sentence.
        what: &'static str,
        /// WhatsApp's result for each of them.
        results: Vec<ParticipantResult>,
    },
    /// WhatsApp refused every group of a batch.
    NoneLinked {
        /// The request, as a noun phrase that can start a sentence.
        what: &'static str,
        /// WhatsApp's result for each of them.
        results: Vec<LinkResult>,
    },
    /// The idempotency key cannot be read.
    IdempotencyKeyInvalid,
    /// A call with an idempotency key was not carried out.
    Idempotency(#[from] IdempotencyError),
    /// A message was sent again under its idempotency key, and refused with this code.
    ResendRefused(String),
    /// Keys were not changed.
    ApiKeys(#[from] KeysError),
    /// The audit log cannot be read or written.
    Audit(#[from] AuditError),
    /// The sessions could not carry out the command.
    Command(CommandError),
    /// The request took too long; `may_have_changed`: the request was not only a read.
    TooSlow {
        /// Whether something may have been changed.
        may_have_changed: bool,
    },
    /// The daemon stops before the request is over.
    Stopped {
        /// Whether something may have been changed, or still will be.
        may_have_changed: bool,
    },
    /// The daemon is not ready for traffic.
    NotReady {
        /// The part that is not ready.
        why: &'static str,
        /// The state of each part, for the body.
        details: Details,
    },
    /// Events after the place that was asked for are gone.
    EventsGone {
        /// The cursor from which all events that there are can be read.
        oldest: String,
    },
    /// A webhook was not made, found or changed.
    Webhook(#[from] WebhookError),
    /// A defect on our side; the cause is for the log only.
    Internal(String),
}

/// The cause of a failure on our side, for the log. Lies in the extensions of the response.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub(crate) String);

/// The caller was not let in. Lies in the extensions of the response.
#[derive(Clone, Debug)]
pub(crate) struct AccessDenied;

/// The response that a caller gets to see.
struct ErrorResponse {
    status: StatusCode,
    code: &'static str,
    message: Message,
}

/// One text, or one per broken rule of a body.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
enum Message {
    One(String),
    Many(Vec<String>),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) => f.write_str(text),
            Self::Many(texts) => f.write_str(&texts.join("; ")),
        }
    }
}

/// The result of each participant, or of each group.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Results<'a> {
    Participants(&'a [ParticipantResult]),
    Groups(&'a [LinkResult]),
}

/// Which of several settings have their new value.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SettingsOutcome<'a> {
    /// The settings that have their new value.
    #[schema(value_type = Vec<String>, example = json!(["announce"]))]
    applied: &'a [&'static str],
    /// The setting that failed; left out when the time for the request was over before another one was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "locked", nullable = false)]
    failed: Option<&'static str>,
    /// The settings after that, which were not tried.
    #[schema(value_type = Vec<String>, example = json!(["membershipApproval"]))]
    not_tried: &'a [&'static str],
}

/// The one shape of all errors.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    #[schema(inline)]
    message: &'a Message,
    /// The status in words.
    error: &'static str,
    #[serde(rename = "statusCode")]
    status_code: u16,
    /// The error code: a stable word for programs.
    code: &'static str,
    /// When WhatsApp refused all participants or groups: the result of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, inline)]
    results: Option<Results<'a>>,
    /// When events are gone: the cursor from which all events that there are can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "1764489600-0")]
    oldest: Option<&'a str>,
    /// When settings were changed one after the other until one failed: the state of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, inline)]
    settings: Option<SettingsOutcome<'a>>,
    /// Only in `/api/health/ready`: always `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<&'static str>,
    /// Only in `/api/health/ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<&'a Details>,
}

impl<'a> ErrorBody<'a> {
    fn new(status: StatusCode, code: &'static str, message: &'a Message) -> Self {
        Self {
            message,
            error: status.canonical_reason().unwrap_or("Error"),
            status_code: status.as_u16(),
            code,
            results: None,
            oldest: None,
            settings: None,
            status: None,
            details: None,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer().message.fmt(f)
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NobodyOnWhatsapp(results) => Self::AllRefused { what: "Creating the group", results },
            error => Self::Command(error),
        }
    }
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::Command(CommandError::Id(error))
    }
}

impl ApiError {
    fn answer(&self) -> ErrorResponse {
        use StatusCode as S;
        match self {
            Self::Access(error) => error.answer(),
            Self::UrlTooLong { bytes_max } => {
                one(S::URI_TOO_LONG, "url_too_long", format!("Path and query are longer than {bytes_max} bytes"))
            }
            Self::UnknownRoute(method, path) => one(S::NOT_FOUND, "route_not_found", format!("Cannot {method} {path}")),
            Self::NotHere(why) => one(S::NOT_IMPLEMENTED, "not_supported", *why),
            Self::Message(error) => error.answer(),
            Self::MethodNotAllowed(method, path) => {
                one(S::METHOD_NOT_ALLOWED, "method_not_allowed", format!("Cannot {method} {path}"))
            }
            Self::Head(why) => one(S::BAD_REQUEST, "invalid_request_head", *why),
            Self::Body(messages) => ErrorResponse {
                status: S::BAD_REQUEST,
                code: "validation_failed",
                message: Message::Many(messages.clone()),
            },
            Self::BodyNotJson(why) => one(S::BAD_REQUEST, "invalid_json", why),
            Self::BodyTooLarge { bytes_max } => {
                one(S::PAYLOAD_TOO_LARGE, "body_too_large", format!("The body is larger than {bytes_max} bytes"))
            }
            Self::BodyCompressed => one(
                S::UNSUPPORTED_MEDIA_TYPE,
                "body_compressed",
                "Compressed bodies are not supported: send it without Content-Encoding",
            ),
            Self::BodyTooSlow => one(S::REQUEST_TIMEOUT, "body_too_slow", "The body did not arrive in time"),
            Self::BodyEndedEarly => one(S::BAD_REQUEST, "invalid_json", "the body ended early"),
            Self::Query(why) => one(S::BAD_REQUEST, "invalid_parameter", why),
            Self::Participants(offenders) => {
                offenders_response(offenders, "participant id", PERSON_ID_FORM, "invalid_participant_id")
            }
            Self::Groups(offenders) => offenders_response(offenders, "group id", GROUP_ID_FORM, "invalid_group_id"),
            Self::Chats(offenders) => offenders_response(offenders, "chat id", CHAT_ID_FORM, "invalid_chat_id"),
            Self::SessionInactive(session) => one(
                S::BAD_REQUEST,
                "session_not_started",
                format!("Session '{session}' is not active. Start the session first."),
            ),
            Self::Numbers(offenders) => offenders_response(offenders, "phone number", NUMBER_FORM, "invalid_number"),
            Self::ResendRefused(code) => resend_refused(code),
            Self::InviteCodeUnknown => one(
                S::NOT_FOUND,
                "invite_code_unknown",
                "No group has this invite code: check that the whole link was copied, or ask for a new one",
            ),
            Self::InviteCode => one(
                S::BAD_REQUEST,
                "invite_code_invalid",
                "The invite code is not valid: WhatsApp knows no group with it (code 406)",
            ),
            Self::Picture(error) => picture_response(error),
            Self::Media(error) => media_response(error),
            Self::Batch(error) => batch_response(error),
            Self::AllRefused { what, results } => nobody_done(what, results),
            Self::NoneLinked { what, results } => all_refused(what, results.iter().map(|result| result.status)),
            Self::IdempotencyKeyInvalid => one(S::BAD_REQUEST, "idempotency_key_invalid", key_rule()),
            Self::Idempotency(error) => idempotency_response(error),
            Self::ApiKeys(error) => keys_response(error),
            Self::Audit(error) => audit_response(error),
            Self::Command(error) => command_response(error),
            Self::TooSlow { may_have_changed } => too_slow(*may_have_changed),
            Self::Stopped { may_have_changed } => stopped(*may_have_changed),
            Self::EventsGone { .. } => one(S::GONE, "events_gone", EVENTS_GONE),
            Self::Webhook(error) => webhook_response(error),
            Self::NotReady { why, .. } => one(S::SERVICE_UNAVAILABLE, "not_ready", *why),
            Self::Internal(_) => internal(),
        }
    }

    /// The status code and the error code of the response.
    pub(crate) fn status_and_code(&self) -> (u16, &'static str) {
        let ErrorResponse { status, code, .. } = self.answer();
        (status.as_u16(), code)
    }

    /// Seconds after which trying again can help.
    pub(crate) fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Command(error @ CommandError::Refused { code: 429, .. }) => {
                Some(error.retry_after_s().unwrap_or(REFUSED_RETRY_S))
            }
            Self::Command(error) => error.retry_after_s(),
            Self::Webhook(WebhookError::Session(error)) => error.retry_after_s(),
            Self::Access(error) => error.retry_after_s(),
            Self::Picture(error) if error.is_busy() => Some(PICTURES_BUSY_RETRY_S),
            Self::Media(MediaError::File(error)) => CommandError::File(error.clone()).retry_after_s(),
            Self::Media(MediaError::Busy) | Self::Batch(BatchError::TooMany) => Some(PICTURES_BUSY_RETRY_S),
            Self::ApiKeys(KeysError::Store(error)) => CommandError::Store(error.clone()).retry_after_s(),
            Self::Idempotency(IdempotencyError::Store(error)) => CommandError::Store(error.clone()).retry_after_s(),
            Self::Audit(AuditError::Store(_) | AuditError::LowSpace | AuditError::Unwritable | AuditError::Busy) => {
                Some(AUDIT_RETRY_S)
            }
            Self::Idempotency(IdempotencyError::InUse) => Some(KEY_IN_USE_RETRY_S),
            Self::Idempotency(IdempotencyError::TooMany) => Some(KEYS_EXHAUSTED_RETRY_S),
            Self::TooSlow { .. } | Self::Stopped { .. } | Self::NotReady { .. } | Self::ResendRefused(_) => {
                Some(TIMEOUT_RETRY_S)
            }
            Self::AllRefused { results, .. } if are_partly_unknown(results) => Some(TIMEOUT_RETRY_S),
            _ => None,
        }
    }

    fn cause(&self) -> Option<String> {
        match self {
            Self::Internal(cause) => Some(cause.clone()),
            Self::Command(error @ (CommandError::Store(_) | CommandError::File(FileError::Disk(_))))
            | Self::Webhook(WebhookError::Session(error @ CommandError::Store(_))) => Some(error.to_string()),
            Self::Media(MediaError::File(error @ FileError::Disk(_))) => Some(error.to_string()),
            Self::ApiKeys(error) if keys_response(error).status.is_server_error() => Some(error.to_string()),
            Self::Audit(error) if audit_response(error).status.is_server_error() => Some(error.to_string()),
            Self::Idempotency(
                error @ (IdempotencyError::Store(_)
                | IdempotencyError::Record(_)
                | IdempotencyError::CutShort
                | IdempotencyError::TooLarge(_)),
            ) => Some(error.to_string()),
            _ => None,
        }
    }
}

/// `kind`: what the offenders are not; `form`: how one is written.
fn offenders_response(offenders: &[String], kind: &str, form: &str, code: &'static str) -> ErrorResponse {
    let (article, plural) = if offenders.len() == 1 { ("is not a", "") } else { ("are not", "s") };
    one(StatusCode::BAD_REQUEST, code, format!("{} {article} {kind}{plural}: {form}", offenders.join(", ")))
}

fn one(status: StatusCode, code: &'static str, message: impl Into<String>) -> ErrorResponse {
    ErrorResponse { status, code, message: Message::One(message.into()) }
}

fn internal() -> ErrorResponse {
    one(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal server error")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let ErrorResponse { status, code, message } = self.answer();
        let mut body = ErrorBody::new(status, code, &message);
        match &self {
            Self::AllRefused { results, .. } => body.results = Some(Results::Participants(results)),
            Self::NoneLinked { results, .. } => body.results = Some(Results::Groups(results)),
            Self::Command(CommandError::SettingsPartly { applied, failed, not_tried, .. }) => {
                body.settings = Some(SettingsOutcome { applied, failed: *failed, not_tried });
            }
            Self::NotReady { details, .. } => (body.status, body.details) = (Some("error"), Some(details)),
            Self::EventsGone { oldest } => body.oldest = Some(oldest),
            _ => {}
        }
        let mut response = (status, Json(body)).into_response();
        let happened = match &self {
            Self::AllRefused { results, .. } => Happened::to_participants(results),
            Self::NoneLinked { results, .. } => Happened::to_groups(results),
            _ => Happened::default(),
        };
        response.extensions_mut().insert(Happened { code: Some(code.to_owned()), ..happened });
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(cause) = self.cause() {
            response.extensions_mut().insert(Cause(cause));
        }
        if matches!(self, Self::Access(_)) {
            response.extensions_mut().insert(AccessDenied);
        }
        if self.is_nothing_done() {
            response.extensions_mut().insert(NothingDone);
        }
        if self.is_in_doubt() {
            response.extensions_mut().insert(InDoubt);
        }
        response
    }
}

#[cfg(test)]
mod tests;
