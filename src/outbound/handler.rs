//! oseshlrN: an outbound session handler. Takes a domain list, resolves its next hop, connects, and carries
//! the messages over one at a time; records what became of each recipient.
//!
//! The loop is dull: what is said is up to the session, what a reply means is up to the outcome.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64_NOPAD;

use super::connection::{Connection, Form, SendError};
use super::dispatch::{Dispatch, More};
use super::families::Families;
use super::hosts::{HostSettings, candidates, in_turn};
use super::outcome::{Outcome, Peer, Reason, Trouble};
use super::security::{Security, SecurityRules};
use super::session::{End, Input, Session, Step};
use super::transaction::{Envelope, Recipient, RecipientKey};
use crate::config::TlsLevel;
use crate::dns::resolver::Resolver;
use crate::latest::Latest;
use crate::mime::{Plan, Unsuitable};
use crate::smtp::dsn::OriginalRecipient;
use crate::tasks::bell::{Bells, Stop};
use crate::tasks::table::{Desk, Rest};
use crate::tls::trust::Trust;
use crate::tls::wire::TlsFacts;
use crate::work_queue::id::MessageId;
use crate::work_queue::retry::RetryPolicy;
use crate::work_queue::{
    DomainList, ListedMessage, ListedRecipient, Pending, QueueError, Settled, Settlement, Silence, Terms,
    WorkQueue,
};

/// How long DNS may be asked for the hosts of a next hop.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);

/// Connections that are tried for a list without any of them getting a message through.
const MOST_TRIES: usize = 20;

/// After so long no further host is tried: who waits for so many gets no further by it.
const TRYING: Duration = Duration::from_secs(5 * 60);

/// Messages that are on their way at once at most.
const MOST_IN_FLIGHT: usize = 128;

/// Hosts that are asked one after the other to take a message that they put off.
const MOST_ASKED: usize = 2;

/// Connections of a list that may be lost with a message, without an answer, before the host is given up for now.
const MOST_LOSSES: usize = 3;

/// How long a peer that takes nothing any more is listened to.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Outcomes that may be on their way to the disk while the next message is being sent.
const UNRECORDED: usize = 16;

/// How long to wait before the queue is asked again to record what it refused to record.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(1);

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
            if let Some(reason) = self.try_host(&mut hand, &peer, desk) {
                log::debug!("list {}: {}", hand.list.id, reason.text);
                self.dispatch.heed(&hand.list, &reason);
                last = Some((peer.to_string(), reason));
            }
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
                // As long as a peer answers, it is worth another connection.
                End::Refused(_) | End::Broken(_) | End::WithoutTls(_)
                    if progress && !hand.todo.is_empty() => {}
                End::Refused(reason) | End::Broken(reason) | End::WithoutTls(reason) => return Some(reason),
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
                    peer,
                    host: peer.to_string(),
                    tls: None,
                    plans: HashMap::new(),
                    wanted: false,
                    timed_out: false,
                    broken: None,
                };
                let settled = hand.settled;
                let end = talk.run(hand, desk);
                // The table must not shut down a descriptor that is somebody else's by then.
                drop(lent);
                // A message that the peer does not stand must not keep the others from being tried.
                let lost_one = hand.settled > settled && !talk.timed_out && hand.losses < MOST_LOSSES;
                hand.losses += usize::from(lost_one);
                (end, hand.answered > before || lost_one)
            }
        }
    }
}

/// A session over a connection.
struct Talk<'t> {
    handler: &'t OutboundHandler,
    level: TlsLevel,
    session: Session,
    connection: Connection,
    peer: &'t Peer,
    /// The peer, as the queue notes it.
    host: String,
    /// What TLS has agreed upon.
    tls: Option<TlsFacts>,
    /// How content in flight is converted for the peer.
    plans: HashMap<MessageId, Plan>,
    /// The session wants a message.
    wanted: bool,
    /// The peer was silent for too long.
    timed_out: bool,
    /// Why nothing can be sent any more. What the peer has said by then still counts.
    broken: Option<Trouble>,
}

