//! Reads one setting at a time, from a flag or else its variable, and says what is wrong with it.

use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use rookery_actors::RateLimit;

use super::{is_whatsapp_url_allowed, whatsapp_url_rule};
use crate::auth::Secret;

/// More in a second is no limit: `off` says that.
const RATE_COUNT_MAX: u32 = 1_000_000;
/// A shorter bootstrap key could be guessed by trying.
const BOOTSTRAP_KEY_CHARS: RangeInclusive<usize> = 32..=256;
/// What a bootstrap key is, in words.
pub(crate) const BOOTSTRAP_KEY_RULE: &str = "32 to 256 characters of printable ASCII without spaces";

/// The bootstrap key in a text; `None`: it breaks the rule.
pub(crate) fn bootstrap_key(text: &str) -> Option<Secret> {
    let fits = BOOTSTRAP_KEY_CHARS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.into())
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

impl ConfigError {
    /// A key on the command line is no secret.
    pub(super) fn bootstrap_flag() -> Self {
        let allowed = "given where others cannot read it, which the command line is not: in the file that --bootstrap-key-file \
                       names, in ROOKERY_BOOTSTRAP_KEY, or as a credential of systemd named rookery-bootstrap-key";
        Self { source: "--bootstrap-key".into(), value: None, allowed: allowed.into() }
    }
}

/// Reads flags and variables, each by the flag's name.
pub(super) struct Reader<F> {
    pub(super) variable: F,
}

/// A value and where it came from.
struct Given {
    source: String,
    value: String,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    fn given(&self, name: &str, flag: Option<OsString>, allowed: &str) -> Result<Option<Given>, ConfigError> {
        let variable = |name: &str| {
            let name = format!("ROOKERY_{}", name.replace('-', "_").to_uppercase());
            (self.variable)(&name).filter(|value| !value.is_empty()).map(|value| (name, value))
        };
        // The limits' names of before.
        let before = || variable(&format!("pace-{}", name.strip_prefix("limit-")?));
        let flag = flag.map(|value| (format!("--{name}"), value));
        let Some((source, value)) = flag.or_else(|| variable(name)).or_else(before) else {
            return Ok(None);
        };
        match value.into_string() {
            Ok(value) => Ok(Some(Given { source, value })),
            Err(_) => Err(ConfigError { source, value: None, allowed: format!("{allowed}, in UTF-8") }),
        }
    }

    pub(super) fn parsed<T>(
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

    pub(super) fn number<T: TryFrom<u64>>(
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

    pub(super) fn rate_limit(
        &self,
        name: &str,
        flag: Option<OsString>,
        default: Option<RateLimit>,
        burst_min: u32,
    ) -> Result<Option<RateLimit>, ConfigError> {
        let least = match burst_min {
            1 => String::new(),
            _ => format!(", with a burst of {burst_min} or more as one request may name that many people"),
        };
        let allowed =
            format!("`off`, or a count per s, min, h or d and a burst, such as 10/h:{}{least}", burst_min.max(5));
        self.parsed(name, flag, default, &allowed, |text| rate_limit(text, burst_min))
    }

    /// From its variable alone.
    pub(super) fn secret(&self, name: &str) -> Result<Option<Secret>, ConfigError> {
        let allowed = BOOTSTRAP_KEY_RULE;
        let Some(Given { source, value }) = self.given(name, None, allowed)? else { return Ok(None) };
        let secret = bootstrap_key(&value);
        secret.map(Some).ok_or_else(|| ConfigError { source, value: None, allowed: allowed.into() })
    }

    pub(super) fn whatsapp_url(
        &self,
        name: &str,
        flag: Option<OsString>,
        default: String,
    ) -> Result<String, ConfigError> {
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

/// `10/h:5` is ten an hour and five at once; `off` is no limit.
pub(super) fn rate_limit(text: &str, burst_min: u32) -> Option<Option<RateLimit>> {
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
