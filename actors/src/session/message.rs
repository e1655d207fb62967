//! The messages to a session's actor: orders of callers, and facts from the tasks that work for it.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::exit::EngineExit;
use super::refresher::Due;
use crate::commands::{CommandQuestion, Execute, GroupChange};
use crate::error::CommandError;
use crate::group_cache::Sequence;
use crate::journal::Written;
use crate::reply::{Permit, Reply};
use rookery_engine::{AccountAnswer, Engine, EngineError, EngineEvent};
use rookery_model::{
    AllGroups, ConfigChange, Event, GroupId, GroupRecord, IncomingMessage, PairingCode, ParticipantId, PasskeyAnswer,
    Proxy, Qr, Session, SessionConfig, SessionProxy,
};
use rookery_store::StoreError;

/// Counts the engines of a session over all its actors: facts of an older one are ignored.
pub(crate) type Generation = u64;
/// Counts the preparations of an actor, one per log-in: the results of older ones are ignored.
pub(crate) type Preparation = u64;

/// A message to a session's actor.
pub(crate) enum SessionMsg {
    /// Start the session.
    Start { allow_account_change: bool, reply: Reply<Arc<Session>> },
    /// Close the connection; the answer comes when it is closed.
    Stop { reply: Reply<Arc<Session>> },
    /// Close the connection without a clean end.
    ForceKill { reply: Reply<Arc<Session>> },
    /// Unlink the device at WhatsApp and forget its credentials.
    Logout { reply: Reply<Arc<Session>> },
    /// Note on disk that the session is being deleted: from then on the deletion goes on, also after a crash.
    MarkDeleted { reply: Reply<()> },
    /// The note of the deletion could not be put on disk.
    UnmarkDeleted,
    /// Unlink the device if it is connected, because the session is about to be deleted. The reply says whether
    /// WhatsApp confirmed.
    Unlink { reply: Reply<bool> },
    /// The QR that can be scanned now.
    ReadQr { reply: Reply<Qr> },
    /// A code to type into the phone.
    RequestPairingCode { phone: ParticipantId, permit: Permit, reply: Reply<PairingCode> },
    /// What WhatsApp asks the passkey for.
    ReadPasskey { reply: Reply<Value> },
    /// Send WhatsApp the passkey's answer. `challenge`: of the request that was answered, base64url.
    AnswerPasskey { challenge: String, answer: PasskeyAnswer, reply: Reply<Arc<Session>> },
    /// Say that the phone shows the right code.
    ConfirmPasskey { reply: Reply<Arc<Session>> },
    /// The time of a pairing code is over.
    PairingCodeDue,
    /// WhatsApp took the answer or the confirmation of this step, or not.
    PasskeySent { generation: Generation, number: u64, sent: Result<(), EngineError>, reply: Reply<Arc<Session>> },
    /// The time for a step with a passkey is over.
    PasskeyDue { number: u64 },
    /// New messages, or receipts.
    Came(Came),
    /// Change the session's configuration.
    Configure { change: ConfigChange, reply: Reply<SessionConfig> },
    /// Connect through this proxy from now on, or without one.
    SetProxy { proxy: Option<Arc<Proxy>>, reply: Reply<SessionProxy> },
    /// Show the account as online or not.
    SetPresence { is_available: bool, reply: Reply<()> },
    /// The account's presence was sent, or not.
    PresenceSent { generation: Generation, sent: bool },
    /// WhatsApp refused something for a reason that the account's limits may explain.
    LimitsDue,
    /// WhatsApp said what the account may do, or not.
    LimitsAnswered { generation: Generation, answer: Result<AccountAnswer, EngineError> },
    /// A time lock on reaching out may be over.
    TimelockDue { timer: u64 },
    /// Carry out a command.
    Execute(Box<dyn Execute>),
    /// The task of a command asks something.
    CommandAsked(CommandQuestion),
    /// A command changed something; sent before its caller is answered (G-2).
    GroupChanged { generation: Generation, change: GroupChange },
    /// The engine was built and is about to connect.
    EngineOpened { generation: Generation, engine: Arc<Engine> },
    /// Something happened to the engine or the account. `place`: the permit of an event that is counted while it waits.
    EngineReported { generation: Generation, event: EngineEvent, place: Option<OwnedSemaphorePermit> },
    /// The engine is gone, but its credentials could not be wiped yet: the wipe is tried again.
    WipeFailed { generation: Generation, error: StoreError },
    /// The engine is gone, its device is free.
    EngineEnded { generation: Generation, wiped: bool, exit: EngineExit },
    /// Credentials were put on disk and all groups read, or not.
    PreparationEnded { number: Preparation, asked: Sequence, groups: Result<AllGroups, Unprepared> },
    /// The session's record, which says that it is linked, is on disk, or not.
    LinkStored { number: Preparation, stored: Result<(), StoreError> },
    /// Time to prepare again.
    PrepareDue { generation: Generation },
    /// The time for linking a phone is over.
    LinkingDue { start: u64 },
    /// WhatsApp gave a pairing code, or not.
    PairingCodeMade { generation: Generation, number: u64, code: Result<String, CommandError> },
    /// An account that may not have the session is unlinked again, or there was no time for it.
    TurnedAway { generation: Generation, unlinked: bool },
    /// Callers who wait for the engine's end, to start the session, have waited long enough.
    ClosingOverdue { round: u64 },
    /// Time for a new connection with new QRs.
    QrRenewalDue { generation: Generation },
    /// WhatsApp answered a log-out, or its time is over.
    LogoutAnswered { confirmed: bool, reply: Reply<Arc<Session>> },
    /// All groups were read, or not.
    AllGroupsRead { generation: Generation, asked: Sequence, groups: Result<AllGroups, CommandError> },
    /// One group was read, or not; `None` when the account is not in it.
    GroupRead {
        generation: Generation,
        group: GroupId,
        asked: Sequence,
        answer: Result<Option<Box<GroupRecord>>, CommandError>,
    },
    /// Time for reads that no caller asked for.
    RefreshDue(Due),
    /// The unsure parts of own writes that were confirmed until `before` are shown by the record alone from now on.
    UnsureDue { group: GroupId, before: Sequence },
    /// Time to look for own writes that were confirmed until `before` and had no notification.
    EchoesDue { before: Sequence },
    /// A batch of the journal is on disk, or not.
    JournalWritten(Box<Written>),
    /// Time to try a failed save again.
    SaveDue,
    /// The daemon is shutting down.
    Shutdown(Shutdown),
    /// Fail on purpose.
    #[cfg(feature = "simulator")]
    Fail { failpoint: crate::Failpoint },
}

