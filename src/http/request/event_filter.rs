//! Which events a caller asks for: after which one, of which kinds, of which group, how many, and as a page or a stream.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use rookery_actors::{EventSpan, LogPlace};
use rookery_model::{Event, EventKind, GroupId};
use rookery_store::{EventKey, SessionNumber};
use serde::{Serialize, Serializer};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::extract::{group_of, number_of, query, query_parameter, value_of};
use super::written::shorten;
use crate::auth::Key;
use crate::http::error::{AccessError, ApiError};

/// Events of a page without `limit`.
pub(crate) const EVENTS_DEFAULT: usize = 100;
/// Events of a page at most: with some 300 bytes each, 300 KiB.
pub(crate) const EVENTS_MAX: usize = 1_000;
const LAST_EVENT_ID: &str = "last-event-id";

/// A place in a session's log: behind the event with this number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Numbers begin anew in each epoch.
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The place after which a session's events are asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct After {
    /// `None`: of the current epoch.
    epoch: Option<u64>,
    number: u64,
}

/// A place in the whole log as callers get it: without the key, nobody learns from it how much happens in other sessions.
pub(crate) fn all_cursor(key: &EventKey, epoch: u64, place: LogPlace) -> String {
    let place = [epoch, place.position, place.told].map(u64::to_be_bytes);
    key.encrypt(SessionNumber::DAEMON, 0, place.as_flattened()).map(hex::encode).unwrap_or_default()
}

/// The place that a cursor of [`all_cursor`] stands for.
///
/// # Errors
/// [`ApiError::Query`] when it is none, [`ApiError::EventsGone`] when events after it are gone.
pub(crate) fn all_place(text: &str, key: &EventKey, epoch: u64, span: EventSpan) -> Result<LogPlace, ApiError> {
    let place = hex::decode(text).ok().and_then(|cursor| key.decrypt(SessionNumber::DAEMON, 0, &cursor));
    let place = place.filter(|place| place.len() == 24).map(|place| {
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| place[at + byte]));
        (number(0), LogPlace { position: number(8), told: number(16) })
    });
    let (of, place) = place.ok_or_else(|| {
        ApiError::Query(format!("after must be the next of an earlier answer, as it was, not {}", shorten(text)))
    })?;
    if of != epoch || place.position + 1 < span.oldest || place.position > span.latest {
        return Err(ApiError::EventsGone { oldest: all_cursor(key, epoch, all_from(span)) });
    }
    Ok(place)
}

/// The place from which everything that there is can be read: what is gone by now is passed over.
pub(crate) fn all_from(span: EventSpan) -> LogPlace {
    LogPlace { position: span.oldest - 1, told: span.latest }
}

impl Place for After {
    fn parse(name: &str, text: &str) -> Result<Self, ApiError> {
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u64>().ok()).flatten()
        };
        let parsed = match text.split_once('-') {
            Some((epoch, sequence)) => number(epoch).zip(number(sequence)).map(|(epoch, number)| (Some(epoch), number)),
            None => number(text).map(|number| (None, number)),
        };
        let (epoch, number) = parsed.ok_or_else(|| {
            ApiError::Query(format!(
                "{name} must be a cursor as in next, such as 1764489600-4711, or the sequence of an event, not {}",
                shorten(text)
            ))
        })?;
        Ok(Self { epoch, number })
    }
}

impl After {
    /// The number after which to read.
    ///
    /// # Errors
    /// [`ApiError::EventsGone`] when events after the place are gone, [`ApiError::Query`] when there is no such event yet.
    pub(crate) fn within(self, epoch: u64, span: EventSpan) -> Result<u64, ApiError> {
        let EventSpan { oldest, latest } = span;
        let number = self.number;
        if self.epoch.is_some_and(|of| of != epoch) || number.saturating_add(1) < oldest {
            let oldest = Cursor { epoch, number: oldest - 1 };
            return Err(ApiError::EventsGone { oldest: oldest.to_string() });
        }
        if number > latest {
            return Err(ApiError::Query(format!("after is {number}, but the latest event has the sequence {latest}")));
        }
        Ok(number)
    }
}

/// The kinds and the group of the events that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    /// `None`: all kinds.
    kinds: Option<Vec<EventKind>>,
    group: Option<GroupId>,
}

impl EventFilter {
    /// # Errors
    /// [`AccessError::GroupNotAllowed`] when the key may not touch the group that is asked for.
    pub(crate) fn check(&self, key: &Key) -> Result<(), AccessError> {
        let is_allowed = self.group.as_ref().is_none_or(|group| key.allows_group(group));
        if is_allowed { Ok(()) } else { Err(AccessError::GroupNotAllowed) }
    }

    pub(crate) fn matches(&self, event: &Event) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind))
            && self.group.as_ref().is_none_or(|group| event.group.as_ref() == Some(group))
    }

    fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let group = value_of(query, "groupId").map(group_of).transpose()?;
        let words = value_of(query, "types").unwrap_or("*").split(',').map(str::trim).collect::<Vec<_>>();
        if words.contains(&"*") {
            return Ok(Self { kinds: None, group });
        }
        let unknown = words.iter().find(|word| EventKind::from_word(word).is_none() && !EventKind::is_never_sent(word));
        if let Some(unknown) = unknown {
            return Err(ApiError::Query(format!(
                "types has {}, which is no kind of event: name kinds such as group.join,group.leave, or * for all",
                shorten(unknown)
            )));
        }
        Ok(Self { kinds: Some(words.into_iter().filter_map(EventKind::from_word).collect()), group })
    }
}

