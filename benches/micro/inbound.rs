//! The inbound dialogue: octets in, replies out, and content into a content writer, as the handler does it; all but
//! the socket and the commit.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use smtpmta::aliases::Aliases;
use smtpmta::inbound::front::Front;
use smtpmta::inbound::header::HeaderWatch;
use smtpmta::inbound::recipients::RecipientPolicy;
use smtpmta::inbound::session::{Client, Session, SessionSettings};
use smtpmta::inbound::step::{ContentEnd, Input, Step};
use smtpmta::mailbox::directory::Directory;
use smtpmta::smtp::data::Decoder;
use smtpmta::smtp::line::{Line, LineSplitter};
use smtpmta::work_queue::{ContentWriter, WorkQueue};

use crate::letters::{Form, Letter, SMALL};
use crate::world::World;

/// Octets of a read.
const READ: usize = 16 * 1024;

const COMMANDS: &[u8] =
    b"MAIL FROM:<bsmith@univac.com> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<jdoe@ibm.com>\r\nDATA\r\n";

const NOTHING: Letter = Letter {
    form: Form::Plain,
    size: 0,
};

/// As much as stays in memory.
const LARGE: Letter = Letter {
    form: Form::Plain,
    size: 60 << 10,
};

/// A client and its handler.
struct Dialogue<'q> {
    queue: &'q WorkQueue,
    session: Option<Session>,
    splitter: LineSplitter,
    out: Vec<u8>,
    incoming: Option<(Decoder, HeaderWatch, ContentWriter)>,
    stored: usize,
}

impl<'q> Dialogue<'q> {
    fn begin(queue: &'q WorkQueue, settings: &Arc<SessionSettings>) -> Dialogue<'q> {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let client = Client {
            address: localhost,
            called: localhost,
            front: Front::Relay,
            may_relay: true,
        };
        let mut dialogue = Dialogue {
            queue,
            session: Some(Session::new(Arc::clone(settings), client)),
            splitter: LineSplitter::new(12_290),
            out: Vec::with_capacity(512),
            incoming: None,
            stored: 0,
        };
        dialogue.give(Input::Connected(&[]));
        dialogue
    }

    /// What came together.
    fn hear(&mut self, octets: &[u8]) {
        for read in octets.chunks(READ) {
            self.take(read);
        }
        black_box(&self.out);
        self.out.clear();
    }

    fn take(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            match &mut self.incoming {
                Some((decoder, header, content)) => {
                    let mut keep =
                        |piece: &[u8]| header.feed(piece, &mut |piece| content.write(piece).unwrap());
                    let decoded = decoder.decode(input, &mut keep);
                    input = &input[decoded.consumed..];
                    if decoded.finished {
                        header.finish(&mut |piece| content.write(piece).unwrap());
                        let end = ContentEnd {
                            size: decoder.size(),
                            fault: decoder.fault(),
                            hops: header.received_fields(),
                            kept: Ok(()),
                        };
                        self.give(Input::Content(end));
                    }
                }
                None => {
                    let mut splitter = std::mem::take(&mut self.splitter);
                    if let Some(Line::Whole(line)) = splitter.take(&mut input) {
                        let followed = !input.is_empty();
                        self.give(Input::Line { line, followed });
                    }
                    self.splitter = splitter;
                }
            }
        }
    }

    fn give(&mut self, input: Input<'_>) {
        let Some(session) = self.session.take() else {
            return;
        };
        let (session, steps) = session.advance(input);
        self.session = Some(session);
        for step in steps {
            match step {
                Step::Reply(reply) => reply.write_to(&mut self.out, true),
                Step::ReceiveContent => self.expect(),
                Step::Store(envelope) => {
                    let (.., content) = self.incoming.take().unwrap();
                    black_box((envelope, content.finish().unwrap()));
                    self.stored += 1;
                    self.give(Input::Stored(Ok(self.queue.message_id())));
                }
                Step::Close => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn expect(&mut self) {
        let facts = self.session.as_ref().and_then(Session::received_facts).unwrap();
        let id = self.queue.message_id();
        let mut content = self.queue.content_writer(id);
        let received = facts.line(id, &id.arrived().to_rfc5322());
        content.write(received.as_bytes()).unwrap();
        self.incoming = Some((Decoder::new(), HeaderWatch::relay(), content));
    }
}

fn settings() -> Arc<SessionSettings> {
    let directory = Directory {
        local_domains: vec!["mta.test".to_owned()],
        accounts: None,
        aliases: Aliases::default(),
    };
    Arc::new(SessionSettings {
        hostname: "mta.test".to_owned(),
        max_message_size: 50 << 20,
        max_recipients: 1000,
        max_hops: 100,
        policy: RecipientPolicy::new(Arc::new(directory)).unwrap(),
        accounts: None,
        offers_tls: false,
        any_sender: false,
    })
}

/// One more message in a session: MAIL, RCPT and DATA in one read, then the content.
#[divan::bench(args = [NOTHING, SMALL, LARGE])]
fn message(bencher: Bencher<'_, '_>, letter: Letter) {
    let (world, settings, wire) = (World::new(), settings(), letter.on_the_wire());
    let mut dialogue = Dialogue::begin(&world.queue, &settings);
    dialogue.hear(b"EHLO univac.com\r\n");
    let bytes = BytesCount::new(COMMANDS.len() + wire.len());
    bencher
        .counter(ItemsCount::new(1usize))
        .counter(bytes)
        .bench_local(|| {
            let before = dialogue.stored;
            dialogue.hear(COMMANDS);
            dialogue.hear(&wire);
            assert_eq!(dialogue.stored, before + 1);
        });
}

/// A whole session with one message of 4 KiB.
#[divan::bench]
fn session(bencher: Bencher<'_, '_>) {
    let (world, settings, wire) = (World::new(), settings(), SMALL.on_the_wire());
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        let mut dialogue = Dialogue::begin(&world.queue, &settings);
        dialogue.hear(b"EHLO univac.com\r\n");
        dialogue.hear(COMMANDS);
        dialogue.hear(&wire);
        dialogue.hear(b"QUIT\r\n");
        assert!(dialogue.stored == 1 && dialogue.session.unwrap().is_closed());
    });
}

/// Lines that come whole, a hundred together.
#[divan::bench]
fn line_splitter(bencher: Bencher<'_, '_>) {
    let octets = b"RCPT TO:<somebody@example.org>\r\n".repeat(100);
    bencher.counter(ItemsCount::new(100usize)).bench_local(|| {
        let (mut splitter, mut input, mut lines) = (LineSplitter::new(12_290), &octets[..], 0);
        while let Some(line) = splitter.take(&mut input) {
            lines += usize::from(matches!(black_box(line), Line::Whole(_)));
        }
        assert_eq!(lines, 100);
    });
}
