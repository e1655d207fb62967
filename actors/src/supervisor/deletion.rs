//! Deleting a session: note it on disk, unlink its device, stop its actor, wait for its engine, wipe what is stored, forget it.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::message::{Order, SupervisorMsg};
use super::unlinking::UNLINK_TIME_MAX;
use super::{State, unlinking};
use crate::context::Context;
use crate::directory::SessionHandle;
use crate::error::CommandError;
use crate::reply::Reply;
use crate::session::message::SessionMsg;
use crate::session::record::{SessionRecord, StoredSession};
use rookery_model::{OperatorNotice, OperatorNoticeKind, SessionConfig, SessionId};
use rookery_store::{Batch, SessionNumber, Store, StoreError, Wipe, wipe_session};

/// The wait between two tries to finish a deletion: it waits for room on the disk.
const DELETION_RETRY: Duration = Duration::from_secs(5);
/// After this time the caller is answered, and wiping goes on.
const ERASE_TIME_MAX: Duration = Duration::from_secs(5);

impl State {
    pub(super) fn delete(&mut self, myself: &ActorRef<SupervisorMsg>, id: SessionId, reply: Reply<()>) {
        let Some(slot) = self.slots.get_mut(&id) else {
            let _ = reply.send(Err(CommandError::UnknownSession(id.to_string())));
            return;
        };
        slot.deletions.push(reply);
        if slot.deletions.len() > 1 {
            // The deletion is under way.
            return;
        }
        let (entry, store, myself) = (slot.entry.clone(), self.context.store.clone(), myself.clone());
        tokio::spawn(async move {
            let marked = mark(&entry, &*store).await;
            let _ = myself.send_message(SupervisorMsg::MarkedDeleted { id, marked });
        });
    }

    /// Begins the deletion when its mark is on disk, not before: a deletion that a crash cuts off goes on at the next
    /// start.
    pub(super) fn marked_deleted(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        id: SessionId,
        marked: Result<(), CommandError>,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if marked.is_err() {
            return answer(&mut slot.deletions, &marked);
        }
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
            let _ = myself.send_message(SupervisorMsg::Unlinked { id, is_unlinked, deadline });
        });
    }

    pub(super) fn unlinked(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        id: SessionId,
        is_unlinked: bool,
        deadline: Instant,
    ) {
        self.order(id, Order::Close);
        let Some(slot) = self.slots.get(&id) else { return };
        let (entry, context, myself) = (slot.entry.clone(), self.context.clone(), myself.clone());
        let (number, finishing, ending) = (entry.number, self.finishing.clone(), self.ending.subscribe());
        tokio::spawn(async move {
            if let Some(actor) = entry.actor.swap(None) {
                let _ = actor.stop_and_wait(None, None).await;
            }
            // The session was not connected, or somebody stopped it at the same time.
            if !is_unlinked && !unlinking::unlink(&context, &entry, deadline).await {
                device_left(&context, id);
            }
            let store = context.store.clone();
            // A deletion that is marked is finished sooner or later: its caller does not wait for room on the disk.
            let mut erasing = tokio::spawn(async move { erase(&entry, &*store).await });
            let cut_short = || StoreError::Failed("wiping was cut short".into());
            let wiped = match timeout(ERASE_TIME_MAX, &mut erasing).await {
                Ok(erased) => erased.unwrap_or_else(|_| Err(cut_short())),
                Err(_) => {
                    // The wipe goes on behind the caller's back; one that fails then is tried again as well.
                    tokio::spawn(async move {
                        if !matches!(erasing.await, Ok(Ok(()))) {
                            finish(context, vec![number], finishing, ending).await;
                        }
                    });
                    Ok(())
                }
            };
            let _ = myself.send_message(SupervisorMsg::Deleted { id, wiped });
        });
    }

    /// Takes the result of the wipe. A failed wipe is tried again: the mark is on disk, so the session is gone all the
    /// same.
    pub(super) fn deleted(&mut self, id: SessionId, wiped: Result<(), StoreError>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let number = slot.entry.number;
        match wiped {
            Err(error) if slot.is_unreadable => {
                // An unreadable session has no mark: it is there as before, and can be deleted again.
                slot.deleting = false;
                return answer(&mut slot.deletions, &Err(error.into()));
            }
            Err(error) => {
                warn!(session.id = %id, %error, "not all that is stored of a deleted session could be wiped, will retry");
                let (finishing, ending) = (self.finishing.clone(), self.ending.subscribe());
                tokio::spawn(finish(self.context.clone(), vec![number], finishing, ending));
            }
            Ok(()) => info!(session.id = %id, "session deleted"),
        }
        self.context.directory.remove(id);
        if let Some(mut slot) = self.slots.remove(&id) {
            answer(&mut slot.deletions, &Ok(()));
        }
    }
}

