//! A session over a connection: the dull loop around the dialogue. Reads, advances, does the steps.
//!
//! Never decides what to say or what a reply means.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::OutboundHandler;
use super::hand::{Hand, Spoken};
use crate::config::TlsLevel;
use crate::crash_point::{CrashPoint, reach};
use crate::mime::{Plan, Unsuitable};
use crate::outbound::connection::{Connection, Form, SendError};
use crate::outbound::outcome::{Outcome, Peer, Reason, Trouble};
use crate::outbound::session::{End, Input, Session, Step};
use crate::outbound::transaction::Envelope;
use crate::smtp::command;
use crate::smtp::reply::{Reply, ReplyClass};
use crate::tasks::table::{Desk, Rest};
use crate::tls::trust::Trust;
use crate::tls::wire::TlsFacts;
use crate::work_queue::id::MessageId;
use crate::work_queue::{QueueError, WorkQueue};

/// How long a host may take to its greeting, and to each answer before the first message, when the time of all messages
/// is over: an attempt that falls due at the very end is one, too.
const LAST_CHANCE: Duration = Duration::from_secs(30);

/// A session this old takes up no further list: which hosts there are, and how busy each is, may have changed since.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How long a peer that takes nothing any more is listened to.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What others hear of content of ours that cannot be read.
const UNREADABLE: &str = "it can not be read just now";

/// A session over a connection.
pub(super) struct Talk<'t> {
    pub(super) handler: &'t OutboundHandler,
    pub(super) level: TlsLevel,
    pub(super) session: Session,
    pub(super) connection: Connection,
    pub(super) began: Instant,
    pub(super) peer: &'t Peer,
    /// The peer, as the queue notes it.
    pub(super) host: String,
    /// What TLS has agreed upon.
    pub(super) tls: Option<TlsFacts>,
    /// How content in flight is converted for the peer.
    pub(super) plans: HashMap<MessageId, Plan>,
    /// The session wants a message.
    pub(super) wanted: bool,
    /// The peer was silent for too long.
    pub(super) timed_out: bool,
    /// Why nothing can be sent any more. What the peer has said by then still counts.
    pub(super) broken: Option<Trouble>,
    /// The message whose content was kept back, since no answer to it would be heard, or an operator stopped it.
    pub(super) kept_back: Option<MessageId>,
    /// An operator stopped a message, and the session ends with it.
    pub(super) recalled: bool,
}

