//! API keys over HTTP: make, list, read, change, rotate, revoke, remove, and ask whether one is valid. A secret is
//! shown once, in the response that made it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use rookery_model::{GROUP_ID_FORM, GroupId, SessionId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::auth::{AddressRange, KEY_GROUPS_MAX, Key, KeyChange, KeyTerms, Role};
use crate::http::error::ApiError;
use crate::http::limits::{KEY_GRACE_DEFAULT_S, KEY_GRACE_S, KEY_NAME_CHARS, KEY_SCOPE_ENTRIES_MAX};
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, KeyPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::GroupField;
use crate::http::request::written::shorten;
use crate::http::response::happened::{Happened, Tells};
use crate::http::response::json::{Created, Gone, JsonResult};

/// A key as callers see it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyAnswer {
    #[schema(example = "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11")]
    id: Uuid,
    #[schema(example = "alice")]
    name: String,
    /// The key's first characters, for recognition.
    #[schema(example = "rk_5f0c6")]
    key_prefix: String,
    role: Role,
    /// The addresses from which the key may be used; left out when it may be used from anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["10.0.0.0/8"]))]
    allowed_ips: Vec<AddressRange>,
    /// The sessions that the key may see and touch; left out when all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_sessions: Vec<SessionId>,
    /// The groups that the key may see and touch; left out when all groups of its sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Vec<GroupId>)]
    allowed_groups: Option<BTreeSet<GroupId>>,
    /// Whether the key may make, join and leave groups; left out when it is not limited to groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    allow_group_creation: Option<bool>,
    is_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Timestamp>,
    /// When the secret before the last rotation stops working; left out when it does not work any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    previous_key_expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_used_at: Option<Timestamp>,
    #[schema(example = 0)]
    usage_count: u64,
    created_at: Timestamp,
    /// The key itself: only in the response that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "rk_5f0c6e9a3f434bb09a526a2f8f7f3c115f0c6e9a3f434bb09a526a2f8f7f3c11")]
    api_key: Option<String>,
}

impl Tells for KeyAnswer {
    fn happened(&self) -> Happened {
        Happened::to(self.id)
    }
}

/// A key to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// The key's name, as its owner chooses it.
    #[schema(min_length = 1, max_length = 100, pattern = r"\S", example = "alice")]
    name: String,
    /// `operator` by default.
    role: Option<Role>,
    /// Addresses or CIDR ranges from which the key may be used; an empty list means anywhere.
    #[schema(value_type = Option<Vec<String>>, max_items = 100, example = json!(["10.0.0.0/8"]))]
    allowed_ips: Option<Vec<AddressRange>>,
    /// Ids or names of the sessions that the key may see and touch; an empty list means all.
    #[schema(value_type = Option<Vec<String>>, max_items = 100, example = json!([]))]
    allowed_sessions: Option<Vec<SessionId>>,
    /// Groups that the key may see and touch. An empty list means no group; left out or `null` means all groups of its
    /// sessions.
    #[schema(value_type = Option<Vec<GroupField>>, max_items = 1024, example = json!(["120363021234567890@g.us"]))]
    allowed_groups: Option<Option<BTreeSet<GroupId>>>,
    /// Whether a key with `allowedGroups` may make, join and leave groups; groups that it makes or joins are added to
    /// the list.
    #[schema(example = false)]
    allow_group_creation: Option<bool>,
    /// ISO 8601, in the future; a date alone is its first moment in UTC.
    #[schema(value_type = Option<String>, example = "2099-01-31")]
    expires_at: Option<Option<Timestamp>>,
}