/// What the log does not have.
pub(crate) enum Came {
    /// Messages.
    Messages(CameMessages),
    /// Receipts, as events. `kept` hears whether they are on disk; else they are told later.
    Receipts { generation: Generation, events: Vec<Event>, kept: oneshot::Sender<bool> },
}

/// Messages that the log does not have.
pub(crate) struct CameMessages {
    pub(crate) generation: Generation,
    /// This session sent them: they do not come again.
    pub(crate) are_own: bool,
    pub(crate) messages: Vec<CameMessage>,
    /// Hears whether all of them are on disk.
    pub(crate) kept: oneshot::Sender<bool>,
}

/// A message that the log does not have.
pub(crate) struct CameMessage {
    pub(crate) message: IncomingMessage,
    /// The number of the event that told of it when it could not be decrypted.
    pub(crate) replaces: Option<u64>,
}

/// The shutdown, as a session's actor hears of it.
pub(crate) enum Shutdown {
    /// The engine is being closed. Its connection's end is no event, and nobody waits for an answer any more.
    Begun,
    /// The engine is gone and reports nothing further: stop once all is on disk, as far as the disk takes it. The
    /// sender is dropped with the actor.
    EngineGone(#[expect(dead_code, reason = "its end is the message")] oneshot::Sender<()>),
}

/// Why a session is not ready.
#[derive(Debug)]
pub(crate) enum Unprepared {
    /// It was linked just now, and its credentials have no room on the disk.
    NoRoom,
    /// Another reason, in our own words.
    For(String),
}

impl From<EngineError> for Unprepared {
    fn from(error: EngineError) -> Self {
        Self::For(error.to_string())
    }
}
