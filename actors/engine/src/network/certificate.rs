//! Which servers may be connected to. WhatsApp's certificate chain is checked in every build without the feature
//! `simulator`; a build with it cannot check, so it refuses every host that is not this machine.

use std::net::IpAddr;

/// Whether a WhatsApp URL may be used by this build.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn check_whatsapp_url(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit('@').next().unwrap_or_default();
    let host = match host_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host_port.split(':').next().unwrap_or_default(),
    };
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        _ if host.is_empty() => Err("must be ws:// or wss:// with a host".into()),
        "ws" | "wss" if cfg!(feature = "simulator") && !loopback => {
            Err("must be on this machine (localhost, 127.0.0.1, [::1]): this build, with the feature `simulator`, cannot check WhatsApp's certificate".into())
        }
        "wss" => Ok(()),
        "ws" if loopback => Ok(()),
        "ws" => Err("must be wss:// unless the host is this machine".into()),
        _ => Err("must be ws:// or wss:// with a host".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_whatsapp_url;

    #[test]
    fn this_machine_is_always_allowed() {
        for url in ["ws://127.0.0.1:7700/ws/chat", "ws://localhost/ws/chat", "wss://[::1]:1/x"] {
            assert_eq!(check_whatsapp_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn other_hosts_are_allowed_only_when_the_certificate_is_checked() {
        let other =
            ["wss://web.whatsapp.com/ws/chat", "wss://127.0.0.1@evil.example/x", "wss://127.0.0.1.evil.example/"];
        for url in other {
            assert_eq!(check_whatsapp_url(url).is_ok(), !cfg!(feature = "simulator"), "{url}");
        }
        for url in ["ws://web.whatsapp.com/", "http://127.0.0.1/", "", "wss://"] {
            assert!(check_whatsapp_url(url).is_err(), "{url}");
        }
    }
}
