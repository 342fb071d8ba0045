//! Which addresses a webhook may lead to. Whoever names a URL must not reach what only machines inside of a network may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether webhooks may lead to addresses inside of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inside {
    /// Only addresses that the whole internet can reach.
    #[default]
    Refused,
    /// Also this machine and private networks; never link-local addresses, where clouds keep their credentials.
    Allowed,
}

/// Why an address is refused.
pub(super) fn refusal(address: SocketAddr, inside: Inside) -> Option<String> {
    let kind = kind_of(address.ip());
    let is_refused = match (kind, inside) {
        (Kind::Public, _) | (Kind::Private(_), Inside::Allowed) => false,
        (Kind::Private(_), Inside::Refused) | (Kind::Never(_), _) => true,
    };
    let what = match kind {
        Kind::Public => "",
        Kind::Private(what) | Kind::Never(what) => what,
    };
    if is_refused {
        return Some(format!("{} is {what}", address.ip()));
    }
    let port = address.port();
    let is_usual = port == 80 || port == 443 || port >= 1_024;
    (inside == Inside::Refused && !is_usual)
        .then(|| format!("port {port} is kept for other services"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    /// Inside of a network; a person may want that.
    Private(&'static str),
    /// Nobody can want that.
    Never(&'static str),
}

fn kind_of(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [0, ..] => Kind::Never("an address of no machine"),
        [127, ..] => Kind::Private("this machine itself"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Kind::Private("in a private network"),
        [100, 64..=127, ..] => Kind::Private("behind a carrier's translation"),
        [169, 254, ..] => Kind::Never("link-local"),
        [192, 0, 0, _] => Kind::Never("kept for protocols"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Kind::Never("kept for documentation")
        }
        [192, 88, 99, _] => Kind::Never("a relay of IPv6"),
        [198, 18..=19, ..] => Kind::Private("kept for benchmarks of networks"),
        [224..=239, ..] => Kind::Never("multicast"),
        [240..=255, ..] => Kind::Never("reserved or broadcast"),
        _ => Kind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> Kind {
    if let Some(inner) = inner_v4(address) {
        return kind_of_v4(inner);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never("an address of no machine"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private("this machine itself"),
        [0xfc00..=0xfdff, ..] => Kind::Private("in a private network"),
        [0xfe80..=0xfebf, ..] => Kind::Never("link-local"),
        [0xfec0..=0xfeff, ..] => Kind::Never("site-local"),
        [0xff00..=0xffff, ..] => Kind::Never("multicast"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => {
            Kind::Never("kept for documentation")
        }
        [0x2001, 0x0000..=0x01ff, ..] => Kind::Never("kept for protocols"),
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never("not handed out to anybody"),
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated, or 6to4.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // The unspecified address and the loopback look compatible and are something else.
        [0, 0, 0, 0, 0, 0, 0, 0..=1] => None,
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0, 0, 0, 0, 0, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_refused(address: &str, inside: Inside) -> bool {
        let ip: IpAddr = address.parse().unwrap();
        refusal(SocketAddr::new(ip, 443), inside).is_some()
    }

    #[test]
    fn what_is_inside_of_a_network_is_refused_unless_it_is_allowed() {
        for address in [
            "127.0.0.1",
            "127.8.9.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "::1",
            "fc00::1",
            "fd12:3456::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::10.1.2.3",
            "64:ff9b::10.1.2.3",
            "2002:7f00:1::",
        ] {
            assert!(is_refused(address, Inside::Refused), "{address}");
            assert!(!is_refused(address, Inside::Allowed), "{address}");
        }
    }

    #[test]
    fn what_nobody_can_want_is_refused_always() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "192.0.0.8",
            "192.0.2.1",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "4000::1",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(is_refused(address, Inside::Refused), "{address}");
            assert!(is_refused(address, Inside::Allowed), "{address}");
        }
    }

    #[test]
    fn what_the_internet_can_reach_is_allowed() {
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(!is_refused(address, Inside::Refused), "{address}");
        }
    }

    #[test]
    fn ports_of_other_services_are_refused() {
        let at = |port| refusal(SocketAddr::from(([1, 1, 1, 1], port)), Inside::Refused);

        assert!(at(25).is_some_and(|reason| reason.contains("port 25")));
        assert!(at(443).is_none() && at(8_443).is_none());
        let inside = SocketAddr::from(([127, 0, 0, 1], 25));
        assert!(refusal(inside, Inside::Allowed).is_none());
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_what_it_stands_for(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(bits);

            prop_assert_eq!(kind_of(IpAddr::V6(v4.to_ipv6_mapped())), kind_of(IpAddr::V4(v4)));
        }

        #[test]
        fn no_address_of_ipv6_outside_of_the_handed_out_block_is_public(bits in any::<u128>()) {
            let address = Ipv6Addr::from_bits(bits);
            let is_handed_out = address.segments()[0] & 0xe000 == 0x2000;
            prop_assume!(!is_handed_out && inner_v4(address).is_none());

            prop_assert_ne!(kind_of_v6(address), Kind::Public);
        }
    }
}
