//! The console's ear: takes commands from `control.sock` in the spool, and hands them to the add-in task.
//!
//! A request is one line of words, quoted as in a shell where they need it, `--json` first if the answer shall be JSON, then perhaps `--by=NAME`, who asks; the
//! answer is a line with the exit status, then text up to the end. Never obeys anything itself.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use nix::unistd::{Uid, User};

use crate::config::exit::Exit;

/// The socket's name in the spool.
pub const SOCKET: &str = "control.sock";

/// The folder in the spool in which it is made: with what is in it as long as the socket's own name.
const UNDER_WAY: &str = "control.st";

/// A request is at most so long: there is room for some thousand IDs.
pub(super) const LONGEST_REQUEST: u64 = 64 << 10;

/// How long to wait when the system refuses a descriptor.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_millis(500);

/// So many may ask at once.
const MOST_GUESTS: usize = 32;

/// How long whoever asks may take to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A path for a socket is at most so long: `sun_path` on Linux, and less elsewhere.
const LONGEST_SOCKET_PATH: usize = 100;

/// What the add-in task is asked to do.
#[derive(Debug)]
pub struct Request {
    /// The words of the command.
    pub words: Vec<String>,
    /// Whether the answer shall be JSON.
    pub json: bool,
    /// Who asks, for history.
    pub by: String,
    /// Where the answer goes.
    pub answer: Sender<Answer>,
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The words of the command.
    pub words: Vec<String>,
    /// Whether the answer shall be JSON.
    pub json: bool,
    /// Who asks.
    pub by: String,
}

impl Asked {
    /// What stands in `line`. Anybody may write anything there: who it is is a name that may stand in history.
    #[must_use]
    pub fn in_line(line: &str) -> Asked {
        let mut words = words_in(line).into_iter().peekable();
        let json = words.next_if(|word| word == "--json").is_some();
        let by = words.next_if(|word| word.starts_with("--by="));
        let by = by.as_deref().and_then(|word| word.strip_prefix("--by="));
        Asked {
            by: named(by.unwrap_or_default()),
            json,
            words: words.collect(),
        }
    }
}

/// The words of a line, as a shell would take them apart. A quotation mark that stands alone is a sign like others.
pub(super) fn words_in(line: &str) -> Vec<String> {
    shlex::split(line).unwrap_or_else(|| line.split_whitespace().map(str::to_owned).collect())
}

/// The line that holds these words, so that they are taken apart as they were; `None` where one of them holds NUL.
#[must_use]
pub fn line_of(words: &[String]) -> Option<String> {
    shlex::try_join(words.iter().map(String::as_str)).ok()
}

/// What the add-in task says to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exit status: 0 done, 1 refused, 64 not understood, 75 try later.
    pub status: u8,
    /// Lines.
    pub text: String,
}

/// The way to a socket, whose path may be longer than the system allows; keep what comes with it open until it
/// is used.
pub(crate) fn reachable(spool: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = spool.join(SOCKET);
    if path.as_os_str().len() < LONGEST_SOCKET_PATH {
        return Ok((path, None));
    }
    let folder = File::open(spool)?;
    Ok((
        PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET),
        Some(folder),
    ))
}

/// Starts to listen on `control.sock`. One that a crash left behind is replaced: the spool is ours.
///
/// # Errors
/// When the socket can not be made, or the thread not be started.
pub fn listen(spool: &Path, to_addin: Sender<Request>) -> io::Result<()> {
    let (path, _folder) = reachable(spool)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = bind(&path)?;
    let owner = fs::metadata(spool)?.uid();
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            let guests = Arc::new(());
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    // No descriptor is left: one may be in a moment.
                    std::thread::park_timeout(PAUSE_AFTER_TROUBLE);
                    continue;
                };
                if Arc::strong_count(&guests) > MOST_GUESTS {
                    // Whoever asks sees the end at once, and may ask again.
                    continue;
                }
                let stream = Arc::new(stream);
                let (guest, its_stream, its_addin) =
                    (Arc::clone(&guests), Arc::clone(&stream), to_addin.clone());
                let alone = move || {
                    serve(&its_stream, &its_addin, owner);
                    drop(guest);
                };
                let started = std::thread::Builder::new()
                    .name("control-guest".to_owned())
                    .spawn(alone);
                if started.is_err() {
                    // There are no threads left: the others wait for this one.
                    serve(&stream, &to_addin, owner);
                }
            }
        })?;
    Ok(())
}

