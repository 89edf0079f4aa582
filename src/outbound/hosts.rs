//! The hosts of a Next Hop Entity: where a session handler may connect for a list, in which order.
//!
//! By MX, by the domain's own addresses, by an address literal (RFC 5321 5.1, RFC 7505), or the host that the
//! operator named. Never connects, and never lets a stranger's DNS send mail to this machine itself.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use self::choice::{better_than_ourselves, by_preference, by_turns, is_allowed, is_same_host, literal};
use super::outcome::{Outcome, Reason};
use crate::config::Config;
use crate::config::cidr::Cidr;
use crate::dns::resolver::{DnsError, MxAnswer, Resolver};
use crate::domain_list::next_hop::NextHop;
use crate::smtp::reply::EnhancedCode;

mod choice;

/// The hosts of one domain that are looked up at most; who lists more gets no further by them.
const MOST_HOSTS: usize = 20;

/// The addresses of one next hop that are given at most.
const MOST_ADDRESSES: usize = 40;

/// What the operator decided about hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// `--hostname`: hosts of this name are ourselves.
    pub hostname: String,
    /// `--smtp-port`: for all hosts but those that the operator named.
    pub smtp_port: u16,
    /// `--allow-next-hop`: addresses that are not public, and allowed all the same.
    pub allow_next_hop: Vec<Cidr>,
}

impl From<&Config> for HostSettings {
    fn from(config: &Config) -> HostSettings {
        HostSettings {
            hostname: config.hostname.clone(),
            smtp_port: config.smtp_port,
            allow_next_hop: config.allow_next_hop.clone(),
        }
    }
}

/// One host to try, and its addresses in the order in which to try them; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name in lower case, or the IP address or literal that took its place.
    pub name: String,
    /// Both families by turns, IPv6 first.
    pub addresses: Vec<SocketAddr>,
}

/// Why there is no host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHosts {
    /// NXDOMAIN.
    NoSuchDomain,
    /// The domain exists, without MX and without address.
    NeitherMxNorAddress,
    /// An address literal of a form that we cannot reach.
    UnknownLiteral,
    /// The domain takes no mail (RFC 7505).
    NullMx,
    /// There are MX records, and none of their hosts has an address.
    NoAddress,
    /// We are the best exchanger ourselves, and do not know the domain (RFC 5321 5.1).
    Ourselves,
    /// There are only addresses to which `--allow-next-hop` does not let mail go: the first of them.
    NotPublic(IpAddr),
    /// DNS knows nothing just now, or the operator's host is not found.
    Temporary(String),
}

impl fmt::Display for NoHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoHosts::NoSuchDomain => f.write_str("there is no such domain"),
            NoHosts::NeitherMxNorAddress => f.write_str("the domain has neither MX nor address"),
            NoHosts::UnknownLiteral => f.write_str("this is not an IP address"),
            NoHosts::NullMx => f.write_str("the domain takes no mail (null MX)"),
            NoHosts::NoAddress => f.write_str("no host of its MX records has an address"),
            NoHosts::Ourselves => {
                f.write_str("its mail loops back: we are its best MX, and it is not local here")
            }
            NoHosts::NotPublic(address) => write!(f, "its address {address} is not that of a public host"),
            NoHosts::Temporary(what) => f.write_str(what),
        }
    }
}

impl NoHosts {
    /// What becomes of the recipients of this next hop.
    #[must_use]
    pub fn outcome(&self, next_hop: &NextHop) -> Outcome {
        let status = match self {
            NoHosts::NoSuchDomain | NoHosts::NeitherMxNorAddress | NoHosts::UnknownLiteral => {
                EnhancedCode(5, 1, 2)
            }
            NoHosts::NullMx => EnhancedCode(5, 1, 10),
            NoHosts::NoAddress | NoHosts::NotPublic(_) => EnhancedCode(5, 4, 4),
            NoHosts::Ourselves => EnhancedCode(5, 4, 6),
            NoHosts::Temporary(_) => EnhancedCode(4, 4, 3),
        };
        let reason = Reason::here(status, &format!("{next_hop}: {self}"));
        match self {
            NoHosts::Temporary(_) => Outcome::TryLater(reason),
            _ => Outcome::GiveUp(reason),
        }
    }
}

/// The hosts to try for `next_hop`, best first, at least one; DNS is asked until `deadline`.
///
/// # Errors
/// Why there is none; [`NoHosts::outcome`] makes it the recipients' outcome.
pub fn candidates(
    next_hop: &NextHop,
    resolver: &Resolver,
    settings: &HostSettings,
    deadline: Instant,
) -> Result<Vec<Candidate>, NoHosts> {
    match next_hop {
        NextHop::Domain(domain) if domain.starts_with('[') => {
            let address = literal(domain).ok_or(NoHosts::UnknownLiteral)?;
            settle([(domain.clone(), Ok(vec![address]))], settings)
        }
        NextHop::Domain(domain) => of_domain(domain, resolver, settings, deadline),
        NextHop::Host(host, port) => of_operator(host, *port, resolver, deadline),
    }
}

