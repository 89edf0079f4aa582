//! A connection that is plain, and may come to speak TLS.
//!
//! Knows nothing of what is said over it, and never falls back into the clear: once TLS was begun there is
//! TLS or nothing.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, Connection, ServerConnection};
use rustls_pki_types::ServerName;

pub use super::handshake::{HandshakeError, TlsFacts};
use super::handshake::{LAST_WORD, facts, say_all, say_last, shake};
use super::identity::Identity;
use super::socket::{Socket, is_time_out};

pub use super::socket::Heard;

/// How much text is encrypted before it goes out: one record. What waits to be sent takes no more memory.
const MOST_UNSENT: usize = 16 * 1024;

/// A connection that is plain or speaks TLS. Has the socket, which must be in blocking mode; closes it when
/// dropped.
pub struct Wire {
    socket: Socket,
    speech: Speech,
}

/// How a connection is spoken over.
enum Speech {
    Plain,
    Tls {
        // More than a thousand octets: too much for a connection that is plain.
        tls: Box<Connection>,
        /// Octets that are decrypted and not read yet.
        waiting: usize,
    },
    /// Nothing goes over it any more: TLS has failed, or we have closed.
    Over,
}

impl Wire {
    /// A connection in the clear. The time-outs of the socket are this wire's from now on.
    #[must_use]
    pub fn plain(stream: TcpStream) -> Wire {
        Wire {
            socket: Socket::new(stream),
            speech: Speech::Plain,
        }
    }

