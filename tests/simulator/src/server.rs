//! The listening ports: the WebSocket on `/ws/chat` with the pictures beside it, and the admin API.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::serve::ListenerExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::media::{self, FILES_PATH, UPLOAD_BYTES_MAX};
use crate::noise::ServerIdentity;
use crate::pictures::MEDIA_PATH;
use crate::world::state_file;
use crate::{SimulatorError, World, admin, connection};

/// Per connection: with the default of 128 KiB a thousand clients would cost the process 128 MB.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// How to run the server.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the admin API listens; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// The seed of everything that is made up. Without meaning when the file in `state` exists already.
    pub seed: u64,
    /// The file from which the world is read, if it is there, and into which [`Simulator::stop`] writes it.
    pub state: Option<PathBuf>,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), admin: None, seed: rand::random(), state: None }
    }
}

/// A running server. Dropping it closes all connections and stops it.
pub struct Simulator {
    world: World,
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    root_key: String,
    seed: u64,
    servers: Vec<JoinHandle<()>>,
    state: Option<PathBuf>,
    _shutdown: watch::Sender<()>,
}

#[derive(Clone)]
struct Front {
    world: World,
    identity: Arc<ServerIdentity>,
    shutdown: watch::Receiver<()>,
}

impl Simulator {
    /// Starts listening.
    ///
    /// # Errors
    /// When a port cannot be opened, or the state file cannot be read.
    pub async fn start(options: SimulatorOptions) -> Result<Self, SimulatorError> {
        let older = options.state.as_deref().map(state_file::read).transpose()?.flatten();
        let world = older.unwrap_or_else(|| World::new(options.seed));
        let seed = world.lock().seed;
        let (shutdown, on_shutdown) = watch::channel(());
        let identity = Arc::new(ServerIdentity::generate()?);
        let root_key = hex(identity.root_key());
        let front = Front { world: world.clone(), identity, shutdown: on_shutdown };
        let router = Router::new()
            .route("/ws/chat", any(upgrade))
            .route(&format!("{MEDIA_PATH}{{file}}"), get(picture))
            .with_state(front)
            .route("/mms/{kind}/{token}", post(media::upload).with_state(world.clone()))
            .layer(DefaultBodyLimit::max(UPLOAD_BYTES_MAX))
            .route(&format!("{FILES_PATH}{{name}}"), get(media::download).with_state(world.clone()))
            .route("/admin/mock-phone/scan-qr", post(admin::scan_qr).with_state(world.clone()));
        let (listen, server) = listen(options.listen, router).await?;
        world.lock().media_url = format!("http://{listen}");
        let mut servers = vec![server, tokio::spawn(world.clone().let_phones_read())];
        let mut admin = None;
        if let Some(address) = options.admin {
            let (address, server) = self::listen(address, admin::router(world.clone(), root_key.clone())).await?;
            servers.push(server);
            admin = Some(address);
        }
        tracing::info!(%listen, seed, "simulator listens");
        Ok(Self { world, listen, admin, root_key, seed, servers, state: options.state, _shutdown: shutdown })
    }

    /// Stops, and writes the world into its state file if it has one. Each request of a client is in the file or stays
    /// without an answer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn stop(mut self) -> Result<(), SimulatorError> {
        for server in std::mem::take(&mut self.servers) {
            server.abort();
            // An error says that the task was aborted. A server's port is free now.
            let _ = server.await;
        }
        match &self.state {
            Some(path) => self.world.close_into(path),
            None => Ok(()),
        }
    }

    /// The URL for clients, `ws://127.0.0.1:PORT/ws/chat`.
    pub fn url(&self) -> String {
        format!("ws://{}/ws/chat", self.listen)
    }

    /// The URL of the admin API, `http://127.0.0.1:PORT`; `None` when it was not asked for.
    pub fn admin_url(&self) -> Option<String> {
        self.admin.map(|address| format!("http://{address}"))
    }

    /// The key that signed the server's certificate chain, as 64 hexadecimal digits: clients that check the chain are to be
    /// given this one in the place of WhatsApp's.
    pub fn root_key(&self) -> &str {
        &self.root_key
    }

    /// The seed in use; start with the same one to get the same choices again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The world behind the server. It stays usable after the server is gone.
    pub fn world(&self) -> World {
        self.world.clone()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
        if std::thread::panicking() {
            // This bypasses the test harness's capture on purpose: without the seed a failure cannot be repeated.
            let _ = writeln!(std::io::stderr(), "simulator seed: {}", self.seed);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn listen(address: SocketAddr, router: Router) -> Result<(SocketAddr, JoinHandle<()>), SimulatorError> {
    let failed = |source| SimulatorError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = listener.tap_io(|stream| {
        // Answers are small; waiting for more to send along would only delay them.
        let _ = stream.set_nodelay(true);
    });
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "simulator stopped listening");
        }
    });
    Ok((address, server))
}

/// A picture.
async fn picture(State(front): State<Front>, Path(file): Path<String>) -> Response {
    match front.world.lock().picture(&file) {
        Some(jpeg) => ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The WebSocket handshake (RFC 6455, section 4.2). The frames are ours afterwards, so that several stanzas can go
/// out in one write.
async fn upgrade(State(front): State<Front>, mut request: Request) -> Response {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let (Some(key), Some(upgrade)) = (key, request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>()) else {
        return (StatusCode::UPGRADE_REQUIRED, "this is a WebSocket").into_response();
    };
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        connection::serve(socket, front.world, front.identity, front.shutdown).await;
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}
