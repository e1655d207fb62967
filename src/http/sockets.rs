//! Events over Socket.IO (contract, section 5): clients in the namespace `/events` get what happens from now on to the sessions that
//! they subscribed to. Replays nothing: the event log and webhooks do.
//!
//! engineioxide carries Engine.IO 4: websockets, long polling, heartbeats. Above it, everything is here:
//!
//! | file | |
//! |---|---|
//! | `packet.rs` | the packets of Socket.IO 5 |
//! | `message.rs` | what clients and the daemon say in the namespace |
//! | `namespace.rs` | who is in the namespace: connects, keys that end, the end of a transport |
//! | `answer.rs` | what clients ask for, and the replies |
//! | `strangers.rs` | transports whose client is not in the namespace yet |
//! | `table.rs`, `client.rs`, `subscriptions.rs` | the clients, and what each wants and may have |
//! | `delivery.rs` | the task that reads each event once and sends it to those who want it |
//!
//! The requests that transports are made of come by `handlers/socket_io.rs`.

mod answer;
mod client;
mod delivery;
mod message;
mod namespace;
mod packet;
mod strangers;
mod subscriptions;
mod table;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use bytes::Bytes;
use engineioxide::config::EngineIoConfig;
use engineioxide::service::EngineIoService;
use engineioxide::socket::Sid;
use http_body_util::Full;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::app::App;
use crate::auth::Secret;
use crate::http::error::AccessError;
use crate::http::limits::SOCKET_FRAME_BYTES_MAX;
use namespace::Namespace;
pub(crate) use namespace::Reservation;

/// Where clients find the transports.
pub(crate) const PATH: &str = "/socket.io";
/// Shorter than the time of a request, so that a long poll ends with a ping, and than the patience of most proxies.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// For how long a client may leave a ping without an answer: so long a client that is gone without a word keeps its place.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a change from long polling to a websocket.
const UPGRADE_TIME_MAX: Duration = Duration::from_secs(5);
/// Packets that the transport keeps for a client; what is more waits in `client.rs`.
const BUFFERED_MAX: usize = 64;
/// Bytes of the answer to a poll. All that the transport keeps fits, at 50 KiB a packet: engineioxide holds back what does not, and
/// loses that when the transport becomes a websocket.
const POLL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Each websocket holds a buffer of this size.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// What is known of a client from the request that began its transport.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The client's address; `None`: it is not known.
    pub(crate) client: Option<IpAddr>,
    /// The address that its failures are counted for.
    pub(crate) counted: IpAddr,
    /// The key in the request's header, which counts if the client presents none when it connects.
    pub(crate) key: Option<Secret>,
    pub(crate) request_id: String,
    /// The place of its transport, until the client is in the namespace.
    pub(crate) reservation: Reservation,
}

/// The Socket.IO side of the daemon.
pub(crate) struct Sockets {
    engine: EngineIoService<Namespace>,
    namespace: Arc<Namespace>,
}

impl Sockets {
    pub(crate) fn new(app: &Arc<App>) -> Self {
        let config = EngineIoConfig::builder()
            .req_path(PATH)
            .ping_interval(PING_INTERVAL)
            .ping_timeout(PING_TIMEOUT)
            .upgrade_timeout(UPGRADE_TIME_MAX)
            .max_buffer_size(BUFFERED_MAX)
            .max_payload(POLL_BYTES_MAX)
            .ws_read_buffer_size(READ_BUFFER_BYTES)
            .ws_max_message_size(SOCKET_FRAME_BYTES_MAX)
            .ws_max_frame_size(SOCKET_FRAME_BYTES_MAX)
            .build();
        let namespace = Arc::new(Namespace::new(Arc::downgrade(app)));
        Self { engine: EngineIoService::with_config(Arc::clone(&namespace), config), namespace }
    }

    /// Answers a request of a transport. One that begins a transport has its [`Handshake`] in its extensions.
    pub(crate) async fn answer(&self, request: Request<Full<Bytes>>) -> Response {
        let answered: Result<_, Infallible> = self.engine.clone().oneshot(request).await;
        match answered {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }

    /// A place for a transport that a request from this address begins.
    ///
    /// # Errors
    /// [`AccessError::TooManyConnections`], [`AccessError::NoConnectionLeft`].
    pub(crate) fn reserve(&self, address: IpAddr) -> Result<Reservation, AccessError> {
        self.namespace.reserve(address)
    }

    /// Whether a request from this address may carry this transport. The key of a client that is not in the namespace yet has to be
    /// allowed from there, too.
    ///
    /// # Errors
    /// [`AccessError::KeyRefused`].
    pub(crate) fn check_address(&self, transport: Sid, address: Option<IpAddr>) -> Result<(), AccessError> {
        self.namespace.check_address(transport, address)
    }

    /// Whether the client of this transport is in the namespace, so that its key was good.
    pub(crate) fn is_open(&self, transport: Sid) -> bool {
        self.namespace.is_open(transport)
    }

    /// Whether this transport may now become a websocket. It may try that once: each attempt is a connection beside it, and one that
    /// fails ends the transport.
    pub(crate) fn begins_upgrade(&self, transport: Sid) -> bool {
        self.namespace.begins_upgrade(transport)
    }

    /// Delivers events until `stopped` says so or its sender is dropped, and then closes all transports.
    pub(crate) async fn run(self: Arc<Self>, app: Arc<App>, mut stopped: watch::Receiver<()>) {
        tokio::select! {
            _ = stopped.changed() => {}
            () = delivery::run(&app, &self.namespace) => {}
        }
        drop(app);
        self.namespace.close().await;
    }
}
