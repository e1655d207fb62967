//! The operations of a session, on its groups and in its chats, as values. A file has one operation, or a few about one subject: its data, its
//! cost, its call to WhatsApp, how it is reconciled when WhatsApp does not answer, and what it changes in the cache.
//! [`crate::Gateway::execute`] carries the operations out.
//!
//! A command begins in the session's actor, which never waits (S-1): there it is refused, answered from the cache, or turned
//! into a task. The task reports what changed to the actor first, and then answers the caller (G-2).

mod access;
mod change_chat;
mod change_participants;
mod change_profile;
mod check_ready;
mod context;
mod create_community;
mod create_group;
mod creations;
mod deactivate_community;
mod decide_membership;
mod description;
mod invite_code;
mod join_group;
mod leave_group;
mod link_groups;
mod look_up_numbers;
mod making;
mod mark_message;
mod participant_results;
mod picture;
mod port;
mod read_community;
mod read_groups;
mod send_message;
mod settings;
mod subject;
mod targets;
mod transfer_file;
mod whatsapp_codes;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::error::CommandError;
use crate::group_cache::GroupCache;
use crate::reply::{Permit, Reply};
use rookery_model::GroupId;

pub(crate) use access::LOOKUP_TIME_MAX;
pub use access::SessionAccess;
pub use change_chat::ChangeChat;
pub use change_participants::ChangeParticipants;
pub use change_profile::ChangeProfile;
pub use check_ready::CheckReady;
pub use create_community::CreateCommunity;
pub use create_group::CreateGroup;
pub(crate) use creations::{Creation, Creations, Found};
pub use deactivate_community::DeactivateCommunity;
pub use decide_membership::{DecideMembership, ReadMembershipRequests};
pub use description::SetDescription;
pub use invite_code::{ReadInviteCode, RevokeInviteCode};
pub use join_group::{JoinGroup, ReadJoinInfo};
pub use leave_group::LeaveGroup;
pub use link_groups::{LinkGroups, Linking};
pub(crate) use look_up_numbers::LookUpNumbers;
pub use look_up_numbers::{Lookup, Participants, Requested};
pub use mark_message::MarkMessage;
pub use picture::{ReadPicture, RemovePicture, SetPicture};
pub(crate) use port::{CommandQuestion, GroupChange, GroupRead, ReadQuestion, SessionPort};
pub(crate) use read_community::known_community;
pub use read_community::{ReadCommunity, ReadKnownCommunity};
pub use read_groups::{ListGroups, ReadGroup, Source};
pub use send_message::{Recipient, SendMessage, SentMessage};
pub use settings::SetSettings;
pub use subject::SetSubject;
pub use transfer_file::{BeginFetch, BeginUpload, FileFetch, FileUpload};
pub(crate) use whatsapp_codes::read_error;

/// One operation of a session.
///
/// # Errors
/// Every command may fail with [`CommandError::UnknownSession`], [`CommandError::NotStarted`],
/// [`CommandError::NotConnected`], [`CommandError::Restarting`], [`CommandError::NotLoaded`]. A command that asks
/// WhatsApp may also fail with [`CommandError::Busy`], [`CommandError::LimitReached`], [`CommandError::RateLimited`],
/// [`CommandError::Refused`], [`CommandError::Unanswered`]. A command that changes something may also fail with
/// [`CommandError::OutcomeUnknown`]. Further errors are in the command's own doc.
pub trait Command: Send + Sized + 'static {
    /// The caller's result.
    type Output: Send + 'static;

    /// What it does at WhatsApp.
    fn kind(&self) -> CommandKind;

    /// The participants that the command names, whose numbers are looked up before it begins; `None` where it names nobody.
    fn participants(&mut self) -> Option<Participants<'_>> {
        None
    }

    /// Begins the command in the session's actor. Never waits.
    ///
    /// # Errors
    /// Why the command is refused; WhatsApp was not asked then.
    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError>;
}

