//! The webhooks in memory: each with its record and its feeds, found by id and by session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rookery_model::{SessionId, Timestamp};
use rookery_store::SessionNumber;
use tokio::sync::watch;
use uuid::Uuid;

use super::feed::Feed;
use super::record::{Sessions, WebhookRecord};
use super::rows::StoredPosition;

/// All of them.
#[derive(Default)]
pub(super) struct Table {
    pub(super) by_id: HashMap<Uuid, Arc<Webhook>>,
    pub(super) by_session: HashMap<SessionId, Vec<Arc<Webhook>>>,
    of_all: Vec<Arc<Webhook>>,
}

/// A webhook in memory.
pub(crate) struct Webhook {
    pub(crate) id: Uuid,
    pub(super) record: ArcSwap<WebhookRecord>,
    feeds: Mutex<HashMap<SessionId, Arc<Feed>>>,
    /// Counts what workers have to look at anew.
    pub(super) changes: watch::Sender<u64>,
    pub(super) is_removed: AtomicBool,
    /// The receiver answered the latest attempt soon.
    pub(super) is_prompt: AtomicBool,
}

impl Webhook {
    pub(super) fn new(record: WebhookRecord) -> Arc<Self> {
        Arc::new(Self {
            id: record.id,
            record: ArcSwap::from_pointee(record),
            feeds: Mutex::default(),
            changes: watch::Sender::new(0),
            is_removed: AtomicBool::new(false),
            is_prompt: AtomicBool::new(false),
        })
    }

    pub(crate) fn record(&self) -> Arc<WebhookRecord> {
        self.record.load_full()
    }

    pub(super) fn is_prompt(&self) -> bool {
        self.is_prompt.load(Ordering::Relaxed)
    }

    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Has the workers look anew.
    pub(super) fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn feeds(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The feeds that there are.
    pub(crate) fn all_feeds(&self) -> Vec<Arc<Feed>> {
        self.feeds().values().cloned().collect()
    }

    /// The feed of a session that the webhook gets the events of.
    pub(super) fn feed(&self, session: SessionId, number: SessionNumber) -> Arc<Feed> {
        let new = || Arc::new(Feed::new(self.id, session, number, StoredPosition::default()));
        Arc::clone(self.feeds().entry(session).or_insert_with(new))
    }

    /// When a delivery was last tried.
    pub(crate) fn tried_at(&self) -> Option<Timestamp> {
        self.feeds().values().filter_map(|feed| feed.tried_at()).max()
    }

    /// Whether the webhook gets the events of this session.
    pub(crate) fn is_of(&self, session: SessionId) -> bool {
        match &self.record.load().sessions {
            Sessions::One(one) => *one == session,
            Sessions::Several(some) => some.contains(&session),
            Sessions::All => true,
        }
    }
}

impl Table {
    pub(super) fn add(&mut self, webhook: &Arc<Webhook>) {
        match &webhook.record().sessions {
            Sessions::One(session) => self.by_session.entry(*session).or_default().push(Arc::clone(webhook)),
            Sessions::Several(sessions) => {
                for session in sessions {
                    self.by_session.entry(*session).or_default().push(Arc::clone(webhook));
                }
            }
            Sessions::All => self.of_all.push(Arc::clone(webhook)),
        }
        self.by_id.insert(webhook.id, Arc::clone(webhook));
    }

    pub(super) fn remove(&mut self, id: Uuid) {
        self.by_id.remove(&id);
        self.of_all.retain(|webhook| webhook.id != id);
        self.by_session.retain(|_, webhooks| {
            webhooks.retain(|webhook| webhook.id != id);
            !webhooks.is_empty()
        });
    }

    /// The webhooks that get the events of a session.
    pub(super) fn of(&self, session: SessionId) -> impl Iterator<Item = &Arc<Webhook>> {
        self.by_session.get(&session).into_iter().flatten().chain(&self.of_all)
    }
}
