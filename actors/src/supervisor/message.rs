//! What the supervisor is told: orders of callers and of sessions' actors, and facts from its tasks.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Instant;

use crate::error::CommandError;
use crate::reply::Reply;
use crate::session::exit::{ActorExit, EngineExit};
use crate::session::loading::Loaded;
use crate::session::message::Generation;
use crate::session::record::SessionRecord;
use rookery_model::{Session, SessionConfig, SessionId, SessionName};
use rookery_store::{SessionNumber, StoreError};

/// What the supervisor is told.
pub(crate) enum SupervisorMsg {
    /// Make a session.
    Create { name: SessionName, config: SessionConfig, reply: Reply<Arc<Session>> },
    /// Its record is on disk, or not.
    Created {
        number: SessionNumber,
        record: Box<SessionRecord>,
        stored: Result<(), StoreError>,
        reply: Reply<Arc<Session>>,
    },
    /// Delete a session: unlink its device, then wipe what is stored.
    Delete { id: SessionId, reply: Reply<()> },
    /// It is noted on disk that the session is being deleted, or not.
    MarkedDeleted { id: SessionId, marked: Result<(), CommandError> },
    /// Its device was unlinked, or there was no time for it.
    Unlinked { id: SessionId, is_unlinked: bool, deadline: Instant },
    /// Everything of it is wiped, or not.
    Deleted { id: SessionId, wiped: Result<(), StoreError> },
    /// Open an engine for a session's actor.
    OpenEngine { id: SessionId, generation: Generation },
    /// Close it, and then wipe the credentials if asked to.
    CloseEngine { id: SessionId, generation: Generation, wipe: bool },
    /// Close it without ceremony.
    KillEngine { id: SessionId },
    /// An engine's task has ended, or its credentials are wiped after that.
    EngineGone { id: SessionId, gone: EngineGone },
    /// Start a crashed session's actor again; with a reason it only shows that.
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
    /// Which reading of it: an older one is passed over.
    pub(super) number: u64,
    pub(super) loaded: Result<Box<Loaded>, ActorExit>,
    pub(super) given_up: Option<GivenUp>,
}

/// What an engine's task is told, each stronger than the one before.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Go on.
    Run,
    /// Disconnect, flush, end.
    Close,
    /// End without ceremony.
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
