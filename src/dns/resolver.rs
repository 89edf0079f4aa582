//! The resolver: mail exchangers and addresses of a name, and names of an address, from the cache or from the
//! DNS servers.
//!
//! Shared by all handlers. Never holds its lock while it asks, and never decides where mail may go: that is
//! `outbound::hosts`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use domain::base::Rtype;
use parking_lot::Mutex;

use super::cache::Cache;
use super::client::{Failure, Patience};
use super::message::{self, Answer, DnsName, LONGEST_ALIAS_CHAIN, Record};
use super::probe::Probe;
use super::servers::Servers;
use crate::clock::Clock;

/// The answers that are kept at most: some megabytes.
const CACHE_LIMIT: usize = 10_000;

/// Finds mail exchangers and addresses.
#[derive(Debug)]
pub struct Resolver {
    servers: Servers,
    patience: Patience,
    cache: Mutex<Cache>,
    clock: Clock,
}

/// One mail exchanger of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// The lower, the sooner.
    pub preference: u16,
    /// Lower case, without a dot at its end.
    pub host: String,
}

/// What the MX records of a domain say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// The exchangers, in the order in which they came; at least one.
    Hosts(Vec<Mx>),
    /// The domain takes no mail (RFC 7505).
    Null,
}

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// There is no such name, or nothing of that form can stand in DNS.
    NoSuchDomain,
    /// The name exists, but not with what was wanted.
    NoData,
    /// Nobody knows just now; what went wrong, in the operator's words.
    Temporary(String),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DnsError::NoSuchDomain => "there is no such domain",
            DnsError::NoData => "there is no such record",
            DnsError::Temporary(what) => what,
        })
    }
}

impl Resolver {
    /// A resolver that asks `servers`, or, if there are none, those of /etc/resolv.conf as it reads then.
    #[must_use]
    pub fn new(servers: &[SocketAddr], clock: Clock) -> Resolver {
        Resolver::with_patience(servers, clock, Patience::default())
    }

    /// The same, with other waiting times.
    #[must_use]
    pub fn with_patience(servers: &[SocketAddr], clock: Clock, patience: Patience) -> Resolver {
        Resolver {
            servers: Servers::new(servers, patience),
            patience,
            cache: Mutex::new(Cache::new(CACHE_LIMIT)),
            clock,
        }
    }

    /// The mail exchangers of `domain` (RFC 5321 5.1), as soon as they are known, before `deadline`.
    ///
    /// # Errors
    /// [`DnsError::NoData`] says that the domain exists and has no MX: it may be its own exchanger.
    pub fn mx(&self, domain: &str, deadline: Instant) -> Result<MxAnswer, DnsError> {
        let records = self.records(domain, Rtype::MX, deadline)?;
        let hosts: Vec<Mx> = records
            .into_iter()
            .filter_map(|record| match record {
                Record::Mx(preference, host) if !host.is_root() => Some(Mx {
                    preference,
                    host: host.to_string().to_ascii_lowercase(),
                }),
                // RFC 7505 3: a null MX stands alone; beside others it is a mistake and says nothing.
                _ => None,
            })
            .collect();
        Ok(if hosts.is_empty() {
            MxAnswer::Null
        } else {
            MxAnswer::Hosts(hosts)
        })
    }

    /// Whether the operator named the servers (`--dns`): these may know what is nobody else's business.
    #[must_use]
    pub fn has_named_servers(&self) -> bool {
        self.servers.are_named()
    }

    /// Tries each of the DNS servers, side by side, for so long at most; in their order.
    #[must_use]
    pub fn probe(&self, patience: Duration) -> Vec<(SocketAddr, Result<Probe, Failure>)> {
        self.servers.probe(patience)
    }

    /// The names that DNS has for an address, in the order in which they came; at least one. Lower case,
    /// without a dot at the end. Whoever owns the address says these: whether they are host names, and have
    /// this address, is for the caller to find out.
    ///
    /// # Errors
    /// [`DnsError::NoSuchDomain`] and [`DnsError::NoData`] say that it has none.
    pub fn ptr(&self, address: IpAddr, deadline: Instant) -> Result<Vec<String>, DnsError> {
        let records = self.records_of(message::reverse_name(address), Rtype::PTR, deadline)?;
        Ok(records
            .into_iter()
            .filter_map(|record| match record {
                Record::Name(name) => Some(name.to_string().to_ascii_lowercase()),
                Record::Mx(..) | Record::Address(_) => None,
            })
            .collect())
    }

    /// Whether `address` is one of the addresses of `host`. Asks for its own family only.
    ///
    /// # Errors
    /// Those of the DNS servers; no such host and no such addresses among them.
    pub fn has_address(&self, host: &str, address: IpAddr, deadline: Instant) -> Result<bool, DnsError> {
        let address = address.to_canonical();
        let rtype = if address.is_ipv4() { Rtype::A } else { Rtype::AAAA };
        Ok(self.family(host, rtype, deadline)?.contains(&address))
    }

