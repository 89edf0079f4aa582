//! One connection of a sink: a dull loop that reads, asks the session what is right and the orders what is wrong, and
//! says one of the two.
//!
//! Never decides what is right to say.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chaos::Lots;
use super::fault::Deed;
use super::server::Shared;
use super::session::{Answer, Heard, Next, Session};
use super::stage::Stage;
use super::stall::Woken;
use super::witness::Event;
use crate::sasl::Bindings;
use crate::smtp::command::Body;
use crate::smtp::data::{ChunkChecker, Decoder};
use crate::smtp::line::{Line, LineFault, LineSplitter};
use crate::tls::wire::{self, Wire};

/// How long a client may be silent (RFC 5321 4.5.3.2.7), and how long it may take to read what we say.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a client is listened to after the end, so that our last words are not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);
/// How much is read at once.
const ROOM: usize = 16 * 1024;
/// How much is read at once where it is to be slow.
const SLOW_ROOM: usize = 1024;

/// Why a session is over before its time: by order, or because the client is gone.
#[derive(Debug)]
pub(super) struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Over {
        // Whatever the system says, there is nobody left to talk to.
        Over
    }
}

/// A line that was cut out of what came.
enum Cut {
    Line(Vec<u8>),
    Bad(LineFault),
}

/// One connection.
pub(super) struct Handler<'s> {
    shared: &'s Shared,
    number: usize,
    wire: Wire,
    session: Session,
    lines: LineSplitter,
    /// What has come and was not looked at yet is `buffer[at..]`.
    buffer: Vec<u8>,
    at: usize,
    /// What is said when the client is waited for.
    out: Vec<u8>,
    /// What has been answered before it was asked.
    said_early: Vec<(Stage, Option<u16>)>,
    /// What goes wrong without an order.
    lots: Option<Lots>,
    /// How many releases there were when an order was drawn last.
    releases: u64,
    /// In LMTP: what was said to the last recipient that took the message in hand.
    taken: Vec<u8>,
    /// What chunks have brought of the message in hand.
    chunks: Option<ChunkChecker>,
}