impl Talk<'_> {
    fn run(&mut self, hand: &mut Hand<'_>, desk: &Desk) -> End {
        let mut ready: Option<Input> = None;
        loop {
            let input = match ready.take() {
                Some(input) => input,
                None => self.input(hand, desk),
            };
            let interrupted = matches!(input, Input::Lost(_)) && desk.stopping();
            let mut end = None;
            for step in self.session.advance(input) {
                match step {
                    Step::Send(bytes) => self.connection.send(&bytes),
                    Step::SendContent(id) => self.send_content(hand, id, Form::Lines),
                    Step::SendBinary(id) => self.send_content(hand, id, Form::Chunk),
                    Step::BeginTls => ready = Some(self.begin_tls()),
                    Step::Settle {
                        message,
                        outcomes,
                        in_doubt,
                    } => {
                        self.plans.remove(&message);
                        let doubt = Doubt {
                            interrupted,
                            in_doubt,
                        };
                        hand.settle(message, outcomes, self.spoken(), doubt);
                    }
                    Step::GiveBack(id) => {
                        self.plans.remove(&id);
                        hand.give_back(id);
                    }
                    Step::WantMessage => self.wanted = true,
                    Step::Close(how) => end = Some(how),
                }
            }
            if let Some(end) = end {
                self.flush();
                return end;
            }
            if self.connection.is_full() {
                self.flush();
            }
        }
    }

    /// What happens to the session next: there is a message for it, or none, or the peer says something.
    fn input(&mut self, hand: &mut Hand<'_>, desk: &Desk) -> Input {
        if self.broken.is_none() && self.wanted {
            if !desk.stopping() && hand.has_next(&self.session) {
                self.wanted = false;
                return self.next_message(hand, desk);
            }
            if !self.session.is_waiting() {
                self.wanted = false;
                return Input::NoMore;
            }
        }
        self.flush();
        let patience = match &self.broken {
            Some(trouble) if !self.is_worth_hearing(trouble) => return Input::Lost(trouble.clone()),
            Some(_) => LAST_WORDS,
            None => self.session.deadline(),
        };
        // With nothing on the wire a stop need not wait.
        let idle = hand.in_flight.is_empty();
        let _ = desk.rest(if idle { Rest::Waiting } else { Rest::Busy });
        match self.connection.reply(patience) {
            Ok((reply, more_at_hand)) => {
                log::trace!("{} said {}", self.host, self.session.shown(reply.clone()));
                Input::Reply { reply, more_at_hand }
            }
            Err(trouble) => {
                self.timed_out = trouble == Trouble::Timeout;
                Input::Lost(self.broken.take().unwrap_or(trouble))
            }
        }
    }

    /// Whether the peer may still say something about what it got before the trouble.
    fn is_worth_hearing(&self, trouble: &Trouble) -> bool {
        match trouble {
            // The message at fault has no end, and so it gets no answer.
            Trouble::Content(_) => self.session.in_flight() > 1,
            _ => self.session.is_waiting(),
        }
    }

    /// Writes what has gathered. After trouble nothing more is written.
    fn flush(&mut self) {
        if self.broken.is_none() {
            self.broken = self.connection.flush().err();
        }
    }

    fn begin_tls(&mut self) -> Input {
        let trust = match self.level {
            TlsLevel::Verify => self.handler.trust.take().in_the_name(),
            TlsLevel::Never | TlsLevel::May | TlsLevel::Must => Trust::in_anybody(),
        };
        match self.connection.begin_tls(self.peer, trust) {
            Ok(facts) => {
                log::debug!("host={} speaks {} {}", self.host, facts.version, facts.cipher);
                self.tls = Some(facts);
                Input::TlsBegun {
                    verified: self.level == TlsLevel::Verify,
                }
            }
            Err(trouble) => Input::Lost(trouble),
        }
    }

    /// The next message, in a form that the peer takes, as far as it has one (RFC 6152 3, RFC 3030 3).
    fn next_message(&mut self, hand: &mut Hand<'_>, desk: &Desk) -> Input {
        while let Some(mut envelope) = hand.next(&self.host, desk) {
            if !self.session.must_convert(&envelope) {
                return Input::Message(envelope);
            }
            let id = envelope.message;
            match self.plan(id) {
                Ok(plan) => {
                    (envelope.eight_bit, envelope.binary) = (false, false);
                    match plan {
                        Ok(plan) => {
                            envelope.size = plan.size();
                            self.plans.insert(id, plan);
                        }
                        Err(why) => envelope.unsuitable = Some(why.to_string()),
                    }
                    return Input::Message(envelope);
                }
                Err(error) => {
                    hand.note_damage(id, &error);
                    let trouble = Trouble::Content(UNREADABLE.to_owned());
                    let outcome = Outcome::TryLater(Reason::trouble(self.peer, None, &trouble));
                    let recipients = envelope.recipients.into_iter();
                    let outcomes = recipients.map(|r| (r.key, outcome.clone())).collect();
                    hand.settle(id, outcomes, self.spoken(), Doubt::default());
                }
            }
        }
        Input::NoMore
    }

    fn plan(&self, id: MessageId) -> Result<Result<Plan, Unsuitable>, QueueError> {
        let queue = &self.handler.queue;
        Plan::of(queue.content(id)?).map_err(|error| unreadable(queue, error))
    }

    /// Sends the content of a message in flight. What is wrong on our side is no business of the peer or of the
    /// sender: they are told that it was not there, and the operator why.
    fn send_content(&mut self, hand: &mut Hand<'_>, id: MessageId, form: Form) {
        if self.broken.is_some() {
            return;
        }
        let queue = &self.handler.queue;
        let plan = self.plans.get(&id);
        let whole = hand.in_flight.iter().find(|message| message.id == id);
        let size = plan.map_or(whole.map_or(0, |message| message.size), Plan::size);
        let connection = &mut self.connection;
        let sent = queue.content(id).map(|content| match plan {
            Some(plan) => connection.send_content(form, plan.apply(content), size),
            None => connection.send_content(form, content, size),
        });
        let error = match sent {
            Ok(Ok(())) => return,
            Ok(Err(SendError::Peer(trouble))) => {
                self.broken = Some(trouble);
                return;
            }
            Ok(Err(SendError::Cut(size_now))) => QueueError::Cut {
                size: size_now,
                whole: size,
            },
            Ok(Err(SendError::Content(error))) => unreadable(queue, error),
            Err(error) => error,
        };
        hand.note_damage(id, &error);
        // What stands before it has to go out.
        self.flush();
        let trouble = || Trouble::Content(UNREADABLE.to_owned());
        self.broken.get_or_insert_with(trouble);
    }

    fn spoken(&self) -> Spoken<'_> {
        Spoken {
            host: &self.host,
            tls: self.tls.as_ref(),
            reports: self.session.offered().dsn,
        }
    }
}