/// The hosts that DNS names for a domain (RFC 5321 5.1).
fn of_domain(
    domain: &str,
    resolver: &Resolver,
    settings: &HostSettings,
    deadline: Instant,
) -> Result<Vec<Candidate>, NoHosts> {
    let look_up = |host: String| {
        let found = resolver.addresses(&host, deadline);
        (host, found)
    };
    match resolver.mx(domain, deadline) {
        Ok(MxAnswer::Hosts(mx)) => {
            let better = better_than_ourselves(by_preference(mx, any_below), &settings.hostname);
            if better.is_empty() {
                return Err(NoHosts::Ourselves);
            }
            settle(better.into_iter().map(|mx| look_up(mx.host)), settings)
        }
        Ok(MxAnswer::Null) => Err(NoHosts::NullMx),
        Err(DnsError::NoData) if is_same_host(domain, &settings.hostname) => Err(NoHosts::Ourselves),
        Err(DnsError::NoData) => settle([look_up(domain.to_string())], settings).map_err(|none| match none {
            NoHosts::NoAddress => NoHosts::NeitherMxNorAddress,
            other => other,
        }),
        Err(DnsError::NoSuchDomain) => Err(NoHosts::NoSuchDomain),
        Err(DnsError::Temporary(what)) => Err(NoHosts::Temporary(what)),
    }
}

/// The host that the operator named. It may be anywhere, and whatever is wrong with it is no reason to bounce
/// mail: the operator will put it right.
fn of_operator(
    host: &str,
    port: u16,
    resolver: &Resolver,
    deadline: Instant,
) -> Result<Vec<Candidate>, NoHosts> {
    let found = match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) => resolver.named_host(host, deadline),
    };
    let mut addresses = by_turns(found.map_err(|error| NoHosts::Temporary(error.to_string()))?);
    addresses.truncate(MOST_ADDRESSES);
    Ok(vec![Candidate {
        name: host.to_ascii_lowercase(),
        addresses: with_port(addresses, port),
    }])
}

/// What is to be tried of the hosts that were looked up; takes no more of them than it needs.
fn settle(
    looked_up: impl IntoIterator<Item = (String, Result<Vec<IpAddr>, DnsError>)>,
    settings: &HostSettings,
) -> Result<Vec<Candidate>, NoHosts> {
    let mut candidates = Vec::new();
    let mut room = MOST_ADDRESSES;
    let mut trouble = None;
    let mut refused = None;
    for (name, found) in looked_up.into_iter().take(MOST_HOSTS) {
        match found {
            Ok(found) => {
                let (allowed, others): (Vec<_>, Vec<_>) = found
                    .into_iter()
                    .partition(|address| is_allowed(*address, &settings.allow_next_hop));
                refused = refused.or(others.first().copied());
                let mut addresses = by_turns(allowed);
                addresses.truncate(room);
                room -= addresses.len();
                if !addresses.is_empty() {
                    let addresses = with_port(addresses, settings.smtp_port);
                    candidates.push(Candidate { name, addresses });
                }
            }
            Err(DnsError::Temporary(what)) => trouble = trouble.or(Some(what)),
            Err(DnsError::NoData | DnsError::NoSuchDomain) => {}
        }
        if room == 0 {
            break;
        }
    }
    match (trouble, refused) {
        _ if !candidates.is_empty() => Ok(candidates),
        (Some(what), _) => Err(NoHosts::Temporary(what)),
        (None, Some(address)) => Err(NoHosts::NotPublic(address)),
        (None, None) => Err(NoHosts::NoAddress),
    }
}

fn with_port(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect()
}

