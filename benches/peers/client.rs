//! One session of the load: greeting, EHLO, then messages, each as a good client sends it (RFC 5321, RFC 2920).
//!
//! Checks every reply. Where PIPELINING is offered MAIL, RCPT and DATA go in one write; the content goes only after 354.
//! Never begins a message before the one before is answered for.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::message::Model;

/// A reply that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Content,
    Quit,
}

/// What came of what was read.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing that matters outside.
    None,
    /// The session is ready for its first message.
    Ready,
    /// The message was taken: so long after it began.
    Taken(Duration),
    /// QUIT was answered: all is over.
    Over,
}

/// A message that goes, or will go as soon as the session is ready.
#[derive(Debug)]
struct InHand {
    number: u64,
    began: Instant,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    model: Model,
    due: VecDeque<Due>,
    input: Vec<u8>,
    out: Vec<u8>,
    /// The body that goes behind `out`, and from where.
    body: Option<(Arc<[u8]>, usize)>,
    pipelining: bool,
    ready: bool,
    in_hand: Option<InHand>,
    /// Messages that were taken over this connection.
    pub taken: u64,
    /// When something was last heard, or asked for.
    pub heard: Instant,
}

impl Client {
    /// Begins to connect.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(target: SocketAddr, model: &Model) -> io::Result<Client> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => {
                return Err(error);
            }
            _ => {}
        }
        Ok(Client {
            stream: socket.into(),
            model: model.clone(),
            due: VecDeque::from([Due::Greeting]),
            input: Vec::new(),
            out: Vec::new(),
            body: None,
            pipelining: false,
            ready: false,
            in_hand: None,
            taken: 0,
            heard: Instant::now(),
        })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether a message is in hand.
    pub fn is_busy(&self) -> bool {
        self.in_hand.is_some()
    }

    /// Whether QUIT has been said.
    pub fn is_leaving(&self) -> bool {
        self.due.back() == Some(&Due::Quit)
    }

    /// Whether anything is due from the server.
    pub fn is_waiting(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes message `number`, which began at `began`, in hand, and sends it when the session is ready.
    ///
    /// # Errors
    /// As [`Client::flush`].
    pub fn send(&mut self, number: u64, began: Instant) -> Result<(), String> {
        self.in_hand = Some(InHand { number, began });
        self.heard = Instant::now();
        if self.ready { self.begin() } else { Ok(()) }
    }

    /// Says QUIT, and that nothing follows: Exim holds its reply back for 200 ms, until it sees that.
    ///
    /// # Errors
    /// As [`Client::flush`].
    pub fn quit(&mut self) -> Result<(), String> {
        self.out.extend_from_slice(b"QUIT\r\n");
        self.due.push_back(Due::Quit);
        self.heard = Instant::now();
        self.flush()?;
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| format!("shutdown: {error}"))
    }

    fn begin(&mut self) -> Result<(), String> {
        let Some(message) = &self.in_hand else {
            return Ok(());
        };
        let [mail, rcpt, data] = self.model.commands(message.number);
        self.out.extend_from_slice(mail.as_bytes());
        self.due.push_back(Due::Mail);
        if self.pipelining {
            self.out.extend_from_slice(rcpt.as_bytes());
            self.out.extend_from_slice(data.as_bytes());
            self.due.extend([Due::Rcpt, Due::Data]);
        }
        self.flush()
    }

    /// Writes what can be written.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> Result<(), String> {
        loop {
            let body = self.body.as_ref().map_or(&[][..], |(body, at)| &body[*at..]);
            if self.out.is_empty() && body.is_empty() {
                self.body = None;
                return Ok(());
            }
            match (&self.stream).write_vectored(&[IoSlice::new(&self.out), IoSlice::new(body)]) {
                Ok(written) => {
                    let first = written.min(self.out.len());
                    self.out.drain(..first);
                    if let Some((_, at)) = &mut self.body {
                        *at += written - first;
                    }
                }
                // It is not connected yet, or the server is slow: epoll tells when it goes on.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("write: {error}")),
            }
        }
    }

    /// Reads what is there into `buffer`, and goes on.
    ///
    /// # Errors
    /// A reply that is not the one that should come, or the end of the connection; the session is over then.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<News, String> {
        let mut news = News::None;
        loop {
            let count = match (&self.stream).read(buffer) {
                Ok(0) if self.due == [Due::Quit] => return Ok(News::Over),
                Ok(0) => return Err(format!("closed, {:?} was due", self.due.front())),
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(news);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) if self.due == [Due::Quit] => return Ok(News::Over),
                Err(error) => return Err(format!("read: {error}, {:?} was due", self.due.front())),
            };
            self.heard = Instant::now();
            self.input.extend_from_slice(&buffer[..count]);
            let mut used = 0;
            while let Some(length) = memchr::memchr(b'\n', &self.input[used..]) {
                let line = String::from_utf8_lossy(&self.input[used..used + length])
                    .trim_end()
                    .to_owned();
                used += length + 1;
                match self.hear(&line)? {
                    News::None => {}
                    other => news = other,
                }
            }
            self.input.drain(..used);
            // The poll is edge-triggered; a short read has emptied the socket.
            if count < buffer.len() {
                return Ok(news);
            }
        }
    }

    fn hear(&mut self, line: &str) -> Result<News, String> {
        let Some(&due) = self.due.front() else {
            return Err(format!("said without having been asked: {line}"));
        };
        if due == Due::Ehlo && line.len() > 4 && line[4..].eq_ignore_ascii_case("PIPELINING") {
            self.pipelining = true;
        }
        if line.as_bytes().get(3) == Some(&b'-') {
            return Ok(News::None);
        }
        self.due.pop_front();
        let class = if due == Due::Data { b'3' } else { b'2' };
        if line.as_bytes().first() != Some(&class) {
            return Err(format!("to {due:?}: {line}"));
        }
        match due {
            Due::Greeting => {
                self.out.extend_from_slice(b"EHLO load.example\r\n");
                self.due.push_back(Due::Ehlo);
                self.flush()?;
            }
            Due::Ehlo => {
                self.ready = true;
                self.begin()?;
                return Ok(News::Ready);
            }
            Due::Mail | Due::Rcpt if !self.pipelining => {
                let number = self.in_hand.as_ref().map_or(0, |message| message.number);
                let [_, rcpt, data] = self.model.commands(number);
                let (command, next) = if due == Due::Mail {
                    (rcpt, Due::Rcpt)
                } else {
                    (data, Due::Data)
                };
                self.out.extend_from_slice(command.as_bytes());
                self.due.push_back(next);
                self.flush()?;
            }
            Due::Mail | Due::Rcpt => {}
            Due::Data => {
                if let Some(message) = &self.in_hand {
                    self.out
                        .extend_from_slice(&self.model.header(message.number, message.began));
                }
                self.body = Some((self.model.body(), 0));
                self.due.push_back(Due::Content);
                self.flush()?;
            }
            Due::Content => {
                self.taken += 1;
                if let Some(message) = self.in_hand.take() {
                    return Ok(News::Taken(message.began.elapsed()));
                }
            }
            Due::Quit => return Ok(News::Over),
        }
        Ok(News::None)
    }
}
