//! The task of one engine: takes the device's permit, opens the engine, runs it, closes it, and only then gives the
//! permit back (K-1), whatever happens to the session's actor meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::message::{EngineGone, Order, SupervisorMsg};
use crate::context::Context;
use crate::directory::SessionHandle;
use crate::inbox::EngineInbox;
use crate::session::exit::EngineExit;
use crate::session::message::{Generation, SessionMsg};
use rookery_engine::{Engine, EngineEvent, Report};
use rookery_store::{Batch, Health, Store, StoreError, Wipe, wipe_session};

/// A disconnect flushes receipts and credentials; the engine bounds each at 5 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(12);
/// The time that a killed engine has to cut the socket.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the engine is asked whether it has given up saving its state.
const SAVER_INTERVAL: Duration = Duration::from_secs(5);

/// The wait before a failed wipe of credentials is tried again: the disk needs room. The wait doubles, up to about a
/// minute.
const WIPE_RETRY: Duration = Duration::from_secs(2);
const WIPE_DOUBLINGS_MAX: u32 = 5;

/// Whether the credentials of an engine that is gone are still to be wiped: the order may have come after the engine's
/// end.
pub(super) fn has_to_wipe(gone: &EngineGone) -> bool {
    !gone.wiped && *gone.orders.borrow() == Order::CloseAndWipe
}

/// Wipes the credentials of an engine that is gone, however often that fails, and then reports the end to the
/// supervisor again. Ends when `ending` is true: the session's record says what is left to do, and the next start does
/// it.
pub(super) async fn wipe_after(
    mut gone: EngineGone,
    entry: Arc<SessionHandle>,
    store: Arc<dyn Store>,
    supervisor: ActorRef<SupervisorMsg>,
    mut ending: watch::Receiver<bool>,
) {
    let mut failures = 0;
    while let Err(error) = wipe(&entry, &*store).await {
        if failures == 0 {
            error!(session.id = %entry.id, error = %error, "could not wipe the credentials, will retry");
        }
        if let Some(actor) = entry.actor.load_full() {
            let _ = actor.send_message(SessionMsg::WipeFailed { generation: gone.generation, error });
        }
        let wait = WIPE_RETRY * 2_u32.saturating_pow(failures.min(WIPE_DOUBLINGS_MAX));
        failures += 1;
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            () = sleep(wait) => {}
        }
    }
    if failures > 0 {
        info!(session.id = %entry.id, "the credentials are wiped now");
    }
    gone.wiped = true;
    let _ = supervisor.send_message(SupervisorMsg::EngineGone { id: entry.id, gone });
}

async fn wipe(entry: &SessionHandle, store: &dyn Store) -> Result<(), StoreError> {
    let _saving = entry.saving.acquire().await;
    // Writes on their way are on disk before the rows are looked for.
    store.commit(Batch::new()).await?;
    wipe_session(store, entry.number, Wipe::Account).await
}

/// The supervisor's handle on one engine's task.
pub(super) struct EngineHandle {
    pub(super) generation: Generation,
    orders: watch::Sender<Order>,
}

struct Task {
    /// The device's permit, when it was free at once: then no other engine gets it in between (K-1).
    permit: Option<OwnedSemaphorePermit>,
    entry: Arc<SessionHandle>,
    context: Arc<Context>,
    supervisor: ActorRef<SupervisorMsg>,
    generation: Generation,
    orders: watch::Receiver<Order>,
}

impl EngineHandle {
    /// Starts the task of a new engine.
    pub(super) fn open(
        entry: Arc<SessionHandle>,
        context: Arc<Context>,
        supervisor: ActorRef<SupervisorMsg>,
        generation: Generation,
    ) -> Self {
        Self::spawn(Order::Run, entry, context, supervisor, generation)
    }

    /// Starts a task that opens no engine: it ends at once, and the credentials are wiped then.
    pub(super) fn wipe_only(
        entry: Arc<SessionHandle>,
        context: Arc<Context>,
        supervisor: ActorRef<SupervisorMsg>,
        generation: Generation,
    ) -> Self {
        Self::spawn(Order::CloseAndWipe, entry, context, supervisor, generation)
    }

    fn spawn(
        order: Order,
        entry: Arc<SessionHandle>,
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

    /// Tells the task to end. A weaker order never replaces a stronger one.
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
        let exit = self.live().await;
        let gone = EngineGone { generation: self.generation, permit, orders: self.orders, wiped: false, exit };
        let _ = self.supervisor.send_message(SupervisorMsg::EngineGone { id: self.entry.id, gone });
    }

