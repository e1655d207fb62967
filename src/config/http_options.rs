//! What the operator decides about HTTP beside the address. The flags are in `config/http.rs`; the limits that are fixed are in
//! `http/limits.rs`.

use std::time::Duration;

use rookery_actors::RateLimit;

use super::cors_origins::CorsOrigins;
use crate::auth::AddressRange;

/// Seconds that an operator may give requests in flight when the daemon stops: systemd waits for what else it does then.
pub(crate) const DRAIN_TIME_S: std::ops::RangeInclusive<u64> = 1..=30;

/// What the operator decides about HTTP beside the address.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// How much, how often and how long.
    pub limits: HttpLimits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Web pages that may call from a browser.
    pub cors_origins: CorsOrigins,
}

/// Limits that the operator may set (`config/http.rs` has their ranges); none of them is off unless it is said so.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Connections open at once, half of them such that never sent a valid key. When there are more, the ones that have
    /// been idle longest are closed. Half of the usual 1,024 file descriptors, the other half is for sessions.
    pub connections_max: usize,
    /// Of these, connections from one address; further ones are answered 429 and closed. Trusted proxies have no such limit.
    pub connections_per_address_max: usize,
    /// Requests in flight at once, over all keys: each may hold its body and an answer.
    pub requests_max: usize,
    /// Of these, requests of one key: slow ones of one client must leave room for the others'.
    pub requests_per_key_max: usize,
    /// Requests of one key; `None` is no limit.
    pub key_rate: Option<RateLimit>,
    /// Wrong keys from one address; `None` is no limit.
    pub failed_logins: Option<RateLimit>,
    /// Bytes of a request body: 256 participants are 10 kB, a description 4 kB; the rest is room for what is to come.
    pub body_bytes_max: usize,
    /// Bytes of a request body with a file in it.
    pub media_body_bytes_max: usize,
    /// Bytes of the request line and all headers; ours are below 1 kB.
    pub header_bytes_max: usize,
    /// Bytes of path and query.
    pub url_bytes_max: usize,
    /// Time for the head of a request to arrive, and for a connection to stay open without one: longer than HTTP clients
    /// keep idle connections, so that they close first.
    pub header_time_max: Duration,
    /// Time for a body to arrive: a megabyte over a slow phone network.
    pub body_time_max: Duration,
    /// For how long a client may keep a body or an answer waiting, beside the time that its bytes earn it: a phone network
    /// that is gone for a moment.
    pub client_wait_max: Duration,
    /// Time for requests in flight when the daemon stops; those that are not over then are answered 503.
    pub drain_time_max: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            connections_per_address_max: 256,
            requests_max: 1_024,
            requests_per_key_max: 256,
            key_rate: Some(RateLimit::new(100, Duration::from_secs(1), 200)),
            failed_logins: Some(RateLimit::new(10, Duration::from_secs(60), 10)),
            body_bytes_max: 1024 * 1024,
            media_body_bytes_max: 64 * 1024 * 1024,
            header_bytes_max: 16 * 1024,
            url_bytes_max: 8 * 1024,
            header_time_max: Duration::from_secs(30),
            body_time_max: Duration::from_secs(10),
            client_wait_max: Duration::from_secs(5),
            drain_time_max: Duration::from_secs(10),
        }
    }
}
