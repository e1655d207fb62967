//! The requests that the transports of Socket.IO are made of: the start of one, the gets and posts of long polling, the change to a
//! websocket. No authorization layer is before them, as clients show their keys in their first message: `sockets/namespace.rs`
//! checks them. Until then, such a connection may be given away like one that waits for a body.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engineioxide::socket::Sid;
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use uuid::Uuid;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::BodyKind;
use crate::http::middleware::authorization::presented_key;
use crate::http::request::body;
use crate::http::request::context::RequestContext;
use crate::http::sockets::{Handshake, Reservation, Sockets};

/// Bytes of the nonce in a websocket's key (RFC 6455, section 4.1).
const NONCE_BYTES: usize = 16;

/// Answers a request of a transport.
pub(crate) async fn transport(
    State(app): State<Arc<App>>,
    Extension(sockets): Extension<Arc<Sockets>>,
    Extension(context): Extension<Arc<RequestContext>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    match carry(&app, &sockets, &context, parts, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn carry(
    app: &App,
    sockets: &Sockets,
    context: &RequestContext,
    mut parts: Parts,
    body: Body,
) -> Result<Response, ApiError> {
    if app.is_draining() {
        return Err(ApiError::Stopped { may_have_changed: false });
    }
    let (sid, is_websocket) = (value_of(&parts, "sid"), value_of(&parts, "transport") == Some("websocket"));
    let sid = sid.and_then(|sid| sid.parse::<Sid>().ok());
    if let Some(sid) = sid {
        sockets.check_address(sid, context.client)?;
    }
    if is_websocket {
        check_websocket(&parts)?;
    }
    if is_websocket
        && let Some(sid) = sid
        && !sockets.begins_upgrade(sid)
    {
        return Err(ApiError::Head("sid is not that of a transport that can become a websocket"));
    }
    note_client(sockets, context, sid, parts.method == Method::GET);
    let bytes = if parts.method == Method::POST {
        let mut room = app.body_rooms.room(Uuid::nil());
        body::receive(app, context, &parts.headers, body, BodyKind::Socket, &mut room).await?
    } else {
        Bytes::new()
    };
    let mut request = copy(&parts, Full::new(bytes));
    if sid.is_none() {
        let reservation = sockets.reserve(context.counted_address())?;
        request.extensions_mut().insert(Arc::new(handshake(context, &parts.headers, reservation)));
    }
    if let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() {
        request.extensions_mut().insert(upgrade);
    }
    let response = sockets.answer(request).await;
    note_client(sockets, context, sid, false);
    Ok(response)
}

/// The request with what the transports look at. They keep it for as long as they live: a copy, as the request itself keeps all
/// that was read of its connection.
fn copy(parts: &Parts, body: Full<Bytes>) -> axum::http::Request<Full<Bytes>> {
    let mut request = axum::http::Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.to_string().parse().unwrap_or_default();
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
    if let Some(key) = key.and_then(|key| HeaderValue::from_bytes(key.as_bytes()).ok()) {
        request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
    }
    request
}

/// Notes whose connection this is: a client's whose key was good, or, while it polls, one that may have to go for others.
fn note_client(sockets: &Sockets, context: &RequestContext, sid: Option<Sid>, polls: bool) {
    let Some(place) = context.place() else { return };
    if sid.is_some_and(|sid| sockets.is_open(sid)) {
        place.note_known();
    } else if polls {
        place.receives();
    }
}

fn handshake(context: &RequestContext, headers: &HeaderMap, reservation: Reservation) -> Handshake {
    Handshake {
        client: context.client,
        counted: context.counted_address(),
        key: presented_key(headers).map(Into::into),
        request_id: context.request_id.to_str().unwrap_or_default().to_owned(),
        reservation,
    }
}

/// Checks that a request asks for a websocket (RFC 6455, section 4.2.1).
///
/// # Errors
/// [`ApiError::Head`].
fn check_websocket(parts: &Parts) -> Result<(), ApiError> {
    let headers = &parts.headers;
    let has = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    let nonce = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| STANDARD.decode(key).ok());
    let is_asked = parts.version == Version::HTTP_11
        && has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
        && nonce.is_some_and(|nonce| nonce.len() == NONCE_BYTES);
    if is_asked {
        return Ok(());
    }
    Err(ApiError::Head(
        "a websocket has to be asked for by HTTP/1.1, with Connection: Upgrade, Upgrade: websocket, Sec-WebSocket-Version: 13 and \
         Sec-WebSocket-Key",
    ))
}

/// The value of a parameter as the transports read it: the first one, as it is, up to a second `=`.
fn value_of<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let mut pairs = parts.uri.query().unwrap_or_default().split('&').map(|pair| pair.split('='));
    pairs.find_map(|mut pair| (pair.next() == Some(name)).then(|| pair.next()).flatten())
}
