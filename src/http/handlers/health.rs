//! Whether the daemon runs and may get traffic. Needs no key and names no session.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use rookery_model::Timestamp;
use rookery_store::Health;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::response::readiness::{Details, Part};

#[derive(Serialize, ToSchema)]
pub(crate) struct HealthAnswer {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    timestamp: Timestamp,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct LiveAnswer {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ReadyAnswer {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    details: Details,
}

/// Get health
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "It does", body = HealthAnswer)),
)]
pub(crate) async fn health() -> Json<HealthAnswer> {
    Json(HealthAnswer { status: "ok", timestamp: Timestamp::now() })
}

/// Check liveness
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "It is", body = LiveAnswer)),
)]
pub(crate) async fn live() -> Json<LiveAnswer> {
    Json(LiveAnswer { status: "ok" })
}

/// Check readiness
#[utoipa::path(
    get,
    path = "",
    responses(
        (status = 200, description = "It may", body = ReadyAnswer),
        (status = 503, description = "It shuts down, or its store takes no writes: `details` says which"),
    ),
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    readiness(app.is_draining(), &app.gateway.store_health())
}

fn readiness(draining: bool, store: &Health) -> Response {
    let (store, why) = match store {
        Health::Ok => ("up", None),
        Health::LowSpace { .. } => ("low_space", Some("The disk is nearly full")),
        Health::Failed(_) => ("down", Some("The store failed: the daemon must be restarted")),
    };
    let (daemon, why) = if draining { ("draining", Some("The daemon is shutting down")) } else { ("up", why) };
    let details = Details { daemon: Part { status: daemon }, store: Part { status: store } };
    match why {
        None => Json(ReadyAnswer { status: "ok", details }).into_response(),
        Some(why) => ApiError::NotReady { why, details }.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn ready_means_that_writes_are_taken() {
        let cases = [
            (false, Health::Ok, StatusCode::OK, "up", "up"),
            (true, Health::Ok, StatusCode::SERVICE_UNAVAILABLE, "draining", "up"),
            (
                false,
                Health::LowSpace { free_bytes: 1, needed_bytes: 2, has_room_for_removals: true },
                StatusCode::SERVICE_UNAVAILABLE,
                "up",
                "low_space",
            ),
            (false, Health::Failed("io".into()), StatusCode::SERVICE_UNAVAILABLE, "up", "down"),
        ];
        for (draining, health, status, daemon, store) in cases {
            let response = readiness(draining, &health);
            assert_eq!(response.status(), status);
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (&body["details"]["daemon"]["status"], &body["details"]["store"]["status"]),
                (&json!(daemon), &json!(store))
            );
            let is_ok = status == StatusCode::OK;
            assert_eq!((body["status"] == "ok", body["statusCode"] == 503), (is_ok, !is_ok));
        }
    }
}
