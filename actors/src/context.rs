//! What all sessions of a daemon share.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::directory::Directory;
use crate::options::SessionOptions;
use rookery_engine::EngineShared;
use rookery_model::OperatorNotice;
use rookery_store::Store;

/// What all sessions of a daemon share.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: SessionOptions,
    pub(crate) engines: EngineShared,
    pub(crate) directory: Arc<Directory>,
    /// Session events for the operator's audit log.
    pub(crate) notices: broadcast::Sender<OperatorNotice>,
}
