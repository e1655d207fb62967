//! What a session's actor is told: orders of callers, and facts from the tasks that work for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::command_context::GroupChange;
use super::creation::{Creation, Found};
use super::engine_events::Unprepared;
use super::persistence::Unsaved;
use super::refresh::GroupRead;
use super::request::Request;
use crate::error::CommandError;
use crate::group_cache::{Sequence, WriteId};
use rookery_engine::{Engine, EngineEvent};
use rookery_model::{
    Aged, Community, ConfigChange, Group, GroupId, GroupSummary, PairingCode, ParticipantId, Qr, Session,
    SessionConfig, Tagged,
};
use rookery_model::{AllGroups, GroupRecord};
use rookery_store::StoreError;

/// Where an answer goes; dropped when the caller has gone or the actor has died.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, CommandError>>;
/// Held by a command until it is over.
pub(crate) type Permit = OwnedSemaphorePermit;
/// Counts the engines of a session over all its actors: facts of an older one are ignored.
pub(crate) type Generation = u64;
/// Counts the preparations of an actor, one per log-in: what an older one brings is ignored.
pub(crate) type Preparation = u64;

/// What a session's actor is told.
pub(crate) enum SessionMsg {
    /// Run.
    Start { allow_account_change: bool, reply: Reply<Arc<Session>> },
    /// Close the connection; the answer comes when it is closed.
    Stop { reply: Reply<Arc<Session>> },
    /// Close the connection without ceremony.
    ForceKill { reply: Reply<Arc<Session>> },
    /// Unlink the device at WhatsApp and forget its credentials.
    Logout { reply: Reply<Arc<Session>> },
    /// Note on disk that the session is being deleted: from then on it is, also after a crash.
    MarkDeleted { reply: Reply<()> },
    /// That could not be put on disk.
    UnmarkDeleted,
    /// Unlink the device if it is connected, because the session is about to be deleted; whether WhatsApp confirmed that.
    Unlink { reply: Reply<bool> },
    /// The QR that can be scanned now.
    ReadQr { reply: Reply<Qr> },
    /// A code to type into the phone.
    RequestPairingCode { phone: ParticipantId, permit: Permit, reply: Reply<PairingCode> },
    /// All groups; with a permit, asked of WhatsApp.
    ListGroups { refresh: Option<Permit>, reply: Reply<Arc<Vec<GroupSummary>>> },
    /// One group, unless it has one of the known tags; with a permit, asked of WhatsApp.
    ReadGroup { group: GroupId, known: Vec<u64>, refresh: Option<Permit>, reply: Reply<Tagged<Group>> },
    /// All groups as they were last known, also while the session is not ready.
    ListKnownGroups { reply: Reply<Aged<Arc<Vec<GroupSummary>>>> },
    /// One group as it was last known, unless it has one of the known tags.
    ReadKnownGroup { group: GroupId, known: Vec<u64>, reply: Reply<Aged<Tagged<Group>>> },
    /// A community as it was last known, with those of its groups that this account is in.
    ReadKnownCommunity { community: GroupId, reply: Reply<Aged<Community>> },
    /// Change the session's configuration.
    Configure { change: ConfigChange, reply: Reply<SessionConfig> },
    /// A request that goes to WhatsApp.
    Request(Request),
    /// Read one group of WhatsApp, for a task that looks at what its write did, if it is one that the cache shows.
    ReadBack { group: GroupId, write: Option<WriteId>, reply: Reply<GroupRead> },
    /// Read all groups of WhatsApp, for the same.
    ReadAll { reply: Reply<()> },
    /// A community as the cache has it, with those of its groups that this account is in.
    KnownCommunity { community: GroupId, reply: Reply<Community> },
    /// Find a group that WhatsApp may have made.
    FindCreated { creation: Arc<Creation>, reply: Reply<Found> },
    /// The engine was built and is about to connect.
    EngineOpened { generation: Generation, engine: Arc<Engine> },
    /// Something happened to the engine or the account. `place`: one of those that wait, if it counts.
    EngineReported { generation: Generation, fact: EngineEvent, place: Option<OwnedSemaphorePermit> },
    /// The engine is gone, but its credentials could not be wiped yet: that is tried again.
    WipeFailed { generation: Generation, error: StoreError },
    /// The engine is gone, its device is free. `error`: why it could not go on.
    EngineEnded { generation: Generation, wiped: bool, error: Option<String> },
    /// Credentials were put on disk and all groups read, or not.
    PreparationEnded { number: Preparation, asked: Sequence, groups: Result<AllGroups, Unprepared> },
    /// The session's record says that it is linked, on disk.
    LinkStored { number: Preparation, stored: Result<(), StoreError> },
    /// Time to prepare again.
    PrepareDue { generation: Generation },
    /// The time for linking a phone is over.
    LinkingDue { start: u64 },
    /// WhatsApp gave a pairing code, or not.
    PairingCodeMade { generation: Generation, number: u64, code: Result<String, CommandError> },
    /// An account that may not have the session is unlinked again, or there was no time for it.
    TurnedAway { generation: Generation, unlinked: bool },
    /// Those who wait for the engine's end to start the session have waited long enough.
    ClosingOverdue { round: u64 },
    /// Time for a new connection with new QRs.
    QrRenewalDue { generation: Generation },
    /// WhatsApp answered a log-out, or its time is over.
    LogoutAnswered { confirmed: bool, reply: Reply<Arc<Session>> },
    /// A write is over; sent before its caller is answered (G-2).
    GroupChanged { generation: Generation, change: GroupChange },
    /// All groups were read, or not.
    AllGroupsRead { generation: Generation, asked: Sequence, groups: Result<AllGroups, CommandError> },
    /// One group was read, or not; `None` when the account is not in it.
    GroupRead {
        generation: Generation,
        group: GroupId,
        asked: Sequence,
        answer: Result<Option<Box<GroupRecord>>, CommandError>,
    },
    /// Time to read groups whose cached state is in doubt.
    ReadsDue,
    /// Time to read groups of which not all is known.
    IncompleteDue,
    /// Time to read all groups, because WhatsApp said that we missed something.
    FullReadDue,
    /// What is unsure of own writes that were confirmed before is shown by the record alone from now on.
    UnsureDue { group: GroupId, before: Sequence },
    /// Time to look for own writes that were confirmed before and never seen in a notification.
    EchoesDue { before: Sequence },
    /// Changed group records and names are on disk, or some of them not. `whole`: begun when the session was ready.
    GroupsSaved { whole: bool, saved: Result<(), Unsaved> },
    /// The session's record is on disk, or not.
    RecordSaved { number: u64, saved: Result<(), StoreError> },
    /// Time to save again what could not be saved.
    SaveDue,
    /// Fail on purpose.
    #[cfg(feature = "simulator")]
    Fail { failpoint: crate::Failpoint },
}
