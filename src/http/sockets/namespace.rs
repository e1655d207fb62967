//! The namespace: lets clients in by their keys, answers their messages, and sees to it that nobody stays whose key ended. Never reads
//! events (`delivery.rs`).
//!
//! | a transport's client | may next be |
//! |---|---|
//! | a stranger: the transport is there, and nobody has connected | in the namespace; gone after [`CONNECT_TIME_MAX`], or for other strangers |
//! | in the namespace | leaving, when its key ends or it asks to; gone, when it is too slow, floods, or its transport ends |
//! | leaving: was told why | gone after [`LEAVE_TIME_MAX`] |

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use engineioxide::handler::EngineIoHandler;
use engineioxide::socket::{DisconnectReason, Sid, Socket};
use engineioxide::{Str, TransportType};
use rookery_model::{Event, Session, SessionId};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::client::{Client, Transport};
use super::message::{ALL_SESSIONS, Asked, Code, Content, EventMessage, Refused, Request, unknown_session};
use super::packet::{self, Auth, NAMESPACE, Packet};
use super::subscriptions::Kinds;
use super::table::{Pace, Table};
use super::{Handshake, UPGRADE_TIME_MAX};
use crate::app::App;
use crate::audit::{AuditEvent, Outcome};
use crate::auth::{Key, Refusal, Secret};
use crate::http::error::{AccessError, ApiError};
use crate::http::limits::KEY_CHARS_MAX;
use crate::http::middleware::authorization::find_session;

/// Time for a client to connect once its transport is there: a round trip.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Time for a client to end its transport once it was told that it has to go: a moment for the reason to arrive, and less than the
/// second after which nothing of a key that ended may be left.
const LEAVE_TIME_MAX: Duration = Duration::from_millis(700);
/// Time for all transports to end when the daemon stops.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
/// The action of a refused key in the audit log.
const CONNECT_ACTION: &str = "events_socket";

pub(super) struct Namespace {
    app: Weak<App>,
    table: Mutex<Table>,
    /// Nobody gets in any more.
    is_closed: AtomicBool,
    /// There is a client more, or something waits for one.
    pub(super) changed: Notify,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namespace(..)")
    }
}

impl EngineIoHandler for Namespace {
    /// Whether the transport tried to become a websocket.
    type Data = AtomicBool;

    fn on_connect(self: Arc<Self>, transport: Arc<Socket<AtomicBool>>) {
        let handshake = transport.req_parts.extensions.get::<Arc<Handshake>>();
        let Some(address) = handshake.map(|handshake| handshake.counted) else { return end(&transport) };
        let gone = self.table().add_stranger(Arc::clone(&transport), address);
        gone.iter().for_each(end);
        if self.is_closed.load(Ordering::Relaxed) {
            return end(&transport);
        }
        // Keeps no transport that ends before.
        let transport = Arc::downgrade(&transport);
        tokio::spawn(async move {
            sleep(CONNECT_TIME_MAX).await;
            if let Some(transport) = transport.upgrade().filter(|transport| self.table().is_stranger(transport.id)) {
                end(&transport);
            }
        });
    }

    fn on_disconnect(&self, transport: Arc<Socket<AtomicBool>>, _: DisconnectReason) {
        let mut table = self.table();
        table.remove_stranger(transport.id);
        table.remove(transport.id);
    }

    fn on_message(self: &Arc<Self>, text: Str, transport: Arc<Socket<AtomicBool>>) {
        match Packet::parse(&text) {
            Some(Packet::Connect { namespace, auth }) if namespace == NAMESPACE => self.connect(&transport, auth),
            Some(Packet::Connect { namespace, .. }) => {
                if self.table().is_stranger(transport.id) {
                    let _ = transport.emit(packet::refused(&namespace, "Invalid namespace"));
                }
            }
            Some(Packet::Event { namespace, ack, message }) if namespace == NAMESPACE => {
                self.hear(&transport, ack, Request::read(message));
            }
            Some(Packet::Disconnect { namespace }) if namespace == NAMESPACE => {
                let left = self.table().remove(transport.id);
                left.into_iter().for_each(leave);
            }
            // What means nothing here counts like any other message.
            Some(_) => self.hear(&transport, None, Request::read(None)),
            None => transport.close(DisconnectReason::PacketParsingError),
        }
    }

    fn on_binary(self: &Arc<Self>, _: Bytes, transport: Arc<Socket<AtomicBool>>) {
        transport.close(DisconnectReason::PacketParsingError);
    }
}

/// Ends a transport at once, so that its client comes again.
fn end(transport: &Transport) {
    transport.close(DisconnectReason::TransportClose);
}

/// Ends the transport of a client that was told to go, after a moment in which the client may do so.
async fn end_soon(transport: Transport) {
    let _ = tokio::time::timeout(LEAVE_TIME_MAX, transport.closed()).await;
    end(&transport);
}