/// The changes of a key. Fields that are left out stay as they are; `null` takes a limit away.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyUpdate {
    /// The key's name, as its owner chooses it.
    #[schema(nullable = false, min_length = 1, max_length = 100, pattern = r"\S", example = "alice")]
    name: Option<String>,
    #[schema(nullable = false)]
    role: Option<Role>,
    /// Addresses or CIDR ranges from which the key may be used; an empty list means anywhere.
    #[schema(value_type = Option<Vec<String>>, max_items = 100, example = json!(["10.0.0.0/8"]))]
    allowed_ips: Option<Vec<AddressRange>>,
    /// Ids or names of the sessions that the key may see and touch; an empty list means all.
    #[schema(value_type = Option<Vec<String>>, max_items = 100, example = json!([]))]
    allowed_sessions: Option<Vec<SessionId>>,
    /// Groups that the key may see and touch. An empty list means no group; `null` means all groups of its sessions.
    #[schema(value_type = Option<Vec<GroupField>>, max_items = 1024, example = json!(["120363021234567890@g.us"]))]
    allowed_groups: Option<Option<BTreeSet<GroupId>>>,
    /// Whether a key with `allowedGroups` may make, join and leave groups; groups that it makes or joins are added to
    /// the list.
    #[schema(nullable = false, example = false)]
    allow_group_creation: Option<bool>,
    /// ISO 8601, in the future; a date alone is its first moment in UTC.
    #[schema(value_type = Option<String>, example = "2099-01-31")]
    expires_at: Option<Option<Timestamp>>,
}

impl FromFields for KeyRequest {
    fn read(fields: &mut Fields<'_>) -> Self {
        let name = fields.plain_text("name", KEY_NAME_CHARS);
        let KeyUpdate { role, allowed_ips, allowed_sessions, allowed_groups, allow_group_creation, expires_at, .. } =
            KeyUpdate::read(fields);
        Self { name, role, allowed_ips, allowed_sessions, allowed_groups, allow_group_creation, expires_at }
    }
}

impl FromFields for KeyUpdate {
    /// Sessions are given by id or name and kept by id. Empty lists of addresses and sessions limit nothing, as OpenWA's
    /// clients expect; an empty list of groups is no group.
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            name: fields.has("name").then(|| fields.plain_text("name", KEY_NAME_CHARS)),
            role: role(fields),
            allowed_ips: fields.has("allowedIps").then(|| addresses(fields)),
            allowed_sessions: fields.has("allowedSessions").then(|| sessions(fields)),
            allowed_groups: fields.has("allowedGroups").then(|| allowed_groups(fields)),
            allow_group_creation: fields.nullable_flag("allowGroupCreation").map(Option::unwrap_or_default),
            expires_at: fields.has("expiresAt").then(|| end(fields)),
        }
    }
}

impl KeyRequest {
    fn terms(self) -> KeyTerms {
        let Self { name, role, allowed_ips, allowed_sessions, allowed_groups, allow_group_creation, expires_at } = self;
        let change = KeyUpdate {
            name: None,
            role,
            allowed_ips,
            allowed_sessions,
            allowed_groups,
            allow_group_creation,
            expires_at,
        };
        KeyTerms::named(name).with(change.change())
    }
}

impl KeyUpdate {
    fn change(self) -> KeyChange {
        KeyChange {
            name: self.name,
            role: self.role,
            allowed_ips: self.allowed_ips,
            allowed_sessions: self.allowed_sessions,
            allowed_groups: self.allowed_groups,
            allow_group_creation: self.allow_group_creation,
            // Added where the sessions are known.
            account_epochs: None,
            expires_at: self.expires_at,
        }
    }
}

/// How a key is to be rotated.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rotation {
    /// Seconds for which the current secret works beside the new one; 3600 by default.
    #[schema(minimum = 0, maximum = 2_592_000, example = 3_600)]
    grace_seconds: Option<u32>,
}

impl FromFields for Rotation {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { grace_seconds: fields.nullable_number("graceSeconds", KEY_GRACE_S).flatten() }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ValidateAnswer {
    /// Always true.
    valid: bool,
    role: Role,
}

/// Validate the API key
#[utoipa::path(
    post,
    path = "",
    responses((status = 200, description = "It is, and has this role", body = ValidateAnswer)),
)]
pub(crate) async fn validate(caller: Caller) -> Json<ValidateAnswer> {
    Json(ValidateAnswer { valid: true, role: caller.key.role() })
}

