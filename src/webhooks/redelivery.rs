//! Deliveries that failed, and trying them again one by one.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use rookery_model::{Event, SessionId, Timestamp};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::feed::Feed;
use super::payload::{DeliveryIds, Payload};
use super::rows::Failure;
use super::{Maker, PLACE_TIME_MAX, Shared, Webhook, WebhookError, Webhooks, worker};
use crate::event_data;

/// Deliveries that are tried again at once in one call.
const AT_ONCE: usize = 8;
/// No further delivery is begun after this time: the call has to end before its client gives up.
const TIME_MAX: Duration = Duration::from_secs(12);

/// A delivery that failed.
pub(crate) struct FailedDelivery {
    pub(crate) webhook: Arc<Webhook>,
    pub(crate) session: SessionId,
    /// The number of the event.
    pub(crate) number: u64,
    pub(crate) failure: Failure,
    feed: Arc<Feed>,
}

/// Which failed deliveries are to be tried again: all that match.
pub(crate) struct RedeliveryOrder {
    pub(crate) session: Option<SessionId>,
    pub(crate) webhook: Option<Uuid>,
    /// Their ids in the list of failures.
    pub(crate) ids: Option<Vec<Uuid>>,
    pub(crate) count_max: usize,
}

/// What became of such an order.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redelivered {
    pub(crate) delivered: usize,
    pub(crate) failed: usize,
    /// Their events are gone, or nobody may have them any more.
    pub(crate) skipped: usize,
    pub(crate) remaining: usize,
}

/// What became of one of them.
enum Retried {
    Delivered,
    Failed,
    Skipped,
}

impl FailedDelivery {
    /// The ids of the delivery; `None`: its event is gone.
    pub(crate) fn ids(&self) -> Option<DeliveryIds> {
        self.failure.event_id.map(|event| DeliveryIds::of(self.webhook.id, event))
    }

    /// When the worker tries it again.
    pub(crate) fn next_attempt_at(&self) -> Option<Timestamp> {
        self.feed.next_attempt_at().filter(|_| self.feed.is_awaited(self.number))
    }

    /// The id in the list of failures.
    pub(crate) fn id(&self) -> Uuid {
        let ids = self.ids().unwrap_or_else(|| {
            // Events that are gone have no id of their own.
            DeliveryIds::of(self.webhook.id, Uuid::from_u128(u128::from(self.number)))
        });
        ids.delivery
    }
}

impl Webhooks {
    /// All failed deliveries, newest first.
    pub(crate) fn failures(&self, session: Option<SessionId>) -> Vec<FailedDelivery> {
        let mut failures = Vec::new();
        for webhook in self.all() {
            for feed in webhook.all_feeds() {
                if session.is_some_and(|session| session != feed.session) {
                    continue;
                }
                failures.extend(feed.failures().into_iter().map(|(number, failure)| FailedDelivery {
                    webhook: Arc::clone(&webhook),
                    session: feed.session,
                    number,
                    failure,
                    feed: Arc::clone(&feed),
                }));
            }
        }
        failures.sort_by_key(|one| (std::cmp::Reverse(one.failure.since), one.number));
        failures
    }

    /// Tries failed deliveries again, those with the fewest attempts first.
    pub(crate) async fn redeliver(
        &self,
        order: &RedeliveryOrder,
        may_see: impl Fn(&FailedDelivery) -> bool,
    ) -> Redelivered {
        let matches = |one: &FailedDelivery| {
            may_see(one)
                && order.webhook.is_none_or(|id| id == one.webhook.id)
                && order.ids.as_ref().is_none_or(|ids| ids.contains(&one.id()))
        };
        let select = || self.failures(order.session).into_iter().filter(|one| matches(one)).collect::<Vec<_>>();
        let mut failures = select();
        failures.sort_by_key(|one| (one.failure.attempts, one.failure.since));
        failures.truncate(order.count_max);
        let (shared, until) = (&self.shared, Instant::now() + TIME_MAX);
        let tries = failures
            .into_iter()
            .map(|one| async move { if Instant::now() < until { shared.redeliver(&one).await.ok() } else { None } });
        let results: Vec<_> = stream::iter(tries).buffer_unordered(AT_ONCE).collect().await;
        let mut all = Redelivered { remaining: select().len(), ..Redelivered::default() };
        for result in results.into_iter().flatten() {
            match result {
                Retried::Delivered => all.delivered += 1,
                Retried::Failed => all.failed += 1,
                Retried::Skipped => all.skipped += 1,
            }
        }
        all
    }
}

impl Shared {
    async fn redeliver(&self, one: &FailedDelivery) -> Result<Retried, WebhookError> {
        let FailedDelivery { webhook, session, number, failure, feed } = one;
        let record = webhook.record();
        let Some(event) = self.event(*session, *number).await?.filter(|event| failure.event_id == Some(event.id))
        else {
            return Ok(Retried::Skipped);
        };
        let host = worker::host_of(&record.terms.url);
        let taking = self.places.take(record.made_by, &host, webhook.is_prompt());
        let Ok(place) = tokio::time::timeout(PLACE_TIME_MAX, taking).await else { return Ok(Retried::Failed) };
        let may_have = match self.maker(&record) {
            Maker::Unlimited => true,
            Maker::Limited(key) => self.sees(&key, &event),
            Maker::Ended(_) => false,
        };
        let wanted = may_have && record.terms.is_active && record.terms.wants(&event);
        let data = if wanted { event_data::of_webhook(&self.gateway, &event).await } else { None };
        let Some(data) = data else { return Ok(Retried::Skipped) };
        let payload = Payload::of(webhook.id, &event, &data);
        let attempt = self.attempt(place, webhook, &record, &payload, failure.attempts).await;
        feed.note_tried(Timestamp::now());
        self.log.note(webhook.id, worker::delivery(feed, Some(*number), &payload, &attempt, failure.attempts));
        let result = match attempt.error {
            None => {
                // The worker may be waiting to try it again.
                if feed.deliver_out_of_turn(*number) {
                    webhook.note_change();
                }
                Retried::Delivered
            }
            Some(error) => {
                feed.note_failed_again(*number, attempt.status, error);
                Retried::Failed
            }
        };
        self.note_unsaved(feed);
        Ok(result)
    }

    /// The event with this number; `None`: it is gone.
    async fn event(&self, session: SessionId, number: u64) -> Result<Option<Event>, WebhookError> {
        let page = self.gateway.events(session).await?.page(number.saturating_sub(1), 1, |_| true).await?;
        Ok(page.events.into_iter().next().filter(|event| event.number == number))
    }
}
