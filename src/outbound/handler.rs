//! oseshlrN: an outbound session handler. Takes a domain list, resolves its next hop, connects, and carries
//! the messages over one at a time; records what became of each recipient.
//!
//! The loop is dull: what is said is up to the session, what a reply means is up to the outcome.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Form, SendError};
use super::dispatch::{Dispatch, More};
use super::hosts::{HostSettings, candidates};
use super::outcome::{Outcome, Peer, Reason, Trouble};
use super::session::{End, Input, Session, Step};
use super::transaction::{Envelope, Recipient, RecipientKey};
use crate::dns::resolver::Resolver;
use crate::smtp::dsn::OriginalRecipient;
use crate::tasks::bell::{Bells, Stop};
use crate::tasks::table::{Desk, Rest};
use crate::work_queue::id::MessageId;
use crate::work_queue::retry::RetryPolicy;
use crate::work_queue::{
    DomainList, ListedMessage, ListedRecipient, Pending, QueueError, Settled, Settlement, Silence, Terms,
    WorkQueue,
};

/// How long DNS may be asked for the hosts of a next hop.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);

/// Connections that are tried for a list without any of them getting a message through.
const MOST_TRIES: usize = 10;

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
    /// `--hostname`: the name in EHLO.
    pub hostname: String,
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
        let peers = hosts.into_iter().flat_map(|host| {
            let name = host.name;
            host.addresses.into_iter().map(move |address| Peer {
                name: name.clone(),
                address,
            })
        });
        let mut last: Option<(String, Reason)> = None;
        for peer in peers.take(MOST_TRIES) {
            // As long as a peer answers, it is worth another connection.
            loop {
                if hand.todo.is_empty() || desk.stopping() {
                    return;
                }
                let (end, progress) = self.visit(&mut hand, &peer, desk);
                match end {
                    End::Done => return,
                    End::Refused(reason) | End::Broken(reason) => {
                        log::debug!("list {}: {}", hand.list.id, reason.text);
                        self.dispatch.heed(&hand.list, &reason);
                        last = Some((peer.to_string(), reason));
                    }
                }
                if !progress {
                    break;
                }
            }
        }
        if let Some((host, reason)) = last
            && !desk.stopping()
        {
            hand.back_off(&host, reason);
        }
    }

    /// One connection; whether a message got an answer over it.
    fn visit(&self, hand: &mut Hand<'_>, peer: &Peer, desk: &Desk) -> (End, bool) {
        desk.write(format!("Connecting to {peer} for list {}", hand.list.id));
        match Connection::open(peer) {
            Err(error) => (
                End::Refused(Reason::no_connection(peer, &error.to_string())),
                false,
            ),
            Ok(mut connection) => {
                let lent = desk.lend(connection.socket());
                let before = hand.answered;
                let end = self.talk(hand, &mut connection, peer, desk);
                // The table must not shut down a descriptor that is somebody else's by then.
                drop(lent);
                (end, hand.answered > before)
            }
        }
    }

    fn talk(&self, hand: &mut Hand<'_>, connection: &mut Connection, peer: &Peer, desk: &Desk) -> End {
        let host = peer.to_string();
        let mut session = Session::new(&self.hostname, peer.clone());
        let mut wanted = false;
        let mut ready: Option<Input> = None;
        let mut can_write = true;
        loop {
            let input = match ready.take() {
                Some(input) => input,
                None if wanted && !desk.stopping() && hand.has_next(&session) => {
                    wanted = false;
                    hand.next(&host, desk).map_or(Input::NoMore, Input::Message)
                }
                None if wanted && !session.is_waiting() => {
                    wanted = false;
                    Input::NoMore
                }
                None => {
                    // With nothing on the wire a stop need not wait.
                    let _ = desk.rest(if hand.in_flight.is_empty() {
                        Rest::Waiting
                    } else {
                        Rest::Busy
                    });
                    match connection.reply(session.deadline()) {
                        Ok((reply, more_at_hand)) => {
                            log::trace!("{host} said {reply}");
                            Input::Reply { reply, more_at_hand }
                        }
                        Err(trouble) => Input::Lost(trouble),
                    }
                }
            };
            let interrupted = matches!(input, Input::Lost(_)) && desk.stopping();
            let mut end = None;
            for step in session.advance(input) {
                match step {
                    Step::Send(bytes) if can_write => connection.send(&bytes),
                    Step::SendContent(id) | Step::SendBinary(id) if can_write => {
                        let form = match step {
                            Step::SendBinary(_) => Form::Chunk,
                            _ => Form::Lines,
                        };
                        if let Err(trouble) = self.send_content(hand, connection, id, form) {
                            can_write = false;
                            ready = Some(Input::Lost(trouble));
                        }
                    }
                    // The rest of the steps still counts.
                    Step::Send(_) | Step::SendContent(_) | Step::SendBinary(_) => {}
                    Step::Settle { message, outcomes } => {
                        let spoken = Spoken {
                            host: &host,
                            reports: session.offered().dsn,
                        };
                        hand.settle(message, outcomes, spoken, interrupted);
                    }
                    Step::GiveBack(id) => hand.give_back(id),
                    Step::WantMessage => wanted = true,
                    Step::Close(how) => end = Some(how),
                }
            }
            if can_write && let Err(trouble) = connection.flush() {
                can_write = false;
                ready = Some(Input::Lost(trouble));
            }
            if let Some(end) = end {
                return end;
            }
        }
    }
}

