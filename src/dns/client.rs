//! Asks DNS servers, one question at a time: over UDP, and over TCP where the answer does not fit.
//!
//! A fresh socket and a random ID for each try, and nothing is believed that does not match them (RFC 5452).
//! Never caches and never follows an alias: that is the resolver's.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::base::Rtype;
use domain::base::iana::OptRcode;

use super::message::{self, Answer, DnsName, Reading};

/// How often one server is asked before the question fails.
const TRIES: u32 = 2;

/// Datagrams that are not the answer, after which somebody seems to be guessing (RFC 5452 9): nobody guesses a
/// TCP connection.
const MOST_FORGED: usize = 16;

/// How long we wait for servers.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the first answer from one server, twice that for the second; the way over TCP has as much again.
    pub per_try: Duration,
    /// For one question, all servers and tries together.
    pub in_all: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            per_try: Duration::from_secs(2),
            in_all: Duration::from_secs(10),
        }
    }
}

/// Asks the servers it was given, in turn. Shared by all threads; holds no lock and no socket.
#[derive(Debug)]
pub struct Client {
    servers: Vec<SocketAddr>,
    patience: Patience,
    /// Where to begin: the server that answered last, so that a dead one is not waited for each time.
    first: AtomicUsize,
}

/// Why no server gave an answer: the last one asked, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `None` when there was no server, or no time left to ask one.
    pub server: Option<SocketAddr>,
    /// What was wrong.
    pub trouble: Trouble,
}

/// What can be wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer in time.
    Silence,
    /// It said no, with this code.
    Refusal(OptRcode),
    /// It answered with what cannot be used.
    Garbled(&'static str),
    /// The system could not reach it.
    Unreachable(io::ErrorKind),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server {
            Some(server) => write!(f, "the DNS server {server} ")?,
            None => return f.write_str("no time left to ask a DNS server"),
        }
        match &self.trouble {
            Trouble::Silence => f.write_str("does not answer"),
            Trouble::Refusal(code) => write!(f, "says {code}"),
            Trouble::Garbled(what) => write!(f, "answers with {what}"),
            Trouble::Unreachable(kind) => write!(f, "is not reached: {kind}"),
        }
    }
}

impl Client {
    /// A client of these servers, asked in this order.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>, patience: Patience) -> Client {
        Client {
            servers,
            patience,
            first: AtomicUsize::new(0),
        }
    }

    /// Whom it asks.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Asks for the `rtype` of `name`: the first answer that a server gives before `deadline`, and for how
    /// long it may be kept.
    ///
    /// # Errors
    /// A [`Failure`] is of the moment: it says nothing about the name.
    pub fn ask(
        &self,
        name: &DnsName,
        rtype: Rtype,
        deadline: Instant,
    ) -> Result<(Answer, Duration), Failure> {
        let deadline = deadline.min(Instant::now() + self.patience.in_all);
        let start = self.first.load(Ordering::Relaxed);
        let mut edns = vec![true; self.servers.len()];
        let mut turns: Vec<usize> = (0..self.servers.len())
            .map(|i| (start + i) % self.servers.len())
            .collect();
        let mut failure = Failure {
            server: None,
            trouble: Trouble::Silence,
        };
        for turn in 1..=TRIES {
            let patience = self.patience.per_try * turn;
            let mut again = Vec::new();
            for i in turns {
                if Instant::now() >= deadline {
                    return Err(failure);
                }
                let octets = message::question(random_id(), name, rtype, edns[i]);
                match self.try_server(self.servers[i], &octets, patience, deadline) {
                    Ok(answer) => {
                        self.first.store(i, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(trouble) => {
                        match trouble {
                            // What is on the way may drop questions with EDNS, or answers that are large.
                            Trouble::Silence => {
                                edns[i] = false;
                                again.push(i);
                            }
                            Trouble::Unreachable(_) => again.push(i),
                            // RFC 6891 6.2.2: it may not know EDNS.
                            Trouble::Refusal(OptRcode::FORMERR | OptRcode::NOTIMP | OptRcode::BADVERS)
                                if edns[i] =>
                            {
                                edns[i] = false;
                                again.push(i);
                            }
                            // It has heard the question, and will not say anything better in two seconds.
                            Trouble::Refusal(_) | Trouble::Garbled(_) => {}
                        }
                        failure = Failure {
                            server: Some(self.servers[i]),
                            trouble,
                        };
                    }
                }
            }
            turns = again;
        }
        Err(failure)
    }

    fn try_server(
        &self,
        server: SocketAddr,
        question: &[u8],
        patience: Duration,
        deadline: Instant,
    ) -> Result<(Answer, Duration), Trouble> {
        let until = || deadline.min(Instant::now() + patience);
        let mut reading = over_udp(server, question, until())?;
        if reading == Reading::Truncated {
            reading = over_tcp(server, question, until())?;
        }
        match reading {
            Reading::Answer(answer, ttl) => Ok((answer, ttl)),
            Reading::Refusal(code) => Err(Trouble::Refusal(code)),
            Reading::Garbled(what) => Err(Trouble::Garbled(what)),
            Reading::Truncated | Reading::NotOurs => {
                Err(Trouble::Garbled("something else than was asked for"))
            }
        }
    }
}

fn over_udp(server: SocketAddr, question: &[u8], until: Instant) -> Result<Reading, Trouble> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected: the kernel drops what comes from anybody else, and tells us when nobody is there.
    socket.connect(server)?;
    socket.send(question)?;
    let mut octets = [0; 4096];
    let mut forged = 0;
    while forged < MOST_FORGED {
        socket.set_read_timeout(Some(left(until)?))?;
        match socket.recv(&mut octets) {
            Ok(length) => match message::read(question, &octets[..length]) {
                Reading::NotOurs => forged += 1,
                reading => return Ok(reading),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Reading::Truncated)
}

fn over_tcp(server: SocketAddr, question: &[u8], until: Instant) -> Result<Reading, Trouble> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    let length = u16::try_from(question.len()).map_err(|_| Trouble::Garbled("too long a question"))?;
    // RFC 7766 8: the length and the message go in one write.
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, until)?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    read_until(&mut stream, &mut octets, until)?;
    Ok(message::read(question, &octets))
}