/// What others hear of content of ours that cannot be read.
const UNREADABLE: &str = "it can not be read just now";

fn unreadable(queue: &WorkQueue, error: std::io::Error) -> QueueError {
    QueueError::File {
        path: queue.spool().join("content"),
        error,
    }
}

/// How many messages may be on their way at once: the longer the path, the more it takes to fill it. On a short one
/// nothing is won, and more would be sent twice after a crash.
fn depth(round_trip: Duration) -> usize {
    let milliseconds = usize::try_from(round_trip.as_millis()).unwrap_or(MOST_IN_FLIGHT);
    (2 + milliseconds).min(MOST_IN_FLIGHT)
}

/// Letters and digits that were never used before.
fn nonce() -> String {
    let mut octets = [0; 24];
    aws_lc_rs::rand::fill(&mut octets).expect("the system has random octets");
    BASE64_NOPAD.encode(&octets)
}

/// The list that a handler has in hand. However the handler ends, what is left of the list goes back.
struct Hand<'h> {
    handler: &'h OutboundHandler,
    list: DomainList,
    stop: &'h Stop,
    number: usize,
    /// Not taken by a session yet.
    todo: VecDeque<ListedMessage>,
    /// Taken, and not settled yet.
    in_flight: Vec<ListedMessage>,
    /// There is another host to try after this one.
    elsewhere: bool,
    /// Put off by this host: the next one may take them.
    put_off: Vec<PutOff>,
    /// Put off by a host before this one, and in `todo` again or in flight.
    before: HashMap<MessageId, PutOff>,
    /// On their way to the disk.
    unrecorded: VecDeque<(Arc<Settlement>, Pending<Settled>)>,
    /// The message in flight whose content turned out to be damaged, and how.
    damaged: Option<(MessageId, String)>,
    /// Messages that peers have given an answer to so far.
    answered: usize,
    /// Messages that have come to an end of whatever kind.
    settled: usize,
    /// Connections that were lost with a message and followed by another one.
    losses: usize,
}

