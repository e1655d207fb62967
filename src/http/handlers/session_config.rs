//! The configuration of one session: calls and reconnects.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_model::{ConfigChange, SessionConfig};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::limits::{RECONNECT_ATTEMPTS, RECONNECT_BASE_DELAY_MS};
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::json::JsonResult;

/// The changes of a session's configuration. `null` sets a field back to its default.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewConfig {
    /// Whether incoming calls are rejected at once; false by default.
    #[schema(example = true)]
    auto_reject_calls: Option<bool>,
    /// Reconnects tried in a row before the session is `failed`; no limit by default.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 20, example = 10)]
    max_reconnect_attempts: Option<Option<u32>>,
    /// Milliseconds before the second reconnect in a row, 5,000 by default; doubled for each further one, up to a minute.
    #[schema(minimum = 1_000, maximum = 300_000, example = 5_000)]
    reconnect_base_delay: Option<u32>,
}

impl FromFields for NewConfig {
    fn read(fields: &mut Fields<'_>) -> Self {
        let default = SessionConfig::default();
        let delay = fields.nullable_number("reconnectBaseDelay", RECONNECT_BASE_DELAY_MS);
        let calls = fields.nullable_flag("autoRejectCalls");
        Self {
            auto_reject_calls: calls.map(|on| on.unwrap_or(default.auto_reject_calls)),
            max_reconnect_attempts: fields.nullable_number("maxReconnectAttempts", RECONNECT_ATTEMPTS),
            reconnect_base_delay: delay.map(|delay| delay.unwrap_or(default.reconnect_base_delay)),
        }
    }
}

impl From<NewConfig> for ConfigChange {
    fn from(new: NewConfig) -> Self {
        Self {
            auto_reject_calls: new.auto_reject_calls,
            max_reconnect_attempts: new.max_reconnect_attempts,
            reconnect_base_delay: new.reconnect_base_delay,
        }
    }
}

/// Get the session configuration
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The configuration", body = SessionConfig)),
)]
pub(crate) async fn get(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<SessionConfig> {
    Ok(Json(app.gateway.config(id)?))
}

/// Update the session configuration
///
/// Fields that are left out stay as they are. The change takes effect at once, also for an open connection.
#[utoipa::path(
    patch,
    path = "",
    request_body = NewConfig,
    responses((status = 200, description = "The configuration after the change", body = SessionConfig)),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    JsonBody(new): JsonBody<NewConfig>,
) -> JsonResult<SessionConfig> {
    Ok(Json(app.gateway.configure(id, new.into()).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::error::ApiError;
    use crate::http::request::fields::Known;

    fn check(body: &Value) -> Result<SessionConfig, Vec<String>> {
        let new = Fields::parse::<NewConfig>(body.as_object().cloned().unwrap(), Known::default());
        let set =
            SessionConfig { auto_reject_calls: true, max_reconnect_attempts: Some(7), reconnect_base_delay: 9_000 };
        new.map(|new| ConfigChange::from(new).applied_to(set)).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn what_is_left_out_stays_and_null_is_the_default() {
        let config = |calls, attempts, delay| SessionConfig {
            auto_reject_calls: calls,
            max_reconnect_attempts: attempts,
            reconnect_base_delay: delay,
        };
        let cases = [
            (json!({}), config(true, Some(7), 9_000)),
            (json!({"autoRejectCalls": false}), config(false, Some(7), 9_000)),
            (json!({"maxReconnectAttempts": 0, "reconnectBaseDelay": 1000}), config(true, Some(0), 1_000)),
            (json!({"maxReconnectAttempts": 20, "reconnectBaseDelay": 300_000}), config(true, Some(20), 300_000)),
            (
                json!({"autoRejectCalls": null, "maxReconnectAttempts": null, "reconnectBaseDelay": null}),
                SessionConfig::default(),
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(check(&body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn each_broken_field_is_named() {
        let cases = [
            (json!({"autoRejectCalls": 1}), vec!["autoRejectCalls must be a boolean value"]),
            (json!({"maxReconnectAttempts": 21}), vec!["maxReconnectAttempts must not be greater than 20"]),
            (json!({"maxReconnectAttempts": -1}), vec!["maxReconnectAttempts must not be less than 0"]),
            (json!({"reconnectBaseDelay": 999}), vec!["reconnectBaseDelay must not be less than 1000"]),
            (json!({"reconnectBaseDelay": 300_001}), vec!["reconnectBaseDelay must not be greater than 300000"]),
            (
                json!({"delay": 1, "reconnectBaseDelay": "5s"}),
                vec!["property delay should not exist", "reconnectBaseDelay must be an integer number"],
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(check(&body).unwrap_err(), expected, "{body}");
        }
    }
}
