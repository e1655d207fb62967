//! What can happen to a caller of the gateway. The start of all sessions gives [`crate::StartError`].

use std::fmt;

use rookery_engine::FileError;
use rookery_model::{GroupId, IdError, ParticipantResult, Timestamp};
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
    /// The daemon has as many sessions as it may have.
    #[error("there are {0} sessions already, as many as --sessions-max allows: delete some, or have it raised")]
    TooManySessions(usize),
    /// The session is not started: WhatsApp was not asked.
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
    /// WhatsApp does not ask for a passkey now.
    #[error("WhatsApp does not ask for a passkey now")]
    NoPasskey,
    /// The phone has no code yet to be compared.
    #[error("there is no code to confirm yet")]
    NoPasskeyCode,
    /// The passkey's answer, or the confirmation, was taken already.
    #[error("it was taken already, and linking goes on")]
    PasskeyTaken,
    /// The passkey signed an earlier request.
    #[error("the passkey's answer is for another request")]
    PasskeyOutdated,
    /// As many commands as allowed are in flight for this session.
    #[error("too many commands in flight for this session")]
    Busy,
    /// The group is not one of this session's.
    #[error("group `{0}` not found")]
    GroupNotFound(GroupId),
    /// Only admins write in the group, and the account is none.
    #[error("only admins may write in group `{0}`")]
    AnnounceOnly(GroupId),
    /// Only admins of the group may do this, and the account is none.
    #[error("only admins of group `{group}` may {what}")]
    NotAdmin {
        /// The group.
        group: GroupId,
        /// What they may: `pin messages`.
        what: &'static str,
    },
    /// The id is a community's, which has no chat of its own.
    #[error("`{0}` is a community, which has no chat of its own")]
    NotChat(GroupId),
    /// The person has no WhatsApp account; as the caller named them.
    #[error("`{0}` has no WhatsApp account")]
    NotOnWhatsapp(String),
    /// WhatsApp lets only those write to this person whom the person has given a privacy token, and the account has none.
    #[error("the person takes messages only from people whom they know, and the account is not known to them")]
    TokenMissing,
    /// Something is wrong with a file.
    #[error(transparent)]
    File(#[from] FileError),
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
        /// WhatsApp's status code.
        code: u16,
        /// Seconds after which WhatsApp may be asked again, when WhatsApp said so.
        retry_after_s: Option<u32>,
    },
    /// WhatsApp restricts the account: it may not reach out to people whom it has no chat with.
    #[error("{what} was refused by WhatsApp, which restricts this account {}", until_text(.until))]
    TimeLocked {
        /// The request, as in [`Self::Refused`].
        what: &'static str,
        /// When it may again, when WhatsApp said so.
        until: Option<Timestamp>,
    },
    /// WhatsApp asked to slow down, now or a moment ago.
    #[error("WhatsApp asks to slow down")]
    RateLimited {
        /// What pauses.
        what: Paused,
        /// Seconds after which WhatsApp may be asked again.
        retry_after_s: u32,
    },
    /// One of our own limits, which protect the account; WhatsApp was not asked.
    #[error("the limit of {limit} is reached: {allowed}")]
    LimitReached {
        /// What is limited.
        limit: Limited,
        /// How much is allowed, in words.
        allowed: String,
        /// Seconds after which the request fits again.
        retry_after_s: u32,
    },
    /// Some of several settings were applied before one failed.
    #[error("of several settings only some were set ({applied:?}): {error}")]
    SettingsPartly {
        /// The fields that have their new value, in the order of application.
        applied: Vec<&'static str>,
        /// The field that was not set; `None`: the time for the request was over before another one was tried.
        failed: Option<&'static str>,
        /// Fields that nobody tried to set after that.
        not_tried: Vec<&'static str>,
        /// Why the rest was not set.
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
    /// WhatsApp's answer to a question could not be read; nothing was changed.
    #[error("WhatsApp's answer could not be read: nothing was changed")]
    Unreadable,
    /// WhatsApp did not answer the request to create a group, or failed itself (5xx), and two reads a second apart
    /// showed no new group. A group that comes late cannot be told from one that was created in another way. So a
    /// second request may create a second group.
    #[error("WhatsApp did not confirm it: no new group was seen, but it may come late")]
    NotMade,
    /// No participant of a new group has a WhatsApp account; the group was not made.
    #[error("none of the participants has a WhatsApp account")]
    NobodyOnWhatsapp(Vec<ParticipantResult>),
    /// The account's own name is not known yet, which the request needs.
    #[error("the account's own name is not known yet")]
    NoPushName,
    /// WhatsApp did not confirm the log-out within its time.
    #[error("WhatsApp did not confirm the log-out")]
    LogoutIncomplete,
    /// The session's stored data cannot be read, so it has no actor to ask. The text says what to do.
    #[error("{0}")]
    NotLoaded(String),
    /// The order was carried out, but the result could not be put on disk yet: it may be lost in a restart. Saving is
    /// tried again.
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

/// What a session's own limits are for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Making groups and communities.
    Create,
    /// Adding people to groups.
    Add,
    /// Other changes of groups.
    Write,
    /// Questions that only WhatsApp can answer.
    Query,
    /// Lookups of phone numbers.
    Lookup,
    /// Messages, and changes of them.
    Message,
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "creating groups",
            Self::Add => "adding people",
            Self::Write => "changing groups",
            Self::Query => "questions to WhatsApp",
            Self::Lookup => "looking up numbers",
            Self::Message => "sending messages",
        })
    }
}

/// What pauses when WhatsApp asks to slow down.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Paused {
    /// The session's changes of groups.
    Changes,
    /// The session's lookups of phone numbers.
    Lookups,
}

impl CommandError {
    /// Seconds after which a caller may try again; `None` where that cannot help.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Refused { retry_after_s: Some(seconds), .. } => Some(*seconds),
            Self::RateLimited { retry_after_s, .. } | Self::LimitReached { retry_after_s, .. } => Some(*retry_after_s),
            Self::SettingsPartly { error, .. } => error.retry_after_s(),
            Self::Refused { code: 500.., .. }
            | Self::OutcomeUnknown
            | Self::Unanswered
            | Self::Unreadable
            | Self::NotMade => Some(OUTCOME_RETRY_S),
            Self::File(FileError::NoRoom(_) | FileError::PhoneSilent) => Some(OUTCOME_RETRY_S),
            Self::Restarting | Self::Busy | Self::Draining | Self::Store(_) => Some(SHORT_RETRY_S),
            _ => None,
        }
    }
}

fn until_text(until: &Option<Timestamp>) -> String {
    until.map_or_else(|| "for some time".into(), |until| format!("until {until}"))
}

/// After an unconfirmed write: the read-back or reconnect is over by then.
const OUTCOME_RETRY_S: u32 = 5;
/// A restart or a full queue passes within a second or two.
const SHORT_RETRY_S: u32 = 2;
