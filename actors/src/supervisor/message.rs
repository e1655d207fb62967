//! The messages to the supervisor: orders of callers and of sessions' actors, and facts from its tasks.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Instant;

use crate::error::CommandError;
use crate::reply::Reply;
use crate::session::exit::{ActorExit, EngineExit};
use crate::session::loading::Loaded;
use crate::session::message::Generation;
use crate::session::record::SessionRecord;
use crate::session_log::LogKey;
use rookery_model::{Session, SessionId};
use rookery_store::{SessionNumber, StoreError};

/// A message to the supervisor.
pub(crate) enum SupervisorMsg {
    /// Create a session with this record.
    Create { record: Box<SessionRecord>, reply: Reply<Arc<Session>> },
    /// The new session's record is on disk, or not.
    Created {
        number: SessionNumber,
        record: Box<SessionRecord>,
        stored: Result<LogKey, StoreError>,
        reply: Reply<Arc<Session>>,
    },
    /// Delete a session: unlink its device, then wipe what is stored.
    Delete { id: SessionId, reply: Reply<()> },
    /// The mark that the session is being deleted is on disk, or not.
    MarkedDeleted { id: SessionId, marked: Result<(), CommandError> },
    /// The device of a session that is being deleted was unlinked, or there was no time for it.
    Unlinked { id: SessionId, is_unlinked: bool, deadline: Instant },
    /// Everything of a session that is being deleted is wiped, or not.
    Deleted { id: SessionId, wiped: Result<(), StoreError> },
    /// Open an engine for a session's actor.
    OpenEngine { id: SessionId, generation: Generation },
    /// Close a session's engine, and then wipe the credentials if asked to.
    CloseEngine { id: SessionId, generation: Generation, wipe: bool },
    /// Close a session's engine without a clean end.
    KillEngine { id: SessionId },
    /// An engine's task has ended, or its credentials are wiped after that.
    EngineGone { id: SessionId, gone: EngineGone },
    /// Start a crashed session's actor again; with `given_up` it only shows that reason.
    Restart { id: SessionId, given_up: Option<GivenUp> },
    /// A session was read from the store, or not.
    SessionRead { id: SessionId, reading: Reading },
    /// Close every connection, keep everything for the next start.
    Shutdown { reply: oneshot::Sender<()> },
}

/// A session that crashed too often: its actor only shows why.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp(pub(crate) ActorExit);

impl std::fmt::Display for GivenUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "crashed too often within a minute, start the session again: {}", self.0)
    }
}

/// A session that was read from the store, or not.
pub(crate) struct Reading {
    /// Which reading of the session this is: an older one is ignored.
    pub(super) number: u64,
    pub(super) loaded: Result<Box<Loaded>, ActorExit>,
    pub(super) given_up: Option<GivenUp>,
}

/// The orders to an engine's task, each stronger than the one before.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Go on.
    Run,
    /// Disconnect, flush, end.
    Close,
    /// End without a clean disconnect.
    Kill,
    /// Disconnect, end, and wipe the credentials then.
    CloseAndWipe,
}

/// An engine that has ended. The supervisor decides what is next while the device is still taken.
pub(crate) struct EngineGone {
    pub(super) generation: Generation,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) orders: watch::Receiver<Order>,
    /// The credentials were wiped.
    pub(super) wiped: bool,
    pub(super) exit: EngineExit,
}
