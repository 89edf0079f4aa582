//! The outbound session against a peer that says anything: every recipient comes back once, and our commands are whole
//! lines, and no login is ever said in the clear.
//!
//! The first octet says which messages are on the list; what follows are the peer's octets. 0xFE ends a read. If the last
//! one ends no line, it says how the peer is to be spoken to.

#![no_main]

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use smtpmta::config::TlsLevel;
use smtpmta::outbound::logins::Login;
use smtpmta::outbound::outcome::{Outcome, Peer, Trouble};
use smtpmta::outbound::security::Security;
use smtpmta::outbound::session::{Input, Session, Step};
use smtpmta::outbound::transaction::{Envelope, Recipient, RecipientKey};
use smtpmta::smtp::path::ReversePath;
use smtpmta::smtp::reply::ReplyParser;
use smtpmta::work_queue::id::MessageId;
use smtpmta_fuzz::reads::reads;

fuzz_target!(|data: &[u8]| {
    let Some((choice, input)) = data.split_first() else {
        return;
    };
    let manner = input.last().filter(|last| **last != b'\n').copied();
    let mut play = Play::new(*choice, manner.unwrap_or_default());
    let mut parser = ReplyParser::new();
    let mut begun = Vec::new();
    for read in reads(input) {
        begun.extend_from_slice(read);
        while let Some(at) = begun.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = begun.drain(..=at).collect();
            match parser.feed(line.strip_suffix(b"\r\n").unwrap_or(&line[..at])) {
                Ok(None) => {}
                Ok(Some(reply)) => play.advance(Input::Reply {
                    reply,
                    more_at_hand: !begun.is_empty(),
                }),
                Err(error) => play.advance(Input::Lost(Trouble::Garbage(error.to_string()))),
            }
            if play.is_closed {
                return;
            }
        }
    }
    play.advance(Input::Lost(Trouble::Closed));
    assert!(play.is_closed, "it goes on without a connection");
});

struct Play {
    session: Session,
    list: VecDeque<Envelope>,
    unsettled: BTreeSet<(MessageId, RecipientKey)>,
    delivered: usize,
    contents: usize,
    /// What may be said of a login, may be heard by all.
    is_plain: bool,
    /// The handshake fails.
    tls_fails: bool,
    unsuitable: bool,
    is_closed: bool,
}

impl Play {
    fn new(choice: u8, manner: u8) -> Play {
        let peer = Peer {
            name: "mx.example.org".to_owned(),
            address: std::net::SocketAddr::from(([192, 0, 2, 1], 25)).into(),
        };
        let list: VecDeque<Envelope> = (0..i64::from(choice & 3) + 1)
            .map(|number| message(number, choice))
            .collect();
        let (_, level) = TlsLevel::WORDS[usize::from(manner.wrapping_add(1)) & 3];
        let login = Login {
            user: "user".to_owned(),
            password: "pencil".to_owned(),
        };
        let security = Security {
            level,
            login: (manner & 4 != 0).then(|| Arc::new(login)),
            tls_failed: manner & 8 != 0,
            chunks_failed: manner & 0xC0 == 0x40,
            nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
        };
        let depth = usize::from(manner >> 6) * 2;
        Play {
            session: Session::new("mta.example.net", peer, security, depth).in_lmtp(manner & 0xC0 == 0xC0),
            is_plain: level != TlsLevel::Never,
            tls_fails: manner & 16 != 0,
            unsuitable: manner & 32 != 0,
            list,
            unsettled: BTreeSet::new(),
            delivered: 0,
            contents: 0,
            is_closed: false,
        }
    }

    fn converted(&self, envelope: Envelope) -> Envelope {
        if !self.session.must_convert(&envelope) {
            return envelope;
        }
        Envelope {
            eight_bit: false,
            binary: false,
            unsuitable: self.unsuitable.then(|| "a signature would break".to_owned()),
            ..envelope
        }
    }

