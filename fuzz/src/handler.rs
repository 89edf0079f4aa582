//! An inbound session handler without a socket, a queue or a clock, as dull as the real one, which checks everything
//! that it is told to do.

use std::sync::LazyLock;

use smtpmta::inbound::header::HeaderWatch;
use smtpmta::inbound::session::{Session, Worth};
use smtpmta::inbound::step::{ContentEnd, Input, Secured, Step, StoreRefusal};
use smtpmta::smtp::data::{ChunkChecker, ContentFault, Decoder};
use smtpmta::smtp::line::{Line, LineSplitter};
use smtpmta::work_queue::id::MessageId;

use crate::envelope::{Heard, Progress};
use crate::reads::reads;
use crate::replies;
use crate::stage::{ENTROPY, MAX_HOPS, MAX_MESSAGE_SIZE, Stage, tls_facts};

/// The octet before one that stands for something that happens between two octets, and is not sent.
const EVENT: u8 = 0xFD;
/// A word that no reply has of its own: where one holds it, it repeats what the client said.
const CANARY: &str = "xyzzy";
/// The longest line that is taken, as the real handler has it.
const LONGEST_LINE: usize = 12_288 + 2;

/// Whether the dialogue is told, for who looks into a single input.
static IS_TOLD: LazyLock<bool> = LazyLock::new(|| std::env::var_os("TELL").is_some());

/// See the top.
pub struct Handler {
    /// Always there, save while it advances.
    session: Option<Session>,
    stage: Stage,
    progress: Progress,
    splitter: LineSplitter,
    receiving: Receiving,
    content: Option<Content>,
    /// What becomes of the next message: put away, or not.
    next_commit: Result<(), StoreRefusal>,
    /// Whether the content that comes can be kept.
    kept: Result<(), StoreRefusal>,
    messages: i64,
    replies: usize,
    wants_tls: bool,
    is_closed: bool,
}

/// What the next octets are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Lines,
    Dotted,
    Chunk(u64),
    Skipped(u64),
}

/// The message that is coming in.
struct Content {
    body: Body,
    header: HeaderWatch,
    size: u64,
    octets: Vec<u8>,
}

enum Body {
    Dotted(Decoder),
    Chunks(ChunkChecker),
}

impl Handler {
    /// A session that has come to `stage`, to which the client says what is in `input`, and goes away.
    pub fn play(stage: Stage, input: &[u8]) {
        let mut reads = reads(input).peekable();
        let early = reads
            .peek()
            .copied()
            .filter(|_| stage.is_hasty)
            .unwrap_or_default();
        let mut handler = Handler::at(stage, early);
        for read in reads {
            handler.read(read);
        }
        handler.finish();
    }

    fn at(stage: Stage, early: &[u8]) -> Handler {
        let mut handler = Handler {
            session: Some(Session::new(stage.settings(), stage.client())),
            stage,
            progress: Progress::default(),
            splitter: LineSplitter::new(LONGEST_LINE),
            receiving: Receiving::Lines,
            content: None,
            next_commit: Ok(()),
            kept: Ok(()),
            messages: 0,
            replies: 0,
            wants_tls: false,
            is_closed: false,
        };
        if stage.front.begins_with_tls() {
            handler.begin_tls();
        }
        handler.give(Input::Connected(early), &Heard::Other);
        assert_eq!(handler.replies, 1, "a greeting");
        if stage.in_tls && !stage.front.begins_with_tls() {
            handler.begin_tls();
        }
        for line in stage.said.split_inclusive("\r\n") {
            handler.receive(line.as_bytes());
        }
        handler
    }

    /// What arrives together, and what happens in between.
    fn read(&mut self, read: &[u8]) {
        let mut rest = read;
        while let Some(at) = rest.iter().position(|octet| *octet == EVENT) {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            let Some((kind, after)) = after.split_first() else {
                break;
            };
            let event = match kind {
                b'T' => Some(Input::Timeout),
                b'E' => Some(Input::Evicted),
                b'S' => Some(Input::Stopping),
                b'N' => Some(Input::NotSmtp),
                b'D' => {
                    self.next_commit = Err(StoreRefusal::OutOfSpace);
                    None
                }
                b'Q' => {
                    self.next_commit = Err(StoreRefusal::QueueTrouble);
                    None
                }
                b'K' => {
                    self.kept = Err(StoreRefusal::OutOfSpace);
                    None
                }
                _ => {
                    // Nothing but two octets.
                    self.receive(&rest[..at + 2]);
                    rest = after;
                    continue;
                }
            };
            self.receive(before);
            if let Some(event) = event
                && !self.is_closed
            {
                self.give(event, &Heard::Other);
                assert!(self.is_closed, "the session goes on");
            }
            rest = after;
        }
        self.receive(rest);
    }

    /// The client has nothing more to say.
    fn finish(mut self) {
        if !self.is_closed {
            self.give(Input::Timeout, &Heard::Other);
        }
        assert!(self.is_closed, "patience without an end");
        let replies = self.replies;
        for input in [
            Input::Line {
                line: b"NOOP",
                followed: false,
            },
            Input::Skipped,
            Input::Stored(Ok(MessageId(1))),
            Input::Timeout,
        ] {
            self.give(input, &Heard::Other);
        }
        assert_eq!(self.replies, replies, "words after the end");
    }

