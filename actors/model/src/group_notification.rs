//! A change of a group from a `w:gp2` notification, parsed. Never does IO.
//!
//! Changes of participants carry the list's version after and before the change (`v_id`, `prev_v_id` on the action):
//! adds and removals version the member list, promotions and demotions the admin list. Others carry Unix seconds.

use crate::{GroupEventKind, GroupId, GroupRecord, Member, ParticipantIds, Setting};

/// A change of a group, reported by WhatsApp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNotification {
    /// The group.
    pub group: GroupId,
    /// Who made it, when WhatsApp says so.
    pub author: Option<ParticipantIds>,
    /// Unix seconds.
    pub at: u64,
    /// The list versions of a change of participants, when WhatsApp gives them.
    pub versions: Option<Versions>,
    /// The change.
    pub action: GroupAction,
}

/// The version of a list after a change, and the one before it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The version after the change.
    pub this: u64,
    /// The version before the change; `None` when WhatsApp does not say.
    pub previous: Option<u64>,
}

/// A kind of change, with its new values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAction {
    /// People are members now.
    Added(Vec<Member>),
    /// People are members no longer.
    Removed(Vec<ParticipantIds>),
    /// People are admins now.
    Promoted(Vec<ParticipantIds>),
    /// People are admins no longer.
    Demoted(Vec<ParticipantIds>),
    /// The subject.
    Subject(String),
    /// The description and its id; `None` when it was deleted.
    Description {
        /// The server's token for the description.
        id: String,
        /// The text.
        text: Option<String>,
    },
    /// A setting has this value now.
    Set(Setting),
    /// The group was made, or made visible to us, with everything in it.
    Created {
        /// The group.
        record: Box<GroupRecord>,
        /// The `key` of the request that made the group: only the sender of the request gets it.
        key: Option<String>,
    },
    /// The group is no more.
    Deleted,
    /// Something changed that only a refresh of the group can show.
    Unclear,
    /// A change that the cache does not hold, but that has an event: picture, invite link, membership requests.
    Told(GroupEventKind, Vec<ParticipantIds>),
    /// A change that nothing here needs.
    Ignored,
}

impl GroupAction {
    /// The people whom it shows as WhatsApp's.
    pub fn participants(&self) -> Box<dyn Iterator<Item = &ParticipantIds> + '_> {
        match self {
            Self::Added(members) => Box::new(members.iter().map(|member| &member.person)),
            Self::Created { record, .. } => Box::new(record.members.iter().map(|member| &member.person)),
            Self::Removed(participants)
            | Self::Promoted(participants)
            | Self::Demoted(participants)
            | Self::Told(_, participants) => Box::new(participants.iter()),
            _ => Box::new(std::iter::empty()),
        }
    }
}
