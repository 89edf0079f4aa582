//! The counting sink: takes mail for everybody, keeps nothing, and knows how much there was, and when the last came.
//!
//! One thread for all sessions, so that it is not the limit. Never says anything but yes, and never reads a message
//! further than to its stamp and its end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::{Condvar, Mutex};

use crate::ending::Ending;
use crate::latencies::Latencies;
use crate::message;

/// What is said to EHLO. No CHUNKING: all senders shall do the same work.
const OFFERS: &[u8] = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 104857600\r\n";

/// The stamp is looked for in so many octets of a message.
const HEAD: usize = 4096;

/// The longest command.
const LONGEST_LINE: usize = 4096;

/// The token of the listener.
const LISTENER: u64 = u64::MAX;

/// What the sink has seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Messages that came to their end.
    pub messages: u64,
    /// Their octets, with dots.
    pub octets: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// How many are open.
    pub open: u64,
    /// The most that were open at once.
    pub most_open: u64,
    /// Messages whose connection ended before them, and lines that were too long.
    pub broken: u64,
    /// When the last message was complete.
    pub last: Option<Instant>,
    /// From the stamp in a message to its end here.
    pub ages: Latencies,
}

#[derive(Debug, Default)]
struct Shared {
    tally: Mutex<Tally>,
    changed: Condvar,
    stop: AtomicBool,
}

/// A sink that runs in a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The system's.
    pub fn start(address: SocketAddr) -> io::Result<Sink> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let shared = Arc::new(Shared::default());
        let server = Server {
            listener,
            epoll,
            shared: Arc::clone(&shared),
            guests: Vec::new(),
            vacant: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("sink".into())
            .spawn(move || server.run())?;
        Ok(Sink {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// Waits until it has seen `messages`, for `time` at most, and begins to count anew.
    pub fn take(&self, messages: u64, time: Duration) -> Tally {
        let until = Instant::now() + time;
        let mut tally = self.shared.tally.lock();
        while tally.messages < messages && !self.shared.changed.wait_until(&mut tally, until).timed_out() {}
        let open = tally.open;
        std::mem::replace(
            &mut *tally,
            Tally {
                open,
                most_open: open,
                ..Tally::default()
            },
        )
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    shared: Arc<Shared>,
    guests: Vec<Option<Guest>>,
    vacant: Vec<usize>,
}

/// Somebody who sends.
struct Guest {
    stream: TcpStream,
    line: Vec<u8>,
    out: Vec<u8>,
    /// In content: what looks for its end.
    ending: Ending,
    content: bool,
    /// The beginning of the content, until the stamp is found.
    head: Vec<u8>,
    stamped: bool,
    leaving: bool,
}

impl Server {
    fn run(mut self) {
        let mut events = vec![EpollEvent::empty(); 256];
        let mut buffer = vec![0; 256 * 1024];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let count = self
                .epoll
                .wait(&mut events, EpollTimeout::from(50_u16))
                .unwrap_or(0);
            if count == 0 {
                continue;
            }
            // What this round brings is counted at once: nobody is woken for each message.
            let mut news = Tally::default();
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept(&mut news),
                    place => self.attend(place as usize, &mut buffer, &mut news),
                }
            }
            self.publish(&news);
        }
    }

    fn publish(&self, news: &Tally) {
        let mut tally = self.shared.tally.lock();
        tally.messages += news.messages;
        tally.octets += news.octets;
        tally.connections += news.connections;
        tally.broken += news.broken;
        tally.open = (self.guests.len() - self.vacant.len()) as u64;
        tally.most_open = tally.most_open.max(tally.open).max(news.most_open);
        tally.last = news.last.or(tally.last);
        tally.ages.join(&news.ages);
        if news.messages > 0 {
            self.shared.changed.notify_all();
        }
    }

    fn accept(&mut self, news: &mut Tally) {
        while let Ok((stream, _)) = self.listener.accept() {
            let _ = stream.set_nodelay(true);
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let place = self.vacant.pop().unwrap_or_else(|| {
                self.guests.push(None);
                self.guests.len() - 1
            });
            let flags =
                EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
            if self
                .epoll
                .add(&stream, EpollEvent::new(flags, place as u64))
                .is_err()
            {
                self.vacant.push(place);
                continue;
            }
            news.connections += 1;
            let mut guest = Guest::new(stream);
            let _ = guest.flush();
            self.guests[place] = Some(guest);
            news.most_open = news.most_open.max((self.guests.len() - self.vacant.len()) as u64);
        }
    }

    fn attend(&mut self, place: usize, buffer: &mut [u8], news: &mut Tally) {
        let Some(guest) = self.guests.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        if guest.attend(buffer, news).is_some() {
            return;
        }
        news.broken += u64::from(guest.content);
        if let Some(guest) = self.guests[place].take() {
            let _ = self.epoll.delete(&guest.stream);
        }
        self.vacant.push(place);
    }
}

