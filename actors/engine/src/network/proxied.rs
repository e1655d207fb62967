//! Connects through a session's proxy: HTTP `CONNECT` (RFC 9110, section 9.3.6), the same over TLS, SOCKS4a and SOCKS5
//! (RFC 1928). The proxy resolves the host's name. Never connects past the proxy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes as Buffer;
use futures_util::FutureExt as _;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::on;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_socks::tcp::{Socks4Stream, Socks5Stream};
use tokio_socks::{Error as SocksError, TargetAddr};

use super::connect::{Bytes, Connect, ProxyFailure, Unconnected};
use super::direct::Direct;
use rookery_model::{Proxy, ProxyCredentials, ProxyType};

/// The time of a proxy to be reached and to reach WhatsApp: less than a connect has in all, so that one who waits for
/// the proxy is told so.
const PROXY_TIMEOUT: Duration = Duration::from_secs(8);

/// Connects through one proxy.
pub(crate) struct Proxied {
    proxy: Arc<Proxy>,
    direct: Arc<Direct>,
    /// For a proxy that is spoken to over TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Proxied {
    /// # Errors
    /// The proxy's name is no name for TLS, and it is to be spoken to over TLS.
    pub(crate) fn new(proxy: Arc<Proxy>, direct: Arc<Direct>, tls: &TlsConnector) -> anyhow::Result<Self> {
        let tls = match proxy.kind() {
            ProxyType::Https => Some((tls.clone(), ServerName::try_from(proxy.host())?)),
            ProxyType::Http | ProxyType::Socks4 | ProxyType::Socks5 => None,
        };
        Ok(Self { proxy, direct, tls })
    }

    /// A stream to the proxy itself.
    async fn reach(&self) -> Result<Box<dyn Bytes>, ProxyFailure> {
        let opened = self.direct.open(&self.proxy.host(), self.proxy.port()).await;
        let stream = opened.map_err(ProxyFailure::Unreachable)?;
        let Some((tls, name)) = &self.tls else { return Ok(Box::new(stream)) };
        Ok(Box::new(tls.connect(name.clone(), stream).await.map_err(ProxyFailure::Tls)?))
    }

    async fn connect_through(&self, host: &str, port: u16) -> Result<Box<dyn Bytes>, ProxyFailure> {
        let stream = self.reach().await?;
        let credentials = self.proxy.credentials().cloned();
        match self.proxy.kind() {
            ProxyType::Http | ProxyType::Https => tunnel(stream, authority(host, port), credentials).await,
            ProxyType::Socks4 => socks4(stream, target(host, port)).await,
            ProxyType::Socks5 => socks5(stream, target(host, port), credentials).await,
        }
    }
}

#[async_trait]
impl Connect for Proxied {
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Bytes>, Unconnected> {
        let connected = timeout(PROXY_TIMEOUT, self.connect_through(host, port)).await;
        Ok(connected.unwrap_or(Err(ProxyFailure::Silent))?)
    }
}

/// The host as SOCKS names it: a name stays one, for the proxy to resolve.
fn target(host: &str, port: u16) -> TargetAddr<'static> {
    match host.parse::<IpAddr>() {
        Ok(address) => TargetAddr::Ip((address, port).into()),
        Err(_) => TargetAddr::Domain(host.to_owned().into(), port),
    }
}

/// The host as HTTP names it.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn socks4(stream: Box<dyn Bytes>, target: TargetAddr<'static>) -> Result<Box<dyn Bytes>, ProxyFailure> {
    let connected = Socks4Stream::connect_with_socket(stream, target).await;
    Ok(connected.map_err(|error| socks_failure(error, false))?.into_inner())
}

async fn socks5(
    stream: Box<dyn Bytes>,
    target: TargetAddr<'static>,
    credentials: Option<ProxyCredentials>,
) -> Result<Box<dyn Bytes>, ProxyFailure> {
    let connected = match &credentials {
        None => Socks5Stream::connect_with_socket(stream, target).await,
        Some(ProxyCredentials { user, password }) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
        }
    };
    Ok(connected.map_err(|error| socks_failure(error, credentials.is_some()))?.into_inner())
}

/// Has an HTTP proxy pass the bytes on.
async fn tunnel(
    stream: Box<dyn Bytes>,
    authority: String,
    credentials: Option<ProxyCredentials>,
) -> Result<Box<dyn Bytes>, ProxyFailure> {
    let mut request = Request::connect(&authority).header(HOST, &authority);
    if let Some(ProxyCredentials { user, password }) = &credentials {
        let mut basic = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        if let Ok(basic) = &mut basic {
            basic.set_sensitive(true);
        }
        request = request.header(PROXY_AUTHORIZATION, basic.map_err(|_| ProxyFailure::CredentialsRefused)?);
    }
    let request = request.body(Empty::<Buffer>::new()).map_err(|_| ProxyFailure::OtherProtocol("HTTP"))?;
    // The names of fields have no case, but not all proxies know that.
    let handshake = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| http_failure(&error))?;
    let mut connection = connection.with_upgrades().boxed();
    let mut response = std::pin::pin!(sender.send_request(request));
    let (response, is_over) = tokio::select! {
        response = &mut response => (response, false),
        // A connection that becomes a tunnel is over as one of HTTP.
        ended = &mut connection => match ended {
            Ok(()) => (response.await, true),
            Err(error) => (Err(error), true),
        },
    };
    let response = response.map_err(|error| http_failure(&error))?;
    match response.status() {
        status if status.is_success() => {}
        StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
            return Err(unauthorized(credentials.is_some()));
        }
        status => return Err(ProxyFailure::Refused(format!("it answers {}", status.as_u16()))),
    }
    let handed_over = async { if is_over { Ok(()) } else { connection.await } };
    let (upgraded, ()) = tokio::try_join!(on(response), handed_over).map_err(|error| http_failure(&error))?;
    match upgraded.downcast::<TokioIo<Box<dyn Bytes>>>() {
        // WhatsApp's server does not speak before its client.
        Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
        _ => Err(ProxyFailure::OtherProtocol("HTTP")),
    }
}

