//! A rehearsal: a dialogue as a session handler would have it, without a connection and without a queue. For
//! `smtpmta session`, and for the golden dialogues of the tests.
//!
//! Its loop is that of the handler. TLS is only acted, pauses are not waited for, and a message is thrown away when its
//! last octet has been judged. Never waits for anybody, but for a password to be looked at.

use std::fmt;
use std::sync::Arc;

use super::handler::{LONGEST_LINE, Receiving, first, is_text};
use super::header::HeaderWatch;
use super::incoming::{Body, Incoming};
use super::reception::Reception;
use super::session::{Client, Session};
use super::step::{Envelope, Input, Secured, Step};
use crate::sasl::{Check, Progress};
use crate::smtp::data::{ChunkChecker, Decoder};
use crate::smtp::line::{Line, LineSplitter};
use crate::tls::handshake::TlsFacts;
use crate::work_queue::id::MessageId;

/// The ID of every message of a rehearsal: no message has it.
const NOBODY: MessageId = MessageId(0);

/// See the top.
#[derive(Debug)]
pub struct Rehearsal {
    /// Always there, save while it advances.
    session: Option<Session>,
    /// The channel binding of our certificate.
    end_point: Option<Vec<u8>>,
    splitter: LineSplitter,
    receiving: Receiving,
    incoming: Option<Box<Incoming>>,
    /// Octets of the message or chunk that came last.
    size: u64,
    said: Vec<u8>,
    notes: Vec<Note>,
    wants_tls: bool,
    has_spoken: bool,
}

/// What is not said to the client, and good to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// From here on it is as if TLS were spoken.
    TlsIsActed,
    /// Somebody has tried to log in.
    Login {
        /// As the client gave it.
        name: String,
        /// With success.
        is_right: bool,
    },
    /// A message has been taken, and thrown away.
    ThrownAway {
        /// The reverse path, without angle brackets.
        from: String,
        /// For so many.
        recipients: usize,
        /// Octets.
        size: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::TlsIsActed => {
                f.write_str("TLS is only acted: what follows is taken as if it were said in TLS 1.3")
            }
            Note::Login { name, is_right: true } => write!(f, "login of {name:?}"),
            Note::Login { name, .. } => write!(f, "login of {name:?} failed"),
            Note::ThrownAway {
                from,
                recipients,
                size,
            } => write!(
                f,
                "a message of {size} octets from <{from}> to {recipients} would be stored; it is thrown away, \
                 and nothing is queued"
            ),
        }
    }
}

impl Rehearsal {
    /// A session with a client that has just called, and its first words.
    #[must_use]
    pub fn begin(reception: &Reception, client: Client) -> Rehearsal {
        let identity = reception.identity.as_ref();
        let end_point = identity.and_then(|identity| identity.server_end_point());
        let mut rehearsal = Rehearsal {
            session: Some(Session::new(Arc::clone(&reception.settings), client)),
            end_point: end_point.map(<[u8]>::to_vec),
            splitter: LineSplitter::new(LONGEST_LINE),
            receiving: Receiving::Lines,
            incoming: None,
            size: 0,
            said: Vec::new(),
            notes: Vec::new(),
            wants_tls: false,
            has_spoken: false,
        };
        if client.front.begins_with_tls() {
            rehearsal.act_tls();
        }
        rehearsal.give(Input::Connected(&[]));
        rehearsal
    }