    /// The addresses of `host`, IPv4 before IPv6; one family is enough when the other cannot be had.
    ///
    /// # Errors
    /// Says `Temporary` if either family may have addresses that could not be asked for.
    pub fn addresses(&self, host: &str, deadline: Instant) -> Result<Vec<IpAddr>, DnsError> {
        let ipv4 = self.family(host, Rtype::A, deadline);
        // RFC 8020: a name that does not exist does not exist for any type.
        if ipv4 == Err(DnsError::NoSuchDomain) {
            return ipv4;
        }
        // Some servers never answer for AAAA: whoever has an IPv4 address does not wait long for them.
        let patient = match &ipv4 {
            Ok(_) => deadline.min(Instant::now() + self.patience.per_try),
            Err(_) => deadline,
        };
        match (ipv4, self.family(host, Rtype::AAAA, patient)) {
            (Ok(ipv4), Ok(ipv6)) => Ok([ipv4, ipv6].concat()),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            (Err(error @ DnsError::Temporary(_)), Err(_)) | (Err(_), Err(error)) => Err(error),
        }
    }

    /// The addresses of a host that the operator named: from the DNS servers, if these were named too, else
    /// or if they give none from the system (hosts file and all), which may take its own time about it. Names of
    /// the loopback are nobody's but the system's (RFC 6761 6.3).
    ///
    /// # Errors
    /// What the DNS servers said, or `Temporary` with what the system said.
    pub fn named_host(&self, host: &str, deadline: Instant) -> Result<Vec<IpAddr>, DnsError> {
        let asked = (self.has_named_servers() && !is_localhost(host))
            .then(|| self.addresses(host, deadline))
            .transpose();
        if let Ok(Some(found)) = asked {
            return Ok(found);
        }
        match dns_lookup::lookup_host(host) {
            Ok(found) => {
                let found: Vec<IpAddr> = found.collect();
                if found.is_empty() {
                    Err(DnsError::NoData)
                } else {
                    Ok(found)
                }
            }
            Err(error) => {
                let error = std::io::Error::from(error).to_string();
                Err(asked.err().unwrap_or(DnsError::Temporary(error)))
            }
        }
    }

    fn family(&self, host: &str, rtype: Rtype, deadline: Instant) -> Result<Vec<IpAddr>, DnsError> {
        let records = self.records(host, rtype, deadline)?;
        Ok(records
            .into_iter()
            .filter_map(|record| match record {
                Record::Address(address) => Some(address),
                Record::Mx(..) | Record::Name(_) => None,
            })
            .collect())
    }

    /// The records of a name, aliases followed from answer to answer; never an empty list.
    fn records(&self, text: &str, rtype: Rtype, deadline: Instant) -> Result<Vec<Record>, DnsError> {
        let name = message::name(text).ok_or(DnsError::NoSuchDomain)?;
        self.records_of(name, rtype, deadline)
    }

    fn records_of(&self, asked: DnsName, rtype: Rtype, deadline: Instant) -> Result<Vec<Record>, DnsError> {
        let mut name = asked.clone();
        for _ in 0..=LONGEST_ALIAS_CHAIN {
            match self.answer(&name, rtype, deadline)? {
                Answer::Records(records) => return Ok(records),
                Answer::Alias(target) => name = target,
                Answer::NoData => return Err(DnsError::NoData),
                Answer::NoSuchDomain => return Err(DnsError::NoSuchDomain),
            }
        }
        let what = format!("{rtype} of {asked}: aliases without an end");
        Err(DnsError::Temporary(what))
    }

