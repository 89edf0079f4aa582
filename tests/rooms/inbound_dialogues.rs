//! The golden dialogues of the inbound side, played against the pure session: no socket, no queue, and a
//! handler that is as dull as the real one.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use smtpmta::accounts::Accounts;
use smtpmta::aliases::Aliases;
use smtpmta::inbound::front::Front;
use smtpmta::inbound::header::HeaderWatch;
use smtpmta::inbound::recipients::RecipientPolicy;
use smtpmta::inbound::session::{Client, Session, SessionSettings};
use smtpmta::inbound::step::{ContentEnd, Input, Step};
use smtpmta::mailbox::directory::Directory;
use smtpmta::smtp::data::{ChunkChecker, Decoder};
use smtpmta::smtp::line::{Line, LineSplitter};
use smtpmta::work_queue::id::MessageId;

use crate::support::dialogue::{Dialogue, Turn, matches, unescaped};

/// A handler without a socket: what the client sends goes in, what the server says comes out.
struct Handler {
    session: Option<Session>,
    splitter: LineSplitter,
    receiving: Receiving,
    chunks: Option<ChunkChecker>,
    header: HeaderWatch,
    said: Vec<u8>,
    closed: bool,
    next_id: i64,
}

/// What the next octets are.
enum Receiving {
    Lines,
    Dotted(Decoder),
    Chunk(u64),
    Skipped(u64),
}

impl Handler {
    fn connected(session: Session) -> Handler {
        let mut handler = Handler {
            session: Some(session),
            splitter: LineSplitter::default(),
            receiving: Receiving::Lines,
            chunks: None,
            header: HeaderWatch::relay(),
            said: Vec::new(),
            closed: false,
            next_id: 1,
        };
        handler.give(Input::Connected(&[]));
        handler
    }

    /// What arrives in one read.
    fn receive(&mut self, mut input: &[u8]) {
        while !self.closed && !input.is_empty() {
            match &mut self.receiving {
                Receiving::Dotted(decoder) => {
                    let header = &mut self.header;
                    let decoded = decoder.decode(input, &mut |piece| header.feed(piece, &mut |_| {}));
                    input = &input[decoded.consumed..];
                    if decoded.finished {
                        let (size, fault) = (decoder.size(), decoder.fault());
                        self.end_content(size, fault);
                    }
                }
                Receiving::Chunk(left) => {
                    let (piece, rest) = input.split_at(input.len().min(usize::try_from(*left).unwrap()));
                    self.chunks.as_mut().unwrap().check(piece);
                    self.header.feed(piece, &mut |_| {});
                    let left = *left - piece.len() as u64;
                    input = rest;
                    self.await_chunk(left);
                }
                Receiving::Skipped(left) => {
                    let (piece, rest) = input.split_at(input.len().min(usize::try_from(*left).unwrap()));
                    let left = *left - piece.len() as u64;
                    input = rest;
                    self.await_skipped(left);
                }
                Receiving::Lines => {
                    let mut splitter = std::mem::take(&mut self.splitter);
                    if let Some(line) = splitter.take(&mut input) {
                        self.give(match line {
                            Line::Bad(fault) => Input::BadLine(fault),
                            Line::Whole(line) => Input::Line {
                                line,
                                followed: !input.is_empty(),
                            },
                        });
                    }
                    self.splitter = splitter;
                }
            }
        }
    }

    fn end_content(&mut self, size: u64, fault: Option<smtpmta::smtp::data::ContentFault>) {
        self.receiving = Receiving::Lines;
        self.give(Input::Content(ContentEnd {
            size,
            fault,
            hops: self.header.received_fields(),
            kept: Ok(()),
        }));
    }

    fn await_chunk(&mut self, left: u64) {
        self.receiving = Receiving::Chunk(left);
        if left == 0 {
            let checker = self.chunks.as_mut().unwrap();
            let is_last = self.session.as_ref().unwrap().receives_last();
            let fault = if is_last {
                checker.fault_at_end()
            } else {
                checker.fault()
            };
            let size = checker.size();
            self.end_content(size, fault);
        }
    }

    fn await_skipped(&mut self, left: u64) {
        self.receiving = Receiving::Skipped(left);
        if left == 0 {
            self.receiving = Receiving::Lines;
            self.give(Input::Skipped);
        }
    }

