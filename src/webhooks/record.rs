//! A webhook as it is stored, and which events it wants.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rookery_model::{Event, EventKind, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::Filters;

/// A secret of Standard Webhooks begins so, and goes on in base64.
const STANDARD_SECRET_PREFIX: &str = "whsec_";
/// Stands for every event in a subscription.
pub(crate) const EVERY_EVENT: &str = "*";

/// A webhook as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WebhookRecord {
    pub(crate) id: Uuid,
    pub(crate) sessions: Sessions,
    #[serde(flatten)]
    pub(crate) terms: Terms,
    /// Why nothing is delivered until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pause: Option<Pause>,
    /// The key that made it: if that key is limited, only what it may see is delivered.
    pub(crate) made_by: Uuid,
    /// That key is limited to sessions or groups, or was when it was last looked at: the webhook ends with it.
    #[serde(default)]
    pub(crate) is_made_by_limited: bool,
    /// The keys that gave the secret and the header fields: no limited key sends those of another one elsewhere.
    pub(crate) secret_by: Uuid,
    pub(crate) headers_by: Uuid,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// The part of a webhook that callers set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) url: String,
    /// The words of the events, or `*`.
    pub(crate) events: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filters: Option<Filters>,
    /// The key of the signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<WebhookSecret>,
    /// Sent with each delivery.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub(crate) headers: Headers,
    /// Attempts that follow each other quickly, the first one included; 0 counts as 1.
    pub(crate) retry_count: u32,
    /// Media up to the limit of a payload are in it.
    #[serde(default)]
    pub(crate) include_media: bool,
    pub(crate) is_active: bool,
}

/// New values of some terms; `None` leaves a term as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct TermsChange {
    pub(crate) url: Option<String>,
    pub(crate) events: Option<Vec<String>>,
    pub(crate) filters: Option<Option<Filters>>,
    pub(crate) secret: Option<Option<WebhookSecret>>,
    pub(crate) headers: Option<Headers>,
    pub(crate) retry_count: Option<u32>,
    pub(crate) include_media: Option<bool>,
    pub(crate) is_active: Option<bool>,
}

/// The sessions whose events a webhook gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sessions {
    /// The webhook belongs to this session, and ends with it.
    One(SessionId),
    /// These, as far as there are some left.
    Several(Vec<SessionId>),
    /// Each one, also those that are made later.
    All,
}

/// The key of a webhook's signatures.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct WebhookSecret(String);

/// Header fields, by their names in lower case. The values may hold secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Headers(pub(crate) BTreeMap<String, String>);

/// Since when and why nothing is delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pause {
    pub(crate) reason: PauseReason,
    pub(crate) at: Timestamp,
}

/// Why nothing is delivered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PauseReason {
    /// The receiver answered 410.
    #[error("the receiver answered 410 Gone: it wants no further deliveries")]
    ReceiverGone,
    /// A delivery failed for as long as it may be repeated.
    #[error("a delivery failed until the time for repeating it was over")]
    RetriesOver,
    /// The limited key that made it may not see the session any more.
    #[error("the API key that made it may not see this session any more")]
    KeyNarrowed,
    /// The limited key that made it was revoked or deleted, or has expired.
    #[error("the API key that made it has ended, and was limited: make the webhook anew with another key")]
    KeyEnded,
}

impl WebhookSecret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// Whether the libraries of Standard Webhooks can use it.
    pub(crate) fn is_usable(&self) -> bool {
        let encoded = self.0.strip_prefix(STANDARD_SECRET_PREFIX);
        encoded.is_none_or(|encoded| STANDARD.decode(encoded).is_ok())
    }

    /// The key that these libraries make of it.
    pub(crate) fn standard_key(&self) -> Vec<u8> {
        let encoded = self.0.strip_prefix(STANDARD_SECRET_PREFIX);
        let decoded = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        decoded.unwrap_or_else(|| self.0.as_bytes().to_owned())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Headers {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Terms {
    pub(crate) fn with(self, change: TermsChange) -> Self {
        Self {
            url: change.url.unwrap_or(self.url),
            events: change.events.unwrap_or(self.events),
            filters: change.filters.unwrap_or(self.filters),
            secret: change.secret.unwrap_or(self.secret),
            headers: change.headers.unwrap_or(self.headers),
            retry_count: change.retry_count.unwrap_or(self.retry_count),
            include_media: change.include_media.unwrap_or(self.include_media),
            is_active: change.is_active.unwrap_or(self.is_active),
        }
    }

    /// Whether this event is subscribed to and passes the filters.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let word = event.kind.as_str();
        let is_subscribed = self.events.iter().any(|one| one == word || one == EVERY_EVENT);
        is_subscribed && self.filters.as_ref().is_none_or(|filters| filters.let_through(event))
    }
}

impl WebhookRecord {
    /// Whether a key would send a secret or header fields of another key to another URL by this change.
    pub(crate) fn leaks_by(&self, change: &TermsChange, key: Uuid) -> bool {
        let is_url_new = change.url.as_ref().is_some_and(|url| *url != self.terms.url);
        let has_others_secret = self.terms.secret.is_some() && self.secret_by != key && change.secret.is_none();
        let has_others_headers = !self.terms.headers.is_empty() && self.headers_by != key && change.headers.is_none();
        is_url_new && (has_others_secret || has_others_headers)
    }

    /// Whether anything is delivered at all.
    pub(crate) fn is_delivering(&self) -> bool {
        self.terms.is_active && self.pause.is_none()
    }
}

/// Whether a subscription may have this word.
pub(crate) fn is_event_word(word: &str) -> bool {
    word == EVERY_EVENT || EventKind::from_word(word).is_some() || EventKind::is_never_sent(word)
}
