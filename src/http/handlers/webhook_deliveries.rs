//! What webhooks deliver: tests, the latest attempts, failures, going on after a pause, and delivering again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_model::{SessionId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::webhooks::{WebhookAnswer, WebhookPath, answer};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::REDELIVERIES;
use crate::http::request::asked_deliveries::{AskedDeliveries, AskedFailures};
use crate::http::request::caller::Caller;
use crate::http::request::extract::JsonBody;
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::{shorten, whole_number};
use crate::http::response::happened::{Happened, Tells, Told};
use crate::http::response::json::{JsonResult, ToldResult};
use crate::webhooks::{Attempt, Delivery, FailedDelivery, RedeliveryOrder, ReplayFrom, Sessions, WebhookError};

/// Failed deliveries that are tried again, when no number is asked for.
const REDELIVERIES_DEFAULT: u32 = 100;

/// What became of a test.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TestAnswer {
    success: bool,
    /// The status code of the receiver's answer; left out when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 200)]
    status_code: Option<u16>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
}

impl Tells for TestAnswer {}

impl From<Attempt> for TestAnswer {
    fn from(attempt: Attempt) -> Self {
        Self { success: attempt.error.is_none(), status_code: attempt.status, error: attempt.error }
    }
}

/// Test a webhook
///
/// Sends a made-up event with the word `test`, now and once. It changes nothing else, also when the webhook is paused or not active.
#[utoipa::path(
    post,
    path = "",
    responses((status = 200, description = "What became of it", body = TestAnswer)),
)]
pub(crate) async fn test(
    State(app): State<Arc<App>>,
    WebhookPath { webhook, session }: WebhookPath,
) -> ToldResult<TestAnswer> {
    let of_any = || {
        let sessions = app.gateway.sessions();
        sessions.iter().map(|one| one.id).find(|session| webhook.is_of(*session))
    };
    let session = session.or_else(of_any).ok_or(WebhookError::OtherSession)?;
    Ok(Told(app.webhooks.test(&webhook, session).await?.into()))
}

/// Where deliveries go on.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GoOn {
    /// The number of the first event to be delivered, or a time: the first event that was seen then or later. Left out, it goes on where it was.
    #[schema(value_type = Option<Value>, example = 4711)]
    from: Option<ReplayFrom>,
    /// The session whose events are meant: needed with `from` for a webhook for several sessions.
    #[schema(value_type = Option<String>, example = json!(null))]
    session_id: Option<SessionId>,
}

/// From where events are delivered again.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Replay {
    /// The number of the first event to be delivered, or a time: the first event that was seen then or later.
    #[schema(value_type = Value, example = 4711)]
    from: ReplayFrom,
    /// The session whose events are meant: needed for a webhook for several sessions.
    #[schema(value_type = Option<String>, example = json!(null))]
    session_id: Option<SessionId>,
}

/// The session that the field `sessionId` names.
fn session_field(fields: &mut Fields<'_>) -> Option<SessionId> {
    let text = fields.optional_text("sessionId")?;
    let found = (fields.known().find_session)(&text);
    if found.is_none() {
        fields.broken("sessionId", &format!("is {}, which is not a session", shorten(&text)));
    }
    found
}

impl FromFields for GoOn {
    fn read(fields: &mut Fields<'_>) -> Self {
        let session_id = session_field(fields);
        let from = fields.take("from").filter(|value| !value.is_null()).and_then(|value| {
            let from = place_of(&value);
            if from.is_none() {
                fields.broken("from", "must be the number of an event, from 1, or a time such as 2026-01-31T00:00:00Z");
            }
            from
        });
        Self { from, session_id }
    }
}

impl FromFields for Replay {
    fn read(fields: &mut Fields<'_>) -> Self {
        let GoOn { from, session_id } = GoOn::read(fields);
        if from.is_none() && !fields.is_broken() {
            fields.broken("from", "should not be empty");
        }
        Self { from: from.unwrap_or(ReplayFrom::Number(1)), session_id }
    }
}

fn place_of(value: &Value) -> Option<ReplayFrom> {
    let number = whole_number(value).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    let time = || value.as_str().and_then(Timestamp::parse).map(ReplayFrom::Time);
    number.map(ReplayFrom::Number).or_else(time)
}

