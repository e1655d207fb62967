//! JSON answers with an `ETag`: 304 for a caller who has the same already (RFC 9110, `If-None-Match`).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rookery_model::tag_of;
use serde::Serialize;

use crate::http::error::ApiError;

/// Most groups fit: saves growing the buffer step by step.
const BODY_BYTES_EXPECTED: usize = 4 * 1024;

/// JSON with an `ETag`, or 304 without a body when the caller has just that already.
///
/// # Errors
/// [`ApiError::Internal`] when the value cannot be written as JSON.
pub(crate) fn tagged<T: Serialize + ?Sized>(request: &HeaderMap, value: &T) -> Result<Response, ApiError> {
    let mut body = Vec::with_capacity(BODY_BYTES_EXPECTED);
    serde_json::to_writer(&mut body, value).map_err(|error| ApiError::Internal(error.to_string()))?;
    let tag = written(tag_of(&body));
    let response = if is_known(request, &tag) { not_modified() } else { json(body) };
    Ok(with_tag(&tag, response))
}

/// As [`tagged`], for JSON that has its tag already. `body`: `None` when the caller has one of [`known_tags`].
pub(crate) fn tagged_as(request: &HeaderMap, tag: u64, body: Option<Vec<u8>>) -> Response {
    let tag = written(tag);
    let body = body.filter(|_| !is_known(request, &tag));
    with_tag(&tag, body.map_or_else(not_modified, json))
}

/// The tags in `If-None-Match` that can be ours.
pub(crate) fn known_tags(request: &HeaderMap) -> Vec<u64> {
    let tags = known(request).filter_map(|tag| u64::from_str_radix(tag.strip_prefix('"')?.strip_suffix('"')?, 16).ok());
    tags.collect()
}

fn not_modified() -> Response {
    StatusCode::NOT_MODIFIED.into_response()
}

fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(body)).into_response()
}

fn with_tag(tag: &str, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn written(tag: u64) -> String {
    format!("\"{tag:016x}\"")
}

/// Whether `If-None-Match` names this tag, or any.
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    known(request).any(|known| known == "*" || known == tag)
}

/// The tags in `If-None-Match`; a weak mark (`W/`) makes no difference here.
fn known(request: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|one| one.trim().trim_start_matches("W/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_tag_is_answered_without_a_body() {
        let tag = written(tag_of(b"[1,2]".as_slice()));
        let cases = [
            (None, StatusCode::OK),
            (Some(tag.clone()), StatusCode::NOT_MODIFIED),
            (Some(format!("\"0\", W/{tag}")), StatusCode::NOT_MODIFIED),
            (Some("*".into()), StatusCode::NOT_MODIFIED),
            (Some("\"0\"".into()), StatusCode::OK),
        ];
        for (known, status) in cases {
            let mut request = HeaderMap::new();
            if let Some(known) = known {
                request.insert(header::IF_NONE_MATCH, known.parse().unwrap());
            }
            let response = tagged(&request, &[1, 2]).unwrap();
            assert_eq!((response.status(), &response.headers()[header::ETAG]), (status, &tag.parse().unwrap()));
        }
    }

    #[test]
    fn what_has_its_tag_already_is_answered_without_a_body_when_it_is_known() {
        let cases = [
            ("", vec![], StatusCode::OK),
            ("\"000000000000000a\"", vec![10], StatusCode::NOT_MODIFIED),
            ("\"b\", W/\"000000000000000a\"", vec![11, 10], StatusCode::NOT_MODIFIED),
            ("*", vec![], StatusCode::NOT_MODIFIED),
            ("\"a", vec![], StatusCode::OK),
            ("\"not ours\"", vec![], StatusCode::OK),
        ];
        for (known, tags, status) in cases {
            let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, known.parse().unwrap())]);
            assert_eq!(known_tags(&request), tags, "{known}");
            let response = tagged_as(&request, 10, Some(b"[1,2]".to_vec()));
            assert_eq!(
                (response.status(), &response.headers()[header::ETAG]),
                (status, &HeaderValue::from_static("\"000000000000000a\"")),
                "{known}"
            );
        }
        assert_eq!(tagged_as(&HeaderMap::new(), 10, None).status(), StatusCode::NOT_MODIFIED);
    }
}