impl<'h> Hand<'h> {
    fn new(handler: &'h OutboundHandler, list: DomainList, desk: &'h Desk) -> Hand<'h> {
        Hand {
            handler,
            list,
            stop: desk.stop(),
            number: desk.number(),
            todo: VecDeque::new(),
            in_flight: Vec::new(),
            elsewhere: false,
            put_off: Vec::new(),
            before: HashMap::new(),
            unrecorded: VecDeque::new(),
            damaged: None,
            answered: 0,
            settled: 0,
            losses: 0,
        }
    }

    fn load(&mut self) {
        let id = self.list.id;
        self.todo = self
            .ask(|queue| queue.list_messages(id))
            .unwrap_or_default()
            .into();
    }

    /// From now on another host is spoken to, and perhaps not the last one: what the one before put off is to be
    /// done again.
    fn begin_host(&mut self, elsewhere: bool) {
        self.elsewhere = elsewhere;
        for put_off in std::mem::take(&mut self.put_off) {
            self.todo.push_back(put_off.message.clone());
            self.before.insert(put_off.message.id, put_off);
        }
    }

    /// Whether there is, or may be, a next message. Another list is asked for only when nothing is on the wire.
    fn has_next(&self, session: &Session) -> bool {
        !self.todo.is_empty() || (!session.is_waiting() && self.put_off.is_empty())
    }

    /// The next message of the list; or of the next list, if it is in order to carry on.
    fn next(&mut self, host: &str, desk: &Desk) -> Option<Envelope> {
        if self.todo.is_empty() {
            self.carry_on();
        }
        let message = self.todo.pop_front()?;
        desk.write(format!(
            "Sending {} of list {} to {host}",
            message.id, self.list.id
        ));
        let envelope = Envelope {
            message: message.id,
            reverse_path: message.reverse_path.clone(),
            recipients: message.recipients.iter().map(recipient).collect(),
            size: message.size,
            eight_bit: message.eight_bit,
            binary: message.binary,
            unsuitable: None,
            utf8_header: message.utf8_header,
            envelope_id: message.envelope_id.clone(),
            ret: message.ret,
        };
        self.in_flight.push(message);
        Some(envelope)
    }

    /// The list is through; only then another one is taken up.
    fn carry_on(&mut self) {
        self.finish();
        let (dispatch, number, hop) = (&self.handler.dispatch, self.number, self.list.hop);
        let next = match dispatch.more(&self.list, self.handler.per_next_hop) {
            None => return,
            Some(More::List(next)) => {
                let id = next.id;
                self.list = next;
                self.ask(|queue| queue.lock_list(id, number))
            }
            Some(More::Gathered) => {
                let terms = &self.handler.terms;
                let next = self.ask(|queue| queue.claim_more(hop, &self.list.next_hop, number, terms));
                next.flatten().map(|next| {
                    dispatch.with(|turns| {
                        turns.begin(&next);
                        turns.end(&self.list);
                    });
                    self.list = next;
                })
            }
        };
        if next.is_some() {
            self.load();
        }
        // There may be room for one more list to wait.
        self.handler.bells.osesctl.kick();
    }

    fn settle(
        &mut self,
        id: MessageId,
        outcomes: Vec<(RecipientKey, Outcome)>,
        spoken: Spoken<'_>,
        doubt: Doubt,
    ) {
        let Doubt {
            interrupted,
            in_doubt,
        } = doubt;
        let Some(place) = self.in_flight.iter().position(|message| message.id == id) else {
            return;
        };
        let mut message = self.in_flight.remove(place);
        self.settled += 1;
        let ends = |outcome: &Outcome| !interrupted || !matches!(outcome, Outcome::TryLater(_));
        let mut outcomes: Vec<_> = outcomes
            .into_iter()
            .filter(|(_, outcome)| ends(outcome))
            .map(|(key, outcome)| (key.0, outcome))
            .collect();
        if let Some((_, reason)) = self.damaged.take_if(|(damaged, _)| *damaged == id) {
            let list = self.list.id;
            let _ = self.insist(|queue| queue.hold_listed(list, id, &reason));
            return;
        }
        if outcomes.iter().any(|(_, outcome)| outcome.is_answer()) {
            let hop = self.list.hop;
            self.handler.dispatch.with(|turns| turns.answers(hop));
        }
        self.answered += usize::from(outcomes.iter().any(|(_, outcome)| outcome.is_answer()));
        // RFC 5321 4.5.3.1.10: whom the host had no room for in this transaction gets one of his own.
        let delivered = outcomes
            .iter()
            .any(|(_, outcome)| matches!(outcome, Outcome::Delivered(_)));
        let surplus: HashSet<u32> = outcomes
            .iter()
            .filter(|(_, outcome)| delivered && is_surplus(outcome))
            .map(|(n, _)| *n)
            .collect();
        if !surplus.is_empty() {
            outcomes.retain(|(n, _)| !surplus.contains(n));
            let mut again = message.clone();
            again.recipients.retain(|r| surplus.contains(&r.n));
            message.recipients.retain(|r| !surplus.contains(&r.n));
            self.todo.push_front(again);
        }
        let asked = self.before.remove(&id).map_or(1, |before| before.asked + 1);
        if self.elsewhere && !in_doubt && asked < MOST_ASKED {
            self.put_off(&mut message, &mut outcomes, spoken, asked);
        }
        self.record(&message, spoken, outcomes);
    }

    /// Keeps those that were put off for the next host. RFC 5321 5.1: what one host can not take now another one may.
    fn put_off(
        &mut self,
        message: &mut ListedMessage,
        outcomes: &mut Vec<(u32, Outcome)>,
        spoken: Spoken<'_>,
        asked: usize,
    ) {
        let (later, settled): (Vec<_>, Vec<_>) = std::mem::take(outcomes)
            .into_iter()
            .partition(|(_, outcome)| matches!(outcome, Outcome::TryLater(_)));
        *outcomes = settled;
        if later.is_empty() {
            return;
        }
        let is_later = |n: u32| later.iter().any(|(m, _)| *m == n);
        let mut again = message.clone();
        again.recipients.retain(|r| is_later(r.n));
        message.recipients.retain(|r| !is_later(r.n));
        log::debug!(
            "id={} put off by {}, the next host is asked",
            again.id,
            spoken.host
        );
        self.put_off.push(PutOff {
            message: again,
            outcomes: later,
            host: spoken.host.to_owned(),
            asked,
        });
    }

    /// The content of a message in flight can not be used. The peer is not at fault: the rest of the list is worth
    /// another connection.
    fn note_damage(&mut self, id: MessageId, error: &QueueError) {
        log::error!("id={id} its content can not be sent: {error}");
        self.answered += 1;
        if !error.will_pass() {
            self.damaged = Some((id, error.to_string()));
        }
    }

    fn give_back(&mut self, id: MessageId) {
        if let Some(place) = self.in_flight.iter().position(|message| message.id == id) {
            self.todo.push_front(self.in_flight.remove(place));
        }
    }

    /// No host has taken what is left. If none has answered for any message, in no session of this next hop, all
    /// mail for it waits together; else each goes its own way.
    fn back_off(&mut self, host: &str, reason: Reason) {
        let hop = self.list.hop;
        if self.answered > 0 || self.handler.dispatch.with(|turns| turns.is_answering(hop)) {
            return self.settle_rest(host, &Outcome::TryLater(reason));
        }
        self.begin_host(false);
        self.before.clear();
        // What ended on its own must not be taken for the rest.
        while !self.unrecorded.is_empty() {
            self.wait_for_record();
        }
        for message in std::mem::take(&mut self.todo) {
            for recipient in &message.recipients {
                let (id, to) = (message.id, &recipient.path);
                log::info!("id={id} to=<{to}> deferred with its next hop {}", reason.text);
            }
        }
        let silence = Silence {
            list: self.list.id,
            host: host.to_owned(),
            reason,
            retry: self.handler.retry.clone(),
        };
        let settled = self.insist(|queue| queue.back_off(&silence));
        if settled.is_some_and(|settled| settled.given_up > 0) {
            self.handler.bells.drt.kick();
        }
    }

    /// The same outcome for all that is left; what a host has put off in words of its own keeps those.
    fn settle_rest(&mut self, host: &str, outcome: &Outcome) {
        self.begin_host(false);
        for message in std::mem::take(&mut self.todo) {
            let (host, outcomes) = match self.before.remove(&message.id) {
                Some(before) => (before.host, before.outcomes),
                None => {
                    let outcomes = message.recipients.iter().map(|r| (r.n, outcome.clone()));
                    (host.to_owned(), outcomes.collect())
                }
            };
            let spoken = Spoken {
                host: &host,
                tls: None,
                reports: false,
            };
            self.record(&message, spoken, outcomes);
        }
    }

    fn record(&mut self, message: &ListedMessage, spoken: Spoken<'_>, outcomes: Vec<(u32, Outcome)>) {
        if outcomes.is_empty() {
            return;
        }
        let Spoken { host, tls, reports } = spoken;
        let tls = tls.map(|tls| format!("{} {}", tls.version, tls.cipher));
        for (n, outcome) in &outcomes {
            let to = message
                .recipients
                .iter()
                .find(|r| r.n == *n)
                .map(|r| r.path.to_string())
                .unwrap_or_default();
            match outcome {
                Outcome::Delivered(reply) => {
                    let tls = tls.as_deref().unwrap_or("none");
                    log::info!(
                        "id={} to=<{to}> host={host} tls={tls} transmitted {reply}",
                        message.id
                    );
                }
                Outcome::TryLater(reason) => {
                    log::info!("id={} to=<{to}> deferred {}", message.id, reason.text);
                    self.handler.dispatch.heed(&self.list, reason);
                }
                Outcome::GiveUp(reason) => log::info!("id={} to=<{to}> given up {}", message.id, reason.text),
            }
        }
        let settlement = Settlement {
            list: self.list.id,
            id: message.id,
            null_sender: message.reverse_path.0.is_none(),
            host: host.to_owned(),
            tls,
            host_reports: reports,
            outcomes,
            retry: self.handler.retry.clone(),
        };
        let settlement = Arc::new(settlement);
        let pending = self.handler.queue.settle(Arc::clone(&settlement));
        self.unrecorded.push_back((settlement, pending));
        while self.unrecorded.len() > UNRECORDED {
            self.wait_for_record();
        }
    }

    /// What was sent has to be recorded, or it would be sent again; whether it was.
    fn wait_for_record(&mut self) -> bool {
        let Some((settlement, pending)) = self.unrecorded.pop_front() else {
            return true;
        };
        let mut first = Some(pending);
        let recorded = self.insist(|queue| match first.take() {
            Some(pending) => pending.wait(),
            None => queue.settle(Arc::clone(&settlement)).wait(),
        });
        if recorded.is_some_and(|settled| settled.given_up + settled.to_tell > 0) {
            self.handler.bells.drt.kick();
        }
        if recorded.is_some_and(|settled| settled.released) {
            self.handler.bells.osesctl.kick();
        }
        recorded.is_some()
    }

    /// Asks the queue until it does it, or a stop is ordered: a full disk passes.
    fn ask<T>(&self, mut verb: impl FnMut(&WorkQueue) -> Result<T, QueueError>) -> Option<T> {
        let given_up = || self.stop.is_given();
        self.until_done(given_up, &mut verb)
    }

    /// Asks the queue until it does it, stop or not, unless it is closed: what was sent would be sent again.
    fn insist<T>(&self, mut verb: impl FnMut(&WorkQueue) -> Result<T, QueueError>) -> Option<T> {
        self.until_done(|| false, &mut verb)
    }

    fn until_done<T>(
        &self,
        given_up: impl Fn() -> bool,
        verb: &mut dyn FnMut(&WorkQueue) -> Result<T, QueueError>,
    ) -> Option<T> {
        loop {
            match verb(&self.handler.queue) {
                Ok(done) => return Some(done),
                Err(QueueError::Stopped) => return None,
                Err(error) => log::error!("list {}: {error}", self.list.id),
            }
            if given_up() {
                return None;
            }
            // Not on the order to stop: once given, it would end every pause at once.
            std::thread::park_timeout(PAUSE_AFTER_TROUBLE);
        }
    }

    /// Everything is recorded, and the list is taken apart. If something could not be recorded the list stays, for
    /// what was sent must not go back to pending while there is hope.
    fn finish(&mut self) {
        let mut recorded = true;
        while !self.unrecorded.is_empty() {
            recorded &= self.wait_for_record();
        }
        let id = self.list.id;
        if !recorded || self.insist(|queue| queue.end_list(id)).is_none() {
            log::warn!("list {id} stays locked: the queue does not record what became of it");
        }
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It would happen again: an operator has to look at these.
            for message in std::mem::take(&mut self.in_flight) {
                let reason = "its session handler met an error in the program while sending it";
                if let Err(error) = self.handler.queue.hold_listed(self.list.id, message.id, reason) {
                    log::error!("id={} could not be held: {error}", message.id);
                }
            }
        }
        self.finish();
        self.handler.dispatch.with(|turns| turns.end(&self.list));
    }
}

