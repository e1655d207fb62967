//! The namespace: lets clients in by their keys, answers their messages, and sees to it that nobody stays whose key ended. Never reads
//! events (`delivery.rs`).
//!
//! | a transport's client | may next be |
//! |---|---|
//! | a stranger: it has a [`Reservation`], and has not connected | in the namespace; gone after a while, or for another stranger (`strangers.rs`) |
//! | in the namespace | leaving, when its key ends or it asks to; gone, when it is too slow, floods, or its transport ends |
//! | leaving: was told why | gone after [`LEAVE_TIME_MAX`] |

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use engineioxide::handler::EngineIoHandler;
use engineioxide::socket::{DisconnectReason, Sid, Socket};
use engineioxide::{Str, TransportType};
use rookery_model::Session;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::Handshake;
use super::answer::answer;
use super::client::{Client, Placed, TooSlow, Transport};
use super::message::{Code, Content, EventMessage, Refused, Request};
use super::packet::{self, Auth, NAMESPACE, Packet};
use super::strangers::StrangerMay;
use super::table::{Allowance, Table};
use crate::app::App;
use crate::audit::{AuditEvent, Outcome};
use crate::auth::{Key, Refusal, Secret};
use crate::http::error::{AccessError, ApiError};
use crate::http::limits::{ECHO_CHARS_MAX, SOCKET_MESSAGE_BYTES_MAX};
use crate::http::middleware::authorization::check_key;

/// Time for a client to end its transport once it was told that it has to go: a moment for the reason to arrive, and less than the
/// second after which nothing of a key that ended may be left.
const LEAVE_TIME_MAX: Duration = Duration::from_millis(400);
/// Time for all transports to end when the daemon stops.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
const TOO_FAST: &str = "Too many messages with this API key: 60 a second, and 120 at once after a pause, are answered";
/// The action of a refused key in the audit log.
const CONNECT_ACTION: &str = "events_socket";

pub(super) struct Namespace {
    app: Weak<App>,
    table: Mutex<Table>,
    /// Nobody gets in any more.
    is_closed: AtomicBool,
    /// There is a transport or a client more.
    pub(super) arrived: Notify,
    /// Something waits for a client.
    pub(super) fell_behind: Notify,
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
        let place = place_of(&transport);
        let is_there = place.is_some_and(|place| self.table().strangers.arrive(place, &transport));
        if !is_there || self.is_closed.load(Ordering::Relaxed) {
            return end(&transport);
        }
        self.arrived.notify_one();
    }

    fn on_disconnect(&self, transport: Arc<Socket<AtomicBool>>, _: DisconnectReason) {
        let mut table = self.table();
        if let Some(place) = place_of(&transport) {
            table.strangers.give_back(place);
        }
        table.remove(transport.id);
    }

    fn on_message(self: &Arc<Self>, text: Str, transport: Arc<Socket<AtomicBool>>) {
        if !self.is_open(transport.id) {
            return self.hear_stranger(&transport, &text);
        }
        if text.len() > SOCKET_MESSAGE_BYTES_MAX {
            return self.cannot_read(&transport);
        }
        match Packet::parse(&text) {
            Some(Packet::Event { namespace, ack, message }) if namespace == NAMESPACE => {
                self.hear(&transport, ack, Request::read(message));
            }
            Some(Packet::Disconnect { namespace }) if namespace == NAMESPACE => {
                let left = self.table().remove(transport.id);
                left.into_iter().for_each(leave);
            }
            // What means nothing here counts like any other message.
            Some(_) => self.hear(&transport, None, Request::read(None)),
            None => self.cannot_read(&transport),
        }
    }

    fn on_binary(self: &Arc<Self>, _: Bytes, transport: Arc<Socket<AtomicBool>>) {
        if self.is_open(transport.id) {
            self.cannot_read(&transport);
        } else {
            self.hear_stranger(&transport, "");
        }
    }
}

/// The place of a stranger, for as long as it exists.
#[derive(Debug)]
pub(crate) struct Reservation {
    namespace: Weak<Namespace>,
    number: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.upgrade() {
            namespace.table().strangers.give_back(self.number);
        }
    }
}

fn handshake_of(transport: &Transport) -> Option<&Arc<Handshake>> {
    transport.req_parts.extensions.get()
}

fn place_of(transport: &Transport) -> Option<u64> {
    Some(handshake_of(transport)?.reservation.number)
}

/// Ends a transport at once, so that its client comes again.
fn end(transport: &Transport) {
    transport.close(DisconnectReason::TransportClose);
}

