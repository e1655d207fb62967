//! The admin API: JSON over HTTP, for tests in any language.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;

use crate::{SimulatorError, World};

pub(crate) fn router(world: World) -> Router {
    Router::new().route("/admin/mock-phone/scan-qr", post(scan_qr)).with_state(world)
}

#[derive(Deserialize)]
pub(crate) struct ScanQr {
    phone: Option<String>,
}

/// The body is the raw text of the QR code. Without `phone` a new account scans it.
pub(crate) async fn scan_qr(State(world): State<World>, Query(query): Query<ScanQr>, qr: String) -> Response {
    let phone = query.phone.unwrap_or_else(|| world.free_phone());
    match world.phone(&phone).scan_qr(&qr) {
        Ok(()) => axum::Json(serde_json::json!({ "phone": phone })).into_response(),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &SimulatorError) -> Response {
    let body = axum::Json(serde_json::json!({ "error": error.to_string() }));
    (StatusCode::BAD_REQUEST, body).into_response()
}
