//! The bodies that make and change webhooks, and how they are read.

use axum::http::HeaderName;
use reqwest::Url;
use rookery_model::{EventKind, SessionId};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::limits::{
    WEBHOOK_EVENTS, WEBHOOK_HEADER_CHARS_MAX, WEBHOOK_HEADERS_MAX, WEBHOOK_RETRIES, WEBHOOK_SECRET_CHARS,
    WEBHOOK_SESSIONS,
};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::shorten;
use crate::url_fetch::URL_CHARS_MAX;
use crate::webhooks::{
    CONDITIONS_MAX, Condition, EVERY_EVENT, Field, Filters, Headers, NewWebhook, Operator, Sessions, Terms,
    TermsChange, VALUES_MAX, WebhookSecret, is_event_word, is_reserved_header,
};

/// The event that a webhook gets when none is named, as in OpenWA.
const EVENT_DEFAULT: &str = "message.received";
const RETRIES_DEFAULT: u32 = 3;

/// A body that makes a webhook, with these fields beside those of all.
macro_rules! new_webhook {
    ($(#[$about:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(ToSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(crate) struct $name {
            $($own)*
            /// Where deliveries go: http or https, without user name and password.
            #[schema(min_length = 1, max_length = 2048, pattern = "^https?://", example = "https://hub.example.com/whatsapp")]
            url: String,
            /// The events that it gets, or `*` for all; `message.received` by default.
            #[schema(nullable = false, min_items = 1, max_items = 64, example = json!(["group.join", "group.leave"]))]
            events: Option<Vec<String>>,
            /// The key of the signatures. One of Standard Webhooks begins with `whsec_`.
            #[schema(nullable = false, value_type = Option<String>, min_length = 16, max_length = 255, example = "a-secret-of-16-or-more")]
            secret: Option<Option<WebhookSecret>>,
            /// Header fields to be sent with each delivery. `Content-Type` and `X-OpenWA-*` are left out.
            #[schema(nullable = false, value_type = Option<Object>, example = json!({ "Authorization": "Bearer 123" }))]
            headers: Option<Headers>,
            /// Conditions that all have to hold for an event to be delivered.
            #[schema(value_type = Option<Filters>, example = json!(null))]
            filters: Option<Option<Filters>>,
            /// Attempts that follow each other quickly, the first one included, before the waits grow; 3 by default.
            #[schema(minimum = 0, maximum = 5, example = 3)]
            retry_count: Option<u32>,
            /// Whether it delivers; true by default.
            #[schema(nullable = false, example = true)]
            active: Option<bool>,
            /// Whether media up to 1 MiB are part of the deliveries; false by default.
            #[schema(nullable = false, example = false)]
            include_media: Option<bool>,
        }

        impl $name {
            fn terms(self) -> Terms {
                Terms {
                    url: self.url,
                    events: self.events.unwrap_or_else(|| vec![EVENT_DEFAULT.to_owned()]),
                    filters: self.filters.flatten(),
                    secret: self.secret.flatten(),
                    headers: self.headers.unwrap_or_default(),
                    retry_count: self.retry_count.unwrap_or(RETRIES_DEFAULT),
                    include_media: self.include_media.unwrap_or_default(),
                    is_active: self.active.unwrap_or(true),
                }
            }
        }
    };
}

new_webhook! {
    /// A webhook of a session to be made.
    WebhookRequest {}
}

new_webhook! {
    /// A webhook for several sessions to be made.
    WideWebhookRequest {
        /// Ids or names of the sessions, or `*` for all, those that are made later among them. It cannot be changed later.
        #[schema(value_type = Value, example = json!("*"))]
        session_ids: Sessions,
    }
}

/// The changes of a webhook. Fields that are left out stay as they are.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WebhookUpdate {
    /// Where deliveries go: http or https, without user name and password.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 2048,
        pattern = "^https?://",
        example = "https://hub.example.com/whatsapp"
    )]
    url: Option<String>,
    /// The events that it gets, or `*` for all.
    #[schema(nullable = false, min_items = 1, max_items = 64, example = json!(["group.join", "group.leave"]))]
    events: Option<Vec<String>>,
    /// The key of the signatures; an empty text means unsigned.
    #[schema(nullable = false, value_type = Option<String>, max_length = 255, example = "a-secret-of-16-or-more")]
    secret: Option<Option<WebhookSecret>>,
    /// Header fields to be sent with each delivery, instead of those before.
    #[schema(nullable = false, value_type = Option<Object>, example = json!({ "Authorization": "Bearer 123" }))]
    headers: Option<Headers>,
    /// Conditions that all have to hold for an event to be delivered; `null` means none.
    #[schema(value_type = Option<Filters>, example = json!(null))]
    filters: Option<Option<Filters>>,
    /// Attempts that follow each other quickly, the first one included, before the waits grow.
    #[schema(minimum = 0, maximum = 5, example = 3)]
    retry_count: Option<u32>,
    /// Whether it delivers. What happens meanwhile is delivered later.
    #[schema(nullable = false, example = true)]
    active: Option<bool>,
    /// Whether media up to 1 MiB are part of the deliveries.
    #[schema(nullable = false, example = false)]
    include_media: Option<bool>,
}

