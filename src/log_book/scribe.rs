//! A scribe: the one thread that writes lines to a descriptor, in batches, behind a bounded channel.
//!
//! Handing it a line never waits. Only the scribe itself is held up by a pipe that nobody reads.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use crate::clock::Stamp;

/// How many lines may wait: with `record::LONGEST` never more than 16 MiB, usually half of one.
const ROOM: usize = 4096;
/// How many octets are written at once, when so many wait.
const BATCH: usize = 64 * 1024;

/// A line that is to be written.
#[derive(Debug)]
pub struct Line {
    /// The moment that stands before it; `None` for none.
    pub at: Option<Stamp>,
    /// The text with its line end.
    pub text: String,
}

impl Line {
    fn append_to(&self, text: &mut String) {
        if let Some(at) = self.at {
            text.push_str(&at.to_log());
            text.push(' ');
        }
        text.push_str(&self.text);
    }
}

/// What is said in place of so many lost lines.
pub type Apology = fn(u64) -> Line;

/// Where lines go.
#[derive(Debug)]
pub struct Sink(File);

impl Sink {
    /// A file that was opened for appending, or any other descriptor.
    #[must_use]
    pub fn new(file: File) -> Sink {
        Sink(file)
    }

    /// Standard output, without the buffer and the lock that the standard library puts before it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn standard_output() -> io::Result<Sink> {
        Sink::copy(&io::stdout())
    }

    /// Standard error.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn standard_error() -> io::Result<Sink> {
        Sink::copy(&io::stderr())
    }

    fn copy(of: &impl AsFd) -> io::Result<Sink> {
        let copy: OwnedFd = of.as_fd().try_clone_to_owned()?;
        Ok(Sink(File::from(copy)))
    }

    /// Writes all of it. A descriptor that somebody else made non-blocking is waited for.
    fn put(&mut self, text: &[u8]) -> Result<(), Stuck> {
        let mut count = 0;
        while count < text.len() {
            match self.0.write(&text[count..]) {
                Ok(0) => return Err(Stuck { count }),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let writable = PollFd::new(self.0.as_fd(), PollFlags::POLLOUT);
                    let _ = poll(&mut [writable], PollTimeout::from(1000_u16));
                }
                Err(_) => return Err(Stuck { count }),
            }
        }
        Ok(())
    }
}

/// The sink took so many octets and no more. Why does not matter: there is nowhere to say it.
struct Stuck {
    count: usize,
}

enum Order {
    Write(Line),
    /// Tell when everything before has been written.
    Flush(Sender<()>),
    /// Look whether there is another sink.
    Turn,
}

/// The hand that gives lines to the thread. The thread ends when its scribe is dropped.
#[derive(Debug)]
pub struct Scribe {
    orders: Sender<Order>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Lines that were lost since the last that was written.
    lost: AtomicU64,
    /// Where to go on.
    next: Mutex<Option<Sink>>,
}

impl Scribe {
    /// Starts the thread `name`, which writes to `sink`, and `apology` in place of lines that were lost. After the first
    /// line of a batch it waits for `pause` for more: to be woken by each costs those who log.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(name: &str, sink: Sink, apology: Apology, pause: Duration) -> io::Result<Scribe> {
        let (orders, inbox) = bounded(ROOM);
        let shared = Arc::new(Shared::default());
        let desk = Desk {
            sink,
            apology,
            pause,
            shared: Arc::clone(&shared),
            batch: String::new(),
            lines: 0,
            torn: false,
        };
        Builder::new()
            .name(name.to_owned())
            .spawn(move || desk.work(&inbox))?;
        Ok(Scribe { orders, shared })
    }

    /// Hands over a line; where there is no room for it, it is counted and lost.
    pub fn write(&self, line: Line) {
        if self.orders.try_send(Order::Write(line)).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Goes on in another sink.
    pub fn turn_to(&self, sink: Sink) {
        *self.shared.next.lock() = Some(sink);
        // A full channel is no harm: the thread looks for another sink before every batch.
        let _ = self.orders.try_send(Order::Turn);
    }

    /// Waits until everything so far has been written, but not beyond `until`; says whether it has.
    pub fn flush(&self, until: Instant) -> bool {
        let (done, told) = bounded(1);
        self.orders.send_deadline(Order::Flush(done), until).is_ok() && told.recv_deadline(until).is_ok()
    }
}

/// What the thread has before it.
struct Desk {
    sink: Sink,
    apology: Apology,
    pause: Duration,
    shared: Arc<Shared>,
    batch: String,
    lines: u64,
    /// Whether the last write broke off within a line.
    torn: bool,
}

impl Desk {
    fn work(mut self, inbox: &Receiver<Order>) {
        while let Ok(order) = inbox.recv() {
            let is_line = matches!(order, Order::Write(_));
            self.take(order);
            if is_line {
                std::thread::park_timeout(self.pause);
            }
            // Whatever came meanwhile, and while the last batch went out, goes into this one.
            while self.batch.len() < BATCH
                && let Ok(order) = inbox.try_recv()
            {
                self.take(order);
            }
            self.put();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Write(line) => {
                line.append_to(&mut self.batch);
                self.lines += 1;
            }
            Order::Flush(done) => {
                self.put();
                let _ = done.try_send(());
            }
            Order::Turn => self.put(),
        }
    }

