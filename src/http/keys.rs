//! API keys over HTTP: make, list, read, remove, and ask whether one is valid. A key is shown once, when it is made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_actors::CommandError;
use rookery_actors::model::{SessionId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::Caller;
use super::answer::{Created, Gone, JsonResult};
use super::error::ApiError;
use super::extract::{JsonObject, KeyPath};
use super::fields::{Fields, shorten};
use super::limits::{KEY_NAME_CHARS, KEY_SCOPE_ENTRIES_MAX};
use crate::app::App;
use crate::auth::{AddressRange, Key, KeysError, NewKey, Role};

const FIELDS: [&str; 5] = ["name", "role", "allowedIps", "allowedSessions", "expiresAt"];

/// A key as callers see it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyAnswer {
    #[schema(example = "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11")]
    id: Uuid,
    #[schema(example = "alice")]
    name: String,
    /// Its first characters, for recognition.
    #[schema(example = "rk_5f0c6")]
    key_prefix: String,
    role: Role,
    /// Where it may be used from; left out when anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["10.0.0.0/8"]))]
    allowed_ips: Vec<AddressRange>,
    /// The sessions it may see and touch; left out when all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_sessions: Vec<SessionId>,
    is_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_used_at: Option<Timestamp>,
    #[schema(example = 0)]
    usage_count: u64,
    created_at: Timestamp,
    /// The key itself: only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "rk_5f0c6e9a3f434bb09a526a2f8f7f3c115f0c6e9a3f434bb09a526a2f8f7f3c11")]
    api_key: Option<String>,
}

/// A key to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct KeyRequest {
    /// What its owner calls it.
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "alice")]
    name: String,
    /// `operator` unless told otherwise.
    role: Option<Role>,
    /// Addresses or CIDR ranges from which it may be used; none is anywhere.
    #[schema(max_items = 100, example = json!(["10.0.0.0/8"]))]
    allowed_ips: Option<Vec<String>>,
    /// Ids or names of the sessions it may see and touch; none is all.
    #[schema(max_items = 100, example = json!([]))]
    allowed_sessions: Option<Vec<String>>,
    /// ISO 8601, in the future; a date alone is its first moment in UTC.
    #[schema(example = "2099-01-31")]
    expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ValidateAnswer {
    /// Always true.
    valid: bool,
    role: Role,
}

/// Is this key valid?
#[utoipa::path(
    post,
    path = "/api/auth/validate",
    responses((status = 200, description = "It is, and has this role", body = ValidateAnswer)),
)]
pub(crate) async fn validate(caller: Caller) -> Json<ValidateAnswer> {
    Json(ValidateAnswer { valid: true, role: caller.key.role() })
}

/// Make a key
#[utoipa::path(
    post,
    path = "/api/auth/api-keys",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The new key; `apiKey` is shown this once", body = KeyAnswer),
        (status = 409, description = "There are too many keys (`too_many_keys`)"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    JsonObject(body): JsonObject,
) -> Result<Created<KeyAnswer>, ApiError> {
    let find = |session: &str| app.gateway.find(session).ok();
    let new = new_key(Fields::of(body, &FIELDS), find, Timestamp::now())?;
    let (key, secret) = carry_through(async move { app.keys.create(new).await }).await?;
    Ok(Created(KeyAnswer { api_key: Some(secret.reveal().into()), ..answer(&key) }))
}

/// List the keys
#[utoipa::path(
    get,
    path = "/api/auth/api-keys",
    responses((status = 200, description = "Every key, oldest first", body = Vec<KeyAnswer>)),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Vec<KeyAnswer>> {
    Json(app.keys.list().iter().map(|key| answer(key)).collect())
}

/// Read a key
#[utoipa::path(
    get,
    path = "/api/auth/api-keys/{key}",
    responses((status = 200, description = "The key, but for its secret", body = KeyAnswer)),
)]
pub(crate) async fn get(State(app): State<Arc<App>>, KeyPath(id): KeyPath) -> JsonResult<KeyAnswer> {
    Ok(Json(answer(&*app.keys.get(id)?)))
}

/// Delete a key
#[utoipa::path(
    delete,
    path = "/api/auth/api-keys/{key}",
    responses(
        (status = 204, description = "It is refused from now on"),
        (status = 409, description = "The last active admin key stays (`last_admin_key`)"),
    ),
)]
pub(crate) async fn delete(State(app): State<Arc<App>>, KeyPath(id): KeyPath) -> Result<Gone, ApiError> {
    carry_through(async move { app.keys.remove(id).await }).await?;
    Ok(Gone)
}

