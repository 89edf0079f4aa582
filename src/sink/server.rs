//! The sink as a server: listeners, one thread for each session, orders that can be changed while it runs.
//!
//! Everything is bounded by `--max-sessions`: while so many are busy nobody is accepted. Dropping it closes every
//! connection and waits for every thread.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::chaos::{LONGEST_STALL, Lots, Mischief, Record};
use super::fault::{Deed, Fault};
use super::faults::{Faults, Order};
use super::handler;
use super::service::{Service, ServiceError};
use super::settings::{Settings, Tls};
use super::stage::Stage;
use super::stall::{Stalls, Woken};
use super::witness::{Event, Witness};
use crate::config::exit::Exit;
use crate::latest::Latest;
use crate::tls::wire::Wire;

/// How long sessions may take to end once there were messages enough.
const GRACE: Duration = Duration::from_secs(5);

/// How long nobody is accepted after that has failed.
const SCARCITY: Duration = Duration::from_millis(50);

/// Why there is no sink.
#[derive(Debug)]
pub enum StartError {
    /// The settings ask for what cannot be had.
    Service(ServiceError),
    /// An address.
    Listen(SocketAddr, io::Error),
    /// The folder for messages.
    Folder(PathBuf, io::Error),
    /// A thread, or the signals.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Service(error) => error.fmt(f),
            StartError::Listen(address, error) => write!(f, "can not listen on {address}: {error}"),
            StartError::Folder(path, error) => write!(f, "{}: {error}", path.display()),
            StartError::System(error) => write!(f, "can not start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// How the run of the program ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            StartError::Service(_) => Exit::Configuration,
            StartError::Listen(..) | StartError::Folder(..) | StartError::System(_) => Exit::TryLater,
        }
    }
}

/// Who is here.
#[derive(Debug, Default)]
struct Sessions {
    live: usize,
    next: usize,
    accepted: u64,
    /// There were messages enough.
    ending: bool,
    stopping: bool,
    sockets: HashMap<usize, TcpStream>,
}

/// What the threads share.
pub(super) struct Shared {
    service: Latest<Service>,
    faults: Mutex<Faults>,
    /// What has gone wrong without an order, and the seed of it; `None`: nothing does.
    chaos: Option<(u64, Mutex<Record>)>,
    sessions: Mutex<Sessions>,
    changed: Condvar,
    pub(super) stalls: Stalls,
    pub(super) witness: Arc<dyn Witness>,
}

impl Shared {
    pub(super) fn service(&self) -> Arc<Service> {
        self.service.take()
    }

    pub(super) fn draw(&self, stage: Stage, about: &str) -> Option<Deed> {
        self.faults.lock().draw(stage, about)
    }

    pub(super) fn draw_early(&self, stage: Stage) -> Vec<Stage> {
        self.faults.lock().draw_early(stage)
    }

    /// What goes wrong in the next call, without an order.
    fn next_lots(&self) -> Option<Lots> {
        let (seed, record) = self.chaos.as_ref()?;
        let mut record = record.lock();
        record.calls += 1;
        Some(Lots::of_call(*seed, record.calls - 1))
    }

    /// The same as [`draw`](Self::draw); where nothing is ordered, chaos has its way.
    pub(super) fn draw_with(&self, lots: &mut Option<Lots>, stage: Stage, about: &str) -> Option<Deed> {
        let unordered = lots.as_mut().and_then(|lots| lots.draw(stage));
        if stage == Stage::Mail {
            self.record(|record| record.transactions += 1);
        }
        let ordered = self.draw(stage, about);
        ordered.or_else(|| unordered.map(|(mischief, deed)| self.plays(mischief, deed)))
    }

    /// The same as [`draw_early`](Self::draw_early), likewise.
    pub(super) fn draw_early_with(&self, lots: &mut Option<Lots>, stage: Stage) -> Vec<Stage> {
        let mut early = self.draw_early(stage);
        if let Some((mischief, stage)) = lots.as_mut().and_then(|lots| lots.draw_early(stage)) {
            early.push(self.plays(mischief, stage));
        }
        early
    }

    /// Notes that this goes wrong.
    fn plays<T>(&self, mischief: Mischief, what: T) -> T {
        self.record(|record| record.note(mischief));
        what
    }

    fn record(&self, note: impl FnOnce(&mut Record)) {
        if let Some((_, record)) = &self.chaos {
            note(&mut record.lock());
        }
    }

