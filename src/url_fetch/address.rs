//! Which addresses and names lead out into the public internet. Pure tables; never resolves anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use crate::auth::AddressRange;

/// IPv4 ranges that are not public: IANA's registry of special-purpose addresses, and one address of a cloud.
const NOT_PUBLIC_V4: [&str; 16] = [
    "0.0.0.0/8",       // this network
    "10.0.0.0/8",      // private
    "100.64.0.0/10",   // shared by the customers of a provider
    "127.0.0.0/8",     // loopback
    "168.63.129.16",   // Azure's host, which answers its virtual machines
    "169.254.0.0/16",  // link-local, and the metadata services of most clouds
    "172.16.0.0/12",   // private
    "192.0.0.0/24",    // protocol assignments
    "192.0.2.0/24",    // documentation
    "192.88.99.0/24",  // relays of 6to4
    "192.168.0.0/16",  // private
    "198.18.0.0/15",   // benchmarking
    "198.51.100.0/24", // documentation
    "203.0.113.0/24",  // documentation
    "224.0.0.0/4",     // multicast
    "240.0.0.0/4",     // reserved, and broadcast
];

/// The public range of IPv6: the rest is loopback, local, multicast, mapped, or given to nobody.
const GLOBAL_V6: &str = "2000::/3";

/// Ranges within [`GLOBAL_V6`] that are not public.
const NOT_PUBLIC_V6: [&str; 4] = [
    "2001::/23",     // protocol assignments: Teredo, benchmarking, ORCHID
    "2001:db8::/32", // documentation
    "2002::/16",     // 6to4, which leads to any IPv4 address
    "3fff::/20",     // documentation
];

/// IPv4 addresses as IPv6-only hosts see them (NAT64).
const NAT64: &str = "64:ff9b::/96";

/// Names that clouds and local networks answer to themselves.
const INTERNAL_NAMES: [&str; 3] = ["localhost", "metadata", "instance-data"];
const INTERNAL_SUFFIXES: [&str; 6] = [".localhost", ".local", ".internal", ".intranet", ".home.arpa", ".metadata.goog"];
const METADATA_NAME: &str = "metadata.goog";

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    not_public: NOT_PUBLIC_V4.iter().chain(&NOT_PUBLIC_V6).filter_map(|range| range.parse().ok()).collect(),
    global_v6: GLOBAL_V6.parse().ok(),
    nat64: NAT64.parse().ok(),
});

struct Tables {
    not_public: Vec<AddressRange>,
    global_v6: Option<AddressRange>,
    nat64: Option<AddressRange>,
}

/// Whether this address belongs to the public internet. An IPv4 address inside an IPv6 one is checked as IPv4.
pub(super) fn is_public(address: IpAddr) -> bool {
    let address = match address.to_canonical() {
        IpAddr::V6(address) if TABLES.nat64.is_some_and(|nat64| nat64.contains(address.into())) => {
            embedded(address).into()
        }
        address => address,
    };
    let is_global = address.is_ipv4() || TABLES.global_v6.is_some_and(|global| global.contains(address));
    is_global && !TABLES.not_public.iter().any(|range| range.contains(address))
}

/// The IPv4 address in the last four bytes.
fn embedded(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

/// Whether this name is not one of the public internet, whatever it resolves to.
pub(super) fn is_internal_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == METADATA_NAME
        || INTERNAL_NAMES.contains(&name.as_str())
        || INTERNAL_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_the_tables_can_be_read() {
        assert_eq!(TABLES.not_public.len(), NOT_PUBLIC_V4.len() + NOT_PUBLIC_V6.len());
        assert!(TABLES.global_v6.is_some() && TABLES.nat64.is_some());
    }

    const PUBLIC: &str = "\
        1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15 \
        172.15.255.255 172.32.0.0 192.0.1.0 198.17.255.255 198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 \
        2606:4700::1111 2a00:1450:4001::200e 2001:200::1 2003::1";
    const NOT_PUBLIC_IPV4: &str = "\
        0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 \
        172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 \
        203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255";
    /// Mapped, translated, compatible, NAT64, local NAT64, 6to4, Teredo.
    const NOT_PUBLIC_IPV4_IN_IPV6: &str = "\
        ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 ::127.0.0.1 ::8.8.8.8 64:ff9b::127.0.0.1 \
        64:ff9b::a9fe:a9fe 64:ff9b:1::8.8.8.8 2002:7f00:1:: 2002:808:808:: 2001:0:7f00:1::";
    const NOT_PUBLIC_IPV6: &str = "\
        :: ::1 100::1 2001:2::1 2001:10::1 2001:db8::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 4000::1";

    #[test]
    fn only_public_addresses_are_public() {
        let lists =
            [(PUBLIC, true), (NOT_PUBLIC_IPV4, false), (NOT_PUBLIC_IPV4_IN_IPV6, false), (NOT_PUBLIC_IPV6, false)];
        for (addresses, expected) in lists {
            for address in addresses.split_whitespace() {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn names_of_local_networks_and_clouds_are_internal() {
        let cases = [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("app.localhost", true),
            ("printer.local", true),
            ("metadata.google.internal", true),
            ("metadata.goog", true),
            ("instance-data", true),
            ("example.com", false),
            ("localhost.example.com", false),
            ("internal", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_internal_name(name), expected, "{name}");
        }
    }
}
