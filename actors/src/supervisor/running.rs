//! Starts all sessions, and stops them again: the order of the steps is here, the work is the supervisor's.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::sync::{broadcast, oneshot, watch};
use tracing::warn;

use super::message::SupervisorMsg;
use super::{Arguments, NEXT_NUMBER, Supervisor};
use crate::context::Context;
use crate::directory::Directory;
use crate::gateway::Gateway;
use crate::options::SessionOptions;
use crate::session::record::SessionRecord;
use rookery_engine::EngineShared;
use rookery_model::OperatorNotice;
use rookery_store::{EventLog, Health, SessionNumber, Store, StoreError, Table};

/// Notices that may wait for the audit log.
const NOTICES_BEHIND_MAX: usize = 4_096;
/// How often the store is asked whether it still works.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// The drain waits this long for all connections to close.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// The running sessions of one daemon. Dropping it stops nothing: call [`Running::shutdown`].
pub struct Running {
    /// The way in.
    pub gateway: Gateway,
    notices: Option<broadcast::Receiver<OperatorNotice>>,
    supervisor: ActorRef<SupervisorMsg>,
    /// True once the supervisor has ended.
    ended: watch::Receiver<bool>,
    store: Arc<dyn Store>,
    log: Arc<EventLog>,
}

/// Why the sessions could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("cannot read the sessions from the store: {0}")]
    Store(#[from] StoreError),
    /// An option is unusable.
    #[error("{0}")]
    Options(String),
    /// The supervisor could not be started.
    #[error("cannot start the sessions' supervisor: {0}")]
    Supervisor(String),
}

/// Brings back every known session from the store; those that were started connect by themselves, as the connect throttle lets them.
///
/// # Errors
/// [`StartError`] when the store cannot be read or an option is unusable.
pub async fn start(options: SessionOptions, store: Arc<dyn Store>, log: Arc<EventLog>) -> Result<Running, StartError> {
    let engines =
        EngineShared::new(options.engine(), store.clone()).map_err(|error| StartError::Options(error.to_string()))?;
    let (mut sessions, mut deletions) = (Vec::new(), Vec::new());
    let mut next_number = 1;
    if let Some(next) = store.get(SessionNumber::DAEMON, Table::Meta, NEXT_NUMBER)? {
        next_number = next.try_into().map_or(1, u32::from_be_bytes);
    }
    for (number, session) in SessionRecord::load_all(&*store)? {
        next_number = next_number.max(number.0.saturating_add(1));
        if session.is_deleting() { deletions.push(number) } else { sessions.push((number, session)) }
    }
    let directory = Arc::new(Directory::default());
    // There is a receiver from the start on, as a deletion may be finished at once.
    let (notices, first_notices) = broadcast::channel(NOTICES_BEHIND_MAX);
    let number_lookup = options.number_lookup;
    let context = Arc::new(Context {
        store: store.clone(),
        log: log.clone(),
        options,
        engines,
        directory: directory.clone(),
        notices,
    });
    let arguments = Arguments { context, sessions, deletions, next_number };
    let (supervisor, finished) =
        Actor::spawn(None, Supervisor, arguments).await.map_err(|error| StartError::Supervisor(error.to_string()))?;
    let (end, ended) = watch::channel(false);
    tokio::spawn(async move {
        let _ = finished.await;
        end.send_replace(true);
    });
    let gateway = Gateway {
        directory,
        supervisor: supervisor.clone(),
        store: store.clone(),
        log: Arc::downgrade(&log),
        number_lookup,
    };
    Ok(Running { gateway, notices: Some(first_notices), supervisor, ended, store, log })
}

impl Running {
    /// Session events for the operator's audit log, from the start on; `None` when they were taken before.
    pub fn take_notices(&mut self) -> Option<broadcast::Receiver<OperatorNotice>> {
        self.notices.take()
    }

    /// Resolves when the sessions can no longer run (the supervisor died or the store failed), with what to do.
    /// The daemon exits non-zero then, for systemd to start it again.
    pub async fn failed(&self) -> String {
        let mut ended = self.ended.clone();
        let mut interval = tokio::time::interval(HEALTH_INTERVAL);
        loop {
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => return "the sessions' supervisor died; see the log, then start again".into(),
                _ = interval.tick() => {}
            }
            for health in [self.store.health(), self.log.health()] {
                if let Health::Failed(reason) = health {
                    return format!("the store failed: {reason}; check the disk, then start again");
                }
            }
        }
    }

    /// Closes every connection (bounded, a few seconds), flushes, stops the actors. Sessions stay marked as started.
    pub async fn shutdown(self) {
        let (reply, done) = oneshot::channel();
        if self.supervisor.send_message(SupervisorMsg::Shutdown { reply }).is_ok()
            && tokio::time::timeout(SHUTDOWN_TIMEOUT, done).await.is_err()
        {
            warn!("not all connections closed in time");
        }
        let _ = self.supervisor.stop_and_wait(None, Some(SHUTDOWN_TIMEOUT)).await;
    }
}