/// Fills `octets` before the moment `until`, however slowly they trickle in.
fn read_until(stream: &mut TcpStream, octets: &mut [u8], until: Instant) -> Result<(), Trouble> {
    let mut filled = 0;
    while filled < octets.len() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut octets[filled..]) {
            Ok(0) => return Err(Trouble::Unreachable(io::ErrorKind::UnexpectedEof)),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The time left until then, never zero: sockets take zero for "for ever".
pub(super) fn left(until: Instant) -> Result<Duration, Trouble> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(Trouble::Silence),
        left => Ok(left),
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Trouble::Silence,
            kind => Trouble::Unreachable(kind),
        }
    }
}

/// An ID that nobody can guess from the one before: each `RandomState` has keys of its own, which come from
/// the system, and what it finishes to is SipHash under these keys.
pub(super) fn random_id() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::dns_server::{DnsServer, Fault};
    use crate::dns::message::{Record, name};

    const SHORT: Patience = Patience {
        per_try: Duration::from_millis(200),
        in_all: Duration::from_secs(10),
    };

    /// For answers that do come, on a machine that is busy.
    const LONG: Patience = Patience {
        per_try: Duration::from_secs(5),
        in_all: Duration::from_secs(10),
    };

    fn ask(servers: &[&DnsServer], patience: Patience) -> Result<Answer, Failure> {
        let client = Client::new(servers.iter().map(|s| s.address()).collect(), patience);
        let name = name("example.org").unwrap();
        let far = Instant::now() + Duration::from_secs(60);
        client.ask(&name, Rtype::A, far).map(|(answer, _)| answer)
    }

    fn found() -> Answer {
        Answer::Records(vec![Record::Address("192.0.2.1".parse().unwrap())])
    }

    fn server() -> DnsServer {
        let server = DnsServer::start();
        server.a("example.org", "192.0.2.1");
        server
    }

    #[test]
    fn an_answer_comes_with_its_ttl() {
        let server = server();
        server.set_ttl(77);
        let client = Client::new(vec![server.address()], LONG);
        let far = Instant::now() + Duration::from_secs(60);
        let answer = client.ask(&name("example.org").unwrap(), Rtype::A, far);
        assert_eq!(answer, Ok((found(), Duration::from_secs(77))));
    }

    #[test]
    fn a_truncated_answer_is_fetched_over_tcp() {
        let server = server();
        server.fault("example.org", Rtype::A, Fault::Truncate);
        assert_eq!(ask(&[&server], LONG), Ok(found()));
        assert_eq!(server.queries("example.org", Rtype::A), 2);
        assert_eq!(server.tcp_queries(), 1);
    }

    #[test]
    fn forged_answers_before_the_true_one_are_ignored() {
        let server = server();
        server.fault("example.org", Rtype::A, Fault::ForgedFirst);
        assert_eq!(ask(&[&server], LONG), Ok(found()));
    }

    #[test]
    fn who_is_flooded_with_forged_answers_asks_over_tcp() {
        let server = server();
        server.fault("example.org", Rtype::A, Fault::ForgedFlood);
        assert_eq!(ask(&[&server], LONG), Ok(found()));
        assert_eq!(server.tcp_queries(), 1);
    }

    #[test]
    fn a_server_that_does_not_know_edns_is_asked_without() {
        for (fault, patience) in [
            (Fault::FormErrOnEdns, LONG),
            (Fault::NotImpOnEdns, LONG),
            (Fault::SilenceOnEdns, SHORT),
        ] {
            let server = server();
            server.fault("example.org", Rtype::A, fault);
            assert_eq!(ask(&[&server], patience), Ok(found()), "{fault:?}");
            assert_eq!(server.queries("example.org", Rtype::A), 2);
        }
    }

    #[test]
    fn an_answer_that_cannot_be_fetched_over_tcp_is_no_answer() {
        let server = server();
        server.fault("example.org", Rtype::A, Fault::TruncateAlways);
        let failure = ask(&[&server], LONG).unwrap_err();
        assert!(matches!(failure.trouble, Trouble::Garbled(_)), "{failure}");
        server.fault("example.org", Rtype::A, Fault::TruncateAndHangUp);
        let failure = ask(&[&server], LONG).unwrap_err();
        assert!(matches!(failure.trouble, Trouble::Unreachable(_)), "{failure}");
    }

    #[test]
    fn an_answer_from_another_address_is_not_heard() {
        let server = server();
        server.fault("example.org", Rtype::A, Fault::ElsewhereOnly);
        assert_eq!(ask(&[&server], SHORT).unwrap_err().trouble, Trouble::Silence);
    }

    #[test]
    fn the_next_server_is_asked_when_one_refuses() {
        let (bad, good) = (server(), server());
        for fault in [
            Fault::ServFail,
            Fault::Refused,
            Fault::NotImp,
            Fault::BrokenRecord,
            Fault::OtherName,
        ] {
            bad.fault("example.org", Rtype::A, fault);
            assert_eq!(ask(&[&bad, &good], LONG), Ok(found()));
        }
    }

    #[test]
    fn the_next_server_is_asked_when_one_is_silent_and_is_asked_first_from_then_on() {
        let (silent, good) = (server(), server());
        silent.fault("example.org", Rtype::A, Fault::Silence);
        let client = Client::new(vec![silent.address(), good.address()], SHORT);
        let far = Instant::now() + Duration::from_secs(60);
        for _ in 0..3 {
            assert!(client.ask(&name("example.org").unwrap(), Rtype::A, far).is_ok());
        }
        assert!(silent.queries("example.org", Rtype::A) < good.queries("example.org", Rtype::A));
    }

    #[test]
    fn a_silent_server_is_asked_twice_and_then_given_up() {
        let server = server();
        for fault in [Fault::Silence, Fault::Garbage] {
            server.fault("example.org", Rtype::A, fault);
            let failure = ask(&[&server], SHORT).unwrap_err();
            assert_eq!(failure.trouble, Trouble::Silence);
        }
        // The server may still have the last question before it.
        let begun = Instant::now();
        while server.queries("example.org", Rtype::A) < 4 && begun.elapsed() < LONG.in_all {
            std::thread::yield_now();
        }
        assert_eq!(server.queries("example.org", Rtype::A), 4);
    }

    #[test]
    fn a_refusal_by_all_servers_says_who_and_what() {
        let server = server();
        server.fault("example.org", Rtype::A, Fault::ServFail);
        let failure = ask(&[&server], LONG).unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("the DNS server {} says SERVFAIL", server.address())
        );
        assert_eq!(server.queries("example.org", Rtype::A), 1);
    }

    #[test]
    fn a_closed_port_and_no_server_at_all_are_failures() {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let client = Client::new(vec![nobody], SHORT);
        let far = Instant::now() + Duration::from_secs(60);
        assert!(client.ask(&name("example.org").unwrap(), Rtype::A, far).is_err());
        assert_eq!(ask(&[], SHORT).unwrap_err().server, None);
    }

    #[test]
    fn the_callers_deadline_ends_the_asking() {
        let server = server();
        server.fault("example.org", Rtype::A, Fault::Silence);
        let client = Client::new(vec![server.address()], LONG);
        let begun = Instant::now();
        let soon = begun + Duration::from_millis(50);
        assert!(client.ask(&name("example.org").unwrap(), Rtype::A, soon).is_err());
        assert!(begun.elapsed() < Duration::from_secs(4));
        assert!(
            client
                .ask(&name("example.org").unwrap(), Rtype::A, begun)
                .is_err()
        );
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<u16> = (0..100).map(|_| random_id()).collect();
        assert!(ids.len() > 90);
    }
}