/// As [`end_soon`]. The client keeps its permits until then.
fn leave(client: Client) {
    tokio::spawn(async move {
        end_soon(Arc::clone(&client.transport)).await;
        drop(client);
    });
}

impl Namespace {
    pub(super) fn new(app: Weak<App>) -> Self {
        Self { app, table: Mutex::default(), is_closed: AtomicBool::new(false), changed: Notify::new() }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self, transport: Sid) -> bool {
        self.table().client(transport).is_some()
    }

    /// As [`super::Sockets::begins_upgrade`].
    pub(super) fn begins_upgrade(self: &Arc<Self>, transport: Sid) -> bool {
        let transport = self.table().transport(transport);
        let Some(transport) = transport.filter(|transport| !transport.data.swap(true, Ordering::Relaxed)) else {
            return false;
        };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(UPGRADE_TIME_MAX, transport.closed()).await;
            if transport.transport_type() == TransportType::Polling {
                end(&transport);
            }
        });
        true
    }

    /// A client connects: it gets in first and is told then if it may not stay, as OpenWA's clients expect it.
    fn connect(&self, transport: &Transport, auth: Option<Value>) {
        if !self.table().remove_stranger(transport.id) {
            return;
        }
        let (app, handshake) = (self.app.upgrade(), transport.req_parts.extensions.get::<Arc<Handshake>>());
        let (Some(app), Some(handshake)) = (app, handshake) else { return end(transport) };
        let _ = transport.emit(packet::connected(&Uuid::new_v4().simple().to_string()));
        if let Err(refused) = self.enter(&app, transport, handshake, auth) {
            tell_off(transport, refused);
            tokio::spawn(end_soon(Arc::clone(transport)));
        }
    }

    fn enter(
        &self,
        app: &App,
        transport: &Transport,
        handshake: &Handshake,
        auth: Option<Value>,
    ) -> Result<(), Refused> {
        let auth = auth.and_then(|auth| serde_json::from_value::<Auth>(auth).ok()).unwrap_or_default();
        let presented = auth.api_key.map(|key| key.trim().into()).or_else(|| handshake.key.clone());
        let Some(secret) = presented.filter(|secret: &Secret| !secret.reveal().is_empty()) else {
            return Err(Refused::new(Code::Unauthorized, "API key required"));
        };
        let checked = match secret.reveal().len() {
            0..=KEY_CHARS_MAX => app.keys.check(secret.reveal(), handshake.client),
            _ => Err(Refusal::Invalid),
        };
        let key = checked.map_err(|refusal| {
            let known = app.keys.known(secret.reveal());
            match app.failed_logins.note(handshake.counted) {
                Ok(()) => {
                    note_refusal(app, handshake, known.as_deref(), AccessError::KeyRefused(refusal));
                    Refused::new(Code::Unauthorized, "Authentication failed")
                }
                Err(retry_after_s) => {
                    let error = AccessError::TooManyFailedLogins { retry_after_s };
                    note_refusal(app, handshake, known.as_deref(), error);
                    error.into()
                }
            }
        })?;
        // Connecting counts like a request.
        let _in_flight = key.admit().1.map_err(AccessError::Throttled)?;
        let permits = app.admit_stream(&key)?;
        let client = Client::new(Arc::clone(transport), key, secret, handshake.client, permits);
        let mut table = self.table();
        table.add(client)?;
        // A transport that ended meanwhile was told of before the client was there.
        if transport.is_closed() || self.is_closed.load(Ordering::Relaxed) {
            table.remove(transport.id);
            end(transport);
        }
        drop(table);
        self.changed.notify_one();
        Ok(())
    }

    /// A client says something. It gets a reply if it asks for one.
    fn hear(&self, transport: &Transport, ack: Option<u64>, Request { asked, id }: Request) {
        let Some(app) = self.app.upgrade() else { return };
        let mut table = self.table();
        let content = match table.count(transport.id) {
            None => return,
            Some(Pace::Flood) => {
                table.remove(transport.id);
                drop(table);
                return end(transport);
            }
            Some(Pace::TooFast) => Refused::new(Code::RateLimited, "Frame rate limit exceeded, slow down").into(),
            Some(Pace::Allowed) => answer(&app, &mut table, transport.id, asked).unwrap_or_else(Content::from),
        };
        let Some(ack) = ack else { return };
        let sent = table.send(transport.id, packet::reply(ack, &content.reply(id)).into());
        let is_behind = table.is_behind();
        drop(table);
        match sent {
            Ok(()) if is_behind => self.changed.notify_one(),
            Ok(()) => {}
            Err(_) => {
                self.table().remove(transport.id);
                end(transport);
            }
        }
    }

    /// Looks at the keys of all clients again, or only at those that end by themselves. Clients whose key ended have to leave.
    pub(super) fn check_keys(&self, app: &App, only_ending: bool) {
        let mut table = self.table();
        let mut ended = Vec::new();
        for client in table.clients().filter(|client| !only_ending || client.key.ends_by_itself()) {
            match app.keys.check_again(client.secret.reveal(), client.address) {
                Ok(key) => client.key = key,
                Err(_) => ended.push(client.transport.id),
            }
        }
        let ended: Vec<_> = ended.into_iter().filter_map(|sid| table.remove(sid)).collect();
        drop(table);
        for client in ended {
            tell_off(&client.transport, Refused::new(Code::Unauthorized, "API key is no longer valid"));
            leave(client);
        }
    }

    /// Whether the key of some client ends by itself.
    pub(super) fn has_ending_keys(&self) -> bool {
        self.table().clients().any(|client| client.key.ends_by_itself())
    }

    /// Sends an event with this data to all who want it and may have it.
    pub(super) fn publish(&self, event: &Event, session: &Session, data: &Map<String, Value>) {
        let text = packet::message(&EventMessage::of(event, data)).into();
        let slow = self.table().publish(event, session, &text);
        slow.iter().for_each(end);
    }

    /// Sends of what waits as much as the clients take. Returns whether something still waits.
    pub(super) fn flush(&self) -> bool {
        let mut table = self.table();
        let slow = table.flush();
        let is_behind = table.is_behind();
        drop(table);
        slow.iter().for_each(end);
        is_behind
    }

    /// Ends all transports, and those that still come. Waits for a limited time until they are gone.
    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let transports = self.table().transports();
        transports.iter().for_each(|transport| transport.close(DisconnectReason::ClosingServer));
        let deadline = Instant::now() + CLOSE_TIME_MAX;
        for transport in transports {
            let _ = tokio::time::timeout_at(deadline, transport.closed()).await;
        }
    }
}

