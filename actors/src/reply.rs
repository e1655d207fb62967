//! How messages to actors are answered.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::CommandError;

/// Where an answer goes; dropped when the caller has gone or the actor has died.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, CommandError>>;

/// Held by a command until it is over.
pub(crate) type Permit = OwnedSemaphorePermit;
