//! Tries one DNS server: whether it answers, how soon, and whether it says that it has checked signatures (RFC 4035
//! 3.2.3). For who wants to know of the servers, not of a name.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};

use super::client::{Failure, Trouble, left, random_id};
use super::servers::Servers;

/// What a server has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// After so long.
    pub took: Duration,
    /// It has checked the signatures of what it says (the AD bit).
    pub is_authentic: bool,
}

impl Servers {
    /// Tries each of the servers, side by side, for so long at most; in their order.
    pub(super) fn probe(&self, patience: Duration) -> Vec<(SocketAddr, Result<Probe, Failure>)> {
        let servers = self.client().servers().to_vec();
        std::thread::scope(|scope| {
            let tries: Vec<_> = servers
                .iter()
                .map(|server| scope.spawn(|| probe(*server, patience)))
                .collect();
            let results = tries.into_iter().map(|one| one.join());
            // Nothing in there panics.
            let results = results.map(|result| result.unwrap_or(Err(Trouble::Silence)));
            let failed = |server, trouble| Failure {
                server: Some(server),
                trouble,
            };
            let results = servers.iter().copied().zip(results);
            results
                .map(|(server, result)| (server, result.map_err(|trouble| failed(server, trouble))))
                .collect()
        })
    }
}

/// Asks for the SOA of the root, which is signed, and which every server knows.
fn probe(server: SocketAddr, patience: Duration) -> Result<Probe, Trouble> {
    let begun = Instant::now();
    let until = begun + patience;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let question = question();
    let mut octets = [0; 4096];
    // One that is lost is no reason to call the server dead.
    for patience in [patience / 3, patience] {
        socket.send(&question)?;
        let until = until.min(Instant::now() + patience);
        while let Ok(left) = left(until) {
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut octets) {
                Ok(length) => {
                    if let Some(answer) = read(&question, &octets[..length]) {
                        let took = begun.elapsed();
                        return answer.map(|is_authentic| Probe { took, is_authentic });
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => match Trouble::from(error) {
                    Trouble::Silence => break,
                    trouble => return Err(trouble),
                },
            }
        }
    }
    Err(Trouble::Silence)
}

fn question() -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(random_id());
    builder.header_mut().set_rd(true);
    // RFC 6840 5.7: who sets it wants to see it in the answer.
    builder.header_mut().set_ad(true);
    let mut builder = builder.question();
    builder
        .push((Name::root_vec(), Rtype::SOA))
        .expect("a vector takes one question");
    let mut builder = builder.additional();
    builder
        .opt(|opt| {
            opt.set_udp_payload_size(1232);
            opt.set_dnssec_ok(true);
            Ok(())
        })
        .expect("a vector takes one OPT record");
    builder.finish()
}

/// Whether the answer is authentic; `None` where it is none to this question.
fn read(question: &[u8], octets: &[u8]) -> Option<Result<bool, Trouble>> {
    let (question, message) = (
        Message::from_slice(question).ok()?,
        Message::from_slice(octets).ok()?,
    );
    if !message.is_answer(question) {
        return None;
    }
    Some(match message.header().rcode() {
        // Who knows no root has answered all the same.
        Rcode::NOERROR | Rcode::NXDOMAIN => Ok(message.header().ad()),
        _ => Err(Trouble::Refusal(message.opt_rcode())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::client::Patience;
    use crate::dns::dns_server::{DnsServer, Fault};

    const PATIENCE: Duration = Duration::from_millis(300);

    fn probed(server: &DnsServer) -> Result<bool, Trouble> {
        let servers = Servers::new(&[server.address()], Patience::default());
        let found = servers.probe(PATIENCE).remove(0);
        assert_eq!(found.0, server.address());
        found
            .1
            .map(|probe| probe.is_authentic)
            .map_err(|failure| failure.trouble)
    }

    #[test]
    fn a_server_answers_refuses_or_is_silent() {
        let server = DnsServer::start();
        assert_eq!(probed(&server), Ok(false));
        server.fault(".", Rtype::SOA, Fault::Silence);
        assert_eq!(probed(&server), Err(Trouble::Silence));
        server.fault(".", Rtype::SOA, Fault::Refused);
        assert!(matches!(probed(&server), Err(Trouble::Refusal(_))));
    }

    #[test]
    fn an_answer_to_the_question_is_authentic_if_it_says_so() {
        let question = question();
        let mut answer = question.clone();
        answer[2] |= 0x80;
        assert_eq!(read(&question, &answer), Some(Ok(true)));
        answer[3] &= !0x20;
        assert_eq!(read(&question, &answer), Some(Ok(false)));
        answer[3] |= 5;
        assert!(matches!(read(&question, &answer), Some(Err(Trouble::Refusal(_)))));
        answer[0] ^= 1;
        assert_eq!(read(&question, &answer), None);
    }
}