    /// Whether the dialogue is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.session.as_ref().is_none_or(Session::is_closed)
    }

    /// What has been said to the client since this was asked last.
    pub fn take_said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }

    /// What is to be noted since this was asked last.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Takes in what the client says in one go. What comes with STARTTLS was said before it, and is dropped.
    pub fn hear(&mut self, octets: &[u8]) {
        let mut input = octets;
        while !input.is_empty() && !self.wants_tls && !self.is_over() {
            match self.receiving {
                Receiving::Lines => self.take_line(&mut input),
                Receiving::Dotted => {
                    let incoming = self.incoming.as_mut();
                    if incoming.is_none_or(|incoming| incoming.take_dotted(&mut input)) {
                        self.end_content(true);
                    }
                }
                Receiving::Chunk(left) => {
                    let piece = first(&mut input, left);
                    if let Some(incoming) = &mut self.incoming {
                        incoming.take_chunk(piece);
                    }
                    self.await_chunk(left - piece.len() as u64);
                }
                Receiving::Skipped(left) => {
                    let piece = first(&mut input, left);
                    self.await_skipped(left - piece.len() as u64);
                }
            }
        }
        if std::mem::take(&mut self.wants_tls) {
            self.splitter = LineSplitter::new(LONGEST_LINE);
            self.act_tls();
        }
    }

    fn take_line(&mut self, input: &mut &[u8]) {
        let is_first = !std::mem::replace(&mut self.has_spoken, true);
        if is_first && input.first().is_some_and(|octet| !is_text(*octet)) {
            return self.give(Input::NotSmtp);
        }
        let mut splitter = std::mem::take(&mut self.splitter);
        match splitter.take(input) {
            None => {}
            Some(Line::Bad(fault)) => self.give(Input::BadLine(fault)),
            Some(Line::Whole(line)) => {
                let followed = !input.is_empty();
                self.give(Input::Line { line, followed });
            }
        }
        self.splitter = splitter;
    }

    fn await_chunk(&mut self, left: u64) {
        self.receiving = Receiving::Chunk(left);
        if left == 0 {
            let is_last = self.session.as_ref().is_some_and(Session::receives_last);
            self.end_content(is_last);
        }
    }

    fn await_skipped(&mut self, left: u64) {
        self.receiving = Receiving::Skipped(left);
        if left == 0 {
            self.receiving = Receiving::Lines;
            self.give(Input::Skipped);
        }
    }

    fn end_content(&mut self, is_last: bool) {
        self.receiving = Receiving::Lines;
        if let Some(incoming) = &mut self.incoming {
            let end = incoming.end(is_last);
            self.size = end.size;
            self.give(Input::Content(end));
        }
    }

    /// Tells the session, and does what it says to that.
    fn give(&mut self, input: Input<'_>) {
        let Some(session) = self.session.take() else {
            return;
        };
        let (session, steps) = session.advance(input);
        self.session = Some(session);
        for step in steps {
            self.obey(step);
        }
    }

    fn obey(&mut self, step: Step) {
        match step {
            Step::Reply(reply) => reply.write_to(&mut self.said, true),
            // Nobody is kept waiting here, and the session says itself that it is closed.
            Step::Pause(_) | Step::Close => {}
            Step::ReceiveContent => {
                self.expect(Body::Dotted(Decoder::new()));
                self.receiving = Receiving::Dotted;
            }
            Step::ReceiveChunk(size) => {
                if self.incoming.is_none() {
                    let is_binary = self.session.as_ref().is_some_and(Session::receives_binary);
                    self.expect(Body::Chunks(match is_binary {
                        true => ChunkChecker::binary(),
                        false => ChunkChecker::text(),
                    }));
                }
                self.await_chunk(size);
            }
            Step::Skip(size) => self.await_skipped(size),
            Step::Discard => self.incoming = None,
            Step::Store(envelope) => self.throw_away(&envelope),
            Step::StartTls => self.wants_tls = true,
            Step::Check(check) => self.check(*check),
        }
    }

    fn expect(&mut self, body: Body) {
        let most = self.session.as_ref().map_or(0, Session::max_message_size);
        self.incoming = Some(Box::new(Incoming::unkept(
            NOBODY,
            body,
            HeaderWatch::relay(),
            most,
        )));
    }

    fn throw_away(&mut self, envelope: &Envelope) {
        self.incoming = None;
        self.notes.push(Note::ThrownAway {
            from: envelope.reverse_path.to_string(),
            recipients: envelope.recipients.len(),
            size: self.size,
        });
        self.give(Input::Stored(Ok(NOBODY)));
    }

    fn check(&mut self, check: Check) {
        let name = check.name().to_owned();
        let progress = check.run();
        let is_right = matches!(progress, Progress::Done(_) | Progress::Challenge(..));
        self.notes.push(Note::Login { name, is_right });
        self.give(Input::Checked(Box::new(progress)));
    }

    /// As after a handshake. What a client could bind a login to is there, so that the same is offered.
    fn act_tls(&mut self) {
        let mut entropy = [0; 32];
        aws_lc_rs::rand::fill(&mut entropy).expect("the system has random octets");
        let facts = TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            exporter: Some([0; 32]),
            server_end_point: self.end_point.clone(),
            server_name: None,
        };
        self.notes.push(Note::TlsIsActed);
        self.give(Input::TlsStarted(Box::new(Secured { facts, entropy })));
    }
}
