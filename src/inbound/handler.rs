//! iseshlrN: an inbound session handler. Reads what the client says, lets the session judge it, writes the
//! replies, and puts messages into the inbound work queue.
//!
//! The loop is dull: it decides nothing but how long to wait.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

use super::caller::{Caller, Seat};
use super::client_name::ClientNames;
use super::header::HeaderWatch;
use super::incoming::{Body, Incoming, refusal};
use super::reception::Reception;
use super::session::{Client, Session, Worth};
use super::step::{Envelope, Input, Secured, Step, StoreRefusal};
use crate::crash_point::{CrashPoint, reach};
use crate::latest::Latest;
use crate::sasl::{Check, Progress};
use crate::smtp::command;
use crate::smtp::data::{ChunkChecker, Decoder};
use crate::smtp::line::{Line, LineSplitter};
use crate::tasks::bell::Bell;
use crate::tasks::table::{Desk, Rest};
use crate::tls::identity::Identity;
use crate::tls::wire::{HandshakeError, Heard, TlsFacts, Wire};
use crate::work_queue::id::MessageId;
use crate::work_queue::{Arrival, Origin, WorkQueue};

/// The longest line with its CRLF: RFC 4954 4 asks for so many octets in an authentication. Commands may not be as
/// long, which the session sees to.
pub(super) const LONGEST_LINE: usize = 12_288 + 2;

/// What is read at once of a client that has not sent a message yet, and may never do: of those there are many.
const SMALL_READ: usize = 512;
/// Room for replies to begin with: that to EHLO fits.
const REPLIES: usize = 256;
/// What is read at once of the others.
const READ: usize = 16 * 1024;
/// What is read at once while a large message comes.
const LARGE_READ: usize = 128 * 1024;

/// Stack of a handshake.
const HANDSHAKE_STACK: usize = 256 * 1024;

/// Content has to come in at this rate, octets a second, once its first time-out is over.
const SLOWEST: u64 = 1024;

/// How much of what a client goes on saying after the end is read, so that it gets our last reply, and how long that
/// may take.
const LAST_WORDS: usize = 256 * 1024;
/// See [`LAST_WORDS`].
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

/// What every inbound session handler works with.
#[derive(Clone, Debug)]
pub struct InboundHandler {
    /// Where the messages go.
    pub queue: WorkQueue,
    /// imsgcnv's doorbell.
    pub imsgcnv: Bell,
    /// What a session begins with.
    pub reception: Latest<Reception>,
    /// What DNS calls the clients.
    pub names: Arc<ClientNames>,
    /// `--session-timeout`.
    pub session_timeout: Duration,
}

impl InboundHandler {
    /// Serves `caller` until one of the two hangs up.
    pub fn serve(&self, caller: Box<Caller>, desk: &Desk) {
        let address = caller.client.ip().to_canonical();
        desk.at("");
        desk.write(format!("Session with {address}"));
        log::debug!("client={address} session begins");
        let mut dialogue = Dialogue::new(self, *caller, desk);
        let socket = dialogue.wire.stream().as_raw_fd();
        // Taken back before the dialogue closes it, whatever happens: the table must not shut down a descriptor that
        // is somebody else's by then.
        let _lent = desk.lend(socket);
        match dialogue.run(socket) {
            Ok(()) => log::debug!("client={address} session ends"),
            Err(error) => log::debug!("client={address} session broke off: {error}"),
        }
    }
}

/// One session and its connection.
struct Dialogue<'d> {
    handler: &'d InboundHandler,
    desk: &'d Desk,
    client: Client,
    /// Always there, save while it advances.
    session: Option<Session>,
    wire: Wire,
    splitter: LineSplitter,
    out: Vec<u8>,
    receiving: Receiving,
    /// Since when the client has owed us something: the rest of a command since it began, the rest of a message as
    /// much later as has come of it fast enough.
    late_since: Instant,
    incoming: Option<Box<Incoming>>,
    /// Version and cipher, for the queue.
    tls: Option<String>,
    helo: String,
    /// The session has asked for a handshake.
    wants_tls: bool,
    /// The client has said something.
    has_spoken: bool,
    /// It said more than was heard before the end.
    is_interrupted: bool,
    /// Among what is to be written is the 250 of a message.
    acknowledges: bool,
    /// Given back when all else has gone.
    _seat: Seat,
}

/// What the next octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Commands.
    Lines,
    /// Content, up to the line with only a dot.
    Dotted,
    /// So many octets of content, the last ones or not.
    Chunk(u64),
    /// So many octets that are nobody's.
    Skipped(u64),
}

