//! What oseshlrN says to a peer: EHLO, STARTTLS and AUTH as they are wanted, then one message after the other, then QUIT
//! (RFC 5321, 2920, 3030, 3207, 4954). To a server of mailboxes it says LHLO, and hears of each recipient after the content
//! (LMTP, RFC 2033).
//!
//! A state machine fed with replies and envelopes that answers with steps. Never touches a socket, a clock or
//! the queue: the handler is a dull loop around it. Each recipient it is given comes back exactly once.

use std::collections::VecDeque;
use std::time::Duration;

use crate::outbound::offered::Offered;
use crate::outbound::outcome::{Outcome, Peer, Reason, Stage, Trouble, Verdict, judge};
use crate::outbound::security::Security;
use crate::outbound::transaction::{Envelope, Next, Recipient, RecipientKey, Transaction};
use crate::sasl::client::ClientExchange;
use crate::smtp::reply::{Reply, ReplyClass};
use crate::work_queue::id::MessageId;

/// How long a block of content may take to be written (RFC 5321 4.5.3.2.5).
pub const BLOCK_DEADLINE: Duration = Duration::from_secs(3 * 60);

/// Octets of commands that may be on their way without an answer. RFC 2920 3.1: a client that writes on and
/// on while the server waits for its replies to be read waits for ever; this much fits any socket's buffers.
const WINDOW: usize = 32 * 1024;

/// Commands that may be on their way without an answer: so many replies, of the usual length, fit those buffers.
const MOST_DUE: usize = 800;

/// Content that may be on its way without an answer, before a further message begins. All of it goes again if the
/// connection breaks.
const MOST_CONTENT: u64 = 1024 * 1024;

/// A chunk of at most this many octets is sent before it is known whether the peer takes a recipient: in vain, that
/// costs less than a round trip.
const SMALL_CHUNK: u64 = 128 * 1024;

/// What happens to the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The peer said this.
    Reply {
        /// One whole reply.
        reply: Reply,
        /// Further octets of the peer have already come. Where nothing else is due, they were said before
        /// we asked, and must not be taken for the answer to what we ask next.
        more_at_hand: bool,
    },
    /// The answer to [`Step::WantMessage`]: the next message.
    Message(Envelope),
    /// The other answer: there is none; or, at any time: stop after what is on the wire.
    NoMore,
    /// The answer to [`Step::BeginTls`]: what is said from now on is said in TLS.
    TlsBegun {
        /// The peer has proved its name.
        verified: bool,
    },
    /// No reply will come. The session ends.
    Lost(Trouble),
}

/// What the handler is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put this into the write buffer. It is flushed when the steps are done, before the next read.
    Send(Vec<u8>),
    /// Flush, and begin TLS; nothing that the peer has said so far counts any more. The answer is
    /// [`Input::TlsBegun`] or [`Input::Lost`].
    BeginTls,
    /// Put the content of this message there, dot-stuffed, and the final dot.
    SendContent(MessageId),
    /// Put the content of this message there as it is: all of it is one chunk, which was just announced (RFC
    /// 3030).
    SendBinary(MessageId),
    /// The message is through: what became of each of its recipients.
    Settle {
        /// Which message.
        message: MessageId,
        /// All its recipients.
        outcomes: Vec<(RecipientKey, Outcome)>,
    },
    /// The message was taken, but the peer has answered nothing of it: as if it had never been taken, no attempt.
    /// Behind a chunk of another message it may have its content, and may get it again.
    GiveBack(MessageId),
    /// Offer the next message, or say that there is none: now, or later if none is known yet.
    WantMessage,
    /// Flush, close the connection, and advance no further. Nothing is unsettled.
    Close(End),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should: we said QUIT.
    Done,
    /// Before any message: another host of the next hop may be willing.
    Refused(Reason),
    /// Before any message, by TLS: the same host may be willing without it ([`Security::tls_failed`]).
    WithoutTls(Reason),
    /// The same host may be willing without chunks, which it offers and does not know
    /// ([`Security::chunks_failed`]).
    WithoutChunks(Reason),
    /// In the middle. What is left of the list may be tried over a new connection, or later, for this reason.
    Broken(Reason),
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Greeting, EHLO, HELO, STARTTLS, AUTH.
    Opening,
    /// Messages may go.
    Open,
    /// QUIT was sent.
    Leaving,
    /// Nothing follows.
    Closed,
}