fn device_left(context: &Context, session: SessionId) {
    warn!(session.id = %session, "a session is deleted whose device could not be unlinked at WhatsApp: remove it at the phone");
    let _ = context.notices.send(OperatorNotice { session, kind: OperatorNoticeKind::DeviceLeft });
}

fn answer(waiting: &mut Vec<Reply<()>>, outcome: &Result<(), CommandError>) {
    for reply in waiting.drain(..) {
        let _ = reply.send(outcome.clone());
    }
}

/// Notes on disk that a session is being deleted. A session that cannot be read cannot be marked.
async fn mark(entry: &SessionHandle, store: &dyn Store) -> Result<(), CommandError> {
    if let Some(actor) = entry.actor.load_full() {
        let (reply, marked) = oneshot::channel();
        if actor.send_message(SessionMsg::MarkDeleted { reply }).is_ok()
            && let Ok(marked) = marked.await
        {
            return marked;
        }
    }
    match SessionRecord::load(store, entry.number)? {
        StoredSession::Readable(mut record) => {
            record.deleting = true;
            Ok(record.save(store, entry.number).await?)
        }
        StoredSession::Unreadable(_) => Ok(()),
    }
}

/// Wipes everything that is stored of a session, once its engine is gone and its device is unlinked, as far as
/// possible. The record goes last: a restart in between finds the mark and goes on.
async fn erase(entry: &SessionHandle, store: &dyn Store) -> Result<(), StoreError> {
    let _device = entry.device.acquire().await;
    let (_saving, _writing) = (entry.saving.acquire().await, entry.writing.acquire().await);
    match SessionRecord::load(store, entry.number)? {
        StoredSession::Readable(mut record) => {
            (record.deleting, record.started) = (true, false);
            record.forget_account();
            // This also waits for writes that were on their way to disk before.
            record.save(store, entry.number).await?;
        }
        StoredSession::Unreadable(_) => store.commit(Batch::new()).await?,
    }
    wipe_session(store, entry.number, Wipe::Session).await
}

/// Goes on with deletions, one after the other, until they are done or the daemon ends.
pub(super) async fn finish(
    context: Arc<Context>,
    sessions: Vec<SessionNumber>,
    finishing: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
) {
    // The daemon waits for this permit when it ends: there may be a connection.
    let Ok(_finishing) = finishing.acquire().await else { return };
    for number in sessions {
        if *ending.borrow() {
            return;
        }
        finish_one(&context, number, ending.clone()).await;
    }
}

/// Finishes one deletion. A device that may still be linked is unlinked first, over a connection that is made for that.
async fn finish_one(context: &Context, number: SessionNumber, mut ending: watch::Receiver<bool>) {
    let found = match SessionRecord::load(&*context.store, number) {
        Ok(StoredSession::Readable(record)) => Some((record.to_model(false), record.proxy)),
        Ok(StoredSession::Unreadable(record)) => {
            record.name_or(number, |_| false).map(|name| (record.to_model(name), None))
        }
        Err(_) => None,
    };
    // The next start tries again.
    let Some((session, proxy)) = found else { return };
    let entry = context.entry(number, session, SessionConfig::default());
    entry.proxy.store(proxy);
    if !unlinking::unlink(context, &entry, Instant::now() + UNLINK_TIME_MAX).await {
        device_left(context, entry.id);
    }
    while let Err(error) = erase(&entry, &*context.store).await {
        debug!(session.id = %entry.id, %error, "could not finish the deletion of a session");
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            () = sleep(DELETION_RETRY) => {}
        }
    }
    info!(session.id = %entry.id, "the deletion of a session is finished");
    let _ = context.notices.send(OperatorNotice { session: entry.id, kind: OperatorNoticeKind::DeletionFinished });
}
