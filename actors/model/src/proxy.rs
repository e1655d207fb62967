//! The proxy of a session: what a caller gives as a URL, what connections need, and what callers are shown of it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

/// Characters of a proxy's URL.
pub const PROXY_URL_CHARS_MAX: usize = 2048;
/// Bytes of a name in the DNS (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Bytes of a user name and of a password: what SOCKS5 can carry (RFC 1929, section 2).
const CREDENTIAL_BYTES_MAX: usize = 255;

/// How a proxy is spoken to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "socks5")]
pub enum ProxyType {
    /// HTTP `CONNECT`.
    Http,
    /// HTTP `CONNECT` over TLS.
    Https,
    /// SOCKS4a.
    Socks4,
    /// SOCKS5.
    Socks5,
}

impl ProxyType {
    /// Each type and its word, which is the scheme of the URL.
    pub const WORDS: [(&'static str, Self); 4] =
        [("http", Self::Http), ("https", Self::Https), ("socks4", Self::Socks4), ("socks5", Self::Socks5)];

    /// The word for the type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The type of a URL with this scheme. `socks5h` and `socks4a` ask that the proxy resolves names: it always does.
    fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "socks4a" => Some(Self::Socks4),
            "socks5h" => Some(Self::Socks5),
            scheme => Self::WORDS.iter().find(|(word, _)| *word == scheme).map(|(_, kind)| *kind),
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks4 | Self::Socks5 => 1080,
        }
    }
}

/// A proxy with its credentials, which are in no output but [`Proxy::to_url`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Proxy {
    kind: ProxyType,
    host: Host,
    port: u16,
    credentials: Option<ProxyCredentials>,
}

/// A user name and a password for a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyCredentials {
    /// Not empty for SOCKS5.
    pub user: String,
    /// Not empty for SOCKS5.
    pub password: String,
}

/// Why a text is no proxy. Each is a sentence that goes on from the name of the field, and holds nothing of the text.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The text is no URL with one of the schemes.
    #[error(
        "must be a URL such as socks5://user:password@proxy.example.com:1080, with http, https, socks4 or socks5; in user and password, / is %2F, @ is %40, % is %25"
    )]
    NotProxyUrl,
    /// The text is too long.
    #[error("must be shorter than or equal to {PROXY_URL_CHARS_MAX} characters")]
    TooLong,
    /// There is no host, or one that cannot be.
    #[error("must have a host, as in http://proxy.example.com:3128")]
    BadHost,
    /// Port 0.
    #[error("must have a port between 1 and 65535")]
    BadPort,
    /// A path, a query or a fragment.
    #[error("must end after the port: a proxy has no path")]
    Path,
    /// SOCKS4 has no password.
    #[error("must not have a user name or password with socks4: use socks5")]
    Socks4Credentials,
    /// SOCKS5 sends both, and neither may be empty (RFC 1929, section 2).
    #[error("must have both a user name and a password with socks5, or neither")]
    IncompleteCredentials,
    /// Credentials that cannot be sent.
    #[error(
        "has a user name or password that is longer than {CREDENTIAL_BYTES_MAX} bytes, has control characters, or is not \
         percent-encoded UTF-8"
    )]
    BadCredentials,
    /// `Basic` credentials end the user name at the first colon (RFC 7617, section 2).
    #[error("must not have a colon in the user name with http and https")]
    ColonInUser,
}

impl Proxy {
    /// How it is spoken to.
    #[must_use]
    pub fn kind(&self) -> ProxyType {
        self.kind
    }

    /// Its name or address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ipv6(address) => address.to_string(),
            host => host.to_string(),
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its name or address with the port, as in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What it asks for, when it does.
    #[must_use]
    pub fn credentials(&self) -> Option<&ProxyCredentials> {
        self.credentials.as_ref()
    }

