//! What the operator decides about HTTP, as flags.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::http_options::{DRAIN_TIME_S, HttpLimits, HttpOptions};
use super::reader::{ConfigError, Reader};
use crate::auth::AddressRange;

/// Each open connection costs a file descriptor and up to 64 KiB.
const CONNECTIONS: RangeInclusive<u64> = 1..=65_536;
/// Each request in flight holds a body and an answer.
const REQUESTS: RangeInclusive<u64> = 1..=65_536;
/// From what the largest own requests need to what fits into memory several times.
const BODY_BYTES: RangeInclusive<u64> = 16_384..=268_435_456;
/// hyper needs 8 KiB for the head at least.
const HEADER_BYTES: RangeInclusive<u64> = 8_192..=1_048_576;
/// The longest own path is below 1 KiB.
const URL_BYTES: RangeInclusive<u64> = 1_024..=65_534;
/// A second is a fast network, five minutes are a forgotten connection.
const TIME_S: RangeInclusive<u64> = 1..=300;
/// A body has to arrive well within the 29 s of a request.
const BODY_TIME_S: RangeInclusive<u64> = 1..=20;
/// A second is a fast network; after a minute nobody waits any more.
const CLIENT_WAIT_S: RangeInclusive<u64> = 1..=60;

/// What the operator decides about HTTP, as flags with a variable of the same name.
#[derive(Clone, Default, clap::Args)]
pub struct HttpArguments {
    /// Proxies whose X-Forwarded-For is believed: addresses or CIDR ranges, comma-separated
    /// [ROOKERY_TRUSTED_PROXIES, default none]
    #[arg(long, value_name = "ADDRESSES")]
    trusted_proxies: Option<OsString>,
    /// Web pages that may call from a browser: origins such as `https://app.example.com`, comma-separated
    /// [ROOKERY_CORS_ORIGINS, default none]
    #[arg(long, value_name = "ORIGINS")]
    cors_origins: Option<OsString>,
    /// Requests per API key, as COUNT/s|min|h|d:BURST, or off [ROOKERY_KEY_RATE, default 100/s:200]
    #[arg(long, value_name = "LIMIT")]
    key_rate: Option<OsString>,
    /// Wrong API keys per address, as COUNT/s|min|h|d:BURST, or off [ROOKERY_FAILED_LOGINS, default 10/min:10]
    #[arg(long, value_name = "LIMIT")]
    failed_logins: Option<OsString>,
    /// HTTP connections open at once, 1-65536 [ROOKERY_HTTP_CONNECTIONS_MAX, default 512]
    #[arg(long, value_name = "NUMBER")]
    http_connections_max: Option<OsString>,
    /// Of these from one address, 1-65536 [ROOKERY_HTTP_CONNECTIONS_PER_ADDRESS_MAX, default 256]
    #[arg(long, value_name = "NUMBER")]
    http_connections_per_address_max: Option<OsString>,
    /// Requests in flight at once, 1-65536 [ROOKERY_REQUESTS_MAX, default 1024]
    #[arg(long, value_name = "NUMBER")]
    requests_max: Option<OsString>,
    /// Of these with one API key, 1-65536 [ROOKERY_REQUESTS_PER_KEY_MAX, default 256]
    #[arg(long, value_name = "NUMBER")]
    requests_per_key_max: Option<OsString>,
    /// Bytes of a request body, 16384-268435456 [ROOKERY_BODY_BYTES_MAX, default 1048576]
    #[arg(long, value_name = "BYTES")]
    body_bytes_max: Option<OsString>,
    /// Bytes of a request body with a file, 16384-268435456 [ROOKERY_MEDIA_BODY_BYTES_MAX, default 67108864]
    #[arg(long, value_name = "BYTES")]
    media_body_bytes_max: Option<OsString>,
    /// Bytes of a request's line and headers, 8192-1048576 [ROOKERY_HEADER_BYTES_MAX, default 16384]
    #[arg(long, value_name = "BYTES")]
    header_bytes_max: Option<OsString>,
    /// Bytes of a request's path and query, 1024-65534 [ROOKERY_URL_BYTES_MAX, default 8192]
    #[arg(long, value_name = "BYTES")]
    url_bytes_max: Option<OsString>,
    /// Seconds for a request's head to arrive and for a connection to idle, 1-300 [ROOKERY_HEADER_TIMEOUT_S, default 30]
    #[arg(long, value_name = "SECONDS")]
    header_timeout_s: Option<OsString>,
    /// Seconds for a request's body to arrive, 1-20 [ROOKERY_BODY_TIMEOUT_S, default 10]
    #[arg(long, value_name = "SECONDS")]
    body_timeout_s: Option<OsString>,
    /// Seconds that a client may keep a body or an answer waiting, beside one for every 2 KiB, 1-60
    /// [ROOKERY_CLIENT_WAIT_S, default 5]
    #[arg(long, value_name = "SECONDS")]
    client_wait_s: Option<OsString>,
    /// Seconds for requests in flight when the daemon stops, 1-30 [ROOKERY_DRAIN_TIMEOUT_S, default 10]
    #[arg(long, value_name = "SECONDS")]
    drain_timeout_s: Option<OsString>,
}

