//! Creates, starts again, and deletes sessions. The only writer of the directory; owns each engine's handle.
//!
//! ```text
//! SessionSupervisor
//!   read task(id)         one per session that is brought up, a few at a time: supervisor/loading.rs
//!   SessionActor(id)      one per known session, linked; brought up again as supervisor/restart.rs says
//!   engine task(id)       one per started session: supervisor/engine_task.rs
//! ```
//!
//! If the supervisor itself dies, its children die with it and [`Running::failed`] resolves: the process is to end and
//! be started again.

mod deletion;
mod engine_task;
mod loading;
pub(crate) mod message;
mod restart;
mod running;
mod unlinking;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::directory::SessionHandle;
use crate::error::CommandError;
use crate::reply::Reply;
use crate::session::exit::ActorExit;
use crate::session::loading::Loaded;
use crate::session::message::{Generation, SessionMsg, Shutdown};
use crate::session::record::{SessionRecord, StoredSession};
use crate::session_log::LogKey;
use engine_task::EngineHandle;
use loading::LOADING_MAX;
use message::{EngineGone, Order, SupervisorMsg};
use rookery_model::{Session, SessionId};
use rookery_store::{Batch, SessionNumber, StoreError, Table};
pub use running::{Running, StartError, start};

/// Under [`Table::Meta`]: the number of the next session, four bytes, big-endian. Numbers are never given out twice.
const NEXT_NUMBER: &[u8] = b"next_session_number";

struct Supervisor;

struct State {
    context: Arc<Context>,
    slots: HashMap<SessionId, Slot>,
    by_actor: HashMap<ActorId, SessionId>,
    /// Names of sessions whose records are on their way to disk.
    reserved: HashSet<String>,
    next_number: u32,
    draining: bool,
    /// A permit for each session that is being read.
    loading: Arc<Semaphore>,
    /// One permit: held while a deletion from before the start is finished.
    finishing: Arc<Semaphore>,
    /// True from the shutdown on: tasks that wait for a retry end.
    ending: watch::Sender<bool>,
}

struct Slot {
    entry: Arc<SessionHandle>,
    engine: Option<EngineHandle>,
    crashes: VecDeque<Instant>,
    deleting: bool,
    /// Callers who wait for the session to be deleted.
    deletions: Vec<Reply<()>>,
    /// How often the session was read from the store.
    readings: u64,
    /// The session's record cannot be read: it has no actor.
    is_unreadable: bool,
}

impl Slot {
    fn new(entry: Arc<SessionHandle>) -> Self {
        Self {
            entry,
            engine: None,
            crashes: VecDeque::new(),
            deleting: false,
            deletions: Vec::new(),
            readings: 0,
            is_unreadable: false,
        }
    }
}

struct Arguments {
    context: Arc<Context>,
    sessions: Vec<(SessionNumber, StoredSession)>,
    /// Sessions whose deletion was begun, and could not be finished yet.
    deletions: Vec<SessionNumber>,
    next_number: u32,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments { context, sessions, deletions, next_number } = arguments;
        let mut state = State {
            context,
            slots: HashMap::new(),
            by_actor: HashMap::new(),
            reserved: HashSet::new(),
            next_number,
            draining: false,
            loading: Arc::new(Semaphore::new(LOADING_MAX)),
            finishing: Arc::new(Semaphore::new(1)),
            ending: watch::Sender::new(false),
        };
        for (number, session) in sessions {
            match session {
                StoredSession::Readable(record) => state.adopt(&myself, number, &record),
                StoredSession::Unreadable(record) => state.adopt_unreadable(number, &record),
            }
        }
        let finishing =
            deletion::finish(state.context.clone(), deletions, state.finishing.clone(), state.ending.subscribe());
        tokio::spawn(finishing);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        use SupervisorMsg as M;
        match message {
            M::Create { record, reply } => state.create(&myself, record, reply),
            M::Created { number, record, stored, reply } => {
                state.created(&myself, number, &record, stored, reply).await
            }
            M::Delete { id, reply } => state.delete(&myself, id, reply),
            M::MarkedDeleted { id, marked } => state.marked_deleted(&myself, id, marked),
            M::Unlinked { id, is_unlinked, deadline } => state.unlinked(&myself, id, is_unlinked, deadline),
            M::Deleted { id, wiped } => state.deleted(id, wiped),
            M::OpenEngine { id, generation } => state.open_engine(&myself, id, generation),
            M::CloseEngine { id, generation, wipe } => state.close_engine(&myself, id, generation, wipe),
            M::KillEngine { id } => state.order(id, Order::Kill),
            M::EngineGone { id, gone } => state.engine_gone(&myself, id, gone),
            M::Restart { id, given_up } => state.restart(&myself, id, given_up),
            M::SessionRead { id, reading } => state.read(&myself, id, reading).await,
            M::Shutdown { reply } => state.shut_down(reply),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, reason) => {
                // The text of a panic can hold what a caller or WhatsApp sent (P-1).
                let exit = reason.downcast_ref::<ActorExit>().cloned().unwrap_or(ActorExit::Defect);
                state.died(&myself, actor.get_id(), exit);
            }
            SupervisionEvent::ActorTerminated(actor, ..) => state.died(&myself, actor.get_id(), ActorExit::Stopped),
            _ => {}
        }
        Ok(())
    }
}

impl State {
    fn died(&mut self, myself: &ActorRef<SupervisorMsg>, actor: ActorId, exit: ActorExit) {
        let Some(id) = self.by_actor.remove(&actor) else { return };
        let Some(slot) = self.slots.get(&id) else { return };
        slot.entry.actor.store(None);
        if self.draining || slot.deleting {
            return;
        }
        self.order(id, Order::Close);
        self.crashed(myself, id, exit);
    }

