//! Where the scribe's lines go: a file or another descriptor, the terminal beside a line that is being typed, or the
//! system's log.
//!
//! A file is followed by its name: where it has been moved away or removed, the lines go on in a new one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use super::record;
use super::syslog::Syslog;
use crate::clock::Stamp;

/// How often it is looked whether a file is still where it was opened.
const LOOK: Duration = Duration::from_secs(1);

/// A line that is to be written.
#[derive(Debug)]
pub struct Line {
    /// The moment that stands before it; `None` for none.
    pub at: Option<Stamp>,
    /// The text with its line end.
    pub text: String,
}

impl Line {
    pub(super) fn append_to(&self, text: &mut String) {
        if let Some(at) = self.at {
            text.push_str(&at.to_log());
            text.push(' ');
        }
        text.push_str(&self.text);
    }

    fn append_in(&self, form: Form, text: &mut String) {
        match (form, self.at) {
            (Form::Json, Some(at)) => {
                text.push_str(&record::json(&at.to_rfc3339(), self.text.trim_end_matches('\n')));
                text.push('\n');
            }
            _ => self.append_to(text),
        }
    }
}

/// How a line that has its moment is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    #[default]
    Plain,
    /// As a JSON object.
    Json,
}

/// Prints text to the terminal above the line that is being typed there; says whether it could.
type Print = Box<dyn FnMut(String) -> bool + Send>;

/// The hand of whoever keeps the terminal. Clones are the same hand.
#[derive(Clone)]
pub struct Printer(Arc<Mutex<Print>>);

impl Printer {
    /// One that prints so.
    #[must_use]
    pub fn new(print: impl FnMut(String) -> bool + Send + 'static) -> Printer {
        Printer(Arc::new(Mutex::new(Box::new(print))))
    }

    fn print(&self, text: String) -> bool {
        (*self.0.lock())(text)
    }
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Printer")
    }
}

/// Where lines go.
#[derive(Debug)]
pub struct Sink {
    way: Way,
    form: Form,
}

#[derive(Debug)]
enum Way {
    Stream(Stream),
    Terminal(Printer, Stream),
    Syslog(Syslog),
}

/// What became of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether the first line, which stands before the batch, was taken.
    pub told: bool,
    /// How many lines of the batch were.
    pub lines: usize,
    /// Nobody takes the others now; they are worth another attempt.
    pub is_away: bool,
}

impl Sink {
    /// A file that was opened for appending, or any other descriptor.
    #[must_use]
    pub fn new(file: File) -> Sink {
        Sink::of(Stream {
            file,
            torn: false,
            followed: None,
        })
    }

    /// The file of this name, which is appended to, and is made where there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn file(path: &Path) -> io::Result<Sink> {
        Sink::followed(path, LOOK)
    }

    /// The same; that it has been moved away is seen after so long.
    pub(super) fn followed(path: &Path, every: Duration) -> io::Result<Sink> {
        Ok(Sink::of(Stream {
            file: open(path)?,
            torn: false,
            followed: Some(Followed {
                path: path.to_owned(),
                every,
                looked: Instant::now(),
            }),
        }))
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

    /// The system's log, which listens at this socket.
    #[must_use]
    pub fn syslog(socket: &Path) -> Sink {
        Sink {
            way: Way::Syslog(Syslog::new(socket)),
            form: Form::Plain,
        }
    }

    /// The same, in this form.
    #[must_use]
    pub fn in_form(self, form: Form) -> Sink {
        Sink { form, ..self }
    }

    /// The same, which is the terminal: by the hand of who keeps it, if somebody does.
    #[must_use]
    pub fn by_hand_of(self, printer: Option<Printer>) -> Sink {
        match (self.way, printer) {
            (Way::Stream(stream), Some(printer)) => Sink {
                way: Way::Terminal(printer, stream),
                form: self.form,
            },
            (way, _) => Sink { way, form: self.form },
        }
    }

    fn of(stream: Stream) -> Sink {
        Sink {
            way: Way::Stream(stream),
            form: Form::Plain,
        }
    }

    fn copy(of: &impl AsFd) -> io::Result<Sink> {
        let copy: OwnedFd = of.as_fd().try_clone_to_owned()?;
        Ok(Sink::new(File::from(copy)))
    }

    /// The form in which lines are written.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Hands over a batch, and before it a line that stands for others.
    pub(super) fn put(&mut self, first: Option<&Line>, batch: &[Line]) -> Taken {
        match &mut self.way {
            Way::Stream(stream) => stream.put(first, batch, self.form),
            Way::Syslog(syslog) => syslog.put(first, batch, self.form),
            Way::Terminal(printer, stream) => {
                let mut text = String::new();
                for line in first.into_iter().chain(batch) {
                    line.append_in(self.form, &mut text);
                }
                if printer.print(text) {
                    return Taken::all(batch);
                }
                // Nobody keeps the terminal any more.
                stream.put(first, batch, self.form)
            }
        }
    }
}

