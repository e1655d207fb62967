//! A delivery as it is sent: body, ids and header fields, as OpenWA sends them, and beside them those of Standard Webhooks
//! (www.standardwebhooks.com, specification 1.0).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rookery_model::{Event, SessionId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use super::record::Terms;

/// Bytes of a body.
pub(crate) const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The event of a delivery that only tries the receiver.
pub(crate) const TEST_EVENT: &str = "test";
const OPENWA_PREFIX: &str = "x-openwa-";

/// The ids of a delivery: the same for the same event and webhook, whatever happened in between.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryIds {
    /// By which a receiver knows an event that it has had.
    pub(crate) idempotency_key: Uuid,
    /// Written with `dlv_` before it.
    pub(crate) delivery: Uuid,
}

/// A delivery, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// The event's word.
    pub(crate) event: String,
    pub(crate) ids: DeliveryIds,
    pub(crate) body: Bytes,
}

/// The body, in this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event: &'a str,
    timestamp: Timestamp,
    session_id: SessionId,
    idempotency_key: Uuid,
    delivery_id: String,
    data: &'a Map<String, Value>,
}

impl DeliveryIds {
    /// The ids of an event's delivery to a webhook.
    pub(crate) fn of(webhook: Uuid, event: Uuid) -> Self {
        let derived = |purpose: &[u8]| {
            let digest = Sha256::new().chain_update(purpose).chain_update(webhook).chain_update(event).finalize();
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest[..16]);
            Builder::from_custom_bytes(bytes).into_uuid()
        };
        Self { idempotency_key: derived(b"event"), delivery: derived(b"delivery") }
    }

    /// The delivery's id as receivers see it.
    pub(crate) fn delivery_id(&self) -> String {
        format!("dlv_{}", self.delivery)
    }
}

impl Payload {
    /// The payload of an event with this data.
    pub(crate) fn of(webhook: Uuid, event: &Event, data: &Map<String, Value>) -> Self {
        let ids = DeliveryIds::of(webhook, event.id);
        Self::new(event.kind.as_str(), ids, event.session, event.occurred_at, data)
    }

    /// A payload that only tries the receiver.
    pub(crate) fn for_test(webhook: Uuid, session: SessionId) -> Self {
        let data = Map::from_iter([("message".to_owned(), "This is a test of the webhook: nothing happened".into())]);
        let ids = DeliveryIds::of(webhook, Uuid::now_v7());
        Self::new(TEST_EVENT, ids, session, Timestamp::now(), &data)
    }

    fn new(event: &str, ids: DeliveryIds, session: SessionId, at: Timestamp, data: &Map<String, Value>) -> Self {
        let body = Body {
            event,
            timestamp: at,
            session_id: session,
            idempotency_key: ids.idempotency_key,
            delivery_id: ids.delivery_id(),
            data,
        };
        Self { event: event.to_owned(), ids, body: serde_json::to_vec(&body).unwrap_or_default().into() }
    }

    /// The header fields of one attempt. `attempt` counts from 0.
    pub(crate) fn headers(&self, terms: &Terms, attempt: u32, now: Timestamp) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &terms.headers.0 {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let (key, seconds) = (self.ids.idempotency_key.to_string(), now.0.div_euclid(1_000));
        put("x-openwa-event", self.event.clone());
        put("x-openwa-idempotency-key", key.clone());
        put("x-openwa-delivery-id", self.ids.delivery_id());
        put("x-openwa-retry-count", attempt.to_string());
        put("webhook-timestamp", seconds.to_string());
        if let Some(secret) = &terms.secret {
            let of_openwa = signature(secret.reveal().as_bytes(), &[&self.body]);
            put("x-openwa-signature", format!("sha256={}", hex::encode(of_openwa)));
            let begin = format!("{key}.{seconds}.");
            let standard = signature(&secret.standard_key(), &[begin.as_bytes(), &self.body]);
            put("webhook-signature", format!("v1,{}", STANDARD.encode(standard)));
        }
        put("webhook-id", key);
        headers
    }
}

/// Whether callers may not set this header field: the delivery has it, or the connection does.
pub(crate) fn is_reserved_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "content-type" || name.starts_with(OPENWA_PREFIX)
}

/// HMAC-SHA256 of the parts in a row.
fn signature(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use rookery_model::EventKind;
    use serde_json::json;

    use super::super::record::{Headers, WebhookSecret};
    use super::*;

    fn terms(secret: &str) -> Terms {
        Terms {
            url: "https://example.com/hook".into(),
            events: vec!["*".into()],
            filters: None,
            secret: Some(WebhookSecret::new(secret.into())),
            headers: Headers::default(),
            retry_count: 3,
            include_media: false,
            is_active: true,
        }
    }

    fn payload() -> Payload {
        let event = Event::of_session(SessionId(Uuid::nil()), EventKind::SessionStatus, Map::new());
        let event = Event { id: Uuid::from_u128(7), occurred_at: Timestamp(1_800_000_000_123), ..event };
        let data = json!({ "sessionId": event.session, "status": "ready" });
        Payload::of(Uuid::from_u128(1), &event, data.as_object().unwrap())
    }

    #[test]
    fn the_body_has_openwas_fields_in_openwas_order() {
        let payload = payload();
        let (key, delivery) = (payload.ids.idempotency_key, payload.ids.delivery);
        let expected = format!(
            r#"{{"event":"session.status","timestamp":"2027-01-15T08:00:00.123Z","sessionId":"00000000-0000-0000-0000-000000000000","idempotencyKey":"{key}","deliveryId":"dlv_{delivery}","data":{{"sessionId":"00000000-0000-0000-0000-000000000000","status":"ready"}}}}"#
        );
        assert_eq!(std::str::from_utf8(&payload.body).unwrap(), expected);
    }

    #[test]
    fn ids_are_the_same_for_the_same_event_and_webhook_alone() {
        let of = |webhook, event| DeliveryIds::of(Uuid::from_u128(webhook), Uuid::from_u128(event));
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
        assert_ne!(of(1, 2).idempotency_key, of(1, 2).delivery);
    }

    /// The example of the specification's own libraries.
    #[test]
    fn a_standard_signature_is_the_one_that_its_libraries_check() {
        let secret = WebhookSecret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
        let signed = signature(
            &secret.standard_key(),
            &[b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", br#"{"test": 2432232314}"#],
        );
        assert_eq!(STANDARD.encode(signed), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_attempt_has_openwas_header_fields() {
        let payload = payload();
        let mut terms = terms("a secret of openwa");
        terms.headers.0.insert("authorization".into(), "Bearer x".into());
        terms.headers.0.insert("content-type".into(), "text/plain".into());
        let headers = payload.headers(&terms, 2, Timestamp(1_800_000_000_999));
        let of = |name: &str| headers[name].to_str().unwrap();
        assert_eq!((of("x-openwa-event"), of("x-openwa-retry-count")), ("session.status", "2"));
        assert_eq!((of("content-type"), of("authorization")), ("application/json", "Bearer x"));
        assert_eq!(of("webhook-id"), of("x-openwa-idempotency-key"));
        assert_eq!(of("webhook-timestamp"), "1800000000");
        let expected = hex::encode(signature(b"a secret of openwa", &[&payload.body]));
        assert_eq!(of("x-openwa-signature"), format!("sha256={expected}"));
        let unsigned = payload.headers(&Terms { secret: None, ..terms }, 0, Timestamp(0));
        assert!(!unsigned.contains_key("x-openwa-signature") && !unsigned.contains_key("webhook-signature"));
    }
}