/// The session whose events are meant.
fn session_meant(app: &App, path: &WebhookPath, given: Option<SessionId>) -> Result<SessionId, ApiError> {
    let session = path.session.or(given).or(match &path.webhook.record().sessions {
        Sessions::One(session) => Some(*session),
        Sessions::Several(_) | Sessions::All => None,
    });
    let session = session.ok_or_else(|| ApiError::Body(vec!["sessionId should not be empty".into()]))?;
    if given.is_some_and(|given| given != session) {
        return Err(WebhookError::OtherSession.into());
    }
    app.gateway.session(session)?;
    Ok(session)
}

/// Resume a webhook
///
/// Ends a pause. It goes on where it was, so that nothing is lost, or with the event that `from` names. A delivery that waits for its next attempt is tried at once.
#[utoipa::path(
    post,
    path = "",
    request_body = GoOn,
    responses(
        (status = 200, description = "The webhook as it is now", body = WebhookAnswer),
        (status = 409, description = "Events that were not delivered are gone: say `from` where to go on (`position_trimmed`)"),
    ),
)]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    JsonBody(GoOn { from, session_id }): JsonBody<GoOn>,
    path: WebhookPath,
) -> ToldResult<WebhookAnswer> {
    let from = match from {
        Some(from) => Some((session_meant(&app, &path, session_id)?, from)),
        None => None,
    };
    app.webhooks.resume(&path.webhook, from).await?;
    Ok(Told(answer(&app, &path.webhook).await))
}

/// Deliver events again
///
/// Sets the webhook's position: it delivers from the event that `from` names on, with the same ids as before. Events behind the position are left out by a number
/// that lies ahead.
#[utoipa::path(
    post,
    path = "",
    request_body = Replay,
    responses(
        (status = 200, description = "The webhook as it is now", body = WebhookAnswer),
        (status = 409, description = "The events from there on are gone (`position_trimmed`)"),
    ),
)]
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    JsonBody(Replay { from, session_id }): JsonBody<Replay>,
    path: WebhookPath,
) -> ToldResult<WebhookAnswer> {
    let session = session_meant(&app, &path, session_id)?;
    app.webhooks.replay(&path.webhook, session, from).await?;
    Ok(Told(answer(&app, &path.webhook).await))
}

/// List a webhook's deliveries
///
/// The latest attempts, newest first: up to 100 of a webhook, up to three days old, since the daemon's start.
#[utoipa::path(
    get,
    path = "",
    params(AskedDeliveries),
    responses((status = 200, description = "Attempts", body = Vec<Delivery>)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    WebhookPath { webhook, .. }: WebhookPath,
    asked: AskedDeliveries,
) -> JsonResult<Vec<Delivery>> {
    Ok(Json(app.webhooks.deliveries(webhook.id, asked.before, asked.status, asked.limit)))
}

/// A delivery that failed, and that the receiver has not had since then.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryFailure {
    id: Uuid,
    webhook_id: Uuid,
    session_id: SessionId,
    /// The number of the event in the session's log.
    #[schema(example = 4711)]
    sequence: u64,
    /// The event, or `*` for events that were gone before they could be delivered.
    #[schema(example = "group.join")]
    event: String,
    url: String,
    idempotency_key: Option<Uuid>,
    #[schema(example = "dlv_5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11")]
    delivery_id: Option<String>,
    /// Attempts so far. While the webhook is not paused, there will be more.
    #[schema(example = 5)]
    attempts: u32,
    /// The status code of the latest answer; `null` when there was none.
    last_status_code: Option<u16>,
    #[schema(example = "the receiver answered 503 Service Unavailable")]
    last_error: String,
    /// When the first attempt was.
    created_at: Timestamp,
    /// When it is tried again; left out when nobody waits for that, as while the webhook is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_attempt_at: Option<Timestamp>,
    /// Whether it can be tried again: its event is in the log, as far as that is known.
    replayable: bool,
}

impl From<&FailedDelivery> for DeliveryFailure {
    fn from(failed: &FailedDelivery) -> Self {
        let (ids, failure) = (failed.ids(), &failed.failure);
        Self {
            id: failed.id(),
            webhook_id: failed.webhook.id,
            session_id: failed.session,
            sequence: failed.number,
            event: failure.event.clone(),
            url: failed.webhook.record().terms.url.clone(),
            idempotency_key: ids.map(|ids| ids.idempotency_key),
            delivery_id: ids.map(|ids| ids.delivery_id()),
            attempts: failure.attempts,
            last_status_code: failure.status,
            last_error: failure.error.clone(),
            created_at: failure.since,
            next_attempt_at: failed.next_attempt_at(),
            replayable: ids.is_some(),
        }
    }
}