impl HttpArguments {
    /// Reads and checks them; `variable` answers the value of an environment variable.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<HttpOptions, ConfigError> {
        self.read(&Reader { variable })
    }

    pub(super) fn read<F: Fn(&str) -> Option<OsString>>(self, read: &Reader<F>) -> Result<HttpOptions, ConfigError> {
        let default = HttpOptions::default();
        let proxies = "comma-separated addresses or CIDR ranges, such as 127.0.0.1,10.0.0.0/8";
        let origins = "comma-separated origins as browsers write them, such as https://app.example.com";
        let list =
            |text: &str| text.split(',').map(|one| one.trim().parse().ok()).collect::<Option<Vec<AddressRange>>>();
        Ok(HttpOptions {
            trusted_proxies: read.parsed(
                "trusted-proxies",
                self.trusted_proxies.clone(),
                default.trusted_proxies,
                proxies,
                list,
            )?,
            cors_origins: read.parsed(
                "cors-origins",
                self.cors_origins.clone(),
                default.cors_origins,
                origins,
                |text| text.parse().ok(),
            )?,
            limits: self.limits(read, default.limits)?,
        })
    }

    fn limits<F: Fn(&str) -> Option<OsString>>(
        self,
        read: &Reader<F>,
        default: HttpLimits,
    ) -> Result<HttpLimits, ConfigError> {
        let count = |name: &str, flag, default: usize, range| read.number(name, flag, default, range);
        let seconds = |name: &str, flag, default: Duration, range| {
            read.number(name, flag, default.as_secs(), range).map(Duration::from_secs)
        };
        Ok(HttpLimits {
            connections_max: count(
                "http-connections-max",
                self.http_connections_max,
                default.connections_max,
                CONNECTIONS,
            )?,
            connections_per_address_max: count(
                "http-connections-per-address-max",
                self.http_connections_per_address_max,
                default.connections_per_address_max,
                CONNECTIONS,
            )?,
            requests_max: count("requests-max", self.requests_max, default.requests_max, REQUESTS)?,
            requests_per_key_max: count(
                "requests-per-key-max",
                self.requests_per_key_max,
                default.requests_per_key_max,
                REQUESTS,
            )?,
            key_rate: read.rate_limit("key-rate", self.key_rate, default.key_rate, 1)?,
            failed_logins: read.rate_limit("failed-logins", self.failed_logins, default.failed_logins, 1)?,
            body_bytes_max: count("body-bytes-max", self.body_bytes_max, default.body_bytes_max, BODY_BYTES)?,
            media_body_bytes_max: count(
                "media-body-bytes-max",
                self.media_body_bytes_max,
                default.media_body_bytes_max,
                BODY_BYTES,
            )?,
            header_bytes_max: count("header-bytes-max", self.header_bytes_max, default.header_bytes_max, HEADER_BYTES)?,
            url_bytes_max: count("url-bytes-max", self.url_bytes_max, default.url_bytes_max, URL_BYTES)?,
            header_time_max: seconds("header-timeout-s", self.header_timeout_s, default.header_time_max, TIME_S)?,
            body_time_max: seconds("body-timeout-s", self.body_timeout_s, default.body_time_max, BODY_TIME_S)?,
            client_wait_max: seconds("client-wait-s", self.client_wait_s, default.client_wait_max, CLIENT_WAIT_S)?,
            drain_time_max: seconds("drain-timeout-s", self.drain_timeout_s, default.drain_time_max, DRAIN_TIME_S)?,
        })
    }
}
