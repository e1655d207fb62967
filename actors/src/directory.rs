//! SessionId -> handle. Written by the supervisor only, read by all; no lock is held across an await.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ractor::ActorRef;
use tokio::sync::{Semaphore, watch};

use crate::error::CommandError;
use crate::inbox::Intake;
use crate::known_limits::KnownLimits;
use crate::options::SessionOptions;
use crate::rate_limiter::RateLimiter;
use crate::receipts::Receipts;
use crate::session::message::SessionMsg;
use crate::session_log::SessionLog;
use rookery_engine::{EngineSession, Inbox, Wire};
use rookery_model::{Proxy, Session, SessionConfig, SessionId, SessionName, SessionStatus};
use rookery_store::{EventLog, SessionNumber};

/// Group events and names on their way to one actor; beyond it they are dropped, and all groups read instead (L-1).
pub(crate) const WAITING_EVENTS_MAX: usize = 10_000;

/// How long a caller waits for a session to be read from the store: the largest session takes seconds, and clients wait
/// for 30 s.
const LOADING_WAIT_MAX: Duration = Duration::from_secs(5);

/// The daemon's data about one session, whether or not its actor lives.
pub(crate) struct SessionHandle {
    /// The session's UUID.
    pub(crate) id: SessionId,
    /// The session's number in the store.
    pub(crate) number: SessionNumber,
    /// The session's unique name.
    pub(crate) name: SessionName,
    /// The session's actor; `None` while it is being loaded or restarted, or cannot be.
    pub(crate) actor: ArcSwapOption<ActorRef<SessionMsg>>,
    /// Whether the session is being read from the store, so that its actor can start.
    pub(crate) loading: watch::Sender<bool>,
    /// The state that the actor last published: a list of sessions asks no mailbox.
    pub(crate) session: ArcSwap<Session>,
    /// The operator's configuration of the session; written by the actor.
    pub(crate) config: Arc<ArcSwap<SessionConfig>>,
    /// What the session's connections go through; written by the actor.
    pub(crate) proxy: ArcSwapOption<Proxy>,
    /// The session's rate limits and pauses. They outlive the actor: a crash is no way around them.
    pub(crate) rate_limiter: Arc<RateLimiter>,
    /// What WhatsApp said that the account may do.
    pub(crate) limits: KnownLimits,
    /// One permit per command in flight.
    pub(crate) commands: Arc<Semaphore>,
    /// Reports of the session's connections: when something was received from WhatsApp. Outlives the actor and its
    /// engines.
    pub(crate) wire: Arc<Wire>,
    /// The number of the latest engine; every engine of the session has its own, whichever actor asked for it.
    pub(crate) generations: AtomicU64,
    /// One permit per group event and name on its way to the actor. The permit travels in the message. So it comes back
    /// with the message, whether that is handled or goes with its mailbox (L-1).
    pub(crate) waiting_events: Arc<Semaphore>,
    /// One permit per device: held by the engine task until its run loop has ended (K-1).
    pub(crate) device: Arc<Semaphore>,
    /// The session's part of the event log.
    pub(crate) log: Arc<SessionLog>,
    /// Messages on their way into the log.
    pub(crate) intake: Intake,
    /// Receipts on their way there.
    pub(crate) receipts: Receipts,
    /// One permit: held while group records are written, and while they are wiped.
    pub(crate) saving: Arc<Semaphore>,
    /// One permit: held while a batch of the session's journal is on its way.
    pub(crate) writing: Arc<Semaphore>,
}

impl SessionHandle {
    pub(crate) fn new(
        number: SessionNumber,
        session: Session,
        config: SessionConfig,
        options: &SessionOptions,
        log: &Arc<EventLog>,
    ) -> Self {
        Self {
            id: session.id,
            number,
            name: session.name.clone(),
            actor: ArcSwapOption::empty(),
            loading: watch::Sender::new(false),
            config: Arc::new(ArcSwap::from_pointee(config)),
            proxy: ArcSwapOption::empty(),
            rate_limiter: Arc::new(RateLimiter::new(&options.rate_limits)),
            limits: KnownLimits::default(),
            commands: Arc::new(Semaphore::new(options.requests_per_session_max)),
            wire: Arc::default(),
            generations: AtomicU64::new(0),
            waiting_events: Arc::new(Semaphore::new(WAITING_EVENTS_MAX)),
            device: Arc::new(Semaphore::new(1)),
            log: Arc::new(SessionLog::new(log, session.id, number)),
            session: ArcSwap::from_pointee(session),
            intake: Intake::default(),
            receipts: Receipts::default(),
            saving: Arc::new(Semaphore::new(1)),
            writing: Arc::new(Semaphore::new(1)),
        }
    }
}

impl SessionHandle {
    /// What an engine needs of the session.
    pub(crate) fn engine_session(&self, inbox: Arc<dyn Inbox>) -> EngineSession {
        let Self { number, config, wire, proxy, .. } = self;
        EngineSession { number: *number, config: config.clone(), wire: wire.clone(), proxy: proxy.load_full(), inbox }
    }

    /// The session's actor. A session that is being loaded is waited for, up to [`LOADING_WAIT_MAX`]. `None`: the actor
    /// has crashed, or was not loaded within that time.
    pub(crate) async fn actor(&self) -> Option<Arc<ActorRef<SessionMsg>>> {
        if let Some(actor) = self.actor.load_full() {
            return Some(actor);
        }
        let mut loading = self.loading.subscribe();
        let _ = tokio::time::timeout(LOADING_WAIT_MAX, loading.wait_for(|loading| !loading)).await;
        self.actor.load_full()
    }

    /// Why there is no actor to ask.
    pub(crate) fn absent(&self) -> CommandError {
        let session = self.session.load();
        match &session.last_error {
            Some(reason) if session.status == SessionStatus::Failed => CommandError::NotLoaded(reason.clone()),
            _ => CommandError::Restarting,
        }
    }
}

/// All sessions by id and by name.
#[derive(Default)]
pub(crate) struct Directory {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    by_id: HashMap<SessionId, Arc<SessionHandle>>,
    by_name: HashMap<String, SessionId>,
    by_number: HashMap<SessionNumber, SessionId>,
}

impl Directory {
    /// The entry of a session.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<SessionHandle>> {
        self.read().by_id.get(&id).cloned()
    }

    /// The session with this name.
    pub(crate) fn by_name(&self, name: &str) -> Option<SessionId> {
        self.read().by_name.get(name).copied()
    }

    /// The session with this number in the store.
    pub(crate) fn by_number(&self, number: SessionNumber) -> Option<Arc<SessionHandle>> {
        let maps = self.read();
        maps.by_number.get(&number).and_then(|id| maps.by_id.get(id)).cloned()
    }

    /// Every entry, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<SessionHandle>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Adds an entry. Supervisor only.
    pub(crate) fn insert(&self, entry: Arc<SessionHandle>) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_name.insert(entry.name.as_str().into(), entry.id);
        maps.by_number.insert(entry.number, entry.id);
        maps.by_id.insert(entry.id, entry);
    }

    /// Removes an entry. Supervisor only.
    pub(crate) fn remove(&self, id: SessionId) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = maps.by_id.remove(&id) {
            maps.by_name.remove(entry.name.as_str());
            maps.by_number.remove(&entry.number);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }
}
