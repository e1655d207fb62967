//! The layer around every request, whatever its route: client address, path, request id, time limit, panics, the
//! headers of every response, one log line. Never logs a caller's input: only the method, the route's template and the
//! request id.

use std::any::Any;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::MatchedPath;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::Body;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::auth::{RateState, client_address};
use crate::config::HttpOptions;
use crate::http::error::{ApiError, Cause};
use crate::http::limits::REQUEST_ID_CHARS_MAX;
use crate::http::request::context::RequestContext;
use crate::http::server::places::Place;

/// In every response, and in a request when the client has an id of its own.
const REQUEST_ID: &str = "x-request-id";
/// The header to which proxies add their clients' addresses.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The other end of a connection, and the connection's state.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// `None` in tests, where there is no connection.
    pub(crate) place: Option<Arc<Place>>,
    /// The daemon stops, and the time for its requests is over.
    pub(crate) over: CancellationToken,
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self { address, place: None, over: CancellationToken::new() }
    }
}

/// Answers one request; never fails and never panics.
pub(crate) async fn answer<B>(
    options: &HttpOptions,
    mut router: Router,
    peer: impl Into<Peer>,
    mut request: Request<B>,
) -> Response
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let started = Instant::now();
    let Peer { address: peer, place, over } = peer.into();
    let forwarded = request.headers().get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let client = client_address(peer, forwarded, &options.trusted_proxies);
    let id = request_id(request.headers());
    let context = Arc::new(RequestContext::new(peer, place, client, id.clone()));
    let origin = options.cors_origins.origin_to_answer(request.headers());
    let method = request.method().clone();
    without_trailing_slash(&mut request);
    request.extensions_mut().insert(Arc::clone(&context));

    let url_bytes = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
    let mut response = if let Some(answer) = options.cors_origins.preflight(&method, request.headers()) {
        answer
    } else if url_bytes > options.limits.url_bytes_max {
        ApiError::UrlTooLong { bytes_max: options.limits.url_bytes_max }.into_response()
    } else {
        let answer = AssertUnwindSafe(async { router.call(request).await }).catch_unwind();
        let may_have_changed = !is_read(&method);
        tokio::select! {
            biased;
            answer = in_time(answer, &context) => match answer {
                Ok(Ok(Ok(response))) => response,
                Ok(Ok(Err(never))) => match never {},
                Ok(Err(panic)) => panicked(panic.as_ref()).into_response(),
                Err(TooSlow) => ApiError::TooSlow { may_have_changed }.into_response(),
            },
            () = over.cancelled() => ApiError::Stopped { may_have_changed }.into_response(),
        }
    };

    log(&response, &id, &method, context.route().map_or("none", MatchedPath::as_str), started.elapsed());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    options.cors_origins.answer(origin, headers);
    if let Some(rate) = context.rate() {
        add_rate(rate, headers);
    }
    add_security(headers);
    response
}

/// The request has no time left.
struct TooSlow;

/// The answer, unless the request's time is over before. Its route may have given it more than it began with.
async fn in_time<T>(answer: impl Future<Output = T>, context: &RequestContext) -> Result<T, TooSlow> {
    let mut answer = pin!(answer);
    loop {
        let deadline = context.deadline();
        match timeout_at(deadline, &mut answer).await {
            Ok(answer) => return Ok(answer),
            Err(_) if context.deadline() > deadline => {}
            Err(_) => return Err(TooSlow),
        }
    }
}

/// How much the key may still ask for, by the names that most clients know (draft-ietf-httpapi-ratelimit-headers-07).
fn add_rate(rate: RateState, headers: &mut HeaderMap) {
    headers.insert("ratelimit-limit", rate.limit.into());
    headers.insert("ratelimit-remaining", rate.remaining.into());
    headers.insert("ratelimit-reset", rate.reset_s.into());
}

/// Headers for browsers and caches: a response is of the type that it names, is never shown inside another page, loads
/// nothing, and is not cached. A response with a tag may be cached by its reader, who has to ask again each time.
fn add_security(headers: &mut HeaderMap) {
    let caching = if headers.contains_key(header::ETAG) { "private, no-cache" } else { "no-store" };
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(caching));
}

/// One line per request at debug, and one at error or warn when it failed on our side, with the cause.
fn log(response: &Response, id: &HeaderValue, method: &Method, route: &str, duration: Duration) {
    let request_id = id.to_str().unwrap_or_default();
    let status = response.status();
    if let Some(Cause(cause)) = response.extensions().get() {
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(request.id = request_id, %method, route, error = %cause, "request failed");
        } else {
            warn!(request.id = request_id, %method, route, error = %cause, "request failed");
        }
    }
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    debug!(request.id = request_id, %method, route, status = status.as_u16(), duration_us, "request");
}

/// The client's own id when it is plain and short, else a fresh UUID.
fn request_id(request: &HeaderMap) -> HeaderValue {
    let is_plain = |id: &[u8]| id.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let own = request.get(REQUEST_ID);
    let own = own.filter(|id| (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && is_plain(id.as_bytes()));
    own.cloned().unwrap_or_else(|| {
        let mut text = Uuid::encode_buffer();
        let text = fresh_id().hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

/// Ids have to differ, not to be unguessable: a counter under a hash with random keys saves a system call per request.
fn fresh_id() -> Uuid {
    static HALVES: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = [0, 1].map(|half: usize| HALVES[half].hash_one(count));
    uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()).into_uuid()
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The error of a panic, for its caller.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> ApiError {
    ApiError::Internal(format!("panic: {}", panic_text(panic)))
}

/// The text of a panic, if it is part of the program: formatted texts may hold input of a caller or of WhatsApp.
fn panic_text(panic: &(dyn Any + Send)) -> &'static str {
    panic.downcast_ref::<&'static str>().copied().unwrap_or("see the panic's own line")
}

/// Takes one trailing slash off the path: `/api/sessions/` is `/api/sessions`.
fn without_trailing_slash<B>(request: &mut Request<B>) {
    let path = request.uri().path();
    if path.len() < 2 || !path.ends_with('/') {
        return;
    }
    let path = &path[..path.len() - 1];
    let text = request.uri().query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let Ok(path_and_query) = PathAndQuery::try_from(text) else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(path_and_query);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_slash_makes_no_difference() {
        let cases = [
            ("/api/sessions/", "/api/sessions"),
            ("/api/sessions/?limit=1", "/api/sessions?limit=1"),
            ("/api/sessions?name=a/", "/api/sessions?name=a/"),
            ("/", "/"),
            ("http://host:1/api/", "http://host:1/api"),
        ];
        for (given, expected) in cases {
            let mut request = Request::builder().uri(given).body(()).unwrap();
            without_trailing_slash(&mut request);
            assert_eq!(request.uri().to_string(), expected);
        }
    }

    #[test]
    fn fresh_ids_are_uuids_that_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| fresh_id()).collect();
        assert!(ids.len() == 1000 && ids.iter().all(|id| id.get_version_num() == 4));
    }

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        let long = "a".repeat(129);
        for (given, kept) in [("abc-123", true), ("", false), ("a b", false), ("a_b", false), (long.as_str(), false)] {
            let id = request_id(&HeaderMap::from_iter([(REQUEST_ID.parse().unwrap(), given.parse().unwrap())]));
            assert_eq!(id == given, kept, "{given}");
            assert!(kept || Uuid::try_parse(id.to_str().unwrap()).is_ok());
        }
    }
}
