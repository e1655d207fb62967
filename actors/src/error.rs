//! What can happen to a caller of the gateway. The only error type that leaves this crate beside the store's.

use rookery_model::{GroupId, IdError};
use rookery_store::StoreError;

/// Why a command was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// No session has this id or name.
    #[error("session `{0}` not found")]
    UnknownSession(String),
    /// The name of a new session is in use.
    #[error("session name `{0}` is in use")]
    NameTaken(String),
    /// There are as many sessions as there may be.
    #[error("there are {0} sessions already, as many as --sessions-max allows: delete some, or have it raised")]
    TooManySessions(usize),
    /// The session is not started: nothing was asked.
    #[error("session is not started")]
    NotStarted,
    /// `start` on a session that is started.
    #[error("session is already started")]
    AlreadyStarted,
    /// Started, but not `ready`; WhatsApp was not asked.
    #[error("session is not connected")]
    NotConnected,
    /// The session's actor is being restarted.
    #[error("session is being restarted")]
    Restarting,
    /// There is no QR to show; the text says why.
    #[error("no QR to show: {0}")]
    NoQr(String),
    /// A pairing code cannot be asked for now; the text says why.
    #[error("no pairing code: {0}")]
    NoPairingCode(String),
    /// As many commands as allowed are in flight for this session.
    #[error("too many commands in flight for this session")]
    Busy,
    /// The group is not one of this session's.
    #[error("group `{0}` not found")]
    GroupNotFound(GroupId),
    /// The input cannot be sent; the text names it and the remedy.
    #[error("{0}")]
    Invalid(String),
    /// An id in the input is malformed.
    #[error(transparent)]
    Id(#[from] IdError),
    /// WhatsApp refused the request.
    #[error("{what} was refused by WhatsApp (code {code})")]
    Refused {
        /// The request, as a noun phrase that can start a sentence: `Changing the subject`.
        what: &'static str,
        /// WhatsApp's number.
        code: u16,
        /// Seconds after which WhatsApp may be asked again, when it said so.
        retry_after_s: Option<u32>,
    },
    /// WhatsApp asked to slow down, now or a moment ago.
    #[error("WhatsApp asks to slow down")]
    RateLimited {
        /// Seconds after which WhatsApp may be asked again.
        retry_after_s: u32,
    },
    /// One of our own limits, which protect the account; WhatsApp was not asked.
    #[error("the limit of {limit} is reached: {allowed}")]
    LimitReached {
        /// What is limited, as a noun phrase: `creating groups`.
        limit: &'static str,
        /// How much is allowed, in words.
        allowed: String,
        /// Seconds after which the request fits again.
        retry_after_s: u32,
    },
    /// Of several settings, some were applied before one failed.
    #[error("of several settings only some were set ({applied:?}): {error}")]
    SettingsPartly {
        /// The fields that have their new value, in the order of application.
        applied: Vec<&'static str>,
        /// The field that was not set; `None`: the time for the request was over before another one was tried.
        failed: Option<&'static str>,
        /// Fields that nobody tried to set after that.
        not_tried: Vec<&'static str>,
        /// Why.
        error: Box<Self>,
    },
    /// The invite link was revoked: its code leads nowhere any more.
    #[error("the invite link was revoked")]
    InviteRevoked,
    /// The group is no community.
    #[error("`{0}` is not a community")]
    NotCommunity(GroupId),
    /// The description changed between our read and our write, twice.
    #[error("the description was changed by somebody else at the same time")]
    DescriptionConflict,
    /// WhatsApp did not answer in time, or the connection died, after the request was sent.
    #[error("WhatsApp did not confirm: the change may have been applied")]
    OutcomeUnknown,
    /// WhatsApp did not answer a question in time, or could not be asked; nothing was changed.
    #[error("WhatsApp did not answer: nothing was changed")]
    Unanswered,
    /// WhatsApp answered a question with something of which nothing can be made; nothing was changed.
    #[error("WhatsApp's answer could not be read: nothing was changed")]
    Unreadable,
    /// WhatsApp did not answer the making of a group, or broke down, and two looks a second apart showed none. One that comes late cannot
    /// be told from one that was made otherwise, so that making it again may make a second one.
    #[error("WhatsApp did not confirm it: no new group was seen, but it may come late")]
    NotMade,
    /// WhatsApp did not confirm the log-out within its time.
    #[error("WhatsApp did not confirm the log-out")]
    LogoutIncomplete,
    /// What is stored of the session cannot be read, so that there is nobody to ask. The text says what to do.
    #[error("{0}")]
    NotLoaded(String),
    /// It was done, but could not be put on disk yet: it may not last over a restart. That is tried again.
    #[error("it was done, but could not be saved yet: {0}")]
    Unsaved(StoreError),
    /// The store refused or failed.
    #[error("the store refused the change: {0}")]
    Store(#[from] StoreError),
    /// The daemon is shutting down.
    #[error("the daemon is shutting down")]
    Draining,
    /// A defect on our side; the cause was logged.
    #[error("internal error")]
    Internal,
}

impl CommandError {
    /// Seconds after which a caller may try again, where trying again can help.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Refused { retry_after_s: Some(seconds), .. } => Some(*seconds),
            Self::RateLimited { retry_after_s } | Self::LimitReached { retry_after_s, .. } => Some(*retry_after_s),
            Self::SettingsPartly { error, .. } => error.retry_after_s(),
            Self::Refused { code: 500.., .. }
            | Self::OutcomeUnknown
            | Self::Unanswered
            | Self::Unreadable
            | Self::NotMade => Some(OUTCOME_RETRY_S),
            Self::Restarting | Self::Busy | Self::Draining | Self::Store(_) => Some(SHORT_RETRY_S),
            _ => None,
        }
    }
}

/// After an unconfirmed write: the read-back or reconnect is over by then.
const OUTCOME_RETRY_S: u32 = 5;
/// A restart or a full queue passes within a second or two.
const SHORT_RETRY_S: u32 = 2;