/// A reply that is due. Those of a transaction belong to the first one in flight: replies come in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Greeting,
    Ehlo,
    Helo,
    Lhlo,
    StartTls,
    Auth,
    Mail {
        first: bool,
    },
    Rcpt(usize),
    Data,
    Content,
    /// In LMTP: to the content, about this recipient.
    ContentFor(usize),
    /// To a dot without content.
    Dot,
    Reset,
    Quit,
}

impl Due {
    fn stage(self) -> Stage {
        match self {
            Due::Greeting => Stage::Greeting,
            Due::Ehlo => Stage::Ehlo,
            Due::Helo => Stage::Helo,
            Due::Lhlo => Stage::Lhlo,
            Due::StartTls => Stage::StartTls,
            Due::Auth => Stage::Auth,
            Due::Mail { first: true } => Stage::Mail,
            Due::Mail { first: false } => Stage::NextMail,
            Due::Rcpt(_) => Stage::Rcpt,
            Due::Data => Stage::Data,
            Due::Content | Due::ContentFor(_) | Due::Dot => Stage::Content,
            Due::Reset => Stage::Reset,
            Due::Quit => Stage::Quit,
        }
    }

    /// Whether it stands between two messages.
    fn is_between(self) -> bool {
        matches!(self, Due::Reset | Due::Mail { first: false })
    }
}

/// The dialogue with one peer, over one connection.
#[derive(Debug)]
pub struct Session {
    hostname: String,
    peer: Peer,
    security: Security,
    /// Messages that may be on their way without an answer.
    depth: usize,
    /// LMTP is spoken, and not SMTP.
    in_lmtp: bool,
    phase: Phase,
    offered: Offered,
    /// TLS is spoken, and whether the peer has proved its name.
    tls: Option<bool>,
    exchange: Option<ClientExchange>,
    /// One entry for each command sent and not answered, with its length in octets.
    due: VecDeque<(Due, usize)>,
    /// The sum of these lengths.
    unanswered: usize,
    /// The window was full: wait until half of it is answered, so that many commands share a write.
    window_full: bool,
    /// Those whose content has been sent and waits for its answer, and the next one behind them.
    flight: VecDeque<Transaction>,
    /// Octets of their content.
    content_in_flight: u64,
    /// MAIL may stand at the peer without content to follow: RSET goes before the next one.
    reset_due: bool,
    /// A MAIL was sent in this connection.
    mail_sent: bool,
    /// [`Step::WantMessage`] has not been answered yet.
    asked: bool,
    /// No further message will come.
    no_more: bool,
    /// A MAIL was out of sequence, for this reason: the session ends with what is on the wire.
    confused: Option<Reason>,
    /// The peer has said what is no answer to what it was asked: perhaps one reply too many, and then each one that follows
    /// is taken for that to another command. What messages seem to have come to since then, until it is known.
    doubted: Option<Vec<SettledMessage>>,
}

/// A message that is through, and what became of each of its recipients.
type SettledMessage = (MessageId, Vec<(RecipientKey, Outcome)>);