fn unauthorized(has_credentials: bool) -> ProxyFailure {
    if has_credentials { ProxyFailure::CredentialsRefused } else { ProxyFailure::CredentialsMissing }
}

fn http_failure(error: &hyper::Error) -> ProxyFailure {
    if error.is_parse() { ProxyFailure::OtherProtocol("HTTP") } else { ProxyFailure::Closed }
}

fn socks_failure(error: SocksError, has_credentials: bool) -> ProxyFailure {
    use SocksError as E;
    let reason = match error {
        // The library reports a closed connection as one that was read to its end.
        E::Io(_) => return ProxyFailure::Closed,
        E::NoAcceptableAuthMethods | E::AuthorizationRequired | E::UnknownAuthMethod => {
            return unauthorized(has_credentials);
        }
        E::PasswordAuthFailure(_) | E::InvalidAuthValues(_) => return ProxyFailure::CredentialsRefused,
        E::InvalidResponseVersion | E::InvalidReservedByte | E::UnknownAddressType => {
            return ProxyFailure::OtherProtocol("this version of SOCKS");
        }
        E::ConnectionNotAllowedByRuleset => "it is not allowed to",
        E::NetworkUnreachable | E::HostUnreachable => "it finds no way to it",
        E::ConnectionRefused => "the connection was refused",
        E::TtlExpired => "it got no answer",
        E::CommandNotSupported | E::AddressTypeNotSupported | E::InvalidTargetAddress(_) => {
            "it does not support connections by name"
        }
        _ => "it says that it failed",
    };
    ProxyFailure::Refused(reason.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::tls_server::{server, trusting};
    use super::*;

    fn proxied(url: &str) -> Proxied {
        let tls = TlsConnector::from(Arc::new(trusting()));
        Proxied::new(Arc::new(url.parse().unwrap()), Arc::new(Direct::to_proxies()), &tls).unwrap()
    }

    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn https_is_a_tunnel_inside_of_tls() {
        let (listener, port) = listen().await;
        let proxy = tokio::spawn(async move {
            let mut stream = server().accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let sent = stream.read_u8().await.unwrap();
            stream.write_all(&[sent + 1]).await.unwrap();
            stream.flush().await.unwrap();
            String::from_utf8(head).unwrap()
        });
        let proxied = proxied(&format!("https://user:pass@localhost:{port}"));
        let mut stream = proxied.connect("2001:db8::1", 443).await.unwrap();
        stream.write_all(&[41]).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 42);
        let head = proxy.await.unwrap();
        assert!(head.starts_with("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nHost: [2001:db8::1]:443\r\n"), "{head}");
        assert!(head.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
    }

    /// What a proxy says, whatever it is sent, before it closes the connection.
    async fn failure(scheme: &str, says: &'static [u8]) -> String {
        let (listener, port) = listen().await;
        let proxy = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(says).await.unwrap();
            stream.shutdown().await.unwrap();
            // A closed connection with unread bytes would be reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let connected = proxied(&format!("{scheme}://127.0.0.1:{port}")).connect("whatsapp.invalid", 443).await;
        proxy.await.unwrap();
        connected.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn what_is_no_proxy_is_told_in_our_own_words() {
        let refused = "the proxy does not connect to WhatsApp:";
        let cases: [(&str, &[u8], String); 10] = [
            ("http", b"SSH-2.0-OpenSSH_9.6\r\n", "the proxy does not speak HTTP".into()),
            ("http", b"", "the proxy closed the connection".into()),
            ("http", b"HTTP/1.1 502 secret\r\ncontent-length: 0\r\n\r\n", format!("{refused} it answers 502")),
            ("http", b"HTTP/1.1 200 OK\r\n\r\nearly", "the proxy does not speak HTTP".into()),
            (
                "https",
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                "the proxy does not speak TLS as https asks for (invalid data)".into(),
            ),
            ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "the proxy does not speak this version of SOCKS".into()),
            ("socks5", &[5, 0xff], "the proxy asks for a user name and a password".into()),
            ("socks5", &[5, 0, 5, 4, 0, 1, 0, 0, 0, 0, 0, 0], format!("{refused} it finds no way to it")),
            ("socks5", &[5, 0, 5], "the proxy closed the connection".into()),
            ("socks4", &[0, 0x5c, 0, 0, 0, 0, 0, 0], format!("{refused} it says that it failed")),
        ];
        for (scheme, says, expected) in cases {
            assert_eq!(failure(scheme, says).await, expected, "{scheme} {says:?}");
        }
    }
}
