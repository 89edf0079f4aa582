//! The choice among what DNS says: which hosts and addresses of a next hop count, and in which order.
//!
//! Pure: chance is given to it. Never asks anybody.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::cidr::Cidr;
use crate::dns::resolver::Mx;

/// Exchangers by preference; equal ones are shuffled (RFC 5321 5.1), a host named twice counts once, where it
/// is best. `pick(n)` gives a random number below `n`.
pub(super) fn by_preference(mut exchangers: Vec<Mx>, mut pick: impl FnMut(usize) -> usize) -> Vec<Mx> {
    for last in (1..exchangers.len()).rev() {
        exchangers.swap(last, pick(last + 1));
    }
    exchangers.sort_by_key(|mx| mx.preference);
    let mut seen = HashSet::new();
    exchangers.retain(|mx| seen.insert(mx.host.clone()));
    exchangers
}

/// Whether two names are one: case and a dot at the end do not count.
pub(super) fn is_same_host(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    plain(one) == plain(other)
}

/// Whether mail that a stranger's DNS or address sends there may go there: never to ourselves, nor to our
/// neighbours on the wire, unless the operator allows it.
pub(super) fn is_allowed(address: IpAddr, allowed: &[Cidr]) -> bool {
    let refused = match address.to_canonical() {
        IpAddr::V4(v4) => is_near(v4),
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || embedded(v6).is_some_and(is_near)
        }
    };
    !refused || allowed.iter().any(|block| block.contains(address))
}

fn is_near(v4: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this host on this network" (RFC 1122 3.2.1.3): Linux takes it for loopback.
    v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
}

/// The IPv4 address to which a translator would carry this one (64:ff9b::/96, RFC 6052 2.1).
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = v6.to_bits();
    (bits >> 32 == 0x0064_ff9b << 64).then_some(Ipv4Addr::from_bits(bits as u32))
}

/// The addresses of one host without doubles, IPv6 and IPv4 by turns: where one family is broken, the other
/// is next.
pub(super) fn by_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    let (six, four): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .map(|address| address.to_canonical())
        .filter(|address| seen.insert(*address))
        .partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut ordered = Vec::with_capacity(seen.len());
    while ordered.len() < seen.len() {
        ordered.extend(six.next());
        ordered.extend(four.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::hosts::any_below;
    use proptest::prelude::*;

    fn mx(preference: u16, host: &str) -> Mx {
        let host = host.to_string();
        Mx { preference, host }
    }

    fn names(exchangers: &[Mx]) -> Vec<&str> {
        exchangers.iter().map(|mx| mx.host.as_str()).collect()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn exchangers_stand_by_preference_and_equal_ones_are_shuffled() {
        let records = || vec![mx(20, "c"), mx(10, "a"), mx(10, "b"), mx(5, "d")];
        let stay = by_preference(records(), |n| n - 1);
        assert_eq!(names(&stay), ["d", "a", "b", "c"]);
        let swap = by_preference(records(), |n| if n == 3 { 1 } else { n - 1 });
        assert_eq!(names(&swap), ["d", "b", "a", "c"]);
    }

    #[test]
    fn a_host_named_twice_counts_where_it_is_best() {
        let once = by_preference(vec![mx(20, "a"), mx(30, "b"), mx(10, "a")], any_below);
        assert_eq!(once, [mx(10, "a"), mx(30, "b")]);
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        let turns = by_turns(ips(&[
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
            "192.0.2.1",
            "2001:db8::1",
            "::ffff:192.0.2.2",
        ]));
        assert_eq!(
            turns,
            ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"])
        );
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_dress() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:169.254.1.1",
            "64:ff9b::127.0.0.1",
        ] {
            assert!(!is_allowed(text.parse().unwrap(), &[]), "{text}");
        }
        for text in [
            "192.0.2.1",
            "10.0.0.1",
            "192.168.1.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:192.0.2.1",
            "64:ff9b::192.0.2.1",
        ] {
            assert!(is_allowed(text.parse().unwrap(), &[]), "{text}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_allowed() {
        let allowed = [Cidr::new("127.0.0.0".parse().unwrap(), 8).unwrap()];
        assert!(is_allowed("127.0.0.1".parse().unwrap(), &allowed));
        assert!(is_allowed("::ffff:127.0.0.1".parse().unwrap(), &allowed));
        assert!(!is_allowed("::1".parse().unwrap(), &allowed));
    }

    proptest! {
        #[test]
        fn shuffling_loses_nobody_and_keeps_the_order_of_preferences(
            preferences in proptest::collection::vec(0u16..4, 0..30),
        ) {
            let numbered = preferences.iter().enumerate();
            let records: Vec<Mx> = numbered.map(|(i, p)| mx(*p, &format!("h{i}"))).collect();
            let ordered = by_preference(records.clone(), any_below);
            prop_assert!(ordered.is_sorted_by_key(|mx| mx.preference));
            prop_assert_eq!(ordered.len(), records.len());
            prop_assert!(records.iter().all(|mx| ordered.contains(mx)));
        }
    }
}