    /// How long a stall lasts at most.
    pub(super) fn longest_stall(&self) -> Option<Duration> {
        self.chaos.as_ref().map(|_| LONGEST_STALL)
    }

    /// Whether sessions should come to their end.
    pub(super) fn is_ending(&self) -> bool {
        self.sessions.lock().ending
    }

    /// A message got its answer.
    pub(super) fn settled(&self, accepted: bool) {
        let most = self.service().settings.max_messages;
        let mut sessions = self.sessions.lock();
        sessions.accepted += u64::from(accepted);
        if most.is_some_and(|most| sessions.accepted >= most) {
            sessions.ending = true;
            self.changed.notify_all();
        }
    }

    /// Waits until there may be one session more; whether there ever will.
    fn wait_for_seat(&self, take: bool) -> bool {
        let most = self.service().settings.max_sessions;
        let mut sessions = self.sessions.lock();
        while sessions.live >= most && !sessions.stopping && !sessions.ending {
            self.changed.wait(&mut sessions);
        }
        let is_free = !sessions.stopping && !sessions.ending;
        sessions.live += usize::from(is_free && take);
        is_free
    }

    /// A session begins; its number, unless the sink stops.
    fn begin(&self, stream: &TcpStream) -> io::Result<usize> {
        let socket = stream.try_clone()?;
        let mut sessions = self.sessions.lock();
        if sessions.stopping {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let number = sessions.next;
        sessions.next += 1;
        sessions.sockets.insert(number, socket);
        Ok(number)
    }

    fn leave(&self, number: Option<usize>) {
        let mut sessions = self.sessions.lock();
        sessions.live -= 1;
        if let Some(number) = number {
            sessions.sockets.remove(&number);
        }
        self.changed.notify_all();
    }
}

/// A seat that is free again when this is dropped, whatever happened.
struct Seat {
    shared: Arc<Shared>,
    number: Option<usize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.witness.note(number, &Event::Ended);
        }
        self.shared.leave(self.number);
    }
}

/// A sink that runs.
pub struct Sink {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    acceptors: Vec<JoinHandle<()>>,
}

impl Sink {
    /// Listens, and serves whoever calls, until it is dropped. `seed` is that of the lots.
    ///
    /// # Errors
    /// Certificate, login or an address is good for nothing.
    pub fn start(settings: Settings, seed: u64, witness: Arc<dyn Witness>) -> Result<Sink, StartError> {
        let mut listeners = Vec::new();
        for address in &settings.listen {
            let listening =
                TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
            listeners.push(listening.map_err(|error| StartError::Listen(*address, error))?);
        }
        let faults = Faults::new(seed, settings.faults.iter().cloned());
        let chaos = settings.chaos.then(|| (seed, Mutex::default()));
        let service = Service::new(settings).map_err(StartError::Service)?;
        let mut sink = Sink {
            addresses: listeners.iter().map(|(address, _)| *address).collect(),
            shared: Arc::new(Shared {
                service: Latest::new(Arc::new(service)),
                faults: Mutex::new(faults),
                chaos,
                sessions: Mutex::default(),
                changed: Condvar::new(),
                stalls: Stalls::default(),
                witness,
            }),
            acceptors: Vec::new(),
        };
        for (address, listener) in listeners {
            let shared = Arc::clone(&sink.shared);
            let acceptor = thread::Builder::new().name(format!("sink:{}", address.port()));
            let acceptor = acceptor.spawn(move || accept(&listener, &shared));
            sink.acceptors.push(acceptor.map_err(StartError::System)?);
        }
        Ok(sink)
    }

