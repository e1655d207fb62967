//! What happens to groups, as webhooks and event streams tell it (contract, section 5). Never does IO.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{GroupId, ParticipantId, SessionId};

/// A change of a group that a session saw: by a notification, by its own write, or by reading the group again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupEvent {
    /// Which session saw it.
    #[serde(skip)]
    pub session: SessionId,
    /// What kind of change.
    #[serde(skip)]
    pub kind: GroupEventKind,
    /// The group.
    pub group_id: GroupId,
    /// The people it is about; the session's own account when the group itself came or went.
    pub participant_ids: Vec<ParticipantId>,
    /// Unix seconds: when it happened, or when it was found out.
    pub timestamp: u64,
    /// Who did it, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<ParticipantId>,
    /// The new values by field, for changes that have some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Map<String, Value>>,
}

/// Something that happened to a session and that is nobody's request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// The session.
    pub session: SessionId,
    /// What happened.
    pub kind: SessionEventKind,
}

/// The kinds of session events.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionEventKind {
    /// A phone with another account than the session's was linked, and was unlinked again.
    OtherAccountRefused,
    /// The session belongs to another account now, or to nobody.
    AccountChanged,
    /// The session was deleted, and WhatsApp did not confirm in time that its device is unlinked: it may be left at the phone.
    DeviceLeft,
    /// A deletion that a stop or a crash of the daemon had cut off is finished.
    DeletionFinished,
}

/// The kinds of group events.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupEventKind {
    /// People became members.
    Join,
    /// People are members no longer.
    Leave,
    /// Subject, description or settings changed.
    Update,
    /// People became admins.
    Promote,
    /// People are admins no longer.
    Demote,
    /// The picture was set or removed.
    Picture,
    /// The invite link was replaced by a new one.
    InviteRevoked,
    /// People asked to be let in.
    JoinRequest,
    /// The group belongs to a community now.
    Linked,
    /// The group belongs to its community no longer.
    Unlinked,
}

impl GroupEventKind {
    /// The word for it in webhooks and streams.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "group.join",
            Self::Leave => "group.leave",
            Self::Update => "group.update",
            Self::Promote => "group.promote",
            Self::Demote => "group.demote",
            Self::Picture => "group.picture",
            Self::InviteRevoked => "group.invite_revoked",
            Self::JoinRequest => "group.join_request",
            Self::Linked => "group.linked",
            Self::Unlinked => "group.unlinked",
        }
    }
}
