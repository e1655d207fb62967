//! Webhooks: events that go to receivers over HTTP, in order for each session, at least once, from the event log at a position of their
//! own. A receiver that is slow or gone delays itself alone, and gets what it missed when it is back.
//!
//! ```text
//! event log --a commit--> dispatcher --wakes--> worker of each feed (webhook and session) that has something to deliver
//! worker --page of the log, filter, what the maker's key may see--> attempt --> position (written once a second)
//! ```
//!
//! A webhook without events to deliver is a record in memory: no task, no connection.

mod backoff;
mod changes;
mod client;
mod deliveries;
mod dispatcher;
mod error;
mod feed;
mod filter;
mod payload;
mod places;
mod record;
mod redelivery;
mod rows;
mod table;
mod worker;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use reqwest::Url;
use rookery_actors::{CommandError, Gateway};
use rookery_model::{Event, SessionId, Timestamp};
use rookery_store::{SessionNumber, Store};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use crate::audit::{Audit, AuditEvent, Outcome};
use crate::auth::{ApiKeys, Key};
use crate::media::Media;
use crate::url_fetch::Guard;
pub(crate) use changes::{NewWebhook, ReplayFrom};
pub(crate) use client::Attempt;
use client::WebhookClient;
use deliveries::DeliveryLog;
pub(crate) use deliveries::{Delivery, DeliveryStatus};
pub(crate) use error::WebhookError;
use feed::Feed;
pub(crate) use filter::{CONDITIONS_MAX, Condition, Field, Filters, Operator, VALUES_MAX};
pub(crate) use payload::is_reserved_header;
use payload::{BODY_BYTES_MAX, Payload};
use places::{Place, Places};
use record::Pause;
pub(crate) use record::{
    EVERY_EVENT, Headers, PauseReason, Sessions, Terms, TermsChange, WebhookRecord, WebhookSecret, is_event_word,
};
pub(crate) use redelivery::{FailedDelivery, RedeliveryOrder};
pub(crate) use rows::{Stored, orphans, read};
use table::Table;
pub(crate) use table::Webhook;
use worker::Worker;

/// Webhooks that belong to one session.
pub(crate) const OF_SESSION_MAX: usize = 16;
/// Webhooks for several sessions in all.
pub(crate) const OF_SEVERAL_MAX: usize = 64;
/// A receiver that answers within this time keeps nobody waiting.
const ANSWERED_SOON: Duration = Duration::from_millis(250);
/// For how long a test, or a single delivery again, waits until others are done.
const PLACE_TIME_MAX: Duration = Duration::from_secs(5);
/// Reads of events for webhooks at once: each takes a thread for some milliseconds.
const READS_MAX: usize = 4;
/// Time for attempts that are under way when the daemon stops.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// Settings of webhooks.
pub(crate) struct WebhookOptions {
    /// For how long a failed delivery is tried again.
    pub(crate) retry_time: Duration,
    /// Where deliveries may go.
    pub(crate) guard: Guard,
    /// Whom receivers are checked against.
    pub(crate) tls: ClientConfig,
}

/// All webhooks.
pub(crate) struct Webhooks {
    shared: Arc<Shared>,
}

/// What the tasks of webhooks share.
struct Shared {
    store: Arc<dyn Store>,
    gateway: Gateway,
    media: Arc<Media>,
    keys: Arc<ApiKeys>,
    audit: Arc<Audit>,
    client: WebhookClient,
    places: Places,
    log: DeliveryLog,
    retry_time: Duration,
    table: RwLock<Table>,
    /// Feeds whose rows in the store are behind.
    unsaved: Mutex<HashMap<(Uuid, SessionId), Arc<Feed>>>,
    /// One change of rows at a time: what is removed must not be written again.
    writing: tokio::sync::Mutex<()>,
    reads: Semaphore,
    tasks: TaskTracker,
    stop: watch::Sender<Stop>,
}

/// How the daemon's end has come to webhooks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stop {
    Run,
    /// No further attempt begins.
    Finish,
    /// Attempts are cut off.
    Cut,
}

