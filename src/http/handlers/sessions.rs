//! Sessions: make, list, read, start, stop, log out, kill, delete. Linking is in `pairing.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use rookery_model::{ConfigChange, IdError, Proxy, ProxyType, Session, SessionConfig, SessionName};
use tracing::warn;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::{AccessError, ApiError};
use crate::http::handlers::proxy::read_proxy;
use crate::http::handlers::session_config::NewConfig;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, Page, SessionPath, query, value_of};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::happened::Told;
use crate::http::response::json::{Created, Gone, JsonResult, ToldResult, with_total};

/// Characters of a session's name, for the wording; `SessionName` decides.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=50;

/// A session to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewSession {
    /// Unique, and not a UUID.
    #[schema(pattern = "^[A-Za-z0-9-]{3,50}$", example = "my-phone")]
    name: String,
    config: Option<NewConfig>,
    /// What the session connects through: `http://`, `https://`, `socks4://` or `socks5://`, with the credentials in it.
    #[schema(value_type = Option<String>, max_length = 2048, example = "socks5://user:password@proxy.example.com:1080")]
    proxy_url: Option<Proxy>,
    /// Says again what the URL begins with.
    #[schema(value_type = Option<ProxyType>)]
    #[expect(dead_code, reason = "it is checked against the URL, and documented here")]
    proxy_type: Option<ProxyType>,
}

impl FromFields for NewSession {
    fn read(fields: &mut Fields<'_>) -> Self {
        let name = fields.text("name", NAME_CHARS);
        match name.parse::<SessionName>() {
            Err(IdError::NameIsUuid) => fields.broken("name", "must not be a UUID"),
            Err(_) if name.chars().any(|c| !c.is_ascii_alphanumeric() && c != '-') => {
                fields.broken("name", "must contain only letters, digits and hyphens");
            }
            _ => {}
        }
        let (proxy_url, proxy_type) = read_proxy(fields);
        Self { name, config: fields.optional_object("config"), proxy_url, proxy_type }
    }
}

/// Create a session
#[utoipa::path(
    post,
    path = "",
    request_body = NewSession,
    responses(
        (status = 201, description = "The new session; it is not started yet", body = Session),
        (status = 409, description = "A session has this name (`session_name_taken`), or there are too many (`too_many_sessions`)"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    JsonBody(new): JsonBody<NewSession>,
) -> Result<Created<Arc<Session>>, ApiError> {
    let NewSession { name, config, proxy_url, .. } = new;
    let change = config.map(ConfigChange::from).unwrap_or_default();
    let config = change.applied_to(SessionConfig::default());
    Ok(Created(app.gateway.create_session(name.parse()?, config, proxy_url).await?))
}

/// List sessions
#[utoipa::path(
    get,
    path = "",
    params(Page, ("name" = Option<String>, Query, nullable = false, min_length = 1, description = "Only the session with this name")),
    responses((status = 200, description = "The sessions that the key may see, newest first", body = Vec<Session>, headers(
        ("X-Total-Count" = u32, description = "How many sessions there are in all"),
    ))),
)]
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
    sessions.retain(|session| caller.key.sees(session) && name.is_none_or(|name| name == session.name.as_str()));
    Ok(with_total(sessions.len(), Json(page.of(&sessions)).into_response()))
}

/// Get a session
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The session", body = Session)),
)]
pub(crate) async fn get(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<Arc<Session>> {
    Ok(Json(app.gateway.session(id)?))
}

/// Delete a session
///
/// The daemon logs the device out at WhatsApp, for 5 s at most. Then it wipes the credentials.
#[utoipa::path(
    delete,
    path = "",
    responses((status = 204, description = "It is gone, and its name is free")),
)]
pub(crate) async fn delete(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> Result<Gone, ApiError> {
    let number = app.gateway.number(id)?;
    app.gateway.delete_session(id).await?;
    if let Err(error) = app.webhooks.forget_session(id, number).await {
        warn!(session.id = %id, %error, "could not remove a session's webhooks, they go at the next start");
    }
    if let Err(error) = app.idempotency.forget(number).await {
        warn!(session.id = %id, %error, "could not remove a session's idempotency keys, they go within 24 hours");
    }
    Ok(Gone)
}

/// How a session is to be started.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StartWish {
    /// Whether the phone that is linked now may have another account than the session's; false by default.
    #[schema(example = false)]
    allow_account_change: Option<bool>,
}