/// List deliveries that failed
///
/// Of all webhooks that the key may see, newest first: deliveries whose quick attempts are used up, until the receiver has them. They are kept over restarts.
#[utoipa::path(
    get,
    path = "",
    params(AskedFailures),
    responses(
        (status = 200, description = "Failures", body = Vec<DeliveryFailure>),
        (status = 404, description = "There is no such session (`session_not_found`)"),
    ),
)]
pub(crate) async fn failures(
    State(app): State<Arc<App>>,
    caller: Caller,
    AskedFailures { session, page }: AskedFailures,
) -> JsonResult<Vec<DeliveryFailure>> {
    let mut failures = app.webhooks.failures(session);
    failures.retain(|one| may_see(&app, &caller, one));
    Ok(Json(page.of(&failures).iter().map(DeliveryFailure::from).collect()))
}

fn may_see(app: &App, caller: &Caller, failed: &FailedDelivery) -> bool {
    let sees_session = app.gateway.session(failed.session).is_ok_and(|session| caller.key.sees(&session));
    sees_session && app.webhooks.may_touch(&caller.key, &failed.webhook)
}

/// Which failed deliveries are to be tried again: all that match.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Redelivery {
    /// Only those of this session, by id or name.
    #[schema(value_type = Option<String>, example = json!(null))]
    session_id: Option<SessionId>,
    /// Only those of this webhook.
    #[schema(example = json!(null))]
    webhook_id: Option<Uuid>,
    /// Only these, by their ids in the list of failures.
    #[schema(max_items = 500, example = json!(null))]
    ids: Option<Vec<Uuid>>,
    /// How many at most; 100 by default.
    #[schema(minimum = 1, maximum = 500, example = 100)]
    limit: Option<u32>,
}

impl FromFields for Redelivery {
    fn read(fields: &mut Fields<'_>) -> Self {
        let session_id = session_field(fields);
        let webhook_id = fields.optional_text("webhookId").and_then(|text| id_of(fields, "webhookId", &text));
        let ids = (fields.has("ids") && !fields.take_null("ids")).then(|| {
            let texts = fields.texts("ids", 0..=*REDELIVERIES.end() as usize);
            texts.iter().filter_map(|text| id_of(fields, "ids", text)).collect()
        });
        Self { session_id, webhook_id, ids, limit: fields.nullable_number("limit", REDELIVERIES).flatten() }
    }
}

fn id_of(fields: &mut Fields<'_>, name: &str, text: &str) -> Option<Uuid> {
    let id = text.parse().ok();
    if id.is_none() {
        fields.broken(name, &format!("has {}, which is not a UUID", shorten(text)));
    }
    id
}

/// What became of the deliveries that were tried again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RedeliveryAnswer {
    /// Deliveries that the receiver has now.
    #[schema(example = 1)]
    redriven: usize,
    /// The same.
    #[schema(example = 1)]
    delivered: usize,
    /// Always 0: each was tried before the answer.
    #[schema(example = 0)]
    enqueued: usize,
    /// Deliveries that failed again.
    #[schema(example = 0)]
    failed: usize,
    /// Deliveries that were not tried: their events are gone, or their webhooks do not want or may not have them any more.
    #[schema(example = 0)]
    skipped: usize,
    /// Deliveries that match and still fail.
    #[schema(example = 0)]
    remaining: usize,
}

impl Tells for RedeliveryAnswer {
    fn happened(&self) -> Happened {
        Happened::default()
    }
}

/// Deliver again what failed
///
/// Tries failed deliveries again, now and out of turn, those with the fewest attempts first. The waits of their webhooks are not changed.
#[utoipa::path(
    post,
    path = "",
    request_body = Redelivery,
    responses((status = 200, description = "What became of them", body = RedeliveryAnswer)),
)]
pub(crate) async fn redrive(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(order): JsonBody<Redelivery>,
) -> ToldResult<RedeliveryAnswer> {
    let order = RedeliveryOrder {
        session: order.session_id,
        webhook: order.webhook_id,
        ids: order.ids,
        count_max: order.limit.unwrap_or(REDELIVERIES_DEFAULT) as usize,
    };
    let done = app.webhooks.redeliver(&order, |one| may_see(&app, &caller, one)).await;
    Ok(Told(RedeliveryAnswer {
        redriven: done.delivered,
        delivered: done.delivered,
        enqueued: 0,
        failed: done.failed,
        skipped: done.skipped,
        remaining: done.remaining,
    }))
}