/// A random number below `n`, which is not zero: each `RandomState` hashes under keys of its own.
fn any_below(n: usize) -> usize {
    (RandomState::new().build_hasher().finish() % n as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dns::client::Patience;
    use crate::dns::dns_server::{DnsServer, Fault};
    use domain::base::Rtype;
    use std::time::Duration;

    fn settings() -> HostSettings {
        HostSettings {
            hostname: "us.test".to_string(),
            smtp_port: 2525,
            allow_next_hop: Vec::new(),
        }
    }

    fn allowing(address: &str, prefix: u8) -> HostSettings {
        let block = Cidr::new(address.parse().unwrap(), prefix).unwrap();
        HostSettings {
            allow_next_hop: vec![block],
            ..settings()
        }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn host(name: &str, addresses: &[&str]) -> Candidate {
        Candidate {
            name: name.to_string(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn domain(name: &str) -> NextHop {
        NextHop::Domain(name.to_string())
    }

    fn ask_with(
        server: &DnsServer,
        next_hop: &NextHop,
        settings: &HostSettings,
    ) -> Result<Vec<Candidate>, NoHosts> {
        let resolver = Resolver::new(&[server.address()], Clock::System);
        let deadline = Instant::now() + Duration::from_secs(60);
        candidates(next_hop, &resolver, settings, deadline)
    }

    fn ask(server: &DnsServer, name: &str) -> Result<Vec<Candidate>, NoHosts> {
        ask_with(server, &domain(name), &settings())
    }

    #[test]
    fn a_temporary_trouble_wins_over_permanent_ones() {
        let looked_up = vec![
            ("a".to_string(), Err(DnsError::NoSuchDomain)),
            ("b".to_string(), Ok(ips(&["127.0.0.1"]))),
            (
                "c".to_string(),
                Err(DnsError::Temporary("the server sleeps".to_string())),
            ),
        ];
        let trouble = NoHosts::Temporary("the server sleeps".to_string());
        assert_eq!(settle(looked_up.clone(), &settings()), Err(trouble));
        let refused = NoHosts::NotPublic("127.0.0.1".parse().unwrap());
        assert_eq!(settle(looked_up[..2].to_vec(), &settings()), Err(refused));
        assert_eq!(
            settle(looked_up[..1].to_vec(), &settings()),
            Err(NoHosts::NoAddress)
        );
    }

    #[test]
    fn hosts_and_addresses_are_bounded() {
        let mut asked = 0;
        let one_each = (0..100u8).map(|i| {
            asked += 1;
            (format!("h{i}"), Ok(vec![IpAddr::from([192, 0, 2, i])]))
        });
        assert_eq!(settle(one_each, &settings()).unwrap().len(), MOST_HOSTS);
        assert_eq!(asked, MOST_HOSTS);

        asked = 0;
        let thirty_each = (0..100u8).map(|i| {
            asked += 1;
            (
                format!("h{i}"),
                Ok((0..30u8).map(|k| IpAddr::from([192, 0, i, k])).collect()),
            )
        });
        let found = settle(thirty_each, &settings()).unwrap();
        assert_eq!(
            found.iter().map(|host| host.addresses.len()).sum::<usize>(),
            MOST_ADDRESSES
        );
        assert_eq!(asked, 2);
    }

    #[test]
    fn a_reason_names_the_next_hop_and_stays_short() {
        let Outcome::GiveUp(reason) = NoHosts::NullMx.outcome(&domain("example.org")) else {
            panic!("a null MX is permanent");
        };
        assert_eq!(reason.status, EnhancedCode(5, 1, 10));
        assert_eq!(reason.text, "example.org: the domain takes no mail (null MX)");
        let Outcome::TryLater(reason) = NoHosts::Temporary("ä".repeat(999)).outcome(&domain("a.b")) else {
            panic!("temporary is temporary");
        };
        assert_eq!(reason.status, EnhancedCode(4, 4, 3));
        assert!(reason.text.len() <= Reason::LONGEST);
    }

    #[test]
    fn a_domain_leads_to_its_exchangers() {
        let server = DnsServer::start();
        server
            .mx("example.org", 20, "b.test")
            .mx("example.org", 10, "a.test");
        server
            .a("a.test", "192.0.2.1")
            .aaaa("a.test", "2001:db8::1")
            .a("b.test", "192.0.2.2");
        assert_eq!(
            ask(&server, "example.org"),
            Ok(vec![
                host("a.test", &["[2001:db8::1]:2525", "192.0.2.1:2525"]),
                host("b.test", &["192.0.2.2:2525"]),
            ])
        );
    }

    #[test]
    fn a_domain_without_mx_is_its_own_exchanger() {
        let server = DnsServer::start();
        server.a("example.org", "192.0.2.1");
        assert_eq!(
            ask(&server, "example.org"),
            Ok(vec![host("example.org", &["192.0.2.1:2525"])])
        );
    }

    #[test]
    fn exchangers_without_address_are_skipped() {
        let server = DnsServer::start();
        server
            .mx("example.org", 10, "gone.test")
            .mx("example.org", 15, "sick.test");
        server.mx("example.org", 20, "b.test").a("b.test", "192.0.2.2");
        server.fault("sick.test", Rtype::A, Fault::ServFail);
        server.fault("sick.test", Rtype::AAAA, Fault::ServFail);
        assert_eq!(
            ask(&server, "example.org"),
            Ok(vec![host("b.test", &["192.0.2.2:2525"])])
        );
    }

    #[test]
    fn destinations_that_can_never_exist_are_told_apart() {
        let server = DnsServer::start();
        server.mx("null.test", 0, ".").mx("bare.test", 10, "gone.test");
        server.mx("text.test", 10, "[192.0.2.1]");
        server
            .mx("us-first.test", 10, "us.test")
            .mx("us-first.test", 20, "b.test")
            .a("b.test", "192.0.2.2");
        server
            .cname("dangling.test", "gone.test")
            .aaaa("deep.below.test", "2001:db8::1");
        server.a("us.test", "192.0.2.3").a("loop.test", "127.0.0.1");
        for (name, expected) in [
            ("nowhere.test", NoHosts::NoSuchDomain),
            ("a..b", NoHosts::NoSuchDomain),
            ("dangling.test", NoHosts::NoSuchDomain),
            ("below.test", NoHosts::NeitherMxNorAddress),
            ("null.test", NoHosts::NullMx),
            ("bare.test", NoHosts::NoAddress),
            ("text.test", NoHosts::NoAddress),
            ("us-first.test", NoHosts::Ourselves),
            ("us.test", NoHosts::Ourselves),
            ("loop.test", NoHosts::NotPublic("127.0.0.1".parse().unwrap())),
            ("[127.0.0.1]", NoHosts::NotPublic("127.0.0.1".parse().unwrap())),
            ("[ipv6:::1]", NoHosts::NotPublic("::1".parse().unwrap())),
            ("[nonsense]", NoHosts::UnknownLiteral),
        ] {
            assert_eq!(ask(&server, name), Err(expected.clone()), "{name}");
            assert!(
                matches!(expected.outcome(&domain(name)), Outcome::GiveUp(_)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_failing_dns_is_no_reason_to_give_up() {
        let server = DnsServer::start();
        server
            .mx("mx.test", 10, "a.test")
            .a("a.test", "192.0.2.1")
            .a("own.test", "192.0.2.2");
        let patience = Patience {
            per_try: Duration::from_millis(50),
            in_all: Duration::from_millis(200),
        };
        let resolver = Resolver::with_patience(&[server.address()], Clock::System, patience);
        for fault in [
            Fault::ServFail,
            Fault::Refused,
            Fault::Silence,
            Fault::Garbage,
            Fault::BrokenRecord,
        ] {
            server.set_ttl(0);
            for (of, rtype) in [
                ("mx.test", Rtype::MX),
                ("a.test", Rtype::A),
                ("own.test", Rtype::A),
            ] {
                server.fault(of, rtype, fault);
                let asked = if of == "own.test" { of } else { "mx.test" };
                let deadline = Instant::now() + Duration::from_secs(60);
                let found = candidates(&domain(asked), &resolver, &settings(), deadline);
                server.repair(of, rtype);
                let outcome = found.unwrap_err().outcome(&domain(asked));
                assert!(matches!(outcome, Outcome::TryLater(_)), "{fault:?} for {of}");
            }
        }
    }

    #[test]
    fn hosts_on_loopback_are_found_where_they_are_allowed() {
        let server = DnsServer::start();
        server
            .mx("example.org", 10, "a.test")
            .a("a.test", "127.0.0.1")
            .a("a.test", "169.254.0.1");
        let allowed = allowing("127.0.0.0", 8);
        assert_eq!(
            ask_with(&server, &domain("example.org"), &allowed),
            Ok(vec![host("a.test", &["127.0.0.1:2525"])])
        );
        assert_eq!(
            ask_with(&server, &domain("[127.0.0.1]"), &allowed),
            Ok(vec![host("[127.0.0.1]", &["127.0.0.1:2525"])])
        );
    }

    #[test]
    fn a_host_that_the_operator_named_may_be_anywhere() {
        let server = DnsServer::start();
        server
            .a("relay.test", "127.0.0.1")
            .mx("relay.test", 10, "other.test");
        for (name, expected) in [
            ("Relay.test", host("relay.test", &["127.0.0.1:26"])),
            ("127.0.0.1", host("127.0.0.1", &["127.0.0.1:26"])),
            ("::1", host("::1", &["[::1]:26"])),
        ] {
            let next_hop = NextHop::Host(name.to_string(), 26);
            assert_eq!(ask_with(&server, &next_hop, &settings()), Ok(vec![expected]));
        }
    }

    #[test]
    fn a_host_that_the_operator_misspelt_is_tried_later() {
        let server = DnsServer::start();
        for name in ["a..b".to_string(), "a".repeat(64)] {
            let next_hop = NextHop::Host(name.clone(), 25);
            let outcome = ask_with(&server, &next_hop, &settings())
                .unwrap_err()
                .outcome(&next_hop);
            assert!(matches!(outcome, Outcome::TryLater(_)), "{name}");
        }
    }
}