    /// What arrives in one read. What came with STARTTLS was said before it, and is dropped.
    fn receive(&mut self, mut input: &[u8]) {
        while !self.is_closed && !self.wants_tls && !input.is_empty() {
            match self.receiving {
                Receiving::Lines => self.take_line(&mut input),
                Receiving::Dotted => {
                    let content = self.content.as_mut().expect("content was asked for");
                    let Content {
                        body: Body::Dotted(decoder),
                        header,
                        size,
                        octets,
                    } = content
                    else {
                        panic!("chunks with dots");
                    };
                    let decoded = decoder.decode(input, &mut |piece| take(header, size, octets, piece));
                    input = &input[decoded.consumed..];
                    assert!(decoded.finished || input.is_empty());
                    if decoded.finished {
                        self.end_content(true);
                    }
                }
                Receiving::Chunk(left) => {
                    let piece = first(&mut input, left);
                    let content = self.content.as_mut().expect("a chunk was asked for");
                    let Content {
                        body: Body::Chunks(checker),
                        header,
                        size,
                        octets,
                    } = content
                    else {
                        panic!("dots without an end");
                    };
                    checker.check(piece);
                    take(header, size, octets, piece);
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
            self.begin_tls();
        }
    }

    fn take_line(&mut self, input: &mut &[u8]) {
        let mut splitter = std::mem::take(&mut self.splitter);
        let replies = self.replies;
        if let Some(line) = splitter.take(input) {
            let (given, heard) = match line {
                Line::Bad(fault) => (Input::BadLine(fault), Heard::Other),
                Line::Whole(line) => {
                    assert!(
                        !line.contains(&b'\r') && !line.contains(&b'\n') && line.len() + 2 <= LONGEST_LINE
                    );
                    let heard = if self.session().hears_secrets() {
                        Heard::Response
                    } else {
                        Heard::line(line)
                    };
                    (
                        Input::Line {
                            line,
                            followed: !input.is_empty(),
                        },
                        heard,
                    )
                }
            };
            self.give(given, &heard);
            // Who pipelines counts on it.
            let expected = if self.receiving == Receiving::Lines {
                1..=1
            } else {
                0..=1
            };
            assert!(
                expected.contains(&(self.replies - replies)),
                "not one reply to one line"
            );
        }
        self.splitter = splitter;
    }

    fn session(&self) -> &Session {
        self.session.as_ref().expect("the session does not advance now")
    }

    fn await_chunk(&mut self, left: u64) {
        self.receiving = Receiving::Chunk(left);
        if left == 0 {
            self.end_content(self.session().receives_last());
        }
    }

    fn await_skipped(&mut self, left: u64) {
        self.receiving = Receiving::Skipped(left);
        if left == 0 {
            self.receiving = Receiving::Lines;
            self.give(Input::Skipped, &Heard::Other);
        }
    }

    fn end_content(&mut self, last: bool) {
        self.receiving = Receiving::Lines;
        let content = self.content.as_mut().expect("content has come");
        if last {
            let octets = &mut content.octets;
            content
                .header
                .finish(&mut |piece| octets.extend_from_slice(piece));
        }
        let (size, fault) = match &content.body {
            Body::Dotted(decoder) => (decoder.size(), decoder.fault()),
            Body::Chunks(checker) if last => (checker.size(), checker.fault_at_end()),
            Body::Chunks(checker) => (checker.size(), checker.fault()),
        };
        assert_eq!(size, content.size);
        let end = ContentEnd {
            size,
            fault,
            hops: content.header.received_fields(),
            kept: self.kept,
        };
        self.give(Input::Content(end), &Heard::Content { last });
    }

    fn begin_tls(&mut self) {
        let replies = self.replies;
        self.progress.tls_begins();
        let facts = tls_facts();
        let secured = Secured {
            facts,
            entropy: ENTROPY,
        };
        self.give(Input::TlsStarted(Box::new(secured)), &Heard::Other);
        assert_eq!(self.replies, replies, "words that nobody asked for");
    }

    /// Tells the session, and does what it says to that.
    fn give(&mut self, input: Input<'_>, heard: &Heard) {
        if *IS_TOLD {
            eprintln!("  {input:?}");
        }
        let (session, steps) = self
            .session
            .take()
            .expect("a session that advances")
            .advance(input);
        self.session = Some(session);
        for step in steps {
            if *IS_TOLD {
                eprintln!("    {step:?}");
            }
            assert!(!self.is_closed, "after the end: {step:?}");
            match step {
                Step::Reply(reply) => {
                    self.replies += 1;
                    let has_codes = self.progress.extended == Some(true);
                    replies::check_written(&reply);
                    replies::check_codes(&reply, has_codes, heard.grants_hello(&reply));
                    let text = reply.lines.concat().to_ascii_lowercase();
                    // A challenge has what the client said in it, in base64.
                    assert!(reply.code == 334 || !text.contains(CANARY), "{reply:?}");
                    self.progress.note(heard, &reply);
                }
                Step::Pause(pause) => assert!(pause.as_millis() <= 1000),
                Step::ReceiveContent => {
                    self.expect(false);
                    self.receiving = Receiving::Dotted;
                }
                Step::ReceiveChunk(size) => {
                    self.progress.receives_chunk();
                    if self.content.is_none() {
                        self.expect(true);
                    }
                    self.await_chunk(size);
                }
                Step::Skip(size) => {
                    self.progress.skips(heard);
                    self.await_skipped(size);
                }
                Step::Store(envelope) => {
                    let content = self.content.take().expect("there is something to store");
                    let is_binary = self.progress.transaction.as_ref().is_some_and(|t| t.is_binary);
                    check_content(&content, is_binary);
                    assert_eq!(self.kept, Ok(()));
                    self.progress.check(&envelope, &self.stage);
                    let commit = std::mem::replace(&mut self.next_commit, Ok(()));
                    let is_safe = commit.is_ok();
                    self.messages += i64::from(is_safe);
                    let id = MessageId(1_700_000_000_000_000 + self.messages);
                    self.give(Input::Stored(commit.map(|()| id)), &Heard::Stored { is_safe });
                }
                Step::Discard => {
                    self.content = None;
                    self.kept = Ok(());
                }
                Step::StartTls => {
                    assert!(!self.progress.in_tls, "TLS in TLS");
                    self.wants_tls = true;
                }
                Step::Check(check) => {
                    assert!(self.progress.in_tls && !self.progress.logged_in);
                    let progress = check.run();
                    self.give(Input::Checked(Box::new(progress)), &Heard::Other);
                }
                Step::Close => self.is_closed = true,
            }
        }
        assert_eq!(self.session().is_closed(), self.is_closed);
        let is_worthless = self.session().worth() == Worth::Nothing;
        assert!(!is_worthless || (self.messages == 0 && self.content.is_none()));
        if self.is_closed || self.progress.transaction.is_none() {
            assert!(self.content.is_none(), "content that is nobody's");
        }
    }

    /// Makes room for the message that comes.
    fn expect(&mut self, by_chunks: bool) {
        assert!(self.content.is_none(), "two messages in one");
        let id = MessageId(1_700_000_000_000_000);
        let facts = self.session().received_facts().expect("content is on its way");
        let date = id.arrived().to_rfc5322();
        check_received(&facts.line(id, &date), facts.utf8);
        let header = if self.session().is_submission() {
            HeaderWatch::submission(&date, "<1@mail.example.org>")
        } else {
            HeaderWatch::relay()
        };
        let body = match (by_chunks, self.session().receives_binary()) {
            (false, _) => Body::Dotted(Decoder::new()),
            (true, false) => Body::Chunks(ChunkChecker::text()),
            (true, true) => Body::Chunks(ChunkChecker::binary()),
        };
        self.content = Some(Content {
            body,
            header,
            size: 0,
            octets: Vec::new(),
        });
    }
}

fn take(header: &mut HeaderWatch, size: &mut u64, octets: &mut Vec<u8>, piece: &[u8]) {
    *size += piece.len() as u64;
    if *size <= MAX_MESSAGE_SIZE {
        header.feed(piece, &mut |piece| octets.extend_from_slice(piece));
    }
}

/// Takes the first octets off `input`, at most `most`.
fn first<'i>(input: &mut &'i [u8], most: u64) -> &'i [u8] {
    let length = usize::try_from(most).map_or(input.len(), |most| most.min(input.len()));
    let (first, rest) = input.split_at(length);
    *input = rest;
    first
}

