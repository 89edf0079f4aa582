//! The verified name of a client: what DNS calls its address, if that name has this address in turn.
//!
//! Anybody may claim any name for an address of his own; only who owns the name can confirm it. Never keeps a
//! session waiting for longer than two seconds, and never gives a name that is not a host name.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::dns::resolver::Resolver;

/// The longest that a session waits for the name of its client.
const WITHIN: Duration = Duration::from_secs(2);

/// How long a result is kept, "there is none" and failures included, counted from the question. What DNS says
/// is kept by the resolver too, for as long as its owner allows.
const KEPT: Duration = Duration::from_secs(60);

/// The most results that are kept.
const MOST_KEPT: usize = 10_000;

/// The most names of one address that are tried.
const MOST_TRIED: usize = 3;

/// Finds the names of clients. Shared by all handlers.
#[derive(Debug)]
pub struct ClientNames {
    resolver: Arc<Resolver>,
    within: Duration,
    most_kept: usize,
    known: Mutex<Known>,
}

/// What was found out, or is being found out: who comes second waits for who came first.
type Finding = Arc<OnceLock<Option<Arc<str>>>>;

#[derive(Debug, Default)]
struct Known {
    findings: HashMap<IpAddr, Finding>,
    /// The same addresses by age, the oldest first, and until when their findings are kept.
    ages: VecDeque<(Instant, IpAddr)>,
}

impl ClientNames {
    /// Finds names by asking this resolver.
    #[must_use]
    pub fn new(resolver: Arc<Resolver>) -> ClientNames {
        ClientNames::with_limits(resolver, WITHIN, MOST_KEPT)
    }

    fn with_limits(resolver: Arc<Resolver>, within: Duration, most_kept: usize) -> ClientNames {
        ClientNames {
            resolver,
            within,
            most_kept,
            known: Mutex::default(),
        }
    }

    /// The verified name of `client`, lower case, without a dot at its end; within two seconds.
    ///
    /// `None` if it has none, and if nobody says in time.
    #[must_use]
    pub fn name(&self, client: IpAddr) -> Option<Arc<str>> {
        self.name_at(client, Instant::now())
    }

    fn name_at(&self, client: IpAddr, now: Instant) -> Option<Arc<str>> {
        let client = client.to_canonical();
        // RFC 6761 6.3, RFC 6303: servers out there know nothing of these, and are not to be asked.
        if is_internal(client) && !self.resolver.has_named_servers() {
            return None;
        }
        // Asking happens outside of the lock. It asks nobody who could wait for us, and it has its deadline:
        // so whoever waits here waits for this long at most.
        let finding = self.known.lock().finding(client, now, self.most_kept);
        finding.get_or_init(|| self.ask(client)).clone()
    }

    /// Forward-confirmed reverse DNS: the name of the address whose addresses hold the address.
    fn ask(&self, client: IpAddr) -> Option<Arc<str>> {
        let deadline = Instant::now() + self.within;
        let names = self.resolver.ptr(client, deadline).ok()?;
        names
            .into_iter()
            .filter(|name| is_host_name(name))
            .take(MOST_TRIED)
            .find(|name| self.resolver.has_address(name, client, deadline) == Ok(true))
            .map(Arc::from)
    }
}

impl Known {
    /// The finding for this address; a new one, which nobody has begun yet, if none is kept.
    fn finding(&mut self, client: IpAddr, now: Instant, most: usize) -> Finding {
        while self.ages.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
        if let Some(finding) = self.findings.get(&client) {
            return Arc::clone(finding);
        }
        if self.findings.len() >= most {
            self.forget_oldest();
        }
        let finding = Finding::default();
        self.findings.insert(client, Arc::clone(&finding));
        self.ages.push_back((now + KEPT, client));
        finding
    }

    /// Whoever waits for it still gets it.
    fn forget_oldest(&mut self) {
        if let Some((_, client)) = self.ages.pop_front() {
            self.findings.remove(&client);
        }
    }
}

