//! The connection of a session handler with its peer: bytes out in as few writes as possible, replies in, plain or in
//! TLS.
//!
//! Knows what a reply looks like, never what it means.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use rustls::ClientConfig;
use socket2::{Domain, SockAddr, Socket, Type};

use super::outcome::{Address, Peer, Trouble};
use super::session::BLOCK_DEADLINE;
use crate::crash_point::{CrashPoint, reach};
use crate::smtp::data::Encoder;
use crate::smtp::reply::{Reply, ReplyParser};
use crate::tls::wire::{Heard, TlsFacts, Wire};

/// How long to wait for a connection to be made. The system tries several times in this span.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// The same for a socket of this machine.
const CONNECT_HERE_DEADLINE: Duration = Duration::from_secs(5);

/// How long the TLS handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(60);

/// What is gathered before it is written.
const WRITE_BUFFER: usize = 64 * 1024;

/// What has to go out within [`BLOCK_DEADLINE`]: a peer that takes so much makes progress.
const BLOCK: usize = 16 * 1024;

/// A line of a reply is at most so long; the standard allows 512 octets (RFC 5321 4.5.3.1.5).
const LONGEST_LINE: usize = 16 * 1024;

/// How content is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As lines, dot-stuffed, with the final dot (DATA).
    Lines,
    /// As it is, in one chunk (BDAT, RFC 3030).
    Chunk,
}

/// Why content could not be sent.
#[derive(Debug)]
pub enum SendError {
    /// It can not be read.
    Content(io::Error),
    /// It has only so many octets.
    Cut(u64),
    /// The peer does not take it.
    Peer(Trouble),
}

/// A connection that has been made.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    round_trip: Duration,
    out: Vec<u8>,
    /// Where in `out` the content begins that is being sent.
    content_from: usize,
    input: Vec<u8>,
    /// Octets of `input` that have been used up.
    used: usize,
}

impl Connection {
    /// Connects to `peer`.
    ///
    /// # Errors
    /// The system's words.
    pub fn open(peer: &Peer) -> io::Result<Connection> {
        let began = Instant::now();
        let stream = match &peer.address {
            Address::Net(address) => TcpStream::connect_timeout(address, CONNECT_DEADLINE)?,
            Address::Socket(path) => connect_here(path)?,
        };
        let round_trip = began.elapsed();
        if peer.address.ip().is_some() {
            stream.set_nodelay(true)?;
        }
        Ok(Connection {
            wire: Wire::plain(stream),
            round_trip,
            out: Vec::new(),
            content_from: 0,
            input: Vec::new(),
            used: 0,
        })
    }

    /// How long the peer's system took to answer: a round trip, if nothing was lost.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Whether the peer has said nothing that has not been heard yet, and has not hung up.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        self.wire.waiting() == 0 && recv(self.socket(), &mut [0], peek) == Err(Errno::EAGAIN)
    }

    /// The socket, to be shut down from outside.
    #[must_use]
    pub fn socket(&self) -> RawFd {
        self.wire.stream().as_raw_fd()
    }

    /// Begins TLS with `peer`. What was said before is forgotten.
    ///
    /// # Errors
    /// Why there is none; the connection is over then.
    pub fn begin_tls(&mut self, peer: &Peer, trust: Arc<ClientConfig>) -> Result<TlsFacts, Trouble> {
        self.flush()?;
        self.input.clear();
        self.used = 0;
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        self.wire
            .begin_tls_with(&peer.name, trust, deadline)
            .map_err(|error| Trouble::Tls(error.to_string()))
    }

    /// Puts bytes into the write buffer.
    pub fn send(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Puts content there in this form; writes when the buffer is full. The end of content in lines, the
    /// final dot, is sent only if it was `size` octets long; of content in one chunk, no more than `size`
    /// octets are sent.
    ///
    /// # Errors
    /// When the content can not be read or is not as long as it should be, or the peer does not take it. The
    /// peer has not got the end then, and will not get it with what is sent next.
    pub fn send_content(&mut self, form: Form, content: impl Read, size: u64) -> Result<(), SendError> {
        self.content_from = self.out.len();
        let sent = self.send_pieces(form, content, size);
        if sent.is_err() {
            self.out.truncate(self.content_from);
        }
        sent
    }

    fn send_pieces(&mut self, form: Form, mut content: impl Read, size: u64) -> Result<(), SendError> {
        let mut encoder = Encoder::new();
        // Most messages are much smaller than a piece: no need to clear a large one for each.
        const PIECE: usize = WRITE_BUFFER / 2;
        let mut piece = vec![0; usize::try_from(size + 1).map_or(PIECE, |size| size.min(PIECE))];
        let mut sent = 0;
        loop {
            let n = content.read(&mut piece).map_err(SendError::Content)?;
            sent += n as u64;
            if n == 0 {
                break;
            }
            match form {
                Form::Lines => encoder.encode(&piece[..n], &mut self.out),
                Form::Chunk if sent > size => break,
                Form::Chunk => self.out.extend_from_slice(&piece[..n]),
            }
            // A chunk is complete with its last octet: that one waits until it is certain that none comes
            // after it.
            let may_go = form == Form::Lines || sent < size;
            if may_go && self.out.len() >= WRITE_BUFFER {
                self.flush().map_err(SendError::Peer)?;
            }
        }
        if sent != size {
            return Err(SendError::Cut(sent));
        }
        reach(CrashPoint::ContentEndless);
        if form == Form::Lines {
            encoder.finish(&mut self.out);
        }
        Ok(())
    }

    /// Whether so much has gathered that it should be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.len() >= WRITE_BUFFER
    }

    /// Writes what has gathered. A peer that takes some of it, however slowly, is waited for.
    ///
    /// # Errors
    /// When the peer does not take it.
    pub fn flush(&mut self) -> Result<(), Trouble> {
        let written = write(&mut self.wire, &self.out);
        self.out.clear();
        self.content_from = 0;
        self.out.shrink_to(2 * WRITE_BUFFER);
        written.map_err(|error| trouble(&error))
    }

    /// The next reply, within `patience`; and whether the peer has said more than that already.
    ///
    /// # Errors
    /// When none came, or what came is not a reply.
    pub fn reply(&mut self, patience: Duration) -> Result<(Reply, bool), Trouble> {
        let deadline = Instant::now() + patience;
        let mut parser = ReplyParser::default();
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.input[self.used..]) {
                let line = &self.input[self.used..self.used + end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let parsed = parser.feed(line);
                self.used += end + 1;
                if let Some(reply) = parsed.map_err(|error| Trouble::Garbage(error.to_string()))? {
                    return Ok((reply, self.used < self.input.len()));
                }
            }
            self.read_more(deadline)?;
        }
    }

    fn read_more(&mut self, deadline: Instant) -> Result<(), Trouble> {
        self.input.drain(..self.used);
        self.used = 0;
        if self.input.len() > LONGEST_LINE {
            return Err(Trouble::Garbage("a line without an end".to_owned()));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Trouble::Timeout);
        }
        let mut piece = [0; 4096];
        acknowledge_at_once(self.wire.stream());
        match self.wire.read(&mut piece, left) {
            Ok(Heard::HungUp) => Err(Trouble::Closed),
            Ok(Heard::Octets(n)) => {
                self.input.extend_from_slice(&piece[..n]);
                Ok(())
            }
            Ok(Heard::Nothing) => Ok(()),
            Err(error) => Err(trouble(&error)),
        }
    }
}