/// The reply to what a client asks for.
fn answer(app: &App, table: &mut Table, client: Sid, asked: Asked) -> Result<Content, Refused> {
    match asked {
        Asked::Ping => Ok(Content::Pong),
        Asked::Other => Err(Refused::new(Code::InvalidMessage, "Unknown message type: subscribe, unsubscribe or ping")),
        Asked::Subscribe { session, events } => {
            let named = session.ok_or_else(|| unknown_session(None))?;
            let session = session_to_see(app, table, client, &named)?;
            let (kinds, events) = Kinds::read(events.as_deref())?;
            table.subscribe(client, session, kinds)?;
            Ok(Content::Subscribed { session_id: named, events })
        }
        Asked::Unsubscribe { session } => {
            let named = session.ok_or_else(|| unknown_session(None))?;
            // Also of a session that is gone, and of one that the key may not see any more.
            let session = match named.as_str() {
                ALL_SESSIONS => None,
                id => Some(named_session(app, id).ok_or_else(|| unknown_session(Some(id)))?),
            };
            table.unsubscribe(client, session);
            Ok(Content::Unsubscribed { session_id: named })
        }
    }
}

/// The session that a client named, or `None` for all, if its key may see that at this moment.
fn session_to_see(app: &App, table: &mut Table, client: Sid, named: &str) -> Result<Option<SessionId>, Refused> {
    let client = table.client(client).ok_or_else(|| unknown_session(Some(named)))?;
    let key = app.keys.check_again(client.secret.reveal(), client.address).map_err(AccessError::KeyRefused)?;
    client.key = Arc::clone(&key);
    if named != ALL_SESSIONS {
        return Ok(Some(find_session(app, &key, named)?.id));
    }
    if key.is_limited() {
        let message = "An API key that is limited to sessions or groups may not subscribe to *: name a session";
        return Err(Refused::new(Code::ForbiddenSession, message));
    }
    Ok(None)
}

fn named_session(app: &App, named: &str) -> Option<SessionId> {
    app.gateway.find(named).ok().or_else(|| Uuid::try_parse(named).ok().map(SessionId))
}

/// Tells a client why it has to leave, and that it left.
fn tell_off(transport: &Transport, refused: Refused) {
    let _ = transport.emit(packet::message(&Content::from(refused).reply(None)));
    let _ = transport.emit(packet::disconnected());
}

/// Records in the audit log that a key was refused.
fn note_refusal(app: &App, handshake: &Handshake, known: Option<&Key>, error: AccessError) {
    let (status_code, code) = ApiError::from(error).status_and_code();
    app.audit.note_unchanged(AuditEvent {
        api_key_id: known.map(Key::id),
        api_key_name: known.map(|key| key.record().terms.name.clone()),
        request_id: handshake.request_id.clone(),
        ip_address: handshake.client,
        status_code,
        code: Some(code.to_owned()),
        ..AuditEvent::of(CONNECT_ACTION.into(), Outcome::Refused)
    });
}
