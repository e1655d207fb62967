//! Records calls in the audit log: every call that changes something, with its result, and every refusal. The result of
//! a call is in the extensions of its response ([`Happened`]).

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use rookery_model::GroupId;
use tower::Service;

use crate::app::App;
use crate::audit::{AuditEvent, Outcome};
use crate::http::error::{AccessDenied, AccessError, ApiError, NothingDone};
use crate::http::middleware::idempotency::{self, FirstReplay, REPLAYED_HEADER};
use crate::http::middleware::request_context::panicked;
use crate::http::policy::AccessPolicy;
use crate::http::request::caller::Caller;
use crate::http::request::context::RequestContext;
use crate::http::request::extract::GROUP_PARAMETERS;
use crate::http::request::extract::SESSION_PARAMETER;
use crate::http::request::extract::group_of;
use crate::http::request::extract::path_parameters;
use crate::http::request::written::shorten;
use crate::http::response::happened::Happened;

/// Participants or groups in one record: more than one request may name. Only membership requests, which may be decided
/// all at once, can be more.
const RESULTS_MAX: usize = 400;
/// The path parameter that names an API key.
const KEY_PARAMETER: &str = "key";

/// The event of a call, before the call is carried out.
pub(crate) fn entry_of(app: &App, action: &Arc<str>, parts: &mut Parts) -> AuditEvent {
    let context = parts.extensions.get::<Arc<RequestContext>>().cloned();
    let parameters = path_parameters(parts).ok();
    let named = |name: &str| parameters.as_ref()?.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let key = context.as_ref().and_then(|context| context.key());
    let request_id = context.as_ref().and_then(|context| context.request_id.to_str().ok());
    AuditEvent {
        api_key_id: key.map(|key| key.id()),
        api_key_name: key.map(|key| key.record().terms.name.clone()),
        session_id: named(SESSION_PARAMETER).and_then(|session| app.gateway.find(session).ok()),
        group_id: GROUP_PARAMETERS.iter().find_map(|name| named(name)).map(group_name),
        target_id: named(KEY_PARAMETER).map(shorten),
        request_id: request_id.unwrap_or_default().to_owned(),
        ip_address: context.and_then(|context| context.client),
        ..AuditEvent::of(Arc::clone(action), Outcome::Done)
    }
}

/// The group of a path, in the form that the filters of the log look for; a text that names no group as it is.
fn group_name(text: &str) -> String {
    group_of(text).map_or_else(|_| shorten(text), |group| group.to_string())
}

/// Records that a call was not let in. Never waits.
pub(crate) fn note_refusal(app: &App, mut entry: AuditEvent, error: &ApiError) {
    let (status, code) = error.status_and_code();
    entry.outcome = if matches!(error, ApiError::Access(_)) { Outcome::Refused } else { Outcome::Failed };
    (entry.status_code, entry.code) = (status, Some(code.to_owned()));
    app.audit.note_unchanged(entry);
}

/// Carries a call out, and records its result before the response is sent. Must not be dropped half way.
pub(crate) async fn carry_out<S>(
    app: Arc<App>,
    entry: AuditEvent,
    route: S,
    request: Request,
    policy: AccessPolicy,
) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    // Holds the request's permits to the end, even when its client is gone.
    let _context = request.extensions().get::<Arc<RequestContext>>().cloned();
    let caller = request.extensions().get::<Caller>().cloned();
    let recorded = Recorded { app: Arc::clone(&app), removes: policy.removes, route };
    let response = if policy.once_per_key && idempotency::has_key(request.headers()) {
        let calls = &app.idempotency;
        idempotency::call_once(calls, request, policy.sends, |request| recorded.call(request)).await.into_response()
    } else {
        recorded.call(request).await
    };
    let is_nothing_done = response.extensions().get::<NothingDone>().is_some();
    if is_nothing_done && app.audit.check_writable(policy.removes).is_err() {
        // The call cannot be recorded now, and would only be in the way of calls that can.
        return response;
    }
    if let Some(error) = caller.and_then(|caller| out_of_scope(&caller, &response)) {
        note_refusal(&app, entry, &error);
        return error.into_response();
    }
    let entry = AuditEvent { removes: policy.removes, sends: policy.sends, ..completed(entry, &response) };
    // A call that did nothing, or that was replayed, is like a refusal: nobody waits for its record, and many of a kind
    // are one record. But a daemon that was killed may have kept a response without its record.
    let is_on_record = entry.replayed && response.extensions().get::<FirstReplay>().is_none();
    if is_nothing_done || is_on_record {
        app.audit.note_unchanged(entry);
    } else {
        app.audit.note(entry).await;
    }
    response
}

/// Why a replayed response is not for this caller: it names groups that the key may not touch any more, or its groups
/// are not known.
fn out_of_scope(caller: &Caller, response: &Response) -> Option<ApiError> {
    if !caller.key.is_limited_to_groups() || !response.headers().contains_key(REPLAYED_HEADER) {
        return None;
    }
    let is_allowed = response.extensions().get::<Happened>().is_some_and(|happened| {
        let ids = happened.target.iter().chain(happened.results.iter().map(|(id, _)| id)).chain(&happened.groups);
        let mut groups = ids.filter_map(|id| id.parse::<GroupId>().ok());
        groups.all(|group| caller.key.allows_group(&group))
    });
    (!is_allowed).then(|| AccessError::GroupNotAllowed.into())
}

/// A route whose calls are recorded: none is carried out while the log cannot be written.
struct Recorded<S> {
    app: Arc<App>,
    removes: bool,
    route: S,
}

impl<S> Recorded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    /// A panic becomes a response like any other failure.
    async fn call(mut self, request: Request) -> Response {
        if let Err(error) = self.app.audit.check_writable(self.removes) {
            return ApiError::from(error).into_response();
        }
        match AssertUnwindSafe(async { self.route.call(request).await }).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => panicked(panic.as_ref()).into_response(),
        }
    }
}

fn completed(mut entry: AuditEvent, response: &Response) -> AuditEvent {
    let happened = response.extensions().get::<Happened>();
    let status = response.status();
    entry.outcome = match response.extensions().get::<AccessDenied>() {
        Some(AccessDenied) => Outcome::Refused,
        None if status.is_success() => Outcome::Done,
        None => Outcome::Failed,
    };
    entry.status_code = status.as_u16();
    entry.replayed = response.headers().contains_key(REPLAYED_HEADER);
    entry.detail_missing = entry.replayed && happened.is_none();
    let Happened { code, target, results, .. } = happened.cloned().unwrap_or_default();
    entry.code = code.filter(|_| !status.is_success());
    entry.target_id = entry.target_id.or(target.filter(|_| status.is_success()));
    if entry.replayed && response.extensions().get::<FirstReplay>().is_none() {
        // The results are in the record of the first call: a repetition must not fill the log.
        return entry;
    }
    entry.results_left_out = results.len().saturating_sub(RESULTS_MAX) as u64;
    for (id, code) in results.into_iter().take(RESULTS_MAX) {
        entry.results.entry(code).or_default().push(id);
    }
    entry
}
