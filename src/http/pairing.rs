//! Linking a phone: the QR to scan, or the code to type. Both are secrets while they are valid and never logged.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, EcLevel, QrCode};
use rookery_actors::model::{ParticipantId, SessionStatus};
use serde::Serialize;

use super::answer::Created;
use super::error::ApiError;
use super::extract::{JsonObject, SessionPath, query, value_of};
use super::fields::Fields;
use crate::app::App;

/// Pixels per module: a QR of WhatsApp's length is about 400 pixels wide then, good for a phone's camera.
const MODULE_PIXELS: usize = 6;
/// White modules around the code, as the standard asks.
const QUIET_MODULES: usize = 4;

/// How a QR is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum QrFormat {
    Json,
    Text,
    Png,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QrAnswer {
    qr_code: String,
    status: SessionStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PairingCodeAnswer {
    pairing_code: String,
    status: SessionStatus,
}

/// GET /api/sessions/{session}/qr
pub(crate) async fn qr(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    parts: Parts,
) -> Result<Response, ApiError> {
    let format = qr_format(value_of(&query(&parts)?, "format"), &parts.headers)?;
    let qr = app.gateway.qr(id).await?;
    let mut response = match format {
        QrFormat::Text => qr.text.into_response(),
        QrFormat::Png => ([(header::CONTENT_TYPE, "image/png")], png(&qr.text)?).into_response(),
        QrFormat::Json => {
            let qr_code = format!("data:image/png;base64,{}", STANDARD.encode(png(&qr.text)?));
            Json(QrAnswer { qr_code, status: qr.status }).into_response()
        }
    };
    // It changes every few seconds and is a secret: nobody in between may keep it.
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

fn qr_format(asked: Option<&str>, headers: &HeaderMap) -> Result<QrFormat, ApiError> {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match asked {
        Some("json") => Ok(QrFormat::Json),
        Some("text") => Ok(QrFormat::Text),
        Some("png") => Ok(QrFormat::Png),
        Some(_) => Err(ApiError::Query("format must be one of the following values: json, text, png".into())),
        None if accepted.trim_start().starts_with("image/png") => Ok(QrFormat::Png),
        None => Ok(QrFormat::Json),
    }
}

/// The QR of this text as a black and white PNG.
fn png(text: &str) -> Result<Vec<u8>, ApiError> {
    let defect = |error: &dyn std::fmt::Display| ApiError::Internal(format!("could not draw a QR: {error}"));
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(|error| defect(&error))?;
    let modules = code.width();
    let colors = code.to_colors();
    let side = (modules + 2 * QUIET_MODULES) * MODULE_PIXELS;
    let dark = |pixel_x: usize, pixel_y: usize| {
        let module = |pixel: usize| (pixel / MODULE_PIXELS).checked_sub(QUIET_MODULES).filter(|at| *at < modules);
        let at = module(pixel_x).zip(module(pixel_y)).map(|(x, y)| y * modules + x);
        at.is_some_and(|at| colors[at] == Color::Dark)
    };
    // One bit per pixel, each row padded to whole bytes; a set bit is white.
    let mut rows = vec![0_u8; side.div_ceil(8) * side];
    for y in 0..side {
        for x in (0..side).filter(|x| !dark(*x, y)) {
            rows[y * side.div_ceil(8) + x / 8] |= 0x80 >> (x % 8);
        }
    }

    let mut bytes = Vec::new();
    let pixels = u32::try_from(side).map_err(|error| defect(&error))?;
    let mut encoder = png::Encoder::new(&mut bytes, pixels, pixels);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().map_err(|error| defect(&error))?;
    writer.write_image_data(&rows).map_err(|error| defect(&error))?;
    writer.finish().map_err(|error| defect(&error))?;
    Ok(bytes)
}

/// POST /api/sessions/{session}/pairing-code
pub(crate) async fn pairing_code(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    JsonObject(body): JsonObject,
) -> Result<Created<PairingCodeAnswer>, ApiError> {
    let phone = phone_number(Fields::of(body, &["phoneNumber"]))?;
    let code = app.gateway.pairing_code(id, phone).await?;
    Ok(Created(PairingCodeAnswer { pairing_code: code.code, status: code.status }))
}

/// International, with or without a leading `+`.
fn phone_number(mut fields: Fields) -> Result<ParticipantId, ApiError> {
    let text = fields.text("phoneNumber", 1..=20);
    let digits = text.strip_prefix('+').unwrap_or(&text);
    let phone = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !text.trim().is_empty() && phone.is_none() {
        fields.broken("phoneNumber", "must be a phone number in international form, digits only");
    }
    fields.finish()?;
    phone.ok_or_else(|| ApiError::Internal("a phone number passed its checks but is none".into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_qr_is_a_png_that_can_be_read_back() {
        let bytes = png(&"2@abcdefgh,ijklmnop".repeat(12)).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.width % 6), (frame.height, 0));
        // The quiet zone is white, the corner of the first finder pattern dark.
        let row = frame.line_size;
        assert_eq!((pixels[0], pixels[24 * row + 3] & 0xfc), (0xff, 0));
    }

    #[test]
    fn the_format_is_what_was_asked_for_or_else_accepted() {
        let accepting = |accept: &str| HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        let cases = [
            (None, "*/*", Some(QrFormat::Json)),
            (None, "image/png", Some(QrFormat::Png)),
            (Some("text"), "image/png", Some(QrFormat::Text)),
            (Some("json"), "image/png", Some(QrFormat::Json)),
            (Some("svg"), "*/*", None),
        ];
        for (asked, accept, expected) in cases {
            assert_eq!(qr_format(asked, &accepting(accept)).ok(), expected);
        }
    }

    #[test]
    fn a_phone_number_is_digits_with_or_without_a_plus() {
        let cases = [
            ("15550100001", true),
            ("+15550100001", true),
            ("15550100001@c.us", false),
            ("123@lid", false),
            ("555-0100", false),
            ("", false),
        ];
        for (text, accepted) in cases {
            let body = json!({ "phoneNumber": text }).as_object().cloned().unwrap();
            assert_eq!(phone_number(Fields::of(body, &["phoneNumber"])).is_ok(), accepted, "{text}");
        }
    }
}
