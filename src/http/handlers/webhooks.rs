//! Webhooks: make, list, read, change and remove them. Those of one session and those of several share their handlers.

mod fields;

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use rookery_model::{SessionId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Key;
use crate::http::error::ApiError;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, Page, SessionPath, path_parameter};
use crate::http::request::written::shorten;
use crate::http::response::happened::{Happened, Tells, Told};
use crate::http::response::json::{Created, Gone, JsonResult, ToldResult};
use crate::webhooks::{EVERY_EVENT, Filters, NewWebhook, PauseReason, Sessions, Webhook, WebhookError};
use fields::{WebhookRequest, WebhookUpdate, WideWebhookRequest};

/// Sessions whose positions are shown of a webhook.
const POSITIONS_MAX: usize = 100;

/// A webhook, as callers see it: without its secret and header fields.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookAnswer {
    id: Uuid,
    /// The session that it belongs to; left out of a webhook for several sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session_id: Option<SessionId>,
    /// The sessions whose events it gets, or `*`; only of a webhook for several sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Value)]
    session_ids: Option<Value>,
    #[schema(example = "https://hub.example.com/whatsapp")]
    url: String,
    #[schema(example = json!(["group.join", "group.leave"]))]
    events: Vec<String>,
    filters: Option<Filters>,
    active: bool,
    #[schema(example = 3)]
    retry_count: u32,
    include_media: bool,
    /// Whether deliveries are signed.
    signed: bool,
    last_triggered_at: Option<Timestamp>,
    /// When a failed delivery is tried again, the next one; left out when none waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_attempt_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// Why nothing is delivered until somebody resumes it; `null` when nothing is wrong.
    paused_reason: Option<PauseReason>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    paused_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    paused_at: Option<Timestamp>,
    /// The number of the latest event that needs no delivery any more; left out of a webhook for several sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 4711)]
    position: Option<u64>,
    /// Events behind that position, wanted or not; of all its sessions.
    #[schema(example = 0)]
    lag: u64,
    /// Its sessions, those with most events behind their position first, up to 100; only of a webhook for several sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    positions: Option<Vec<WebhookPosition>>,
}

/// How far a webhook is in the events of a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookPosition {
    session_id: SessionId,
    /// The number of the latest event that needs no delivery any more.
    #[schema(example = 4711)]
    position: u64,
    /// Events behind that position, wanted or not.
    #[schema(example = 0)]
    lag: u64,
}

impl Tells for WebhookAnswer {
    fn happened(&self) -> Happened {
        Happened::to(self.id)
    }
}

/// The webhook that the path names; it exists, and the caller may see and touch it. Under a session, it is that session's own;
/// under none, it may be any.
pub(crate) struct WebhookPath {
    pub(crate) webhook: Arc<Webhook>,
    /// The session of the path.
    pub(crate) session: Option<SessionId>,
}

impl FromRequestParts<Arc<App>> for WebhookPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let text = path_parameter(parts, "webhook")?;
        let caller = Caller::from_request_parts(parts, app).await?;
        let not_found = || WebhookError::NotFound(shorten(&text));
        let webhook = app.webhooks.get(text.parse().map_err(|_| not_found())?).map_err(|_| not_found())?;
        let sessions = &webhook.record().sessions;
        let is_here = match caller.session {
            Some(session) => *sessions == Sessions::One(session),
            None => true,
        };
        if !is_here || !app.webhooks.may_touch(&caller.key, &webhook) {
            return Err(not_found().into());
        }
        Ok(Self { webhook, session: caller.session })
    }
}

/// List the session's webhooks
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "Its webhooks, oldest first", body = Vec<WebhookAnswer>)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
) -> JsonResult<Vec<WebhookAnswer>> {
    let own = app.webhooks.of_session(session);
    Ok(Json(answers(&app, own.iter().filter(|webhook| app.webhooks.may_touch(&caller.key, webhook))).await))
}

/// List webhooks of all sessions
///
/// Those of the sessions that the key may see, and those for several sessions where the key is not limited to some.
#[utoipa::path(
    get,
    path = "",
    params(Page),
    responses((status = 200, description = "Webhooks, oldest first", body = Vec<WebhookAnswer>)),
)]
pub(crate) async fn list_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    page: Page,
) -> JsonResult<Vec<WebhookAnswer>> {
    let mut all = app.webhooks.all();
    all.retain(|webhook| app.webhooks.may_touch(&caller.key, webhook));
    Ok(Json(answers(&app, page.of(&all).iter()).await))
}

