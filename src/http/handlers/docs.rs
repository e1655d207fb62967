//! The API's own documentation: the OpenAPI document, and a page for people that is made of it and needs nothing from
//! elsewhere. Both are made once, of the routes, when they are first asked for.

use std::sync::LazyLock;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

mod page;

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(Documentation::make);

struct Documentation {
    document: Bytes,
    page: Bytes,
    /// Allows nothing but the page's own style sheet.
    page_policy: HeaderValue,
}

impl Documentation {
    fn make() -> Self {
        let document = crate::http::openapi::document(crate::http::routes());
        let style_hash = STANDARD.encode(Sha256::digest(page::STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        Self {
            page: page::render(&document).into(),
            document: document.to_string().into(),
            page_policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }
}

/// Get the API documentation as a page
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The page; it loads nothing from elsewhere", content_type = "text/html")),
)]
pub(crate) async fn page() -> Response {
    let policy = (header::CONTENT_SECURITY_POLICY, DOCUMENTATION.page_policy.clone());
    answer("text/html; charset=utf-8", [policy], DOCUMENTATION.page.clone())
}

/// Get the OpenAPI document
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, example = json!({ "openapi": "3.1.0" }))),
)]
pub(crate) async fn document() -> Response {
    answer("application/json", [], DOCUMENTATION.document.clone())
}

fn answer<const N: usize>(kind: &'static str, more: [(HeaderName, HeaderValue); N], body: Bytes) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let no_sniffing = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    ([kind, no_sniffing], more.into_iter().collect::<axum::http::HeaderMap>(), body).into_response()
}
