//! The task of one engine: takes the device's permit, opens the engine, runs it, closes it, and only then gives the
//! permit back (K-1), whatever became of the session's actor meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use tracing::{error, warn};

use super::{Context, SupervisorMsg};
use crate::directory::Entry;
use crate::engine::{Engine, EngineFact, EngineSession, Report};
use crate::session::{Generation, SessionMsg};
use crate::store::{Batch, Health, wipe_session};

/// A disconnect flushes receipts and credentials; the engine bounds each at 5 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(12);
/// Killed: the time to cut the socket.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the engine is asked whether it has given up saving its state.
const SAVER_INTERVAL: Duration = Duration::from_secs(5);
/// Group events and names on their way to one actor; beyond it they are dropped, and all groups read instead (L-1).
const WAITING_EVENTS_MAX: usize = 10_000;

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
    permit: OwnedSemaphorePermit,
    orders: watch::Receiver<Order>,
    /// The credentials were wiped.
    pub(super) wiped: bool,
    /// Why it could not go on.
    pub(super) error: Option<String>,
}

impl EngineGone {
    /// Whether it was ordered to have the credentials wiped, and they are not: an order may have come after its end.
    pub(super) fn has_to_wipe(&self) -> bool {
        !self.wiped && *self.orders.borrow() == Order::CloseAndWipe
    }

    /// Wipes the credentials, and tells the supervisor again.
    pub(super) async fn wipe(mut self, entry: Arc<Entry>, context: Arc<Context>, supervisor: ActorRef<SupervisorMsg>) {
        let _saving = entry.saving.acquire().await;
        // What is on its way is on disk before it is looked for.
        let settled = context.store.commit(Batch::new()).await;
        if let Err(error) = settled.and(wipe_session(&*context.store, entry.number).await) {
            error!(session.id = %entry.id, error = %error, "could not wipe the credentials");
        }
        self.wiped = true;
        let _ = supervisor.send_message(SupervisorMsg::EngineGone { id: entry.id, gone: self });
    }

    /// The device is free for the next engine.
    pub(super) fn free(self) {
        drop(self.permit);
    }
}

/// The supervisor's hand on one engine's task.
pub(super) struct EngineHandle {
    pub(super) generation: Generation,
    orders: watch::Sender<Order>,
}

struct Task {
    /// The device's permit, when it was free at once: then nobody gets in between (K-1).
    permit: Option<OwnedSemaphorePermit>,
    entry: Arc<Entry>,
    context: Arc<Context>,
    supervisor: ActorRef<SupervisorMsg>,
    generation: Generation,
    orders: watch::Receiver<Order>,
}

impl EngineHandle {
    /// Starts the task of a new engine.
    pub(super) fn open(
        entry: Arc<Entry>,
        context: Arc<Context>,
        supervisor: ActorRef<SupervisorMsg>,
        generation: Generation,
    ) -> Self {
        Self::spawn(Order::Run, entry, context, supervisor, generation)
    }

    /// Starts a task that opens no engine: it ends at once, and the credentials are wiped then.
    pub(super) fn wipe_only(
        entry: Arc<Entry>,
        context: Arc<Context>,
        supervisor: ActorRef<SupervisorMsg>,
        generation: Generation,
    ) -> Self {
        Self::spawn(Order::CloseAndWipe, entry, context, supervisor, generation)
    }

    fn spawn(
        order: Order,
        entry: Arc<Entry>,
        context: Arc<Context>,
        supervisor: ActorRef<SupervisorMsg>,
        generation: Generation,
    ) -> Self {
        let (sender, orders) = watch::channel(order);
        let permit = entry.device.clone().try_acquire_owned().ok();
        let task = Task { permit, entry, context, supervisor, generation, orders };
        tokio::spawn(task.run());
        Self { generation, orders: sender }
    }

    /// Tells the task to end. A stronger order is never taken back by a weaker one.
    pub(super) fn order(&self, order: Order) {
        self.orders.send_if_modified(|current| {
            let stronger = order > *current;
            if stronger {
                *current = order;
            }
            stronger
        });
    }
}