    fn answer(&self, name: &DnsName, rtype: Rtype, deadline: Instant) -> Result<Answer, DnsError> {
        let kept = self.cache.lock().find(name, rtype, self.clock.now());
        if let Some(answer) = kept {
            return Ok(answer);
        }
        let (answer, ttl) = self
            .servers
            .client()
            .ask(name, rtype, deadline)
            .map_err(|failure| DnsError::Temporary(format!("{rtype} of {name}: {failure}")))?;
        self.cache
            .lock()
            .keep(name, rtype, &answer, ttl, self.clock.now());
        Ok(answer)
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.')
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::dns::dns_server::{DnsServer, Fault};

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn resolver(server: &DnsServer) -> Resolver {
        let clock = Clock::manual(Stamp(1_000_000_000_000));
        Resolver::new(&[server.address()], clock)
    }

    fn impatient(server: &DnsServer) -> Resolver {
        let patience = Patience {
            per_try: Duration::from_millis(200),
            in_all: Duration::from_secs(10),
        };
        Resolver::with_patience(&[server.address()], Clock::System, patience)
    }

    fn mx(preference: u16, host: &str) -> Mx {
        let host = host.to_string();
        Mx { preference, host }
    }

    fn addresses(texts: &[&str]) -> Result<Vec<IpAddr>, DnsError> {
        Ok(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn exchangers_come_in_lower_case() {
        let server = DnsServer::start();
        server
            .mx("example.org", 20, "B.Test")
            .mx("example.org", 10, "a.test");
        assert_eq!(
            resolver(&server).mx("Example.org", far()),
            Ok(MxAnswer::Hosts(vec![mx(20, "b.test"), mx(10, "a.test")]))
        );
    }

    #[test]
    fn a_null_mx_is_told_apart_from_none() {
        let server = DnsServer::start();
        server.mx("null.test", 0, ".").a("none.test", "192.0.2.1");
        server.mx("both.test", 0, ".").mx("both.test", 10, "a.test");
        let resolver = resolver(&server);
        assert_eq!(resolver.mx("null.test", far()), Ok(MxAnswer::Null));
        assert_eq!(resolver.mx("none.test", far()), Err(DnsError::NoData));
        assert_eq!(resolver.mx("nowhere.test", far()), Err(DnsError::NoSuchDomain));
        assert_eq!(
            resolver.mx("both.test", far()),
            Ok(MxAnswer::Hosts(vec![mx(10, "a.test")]))
        );
    }

    #[test]
    fn what_is_no_name_does_not_exist_and_is_not_asked_for() {
        let server = DnsServer::start();
        let resolver = resolver(&server);
        for text in ["", "a..b", "bücher.test"] {
            assert_eq!(resolver.mx(text, far()), Err(DnsError::NoSuchDomain));
            assert_eq!(resolver.addresses(text, far()), Err(DnsError::NoSuchDomain));
        }
        assert_eq!(server.all_queries(), 0);
    }

    #[test]
    fn both_families_are_found() {
        let server = DnsServer::start();
        server.aaaa("a.test", "2001:db8::1").a("a.test", "192.0.2.1");
        server.aaaa("six.test", "2001:db8::6");
        let resolver = resolver(&server);
        assert_eq!(
            resolver.addresses("a.test", far()),
            addresses(&["192.0.2.1", "2001:db8::1"])
        );
        assert_eq!(resolver.addresses("six.test", far()), addresses(&["2001:db8::6"]));
    }

    #[test]
    fn one_family_is_enough_when_the_other_fails() {
        let server = DnsServer::start();
        server.a("a.test", "192.0.2.1").aaaa("a.test", "2001:db8::1");
        server.fault("a.test", Rtype::AAAA, Fault::ServFail);
        assert_eq!(
            resolver(&server).addresses("a.test", far()),
            addresses(&["192.0.2.1"])
        );
        server.repair("a.test", Rtype::AAAA);
        server.fault("a.test", Rtype::A, Fault::Silence);
        assert_eq!(
            impatient(&server).addresses("a.test", far()),
            addresses(&["2001:db8::1"])
        );
    }

    #[test]
    fn a_family_that_failed_makes_no_address_temporary() {
        let server = DnsServer::start();
        server.a("a.test", "192.0.2.1").aaaa("six.test", "2001:db8::6");
        server.fault("a.test", Rtype::A, Fault::ServFail);
        server.fault("six.test", Rtype::AAAA, Fault::Refused);
        let resolver = resolver(&server);
        for host in ["a.test", "six.test"] {
            let found = resolver.addresses(host, far());
            assert!(matches!(found, Err(DnsError::Temporary(_))), "{found:?}");
        }
    }

    #[test]
    fn silence_garbage_and_failure_are_temporary() {
        let server = DnsServer::start();
        server.mx("example.org", 10, "a.test");
        let resolver = impatient(&server);
        for fault in [
            Fault::Silence,
            Fault::Garbage,
            Fault::ServFail,
            Fault::BrokenRecord,
        ] {
            server.fault("example.org", Rtype::MX, fault);
            let found = resolver.mx("example.org", far());
            assert!(
                matches!(found, Err(DnsError::Temporary(_))),
                "{fault:?}: {found:?}"
            );
        }
        server.repair("example.org", Rtype::MX);
        assert!(resolver.mx("example.org", far()).is_ok());
    }

    #[test]
    fn aliases_are_followed_inside_and_across_answers() {
        let server = DnsServer::start();
        server
            .cname("one.test", "two.test")
            .cname("two.test", "three.test");
        server.a("three.test", "192.0.2.3").mx("three.test", 10, "a.test");
        let hosts = Ok(MxAnswer::Hosts(vec![mx(10, "a.test")]));
        assert_eq!(resolver(&server).mx("one.test", far()), hosts);
        server.fault("one.test", Rtype::MX, Fault::AliasAlone);
        server.fault("two.test", Rtype::MX, Fault::AliasAlone);
        assert_eq!(resolver(&server).mx("one.test", far()), hosts);
    }

    #[test]
    fn an_alias_loop_ends() {
        let server = DnsServer::start();
        server.cname("one.test", "two.test").cname("two.test", "one.test");
        let error = |found| matches!(found, Err(DnsError::Temporary(_)));
        assert!(error(resolver(&server).addresses("one.test", far())));
        for name in ["one.test", "two.test"] {
            server.fault(name, Rtype::A, Fault::AliasAlone);
            server.fault(name, Rtype::AAAA, Fault::AliasAlone);
        }
        assert!(error(resolver(&server).addresses("one.test", far())));
    }

    #[test]
    fn an_answer_that_does_not_fit_into_a_datagram_is_whole() {
        let server = DnsServer::start();
        for i in 0..100 {
            server.mx("example.org", i, &format!("a-host-with-a-long-name-{i}.test"));
        }
        match resolver(&server).mx("example.org", far()) {
            Ok(MxAnswer::Hosts(hosts)) => assert_eq!(hosts.len(), 100),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.tcp_queries(), 1);
    }

    #[test]
    fn answers_are_kept_for_their_ttl_and_failures_are_not() {
        let server = DnsServer::start();
        server.mx("example.org", 10, "a.test").set_ttl(60);
        let resolver = resolver(&server);
        let ask = |of: &str| {
            let _ = resolver.mx(of, far());
            let _ = resolver.mx(of, far());
            server.queries(of, Rtype::MX)
        };
        assert_eq!((ask("example.org"), ask("nowhere.test")), (1, 1));
        resolver.clock.advance(Duration::from_secs(61));
        server.fault("example.org", Rtype::MX, Fault::ServFail);
        assert_eq!((ask("example.org"), ask("nowhere.test")), (3, 2));
    }

    #[test]
    fn a_named_host_falls_back_to_the_system() {
        let server = DnsServer::start();
        server.a("relay.test", "192.0.2.25");
        let named = resolver(&server);
        assert_eq!(named.named_host("relay.test", far()), addresses(&["192.0.2.25"]));
        // Names that only the hosts file has are asked for first; this one is never.
        server.a("localhost", "192.0.2.26");
        let found = named.named_host("localhost", far()).unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert_eq!(server.queries("localhost", Rtype::A), 0);
        assert!(named.named_host("nowhere.invalid", far()).is_err());
        assert_eq!(server.queries("nowhere.invalid", Rtype::A), 1);
    }

    #[test]
    fn without_named_servers_a_named_host_is_the_systems_matter() {
        let found = Resolver::new(&[], Clock::System).named_host("localhost", far());
        assert!(found.unwrap().iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn names_of_an_address_come_in_lower_case() {
        let server = DnsServer::start();
        server
            .ptr("192.0.2.1", "B.Test")
            .ptr("192.0.2.1", "a.test")
            .ptr("2001:db8::1", "six.test");
        let resolver = resolver(&server);
        let names = |address: &str| resolver.ptr(address.parse().unwrap(), far());
        let expected = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(names("192.0.2.1"), expected(&["b.test", "a.test"]));
        assert_eq!(names("::ffff:192.0.2.1"), expected(&["b.test", "a.test"]));
        assert_eq!(names("2001:db8::1"), expected(&["six.test"]));
        assert_eq!(names("192.0.2.2"), Err(DnsError::NoSuchDomain));
        assert_eq!(server.queries("1.2.0.192.in-addr.arpa", Rtype::PTR), 1);
    }

    #[test]
    fn a_host_has_an_address_if_its_own_family_says_so() {
        let server = DnsServer::start();
        server.a("a.test", "192.0.2.1").aaaa("a.test", "2001:db8::1");
        let resolver = resolver(&server);
        let has = |address: &str| resolver.has_address("a.test", address.parse().unwrap(), far());
        assert_eq!(has("192.0.2.1"), Ok(true));
        assert_eq!(has("::ffff:192.0.2.2"), Ok(false));
        assert_eq!(server.queries("a.test", Rtype::AAAA), 0);
        assert_eq!(has("2001:db8::1"), Ok(true));
        let nowhere = resolver.has_address("b.test", "192.0.2.1".parse().unwrap(), far());
        assert_eq!(nowhere, Err(DnsError::NoSuchDomain));
    }

    #[test]
    fn one_resolver_serves_many_threads() {
        let server = DnsServer::start();
        server.mx("example.org", 10, "a.test");
        let resolver = resolver(&server);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| assert!(resolver.mx("example.org", far()).is_ok()));
            }
        });
    }
}
