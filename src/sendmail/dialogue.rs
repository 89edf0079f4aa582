//! `sendmail -bs`: the dialogue of an inbound session, on standard input and output. What it brings is left in the
//! maildrop, so that no MTA has to run, and no ID is known yet.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{Failure, directory};
use crate::config::Config;
use crate::config::exit::Exit;
use crate::inbound::front::Front;
use crate::inbound::handler::{Receiving, first};
use crate::inbound::header::HeaderWatch;
use crate::inbound::recipients::RecipientPolicy;
use crate::inbound::replies;
use crate::inbound::session::{Client, Session, SessionSettings};
use crate::inbound::step::{ContentEnd, Envelope, Input, Step, StoreRefusal};
use crate::maildrop::{Draft, Slip};
use crate::smtp::data::{ChunkChecker, ContentFault, Decoder};
use crate::smtp::line::{Line, LineSplitter};
use crate::work_queue::id::MessageId;

/// Octets that are read at once.
const READ: usize = 16 * 1024;

/// Speaks SMTP with whoever calls, until one of the two has said enough.
pub(super) fn run(config: &Config, input: &mut impl Read, output: &mut impl Write) -> Result<Exit, Failure> {
    let policy = RecipientPolicy::new(Arc::new(directory(config)))
        .map_err(|wrong| Failure::new(Exit::Configuration, format!("local-domain: {wrong}")))?;
    let settings = SessionSettings {
        hostname: config.hostname.clone(),
        max_message_size: config.max_message_size,
        max_recipients: config.max_recipients,
        max_hops: config.max_hops,
        policy,
        accounts: None,
        offers_tls: false,
        any_sender: true,
    };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = Client {
        address: here,
        called: here,
        front: Front::Relay,
        may_relay: true,
    };
    let mut dialogue = Dialogue {
        config,
        session: Some(Session::new(Arc::new(settings), client)),
        splitter: LineSplitter::default(),
        receiving: Receiving::Lines,
        incoming: None,
        out: Vec::new(),
    };
    dialogue.give(Input::Connected(&[]));
    let broken = |error: io::Error| Failure::new(Exit::Unreadable, error.to_string());
    let mut buffer = vec![0; READ];
    loop {
        output.write_all(&dialogue.out).map_err(broken)?;
        output.flush().map_err(broken)?;
        dialogue.out.clear();
        if dialogue.is_closed() {
            return Ok(Exit::Done);
        }
        match input.read(&mut buffer) {
            Ok(0) => return Ok(Exit::Done),
            Ok(octets) => dialogue.take(&buffer[..octets]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

/// A session without a socket.
struct Dialogue<'c> {
    config: &'c Config,
    /// Always there, save while it advances.
    session: Option<Session>,
    splitter: LineSplitter,
    receiving: Receiving,
    incoming: Option<Incoming>,
    /// What is to be said.
    out: Vec<u8>,
}

/// The message that is coming in.
struct Incoming {
    body: Body,
    header: HeaderWatch,
    /// None when it is of no use any more.
    draft: Option<Draft>,
    kept: Result<(), StoreRefusal>,
    size: u64,
    most: u64,
}

/// How its octets come.
enum Body {
    Dotted(Decoder),
    Chunks(ChunkChecker),
}

impl Incoming {
    fn keep(&mut self, piece: &[u8]) {
        self.size += piece.len() as u64;
        self.header.feed(piece, &mut |_| {});
        if self.size > self.most {
            self.draft = None;
        }
        if let (Some(draft), Ok(())) = (&mut self.draft, self.kept) {
            self.kept = draft.write(piece).map_err(|error| refusal(&error));
        }
    }

    /// Takes octets after DATA off `input`; whether the message has come to its end.
    fn take_dotted(&mut self, input: &mut &[u8]) -> bool {
        let Body::Dotted(mut decoder) = std::mem::replace(&mut self.body, Body::Dotted(Decoder::new()))
        else {
            return true;
        };
        let decoded = decoder.decode(input, &mut |piece| self.keep(piece));
        self.body = Body::Dotted(decoder);
        *input = &input[decoded.consumed..];
        decoded.finished
    }

    fn take_chunk(&mut self, octets: &[u8]) {
        if let Body::Chunks(checker) = &mut self.body {
            checker.check(octets);
        }
        self.keep(octets);
    }

    fn fault(&self, is_last: bool) -> Option<ContentFault> {
        match &self.body {
            Body::Dotted(decoder) => decoder.fault(),
            Body::Chunks(checker) if is_last => checker.fault_at_end(),
            Body::Chunks(checker) => checker.fault(),
        }
    }
}

impl Dialogue<'_> {
    fn is_closed(&self) -> bool {
        self.session.as_ref().is_none_or(Session::is_closed)
    }

    /// Takes in what was read.
    fn take(&mut self, octets: &[u8]) {
        let mut input = octets;
        while !input.is_empty() && !self.is_closed() {
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
    }

    fn take_line(&mut self, input: &mut &[u8]) {
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
        let Some(incoming) = &self.incoming else { return };
        let end = ContentEnd {
            size: incoming.size,
            fault: incoming.fault(is_last),
            hops: incoming.header.received_fields(),
            kept: incoming.kept,
        };
        self.give(Input::Content(end));
    }

    /// Tells the session, and does what it says to that.
    fn give(&mut self, input: Input<'_>) {
        let is_left = matches!(input, Input::Stored(Ok(_)));
        let Some(session) = self.session.take() else {
            return;
        };
        let (session, steps) = session.advance(input);
        self.session = Some(session);
        for step in steps {
            match step {
                // It has no ID before an MTA takes it in.
                Step::Reply(reply) if is_left => {
                    let mut told = replies::stored(None);
                    told.enhanced = reply.enhanced;
                    told.write_to(&mut self.out, true);
                }
                Step::Reply(reply) => reply.write_to(&mut self.out, true),
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
                Step::Store(envelope) => {
                    let stored = self.leave(*envelope);
                    self.give(Input::Stored(stored));
                }
                Step::Discard => self.incoming = None,
                // Neither is offered; nobody else waits, and the end is seen by whoever reads.
                Step::StartTls | Step::Check(_) | Step::Pause(_) | Step::Close => {}
            }
        }
    }

    fn expect(&mut self, body: Body) {
        let begun = Draft::begin(&self.config.spool);
        let kept = begun.as_ref().map(drop).map_err(refusal);
        self.incoming = Some(Incoming {
            body,
            header: HeaderWatch::relay(),
            draft: begun.ok(),
            kept,
            size: 0,
            most: self.config.max_message_size,
        });
    }

    fn leave(&mut self, envelope: Envelope) -> Result<MessageId, StoreRefusal> {
        let incoming = self.incoming.take().ok_or(StoreRefusal::QueueTrouble)?;
        let wants_message_id = !incoming.header.has_message_id();
        let draft = incoming.draft.ok_or(StoreRefusal::QueueTrouble)?;
        let slip = Slip {
            from: envelope.reverse_path,
            to: envelope.recipients,
            ret: envelope.ret,
            envelope_id: envelope.envelope_id,
            body: envelope.body,
            wants_message_id,
        };
        draft.leave(&slip).map_err(|error| refusal(&error))?;
        Ok(MessageId::default())
    }
}

/// What the client hears of `error`.
fn refusal(error: &io::Error) -> StoreRefusal {
    match error.kind() {
        io::ErrorKind::StorageFull => StoreRefusal::OutOfSpace,
        _ => StoreRefusal::QueueTrouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_goes_as_that_of_a_session_and_leaves_nothing_where_nothing_can_be_left() {
        let config = Config {
            spool: "/nonexistent".into(),
            ..Config::embedded("mx.a.example")
        };
        let said = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
        let mut output = Vec::new();
        let mut client = said.as_bytes();
        run(&config, &mut client, &mut output).unwrap();
        let heard = String::from_utf8(output).unwrap();
        assert!(heard.starts_with("220 mx.a.example ESMTP"), "{heard}");
        assert!(
            heard.ends_with("354 Enter Mail, end by a line with only '.'\r\n"),
            "{heard}"
        );
        assert!(!heard.contains("STARTTLS") && !heard.contains("AUTH"), "{heard}");
    }
}