impl Session {
    /// A session for a connection that was just made to `peer`; `hostname` is what EHLO says. The peer speaks
    /// first. Where it takes chunks, up to `depth` messages, at least 2, are on their way at once: the longer the
    /// path, the more it takes to fill it.
    #[must_use]
    pub fn new(hostname: &str, peer: Peer, security: Security, depth: usize) -> Session {
        Session {
            hostname: hostname.to_string(),
            peer,
            security,
            depth: depth.max(2),
            in_lmtp: false,
            phase: Phase::Opening,
            offered: Offered::default(),
            tls: None,
            exchange: None,
            due: VecDeque::from([(Due::Greeting, 0)]),
            unanswered: 0,
            window_full: false,
            flight: VecDeque::new(),
            content_in_flight: 0,
            reset_due: false,
            mail_sent: false,
            asked: false,
            no_more: false,
            confused: None,
            doubted: None,
        }
    }

    /// The same session in LMTP, if the peer speaks that; before anything has happened.
    #[must_use]
    pub fn in_lmtp(self, in_lmtp: bool) -> Session {
        Session { in_lmtp, ..self }
    }

    /// Takes what happened, and gives what to do about it.
    pub fn advance(&mut self, input: Input) -> Vec<Step> {
        let mut steps = Vec::new();
        match input {
            // Whatever comes after the end, or QUIT, is of no interest, but no message may vanish.
            Input::Message(envelope)
                if matches!(self.phase, Phase::Leaving | Phase::Closed) || !self.asked =>
            {
                steps.push(Step::GiveBack(envelope.message));
            }
            _ if self.phase == Phase::Closed => {}
            Input::Reply { reply, more_at_hand } => self.hear(reply, more_at_hand, &mut steps),
            Input::Message(envelope) => self.take(envelope, &mut steps),
            Input::NoMore => self.no_more = true,
            Input::TlsBegun { verified } => self.begin_again(verified, &mut steps),
            Input::Lost(trouble) => {
                let due = self.due.front().map(|&(due, _)| due);
                // Many a host closes after so many messages. The one before went well, so a new connection is
                // worth a try; if it is this one that the peer does not stand, it will be the first there.
                let by_tls = due == Some(Due::Mail { first: true }) && self.may_do_without_tls();
                if by_tls || due.is_some_and(Due::is_between) {
                    self.give_back(&mut steps);
                }
                if by_tls {
                    // Nothing has been granted: it ends like a session that has not begun.
                    self.phase = Phase::Opening;
                }
                let stage = due.map(Due::stage);
                self.end(&Reason::trouble(&self.peer, stage, &trouble), &mut steps);
            }
        }
        self.go_on(&mut steps);
        steps
    }

