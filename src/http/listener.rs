//! The listener of `--http`: takes connections, each in a thread of its own, and answers one request on each.
//!
//! Bounded in everything that a client could make long: how many there are, what one says, how long it takes to say that
//! and to take the answer. Whoever comes when there are enough is told to come later.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::exposition::exposition;
use super::page::{self, page};
use super::request::Asked;
use super::response::{Kind, Response, Status};
use super::view::View;
use crate::clock::Clock;
use crate::tasks::{Task, guarded};

/// So many may ask at once.
const MOST_GUESTS: usize = 16;

/// How long whoever asks may take to ask.
const ASKING: Duration = Duration::from_secs(5);

/// How long whoever asked may take to take the answer.
const TAKING: Duration = Duration::from_secs(10);

/// How much of what a client goes on saying is heard, so that it gets the answer, and how long that may take.
const LAST_WORDS: usize = 64 << 10;
/// See [`LAST_WORDS`].
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

/// How long nobody is accepted after the system refused a descriptor.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_millis(500);

/// Something that listens, until it is stopped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    /// Dropped to stop it.
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Listening {
    /// Listens on `socket`, and shows what there is in `view`.
    ///
    /// # Errors
    /// When the system refuses a descriptor or a thread.
    pub fn start(socket: TcpListener, view: Arc<View>) -> io::Result<Listening> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let (wake, woken) = UnixStream::pair()?;
        let thread = Builder::new()
            .name(Task::Http.to_string())
            .spawn(move || listen(&socket, &woken, &view))?;
        Ok(Listening {
            address,
            wake,
            thread,
        })
    }

    /// Where it really listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections. Who is being answered is answered.
    pub fn stop(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            log::error!("http ended in a panic");
        }
    }
}

fn listen(socket: &TcpListener, woken: &UnixStream, view: &Arc<View>) {
    let guests = Arc::new(());
    loop {
        let until = view.tick();
        let accepted = match wait(&[woken.as_fd(), socket.as_fd()], until).as_deref() {
            Ok([true, ..]) => return,
            Ok([_, true]) => socket.accept(),
            Ok(_) => continue,
            Err(error) => Err(io::Error::from(error.kind())),
        };
        match accepted {
            Ok((stream, _)) => receive(stream, &guests, view),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                log::warn!("http accepts nothing for a moment: {error}");
                if wait(&[woken.as_fd()], PAUSE_AFTER_TROUBLE).is_ok_and(|ready| ready == [true]) {
                    return;
                }
            }
        }
    }
}

/// Waits until one of them has something to say, at most so long; which of them have.
fn wait(who: &[std::os::fd::BorrowedFd<'_>], until: Duration) -> io::Result<Vec<bool>> {
    let mut fds: Vec<PollFd<'_>> = who.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // Rounded up: a moment too early would be a turn for nothing.
    let milliseconds = u16::try_from(until.as_millis() + 1).unwrap_or(u16::MAX);
    match poll(&mut fds, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect())
}

fn receive(stream: TcpStream, guests: &Arc<()>, view: &Arc<View>) {
    if Arc::strong_count(guests) > MOST_GUESTS {
        return turn_away(&stream);
    }
    let stream = Arc::new(stream);
    let (guest, its_stream, its_view) = (Arc::clone(guests), Arc::clone(&stream), Arc::clone(view));
    let serve = move || {
        if let Some(Err(error)) = guarded(Task::Http, || serve(&its_stream, &its_view)) {
            log::debug!("http: {error}");
        }
        drop(guest);
    };
    if Builder::new().name("http-guest".to_owned()).spawn(serve).is_err() {
        turn_away(&stream);
    }
}

/// Without waiting for anything.
fn turn_away(mut stream: &TcpStream) {
    let date = Clock::System.now().to_http();
    let octets = Response::only(Status::Unavailable).octets(false, &date);
    if stream.set_nonblocking(true).is_ok() && stream.write_all(&octets).is_ok() {
        // What has come and is not read would have the answer dropped as well.
        let _ = stream.read(&mut [0; 8192]);
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// Hears what is asked, answers, and hangs up.
fn serve(stream: &TcpStream, view: &Arc<View>) -> io::Result<()> {
    let mut octets = Vec::new();
    let deadline = Instant::now() + ASKING;
    let mut late = false;
    while !late && matches!(Asked::parse(&octets), Ok(None)) {
        let mut piece = [0; 2048];
        match read(stream, &mut piece, deadline)? {
            Some(0) => return Ok(()),
            Some(length) => octets.extend_from_slice(&piece[..length]),
            None => late = true,
        }
    }
    let (response, head_only) = match Asked::parse(&octets) {
        Ok(Some(asked)) => (answer(&asked, stream, view)?, asked.head_only),
        Ok(None) => (Response::only(Status::Timeout), false),
        Err(status) => (Response::only(status), false),
    };
    log::debug!("http: {} octets asked, {}", octets.len(), response.status.line());
    let answer = response.octets(head_only, &Clock::System.now().to_http());
    write(stream, &answer, Instant::now() + TAKING)?;
    hang_up(stream)
}

/// What is asked for.
fn answer(asked: &Asked<'_>, stream: &TcpStream, view: &Arc<View>) -> io::Result<Response> {
    let address = stream.local_addr()?.ip().to_canonical();
    if !asked.means(address, &view.hostname()) {
        return Ok(Response::only(Status::Misdirected));
    }
    let response = match asked.path {
        "/style.css" => Response::of(Kind::Css, page::STYLE),
        "/script.js" => Response::of(Kind::Script, page::SCRIPT),
        "/icon.svg" => Response::of(Kind::Svg, page::ICON),
        "/" | "/metrics" | "/healthz" => match (view.facts(), asked.path) {
            (None, _) => Response::only(Status::Unavailable),
            (Some(facts), "/metrics") => Response::of(Kind::Metrics, exposition(&facts)),
            (Some(facts), "/healthz") => health(&facts.troubles()),
            (Some(facts), _) => {
                let message = view.message(asked.value("id"));
                Response::of(Kind::Html, page(&facts, &message))
            }
        },
        _ => Response::only(Status::NotFound),
    };
    Ok(response)
}

fn health(troubles: &[String]) -> Response {
    if troubles.is_empty() {
        return Response::of(Kind::Text, "ok\n");
    }
    Response {
        status: Status::Unavailable,
        kind: Kind::Text,
        content: troubles.join("\n") + "\n",
    }
}

/// Reads what has come, 0 octets at the end; `None` where nothing comes in time.
fn read(mut stream: &TcpStream, piece: &mut [u8], deadline: Instant) -> io::Result<Option<usize>> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(piece) {
            Ok(length) => return Ok(Some(length)),
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn write(mut stream: &TcpStream, octets: &[u8], deadline: Instant) -> io::Result<()> {
    let mut rest = octets;
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => rest = &rest[length..],
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Where the client goes on talking, closing at once would reset the connection, and our answer might be lost with it.
fn hang_up(stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + LAST_WORDS_TIME;
    let (mut waste, mut heard) = ([0; 2048], 0);
    while heard < LAST_WORDS {
        match read(stream, &mut waste, deadline)? {
            None | Some(0) => break,
            Some(length) => heard += length,
        }
    }
    Ok(())
}
