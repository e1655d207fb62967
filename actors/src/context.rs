//! What all sessions of a daemon share.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::directory::{Directory, SessionHandle};
use crate::options::SessionOptions;
use rookery_engine::EngineShared;
use rookery_model::{OperatorNotice, Session, SessionConfig};
use rookery_store::{EventLog, SessionNumber, Store};

/// What all sessions of a daemon share.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Arc<EventLog>,
    pub(crate) options: SessionOptions,
    pub(crate) engines: EngineShared,
    pub(crate) directory: Arc<Directory>,
    /// Session events for the operator's audit log.
    pub(crate) notices: broadcast::Sender<OperatorNotice>,
}

impl Context {
    /// The entry of a session.
    pub(crate) fn entry(&self, number: SessionNumber, session: Session, config: SessionConfig) -> SessionHandle {
        SessionHandle::new(number, session, config, &self.options, &self.log)
    }
}
