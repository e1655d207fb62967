//! Web pages of other origins: which of them may call from a browser, by the Fetch standard's CORS protocol. None may
//! unless the operator names it; a key is needed all the same.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::config::CorsOrigins;

/// Seconds for which a browser may remember the response to a preflight request.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Idempotency-Key, If-None-Match, X-API-Key, X-Request-ID");
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "Age, Content-Disposition, ETag, Idempotency-Replayed, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, \
     X-Request-ID, X-Total-Count",
);

impl CorsOrigins {
    /// The request's origin for the response, if it may call.
    fn allowed<'a>(&self, request: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        self.contains(origin.as_bytes()).then_some(origin)
    }

    /// The response to a preflight request: whether a page may call at all. `None`: it is no preflight request, or the
    /// page may not call.
    pub(crate) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<Response<Body>> {
        if method != Method::OPTIONS || !request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        self.allowed(request)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        Some(response)
    }

    /// The origin that lets the calling page see the response; `None` when it may not, or no page called.
    pub(crate) fn origin_to_answer(&self, request: &HeaderMap) -> Option<HeaderValue> {
        self.allowed(request).cloned()
    }

    /// Lets the page see the response. Where any page may call, a cache has to know that responses differ by page.
    pub(crate) fn answer(&self, origin: Option<HeaderValue>, answer: &mut HeaderMap) {
        if !self.is_empty() {
            answer.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = origin {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        }
    }
}
