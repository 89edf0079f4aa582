//! The log book: what the developer reads (`log`), and the operator's lines on standard output.
//!
//! Whoever has something to say hands over a line and goes on. One thread for each of the two writes, so a
//! pipe that nobody reads, a full disk or a stopped terminal never holds up a session: lines that find no
//! room are dropped, counted, and the count is written when there is room again.
//!
//! No client can forge a line: control characters in a record are replaced before it becomes one.

pub mod record;
pub mod scribe;
mod sink;
mod syslog;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use simplelog::{ConfigBuilder, WriteLogger};

use crate::clock::Clock;
use crate::config::{Config, LogLevel};
use scribe::{Form, Line, Printer, Scribe, Sink};

/// The socket of the system's log, and the variable of the environment that may name another one.
const SYSLOG: &str = "/dev/log";
/// See [`SYSLOG`].
const SYSLOG_VARIABLE: &str = "SMTPMTA_SYSLOG";

/// How long [`finish`] waits for what has not been written yet.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a record waits for others, to be written together with them.
const PAUSE: Duration = Duration::from_millis(5);

static LOG: OnceLock<Scribe> = OnceLock::new();
static CONSOLE: OnceLock<Scribe> = OnceLock::new();
/// Where the log goes.
static DESTINATION: Mutex<Destination> = Mutex::new(Destination {
    place: Place::StandardError,
    form: Form::Plain,
});
/// Who keeps the terminal, if somebody does.
static TERMINAL: Mutex<Option<Printer>> = Mutex::new(None);

/// Where the log goes, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    place: Place,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    StandardError,
    File(PathBuf),
    Syslog,
}

impl Destination {
    /// What `--log-file`, `--syslog` and `--log-json` say.
    #[must_use]
    pub fn of(config: &Config) -> Destination {
        Destination {
            place: match &config.log_file {
                _ if config.syslog => Place::Syslog,
                Some(path) => Place::File(path.clone()),
                None => Place::StandardError,
            },
            form: if config.log_json { Form::Json } else { Form::Plain },
        }
    }

    fn open(&self) -> io::Result<Sink> {
        let sink = match &self.place {
            Place::StandardError => {
                let terminal = TERMINAL.lock().clone();
                Sink::standard_error()?.by_hand_of(terminal.filter(|_| io::stderr().is_terminal()))
            }
            Place::File(path) => Sink::file(path)?,
            Place::Syslog => {
                let socket = std::env::var_os(SYSLOG_VARIABLE).unwrap_or_else(|| SYSLOG.into());
                Sink::syslog(Path::new(&socket))
            }
        };
        Ok(sink.in_form(self.form))
    }
}

/// Opens the log book there. A panic goes to the log, too. From now on somebody is there for the operator's lines: the
/// first of them, where we listen, is said but once.
///
/// # Errors
/// The file cannot be opened, no thread can be started, or the log book is open already.
pub fn open(level: LogLevel, destination: Destination) -> io::Result<()> {
    start_console()?;
    let scribe = Scribe::start("log", destination.open()?, lost_records, PAUSE)?;
    *DESTINATION.lock() = destination;
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

/// A place for the log that has been opened, and that nothing goes to yet.
pub struct Ready {
    destination: Destination,
    sink: Sink,
}

/// Opens it there, for [`turn_to`]: when it shall be known first whether that can be.
///
/// # Errors
/// The file cannot be opened.
pub fn ready(destination: Destination) -> io::Result<Ready> {
    let sink = destination.open()?;
    Ok(Ready { destination, sink })
}

/// Goes on there.
pub fn turn_to(ready: Ready) {
    *DESTINATION.lock() = ready.destination;
    if let Some(scribe) = LOG.get() {
        scribe.turn_to(ready.sink);
    }
}

/// Goes on where it is, opened anew: after the file was moved away. It would be seen, but later.
///
/// # Errors
/// The file cannot be opened; the log goes on where it was.
pub fn open_again() -> io::Result<()> {
    let destination = DESTINATION.lock().clone();
    ready(destination).map(turn_to)
}

/// From now on what goes to the terminal goes through who keeps it; with `None` by itself again.
pub fn keep_terminal(printer: Option<Printer>) {
    *TERMINAL.lock() = printer;
    if let (Some(scribe), Ok(sink)) = (CONSOLE.get(), console_sink()) {
        scribe.turn_to(sink);
    }
    if DESTINATION.lock().place == Place::StandardError {
        // Where no descriptor is left the log goes on as it did.
        let _ = open_again();
    }
}

/// Goes on where standard output and standard error are after `redirect`, once what was said so far has been written.
///
/// # Errors
/// What `redirect` says.
pub fn redirected(redirect: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if let Some(scribe) = CONSOLE.get() {
        scribe.flush(Instant::now() + LAST_WORDS);
    }
    redirect()?;
    keep_terminal(None);
    Ok(())
}

/// Makes the file of the log, where nothing has this name.
///
/// # Errors
/// As the system says; something may be there already.
pub fn create(path: &Path) -> io::Result<File> {
    sink::create(path)
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
    let log = LOG.get().is_none_or(|scribe| scribe.close(until));
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
        && let Ok(sink) = console_sink()
    {
        let scribe = Scribe::start("console", sink, lost_words, Duration::ZERO)?;
        let _ = CONSOLE.set(scribe); // somebody else was faster: ours ends with its channel
    }
    Ok(())
}

/// Standard output; by the hand of who keeps the terminal, if it is one.
fn console_sink() -> io::Result<Sink> {
    let terminal = TERMINAL.lock().clone();
    Ok(Sink::standard_output()?.by_hand_of(terminal.filter(|_| io::stdout().is_terminal())))
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
        // What the operator types is nobody else's business.
        if record.target().starts_with("rustyline") {
            return;
        }
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
        let scribe = Scribe::start("scribe", Sink::file(&path).unwrap(), lost_records, PAUSE).unwrap();
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