impl<'s> Handler<'s> {
    pub(super) fn new(shared: &'s Shared, (number, lots): (usize, Option<Lots>), wire: Wire) -> Handler<'s> {
        let mut entropy = [0; 32];
        // Without random octets a nonce repeats; in a sink nobody is harmed by it.
        let _ = aws_lc_rs::rand::fill(&mut entropy);
        Handler {
            session: Session::new(shared.service(), entropy),
            shared,
            number,
            wire,
            lines: LineSplitter::default(),
            buffer: Vec::new(),
            at: 0,
            out: Vec::new(),
            said_early: Vec::new(),
            lots,
            releases: 0,
            taken: Vec::new(),
            chunks: None,
        }
    }

    /// Goes through the session. `tls_first`: TLS comes before the greeting.
    pub(super) fn serve(&mut self, tls_first: bool) -> Result<(), Over> {
        if tls_first {
            self.shake_hands()?;
        }
        let greeting = self.session.greeting();
        let mut next = self.answer(greeting)?;
        loop {
            next = match next {
                Next::Line => self.obey()?,
                Next::Content => self.take_content()?,
                Next::Handshake => {
                    self.flush()?;
                    // RFC 3207 4.2: what came in the clear is not obeyed.
                    self.at = self.buffer.len();
                    self.lines = LineSplitter::default();
                    self.shake_hands()?;
                    Next::Line
                }
                Next::Close => return self.close(),
            };
        }
    }

    fn note(&self, event: &Event<'_>) {
        self.shared.witness.note(self.number, event);
    }

    fn obey(&mut self) -> Result<Next, Over> {
        let cut = self.line()?;
        if self.shared.is_ending() && !matches!(&cut, Cut::Line(line) if line.eq_ignore_ascii_case(b"QUIT")) {
            self.say(b"421 4.3.2 The sink has had enough\r\n")?;
            return Ok(Next::Close);
        }
        let more = self.at < self.buffer.len();
        let heard = match &cut {
            Cut::Line(line) => {
                self.note(&Event::Heard(line));
                self.session.hear(Line::Whole(line), more)
            }
            Cut::Bad(fault) => self.session.hear(Line::Bad(*fault), more),
        };
        match heard {
            Heard::Answer(answer) => self.answer(answer),
            Heard::Chunk(size) => self.take_chunk(size),
        }
    }

    /// Says what is right, or what is ordered instead.
    fn answer(&mut self, answer: Answer) -> Result<Next, Over> {
        if let Some(place) = self
            .said_early
            .iter()
            .position(|(stage, _)| answer.stages.contains(stage))
        {
            let (_, code) = self.said_early.remove(place);
            self.settle(&[], code);
            return Ok(self.session.answered(code));
        }
        let mut octets = Vec::new();
        answer.reply.write_to(&mut octets, answer.enhanced);
        let mut ends = false;
        loop {
            let ordered = answer
                .stages
                .iter()
                .find_map(|stage| Some((*stage, self.draw(*stage, &answer.about)?)));
            let Some((stage, deed)) = ordered else { break };
            match deed {
                Deed::Say(instead) => octets = instead,
                Deed::Late(pause) => self.pause(pause)?,
                Deed::CloseAfter => ends = true,
                Deed::Slow(pause) => {
                    let code = code(&octets);
                    self.settle(&octets, code);
                    self.flush()?;
                    self.note(&Event::Says(&octets));
                    for octet in &octets {
                        self.pause(pause)?;
                        self.out.push(*octet);
                        self.flush()?;
                    }
                    return Ok(self.session.answered(code));
                }
                Deed::Early => {}
                Deed::Drop | Deed::Reset | Deed::Stall => {
                    self.leave_or_stall(stage, &deed)?;
                    continue;
                }
            }
            break;
        }
        let code = code(&octets);
        self.settle(&octets, code);
        self.say(&octets)?;
        if ends {
            self.flush()?;
            return self.cut_off();
        }
        for stage in answer.stages {
            self.say_early(*stage)?;
        }
        Ok(self.session.answered(code))
    }

    /// Says what is ordered to be said before it is asked: together with the reply at `stage`.
    fn say_early(&mut self, stage: Stage) -> Result<(), Over> {
        for early in self.shared.draw_early_with(&mut self.lots, stage) {
            // Once is enough, until it is asked.
            if self.said_early.iter().any(|(said, _)| *said == early) {
                continue;
            }
            self.note(&Event::Misbehaves(early));
            let reply = format!("{}\r\n", early.consent()).into_bytes();
            self.said_early.push((early, code(&reply)));
            self.say(&reply)?;
        }
        Ok(())
    }

    /// Tells of a message that is about to be answered, before the client knows.
    fn settle(&mut self, reply: &[u8], code: Option<u16>) {
        let accepted = code.is_some_and(|code| code / 100 == 2);
        if let Some(recipient) = self.session.delivers_to() {
            self.note(&Event::Delivers { recipient, accepted });
            if accepted {
                self.taken = reply.to_vec();
            }
        }
        if let Some(accepted) = self.session.settles(accepted) {
            let taken = std::mem::take(&mut self.taken);
            let reply = if taken.is_empty() { reply } else { &taken };
            self.note(&Event::Settles { reply, accepted });
            self.shared.settled(accepted);
        }
    }

    fn draw(&mut self, stage: Stage, about: &str) -> Option<Deed> {
        self.releases = self.shared.stalls.releases();
        let deed = self.shared.draw_with(&mut self.lots, stage, about)?;
        self.note(&Event::Misbehaves(stage));
        Some(deed)
    }

    /// Takes in content up to its dot, and answers it.
    fn take_content(&mut self) -> Result<Next, Over> {
        self.note(&Event::Begins(
            self.session.envelope().unwrap_or(&Default::default()),
        ));
        let slowly = self.before_content()?;
        let mut decoder = Decoder::new();
        loop {
            if self.at == self.buffer.len() {
                self.fill(slowly)?;
            }
            let (shared, number) = (self.shared, self.number);
            let mut piece = |octets: &[u8]| shared.witness.note(number, &Event::Piece(octets));
            let decoded = decoder.decode(&self.buffer[self.at..], &mut piece);
            self.at += decoded.consumed;
            if decoded.finished {
                break;
            }
        }
        self.note(&Event::Arrived);
        let mut next = Next::Line;
        for answer in self.session.end_of_content(decoder.size(), decoder.fault()) {
            next = self.answer(answer)?;
            if next == Next::Close {
                break;
            }
        }
        Ok(next)
    }

    /// Takes in the octets of a chunk, and answers it.
    fn take_chunk(&mut self, size: u64) -> Result<Next, Over> {
        let mut slowly = None;
        // RSET and its like end a message, too: then this chunk begins another one.
        let begun = self.chunks.take().filter(|_| self.session.is_in_chunks());
        let mut checker = match begun {
            Some(checker) => checker,
            None => {
                let envelope = self.session.envelope();
                self.note(&Event::Begins(envelope.unwrap_or(&Default::default())));
                let is_binary = envelope.is_some_and(|envelope| envelope.body == Some(Body::BinaryMime));
                slowly = self.before_content()?;
                if is_binary {
                    ChunkChecker::binary()
                } else {
                    ChunkChecker::text()
                }
            }
        };
        let mut left = size;
        while left > 0 {
            if self.at == self.buffer.len() {
                self.fill(slowly)?;
            }
            let here = &self.buffer[self.at..];
            let piece = &here[..usize::try_from(left).unwrap_or(usize::MAX).min(here.len())];
            checker.check(piece);
            self.note(&Event::Piece(piece));
            left -= piece.len() as u64;
            self.at += piece.len();
        }
        let answer = self.session.end_of_chunk(&checker);
        if self.session.settles(true).is_some() {
            self.note(&Event::Arrived);
        }
        let next = self.answer(answer)?;
        self.chunks = Some(checker);
        Ok(next)
    }

    /// What is ordered for content that is about to come. Gives the pause before each read of it.
    fn before_content(&mut self) -> Result<Option<Duration>, Over> {
        loop {
            match self.draw(Stage::Content, "") {
                None | Some(Deed::Early | Deed::CloseAfter) => return Ok(None),
                Some(Deed::Slow(pause)) => return Ok(Some(pause)),
                Some(Deed::Late(pause)) => return self.pause(pause).map(|()| None),
                Some(Deed::Say(reply)) => {
                    // That was the answer: nothing will be said to the dot.
                    self.said_early.retain(|(stage, _)| *stage != Stage::Dot);
                    self.said_early.push((Stage::Dot, code(&reply)));
                    self.say(&reply)?;
                    self.flush()?;
                    if code(&reply) == Some(421) {
                        return self.cut_off();
                    }
                    return Ok(None);
                }
                Some(deed) => self.leave_or_stall(Stage::Content, &deed)?,
            }
        }
    }

    fn shake_hands(&mut self) -> Result<(), Over> {
        while let Some(deed) = self.draw(Stage::Handshake, "") {
            match deed {
                Deed::Late(pause) => {
                    self.pause(pause)?;
                    break;
                }
                Deed::Say(octets) => {
                    self.say(&octets)?;
                    self.flush()?;
                    return self.cut_off();
                }
                deed => self.leave_or_stall(Stage::Handshake, &deed)?,
            }
        }
        let service = self.shared.service();
        let Some(identity) = &service.identity else {
            // STARTTLS is on the list of offers, but there is no certificate: it is one of the ways to fail.
            return self.cut_off();
        };
        match self.wire.accept_tls(identity, Instant::now() + PATIENCE) {
            Ok(facts) => {
                self.note(&Event::Encrypted(&facts));
                self.session.tls_started(Bindings {
                    exporter: facts.exporter,
                    server_end_point: facts.server_end_point.unwrap_or_default(),
                });
                Ok(())
            }
            Err(error) => {
                self.note(&Event::NotEncrypted(error.to_string()));
                Err(Over)
            }
        }
    }

    /// Closes at once, or waits until it may go on.
    fn leave_or_stall(&mut self, stage: Stage, deed: &Deed) -> Result<(), Over> {
        self.flush()?;
        match deed {
            Deed::Stall => {
                self.note(&Event::Stalls(stage));
                let client = Some(self.wire.stream());
                let woken = self
                    .shared
                    .stalls
                    .stall(self.releases, client, self.shared.longest_stall());
                self.note(&Event::GoesOn);
                if woken == Woken::GiveUp { Err(Over) } else { Ok(()) }
            }
            Deed::Reset => {
                // With nothing to linger for, the close is an RST.
                socket2::SockRef::from(self.wire.stream()).set_linger(Some(Duration::ZERO))?;
                Err(Over)
            }
            _ => self.cut_off(),
        }
    }

    /// Closes both ways without listening any more.
    fn cut_off<T>(&mut self) -> Result<T, Over> {
        self.wire.stream().shutdown(Shutdown::Both)?;
        Err(Over)
    }

    /// Ends in peace: hears the client out for a moment, so that it gets our last words.
    fn close(&mut self) -> Result<(), Over> {
        self.flush()?;
        self.wire.close();
        let until = Instant::now() + LINGER;
        let mut stream = self.wire.stream();
        let mut nothing = [0; 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            stream.set_read_timeout(Some(left))?;
            if io::Read::read(&mut stream, &mut nothing)? == 0 {
                return Ok(());
            }
        }
    }

    fn pause(&mut self, pause: Duration) -> Result<(), Over> {
        self.flush()?;
        match self.shared.stalls.pause(pause) {
            Woken::GoOn => Ok(()),
            Woken::GiveUp => Err(Over),
        }
    }

    fn say(&mut self, octets: &[u8]) -> Result<(), Over> {
        self.note(&Event::Says(octets));
        self.out.extend_from_slice(octets);
        // A client that pipelines for ever, and never reads, does not make this grow.
        if self.out.len() >= ROOM {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Over> {
        if !self.out.is_empty() {
            let said = self.wire.write_all(&self.out, Instant::now() + PATIENCE);
            self.out.clear();
            said?;
        }
        Ok(())
    }

    /// Waits for the client. All that is due is said before.
    fn fill(&mut self, slowly: Option<Duration>) -> Result<(), Over> {
        if !self.out.is_empty() {
            self.note(&Event::Waits);
            self.flush()?;
        }
        if let Some(pause) = slowly {
            self.pause(pause)?;
        }
        self.buffer
            .resize(if slowly.is_some() { SLOW_ROOM } else { ROOM }, 0);
        self.at = 0;
        let heard = self.wire.read(&mut self.buffer, PATIENCE);
        let octets = match heard {
            Ok(wire::Heard::Octets(octets)) => octets,
            Ok(wire::Heard::Nothing) => {
                self.buffer.clear();
                self.say(b"421 4.4.2 You said nothing for too long\r\n")?;
                self.flush()?;
                return Err(Over);
            }
            Ok(wire::Heard::HungUp) | Err(_) => 0,
        };
        self.buffer.truncate(octets);
        if octets == 0 { Err(Over) } else { Ok(()) }
    }

    /// The next line, with which the client waits for an answer.
    fn line(&mut self) -> Result<Cut, Over> {
        loop {
            let mut input = &self.buffer[self.at..];
            let cut = match self.lines.take(&mut input) {
                Some(Line::Whole(line)) => Some(Cut::Line(line.to_vec())),
                Some(Line::Bad(fault)) => Some(Cut::Bad(fault)),
                None => None,
            };
            self.at = self.buffer.len() - input.len();
            match cut {
                Some(cut) => return Ok(cut),
                None => self.fill(None)?,
            }
        }
    }
}

/// Runs a session to its end.
pub(super) fn run(shared: &Arc<Shared>, (number, lots): (usize, Option<Lots>), wire: Wire, tls_first: bool) {
    let mut handler = Handler::new(shared, (number, lots), wire);
    // Over is over, whoever ended it.
    let _ = handler.serve(tls_first);
}

/// The first three octets, where they are digits.
fn code(reply: &[u8]) -> Option<u16> {
    let digits = reply
        .get(..3)
        .filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    Some(
        digits
            .iter()
            .fold(0, |code, digit| code * 10 + u16::from(digit - b'0')),
    )
}