/// What a caller asks for.
pub(crate) struct AskedEvents<P = After> {
    /// `Last-Event-ID`, or else `after`.
    pub(crate) after: Option<P>,
    pub(crate) filter: EventFilter,
    /// Events of a page at most.
    pub(crate) limit: usize,
    /// The caller accepts `text/event-stream`.
    pub(crate) is_stream: bool,
}

impl IntoParams for AskedEvents {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let cursor = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^([0-9]{1,19}-)?[0-9]{1,19}$"));
        parameters(cursor, "a cursor as in `next`, or the sequence of an event")
    }
}

impl IntoParams for AskedEvents<String> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        parameters(ObjectBuilder::new().schema_type(Type::String), "the `next` of an earlier answer, as it was")
    }
}

fn parameters(cursor: ObjectBuilder, form: &str) -> Vec<Parameter> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let group = text().pattern(Some(r"^[0-9]+(-[0-9]+)?(@g\.us)?$"));
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    let after = format!(
        "Only events after this one: {form}. Without it, a page begins with the oldest event, and a stream with the next \
         one. The header `Last-Event-ID` goes before it"
    );
    let limit = "Events of a page, 1 to 1,000, 100 by default; a number beyond is taken as the nearest of these";
    vec![
        query_parameter("after", cursor, &after),
        query_parameter("types", text(), "Only events of these kinds, with commas between them; `*` for all"),
        query_parameter("groupId", group, "Only events of this group"),
        query_parameter("limit", number, limit),
    ]
}

/// A place as a caller writes it.
pub(crate) trait Place: Sized {
    /// `name`: the parameter or header that holds the text.
    fn parse(name: &str, text: &str) -> Result<Self, ApiError>;
}

impl Place for String {
    fn parse(_: &str, text: &str) -> Result<Self, ApiError> {
        Ok(text.to_owned())
    }
}

impl<S: Sync, P: Place> FromRequestParts<S> for AskedEvents<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = query(parts)?;
        let limit = number_of(&query, "limit", EVENTS_DEFAULT, 1..=EVENTS_MAX)?;
        // A browser that connects again by itself sends both, and the header is newer.
        let header = parts.headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
        let after = match (header, value_of(&query, "after")) {
            (Some(id), _) => Some(P::parse("Last-Event-ID", id.to_str().unwrap_or("text that is not ASCII"))?),
            (None, Some(text)) => Some(P::parse("after", text)?),
            (None, None) => None,
        };
        Ok(Self { after, filter: EventFilter::read(&query)?, limit, is_stream: accepts_stream(&parts.headers) })
    }
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let is_stream = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"));
        is_stream && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(types: &str) -> Result<EventFilter, String> {
        EventFilter::read(&[("types".to_owned(), types.to_owned())]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_anything_else_is_named() {
        for (text, epoch, number) in [("17-4", Some(17), 4), ("4", None, 4), ("0", None, 0)] {
            assert_eq!(After::parse("after", text).unwrap(), After { epoch, number });
        }
        assert_eq!(Cursor { epoch: 17, number: 4 }.to_string(), "17-4");
        for text in ["", "-", "4-", "-4", "a", "1-2-3", "+1", " 1", "99999999999999999999", "1.5", "1-x"] {
            let error = After::parse("after", text).unwrap_err().to_string();
            assert!(error.starts_with("after must be a cursor"), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_is_found_or_gone_or_not_there_yet() {
        let span = EventSpan { oldest: 5, latest: 9 };
        let within = |epoch, number| After { epoch, number }.within(7, span);
        for number in 4..=9 {
            assert_eq!(within(Some(7), number).unwrap(), number);
        }
        assert_eq!(within(None, 4).unwrap(), 4);
        for (epoch, number) in [(Some(7), 3), (None, 0), (Some(6), 8), (Some(8), 8), (Some(6), 100)] {
            let Err(ApiError::EventsGone { oldest }) = within(epoch, number) else { panic!("{epoch:?} {number}") };
            assert_eq!(oldest, "7-4");
        }
        assert!(matches!(within(None, 10), Err(ApiError::Query(_))));
        assert!(matches!(within(None, u64::MAX), Err(ApiError::Query(_))));
    }

    #[test]
    fn a_place_in_the_whole_log_is_hidden_and_found_again() {
        let (key, span) = (EventKey::generate().unwrap(), EventSpan { oldest: 5, latest: 9 });
        let place = |text: &str| all_place(text, &key, 7, span);
        let cursor = |epoch, position| all_cursor(&key, epoch, LogPlace { position, told: 3 });
        for position in 4..=9 {
            assert_eq!(place(&cursor(7, position)).unwrap(), LogPlace { position, told: 3 });
            assert_ne!(cursor(7, position), cursor(7, position), "it says nothing by itself");
        }
        for gone in [cursor(7, 3), cursor(6, 8), cursor(8, 8), cursor(7, 10)] {
            assert!(matches!(place(&gone), Err(ApiError::EventsGone { .. })));
        }
        let other = all_cursor(&EventKey::generate().unwrap(), 7, LogPlace { position: 8, told: 0 });
        for text in ["", "7-8", "zz", &other, &cursor(7, 8)[2..]] {
            assert!(matches!(place(text), Err(ApiError::Query(_))), "{text}");
        }
    }

    #[test]
    fn kinds_are_known_words_or_refused_by_name() {
        assert_eq!(filter("*").unwrap(), EventFilter::default());
        assert_eq!(filter("group.join,*").unwrap(), EventFilter::default());
        let kinds = filter("group.join, session.status,call.missed").unwrap().kinds.unwrap();
        assert_eq!(kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(), ["group.join", "session.status"]);
        assert_eq!(filter("call.missed").unwrap().kinds, Some(Vec::new()), "none of these ever comes");
        assert!(filter("group.dance").unwrap_err().contains("group.dance"));
        assert!(filter("").is_err());
    }
}
