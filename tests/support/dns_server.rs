//! A DNS server for tests: answers from a small zone over UDP and TCP on one port of the loopback, and
//! misbehaves where it is told to.
//!
//! Says NXDOMAIN for names it does not know and "no data" for known names without that type, both with an
//! SOA. Counts what it was asked. Stops when it is dropped. Stands alone: needs nothing but `domain`.

#![allow(dead_code)] // each test takes what it needs

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use domain::base::iana::{Class, Rcode};
use domain::base::{
    Message, MessageBuilder, Name, Record, RecordData, Rtype, Serial, StaticCompressor, ToName, Ttl,
};
use domain::rdata::{A, Aaaa, AllRecordData, Cname, Mx, Ptr, Soa};

type DnsName = Name<Vec<u8>>;
type Data = AllRecordData<Vec<u8>, DnsName>;

/// How the server misbehaves for one name and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// NXDOMAIN, whatever the zone says.
    NxDomain,
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// No answer at all.
    Silence,
    /// TC without records over UDP, the whole answer over TCP.
    Truncate,
    /// Octets that are no message.
    Garbage,
    /// A matching message whose last record is cut off.
    BrokenRecord,
    /// An answer with a wrong ID and one to another question, and then the true one.
    ForgedFirst,
    /// FORMERR to questions with an OPT record.
    FormErrOnEdns,
    /// NOTIMP to questions with an OPT record.
    NotImpOnEdns,
    /// No answer to questions with an OPT record.
    SilenceOnEdns,
    /// NOTIMP.
    NotImp,
    /// Over UDP, many answers with wrong IDs and nothing else; the true one over TCP.
    ForgedFlood,
    /// TC without records, over TCP too.
    TruncateAlways,
    /// TC over UDP; over TCP the connection is closed without an answer.
    TruncateAndHangUp,
    /// The true answer, from another port.
    ElsewhereOnly,
    /// A record of another name, as the answer to the right question.
    OtherName,
    /// The alias alone, although the zone knows what it stands for.
    AliasAlone,
}

/// The server; stops when it is dropped.
pub struct DnsServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    zone: HashMap<DnsName, Vec<Data>>,
    faults: HashMap<(DnsName, Rtype), Fault>,
    asked: HashMap<(DnsName, Rtype), usize>,
    tcp: usize,
    ttl: u32,
    stop: bool,
}

impl DnsServer {
    /// A server with an empty zone on 127.0.0.1, on a port that is free for UDP and TCP. TTLs are 60 s.
    pub fn start() -> DnsServer {
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
                let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port is free for UDP and TCP");
        let address = tcp.local_addr().expect("a listener has an address");
        let state = Arc::new(Mutex::new(State {
            ttl: 60,
            ..State::default()
        }));
        let (for_udp, for_tcp) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            thread::spawn(move || serve_udp(&udp, &for_udp)),
            thread::spawn(move || serve_tcp(&tcp, &for_tcp)),
        ];
        DnsServer {
            address,
            state,
            threads,
        }
    }

    /// Where it listens, for `--dns`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds `domain MX preference host`; the host `.` is the null MX.
    pub fn mx(&self, domain: &str, preference: u16, host: &str) -> &DnsServer {
        self.add(domain, Mx::new(preference, name(host)).into())
    }

    /// Adds an A record.
    pub fn a(&self, host: &str, address: &str) -> &DnsServer {
        self.add(host, A::new(address.parse().expect("an IPv4 address")).into())
    }

    /// Adds an AAAA record.
    pub fn aaaa(&self, host: &str, address: &str) -> &DnsServer {
        self.add(host, Aaaa::new(address.parse().expect("an IPv6 address")).into())
    }

    /// Adds an A or an AAAA record.
    pub fn host(&self, host: &str, address: IpAddr) -> &DnsServer {
        match address {
            IpAddr::V4(v4) => self.add(host, A::new(v4).into()),
            IpAddr::V6(v6) => self.add(host, Aaaa::new(v6).into()),
        }
    }

    /// Adds a CNAME record.
    pub fn cname(&self, alias: &str, target: &str) -> &DnsServer {
        self.add(alias, Cname::new(name(target)).into())
    }

    /// Adds a PTR record: a name of this address.
    pub fn ptr(&self, address: &str, host: &str) -> &DnsServer {
        let owner = reverse(address.parse().expect("an address"));
        self.add(&owner, Ptr::new(name(host)).into())
    }

    /// Makes the server misbehave for this name and type from now on.
    pub fn fault(&self, of: &str, rtype: Rtype, fault: Fault) -> &DnsServer {
        self.state().faults.insert((name(of), rtype), fault);
        self
    }

    /// Ends the misbehaviour.
    pub fn repair(&self, of: &str, rtype: Rtype) -> &DnsServer {
        self.state().faults.remove(&(name(of), rtype));
        self
    }

    /// Forgets the records of a name.
    pub fn remove(&self, of: &str) -> &DnsServer {
        self.state().zone.remove(&name(of));
        self
    }

    /// The TTL of all answers from now on, and the SOA minimum, in seconds; 0 means "do not cache".
    pub fn set_ttl(&self, seconds: u32) -> &DnsServer {
        self.state().ttl = seconds;
        self
    }

    /// How often it was asked for this name and type, over UDP and TCP.
    pub fn queries(&self, of: &str, rtype: Rtype) -> usize {
        self.state().asked.get(&(name(of), rtype)).copied().unwrap_or(0)
    }

    /// How many questions came over TCP.
    pub fn tcp_queries(&self) -> usize {
        self.state().tcp
    }

    /// How many questions came in all.
    pub fn all_queries(&self) -> usize {
        self.state().asked.values().sum()
    }

    fn add(&self, owner: &str, data: Data) -> &DnsServer {
        self.state().zone.entry(name(owner)).or_default().push(data);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.state().stop = true;
        // Wake both threads, so that they see it.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(b"", self.address);
        }
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(text: &str) -> DnsName {
    Name::from_chars(text.chars()).expect("a domain name")
}

