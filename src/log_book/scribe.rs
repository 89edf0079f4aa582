//! A scribe: the one thread that writes lines to a descriptor, in batches, behind a bounded channel.
//!
//! Handing it a line never waits. Only the scribe itself is held up by a pipe that nobody reads. What nobody is there to
//! take, as the system's log while its daemon is started anew, waits for it as long as there is room.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

pub use super::sink::{Form, Line, Printer, Sink};
use super::syslog::PAUSE;

/// How many lines may wait: with `record::LONGEST` never more than 16 MiB, usually half of one.
const ROOM: usize = 4096;
/// How many octets are written at once, when so many wait.
const BATCH: usize = 64 * 1024;

/// What is said in place of so many lost lines.
pub type Apology = fn(u64) -> Line;

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
    /// The run ends: who is away now is not waited for.
    closing: AtomicBool,
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
            batch: Vec::new(),
            size: 0,
            is_away: false,
            flushes: Vec::new(),
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

    /// The same, at the end of the run: what nobody takes now goes to standard error.
    pub fn close(&self, until: Instant) -> bool {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.flush(until)
    }
}

/// What the thread has before it.
struct Desk {
    sink: Sink,
    apology: Apology,
    pause: Duration,
    shared: Arc<Shared>,
    batch: Vec<Line>,
    /// Octets in the batch.
    size: usize,
    /// Nobody takes the batch now.
    is_away: bool,
    /// Who waits until it has been taken.
    flushes: Vec<Sender<()>>,
}

impl Desk {
    fn work(mut self, inbox: &Receiver<Order>) {
        while let Some(order) = self.next(inbox) {
            let is_line = matches!(order, Order::Write(_));
            self.take(order);
            if is_line && !self.is_away {
                std::thread::park_timeout(self.pause);
            }
            // Whatever came meanwhile, and while the last batch went out, goes into this one.
            while self.has_room()
                && let Ok(order) = inbox.try_recv()
            {
                self.take(order);
            }
            self.put();
        }
    }

    /// The next order; `None` when there will be none. While nobody takes what is here, it is tried again now and then.
    fn next(&mut self, inbox: &Receiver<Order>) -> Option<Order> {
        while self.is_away {
            if self.has_room() {
                match inbox.recv_timeout(PAUSE) {
                    Ok(order) => return Some(order),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            } else {
                std::thread::park_timeout(PAUSE);
            }
            self.put();
        }
        inbox.recv().ok()
    }

    fn has_room(&self) -> bool {
        self.size < BATCH
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Write(line) => {
                self.size += line.text.len();
                self.batch.push(line);
            }
            Order::Flush(done) => {
                self.flushes.push(done);
                self.put();
            }
            Order::Turn => self.put(),
        }
    }

    /// Writes the batch. At the end of the run standard error takes what nobody else does.
    fn put(&mut self) {
        self.hand_over();
        if self.is_away
            && self.shared.closing.load(Ordering::Relaxed)
            && let Ok(sink) = Sink::standard_error()
        {
            self.sink = sink.in_form(self.sink.form());
            self.hand_over();
        }
        if !self.is_away {
            for done in self.flushes.drain(..) {
                let _ = done.try_send(());
            }
        }
    }

