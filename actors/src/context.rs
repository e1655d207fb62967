//! What all sessions of a daemon share.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::directory::Directory;
use crate::options::SessionOptions;
use rookery_engine::EngineShared;
use rookery_model::{GroupEvent, SessionEvent};
use rookery_store::Store;

/// What all sessions of a daemon share.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: SessionOptions,
    pub(crate) engines: EngineShared,
    pub(crate) directory: Arc<Directory>,
    /// What happens to groups, for whoever listens.
    pub(crate) events: broadcast::Sender<Arc<GroupEvent>>,
    /// What happens to sessions that is nobody's request.
    pub(crate) session_events: broadcast::Sender<SessionEvent>,
}
