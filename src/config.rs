//! The operator's settings, as flags and `ROOKERY_*` variables. clap reads and checks them at the start, before
//! anything else happens. A flag wins over its variable; an empty variable counts as not set. Never reads files.

mod cors_origins;
mod data_location;
mod http;
mod parsers;
mod rate_limits;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::Uri;
use clap::Command;
use clap::builder::Resettable;
use clap::error::ErrorKind;
use rookery_actors::{SessionOptions, WHATSAPP_TIMEOUT_MAX, WHATSAPP_URL, tls_config_trusting};
use rookery_store::{EVENTS_BYTES_MAX_MIN, EventLogOptions};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tracing_subscriber::EnvFilter;

pub use crate::audit::Retention;
pub use crate::auth::{AddressRange, Secret};
use crate::clock::Clock;
pub use crate::url_fetch::FetchAllow;
use crate::url_fetch::Guard;
use crate::webhooks::WebhookOptions;
pub use cors_origins::CorsOrigins;
pub use data_location::DataLocation;
#[cfg(test)]
pub(crate) use http::DRAIN_TIME_S;
pub use http::{HttpLimits, HttpOptions};
pub(crate) use parsers::{BOOTSTRAP_KEY_RULE, bootstrap_key};
use parsers::{Setting, from_str, from_str_or_default, number, path, secret};
pub use rate_limits::RateLimitArguments;

/// Exit code for a bad flag or variable: `EX_USAGE` of sysexits.
pub const EXIT_USAGE: u8 = 64;

/// OpenWA's port, so that its clients find us without a change.
const LISTEN_DEFAULT: &str = "127.0.0.1:2785";
/// No response from WhatsApp takes less than 100 ms.
const WHATSAPP_TIMEOUT_MS: RangeInclusive<u64> = 100..=WHATSAPP_TIMEOUT_MAX.as_millis() as u64;
/// Above this, WhatsApp takes the new connections of one address for an attack.
const CONNECTS_PER_SECOND: RangeInclusive<u64> = 1..=1_000;
/// Phones cut longer names off.
const DEVICE_NAME_CHARS_MAX: usize = 40;
/// As many as the sessions that can run on one machine.
const CONNECTING_MAX: RangeInclusive<u64> = 1..=10_000;
/// A tenant has a few keys; each change copies the table of all keys.
const API_KEYS_DEFAULT: &str = "1000";
/// All keys are in memory and in one response.
const API_KEYS_MAX: RangeInclusive<u64> = 1..=10_000;
/// A stopped session takes a few kilobytes of memory. The limit is more than the sessions that can run in one process.
const SESSIONS_MAX: RangeInclusive<u64> = 1..=100_000;
/// No person's account has more at once.
const REQUESTS_PER_SESSION_MAX: RangeInclusive<u64> = 1..=1_000;
/// Less than a day is no log; no law asks for more than ten years.
const AUDIT_DAYS: RangeInclusive<u64> = 1..=3_650;
/// Ten million records are 5 GB.
const AUDIT_RECORDS_MAX: RangeInclusive<u64> = 1_000..=10_000_000;
/// A hub that was down over a weekend reads on; no law asks for more than ten years.
const EVENTS_DAYS: RangeInclusive<u64> = 1..=3_650;
/// Less is no log; more is no disk of one daemon.
const EVENTS_MIB_MAX: RangeInclusive<u64> = EVENTS_BYTES_MAX_MIN / MIB..=1_024 * 1_024;
const MIB: u64 = 1_024 * 1_024;
/// A receiver is down over a night or a weekend; events are kept 30 days.
const WEBHOOK_RETRY_HOURS: RangeInclusive<u64> = 1..=720;
/// Less than 10 s is too short to link a phone; more than a day is a forgotten window.
const LINKING_WINDOW_S: RangeInclusive<u64> = 10..=86_400;
/// A person needs some seconds to find the passkey; WhatsApp waits for ten minutes.
const PASSKEY_WINDOW_S: RangeInclusive<u64> = 10..=600;

const ADDRESS: &str = "an address and port, such as 127.0.0.1:2785 or [::]:2785";
const FILTER: &str = "a log filter, such as info or rookery=debug";
const HOSTS: &str = "comma-separated hosts, each with or without a port, such as media.example.com,10.0.0.7:8080";