    /// What the handler does, without a socket.
    fn advance(&mut self, input: Input) {
        let mut steps = VecDeque::from(self.session.advance(input));
        while let Some(step) = steps.pop_front() {
            assert!(!self.is_closed, "after the end: {step:?}");
            match step {
                Step::Send(octets) => {
                    let text = String::from_utf8(octets).expect("commands are text");
                    let text = text.strip_suffix("\r\n").expect("commands are whole lines");
                    for line in text.split("\r\n") {
                        assert!(
                            !self.is_plain || !line.starts_with("AUTH"),
                            "a login in the clear"
                        );
                        assert!(!line.contains(char::is_control) && line.len() <= 2046, "{line:?}");
                    }
                }
                Step::SendContent(_) | Step::SendBinary(_) => self.contents += 1,
                Step::BeginTls if self.tls_fails => {
                    let trouble = Trouble::Tls("no".to_owned());
                    steps.extend(self.session.advance(Input::Lost(trouble)));
                }
                Step::BeginTls => {
                    self.is_plain = false;
                    steps.extend(self.session.advance(Input::TlsBegun { verified: true }));
                }
                Step::WantMessage => {
                    let next = self.list.pop_front().map(|envelope| self.converted(envelope));
                    let input = next.map_or(Input::NoMore, Input::Message);
                    if let Input::Message(envelope) = &input {
                        let keys = envelope
                            .recipients
                            .iter()
                            .map(|recipient| (envelope.message, recipient.key));
                        self.unsettled.extend(keys);
                    }
                    steps.extend(self.session.advance(input));
                }
                Step::Settle { message, outcomes } => {
                    for (key, outcome) in outcomes {
                        assert!(
                            self.unsettled.remove(&(message, key)),
                            "{key:?} is settled already"
                        );
                        self.delivered += usize::from(matches!(outcome, Outcome::Delivered(_)));
                    }
                    assert!(
                        !self.unsettled.iter().any(|(of, _)| *of == message),
                        "some are forgotten"
                    );
                    assert!(
                        self.contents > 0 || self.delivered == 0,
                        "delivered without content"
                    );
                }
                Step::GiveBack(message) => {
                    let count = self.unsettled.len();
                    self.unsettled.retain(|(of, _)| *of != message);
                    assert!(self.unsettled.len() < count, "given back already");
                }
                Step::Close(_) => {
                    self.is_closed = true;
                    assert!(self.unsettled.is_empty(), "forgotten: {:?}", self.unsettled);
                }
            }
        }
    }
}

fn message(number: i64, choice: u8) -> Envelope {
    let addresses = [
        "a@example.org",
        "jörg@example.org",
        "\"x y\"@xn--bcher-kva.example",
    ];
    let recipients = addresses.iter().zip(0..).filter(|(address, key)| {
        let wanted = choice >> 2 & 7;
        (wanted == 0 || wanted & (1 << key) != 0) && (choice & 0x20 == 0 || address.is_ascii())
    });
    let recipients = recipients.map(|(address, key)| Recipient {
        key: RecipientKey(key),
        mailbox: address.parse().expect("an address"),
        notify: "SUCCESS,FAILURE".parse().ok().filter(|_| key == 0),
        original: "rfc822;b@example.org".parse().ok().filter(|_| key == 0),
    });
    let mut recipients: Vec<Recipient> = recipients.collect();
    if recipients.is_empty() {
        recipients.push((RecipientKey(9), "z@example.org".parse().expect("an address")).into());
    }
    let from = ReversePath("bob@example.net".parse().ok().filter(|_| choice & 0x40 == 0));
    Envelope {
        eight_bit: choice & 0x20 != 0,
        binary: choice & 0x80 != 0 && number == 1,
        envelope_id: "Q+20Q".parse().ok(),
        ..Envelope::new(MessageId(number), from, recipients, 1000)
    }
}