    /// Where it listens, in the order of the settings.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its certificate, DER, if there is TLS at all: for clients that are to trust it.
    #[must_use]
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let service = self.shared.service();
        service
            .identity
            .as_ref()
            .map(|identity| identity.end_entity().to_vec())
    }

    /// Adds an order, behind those that there are.
    pub fn order(&self, fault: Fault) {
        self.shared.faults.lock().add(fault);
    }

    /// Forgets the orders that are not to be kept.
    pub fn retain(&self, keep: impl Fn(&Fault) -> bool) {
        self.shared.faults.lock().retain(keep);
    }

    /// The orders, with how often each was obeyed.
    #[must_use]
    pub fn orders(&self) -> Vec<Order> {
        self.shared.faults.lock().orders().to_vec()
    }

    /// What tells from elsewhere, and after its end, how often each order was obeyed, and what chaos has done.
    pub fn accountant(&self) -> impl Fn() -> (Vec<Order>, Option<Record>) + Clone + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let chaos = shared.chaos.as_ref().map(|(_, record)| record.lock().clone());
            (shared.faults.lock().orders().to_vec(), chaos)
        }
    }

    /// Lets everything go on that stalls.
    pub fn release(&self) {
        self.shared.stalls.release();
    }

    /// Sessions from now on find these lines in EHLO.
    pub fn offer(&self, offers: Vec<String>) {
        let now = self.shared.service();
        self.shared.service.replace(Arc::new(Service {
            settings: Settings {
                offers,
                ..now.settings.clone()
            },
            identity: now.identity.clone(),
            accounts: now.accounts.clone(),
        }));
    }

    /// Waits until there were messages enough, and those who are still here have had a moment to leave; or until it
    /// is stopped.
    pub fn wait(&self) {
        let shared = &self.shared;
        let mut sessions = shared.sessions.lock();
        while !sessions.ending && !sessions.stopping {
            shared.changed.wait(&mut sessions);
        }
        while !sessions.sockets.is_empty() && !sessions.stopping {
            if shared.changed.wait_for(&mut sessions, GRACE).timed_out() {
                return;
            }
        }
    }

    /// What stops it from elsewhere: a signal.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || stop(&shared)
    }
}

/// Closes every connection, and wakes whoever waits.
fn stop(shared: &Shared) {
    let mut sessions = shared.sessions.lock();
    sessions.stopping = true;
    for socket in sessions.sockets.values() {
        // Fails where the client has closed before.
        let _ = socket.shutdown(Shutdown::Both);
    }
    drop(sessions);
    shared.stalls.stop();
    shared.changed.notify_all();
}

impl Drop for Sink {
    fn drop(&mut self) {
        stop(&self.shared);
        for address in &self.addresses {
            // Wakes the acceptor.
            let _ = TcpStream::connect(address);
        }
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
        let mut sessions = self.shared.sessions.lock();
        while sessions.live > 0 {
            self.shared.changed.wait(&mut sessions);
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sink({:?})", self.addresses)
    }
}

/// Accepts while there is a seat.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while shared.wait_for_seat(false) {
        let Ok((stream, peer)) = listener.accept() else {
            // Descriptors are scarce, or the caller has gone already.
            shared.stalls.pause(SCARCITY);
            continue;
        };
        // Another listener may have been faster: then this caller waits for its greeting.
        if !shared.wait_for_seat(true) {
            return;
        }
        let mut seat = Seat {
            shared: Arc::clone(shared),
            number: None,
        };
        let mut lots = shared.next_lots();
        if !connect(shared, &stream, &mut lots) {
            continue;
        }
        let Ok(number) = shared.begin(&stream) else {
            continue;
        };
        shared.witness.note(number, &Event::Opened(peer));
        seat.number = Some(number);
        // Replies are short, and a client that does not pipeline waits for each.
        let _ = stream.set_nodelay(true);
        let session = thread::Builder::new().name(format!("sink-{number}"));
        // Where there is no thread the connection is closed.
        let _ = session.spawn(move || {
            let tls_first = seat.shared.service().settings.tls == Tls::First;
            handler::run(&seat.shared, (number, lots), Wire::plain(stream), tls_first);
        });
    }
}

/// Does what is ordered for a caller who was just accepted; whether there will be a session.
fn connect(shared: &Shared, stream: &TcpStream, lots: &mut Option<Lots>) -> bool {
    let next = shared.sessions.lock().next;
    loop {
        let releases = shared.stalls.releases();
        let Some(deed) = shared.draw_with(lots, Stage::Connect, "") else {
            break;
        };
        shared.witness.note(next, &Event::Misbehaves(Stage::Connect));
        match deed {
            Deed::Stall => {
                shared.witness.note(next, &Event::Stalls(Stage::Connect));
                let woken = shared.stalls.stall(releases, None, shared.longest_stall());
                shared.witness.note(next, &Event::GoesOn);
                if woken == Woken::GiveUp {
                    return false;
                }
            }
            Deed::Late(pause) => return shared.stalls.pause(pause) == Woken::GoOn,
            Deed::Reset => {
                // With nothing to linger for, the close is an RST.
                let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                return false;
            }
            _ => return false,
        }
    }
    !shared.stalls.is_stopping()
}
