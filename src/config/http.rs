//! The operator's settings for HTTP, except the address. The fixed limits are in `http/limits.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use rookery_actors::RateLimit;

use super::cors_origins::CorsOrigins;
use super::parsers::{from_str_or_default, list, number, rate_limit, seconds};
use super::unset;
use crate::auth::AddressRange;
use crate::http::limits::REQUEST_TIME_MAX;

/// Each open connection costs a file descriptor and up to 64 KiB.
const CONNECTIONS: RangeInclusive<u64> = 1..=65_536;
/// Each request in flight holds a body and a response.
const REQUESTS: RangeInclusive<u64> = 1..=65_536;
/// From the size of our largest requests to a size that fits into memory several times.
const BODY_BYTES: RangeInclusive<u64> = 16_384..=268_435_456;
/// hyper needs 8 KiB for the head at least.
const HEADER_BYTES: RangeInclusive<u64> = 8_192..=1_048_576;
/// The longest own path is below 1 KiB.
const URL_BYTES: RangeInclusive<u64> = 1_024..=65_534;
/// One second suits a fast network; after five minutes a connection was forgotten.
const TIME_S: RangeInclusive<u64> = 1..=300;
/// A body has to arrive well within the 29 s of a request.
const BODY_TIME_S: RangeInclusive<u64> = 1..=20;
/// Twice the time of other requests to ten minutes, after which clients and proxies give up.
const MEDIA_TIME_S: RangeInclusive<u64> = 60..=600;
/// From none to what a large disk holds.
const MEDIA_CACHE_MIB: RangeInclusive<u64> = 0..=1_048_576;
/// From a few small files to what a large disk holds.
const MEDIA_DISK_MIB: RangeInclusive<u64> = 16..=1_048_576;
/// One second suits a fast network; after a minute nobody waits any more.
const CLIENT_WAIT_S: RangeInclusive<u64> = 1..=60;
/// Seconds that an operator may give requests in flight when the daemon stops: systemd also waits for the rest of the
/// stop.
pub(crate) const DRAIN_TIME_S: RangeInclusive<u64> = 1..=30;

const RANGES: &str = "comma-separated addresses or CIDR ranges, such as 127.0.0.1,10.0.0.0/8";
const ORIGINS: &str = "comma-separated origins as browsers write them, such as https://app.example.com";

/// The operator's settings for HTTP, except the address.
#[derive(Clone, Debug, clap::Args)]
pub struct HttpOptions {
    /// Proxies whose X-Forwarded-For is believed: addresses or CIDR ranges, comma-separated [default: none]
    // `::std::vec::Vec`, because clap takes a plain `Vec` for a setting that may be given several times.
    #[arg(long, env = "ROOKERY_TRUSTED_PROXIES", value_name = "ADDRESSES")]
    #[arg(default_value = "", hide_default_value = true, value_parser = list::<AddressRange>(RANGES))]
    pub trusted_proxies: ::std::vec::Vec<AddressRange>,
    /// Web pages that may call from a browser: origins such as `https://app.example.com`, comma-separated [default: none]
    #[arg(long, env = "ROOKERY_CORS_ORIGINS", value_name = "ORIGINS")]
    #[arg(default_value = "", hide_default_value = true, value_parser = from_str_or_default::<CorsOrigins>(ORIGINS))]
    pub cors_origins: CorsOrigins,
    /// Limits of size, rate and time.
    #[command(flatten)]
    pub limits: HttpLimits,
}

