//! iseshlrN: an inbound session handler. Reads what the client says, lets the session judge it, writes the
//! replies, and puts messages into the inbound work queue.
//!
//! The loop is dull: it decides nothing but how long to wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::session::{Session, SessionSettings};
use super::step::{Envelope, Input, Step, StoreRefusal};
use crate::config::cidr::Cidr;
use crate::smtp::data::Decoder;
use crate::smtp::line::LineSplitter;
use crate::tasks::bell::Bell;
use crate::tasks::table::Desk;
use crate::work_queue::id::MessageId;
use crate::work_queue::{Arrival, ContentWriter, Origin, QueueError, WorkQueue};

/// The longest command line, with its CRLF: RFC 5321 4.5.3.1.4 asks for 512, extensions for more.
const LONGEST_LINE: usize = 2048;

/// What is read at once: small while commands come, large while a large message comes.
const SMALL_READ: usize = 16 * 1024;
/// See [`SMALL_READ`].
const LARGE_READ: usize = 128 * 1024;

/// How patient a session is when the table is full and others wait.
const STRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// A message has to come in at this rate, octets a second, once its first time-out is over.
const SLOWEST: u64 = 8 * 1024;

/// How much of what a client goes on saying after the end is read, so that it gets our last reply.
const LAST_WORDS: usize = 256 * 1024;

/// What every inbound session handler works with.
#[derive(Clone, Debug)]
pub struct InboundHandler {
    /// Where the messages go.
    pub queue: WorkQueue,
    /// imsgcnv's doorbell.
    pub imsgcnv: Bell,
    /// What sessions have in common.
    pub settings: Arc<SessionSettings>,
    /// `--relay-from`.
    pub relay_from: Vec<Cidr>,
    /// `--session-timeout`.
    pub session_timeout: Duration,
}

/// The message that is coming in.
struct Incoming {
    id: MessageId,
    decoder: Decoder,
    content: ContentWriter,
    kept: Result<(), StoreRefusal>,
    began: Instant,
    helo: String,
    protocol: &'static str,
}

impl InboundHandler {
    /// Serves `caller` until one of the two hangs up.
    pub fn serve(&self, caller: Caller, desk: &Desk) {
        let client = caller.client.ip().to_canonical();
        desk.write(format!("Session with {client}"));
        log::debug!("session with {client} begins");
        let lent = desk.lend(caller.stream.as_raw_fd());
        let may_relay = self.relay_from.iter().any(|block| block.contains(client));
        let mut line = Dialogue {
            handler: self,
            desk,
            stream: &caller.stream,
            client: client.to_string(),
            session: Some(Session::new(Arc::clone(&self.settings), client, may_relay)),
            out: Vec::with_capacity(512),
            incoming: None,
        };
        let ended = line.run();
        match ended {
            Ok(()) => log::debug!("session with {client} ends"),
            Err(error) => log::debug!("session with {client} broke off: {error}"),
        }
        // The table must not shut down a descriptor that is somebody else's by then.
        drop(lent);
    }
}

/// One session and its socket.
struct Dialogue<'d> {
    handler: &'d InboundHandler,
    desk: &'d Desk,
    stream: &'d TcpStream,
    client: String,
    /// Always there, save while it advances.
    session: Option<Session>,
    out: Vec<u8>,
    incoming: Option<Incoming>,
}

/// What a read brought.
enum Heard {
    Octets(usize),
    HungUp,
    Nothing,
    Stopping,
}

