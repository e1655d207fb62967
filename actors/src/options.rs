//! The operator's options for the sessions. The code that reads the configuration checks them.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use rookery_engine::{EngineOptions, WHATSAPP_URL};

/// How often something may be done: a number at once, and a number per time in the long run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many fit into [`RateLimit::per`] in the long run.
    pub count: NonZeroU32,
    /// The time in which [`RateLimit::count`] fit.
    pub per: Duration,
    /// How many may be done at once after a pause.
    pub burst: NonZeroU32,
}

/// Our own limits per session, which keep an account from being noticed; `None`: no limit. Reads from the cache are free.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Groups and communities made.
    pub create: Option<RateLimit>,
    /// People added or let in. A request for many counts as many.
    pub add: Option<RateLimit>,
    /// Every other change.
    pub write: Option<RateLimit>,
    /// Questions that only WhatsApp can answer.
    pub query: Option<RateLimit>,
    /// Lookups of phone numbers at WhatsApp, each of all unknown numbers of a request.
    pub lookup: Option<RateLimit>,
    /// Messages sent.
    pub message: Option<RateLimit>,
}

impl RateLimit {
    /// A limit of `count` in the time `per`, and of `burst` at once. A zero counts as one.
    #[must_use]
    pub fn new(count: u32, per: Duration, burst: u32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self { count: at_least_one(count), per, burst: at_least_one(burst) }
    }

    /// The governor's quota for this limit.
    #[must_use]
    pub fn quota(&self) -> Quota {
        let quota = Quota::with_period(self.period()).unwrap_or_else(|| Quota::per_second(self.count));
        quota.allow_burst(self.burst)
    }

    /// The time after which one more fits.
    #[must_use]
    pub fn period(&self) -> Duration {
        // A quota needs a period above zero: one nanosecond comes close enough.
        (self.per / self.count.get()).max(Duration::from_nanos(1))
    }
}

impl std::fmt::Display for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at once and {} ", self.burst, self.count)?;
        match self.per.as_secs() {
            1 => f.write_str("a second"),
            60 => f.write_str("a minute"),
            3_600 => f.write_str("an hour"),
            86_400 => f.write_str("a day"),
            seconds => write!(f, "in {seconds} s"),
        }
    }
}

impl Default for RateLimits {
    /// These limits are below the rates that are reported to get accounts restricted. A person with a phone rarely goes
    /// faster.
    fn default() -> Self {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
        Self {
            create: Some(RateLimit::new(10, hour, 5)),
            add: Some(RateLimit::new(60, minute, 256)),
            write: Some(RateLimit::new(30, minute, 30)),
            query: Some(RateLimit::new(60, minute, 60)),
            lookup: Some(RateLimit::new(20, minute, 20)),
            message: Some(RateLimit::new(30, minute, 10)),
        }
    }
}

/// Whole seconds, rounded up: a caller who comes back after this time gets through.
#[must_use]
pub fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
}

/// Options of all sessions of one daemon.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The WebSocket to connect to; WhatsApp's own unless a simulator is used.
    pub whatsapp_url: String,
    /// The longest wait for an answer of WhatsApp, at most [`WHATSAPP_TIMEOUT_MAX`].
    pub whatsapp_timeout: Duration,
    /// Connects started per second over all sessions, restarts included.
    pub connects_per_second: u32,
    /// Sessions that may be connecting at once, for each proxy and without one.
    pub connecting_max: usize,
    /// Linking stays open this long after a start.
    pub linking_window: Duration,
    /// The longest time for each step of a link with a passkey.
    pub passkey_window: Duration,
    /// Our own limits per session.
    pub rate_limits: RateLimits,
    /// Whether phone numbers that are not known yet are looked up at WhatsApp before they are used.
    pub number_lookup: bool,
    /// Requests of one session that may be at WhatsApp at once: 64 of them, with a wait of 20 s each, end within half a
    /// minute.
    pub requests_per_session_max: usize,
    /// The most sessions of the daemon: each costs memory and a record, also while it is stopped.
    pub sessions_max: usize,
    /// How the daemon names itself in the phone's list of linked devices.
    pub device_name: String,
    /// Whether the texts of messages are kept, and what is needed to fetch their files.
    pub store_message_text: bool,
}

/// The longest [`SessionOptions::whatsapp_timeout`]: clients give up after 30 s, and the result of an unanswered write
/// is read after this time.
pub const WHATSAPP_TIMEOUT_MAX: Duration = Duration::from_secs(20);

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            whatsapp_url: WHATSAPP_URL.into(),
            whatsapp_timeout: WHATSAPP_TIMEOUT_MAX,
            connects_per_second: 20,
            connecting_max: 50,
            linking_window: Duration::from_secs(600),
            passkey_window: Duration::from_secs(600),
            rate_limits: RateLimits::default(),
            number_lookup: true,
            requests_per_session_max: 64,
            sessions_max: 10_000,
            device_name: "Rookery".into(),
            store_message_text: true,
        }
    }
}

impl SessionOptions {
    pub(crate) fn engine(&self) -> EngineOptions {
        EngineOptions {
            whatsapp_url: self.whatsapp_url.clone(),
            device_name: self.device_name.clone(),
            connects_per_second: self.connects_per_second,
            connecting_max: self.connecting_max,
        }
    }
}
