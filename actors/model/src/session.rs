//! Sessions as API callers see them. Never does IO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Linking, Restriction, SessionId, SessionName, Timestamp};

/// A session: one WhatsApp account. Every field is always present in JSON, `null` where there is nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The session's UUID.
    pub id: SessionId,
    /// Its unique name.
    pub name: SessionName,
    /// Where it stands.
    pub status: SessionStatus,
    /// The linked account's phone number, digits only; `null` until a phone is linked.
    #[schema(required, example = "15550100001")]
    pub phone: Option<String>,
    /// The phone number of the account that the session belongs to, also after its phone was unlinked; `null`: any account may be
    /// linked.
    #[schema(required, example = "15550100001")]
    pub bound_phone: Option<String>,
    /// The account's own display name.
    #[schema(required, example = "Rookery Demo")]
    pub push_name: Option<String>,
    /// When it last became `ready`.
    #[schema(required)]
    pub connected_at: Option<Timestamp>,
    /// When it last did something for a caller or heard from WhatsApp.
    #[schema(required)]
    pub last_active: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its status, phone or name last changed.
    pub updated_at: Timestamp,
    /// In words, why it is not `ready`; `null` when nothing is wrong.
    #[schema(required, example = json!(null))]
    pub last_error: Option<String>,
    /// What WhatsApp forbids the account; `null`: nothing that it told.
    #[schema(required, example = json!(null))]
    pub restriction: Option<Restriction>,
    /// How far the linking of a phone is; `null`: none is being linked.
    #[schema(required)]
    pub linking: Option<Linking>,
    /// Whether a WhatsApp client is loaded for it (also while it reconnects).
    pub engine_loaded: bool,
    /// Counts the session's changes of account: grants and answers kept for an earlier account are void.
    #[serde(skip)]
    pub account_epoch: u32,
}

/// Where a session stands. What may follow what is in `session/lifecycle.rs`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(example = "ready")]
pub enum SessionStatus {
    /// Never started.
    Created,
    /// Started; connecting to WhatsApp.
    Initializing,
    /// Waits for a phone to scan the QR or to enter the pairing code.
    QrReady,
    /// A phone was linked or credentials are being used; logging in.
    Authenticating,
    /// Logged in, credentials on disk, groups read.
    Ready,
    /// Not connected: reconnecting by itself, or stopped.
    Disconnected,
    /// A person has to act at the phone or start the session again; `lastError` says what to do.
    ActionRequired,
    /// Given up after errors; `lastError` says why.
    Failed,
}

impl SessionStatus {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Initializing => "initializing",
            Self::QrReady => "qr_ready",
            Self::Authenticating => "authenticating",
            Self::Ready => "ready",
            Self::Disconnected => "disconnected",
            Self::ActionRequired => "action_required",
            Self::Failed => "failed",
        }
    }
}

/// What an operator decided about a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionConfig {
    /// Incoming calls are rejected at once.
    #[schema(example = false)]
    pub auto_reject_calls: bool,
    /// Reconnects tried in a row before the session is `failed`; `null`: no end.
    #[schema(required, minimum = 0, maximum = 20, example = json!(null))]
    pub max_reconnect_attempts: Option<u32>,
    /// Milliseconds before the second reconnect in a row; doubled for each further one, up to a minute. The first is at once.
    #[schema(minimum = 1_000, maximum = 300_000, example = 5_000)]
    pub reconnect_base_delay: u32,
}

impl SessionConfig {
    /// The default of [`SessionConfig::reconnect_base_delay`], in milliseconds.
    pub const RECONNECT_BASE_DELAY_DEFAULT: u32 = 5_000;
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            auto_reject_calls: false,
            max_reconnect_attempts: None,
            reconnect_base_delay: Self::RECONNECT_BASE_DELAY_DEFAULT,
        }
    }
}

/// A change of some of a session's configuration; `None` leaves a field as it is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// [`SessionConfig::auto_reject_calls`]
    pub auto_reject_calls: Option<bool>,
    /// [`SessionConfig::max_reconnect_attempts`]
    pub max_reconnect_attempts: Option<Option<u32>>,
    /// [`SessionConfig::reconnect_base_delay`]
    pub reconnect_base_delay: Option<u32>,
}

impl ConfigChange {
    /// The configuration after the change.
    #[must_use]
    pub fn applied_to(self, config: SessionConfig) -> SessionConfig {
        SessionConfig {
            auto_reject_calls: self.auto_reject_calls.unwrap_or(config.auto_reject_calls),
            max_reconnect_attempts: self.max_reconnect_attempts.unwrap_or(config.max_reconnect_attempts),
            reconnect_base_delay: self.reconnect_base_delay.unwrap_or(config.reconnect_base_delay),
        }
    }
}

/// The QR that a phone can scan now.
#[derive(Clone, PartialEq, Eq)]
pub struct Qr {
    /// The raw string to be drawn as a QR code. A secret while it is valid.
    pub text: String,
    /// The session's status when the QR was read.
    pub status: SessionStatus,
}

impl Qr {
    /// Tells a QR from another one without showing it; of this run of the daemon.
    #[must_use]
    pub fn id_of(text: &str) -> String {
        format!("{:016x}", super::tag_of(&text))
    }
}

/// A code to be typed into the phone.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingCode {
    /// Eight characters. A secret while it is valid.
    pub code: String,
    /// The session's status when the code was made.
    pub status: SessionStatus,
}
