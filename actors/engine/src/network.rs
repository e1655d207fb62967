//! The connections to WhatsApp: which way they go, when one may begin, what is noted of them. Knows nothing of what is sent.

pub(crate) mod certificate;
pub(crate) mod connect;
pub(crate) mod connect_throttle;
pub(crate) mod direct;
pub(crate) mod http;
pub(crate) mod proxied;
pub(crate) mod reconnects;
#[cfg(test)]
pub(crate) mod tls_server;
pub(crate) mod transport;
pub(crate) mod ways;
pub(crate) mod websocket;
pub(crate) mod wire;
