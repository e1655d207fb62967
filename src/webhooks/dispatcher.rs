//! The tasks beside the workers: one wakes the workers of sessions with new events, one writes positions, one looks after keys and sessions
//! that ended.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rookery_actors::{CrashPoint, reach};
use rookery_model::Timestamp;
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, StoreError};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::feed::{Feed, SAVED_MAX};
use super::{Maker, Shared, Stop};

/// How often positions are written: after a crash, what was delivered in this time is delivered again.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often keys that end by themselves and sessions that are gone are looked for, and old attempts dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The wait after the log could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// Starts the tasks.
pub(super) fn start(shared: &Arc<Shared>) {
    let tasks = &shared.tasks;
    let stopped = |shared: &Arc<Shared>| {
        let mut stop = shared.stop.subscribe();
        async move { drop(stop.wait_for(|stop| *stop != Stop::Run).await) }
    };
    let (dispatched, end) = (Arc::clone(shared), stopped(shared));
    tasks.spawn(async move {
        tokio::select! { () = end => {}, () = dispatched.dispatch() => {} }
    });
    let (behind, end) = (Arc::clone(shared), stopped(shared));
    tasks.spawn(async move {
        tokio::select! { () = end => {}, () = behind.wake_all() => {} }
    });
    let (saved, end) = (Arc::clone(shared), stopped(shared));
    tasks.spawn(async move {
        let mut end = std::pin::pin!(end);
        while tokio::time::timeout(SAVE_INTERVAL, &mut end).await.is_err() {
            saved.save().await;
        }
    });
    let (swept, keys, end) = (Arc::clone(shared), shared.keys.changes(), stopped(shared));
    tasks.spawn(async move {
        tokio::select! { () = end => {}, () = swept.look_after(keys) => {} }
    });
}

impl Shared {
    /// Wakes the webhooks of sessions with new events.
    async fn dispatch(self: Arc<Self>) {
        let events = self.gateway.all_events();
        let Ok(mut latest) = events.latest() else { return };
        let mut position = *latest.borrow_and_update();
        loop {
            let Ok(now) = latest.wait_for(|latest| *latest > position).await.map(|latest| *latest) else { return };
            match events.sessions_after(position).await {
                Ok((sessions, seen)) => {
                    sessions.into_iter().for_each(|(session, number)| self.wake_session(session, number));
                    position = if seen > position { seen } else { now };
                }
                Err(error) => {
                    debug!(%error, "the event log cannot be read for webhooks, will retry");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Wakes the webhooks that are behind: after a start, and after a session could not be asked.
    async fn wake_all(self: &Arc<Self>) {
        for session in self.gateway.sessions() {
            if self.table().of(session.id).next().is_none() {
                continue;
            }
            if let Ok(latest) = self.latest(session.id).await {
                self.wake_session(session.id, latest);
            }
        }
    }

    /// Writes what is not in the store yet.
    pub(super) async fn save(&self) {
        let _writing = self.writing.lock().await;
        let unsaved = std::mem::take(&mut *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner));
        let feeds: Vec<Arc<Feed>> = unsaved.into_values().collect();
        let (mut batch, mut written) = (Batch::new(), Vec::new());
        for feed in feeds.into_iter().filter(|feed| self.is_current(feed)) {
            if batch.len() > BATCH_OPERATIONS_MAX - SAVED_MAX {
                self.commit(std::mem::take(&mut batch), std::mem::take(&mut written)).await;
            }
            if !feed.save(&mut batch) {
                self.note_unsaved(&feed);
            }
            written.push(feed);
        }
        self.commit(batch, written).await;
    }

    /// Writes all of it, or as much as the store takes.
    pub(super) async fn save_all(&self) {
        let mut left = usize::MAX;
        loop {
            self.save().await;
            let now = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).len();
            if now == 0 || now >= left {
                return;
            }
            left = now;
        }
    }

    /// Whether neither the feed's webhook nor its session is gone.
    fn is_current(&self, feed: &Feed) -> bool {
        self.table().by_id.contains_key(&feed.webhook) && self.gateway.session(feed.session).is_ok()
    }

    async fn commit(&self, batch: Batch, feeds: Vec<Arc<Feed>>) {
        match self.store.commit(batch).await {
            Ok(()) => {
                feeds.iter().for_each(|feed| feed.note_saved(true));
                return reach(CrashPoint::PositionSaved);
            }
            // The operator was told of the full disk.
            Err(StoreError::LowSpace { .. }) => {}
            Err(error) => warn!(%error, "how far webhooks are could not be stored, will retry"),
        }
        for feed in feeds {
            feed.note_saved(false);
            self.note_unsaved(&feed);
        }
    }

    /// Pauses the webhooks whose limited key ended, and forgets what is gone.
    async fn look_after(self: Arc<Self>, mut keys: watch::Receiver<()>) {
        loop {
            let webhooks: Vec<_> = self.table().by_id.values().cloned().collect();
            for webhook in webhooks {
                let record = webhook.record();
                match self.maker(&record) {
                    Maker::Limited(_) if !record.is_made_by_limited => {
                        let _ = self
                            .change(&webhook, |record| !std::mem::replace(&mut record.is_made_by_limited, true))
                            .await;
                    }
                    Maker::Ended(reason) if record.pause.is_none() => self.pause(&webhook, &record, reason).await,
                    Maker::Limited(_) | Maker::Ended(_) | Maker::Unlimited => {}
                }
            }
            let sessions: Vec<_> = self.table().by_session.keys().copied().collect();
            for session in sessions.into_iter().filter(|session| self.gateway.session(*session).is_err()) {
                self.forget_session(session);
            }
            self.log.sweep(Timestamp::now());
            match tokio::time::timeout(SWEEP_INTERVAL, keys.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                // A session that could not be asked when something came may be there by now.
                Err(_) => self.wake_all().await,
            }
        }
    }
}