/// Recipients of a message that a host has put off.
struct PutOff {
    /// With those recipients alone.
    message: ListedMessage,
    outcomes: Vec<(u32, Outcome)>,
    host: String,
    /// How many hosts have been asked.
    asked: usize,
}

/// What may be behind the outcomes.
#[derive(Clone, Copy, Default)]
struct Doubt {
    /// The connection was cut by our own stop; what that did to a message is no attempt.
    interrupted: bool,
    /// The host may have the message: another one must not get it at once.
    in_doubt: bool,
}

/// The host that the outcomes are from.
#[derive(Clone, Copy)]
struct Spoken<'h> {
    /// `name[address]:port`; empty where none was reached.
    host: &'h str,
    /// What TLS had agreed upon; `None` in the clear.
    tls: Option<&'h TlsFacts>,
    /// It offers DSN: it was told what the sender wants to hear of, and sees to that.
    reports: bool,
}

/// A recipient as the session needs it. RFC 3461 5.2.1: where the sender asks for reports and gave no ORCPT,
/// the next host is told which recipient the client named.
fn recipient(listed: &ListedRecipient) -> Recipient {
    let named = listed.expanded_from.as_ref().unwrap_or(&listed.path);
    let added = || OriginalRecipient::of(&named.to_string());
    let original = listed.original.clone();
    Recipient {
        key: RecipientKey(listed.n),
        mailbox: listed.path.clone(),
        notify: listed.notify,
        original: original.or_else(|| listed.notify.and_then(|_| added())),
    }
}

