//! A byte stream to a host: what `direct.rs` and `proxied.rs` do each in its way, and why it may fail. Knows no WebSocket.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection's bytes, whatever carries them.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytes for S {}

/// Why there is no byte stream. The texts are our own, without names and addresses of others: callers see them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unconnected {
    /// The host itself was not reached.
    #[error("{}", unreachable(.0))]
    Host(#[from] io::Error),
    /// The proxy did not connect to the host.
    #[error("the proxy {0}")]
    Proxy(#[from] ProxyFailure),
}

/// What went wrong, in words that go on from "it".
pub(crate) fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        io::ErrorKind::NotFound => "its name cannot be resolved".into(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "there is no way to it".into(),
        io::ErrorKind::TimedOut => "it does not answer".into(),
        kind => format!("it cannot be reached ({kind})"),
    }
}

/// What a proxy did instead of connecting, in words that go on from "the proxy". Callers see them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyFailure {
    /// The proxy was not reached.
    #[error("cannot be reached: {}", unreachable(.0))]
    Unreachable(#[source] io::Error),
    /// The proxy said nothing in time.
    #[error("does not answer")]
    Silent,
    /// Its certificate is not one of the public authorities' for its name, or it speaks no TLS.
    #[error("does not speak TLS as https asks for ({})", .0.kind())]
    Tls(#[source] io::Error),
    /// It wants credentials, and there are none.
    #[error("asks for a user name and a password")]
    CredentialsMissing,
    /// It wants others.
    #[error("refuses the user name and the password")]
    CredentialsRefused,
    /// It may not or cannot connect to WhatsApp.
    #[error("does not connect to WhatsApp: {0}")]
    Refused(String),
    /// It closed the connection.
    #[error("closed the connection")]
    Closed,
    /// It speaks something else.
    #[error("does not speak {0}")]
    OtherProtocol(&'static str),
}

/// Opens byte streams.
#[async_trait]
pub(crate) trait Connect: Send + Sync {
    /// A stream to `port` of `host`, a name or an address. The caller bounds the time; dropping the call is safe.
    ///
    /// # Errors
    /// The name is not known, or nobody answers there.
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Bytes>, Unconnected>;
}
