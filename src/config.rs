//! What the operator decides, read once at start from flags and `ROOKERY_*` variables and checked before anything
//! else happens. A flag wins over its variable; an empty variable counts as not set. Never reads files.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use rookery_actors::{Pace, Paces, Settings, WHATSAPP_TIMEOUT_MAX};
use tracing_subscriber::EnvFilter;

pub use crate::auth::Secret;
pub use crate::outgoing::FetchAllow;

/// Exit code for a bad flag or variable: `EX_USAGE` of sysexits.
pub const EXIT_USAGE: u8 = 64;

/// OpenWA's port, so that its clients find us without a change.
const PORT_DEFAULT: u16 = 2785;
/// A shorter bootstrap key could be guessed by trying.
const BOOTSTRAP_KEY_CHARS: RangeInclusive<usize> = 32..=256;
/// Less than 100 ms is no answer's time.
const WHATSAPP_TIMEOUT_MS: RangeInclusive<u64> = 100..=WHATSAPP_TIMEOUT_MAX.as_millis() as u64;
/// Above this WhatsApp takes the starts of one address for an attack.
const CONNECTS_PER_SECOND: RangeInclusive<u64> = 1..=1_000;
/// As many as there can be sessions on one machine.
const CONNECTING_MAX: RangeInclusive<u64> = 1..=10_000;
/// A minute is enough for nobody, a day is a forgotten window.
const LINKING_WINDOW_S: RangeInclusive<u64> = 10..=86_400;
/// People that one request may name: a smaller burst would count them as fewer.
const PACE_ADD_BURST_MIN: u32 = 256;
/// More in a second is no limit: `off` says that.
const PACE_COUNT_MAX: u32 = 1_000_000;
/// Each open connection costs a file descriptor and up to 64 KiB.
const HTTP_CONNECTIONS_MAX: RangeInclusive<u64> = 1..=65_536;

/// Every setting of the daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Holds the store and `admin.key`; made with mode 0700 when it is missing.
    pub data_dir: PathBuf,
    /// An admin key that is valid from the first start on; `None`: one is made on first start.
    pub bootstrap_key: Option<Secret>,
    /// The WebSocket to connect sessions to.
    pub whatsapp_url: String,
    /// Milliseconds for which WhatsApp's answer is waited for.
    pub whatsapp_timeout_ms: u64,
    /// Connections to WhatsApp started per second over all sessions.
    pub connects_per_second: u32,
    /// Sessions that may be connecting at once.
    pub connecting_max: usize,
    /// Seconds for which linking stays open after a session was started.
    pub linking_window_s: u64,
    /// HTTP connections open at once; further ones wait to be accepted.
    pub http_connections_max: usize,
    /// Hosts that callers may have fetched from although their addresses are not public.
    pub fetch_allow: FetchAllow,
    /// How often each session may ask WhatsApp for what.
    pub paces: Paces,
    /// Which log lines are written, in the notation of `tracing_subscriber::EnvFilter`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            data_dir: "./data".into(),
            bootstrap_key: None,
            whatsapp_url: settings.whatsapp_url,
            whatsapp_timeout_ms: u64::try_from(settings.whatsapp_timeout.as_millis()).unwrap_or(u64::MAX),
            connects_per_second: settings.connects_per_second,
            connecting_max: settings.connecting_max,
            linking_window_s: settings.linking_window.as_secs(),
            // Half of the usual 1024 file descriptors; the other half is for sessions.
            http_connections_max: 512,
            fetch_allow: FetchAllow::default(),
            paces: settings.paces,
            log: "info".into(),
        }
    }
}

/// The settings as flags. Each has a variable of the same name, `--data-dir` being `ROOKERY_DATA_DIR`.
#[derive(Clone, Default, clap::Args)]
pub struct ServeArguments {
    /// Address and port for HTTP [ROOKERY_LISTEN, default 127.0.0.1:2785]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<OsString>,
    /// Directory of the store and of admin.key [ROOKERY_DATA_DIR, default ./data]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<OsString>,
    /// Admin key that is always valid, 32 characters or more; visible in the process list, so prefer the variable
    /// [ROOKERY_BOOTSTRAP_KEY]
    #[arg(long, value_name = "KEY")]
    bootstrap_key: Option<OsString>,
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
    /// Seconds for which linking stays open after a start, 10-86400 [ROOKERY_LINKING_WINDOW_S, default 600]
    #[arg(long, value_name = "SECONDS")]
    linking_window_s: Option<OsString>,
    /// HTTP connections open at once, 1-65536 [ROOKERY_HTTP_CONNECTIONS_MAX, default 512]
    #[arg(long, value_name = "NUMBER")]
    http_connections_max: Option<OsString>,
    /// Hosts, or host:port, that files may be fetched from although their addresses are not public; comma-separated
    /// [ROOKERY_FETCH_ALLOW, default none]
    #[arg(long, value_name = "HOSTS")]
    fetch_allow: Option<OsString>,
    #[command(flatten)]
    paces: PaceArguments,
    /// Log filter, such as info or rookery=debug [ROOKERY_LOG, default info]
    #[arg(long, value_name = "FILTER")]
    log: Option<OsString>,
}