    /// Writes the batch, behind a word about lines that were lost before it. What the sink does not take is
    /// lost as well: to keep it would only delay the same for the lines behind it.
    fn put(&mut self) {
        if let Some(sink) = self.shared.next.lock().take() {
            self.sink = sink;
            self.torn = false;
        }
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if self.batch.is_empty() && lost == 0 {
            return;
        }
        let mut text = String::new();
        if self.torn {
            text.push('\n');
        }
        if lost > 0 {
            (self.apology)(lost).append_to(&mut text);
        }
        let before = text.len();
        text.push_str(&self.batch);
        match self.sink.put(text.as_bytes()) {
            Ok(()) => self.torn = false,
            Err(Stuck { count }) => {
                let gone = &text.as_bytes()[..count];
                let told = if count < before { lost } else { 0 };
                let whole = gone.iter().skip(before).filter(|octet| **octet == b'\n').count() as u64;
                self.shared
                    .lost
                    .fetch_add(told + self.lines.saturating_sub(whole), Ordering::Relaxed);
                self.torn = gone.last().map_or(self.torn, |octet| *octet != b'\n');
            }
        }
        self.batch.clear();
        self.lines = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{BufRead, BufReader, Read, pipe};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn line(text: &str) -> Line {
        Line {
            at: None,
            text: format!("{text}\n"),
        }
    }

    fn apology(lost: u64) -> Line {
        line(&format!("{lost} lost"))
    }

    #[test]
    fn a_line_is_written_at_once() {
        let (reader, writer) = pipe().unwrap();
        let scribe = Scribe::start(
            "scribe",
            Sink::new(File::from(OwnedFd::from(writer))),
            apology,
            Duration::ZERO,
        )
        .unwrap();
        scribe.write(line("first"));
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        scribe.write(line("second"));
        assert_eq!(lines.next().unwrap().unwrap(), "second");
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_what_was_lost_is_counted() {
        let (mut reader, writer) = pipe().unwrap();
        let scribe = Scribe::start(
            "scribe",
            Sink::new(File::from(OwnedFd::from(writer))),
            apology,
            Duration::ZERO,
        )
        .unwrap();
        let many = 20_000;
        for number in 0..many {
            scribe.write(line(&format!("{number:0100}")));
        }
        assert!(
            !scribe.flush(Instant::now() + Duration::from_millis(20)),
            "the pipe is full"
        );
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        assert!(scribe.flush(soon()));
        drop(scribe);
        let text = reading.join().unwrap();
        let lost = text
            .lines()
            .filter_map(|line| line.strip_suffix(" lost")?.parse::<usize>().ok());
        let lost: Vec<usize> = lost.collect();
        let written = text.lines().count() - lost.len();
        assert!(!lost.is_empty());
        assert_eq!(written + lost.iter().sum::<usize>(), many);
    }

    #[test]
    fn a_closed_pipe_is_no_panic() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let scribe = Scribe::start(
            "scribe",
            Sink::new(File::from(OwnedFd::from(writer))),
            apology,
            Duration::ZERO,
        )
        .unwrap();
        scribe.write(line("into the void"));
        assert!(scribe.flush(soon()));
        assert_eq!(scribe.shared.lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_disk_costs_lines_and_tells_so_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let scribe = Scribe::start("scribe", Sink::new(full), apology, Duration::ZERO).unwrap();
        scribe.write(line("one"));
        scribe.write(line("two"));
        assert!(scribe.flush(soon()));
        let path = folder.path().join("log");
        scribe.turn_to(Sink::new(File::create(&path).unwrap()));
        scribe.write(line("three"));
        assert!(scribe.flush(soon()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "2 lost\nthree\n");
    }

    #[test]
    fn after_a_move_the_lines_go_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let scribe = Scribe::start(
            "scribe",
            Sink::new(File::create(&old).unwrap()),
            apology,
            Duration::ZERO,
        )
        .unwrap();
        scribe.write(line("before"));
        assert!(scribe.flush(soon()));
        scribe.turn_to(Sink::new(File::create(&new).unwrap()));
        scribe.write(line("after"));
        assert!(scribe.flush(soon()));
        assert_eq!(fs::read_to_string(&old).unwrap(), "before\n");
        assert_eq!(fs::read_to_string(&new).unwrap(), "after\n");
    }

    #[test]
    fn a_line_with_a_moment_begins_with_it() {
        let mut text = String::new();
        Line {
            at: Some(Stamp(1_700_000_000_123_456)),
            text: "x\n".into(),
        }
        .append_to(&mut text);
        assert_eq!(text.len(), "2023-11-14T22:13:20.123 x\n".len());
        assert!(text.ends_with(":20.123 x\n"), "{text}");
    }
}