/// Whom a webhook was made by, as far as that limits what is delivered.
enum Maker {
    /// Everything is delivered.
    Unlimited,
    /// What this key may see.
    Limited(Arc<Key>),
    /// Nothing any more.
    Ended(PauseReason),
}

impl Webhooks {
    /// Begins to deliver. Call it once the sessions run, with what was read before.
    ///
    /// # Errors
    /// When no client can be made, which is a defect of the build.
    pub(crate) fn open(
        stored: Stored,
        store: &Arc<dyn Store>,
        gateway: &Gateway,
        media: &Arc<Media>,
        keys: &Arc<ApiKeys>,
        audit: &Arc<Audit>,
        options: WebhookOptions,
    ) -> reqwest::Result<Self> {
        let WebhookOptions { retry_time, guard, tls } = options;
        let shared = Arc::new(Shared {
            client: WebhookClient::new(guard, tls)?,
            store: Arc::clone(store),
            gateway: gateway.clone(),
            media: Arc::clone(media),
            keys: Arc::clone(keys),
            audit: Arc::clone(audit),
            places: Places::default(),
            log: DeliveryLog::default(),
            retry_time,
            table: RwLock::default(),
            unsaved: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            reads: Semaphore::new(READS_MAX),
            tasks: TaskTracker::new(),
            stop: watch::Sender::new(Stop::Run),
        });
        shared.take(stored);
        dispatcher::start(&shared);
        Ok(Self { shared })
    }

    /// Ends all tasks, and writes the positions.
    pub(crate) async fn close(&self) {
        let Shared { stop, tasks, .. } = &*self.shared;
        stop.send_replace(Stop::Finish);
        for webhook in self.all() {
            webhook.note_change();
        }
        tasks.close();
        if tokio::time::timeout(STOP_TIME_MAX, tasks.wait()).await.is_err() {
            stop.send_replace(Stop::Cut);
            tasks.wait().await;
        }
        self.shared.save_all().await;
    }

    /// All webhooks, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Webhook>> {
        let mut all: Vec<_> = self.shared.table().by_id.values().cloned().collect();
        sort(&mut all);
        all
    }

    /// The webhooks that belong to a session, oldest first.
    pub(crate) fn of_session(&self, session: SessionId) -> Vec<Arc<Webhook>> {
        let belongs = |webhook: &&Arc<Webhook>| webhook.record.load().sessions == Sessions::One(session);
        let mut all: Vec<_> = self.shared.table().of(session).filter(belongs).cloned().collect();
        sort(&mut all);
        all
    }

    /// # Errors
    /// [`WebhookError::NotFound`].
    pub(crate) fn get(&self, id: Uuid) -> Result<Arc<Webhook>, WebhookError> {
        self.shared.table().by_id.get(&id).cloned().ok_or_else(|| WebhookError::NotFound(id.to_string()))
    }

    /// The number of the latest event of a session; 0 before the first one, and for a session that is not read yet.
    pub(crate) async fn latest(&self, session: SessionId) -> u64 {
        self.shared.latest(session).await.unwrap_or_default()
    }

    /// The latest attempts of a webhook, newest first.
    pub(crate) fn deliveries(
        &self,
        webhook: Uuid,
        before: Option<Timestamp>,
        status: Option<DeliveryStatus>,
        count: usize,
    ) -> Vec<Delivery> {
        self.shared.log.of(webhook, before, status, count)
    }

    /// Sends a made-up event, now.
    pub(crate) async fn test(&self, webhook: &Arc<Webhook>, session: SessionId) -> Result<Attempt, WebhookError> {
        let number = self.shared.gateway.number(session)?;
        let (record, payload) = (webhook.record(), Payload::for_test(webhook.id, session));
        let feed = webhook.feed(session, number);
        let host = worker::host_of(&record.terms.url);
        let taking = self.shared.places.take(record.made_by, &host, webhook.is_prompt());
        let Ok(place) = tokio::time::timeout(PLACE_TIME_MAX, taking).await else {
            return Ok(Attempt::unsent("too many deliveries wait for this receiver: try again later"));
        };
        let attempt = self.shared.attempt(place, webhook, &record, &payload, 0).await;
        self.shared.log.note(webhook.id, worker::delivery(&feed, None, &payload, &attempt, 0));
        Ok(attempt)
    }

    /// Whether a key may see and touch a webhook: one of a session that it sees, and when it is limited to groups, one that it made, as others
    /// get more.
    pub(crate) fn may_touch(&self, key: &Key, webhook: &Webhook) -> bool {
        let record = webhook.record();
        let is_in_reach = match record.sessions {
            Sessions::One(session) => self.shared.gateway.session(session).is_ok_and(|session| key.sees(&session)),
            Sessions::Several(_) | Sessions::All => !key.is_limited(),
        };
        is_in_reach && (!key.is_limited_to_groups() || record.made_by == key.id())
    }

    /// Forgets the webhooks of a session that was deleted, and removes rows that were written while it was wiped.
    ///
    /// # Errors
    /// What the store has against it: the rows go at the next start.
    pub(crate) async fn forget_session(&self, session: SessionId, number: SessionNumber) -> Result<(), WebhookError> {
        let _writing = self.shared.writing.lock().await;
        self.shared.forget_session(session);
        let store = Arc::clone(&self.shared.store);
        let rows = spawn_blocking(move || rows::of_session(&*store, number)).await.unwrap_or(Ok(Vec::new()))?;
        for batch in rows {
            self.shared.store.commit(batch).await?;
        }
        Ok(())
    }
}