/// Ends the transport of a client that was told to go, after a moment in which the client may do so.
async fn end_soon(transport: &Transport) {
    let _ = tokio::time::timeout(LEAVE_TIME_MAX, transport.closed()).await;
    end(transport);
}

/// As [`end_soon`]. The client keeps its permits until the transport has ended.
fn leave(client: Client) {
    tokio::spawn(async move {
        end_soon(&client.transport).await;
        client.transport.closed().await;
    });
}

/// Ends the transport of a client that is none any more. It keeps its permits until the transport has ended.
fn dismiss(client: Client) {
    end(&client.transport);
    tokio::spawn(async move { client.transport.closed().await });
}

impl Namespace {
    pub(super) fn new(app: Weak<App>) -> Self {
        Self {
            app,
            table: Mutex::default(),
            is_closed: AtomicBool::new(false),
            arrived: Notify::new(),
            fell_behind: Notify::new(),
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self, transport: Sid) -> bool {
        self.table().client(transport).is_some()
    }

    /// As [`super::Sockets::begins_upgrade`].
    pub(super) fn begins_upgrade(&self, transport: Sid) -> bool {
        let transport = self.table().transport(transport);
        let transport = transport.filter(|transport| transport.transport_type() == TransportType::Polling);
        transport.is_some_and(|transport| !transport.data.swap(true, Ordering::Relaxed))
    }

    /// The client of a transport that is not in the namespace says something: it wants in.
    fn hear_stranger(&self, transport: &Transport, text: &str) {
        let packet = Packet::parse(text);
        let wants_in = matches!(&packet, Some(Packet::Connect { namespace, .. }) if namespace == NAMESPACE);
        let may = self.table().strangers.count(place_of(transport), wants_in);
        match (may, packet) {
            (StrangerMay::Connect, Some(Packet::Connect { auth, .. })) if wants_in => self.connect(transport, auth),
            // What is said to strangers has room in the system's buffer, also when they do not read.
            (StrangerMay::Connect, Some(Packet::Connect { namespace, .. })) if namespace.len() <= ECHO_CHARS_MAX => {
                let _ = transport.emit(packet::refused(&namespace, "Invalid namespace"));
            }
            (StrangerMay::Connect, _) | (StrangerMay::Go, _) => end(transport),
            (StrangerMay::Nothing, _) => {}
        }
    }

    /// A client connects: it gets in first and is told then if it may not stay, as OpenWA's clients expect it.
    fn connect(&self, transport: &Transport, auth: Option<Value>) {
        let (Some(app), Some(handshake)) = (self.app.upgrade(), handshake_of(transport)) else { return end(transport) };
        let _ = transport.emit(packet::connected(&Uuid::new_v4().simple().to_string()));
        if let Err(refused) = self.enter(&app, transport, handshake, auth) {
            say_why(transport, refused);
            let transport = Arc::clone(transport);
            tokio::spawn(async move { end_soon(&transport).await });
        }
    }

    /// A client sent what is no message, is too long, or has binary data. It comes again, as after a lost connection.
    fn cannot_read(&self, transport: &Transport) {
        let Some(client) = self.table().remove(transport.id) else { return };
        let message = format!(
            "A message must be a Socket.IO packet of {SOCKET_MESSAGE_BYTES_MAX} bytes at most, without binary data"
        );
        let refused = Content::from(Refused::new(Code::InvalidMessage, message));
        let _ = transport.emit(packet::message(&refused.reply(None)));
        leave(client);
    }

    pub(super) fn reserve(self: &Arc<Self>, address: IpAddr) -> Result<Reservation, AccessError> {
        let (number, gone) = self.table().strangers.reserve(address, std::time::Instant::now())?;
        gone.iter().for_each(end);
        Ok(Reservation { namespace: Arc::downgrade(self), number })
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
        let checked = check_key(app, secret.reveal(), handshake.client, handshake.counted).and_then(|key| {
            let others = self.table().strangers.other_addresses(handshake.reservation.number);
            let is_allowed = others.into_iter().all(|address| key.allows_address(address));
            if is_allowed { Ok(key) } else { Err(AccessError::KeyRefused(Refusal::Address)) }
        });
        let key = checked.map_err(|error| {
            note_refusal(app, handshake, app.keys.known(secret.reveal()).as_deref(), error);
            match error {
                // OpenWA's text, which says no more than this.
                AccessError::KeyRefused(_) => Refused::new(Code::Unauthorized, "Authentication failed"),
                error => error.into(),
            }
        })?;
        // Connecting counts like a request.
        let _in_flight = key.admit().1.map_err(AccessError::Throttled)?;
        // Whoever is refused from now on is no stranger, and no more than the key's rate.
        self.table().strangers.give_back(handshake.reservation.number);
        let permit = app.admit_stream(&key)?;
        let client = Client::new(Arc::clone(transport), key, secret, handshake.client, permit);
        let mut table = self.table();
        table.add(client)?;
        // A transport that ended meanwhile was told of before the client was there.
        if transport.is_closed() || self.is_closed.load(Ordering::Relaxed) {
            table.remove(transport.id);
            end(transport);
        }
        drop(table);
        self.arrived.notify_one();
        Ok(())
    }

    /// A client says something. It gets a reply if it asks for one.
    fn hear(&self, transport: &Transport, ack: Option<u64>, Request { asked, id }: Request) {
        let Some(app) = self.app.upgrade() else { return };
        let mut table = self.table();
        let content = match table.count(transport.id) {
            None => return,
            Some(Allowance::Flood) => {
                let client = table.remove(transport.id);
                drop(table);
                return client.into_iter().for_each(dismiss);
            }
            Some(Allowance::TooFast) => Refused::new(Code::RateLimited, TOO_FAST).into(),
            Some(Allowance::Allowed) => answer(&app, &mut table, transport.id, asked).unwrap_or_else(Content::from),
        };
        let Some(ack) = ack else { return };
        let sent = table.send(transport.id, packet::reply(ack, &content.reply(id)).into());
        let slow = sent.err().and_then(|TooSlow| table.remove(transport.id));
        let is_behind = table.is_behind();
        drop(table);
        slow.into_iter().for_each(dismiss);
        if is_behind {
            self.fell_behind.notify_one();
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
            say_why(&client.transport, Refused::new(Code::Unauthorized, "API key is no longer valid"));
            leave(client);
        }
    }

    /// Ends the subscriptions to sessions that are gone, and tells who had them.
    pub(super) fn end_subscriptions(&self, app: &App) {
        let mut table = self.table();
        let ended = table.end_subscriptions(|session| app.gateway.session(session).is_ok());
        let mut slow = Vec::new();
        for (sid, session) in ended {
            let content = Content::Unsubscribed { session_id: session.to_string() };
            let sent = table.send(sid, packet::message(&content.reply(None)).into());
            slow.extend(sent.err().and_then(|TooSlow| table.remove(sid)));
        }
        let is_behind = table.is_behind();
        drop(table);
        slow.into_iter().for_each(dismiss);
        if is_behind {
            self.fell_behind.notify_one();
        }
    }

    /// As [`super::Sockets::check_address`].
    pub(super) fn check_address(&self, transport: Sid, address: Option<IpAddr>) -> Result<(), AccessError> {
        let mut table = self.table();
        if let Some(client) = table.client(transport) {
            let is_allowed = client.key.allows_address(address);
            return if is_allowed { Ok(()) } else { Err(AccessError::KeyRefused(Refusal::Address)) };
        }
        let Some(transport) = table.transport(transport) else { return Ok(()) };
        match handshake_of(&transport) {
            Some(first) if first.client == address => Ok(()),
            // A key that came with the first request is for nobody else.
            Some(first) if first.key.is_some() => Err(AccessError::KeyRefused(Refusal::Address)),
            Some(first) => table.strangers.note_address(first.reservation.number, address),
            None => Ok(()),
        }
    }

    /// Ends the transports whose clients had time enough to connect.
    pub(super) fn end_late_strangers(&self) {
        let late = self.table().strangers.late(std::time::Instant::now());
        late.iter().for_each(end);
    }

    /// Whether the key of some client ends by itself.
    pub(super) fn has_ending_keys(&self) -> bool {
        self.table().clients().any(|client| client.key.ends_by_itself())
    }

    /// Sends an event with this data to all who want it and may have it.
    pub(super) fn publish(
        &self,
        app: &App,
        event: &Placed<'_>,
        session: &Session,
        epoch: u64,
        data: &Map<String, Value>,
    ) {
        let text = packet::message(&EventMessage::of(event.event, epoch, data)).into();
        let slow = self.table().publish(event, session, app.keys.now(), &text);
        slow.into_iter().for_each(dismiss);
    }

    /// Sends of what waits as much as the clients take.
    pub(super) fn flush(&self) {
        let slow = self.table().flush();
        slow.into_iter().for_each(dismiss);
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

/// Tells a client why it has to leave, and that it left: clients that are told so do not come again by themselves. Those that may
/// try again later are not told that they left: for them it is a lost connection.
fn say_why(transport: &Transport, refused: Refused) {
    let is_for_now = refused.code == Code::RateLimited;
    let _ = transport.emit(packet::message(&Content::from(refused).reply(None)));
    if !is_for_now {
        let _ = transport.emit(packet::disconnected());
    }
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