/// A caller who hangs up must not leave a change on disk that memory does not know.
async fn carry_through<T: Send + 'static>(
    change: impl Future<Output = Result<T, KeysError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(change).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(ApiError::from(CommandError::Internal)),
    }
}

fn answer(key: &Key) -> KeyAnswer {
    let record = key.record();
    KeyAnswer {
        id: record.id,
        name: record.name,
        key_prefix: record.prefix,
        role: record.role,
        allowed_ips: record.allowed_ips,
        allowed_sessions: record.allowed_sessions,
        is_active: record.is_active,
        expires_at: record.expires_at,
        last_used_at: record.last_used_at,
        usage_count: record.usage_count,
        created_at: record.created_at,
        api_key: None,
    }
}

/// Sessions are given by id or name and kept by id. Empty lists limit nothing, as OpenWA's clients expect.
fn new_key(
    mut fields: Fields,
    find_session: impl Fn(&str) -> Option<SessionId>,
    now: Timestamp,
) -> Result<NewKey, ApiError> {
    let name = fields.text("name", KEY_NAME_CHARS);
    let role = fields.optional_text("role").map_or(Some(Role::Operator), |text| Role::parse(&text));
    if role.is_none() {
        fields.broken("role", "must be one of the following values: admin, operator, viewer");
    }
    let texts = fields.optional_texts("allowedIps", KEY_SCOPE_ENTRIES_MAX);
    let allowed_ips: Vec<_> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if allowed_ips.len() != texts.len() {
        fields.message("each value in allowedIps must be an IP address or a CIDR range".into());
    }
    let mut allowed_sessions = Vec::new();
    for text in fields.optional_texts("allowedSessions", KEY_SCOPE_ENTRIES_MAX) {
        match find_session(&text) {
            Some(id) if allowed_sessions.contains(&id) => {}
            Some(id) => allowed_sessions.push(id),
            None => fields.message(format!("session {} in allowedSessions does not exist", shorten(&text))),
        }
    }
    let expires_at = fields.optional_text("expiresAt").map(|text| date(&text));
    match expires_at {
        Some(None) => fields.broken("expiresAt", "must be a valid ISO 8601 date string"),
        Some(Some(end)) if end <= now => fields.broken("expiresAt", "must be in the future"),
        _ => {}
    }
    fields.finish()?;
    let role = role.unwrap_or(Role::Viewer);
    Ok(NewKey { name, role, allowed_ips, allowed_sessions, expires_at: expires_at.flatten() })
}

/// A date with time and offset, or a date alone, which means its first moment in UTC.
fn date(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn check(body: &Value) -> Result<NewKey, Vec<String>> {
        let known = SessionId::random();
        let find = |name: &str| (name == "my-session").then_some(known);
        let map = body.as_object().cloned().unwrap_or_default();
        new_key(Fields::of(map, &FIELDS), find, NOW).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn a_new_key_is_an_operator_without_limits_unless_told_otherwise() {
        let plain = check(&json!({"name": "alice", "allowedIps": [], "allowedSessions": null})).unwrap();
        assert_eq!((plain.role, plain.allowed_ips.len(), plain.allowed_sessions.len()), (Role::Operator, 0, 0));
        let limited = json!({
            "name": "alice", "role": "viewer", "allowedIps": ["10.0.0.0/8"],
            "allowedSessions": ["my-session", "my-session"], "expiresAt": "2030-01-01",
        });
        let limited = check(&limited).unwrap();
        assert_eq!((limited.role, limited.allowed_ips.len(), limited.allowed_sessions.len()), (Role::Viewer, 1, 1));
        assert_eq!(limited.expires_at.map(|end| end.to_string()).as_deref(), Some("2030-01-01T00:00:00.000Z"));
    }

    #[test]
    fn every_broken_rule_of_a_new_key_is_named() {
        let cases = [
            (json!({}), "name should not be empty"),
            (json!({"name": "a", "role": "root"}), "role must be one of the following values: admin, operator, viewer"),
            (json!({"name": "a", "role": 1}), "role must be a string"),
            (
                json!({"name": "a", "allowedIps": ["localhost"]}),
                "each value in allowedIps must be an IP address or a CIDR range",
            ),
            (json!({"name": "a", "allowedSessions": ["bob"]}), "session bob in allowedSessions does not exist"),
            (json!({"name": "a", "expiresAt": "soon"}), "expiresAt must be a valid ISO 8601 date string"),
            (json!({"name": "a", "expiresAt": "2020-01-01T00:00:00Z"}), "expiresAt must be in the future"),
            (json!({"name": "a", "apiKey": "x"}), "property apiKey should not exist"),
        ];
        for (body, expected) in cases {
            assert_eq!(check(&body).map(|_| ()).unwrap_err()[0], expected);
        }
    }
}