/// Makes the socket where nobody else can get to it, and closes it to others before it gets its place.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let folder = path.with_file_name(UNDER_WAY);
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // As short as the one that it will have: there is a bound.
    let made = folder.join("s");
    match fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    fs::rename(&made, path)?;
    let _ = fs::remove_dir(&folder);
    Ok(listener)
}

fn serve(stream: &UnixStream, to_addin: &Sender<Request>, owner: u32) {
    let done = match may_ask(stream, owner) {
        true => answer(stream, to_addin),
        false => refuse(stream),
    };
    if let Err(error) = done {
        log::debug!("console: {error}");
    }
}

/// Whether whoever has connected is the owner of the spool, the user of this process, or root. Somebody may have given the
/// socket other rights.
#[cfg(target_os = "linux")]
fn may_ask(stream: &UnixStream, owner: u32) -> bool {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

    let ours = rustix::process::geteuid().as_raw();
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| [0, ours, owner].contains(&peer.uid()))
}

#[cfg(not(target_os = "linux"))]
fn may_ask(_: &UnixStream, _: u32) -> bool {
    true
}

/// Says so to somebody who may not ask.
fn refuse(mut stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // What is not read would take the answer away with it.
    BufReader::new(stream.take(LONGEST_REQUEST)).skip_until(b'\n')?;
    let status = Exit::NotAllowed.status();
    writeln!(
        stream,
        "{status}\nonly root and the owner of the spool may ask the MTA"
    )
}

fn answer(stream: &UnixStream, to_addin: &Sender<Request>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    let length = BufReader::new(stream.take(LONGEST_REQUEST)).read_line(&mut line)?;
    let mut stream = stream;
    if length as u64 == LONGEST_REQUEST && !line.ends_with('\n') {
        // Half of a command is another command.
        let refusal = too_long();
        return stream.write_all(format!("{}\n{}", refusal.status, refusal.text).as_bytes());
    }
    let Asked { words, json, by } = Asked::in_line(&line);
    let answer = ask(to_addin, words, json, by);
    stream.write_all(format!("{}\n{}", answer.status, answer.text).as_bytes())
}

/// The user that this process says it belongs to: the one behind sudo, if there is one. Only the owner of the spool
/// and root can reach the socket, so this is for history, and opens no doors.
pub fn user() -> String {
    let known = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    // cron and service managers say nothing of it.
    let known = known.or_else(|| {
        User::from_uid(Uid::current())
            .ok()
            .flatten()
            .map(|user| user.name)
    });
    named(&known.unwrap_or_default())
}

/// A name that may stand in history and in a request: one short word, without what would take a line apart otherwise.
fn named(name: &str) -> String {
    let stands = |sign: &char| sign.is_ascii_graphic() && !"\"'\\".contains(*sign);
    let clean: String = name.chars().filter(stands).take(64).collect();
    if clean.is_empty() {
        "somebody".to_owned()
    } else {
        clean
    }
}

/// What is said to a command that is longer than a request may be.
pub(super) fn too_long() -> Answer {
    Answer {
        status: Exit::Usage.status(),
        text: format!("expected a command of at most {LONGEST_REQUEST} octets\n"),
    }
}

pub(super) fn ask(to_addin: &Sender<Request>, words: Vec<String>, json: bool, by: String) -> Answer {
    let (answer, answered) = bounded(1);
    let asked = to_addin.send(Request {
        words,
        json,
        by,
        answer,
    });
    asked
        .ok()
        .and_then(|()| answered.recv().ok())
        .unwrap_or_else(|| Answer {
            status: 75,
            text: "the MTA is stopping\n".to_owned(),
        })
}