impl<'d> Dialogue<'d> {
    #[inline(never)]
    fn new(handler: &'d InboundHandler, caller: Caller, desk: &'d Desk) -> Box<Dialogue<'d>> {
        let address = caller.client.ip().to_canonical();
        let reception = handler.reception.take();
        let client = Client {
            address,
            called: caller
                .stream
                .local_addr()
                .map_or(address, |called| called.ip().to_canonical()),
            front: caller.front,
            may_relay: reception.relay_from.iter().any(|block| block.contains(address)),
        };
        Box::new(Dialogue {
            handler,
            desk,
            session: Some(Session::new(Arc::clone(&reception.settings), client)),
            client,
            wire: Wire::plain(caller.stream),
            splitter: LineSplitter::new(LONGEST_LINE),
            out: Vec::with_capacity(REPLIES),
            receiving: Receiving::Lines,
            late_since: Instant::now(),
            incoming: None,
            tls: None,
            helo: String::new(),
            wants_tls: false,
            has_spoken: false,
            is_interrupted: false,
            acknowledges: false,
            _seat: caller.seat,
        })
    }

    fn run(&mut self, socket: RawFd) -> io::Result<()> {
        if self.client.front.begins_with_tls() {
            if !self.shake_hands() {
                return Ok(());
            }
            self.give(Input::Connected(&[]))?;
        } else {
            self.greet(socket)?;
        }
        let mut buffer = vec![0; SMALL_READ];
        self.late_since = Instant::now();
        loop {
            self.flush()?;
            if self.is_closed() {
                self.hang_up();
                return Ok(());
            }
            let heard = match self.read(&mut buffer)? {
                Ok(octets) => octets,
                Err(None) => return Ok(()),
                Err(Some(end)) => {
                    self.give(end)?;
                    continue;
                }
            };
            self.take(&buffer[..heard])?;
            if std::mem::take(&mut self.wants_tls) {
                self.flush()?;
                self.splitter = LineSplitter::new(LONGEST_LINE);
                if !self.shake_hands() {
                    return Ok(());
                }
            }
            match self.receiving {
                Receiving::Lines if buffer.len() > READ => buffer = vec![0; READ],
                Receiving::Lines => {}
                _ if buffer.len() < READ => buffer = vec![0; READ],
                _ if heard == buffer.len() && heard < LARGE_READ => buffer = vec![0; LARGE_READ],
                _ => {}
            }
        }
    }

    /// The first words, in the clear. A frame of its own: a session is idle far longer than it greets.
    #[inline(never)]
    fn greet(&mut self, socket: RawFd) -> io::Result<()> {
        let mut early = [0; 256];
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let said = recv(socket, &mut early, peek).unwrap_or(0);
        if said > 0 {
            log::info!("client={} speaks before the greeting", self.client.address);
        }
        self.give(Input::Connected(&early[..said]))?;
        self.is_interrupted = self.is_closed();
        Ok(())
    }

    /// Takes in what a read brought. What came with STARTTLS was said before it, and is dropped.
    fn take(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut input = octets;
        while !input.is_empty() && !self.wants_tls {
            if self.is_closed() {
                self.is_interrupted = true;
                return Ok(());
            }
            match self.receiving {
                Receiving::Lines => self.take_line(&mut input)?,
                Receiving::Dotted => {
                    let before = input.len();
                    let finished = match &mut self.incoming {
                        Some(incoming) => incoming.take_dotted(&mut input),
                        None => true,
                    };
                    self.earn(before - input.len());
                    if finished {
                        self.end_content(true)?;
                    }
                }
                Receiving::Chunk(left) => {
                    let piece = first(&mut input, left);
                    if let Some(incoming) = &mut self.incoming {
                        incoming.take_chunk(piece);
                    }
                    self.earn(piece.len());
                    self.await_chunk(left - piece.len() as u64)?;
                }
                Receiving::Skipped(left) => {
                    let piece = first(&mut input, left);
                    self.await_skipped(left - piece.len() as u64)?;
                }
            }
        }
        Ok(())
    }

    fn take_line(&mut self, input: &mut &[u8]) -> io::Result<()> {
        let is_first = !std::mem::replace(&mut self.has_spoken, true);
        if is_first && input.first().is_some_and(|octet| !is_text(*octet)) {
            return self.give(Input::NotSmtp);
        }
        let mut splitter = std::mem::take(&mut self.splitter);
        let line = splitter.take(input);
        let given = match line {
            None => Ok(()),
            Some(line) => {
                // A line that is no command may be a password.
                if let Line::Whole(line) = &line
                    && let Some((verb, _)) = command::split(line)
                {
                    self.desk.at(verb.name);
                }
                let input = match line {
                    Line::Bad(fault) => Input::BadLine(fault),
                    Line::Whole(line) => Input::Line {
                        line,
                        followed: !input.is_empty() || self.wire.waiting() > 0,
                    },
                };
                self.begin(Receiving::Lines);
                self.give(input)
            }
        };
        self.splitter = splitter;
        given
    }

    /// Something else begins, and its time with it.
    fn begin(&mut self, receiving: Receiving) {
        self.receiving = receiving;
        self.late_since = Instant::now();
    }

    /// So many octets of content have come: they make up for the time that they may take, and never for time to come.
    /// Those beyond the size limit are waited for, but earn nothing.
    fn earn(&mut self, octets: usize) {
        if self
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.is_too_big())
        {
            return;
        }
        let time = Duration::from_millis(octets as u64 * 1000 / SLOWEST);
        self.late_since = (self.late_since + time).min(Instant::now());
    }

    fn await_chunk(&mut self, left: u64) -> io::Result<()> {
        self.receiving = Receiving::Chunk(left);
        if left > 0 {
            return Ok(());
        }
        let is_last = self.session.as_ref().is_some_and(Session::receives_last);
        self.end_content(is_last)
    }

    fn await_skipped(&mut self, left: u64) -> io::Result<()> {
        self.receiving = Receiving::Skipped(left);
        if left > 0 {
            return Ok(());
        }
        self.begin(Receiving::Lines);
        self.give(Input::Skipped)
    }

    fn end_content(&mut self, is_last: bool) -> io::Result<()> {
        self.begin(Receiving::Lines);
        match &mut self.incoming {
            Some(incoming) => {
                let end = incoming.end(is_last);
                self.give(Input::Content(end))
            }
            None => Ok(()),
        }
    }

    fn is_closed(&self) -> bool {
        self.session.as_ref().is_none_or(Session::is_closed)
    }

    /// Reads what has come, and waits for it no longer than what is being received may take as a whole. Gives how
    /// much it was, or how the waiting ended; `Err(None)` when the client has hung up.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Result<usize, Option<Input<'static>>>> {
        let rest = match self.receiving {
            Receiving::Lines => match self.session.as_ref().map(Session::worth) {
                Some(Worth::Nothing) => Rest::Expendable,
                Some(Worth::Promise) => Rest::Unproven,
                Some(Worth::Proven) | None => Rest::Waiting,
            },
            _ => Rest::Receiving,
        };
        self.splitter.release();
        if !self.desk.rest_since(rest, self.late_since) && rest != Rest::Receiving {
            return Ok(Err(Some(Input::Stopping)));
        }
        let deadline = self.late_since + self.handler.session_timeout;
        let heard = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(Some(Input::Timeout));
            }
            match self.wire.read(buffer, left)? {
                Heard::Octets(octets) => break Ok(octets),
                Heard::Nothing => {}
                Heard::HungUp if self.desk.stopping() => break Err(Some(Input::Stopping)),
                Heard::HungUp if self.desk.is_evicted() => break Err(Some(Input::Evicted)),
                Heard::HungUp => break Err(None),
            }
        };
        let _ = self.desk.rest(Rest::Busy);
        Ok(heard)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            trace_replies(self.client.address, &self.out);
            let written = self.wire.write_at_once(&self.out)?;
            if written < self.out.len() {
                // A client that does not read keeps a place as well as one that says nothing.
                let _ = self.desk.rest(Rest::Sending);
                let deadline = Instant::now() + self.handler.session_timeout;
                self.wire.write_all(&self.out[written..], deadline)?;
                let _ = self.desk.rest(Rest::Busy);
            }
            self.out.clear();
            if std::mem::take(&mut self.acknowledges) {
                reach(CrashPoint::AcceptReplied);
            }
        }
        Ok(())
    }

    /// Says goodbye. Where the client goes on talking, closing at once would reset the connection, and our last reply
    /// might be lost with it: it is heard out for a moment.
    #[inline(never)]
    fn hang_up(&mut self) {
        let mut next = [0];
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let more = recv(self.wire.stream().as_raw_fd(), &mut next, peek).is_ok_and(|octets| octets > 0);
        self.is_interrupted |= more;
        if self.is_interrupted || self.wire.is_encrypted() {
            self.wire.close();
        }
        if !self.is_interrupted {
            return;
        }
        let until = Instant::now() + LAST_WORDS_TIME;
        let mut waste = vec![0; READ];
        let mut heard = 0;
        while heard < LAST_WORDS && !self.desk.stopping() {
            let left = until.saturating_duration_since(Instant::now());
            let stream = self.wire.stream();
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                return;
            }
            match (&mut &*stream).read(&mut waste) {
                Ok(octets) if octets > 0 => heard += octets,
                _ => return,
            }
        }
    }

    /// Lets the client begin TLS; whether it did.
    #[inline(never)]
    fn shake_hands(&mut self) -> bool {
        // The certificate of today, not that of when the client called.
        let Some(identity) = self.handler.reception.take().identity.clone() else {
            return false;
        };
        if !self.desk.rest(Rest::Expendable) {
            return false;
        }
        let deadline = Instant::now() + self.handler.session_timeout;
        let result = accept_tls(&mut self.wire, &identity, deadline);
        let _ = self.desk.rest(Rest::Busy);
        match result {
            Ok(facts) => {
                log::debug!(
                    "client={} tls=\"{} {}\" TLS begins",
                    self.client.address,
                    facts.version,
                    facts.cipher
                );
                self.tls = Some(format!("{} {}", facts.version, facts.cipher));
                self.late_since = Instant::now();
                let mut entropy = [0; 32];
                if aws_lc_rs::rand::fill(&mut entropy).is_err() {
                    log::error!("the system has no random octets");
                    return false;
                }
                self.give(Input::TlsStarted(Box::new(Secured { facts, entropy })))
                    .is_ok()
            }
            Err(error) => {
                log::info!("client={} could not begin TLS: {error}", self.client.address);
                false
            }
        }
    }

    /// Tells the session, and does what it says to that.
    #[inline(never)]
    fn give(&mut self, input: Input<'_>) -> io::Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        if let Input::Line { line, .. } = input {
            trace(self.client.address, line, session.hears_secrets());
        }
        let mut moved = session.advance(input);
        self.session = Some(moved.0);
        for step in moved.1.by_ref() {
            match step {
                Step::Reply(reply) => reply.write_to(&mut self.out, true),
                step => self.obey(step)?,
            }
        }
        // What we took for a pause, a password or a commit was not the client's time.
        self.late_since = Instant::now();
        Ok(())
    }

    /// Does what is more than a word. Not a part of [`Dialogue::give`], through which every word goes: of the stack
    /// that it takes each idle session keeps what one move has touched.
    #[inline(never)]
    fn obey(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Reply(reply) => reply.write_to(&mut self.out, true),
            Step::Pause(pause) => {
                self.flush()?;
                // An order to stop ends every pause.
                let _ = self.desk.stop().heard().recv_timeout(pause);
            }
            Step::ReceiveContent => {
                // What follows may ask DNS.
                self.flush()?;
                self.expect(false);
                self.begin(Receiving::Dotted);
            }
            Step::ReceiveChunk(size) => {
                if self.incoming.is_none() {
                    self.expect(true);
                }
                self.begin(Receiving::Chunk(size));
                self.await_chunk(size)?;
            }
            Step::Skip(size) => {
                self.begin(Receiving::Skipped(size));
                self.await_skipped(size)?;
            }
            Step::Discard => self.incoming = None,
            Step::Store(envelope) => {
                let (ended, stored) = (self.late_since, self.store(*envelope));
                let is_stored = stored.is_ok();
                self.acknowledges |= is_stored;
                self.give(Input::Stored(stored))?;
                if is_stored {
                    // From when the last octet had come until its answer was given: both have been read already.
                    let took = self.late_since.saturating_duration_since(ended);
                    self.handler.queue.metrics().acceptance.add_time(took);
                }
            }
            Step::StartTls => self.wants_tls = true,
            Step::Check(check) => self.check(*check)?,
            // The session says so itself: see `is_closed`.
            Step::Close => {}
        }
        Ok(())
    }

    /// Takes its time over a password. The name is told as the log can bear it.
    #[inline(never)]
    fn check(&mut self, check: Check) -> io::Result<()> {
        let name: String = check
            .name()
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect();
        let progress = check.run();
        let client = self.client.address;
        match &progress {
            Progress::Done(_) | Progress::Challenge(..) => {
                log::info!("client={client} user={name:?} logs in")
            }
            _ => log::warn!("client={client} user={name:?} login failed"),
        }
        self.give(Input::Checked(Box::new(progress)))
    }

    /// Makes room for the message that comes: it gets its ID, and our Received line on top.
    #[inline(never)]
    fn expect(&mut self, by_chunks: bool) {
        let name = self.handler.names.name(self.client.address);
        let Some(session) = &self.session else { return };
        let Some(mut facts) = session.received_facts() else {
            return;
        };
        facts.client_name = name.as_deref();
        let id = self.handler.queue.message_id();
        let date = self.handler.queue.arrival(id).to_rfc5322();
        let received = facts.line(id, &date);
        let header = if session.is_submission() {
            HeaderWatch::submission(&date, &format!("<{id}@{}>", facts.hostname))
        } else {
            HeaderWatch::relay()
        };
        facts.helo.clone_into(&mut self.helo);
        let protocol = facts.protocol();
        let content = self.handler.queue.content_writer(id);
        let most = session.max_message_size();
        let body = match by_chunks {
            false => Body::Dotted(Decoder::new()),
            true if session.receives_binary() => Body::Chunks(ChunkChecker::binary()),
            true => Body::Chunks(ChunkChecker::text()),
        };
        self.incoming = Some(Box::new(Incoming::new(
            id, protocol, body, header, content, &received, most,
        )));
    }

    /// Promise 1: when this returns an ID, the commit that holds the message has returned.
    #[inline(never)]
    fn store(&mut self, envelope: Envelope) -> Result<MessageId, StoreRefusal> {
        let incoming = self.incoming.take().ok_or(StoreRefusal::QueueTrouble)?;
        let (id, protocol) = (incoming.id, incoming.protocol);
        let (from, recipients) = (envelope.reverse_path.to_string(), envelope.recipients.len());
        let client = self.client.address.to_string();
        let content = incoming.finish().ok_or(StoreRefusal::QueueTrouble)?;
        let stored = content.and_then(|content| {
            let size = content.size();
            let arrival = Arrival {
                client: client.clone(),
                helo: self.helo.clone(),
                protocol,
                login: envelope.login.map(|login| login.address.to_string()),
                tls: self.tls.clone(),
                envelope_id: envelope.envelope_id,
                ret: envelope.ret,
                body: envelope.body,
                utf8: envelope.utf8,
                ..Arrival::new(
                    id,
                    Origin::Session,
                    envelope.reverse_path,
                    envelope.recipients,
                    content,
                )
            };
            // The seed: the handler kicks the conversion if it is idle. A ring while it works is one ring.
            let kicks = vec![self.handler.imsgcnv.clone()];
            self.handler.queue.put_and_kick(arrival, kicks).map(|()| size)
        });
        match stored {
            Ok(size) => {
                log::info!(
                    "id={id} from=<{from}> recipients={recipients} size={size} client={client} stored"
                );
                Ok(id)
            }
            Err(error) => {
                log::error!("id={id} from=<{from}> client={client} not stored: {error}");
                Err(refusal(&error))
            }
        }
    }
}

