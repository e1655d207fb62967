//! Brings up the actor of a session. A task of the session's own reads the stored state, so that a large session makes
//! no other one wait (S-1, S-3). Then the actor is started with that state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorRef};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::message::{GivenUp, Reading, SupervisorMsg};
use super::restart::{self, Decision};
use super::{Slot, State};
use crate::directory::SessionHandle;
use crate::session::exit::ActorExit;
use crate::session::loading::Loaded;
use crate::session::record::{SessionRecord, UnreadableRecord};
use crate::session::{SessionActor, SessionArguments};
use rookery_model::{Session, SessionConfig, SessionId, SessionStatus};
use rookery_store::{Batch, SessionNumber};

/// Sessions that are read from the store at a time. Large sessions leave places to small ones, and the extra memory of
/// reading is bounded.
pub(super) const LOADING_MAX: usize = 8;

impl State {
    /// Makes the entry of a stored session, and has its actor brought up.
    pub(super) fn adopt(&mut self, myself: &ActorRef<SupervisorMsg>, number: SessionNumber, record: &SessionRecord) {
        let entry = self.context.entry(number, record.while_loading(), record.config);
        entry.proxy.store(record.proxy.clone());
        self.enter(entry);
        self.restart(myself, record.id, None);
    }

    /// Makes the entry of a session whose record cannot be read: it can be seen and deleted.
    pub(super) fn adopt_unreadable(&mut self, number: SessionNumber, record: &UnreadableRecord) {
        let directory = &self.context.directory;
        let name = record.name_or(number, |name| directory.by_name(name.as_str()).is_some());
        let Some(name) = name.filter(|_| directory.get(record.id).is_none()) else {
            error!(session.id = %record.id, "a session's record cannot be read, and another session has its id or name");
            return;
        };
        error!(session.id = %record.id, "a session's record cannot be read");
        let entry = self.context.entry(number, record.to_model(name), SessionConfig::default());
        self.enter(entry).is_unreadable = true;
    }

    /// Adds a session to the directory: callers can see it from now on.
    pub(super) fn enter(&mut self, entry: SessionHandle) -> &mut Slot {
        let entry = Arc::new(entry);
        self.context.directory.insert(entry.clone());
        self.slots.entry(entry.id).insert_entry(Slot::new(entry)).into_mut()
    }

    /// Has a session read from the store; [`Self::read`] goes on. `given_up`: the actor only shows this reason.
    pub(super) fn restart(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, given_up: Option<GivenUp>) {
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.deleting && !self.draining) else { return };
        slot.readings += 1;
        slot.entry.loading.send_replace(true);
        let (number, session, myself) = (slot.readings, slot.entry.number, myself.clone());
        let (store, places) = (self.context.store.clone(), self.loading.clone());
        // Writes of the actor before may be on their way.
        let writing = (number > 1).then(|| (slot.entry.saving.clone(), slot.entry.writing.clone()));
        let log = slot.entry.log.clone();
        tokio::spawn(async move {
            let _place = places.acquire().await;
            if let Some((saving, writing)) = writing {
                let (_saving, _writing) = (saving.acquire().await, writing.acquire().await);
                let _ = store.commit(Batch::new()).await;
            }
            let read = spawn_blocking(move || Loaded::read(&*store, &log, session)).await;
            let loaded = match read {
                Ok(loaded) => loaded.map(Box::new).map_err(|error| ActorExit::NotRead(error.to_string())),
                Err(_) => Err(ActorExit::NotRead(
                    "reading it was cut short by a defect in the daemon, see its log".to_owned(),
                )),
            };
            let reading = Reading { number, loaded, given_up };
            let _ = myself.send_message(SupervisorMsg::SessionRead { id, reading });
        });
    }

    /// Starts the actor of a session that was read.
    pub(super) async fn read(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, reading: Reading) {
        let Reading { number, loaded, given_up } = reading;
        let slot = self.slots.get(&id).filter(|slot| !slot.deleting && !self.draining && slot.readings == number);
        let Some(entry) = slot.map(|slot| slot.entry.clone()) else { return };
        let gave_up = given_up.is_some();
        let outcome = match loaded {
            Ok(loaded) => self.spawn(myself, &entry, *loaded, given_up).await,
            Err(exit) => Err(exit),
        };
        entry.loading.send_replace(false);
        match outcome {
            Ok(()) => {}
            Err(exit) if gave_up => show_as_failed(&entry, &exit),
            Err(exit) => self.crashed(myself, id, exit),
        }
    }

    /// Starts an actor. It starts at once, as it reads nothing; only a defect can make that fail.
    pub(super) async fn spawn(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        entry: &Arc<SessionHandle>,
        loaded: Loaded,
        given_up: Option<GivenUp>,
    ) -> Result<(), ActorExit> {
        let arguments = SessionArguments {
            entry: entry.clone(),
            context: self.context.clone(),
            supervisor: myself.clone(),
            loaded,
            given_up: given_up.map(|given_up| given_up.to_string()),
        };
        let spawned = Actor::spawn_linked(None, SessionActor, arguments, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|_| ActorExit::Defect)?;
        self.by_actor.insert(actor.get_id(), entry.id);
        entry.actor.store(Some(Arc::new(actor)));
        Ok(())
    }

    pub(super) fn crashed(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, exit: ActorExit) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let (delay, given_up) = match restart::decide(&mut slot.crashes, Instant::now()) {
            Decision::Restart(delay) => (delay, None),
            Decision::GiveUp => (Duration::ZERO, Some(GivenUp(exit.clone()))),
        };
        let gave_up = given_up.is_some();
        warn!(session.id = %id, error = %exit, gave_up, restart_in_ms = delay.as_millis(), "session crashed");
        myself.send_after(delay, move || SupervisorMsg::Restart { id, given_up });
    }
}

/// Shows a session that cannot be read as failed: it has no actor that could say so.
fn show_as_failed(entry: &SessionHandle, exit: &ActorExit) {
    error!(session.id = %entry.id, error = %exit, "could not load the session");
    let mut session = Session::clone(&entry.session.load());
    session.status = SessionStatus::Failed;
    session.last_error = Some(format!("the session cannot be loaded: {exit}"));
    entry.session.store(Arc::new(session));
}
