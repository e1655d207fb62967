//! placeholder
use crate::model::*;
use crate::session::Reply;
use crate::store::Store;
use crate::{Gateway, Settings};
use std::sync::Arc;

#[expect(dead_code, reason = "placeholder")]
pub(crate) enum SupervisorMsg {
    Create { name: SessionName, reply: Reply<Arc<Session>> },
    Delete { id: SessionId, reply: Reply<()> },
}

/// The running sessions of one daemon. Dropping it stops nothing: call [`Running::shutdown`].
pub struct Running {
    /// The way in.
    pub gateway: Gateway,
}

/// Why the sessions could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("cannot read the sessions from the store: {0}")]
    Store(#[from] crate::store::StoreError),
    /// A setting is unusable.
    #[error("{0}")]
    Settings(String),
}

/// Brings back every known session from the store; those that were started connect by themselves, paced.
///
/// # Errors
/// [`StartError`] when the store cannot be read or a setting is unusable.
pub async fn start(settings: Settings, store: Arc<dyn Store>) -> Result<Running, StartError> {
    let _ = (settings, store);
    Err(StartError::Settings("placeholder".into()))
}

impl Running {
    /// Resolves when the sessions can no longer run (the supervisor died or the store failed), with what to do.
    /// The daemon exits non-zero then, for systemd to start it again.
    pub async fn failed(&self) -> String {
        std::future::pending().await
    }

    /// Closes every connection (bounded, a few seconds), flushes, stops the actors. Sessions stay marked as started.
    pub async fn shutdown(self) {}
}
