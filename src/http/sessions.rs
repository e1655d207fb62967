//! Sessions: make, list, read, start, stop, log out, kill, delete. Linking is in `pairing.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use rookery_actors::model::{IdError, Session, SessionName};
use tracing::warn;

use super::access::Caller;
use super::answer::{Created, Gone, JsonResult, with_total};
use super::error::ApiError;
use super::extract::{JsonObject, Page, SessionPath, query, value_of};
use super::fields::Fields;
use crate::app::App;

/// Characters of a session's name, for the wording; `SessionName` is what decides.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=50;

/// POST /api/sessions
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    JsonObject(body): JsonObject,
) -> Result<Created<Arc<Session>>, ApiError> {
    let name = new_session(Fields::of(body, &["name", "proxyUrl", "proxyType", "config"]))?;
    Ok(Created(app.gateway.create_session(name).await?))
}

fn new_session(mut fields: Fields) -> Result<SessionName, ApiError> {
    let text = fields.text("name", NAME_CHARS);
    let name = text.parse();
    match &name {
        Err(IdError::NameIsUuid) => fields.broken("name", "must not be a UUID"),
        Err(_) if text.chars().any(|c| !c.is_ascii_alphanumeric() && c != '-') => {
            fields.broken("name", "must contain only letters, digits and hyphens");
        }
        _ => {}
    }
    for later in ["proxyUrl", "proxyType", "config"] {
        fields.not_supported(later);
    }
    fields.finish()?;
    Ok(name?)
}

/// GET /api/sessions: newest first, only those that the key may see.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    page: Page,
    parts: Parts,
) -> Result<Response, ApiError> {
    let query = query(&parts)?;
    let name = value_of(&query, "name");
    let names = query.iter().filter(|(key, _)| key == "name").count();
    if name == Some("") || names > 1 {
        return Err(ApiError::Query("name must be a single non-empty value".into()));
    }
    let mut sessions = app.gateway.sessions();
    sessions.retain(|session| {
        caller.key.allows_session(session.id) && name.is_none_or(|name| name == session.name.as_str())
    });
    Ok(with_total(sessions.len(), Json(page.of(&sessions)).into_response()))
}

/// GET /api/sessions/{session}
pub(crate) async fn get(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<Arc<Session>> {
    Ok(Json(app.gateway.session(id)?))
}

/// DELETE /api/sessions/{session}
pub(crate) async fn delete(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> Result<Gone, ApiError> {
    app.gateway.delete_session(id).await?;
    if let Err(error) = app.idempotency.forget(id).await {
        warn!(session.id = %id, %error, "could not remove a session's idempotency keys, they go within 24 hours");
    }
    Ok(Gone)
}

/// POST /api/sessions/{session}/start
pub(crate) async fn start(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<Arc<Session>> {
    Ok(Json(app.gateway.start_session(id).await?))
}

/// POST /api/sessions/{session}/stop
pub(crate) async fn stop(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<Arc<Session>> {
    Ok(Json(app.gateway.stop_session(id).await?))
}

/// POST /api/sessions/{session}/logout
pub(crate) async fn logout(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<Arc<Session>> {
    Ok(Json(app.gateway.logout_session(id).await?))
}

/// POST /api/sessions/{session}/force-kill
pub(crate) async fn force_kill(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<Arc<Session>> {
    Ok(Json(app.gateway.kill_session(id).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(body: &Value) -> Result<String, Vec<String>> {
        let map = body.as_object().cloned().unwrap_or_default();
        let fields = Fields::of(map, &["name", "proxyUrl", "proxyType", "config"]);
        new_session(fields).map(|name| name.to_string()).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn a_new_session_has_a_plain_name_and_nothing_that_is_not_built_yet() {
        let cases = [
            (json!({"name": "my-bot"}), Ok("my-bot".to_owned())),
            (json!({"name": "my-bot", "proxyUrl": null}), Ok("my-bot".to_owned())),
            (json!({"name": "my bot"}), Err(vec!["name must contain only letters, digits and hyphens"])),
            (json!({"name": "ab"}), Err(vec!["name must be longer than or equal to 3 characters"])),
            (json!({"name": "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11"}), Err(vec!["name must not be a UUID"])),
            (
                json!({"x": 1, "name": "my-bot", "proxyUrl": "http://p:1", "config": {}}),
                Err(vec![
                    "property x should not exist",
                    "proxyUrl is not supported yet",
                    "config is not supported yet",
                ]),
            ),
        ];
        for (body, expected) in cases {
            let expected = expected.map_err(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(check(&body), expected, "{body}");
        }
    }
}