/// The limits that protect the accounts, as flags with a variable of the same name.
#[derive(Clone, Default, clap::Args)]
pub struct PaceArguments {
    /// Groups and communities made per session, as COUNT/s|min|h|d:BURST, or off [ROOKERY_PACE_CREATE, default 10/h:5]
    #[arg(long, value_name = "PACE")]
    pace_create: Option<OsString>,
    /// People added or let in per session; the burst is 256 or more [ROOKERY_PACE_ADD, default 60/min:256]
    #[arg(long, value_name = "PACE")]
    pace_add: Option<OsString>,
    /// Other changes of groups per session [ROOKERY_PACE_WRITE, default 30/min:30]
    #[arg(long, value_name = "PACE")]
    pace_write: Option<OsString>,
    /// Questions per session that only WhatsApp can answer [ROOKERY_PACE_QUERY, default 60/min:60]
    #[arg(long, value_name = "PACE")]
    pace_query: Option<OsString>,
}

impl PaceArguments {
    /// Reads and checks them; `variable` answers the value of an environment variable.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Paces, ConfigError> {
        self.read(&Reader { variable })
    }

    fn read<F: Fn(&str) -> Option<OsString>>(self, read: &Reader<F>) -> Result<Paces, ConfigError> {
        let default = Paces::default();
        let add_burst_min = PACE_ADD_BURST_MIN;
        Ok(Paces {
            create: read.pace("pace-create", self.pace_create, default.create, 1)?,
            add: read.pace("pace-add", self.pace_add, default.add, add_burst_min)?,
            write: read.pace("pace-write", self.pace_write, default.write, 1)?,
            query: read.pace("pace-query", self.pace_query, default.query, 1)?,
        })
    }
}

/// `10/h:5` is ten an hour and five at once; `off` is no limit.
fn pace(text: &str, burst_min: u32) -> Option<Option<Pace>> {
    if text == "off" {
        return Some(None);
    }
    let (rate, burst) = text.split_once(':')?;
    let (count, unit) = rate.split_once('/')?;
    let number =
        |text: &str, least| u32::from_str(text).ok().filter(|number| (least..=PACE_COUNT_MAX).contains(number));
    let per_s = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Some(Pace::new(number(count, 1)?, Duration::from_secs(per_s), number(burst, burst_min)?)))
}

/// A setting that cannot be used: which, where it came from and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    source: String,
    /// `None` for a secret, which is not repeated.
    value: Option<String>,
    allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} is `{value}`, but must be {}", self.source, self.allowed),
            None => write!(f, "{} must be {}", self.source, self.allowed),
        }
    }
}

impl std::error::Error for ConfigError {}

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
        let secret = read.secret("bootstrap-key", flags.bootstrap_key)?;
        Ok(Self {
            listen: read.parsed("listen", flags.listen, default.listen, address, |text| text.parse().ok())?,
            data_dir: read.parsed("data-dir", flags.data_dir, default.data_dir, "a path", |text| Some(text.into()))?,
            bootstrap_key: secret,
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
            linking_window_s: read.number(
                "linking-window-s",
                flags.linking_window_s,
                default.linking_window_s,
                LINKING_WINDOW_S,
            )?,
            http_connections_max: read.number(
                "http-connections-max",
                flags.http_connections_max,
                default.http_connections_max,
                HTTP_CONNECTIONS_MAX,
            )?,
            fetch_allow: read
                .parsed("fetch-allow", flags.fetch_allow, default.fetch_allow, hosts, |text| text.parse().ok())?,
            paces: flags.paces.read(&read)?,
            log: read.parsed("log", flags.log, default.log, filter, |text| {
                EnvFilter::builder().parse(text).is_ok().then(|| text.into())
            })?,
        })
    }

    /// What of this concerns the sessions.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            whatsapp_url: self.whatsapp_url.clone(),
            whatsapp_timeout: Duration::from_millis(self.whatsapp_timeout_ms),
            connects_per_second: self.connects_per_second,
            connecting_max: self.connecting_max,
            linking_window: Duration::from_secs(self.linking_window_s),
            paces: self.paces,
            ..Settings::default()
        }
    }
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

