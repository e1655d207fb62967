//! Delivers the events of one feed, one after the other. Runs while there is something to deliver.
//!
//! ```text
//! page of events --wanted and seen--> attempt --taken--> position moves on
//!                                       | failed: wait, and again; after the quick attempts it is a failure in the store
//!                                       | 410, or the time for repeating is over: the webhook is paused
//! ```

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::Url;
use rookery_actors::{CommandError, CrashPoint, EventPage, SessionEvents, reach};
use rookery_model::{Event, Timestamp};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::backoff::{self, FailedDelivery};
use super::client::Attempt;
use super::deliveries::{Delivery, DeliveryStatus};
use super::feed::{Feed, Place};
use super::payload::Payload;
use super::places::Place as AttemptPlace;
use super::record::{PauseReason, WebhookRecord};
use super::rows::Failure;
use super::{Maker, Shared, Stop, Webhook};
use crate::event_data;
use crate::shares::User;

/// Events that are read at a time.
const READ_COUNT: usize = 64;
/// A longer wait goes on after a restart.
const REMEMBERED_WAIT: Duration = Duration::from_secs(5);
/// Time to fetch a file for a delivery.
const MEDIA_TIME_MAX: Duration = Duration::from_secs(10);
/// The wait after the log could not be read, and for an event whose commit is known and that is not published yet.
const PAUSE: Duration = Duration::from_secs(2);

/// Delivers the events of one feed.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) webhook: Arc<Webhook>,
    pub(super) feed: Arc<Feed>,
}

/// Why an event is done with, or the worker has to look again.
enum Done {
    /// It was delivered, or nobody wants it or may see it.
    Yes,
    /// The webhook or the position changed meanwhile, or the daemon stops.
    LookAgain,
}

impl Worker {
    /// Runs until there is nothing to do. After a panic, the next event starts another worker.
    pub(super) async fn run(self) {
        if AssertUnwindSafe(self.deliver_all()).catch_unwind().await.is_err() {
            error!(webhook.id = %self.webhook.id, "a defect: delivering to a webhook panicked, it goes on with the next event");
            self.feed.end();
        }
    }

