//! How the task of a command talks to the actor of its session: its questions, and the changes that it reports.

use std::num::NonZeroU64;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::creations::{Creation, Found};
use crate::group_cache::{Heard, PendingChange, Sequence, WriteId};
use crate::reply::Reply;
use rookery_model::{Community, GroupId, GroupRecord, IncomingMessage, NumberAnswer, ReachoutTimelock};

/// The way to the actor of a command's session.
pub(crate) trait SessionPort: Send + Sync {
    /// Sends a command's change to the actor that began the command; false when that actor is gone.
    fn tell(&self, change: GroupChange) -> bool;

    /// Asks the session's actor, also one that was restarted meanwhile; false when there is none now.
    fn ask(&self, question: CommandQuestion) -> bool;

    /// Has a message that was sent told as an event. Resolves when it is on disk, or cannot be.
    fn sent(&self, message: IncomingMessage) -> BoxFuture<'static, bool>;

    /// Says that WhatsApp asked to slow down: what the account may do is asked for.
    fn limits_due(&self);
}

/// A question of a command's task.
pub(crate) enum CommandQuestion {
    /// A read at WhatsApp.
    Read(ReadQuestion),
    /// Whether the account may reach out to new people, after a refusal. `is_certain`: WhatsApp said that it may not.
    Timelock { is_certain: bool, reply: Reply<Option<ReachoutTimelock>> },
    /// A community as the cache has it, with those of its groups that this account is in.
    KnownCommunity { community: GroupId, reply: Reply<Community> },
}

/// A read at WhatsApp that a command's task needs.
pub(crate) enum ReadQuestion {
    /// Read one group, to see what a write did. `write`: `None` for a write that the cache does not show.
    ReadBack { group: GroupId, write: Option<WriteId>, reply: Reply<GroupRead> },
    /// Read all groups, to see what a write did.
    ReadAll { reply: Reply<()> },
    /// Find a group that WhatsApp may have made.
    FindCreated { creation: Arc<Creation>, reply: Reply<Found> },
}

/// A group as WhatsApp showed it in a read that began after the question.
pub(crate) struct GroupRead {
    /// The group as it was read; `None` when the account is not in it. It is without our own writes on top, as it has
    /// to show whether they were carried out.
    pub(crate) record: Option<Box<GroupRecord>>,
    /// What notifications have reported about the write until then; nothing where no write was named.
    pub(crate) heard: Heard,
    /// The cache shows the same. If not, something changed during the read, and the group is read once more.
    pub(crate) shown: bool,
}

/// The change to the cache after a write.
pub(crate) enum GroupChange {
    /// The write was carried out, perhaps in part; `done` is `None` when nothing changed.
    Confirmed { group: GroupId, write: WriteId, done: Option<PendingChange> },
    /// The write was not confirmed; `unknown`: the cached group is in doubt now.
    Dropped { group: GroupId, write: WriteId, unknown: bool },
    /// A new group, and the key of the request that made it.
    Created { record: Box<GroupRecord>, key: String, asked: Sequence },
    /// The account is not in the group any longer.
    Left { group: GroupId },
    /// Something may have changed in this group.
    Doubtful { group: GroupId },
    /// WhatsApp said this of phone numbers. Others wait for it until `asked` is dropped.
    NumbersFound { learnt: Vec<NumberAnswer>, asked: watch::Sender<()> },
    /// WhatsApp does not know the accounts that are remembered for these numbers.
    NumbersForgotten(Vec<NonZeroU64>),
}
