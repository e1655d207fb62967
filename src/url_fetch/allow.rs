//! The hosts that the operator exempts from the check of addresses. Never resolves them.

use std::str::FromStr;

/// Hosts, each with or without a port; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchAllow(Vec<Host>);

/// A host as URLs write it: in lower case, IPv6 in brackets. No port (`None`) is any port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<u16>,
}

impl FetchAllow {
    /// Whether this host may be fetched from at any address. `name` is as a parsed URL has it.
    pub(super) fn allows(&self, name: &str, port: u16) -> bool {
        self.0.iter().any(|host| host.name == name && host.port.is_none_or(|allowed| allowed == port))
    }
}

impl FromStr for FetchAllow {
    type Err = ();

    /// Comma-separated hosts or `host:port`; IPv6 addresses in brackets.
    fn from_str(text: &str) -> Result<Self, ()> {
        text.split(',').map(|entry| host(entry.trim()).ok_or(())).collect::<Result<_, _>>().map(Self)
    }
}

/// Reads a host as URLs are read, so that it is written in the same way.
fn host(entry: &str) -> Option<Host> {
    let after_address = entry.rsplit_once(']').map_or(entry, |(_, rest)| rest);
    let (name, port) = match after_address.rsplit_once(':') {
        Some((_, port)) => {
            (entry.strip_suffix(port)?.strip_suffix(':')?, Some(port.parse().ok().filter(|port| *port != 0)?))
        }
        None => (entry, None),
    };
    if name.contains(['/', '@', '?', '#', '\\']) || (name.contains(':') && !name.starts_with('[')) {
        return None;
    }
    let url = reqwest::Url::parse(&format!("http://{name}/")).ok()?;
    Some(Host { name: url.host_str()?.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_allowed_with_its_port_or_with_any() {
        let allow: FetchAllow = "Media.example.com, 10.0.0.7:8080,[::1]:9,[fd00::2]".parse().unwrap();
        let cases = [
            ("media.example.com", 443, true),
            ("other.example.com", 443, false),
            ("10.0.0.7", 8080, true),
            ("10.0.0.7", 80, false),
            ("[::1]", 9, true),
            ("[::1]", 80, false),
            ("[fd00::2]", 80, true),
        ];
        for (name, port, expected) in cases {
            assert_eq!(allow.allows(name, port), expected, "{name}:{port}");
        }
        assert!(!FetchAllow::default().allows("media.example.com", 443));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in
            ["", "a,,b", "http://a", "a/b", "a:0", "a:port", "a:70000", "user@a", "::1", "[::1", "10.0.0.0/8", "a b"]
        {
            assert_eq!(text.parse::<FetchAllow>(), Err(()), "{text}");
        }
    }
}