/// Every setting of the daemon.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Address and port for HTTP
    #[arg(long, env = "ROOKERY_LISTEN", value_name = "ADDRESS")]
    #[arg(default_value = LISTEN_DEFAULT, value_parser = from_str::<SocketAddr>(ADDRESS))]
    pub listen: SocketAddr,
    /// Where the data is.
    #[command(flatten)]
    pub location: DataLocation,
    /// An admin key that is valid from the first start on
    // Without this key, the key of the file or credential is used; without those, one is made on the first start.
    #[arg(long, env = "ROOKERY_BOOTSTRAP_KEY", value_name = "KEY", hide = true, value_parser = secret())]
    pub bootstrap_key: Option<Secret>,
    /// File with an admin key that is always valid, 32 characters or more [default: a credential of systemd named
    /// rookery-bootstrap-key, if there is one; or the key itself in ROOKERY_BOOTSTRAP_KEY]
    #[arg(long, env = "ROOKERY_BOOTSTRAP_KEY_FILE", value_name = "FILE", value_parser = path())]
    pub bootstrap_key_file: Option<PathBuf>,
    /// Highest number of API keys, 1-10000
    #[arg(long, env = "ROOKERY_API_KEYS_MAX", value_name = "NUMBER")]
    #[arg(default_value = API_KEYS_DEFAULT, value_parser = number::<usize>(API_KEYS_MAX))]
    pub api_keys_max: usize,
    /// Highest number of sessions, 1-100000
    #[arg(long, env = "ROOKERY_SESSIONS_MAX", value_name = "NUMBER")]
    #[arg(default_value = "10000", value_parser = number::<usize>(SESSIONS_MAX))]
    pub sessions_max: usize,
    /// WebSocket to connect sessions to [default: WhatsApp's own]
    #[arg(long, env = "ROOKERY_WHATSAPP_URL", value_name = "URL")]
    #[arg(default_value = WHATSAPP_URL, hide_default_value = true, value_parser = whatsapp_url())]
    pub whatsapp_url: String,
    /// Milliseconds to wait for WhatsApp's answer, 100-20000
    #[arg(long, env = "ROOKERY_WHATSAPP_TIMEOUT_MS", value_name = "MS")]
    #[arg(default_value = "20000", value_parser = number::<u64>(WHATSAPP_TIMEOUT_MS))]
    pub whatsapp_timeout_ms: u64,
    /// Connections to WhatsApp started per second over all sessions, 1-1000
    #[arg(long, env = "ROOKERY_CONNECTS_PER_SECOND", value_name = "NUMBER")]
    #[arg(default_value = "20", value_parser = number::<u32>(CONNECTS_PER_SECOND))]
    pub connects_per_second: u32,
    /// Sessions connecting at once, for each proxy and without one, 1-10000
    #[arg(long, env = "ROOKERY_CONNECTING_MAX", value_name = "NUMBER")]
    #[arg(default_value = "50", value_parser = number::<usize>(CONNECTING_MAX))]
    pub connecting_max: usize,
    /// Requests of one session to WhatsApp at once, 1-1000
    #[arg(long, env = "ROOKERY_REQUESTS_PER_SESSION_MAX", value_name = "NUMBER")]
    #[arg(default_value = "64", value_parser = number::<usize>(REQUESTS_PER_SESSION_MAX))]
    pub requests_per_session_max: usize,
    /// Seconds for which linking stays open after a start, 10-86400
    #[arg(long, env = "ROOKERY_LINKING_WINDOW_S", value_name = "SECONDS")]
    #[arg(default_value = "600", value_parser = number::<u64>(LINKING_WINDOW_S))]
    pub linking_window_s: u64,
    /// Seconds for each step of a link with a passkey at most, 10-600
    #[arg(long, env = "ROOKERY_PASSKEY_WINDOW_S", value_name = "SECONDS")]
    #[arg(default_value = "600", value_parser = number::<u64>(PASSKEY_WINDOW_S))]
    pub passkey_window_s: u64,
    /// Name in the phone's list of linked devices, 1-40 characters; pairing codes name a browser and a system instead, such as
    /// Chrome (Linux), as WhatsApp refuses other names there
    #[arg(long, env = "ROOKERY_DEVICE_NAME", value_name = "NAME")]
    #[arg(default_value = "Rookery", value_parser = device_name())]
    pub device_name: String,
    /// Limits of HTTP, trusted proxies, and web pages that may call.
    #[command(flatten)]
    pub http: HttpOptions,
    /// Hosts, or host:port, that files may be fetched from and webhooks delivered to although their addresses are not public;
    /// comma-separated [default: none]
    #[arg(long, env = "ROOKERY_FETCH_ALLOW", value_name = "HOSTS")]
    #[arg(default_value = "", hide_default_value = true, value_parser = from_str_or_default::<FetchAllow>(HOSTS))]
    pub fetch_allow: FetchAllow,
    /// Days for which the audit log is kept, 1-3650
    #[arg(long, env = "ROOKERY_AUDIT_DAYS", value_name = "DAYS")]
    #[arg(default_value = "90", value_parser = number::<u32>(AUDIT_DAYS))]
    pub audit_days: u32,
    /// Records that the audit log keeps at most, 1000-10000000
    #[arg(long, env = "ROOKERY_AUDIT_RECORDS_MAX", value_name = "NUMBER")]
    #[arg(default_value = "100000", value_parser = number::<u64>(AUDIT_RECORDS_MAX))]
    pub audit_records_max: u64,
    /// Days for which events are kept, 1-3650
    #[arg(long, env = "ROOKERY_EVENTS_DAYS", value_name = "DAYS")]
    #[arg(default_value = "30", value_parser = number::<u32>(EVENTS_DAYS))]
    pub events_days: u32,
    /// MiB of disk that all events may take, 64-1048576; beyond it, the sessions with the most events lose their oldest ones
    #[arg(long, env = "ROOKERY_EVENTS_MIB_MAX", value_name = "MIB")]
    #[arg(default_value = "10240", value_parser = number::<u64>(EVENTS_MIB_MAX))]
    pub events_mib_max: u64,
    /// Hours for which a failed delivery to a webhook is tried again, 1-720
    #[arg(long, env = "ROOKERY_WEBHOOK_RETRY_HOURS", value_name = "HOURS")]
    #[arg(default_value = "24", value_parser = number::<u32>(WEBHOOK_RETRY_HOURS))]
    pub webhook_retry_hours: u32,
    /// PEM file with certificates of authorities that webhooks' receivers may have beside the public ones [default: none]
    #[arg(long, env = "ROOKERY_WEBHOOK_CA_FILE", value_name = "FILE", value_parser = path())]
    pub webhook_ca_file: Option<PathBuf>,
    /// The rate limits of each session's requests to WhatsApp.
    #[command(flatten)]
    pub rate_limits: RateLimitArguments,
    /// Whether unknown phone numbers are looked up at WhatsApp before they are used, true or false
    #[arg(long, env = "ROOKERY_NUMBER_LOOKUP", value_name = "BOOL", action = clap::ArgAction::Set)]
    #[arg(default_value = "true", value_parser = from_str::<bool>("true or false"))]
    pub number_lookup: bool,
    /// Whether the texts of messages are kept, and what is needed to fetch their files, true or false
    #[arg(long, env = "ROOKERY_STORE_MESSAGE_TEXT", value_name = "BOOL", action = clap::ArgAction::Set)]
    #[arg(default_value = "true", value_parser = from_str::<bool>("true or false"))]
    pub store_message_text: bool,
    /// Log filter, such as info or rookery=debug
    // In the notation of `tracing_subscriber::EnvFilter`.
    #[arg(long, env = "ROOKERY_LOG", value_name = "FILTER", default_value = "info", value_parser = log_filter())]
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        unset()
    }
}

