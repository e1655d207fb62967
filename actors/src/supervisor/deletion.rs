//! Deleting a session: unlink its device, stop its actor, wait for its engine, wipe what is stored, forget it.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::engine_task::Order;
use super::unlinking::UNLINK_TIME_MAX;
use super::{State, SupervisorMsg, unlinking};
use crate::directory::Entry;
use crate::error::CommandError;
use crate::model::SessionId;
use crate::session::record::{SessionRecord, StoredSession};
use crate::session::{Reply, SessionMsg};
use crate::store::{Batch, SessionNumber, Store, StoreError, wipe_session};

/// Between two tries to finish a deletion: it waits for room on the disk.
const DELETION_RETRY: Duration = Duration::from_secs(30);

impl State {
    pub(super) fn delete(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, reply: Reply<()>) {
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.deleting) else {
            let _ = reply.send(Err(CommandError::UnknownSession(id.to_string())));
            return;
        };
        slot.deleting = true;
        let deadline = Instant::now() + UNLINK_TIME_MAX;
        let (actor, myself) = (slot.entry.actor.load_full(), myself.clone());
        tokio::spawn(async move {
            let mut is_unlinked = false;
            if let Some(actor) = actor {
                let (unlinked, answer) = oneshot::channel();
                if actor.send_message(SessionMsg::Unlink { reply: unlinked }).is_ok() {
                    // The engine bounds the log-out; a dead actor drops the reply.
                    is_unlinked = answer.await.is_ok_and(|answer| answer == Ok(true));
                }
            }
            let _ = myself.send_message(SupervisorMsg::Unlinked { id, is_unlinked, deadline, reply });
        });
    }

    pub(super) fn unlinked(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        id: SessionId,
        is_unlinked: bool,
        deadline: Instant,
        reply: Reply<()>,
    ) {
        self.order(id, Order::Close);
        let Some(slot) = self.slots.get(&id) else { return };
        let (entry, context, myself) = (slot.entry.clone(), self.context.clone(), myself.clone());
        tokio::spawn(async move {
            if let Some(actor) = entry.actor.swap(None) {
                let _ = actor.stop_and_wait(None, None).await;
            }
            // It was not connected, or somebody stopped it at the same time.
            if !is_unlinked && !unlinking::unlink(&context, &entry, deadline).await {
                warn!(session.id = %id, "a session is deleted whose device could not be unlinked at WhatsApp: remove it at the phone");
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
            // What is left of it can be deleted again. One that cannot be read has no actor.
            slot.deleting = false;
            if !slot.is_unreadable {
                let _ = myself.send_message(SupervisorMsg::Restart { id, given_up: None });
            }
        }
        let _ = reply.send(wiped.map_err(CommandError::from));
    }
}

/// Wipes everything that is stored of a session, once its engine is gone. The record goes last: a restart in between
/// finds the mark and goes on.
async fn erase(entry: &Entry, store: &dyn Store) -> Result<(), StoreError> {
    let _device = entry.device.acquire().await;
    let _saving = entry.saving.acquire().await;
    match SessionRecord::load(store, entry.number)? {
        StoredSession::Readable(mut record) => {
            record.deleting = true;
            record.started = false;
            // Also waits for what was on its way to disk before.
            record.save(store, entry.number).await?;
        }
        // It cannot be marked: stopped in between, it is there as before and can be deleted again.
        StoredSession::Unreadable(_) => store.commit(Batch::new()).await?,
    }
    go_on(store, entry.number).await
}

/// Wipes what is left of a session that is marked.
pub(super) async fn go_on(store: &dyn Store, number: SessionNumber) -> Result<(), StoreError> {
    wipe_session(store, number).await?;
    SessionRecord::delete(store, number).await
}

/// Goes on with deletions until they are done, or until `ending` is true.
pub(super) async fn finish(store: Arc<dyn Store>, sessions: Vec<SessionNumber>, mut ending: watch::Receiver<bool>) {
    for number in sessions {
        while let Err(error) = go_on(&*store, number).await {
            debug!(session.number = number.0, %error, "could not finish the deletion of a session");
            tokio::select! {
                _ = ending.wait_for(|ending| *ending) => return,
                () = sleep(DELETION_RETRY) => {}
            }
        }
        info!(session.number = number.0, "the deletion of a session is finished");
    }
}