impl Dialogue<'_> {
    fn run(&mut self) -> std::io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream
            .set_write_timeout(Some(self.handler.session_timeout))?;
        let mut splitter = LineSplitter::new(LONGEST_LINE);
        let mut buffer = vec![0; SMALL_READ];
        self.give(Input::Connected);
        let mut command_began = Instant::now();
        loop {
            self.flush()?;
            if self.is_closed() {
                return Ok(());
            }
            let began = self
                .incoming
                .as_ref()
                .map_or(command_began, |incoming| incoming.began);
            let heard = match self.read(&mut buffer, began)? {
                Heard::Octets(n) => n,
                Heard::HungUp => return Ok(()),
                Heard::Nothing => {
                    self.give(Input::Timeout);
                    continue;
                }
                Heard::Stopping => {
                    self.give(Input::Stopping);
                    continue;
                }
            };
            let mut input = &buffer[..heard];
            while !input.is_empty() && !self.is_closed() {
                if self.incoming.is_some() {
                    self.receive(&mut input);
                    command_began = Instant::now();
                } else if let Some(line) = splitter.take(&mut input) {
                    self.give(line.into());
                    command_began = Instant::now();
                }
            }
            if self.is_closed() && !input.is_empty() {
                self.flush()?;
                self.hear_out();
                return Ok(());
            }
            match &self.incoming {
                Some(_) if heard == buffer.len() && heard < LARGE_READ => buffer.resize(LARGE_READ, 0),
                None if buffer.len() > SMALL_READ => buffer = vec![0; SMALL_READ],
                _ => {}
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.session.as_ref().is_none_or(Session::is_closed)
    }

    /// Reads what has come, and waits for it no longer than the command or message that began at `began` may
    /// take as a whole. Looks up now and then whether others wait for this place.
    fn read(&self, buffer: &mut [u8], began: Instant) -> std::io::Result<Heard> {
        let rests = self.incoming.is_none();
        if rests && !self.desk.rest(true) {
            return Ok(Heard::Stopping);
        }
        let heard = loop {
            let stressed = self.desk.under_stress();
            let timeout = if stressed {
                self.handler.session_timeout.min(STRESS_TIMEOUT)
            } else {
                self.handler.session_timeout
            };
            let earned = self
                .incoming
                .as_ref()
                .map_or(0, |incoming| incoming.decoder.size() / SLOWEST);
            let deadline = began + timeout + Duration::from_secs(earned);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Heard::Nothing;
            }
            self.stream.set_read_timeout(Some(left.min(STRESS_TIMEOUT)))?;
            match (&mut &*self.stream).read(buffer) {
                Ok(0) if self.desk.stopping() => break Heard::Stopping,
                Ok(0) => break Heard::HungUp,
                Ok(n) => break Heard::Octets(n),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        };
        if rests {
            let _ = self.desk.rest(false);
        }
        Ok(heard)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.out.is_empty() {
            log::trace!("S: {}", String::from_utf8_lossy(&self.out).trim_end());
            (&mut &*self.stream).write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    /// The client goes on talking after the end. Closing now would reset the connection, and our last reply
    /// might be lost with it.
    fn hear_out(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut waste = [0; 4096];
        let mut heard = 0;
        while heard < LAST_WORDS && !self.desk.stopping() {
            match (&mut &*self.stream).read(&mut waste) {
                Ok(n) if n > 0 => heard += n,
                _ => return,
            }
        }
    }

    /// Takes the octets of content off `input`.
    fn receive(&mut self, input: &mut &[u8]) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        let most = self.session.as_ref().map_or(0, Session::max_message_size);
        let Incoming {
            decoder,
            content,
            kept,
            ..
        } = incoming;
        let mut size = decoder.size();
        let decoded = decoder.decode(input, &mut |piece| {
            size += piece.len() as u64;
            if kept.is_ok() && size <= most {
                *kept = content.write(piece).map_err(|error| refusal(&error));
            }
        });
        *input = &input[decoded.consumed..];
        if decoded.finished {
            let (size, fault, kept) = (decoder.size(), decoder.fault(), *kept);
            self.give(Input::ContentEnd { size, fault, kept });
        }
    }

    /// Tells the session, and does what it says to that.
    fn give(&mut self, input: Input<'_>) {
        if let Input::Line(text) = input {
            log::trace!("C: {}", String::from_utf8_lossy(text));
        }
        let Some(session) = self.session.take() else {
            return;
        };
        let (session, steps) = session.advance(input);
        self.session = Some(session);
        for step in steps {
            match step {
                Step::Reply(reply) => reply.write_to(&mut self.out, true),
                Step::ReceiveContent => self.incoming = self.expect(),
                Step::Discard => self.incoming = None,
                Step::Store(envelope) => {
                    let stored = self.store(envelope);
                    self.give(Input::Stored(stored));
                }
                // The session says so itself: see `is_closed`.
                Step::Close => {}
            }
        }
    }

    /// Makes room for the message that comes: it gets its ID, and our Received line on top.
    fn expect(&self) -> Option<Incoming> {
        let facts = self.session.as_ref()?.received_facts()?;
        let id = self.handler.queue.message_id();
        let mut content = self.handler.queue.content_writer(id);
        let received = facts.line(id, &id.arrived().to_rfc5322());
        let kept = content
            .write(received.as_bytes())
            .map_err(|error| refusal(&error));
        Some(Incoming {
            id,
            decoder: Decoder::new(),
            content,
            kept,
            began: Instant::now(),
            helo: facts.helo.to_owned(),
            protocol: if facts.extended { "ESMTP" } else { "SMTP" },
        })
    }

    /// Promise 1: when this returns an ID, the commit that holds the message has returned.
    fn store(&mut self, envelope: Envelope) -> Result<MessageId, StoreRefusal> {
        let incoming = self.incoming.take().ok_or(StoreRefusal::QueueTrouble)?;
        let id = incoming.id;
        let (from, recipients) = (envelope.reverse_path.to_string(), envelope.recipients.len());
        let stored = incoming.content.finish().and_then(|content| {
            let size = content.size();
            let (from, to) = (envelope.reverse_path, envelope.recipients);
            let arrival = Arrival {
                client: self.client.clone(),
                helo: incoming.helo,
                protocol: incoming.protocol,
                body: envelope.body,
                ..Arrival::new(id, Origin::Session, from, to, content)
            };
            self.handler.queue.put(arrival).map(|()| size)
        });
        match stored {
            Ok(size) => {
                log::info!(
                    "id={id} from=<{from}> to={recipients} size={size} client={} stored",
                    self.client
                );
                // The seed: the handler kicks the conversion if it is idle. A ring while it works is one ring.
                self.handler.imsgcnv.kick();
                Ok(id)
            }
            Err(error) => {
                log::error!("id={id} from=<{from}> not stored: {error}");
                Err(refusal(&error))
            }
        }
    }
}

fn refusal(error: &QueueError) -> StoreRefusal {
    if error.is_out_of_space() {
        StoreRefusal::OutOfSpace
    } else {
        StoreRefusal::QueueTrouble
    }
}
