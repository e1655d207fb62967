//! Parsers for the values of settings. clap reads flags and variables; for a value that cannot be used, a [`Setting`]
//! says where it came from and what is allowed.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, Command};
use rookery_actors::RateLimit;

use crate::auth::Secret;

/// A higher count is no limit; `off` is the word for that.
const RATE_COUNT_MAX: u32 = 1_000_000;
/// A shorter bootstrap key could be guessed by trying.
const BOOTSTRAP_KEY_CHARS: RangeInclusive<usize> = 32..=256;
/// The rule for a bootstrap key, in words.
pub(crate) const BOOTSTRAP_KEY_RULE: &str = "32 to 256 characters of printable ASCII without spaces";
/// A key on the command line is no secret: everybody on the machine can read it in the list of processes.
const NOT_AS_FLAG: &str = "given where others cannot read it, which the command line is not: in the file that --bootstrap-key-file \
                           names, in ROOKERY_BOOTSTRAP_KEY, or as a credential of systemd named rookery-bootstrap-key";

type Parse<T> = Arc<dyn Fn(&str) -> Option<T> + Send + Sync>;

/// Parses the values of a setting.
#[derive(Clone)]
pub(super) struct Setting<T> {
    /// The allowed values, in words.
    allowed: String,
    parse: Parse<T>,
    /// The value is not repeated in errors, and not taken from the command line.
    is_secret: bool,
}

impl<T> Setting<T> {
    pub(super) fn new(allowed: impl Into<String>, parse: impl Fn(&str) -> Option<T> + Send + Sync + 'static) -> Self {
        Self { allowed: allowed.into(), parse: Arc::new(parse), is_secret: false }
    }

    fn refusal(&self, arg: Option<&Arg>, value: &OsStr, source: ValueSource) -> clap::Error {
        let flag = || arg.and_then(Arg::get_long).map_or_else(|| "a value".to_owned(), |long| format!("--{long}"));
        let variable = arg.and_then(Arg::get_env).filter(|_| source == ValueSource::EnvVariable);
        let name = variable.map_or_else(flag, |name| name.to_string_lossy().into_owned());
        let allowed = &self.allowed;
        let message = match value.to_str() {
            _ if self.is_secret && variable.is_none() => format!("{name} must be {NOT_AS_FLAG}"),
            Some(text) if !self.is_secret => format!("{name} is `{text}`, but must be {allowed}"),
            Some(_) => format!("{name} must be {allowed}"),
            None => format!("{name} must be {allowed}, in UTF-8"),
        };
        clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n"))
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Setting<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        self.parse_ref_(command, arg, value, ValueSource::CommandLine)
    }

    fn parse_ref_(&self, _: &Command, arg: Option<&Arg>, value: &OsStr, source: ValueSource) -> Result<T, clap::Error> {
        let is_taken = !(self.is_secret && source == ValueSource::CommandLine);
        let is_default = source == ValueSource::DefaultValue;
        let text = value.to_str().filter(|text| is_taken && (is_default || !text.is_empty()));
        text.and_then(|text| (self.parse)(text)).ok_or_else(|| self.refusal(arg, value, source))
    }
}

/// Any value that the type can be parsed from.
pub(super) fn from_str<T: FromStr>(allowed: &str) -> Setting<T> {
    Setting::new(allowed, |text| text.parse().ok())
}

/// Any value that the type can be parsed from. The empty text, which only a default may be, is the type's default.
pub(super) fn from_str_or_default<T: FromStr + Default>(allowed: &str) -> Setting<T> {
    Setting::new(allowed, |text| if text.is_empty() { Some(T::default()) } else { text.parse().ok() })
}

/// Values separated by commas. The empty text, which only a default may be, is an empty list.
pub(super) fn list<T: FromStr>(allowed: &str) -> Setting<Vec<T>> {
    Setting::new(allowed, |text| {
        let parts = text.split(',').filter(|_| !text.is_empty());
        parts.map(|one| one.trim().parse().ok()).collect()
    })
}

/// A path, in UTF-8: it is written into texts, such as the head of a backup.
pub(super) fn path() -> Setting<PathBuf> {
    Setting::new("a path", |text| Some(text.into()))
}

/// A whole number.
pub(super) fn number<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> Setting<T> {
    let allowed = format!("a whole number from {} to {}", range.start(), range.end());
    Setting::new(allowed, move |text| {
        u64::from_str(text).ok().filter(|number| range.contains(number)).and_then(|number| number.try_into().ok())
    })
}

/// A whole number of seconds.
pub(super) fn seconds(range: RangeInclusive<u64>) -> Setting<Duration> {
    let Setting { allowed, parse, is_secret } = number(range);
    Setting { allowed, parse: Arc::new(move |text| parse(text).map(Duration::from_secs)), is_secret }
}

/// `10/h:5` is ten an hour and five at once; `off` is no limit. The burst is `burst_min` or more.
pub(super) fn rate_limit(burst_min: u32) -> Setting<Option<RateLimit>> {
    let least = match burst_min {
        1 => String::new(),
        _ => format!(", with a burst of {burst_min} or more as one request may name that many people"),
    };
    let allowed = format!("`off`, or a count per s, min, h or d and a burst, such as 10/h:{}{least}", burst_min.max(5));
    Setting::new(allowed, move |text| rate_limit_of(text, burst_min))
}

pub(super) fn rate_limit_of(text: &str, burst_min: u32) -> Option<Option<RateLimit>> {
    if text == "off" {
        return Some(None);
    }
    let (rate, burst) = text.split_once(':')?;
    let (count, unit) = rate.split_once('/')?;
    let number =
        |text: &str, least| u32::from_str(text).ok().filter(|number| (least..=RATE_COUNT_MAX).contains(number));
    let per_s = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Some(RateLimit::new(number(count, 1)?, Duration::from_secs(per_s), number(burst, burst_min)?)))
}

/// The bootstrap key in a text; `None`: it breaks the rule.
pub(crate) fn bootstrap_key(text: &str) -> Option<Secret> {
    let fits = BOOTSTRAP_KEY_CHARS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.into())
}

/// A bootstrap key, from its variable alone.
pub(super) fn secret() -> Setting<Secret> {
    Setting { is_secret: true, ..Setting::new(BOOTSTRAP_KEY_RULE, bootstrap_key) }
}