impl Taken {
    /// All of them.
    pub(super) fn all(batch: &[Line]) -> Taken {
        Taken {
            told: true,
            lines: batch.len(),
            is_away: false,
        }
    }
}

/// A descriptor.
#[derive(Debug)]
struct Stream {
    file: File,
    /// Whether the last write broke off within a line.
    torn: bool,
    followed: Option<Followed>,
}

/// The name of a file that may be moved away.
#[derive(Debug)]
struct Followed {
    path: PathBuf,
    every: Duration,
    looked: Instant,
}

/// The descriptor took so many octets and no more. Why does not matter: there is nowhere to say it.
struct Stuck {
    count: usize,
}

impl Stream {
    fn put(&mut self, first: Option<&Line>, batch: &[Line], form: Form) -> Taken {
        self.follow();
        let mut text = String::new();
        if self.torn {
            text.push('\n');
        }
        if let Some(line) = first {
            line.append_in(form, &mut text);
        }
        let before = text.len();
        for line in batch {
            line.append_in(form, &mut text);
        }
        match self.write(text.as_bytes()) {
            Ok(()) => {
                self.torn = false;
                Taken::all(batch)
            }
            Err(Stuck { count }) => {
                let gone = &text.as_bytes()[..count];
                self.torn = gone.last().map_or(self.torn, |octet| *octet != b'\n');
                Taken {
                    told: count >= before,
                    lines: gone.iter().skip(before).filter(|octet| **octet == b'\n').count(),
                    is_away: false,
                }
            }
        }
    }

    /// Writes all of it. A descriptor that somebody else made non-blocking is waited for.
    fn write(&mut self, text: &[u8]) -> Result<(), Stuck> {
        let mut count = 0;
        while count < text.len() {
            match self.file.write(&text[count..]) {
                Ok(0) => return Err(Stuck { count }),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let writable = PollFd::new(self.file.as_fd(), PollFlags::POLLOUT);
                    let _ = poll(&mut [writable], PollTimeout::from(1000_u16));
                }
                Err(_) => return Err(Stuck { count }),
            }
        }
        Ok(())
    }

    /// Goes on in a new file, if this one has been moved away or removed. Where none can be opened the old one is better
    /// than none.
    fn follow(&mut self) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        if followed.looked.elapsed() < followed.every {
            return;
        }
        followed.looked = Instant::now();
        let is_here = match (fs::metadata(&followed.path), self.file.metadata()) {
            (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
            (Err(error), Ok(_)) => error.kind() != ErrorKind::NotFound,
            (_, Err(_)) => true,
        };
        if !is_here && let Ok(file) = open(&followed.path) {
            self.file = file;
            self.torn = false;
        }
    }
}

/// The log names senders and recipients: not everybody's business.
const MODE: u32 = 0o640;

/// Opens a file for the log.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

/// Makes a file for the log; none where there is anything of this name, be it a link to nothing.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(MODE)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}
