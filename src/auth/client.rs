//! The client's address: the address at the other end of the connection or, behind proxies that the operator trusts,
//! the address that they report. Never resolves names.

use std::net::{IpAddr, SocketAddr};

use super::AddressRange;

/// The right-most address that is not a trusted proxy's: the addresses left of it come from the sender and may be
/// false. `peer`: the other end of the connection; `forwarded`: the values of `X-Forwarded-For`, in the order of the
/// request.
///
/// `None` when a trusted proxy names something that is no address: then the client's address is unknown.
pub(crate) fn client_address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[AddressRange],
) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut client = peer;
    let hops = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for hop in hops {
        if !is_trusted(client) {
            return Some(client);
        }
        client = address_of(hop)?;
    }
    Some(client)
}

/// An address, with or without a port: some proxies add a port.
fn address_of(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        let trusted: Vec<AddressRange> = ["10.0.0.0/8", "fd00::1"].map(|range| range.parse().unwrap()).into();
        let cases: [(&str, &[&str], Option<&str>); 14] = [
            ("192.0.2.1", &[], Some("192.0.2.1")),
            ("192.0.2.1", &["203.0.113.9"], Some("192.0.2.1")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["203.0.113.9"], Some("203.0.113.9")),
            ("10.0.0.1", &["198.51.100.7, 203.0.113.9"], Some("203.0.113.9")),
            ("10.0.0.1", &["198.51.100.7", "203.0.113.9"], Some("203.0.113.9")),
            ("10.0.0.1", &["203.0.113.9, 10.0.0.2"], Some("203.0.113.9")),
            ("10.0.0.1", &["203.0.113.9,10.0.0.2", "10.0.0.3"], Some("203.0.113.9")),
            ("10.0.0.1", &["10.0.0.9, 10.0.0.2"], Some("10.0.0.9")),
            ("fd00::1", &["2001:db8::7"], Some("2001:db8::7")),
            ("10.0.0.1", &["203.0.113.9:4711"], Some("203.0.113.9")),
            ("10.0.0.1", &["[2001:db8::7]:4711, ::ffff:10.0.0.2"], Some("2001:db8::7")),
            ("10.0.0.1", &["203.0.113.9, unknown"], None),
            ("10.0.0.1", &[""], None),
        ];
        for (peer, forwarded, expected) in cases {
            let values = forwarded.iter().map(|value| value.as_bytes());
            let found = client_address(peer.parse().unwrap(), values, &trusted);
            assert_eq!(found.map(|address| address.to_string()).as_deref(), expected, "{peer} {forwarded:?}");
        }
    }
}
