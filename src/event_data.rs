//! The data of an event for those who get it now: what is stored, and what may only be shown for a moment.

use std::time::Duration;

use rookery_actors::Gateway;
use rookery_model::{Event, EventKind, Qr};
use serde_json::{Map, Value};

use crate::qr_image;

/// Time for a session to say which QR it shows: without an answer there is none. Others wait behind its event.
const QR_TIME_MAX: Duration = Duration::from_secs(1);

/// The data of an event as pages and streams show it. A QR is in it while it can be scanned, else `null`.
pub(crate) async fn shown(gateway: &Gateway, event: &Event) -> Map<String, Value> {
    let mut data = event.payload();
    if event.kind == EventKind::Qr {
        let id = data.remove("qrId");
        let current = tokio::time::timeout(QR_TIME_MAX, gateway.qr(event.session)).await.ok().and_then(Result::ok);
        let current = current.filter(|qr| id == Some(Value::from(Qr::id_of(&qr.text))));
        let url = current.and_then(|current| qr_image::data_url(&current.text).ok());
        data.insert("qr".to_owned(), url.into());
    }
    data
}

/// The data of an event as a webhook gets it; `None`: it is of no use any more, as its QR cannot be scanned.
pub(crate) async fn of_webhook(gateway: &Gateway, event: &Event) -> Option<Map<String, Value>> {
    let data = shown(gateway, event).await;
    let is_over = event.kind == EventKind::Qr && data.get("qr").is_none_or(Value::is_null);
    (!is_over).then_some(data)
}
