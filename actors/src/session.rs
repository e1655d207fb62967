//! placeholder
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::CommandError;
use crate::model::{
    CreatedGroup, Group, GroupId, GroupSummary, PairingCode, ParticipantChange, ParticipantId, ParticipantResult, Qr,
    Session,
};
use std::sync::Arc;

/// Where an answer goes; dropped when the caller has gone or the actor has died.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, CommandError>>;
type Permit = OwnedSemaphorePermit;

#[expect(dead_code, reason = "placeholder")]
pub(crate) enum SessionMsg {
    Start {
        reply: Reply<Arc<Session>>,
    },
    Stop {
        reply: Reply<Arc<Session>>,
    },
    ForceKill {
        reply: Reply<Arc<Session>>,
    },
    Logout {
        reply: Reply<Arc<Session>>,
    },
    ReadQr {
        reply: Reply<Qr>,
    },
    RequestPairingCode {
        phone: ParticipantId,
        permit: Permit,
        reply: Reply<PairingCode>,
    },
    ListGroups {
        refresh: bool,
        reply: Reply<Arc<Vec<GroupSummary>>>,
    },
    ReadGroup {
        group: GroupId,
        refresh: bool,
        reply: Reply<Arc<Group>>,
    },
    CreateGroup {
        name: String,
        participants: Vec<ParticipantId>,
        permit: Permit,
        reply: Reply<CreatedGroup>,
    },
    ChangeParticipants {
        group: GroupId,
        change: ParticipantChange,
        participants: Vec<ParticipantId>,
        permit: Permit,
        reply: Reply<Vec<ParticipantResult>>,
    },
    SetSubject {
        group: GroupId,
        subject: String,
        permit: Permit,
        reply: Reply<()>,
    },
    SetDescription {
        group: GroupId,
        description: String,
        permit: Permit,
        reply: Reply<()>,
    },
    InviteCode {
        group: GroupId,
        revoke: bool,
        permit: Permit,
        reply: Reply<String>,
    },
    LeaveGroup {
        group: GroupId,
        permit: Permit,
        reply: Reply<()>,
    },
}