    fn give(&mut self, input: Input<'_>) {
        let (session, steps) = self.session.take().unwrap().advance(input);
        let binary = session.receives_binary();
        self.session = Some(session);
        for step in steps {
            match step {
                Step::Reply(reply) => reply.write_to(&mut self.said, true),
                Step::ReceiveContent => {
                    self.header = HeaderWatch::relay();
                    self.receiving = Receiving::Dotted(Decoder::new());
                }
                Step::ReceiveChunk(size) => {
                    if self.chunks.is_none() {
                        self.header = HeaderWatch::relay();
                        self.chunks = Some(if binary {
                            ChunkChecker::binary()
                        } else {
                            ChunkChecker::text()
                        });
                    }
                    self.await_chunk(size);
                }
                Step::Skip(size) => self.await_skipped(size),
                Step::Store(_) => {
                    self.chunks = None;
                    self.next_id += 1;
                    self.give(Input::Stored(Ok(MessageId(self.next_id))));
                }
                Step::Discard => self.chunks = None,
                Step::Pause(_) => {}
                Step::StartTls | Step::Check(_) => panic!("no TLS in golden dialogues: {step:?}"),
                Step::Close => self.closed = true,
            }
        }
    }
}

fn session_for(dialogue: &Dialogue) -> Session {
    let values = |name: &str| {
        let given = dialogue.options.iter().filter(|(option, _)| option == name);
        given.map(|(_, value)| value.clone()).collect::<Vec<String>>()
    };
    for (option, _) in &dialogue.options {
        let known = [
            "hostname",
            "local-domain",
            "max-recipients",
            "max-message-size",
            "max-hops",
            "accounts",
            "relay-from",
        ];
        assert!(
            known.contains(&option.as_str()),
            "{}: option {option}",
            dialogue.name
        );
    }
    let number = |name, default| {
        dialogue
            .option(name)
            .map_or(default, |value| value.parse().unwrap())
    };
    let hostname = dialogue
        .option("hostname")
        .expect("a transcript names its hostname")
        .to_owned();
    let mut local_domains = values("local-domain");
    if local_domains.is_empty() {
        local_domains.push(hostname.clone());
    }
    let accounts = dialogue.option("accounts").map(|text| {
        let text = unescaped(text).unwrap();
        Arc::new(Accounts::parse(&text, "accounts", &local_domains[0]).unwrap())
    });
    let settings = SessionSettings {
        hostname,
        max_message_size: number("max-message-size", 50 * 1024 * 1024),
        max_recipients: usize::try_from(number("max-recipients", 1000)).unwrap(),
        max_hops: usize::try_from(number("max-hops", 100)).unwrap(),
        policy: RecipientPolicy::new(Arc::new(Directory {
            local_domains,
            accounts: accounts.clone(),
            aliases: Aliases::default(),
        }))
        .unwrap(),
        accounts,
        offers_tls: false,
        any_sender: false,
    };
    let may_relay = dialogue.option("relay-from") != Some("none");
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = Client {
        address: localhost,
        called: localhost,
        front: Front::Relay,
        may_relay,
    };
    Session::new(Arc::new(settings), client)
}

/// Plays a transcript; every write of the client arrives in pieces of at most `step` octets.
fn play(dialogue: &Dialogue, step: usize) -> Result<(), String> {
    let mut handler = Handler::connected(session_for(dialogue));
    let mut said: VecDeque<String> = VecDeque::new();
    let mut turns = dialogue.turns.iter().peekable();
    while let Some(turn) = turns.next() {
        let text = String::from_utf8(std::mem::take(&mut handler.said)).map_err(|error| error.to_string())?;
        said.extend(text.split_terminator("\r\n").map(str::to_owned));
        match turn {
            Turn::Send(_) if !said.is_empty() => return Err(format!("not expected: {said:?}")),
            Turn::Send(octets) => octets.chunks(step).for_each(|piece| handler.receive(piece)),
            Turn::Expect(expected) => match said.pop_front() {
                Some(got) if matches(expected, &got) => {}
                got => return Err(format!("expected {expected:?}, got {got:?}")),
            },
            Turn::Closed if handler.closed && said.is_empty() => {}
            Turn::Closed => return Err(format!("not closed, {said:?}")),
        }
        if turns.peek().is_none() && !(said.is_empty() && handler.said.is_empty()) {
            return Err(format!("not expected at the end: {said:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_pure_session_keeps_to_every_golden_dialogue() {
    let dialogues = Dialogue::all("inbound");
    assert!(dialogues.len() >= 15);
    let mut failures = Vec::new();
    for dialogue in &dialogues {
        for step in [usize::MAX, 7, 1] {
            if let Err(failure) = play(dialogue, step) {
                failures.push(format!("{} in pieces of {step}: {failure}", dialogue.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