fn sort(webhooks: &mut [Arc<Webhook>]) {
    webhooks.sort_by_key(|webhook| (webhook.record.load().created_at, webhook.id));
}

impl Shared {
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was stored.
    fn take(&self, stored: Stored) {
        let sessions = self.gateway.sessions();
        let numbered = sessions.iter().filter_map(|one| Some((self.gateway.number(one.id).ok()?, one.id)));
        let sessions: HashMap<SessionNumber, SessionId> = numbered.collect();
        let mut table = self.table_mut();
        for record in stored.records {
            let webhook = Webhook::new(record);
            // Unless something failed.
            webhook.is_prompt.store(true, Ordering::Relaxed);
            table.add(&webhook);
        }
        for (number, id, position) in stored.positions {
            let Some((webhook, session)) = table.by_id.get(&id).zip(sessions.get(&number)) else { continue };
            webhook.feeds().insert(*session, Arc::new(Feed::new(id, *session, number, position)));
        }
        for (number, id, event, failure) in stored.failures {
            let Some((webhook, session)) = table.by_id.get(&id).zip(sessions.get(&number)) else { continue };
            webhook.feed(*session, number).restore_failure(event, failure);
            webhook.is_prompt.store(false, Ordering::Relaxed);
        }
    }

    async fn latest(&self, session: SessionId) -> Result<u64, CommandError> {
        Ok(*self.gateway.events(session).await?.latest().borrow())
    }

    /// Starts a worker where a webhook has events of this session to deliver.
    fn wake(self: &Arc<Self>, webhook: &Arc<Webhook>, session: SessionId, latest: u64) {
        if !webhook.record.load().is_delivering() {
            return;
        }
        let Ok(number) = self.gateway.number(session) else { return };
        let feed = webhook.feed(session, number);
        if *self.stop.borrow() == Stop::Run && feed.wake(latest) {
            let worker = Worker { shared: Arc::clone(self), webhook: Arc::clone(webhook), feed };
            self.tasks.spawn(worker.run());
        }
    }

    /// Wakes the webhooks of a session.
    fn wake_session(self: &Arc<Self>, session: SessionId, latest: u64) {
        let webhooks: Vec<_> = self.table().of(session).cloned().collect();
        webhooks.iter().for_each(|webhook| self.wake(webhook, session, latest));
    }

    fn maker(&self, record: &WebhookRecord) -> Maker {
        match self.keys.get(record.made_by) {
            Ok(key) if !key.is_limited() => Maker::Unlimited,
            Ok(key) if !key.is_usable(self.keys.now()) => Maker::Ended(PauseReason::KeyEnded),
            Ok(key) => match record.sessions {
                Sessions::One(session) if self.gateway.session(session).is_ok_and(|session| !key.sees(&session)) => {
                    Maker::Ended(PauseReason::KeyNarrowed)
                }
                _ => Maker::Limited(key),
            },
            Err(_) if record.is_made_by_limited => Maker::Ended(PauseReason::KeyEnded),
            Err(_) => Maker::Unlimited,
        }
    }