impl Guest {
    fn new(stream: TcpStream) -> Guest {
        Guest {
            stream,
            line: Vec::new(),
            out: b"220 sink.example ESMTP\r\n".to_vec(),
            ending: Ending::new(),
            content: false,
            head: Vec::new(),
            stamped: false,
            leaving: false,
        }
    }

    /// Reads and answers; nothing when the session is over.
    fn attend(&mut self, buffer: &mut [u8], news: &mut Tally) -> Option<()> {
        loop {
            let count = match (&self.stream).read(buffer) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            self.hear(&buffer[..count], news)?;
            // Edge-triggered; a short read has emptied the socket.
            if count < buffer.len() {
                break;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Option<()> {
        while !self.out.is_empty() {
            match (&self.stream).write(&self.out) {
                Ok(written) => {
                    self.out.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        (!self.leaving).then_some(())
    }

    fn hear(&mut self, mut piece: &[u8], news: &mut Tally) -> Option<()> {
        while !piece.is_empty() {
            if self.content {
                let end = self.ending.find(piece);
                let (part, rest) = piece.split_at(end.unwrap_or(piece.len()));
                self.look_for_stamp(part);
                news.octets += part.len() as u64;
                piece = rest;
                if end.is_some() {
                    self.take_message(news);
                }
                continue;
            }
            let length = memchr::memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
            let (part, rest) = piece.split_at(length);
            piece = rest;
            self.line.extend_from_slice(part);
            if self.line.len() > LONGEST_LINE {
                news.broken += 1;
                return None;
            }
            if self.line.ends_with(b"\n") {
                self.obey();
                self.line.clear();
            }
        }
        Some(())
    }

    fn look_for_stamp(&mut self, part: &[u8]) {
        if self.stamped {
            return;
        }
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&part[..part.len().min(room)]);
        self.stamped = self.head.len() == HEAD;
    }

    fn take_message(&mut self, news: &mut Tally) {
        news.messages += 1;
        news.last = Some(Instant::now());
        if let Some(age) = message::age(&self.head) {
            news.ages.add(age);
        }
        self.head.clear();
        self.stamped = false;
        self.content = false;
        self.out.extend_from_slice(b"250 2.0.0 Ok\r\n");
    }

    fn obey(&mut self) {
        let verb: Vec<u8> = self.line.iter().take(4).map(u8::to_ascii_uppercase).collect();
        let reply: &[u8] = match &verb[..] {
            b"EHLO" => OFFERS,
            b"HELO" => b"250 sink.example\r\n",
            b"MAIL" => b"250 2.1.0 Ok\r\n",
            b"RCPT" => b"250 2.1.5 Ok\r\n",
            b"RSET" | b"NOOP" => b"250 2.0.0 Ok\r\n",
            b"DATA" => {
                self.content = true;
                b"354 Go on\r\n"
            }
            b"QUIT" => {
                self.leaving = true;
                b"221 2.0.0 Bye\r\n"
            }
            _ => b"500 5.5.1 Unknown\r\n",
        };
        self.out.extend_from_slice(reply);
    }
}