/// Connects to a socket of this machine. What comes of it is used as a stream of TCP is: reads, writes, their time-outs and
/// a shutdown are the same of both, and nothing else is asked of it.
pub(crate) fn connect_here(path: &Path) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server that accepts nobody is not waited for without end.
    socket.set_write_timeout(Some(CONNECT_HERE_DEADLINE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

/// Writes all of it, as long as the peer goes on taking some.
fn write(wire: &mut Wire, octets: &[u8]) -> io::Result<()> {
    let mut left = octets;
    while !left.is_empty() {
        let written = match wire.write_at_once(left)? {
            0 => {
                let block = left.len().min(BLOCK);
                wire.write_all(&left[..block], Instant::now() + BLOCK_DEADLINE)?;
                block
            }
            written => written,
        };
        left = &left[written..];
    }
    Ok(())
}
/// Many hosts write each of several replies on its own, and their system holds the second one back until we have
/// acknowledged the first: 40 ms for every message, unless we do so at once.
fn acknowledge_at_once(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::TcpStreamExt;
        // Only faster; right without it too.
        let _ = stream.set_quickack(true);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

fn trouble(error: &std::io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Timeout,
        _ => Trouble::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What a peer gets of `content`, said to be of `size` octets, and whether that went well.
    fn sent(form: Form, content: &[u8], size: u64) -> (Vec<u8>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer {
            name: "peer.test".to_owned(),
            address: listener.local_addr().unwrap().into(),
        };
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
            got
        });
        let mut connection = Connection::open(&peer).unwrap();
        let went = connection.send_content(form, content, size);
        // As the handler does it: what stands before content that is cut goes out.
        let went_well = connection.flush().is_ok() && went.is_ok();
        drop(connection);
        (reader.join().unwrap(), went_well)
    }

    #[test]
    fn a_chunk_goes_as_it_is() {
        let binary: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let (got, went_well) = sent(Form::Chunk, &binary, 300_000);
        assert!(went_well && got == binary);
        assert_eq!(sent(Form::Chunk, b".\r\n.x", 5), (b".\r\n.x".to_vec(), true));
        assert_eq!(sent(Form::Lines, b".\r\n", 3).0, b"..\r\n.\r\n");
    }

    #[test]
    fn content_that_is_not_as_long_as_it_should_be_never_comes_to_its_end() {
        let content = vec![b'x'; 200_000];
        for form in [Form::Lines, Form::Chunk] {
            for size in [65_536, 131_072, 199_999, 200_001] {
                let (got, went_well) = sent(form, &content, size);
                assert!(!went_well);
                let complete = match form {
                    Form::Lines => got.ends_with(b"\r\n.\r\n"),
                    Form::Chunk => got.len() as u64 >= size,
                };
                assert!(!complete, "{form:?} {size}: {} octets", got.len());
            }
        }
    }
}