    /// How long to wait for the next reply, from the moment of the flush or of the reply before (RFC 5321
    /// 4.5.3.2).
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(match self.due.front() {
            Some((Due::Data, _)) => 2 * 60,
            Some((Due::Content | Due::ContentFor(_) | Due::Dot, _)) => 10 * 60,
            // Not in the RFC. All is settled: nobody shall wait for a good-bye.
            Some((Due::Quit, _)) if self.doubted().is_empty() => 10,
            _ => 5 * 60,
        })
    }

    /// Whether replies are due: if not, and no message is at hand, there is nothing to read for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether all of a content has been sent and is what the peer has to answer for next.
    #[must_use]
    pub fn awaits_verdict(&self) -> bool {
        matches!(self.due.front(), Some((Due::Content | Due::ContentFor(_), _)))
    }

    /// The messages of which the peer was sent all and has answered nothing, as far as is known: it may have taken them.
    #[must_use]
    pub fn unanswered(&self) -> Vec<MessageId> {
        let sent = self.flight.iter().filter(|message| message.next == Next::Nothing);
        let sent = sent.map(|message| message.envelope.message);
        self.doubted()
            .iter()
            .map(|(message, _)| *message)
            .chain(sent)
            .collect()
    }

    fn doubted(&self) -> &[SettledMessage] {
        self.doubted.as_deref().unwrap_or_default()
    }

    /// The messages that have been taken, and of which the peer has not been sent all.
    pub fn unsaid(&self) -> impl Iterator<Item = MessageId> {
        let begun = self.flight.iter().filter(|message| message.next != Next::Nothing);
        begun.map(|message| message.envelope.message)
    }

    /// Whether this message has to be converted before it is offered to this peer: it takes no 8-bit or no binary
    /// content (RFC 6152 3, RFC 3030 3).
    #[must_use]
    pub fn must_convert(&self, envelope: &Envelope) -> bool {
        let eight_bit = envelope.eight_bit && !self.offered.eight_bit_mime;
        let binary = envelope.binary && !self.offered.takes_binary();
        eight_bit && !envelope.binary || binary
    }

    /// Messages that have been taken and not settled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// What the peer's answer to EHLO offered; nothing before it.
    #[must_use]
    pub fn offered(&self) -> &Offered {
        &self.offered
    }

    fn hear(&mut self, reply: Reply, more_at_hand: bool, steps: &mut Vec<Step>) {
        let Some(&(due, octets)) = self.due.front() else {
            let reason = Reason::unasked(&self.peer, Some(&reply));
            return self.end(&reason, steps);
        };
        let reply = if reply.code == 334 {
            reply
        } else {
            self.shown(reply)
        };
        // `None` is: granted.
        let refusal = match judge(&self.peer, due.stage(), &reply) {
            Verdict::Fine => None,
            Verdict::TryLater(reason) => Some(Outcome::TryLater(reason)),
            Verdict::GiveUp(_) if self.is_about_ourselves(reply.code) => {
                let reason = Reason::said(&self.peer, due.stage(), &reply, 4);
                Some(Outcome::TryLater(reason))
            }
            Verdict::GiveUp(reason) if self.has_unknown_chunk(due, reply.code) => {
                self.give_back(steps);
                return self.close(End::WithoutChunks(reason), steps);
            }
            Verdict::GiveUp(reason) => Some(Outcome::GiveUp(reason)),
            // What stands behind it is on the wire, and the peer goes on with it: whoever left now would send all of
            // that again. RSET may not have been needed; if it was, MAIL is refused.
            Verdict::Ends(reason) if reply.code != 421 && self.goes_on_behind(due) => {
                let is_no_answer = matches!(reply.class(), ReplyClass::Positive | ReplyClass::Intermediate);
                if is_no_answer {
                    self.doubted.get_or_insert_default();
                }
                if due != Due::Reset || is_no_answer {
                    self.confused.get_or_insert_with(|| reason.clone());
                }
                Some(Outcome::TryLater(reason))
            }
            Verdict::Ends(reason) => {
                if self.phase == Phase::Opening && reply.code != 421 {
                    // RFC 5321 3.1: a host that refuses waits for QUIT. We do not wait for more.
                    send(b"QUIT\r\n", steps);
                }
                // Said to the next MAIL or RSET it is about the connection: the message has not been looked at.
                if due.is_between() {
                    self.give_back(steps);
                }
                return self.end(&reason, steps);
            }
        };
        self.due.pop_front();
        self.unanswered -= octets;
        let too_early = more_at_hand && self.due.is_empty();
        // This is the answer to nothing but QUIT (RFC 5321 4.2.3): so each one before was to what it was taken for.
        if due == Due::Quit && reply.code == 221 && !too_early {
            let settled = self.doubted.take().into_iter().flatten();
            steps.extend(settled.map(|(message, outcomes)| Step::Settle { message, outcomes }));
        }
        if !(too_early && self.phase == Phase::Opening) {
            self.note(due, refusal, reply, steps);
        }
        if too_early && self.phase != Phase::Closed {
            self.end(&Reason::unasked(&self.peer, None), steps);
        }
    }

    /// Notes the answer to `due`: what became of those it concerns, or `None` where it was granted.
    fn note(&mut self, due: Due, refusal: Option<Outcome>, reply: Reply, steps: &mut Vec<Step>) {
        match (due, refusal, self.flight.front_mut()) {
            (Due::Greeting, ..) => self.greet(steps),
            (Due::Ehlo, Some(_), _) => {
                let line = format!("HELO {}\r\n", self.hostname);
                self.command(Due::Helo, &line, steps);
            }
            (Due::Ehlo, None, _) => {
                self.offered = Offered::by(&reply);
                if self.security.chunks_failed {
                    (self.offered.chunking, self.offered.binary_mime) = (false, false);
                }
                self.introduce(steps);
            }
            (Due::Lhlo, ..) => {
                self.offered = Offered::by(&reply);
                // There is one answer to each recipient of a message: chunks save nothing over a socket nearby.
                (self.offered.chunking, self.offered.binary_mime) = (false, false);
                self.introduce(steps);
            }
            (Due::Helo, ..) => self.introduce(steps),
            (Due::StartTls, None, _) => steps.push(Step::BeginTls),
            // The peer offered it, and can not do it now: it may be spoken to in the clear.
            (Due::StartTls, Some(_), _) => {
                self.security.tls_failed = true;
                self.introduce(steps);
            }
            (Due::Auth, ..) => self.authenticate(&reply, steps),
            (Due::Mail { .. }, None, Some(front)) => front.mail_accepted = true,
            (Due::Mail { first }, Some(refusal), Some(front)) => {
                front.refuse(&refusal);
                front.out_of_sequence = !first && self.confused.is_some();
            }
            (Due::Rcpt(_), None, Some(front)) => front.accepted += 1,
            (Due::Rcpt(index), Some(refusal), Some(front)) => front.settle_recipient(index, refusal),
            (Due::Data, None, Some(front)) if !front.is_settled() => front.next = Next::Content,
            // RFC 2033 4.2: without a recipient nothing answers a dot in LMTP, and DATA is never granted.
            (Due::Data, None, Some(front)) if front.accepted == 0 && !self.in_lmtp => front.next = Next::Dot,
            // MAIL was refused, and yet RCPT and DATA were granted: a dot might deliver an empty message.
            (Due::Data, None, Some(_)) => {
                let reason = Reason::out_of_step(&self.peer, Stage::Data, &reply);
                self.end(&reason, steps);
            }
            (Due::Data, Some(refusal), Some(front)) => {
                self.reset_due = front.mail_accepted;
                self.settle(&refusal, steps);
            }
            (Due::Content, None, _) => self.settle(&Outcome::Delivered(reply), steps),
            (Due::Content, Some(_), Some(front)) if front.out_of_sequence => {
                self.content_in_flight = self.content_in_flight.saturating_sub(front.envelope.size);
                let untouched = self.flight.pop_front();
                steps.extend(untouched.map(|message| Step::GiveBack(message.envelope.message)));
            }
            (Due::Content, Some(refusal), _) => self.settle(&refusal, steps),
            (Due::ContentFor(index), refusal, Some(front)) => {
                front.settle_recipient(index, refusal.unwrap_or(Outcome::Delivered(reply)));
                if front.is_settled() {
                    self.settle(&self.nobody_left(), steps);
                }
            }
            // All were refused before: what is said about nothing is ignored.
            (Due::Dot, ..) => self.settle(&self.nobody_left(), steps),
            (Due::Quit, ..) => self.close(End::Done, steps),
            (Due::Reset, ..)
            | (Due::Mail { .. } | Due::Rcpt(_) | Due::Data | Due::ContentFor(_), _, None) => {}
        }
    }

    fn take(&mut self, envelope: Envelope, steps: &mut Vec<Step>) {
        self.asked = false;
        let refusal = self.cannot_send(&envelope);
        let mut message = Transaction::new(envelope);
        if let Some(reason) = refusal {
            message.refuse(&Outcome::GiveUp(reason));
        } else if !self.offered.smtp_utf8 {
            self.pass_over_international(&mut message);
        }
        if message.is_settled() {
            // Nothing to do, and all of it done.
            let (message, outcomes) = message.settle(&self.nobody_left());
            steps.push(Step::Settle { message, outcomes });
        } else {
            self.flight.push_back(message);
        }
    }

    /// Why the peer can not be sent this message at all, as far as it has said so beforehand.
    fn cannot_send(&self, envelope: &Envelope) -> Option<Reason> {
        if let Some(limit) = self.offered.limit_below(envelope.size) {
            return Some(Reason::too_large(&self.peer, envelope.size, limit));
        }
        if let Some(why) = &envelope.unsuitable {
            return Some(Reason::unsuitable(&self.peer, why));
        }
        if self.must_convert(envelope) {
            return Some(Reason::unsuitable(&self.peer, "it was not"));
        }
        let needs_utf8 = match self.in_lmtp {
            // What is read where it is kept need not be understood by any further host: it comes as it came here.
            true => envelope.sender_needs_utf8(),
            false => envelope.needs_utf8(),
        };
        let needs_utf8 = needs_utf8.filter(|_| !self.offered.smtp_utf8);
        needs_utf8.map(|what| Reason::needs_utf8(&self.peer, what))
    }

    /// Recipients whose addresses the peer would not understand: the others need not suffer for them.
    fn pass_over_international(&self, message: &mut Transaction) {
        let international = |(_, recipient): &(usize, &Recipient)| recipient.mailbox.needs_utf8();
        let indices: Vec<usize> = message
            .envelope
            .recipients
            .iter()
            .enumerate()
            .filter(international)
            .map(|(index, _)| index)
            .collect();
        for index in indices {
            let reason = Reason::needs_utf8(&self.peer, "the address");
            message.settle_recipient(index, Outcome::GiveUp(reason));
        }
    }

    /// Sends what may be sent now; asks for the next message, or says QUIT, where that is next.
    fn go_on(&mut self, steps: &mut Vec<Step>) {
        if self.phase != Phase::Open {
            return;
        }
        // Only the last one in flight has anything left to send.
        while self.may_send()
            && let Some(message) = self.flight.back_mut()
            && (self.confused.is_none() || message.next != Next::Mail)
        {
            let nobody_left =
                matches!(message.next, Next::Rcpt(_) | Next::Data | Next::Bdat) && message.is_settled();
            if nobody_left && self.due.is_empty() {
                // Without pipelining, or when the window filled up: DATA has not been sent, and need not be.
                self.reset_due = message.mail_accepted;
                self.settle(&self.nobody_left(), steps);
                continue;
            }
            if nobody_left || !self.send_next(steps) {
                break;
            }
        }
        if let Some(reason) = &self.confused {
            if self.due.is_empty() && self.doubted().is_empty() {
                let reason = reason.clone();
                self.end(&reason, steps);
            } else if self.due.is_empty() {
                self.give_back(steps);
                self.take_leave(steps);
            }
            return;
        }
        let all_sent = self
            .flight
            .back()
            .is_none_or(|message| message.next == Next::Nothing);
        if !all_sent || !self.may_send() {
            return;
        }
        if self.no_more {
            self.take_leave(steps);
        } else if !self.asked && self.has_room() {
            self.asked = true;
            steps.push(Step::WantMessage);
        }
    }

    fn take_leave(&mut self, steps: &mut Vec<Step>) {
        self.phase = Phase::Leaving;
        self.command(Due::Quit, "QUIT\r\n", steps);
    }

    /// Sends the next command of the last message in flight, or its content; false where it has to wait.
    fn send_next(&mut self, steps: &mut Vec<Step>) -> bool {
        let Some(message) = self.flight.back_mut() else {
            return false;
        };
        let envelope = &message.envelope;
        let (due, line, next) = match message.next {
            Next::Mail if self.reset_due => {
                self.reset_due = false;
                (Due::Reset, String::from("RSET\r\n"), Next::Mail)
            }
            Next::Mail => {
                let first = !std::mem::replace(&mut self.mail_sent, true);
                (Due::Mail { first }, envelope.mail(&self.offered), Next::Rcpt(0))
            }
            Next::Rcpt(index) => match envelope.recipients.get(index) {
                Some(_) if message.is_passed_over(index) => {
                    message.next = Next::Rcpt(index + 1);
                    return true;
                }
                Some(recipient) => (
                    Due::Rcpt(index),
                    envelope.rcpt(recipient, &self.offered),
                    Next::Rcpt(index + 1),
                ),
                None => {
                    let chunking = self.offered.chunking;
                    message.next = if chunking { Next::Bdat } else { Next::Data };
                    return true;
                }
            },
            // So much is not sent before it is known that somebody wants it.
            Next::Bdat if !self.due.is_empty() && envelope.size > SMALL_CHUNK => return false,
            Next::Bdat => {
                let line = format!("BDAT {} LAST\r\n", envelope.size);
                let id = envelope.message;
                message.next = Next::Nothing;
                self.content_in_flight += envelope.size;
                // Should all recipients be refused, the chunk is too, and MAIL may stand: what comes next must not
                // be taken for a part of that message.
                self.reset_due = !self.due.is_empty();
                self.command(Due::Content, &line, steps);
                steps.push(Step::SendBinary(id));
                return true;
            }
            Next::Data => (Due::Data, String::from("DATA\r\n"), Next::WaitForGo),
            Next::Content if self.in_lmtp => {
                self.content_in_flight += envelope.size;
                steps.push(Step::SendContent(envelope.message));
                let granted = message.unsettled().map(|index| (Due::ContentFor(index), 0));
                self.due.extend(granted);
                message.next = Next::Nothing;
                return true;
            }
            Next::Content => {
                self.content_in_flight += envelope.size;
                steps.push(Step::SendContent(envelope.message));
                (Due::Content, String::new(), Next::Nothing)
            }
            Next::Dot => (Due::Dot, String::from(".\r\n"), Next::Nothing),
            Next::WaitForGo | Next::Nothing => return false,
        };
        message.next = next;
        self.command(due, &line, steps);
        true
    }

    /// Whether a further message may begin. Behind a chunk as many as fill the path; behind a final dot one, for its
    /// content has to wait for DATA to be answered.
    fn has_room(&self) -> bool {
        let most = if self.offered.chunking { self.depth } else { 2 };
        self.flight.len() < most && self.content_in_flight < MOST_CONTENT
    }

    /// Whether the peer is ready for a command: with PIPELINING as long as the window is open, else only when
    /// it has answered everything.
    fn may_send(&mut self) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        if !self.offered.pipelining {
            return self.due.is_empty();
        }
        let part = if self.window_full { 2 } else { 1 };
        self.window_full = self.unanswered >= WINDOW / part || self.due.len() >= MOST_DUE / part;
        !self.window_full
    }

    fn command(&mut self, due: Due, line: &str, steps: &mut Vec<Step>) {
        send(line.as_bytes(), steps);
        self.due.push_back((due, line.len()));
        self.unanswered += line.len();
    }

    /// The first message in flight is through.
    fn settle(&mut self, rest: &Outcome, steps: &mut Vec<Step>) {
        if let Some(front) = self.flight.pop_front() {
            if front.next == Next::Nothing {
                self.content_in_flight = self.content_in_flight.saturating_sub(front.envelope.size);
            }
            let (message, outcomes) = front.settle(rest);
            match &mut self.doubted {
                Some(doubted) => doubted.push((message, outcomes)),
                None => steps.push(Step::Settle { message, outcomes }),
            }
        }
    }

    /// What a message is settled with whose recipients all have their outcome: should one have been
    /// forgotten against all reason, it is tried again.
    fn nobody_left(&self) -> Outcome {
        Outcome::TryLater(Reason::trouble(&self.peer, None, &Trouble::Closed))
    }

    /// Whether a code refuses us, and not the message: TLS failed this time, and without it the peer takes nothing; or our
    /// login does not go as far as the operator thought (RFC 3207 4, RFC 4954 6).
    pub(super) fn is_about_ourselves(&self, code: u16) -> bool {
        let lacks_tls = self.security.tls_failed && self.tls.is_none();
        let has_login = self.security.login.is_some();
        code == 530 && (lacks_tls || has_login) || code == 535 && has_login
    }

    /// Whether a code in answer to a chunk says that the peer knows no chunks, though it offers them: RFC 5321 4.2.2, and
    /// it had granted MAIL and RCPT.
    fn has_unknown_chunk(&self, due: Due, code: u16) -> bool {
        let front = self.flight.front();
        let was_granted = front.is_some_and(|front| front.mail_accepted && front.accepted > 0);
        due == Due::Content && self.offered.chunking && was_granted && (500..=504).contains(&code)
    }

    /// Whether content stands on the wire that the peer will take, whatever it has just said to `due`.
    fn goes_on_behind(&self, due: Due) -> bool {
        let front = self.flight.front();
        let front_is_sent = front.is_some_and(|front| front.next == Next::Nothing);
        let others_are = self.offered.chunking && self.flight.len() > 1;
        front_is_sent && (due.is_between() || others_are)
    }

    /// The connection is of no more use.
    fn end(&mut self, reason: &Reason, steps: &mut Vec<Step>) {
        let end = match self.phase {
            Phase::Opening if self.may_do_without_tls() => End::WithoutTls(reason.clone()),
            Phase::Opening => End::Refused(reason.clone()),
            Phase::Leaving if matches!(self.due.front(), None | Some((Due::Quit, _))) => End::Done,
            _ => End::Broken(reason.clone()),
        };
        // The peer answered, or owes us an answer, about the first in flight: that was an attempt.
        if self.flight.front().is_some_and(|front| front.next != Next::Mail) {
            self.settle(&Outcome::TryLater(reason.clone()), steps);
        }
        self.give_back(steps);
        self.close(end, steps);
    }

    /// Whatever is in flight was not tried. The last one first, so that each goes in front of those behind it.
    fn give_back(&mut self, steps: &mut Vec<Step>) {
        let untouched = self
            .flight
            .drain(..)
            .rev()
            .map(|message| Step::GiveBack(message.envelope.message));
        steps.extend(untouched);
    }

    fn close(&mut self, end: End, steps: &mut Vec<Step>) {
        self.phase = Phase::Closed;
        self.due.clear();
        let doubted = self.doubted.take().unwrap_or_default();
        let end = match self.confused.take() {
            // What one message was told another one may have been meant with. Without chunks there is an answer to wait for
            // before each content.
            Some(reason) if !doubted.is_empty() && self.offered.chunking => {
                let untold = doubted.into_iter().rev();
                steps.extend(untold.map(|(message, _)| Step::GiveBack(message)));
                End::WithoutChunks(reason)
            }
            Some(reason) => {
                for (message, mut outcomes) in doubted {
                    for (_, outcome) in &mut outcomes {
                        *outcome = Outcome::TryLater(reason.clone());
                    }
                    steps.push(Step::Settle { message, outcomes });
                }
                match end {
                    End::Done => End::Broken(reason),
                    end => end,
                }
            }
            None => end,
        };
        steps.push(Step::Close(end));
    }
}

/// Adds to the last of the steps where that is possible, so that what goes together is one buffer.
fn send(octets: &[u8], steps: &mut Vec<Step>) {
    match steps.last_mut() {
        Some(Step::Send(buffer)) => buffer.extend_from_slice(octets),
        _ if octets.is_empty() => {}
        _ => steps.push(Step::Send(octets.to_vec())),
    }
}

mod opening;

#[cfg(test)]
mod tests;