/// Create an API key
#[utoipa::path(
    post,
    path = "",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The new key; `apiKey` is shown this once", body = KeyAnswer),
        (status = 409, description = "There are too many keys (`too_many_keys`)"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<KeyRequest>,
) -> Result<Created<KeyAnswer>, ApiError> {
    let mut terms = request.terms();
    terms.account_epochs = account_epochs(&app);
    let (key, secret) = app.keys.create(terms).await?;
    Ok(Created(KeyAnswer { api_key: Some(secret.reveal().into()), ..answer(&key) }))
}

/// List API keys
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "Every key, oldest first", body = Vec<KeyAnswer>)),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Vec<KeyAnswer>> {
    Json(app.keys.list().iter().map(|key| answer(key)).collect())
}

/// Get an API key
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The key, but for its secret", body = KeyAnswer)),
)]
pub(crate) async fn get(State(app): State<Arc<App>>, KeyPath(id): KeyPath) -> JsonResult<KeyAnswer> {
    Ok(Json(answer(&*app.keys.get(id)?)))
}

/// Update an API key
///
/// The change takes effect at once, also for requests that use the key now.
#[utoipa::path(
    put,
    path = "",
    request_body = KeyUpdate,
    responses(
        (status = 200, description = "The key as it is now", body = KeyAnswer),
        (status = 409, description = "The last active admin key stays without limits (`last_admin_key`)"),
    ),
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    KeyPath(id): KeyPath,
    JsonBody(update): JsonBody<KeyUpdate>,
) -> JsonResult<KeyAnswer> {
    let mut change = update.change();
    let is_new_scope = change.allowed_groups.is_some() || change.allowed_sessions.is_some();
    change.account_epochs = is_new_scope.then(|| account_epochs(&app));
    Ok(Json(answer(&*app.keys.update(id, change).await?)))
}

/// Revoke an API key
///
/// Requests with the key are refused from now on. The key stays in the list.
#[utoipa::path(
    post,
    path = "",
    responses(
        (status = 200, description = "The key, which is not active any more", body = KeyAnswer),
        (status = 409, description = "The last active admin key stays (`last_admin_key`)"),
    ),
)]
pub(crate) async fn revoke(State(app): State<Arc<App>>, KeyPath(id): KeyPath) -> JsonResult<KeyAnswer> {
    Ok(Json(answer(&*app.keys.revoke(id).await?)))
}

/// Rotate an API key
///
/// The key gets a new secret. The current secret works beside it for `graceSeconds`. An older secret stops working at once.
#[utoipa::path(
    post,
    path = "",
    request_body = Rotation,
    responses(
        (status = 200, description = "The key; its new `apiKey` is shown this once", body = KeyAnswer),
        (status = 409, description = "The key was revoked (`api_key_revoked`)"),
    ),
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    KeyPath(id): KeyPath,
    JsonBody(rotation): JsonBody<Rotation>,
) -> JsonResult<KeyAnswer> {
    let grace = Duration::from_secs(rotation.grace_seconds.unwrap_or(KEY_GRACE_DEFAULT_S).into());
    let (key, secret) = app.keys.rotate(id, grace).await?;
    Ok(Json(KeyAnswer { api_key: Some(secret.reveal().into()), ..answer(&key) }))
}

/// Delete an API key
#[utoipa::path(
    delete,
    path = "",
    responses(
        (status = 204, description = "It is refused from now on"),
        (status = 409, description = "The last active admin key stays (`last_admin_key`)"),
    ),
)]
pub(crate) async fn delete(State(app): State<Arc<App>>, KeyPath(id): KeyPath) -> Result<Gone, ApiError> {
    app.keys.remove(id).await?;
    Ok(Gone)
}

