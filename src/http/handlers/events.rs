//! The events of a session: a page of its log, or a stream that goes on with what happens.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use rookery_actors::LogPlace;
use rookery_model::{Event, EventKind, GroupId, SessionId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::event_data;
use crate::http::error::ApiError;
use crate::http::middleware::authorization::AdmissionOf;
use crate::http::request::context::RequestContext;
use crate::http::request::event_filter::{AskedEvents, Cursor, all_cursor, all_from, all_place};
use crate::http::request::extract::SessionPath;
use crate::http::response::event_stream;

/// An event, as pages and streams show it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventEntry {
    /// The number of the event in the session's log: one more than that of the event before.
    #[schema(example = 4711)]
    sequence: u64,
    /// The session; only where events of several sessions are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Uuid, nullable = false)]
    session_id: Option<SessionId>,
    /// The event's id, wherever it is shown.
    id: Uuid,
    /// The kind of event.
    #[schema(value_type = String, example = "group.join")]
    event: EventKind,
    /// When it happened, as far as WhatsApp says; else when it was seen.
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    /// When the daemon saw it.
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    /// The person who did it, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, nullable = false, example = "15550100001@c.us")]
    actor_id: Option<String>,
    /// The group that it is about; left out where it is about the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, nullable = false, example = "120363021234567890@g.us")]
    group_id: Option<GroupId>,
    /// More about it, by its kind. Of a group: `groupId`, `participantIds`, `timestamp` (Unix seconds), `actorId`, and of
    /// `group.update` `changes` with the new values and `before` with the earlier ones. `reconciled` is true where a later
    /// look at the group showed the change, so that nobody knows who made it and when. Of `session.qr`, `qr` is a PNG as a data URL, or `null`
    /// once it cannot be scanned any more.
    #[schema(value_type = Object)]
    data: Map<String, Value>,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventPage {
    /// Oldest first.
    events: Vec<EventEntry>,
    /// The cursor for the next page: `after` of the next request, also when this page is empty.
    #[schema(value_type = String, example = "1764489600-4711")]
    next: Cursor,
    /// Whether there are events behind this page, which may be empty all the same: one page looks at a bounded number of events.
    has_more: bool,
    /// The cursor from which all events that there are can be read.
    #[schema(value_type = String, example = "1764489600-0")]
    oldest: Cursor,
}

impl EventEntry {
    pub(crate) fn kind(&self) -> &'static str {
        self.event.as_str()
    }

    /// The event for a caller now, with its session in a list of several sessions. The event of a QR gets that QR while it can
    /// be scanned.
    pub(crate) async fn of(app: &App, event: Event, is_of_all: bool) -> Self {
        let data = event_data::shown(&app.gateway, &event).await;
        let Event { session, number, id, kind, occurred_at, seen_at, actor, group, .. } = event;
        Self {
            sequence: number,
            session_id: is_of_all.then_some(session),
            id,
            event: kind,
            occurred_at,
            seen_at,
            actor_id: actor.map(|actor| actor.to_string()),
            group_id: group,
            data,
        }
    }
}

