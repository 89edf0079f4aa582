//! oseshlrN: an outbound session handler. Takes a domain list, resolves its next hop, connects, and carries
//! the messages over; records what became of each recipient.
//!
//! The loop is dull: what is said is up to the session, what a reply means is up to the outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64_NOPAD;

use self::hand::Hand;
use self::talk::Talk;
use super::connection::Connection;
use super::dispatch::Dispatch;
use super::families::Families;
use super::hosts::{HostSettings, candidates, in_turn};
use super::outcome::{Outcome, Peer, Reason};
use super::security::{Security, SecurityRules};
use super::session::{End, Session};
use crate::dns::resolver::Resolver;
use crate::latest::Latest;
use crate::tasks::bell::Bells;
use crate::tasks::table::Desk;
use crate::tls::trust::Trust;
use crate::work_queue::retry::RetryPolicy;
use crate::work_queue::{DomainList, Terms, WorkQueue};

mod hand;
#[cfg(test)]
#[cfg(feature = "schedules")]
mod schedules;
mod talk;

/// How long DNS may be asked for the hosts of a next hop.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);

/// Connections that are tried for a list without any of them getting a message through.
pub const MOST_TRIES: usize = 20;

/// After so long no further host is tried: who waits for so many gets no further by it.
const TRYING: Duration = Duration::from_secs(5 * 60);

/// Messages that are on their way at once at most.
const MOST_IN_FLIGHT: usize = 128;

/// Connections of a list that may be lost with a message, without an answer, before the host is given up for now.
const MOST_LOSSES: usize = 3;

/// What every outbound session handler works with.
#[derive(Clone, Debug)]
pub struct OutboundHandler {
    /// Where the messages are.
    pub queue: WorkQueue,
    /// Who knows the hosts.
    pub resolver: Arc<Resolver>,
    /// Which hosts may be connected to.
    pub hosts: HostSettings,
    /// Which families of addresses work.
    pub families: Arc<Families>,
    /// `--hostname`: the name in EHLO.
    pub hostname: String,
    /// How each next hop is spoken to.
    pub security: SecurityRules,
    /// Whom we trust where a host has to prove its name.
    pub trust: Latest<Trust>,
    /// When a recipient is tried again.
    pub retry: RetryPolicy,
    /// Who knows whether to carry on.
    pub dispatch: Dispatch,
    /// `--per-next-hop`.
    pub per_next_hop: usize,
    /// How lists are made of what has gathered.
    pub terms: Terms,
    /// Whom it kicks.
    pub bells: Bells,
}

impl OutboundHandler {
    /// Carries `list`, and perhaps further lists of its next hop, to their end.
    pub fn serve(&self, list: DomainList, desk: &Desk) {
        desk.write(format!("Resolving {} for list {}", list.next_hop, list.id));
        let mut hand = Hand::new(self, list, desk);
        hand.load();
        let deadline = Instant::now() + RESOLVE_DEADLINE;
        let hosts = match candidates(&hand.list.next_hop, &self.resolver, &self.hosts, deadline) {
            Ok(hosts) => hosts,
            Err(none) => {
                return match none.outcome(&hand.list.next_hop) {
                    Outcome::TryLater(reason) => hand.back_off("", reason),
                    outcome => hand.settle_rest("", &outcome),
                };
            }
        };
        let began = Instant::now();
        let peers = in_turn(hosts, MOST_TRIES, |address| {
            self.families.is_broken(address, began)
        });
        let mut peers = peers.into_iter().peekable();
        let mut last: Option<(String, Reason)> = None;
        while let Some(peer) = peers.next() {
            hand.begin_host(peers.peek().is_some());
            if hand.todo.is_empty() || desk.stopping() {
                return;
            }
            if last.is_some() && began.elapsed() > TRYING {
                break;
            }
            last = self.try_host(&mut hand, &peer, desk).map(|reason| {
                log::debug!("list={} host={peer} {}", hand.list.id, reason.text);
                self.dispatch.heed(&hand.list, &reason);
                (peer.to_string(), reason)
            });
        }
        if let Some((host, reason)) = last
            && !desk.stopping()
        {
            hand.back_off(&host, reason);
        }
    }

