//! Writes with an `Idempotency-Key`: each is carried out once, to its end, even when its client is gone. Every further
//! call with the same key and request gets the first response. `idempotency.rs` keeps the responses; `error.rs` decides
//! which responses use a key up.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tracing::warn;

use crate::http::error::{ApiError, InDoubt, NothingDone};
use crate::http::limits::IDEMPOTENCY_KEY_CHARS;
use crate::http::request::body::taken;
use crate::http::request::caller::Caller;
use crate::http::request::extract::SESSION_PARAMETER;
use crate::http::request::extract::path_parameters;
use crate::http::request::seed::new_seed;
use crate::http::response::happened::Happened;
use crate::idempotency::{Call, Execution, Fingerprint, Idempotency, KeptResponse, Slot, Start};

const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// In responses that are replayed.
pub(crate) const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The response was kept before the daemon was started, and is replayed for the first time since: it may be missing
/// from the audit log. Lies in the extensions of the response.
#[derive(Clone)]
pub(crate) struct FirstReplay;

/// `Retry-After` of a replayed failure whose record has none, in seconds: as after a time-out.
const REPLAY_RETRY_S: u32 = 5;

/// Whether the request has an idempotency key.
pub(crate) fn has_key(headers: &HeaderMap) -> bool {
    headers.contains_key(KEY_HEADER)
}

/// Carries a call out with `carry_out`, unless its key was used before. The call has been let in. `sends`: it sends a message, whose
/// seed is in the request's extensions then. Must not be dropped half way.
///
/// # Errors
/// Why the call is not carried out. The route's own responses, failures included, are `Ok`.
pub(crate) async fn call_once<F: Future<Output = Response>>(
    calls: &Arc<Idempotency>,
    request: Request,
    sends: bool,
    carry_out: impl FnOnce(Request) -> F,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let taken = taken(&parts)?;
    let key = key_of(&parts.headers)?.to_owned();
    let caller: Option<&Caller> = parts.extensions.get();
    let slot = caller.and_then(|caller| {
        let (session, user) = (caller.session_number?, caller.key.id());
        Some((Slot::new(session, caller.account_epoch, user, &key), user))
    });
    let (slot, user) = slot.ok_or_else(|| ApiError::Internal("a route with keys names no session".into()))?;
    let fingerprint = fingerprint(&mut parts, &taken)?;
    drop(taken);
    let seed = if sends { Some(new_seed()?) } else { None };
    match calls.start(slot, Call { user, fingerprint, seed }).await? {
        Start::First(call) => {
            if let Some(seed) = call.seed() {
                parts.extensions.insert(seed);
            }
            keep(call, carry_out(Request::from_parts(parts, body)).await).await
        }
        Start::Again(again) => {
            let mut response = replay(again.answer)?;
            if again.is_first_since_start {
                response.extensions_mut().insert(FirstReplay);
            }
            Ok(response)
        }
    }
}

/// The key as the caller wrote it.
fn key_of(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(ApiError::IdempotencyKeyInvalid) };
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    text.filter(|text| IDEMPOTENCY_KEY_CHARS.contains(&text.len())).ok_or(ApiError::IdempotencyKeyInvalid)
}

/// The fingerprint of method, route, the values in the path, query and body. It leaves out the session, which is in the
/// slot: a session's id and its name are the same here.
fn fingerprint(parts: &mut Parts, body: &Bytes) -> Result<Fingerprint, ApiError> {
    let parameters = path_parameters(parts)?;
    let values = parameters.iter().filter(|(name, _)| *name != SESSION_PARAMETER).map(|(_, value)| value.as_bytes());
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let query = parts.uri.query().unwrap_or_default();
    let mut pieces = vec![parts.method.as_str().as_bytes(), route.as_bytes(), query.as_bytes(), body.as_ref()];
    pieces.extend(values);
    Ok(Fingerprint::of(&pieces))
}

/// Keeps the response of a call, or frees its key when nothing was done.
async fn keep(call: Execution, response: Response) -> Result<Response, ApiError> {
    if response.extensions().get::<NothingDone>().is_some() {
        if let Err(error) = call.release().await {
            warn!(%error, "could not free an idempotency key, it counts as interrupted");
        }
        return Ok(response);
    }
    if call.seed().is_some() && response.extensions().get::<InDoubt>().is_some() {
        // The call stays begun: when it is repeated, the same message is sent once more.
        return Ok(response);
    }
    if call.is_resumed() && !response.status().is_success() {
        let code = response.extensions().get::<Happened>().and_then(|happened| happened.code.clone());
        return Err(ApiError::ResendRefused(code.unwrap_or_default()));
    }
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| ApiError::Internal(error.to_string()))?.to_bytes();
    let happened = parts.extensions.get::<Happened>().cloned().unwrap_or_default();
    let kept = KeptResponse {
        status: parts.status.as_u16(),
        headers: kept_headers(&parts.headers),
        body: body.clone(),
        happened: serde_json::to_value(happened).ok(),
    };
    // The call is done: its caller gets the response, even when it cannot be replayed.
    if let Err(error) = call.keep(kept).await {
        warn!(%error, "could not keep an answer, its idempotency key counts as interrupted");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// All headers but the length, which follows from the body. `request_context.rs` adds the headers of a single exchange
/// later.
fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let others = headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH);
    others.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}

fn replay(answer: KeptResponse) -> Result<Response, ApiError> {
    let mut response = Response::builder().status(answer.status).header(REPLAYED_HEADER, "true");
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let happened = match answer.happened {
        Some(happened) => serde_json::from_value(happened).ok(),
        None => Happened::of_kept(&answer.body),
    };
    if happened.is_none() {
        warn!("what a kept answer came to cannot be read, its audit record is without that");
    }
    let response = response.body(Body::from(answer.body));
    let mut response =
        response.map_err(|error| ApiError::Internal(format!("a kept answer cannot be sent: {error}")))?;
    if let Some(happened) = happened {
        response.extensions_mut().insert(happened);
    }
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        // Clients wait for this time before they check or try again. Older records have no such header.
        response.headers_mut().entry(header::RETRY_AFTER).or_insert(REPLAY_RETRY_S.into());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_replayed_503_says_when_to_come_back_also_when_its_record_does_not() {
        let replayed = |status, headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let response = replay(KeptResponse { status, headers, body: Bytes::new(), happened: None }).unwrap();
            response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(replayed(503, &[("retry-after", "7")]).as_deref(), Some("7"));
        assert_eq!(replayed(503, &[]).as_deref(), Some("5"));
        assert_eq!(replayed(201, &[]), None);
        let kept = kept_headers(&HeaderMap::from_iter([
            (header::RETRY_AFTER, HeaderValue::from_static("7")),
            (header::CONTENT_LENGTH, HeaderValue::from_static("2")),
        ]));
        assert_eq!(kept, [("retry-after".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn a_key_is_one_value_of_printable_ascii() {
        let (longest, too_long) = ("k".repeat(255), "k".repeat(256));
        let cases: [(&[&[u8]], bool); 8] = [
            (&[b"5f0c6e9a-3f43"], true),
            (&[b"a key"], true),
            (&[longest.as_bytes()], true),
            (&[too_long.as_bytes()], false),
            (&[b""], false),
            (&[b"a\tb"], false),
            (&[b"\xc3\xbc"], false),
            (&[b"a", b"b"], false),
        ];
        for (values, accepted) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(KEY_HEADER, HeaderValue::from_bytes(value).unwrap());
            }
            assert_eq!(key_of(&headers).is_ok(), accepted, "{values:?}");
        }
    }
}
