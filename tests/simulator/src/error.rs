//! What can go wrong in the simulator.

use std::net::SocketAddr;

/// Why the simulator did not do what a test, a phone or a client asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// The port is taken or not ours to open.
    #[error("could not listen on `{address}`")]
    Listen {
        /// The address to listen on.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file with the world cannot be read or written, or holds no world.
    #[error("state file `{path}`")]
    StateFile {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the system, or of the JSON parser.
        source: std::io::Error,
    },
    /// No group has this id.
    #[error("no such group: `{0}`")]
    UnknownGroup(String),
    /// WhatsApp would refuse the change with this code.
    #[error("WhatsApp refuses this with code {0}")]
    Refused(u16),
    /// The text is not what WhatsApp Web draws as a QR code.
    #[error("not a QR code of WhatsApp: {0}")]
    BadQr(&'static str),
    /// No connected client shows this QR code, or it was scanned before.
    #[error("no connected client shows this QR code")]
    UnknownQr,
    /// No connected client waits for a code that this phone number should enter.
    #[error("no connected client waits for a pairing code of this phone")]
    NoPairingCode,
    /// A client sent what the protocol does not allow.
    #[error("protocol: {0}")]
    Protocol(String),
    /// A key, a signature or a ciphertext is not valid.
    #[error("cryptography: {0}")]
    Crypto(String),
    /// The socket failed.
    #[error("connection")]
    Socket(#[from] Box<tokio_tungstenite::tungstenite::Error>),
}

impl SimulatorError {
    pub(crate) fn protocol(what: impl std::fmt::Display) -> Self {
        Self::Protocol(what.to_string())
    }

    pub(crate) fn crypto(what: impl std::fmt::Display) -> Self {
        Self::Crypto(what.to_string())
    }
}

impl From<tokio_tungstenite::tungstenite::Error> for SimulatorError {
    fn from(source: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::Socket(Box::new(source))
    }
}