impl Config {
    /// Checks the settings that depend on the build.
    ///
    /// # Errors
    /// A build for tests has no URL of its simulator.
    pub fn check(&self) -> Result<(), clap::Error> {
        if is_whatsapp_url_allowed(&self.whatsapp_url) {
            return Ok(());
        }
        // The parser accepts WhatsApp's own URL, as it is the default.
        let (url, rule) = (&self.whatsapp_url, whatsapp_url_rule());
        let message =
            format!("the WhatsApp URL is `{url}`, its default, but must be {rule}; set ROOKERY_WHATSAPP_URL\n");
        Err(clap::Error::raw(ErrorKind::ValueValidation, message))
    }

    /// How long the audit log is kept.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention { days: self.audit_days, records_max: self.audit_records_max }
    }

    /// How the event log is kept; `clock` is not one that jumps ahead.
    pub(crate) fn event_log(&self, clock: Clock) -> EventLogOptions {
        let defaults = EventLogOptions::default();
        EventLogOptions {
            kept_days: self.events_days,
            bytes_max: self.events_mib_max * MIB,
            free_space_min_bytes: self.location.free_space_min_bytes.unwrap_or(defaults.free_space_min_bytes),
            now: Arc::new(move || clock.earliest().0),
            ..defaults
        }
    }

    /// The settings of webhooks.
    ///
    /// # Errors
    /// The file of authorities cannot be read.
    pub(crate) fn webhooks(&self, guard: Guard) -> anyhow::Result<WebhookOptions> {
        let authorities = self.webhook_ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default();
        let tls = tls_config_trusting(&authorities).context("could not use the certificates of --webhook-ca-file")?;
        Ok(WebhookOptions { retry_time: Duration::from_secs(u64::from(self.webhook_retry_hours) * 3_600), guard, tls })
    }

    /// The settings of the sessions.
    #[must_use]
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions {
            whatsapp_url: self.whatsapp_url.clone(),
            whatsapp_timeout: Duration::from_millis(self.whatsapp_timeout_ms),
            connects_per_second: self.connects_per_second,
            connecting_max: self.connecting_max,
            requests_per_session_max: self.requests_per_session_max,
            linking_window: Duration::from_secs(self.linking_window_s),
            passkey_window: Duration::from_secs(self.passkey_window_s),
            sessions_max: self.sessions_max,
            rate_limits: (&self.rate_limits).into(),
            number_lookup: self.number_lookup,
            device_name: self.device_name.clone(),
            store_message_text: self.store_message_text,
        }
    }
}