/// Whether the host refused a recipient only because there were too many before him.
fn is_surplus(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::TryLater(reason) => {
            let code = reason.reply.as_ref().map(|reply| reply.code);
            matches!(code, Some(452 | 552)) && reason.status.1 == 5 && reason.status.2 == 3
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_host_is_told_the_recipient_that_the_client_named_where_reports_are_asked_for() {
        let mailbox = |text: &str| text.parse().ok();
        let plain = ListedRecipient {
            n: 3,
            path: "target@example.org".parse().unwrap(),
            expanded_from: None,
            notify: None,
            original: None,
        };
        let orcpt = |listed: &ListedRecipient| recipient(listed).original.map(|o| o.to_string());
        assert_eq!(orcpt(&plain), None);
        let asking = ListedRecipient {
            notify: Some("FAILURE".parse().unwrap()),
            ..plain.clone()
        };
        assert_eq!(orcpt(&asking).as_deref(), Some("rfc822;target@example.org"));
        let expanded = ListedRecipient {
            expanded_from: mailbox("team+all@example.net"),
            ..asking
        };
        assert_eq!(orcpt(&expanded).as_deref(), Some("rfc822;team+2Ball@example.net"));
        let known = ListedRecipient {
            original: "rfc822;first@example.com".parse().ok(),
            ..expanded
        };
        assert_eq!(orcpt(&known).as_deref(), Some("rfc822;first@example.com"));
    }
}