impl FromFields for WebhookUpdate {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            url: fields.has("url").then(|| url(fields)),
            events: fields.has("events").then(|| events(fields)),
            secret: fields.has("secret").then(|| secret(fields, true)),
            headers: fields.has("headers").then(|| headers(fields)),
            filters: fields.has("filters").then(|| filters(fields)),
            retry_count: fields
                .nullable_number("retryCount", WEBHOOK_RETRIES)
                .map(|number| number.unwrap_or(RETRIES_DEFAULT)),
            active: fields.optional_flag("active"),
            include_media: fields.optional_flag("includeMedia"),
        }
    }
}

impl FromFields for WebhookRequest {
    fn read(fields: &mut Fields<'_>) -> Self {
        let (url, secret) = (url(fields), fields.has("secret").then(|| secret(fields, false)));
        let WebhookUpdate { events, headers, filters, retry_count, active, include_media, .. } =
            WebhookUpdate::read(fields);
        Self { url, events, secret, headers, filters, retry_count, active, include_media }
    }
}

impl FromFields for WideWebhookRequest {
    fn read(fields: &mut Fields<'_>) -> Self {
        let session_ids = sessions(fields);
        let WebhookRequest { url, events, secret, headers, filters, retry_count, active, include_media } =
            WebhookRequest::read(fields);
        Self { session_ids, url, events, secret, headers, filters, retry_count, active, include_media }
    }
}

impl WebhookRequest {
    /// The webhook of this session.
    pub(super) fn webhook(self, session: SessionId) -> NewWebhook {
        NewWebhook { sessions: Sessions::One(session), terms: self.terms() }
    }
}

impl WideWebhookRequest {
    /// The webhook of these sessions.
    pub(super) fn webhook(self) -> NewWebhook {
        NewWebhook { sessions: self.session_ids.clone(), terms: self.terms() }
    }
}

impl From<WebhookUpdate> for TermsChange {
    fn from(update: WebhookUpdate) -> Self {
        Self {
            url: update.url,
            events: update.events,
            filters: update.filters,
            secret: update.secret,
            headers: update.headers,
            retry_count: update.retry_count,
            include_media: update.include_media,
            is_active: update.active,
        }
    }
}

fn url(fields: &mut Fields<'_>) -> String {
    let text = fields.text("url", 1..=URL_CHARS_MAX);
    if let Some(rule) = Some(&text).filter(|text| !text.is_empty()).and_then(|text| broken_rule_of_url(text)) {
        fields.broken("url", rule);
    }
    text
}

/// What is wrong with a URL as it is written. Readers differ about odd spellings, so these are refused.
fn broken_rule_of_url(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let parsed = Url::parse(text).ok().filter(|url| url.port_or_known_default().is_some_and(|port| port != 0));
    let (Some(rest), Some(_)) = (rest.filter(|rest| !rest.starts_with('/')), parsed) else {
        return Some("must be a URL address that begins with http:// or https://");
    };
    if text.chars().any(|char| char.is_whitespace() || char.is_control() || char == '\\') {
        return Some("must not contain blanks, control characters or backslashes");
    }
    if text.contains('#') {
        return Some("must not have a fragment: what is behind # is never sent");
    }
    // Also an empty user name is one.
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let is_with_name = host.contains('@') && Url::parse(text).is_ok_and(|url| url.username().is_empty());
    is_with_name.then_some("must not contain credentials (userinfo)")
}

fn events(fields: &mut Fields<'_>) -> Vec<String> {
    let mut events = fields.texts("events", WEBHOOK_EVENTS);
    for word in events.iter().filter(|word| !is_event_word(word)) {
        let known: Vec<&str> = EventKind::all().map(EventKind::as_str).collect();
        let rule = format!("has `{}`, which is not an event; there are * and {}", shorten(word), known.join(", "));
        fields.broken("events", &rule);
    }
    let mut seen = std::collections::BTreeSet::new();
    events.retain(|word| seen.insert(word.clone()));
    events
}

/// A secret; an empty one in a change means none. `null` is refused: whoever leaves a field out by writing `null` would end the signatures.
fn secret(fields: &mut Fields<'_>, may_be_empty: bool) -> Option<WebhookSecret> {
    if fields.take_null("secret") {
        fields.broken("secret", "must be a string; an empty one in a change removes it");
        return None;
    }
    let text = fields.optional_text("secret")?;
    if text.is_empty() && may_be_empty {
        return None;
    }
    let count = text.chars().count();
    if count < *WEBHOOK_SECRET_CHARS.start() {
        let rule = format!("must be longer than or equal to {} characters", WEBHOOK_SECRET_CHARS.start());
        fields.broken("secret", &rule);
    }
    if count > *WEBHOOK_SECRET_CHARS.end() {
        let rule = format!("must be shorter than or equal to {} characters", WEBHOOK_SECRET_CHARS.end());
        fields.broken("secret", &rule);
    }
    if text.chars().any(char::is_control) {
        fields.broken("secret", "must not contain control characters");
    }
    let secret = WebhookSecret::new(text);
    if !secret.is_usable() {
        fields
            .broken("secret", "begins with whsec_, so that the rest must be standard base64, as in Standard Webhooks");
    }
    Some(secret)
}

