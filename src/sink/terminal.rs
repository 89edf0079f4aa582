//! What a sink tells on standard output, and the sums of it all.
//!
//! What clients say is shown with its control characters made visible, and cut where it is long.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;

use parking_lot::Mutex;

use super::doubles::{Doubles, Header};
use super::envelope::Envelope;
use super::fault::ALWAYS;
use super::faults::Order;
use super::folder::{Draft, Folder};
use super::settings::Telling;
use super::witness::{Event, Witness};

/// Most octets of a line that are shown.
const LONGEST: usize = 200;
/// Most recipients of a message that are shown.
const MOST_SHOWN: usize = 5;

/// What has come of it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Connections that were accepted.
    pub sessions: u64,
    /// Messages that were taken.
    pub messages: u64,
    /// Messages that came up to their end and were not taken.
    pub refused: u64,
    /// Recipients of those that were taken.
    pub recipients: u64,
    /// Octets of those that were taken.
    pub octets: u64,
    /// Recipients among these who had the message already, by its Message-ID; `None`: nobody has looked.
    pub again: Option<u64>,
}

/// A session, as far as it is of interest.
#[derive(Default)]
struct Session {
    peer: Option<SocketAddr>,
    tls: Option<String>,
    message: Option<Message>,
}

/// A message that is on its way in.
struct Message {
    envelope: Envelope,
    octets: u64,
    draft: Option<io::Result<Draft>>,
    header: Header,
}

#[derive(Default)]
struct State {
    sums: Sums,
    sessions: HashMap<usize, Session>,
    doubles: Doubles,
}

/// The terminal, and the folder for messages, if there is one.
pub struct Terminal {
    telling: Telling,
    folder: Option<Folder>,
    state: Mutex<State>,
}

impl Terminal {
    /// A terminal that tells so much.
    #[must_use]
    pub fn new(telling: Telling, folder: Option<Folder>) -> Terminal {
        Terminal {
            telling,
            folder,
            state: Mutex::default(),
        }
    }

    /// The same, and it looks who gets a message again.
    #[must_use]
    pub fn watching_doubles(self) -> Terminal {
        self.state.lock().sums.again = Some(0);
        self
    }

    /// What has come of it all so far.
    #[must_use]
    pub fn sums(&self) -> Sums {
        self.state.lock().sums
    }

    fn begin(&self, number: usize, envelope: &Envelope) -> Message {
        Message {
            envelope: envelope.clone(),
            octets: 0,
            draft: self.folder.as_ref().map(|folder| folder.begin(number)),
            header: Header::default(),
        }
    }

    /// Sums a message up that is about to be answered; the line for it.
    fn settle(&self, state: &mut State, number: usize, reply: &[u8], accepted: bool) -> String {
        let session = state.sessions.entry(number).or_default();
        let Some(Message {
            envelope,
            octets,
            draft,
            header,
        }) = session.message.take()
        else {
            return String::new();
        };
        let sums = &mut state.sums;
        let mut is_again = false;
        let mut line = if accepted {
            if let Some(again) = &mut sums.again {
                let had_it = state.doubles.note(&header, &envelope);
                *again += had_it;
                is_again = had_it > 0;
            }
            sums.messages += 1;
            sums.recipients += envelope.recipients.len() as u64;
            sums.octets += octets;
            format!("message {}", sums.messages)
        } else {
            sums.refused += 1;
            String::from("no message")
        };
        let _ = write!(line, " (session {number}): <{}> to ", envelope.reverse_path);
        let shown = envelope.recipients.iter().take(MOST_SHOWN);
        line += &shown
            .map(|to| format!("<{}>", to.path))
            .collect::<Vec<_>>()
            .join(", ");
        if envelope.recipients.len() > MOST_SHOWN {
            let _ = write!(line, " and {} more", envelope.recipients.len() - MOST_SHOWN);
        }
        let _ = write!(line, ", {octets} octets: {}", shown_octets(reply));
        if is_again {
            line += "; not for the first time";
        }
        if let Some(draft) = draft.filter(|_| accepted) {
            let envelope = envelope_text(number, session, &envelope, reply);
            if let Err(error) = draft.and_then(|draft| draft.finish(&envelope)) {
                let _ = write!(line, "; it can not be stored: {error}");
            }
        }
        line
    }
}

