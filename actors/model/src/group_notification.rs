//! A change of a group as WhatsApp tells it in a `w:gp2` notification, parsed. Never does IO.
//!
//! Changes of participants carry the version of the list they lead to and the one they follow on (`v_id`, `prev_v_id` on the
//! action): adds and removals version the member list, promotions and demotions the admin list. Other changes carry a time in
//! seconds.

use crate::{GroupEventKind, GroupId, GroupRecord, Member, ParticipantIds, Setting};

/// A change of a group, told by WhatsApp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNotification {
    /// The group.
    pub group: GroupId,
    /// Who made it, when WhatsApp says so.
    pub author: Option<ParticipantIds>,
    /// Unix seconds.
    pub at: u64,
    /// Of participant changes, when WhatsApp says so.
    pub versions: Option<Versions>,
    /// What changed.
    pub action: GroupAction,
}

/// The list version a change leads to, and the one it follows on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The version that the change leads to.
    pub this: u64,
    /// The version that it follows on; `None` when WhatsApp does not say.
    pub previous: Option<u64>,
}

/// What changed.
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
        /// The server's token for it.
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
        /// The `key` of the request that made it: only its sender gets to see it.
        key: Option<String>,
    },
    /// The group is no more.
    Deleted,
    /// Something changed that only a read can tell.
    Unclear,
    /// Something happened that the cache does not hold, but others want to know: picture, invite link, requests.
    Told(GroupEventKind, Vec<ParticipantIds>),
    /// Nothing that concerns anybody here.
    Ignored,
}