/// The name under which the names of an address are kept, for `fault` and `queries` too.
pub fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let octets = v4.octets().into_iter().rev();
            octets.map(|octet| format!("{octet}.")).collect::<String>() + "in-addr.arpa"
        }
        IpAddr::V6(v6) => {
            let octets = v6.octets().into_iter().rev();
            let nibbles = octets.map(|octet| format!("{:x}.{:x}.", octet & 0xf, octet >> 4));
            nibbles.collect::<String>() + "ip6.arpa"
        }
    }
}

fn serve_udp(socket: &UdpSocket, state: &Mutex<State>) {
    // Waking may fail when descriptors are scarce: look around once in a while.
    let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
    let mut octets = [0; 4096];
    loop {
        let received = socket.recv_from(&mut octets);
        if lock(state).stop {
            return;
        }
        if let Ok((length, from)) = received {
            let (answers, elsewhere) = lock(state).datagrams(&octets[..length]);
            let other = elsewhere.then(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
            let socket = other
                .as_ref()
                .and_then(|other| other.as_ref().ok())
                .unwrap_or(socket);
            for answer in answers {
                let _ = socket.send_to(&answer, from);
            }
        }
    }
}

fn serve_tcp(listener: &TcpListener, state: &Mutex<State>) {
    for stream in listener.incoming() {
        if lock(state).stop {
            return;
        }
        if let Ok(mut stream) = stream {
            let _ = serve_stream(&mut stream, state);
        }
    }
}

fn serve_stream(stream: &mut TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets)?;
    let answers = lock(state).answers(&octets, true);
    for answer in answers {
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())?;
    }
    Ok(())
}

impl State {
    /// The datagrams that answer `octets`, and whether they come from another port.
    fn datagrams(&mut self, octets: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let asked = Message::from_slice(octets).ok().and_then(|question| {
            let asked = question.sole_question().ok()?;
            Some((asked.qname().to_vec(), asked.qtype()))
        });
        let fault = asked.and_then(|asked| self.faults.get(&asked).copied());
        (self.answers(octets, false), fault == Some(Fault::ElsewhereOnly))
    }