impl Witness for Terminal {
    fn note(&self, number: usize, event: &Event<'_>) {
        let is_told = matches!(
            event,
            Event::Heard(_)
                | Event::Says(_)
                | Event::Misbehaves(_)
                | Event::Stalls(_)
                | Event::NotEncrypted(_)
        );
        if is_told && self.telling != Telling::Dialogue {
            return;
        }
        let mut state = self.state.lock();
        let looks_for_doubles = state.sums.again.is_some();
        let mut lines = Vec::new();
        match event {
            Event::Opened(peer) => {
                state.sums.sessions += 1;
                state.sessions.entry(number).or_default().peer = Some(*peer);
                lines.push(format!("{number} {peer} has called"));
            }
            Event::Encrypted(facts) => {
                let tls = format!("{} {}", facts.version, facts.cipher);
                lines.push(format!("{number} {tls}"));
                state.sessions.entry(number).or_default().tls = Some(tls);
            }
            Event::NotEncrypted(why) => lines.push(format!("{number} {why}")),
            Event::Heard(line) => lines.push(format!("{number} C: {}", shown_octets(line))),
            Event::Says(reply) => {
                lines.extend(
                    reply
                        .split_inclusive(|octet| *octet == b'\n')
                        .map(|line| format!("{number} S: {}", shown_octets(line))),
                );
            }
            Event::Begins(envelope) => {
                let session = state.sessions.entry(number).or_default();
                // One that RSET has ended leaves its place in the folder to this one.
                session.message = None;
                session.message = Some(self.begin(number, envelope));
            }
            Event::Piece(piece) => {
                let message = state.sessions.entry(number).or_default().message.as_mut();
                if let Some(message) = message {
                    message.octets += piece.len() as u64;
                    if looks_for_doubles {
                        message.header.feed(piece);
                    }
                    if let Some(Ok(draft)) = &mut message.draft
                        && let Err(error) = draft.write(piece)
                    {
                        message.draft = Some(Err(error));
                    }
                }
            }
            Event::Arrived => {
                let session = state.sessions.entry(number).or_default();
                let octets = session.message.as_ref().map_or(0, |message| message.octets);
                lines.push(format!("{number} C: ({octets} octets of content)"));
            }
            Event::Delivers { recipient, accepted } => {
                let session = state.sessions.entry(number).or_default();
                if let Some(message) = session.message.as_mut().filter(|_| !accepted) {
                    message.envelope.recipients.retain(|to| to.path != *recipient);
                }
            }
            Event::Settles { reply, accepted } => {
                let line = self.settle(&mut state, number, reply, *accepted);
                if self.telling != Telling::Quiet && !line.is_empty() {
                    tell(&[line]);
                }
            }
            Event::Misbehaves(stage) => lines.push(format!("{number} to order, at {stage}:")),
            Event::Stalls(_) => lines.push(format!("{number} silence")),
            Event::Ended => {
                state.sessions.remove(&number);
                lines.push(format!("{number} is over"));
            }
            Event::Waits | Event::GoesOn => {}
        }
        if self.telling == Telling::Dialogue {
            tell(&lines);
        }
    }
}

/// What stands in the file beside a message.
fn envelope_text(number: usize, session: &Session, envelope: &Envelope, reply: &[u8]) -> String {
    let with = |path: &str, parameters: &str| format!("<{path}> {parameters}").trim_end().to_owned();
    let mut text = format!("session {number}\n");
    if let Some(peer) = session.peer {
        let _ = writeln!(text, "client {peer}");
    }
    if let Some(tls) = &session.tls {
        let _ = writeln!(text, "tls {tls}");
    }
    let _ = writeln!(
        text,
        "from {}",
        with(&envelope.reverse_path, &envelope.parameters)
    );
    for to in &envelope.recipients {
        let _ = writeln!(text, "to {}", with(&to.path, &to.parameters));
    }
    let _ = writeln!(text, "reply {}", shown_octets(reply));
    text
}

