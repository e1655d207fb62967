//! What the audit log gets to know: every call that changes something, with what it came to, and every refusal. What a
//! call came to is read from its answer, so that no handler can forget to say it.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tower::Service;

use super::access::{GROUP_PARAMETERS, SESSION_PARAMETER};
use super::envelope::{Arrival, panicked};
use super::error::{ApiError, NothingDone, Refused};
use super::extract::path_parameters;
use super::fields::shorten;
use super::idempotent::{self, REPLAYED_HEADER};
use crate::app::App;
use crate::audit::{Entry, Outcome};

/// People or groups in one record: more than one request may name. Requests to be let in, which may be decided all at once,
/// can be more than a record holds.
const RESULTS_MAX: usize = 400;
/// The path parameter that names an API key.
const KEY_PARAMETER: &str = "key";

/// What is read of an answer; all of it may be absent.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answered {
    /// Of a failure.
    code: Option<String>,
    /// Of what was made.
    id: Option<String>,
    /// Of a group that was joined.
    group_id: Option<String>,
    results: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    code: String,
}

/// What is known of a call before it is carried out.
pub(super) fn entry_of(app: &App, action: &Arc<str>, parts: &mut Parts) -> Entry {
    let arrival = parts.extensions.get::<Arc<Arrival>>().cloned();
    let parameters = path_parameters(parts).ok();
    let named = |name: &str| parameters.as_ref()?.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let key = arrival.as_ref().and_then(|arrival| arrival.key());
    let request_id = arrival.as_ref().and_then(|arrival| arrival.request_id.to_str().ok());
    Entry {
        api_key_id: key.map(|key| key.id()),
        api_key_name: key.map(|key| key.record().terms.name.clone()),
        session_id: named(SESSION_PARAMETER).and_then(|session| app.gateway.find(session).ok()),
        group_id: GROUP_PARAMETERS.iter().find_map(|name| named(name)).map(shorten),
        target_id: named(KEY_PARAMETER).map(shorten),
        request_id: request_id.unwrap_or_default().to_owned(),
        ip_address: arrival.and_then(|arrival| arrival.client),
        ..Entry::of(Arc::clone(action), Outcome::Done)
    }
}

/// Notes that a call was not let in. Never waits.
pub(super) fn note_refusal(app: &App, mut entry: Entry, error: &ApiError) {
    let (status, code) = error.status_and_code();
    entry.outcome = if matches!(error, ApiError::Access(_)) { Outcome::Refused } else { Outcome::Failed };
    (entry.status_code, entry.code) = (status, Some(code.to_owned()));
    app.audit.note_refusal(entry);
}

/// Carries a call out and notes what it came to before it is answered. Not to be dropped half way.
pub(super) async fn carry_out<S>(
    app: Arc<App>,
    entry: Entry,
    route: S,
    request: Request,
    once_per_key: bool,
) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    // Holds its share of what may be in flight, whoever still waits.
    let _arrival = request.extensions().get::<Arc<Arrival>>().cloned();
    if let Err(error) = app.audit.check_writable() {
        return ApiError::from(error).into_response();
    }
    let response = if once_per_key && idempotent::has_key(request.headers()) {
        idempotent::call_once(Arc::clone(&app.idempotency), route, request).await.into_response()
    } else {
        call(route, request).await
    };
    let (parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return ApiError::Internal(error.to_string()).into_response(),
    };
    let response = Response::from_parts(parts, Body::from(body.clone()));
    let entry = completed(entry, &response, &body);
    // What did nothing is like a refusal: nobody waits for it, and many of a kind are one record.
    match response.extensions().get::<NothingDone>() {
        Some(NothingDone) => app.audit.note_refusal(entry),
        None => app.audit.note(entry).await,
    }
    response
}

/// A panic is an answer like any other.
pub(super) async fn call<S>(mut route: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    match AssertUnwindSafe(async { route.call(request).await }).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(panic) => panicked(panic.as_ref()).into_response(),
    }
}

fn completed(mut entry: Entry, response: &Response, body: &[u8]) -> Entry {
    let answered: Answered = serde_json::from_slice(body).unwrap_or_default();
    let status = response.status();
    entry.outcome = match response.extensions().get::<Refused>() {
        Some(Refused) => Outcome::Refused,
        None if status.is_success() => Outcome::Done,
        None => Outcome::Failed,
    };
    entry.status_code = status.as_u16();
    entry.code = answered.code.filter(|_| !status.is_success());
    let made = answered.group_id.or(answered.id).filter(|_| status == StatusCode::CREATED || entry.group_id.is_none());
    entry.target_id = entry.target_id.or(made.filter(|_| status.is_success()));
    entry.results_left_out = answered.results.len().saturating_sub(RESULTS_MAX) as u64;
    for Answer { id, code } in answered.results.into_iter().take(RESULTS_MAX) {
        entry.results.entry(code).or_default().push(id);
    }
    entry.replayed = response.headers().contains_key(REPLAYED_HEADER);
    entry
}