impl Task {
    async fn run(mut self) {
        let permit = match self.permit.take() {
            Some(permit) => permit,
            None => match self.entry.device.clone().acquire_owned().await {
                Ok(permit) => permit,
                Err(_) => return,
            },
        };
        let error = self.live().await.err();
        let gone = EngineGone { generation: self.generation, permit, orders: self.orders, wiped: false, error };
        let _ = self.supervisor.send_message(SupervisorMsg::EngineGone { id: self.entry.id, gone });
    }

    /// One engine's life. The error says why it cannot go on.
    async fn live(&mut self) -> Result<(), String> {
        let reporter: Report = Arc::new(self.reporter());
        let Entry { number, config, wire, .. } = &*self.entry;
        let session = EngineSession { number: *number, config: config.clone(), wire: wire.clone() };
        let opened = tokio::select! {
            biased;
            () = closing(&mut self.orders) => return Ok(()),
            opened = Engine::open(&self.context.engines, session, reporter) => opened,
        };
        let (engine, run) = opened.map_err(|error| format!("the WhatsApp client could not be opened: {error:#}"))?;
        let engine = Arc::new(engine);
        self.tell(SessionMsg::EngineOpened { generation: self.generation, engine: engine.clone() });
        let mut running = tokio::spawn(run.run());
        let ended = tokio::select! {
            biased;
            () = closing(&mut self.orders) => Ok(()),
            () = saver_gave_up(&engine) => Err(match self.context.store.health() {
                Health::LowSpace { free_bytes } => {
                    format!("credentials cannot be saved: the disk is full ({free_bytes} bytes free); make room")
                }
                _ => "credentials cannot be saved".to_owned(),
            }),
            ended = &mut running => ended.map_err(|_| "the WhatsApp client crashed".to_owned()),
        };
        let closed = async {
            engine.disconnect().await;
            if !running.is_finished() {
                let _ = (&mut running).await;
            }
        };
        tokio::select! {
            () = closed => {}
            () = killed(&mut self.orders) => {}
            () = sleep(CLOSE_TIMEOUT) => warn!(session.id = %self.entry.id, "the connection did not close in time"),
        }
        if !running.is_finished() {
            running.abort();
            let _ = running.await;
        }
        engine.release();
        ended
    }

    /// What the engine calls with each fact: a message to the session's actor, with a bound on group events.
    fn reporter(&self) -> impl Fn(EngineFact) + Send + Sync + 'static {
        let (entry, generation) = (self.entry.clone(), self.generation);
        let overflowed = AtomicBool::new(false);
        move |fact| {
            let Some(actor) = entry.actor.load_full() else { return };
            let is_counted = fact.is_counted();
            if is_counted && entry.waiting_events.load(Ordering::Relaxed) >= WAITING_EVENTS_MAX {
                // A name comes again with the next message, and a call that is not rejected rings.
                let is_group = matches!(fact, EngineFact::Group(_));
                if is_group && !overflowed.swap(true, Ordering::Relaxed) {
                    warn!(session.id = %entry.id, "too many group events are waiting, reading all groups instead");
                    let fact = EngineFact::GroupsMissed;
                    let _ = actor.send_message(SessionMsg::EngineReported { generation, fact });
                }
                return;
            }
            if is_counted {
                entry.waiting_events.fetch_add(1, Ordering::Relaxed);
                overflowed.store(false, Ordering::Relaxed);
            }
            if actor.send_message(SessionMsg::EngineReported { generation, fact }).is_err() && is_counted {
                entry.waiting_events.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn tell(&self, message: SessionMsg) {
        if let Some(actor) = self.entry.actor.load_full() {
            let _ = actor.send_message(message);
        }
    }
}

/// Resolves when the task is to end.
async fn closing(orders: &mut watch::Receiver<Order>) {
    // A supervisor that is gone wants every engine closed.
    let _ = orders.wait_for(|order| *order != Order::Run).await;
}

/// Resolves a moment after an order to end without ceremony.
async fn killed(orders: &mut watch::Receiver<Order>) {
    if orders.wait_for(|order| *order == Order::Kill).await.is_err() {
        std::future::pending().await
    }
    sleep(KILL_TIMEOUT).await;
}

async fn saver_gave_up(engine: &Engine) {
    let mut interval = tokio::time::interval(SAVER_INTERVAL);
    while !engine.has_given_up_saving() {
        interval.tick().await;
    }
}
