//! Web pages of other origins: which of them may call from a browser, by the Fetch standard's CORS protocol. None may
//! unless the operator names it; a key is needed all the same.

use std::str::FromStr;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};

/// Seconds for which a browser may remember the answer to its question.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Idempotency-Key, If-None-Match, X-API-Key, X-Request-ID");
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "Age, Content-Disposition, ETag, Idempotency-Replayed, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, \
     X-Request-ID, X-Total-Count",
);

/// The origins that may call: scheme, host and port, as browsers write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsOrigins(Vec<String>);

impl CorsOrigins {
    /// The origin of the request as it is to be answered, if it may call.
    fn allowed<'a>(&self, request: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        self.0.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then_some(origin)
    }

    /// The answer to a browser's question whether a page may call at all. `None`: it is no such question, or the page may
    /// not.
    pub(super) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<Response<Body>> {
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

    /// What the page that called needs to see the answer; `None` when it may not, or no page called.
    pub(super) fn origin_to_answer(&self, request: &HeaderMap) -> Option<HeaderValue> {
        self.allowed(request).cloned()
    }

    /// Lets the page see the answer. A cache has to know that answers differ by page wherever any may call.
    pub(super) fn answer(&self, origin: Option<HeaderValue>, answer: &mut HeaderMap) {
        if !self.0.is_empty() {
            answer.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = origin {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        }
    }
}

/// The text names something that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin")]
pub struct OriginError(String);

impl FromStr for CorsOrigins {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let origins = text.split(',').map(str::trim).map(|text| origin(text).ok_or_else(|| OriginError(text.into())));
        origins.collect::<Result<_, _>>().map(Self)
    }
}

/// As a browser writes it: no path, and no port where it is the scheme's own.
fn origin(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let is_bare = text.len() == scheme.len() + "://".len() + authority.as_str().len();
    let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let is_short = authority.port_u16() != Some(own_port) && text == text.to_ascii_lowercase();
    (is_bare && is_plain && is_short).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_write() {
        for text in ["https://app.example.com", "http://localhost:3000", "https://[::1]:8443"] {
            assert_eq!(text.parse(), Ok(CorsOrigins(vec![text.into()])), "{text}");
        }
        let both = "https://a.example, https://b.example".parse();
        assert_eq!(both, Ok(CorsOrigins(vec!["https://a.example".into(), "https://b.example".into()])));
        for text in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://app.example.com:443",
            "HTTPS://app.example.com",
            "https://user@app.example.com",
            "ftp://app.example.com",
            "https://a.example,",
        ] {
            assert!(text.parse::<CorsOrigins>().is_err(), "{text}");
        }
    }
}