/// Addresses that mean something to this machine or link alone. A site's own servers know its private ones.
fn is_internal(client: IpAddr) -> bool {
    match client {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// RFC 1123 2.1, and the underscore that real hosts have in their names. What ends in a number is an address
/// in disguise.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dns::dns_server::{DnsServer, Fault, reverse};
    use domain::base::Rtype;
    use std::net::{Ipv4Addr, SocketAddr};

    const CLIENT: &str = "192.0.2.1";

    /// For answers that do come, on a machine that is busy.
    const LONG: Duration = Duration::from_secs(30);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn names(server: &DnsServer) -> ClientNames {
        let resolver = Resolver::new(&[server.address()], Clock::System);
        ClientNames::with_limits(Arc::new(resolver), LONG, MOST_KEPT)
    }

    fn name(server: &DnsServer, client: &str) -> Option<String> {
        names(server).name(ip(client)).map(|name| name.to_string())
    }

    #[test]
    fn a_name_counts_if_it_has_the_address_in_turn() {
        let server = DnsServer::start();
        server.ptr(CLIENT, "Mail.Univac.COM");
        assert_eq!(name(&server, CLIENT), None);
        server.a("mail.univac.com", "192.0.2.2");
        assert_eq!(name(&server, CLIENT), None);
        server.a("mail.univac.com", CLIENT);
        assert_eq!(name(&server, CLIENT).as_deref(), Some("mail.univac.com"));
        assert_eq!(
            name(&server, "::ffff:192.0.2.1").as_deref(),
            Some("mail.univac.com")
        );
    }

    #[test]
    fn ipv6_clients_have_names_too() {
        let server = DnsServer::start();
        server
            .ptr("2001:db8::1", "six.test")
            .aaaa("six.test", "2001:db8::1");
        assert_eq!(name(&server, "2001:db8::1").as_deref(), Some("six.test"));
        assert_eq!(name(&server, "2001:db8::2"), None);
    }

    #[test]
    fn only_three_names_are_tried_and_what_is_no_host_name_is_not() {
        let server = DnsServer::start();
        for host in ["192.0.2.1", "a b.test", "-a.test"] {
            server.ptr(CLIENT, &host.replace(' ', "\\032"));
        }
        for host in ["a.test", "b.test"] {
            server.ptr(CLIENT, host);
        }
        server.a("c.test", CLIENT).a("d.test", CLIENT);
        server.ptr(CLIENT, "c.test");
        assert_eq!(name(&server, CLIENT).as_deref(), Some("c.test"));

        let other = DnsServer::start();
        for host in ["a.test", "b.test", "e.test", "c.test"] {
            other.ptr(CLIENT, host);
        }
        other.a("c.test", CLIENT);
        assert_eq!(name(&other, CLIENT), None);
        assert_eq!(other.all_queries(), 4);
    }

    #[test]
    fn a_failure_is_kept_for_a_minute() {
        let server = DnsServer::start();
        server.ptr(CLIENT, "mail.test").a("mail.test", CLIENT);
        server.fault(&reverse(ip(CLIENT)), Rtype::PTR, Fault::ServFail);
        let (names, now) = (names(&server), Instant::now());
        assert_eq!(names.name_at(ip(CLIENT), now), None);
        server.repair(&reverse(ip(CLIENT)), Rtype::PTR);
        let almost = now + KEPT - Duration::from_millis(1);
        assert_eq!(names.name_at(ip(CLIENT), almost), None);
        assert_eq!(
            names.name_at(ip(CLIENT), now + KEPT).as_deref(),
            Some("mail.test")
        );
    }

    #[test]
    fn silence_ends_with_the_deadline() {
        let server = DnsServer::start();
        server.ptr(CLIENT, "mail.test").a("mail.test", CLIENT);
        server.fault("mail.test", Rtype::A, Fault::Silence);
        let resolver = Arc::new(Resolver::new(&[server.address()], Clock::System));
        let names = ClientNames::with_limits(resolver, Duration::from_millis(100), MOST_KEPT);
        let begun = Instant::now();
        assert_eq!(names.name(ip(CLIENT)), None);
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn sessions_of_one_client_ask_once() {
        let server = DnsServer::start();
        // Not even DNS keeps it.
        server.ptr(CLIENT, "mail.test").a("mail.test", CLIENT).set_ttl(0);
        let names = names(&server);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| assert_eq!(names.name(ip(CLIENT)).as_deref(), Some("mail.test")));
            }
        });
        assert_eq!(server.all_queries(), 2);
    }

    #[test]
    fn internal_addresses_are_asked_about_only_at_servers_that_were_named() {
        let internal = ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "::ffff:127.0.0.1"];
        let system = ClientNames::new(Arc::new(Resolver::new(&[], Clock::System)));
        for client in internal {
            assert_eq!(system.name(ip(client)), None);
        }
        assert!(system.known.lock().findings.is_empty());

        let server = DnsServer::start();
        server.ptr("127.0.0.1", "localhost").a("localhost", "127.0.0.1");
        assert_eq!(name(&server, "127.0.0.1").as_deref(), Some("localhost"));
    }

    #[test]
    fn the_oldest_finding_makes_room() {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let resolver = Arc::new(Resolver::new(&[nobody], Clock::System));
        let names = ClientNames::with_limits(resolver, Duration::ZERO, 2);
        for last in 1..=3 {
            assert_eq!(names.name(IpAddr::from([192, 0, 2, last])), None);
        }
        let known = names.known.lock();
        assert_eq!((known.findings.len(), known.ages.len()), (2, 2));
        assert!(!known.findings.contains_key(&ip(CLIENT)));
    }

    #[test]
    fn host_names_are_letters_digits_hyphens_and_underscores() {
        for good in [
            "a",
            "mail.univac.com",
            "xn--mller-kva.test",
            "a_b.test",
            "1.2.test",
        ] {
            assert!(is_host_name(good), "{good}");
        }
        let long_label = format!("{}.test", "a".repeat(64));
        let long_name = "abcdefg.".repeat(32) + "test";
        for bad in [
            "",
            ".",
            "a.",
            "a..b",
            "-a.test",
            "a-.test",
            "a b",
            "a\\032b",
            "a(b).test",
            "192.0.2.1",
            "é.test",
            &long_label,
            &long_name,
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