    /// The URL with the credentials: a secret.
    #[must_use]
    pub fn to_url(&self) -> String {
        let scheme = self.kind.as_str();
        let credentials = self.credentials.as_ref().map_or_else(String::new, |ProxyCredentials { user, password }| {
            let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
            format!("{}:{}@", encode(user), encode(password))
        });
        format!("{scheme}://{credentials}{}", self.authority())
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        if text.chars().count() > PROXY_URL_CHARS_MAX {
            return Err(ProxyError::TooLong);
        }
        // The parser would drop blanks and line breaks silently.
        let is_plain = !text.chars().any(|char| char.is_whitespace() || char.is_control());
        let url = Some(text)
            .filter(|text| is_plain && text.contains("://") && !text.contains(":///"))
            .and_then(|text| Url::parse(text).ok());
        let (url, kind) = url
            .and_then(|url| ProxyType::of_scheme(url.scheme()).map(|kind| (url, kind)))
            .ok_or(ProxyError::NotProxyUrl)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyError::Path);
        }
        // For SOCKS, the URL's own host is a text that nobody checked.
        let host = url.host_str().and_then(|host| Host::parse(host).ok()).ok_or(ProxyError::BadHost)?;
        if host.to_string().len() > HOST_BYTES_MAX {
            return Err(ProxyError::BadHost);
        }
        let port = url.port().unwrap_or(kind.default_port());
        if port == 0 {
            return Err(ProxyError::BadPort);
        }
        let credentials = credentials(&url)?;
        match (&credentials, kind) {
            (Some(_), ProxyType::Socks4) => return Err(ProxyError::Socks4Credentials),
            (Some(given), ProxyType::Socks5) if given.user.is_empty() || given.password.is_empty() => {
                return Err(ProxyError::IncompleteCredentials);
            }
            (Some(given), ProxyType::Http | ProxyType::Https) if given.user.contains(':') => {
                return Err(ProxyError::ColonInUser);
            }
            _ => {}
        }
        Ok(Self { kind, host, port, credentials })
    }
}

fn credentials(url: &Url) -> Result<Option<ProxyCredentials>, ProxyError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decode = |text: &str| {
        let mut rest = text.split('%').skip(1);
        let is_encoded = rest.all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
        if !is_encoded {
            return Err(ProxyError::BadCredentials);
        }
        let decoded = percent_decode_str(text).decode_utf8().map(Cow::into_owned).ok();
        let fits = |text: &String| text.len() <= CREDENTIAL_BYTES_MAX && !text.chars().any(char::is_control);
        decoded.filter(fits).ok_or(ProxyError::BadCredentials)
    };
    let (user, password) = (decode(url.username())?, decode(url.password().unwrap_or_default())?);
    Ok(Some(ProxyCredentials { user, password }))
}

impl TryFrom<String> for Proxy {
    type Error = ProxyError;