impl FromFields for StartWish {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { allow_account_change: fields.nullable_flag("allowAccountChange").flatten() }
    }
}

/// Start a session
///
/// The session stays started, also over a restart of the daemon. A session belongs to the account that linked it first: the daemon
/// unlinks a phone with another account at once, unless `allowAccountChange` is true. Only a key without limits may set that. With the new
/// account, the groups, idempotency keys and group scopes of the old account end.
#[utoipa::path(
    post,
    path = "",
    request_body(content = StartWish, description = "May be left out"),
    responses((status = 200, description = "Started; connecting goes on", body = Session)),
)]
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    caller: Caller,
    JsonBody(wish): JsonBody<StartWish>,
) -> ToldResult<Arc<Session>> {
    let allow_account_change = wish.allow_account_change.unwrap_or_default();
    if allow_account_change && caller.key.is_limited_to_sessions() {
        return Err(AccessError::ScopedKey.into());
    }
    Ok(Told(app.gateway.start_session(id, allow_account_change).await?))
}

/// Stop a session
///
/// The credentials stay.
#[utoipa::path(
    post,
    path = "",
    responses((status = 200, description = "Stopped; also when it was stopped before", body = Session)),
)]
pub(crate) async fn stop(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> ToldResult<Arc<Session>> {
    Ok(Told(app.gateway.stop_session(id).await?))
}

/// Log out a session
///
/// The daemon unlinks the device at WhatsApp and wipes its credentials.
#[utoipa::path(
    post,
    path = "",
    responses(
        (status = 200, description = "Unlinked and stopped", body = Session),
        (status = 502, description = "WhatsApp did not confirm: stopped, credentials kept (`SESSION_LOGOUT_INCOMPLETE`)"),
    ),
)]
pub(crate) async fn logout(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> ToldResult<Arc<Session>> {
    Ok(Told(app.gateway.logout_session(id).await?))
}

/// Force-kill a session
#[utoipa::path(
    post,
    path = "",
    responses((status = 200, description = "Dropped, without ceremony; credentials stay", body = Session)),
)]
pub(crate) async fn force_kill(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> ToldResult<Arc<Session>> {
    Ok(Told(app.gateway.kill_session(id).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    fn check(body: &Value) -> Result<String, Vec<String>> {
        let map = body.as_object().cloned().unwrap_or_default();
        Fields::parse::<NewSession>(map, Known::default()).map(|new| new.name).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn a_new_session_has_a_plain_name_and_what_is_broken_is_named() {
        let cases = [
            (json!({"name": "my-bot"}), Ok("my-bot".to_owned())),
            (json!({"name": "my-bot", "proxyUrl": null, "proxyType": null}), Ok("my-bot".to_owned())),
            (json!({"name": "my-bot", "proxyUrl": "http://p:1", "proxyType": "http"}), Ok("my-bot".to_owned())),
            (json!({"name": "my-bot", "config": {"autoRejectCalls": true}}), Ok("my-bot".to_owned())),
            (json!({"name": "my-bot", "config": []}), Err(vec!["config must be an object"])),
            (json!({"name": "my bot"}), Err(vec!["name must contain only letters, digits and hyphens"])),
            (json!({"name": "my\u{0}bot"}), Err(vec!["name must contain only letters, digits and hyphens"])),
            (json!({"name": "my-bot\n"}), Err(vec!["name must contain only letters, digits and hyphens"])),
            (json!({"name": "ab"}), Err(vec!["name must be longer than or equal to 3 characters"])),
            (json!({"name": "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11"}), Err(vec!["name must not be a UUID"])),
            (
                json!({"x": 1, "name": "my-bot", "proxyUrl": "http://p:1/x", "config": {"maxReconnectAttempts": "five"}}),
                Err(vec![
                    "property x should not exist",
                    "proxyUrl must end after the port: a proxy has no path",
                    "config.maxReconnectAttempts must be an integer number",
                ]),
            ),
        ];
        for (body, expected) in cases {
            let expected = expected.map_err(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(check(&body), expected, "{body}");
        }
    }
}