    /// The socket below: for its descriptor, its addresses and its options. What is read from it or written
    /// to it goes past TLS.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.socket.stream()
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.speech, Speech::Tls { .. })
    }

    /// Octets that have been decrypted and not been read: the next read brings them at once, whatever the
    /// socket has. Always 0 in the clear.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match self.speech {
            Speech::Tls { waiting, .. } => waiting,
            Speech::Plain | Speech::Over => 0,
        }
    }

    /// Reads what has come, and waits at most `wait` if nothing has. With TLS, a record that is not whole
    /// yet, or one without text, is nothing.
    ///
    /// The end is `HungUp`, whether the peer has announced it (`close_notify`) or not: SMTP knows by itself
    /// whether something is missing.
    ///
    /// # Errors
    /// The connection broke (`ConnectionReset` and so on); or the peer broke TLS, or ended it by an alert
    /// (`InvalidData`), and everything after is `HungUp`.
    pub fn read(&mut self, buffer: &mut [u8], wait: Duration) -> io::Result<Heard> {
        let Wire { socket, speech } = self;
        let (tls, waiting) = match speech {
            Speech::Plain => return socket.read(buffer, wait),
            Speech::Over => return Ok(Heard::HungUp),
            Speech::Tls { tls, waiting } => (tls, waiting),
        };
        if buffer.is_empty() {
            return Ok(Heard::Nothing);
        }
        let mut began = None;
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Ok(Heard::HungUp),
                Ok(n) => {
                    *waiting = waiting.saturating_sub(n);
                    return Ok(Heard::Octets(n));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Heard::HungUp),
                Err(error) => return Err(error),
            }
            // Records without text, however many, do not make this longer.
            let left = match began {
                None => {
                    began = Some(Instant::now());
                    wait
                }
                Some(began) => match wait.saturating_sub(began.elapsed()) {
                    Duration::ZERO => return Ok(Heard::Nothing),
                    left => left,
                },
            };
            match tls.read_tls(&mut socket.listening(left)) {
                Ok(_) => {}
                Err(error) if is_time_out(&error) => return Ok(Heard::Nothing),
                Err(error) => return Err(error),
            }
            match tls.process_new_packets() {
                Ok(state) => *waiting = state.plaintext_bytes_to_read(),
                Err(error) => {
                    say_last(socket, tls);
                    self.speech = Speech::Over;
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            }
            if tls.wants_write() {
                // Renegotiation is refused, for instance. If the peer does not take that now, it goes out
                // before our next words; a connection that broke shows itself at the next read.
                let _ = say_all(socket, tls, Instant::now() + left.min(LAST_WORD));
            }
        }
    }

    /// Writes what goes out without waiting, and gives how much that was; with TLS nothing does.
    ///
    /// # Errors
    /// Whatever the system says. The connection is good for nothing but to be dropped.
    pub fn write_at_once(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self.speech {
            Speech::Plain => self.socket.write_at_once(octets),
            Speech::Tls { .. } | Speech::Over => Ok(0),
        }
    }

    /// Writes all of it before `deadline`, however slowly the peer reads.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, when some of it may have gone out, and `NotConnected` when the connection
    /// is over; whatever the system says. The connection is good for nothing but to be dropped.
    pub fn write_all(&mut self, octets: &[u8], deadline: Instant) -> io::Result<()> {
        let Wire { socket, speech } = self;
        match speech {
            Speech::Plain => socket.write_all(octets, deadline),
            Speech::Over => Err(ErrorKind::NotConnected.into()),
            Speech::Tls { tls, .. } => {
                let mut left = octets;
                while !left.is_empty() {
                    // An answer of TLS itself may have taken a part of the room, so that less than a piece
                    // goes in.
                    let taken = tls.writer().write(left)?;
                    if taken == 0 && !tls.wants_write() {
                        // The keys are worn out, and TLS 1.2 has no others.
                        return Err(ErrorKind::WriteZero.into());
                    }
                    say_all(socket, tls, deadline)?;
                    left = &left[taken..];
                }
                Ok(())
            }
        }
    }

    /// Answers a client's handshake, all of it before `deadline`. Nothing that was read in the clear may be
    /// kept.
    ///
    /// # Errors
    /// There is no TLS. The client has been told why, as far as it listens, and the connection is over.
    pub fn accept_tls(&mut self, identity: &Identity, deadline: Instant) -> Result<TlsFacts, HandshakeError> {
        let connection = ServerConnection::new(identity.server_config())?;
        let end_point = identity.server_end_point().map(<[u8]>::to_vec);
        self.begin_tls(connection.into(), end_point, deadline)
    }

    /// Begins TLS with the host of this name, which we have called: all of the handshake before `deadline`. Nothing
    /// that was read in the clear may be kept. What is no host name is called by its address.
    ///
    /// # Errors
    /// There is no TLS. The host has been told why, as far as it listens, and the connection is over.
    pub fn begin_tls_with(
        &mut self,
        name: &str,
        trust: Arc<ClientConfig>,
        deadline: Instant,
    ) -> Result<TlsFacts, HandshakeError> {
        let name = match ServerName::try_from(name.trim_end_matches('.').to_owned()) {
            Ok(name) => name,
            Err(_) => ServerName::from(self.stream().peer_addr()?.ip()),
        };
        let connection = ClientConnection::new(trust, name)?;
        self.begin_tls(connection.into(), None, deadline)
    }

    /// The handshake of either side. `server_end_point` is the channel binding of the server's certificate.
    fn begin_tls(
        &mut self,
        connection: Connection,
        server_end_point: Option<Vec<u8>>,
        deadline: Instant,
    ) -> Result<TlsFacts, HandshakeError> {
        if !matches!(self.speech, Speech::Plain) {
            return Err(HandshakeError::OutOfPlace);
        }
        // Whatever comes of it, nothing is said in the clear any more.
        self.speech = Speech::Over;
        let mut tls = Box::new(connection);
        tls.set_buffer_limit(Some(MOST_UNSENT));
        shake(&mut self.socket, &mut tls, deadline)?;
        // With TLS 1.3 the client has the last word, and a server that gives no tickets has nothing to say to it.
        self.socket.acknowledge();
        let facts = facts(&tls, server_end_point)?;
        // A client may say its first words together with the end of its handshake.
        let waiting = tls.process_new_packets()?.plaintext_bytes_to_read();
        self.speech = Speech::Tls { tls, waiting };
        Ok(facts)
    }

    /// Says that nothing more will be said: `close_notify` with TLS, if the peer takes it within a second,
    /// and the end of the stream. What the peer says after this is not heard here; it is on [`Wire::stream`].
    pub fn close(&mut self) {
        match std::mem::replace(&mut self.speech, Speech::Over) {
            Speech::Plain => self.socket.end(),
            Speech::Tls { mut tls, .. } => {
                tls.send_close_notify();
                say_last(&mut self.socket, &mut tls);
            }
            Speech::Over => {}
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("socket", &self.socket)
            .field("is_encrypted", &self.is_encrypted())
            .finish()
    }
}

#[cfg(test)]
mod tests;
