//! A response that goes on: events as server-sent events (the HTML standard, "Server-sent events"), until the client goes, its
//! key ends, or the daemon stops. Reads the log from a place of its own; holds few events in memory for a client that does
//! not read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use rookery_actors::{AllEvents, LogPlace, SessionEvents};
use rookery_model::{Event, SessionId};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::app::{App, StreamPermit};
use crate::auth::Key;
use crate::http::error::ApiError;
use crate::http::handlers::events::EventEntry;
use crate::http::middleware::authorization::Admission;
use crate::http::request::event_filter::{AskedEvents, Cursor, EventFilter, all_cursor};

/// A comment after this time without an event: proxies close connections that are silent for a minute, some after 30 s.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a key is looked at that ends by itself.
const EXPIRY_CHECK: Duration = Duration::from_millis(500);
/// Milliseconds after which a browser connects again.
const RETRY_MS: u32 = 2_000;
/// Events that are fetched at a time.
const READ_COUNT: usize = 128;

/// Where a stream's events come from.
enum Source {
    Session {
        events: SessionEvents,
        latest: watch::Receiver<u64>,
        read: VecDeque<Event>,
        cursor: Cursor,
    },
    All {
        events: AllEvents,
        latest: watch::Receiver<u64>,
        read: VecDeque<(u64, Event)>,
        /// The position of the latest event that was looked at.
        seen: u64,
        /// The place that the client goes on from.
        place: LogPlace,
    },
}

/// Events on their way to one client.
struct EventStream {
    app: Arc<App>,
    admission: Arc<Admission>,
    source: Source,
    filter: EventFilter,
    /// Sent first.
    opening: Option<Bytes>,
    keys: watch::Receiver<()>,
    checks: Interval,
    /// When the next comment is due.
    heartbeat_at: Instant,
    _permit: StreamPermit,
}

/// Streams a session's events.
///
/// # Errors
/// The place is gone or not there yet, or there are too many streams.
pub(crate) async fn of_session(
    app: &Arc<App>,
    session: SessionId,
    admission: Arc<Admission>,
    asked: AskedEvents,
) -> Result<Response, ApiError> {
    let log = app.gateway.events(session).await?;
    let (epoch, span) = (log.epoch(), log.span().await?);
    let number = asked.after.map_or(Ok(span.latest), |after| after.within(epoch, span))?;
    let key = admission.check_again()?.key;
    let next = {
        let _reading = key.read_events().await;
        log.page(number, 1, |_| true).await?
    };
    if let Some(number) = next.gap {
        return Err(ApiError::EventsGone { oldest: Cursor { epoch, number }.to_string() });
    }
    let (latest, cursor) = (log.latest(), Cursor { epoch, number });
    let source = Source::Session { events: log, latest, read: VecDeque::new(), cursor };
    begin(app, admission, source, asked.filter)
}

/// Streams the events of all sessions of a key.
///
/// # Errors
/// As [`of_session`].
pub(crate) async fn of_all(
    app: &Arc<App>,
    admission: Arc<Admission>,
    after: Option<LogPlace>,
    filter: EventFilter,
) -> Result<Response, ApiError> {
    let events = app.gateway.all_events();
    let latest = events.latest()?;
    let now = *latest.borrow();
    let place = after.unwrap_or(LogPlace { position: now, told: now });
    let key = admission.check_again()?.key;
    let next = {
        let (_reading, of) = (key.read_events().await, Arc::clone(&key));
        events.page(place, 1, move |session| of.sees(session), |_| true).await?
    };
    if next.is_gap {
        let oldest = LogPlace { position: place.position, told: now };
        return Err(ApiError::EventsGone { oldest: all_cursor(&app.cursor_key, events.epoch(), oldest) });
    }
    let source = Source::All { events, latest, read: VecDeque::new(), seen: place.position, place };
    begin(app, admission, source, filter)
}

