//! The packets of Socket.IO in its protocol 5 (github.com/socketio/socket.io-protocol), as texts of Engine.IO messages: only what a
//! client of one namespace with texts and objects needs, so no binary attachments. Never sends anything.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The one namespace.
pub(super) const NAMESPACE: &str = "/events";
/// The name of every event in it, in both directions.
const EVENT_NAME: &str = "message";

const CONNECT: char = '0';
const DISCONNECT: char = '1';
const EVENT: char = '2';
const ACK: char = '3';
const CONNECT_ERROR: char = '4';

/// A packet of a client.
#[derive(Debug, PartialEq)]
pub(super) enum Packet {
    /// The client wants into a namespace.
    Connect { namespace: String, auth: Option<Value> },
    /// The client leaves a namespace.
    Disconnect { namespace: String },
    /// The client says something in a namespace.
    Event { namespace: String, ack: Option<u64>, message: Option<Value> },
    /// The client acknowledges an event. None of ours asks for that.
    Ack,
}

impl Packet {
    /// The packet in a text; `None`: it is none, or one with binary attachments.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut characters = text.chars();
        let (kind, rest) = (characters.next()?, characters.as_str());
        let (namespace, rest) = match rest.starts_with('/') {
            true => rest.split_once(',').unwrap_or((rest, "")),
            false => ("/", rest),
        };
        let namespace = namespace.to_owned();
        let digits = rest.len() - rest.trim_start_matches(|character: char| character.is_ascii_digit()).len();
        let (ack, data) = rest.split_at(digits);
        let ack = if ack.is_empty() { None } else { Some(ack.parse().ok()?) };
        let data = if data.is_empty() { None } else { Some(serde_json::from_str::<Value>(data).ok()?) };
        match (kind, data) {
            (CONNECT, auth) if ack.is_none() => Some(Self::Connect { namespace, auth }),
            (DISCONNECT, None) if ack.is_none() => Some(Self::Disconnect { namespace }),
            (EVENT, Some(Value::Array(arguments))) => {
                let mut arguments = arguments.into_iter();
                let name = arguments.next().filter(|name| name.is_string() || name.is_number())?;
                let message = arguments.next().filter(|_| name == EVENT_NAME);
                Some(Self::Event { namespace, ack, message })
            }
            (ACK, Some(Value::Array(_))) if ack.is_some() => Some(Self::Ack),
            _ => None,
        }
    }
}

/// What a client presents when it connects.
#[derive(Default, Deserialize)]
pub(super) struct Auth {
    #[serde(default, rename = "apiKey")]
    pub(super) api_key: Option<String>,
}

/// The client is in the namespace, where it has this id.
pub(super) fn connected(id: &str) -> String {
    format!("{CONNECT}{NAMESPACE},{}", json!({ "sid": id }))
}

/// The client may not into a namespace.
pub(super) fn refused(namespace: &str, why: &str) -> String {
    let name = if namespace == "/" { String::new() } else { format!("{namespace},") };
    format!("{CONNECT_ERROR}{name}{}", json!({ "message": why }))
}

/// The client is not in the namespace any more.
pub(super) fn disconnected() -> String {
    format!("{DISCONNECT}{NAMESPACE},")
}

/// The daemon says something.
pub(super) fn message(content: &impl Serialize) -> String {
    let content = serde_json::to_string(content).unwrap_or_default();
    format!("{EVENT}{NAMESPACE},[\"{EVENT_NAME}\",{content}]")
}

/// The reply to the event with this number.
pub(super) fn reply(ack: u64, content: &impl Serialize) -> String {
    let content = serde_json::to_string(content).unwrap_or_default();
    format!("{ACK}{NAMESPACE},{ack}[{content}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(namespace: &str, ack: Option<u64>, message: Option<Value>) -> Option<Packet> {
        Some(Packet::Event { namespace: namespace.into(), ack, message })
    }

    #[test]
    fn packets_are_read_as_the_protocol_has_them() {
        let connect = |namespace: &str, auth| Some(Packet::Connect { namespace: namespace.into(), auth });
        let cases = [
            ("0", connect("/", None)),
            ("0/events,", connect("/events", None)),
            ("0/events", connect("/events", None)),
            (r#"0/events,{"apiKey":"a,b"}"#, connect("/events", Some(json!({"apiKey": "a,b"})))),
            ("1/events,", Some(Packet::Disconnect { namespace: "/events".into() })),
            (r#"2/events,7["message",{"type":"ping"}]"#, event("/events", Some(7), Some(json!({"type": "ping"})))),
            (r#"2/events,["message",{"type":"ping"}]"#, event("/events", None, Some(json!({"type": "ping"})))),
            (r#"2["message",null]"#, event("/", None, Some(Value::Null))),
            (r#"2/events,0["message"]"#, event("/events", Some(0), None)),
            (r#"2/events,1["other",{}]"#, event("/events", Some(1), None)),
            ("3/events,7[]", Some(Packet::Ack)),
        ];
        for (text, expected) in cases {
            assert_eq!(Packet::parse(text), expected, "{text}");
        }
        let others = [
            "",
            "/",
            "9",
            "0/events,{",
            "2",
            "2/events,",
            "2/events,{}",
            "2/events,[]",
            "2/events,[{}]",
            "3/events,[]",
            "51-/events,[\"message\",{\"_placeholder\":true,\"num\":0}]",
            "4/events,{}",
            "2/events,99999999999999999999[\"a\"]",
            "1/events,{}",
            "0/events,1{}",
            "é",
        ];
        for text in others {
            assert_eq!(Packet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn packets_are_written_as_the_protocol_has_them() {
        assert_eq!(connected("a1"), r#"0/events,{"sid":"a1"}"#);
        assert_eq!(refused("/", "no"), r#"4{"message":"no"}"#);
        assert_eq!(refused("/other", "no"), r#"4/other,{"message":"no"}"#);
        assert_eq!(disconnected(), "1/events,");
        assert_eq!(message(&json!({"type": "event"})), r#"2/events,["message",{"type":"event"}]"#);
        assert_eq!(reply(12, &json!({"type": "pong"})), r#"3/events,12[{"type":"pong"}]"#);
    }
}