struct Reader<F> {
    variable: F,
}

/// A value and where it came from.
struct Given {
    source: String,
    value: String,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    fn given(&self, name: &str, flag: Option<OsString>, allowed: &str) -> Result<Option<Given>, ConfigError> {
        let variable = || {
            let name = format!("ROOKERY_{}", name.replace('-', "_").to_uppercase());
            (self.variable)(&name).filter(|value| !value.is_empty()).map(|value| (name, value))
        };
        let Some((source, value)) = flag.map(|value| (format!("--{name}"), value)).or_else(variable) else {
            return Ok(None);
        };
        match value.into_string() {
            Ok(value) => Ok(Some(Given { source, value })),
            Err(_) => Err(ConfigError { source, value: None, allowed: format!("{allowed}, in UTF-8") }),
        }
    }

    fn parsed<T>(
        &self,
        name: &str,
        flag: Option<OsString>,
        default: T,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let Some(Given { source, value }) = self.given(name, flag, allowed)? else { return Ok(default) };
        let parsed = parse(&value).filter(|_| !value.is_empty());
        parsed.ok_or_else(|| ConfigError { source, value: Some(value), allowed: allowed.into() })
    }

    fn number<T: TryFrom<u64>>(
        &self,
        name: &str,
        flag: Option<OsString>,
        default: T,
        range: RangeInclusive<u64>,
    ) -> Result<T, ConfigError> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(name, flag, default, &allowed, |text| {
            u64::from_str(text).ok().filter(|number| range.contains(number)).and_then(|number| number.try_into().ok())
        })
    }

    fn pace(
        &self,
        name: &str,
        flag: Option<OsString>,
        default: Option<Pace>,
        burst_min: u32,
    ) -> Result<Option<Pace>, ConfigError> {
        let least = match burst_min {
            1 => String::new(),
            _ => format!(", with a burst of {burst_min} or more as one request may name that many people"),
        };
        let allowed =
            format!("`off`, or a count per s, min, h or d and a burst, such as 10/h:{}{least}", burst_min.max(5));
        self.parsed(name, flag, default, &allowed, |text| pace(text, burst_min))
    }

    fn secret(&self, name: &str, flag: Option<OsString>) -> Result<Option<Secret>, ConfigError> {
        let (least, most) = (BOOTSTRAP_KEY_CHARS.start(), BOOTSTRAP_KEY_CHARS.end());
        let allowed = format!("{least} to {most} characters of printable ASCII without spaces");
        let Some(Given { source, value }) = self.given(name, flag, &allowed)? else { return Ok(None) };
        let fits = BOOTSTRAP_KEY_CHARS.contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Some(value.into())) } else { Err(ConfigError { source, value: None, allowed }) }
    }

    fn whatsapp_url(&self, name: &str, flag: Option<OsString>, default: String) -> Result<String, ConfigError> {
        let allowed = whatsapp_url_rule();
        let check = |text: &str| is_whatsapp_url_allowed(text).then(|| text.to_owned());
        let url = self.parsed(name, flag, default, allowed, check)?;
        if is_whatsapp_url_allowed(&url) {
            return Ok(url);
        }
        // Only WhatsApp's own URL, the default, gets here: a build for tests must be told where its simulator is.
        Err(ConfigError {
            source: "the default of ROOKERY_WHATSAPP_URL".into(),
            value: Some(url),
            allowed: allowed.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rookery_actors::WHATSAPP_URL;

    use super::*;

    const LOOPBACK: &str = "ws://127.0.0.1:7700/ws/chat";

    fn flags(change: impl FnOnce(&mut ServeArguments)) -> ServeArguments {
        let mut flags = ServeArguments { whatsapp_url: Some(LOOPBACK.into()), ..ServeArguments::default() };
        change(&mut flags);
        flags
    }

    fn resolve_variable(name: &str, value: &str) -> Result<Config, ConfigError> {
        Config::resolve(flags(|_| ()), |asked| (asked == name).then(|| value.into()))
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_an_empty_variable_is_none() {
        let given = flags(|flags| flags.listen = Some("127.0.0.1:1".into()));
        let config = Config::resolve(given, |_| Some("".into())).unwrap();
        assert_eq!((config.listen.port(), config.connecting_max), (1, 50));
        let config = resolve_variable("ROOKERY_LISTEN", "[::1]:9").unwrap();
        assert_eq!(config.listen.to_string(), "[::1]:9");
        assert_eq!(resolve_variable("ROOKERY_HTTP_CONNECTIONS_MAX", "7").unwrap().http_connections_max, 7);
        let allow = resolve_variable("ROOKERY_FETCH_ALLOW", "10.0.0.7:8080, media.example.com").unwrap().fetch_allow;
        assert_eq!(Ok(allow), "10.0.0.7:8080,media.example.com".parse());
    }

    #[test]
    fn a_bad_value_names_itself_its_source_and_what_is_allowed() {
        let cases = [
            ("ROOKERY_LISTEN", "localhost", "ROOKERY_LISTEN is `localhost`, but must be an address and port"),
            ("ROOKERY_CONNECTS_PER_SECOND", "0", "is `0`, but must be a whole number from 1 to 1000"),
            ("ROOKERY_WHATSAPP_TIMEOUT_MS", "20 s", "is `20 s`, but must be a whole number from 100 to 20000"),
            ("ROOKERY_FETCH_ALLOW", "10.0.0.0/8", "is `10.0.0.0/8`, but must be comma-separated hosts"),
            ("ROOKERY_PACE_CREATE", "ten", "is `ten`, but must be `off`, or a count per s, min, h or d and a burst"),
            ("ROOKERY_PACE_QUERY", "1/w:1", "such as 10/h:5"),
            ("ROOKERY_LOG", "rookery=loud", "ROOKERY_LOG is `rookery=loud`, but must be a log filter"),
        ];
        for (name, value, expected) in cases {
            let error = resolve_variable(name, value).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(expected), "{error}");
        }
        let given = flags(|flags| flags.connecting_max = Some("many".into()));
        let error = Config::resolve(given, |_| None).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "--connecting-max is `many`, but must be a whole number from 1 to 10000");
    }

    #[test]
    fn a_pace_is_a_count_in_a_time_and_a_burst_or_off() {
        let hour = Duration::from_secs(3_600);
        let cases = [
            ("off", Some(None)),
            ("10/h:5", Some(Some(Pace::new(10, hour, 5)))),
            ("1/s:1", Some(Some(Pace::new(1, Duration::from_secs(1), 1)))),
            ("60/min:256", Some(Some(Pace::new(60, Duration::from_secs(60), 256)))),
            ("1000000/d:1000000", Some(Some(Pace::new(1_000_000, hour * 24, 1_000_000)))),
            ("0/h:5", None),
            ("10/h:0", None),
            ("10/h", None),
            ("10:5", None),
            ("10/hour:5", None),
            ("-1/h:5", None),
            ("10/h:1000001", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(pace(text, 1), expected, "{text}");
        }
    }

    #[test]
    fn paces_are_the_actors_own_unless_told_otherwise() {
        assert_eq!(resolve_variable("ROOKERY_LOG", "info").unwrap().paces, Paces::default());
        let paces = resolve_variable("ROOKERY_PACE_CREATE", "off").unwrap().settings().paces;
        assert_eq!(paces, Paces { create: None, ..Paces::default() });
        let flags = PaceArguments { pace_write: Some("7/s:9".into()), ..PaceArguments::default() };
        let write = flags.resolve(|_| None).unwrap().write;
        assert_eq!(write, Some(Pace::new(7, Duration::from_secs(1), 9)));
        let error = resolve_variable("ROOKERY_PACE_ADD", "60/min:255").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("a burst of 256 or more as one request may name that many people"), "{error}");
    }

    #[test]
    fn a_bad_bootstrap_key_is_not_repeated() {
        let error = resolve_variable("ROOKERY_BOOTSTRAP_KEY", "hunter2").map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("ROOKERY_BOOTSTRAP_KEY must be 32 to 256 characters") && !error.contains("hunter2"));
        let config = resolve_variable("ROOKERY_BOOTSTRAP_KEY", &"k".repeat(32)).unwrap();
        assert!(!format!("{config:?}").contains("kkkk"));
    }

    #[test]
    fn a_whatsapp_url_is_encrypted_or_on_loopback() {
        let own = !cfg!(feature = "simulator");
        let cases = [
            (WHATSAPP_URL, own),
            ("wss://example.com/ws/chat", own),
            ("ws://example.com/ws/chat", false),
            ("ws://127.0.0.1.example.com/", false),
            ("ws://localhost:7700/ws/chat", true),
            ("ws://[::1]:7700/ws/chat", true),
            ("wss://127.8.9.1:7700/ws/chat", true),
            ("http://127.0.0.1:7700/", false),
            ("127.0.0.1:7700", false),
            ("", false),
        ];
        for (url, allowed) in cases {
            assert_eq!(is_whatsapp_url_allowed(url), allowed, "{url}");
        }
        let without = ServeArguments::default();
        assert_eq!(Config::resolve(without, |_| None).is_ok(), own);
    }
}
