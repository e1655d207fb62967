//! The origins that may call from a browser. `http/middleware/cors.rs` answers them.

use std::str::FromStr;

use axum::http::Uri;

/// The origins that may call: scheme, host and port, as browsers write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsOrigins(Vec<String>);

impl CorsOrigins {
    pub(crate) fn contains(&self, origin: &[u8]) -> bool {
        self.0.iter().any(|allowed| allowed.as_bytes() == origin)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The text names something that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin")]
pub struct OriginError(String);

impl FromStr for CorsOrigins {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let origins = text.split(',').map(str::trim).map(|text| origin(text).ok_or_else(|| OriginError(text.into())));
        origins.collect::<Result<_, _>>().map(Self)
    }
}

/// As a browser writes it: no path, and no port where it is the scheme's own.
fn origin(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let is_bare = text.len() == scheme.len() + "://".len() + authority.as_str().len();
    let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let is_short = authority.port_u16() != Some(own_port) && text == text.to_ascii_lowercase();
    (is_bare && is_plain && is_short).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_write() {
        for text in ["https://app.example.com", "http://localhost:3000", "https://[::1]:8443"] {
            assert_eq!(text.parse(), Ok(CorsOrigins(vec![text.into()])), "{text}");
        }
        let both = "https://a.example, https://b.example".parse();
        assert_eq!(both, Ok(CorsOrigins(vec!["https://a.example".into(), "https://b.example".into()])));
        for text in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://app.example.com:443",
            "HTTPS://app.example.com",
            "https://user@app.example.com",
            "ftp://app.example.com",
            "https://a.example,",
        ] {
            assert!(text.parse::<CorsOrigins>().is_err(), "{text}");
        }
    }
}
