//! Small helpers to read and build stanzas. Holds no state.

use std::time::{SystemTime, UNIX_EPOCH};

use wacore_binary::builder::NodeBuilder;
use wacore_binary::node::NodeContent;
use wacore_binary::{Jid, Node, Server};

/// The server itself, as it appears in `from` and `to`.
pub(crate) fn server_jid() -> Jid {
    Jid::new("", Server::Pn)
}

/// Seconds since 1970, as in the `t` attribute.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

pub(crate) fn attr(node: &Node, key: &str) -> Option<String> {
    node.attrs.get(key).map(|value| value.as_str().into_owned())
}

pub(crate) fn jid_attr(node: &Node, key: &str) -> Option<Jid> {
    node.attrs.get(key).and_then(|value| value.to_jid())
}

pub(crate) fn children(node: &Node) -> &[Node] {
    node.children().unwrap_or(&[])
}

pub(crate) fn bytes(node: &Node) -> Vec<u8> {
    match &node.content {
        Some(NodeContent::Bytes(bytes)) => bytes.clone(),
        Some(NodeContent::String(text)) => text.as_bytes().to_vec(),
        _ => Vec::new(),
    }
}

pub(crate) fn child_bytes(node: &Node, tag: &str) -> Vec<u8> {
    node.get_optional_child(tag).map(bytes).unwrap_or_default()
}

pub(crate) fn text(node: &Node) -> String {
    String::from_utf8_lossy(&bytes(node)).into_owned()
}

pub(crate) fn empty(tag: &'static str) -> Node {
    NodeBuilder::new(tag).build()
}

pub(crate) fn leaf(tag: &'static str, content: impl Into<Vec<u8>>) -> Node {
    NodeBuilder::new(tag).bytes(content).build()
}

/// The answer to a request. Its `from` is the request's `to`.
pub(crate) fn iq_result(request: &Node, children: Vec<Node>) -> Node {
    let mut answer =
        NodeBuilder::new("iq").attr("from", jid_attr(request, "to").unwrap_or_else(server_jid)).attr("type", "result");
    if let Some(id) = attr(request, "id") {
        answer = answer.attr("id", id);
    }
    if !children.is_empty() {
        answer = answer.children(children);
    }
    answer.build()
}

/// A refusal. `backoff_s` is the server's advice when to retry.
pub(crate) fn iq_error(request: &Node, code: u16, backoff_s: Option<u32>) -> Node {
    let mut error = NodeBuilder::new("error").attr("code", code.to_string()).attr("text", error_text(code));
    if let Some(backoff_s) = backoff_s {
        error = error.attr("backoff", backoff_s.to_string());
    }
    let mut answer = iq_result(request, vec![error.build()]);
    answer.attrs.insert("type", "error");
    answer
}

/// The acknowledgement of a message, receipt or call; `error` refuses it.
pub(crate) fn ack(stanza: &Node, error: Option<u16>) -> Node {
    let mut ack = NodeBuilder::new("ack").attr("class", stanza.tag.to_string()).attr("t", now().to_string());
    for (theirs, ours) in [("id", "id"), ("to", "from"), ("type", "type"), ("participant", "participant")] {
        // A message's type is about its content; WhatsApp does not repeat it.
        if let Some(value) = stanza.attrs.get(theirs).filter(|_| theirs != "type" || stanza.tag != "message") {
            ack = ack.attr(ours, value.clone());
        }
    }
    match error {
        Some(code) => ack.attr("error", code.to_string()).build(),
        None => ack.build(),
    }
}

/// A refusal of a request or a message.
pub(crate) fn refusal(request: &Node, code: u16, backoff_s: Option<u32>) -> Node {
    match request.tag.as_ref() {
        "iq" => iq_error(request, code, backoff_s),
        _ => ack(request, Some(code)),
    }
}

/// The words that WhatsApp pairs with a code.
pub(crate) fn error_text(code: u16) -> &'static str {
    match code {
        400 => "bad-request",
        401 => "not-authorized",
        403 => "forbidden",
        404 => "item-not-found",
        405 => "not-allowed",
        406 => "not-acceptable",
        408 => "request-timeout",
        409 => "conflict",
        410 => "gone",
        419 => "resource-limit",
        429 => "rate-overlimit",
        452 => "feature-not-available",
        500 => "internal-server-error",
        501 => "feature-not-implemented",
        503 => "service-unavailable",
        _ => "error",
    }
}

/// A message of the server to a connection.
pub(crate) fn info(child: Node) -> Node {
    NodeBuilder::new("ib").attr("from", server_jid()).children([child]).build()
}

/// The stream ends because of a conflict: `replaced` or `device_removed`.
pub(crate) fn stream_conflict(kind: &'static str) -> Node {
    let conflict = NodeBuilder::new("conflict").attr("type", kind).build();
    let mut error = NodeBuilder::new("stream:error");
    if kind == "device_removed" {
        error = error.attr("code", "401");
    }
    error.children([conflict]).build()
}

pub(crate) fn stream_error(code: u16) -> Node {
    NodeBuilder::new("stream:error").attr("code", code.to_string()).build()
}

/// A login is refused, or ended, for a reason that is about the account.
pub(crate) fn failure(reason: u16) -> NodeBuilder {
    NodeBuilder::new("failure").attr("reason", reason.to_string()).attr("location", "sim")
}