impl OutboundHandler {
    /// Sends the content of a message in flight. What is wrong on our side is no business of the peer or of the
    /// sender: they are told that it was not there, and the operator why.
    fn send_content(
        &self,
        hand: &mut Hand<'_>,
        connection: &mut Connection,
        id: MessageId,
        form: Form,
    ) -> Result<(), Trouble> {
        let size = hand
            .in_flight
            .iter()
            .find(|message| message.id == id)
            .map_or(0, |message| message.size);
        let error = match self
            .queue
            .content(id)
            .map(|content| connection.send_content(form, content, size))
        {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(SendError::Peer(trouble))) => return Err(trouble),
            Ok(Err(SendError::Cut(size_now))) => QueueError::Cut {
                size: size_now,
                whole: size,
            },
            Ok(Err(SendError::Content(error))) => QueueError::File {
                path: self.queue.spool().join("content"),
                error,
            },
            Err(error) => error,
        };
        log::error!("id={id} its content can not be sent: {error}");
        // The peer is not at fault: the rest of the list is worth another connection.
        hand.answered += 1;
        if !error.will_pass() {
            hand.damaged = Some((id, error.to_string()));
        }
        Err(Trouble::Content("it can not be read just now".to_owned()))
    }
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
    /// On their way to the disk.
    unrecorded: VecDeque<(Arc<Settlement>, Pending<Settled>)>,
    /// The message in flight whose content turned out to be damaged, and how.
    damaged: Option<(MessageId, String)>,
    /// Messages that peers have given an answer to so far.
    answered: usize,
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
            unrecorded: VecDeque::new(),
            damaged: None,
            answered: 0,
        }
    }

    fn load(&mut self) {
        let id = self.list.id;
        self.todo = self
            .ask(|queue| queue.list_messages(id))
            .unwrap_or_default()
            .into();
    }

    /// Whether there is, or may be, a next message. Another list is asked for only when nothing is on the wire.
    fn has_next(&self, session: &Session) -> bool {
        !self.todo.is_empty() || !session.is_waiting()
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

    /// `interrupted`: the connection was cut by our own stop; what that did to a message is no attempt.
    fn settle(
        &mut self,
        id: MessageId,
        outcomes: Vec<(RecipientKey, Outcome)>,
        spoken: Spoken<'_>,
        interrupted: bool,
    ) {
        let Some(place) = self.in_flight.iter().position(|message| message.id == id) else {
            return;
        };
        let mut message = self.in_flight.remove(place);
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
        self.record(&message, spoken, outcomes);
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
        for list in self.handler.dispatch.with(|turns| turns.call_off(hop)) {
            let _ = self.insist(|queue| queue.end_list(list));
        }
        if settled.is_some_and(|settled| settled.given_up > 0) {
            self.handler.bells.drt.kick();
        }
    }

    /// The same outcome for all that is left.
    fn settle_rest(&mut self, host: &str, outcome: &Outcome) {
        for message in std::mem::take(&mut self.todo) {
            let outcomes = message
                .recipients
                .iter()
                .map(|r| (r.n, outcome.clone()))
                .collect();
            let spoken = Spoken { host, reports: false };
            self.record(&message, spoken, outcomes);
        }
    }

    fn record(&mut self, message: &ListedMessage, spoken: Spoken<'_>, outcomes: Vec<(u32, Outcome)>) {
        let Spoken { host, reports } = spoken;
        for (n, outcome) in &outcomes {
            let to = message
                .recipients
                .iter()
                .find(|r| r.n == *n)
                .map(|r| r.path.to_string())
                .unwrap_or_default();
            match outcome {
                Outcome::Delivered(reply) => {
                    log::info!("id={} to=<{to}> host={host} transmitted {reply}", message.id);
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

/// The host that the outcomes are from.
#[derive(Clone, Copy)]
struct Spoken<'h> {
    /// `name[address]:port`; empty where none was reached.
    host: &'h str,
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