fn answer(key: &Key) -> KeyAnswer {
    let (record, usage) = (key.record().clone(), key.usage());
    let previous_key_expires_at = record.previous_ends_at(Timestamp::now());
    let terms = record.terms;
    KeyAnswer {
        id: record.id,
        name: terms.name,
        key_prefix: record.prefix,
        role: terms.role,
        allowed_ips: terms.allowed_ips,
        allowed_sessions: terms.allowed_sessions,
        allow_group_creation: terms.allowed_groups.is_some().then_some(terms.allow_group_creation),
        allowed_groups: terms.allowed_groups,
        is_active: record.is_active,
        expires_at: terms.expires_at,
        previous_key_expires_at,
        last_used_at: usage.last_used_at,
        usage_count: usage.count,
        created_at: record.created_at,
        api_key: None,
    }
}

/// The account epochs of the sessions that changed hands: a key's groups belong to the current accounts.
fn account_epochs(app: &App) -> BTreeMap<SessionId, u32> {
    let sessions = app.gateway.sessions();
    let changed = sessions.iter().filter(|session| session.account_epoch > 0);
    changed.map(|session| (session.id, session.account_epoch)).collect()
}

fn role(fields: &mut Fields<'_>) -> Option<Role> {
    let text = fields.optional_text("role")?;
    let role = Role::parse(&text);
    if role.is_none() {
        fields.broken("role", "must be one of the following values: admin, operator, viewer");
    }
    role
}

fn addresses(fields: &mut Fields<'_>) -> Vec<AddressRange> {
    let texts = fields.optional_texts("allowedIps", KEY_SCOPE_ENTRIES_MAX);
    let ranges: Vec<_> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if ranges.len() != texts.len() {
        fields.message("each value in allowedIps must be an IP address or a CIDR range".into());
    }
    ranges
}

fn sessions(fields: &mut Fields<'_>) -> Vec<SessionId> {
    let mut sessions = Vec::new();
    for text in fields.optional_texts("allowedSessions", KEY_SCOPE_ENTRIES_MAX) {
        match (fields.known().find_session)(&text) {
            Some(id) if sessions.contains(&id) => {}
            Some(id) => sessions.push(id),
            None => fields.message(format!("session {} in allowedSessions does not exist", shorten(&text))),
        }
    }
    sessions
}

fn allowed_groups(fields: &mut Fields<'_>) -> Option<BTreeSet<GroupId>> {
    if fields.take_null("allowedGroups") {
        return None;
    }
    let mut groups = BTreeSet::new();
    for text in fields.texts("allowedGroups", 0..=KEY_GROUPS_MAX) {
        match GroupId::parse_written(&text) {
            Ok(group) => drop(groups.insert(group)),
            Err(_) => fields.message(format!("{} in allowedGroups is not a group id: {GROUP_ID_FORM}", shorten(&text))),
        }
    }
    Some(groups)
}

fn end(fields: &mut Fields<'_>) -> Option<Timestamp> {
    let end = date(&fields.optional_text("expiresAt")?);
    match end {
        None => fields.broken("expiresAt", "must be a valid ISO 8601 date string"),
        Some(end) if end <= fields.known().now => fields.broken("expiresAt", "must be in the future"),
        Some(_) => {}
    }
    end
}