    /// Brings to one host what it takes, over as many connections as that needs. Gives why it does not take more;
    /// `None` when there is no more.
    fn try_host(&self, hand: &mut Hand<'_>, peer: &Peer, desk: &Desk) -> Option<Reason> {
        let mut security = self.security.of(&hand.list.next_hop);
        loop {
            let (end, progress) = self.visit(hand, peer, &security, desk);
            match end {
                End::Done => return None,
                // Better in the clear than not at all, where the operator does not say otherwise.
                End::WithoutTls(reason) if !security.tls_failed => {
                    log::info!("host={peer} goes on without TLS: {}", reason.text);
                    security.tls_failed = true;
                }
                End::WithoutChunks(reason) if !security.chunks_failed => {
                    log::info!("host={peer} goes on without CHUNKING: {}", reason.text);
                    security.chunks_failed = true;
                }
                // As long as a peer answers, it is worth another connection.
                End::Refused(_) | End::Broken(_) | End::WithoutTls(_) | End::WithoutChunks(_)
                    if progress && !hand.todo.is_empty() => {}
                End::Refused(reason)
                | End::Broken(reason)
                | End::WithoutTls(reason)
                | End::WithoutChunks(reason) => return Some(reason),
            }
            if desk.stopping() {
                return None;
            }
        }
    }

    /// One connection; whether another one to the same host may bring more.
    fn visit(&self, hand: &mut Hand<'_>, peer: &Peer, security: &Security, desk: &Desk) -> (End, bool) {
        desk.write(format!("Connecting to {peer} for list {}", hand.list.id));
        let opened = Connection::open(peer);
        self.families.note(peer.address.ip(), &opened, Instant::now());
        match opened {
            Err(error) => (
                End::Refused(Reason::no_connection(peer, &error.to_string())),
                false,
            ),
            Ok(connection) => {
                let lent = desk.lend(connection.socket());
                let before = hand.answered;
                let security = Security {
                    nonce: security.login.as_ref().map_or(String::new(), |_| nonce()),
                    ..security.clone()
                };
                let mut talk = Talk {
                    handler: self,
                    level: security.level,
                    session: Session::new(
                        &self.hostname,
                        peer.clone(),
                        security,
                        depth(connection.round_trip()),
                    ),
                    connection,
                    began: Instant::now(),
                    peer,
                    host: peer.to_string(),
                    tls: None,
                    plans: HashMap::new(),
                    wanted: false,
                    timed_out: false,
                    broken: None,
                    kept_back: None,
                    recalled: false,
                };
                let settled = hand.settled;
                let end = talk.run(hand, desk);
                // The table must not shut down a descriptor that is somebody else's by then.
                drop(lent);
                // A message that the peer does not stand must not keep the others from being tried.
                let lost_one = matches!(end, End::Broken(_))
                    && hand.settled > settled
                    && !talk.timed_out
                    && hand.losses < MOST_LOSSES;
                if talk.recalled {
                    // The host is not at fault.
                    let end = if hand.todo.is_empty() { End::Done } else { end };
                    return (end, true);
                }
                hand.losses += usize::from(lost_one);
                (end, hand.answered > before || lost_one)
            }
        }
    }
}

/// How many messages may be on their way at once: the longer the path, the more it takes to fill it. On a short one
/// nothing is won, and more would be sent twice after a crash.
fn depth(round_trip: Duration) -> usize {
    let milliseconds = usize::try_from(round_trip.as_millis()).unwrap_or(MOST_IN_FLIGHT);
    (2 + milliseconds).min(MOST_IN_FLIGHT)
}

/// Letters and digits that were never used before.
pub(super) fn nonce() -> String {
    let mut octets = [0; 24];
    aws_lc_rs::rand::fill(&mut octets).expect("the system has random octets");
    BASE64_NOPAD.encode(&octets)
}
