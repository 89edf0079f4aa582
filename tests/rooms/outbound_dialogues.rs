//! Golden transcripts of the outbound session: what a peer says, what we say, and what becomes of the mail.
//!
//! Each `tests/dialogues/outbound/*.txt` is played against the pure session; what the session does must be
//! what the file shows. `UPDATE_EXPECT=1 cargo test` writes it down anew, to be read before it is committed.
//!
//! | line | what it is |
//! |---|---|
//! | `# …` | a remark |
//! | `@ tls=must login=user:password depth=10 failed no-chunks lmtp` | what holds for the peer, if not the usual; first of all |
//! | `> 1 from=<a@b> size=812 8bit 11=<c@d> 12=<e@f>` | a message of the list, offered when it is wanted |
//! | `> 1 … binary utf8 envid=Q ret=FULL 11=<c@d>;notify=N;orcpt=O` | all else that may be said of one |
//! | `> 1 … unsuitable` | it cannot be converted |
//! | `S: …` | a line of the peer |
//! | `S+ …` | a line of the peer that came together with the one before |
//! | `! lost`, `! timeout`, `! unreadable`, `! stop` | the connection, the peer, the content, the operator |
//! | `! tls`, `! no tls` | the handshake that we began, done or failed |
//! | `C: …` | a line of ours; those without an `S:` between them go in one write |
//! | `= 11 delivered …` | what became of a recipient |
//! | `= message 1 given back` | not tried |
//! | `= message 1 to be converted` | the peer does not take it as it is |
//! | `= done`, `= refused …`, `= broken …` | how the session ended |

#![allow(clippy::unwrap_used)] // a broken test fails

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smtpmta::config::TlsLevel;
use smtpmta::outbound::logins::Login;
use smtpmta::outbound::outcome::{Outcome, Peer, Reason, Trouble};
use smtpmta::outbound::security::Security;
use smtpmta::outbound::session::{End, Input, Session, Step};
use smtpmta::outbound::transaction::{Envelope, Recipient, RecipientKey};
use smtpmta::smtp::path::{Mailbox, ReversePath};
use smtpmta::smtp::reply::ReplyParser;
use smtpmta::work_queue::id::MessageId;

#[test]
fn every_outbound_dialogue_goes_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues/outbound");
    let mut files: Vec<PathBuf> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no dialogues in {}", folder.display());
    for path in files {
        let written = std::fs::read_to_string(&path).unwrap();
        let played = play(&written, &path.display().to_string());
        expect_test::expect_file![path].assert_eq(&played);
    }
}

/// Plays the peer's side of `script`; gives the whole dialogue.
fn play(script: &str, name: &str) -> String {
    let mut play = Play::new();
    let mut parser = ReplyParser::new();
    let mut lines = script
        .lines()
        .filter(|line| !line.starts_with("C: ") && !line.starts_with("= "))
        .peekable();
    while let Some(line) = lines.next() {
        play.transcript.push_str(line);
        play.transcript.push('\n');
        let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        match mark {
            "> " => play.list.push_back(envelope(rest)),
            "@ " => play.session = session(rest),
            "S:" | "S+" => {
                let said = rest.strip_prefix(' ').unwrap_or(rest);
                match parser.feed(said.as_bytes()) {
                    Ok(None) => {}
                    Ok(Some(reply)) => {
                        let more_at_hand = lines.peek().is_some_and(|next| next.starts_with("S+"));
                        play.advance(Input::Reply { reply, more_at_hand });
                    }
                    Err(error) => play.advance(Input::Lost(Trouble::Garbage(error.to_string()))),
                }
            }
            "! " => play.advance(match rest {
                "lost" => Input::Lost(Trouble::Closed),
                "timeout" => Input::Lost(Trouble::Timeout),
                "unreadable" => Input::Lost(Trouble::Content("no such file".to_string())),
                "stop" => Input::NoMore,
                "tls" => Input::TlsBegun { verified: false },
                "no tls" => Input::Lost(Trouble::Tls("it does not like ours".to_string())),
                _ => panic!("{name}: what is {line:?}?"),
            }),
            _ => assert!(
                line.is_empty() || line.starts_with('#'),
                "{name}: what is {line:?}?"
            ),
        }
    }
    assert!(
        play.closed,
        "{name}: the session did not end:\n{}",
        play.transcript
    );
    assert!(
        play.unsettled.is_empty(),
        "{name}: unsettled: {:?}",
        play.unsettled
    );
    play.transcript
}

/// `1 from=<a@b> size=812 8bit 11=<c@d> 12=<e@f>;notify=NEVER;orcpt=rfc822;g@h`
fn envelope(line: &str) -> Envelope {
    let path = |text: &str| text.trim_matches(['<', '>']).to_string();
    let mut words = line.split(' ');
    let number = words.next().unwrap().parse().unwrap();
    let nobody: [Recipient; 0] = [];
    let mut envelope = Envelope::new(MessageId(number), ReversePath(None), nobody, 1000);
    for word in words {
        match word.split_once('=') {
            Some(("from", "<>")) => {}
            Some(("from", from)) => {
                envelope.reverse_path = ReversePath(Some(Mailbox::parse(&path(from)).unwrap()));
            }
            Some(("size", size)) => envelope.size = size.parse().unwrap(),
            Some(("envid", id)) => envelope.envelope_id = Some(id.parse().unwrap()),
            Some(("ret", ret)) => envelope.ret = Some(ret.parse().unwrap()),
            Some((key, to)) => {
                let (to, original) = to
                    .split_once(";orcpt=")
                    .map_or((to, None), |(to, o)| (to, Some(o)));
                let (to, notify) = to
                    .split_once(";notify=")
                    .map_or((to, None), |(to, n)| (to, Some(n)));
                envelope.recipients.push(Recipient {
                    key: RecipientKey(key.parse().unwrap()),
                    mailbox: Mailbox::parse(&path(to)).unwrap(),
                    notify: notify.map(|notify| notify.parse().unwrap()),
                    original: original.map(|original| original.parse().unwrap()),
                });
            }
            None => match word {
                "8bit" => envelope.eight_bit = true,
                "binary" => envelope.binary = true,
                "utf8" => envelope.utf8_header = true,
                "unsuitable" => envelope.unsuitable = Some("a signature would break".to_string()),
                _ => panic!("what is {word:?}?"),
            },
        }
    }
    envelope
}