/// A date with time and offset, or a date alone, which means its first moment in UTC.
fn date(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn check(body: &Value) -> Result<KeyTerms, Vec<String>> {
        let known = SessionId::random();
        let find_session = |name: &str| (name == "my-session").then_some(known);
        let map = body.as_object().cloned().unwrap_or_default();
        let request = Fields::parse::<KeyRequest>(map, Known { find_session: &find_session, now: NOW, file: None });
        request.map(KeyRequest::terms).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn a_new_key_is_an_operator_without_limits_unless_told_otherwise() {
        let plain = json!({"name": "alice", "allowedIps": [], "allowedSessions": null, "allowedGroups": null});
        assert_eq!(check(&plain), Ok(KeyTerms::named("alice")));
        let limited = json!({
            "name": "alice", "role": "viewer", "allowedIps": ["10.0.0.0/8"],
            "allowedSessions": ["my-session", "my-session"], "allowedGroups": ["1@g.us", "1@g.us"],
            "allowGroupCreation": true, "expiresAt": "2030-01-01",
        });
        let limited = check(&limited).unwrap();
        assert_eq!((limited.role, limited.allowed_ips.len(), limited.allowed_sessions.len()), (Role::Viewer, 1, 1));
        assert_eq!((limited.allowed_groups.map(|groups| groups.len()), limited.allow_group_creation), (Some(1), true));
        assert_eq!(limited.expires_at.map(|end| end.to_string()).as_deref(), Some("2030-01-01T00:00:00.000Z"));
        let no_group = check(&json!({"name": "alice", "allowedGroups": []})).unwrap();
        assert_eq!(no_group.allowed_groups, Some(BTreeSet::new()), "limited, to nothing yet");
    }

    #[test]
    fn what_a_change_leaves_out_stays_and_null_takes_a_limit_away() {
        let change = |body: Value| {
            let update = Fields::parse::<KeyUpdate>(body.as_object().cloned().unwrap(), Known::default());
            update.map(KeyUpdate::change)
        };
        assert_eq!(change(json!({})).unwrap(), KeyChange::default());
        let all = json!({
            "role": "viewer", "allowedIps": null, "allowedSessions": null, "allowedGroups": null,
            "allowGroupCreation": null, "expiresAt": null,
        });
        let expected = KeyChange {
            name: None,
            role: Some(Role::Viewer),
            allowed_ips: Some(vec![]),
            allowed_sessions: Some(vec![]),
            allowed_groups: Some(None),
            allow_group_creation: Some(false),
            account_epochs: None,
            expires_at: Some(None),
        };
        assert_eq!(change(all).unwrap(), expected);
        assert!(change(json!({"name": ""})).is_err());
    }

    #[test]
    fn every_broken_rule_of_a_new_key_is_named() {
        let cases = [
            (json!({}), "name should not be empty"),
            (json!({"name": "a\u{0}b"}), "name must not contain control characters or line breaks"),
            (json!({"name": "a\nb"}), "name must not contain control characters or line breaks"),
            (json!({"name": "a\u{7f}b"}), "name must not contain control characters or line breaks"),
            (json!({"name": "a\u{202e}b"}), "name must not contain control characters or line breaks"),
            (json!({"name": "a", "role": "root"}), "role must be one of the following values: admin, operator, viewer"),
            (json!({"name": "a", "role": 1}), "role must be a string"),
            (
                json!({"name": "a", "allowedIps": ["localhost"]}),
                "each value in allowedIps must be an IP address or a CIDR range",
            ),
            (json!({"name": "a", "allowedSessions": ["bob"]}), "session bob in allowedSessions does not exist"),
            (
                json!({"name": "a", "allowedGroups": ["x"]}),
                "x in allowedGroups is not a group id: it is written like 120363021234567890@g.us",
            ),
            (json!({"name": "a", "allowedGroups": "1@g.us"}), "allowedGroups must be an array"),
            (json!({"name": "a", "allowGroupCreation": "yes"}), "allowGroupCreation must be a boolean value"),
            (json!({"name": "a", "expiresAt": "soon"}), "expiresAt must be a valid ISO 8601 date string"),
            (json!({"name": "a", "expiresAt": "2020-01-01T00:00:00Z"}), "expiresAt must be in the future"),
            (json!({"name": "a", "apiKey": "x"}), "property apiKey should not exist"),
        ];
        for (body, expected) in cases {
            assert_eq!(check(&body).map(|_| ()).unwrap_err()[0], expected);
        }
    }
}