    fn create(&mut self, myself: &ActorRef<SupervisorMsg>, record: Box<SessionRecord>, reply: Reply<Arc<Session>>) {
        let name = &record.name;
        let taken = self.context.directory.by_name(name.as_str()).is_some() || self.reserved.contains(name.as_str());
        let most = self.context.options.sessions_max;
        let refusal = match self.slots.len() + self.reserved.len() {
            _ if taken => Some(CommandError::NameTaken(name.as_str().into())),
            _ if self.draining => Some(CommandError::Draining),
            count => (count >= most).then_some(CommandError::TooManySessions(most)),
        };
        if let Some(error) = refusal {
            let _ = reply.send(Err(error));
            return;
        }
        self.reserved.insert(name.as_str().into());
        let number = SessionNumber(self.next_number);
        self.next_number += 1;
        let mut batch = Batch::new();
        batch.put(SessionNumber::DAEMON, Table::Meta, NEXT_NUMBER, self.next_number.to_be_bytes());
        let numbered = self.context.store.commit(batch);
        let key = LogKey::generate(1);
        let mut saved = record.batch(number, record.is_removal());
        if let Ok(key) = &key {
            key.put(&mut saved, number);
        }
        let saved = self.context.store.commit(saved);
        let myself = myself.clone();
        tokio::spawn(async move {
            let stored = numbered.await.and(saved.await).and(key);
            let _ = myself.send_message(SupervisorMsg::Created { number, record, stored, reply });
        });
    }

    async fn created(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        number: SessionNumber,
        record: &SessionRecord,
        stored: Result<LogKey, StoreError>,
        reply: Reply<Arc<Session>>,
    ) {
        self.reserved.remove(record.name.as_str());
        let answer = match stored {
            Ok(key) => {
                let entry = self.context.entry(number, record.to_model(false), record.config);
                entry.log.set_key(key);
                let slot = self.enter(entry);
                // A new session has nothing to read. This counts as its first reading: the next actor, after a crash,
                // waits for writes on their way.
                slot.readings = 1;
                let entry = slot.entry.clone();
                match self.spawn(myself, &entry, Loaded::new(record.clone()), None).await {
                    Ok(()) => Ok(Arc::new(record.to_model(false))),
                    Err(exit) => {
                        self.crashed(myself, entry.id, exit);
                        Err(CommandError::Restarting)
                    }
                }
            }
            Err(error) => Err(error.into()),
        };
        let _ = reply.send(answer);
    }

    fn open_engine(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, generation: Generation) {
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.deleting && !self.draining) else { return };
        slot.engine = Some(EngineHandle::open(slot.entry.clone(), self.context.clone(), myself.clone(), generation));
    }

    fn close_engine(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, generation: Generation, wipe: bool) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match &slot.engine {
            Some(engine) if engine.generation == generation => {
                engine.order(if wipe { Order::CloseAndWipe } else { Order::Close })
            }
            // The actor's engine ended by itself meanwhile, or the actor never had one. An engine of an earlier actor
            // is being closed, and has the device until then.
            _ if wipe => {
                let (entry, context) = (slot.entry.clone(), self.context.clone());
                slot.engine = Some(EngineHandle::wipe_only(entry, context, myself.clone(), generation));
            }
            _ => {}
        }
    }

    fn order(&self, id: SessionId, order: Order) {
        if let Some(engine) = self.slots.get(&id).and_then(|slot| slot.engine.as_ref()) {
            engine.order(order);
        }
    }

    /// Orders to wipe come from the session's actor. An order that is handled after this finds no engine. A task of its
    /// own carries it out before any later order to open an engine.
    fn engine_gone(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, gone: EngineGone) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if engine_task::has_to_wipe(&gone) {
            let (entry, store) = (slot.entry.clone(), self.context.store.clone());
            tokio::spawn(engine_task::wipe_after(gone, entry, store, myself.clone(), self.ending.subscribe()));
            return;
        }
        slot.engine.take_if(|engine| engine.generation == gone.generation);
        let EngineGone { generation, permit, wiped, exit, .. } = gone;
        // The device is free for the next engine.
        drop(permit);
        if let Some(actor) = slot.entry.actor.load_full() {
            let _ = actor.send_message(SessionMsg::EngineEnded { generation, wiped, exit });
        }
    }

    /// Tells the actors first: the end of their engines is no event for them then.
    fn shut_down(&mut self, reply: oneshot::Sender<()>) {
        self.draining = true;
        self.ending.send_replace(true);
        let mut ends = JoinSet::new();
        for slot in self.slots.values() {
            let actor = slot.entry.actor.swap(None);
            if let Some(actor) = &actor {
                let _ = actor.send_message(SessionMsg::Shutdown(Shutdown::Begun));
            }
            if let Some(engine) = &slot.engine {
                engine.order(Order::Close);
            }
            ends.spawn(end_session(slot.entry.clone(), actor));
        }
        let finishing = self.finishing.clone();
        tokio::spawn(async move {
            let _finishing = finishing.acquire_owned().await;
            ends.join_all().await;
            let _ = reply.send(());
        });
    }
}

/// Ends a session at the shutdown, once its engine is gone and what its actor knows is on disk.
async fn end_session(entry: Arc<SessionHandle>, actor: Option<Arc<ActorRef<SessionMsg>>>) {
    let _device = entry.device.acquire().await;
    if let Some(actor) = actor {
        let (is_alive, end) = oneshot::channel();
        let _ = actor.send_message(SessionMsg::Shutdown(Shutdown::EngineGone(is_alive)));
        let _ = end.await;
    }
    // A wipe, and a batch of an actor that crashed.
    drop((entry.saving.acquire().await, entry.writing.acquire().await));
}

#[cfg(test)]
mod tests;