/// Create a webhook
///
/// It gets the events from now on, in order and at least once. A key that is limited to groups gets the events of these.
#[utoipa::path(
    post,
    path = "",
    request_body = WebhookRequest,
    responses(
        (status = 201, description = "The new webhook", body = WebhookAnswer),
        (status = 400, description = "The session has as many as it may (`webhook_limit_reached`), or nothing may be sent to this URL (`destination_not_allowed`)"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    JsonBody(request): JsonBody<WebhookRequest>,
) -> Result<Created<WebhookAnswer>, ApiError> {
    make(&app, &caller.key, request.webhook(session)).await
}

/// Create a webhook for several sessions
#[utoipa::path(
    post,
    path = "",
    request_body = WideWebhookRequest,
    responses(
        (status = 201, description = "The new webhook", body = WebhookAnswer),
        (status = 400, description = "There are as many as there may be (`webhook_limit_reached`), or nothing may be sent to this URL (`destination_not_allowed`)"),
    ),
)]
pub(crate) async fn create_wide(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<WideWebhookRequest>,
) -> Result<Created<WebhookAnswer>, ApiError> {
    make(&app, &caller.key, request.webhook()).await
}

async fn make(app: &App, key: &Key, new: NewWebhook) -> Result<Created<WebhookAnswer>, ApiError> {
    let webhook = app.webhooks.create(new, key).await?;
    Ok(Created(answer(app, &webhook).await))
}

/// Get a webhook
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The webhook, but for its secret and header fields", body = WebhookAnswer)),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    WebhookPath { webhook, .. }: WebhookPath,
) -> JsonResult<WebhookAnswer> {
    Ok(Json(answer(&app, &webhook).await))
}

/// Update a webhook
///
/// Takes effect at once, also for a delivery that waits for its next attempt.
#[utoipa::path(
    put,
    path = "",
    request_body = WebhookUpdate,
    responses(
        (status = 200, description = "The webhook as it is now", body = WebhookAnswer),
        (status = 400, description = "Nothing may be sent to this URL (`destination_not_allowed`), or a limited key gives a new URL to a webhook of another key without a new secret and new headers (`secrets_of_another_key`)"),
    ),
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    JsonBody(update): JsonBody<WebhookUpdate>,
    WebhookPath { webhook, .. }: WebhookPath,
    caller: Caller,
) -> ToldResult<WebhookAnswer> {
    app.webhooks.update(&webhook, update.into(), &caller.key).await?;
    Ok(Told(answer(&app, &webhook).await))
}

/// Delete a webhook
#[utoipa::path(
    delete,
    path = "",
    responses((status = 204, description = "It gets nothing any more")),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    WebhookPath { webhook, .. }: WebhookPath,
) -> Result<Gone, ApiError> {
    app.webhooks.remove(&webhook).await?;
    Ok(Gone)
}

async fn answers<'a>(app: &App, webhooks: impl Iterator<Item = &'a Arc<Webhook>>) -> Vec<WebhookAnswer> {
    let mut answers = Vec::new();
    for webhook in webhooks {
        answers.push(answer(app, webhook).await);
    }
    answers
}

/// A webhook as callers see it.
pub(crate) async fn answer(app: &App, webhook: &Webhook) -> WebhookAnswer {
    let (record, mut positions) = (webhook.record(), Vec::new());
    for feed in webhook.all_feeds() {
        let (position, latest) = (feed.position(), app.webhooks.latest(feed.session).await);
        positions.push(WebhookPosition { session_id: feed.session, position, lag: latest.saturating_sub(position) });
    }
    let lag = positions.iter().map(|one| one.lag).sum();
    let (session_id, session_ids) = match &record.sessions {
        Sessions::One(session) => (Some(*session), None),
        Sessions::Several(sessions) => {
            let left = sessions.iter().filter(|session| app.gateway.session(**session).is_ok());
            (None, Some(left.map(|session| Value::from(session.to_string())).collect()))
        }
        Sessions::All => (None, Some(EVERY_EVENT.into())),
    };
    let position = session_id.and_then(|_| positions.first().map(|one| one.position));
    positions.sort_by_key(|one| std::cmp::Reverse(one.lag));
    positions.truncate(POSITIONS_MAX);
    let (terms, pause) = (record.terms.clone(), record.pause.clone());
    WebhookAnswer {
        id: record.id,
        session_id,
        session_ids,
        url: terms.url,
        events: terms.events,
        filters: terms.filters,
        active: terms.is_active,
        retry_count: terms.retry_count,
        include_media: terms.include_media,
        signed: terms.secret.is_some(),
        last_triggered_at: webhook.tried_at(),
        next_attempt_at: webhook.all_feeds().iter().filter_map(|feed| feed.next_attempt_at()).min(),
        created_at: record.created_at,
        updated_at: record.updated_at,
        paused_message: pause.as_ref().map(|pause| pause.reason.to_string()),
        paused_at: pause.as_ref().map(|pause| pause.at),
        paused_reason: pause.map(|pause| pause.reason),
        position,
        lag,
        positions: session_id.is_none().then_some(positions),
    }
}
