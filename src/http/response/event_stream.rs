//! A response that goes on: events as server-sent events (the HTML standard, "Server-sent events"), until the client goes, its
//! key ends, or the daemon stops. Reads the log from a place of its own; holds nothing in memory for a client that does
//! not read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use rookery_actors::EventReader;
use rookery_model::{Event, SessionId};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::handlers::events::{EventEntry, may_see};
use crate::http::middleware::authorization::Admission;
use crate::http::request::event_filter::{After, Cursor, EventFilter};

/// A comment after this time without an event: proxies close connections that are silent for a minute, some after 30 s.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a key is looked at that ends by itself.
const EXPIRY_CHECK: Duration = Duration::from_millis(500);
/// Milliseconds after which a browser connects again.
const RETRY_MS: u32 = 2_000;

/// A session's events to one client.
struct SessionStream {
    app: Arc<App>,
    admission: Arc<Admission>,
    reader: EventReader,
    filter: EventFilter,
    /// The place that the client goes on from.
    cursor: Cursor,
    /// Sent first.
    opening: Option<Bytes>,
    keys: watch::Receiver<()>,
    checks: Interval,
    /// When the next comment is due.
    heartbeat_at: Instant,
    _permits: [OwnedSemaphorePermit; 2],
}

/// Streams a session's events.
///
/// # Errors
/// The place is gone or not there yet, or there are too many streams.
pub(crate) async fn of_session(
    app: &Arc<App>,
    session: SessionId,
    admission: Arc<Admission>,
    after: After,
    filter: EventFilter,
) -> Result<Response, ApiError> {
    let keys = app.keys.changes();
    let caller = admission.check_again()?;
    let permits = app.admit_stream(&caller.key)?;
    let log = app.gateway.events(session).await?;
    let (epoch, span) = (log.epoch(), log.span().await?);
    let number = if after.is_given() { after.within(epoch, span)? } else { span.latest };
    let cursor = Cursor { epoch, number };
    let checked_every = if caller.key.ends_by_itself() { EXPIRY_CHECK } else { HEARTBEAT };
    let mut checks = interval_at(Instant::now() + checked_every, checked_every);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = SessionStream {
        app: Arc::clone(app),
        admission,
        reader: log.reader(number),
        filter,
        cursor,
        // A client that is cut off before the first event knows from where to go on.
        opening: Some(Bytes::from(format!("retry: {RETRY_MS}\nid: {cursor}\n\n"))),
        keys,
        checks,
        heartbeat_at: Instant::now() + HEARTBEAT,
        _permits: permits,
    };
    let pieces = stream::unfold(stream, async |mut stream| {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    // The connection is no place among the others any more, and ends with the stream.
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CONNECTION, "close"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// What a stream waited for.
enum Happened {
    Event(Box<Event>),
    /// The session is gone, or its events are.
    Over,
    /// A key changed, or a key that ends by itself may have ended.
    Check,
}

impl SessionStream {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        loop {
            let happened = tokio::select! {
                biased;
                changed = self.keys.changed() => if changed.is_ok() { Happened::Check } else { Happened::Over },
                event = self.reader.next() => event.map_or(Happened::Over, |event| Happened::Event(Box::new(event))),
                _ = self.checks.tick() => Happened::Check,
            };
            let key = self.admission.check_again().ok()?.key;
            match happened {
                Happened::Over => return None,
                Happened::Event(event) => {
                    self.cursor.number = event.number;
                    if may_see(&key, &event) && self.filter.matches(&event) {
                        self.heartbeat_at = Instant::now() + HEARTBEAT;
                        return Some(frame(self.cursor, &EventEntry::of(&self.app, *event).await));
                    }
                }
                Happened::Check if Instant::now() >= self.heartbeat_at => {
                    self.heartbeat_at = Instant::now() + HEARTBEAT;
                    // The client need not read again what its filter leaves out.
                    return Some(Bytes::from(format!(": alive\nid: {}\n\n", self.cursor)));
                }
                Happened::Check => {}
            }
        }
    }
}

/// An event as the stream has it. Its JSON has no line breaks.
fn frame(cursor: Cursor, event: &EventEntry) -> Bytes {
    let (kind, json) = (event.kind(), serde_json::to_string(event).unwrap_or_default());
    Bytes::from(format!("id: {cursor}\nevent: {kind}\ndata: {json}\n\n"))
}