fn headers(fields: &mut Fields<'_>) -> Headers {
    let mut headers = Headers::default();
    let given = fields.take_object("headers");
    if given.len() > WEBHOOK_HEADERS_MAX {
        fields.broken("headers", &format!("must have no more than {WEBHOOK_HEADERS_MAX} entries"));
    }
    for (name, value) in given.into_iter().take(WEBHOOK_HEADERS_MAX) {
        if is_reserved_header(&name) {
            continue;
        }
        let shown = shorten(&name);
        match (name.parse::<HeaderName>(), value.as_str()) {
            (Err(_), _) => fields.message(format!("headers.{shown} is not the name of a header field")),
            (Ok(name), _) if is_of_connection(name.as_str()) => {
                fields.message(format!("headers.{shown} belongs to the connection and cannot be set"));
            }
            (Ok(name), Some(value)) if is_header_value(value) => {
                headers.0.insert(name.as_str().to_owned(), value.to_owned());
            }
            (Ok(_), _) => fields.message(format!(
                "headers.{shown} must be a string of up to {WEBHOOK_HEADER_CHARS_MAX} characters without control characters"
            )),
        }
    }
    headers
}

fn is_header_value(value: &str) -> bool {
    value.chars().count() <= WEBHOOK_HEADER_CHARS_MAX && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Whether a header field is about the message's framing or the connection, or has its value from the delivery.
fn is_of_connection(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ];
    NAMES.contains(&name) || name.starts_with("proxy-")
}

fn filters(fields: &mut Fields<'_>) -> Option<Filters> {
    fields.optional_object::<FilterFields>("filters").map(|FilterFields(filters)| filters)
}

/// Filters, being read.
struct FilterFields(Filters);

impl FromFields for FilterFields {
    fn read(fields: &mut Fields<'_>) -> Self {
        let conditions = match fields.take("conditions") {
            Some(Value::Array(conditions)) => conditions,
            _ => {
                fields.broken("conditions", "must be an array");
                Vec::new()
            }
        };
        if conditions.len() > CONDITIONS_MAX {
            fields.broken("conditions", &format!("must contain no more than {CONDITIONS_MAX} elements"));
        }
        let mut read = Vec::new();
        for (place, condition) in conditions.into_iter().take(CONDITIONS_MAX).enumerate() {
            let Value::Object(map) = condition else {
                fields.message(format!("conditions.{place} must be an object"));
                continue;
            };
            read.extend(fields.inner(&format!("conditions.{place}"), map, condition_of));
        }
        Self(Filters { conditions: read })
    }
}

fn condition_of(fields: &mut Fields<'_>) -> Option<Condition> {
    let field = fields.optional_word("field", &Field::WORDS);
    let operator = fields.optional_word("operator", &Operator::WORDS);
    let case_sensitive = fields.optional_flag("caseSensitive").unwrap_or_default();
    let value = fields.take("value").unwrap_or_default();
    let is_flag = field.is_some_and(Field::is_flag);
    let is_right = match &value {
        Value::Bool(_) => is_flag,
        Value::String(_) => !is_flag,
        Value::Array(values) => !is_flag && values.len() <= VALUES_MAX && values.iter().all(Value::is_string),
        _ => false,
    };
    if !is_right {
        let rule = if is_flag { "must be true or false" } else { "must be a string, or an array of up to 100 strings" };
        fields.broken("value", rule);
    }
    if is_flag && operator == Some(Operator::Contains) {
        fields.broken("operator", "must be is, isNot or equals for a field that is true or false");
    }
    for (name, is_missing) in [("field", field.is_none()), ("operator", operator.is_none())] {
        if is_missing && !fields.is_broken() {
            fields.broken(name, "should not be empty");
        }
    }
    Some(Condition { field: field?, operator: operator?, value, case_sensitive })
}

fn sessions(fields: &mut Fields<'_>) -> Sessions {
    let known = fields.known();
    match fields.take("sessionIds") {
        Some(Value::String(text)) if text == EVERY_EVENT => Sessions::All,
        Some(Value::Array(values)) if WEBHOOK_SESSIONS.contains(&values.len()) => {
            let mut found = Vec::new();
            for value in values {
                match value.as_str().and_then(|text| (known.find_session)(text)) {
                    Some(session) if found.contains(&session) => {}
                    Some(session) => found.push(session),
                    None => {
                        let written = shorten(value.as_str().unwrap_or("something that is not a text"));
                        fields.broken("sessionIds", &format!("has {written}, which is not a session"));
                    }
                }
            }
            Sessions::Several(found)
        }
        _ => {
            let most = WEBHOOK_SESSIONS.end();
            fields.broken("sessionIds", &format!("must be \"*\" or an array of 1 to {most} sessions"));
            Sessions::All
        }
    }
}