/// What is stored is whole, and nobody on its way can see another message in it.
fn check_content(content: &Content, is_binary: bool) {
    assert!(content.size <= MAX_MESSAGE_SIZE && content.header.received_fields() <= MAX_HOPS);
    if is_binary {
        return;
    }
    let mut checker = ChunkChecker::text();
    checker.check(&content.octets);
    let naive = content.octets.iter().enumerate().find_map(|(at, octet)| {
        let before = at.checked_sub(1).and_then(|before| content.octets.get(before));
        match octet {
            0 => Some(ContentFault::Nul),
            b'\n' if before != Some(&b'\r') => Some(ContentFault::BareLf),
            b'\r' if content.octets.get(at + 1) != Some(&b'\n') => Some(ContentFault::BareCr),
            _ => None,
        }
    });
    assert_eq!(
        (naive, checker.fault_at_end()),
        (None, None),
        "stored with a fault"
    );
}

/// Our Received line is one field, and nothing else.
fn check_received(field: &str, utf8: bool) {
    let field = field
        .strip_prefix("Received: ")
        .and_then(|rest| rest.strip_suffix("\r\n"));
    let field = field.expect("a Received field");
    for (number, line) in field.split("\r\n").enumerate() {
        let line = if number == 0 {
            line
        } else {
            line.strip_prefix('\t').expect("a folded line")
        };
        assert!(line.len() < 998 && !line.trim().is_empty(), "{field:?}");
        assert!(!line.contains(char::is_control), "{field:?}");
        assert!(utf8 || line.is_ascii(), "{field:?}");
    }
}