/// List or stream events
///
/// A page of the session's log, oldest first. With `Accept: text/event-stream`, the events come as a stream of server-sent events as they happen: `id`
/// is the cursor, `event` the kind, `data` an event as in a page. A stream begins after `Last-Event-ID` or `after`, else with the next event. A comment every 15 seconds
/// shows that it is alive. The stream ends when its key ends. Events are kept 30 days unless the operator set something else; what a cursor asks for may be gone, and
/// a restored backup or another account begins anew: then the answer is 410 with `oldest`.
#[utoipa::path(
    get,
    path = "",
    params(AskedEvents),
    responses(
        (status = 200, description = "Events after the cursor", content(
            (EventPage = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 410, description = "Events after this cursor are gone (`events_gone`): read on from `oldest`"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    AdmissionOf(admission): AdmissionOf,
    asked: AskedEvents,
    Extension(context): Extension<Arc<RequestContext>>,
) -> Result<Response, ApiError> {
    let caller = admission.check_again()?;
    asked.filter.check(&caller.key)?;
    if asked.is_stream {
        return streamed(&context, event_stream::of_session(&app, session, admission, asked).await?);
    }
    let AskedEvents { after, filter, limit, .. } = asked;
    let (key, of) = (Arc::clone(&caller.key), caller.key);
    let is_wanted = move |event: &Event| of.sees_event(event) && filter.matches(event);
    let log = app.gateway.events(session).await?;
    let (epoch, span) = (log.epoch(), log.span().await?);
    let begin = after.map_or(Ok(span.oldest - 1), |after| after.within(epoch, span))?;
    let mut page = {
        let _reading = key.read_events().await;
        log.page(begin, limit, is_wanted).await?
    };
    if let Some(number) = page.gap {
        if after.is_some() {
            return Err(ApiError::EventsGone { oldest: Cursor { epoch, number }.to_string() });
        }
        // Whoever begins with the oldest event begins behind what cannot be read.
        page.seen = number;
    }
    let oldest = Cursor { epoch, number: span.oldest - 1 };
    let mut events = Vec::with_capacity(page.events.len());
    for event in page.events {
        events.push(EventEntry::of(&app, event, false).await);
    }
    Ok(Json(EventPage { events, next: Cursor { epoch, number: page.seen }, has_more: page.has_more, oldest })
        .into_response())
}

/// The connection of a stream is no place among those of requests any more.
fn streamed(context: &RequestContext, stream: Response) -> Result<Response, ApiError> {
    if let Some(place) = context.place() {
        place.leave();
    }
    Ok(stream)
}

/// A page of events of all sessions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllEventPage {
    /// In the order in which they came to disk; of one session, oldest first.
    events: Vec<EventEntry>,
    /// The cursor for the next page: `after` of the next request, also when this page is empty.
    #[schema(example = "5f2c0e")]
    next: String,
    /// Whether there are events behind this page, which may be empty all the same: one page looks at a bounded number of events,
    /// those of other sessions among them.
    has_more: bool,
    /// The cursor from which all events that there are can be read.
    #[schema(example = "5f2c0e")]
    oldest: String,
}

/// List or stream events of all sessions
///
/// As the events of one session, for all sessions that the key may see, in the order in which they came to disk. `sessionId` says whose an event is; `sequence`
/// counts per session. Cursors of this list are opaque, and fit no session.
#[utoipa::path(
    get,
    path = "",
    params(AskedEvents<String>),
    responses(
        (status = 200, description = "Events after the cursor", content(
            (AllEventPage = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 410, description = "Events after this cursor are gone (`events_gone`): read on from `oldest`"),
    ),
)]
pub(crate) async fn list_all(
    State(app): State<Arc<App>>,
    AdmissionOf(admission): AdmissionOf,
    asked: AskedEvents<String>,
    Extension(context): Extension<Arc<RequestContext>>,
) -> Result<Response, ApiError> {
    let key = admission.check_again()?.key;
    asked.filter.check(&key)?;
    let log = app.gateway.all_events();
    let (epoch, span) = (log.epoch(), log.span().await?);
    let after = asked.after.map(|text| all_place(&text, &app.cursor_key, epoch, span)).transpose()?;
    let filter = asked.filter;
    if asked.is_stream {
        return streamed(&context, event_stream::of_all(&app, admission, after, filter).await?);
    }
    let (of, wanted, after) = (Arc::clone(&key), Arc::clone(&key), after.unwrap_or_else(|| all_from(span)));
    let is_wanted = move |event: &Event| wanted.sees_event(event) && filter.matches(event);
    let page = {
        let _reading = key.read_events().await;
        log.page(after, asked.limit, move |session| of.sees(session), is_wanted).await?
    };
    let cursor = |position, told| all_cursor(&app.cursor_key, epoch, LogPlace { position, told });
    if page.is_gap {
        return Err(ApiError::EventsGone { oldest: cursor(after.position, span.latest) });
    }
    let mut events = Vec::with_capacity(page.events.len());
    for (_, event) in page.events {
        events.push(EventEntry::of(&app, event, true).await);
    }
    let (next, oldest) = (cursor(page.seen, after.told), all_cursor(&app.cursor_key, epoch, all_from(span)));
    Ok(Json(AllEventPage { events, next, has_more: page.has_more, oldest }).into_response())
}