    fn try_from(text: String) -> Result<Self, ProxyError> {
        text.parse()
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        proxy.to_url()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What callers are shown of a session's proxy. Every field is always present in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionProxy {
    /// Whether the session has a proxy.
    #[schema(example = true)]
    pub enabled: bool,
    /// How the proxy is spoken to.
    #[schema(required)]
    pub proxy_type: Option<ProxyType>,
    /// The proxy's name or address, with its port.
    #[schema(required, example = "proxy.example.com:1080")]
    pub proxy_host: Option<String>,
    /// Whether a user name and a password are sent to the proxy. They are never shown.
    #[schema(example = true)]
    pub has_credentials: bool,
}

impl From<Option<&Proxy>> for SessionProxy {
    fn from(proxy: Option<&Proxy>) -> Self {
        Self {
            enabled: proxy.is_some(),
            proxy_type: proxy.map(Proxy::kind),
            proxy_host: proxy.map(Proxy::authority),
            has_credentials: proxy.is_some_and(|proxy| proxy.credentials.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_and_kept_as_a_url() {
        let cases = [
            ("http://proxy.example.com", "http://proxy.example.com:80"),
            ("http://proxy.example.com:80/", "http://proxy.example.com:80"),
            ("HTTPS://Proxy.Example.com", "https://proxy.example.com:443"),
            ("socks5://10.0.0.1", "socks5://10.0.0.1:1080"),
            ("socks5h://PROXY.example.com:9050", "socks5://proxy.example.com:9050"),
            ("socks4a://proxy:1", "socks4://proxy:1"),
            ("socks5://[2001:DB8::1]:1080", "socks5://[2001:db8::1]:1080"),
            ("socks5://user:pass@p:80", "socks5://user:pass@p:80"),
            ("http://user@p:1", "http://user:@p:1"),
            ("https://:only@p:1", "https://:only@p:1"),
            ("http://us%40er:p%3A%2F%C3%A9@p:1", "http://us%40er:p%3A%2F%C3%A9@p:1"),
            ("http://customer-a-country-br:p@p:1", "http://customer%2Da%2Dcountry%2Dbr:p@p:1"),
            ("socks5://bücher.example:1", "socks5://xn--bcher-kva.example:1"),
        ];
        for (text, kept) in cases {
            let proxy: Proxy = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(proxy.to_url(), kept);
            assert_eq!(kept.parse(), Ok(proxy.clone()), "{kept}");
            assert_eq!(serde_json::to_value(&proxy).unwrap(), kept);
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_with_its_reason() {
        let long = |length| format!("socks5://{}:p@p:1", "u".repeat(length));
        let cases = [
            ("", ProxyError::NotProxyUrl),
            ("proxy.example.com:3128", ProxyError::NotProxyUrl),
            ("ftp://p:1", ProxyError::NotProxyUrl),
            ("http:p:1", ProxyError::NotProxyUrl),
            ("http://p:1\r\nX: y", ProxyError::NotProxyUrl),
            (" http://p:1", ProxyError::NotProxyUrl),
            ("http://p:65536", ProxyError::NotProxyUrl),
            ("socks5://p:0", ProxyError::BadPort),
            ("http://p:1/path", ProxyError::Path),
            ("socks5://p:1?x", ProxyError::Path),
            ("socks5://p:1#x", ProxyError::Path),
            ("socks5://:1080", ProxyError::NotProxyUrl),
            ("socks5://", ProxyError::BadHost),
            ("socks5://a%20b:1", ProxyError::BadHost),
            ("socks4://u:p@p:1", ProxyError::Socks4Credentials),
            ("socks5://user@p:1", ProxyError::IncompleteCredentials),
            ("socks5://:only@p:1", ProxyError::IncompleteCredentials),
            ("http://a%3Ab:p@p:1", ProxyError::ColonInUser),
            ("http://a%0Ab:p@p:1", ProxyError::BadCredentials),
            ("http://a%FF:p@p:1", ProxyError::BadCredentials),
            ("http://a:p%zz@p:1", ProxyError::BadCredentials),
            ("http:///p", ProxyError::NotProxyUrl),
            (&format!("http://{}.example:1", "a.".repeat(130)), ProxyError::BadHost),
            (&long(256), ProxyError::BadCredentials),
            (&long(2048), ProxyError::TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Proxy>(), Err(expected), "{text}");
        }
        let longest = format!("https://{0}:{0}@{1}.ab:65535", "!".repeat(255), "a.".repeat(124) + "a");
        for text in [long(255), longest] {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!(proxy.to_url().parse(), Ok(proxy), "what is accepted can be read back");
        }
    }

    #[test]
    fn what_is_shown_holds_no_credentials() {
        let proxy: Proxy = "http://user:geheim@[::1]:3128".parse().unwrap();
        let shown = SessionProxy::from(Some(&proxy));
        assert_eq!(
            serde_json::to_value(&shown).unwrap(),
            serde_json::json!({"enabled": true, "proxyType": "http", "proxyHost": "[::1]:3128", "hasCredentials": true})
        );
        let debug = format!("{proxy:?}");
        assert!(!debug.contains("geheim") && !debug.contains("user"), "{debug}");
        assert_eq!(proxy.host(), "::1");
    }
}
