//! What the operator decides, read once at start from flags and `ROOKERY_*` variables and checked before anything
//! else happens. A flag wins over its variable; an empty variable counts as not set. Never reads files.

mod cors_origins;
mod http;
mod http_options;
mod rate_limits;
mod reader;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use rookery_actors::{RateLimits, SessionOptions, WHATSAPP_TIMEOUT_MAX};
use tracing_subscriber::EnvFilter;

pub use crate::audit::Retention;
pub use crate::auth::{AddressRange, Secret};
pub use crate::data_dir::DataLocation;
pub use crate::url_fetch::FetchAllow;
pub use cors_origins::CorsOrigins;
pub use http::HttpArguments;
#[cfg(test)]
pub(crate) use http_options::DRAIN_TIME_S;
pub use http_options::{HttpLimits, HttpOptions};
pub use rate_limits::RateLimitArguments;
pub use reader::ConfigError;
use reader::Reader;
pub(crate) use reader::{BOOTSTRAP_KEY_RULE, bootstrap_key};

/// Exit code for a bad flag or variable: `EX_USAGE` of sysexits.
pub const EXIT_USAGE: u8 = 64;

/// OpenWA's port, so that its clients find us without a change.
const PORT_DEFAULT: u16 = 2785;
/// Less than 100 ms is no answer's time.
const WHATSAPP_TIMEOUT_MS: RangeInclusive<u64> = 100..=WHATSAPP_TIMEOUT_MAX.as_millis() as u64;
/// Above this WhatsApp takes the starts of one address for an attack.
const CONNECTS_PER_SECOND: RangeInclusive<u64> = 1..=1_000;
/// As many as there can be sessions on one machine.
const CONNECTING_MAX: RangeInclusive<u64> = 1..=10_000;
/// A tenant has a few; each change copies the table of all of them.
const API_KEYS_DEFAULT: usize = 1_000;
/// All of them are in memory and in one answer.
const API_KEYS_MAX: RangeInclusive<u64> = 1..=10_000;
/// One that is stopped takes some kilobytes of memory: more than fit into one process when they run.
const SESSIONS_MAX: RangeInclusive<u64> = 1..=100_000;
/// More at once no account of a person has.
const REQUESTS_PER_SESSION_MAX: RangeInclusive<u64> = 1..=1_000;
/// Less than a day is no log, ten years are more than any law asks for.
const AUDIT_DAYS: RangeInclusive<u64> = 1..=3_650;
/// Ten million records are 5 GB.
const AUDIT_RECORDS_MAX: RangeInclusive<u64> = 1_000..=10_000_000;
/// A minute is enough for nobody, a day is a forgotten window.
const LINKING_WINDOW_S: RangeInclusive<u64> = 10..=86_400;

/// Every setting of the daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Holds the store and `admin.key`; made with mode 0700 when it is missing.
    pub data_dir: PathBuf,
    /// Holds the key of the store; `None`: a credential of systemd, or else a file in the data directory.
    pub store_key_file: Option<PathBuf>,
    /// Where systemd puts credentials.
    pub credentials_dir: Option<PathBuf>,
    /// Bytes that the store wants free on its volume to change anything; `None`: 64 MiB. No flag sets it.
    pub free_space_min_bytes: Option<u64>,
    /// An admin key that is valid from the first start on; `None`: that of the file or credential, or else one is made on first
    /// start.
    pub bootstrap_key: Option<Secret>,
    /// A file that holds it.
    pub bootstrap_key_file: Option<PathBuf>,
    /// API keys that there may be.
    pub api_keys_max: usize,
    /// Sessions that there may be.
    pub sessions_max: usize,
    /// The WebSocket to connect sessions to.
    pub whatsapp_url: String,
    /// Milliseconds for which WhatsApp's answer is waited for.
    pub whatsapp_timeout_ms: u64,
    /// Connections to WhatsApp started per second over all sessions.
    pub connects_per_second: u32,
    /// Sessions that may be connecting at once.
    pub connecting_max: usize,
    /// Requests of one session that may be at WhatsApp at once.
    pub requests_per_session_max: usize,
    /// Seconds for which linking stays open after a session was started.
    pub linking_window_s: u64,
    /// Limits of HTTP, trusted proxies, and web pages that may call.
    pub http: HttpOptions,
    /// Hosts that callers may have fetched from although their addresses are not public.
    pub fetch_allow: FetchAllow,
    /// How long the audit log is kept.
    pub audit: Retention,
    /// How often each session may ask WhatsApp for what.
    pub rate_limits: RateLimits,
    /// Which log lines are written, in the notation of `tracing_subscriber::EnvFilter`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        let settings = SessionOptions::default();
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            data_dir: "./data".into(),
            store_key_file: None,
            credentials_dir: None,
            free_space_min_bytes: None,
            bootstrap_key: None,
            bootstrap_key_file: None,
            api_keys_max: API_KEYS_DEFAULT,
            sessions_max: settings.sessions_max,
            whatsapp_url: settings.whatsapp_url,
            whatsapp_timeout_ms: u64::try_from(settings.whatsapp_timeout.as_millis()).unwrap_or(u64::MAX),
            connects_per_second: settings.connects_per_second,
            connecting_max: settings.connecting_max,
            requests_per_session_max: settings.requests_per_session_max,
            linking_window_s: settings.linking_window.as_secs(),
            http: HttpOptions::default(),
            fetch_allow: FetchAllow::default(),
            audit: Retention::default(),
            rate_limits: settings.rate_limits,
            log: "info".into(),
        }
    }
}

