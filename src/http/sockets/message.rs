//! What clients and the daemon say to each other in the namespace (contract, section 5). Knows no packets.

use rookery_model::{Event, SessionId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::http::error::{AccessError, ApiError};
use crate::http::request::event_filter::Cursor;
use crate::http::request::written::shorten;

/// The session of a subscription to all of them.
pub(super) const ALL_SESSIONS: &str = "*";

/// A message of a client.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) asked: Asked,
    /// The client's own name for the message, which the reply repeats.
    pub(super) id: Option<Value>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    Subscribe {
        /// As the client wrote it; `None`: it is no text.
        session: Option<String>,
        /// The words of events; `None`: it is no list.
        events: Option<Vec<Value>>,
    },
    Unsubscribe {
        session: Option<String>,
    },
    Ping,
    /// None of these.
    Other,
}

impl Request {
    /// Reads the message of an event named `message`. `message` is `None` where the event has another name, or no message.
    pub(super) fn read(message: Option<Value>) -> Self {
        let Some(Value::Object(mut fields)) = message else { return Self { asked: Asked::Other, id: None } };
        let id = fields.remove("requestId").filter(|id| id.is_string() || id.is_number());
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let asked = match text("type").as_deref() {
            Some("subscribe") => {
                let session = text("sessionId");
                let events = match fields.remove("events") {
                    Some(Value::Array(events)) => Some(events),
                    _ => None,
                };
                Asked::Subscribe { session, events }
            }
            Some("unsubscribe") => Asked::Unsubscribe { session: text("sessionId") },
            Some("ping") => Asked::Ping,
            _ => Asked::Other,
        };
        Self { asked, id }
    }
}

/// A reply to a message of a client, in the acknowledgement.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reply {
    #[serde(flatten)]
    pub(super) content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<Value>,
    pub(super) timestamp: Timestamp,
}

/// The content of a reply.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Content {
    /// `events`: the words that are known, each once.
    Subscribed {
        session_id: String,
        events: Vec<String>,
    },
    Unsubscribed {
        session_id: String,
    },
    Pong,
    Error {
        code: Code,
        message: String,
    },
}

/// The codes of errors.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    Unauthorized,
    ForbiddenSession,
    InvalidSession,
    InvalidEvents,
    InvalidMessage,
    RateLimited,
    /// The client names more sessions than it may. Beyond the contract; OpenWA has it.
    TooManySubscriptions,
    /// The key sees none of the events that were asked for. Beyond the contract; OpenWA has it.
    ForbiddenEvents,
}

/// Why a client gets an error.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<AccessError> for Refused {
    fn from(error: AccessError) -> Self {
        let code = match error {
            AccessError::KeyMissing | AccessError::KeyRefused(_) => Code::Unauthorized,
            AccessError::TooManyFailedLogins { .. }
            | AccessError::Throttled(_)
            | AccessError::TooManyStreams
            | AccessError::NoStreamLeft => Code::RateLimited,
            _ => Code::ForbiddenSession,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Access(error) => error.into(),
            error => Self::new(Code::InvalidSession, error.to_string()),
        }
    }
}

impl Content {
    /// As the client gets it now.
    pub(super) fn reply(self, request_id: Option<Value>) -> Reply {
        Reply { content: self, request_id, timestamp: Timestamp::now() }
    }
}

impl From<Refused> for Content {
    fn from(Refused { code, message }: Refused) -> Self {
        Self::Error { code, message }
    }
}

/// Something that happened, as clients get it.
#[derive(Serialize)]
pub(super) struct EventMessage<'a> {
    r#type: &'static str,
    payload: EventPayload<'a>,
    timestamp: Timestamp,
    /// The event's id, as in the log: the same after a restore, unlike the cursor.
    id: Uuid,
    /// Where the session's log goes on behind this event, as for `after` there.
    cursor: Cursor,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventPayload<'a> {
    event: &'static str,
    session_id: SessionId,
    data: &'a Map<String, Value>,
}

impl<'a> EventMessage<'a> {
    pub(super) fn of(event: &Event, epoch: u64, data: &'a Map<String, Value>) -> Self {
        let payload = EventPayload { event: event.kind.as_str(), session_id: event.session, data };
        Self {
            r#type: "event",
            payload,
            timestamp: event.occurred_at,
            id: event.id,
            cursor: Cursor { epoch, number: event.number },
        }
    }
}

/// The text of an error about a session that is not there, or is none.
pub(super) fn unknown_session(session: Option<&str>) -> Refused {
    let message = session.map_or_else(
        || "sessionId is required: the id or the name of a session, or \"*\" for all".to_owned(),
        |session| format!("Session with id '{}' not found", shorten(session)),
    );
    Refused::new(Code::InvalidSession, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_clients_write_is_read_or_called_other() {
        let subscribe =
            |session: Option<&str>, events| Asked::Subscribe { session: session.map(str::to_owned), events };
        let cases = [
            (json!({"type": "ping"}), Asked::Ping),
            (
                json!({"type": "subscribe", "sessionId": "a", "events": ["*"]}),
                subscribe(Some("a"), Some(vec!["*".into()])),
            ),
            (json!({"type": "subscribe", "sessionId": 7, "events": "*"}), subscribe(None, None)),
            (json!({"type": "subscribe", "sessionId": ""}), subscribe(None, None)),
            (json!({"type": "unsubscribe", "sessionId": "a"}), Asked::Unsubscribe { session: Some("a".into()) }),
            (json!({"type": "Ping"}), Asked::Other),
            (json!({}), Asked::Other),
            (json!("ping"), Asked::Other),
            (Value::Null, Asked::Other),
        ];
        for (message, asked) in cases {
            assert_eq!(Request::read(Some(message.clone())), Request { asked, id: None }, "{message}");
        }
        assert_eq!(Request::read(None).asked, Asked::Other);
        let with_id = |id: Value| Request::read(Some(json!({"type": "ping", "requestId": id}))).id;
        assert_eq!(with_id("r1".into()), Some("r1".into()));
        assert_eq!(with_id(json!({"a": 1})), None);
    }

    #[test]
    fn replies_have_the_fields_of_the_contract() {
        let at = Timestamp(0);
        let cases = [
            (
                Content::Subscribed { session_id: "a".into(), events: vec!["*".into()] },
                json!({"type": "subscribed", "sessionId": "a", "events": ["*"], "requestId": "r1"}),
            ),
            (
                Content::Unsubscribed { session_id: "a".into() },
                json!({"type": "unsubscribed", "sessionId": "a", "requestId": "r1"}),
            ),
            (Content::Pong, json!({"type": "pong", "requestId": "r1"})),
            (
                Refused::new(Code::InvalidEvents, "no").into(),
                json!({"type": "error", "code": "INVALID_EVENTS", "message": "no", "requestId": "r1"}),
            ),
        ];
        for (content, mut expected) in cases {
            expected["timestamp"] = "1970-01-01T00:00:00.000Z".into();
            let reply = Reply { content, request_id: Some("r1".into()), timestamp: at };
            assert_eq!(serde_json::to_value(reply).unwrap(), expected);
        }
    }
}