    /// Hands over the batch, behind a word about lines that were lost before it. What the sink breaks off at is lost as
    /// well: to keep it would only delay the same for the lines behind it.
    fn hand_over(&mut self) {
        if let Some(sink) = self.shared.next.lock().take() {
            self.sink = sink;
        }
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if self.batch.is_empty() && lost == 0 {
            self.is_away = false;
            return;
        }
        let apology = (lost > 0).then(|| (self.apology)(lost));
        let taken = self.sink.put(apology.as_ref(), &self.batch);
        self.is_away = taken.is_away;
        let mut gone = if taken.told { 0 } else { lost };
        if taken.is_away {
            self.batch.drain(..taken.lines);
            self.size = self.batch.iter().map(|line| line.text.len()).sum();
        } else {
            gone += self.batch.len().saturating_sub(taken.lines) as u64;
            self.batch.clear();
            self.size = 0;
        }
        self.shared.lost.fetch_add(gone, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::{BufRead, BufReader, Read, pipe};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use crate::clock::Stamp;

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
    fn a_file_that_is_moved_away_or_removed_is_opened_anew_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let sink = Sink::followed(&path, Duration::ZERO).unwrap();
        let scribe = Scribe::start("scribe", sink, apology, Duration::ZERO).unwrap();
        let write = |text: &str| {
            scribe.write(line(text));
            assert!(scribe.flush(soon()));
        };
        write("one");
        fs::rename(&path, &old).unwrap();
        write("two");
        // What logrotate does with `create`.
        fs::rename(&path, &old).unwrap();
        File::create(&path).unwrap();
        write("three");
        assert_eq!(fs::read_to_string(&old).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        // And with `copytruncate`.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(0)
            .unwrap();
        write("four");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        fs::remove_file(&path).unwrap();
        write("five");
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\n");
    }

    /// The next line that the system's log is told, behind the name of the program.
    fn heard(daemon: &UnixDatagram) -> String {
        let mut packet = [0; 8192];
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = daemon.recv(&mut packet).unwrap();
        let packet = String::from_utf8_lossy(&packet[..length]).into_owned();
        let (_, told) = packet.split_once("]: ").unwrap();
        told.to_owned()
    }

    fn record(text: &str) -> Line {
        Line {
            at: Some(Stamp(1_700_000_000_123_456)),
            text: format!("iseshlr0 INFO {text}\n"),
        }
    }

    #[test]
    fn the_daemon_of_the_systems_log_may_come_late_and_be_started_anew_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let scribe = Scribe::start("scribe", Sink::syslog(&path), apology, Duration::ZERO).unwrap();
        scribe.write(record("before there is one"));
        assert!(!scribe.flush(Instant::now() + Duration::from_millis(50)));
        let mut daemon = UnixDatagram::bind(&path).unwrap();
        assert_eq!(heard(&daemon), "iseshlr0 before there is one");
        scribe.write(record("now"));
        assert_eq!(heard(&daemon), "iseshlr0 now");
        // It ends and leaves its socket behind; or removes it, too.
        for is_clean in [false, true] {
            drop(daemon);
            if is_clean {
                fs::remove_file(&path).unwrap();
            }
            scribe.write(record("meanwhile"));
            scribe.write(record("and then"));
            assert!(!scribe.flush(Instant::now() + Duration::from_millis(50)));
            let new = folder.path().join("new");
            daemon = UnixDatagram::bind(&new).unwrap();
            fs::rename(&new, &path).unwrap();
            assert_eq!(heard(&daemon), "iseshlr0 meanwhile");
            assert_eq!(heard(&daemon), "iseshlr0 and then");
            assert!(scribe.flush(soon()));
        }
    }

    #[test]
    fn without_a_daemon_so_many_lines_wait_and_the_others_are_counted_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let apology = |lost: u64| record(&format!("{lost} lost"));
        let scribe = Scribe::start("scribe", Sink::syslog(&path), apology, Duration::ZERO).unwrap();
        let many = 3 * ROOM as u64;
        let began = Instant::now();
        for number in 0..many {
            scribe.write(record(&format!("{number:0100}")));
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        let daemon = UnixDatagram::bind(&path).unwrap();
        let (mut told, mut lost) = (0, 0);
        while told + lost < many {
            let line = heard(&daemon);
            match line.trim_start_matches("iseshlr0 ").strip_suffix(" lost") {
                Some(number) => lost += number.parse::<u64>().unwrap(),
                None => told += 1,
            }
        }
        assert!(told >= ROOM as u64 && lost > 0, "{told} told, {lost} lost");
    }

    #[test]
    fn at_the_end_of_the_run_nobody_who_is_away_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let sink = Sink::syslog(&folder.path().join("log"));
        let scribe = Scribe::start("scribe", sink, apology, Duration::ZERO).unwrap();
        scribe.write(record("last words, for standard error"));
        assert!(scribe.close(soon()));
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