/// Where the data is, as flags with a variable of the same name.
#[derive(Clone, Default, clap::Args)]
pub struct DataLocationArguments {
    /// Directory of the store and of admin.key [ROOKERY_DATA_DIR, default ./data]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<OsString>,
    /// File with the key that the store is encrypted with, 64 hex digits [ROOKERY_STORE_KEY_FILE, default a credential of
    /// systemd named rookery-store-key, or else store.key in the data directory]
    #[arg(long, value_name = "FILE")]
    store_key_file: Option<OsString>,
}

impl DataLocationArguments {
    /// Reads and checks them; `variable` answers the value of an environment variable.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<DataLocation, ConfigError> {
        self.read(&Reader { variable })
    }

    fn read<F: Fn(&str) -> Option<OsString>>(self, read: &Reader<F>) -> Result<DataLocation, ConfigError> {
        let path = |text: &str| Some(PathBuf::from(text));
        Ok(DataLocation {
            data_dir: read.parsed("data-dir", self.data_dir, Config::default().data_dir, "a path", path)?,
            store_key_file: read
                .parsed("store-key-file", self.store_key_file, None, "a path", |text| Some(path(text)))?,
            credentials_dir: (read.variable)("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            free_space_min_bytes: None,
        })
    }
}

/// The settings as flags. Each has a variable of the same name, `--data-dir` being `ROOKERY_DATA_DIR`.
#[derive(Clone, Default, clap::Args)]
pub struct ServeArguments {
    /// Address and port for HTTP [ROOKERY_LISTEN, default 127.0.0.1:2785]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<OsString>,
    #[command(flatten)]
    location: DataLocationArguments,
    /// Refused: everybody on the machine can read it in the list of processes
    #[arg(long, value_name = "KEY", hide = true)]
    bootstrap_key: Option<OsString>,
    /// File with an admin key that is always valid, 32 characters or more [ROOKERY_BOOTSTRAP_KEY_FILE, default a credential of
    /// systemd named rookery-bootstrap-key, if there is one; or the key itself in ROOKERY_BOOTSTRAP_KEY]
    #[arg(long, value_name = "FILE")]
    bootstrap_key_file: Option<OsString>,
    /// API keys that there may be, 1-10000 [ROOKERY_API_KEYS_MAX, default 1000]
    #[arg(long, value_name = "NUMBER")]
    api_keys_max: Option<OsString>,
    /// Sessions that there may be, 1-100000 [ROOKERY_SESSIONS_MAX, default 10000]
    #[arg(long, value_name = "NUMBER")]
    sessions_max: Option<OsString>,
    /// WebSocket to connect sessions to [ROOKERY_WHATSAPP_URL, default WhatsApp's own]
    #[arg(long, value_name = "URL")]
    whatsapp_url: Option<OsString>,
    /// Milliseconds to wait for WhatsApp's answer, 100-20000 [ROOKERY_WHATSAPP_TIMEOUT_MS, default 20000]
    #[arg(long, value_name = "MS")]
    whatsapp_timeout_ms: Option<OsString>,
    /// Connections to WhatsApp started per second, 1-1000 [ROOKERY_CONNECTS_PER_SECOND, default 20]
    #[arg(long, value_name = "NUMBER")]
    connects_per_second: Option<OsString>,
    /// Sessions connecting at once, 1-10000 [ROOKERY_CONNECTING_MAX, default 50]
    #[arg(long, value_name = "NUMBER")]
    connecting_max: Option<OsString>,
    /// Requests of one session at WhatsApp at once, 1-1000 [ROOKERY_REQUESTS_PER_SESSION_MAX, default 64]
    #[arg(long, value_name = "NUMBER")]
    requests_per_session_max: Option<OsString>,
    /// Seconds for which linking stays open after a start, 10-86400 [ROOKERY_LINKING_WINDOW_S, default 600]
    #[arg(long, value_name = "SECONDS")]
    linking_window_s: Option<OsString>,
    #[command(flatten)]
    http: HttpArguments,
    /// Hosts, or host:port, that files may be fetched from although their addresses are not public; comma-separated
    /// [ROOKERY_FETCH_ALLOW, default none]
    #[arg(long, value_name = "HOSTS")]
    fetch_allow: Option<OsString>,
    /// Days for which the audit log is kept, 1-3650 [ROOKERY_AUDIT_DAYS, default 90]
    #[arg(long, value_name = "DAYS")]
    audit_days: Option<OsString>,
    /// Records that the audit log keeps at most, 1000-10000000 [ROOKERY_AUDIT_RECORDS_MAX, default 100000]
    #[arg(long, value_name = "NUMBER")]
    audit_records_max: Option<OsString>,
    #[command(flatten)]
    rate_limits: RateLimitArguments,
    /// Log filter, such as info or rookery=debug [ROOKERY_LOG, default info]
    #[arg(long, value_name = "FILTER")]
    log: Option<OsString>,
}

