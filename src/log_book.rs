//! The log book: what the developer reads (`log`), and the operator's lines on standard output.
//!
//! Whoever has something to say hands over a line and goes on. One thread for each of the two writes, so a
//! pipe that nobody reads, a full disk or a stopped terminal never holds up a session: lines that find no
//! room are dropped, counted, and the count is written when there is room again.
//!
//! No client can forge a line: control characters in a record are replaced before it becomes one.

pub mod record;
pub mod scribe;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use crate::clock::Clock;
use crate::config::LogLevel;
use scribe::{Line, Scribe, Sink};

/// How long [`finish`] waits for what has not been written yet.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a record waits for others, to be written together with them.
const PAUSE: Duration = Duration::from_millis(5);

static LOG: OnceLock<Scribe> = OnceLock::new();
static CONSOLE: OnceLock<Scribe> = OnceLock::new();

/// Opens the log book: on `file`, to which it appends, or on standard error. A panic goes to the log, too. From now on
/// somebody is there for the operator's lines: the first of them, where we listen, is said but once.
///
/// # Errors
/// The file cannot be opened, no thread can be started, or the log book is open already.
pub fn open(level: LogLevel, file: Option<&Path>) -> io::Result<()> {
    start_console()?;
    let scribe = Scribe::start("log", sink(file)?, lost_records, PAUSE)?;
    let scribe = LOG.get_or_init(|| scribe);
    // Fails where it was called before: the second scribe has ended then, and the first goes on.
    log::set_boxed_logger(Box::new(Book::new(scribe))).map_err(io::Error::other)?;
    set_level(level);
    std::panic::set_hook(Box::new(|panic| {
        log::error!("{}", panic.to_string().replace('\n', " "))
    }));
    Ok(())
}

/// Logs as much as `level` says from now on.
pub fn set_level(level: LogLevel) {
    log::set_max_level(match level {
        LogLevel::Minimal => LevelFilter::Warn,
        LogLevel::Normal => LevelFilter::Info,
        LogLevel::Informational => LevelFilter::Debug,
        LogLevel::Verbose => LevelFilter::Trace,
    });
}

/// Goes on in `file`, opened anew (or on standard error): after the old one was moved away, or when another
/// was decided.
///
/// # Errors
/// The file cannot be opened; the log goes on where it was.
pub fn reopen(file: Option<&Path>) -> io::Result<()> {
    let sink = sink(file)?;
    if let Some(scribe) = LOG.get() {
        scribe.turn_to(sink);
    }
    Ok(())
}

/// Says a line to the operator, on standard output, at once. Never waits: see the top of this file.
pub fn say(line: &str) {
    if let Some(scribe) = console() {
        scribe.write(Line {
            at: None,
            text: record::plain(line) + "\n",
        });
    }
}

/// Waits until what was logged and said so far has been written, two seconds at most: the last thing that a
/// run does. Says whether all was written.
pub fn finish() -> bool {
    let until = Instant::now() + LAST_WORDS;
    let log = LOG.get().is_none_or(|scribe| scribe.flush(until));
    let console = CONSOLE.get().is_none_or(|scribe| scribe.flush(until));
    log && console
}

/// The operator's scribe, started by whoever says the first word; `None` where no thread can be started.
fn console() -> Option<&'static Scribe> {
    start_console().ok()?;
    CONSOLE.get()
}

/// Starts the operator's scribe, where there is none yet; and where standard output is closed, none.
fn start_console() -> io::Result<()> {
    if CONSOLE.get().is_none()
        && let Ok(sink) = Sink::standard_output()
    {
        let scribe = Scribe::start("console", sink, lost_words, Duration::ZERO)?;
        let _ = CONSOLE.set(scribe); // somebody else was faster: ours ends with its channel
    }
    Ok(())
}

fn lost_records(lost: u64) -> Line {
    let text = format!("log WARN {lost} lines were lost: they could not be written in time\n");
    Line {
        at: Some(Clock::System.now()),
        text,
    }
}

fn lost_words(lost: u64) -> Line {
    Line {
        at: None,
        text: format!("SMTPMTA console {lost} lines were lost: nobody read them in time\n"),
    }
}

fn sink(file: Option<&Path>) -> io::Result<Sink> {
    match file {
        None => Sink::standard_error(),
        // The log names senders and recipients: not everybody's business.
        Some(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .map(Sink::new),
    }
}

/// What `log` speaks to. The record becomes one clean line here, on the thread that logs and outside every
/// lock; simplelog's `WriteLogger` then hands it to the scribe.
struct Book {
    writer: Box<WriteLogger<Collector>>,
}

impl Book {
    fn new(scribe: &'static Scribe) -> Book {
        // The line has its time from the scribe, which knows the machine's zone and its summer time, and its
        // thread and level from `record`; simplelog adds nothing.
        let mut config = ConfigBuilder::new();
        config.set_time_level(LevelFilter::Off);
        config.set_max_level(LevelFilter::Off);
        config.set_thread_level(LevelFilter::Off);
        config.set_target_level(LevelFilter::Off);
        config.set_location_level(LevelFilter::Off);
        let collector = Collector {
            text: Vec::new(),
            scribe,
        };
        Book {
            writer: WriteLogger::new(LevelFilter::Trace, config.build(), collector),
        }
    }
}

impl Log for Book {
    /// The macros have asked [`log::max_level`] already, and it is all that decides.
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let line = record::line(std::thread::current().name(), record.level(), record.args());
        let metadata = record.metadata().clone();
        self.writer.log(
            &Record::builder()
                .metadata(metadata)
                .args(format_args!("{line}"))
                .build(),
        );
    }

    fn flush(&self) {
        if let Some(scribe) = LOG.get() {
            scribe.flush(Instant::now() + LAST_WORDS);
        }
    }
}

/// Collects what simplelog writes piece by piece, and hands on whole lines.
struct Collector {
    text: Vec<u8>,
    scribe: &'static Scribe,
}

impl Write for Collector {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(piece);
        if self.text.ends_with(b"\n") {
            let text = String::from_utf8_lossy(&self.text).into_owned();
            self.text.clear();
            self.scribe.write(Line {
                at: Some(Clock::System.now()),
                text,
            });
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    #[test]
    fn a_record_becomes_one_line_with_time_thread_and_level() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let scribe = Scribe::start("scribe", sink(Some(&path)).unwrap(), lost_records, PAUSE).unwrap();
        let scribe: &'static Scribe = Box::leak(Box::new(scribe));
        let book = Book::new(scribe);
        let speak = move || {
            let record = |level, what: &str| {
                book.log(
                    &Record::builder()
                        .level(level)
                        .args(format_args!("from=<{what}>"))
                        .build(),
                );
            };
            record(Level::Info, "a@example.org");
            record(Level::Trace, "b\r\nforged");
        };
        let thread = std::thread::Builder::new()
            .name("iseshlr0".into())
            .spawn(speak)
            .unwrap();
        thread.join().unwrap();
        assert!(scribe.flush(Instant::now() + LAST_WORDS * 10));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(
            lines,
            [
                "iseshlr0 INFO from=<a@example.org>",
                r"iseshlr0 TRACE from=<b\r\nforged>"
            ]
        );
    }
}
