//! Messages in bulk: a batch is made, shown and cancelled. `http/bulk.rs` sends it.

mod fields;

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rookery_actors::commands::CheckReady;
use rookery_model::{SessionId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::messages::{may_write, not_sent};
use crate::app::App;
use crate::batches::{BatchEnd, BatchOptions, BatchRecord, BatchResult};
use crate::http::bulk::{self, BatchError, Progress, Shown};
use crate::http::error::ApiError;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, SessionPath, path_parameter};
use crate::http::response::happened::{Happened, Tells};
pub(crate) use fields::BatchMessage;
use fields::{NewBatch, NewBatchOptions};

/// The pause between two messages when nobody says how long it is.
const DELAY_DEFAULT_MS: u32 = 3_000;
/// Characters of an id that a path has as they are.
const SEGMENT_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How much longer a pause is by chance, on average.
const RANDOM_DELAY_MS: u64 = 1_000;

/// The batch that a path names.
pub(crate) struct BatchPath(String);

impl<S: Sync> FromRequestParts<S> for BatchPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        path_parameter(parts, "batch").map(Self)
    }
}

/// How far a batch has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BatchStatus {
    /// It was made.
    Pending,
    /// It is being sent.
    Processing,
    /// Every message was tried.
    Completed,
    /// Nobody tries the rest.
    Cancelled,
    /// None could be sent, or it stopped at the first that could not.
    Failed,
}

impl BatchStatus {
    fn of(record: &BatchRecord) -> Self {
        match record.ended {
            Some((_, BatchEnd::Completed)) => Self::Completed,
            Some((_, BatchEnd::Cancelled)) => Self::Cancelled,
            Some((_, BatchEnd::Failed)) => Self::Failed,
            None if record.started_at.is_some() => Self::Processing,
            None => Self::Pending,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// A batch that was made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchMade {
    #[schema(example = "batch_4f2a6c01")]
    batch_id: String,
    status: BatchStatus,
    #[schema(example = 100)]
    total_messages: usize,
    /// When it is over if nothing holds it up.
    #[schema(value_type = String, format = DateTime)]
    estimated_completion_time: Timestamp,
    /// Where its progress is shown.
    #[schema(example = "/api/sessions/my-session/messages/batch/batch_4f2a6c01")]
    status_url: String,
    /// For the scopes of keys.
    #[serde(skip)]
    groups: Vec<String>,
}

impl Tells for BatchMade {
    fn happened(&self) -> Happened {
        Happened { groups: self.groups.clone(), ..Happened::to(&self.batch_id) }
    }
}

/// What became of a message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchMessageResult {
    /// Where it goes, as it was written.
    #[schema(example = "15550100002@c.us")]
    chat_id: String,
    status: BatchMessageStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "3EB0D1C5A7F2E4B6908A13")]
    message_id: Option<String>,
    /// When WhatsApp took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = String, format = DateTime)]
    sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, inline)]
    error: Option<BatchMessageError>,
}

/// Whether a message was sent.
#[derive(Copy, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum BatchMessageStatus {
    /// It is still to be sent.
    Pending,
    /// WhatsApp has it.
    Sent,
    /// It cannot be sent.
    Failed,
    /// Nobody tries it any more.
    Cancelled,
}

/// Why a message cannot be sent.
#[derive(Serialize, ToSchema)]
struct BatchMessageError {
    /// As in the response of a single message.
    #[schema(example = "not_on_whatsapp")]
    code: String,
    message: String,
}

/// How far a batch has come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchAnswer {
    #[schema(example = "batch_4f2a6c01")]
    batch_id: String,
    status: BatchStatus,
    #[schema(inline)]
    progress: Progress,
    /// In the order of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    results: Option<Vec<BatchMessageResult>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = String, format = DateTime)]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = String, format = DateTime)]
    completed_at: Option<Timestamp>,
}

impl BatchAnswer {
    fn of(Shown { record, results }: Shown, has_results: bool) -> Self {
        let is_over = record.ended.is_some();
        let progress = Progress::of(&results, is_over);
        let (status, completed_at) = (BatchStatus::of(&record), record.ended.map(|(at, _)| at));
        let listed = record.chats.into_iter().zip(results).map(|(chat_id, result)| {
            let none = BatchMessageResult {
                chat_id,
                status: BatchMessageStatus::Pending,
                message_id: None,
                sent_at: None,
                error: None,
            };
            match result {
                None if is_over => BatchMessageResult { status: BatchMessageStatus::Cancelled, ..none },
                None => none,
                Some(BatchResult::Sent { message_id, at }) => BatchMessageResult {
                    status: BatchMessageStatus::Sent,
                    message_id: Some(message_id),
                    sent_at: Some(at),
                    ..none
                },
                Some(BatchResult::Failed { code, message }) => BatchMessageResult {
                    status: BatchMessageStatus::Failed,
                    error: Some(BatchMessageError { code, message }),
                    ..none
                },
            }
        });
        let results = has_results.then(|| listed.collect());
        Self { batch_id: record.id, status, progress, results, started_at: record.started_at, completed_at }
    }
}

