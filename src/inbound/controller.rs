//! isesctl: the inbound session controller. Owns the listening sockets, and hands each connection to an
//! idle session handler, or starts one.
//!
//! Accepts nothing before a place in the table is certain: while all handlers are busy, callers wait in the
//! kernel's backlog. Never speaks SMTP, save for turning away a client that has too many sessions.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{Shutdown, shutdown};

use super::caller::{Caller, Seats};
use super::front::Front;
use super::handler::InboundHandler;
use super::replies;
use crate::console::screen;
use crate::smtp::reply::Reply;
use crate::sync::poll;
use crate::tasks::Task;
use crate::tasks::bell::{Bell, Stop};
use crate::tasks::board::Board;
use crate::tasks::table::{Desk, HandlerTable, Patience};

/// How long to leave callers alone after the system refused a descriptor or a thread.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_millis(500);

/// The operator is told of a full table at most this often: under load it comes and goes a thousand times a
/// second.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// How often it looks, while the table is full, whether somebody waits for whom room should be made.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How patient we are while others wait: who waits for a place is to be served within ten seconds.
const STRESS: Patience = Patience {
    newcomers: Duration::from_secs(3),
    unproven: Duration::from_secs(30),
    silent: Duration::from_secs(8),
};

/// A socket that isesctl listens on.
#[derive(Debug)]
pub struct Listener {
    /// The socket; not blocking.
    pub socket: TcpListener,
    /// Who is to call there.
    pub front: Front,
    /// Whether somebody keeps the socket: nobody else is let in when this is dropped, and the port stays ours.
    pub is_kept: bool,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_kept {
            // Closing it would change nothing, for it is open elsewhere.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// The inbound session controller, and what it works with.
pub struct InboundController {
    /// What it listens on.
    pub listeners: Vec<Listener>,
    /// The other end is dropped to wake it for a stop.
    pub wake: UnixStream,
    /// Rings when a handler becomes available.
    pub freed: Bell,
    /// Where it says what it is doing.
    pub board: Board,
    /// Where it speaks to the operator.
    pub say: fn(&str),
    /// `--max-sessions-per-client`.
    pub sessions_per_client: usize,
    /// `--hostname`, for turning away.
    pub hostname: String,
    /// Its handlers.
    pub table: HandlerTable<Box<Caller>>,
}

impl InboundController {
    /// The table of `max` handlers that `handler` describes.
    #[must_use]
    pub fn table(max: usize, freed: Bell, handler: InboundHandler) -> HandlerTable<Box<Caller>> {
        let serve = move |caller: Box<Caller>, desk: &Desk| handler.serve(caller, desk);
        HandlerTable::new(Task::InboundHandler, max, freed, serve)
    }

    /// Works until it is told to stop.
    pub fn run(&self, stop: &Stop) {
        let ports = self.ports();
        let seats = Seats::default();
        let mut last_told: Option<Instant> = None;
        self.board
            .write(Task::InboundController, screen::listening_on(&ports));
        while !stop.is_given() {
            if !self.table.has_room() {
                self.wait_for_room(stop, &ports, &mut last_told);
                continue;
            }
            match self.accept_ready(&seats) {
                Ok(()) => {}
                Err(error) => {
                    log::warn!("isesctl accepts nothing for a moment: {error}");
                    // Whatever it is that has run out, each session holds some of it.
                    self.make_room(self.table.busy().div_ceil(4));
                    self.pause(stop);
                }
            }
        }
    }

    fn ports(&self) -> String {
        let addresses = self.listeners.iter().filter_map(|l| l.socket.local_addr().ok());
        addresses.map(|a| a.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The seed: when all of the handlers are busy the controller stops listening until one is available.
    fn wait_for_room(&self, stop: &Stop, ports: &str, last_told: &mut Option<Instant>) {
        let tell = last_told.is_none_or(|told| told.elapsed() >= TELL_AGAIN);
        self.board
            .write(Task::InboundController, screen::not_listening_on(ports));
        if tell {
            *last_told = Some(Instant::now());
            self.tell(&screen::not_listening_on(ports));
        }
        let mut most = 1;
        while !self.table.has_room() && !stop.is_given() {
            if !self.freed.rest(stop, LOOK_AGAIN) {
                self.make_room(most);
                // As long as the places do not suffice, more have to go each time.
                most = (most * 2).min(self.table.places());
            }
        }
        self.board
            .write(Task::InboundController, screen::listening_on(ports));
        if tell && !stop.is_given() {
            self.tell(&screen::listening_again_on(ports));
        }
    }

    /// While somebody waits, up to `most` of those who have nothing to say have to go.
    fn make_room(&self, most: usize) {
        let somebody_waits = self.ready(PollTimeout::ZERO).is_ok_and(|ready| !ready.is_empty());
        if somebody_waits {
            let gone = self.table.evict(most, &STRESS);
            log::debug!("{gone} sessions make room for others");
        }
    }

    /// To the operator, and for the record.
    fn tell(&self, what: &str) {
        log::info!("{what}");
        (self.say)(&screen::said_by(Task::InboundController, what));
    }

    fn pause(&self, stop: &Stop) {
        let _ = stop.heard().recv_timeout(PAUSE_AFTER_TROUBLE);
    }

    /// Waits for callers, at most `patience`: the listeners that have some.
    fn ready(&self, patience: PollTimeout) -> std::io::Result<Vec<&Listener>> {
        let sockets = self.listeners.iter().map(|l| l.socket.as_fd());
        let mut fds: Vec<PollFd<'_>> = sockets
            .chain([self.wake.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = self.listeners.iter().zip(&fds);
        Ok(ready
            .filter(|(_, fd)| fd.any().unwrap_or(false))
            .map(|(listener, _)| listener)
            .collect())
    }

    /// Waits for callers, and hands over at most one from each listener.
    fn accept_ready(&self, seats: &Seats) -> std::io::Result<()> {
        for listener in self.ready(PollTimeout::NONE)? {
            // One place was certain before the first caller was accepted; another caller needs another.
            if !self.table.has_room() {
                return Ok(());
            }
            match listener.socket.accept() {
                Ok((stream, client)) => self.receive(stream, client, listener.front, seats)?,
                // It has hung up meanwhile, or its network has: accept(2) names these.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock
                            | ErrorKind::ConnectionAborted
                            | ErrorKind::Interrupted
                            | ErrorKind::NetworkDown
                            | ErrorKind::NetworkUnreachable
                            | ErrorKind::HostUnreachable
                    ) || error.raw_os_error() == Some(Errno::EPROTO as i32) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        front: Front,
        seats: &Seats,
    ) -> std::io::Result<()> {
        let address = client.ip().to_canonical();
        let Some(seat) = seats.take(address, self.sessions_per_client) else {
            log::info!(
                "client={address} sessions={} turned away: it may have no more at once",
                self.sessions_per_client
            );
            turn_away(stream, front, &replies::too_many_sessions(&self.hostname));
            return Ok(());
        };
        let Some(number) = self.table.reserve() else {
            return Ok(());
        };
        let caller = Caller {
            stream,
            client,
            front,
            seat,
        };
        match self.table.hand_over(number, Box::new(caller)) {
            Ok(started) => {
                if started {
                    (self.say)(&screen::started(Task::InboundHandler(number)));
                }
                Ok(())
            }
            Err((caller, _)) if self.table.is_stopping() => {
                turn_away(caller.stream, front, &replies::stopping(&self.hostname));
                Ok(())
            }
            Err((caller, error)) => {
                turn_away(caller.stream, front, &replies::out_of_resources(&self.hostname));
                Err(error)
            }
        }
    }
}

/// 421, if the client's socket takes it at once; nothing where it waits for TLS.
fn turn_away(mut stream: TcpStream, front: Front, reply: &Reply) {
    if front.begins_with_tls() {
        return;
    }
    let mut line = Vec::new();
    reply.write_to(&mut line, true);
    let _ = stream.set_nonblocking(true);
    let _ = stream.write_all(&line);
}