/// Limits that the operator may set. All of them are on by default; some may be set to `off`.
// `::std::option::Option`, because clap takes a plain `Option` for a setting that may be left out.
#[derive(Clone, Debug, clap::Args)]
pub struct HttpLimits {
    /// HTTP connections open at once, 1-65536
    // Half of them may be connections that never sent a valid key. Above the limit, those that were idle longest are
    // closed. 512 is half of the usual 1,024 file descriptors; the other half is for sessions.
    #[arg(long = "http-connections-max", env = "ROOKERY_HTTP_CONNECTIONS_MAX", value_name = "NUMBER")]
    #[arg(default_value = "512", value_parser = number::<usize>(CONNECTIONS))]
    pub connections_max: usize,
    /// HTTP connections open at once from one address, 1-65536
    // Further connections get 429 and are closed. Trusted proxies have no such limit.
    #[arg(
        long = "http-connections-per-address-max",
        env = "ROOKERY_HTTP_CONNECTIONS_PER_ADDRESS_MAX",
        value_name = "NUMBER"
    )]
    #[arg(default_value = "256", value_parser = number::<usize>(CONNECTIONS))]
    pub connections_per_address_max: usize,
    /// Requests in flight at once, 1-65536
    // Over all keys: each request may hold its body and a response.
    #[arg(long, env = "ROOKERY_REQUESTS_MAX", value_name = "NUMBER")]
    #[arg(default_value = "1024", value_parser = number::<usize>(REQUESTS))]
    pub requests_max: usize,
    /// Requests in flight at once with one API key, 1-65536
    // The slow requests of one client must leave room for the others.
    #[arg(long, env = "ROOKERY_REQUESTS_PER_KEY_MAX", value_name = "NUMBER")]
    #[arg(default_value = "256", value_parser = number::<usize>(REQUESTS))]
    pub requests_per_key_max: usize,
    /// Event streams and sockets open at once, 1-65536
    // A stream is no request in flight and no connection of the limits above. Each takes a file descriptor and 15 to 20 KiB.
    #[arg(long, env = "ROOKERY_STREAMS_MAX", value_name = "NUMBER")]
    #[arg(default_value = "256", value_parser = number::<usize>(CONNECTIONS))]
    pub streams_max: usize,
    /// Event streams and sockets open at once with one API key, 1-65536
    #[arg(long, env = "ROOKERY_STREAMS_PER_KEY_MAX", value_name = "NUMBER")]
    #[arg(default_value = "64", value_parser = number::<usize>(CONNECTIONS))]
    pub streams_per_key_max: usize,
    /// Requests per API key, as COUNT/s|min|h|d:BURST, or off
    #[arg(long, env = "ROOKERY_KEY_RATE", value_name = "LIMIT")]
    #[arg(default_value = "100/s:200", value_parser = rate_limit(1))]
    pub key_rate: ::std::option::Option<RateLimit>,
    /// Wrong API keys per address, as COUNT/s|min|h|d:BURST, or off
    #[arg(long, env = "ROOKERY_FAILED_LOGINS", value_name = "LIMIT")]
    #[arg(default_value = "10/min:10", value_parser = rate_limit(1))]
    pub failed_logins: ::std::option::Option<RateLimit>,
    /// Bytes of a request body, 16384-268435456
    // 256 participants are 10 kB, a description 4 kB; the rest is room for future fields.
    #[arg(long, env = "ROOKERY_BODY_BYTES_MAX", value_name = "BYTES")]
    #[arg(default_value = "1048576", value_parser = number::<usize>(BODY_BYTES))]
    pub body_bytes_max: usize,
    /// Bytes of a file that is sent or fetched, 16384-268435456
    // In base64 a third more arrives.
    #[arg(long, env = "ROOKERY_MEDIA_BODY_BYTES_MAX", value_name = "BYTES")]
    #[arg(default_value = "67108864", value_parser = number::<usize>(BODY_BYTES))]
    pub media_body_bytes_max: usize,
    /// Seconds for a request that sends or fetches a file, 60-600
    // 64 MiB in and out again, at 1 MiB a second each.
    #[arg(long = "media-timeout-s", env = "ROOKERY_MEDIA_TIMEOUT_S", value_name = "SECONDS")]
    #[arg(default_value = "120", value_parser = seconds(MEDIA_TIME_S))]
    pub media_time_max: Duration,
    /// MiB of disk for the files that are being sent and fetched, in all, 16-1048576
    // Half of it at most for one key. Fifteen of the largest files.
    #[arg(long, env = "ROOKERY_MEDIA_DISK_MIB", value_name = "MIB")]
    #[arg(default_value = "1024", value_parser = number::<u64>(MEDIA_DISK_MIB))]
    pub media_disk_mib: u64,
    /// MiB of disk for files that were fetched, so that they need not be fetched again, 0-1048576
    // They are gone with the process. None by default: whoever wants a file has it.
    #[arg(long = "media-cache-mib", env = "ROOKERY_MEDIA_CACHE_MIB", value_name = "MIB")]
    #[arg(default_value = "0", value_parser = number::<u64>(MEDIA_CACHE_MIB))]
    pub media_cache_mib: u64,
    /// Bytes of a request's line and headers, 8192-1048576
    // Our own requests are below 1 kB.
    #[arg(long, env = "ROOKERY_HEADER_BYTES_MAX", value_name = "BYTES")]
    #[arg(default_value = "16384", value_parser = number::<usize>(HEADER_BYTES))]
    pub header_bytes_max: usize,
    /// Bytes of a request's path and query, 1024-65534
    #[arg(long, env = "ROOKERY_URL_BYTES_MAX", value_name = "BYTES")]
    #[arg(default_value = "8192", value_parser = number::<usize>(URL_BYTES))]
    pub url_bytes_max: usize,
    /// Seconds for a request's head to arrive and for a connection to idle, 1-300
    // Longer than HTTP clients keep idle connections, so that the clients close first.
    #[arg(long = "header-timeout-s", env = "ROOKERY_HEADER_TIMEOUT_S", value_name = "SECONDS")]
    #[arg(default_value = "30", value_parser = seconds(TIME_S))]
    pub header_time_max: Duration,
    /// Seconds for a request's body to arrive, 1-20
    // Enough for a megabyte over a slow phone network.
    #[arg(long = "body-timeout-s", env = "ROOKERY_BODY_TIMEOUT_S", value_name = "SECONDS")]
    #[arg(default_value = "10", value_parser = seconds(BODY_TIME_S))]
    pub body_time_max: Duration,
    /// Seconds that a client may keep a body or a response waiting, plus one for every 2 KiB, 1-60
    // Enough for a phone network that is gone for a moment.
    #[arg(long = "client-wait-s", env = "ROOKERY_CLIENT_WAIT_S", value_name = "SECONDS")]
    #[arg(default_value = "5", value_parser = seconds(CLIENT_WAIT_S))]
    pub client_wait_max: Duration,
    /// Seconds for requests in flight when the daemon stops, 1-30
    // Requests that still run then get 503.
    #[arg(long = "drain-timeout-s", env = "ROOKERY_DRAIN_TIMEOUT_S", value_name = "SECONDS")]
    #[arg(default_value = "10", value_parser = seconds(DRAIN_TIME_S))]
    pub drain_time_max: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        unset()
    }
}

impl HttpLimits {
    /// Time until a file has to be at WhatsApp: the rest is for the message that shows it.
    pub(crate) fn file_time_max(&self) -> Duration {
        self.media_time_max.saturating_sub(REQUEST_TIME_MAX)
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        unset()
    }
}
