//! How the task of a command talks to the actor of its session: what it asks, and what it tells.

use std::sync::Arc;

use super::creations::{Creation, Found};
use crate::group_cache::{Heard, PendingChange, Sequence, WriteId};
use crate::reply::Reply;
use rookery_model::{Community, GroupId, GroupRecord};

/// The way to the actor of a command's session.
pub(crate) trait SessionPort: Send + Sync {
    /// Tells the actor that began the command what it changed; false when that actor is gone.
    fn tell(&self, change: GroupChange) -> bool;

    /// Asks the session's actor, also one that was restarted meanwhile; false when there is none now.
    fn ask(&self, question: CommandQuestion) -> bool;
}

/// What a command's task asks.
pub(crate) enum CommandQuestion {
    /// What WhatsApp shows.
    Read(ReadQuestion),
    /// A community as the cache has it, with those of its groups that this account is in.
    KnownCommunity { community: GroupId, reply: Reply<Community> },
}

/// What a command's task wants to know of WhatsApp.
pub(crate) enum ReadQuestion {
    /// Read one group of WhatsApp, to look at what a write did, if it is one that the cache shows.
    ReadBack { group: GroupId, write: Option<WriteId>, reply: Reply<GroupRead> },
    /// Read all groups of WhatsApp, for the same.
    ReadAll { reply: Reply<()> },
    /// Find a group that WhatsApp may have made.
    FindCreated { creation: Arc<Creation>, reply: Reply<Found> },
}

/// A group as WhatsApp showed it to a read that was asked for after the question.
pub(crate) struct GroupRead {
    /// What was read; `None` when the account is not in it. Without our own writes on top: it is the judge of them.
    pub(crate) record: Option<Box<GroupRecord>>,
    /// What notifications have told of the write until then; nothing where there is none.
    pub(crate) heard: Heard,
    /// The cache shows it too. If not, something changed while it was read, and the group is read once more.
    pub(crate) shown: bool,
}

/// What a write means for the cache.
pub(crate) enum GroupChange {
    /// Carried out, perhaps in part; `None` when nothing changed.
    Confirmed { group: GroupId, write: WriteId, done: Option<PendingChange> },
    /// Not confirmed; `unknown` when the cached group is in doubt after it.
    Dropped { group: GroupId, write: WriteId, unknown: bool },
    /// A new group, and the key of the request that made it.
    Created { record: Box<GroupRecord>, key: String, asked: Sequence },
    /// The account is not in the group any longer.
    Left { group: GroupId },
    /// Something may have changed in this group.
    Doubtful { group: GroupId },
}
