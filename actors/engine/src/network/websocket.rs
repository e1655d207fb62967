//! WhatsApp's WebSocket: a byte stream, TLS over it, the upgrade, and then the engine's transport. Never waits for a
//! permit and never tries twice: `transport.rs` does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use http::header::ORIGIN;
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_websockets::ClientBuilder;
use wacore::net::{Transport, TransportEvent, TransportFactory, WHATSAPP_WEB_ORIGIN};
use wacore::stats::TransportResourceReport;
use whatsapp_rust::transport::from_websocket;

use super::connect::{Bytes, Connect, Unconnected};
use super::wire::{Noted, Wire};

/// Limit for the WebSocket close: a peer that no longer reads does not take it either, and the engine would wait for it
/// before it reconnects.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// WhatsApp's address, and TLS for it. One for all sessions: they share TLS sessions to resume.
pub(crate) struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why there is no connection. The texts are our own, without names and addresses of others: callers see them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// There is no way to the server.
    #[error(transparent)]
    Unconnected(#[from] Unconnected),
    /// The server is not WhatsApp, or refused us.
    #[error("TLS failed ({})", .0.kind())]
    Tls(#[source] io::Error),
    /// The server has no WebSocket, or closed the connection instead.
    #[error("the server did not accept the WebSocket")]
    Upgrade(#[source] tokio_websockets::Error),
}

impl Endpoint {
    /// `url`: checked by `check_whatsapp_url`.
    pub(crate) fn new(url: &str, tls: rustls::ClientConfig) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().context("the WhatsApp URL cannot be read")?;
        let host = uri.host().context("the WhatsApp URL has no host")?;
        // An IPv6 address is in brackets in an URL and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_secure = uri.scheme_str() == Some("wss");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let tls = if is_secure {
            let name = ServerName::try_from(host.clone()).context("the WhatsApp URL's host is no name for TLS")?;
            Some((TlsConnector::from(Arc::new(tls)), name))
        } else {
            None
        };
        Ok(Self { uri, host, port, tls })
    }

    async fn open(&self, connect: &dyn Connect) -> Result<Box<dyn Bytes>, ConnectError> {
        let stream = connect.connect(&self.host, self.port).await?;
        let Some((tls, name)) = &self.tls else { return Ok(stream) };
        Ok(Box::new(tls.connect(name.clone(), stream).await.map_err(ConnectError::Tls)?))
    }
}

/// One session's way to WhatsApp.
pub(crate) struct WebSockets {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) wire: Arc<Wire>,
}

#[async_trait]
impl TransportFactory for WebSockets {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        let stream = self.endpoint.open(&*self.connect).await?;
        let builder = ClientBuilder::from_uri(self.endpoint.uri.clone())
            .add_header(ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN))
            .map_err(ConnectError::Upgrade)?;
        let noted = Noted::new(stream, self.wire.clone());
        let (socket, _) = builder.connect_on(noted).await.map_err(ConnectError::Upgrade)?;
        let (transport, events) = from_websocket(socket);
        Ok((Arc::new(Closing(transport)), events))
    }
}

/// A transport that does not wait for its peer to close.
struct Closing(Arc<dyn Transport>);

#[async_trait]
impl Transport for Closing {
    async fn send(&self, data: bytes::Bytes) -> anyhow::Result<()> {
        self.0.send(data).await
    }

    async fn disconnect(&self) {
        // Reading has ended before the close is sent.
        let _ = timeout(FAREWELL_TIMEOUT, self.0.disconnect()).await;
    }

    fn resource_report(&self) -> Option<TransportResourceReport> {
        self.0.resource_report()
    }
}

#[cfg(test)]
mod tests {
    use rustls::HandshakeKind;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::direct::Direct;
    use super::super::tls_server::{server, trusting};
    use super::*;

    #[tokio::test]
    async fn sessions_share_what_tls_remembers_of_whatsapp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://localhost:{}/ws/chat", listener.local_addr().unwrap().port());
        let acceptor = server();
        let kinds = tokio::spawn(async move {
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                kinds.push(stream.get_ref().1.handshake_kind().unwrap());
                stream.write_all(b"!").await.unwrap();
                stream.flush().await.unwrap();
            }
            kinds
        });

        let (endpoint, direct) = (Endpoint::new(&url, trusting()).unwrap(), Direct::to_whatsapp());
        for _session in 0..2 {
            let mut stream = endpoint.open(&direct).await.unwrap();
            // TLS session tickets come after the handshake, before anything else.
            stream.read_u8().await.unwrap();
        }
        assert_eq!(kinds.await.unwrap(), [HandshakeKind::Full, HandshakeKind::Resumed]);
    }

    #[tokio::test]
    async fn a_failure_to_connect_says_what_it_is_and_never_to_whom() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sockets = |port: u16| {
            let endpoint = Endpoint::new(&format!("ws://127.0.0.1:{port}/"), crate::tls_config().unwrap());
            WebSockets {
                endpoint: Arc::new(endpoint.unwrap()),
                connect: Arc::new(Direct::to_whatsapp()),
                wire: Arc::default(),
            }
        };
        let closes = tokio::spawn(async move { drop(listener.accept().await) });
        let error = sockets(port).create_transport().await.err().unwrap();
        assert_eq!(error.to_string(), "the server did not accept the WebSocket");
        closes.await.unwrap();
        let error = sockets(port).create_transport().await.err().unwrap();
        assert_eq!(error.to_string(), "the connection was refused");
    }
}