    /// The datagrams, or messages of a stream, that answer `octets`.
    fn answers(&mut self, octets: &[u8], tcp: bool) -> Vec<Vec<u8>> {
        let Ok(question) = Message::from_slice(octets) else {
            return Vec::new();
        };
        let Ok(asked) = question.sole_question() else {
            return Vec::new();
        };
        let of: DnsName = asked.qname().to_vec();
        let rtype = asked.qtype();
        *self.asked.entry((of.clone(), rtype)).or_default() += 1;
        self.tcp += usize::from(tcp);

        let fault = self.faults.get(&(of.clone(), rtype)).copied();
        let truth = || self.truth(question, &of, rtype, fault == Some(Fault::AliasAlone));
        let code = |code| vec![message(question, code, &[], None, false)];
        match fault {
            Some(Fault::NxDomain) => vec![message(question, Rcode::NXDOMAIN, &[], Some(self.ttl), false)],
            Some(Fault::ServFail) => code(Rcode::SERVFAIL),
            Some(Fault::Refused) => code(Rcode::REFUSED),
            Some(Fault::FormErrOnEdns) if question.opt().is_some() => code(Rcode::FORMERR),
            Some(Fault::NotImpOnEdns) if question.opt().is_some() => code(Rcode::NOTIMP),
            Some(Fault::SilenceOnEdns) if question.opt().is_some() => Vec::new(),
            Some(Fault::NotImp) => code(Rcode::NOTIMP),
            Some(Fault::Silence) => Vec::new(),
            Some(Fault::TruncateAndHangUp) if tcp => Vec::new(),
            Some(Fault::TruncateAlways | Fault::TruncateAndHangUp) => {
                vec![message(question, Rcode::NOERROR, &[], None, true)]
            }
            Some(Fault::ForgedFlood) if !tcp => {
                let mut forged = truth();
                forged[0] ^= 0xff;
                vec![forged; 40]
            }
            Some(Fault::OtherName) => {
                let other = (name("other.test"), 60, A::from_octets(203, 0, 113, 66).into());
                vec![message(question, Rcode::NOERROR, &[other], None, false)]
            }
            Some(Fault::Garbage) => vec![b"this is no message".to_vec()],
            Some(Fault::Truncate) if !tcp => vec![message(question, Rcode::NOERROR, &[], None, true)],
            Some(Fault::BrokenRecord) => {
                let mut cut = truth();
                cut.truncate(cut.len().saturating_sub(2));
                vec![cut]
            }
            Some(Fault::ForgedFirst) => {
                let mut wrong_id = octets.to_vec();
                wrong_id[0] ^= 0xff;
                let mut wrong_name = octets.to_vec();
                wrong_name[13] ^= 0x01; // the first letter of the name
                let forge = |octets: &[u8]| {
                    let question = Message::from_slice(octets).expect("as long as the question");
                    let evil = (name("evil.test"), A::from_octets(203, 0, 113, 66).into());
                    message(question, Rcode::NOERROR, &[(evil.0, 60, evil.1)], None, false)
                };
                vec![forge(&wrong_id), forge(&wrong_name), truth()]
            }
            _ => {
                let whole = truth();
                let fits = question
                    .opt()
                    .map_or(512, |opt| usize::from(opt.udp_payload_size()));
                if !tcp && whole.len() > fits {
                    return vec![message(question, Rcode::NOERROR, &[], None, true)];
                }
                vec![whole]
            }
        }
    }

    /// What the zone says, with the aliases followed as a recursive server does.
    fn truth(&self, question: &Message<[u8]>, of: &DnsName, rtype: Rtype, alias_alone: bool) -> Vec<u8> {
        let mut owner = of.clone();
        let mut records = Vec::new();
        for _ in 0..20 {
            let known = self.zone.get(&owner).map_or(&[][..], Vec::as_slice);
            let alias = known.iter().find_map(|data| match data {
                AllRecordData::Cname(cname) => Some(cname.cname().clone()),
                _ => None,
            });
            let Some(target) = alias else { break };
            records.push((owner, self.ttl, Cname::new(target.clone()).into()));
            owner = target;
            if alias_alone {
                return message(question, Rcode::NOERROR, &records, None, false);
            }
        }
        let aliases = records.len();
        let known = self.zone.get(&owner).map_or(&[][..], Vec::as_slice);
        for data in known.iter().filter(|data| data.rtype() == rtype) {
            records.push((owner.clone(), self.ttl, data.clone()));
        }
        let exists = self.zone.keys().any(|known| known.ends_with(&owner));
        let code = if exists { Rcode::NOERROR } else { Rcode::NXDOMAIN };
        let soa = (records.len() == aliases).then_some(self.ttl);
        message(question, code, &records, soa, false)
    }
}

fn message(
    question: &Message<[u8]>,
    code: Rcode,
    records: &[(DnsName, u32, Data)],
    soa: Option<u32>,
    truncated: bool,
) -> Vec<u8> {
    let builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).expect("a vector");
    let mut answer = builder
        .start_answer(question, code)
        .expect("a vector takes the question");
    answer.header_mut().set_ra(true);
    answer.header_mut().set_tc(truncated);
    for (owner, ttl, data) in records {
        let record = Record::new(owner, Class::IN, Ttl::from_secs(*ttl), data);
        answer.push(record).expect("a vector takes the record");
    }
    let mut authority = answer.authority();
    if let Some(minimum) = soa {
        let minimum = Ttl::from_secs(minimum);
        let soa = Soa::new(
            name("ns.test"),
            name("root.test"),
            Serial(1),
            minimum,
            minimum,
            minimum,
            minimum,
        );
        authority
            .push((name("test"), minimum, soa))
            .expect("a vector takes the SOA");
    }
    authority.finish().into_target()
}