fn begin(app: &Arc<App>, admission: Arc<Admission>, source: Source, filter: EventFilter) -> Result<Response, ApiError> {
    let keys = app.keys.changes();
    let key = admission.check_again()?.key;
    let permit = app.admit_stream(&key)?;
    let checks = checks_every(if key.ends_by_itself() { EXPIRY_CHECK } else { HEARTBEAT });
    // A client that is cut off before the first event knows from where to go on.
    let opening = Some(Bytes::from(format!("retry: {RETRY_MS}\nid: {}\n\n", source.cursor(app))));
    let (app, heartbeat_at) = (Arc::clone(app), Instant::now() + HEARTBEAT);
    let stream = EventStream { app, admission, source, filter, opening, keys, checks, heartbeat_at, _permit: permit };
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

fn checks_every(period: Duration) -> Interval {
    let mut checks = interval_at(Instant::now() + period, period);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    checks
}

impl Source {
    /// The next event, as soon as there is one. `None`: the session is gone, its events are, or the daemon stops. Dropping this
    /// loses nothing.
    async fn next(&mut self, key: &Arc<Key>, filter: &EventFilter) -> Option<Event> {
        match self {
            Self::Session { events, latest, read, cursor } => loop {
                if let Some(event) = read.pop_front() {
                    cursor.number = event.number;
                    return Some(event);
                }
                let seen = cursor.number;
                latest.wait_for(|latest| *latest > seen).await.ok()?;
                let _reading = key.read_events().await;
                *read = events.page(seen, READ_COUNT, |_| true).await.ok()?.events.into();
                // At a gap: the client is told when it connects again.
                read.front()?;
            },
            Self::All { events, latest, read, seen, place } => loop {
                if let Some((at, event)) = read.pop_front() {
                    place.position = at;
                    return Some(event);
                }
                place.position = *seen;
                latest.wait_for(|latest| *latest > *seen).await.ok()?;
                let _reading = key.read_events().await;
                let (of, wanted, filter) = (Arc::clone(key), Arc::clone(key), filter.clone());
                let is_wanted = move |event: &Event| wanted.sees_event(event) && filter.matches(event);
                let page = events.page(*place, READ_COUNT, move |session| of.sees(session), is_wanted).await.ok()?;
                if page.is_gap {
                    return None;
                }
                (*seen, *read) = (page.seen, page.events.into());
            },
        }
    }

    fn cursor(&self, app: &App) -> String {
        match self {
            Self::Session { cursor, .. } => cursor.to_string(),
            Self::All { events, place, .. } => all_cursor(&app.cursor_key, events.epoch(), *place),
        }
    }
}

/// What a stream waited for.
enum Happened {
    Event(Box<Event>),
    Over,
    /// A key changed, or a key that ends by itself may have ended.
    Check,
}

impl EventStream {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        let mut key = self.admission.check_again().ok()?.key;
        loop {
            let happened = tokio::select! {
                biased;
                changed = self.keys.changed() => if changed.is_ok() { Happened::Check } else { Happened::Over },
                event = self.source.next(&key, &self.filter) => {
                    event.map_or(Happened::Over, |event| Happened::Event(Box::new(event)))
                }
                _ = self.checks.tick() => Happened::Check,
            };
            key = self.admission.check_again().ok()?.key;
            if key.ends_by_itself() && self.checks.period() != EXPIRY_CHECK {
                // It was rotated meanwhile, or has an end now.
                self.checks = checks_every(EXPIRY_CHECK);
            }
            match happened {
                Happened::Over => return None,
                Happened::Event(event) => {
                    let sees = self.app.gateway.session(event.session).is_ok_and(|session| key.sees(&session));
                    if sees && key.sees_event(&event) && self.filter.matches(&event) {
                        self.heartbeat_at = Instant::now() + HEARTBEAT;
                        // Boxed: an idle stream has no room for it.
                        return Some(Box::pin(self.frame(*event)).await);
                    }
                }
                Happened::Check if Instant::now() >= self.heartbeat_at => {
                    self.heartbeat_at = Instant::now() + HEARTBEAT;
                    // The client need not read again what its filter leaves out.
                    return Some(Bytes::from(format!(": alive\nid: {}\n\n", self.source.cursor(&self.app))));
                }
                Happened::Check => {}
            }
        }
    }

    /// An event as the stream has it. Its JSON has no line breaks.
    async fn frame(&self, event: Event) -> Bytes {
        let is_of_all = matches!(self.source, Source::All { .. });
        let entry = EventEntry::of(&self.app, event, is_of_all).await;
        let (kind, json) = (entry.kind(), serde_json::to_string(&entry).unwrap_or_default());
        Bytes::from(format!("id: {}\nevent: {kind}\ndata: {json}\n\n", self.source.cursor(&self.app)))
    }
}
