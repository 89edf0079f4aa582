//! The turns of the addresses: in which order a session handler tries what was found, and how many at most.
//!
//! Pure. Never drops a host as long as there is a try for each.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::Candidate;
use crate::outbound::outcome::Peer;

/// The peers to connect to one after the other, `most` of them at most.
///
/// Host by host, as the list stands (RFC 5321 5.1). If there is more than may be tried, each host gets an equal
/// share first, so that a host with many dead addresses does not hide the next one; what is left goes to the
/// first. Addresses that are `last`, because their family is broken here, come after all others. One that two hosts
/// have is tried once.
#[must_use]
pub fn in_turn(hosts: Vec<Candidate>, most: usize, last: impl Fn(IpAddr) -> bool) -> Vec<Peer> {
    let (mut sound, mut broken) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for Candidate { name, addresses } in hosts {
        let fresh = addresses.into_iter().filter(|address| seen.insert(*address));
        let (late, soon): (Vec<_>, Vec<_>) = fresh.partition(|address| last(address.ip()));
        let peers = |addresses: Vec<SocketAddr>| {
            let peer = |address: SocketAddr| Peer {
                name: name.clone(),
                address: address.into(),
            };
            addresses.into_iter().map(peer).collect()
        };
        sound.push(peers(soon));
        broken.push(peers(late));
    }
    let mut turns = in_shares(sound, most);
    turns.extend(in_shares(broken, most - turns.len()));
    turns
}

/// `most` peers of these hosts, with the largest equal share for which there is room.
fn in_shares(hosts: Vec<Vec<Peer>>, most: usize) -> Vec<Peer> {
    let tries = |share: usize| hosts.iter().map(|peers| peers.len().min(share)).sum::<usize>();
    let share = (1..=most).rev().find(|share| tries(*share) <= most).unwrap_or(1);
    let mut rest = Vec::new();
    let mut turns: Vec<Peer> = Vec::new();
    for mut peers in hosts {
        rest.extend(peers.split_off(peers.len().min(share)));
        turns.extend(peers);
    }
    turns.extend(rest);
    turns.truncate(most);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hosts a, b, c … with so many addresses each: those of the first are in 192.0.0.0/24, and so on.
    fn hosts(numbers: &[u8]) -> Vec<Candidate> {
        let host = |(i, number): (u8, &u8)| Candidate {
            name: char::from(b'a' + i).to_string(),
            addresses: (0..*number).map(|k| ([192, 0, i, k], 25).into()).collect(),
        };
        (0..).zip(numbers).map(host).collect()
    }

    /// `a0 a1 b0`: whose address, and which.
    fn told(peers: &[Peer]) -> String {
        let tell = |peer: &Peer| match peer.address.ip().unwrap() {
            IpAddr::V4(v4) => format!("{}{}", peer.name, v4.octets()[3]),
            IpAddr::V6(_) => format!("{}six", peer.name),
        };
        peers.iter().map(tell).collect::<Vec<_>>().join(" ")
    }

    fn never(_: IpAddr) -> bool {
        false
    }

    #[test]
    fn what_fits_is_tried_host_by_host() {
        assert_eq!(told(&in_turn(hosts(&[3, 1, 2]), 6, never)), "a0 a1 a2 b0 c0 c1");
    }

    #[test]
    fn a_host_with_many_addresses_does_not_hide_the_next_one() {
        assert_eq!(told(&in_turn(hosts(&[9, 1]), 5, never)), "a0 a1 a2 a3 b0");
        assert_eq!(told(&in_turn(hosts(&[9, 1, 9]), 6, never)), "a0 a1 b0 c0 c1 a2");
    }

    #[test]
    fn where_there_are_too_many_hosts_each_gets_one_try_as_far_as_they_go() {
        assert_eq!(told(&in_turn(hosts(&[2, 2, 2]), 2, never)), "a0 b0");
        assert_eq!(told(&in_turn(hosts(&[2, 2, 2]), 0, never)), "");
    }

    #[test]
    fn an_address_of_two_hosts_is_tried_once() {
        let mut two = hosts(&[2, 1]);
        let shared = two[0].addresses[1];
        two[1].addresses.push(shared);
        assert_eq!(told(&in_turn(two, 9, never)), "a0 a1 b0");
    }

    #[test]
    fn a_broken_family_comes_after_all_hosts() {
        let mut both = hosts(&[1, 1]);
        for (host, six) in both.iter_mut().zip(["[2001:db8::1]:25", "[2001:db8::2]:25"]) {
            host.addresses.insert(0, six.parse().unwrap());
        }
        assert_eq!(
            told(&in_turn(both.clone(), 9, |ip| ip.is_ipv6())),
            "a0 b0 asix bsix"
        );
        assert_eq!(told(&in_turn(both, 3, |ip| ip.is_ipv6())), "a0 b0 asix");
    }

    proptest! {
        #[test]
        fn every_host_has_a_turn_and_nothing_comes_twice(
            numbers in proptest::collection::vec(1u8..30, 0..20),
            most in 0usize..40,
        ) {
            let all: usize = numbers.iter().map(|n| usize::from(*n)).sum();
            let turns = in_turn(hosts(&numbers), most, never);
            prop_assert_eq!(turns.len(), all.min(most));
            let mut names: Vec<&str> = turns.iter().map(|peer| peer.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), numbers.len().min(most));
            let mut addresses: Vec<_> = turns.iter().map(|peer| peer.address.clone()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), turns.len());
        }
    }
}