/// Send messages in bulk
///
/// Takes up to 500 messages and sends them one after the other, with a pause between them, also after the daemon was restarted or killed: nobody
/// gets a message twice. `{name}` in a text becomes the variable of this name. A session that is not ready, and limits of the session, hold a
/// batch up; a message that cannot be sent does not. Each message is `message.sent` when WhatsApp has it.
#[utoipa::path(
    post,
    path = "",
    request_body = NewBatch,
    responses(
        (status = 202, description = "The batch is kept, and is being sent", body = BatchMade),
        (status = 400, description = "A batch has this id already (`batch_exists`)"),
        (status = 429, description = "As many batches are being sent as may be (`too_many_batches`)"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    JsonBody(body): JsonBody<NewBatch>,
) -> Result<Response, ApiError> {
    let NewBatch { messages, batch_id, options, written } = body;
    messages.iter().try_for_each(|message| may_write(&caller, &message.chat_id))?;
    app.gateway.execute(session, CheckReady).await.map_err(|error| not_sent(session, error))?;
    let batch_id = batch_id.unwrap_or_else(|| format!("batch_{}", Uuid::new_v4().simple()));
    let options =
        options.unwrap_or(NewBatchOptions { delay_between_messages: None, randomize_delay: None, stop_on_error: None });
    let options = BatchOptions {
        delay_ms: options.delay_between_messages.unwrap_or(DELAY_DEFAULT_MS),
        is_randomized: options.randomize_delay.unwrap_or(true),
        stops_on_error: options.stop_on_error.unwrap_or(false),
    };
    let chats: Vec<String> = written.iter().map(chat_of).collect();
    let groups = chats.iter().filter(|chat| chat.ends_with("@g.us")).cloned().collect();
    let record = BatchRecord::new(batch_id, (caller.key.id(), caller.account_epoch), chats, options);
    let record = record.map_err(|error| ApiError::Internal(error.to_string()))?;
    let pause_ms = u64::from(options.delay_ms) + if options.is_randomized { RANDOM_DELAY_MS } else { 0 };
    let rest_ms = i64::try_from(pause_ms * (record.chats.len() as u64 - 1)).unwrap_or(i64::MAX);
    let made = BatchMade {
        batch_id: record.id.clone(),
        status: BatchStatus::Pending,
        total_messages: record.chats.len(),
        estimated_completion_time: Timestamp(record.created_at.0.saturating_add(rest_ms)),
        status_url: status_url(session, &record.id),
        groups,
    };
    bulk::begin(&app, session, &caller, record, written).await?;
    let happened = made.happened();
    let mut response = (StatusCode::ACCEPTED, Json(made)).into_response();
    response.extensions_mut().insert(happened);
    Ok(response)
}

fn chat_of(message: &Map<String, Value>) -> String {
    message.get("chatId").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn status_url(session: SessionId, batch: &str) -> String {
    format!("/api/sessions/{session}/messages/batch/{}", utf8_percent_encode(batch, SEGMENT_ESCAPES))
}

/// Get a batch
///
/// How far it has come, and what became of each message. Batches are kept for 30 days; of a session the latest 100.
#[utoipa::path(
    get,
    path = "",
    responses(
        (status = 200, description = "The batch", body = BatchAnswer),
        (status = 404, description = "There is no such batch (`batch_not_found`)"),
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    BatchPath(batch): BatchPath,
    caller: Caller,
) -> Result<Json<BatchAnswer>, ApiError> {
    let shown = bulk::show(&app, &caller, &batch).await?;
    Ok(Json(BatchAnswer::of(shown, true)))
}

/// Cancel a batch
///
/// No further message of it is sent when this is answered. One that was on its way is sent, and counted.
#[utoipa::path(
    post,
    path = "",
    responses(
        (status = 200, description = "The batch without its results", body = BatchAnswer),
        (status = 400, description = "It is over already (`batch_over`)"),
        (status = 404, description = "There is no such batch (`batch_not_found`)"),
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    BatchPath(batch): BatchPath,
    caller: Caller,
) -> Result<Response, ApiError> {
    let shown = bulk::show(&app, &caller, &batch).await?;
    if shown.record.ended.is_some() {
        return Err(BatchError::Over { id: batch, status: BatchStatus::of(&shown.record).word() }.into());
    }
    let shown = bulk::cancel(&app, &caller, &batch).await?;
    let mut response = Json(BatchAnswer::of(shown, false)).into_response();
    response.extensions_mut().insert(Happened::to(&batch));
    Ok(response)
}
