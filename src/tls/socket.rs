//! A TCP socket in blocking mode on which nothing takes longer than was said.
//!
//! A deadline is a moment, not a pause between two octets: a peer that moves one octet a second does not
//! stretch it. Knows nothing of what goes over it.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So many octets, never 0.
    Octets(usize),
    /// The peer has said all it had to say, or the connection was cut off.
    HungUp,
    /// Nothing in the time that there was.
    Nothing,
}

/// How long one system call writes before the deadline is looked at again. Always the same value but near the
/// deadline, so that the socket has to be told but once.
const WRITE_SLICE: Duration = Duration::from_secs(5);

/// How long one system call waits of what is `left`: from call to call the same, mostly, so that the socket need not
/// be told anew.
fn slice(left: Duration) -> Duration {
    match left.as_secs() {
        0 => left,
        seconds => Duration::from_secs(1 << seconds.ilog2()),
    }
}

/// A TCP socket in blocking mode.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// The time-outs that the socket was told last.
    read_wait: Option<Duration>,
    write_wait: Option<Duration>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Socket {
        Socket {
            stream,
            read_wait: None,
            write_wait: None,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads what has come; waits at most `wait` if nothing has, and not at all if it is zero. A read into no
    /// room brings nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8], wait: Duration) -> io::Result<Heard> {
        if buffer.is_empty() {
            return Ok(Heard::Nothing);
        }
        if wait.is_zero() {
            return self.read_at_once(buffer);
        }
        let began = Instant::now();
        let mut left = wait;
        while !left.is_zero() {
            let slice = slice(left);
            if self.read_wait != Some(slice) {
                self.stream.set_read_timeout(Some(slice))?;
                self.read_wait = Some(slice);
            }
            match (&self.stream).read(buffer) {
                Ok(0) => return Ok(Heard::HungUp),
                Ok(n) => return Ok(Heard::Octets(n)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_time_out(&error) => {}
                Err(error) => return Err(error),
            }
            left = wait.saturating_sub(began.elapsed());
        }
        Ok(Heard::Nothing)
    }

    /// Reads what is there already.
    fn read_at_once(&self, buffer: &mut [u8]) -> io::Result<Heard> {
        loop {
            match recv(self.stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Ok(Heard::HungUp),
                Ok(n) => return Ok(Heard::Octets(n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Heard::Nothing),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells the peer at once that we have heard it. Else the system waits for some 40 ms for something to say, and a
    /// peer that waits for this in turn (Nagle) with it.
    pub(super) fn acknowledge(&self) {
        // Only faster, where the system can do it.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&self.stream).set_tcp_quickack(true);
    }

    /// Writes as much as goes out at once, at least one octet, and waits for that until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; whatever the system says.
    pub(super) fn write(&mut self, pieces: &[IoSlice<'_>], deadline: Instant) -> io::Result<usize> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            let slice = left.min(WRITE_SLICE);
            if self.write_wait != Some(slice) {
                self.stream.set_write_timeout(Some(slice))?;
                self.write_wait = Some(slice);
            }
            match (&self.stream).write_vectored(pieces) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == ErrorKind::Interrupted || is_time_out(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what goes out without waiting; how much that was.
    pub(super) fn write_at_once(&self, octets: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.stream.as_raw_fd(), octets, flags) {
            Ok(written) => Ok(written),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of it before `deadline`.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, when some of it may have gone out; whatever the system says.
    pub(super) fn write_all(&mut self, mut octets: &[u8], deadline: Instant) -> io::Result<()> {
        while !octets.is_empty() {
            let written = self.write(&[IoSlice::new(octets)], deadline)?;
            octets = &octets[written..];
        }
        Ok(())
    }

    /// Says that nothing more will be written.
    pub(super) fn end(&self) {
        // Fails only when the connection is gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The socket as something to read from, for at most `wait` each time. Nothing heard is `WouldBlock`.
    pub(super) fn listening(&mut self, wait: Duration) -> Listening<'_> {
        Listening { socket: self, wait }
    }

    /// The socket as something to write to, until `deadline`.
    pub(super) fn speaking(&mut self, deadline: Instant) -> Speaking<'_> {
        Speaking {
            socket: self,
            deadline,
        }
    }
}

/// Linux says `WouldBlock` when a time-out of the socket is over, others say `TimedOut`.
pub(super) fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// See [`Socket::listening`].
pub(super) struct Listening<'s> {
    socket: &'s mut Socket,
    wait: Duration,
}

impl Read for Listening<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.socket.read(buffer, self.wait)? {
            Heard::Octets(n) => Ok(n),
            Heard::HungUp => Ok(0),
            Heard::Nothing => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// See [`Socket::speaking`].
pub(super) struct Speaking<'s> {
    socket: &'s mut Socket,
    deadline: Instant,
}

impl Write for Speaking<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(octets)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write(pieces, self.deadline)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