/// What a command does at WhatsApp.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Nothing: the cache has the answer.
    Lookup,
    /// A question: it changes nothing.
    Query,
    /// A change. Without an answer nobody knows whether it was made.
    Write,
}

/// How a command goes on after its beginning.
pub struct Started<T>(Next<T>);

enum Next<T> {
    /// The answer is ready.
    Answered(T),
    /// A task asks WhatsApp.
    Task(std::sync::Arc<dyn SessionPort>, Pin<Box<dyn Future<Output = Finished<T>> + Send>>),
    /// This function answers after a read at WhatsApp.
    AfterRead(Scope, FromCache<T>),
}

type FromCache<T> = Box<dyn FnOnce(&mut GroupCache) -> Result<T, CommandError> + Send>;

/// Which groups are to be read at WhatsApp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of them.
    All,
    /// This one.
    One(GroupId),
}

impl<T> Started<T> {
    pub(crate) fn answered(value: T) -> Self {
        Self(Next::Answered(value))
    }

    /// Everybody who asks for the same read at the same time shares it.
    pub(crate) fn after_read(
        scope: Scope,
        answer: impl FnOnce(&mut GroupCache) -> Result<T, CommandError> + Send + 'static,
    ) -> Self {
        Self(Next::AfterRead(scope, Box::new(answer)))
    }
}

/// How a command's task ended.
pub(crate) struct Finished<T> {
    /// The change to the cache; `None`: nothing changed.
    change: Option<GroupChange>,
    result: Result<T, CommandError>,
}

impl<T> Finished<T> {
    pub(crate) fn new(change: Option<GroupChange>, result: Result<T, CommandError>) -> Self {
        Self { change, result }
    }
}

impl<T> From<Result<T, CommandError>> for Finished<T> {
    fn from(result: Result<T, CommandError>) -> Self {
        Self { change: None, result }
    }
}

/// A command with the permit that it holds until it is over, and where its answer goes.
pub(crate) struct PendingCommand<C: Command> {
    pub(crate) command: C,
    /// How long its caller has waited for a lookup.
    pub(crate) spent: Duration,
    /// None for a lookup.
    pub(crate) permit: Option<Permit>,
    pub(crate) reply: Reply<C::Output>,
}

/// A [`PendingCommand`] of any command.
pub(crate) trait Execute: Send {
    /// Begins the command. Returns the read that has to come before its answer, if there is one.
    fn execute(self: Box<Self>, session: &mut SessionAccess<'_>) -> Option<SharedRead>;
}

/// A read of WhatsApp that a caller waits for.
pub(crate) struct SharedRead {
    pub(crate) scope: Scope,
    pub(crate) answer: AfterRead,
}

/// Answers a caller: from the cache after a read, or with what went wrong.
pub(crate) type AfterRead = Box<dyn FnOnce(Result<&mut GroupCache, CommandError>) + Send>;

impl<C: Command> Execute for PendingCommand<C> {
    fn execute(self: Box<Self>, session: &mut SessionAccess<'_>) -> Option<SharedRead> {
        let Self { command, spent, permit, reply } = *self;
        session.spent = spent;
        match command.start(session).map(|started| started.0) {
            Err(refused) => drop(reply.send(Err(refused))),
            Ok(Next::Answered(value)) => drop(reply.send(Ok(value))),
            Ok(Next::Task(port, task)) => {
                tokio::spawn(async move {
                    let Finished { change, result } = task.await;
                    // When the actor is gone, the next one reads all groups before it is ready (K-3), so the change is
                    // not lost. But this task cannot promise what the cache will show then.
                    let told = change.is_none_or(|change| port.tell(change));
                    drop(permit);
                    let _ = reply.send(if told { result } else { result.and(Err(CommandError::OutcomeUnknown)) });
                });
            }
            Ok(Next::AfterRead(scope, answer)) => {
                let answer = move |read: Result<&mut GroupCache, CommandError>| {
                    drop(permit);
                    drop(reply.send(read.and_then(answer)));
                };
                return Some(SharedRead { scope, answer: Box::new(answer) });
            }
        }
        None
    }
}