/// Lets the client shake hands, on a thread of its own: what cryptography has taken of stack and memory ends with it,
/// and does not stay with a session that may be idle for minutes.
fn accept_tls(wire: &mut Wire, identity: &Identity, deadline: Instant) -> Result<TlsFacts, HandshakeError> {
    std::thread::scope(|scope| {
        let shake = std::thread::Builder::new()
            .name("tls".to_owned())
            .stack_size(HANDSHAKE_STACK)
            .spawn_scoped(scope, || wire.accept_tls(identity, deadline))
            .map_err(HandshakeError::Broken)?;
        let panicked =
            |_| HandshakeError::Broken(io::Error::other("the handshake met an error in the program"));
        shake.join().map_err(panicked)?
    })
}

/// Whether a client may begin so. One that begins with TLS (RFC 8446 5.1) or with something older does not.
pub(super) fn is_text(octet: u8) -> bool {
    octet == b' ' || octet.is_ascii_graphic() || octet.is_ascii_whitespace()
}

/// Takes the first octets off `input`, at most `most`.
pub(crate) fn first<'i>(input: &mut &'i [u8], most: u64) -> &'i [u8] {
    let length = usize::try_from(most).map_or(input.len(), |most| most.min(input.len()));
    let (first, rest) = input.split_at(length);
    *input = rest;
    first
}

/// Tells the log what the client said, at the level at which it wants to know.
#[inline(never)]
fn trace(client: IpAddr, line: &[u8], is_secret: bool) {
    log::trace!("client={client} C: {}", command::told(line, is_secret));
}

/// Tells the log what we say, at the level at which it wants to know: a line for each. What we ask in the course of a login
/// belongs to that.
#[inline(never)]
fn trace_replies(client: IpAddr, replies: &[u8]) {
    if !log::log_enabled!(log::Level::Trace) {
        return;
    }
    for line in String::from_utf8_lossy(replies).lines() {
        let line = if line.starts_with("334") { "334 …" } else { line };
        log::trace!("client={client} S: {line}");
    }
}
