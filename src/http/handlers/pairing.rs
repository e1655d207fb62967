//! Linking a phone: the QR to scan, or the code to type. Both are secrets while they are valid and never logged.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use rookery_model::{ParticipantId, SessionStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::request::extract::{JsonBody, SessionPath, query, value_of};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::happened::Tells;
use crate::http::response::json::Created;
use crate::qr_image;

/// The format of a QR.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
enum QrFormat {
    Json,
    Text,
    Png,
    Svg,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct QrAnswer {
    /// A PNG as a data URL.
    #[schema(example = "data:image/png;base64,iVBORw0KGgo=")]
    qr_code: String,
    #[schema(example = "qr_ready")]
    status: SessionStatus,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PairingCodeAnswer {
    #[schema(example = "ABCD1234")]
    pairing_code: String,
    #[schema(example = "qr_ready")]
    status: SessionStatus,
}

impl Tells for PairingCodeAnswer {}

/// Get the pairing QR code
///
/// Without `format` it is JSON, or the picture that `Accept` begins with: `image/png` or `image/svg+xml`.
#[utoipa::path(
    get,
    path = "",
    params(("format" = inline(Option<QrFormat>), Query, nullable = false, description = "How to answer")),
    responses((status = 200, description = "The QR that can be scanned now", content(
        (QrAnswer = "application/json"),
        (String = "text/plain", example = json!("2@AbCdEf,GhIjKl,MnOpQr")),
        ("image/png"),
        ("image/svg+xml"),
    ))),
)]
pub(crate) async fn qr(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    parts: Parts,
) -> Result<Response, ApiError> {
    let format = qr_format(value_of(&query(&parts)?, "format"), &parts.headers)?;
    let code = app.gateway.qr(id).await?;
    let mut response = match format {
        QrFormat::Text => code.text.into_response(),
        QrFormat::Png => {
            ([(header::CONTENT_TYPE, "image/png")], qr_image::png(&code.text).map_err(ApiError::Internal)?)
                .into_response()
        }
        QrFormat::Svg => {
            ([(header::CONTENT_TYPE, "image/svg+xml")], qr_image::svg(&code.text).map_err(ApiError::Internal)?)
                .into_response()
        }
        QrFormat::Json => {
            Json(QrAnswer { qr_code: qr_image::data_url(&code.text).map_err(ApiError::Internal)?, status: code.status })
                .into_response()
        }
    };
    // The QR changes every few seconds and is a secret: no cache may keep it.
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

fn qr_format(asked: Option<&str>, headers: &HeaderMap) -> Result<QrFormat, ApiError> {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match asked {
        Some("json") => Ok(QrFormat::Json),
        Some("text") => Ok(QrFormat::Text),
        Some("png") => Ok(QrFormat::Png),
        Some("svg") => Ok(QrFormat::Svg),
        Some(_) => Err(ApiError::Query("format must be one of the following values: json, text, png, svg".into())),
        None if accepted.trim_start().starts_with("image/png") => Ok(QrFormat::Png),
        None if accepted.trim_start().starts_with("image/svg+xml") => Ok(QrFormat::Svg),
        None => Ok(QrFormat::Json),
    }
}

/// Characters of a phone number with all that people write between its digits.
const NUMBER_CHARS_MAX: usize = 40;

/// The phone to be linked.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PairingCodeRequest {
    /// The phone number in international form, in any spelling.
    #[schema(value_type = String, pattern = r"^ *(\+|00)?[ ().-]*[1-9]([ ().-]*[0-9]){4,14}[ ().-]*$", example = "15550100001")]
    phone_number: ParticipantId,
}

impl FromFields for PairingCodeRequest {
    fn read(fields: &mut Fields<'_>) -> Self {
        let text = fields.text("phoneNumber", 1..=NUMBER_CHARS_MAX);
        let phone = ParticipantId::parse_written(&text).ok().filter(|id| matches!(id, ParticipantId::Phone(_)));
        if !text.trim().is_empty() && phone.is_none() {
            fields.broken("phoneNumber", "must be a phone number in international form, such as 15550100001");
        }
        Self { phone_number: phone.unwrap_or(ParticipantId::Phone(0)) }
    }
}

/// Request a pairing code
///
/// While a code is valid, a second request for the same number returns the same code. A request for another number cancels the old code.
#[utoipa::path(
    post,
    path = "",
    request_body = PairingCodeRequest,
    responses(
        (status = 201, description = "The code", body = PairingCodeAnswer),
        (status = 429, description = "WhatsApp or the session asks to slow down"),
    ),
)]
pub(crate) async fn pairing_code(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    JsonBody(request): JsonBody<PairingCodeRequest>,
) -> Result<Created<PairingCodeAnswer>, ApiError> {
    let code = app.gateway.pairing_code(id, request.phone_number).await?;
    Ok(Created(PairingCodeAnswer { pairing_code: code.code, status: code.status }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::request::fields::Known;

    #[test]
    fn the_format_is_what_was_asked_for_or_else_accepted() {
        let accepting = |accept: &str| HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        let cases = [
            (None, "*/*", Some(QrFormat::Json)),
            (None, "image/png", Some(QrFormat::Png)),
            (Some("text"), "image/png", Some(QrFormat::Text)),
            (Some("json"), "image/png", Some(QrFormat::Json)),
            (None, "image/svg+xml,*/*", Some(QrFormat::Svg)),
            (Some("svg"), "*/*", Some(QrFormat::Svg)),
            (Some("gif"), "*/*", None),
        ];
        for (asked, accept, expected) in cases {
            assert_eq!(qr_format(asked, &accepting(accept)).ok(), expected);
        }
    }

    #[test]
    fn a_phone_number_is_read_in_any_spelling() {
        let cases = [
            ("15550100001", true),
            ("+15550100001", true),
            ("15550100001@c.us", true),
            ("120363021234567890", false),
            ("123@lid", false),
            ("+1 555 010-0001", true),
            ("0555-0100", false),
            ("", false),
        ];
        for (text, accepted) in cases {
            let body = json!({ "phoneNumber": text }).as_object().cloned().unwrap();
            let read = Fields::parse::<PairingCodeRequest>(body, Known::default());
            assert_eq!(read.is_ok(), accepted, "{text}");
        }
    }
}