impl Talk<'_> {
    pub(super) fn run(&mut self, hand: &mut Hand<'_>, desk: &Desk) -> End {
        let mut ready: Option<Input> = None;
        loop {
            let input = match ready.take() {
                Some(input) => input,
                None => self.input(hand, desk),
            };
            let input = match input {
                Input::Reply { .. } if self.has_to_stop() => {
                    self.recalled = true;
                    Input::Lost(Trouble::Closed)
                }
                input => input,
            };
            let interrupted = matches!(input, Input::Lost(_)) && (desk.stopping() || self.recalled);
            if interrupted {
                self.tell_of_the_unanswered();
            }
            let mut end = None;
            for step in self.session.advance(input) {
                match step {
                    Step::Send(bytes) => {
                        self.trace(&bytes);
                        self.connection.send(&bytes);
                    }
                    Step::SendContent(id) => self.send_content(hand, desk, id, Form::Lines),
                    Step::SendBinary(id) => self.send_content(hand, desk, id, Form::Chunk),
                    Step::BeginTls => ready = Some(self.begin_tls()),
                    Step::Settle { message, outcomes } => {
                        self.plans.remove(&message);
                        hand.settle(message, outcomes, self.spoken(), interrupted);
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

    /// Tells the log what we say, at the level at which it wants to know: a line for each command.
    fn trace(&self, commands: &[u8]) {
        if !log::log_enabled!(log::Level::Trace) {
            return;
        }
        let is_secret = self.session.is_logging_in();
        let commands = commands.strip_suffix(b"\r\n").unwrap_or(commands);
        for line in commands.split(|octet| *octet == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_auth = line
                .get(..5)
                .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
            log::trace!(
                "host={} C: {}",
                self.host,
                command::told(line, is_secret && !is_auth)
            );
        }
    }

    /// And what the host says. What it asks in the course of a login belongs to that.
    fn trace_reply(&self, reply: &Reply) {
        if !log::log_enabled!(log::Level::Trace) {
            return;
        }
        let mut shown = self.session.shown(reply.clone());
        if self.session.is_logging_in() && shown.class() == ReplyClass::Intermediate {
            shown.lines = vec!["…".to_owned()];
        }
        log::trace!("host={} S: {shown}", self.host);
    }

    /// Whether an operator has stopped a message of which something would be said next. With others on the wire that wait
    /// for their answers the session goes on, as far as the content of this one.
    fn has_to_stop(&self) -> bool {
        let queue = &self.handler.queue;
        queue.any_recalled()
            && self.session.unanswered().is_empty()
            && self.session.unsaid().any(|id| queue.is_recalled(id))
    }

    /// Our stop ends the session: what the host was sent, and would have answered for later, goes out again.
    fn tell_of_the_unanswered(&self) {
        let unanswered = self.session.unanswered().into_iter();
        for id in unanswered.filter(|id| self.kept_back != Some(*id)) {
            log::warn!(
                "id={id} host={} cut off by the stop before it had answered for it: it is sent again, and may come twice",
                self.host
            );
        }
    }

    /// What happens to the session next: there is a message for it, or none, or the peer says something.
    fn input(&mut self, hand: &mut Hand<'_>, desk: &Desk) -> Input {
        if self.broken.is_none() && self.wanted {
            // Busy before it is begun: a stop that comes from now on leaves it the time for this message, and does not take
            // the session for one that waits for its host, as it has done so far.
            if hand.has_next(&self.session)
                && desk.rest(Rest::Busy)
                && let Some(envelope) = self.next_message(hand, desk)
            {
                self.wanted = false;
                return Input::Message(envelope);
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
        let may_go_on = desk.rest(if idle { Rest::Waiting } else { Rest::Busy });
        if idle && !may_go_on {
            return Input::Lost(Trouble::Closed);
        }
        // Nor is a host waited for that has said nothing when the time of all that it could be told is over.
        let patience = match hand.time_left().filter(|_| idle) {
            Some(left) => patience.min(left + LAST_CHANCE),
            None => patience,
        };
        if self.session.awaits_verdict() {
            reach(CrashPoint::ContentSent);
        }
        match self.connection.reply(patience) {
            Ok((reply, more_at_hand)) => {
                self.trace_reply(&reply);
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
                log::debug!(
                    "host={} tls=\"{} {}\" TLS begins",
                    self.host,
                    facts.version,
                    facts.cipher
                );
                self.tls = Some(facts);
                Input::TlsBegun {
                    verified: self.level == TlsLevel::Verify,
                }
            }
            Err(trouble) => Input::Lost(trouble),
        }
    }

    /// The next message, in a form that the peer takes, as far as it has one (RFC 6152 3, RFC 3030 3); `None` where there
    /// is none just now.
    fn next_message(&mut self, hand: &mut Hand<'_>, desk: &Desk) -> Option<Envelope> {
        while let Some(mut envelope) = self.next_envelope(hand, desk) {
            if !self.session.must_convert(&envelope) {
                return Some(envelope);
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
                    return Some(envelope);
                }
                Err(error) => {
                    hand.note_damage(id, &error);
                    let trouble = Trouble::Content(UNREADABLE.to_owned());
                    let outcome = Outcome::TryLater(Reason::trouble(self.peer, None, &trouble));
                    let recipients = envelope.recipients.into_iter();
                    let outcomes = recipients.map(|r| (r.key, outcome.clone())).collect();
                    hand.settle(id, outcomes, self.spoken(), false);
                    // With others on the wire, or this one put off for the next host, nobody is through with the list.
                    if !hand.has_next(&self.session) {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// The next message. A session that went well is kept open for a moment for it.
    fn next_envelope(&mut self, hand: &mut Hand<'_>, desk: &Desk) -> Option<Envelope> {
        if hand.todo.is_empty() && self.began.elapsed() > LONGEST {
            return None;
        }
        let next = hand.next(&self.host, desk);
        if next.is_some() || hand.answered == 0 || desk.stopping() {
            return next;
        }
        self.flush();
        if self.broken.is_some() || !self.connection.is_quiet() {
            return None;
        }
        desk.write(format!("Waiting for more for {}", self.host));
        let _ = desk.rest(Rest::Waiting);
        hand.linger();
        let _ = desk.rest(Rest::Busy);
        if desk.stopping() {
            return None;
        }
        hand.next(&self.host, desk)
    }

    fn plan(&self, id: MessageId) -> Result<Result<Plan, Unsuitable>, QueueError> {
        let queue = &self.handler.queue;
        Plan::of(queue.content(id)?).map_err(|error| unreadable(queue, error))
    }

    /// Sends the content of a message in flight. What is wrong on our side is no business of the peer or of the
    /// sender: they are told that it was not there, and the operator why.
    fn send_content(&mut self, hand: &mut Hand<'_>, desk: &Desk, id: MessageId, form: Form) {
        if self.broken.is_some() {
            return;
        }
        // The host would take it, and we would never hear of that.
        let is_recalled = self.handler.queue.is_recalled(id);
        if desk.is_deaf() || is_recalled {
            self.recalled = is_recalled;
            self.broken = Some(Trouble::Closed);
            self.kept_back = Some(id);
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

fn unreadable(queue: &WorkQueue, error: std::io::Error) -> QueueError {
    QueueError::File {
        path: queue.spool().join("content"),
        error,
    }
}