/// On one line, with control characters made visible.
fn shown_octets(octets: &[u8]) -> String {
    let whole = String::from_utf8_lossy(octets);
    let text = whole.trim_end_matches(['\r', '\n']);
    let mut shown = String::new();
    for sign in text.chars() {
        if shown.len() >= LONGEST {
            shown.push('…');
            break;
        }
        if sign.is_control() {
            shown.extend(sign.escape_default());
        } else {
            shown.push(sign);
        }
    }
    shown
}

/// What is said at the end.
#[must_use]
pub fn summary(sums: Sums, orders: &[Order]) -> Vec<String> {
    let Sums {
        sessions,
        messages,
        refused,
        recipients,
        octets,
        again,
    } = sums;
    let not = if refused > 0 {
        format!(", {refused} not taken")
    } else {
        String::new()
    };
    let mut lines = vec![format!(
        "{sessions} sessions, {messages} messages, {recipients} recipients, {octets} octets{not}"
    )];
    lines.extend(again.map(|again| format!("{again} recipients had the message already, by its Message-ID")));
    lines.extend(orders.iter().map(|order| {
        let Order { fault, met, done } = order;
        format!("to order: {fault}: {done} of {met} times")
    }));
    lines
}

/// Whether lots are drawn at all, so that the seed is of interest.
#[must_use]
pub fn draws_lots(orders: &[Order]) -> bool {
    orders.iter().any(|order| order.fault.share < ALWAYS)
}

/// Prints lines. Somebody who reads only the first ones is no error.
pub fn tell(lines: &[String]) {
    let mut out = io::stdout().lock();
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::envelope::Recipient;

    #[test]
    fn what_a_client_says_is_shown_on_one_line_and_bounded() {
        assert_eq!(shown_octets(b"EHLO a\x1b[2J\r\n"), "EHLO a\\u{1b}[2J");
        assert!(shown_octets(&[b'x'; 10_000]).chars().count() <= LONGEST + 1);
    }

    #[test]
    fn a_message_that_is_begun_anew_is_stored_and_so_is_what_comes_behind_one_that_can_not_be() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let terminal = Terminal::new(Telling::Quiet, Some(folder));
        let envelope = Envelope::default();
        let settle = || {
            let reply = b"250 OK\r\n";
            terminal.note(
                0,
                &Event::Settles {
                    reply,
                    accepted: true,
                },
            );
        };
        // RSET came behind the first chunk.
        terminal.note(0, &Event::Begins(&envelope));
        terminal.note(0, &Event::Piece(b"never"));
        terminal.note(0, &Event::Begins(&envelope));
        terminal.note(0, &Event::Piece(b"first"));
        settle();
        terminal.note(0, &Event::Begins(&envelope));
        std::fs::remove_file(place.path().join(".session-0.partial")).unwrap();
        settle();
        terminal.note(0, &Event::Begins(&envelope));
        terminal.note(0, &Event::Piece(b"second"));
        settle();
        let stored = |name| std::fs::read(place.path().join(name)).unwrap_or_default();
        assert_eq!(
            (stored("1.eml"), stored("2.eml")),
            (b"first".to_vec(), b"second".to_vec())
        );
    }

    #[test]
    fn what_was_taken_and_what_was_not_is_summed_up() {
        let terminal = Terminal::new(Telling::Quiet, None);
        let envelope = Envelope {
            recipients: vec![Recipient::default(), Recipient::default()],
            ..Envelope::default()
        };
        terminal.note(0, &Event::Opened("127.0.0.1:1".parse().unwrap()));
        for accepted in [true, false] {
            terminal.note(0, &Event::Begins(&envelope));
            terminal.note(0, &Event::Piece(b"12345"));
            let reply = b"250 OK\r\n";
            terminal.note(0, &Event::Settles { reply, accepted });
        }
        // One that never came to its end.
        terminal.note(0, &Event::Begins(&envelope));
        terminal.note(0, &Event::Ended);
        let lines = summary(terminal.sums(), &[]);
        assert_eq!(
            lines,
            ["1 sessions, 1 messages, 2 recipients, 5 octets, 1 not taken"]
        );
        assert!(terminal.state.lock().sessions.is_empty());
    }
}
