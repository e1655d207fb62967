//! Deleting a session: unlink its device, stop its actor, wait for its engine, wipe what is stored, forget it.

use ractor::ActorRef;
use tokio::sync::oneshot;
use tracing::info;

use super::engine_task::Order;
use super::{State, SupervisorMsg};
use crate::directory::Entry;
use crate::error::CommandError;
use crate::model::SessionId;
use crate::session::record::SessionRecord;
use crate::session::{Reply, SessionMsg};
use crate::store::{Store, StoreError, wipe_session};

impl State {
    pub(super) fn delete(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, reply: Reply<()>) {
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.deleting) else {
            let _ = reply.send(Err(CommandError::UnknownSession(id.to_string())));
            return;
        };
        slot.deleting = true;
        let (actor, myself) = (slot.entry.actor.load_full(), myself.clone());
        tokio::spawn(async move {
            if let Some(actor) = actor {
                let (unlinked, answer) = oneshot::channel();
                if actor.send_message(SessionMsg::Unlink { reply: unlinked }).is_ok() {
                    // The engine bounds the log-out; a dead actor drops the reply.
                    let _ = answer.await;
                }
            }
            let _ = myself.send_message(SupervisorMsg::Unlinked { id, reply });
        });
    }

    pub(super) fn unlinked(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, reply: Reply<()>) {
        self.order(id, Order::Close);
        let Some(slot) = self.slots.get(&id) else { return };
        let (entry, context, myself) = (slot.entry.clone(), self.context.clone(), myself.clone());
        tokio::spawn(async move {
            if let Some(actor) = entry.actor.swap(None) {
                let _ = actor.stop_and_wait(None, None).await;
            }
            let wiped = erase(&entry, &*context.store).await;
            let _ = myself.send_message(SupervisorMsg::Deleted { id, wiped, reply });
        });
    }

    pub(super) fn deleted(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        id: SessionId,
        wiped: Result<(), StoreError>,
        reply: Reply<()>,
    ) {
        if wiped.is_ok() {
            self.context.directory.remove(id);
            self.slots.remove(&id);
            info!(session.id = %id, "session deleted");
        } else if let Some(slot) = self.slots.get_mut(&id) {
            // What is left of it can be deleted again.
            slot.deleting = false;
            let _ = myself.send_message(SupervisorMsg::Restart { id, given_up: None });
        }
        let _ = reply.send(wiped.map_err(CommandError::from));
    }
}

/// Wipes everything that is stored of a session, once its engine is gone. The record goes last: a restart in between
/// finds the mark and goes on.
async fn erase(entry: &Entry, store: &dyn Store) -> Result<(), StoreError> {
    let _device = entry.device.acquire().await;
    let _saving = entry.saving.acquire().await;
    let mut record = SessionRecord::load(store, entry.number)?;
    record.deleting = true;
    record.started = false;
    // Also waits for what was on its way to disk before.
    record.save(store, entry.number).await?;
    wipe_session(store, entry.number).await?;
    SessionRecord::delete(store, entry.number).await
}