    /// One engine's life.
    async fn live(&mut self) -> EngineExit {
        let reporter: Report = Arc::new(self.reporter());
        let (context, entry, generation) = (Arc::downgrade(&self.context), self.entry.clone(), self.generation);
        let session = self.entry.engine_session(Arc::new(EngineInbox { context, entry, generation }));
        let opened = tokio::select! {
            biased;
            () = closing(&mut self.orders) => return EngineExit::Ended,
            opened = Engine::open(&self.context.engines, session, reporter) => opened,
        };
        let (engine, run) = match opened {
            Ok(opened) => opened,
            Err(error) => return EngineExit::NotOpened(format!("{error:#}")),
        };
        let engine = Arc::new(engine);
        self.tell(SessionMsg::EngineOpened { generation: self.generation, engine: engine.clone() });
        let mut running = tokio::spawn(run.run());
        let exit = tokio::select! {
            biased;
            () = closing(&mut self.orders) => EngineExit::Ended,
            () = saver_gave_up(&engine) => {
                let free_bytes = match self.context.store.health() {
                    Health::LowSpace { free_bytes, .. } => Some(free_bytes),
                    Health::Ok | Health::Failed(_) => None,
                };
                EngineExit::Unsaved { free_bytes }
            }
            ended = &mut running => ended.map_or(EngineExit::Crashed, |()| EngineExit::Ended),
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
        exit
    }

    /// The function that the engine calls with each event. It sends a message to the session's actor, with a bound on
    /// group events.
    fn reporter(&self) -> impl Fn(EngineEvent) + Send + Sync + 'static {
        let (entry, generation) = (self.entry.clone(), self.generation);
        let overflowed = AtomicBool::new(false);
        move |event| report(&entry, generation, &overflowed, event)
    }

    fn tell(&self, message: SessionMsg) {
        if let Some(actor) = self.entry.actor.load_full() {
            let _ = actor.send_message(message);
        }
    }
}

/// Sends an event to the session's actor; `overflowed`: the latest group event found no place.
fn report(entry: &SessionHandle, generation: Generation, overflowed: &AtomicBool, event: EngineEvent) {
    let Some(actor) = entry.actor.load_full() else { return };
    let (event, place) = match event.is_counted().then(|| entry.waiting_events.clone().try_acquire_owned()) {
        None => (event, None),
        Some(Ok(place)) => {
            overflowed.store(false, Ordering::Relaxed);
            (event, Some(place))
        }
        Some(Err(_)) => {
            // A dropped name comes again with the next message. A call whose event is dropped is not rejected, and
            // rings.
            if !matches!(event, EngineEvent::Group(_)) || overflowed.swap(true, Ordering::Relaxed) {
                return;
            }
            warn!(session.id = %entry.id, "too many group events are waiting, reading all groups instead");
            (EngineEvent::GroupsMissed, None)
        }
    };
    let _ = actor.send_message(SessionMsg::EngineReported { generation, event, place });
}

/// Resolves when the task is to end.
async fn closing(orders: &mut watch::Receiver<Order>) {
    // Without a supervisor every engine is closed.
    let _ = orders.wait_for(|order| *order != Order::Run).await;
}

/// Resolves a moment after an order to kill the engine.
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

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr};

    use super::*;
    use crate::directory::WAITING_EVENTS_MAX;
    use crate::options::SessionOptions;
    use crate::session::record::SessionRecord;
    use rookery_model::SessionConfig;
    use rookery_model::{NameSource, ParticipantIds};
    use rookery_store::SessionNumber;

    /// An actor that never handles anything.
    struct Stuck;

    impl Actor for Stuck {
        type Msg = SessionMsg;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<SessionMsg>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(&self, _: ActorRef<SessionMsg>, _: SessionMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
            std::future::pending().await
        }
    }

    fn named() -> EngineEvent {
        let person = ParticipantIds { phone: std::num::NonZeroU64::new(15_550_100_001), lid: None };
        EngineEvent::Named(person, "Alice".into(), NameSource::Push)
    }

    /// D-1: a count that was reset while a sender was on its way wrapped, and all later events were dropped.
    #[tokio::test]
    async fn events_that_go_with_an_actor_give_their_places_back() {
        let record = SessionRecord::new("alice".parse().unwrap());
        let entry = SessionHandle::new(
            SessionNumber(1),
            record.to_model(false),
            SessionConfig::default(),
            &SessionOptions::default(),
            &rookery_store::EventLog::open_memory(),
        );
        let overflowed = AtomicBool::new(false);
        for _ in 0..2 {
            let (actor, ended) = Actor::spawn(None, Stuck, ()).await.unwrap();
            entry.actor.store(Some(Arc::new(actor.clone())));
            for _ in 0..WAITING_EVENTS_MAX + 1 {
                report(&entry, 1, &overflowed, named());
            }
            assert_eq!(entry.waiting_events.available_permits(), 0);
            actor.kill();
            ended.await.unwrap();
            // A sender that still has the dead actor.
            report(&entry, 1, &overflowed, named());
            // The permits come back when the mailbox goes, which is after the actor at the latest.
            let all = u32::try_from(WAITING_EVENTS_MAX).unwrap();
            let back = tokio::time::timeout(Duration::from_secs(30), entry.waiting_events.acquire_many(all)).await;
            assert!(back.is_ok_and(|back| back.is_ok()), "{:?}", entry.waiting_events);
        }
    }
}
