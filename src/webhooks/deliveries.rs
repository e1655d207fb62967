//! The latest attempts of each webhook, in memory: bounded by count, age, and over all webhooks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rookery_model::{SessionId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Attempts that are kept of one webhook.
const KEPT_MAX: usize = 100;
/// The same when many webhooks have some.
const KEPT_MIN: usize = 2;
/// Attempts that are kept in all, each some 500 bytes and with the answer 1.5 KiB at most.
const KEPT_IN_ALL: usize = 10_000;
/// How old they get, in milliseconds: three days.
const AGE_MAX_MS: i64 = 3 * 24 * 60 * 60 * 1_000;

/// One attempt to deliver.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delivery {
    /// The id of the delivery: the same for all its attempts.
    #[schema(example = "dlv_5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11")]
    pub(crate) delivery_id: String,
    pub(crate) idempotency_key: Uuid,
    pub(crate) session_id: SessionId,
    /// The number of the event in the session's log; left out of a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 4711)]
    pub(crate) sequence: Option<u64>,
    #[schema(example = "group.join")]
    pub(crate) event: String,
    pub(crate) status: DeliveryStatus,
    /// Which attempt it was, from 0.
    #[schema(example = 0)]
    pub(crate) retry_count: u32,
    pub(crate) at: Timestamp,
    /// How long it took, in milliseconds.
    #[schema(example = 12)]
    pub(crate) duration_ms: u64,
    /// The status code of the answer; left out when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 200)]
    pub(crate) status_code: Option<u16>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) error: Option<String>,
    /// The first KiB of the answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub(crate) response: String,
}

/// What became of an attempt.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeliveryStatus {
    /// The receiver has it.
    Delivered,
    /// The receiver does not have it.
    Failed,
}

impl DeliveryStatus {
    pub(crate) const WORDS: [(&str, Self); 2] = [("delivered", Self::Delivered), ("failed", Self::Failed)];
}

/// The latest attempts of each webhook.
#[derive(Default)]
pub(crate) struct DeliveryLog(Mutex<HashMap<Uuid, VecDeque<Delivery>>>);

impl DeliveryLog {
    fn log(&self) -> MutexGuard<'_, HashMap<Uuid, VecDeque<Delivery>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, webhook: Uuid, delivery: Delivery) {
        let mut log = self.log();
        log.entry(webhook).or_default().push_back(delivery);
        let kept = kept_of_each(log.len());
        if let Some(own) = log.get_mut(&webhook) {
            own.drain(..own.len().saturating_sub(kept));
        }
    }

    /// The latest attempts of a webhook, newest first: those before `before`, of this status.
    pub(crate) fn of(
        &self,
        webhook: Uuid,
        before: Option<Timestamp>,
        status: Option<DeliveryStatus>,
        count: usize,
    ) -> Vec<Delivery> {
        let log = self.log();
        let attempts = log.get(&webhook).into_iter().flatten().rev();
        let of_status = attempts.filter(|one| status.is_none_or(|status| one.status == status));
        of_status.filter(|one| before.is_none_or(|before| one.at < before)).take(count).cloned().collect()
    }

    pub(crate) fn forget(&self, webhook: Uuid) {
        self.log().remove(&webhook);
    }

    /// Drops what is too old or too much by now.
    pub(crate) fn sweep(&self, now: Timestamp) {
        let mut log = self.log();
        let kept = kept_of_each(log.len());
        log.retain(|_, own| {
            own.drain(..own.len().saturating_sub(kept));
            own.retain(|one| now.0 - one.at.0 < AGE_MAX_MS);
            !own.is_empty()
        });
    }
}

/// Attempts that are kept of each of so many webhooks.
fn kept_of_each(webhooks: usize) -> usize {
    (KEPT_IN_ALL / webhooks.max(1)).clamp(KEPT_MIN, KEPT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(at: i64, status: DeliveryStatus) -> Delivery {
        Delivery {
            delivery_id: String::new(),
            idempotency_key: Uuid::nil(),
            session_id: SessionId(Uuid::nil()),
            sequence: Some(1),
            event: "group.join".into(),
            status,
            retry_count: 0,
            at: Timestamp(at),
            duration_ms: 1,
            status_code: Some(200),
            error: None,
            response: String::new(),
        }
    }

    #[test]
    fn the_newest_are_kept_and_found_by_time_and_status() {
        let (log, own) = (DeliveryLog::default(), Uuid::from_u128(1));
        for at in 0..150 {
            let status = if at % 2 == 0 { DeliveryStatus::Delivered } else { DeliveryStatus::Failed };
            log.note(own, delivery(at, status));
        }
        let at = |before, status, count| -> Vec<i64> {
            log.of(own, before, status, count).iter().map(|one| one.at.0).collect()
        };
        assert_eq!(at(None, None, 3), [149, 148, 147]);
        assert_eq!(at(Some(Timestamp(147)), Some(DeliveryStatus::Failed), 2), [145, 143]);
        assert_eq!(at(None, None, 1_000).len(), KEPT_MAX);
        assert!(log.of(Uuid::from_u128(2), None, None, 9).is_empty());
        log.sweep(Timestamp(AGE_MAX_MS + 148));
        assert_eq!(at(None, None, 9), [149]);
    }

    #[test]
    fn many_webhooks_share_what_is_kept_in_all() {
        let log = DeliveryLog::default();
        for webhook in 0..500 {
            for at in 0..30 {
                log.note(Uuid::from_u128(webhook), delivery(at, DeliveryStatus::Delivered));
            }
        }
        log.sweep(Timestamp(100));
        let kept: usize = log.log().values().map(VecDeque::len).sum();
        assert_eq!(kept, KEPT_IN_ALL);
    }
}