    /// Whether a limited key may see an event.
    fn sees(&self, key: &Key, event: &Event) -> bool {
        self.gateway.session(event.session).is_ok_and(|session| key.sees(&session)) && key.sees_event(event)
    }

    /// One attempt. Gives its place free when it is over, and a better one when it takes long.
    async fn attempt(
        &self,
        mut place: Option<Place>,
        webhook: &Webhook,
        record: &WebhookRecord,
        payload: &Payload,
        attempts: u32,
    ) -> Attempt {
        let mut sending = pin!(self.send(webhook, record, payload, attempts));
        if let Ok(attempt) = tokio::time::timeout(ANSWERED_SOON, &mut sending).await {
            webhook.is_prompt.store(attempt.error.is_none(), Ordering::Relaxed);
            return attempt;
        }
        webhook.is_prompt.store(false, Ordering::Relaxed);
        if let Some(place) = &mut place {
            self.places.give_way(place);
        }
        sending.await
    }

    async fn send(&self, webhook: &Webhook, record: &WebhookRecord, payload: &Payload, attempts: u32) -> Attempt {
        let oversize = payload.body.len() > BODY_BYTES_MAX;
        let Ok(url) = Url::parse(&record.terms.url) else {
            warn!(webhook.id = %webhook.id, "a webhook has a URL that cannot be read");
            return Attempt::unsent("the URL cannot be read: set another one");
        };
        if oversize {
            return Attempt::unsent("the event is larger than a delivery may be");
        }
        let headers = payload.headers(&record.terms, attempts, Timestamp::now());
        self.client.send(&url, headers, payload.body.clone()).await
    }

    /// Stops delivering until somebody resumes it, unless the webhook was changed since it was as `decided_on` says.
    async fn pause(&self, webhook: &Arc<Webhook>, decided_on: &WebhookRecord, reason: PauseReason) {
        let version = |record: &WebhookRecord| (record.terms.url.clone(), record.made_by, record.updated_at);
        let decided_on = version(decided_on);
        let paused = self.change(webhook, |record| {
            let is_to_be = record.pause.is_none() && version(record) == decided_on;
            if is_to_be {
                record.pause = Some(Pause { reason, at: Timestamp::now() });
            }
            is_to_be
        });
        match paused.await {
            Ok(false) => {}
            Ok(true) => {
                warn!(webhook.id = %webhook.id, %reason, "a webhook is paused");
                let session_id = match webhook.record().sessions {
                    Sessions::One(session) => Some(session),
                    Sessions::Several(_) | Sessions::All => None,
                };
                let event = AuditEvent::of("webhooks.paused".into(), Outcome::Done);
                let code = serde_json::to_value(reason).ok().and_then(|word| word.as_str().map(str::to_owned));
                let event = AuditEvent { session_id, code, target_id: Some(webhook.id.to_string()), ..event };
                self.audit.note(event).await;
            }
            Err(error) => {
                warn!(webhook.id = %webhook.id, %error, "that a webhook is paused could not be stored, will retry");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    fn note_unsaved(&self, feed: &Arc<Feed>) {
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        unsaved.entry((feed.webhook, feed.session)).or_insert_with(|| Arc::clone(feed));
    }

    fn forget_session(&self, session: SessionId) {
        let mut table = self.table_mut();
        let gone = table.by_session.remove(&session).unwrap_or_default();
        for webhook in gone.iter().filter(|webhook| webhook.record.load().sessions == Sessions::One(session)) {
            webhook.is_removed.store(true, Ordering::Relaxed);
            webhook.note_change();
            table.by_id.remove(&webhook.id);
            self.log.forget(webhook.id);
        }
        for webhook in table.by_id.values() {
            webhook.feeds().remove(&session);
        }
    }
}
