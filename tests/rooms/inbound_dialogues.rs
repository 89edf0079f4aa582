//! The golden dialogues of the inbound side, played against the pure session: no socket, no queue, and a
//! handler that is as dull as the real one.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use smtpmta::inbound::recipients::RecipientPolicy;
use smtpmta::inbound::session::{Session, SessionSettings};
use smtpmta::inbound::step::{Input, Step};
use smtpmta::smtp::data::Decoder;
use smtpmta::smtp::line::LineSplitter;
use smtpmta::work_queue::id::MessageId;

use crate::support::dialogue::{Dialogue, Turn, matches};

/// A handler without a socket: what the client sends goes in, what the server says comes out.
struct Handler {
    session: Option<Session>,
    splitter: LineSplitter,
    decoder: Decoder,
    said: Vec<u8>,
    closed: bool,
    next_id: i64,
}

impl Handler {
    fn connected(session: Session) -> Handler {
        let mut handler = Handler {
            session: Some(session),
            splitter: LineSplitter::default(),
            decoder: Decoder::new(),
            said: Vec::new(),
            closed: false,
            next_id: 1,
        };
        handler.give(Input::Connected);
        handler
    }

    /// What arrives in one read.
    fn receive(&mut self, mut input: &[u8]) {
        while !self.closed && !input.is_empty() {
            if self.session.as_ref().unwrap().receives_content() {
                let decoded = self.decoder.decode(input, &mut |_| {});
                input = &input[decoded.consumed..];
                if decoded.finished {
                    let (size, fault) = (self.decoder.size(), self.decoder.fault());
                    self.give(Input::ContentEnd {
                        size,
                        fault,
                        kept: Ok(()),
                    });
                }
            } else {
                let mut splitter = std::mem::take(&mut self.splitter);
                if let Some(line) = splitter.take(&mut input) {
                    self.give(line.into());
                }
                self.splitter = splitter;
            }
        }
    }

    fn give(&mut self, input: Input<'_>) {
        let (session, steps) = self.session.take().unwrap().advance(input);
        self.session = Some(session);
        for step in steps {
            match step {
                Step::Reply(reply) => reply.write_to(&mut self.said, true),
                Step::ReceiveContent => self.decoder = Decoder::new(),
                Step::Store(_) => {
                    self.next_id += 1;
                    self.give(Input::Stored(Ok(MessageId(self.next_id))));
                }
                Step::Discard => {}
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
    let settings = SessionSettings {
        hostname,
        max_message_size: number("max-message-size", 50 * 1024 * 1024),
        max_recipients: usize::try_from(number("max-recipients", 1000)).unwrap(),
        policy: RecipientPolicy::new(&local_domains).unwrap(),
    };
    let may_relay = dialogue.option("relay-from") != Some("none");
    Session::new(Arc::new(settings), IpAddr::V4(Ipv4Addr::LOCALHOST), may_relay)
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