    async fn deliver_all(&self) {
        let (mut changes, mut stopping) = (self.webhook.changes.subscribe(), self.shared.stop.subscribe());
        loop {
            changes.borrow_and_update();
            let record = self.webhook.record();
            if *stopping.borrow() != Stop::Run || self.webhook.is_removed() {
                return self.feed.end();
            }
            if !record.is_delivering() {
                self.feed.end();
                // It may have been resumed just now.
                if !self.webhook.record().is_delivering() || !self.feed.wake(0) {
                    return;
                }
                continue;
            }
            let passed = tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop == Stop::Cut) => return self.feed.end(),
                passed = self.pass(&record, changes.clone()) => passed,
            };
            match passed {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) if self.feed.may_end() => return,
                Ok(ControlFlow::Break(())) => {}
                Err(CommandError::UnknownSession(_)) => return self.feed.end(),
                Err(error) => {
                    debug!(webhook.id = %self.webhook.id, %error, "events cannot be read for a webhook, will retry");
                    let stopped = stopping.wait_for(|stop| *stop != Stop::Run);
                    let _ = tokio::time::timeout(PAUSE, stopped).await;
                }
            }
        }
    }

    /// Delivers the next events. `Break`: there are no more.
    async fn pass(
        &self,
        record: &Arc<WebhookRecord>,
        changes: watch::Receiver<u64>,
    ) -> Result<ControlFlow<()>, CommandError> {
        let place = self.feed.place();
        let log = self.shared.gateway.events(self.feed.session).await?;
        let page = self.read(&log, place, record).await?;
        if let Some(gap) = page.gap {
            self.note_gone(place.position, gap);
            self.move_on(place, gap);
            return Ok(ControlFlow::Continue(()));
        }
        for event in page.events {
            match self.deliver(record, &event, changes.clone()).await {
                Done::Yes if self.move_on(place, event.number) => {}
                _ => return Ok(ControlFlow::Continue(())),
            }
        }
        let is_moved = page.seen != place.position;
        if is_moved && !self.move_on(place, page.seen) {
            return Ok(ControlFlow::Continue(()));
        }
        let target = self.feed.target();
        if !page.has_more && !is_moved && page.seen < target {
            // The dispatcher is told of a commit a moment before readers are.
            let mut latest = log.latest();
            if tokio::time::timeout(PAUSE, latest.wait_for(|latest| *latest > page.seen)).await.is_err() {
                self.feed.expect_no_more(target);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(if page.has_more || is_moved { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    async fn read(
        &self,
        log: &SessionEvents,
        place: Place,
        record: &Arc<WebhookRecord>,
    ) -> Result<EventPage, CommandError> {
        let _permit = self.shared.reads.acquire().await;
        let record = Arc::clone(record);
        log.page(place.position, READ_COUNT, move |event| record.terms.wants(event)).await
    }

    fn move_on(&self, place: Place, position: u64) -> bool {
        let is_moved = self.feed.advance(place, position);
        self.shared.note_unsaved(&self.feed);
        is_moved
    }

    /// Events were gone before they could be delivered.
    fn note_gone(&self, position: u64, gap: u64) {
        let lost = gap - position;
        warn!(webhook.id = %self.webhook.id, session.id = %self.feed.session, events = lost, "events were gone before a webhook had them");
        self.feed.forget_failures(position, gap);
        let error = format!("the events {} to {gap} were gone before they could be delivered", position + 1);
        let event = String::from("*");
        let since = Timestamp::now();
        self.feed.note_failure(
            gap,
            Failure { event, event_id: None, since, attempts: 0, status: None, error, next_at: None },
        );
    }

    /// Delivers an event, however long that takes.
    async fn deliver(&self, record: &WebhookRecord, event: &Event, mut changes: watch::Receiver<u64>) -> Done {
        let mut failure = self.feed.failure(event.number).filter(|failure| failure.event_id == Some(event.id));
        let (mut payload, host, renewals) = (None, host_of(&record.terms.url), self.feed.renewals());
        self.feed.await_event(event.number);
        // From before a restart.
        let due = failure.as_ref().and_then(|failure| failure.next_at);
        if let Some(due) = due
            && self.wait_until(due, &mut changes).await
        {
            return Done::LookAgain;
        }
        loop {
            let attempts = failure.as_ref().map_or(0, |failure| failure.attempts);
            let place = tokio::select! {
                biased;
                _ = changes.changed() => return Done::LookAgain,
                place = self.shared.places.take(record.made_by, &host, self.webhook.is_prompt()) => place,
            };
            match self.shared.maker(record) {
                Maker::Ended(reason) => {
                    self.shared.pause(&self.webhook, record, reason).await;
                    return Done::LookAgain;
                }
                Maker::Limited(key) if !self.shared.sees(&key, event) => return Done::Yes,
                Maker::Limited(_) | Maker::Unlimited => {}
            }
            if payload.is_none() {
                let Some(mut data) = event_data::of_webhook(&self.shared.gateway, event).await else {
                    return Done::Yes;
                };
                if record.terms.include_media {
                    self.include_media(record, &mut data).await;
                }
                payload = Some(Payload::of(self.webhook.id, event, &data));
            }
            let Some(payload) = &payload else { return Done::Yes };
            let Some(attempt) = self.attempt_unless_moved(place, record, payload, attempts, &changes).await else {
                return Done::LookAgain;
            };
            self.feed.note_tried(Timestamp::now());
            self.shared
                .log
                .note(self.webhook.id, delivery(&self.feed, Some(event.number), payload, &attempt, attempts));
            if attempt.error.is_none() {
                reach(CrashPoint::Delivered);
                self.feed.forget_failure(event.number);
                return Done::Yes;
            }
            if self.feed.renewals() != renewals {
                // What failed so far does not count any more.
                return Done::LookAgain;
            }
            let mut failed = failed(failure.take(), event, &attempt);
            let pause = self.after(record, event, &mut failed, &attempt);
            failure = Some(failed);
            match pause {
                Ok(due) => {
                    if self.wait_until(due, &mut changes).await {
                        return Done::LookAgain;
                    }
                }
                Err(reason) => {
                    self.shared.pause(&self.webhook, record, reason).await;
                    return Done::LookAgain;
                }
            }
        }
    }

    /// Puts the file of a message into its data.
    async fn include_media(&self, record: &WebhookRecord, data: &mut Map<String, Value>) {
        let Shared { gateway, media, .. } = &*self.shared;
        let user = User { key: record.made_by, session: self.feed.session };
        media.include(gateway, user, data, Instant::now() + MEDIA_TIME_MAX).await;
    }

    /// One attempt; `None`: the webhook has another URL meanwhile, or delivers nothing any more.
    async fn attempt_unless_moved(
        &self,
        place: Option<AttemptPlace>,
        record: &WebhookRecord,
        payload: &Payload,
        attempts: u32,
        changes: &watch::Receiver<u64>,
    ) -> Option<Attempt> {
        // What is seen here is new to whoever waits after the attempt.
        let mut changes = changes.clone();
        let moved = async {
            loop {
                if changes.changed().await.is_err() || self.is_moved(record) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            attempt = self.shared.attempt(place, &self.webhook, record, payload, attempts) => Some(attempt),
            () = moved => None,
        }
    }

    fn is_moved(&self, record: &WebhookRecord) -> bool {
        let now = self.webhook.record();
        self.webhook.is_removed() || !now.is_delivering() || now.terms.url != record.terms.url
    }

    /// Waits until another attempt is due; whether something changed meanwhile.
    async fn wait_until(&self, due: Timestamp, changes: &mut watch::Receiver<u64>) -> bool {
        let left = u64::try_from(due.0.saturating_sub(Timestamp::now().0)).unwrap_or_default();
        // The clock may have been set back meanwhile.
        let wait = Duration::from_millis(left).min(backoff::WAIT_MAX);
        self.feed.note_waiting(Some(due));
        let is_changed = tokio::time::timeout(wait, changes.changed()).await.is_ok();
        self.feed.note_waiting(None);
        is_changed
    }

    /// When the next attempt after a failed one is due, or why nothing is delivered any more. Keeps the failure where it is one that callers have to
    /// know of.
    fn after(
        &self,
        record: &WebhookRecord,
        event: &Event,
        failure: &mut Failure,
        attempt: &Attempt,
    ) -> Result<Timestamp, PauseReason> {
        let failed =
            FailedDelivery { attempts: failure.attempts, since: failure.since, retry_after: attempt.retry_after };
        let (retry_count, now) = (record.terms.retry_count, Timestamp::now());
        let wait = backoff::wait(&failed, retry_count, self.shared.retry_time, now, random());
        let due = wait.map(|wait| Timestamp(now.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))));
        failure.next_at = due;
        let is_long = wait.is_none_or(|wait| wait > REMEMBERED_WAIT);
        if attempt.is_gone() || is_long || backoff::is_slow(failure.attempts, retry_count) {
            self.feed.note_failure(event.number, failure.clone());
            self.shared.note_unsaved(&self.feed);
        }
        match due {
            _ if attempt.is_gone() => Err(PauseReason::ReceiverGone),
            due => due.ok_or(PauseReason::RetriesOver),
        }
    }
}

/// The failure after one more failed attempt.
fn failed(before: Option<Failure>, event: &Event, attempt: &Attempt) -> Failure {
    let (since, attempts) = before.map_or((Timestamp::now(), 0), |before| (before.since, before.attempts));
    Failure {
        event: event.kind.as_str().to_owned(),
        event_id: Some(event.id),
        since,
        attempts: attempts.saturating_add(1),
        status: attempt.status,
        error: attempt.error.clone().unwrap_or_default(),
        next_at: None,
    }
}

/// An attempt, for the log.
pub(super) fn delivery(
    feed: &Feed,
    sequence: Option<u64>,
    payload: &Payload,
    attempt: &Attempt,
    attempts: u32,
) -> Delivery {
    let is_delivered = attempt.error.is_none();
    Delivery {
        delivery_id: payload.ids.delivery_id(),
        idempotency_key: payload.ids.idempotency_key,
        session_id: feed.session,
        sequence,
        event: payload.event.clone(),
        status: if is_delivered { DeliveryStatus::Delivered } else { DeliveryStatus::Failed },
        retry_count: attempts,
        at: Timestamp::now(),
        duration_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        status_code: attempt.status,
        error: attempt.error.clone(),
        response: attempt.answer.clone(),
    }
}

/// The receiver, as the shares of places know it: host and port.
pub(super) fn host_of(url: &str) -> String {
    let host =
        Url::parse(url).ok().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    host.unwrap_or_default()
}

/// From 0 to 1.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}