impl Config {
    /// Reads and checks every setting; `variable` answers the value of an environment variable.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn resolve(flags: ServeArguments, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let read = Reader { variable };
        let address = "an address and port, such as 127.0.0.1:2785 or [::]:2785";
        let filter = "a log filter, such as info or rookery=debug";
        let hosts = "comma-separated hosts, each with or without a port, such as media.example.com,10.0.0.7:8080";
        if flags.bootstrap_key.is_some() {
            return Err(ConfigError::bootstrap_flag());
        }
        let secret = read.secret("bootstrap-key")?;
        let location = flags.location.read(&read)?;
        Ok(Self {
            listen: read.parsed("listen", flags.listen, default.listen, address, |text| text.parse().ok())?,
            data_dir: location.data_dir,
            store_key_file: location.store_key_file,
            credentials_dir: location.credentials_dir,
            free_space_min_bytes: location.free_space_min_bytes,
            bootstrap_key: secret,
            bootstrap_key_file: read.parsed(
                "bootstrap-key-file",
                flags.bootstrap_key_file,
                None,
                "a path",
                |text| Some(Some(text.into())),
            )?,
            api_keys_max: read.number("api-keys-max", flags.api_keys_max, default.api_keys_max, API_KEYS_MAX)?,
            sessions_max: read.number("sessions-max", flags.sessions_max, default.sessions_max, SESSIONS_MAX)?,
            whatsapp_url: read.whatsapp_url("whatsapp-url", flags.whatsapp_url, default.whatsapp_url)?,
            whatsapp_timeout_ms: read.number(
                "whatsapp-timeout-ms",
                flags.whatsapp_timeout_ms,
                default.whatsapp_timeout_ms,
                WHATSAPP_TIMEOUT_MS,
            )?,
            connects_per_second: read.number(
                "connects-per-second",
                flags.connects_per_second,
                default.connects_per_second,
                CONNECTS_PER_SECOND,
            )?,
            connecting_max: read.number(
                "connecting-max",
                flags.connecting_max,
                default.connecting_max,
                CONNECTING_MAX,
            )?,
            requests_per_session_max: read.number(
                "requests-per-session-max",
                flags.requests_per_session_max,
                default.requests_per_session_max,
                REQUESTS_PER_SESSION_MAX,
            )?,
            linking_window_s: read.number(
                "linking-window-s",
                flags.linking_window_s,
                default.linking_window_s,
                LINKING_WINDOW_S,
            )?,
            http: flags.http.read(&read)?,
            fetch_allow: read
                .parsed("fetch-allow", flags.fetch_allow, default.fetch_allow, hosts, |text| text.parse().ok())?,
            audit: retention(&read, flags.audit_days, flags.audit_records_max)?,
            rate_limits: flags.rate_limits.read(&read)?,
            log: read.parsed("log", flags.log, default.log, filter, |text| {
                EnvFilter::builder().parse(text).is_ok().then(|| text.into())
            })?,
        })
    }

    /// Where the data is.
    #[must_use]
    pub fn location(&self) -> DataLocation {
        let Self { data_dir, store_key_file, credentials_dir, free_space_min_bytes, .. } = self.clone();
        DataLocation { data_dir, store_key_file, credentials_dir, free_space_min_bytes }
    }

    /// What of this concerns the sessions.
    #[must_use]
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions {
            whatsapp_url: self.whatsapp_url.clone(),
            whatsapp_timeout: Duration::from_millis(self.whatsapp_timeout_ms),
            connects_per_second: self.connects_per_second,
            connecting_max: self.connecting_max,
            requests_per_session_max: self.requests_per_session_max,
            linking_window: Duration::from_secs(self.linking_window_s),
            sessions_max: self.sessions_max,
            rate_limits: self.rate_limits,
            ..SessionOptions::default()
        }
    }
}

fn retention<F: Fn(&str) -> Option<OsString>>(
    read: &Reader<F>,
    days: Option<OsString>,
    records_max: Option<OsString>,
) -> Result<Retention, ConfigError> {
    let default = Retention::default();
    Ok(Retention {
        days: read.number("audit-days", days, default.days, AUDIT_DAYS)?,
        records_max: read.number("audit-records-max", records_max, default.records_max, AUDIT_RECORDS_MAX)?,
    })
}

/// What a WhatsApp URL must be in this build.
#[must_use]
pub fn whatsapp_url_rule() -> &'static str {
    if cfg!(feature = "simulator") {
        "a ws:// or wss:// URL on loopback: this build has the feature `simulator` and trusts any server"
    } else {
        "a wss:// URL, or a ws:// URL on loopback"
    }
}

/// Whether sessions of this build may connect to this URL.
#[must_use]
pub fn is_whatsapp_url_allowed(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let Some(host) = url.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("wss") => is_loopback || !cfg!(feature = "simulator"),
        Some("ws") => is_loopback,
        _ => false,
    }
}