/// The certificates of a PEM file.
fn authorities(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || format!("could not read the certificates of --webhook-ca-file in `{}`", file.display());
    let found =
        CertificateDer::pem_file_iter(file).with_context(read)?.collect::<Result<Vec<_>, _>>().with_context(read)?;
    anyhow::ensure!(!found.is_empty(), "`{}` of --webhook-ca-file holds no certificate in PEM", file.display());
    Ok(found)
}

/// The command with its variables applied: an empty variable is not set, and a limit may be set by its old name.
#[must_use]
pub fn with_variables(command: Command) -> Command {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let with_variable = |arg: clap::Arg| {
        let Some(name) = arg.get_env().and_then(|name| name.to_str()) else { return arg };
        if is_set(name) {
            return arg;
        }
        match RateLimitArguments::VARIABLES_BEFORE.into_iter().find(|(today, _)| *today == name) {
            Some((_, before)) if is_set(before) => arg.env(before),
            _ if std::env::var_os(name).is_some() => arg.env(Resettable::Reset),
            _ => arg,
        }
    };
    // The help must not show the values of variables.
    command.mut_args(|arg| with_variable(arg).hide_env_values(true)).mut_subcommands(with_variables)
}

/// The command without the variables of its own flags: each subcommand has those that it needs.
#[must_use]
pub fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| arg.env(Resettable::Reset))
}

/// The settings when neither a flag nor a variable is set.
fn unset<T: clap::Args>() -> T {
    let command = without_variables(T::augment_args(Command::new("rookery").no_binary_name(true)));
    let given = command.try_get_matches_from([""; 0]).and_then(|given| T::from_arg_matches(&given));
    // The defaults are part of the program.
    given.unwrap_or_else(|error| error.exit())
}

fn device_name() -> Setting<String> {
    Setting::new("1 to 40 characters without control characters", |text| {
        let is_plain = !text.trim().is_empty() && !text.chars().any(char::is_control);
        (is_plain && text.chars().count() <= DEVICE_NAME_CHARS_MAX).then(|| text.into())
    })
}

fn log_filter() -> Setting<String> {
    Setting::new(FILTER, |text| EnvFilter::builder().parse(text).is_ok().then(|| text.into()))
}

fn whatsapp_url() -> Setting<String> {
    // The default is checked later, when it is known that the daemon is to be started.
    let is_known = |text: &str| is_whatsapp_url_allowed(text) || text == WHATSAPP_URL;
    Setting::new(whatsapp_url_rule(), move |text| is_known(text).then(|| text.into()))
}

/// The rule for a WhatsApp URL in this build.
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