/// `tls=must login=user:password depth=10 failed`
fn session(line: &str) -> Session {
    let peer = Peer {
        name: "mx.example.org".to_string(),
        address: "192.0.2.1:25".parse::<std::net::SocketAddr>().unwrap().into(),
    };
    let mut security = Security {
        nonce: "rOprNGfwEbeRWgbNEkqO".to_string(),
        ..Security::default()
    };
    let mut depth = 2;
    let mut in_lmtp = false;
    for word in line.split_whitespace() {
        match word.split_once('=') {
            Some(("tls", level)) => security.level = TlsLevel::from_word(level).unwrap(),
            Some(("login", login)) => {
                let (user, password) = login.split_once(':').unwrap();
                let (user, password) = (user.to_string(), password.to_string());
                security.login = Some(Arc::new(Login { user, password }));
            }
            Some(("depth", number)) => depth = number.parse().unwrap(),
            None if word == "lmtp" => in_lmtp = true,
            None if word == "failed" => security.tls_failed = true,
            None if word == "no-chunks" => security.chunks_failed = true,
            _ => panic!("what is {word:?}?"),
        }
    }
    Session::new("mta.example.net", peer, security, depth).in_lmtp(in_lmtp)
}

struct Play {
    session: Session,
    list: VecDeque<Envelope>,
    unsettled: BTreeSet<(MessageId, RecipientKey)>,
    transcript: String,
    closed: bool,
}

impl Play {
    fn new() -> Play {
        Play {
            session: session(""),
            list: VecDeque::new(),
            unsettled: BTreeSet::new(),
            transcript: String::new(),
            closed: false,
        }
    }

    fn line(&mut self, line: &str) {
        self.transcript.push_str(line);
        self.transcript.push('\n');
    }

    fn converted(&mut self, envelope: Envelope) -> Envelope {
        if !self.session.must_convert(&envelope) {
            return Envelope {
                unsuitable: None,
                ..envelope
            };
        }
        self.line(&format!("= message {} to be converted", envelope.message.0));
        Envelope {
            eight_bit: false,
            binary: false,
            ..envelope
        }
    }

    /// What the handler does, without a socket.
    fn advance(&mut self, input: Input) {
        let mut steps = VecDeque::from(self.session.advance(input));
        while let Some(step) = steps.pop_front() {
            assert!(
                !self.closed,
                "a step after the end: {step:?}\n{}",
                self.transcript
            );
            match step {
                Step::Send(octets) => {
                    let text = String::from_utf8(octets).unwrap();
                    assert!(text.ends_with("\r\n"), "{text:?}");
                    text.lines().for_each(|line| self.line(&format!("C: {line}")));
                }
                Step::SendContent(message) => {
                    self.line(&format!("C: (content of {} and the dot)", message.0))
                }
                Step::SendBinary(message) => self.line(&format!("C: (content of {} as it is)", message.0)),
                Step::WantMessage => {
                    let next = self.list.pop_front().map(|envelope| self.converted(envelope));
                    let input = next.map_or(Input::NoMore, Input::Message);
                    if let Input::Message(Envelope {
                        message, recipients, ..
                    }) = &input
                    {
                        self.unsettled
                            .extend(recipients.iter().map(|recipient| (*message, recipient.key)));
                    }
                    steps.extend(self.session.advance(input));
                }
                Step::BeginTls => self.line("C: (TLS)"),
                Step::Settle { message, outcomes } => {
                    for (key, outcome) in outcomes {
                        assert!(self.unsettled.remove(&(message, key)), "{key:?} settled twice");
                        self.line(&format!("= {} {}", key.0, described(&outcome)));
                    }
                }
                Step::GiveBack(message) => {
                    self.unsettled.retain(|(of, _)| *of != message);
                    self.line(&format!("= message {} given back", message.0));
                }
                Step::Close(end) => {
                    self.closed = true;
                    self.line(&match end {
                        End::Done => "= done".to_string(),
                        End::Refused(reason) => format!("= refused {}", reasoned(&reason)),
                        End::WithoutChunks(reason) => format!("= without chunks {}", reasoned(&reason)),
                        End::WithoutTls(reason) => format!("= without TLS {}", reasoned(&reason)),
                        End::Broken(reason) => format!("= broken {}", reasoned(&reason)),
                    });
                }
            }
        }
    }
}

fn described(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered(reply) => format!("delivered {reply}"),
        Outcome::TryLater(reason) => format!("try later {}", reasoned(reason)),
        Outcome::GiveUp(reason) => format!("give up {}", reasoned(reason)),
    }
}

fn reasoned(reason: &Reason) -> String {
    format!("{} {}", reason.status, reason.text)
}
