//! The handler table: a fixed number of places, in which session handlers are started on demand, wait idle
//! for their next session, and are seen by the console.
//!
//! Used by both controllers; never knows what a session is.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::bell::{Bell, Stop};
use super::hatch::{Hatch, Taker, hatch};
use super::{Task, guarded};
use crate::sync::{AtomicUsize, Condvar, Mutex, now, thread};

/// Stack of a handler: sessions keep what is large on the heap.
const STACK: usize = 512 * 1024;

/// How long a session that is cut off may take to say so, and then to end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How much longer those are waited for that have to record what became of messages.
pub const LAST_RECORDS: Duration = Duration::from_millis(2500);

/// What handlers of one kind do with what the controller gives them.
type Serve<J> = Box<dyn Fn(J, &Desk) + Send + Sync>;

/// The table of one controller. Clones are the same table.
pub struct HandlerTable<J> {
    shared: Arc<Shared<J>>,
}

impl<J> Clone for HandlerTable<J> {
    fn clone(&self) -> Self {
        HandlerTable {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<J> fmt::Debug for HandlerTable<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerTable({} places)", self.shared.places.max)
    }
}

struct Shared<J> {
    task: fn(usize) -> Task,
    serve: Serve<J>,
    jobs: Mutex<Vec<Option<Hatch<J>>>>,
    places: Arc<Places>,
}

/// What is known of the handlers, whatever they do.
struct Places {
    max: usize,
    rows: Mutex<Vec<Place>>,
    /// What the session of each handler is at.
    at: Mutex<Vec<Arc<At>>>,
    busy: AtomicUsize,
    /// How many have to record what became of messages.
    recording: AtomicUsize,
    running: Mutex<usize>,
    ended: Condvar,
    freed: Bell,
    stop: Stop,
}

/// What a session is at, in up to eight letters; written at each command, and so without a lock, and where no other handler
/// writes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct At(AtomicU64);

impl At {
    fn write(&self, word: &'static str) {
        let mut letters = [0; 8];
        for (place, octet) in letters.iter_mut().zip(word.bytes()) {
            *place = octet;
        }
        self.0.store(u64::from_be_bytes(letters), Ordering::Relaxed);
    }

    /// The letters; none where nothing was written.
    fn read(&self) -> String {
        let letters = self.0.load(Ordering::Relaxed).to_be_bytes();
        let letters = letters.into_iter().take_while(|letter| *letter != 0);
        letters.map(char::from).collect()
    }
}

/// One place of the table.
#[derive(Debug, Default)]
struct Place {
    busy: bool,
    doing: Cow<'static, str>,
    since: Option<Instant>,
    /// When its session began.
    began: Option<Instant>,
    /// The socket of its session, while it may be shut down from outside.
    socket: Option<RawFd>,
    /// Whether the session may be broken off without harm, and since when.
    rest: Rest,
    resting_since: Option<Instant>,
    /// The session has been told to make room.
    evicted: bool,
    /// The session hears its peer no longer.
    deaf: bool,
}

/// What a session would lose if it were broken off now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// Something: it is busy.
    #[default]
    Busy,
    /// A message that is coming in: a stop leaves it time, but others do not wait for it for ever.
    Receiving,
    /// What it has to say, to a peer that may not listen.
    Sending,
    /// Nothing: it waits for its peer.
    Waiting,
    /// Nothing, and it has not brought anything to its end yet.
    Unproven,
    /// Nothing, and it has shown nothing yet for which its place should be kept.
    Expendable,
}

/// How long sessions may keep a place that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Those that are [`Rest::Expendable`], since they began.
    pub newcomers: Duration,
    /// Those that are [`Rest::Unproven`], since they began.
    pub unproven: Duration,
    /// All whose peers keep them waiting, since then.
    pub silent: Duration,
}

impl Place {
    /// Since when its session should have ended for the sake of others; `None` if it may go on.
    fn late_since(&self, patience: &Patience) -> Option<Instant> {
        let allowed = match self.rest {
            Rest::Busy => return None,
            Rest::Expendable => Some(patience.newcomers),
            Rest::Unproven => Some(patience.unproven),
            Rest::Receiving | Rest::Sending | Rest::Waiting => None,
        };
        let outstayed = allowed.zip(self.began).map(|(allowed, began)| began + allowed);
        let silent = self.resting_since.map(|since| since + patience.silent);
        let late = outstayed.into_iter().chain(silent).min()?;
        (late <= Instant::now()).then_some(late)
    }
}

/// What the console shows of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerRow {
    /// Its name.
    pub task: Task,
    /// Whether it has a session.
    pub busy: bool,
    /// What it is doing.
    pub doing: String,
    /// For how long.
    pub since: Duration,
}

impl<J: Send + 'static> HandlerTable<J> {
    /// A table with `max` places, empty. `freed` rings when a handler becomes available.
    pub fn new(
        task: fn(usize) -> Task,
        max: usize,
        freed: Bell,
        serve: impl Fn(J, &Desk) + Send + Sync + 'static,
    ) -> HandlerTable<J> {
        let places = Places {
            max,
            rows: Mutex::new(Vec::new()),
            at: Mutex::new(Vec::new()),
            busy: AtomicUsize::new(0),
            recording: AtomicUsize::new(0),
            running: Mutex::new(0),
            ended: Condvar::new(),
            freed,
            stop: Stop::default(),
        };
        let shared = Shared {
            task,
            serve: Box::new(serve),
            jobs: Mutex::new(Vec::new()),
            places: Arc::new(places),
        };
        HandlerTable {
            shared: Arc::new(shared),
        }
    }

    /// The next places that [`HandlerTable::reserve`] would give, at most `most`: idle handlers first, then new
    /// ones while there is room. They stay available, as only one controller hands out places.
    #[must_use]
    pub fn available(&self, most: usize) -> Vec<usize> {
        let rows = self.shared.places.rows.lock();
        let idle = rows
            .iter()
            .enumerate()
            .filter(|(_, place)| !place.busy)
            .map(|(number, _)| number);
        idle.chain(rows.len()..self.shared.places.max)
            .take(most)
            .collect()
    }

    /// Reserves the first available place: an idle handler, else a new one while there is room.
    #[must_use]
    pub fn reserve(&self) -> Option<usize> {
        let places = &self.shared.places;
        let mut rows = places.rows.lock();
        let number = rows.iter().position(|place| !place.busy).unwrap_or(rows.len());
        places.take(&mut rows, number).then_some(number)
    }

    /// Reserves this place, one that [`HandlerTable::available`] has named; whether it is still available.
    #[must_use]
    pub fn reserve_at(&self, number: usize) -> bool {
        let places = &self.shared.places;
        places.take(&mut places.rows.lock(), number)
    }

    /// How many places there are.
    #[must_use]
    pub fn places(&self) -> usize {
        self.shared.places.max
    }

    /// Whether the handlers have been told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.places.stop.is_given()
    }

    /// Whether a place is available.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.busy() < self.shared.places.max
    }

    /// Gives the handler at a reserved place its next session, and starts it where there is none yet; whether
    /// it had to be started.
    ///
    /// # Errors
    /// Gives the job back, and the place is free again, when the system refuses another thread.
    pub fn hand_over(&self, number: usize, job: J) -> Result<bool, (J, std::io::Error)> {
        let mut jobs = self.shared.jobs.lock();
        if self.shared.places.stop.is_given() {
            // Whoever stopped the table has seen the last of its handlers.
            self.shared.places.free(number);
            return Err((job, std::io::Error::other("the handlers are being stopped")));
        }
        if jobs.len() <= number {
            jobs.resize_with(number + 1, || None);
        }
        let job = match &jobs[number] {
            None => job,
            Some(handler) => match handler.put(job) {
                Ok(()) => return Ok(false),
                // Its thread has ended, which only a panic outside a session could do: start it anew.
                Err(back) => back,
            },
        };
        let (to_handler, work) = hatch();
        match self.start(number, work) {
            Ok(()) => {
                // It is empty, and who takes from it has just been started.
                let _ = to_handler.put(job);
                jobs[number] = Some(to_handler);
                Ok(true)
            }
            Err(e) => {
                self.shared.places.free(number);
                Err((job, e))
            }
        }
    }

    fn start(&self, number: usize, work: Taker<J>) -> std::io::Result<()> {
        let task = (self.shared.task)(number);
        let at = Arc::new(At::default());
        {
            let mut all = self.shared.places.at.lock();
            if all.len() <= number {
                all.resize_with(number + 1, Arc::default);
            }
            all[number] = Arc::clone(&at);
        }
        let desk = Desk {
            places: Arc::clone(&self.shared.places),
            number,
            at,
        };
        let shared = Arc::clone(&self.shared);
        *shared.places.running.lock() += 1;
        let started = thread::Builder::new()
            .name(task.to_string())
            .stack_size(STACK)
            .spawn(move || {
                while let Some(job) = work.take() {
                    let _ = guarded(task, || (shared.serve)(job, &desk));
                    desk.places.free(number);
                }
                desk.places.leave();
            });
        if started.is_err() {
            self.shared.places.leave();
        }
        started.map(drop)
    }

    /// How many handlers have a session.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.shared.places.busy.load(Ordering::SeqCst)
    }

    /// The handlers that have been started, in the order of their numbers.
    #[must_use]
    pub fn rows(&self) -> Vec<HandlerRow> {
        let at: Vec<String> = self.shared.places.at.lock().iter().map(|at| at.read()).collect();
        let rows = self.shared.places.rows.lock();
        let doing = |number: usize, place: &Place| match at.get(number) {
            Some(word) if place.busy && !word.is_empty() => format!("{}, at {word}", place.doing),
            _ => place.doing.to_string(),
        };
        let row = |(number, place): (usize, &Place)| HandlerRow {
            task: (self.shared.task)(number),
            busy: place.busy,
            doing: doing(number, place),
            since: place.since.map(|since| since.elapsed()).unwrap_or_default(),
        };
        // A place that was passed over has had no handler yet.
        let started = rows.iter().enumerate().filter(|(_, place)| place.since.is_some());
        started.map(row).collect()
    }

    /// Makes room where there is none left: tells up to `most` sessions to end, those first that have outstayed their
    /// welcome longest; how many there were. Their places become available as soon as they have said goodbye.
    pub fn evict(&self, most: usize, patience: &Patience) -> usize {
        let mut rows = self.shared.places.rows.lock();
        let mut late: Vec<(Instant, usize)> = rows
            .iter()
            .enumerate()
            .filter(|(_, place)| place.socket.is_some() && !place.evicted)
            .filter_map(|(number, place)| Some((place.late_since(patience)?, number)))
            .collect();
        late.sort_unstable();
        late.truncate(most);
        for (_, number) in &late {
            let place = &mut rows[*number];
            place.evicted = true;
            let how = match place.rest {
                Rest::Sending => Shutdown::Both,
                _ => Shutdown::Read,
            };
            if let Some(socket) = place.socket {
                // A peer that has gone meanwhile is what we want.
                let _ = shutdown(socket, how);
            }
        }
        late.len()
    }

    /// Stops the handlers: idle ones go at once, sessions at rest are woken, the others may finish what they are
    /// doing until `grace` is over; then their sockets are shut down. Waits for them, at most `grace` and a
    /// second, and somewhat longer where something has yet to be recorded; whether all have ended.
    pub fn stop(&self, grace: Duration) -> bool {
        let places = &self.shared.places;
        places.stop.give();
        self.shared.jobs.lock().clear();
        places.shut_down(Shutdown::Read, |place| {
            matches!(place.rest, Rest::Waiting | Rest::Unproven | Rest::Expendable)
        });
        if places.wait_until_ended(grace) {
            return true;
        }
        // Who is cut off while it sends can still be told why.
        places.shut_down(Shutdown::Read, |_| true);
        if places.wait_until_ended(LAST_WORDS) {
            return true;
        }
        places.shut_down(Shutdown::Both, |_| true);
        for row in self.rows().iter().filter(|row| row.busy) {
            log::warn!(
                "{} had to be cut off after {:?}: {}",
                row.task,
                row.since,
                row.doing
            );
        }
        // A disk that refuses may yet come to itself.
        places.wait_until_ended(LAST_WORDS)
            || places.recording.load(Ordering::SeqCst) > 0 && places.wait_until_ended(LAST_RECORDS)
    }
}

impl Places {
    /// Takes place `number`, if there is one and it is available.
    fn take(&self, rows: &mut Vec<Place>, number: usize) -> bool {
        if number >= self.max || rows.get(number).is_some_and(|place| place.busy) {
            return false;
        }
        if rows.len() <= number {
            rows.resize_with(number + 1, Place::default);
        }
        let now = Some(Instant::now());
        rows[number] = Place {
            busy: true,
            since: now,
            began: now,
            ..Place::default()
        };
        self.busy.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn free(&self, number: usize) {
        let mut rows = self.rows.lock();
        rows[number] = Place {
            since: Some(Instant::now()),
            ..Place::default()
        };
        self.busy.fetch_sub(1, Ordering::SeqCst);
        drop(rows);
        self.freed.kick();
    }

    fn leave(&self) {
        *self.running.lock() -= 1;
        self.ended.notify_all();
    }

    /// Under the lock that also guards the descriptor's life: it can not be somebody else's by now.
    fn shut_down(&self, how: Shutdown, which: impl Fn(&Place) -> bool) {
        for place in self.rows.lock().iter_mut().filter(|place| which(place)) {
            if let Some(socket) = place.socket {
                place.deaf = true;
                // A peer that has gone meanwhile is what we want.
                let _ = shutdown(socket, how);
            }
        }
    }

    fn wait_until_ended(&self, limit: Duration) -> bool {
        let deadline = now() + limit;
        let mut running = self.running.lock();
        while *running > 0 {
            if self.ended.wait_until(&mut running, deadline).timed_out() {
                return *running == 0;
            }
        }
        true
    }
}

/// A handler's own place in the table, where it writes what it is doing.
pub struct Desk {
    places: Arc<Places>,
    number: usize,
    at: Arc<At>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({})", self.number)
    }
}

/// Something is being recorded as long as this is not dropped.
struct Recording<'c>(&'c AtomicUsize);

impl Recording<'_> {
    fn begin(count: &AtomicUsize) -> Recording<'_> {
        count.fetch_add(1, Ordering::SeqCst);
        Recording(count)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Desk {
    /// The handler's number.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// What the handler is doing now, for the console.
    pub fn write(&self, doing: impl Into<Cow<'static, str>>) {
        let doing = doing.into();
        let mut rows = self.places.rows.lock();
        rows[self.number].doing = doing;
        rows[self.number].since = Some(Instant::now());
    }

    /// Notes the command that the session is at, in ASCII, of which eight letters count; none, where it is empty.
    pub fn at(&self, word: &'static str) {
        self.at.write(word);
    }

    /// Lends the session's socket to the table, so that a stop can reach it, until the guard is dropped. It
    /// has to be dropped before the socket is closed.
    #[must_use]
    pub fn lend(&self, socket: RawFd) -> Lent<'_> {
        self.places.rows.lock()[self.number].socket = Some(socket);
        if self.stopping() {
            // The stop came before the socket did.
            self.places.rows.lock()[self.number].deaf = true;
            let _ = shutdown(socket, Shutdown::Read);
        }
        Lent(self)
    }

    /// Whether the session may be broken off without harm from now on. Gives `false` when the order to stop has
    /// been given.
    #[must_use]
    pub fn rest(&self, rest: Rest) -> bool {
        self.rest_since(rest, Instant::now())
    }

    /// The same for a session that has had nothing whole to say since then, although it may have said parts of it:
    /// one octet every other second does not keep a place.
    #[must_use]
    pub fn rest_since(&self, rest: Rest, since: Instant) -> bool {
        let mut rows = self.places.rows.lock();
        let place = &mut rows[self.number];
        place.resting_since = Some(since);
        place.rest = rest;
        drop(rows);
        !self.stopping()
    }

    /// Whether the session has been told to make room.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        self.places.rows.lock()[self.number].evicted
    }

    /// Does what records what became of a message: until that is done a stop is patient.
    pub fn record<T>(&self, act: impl FnOnce() -> T) -> T {
        let _recording = Recording::begin(&self.places.recording);
        act()
    }

    /// Whether a stop has cut the session off from its peer. What came before may still be read, but nothing that is said
    /// from now on is heard an answer to.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.stopping() && self.places.rows.lock()[self.number].deaf
    }

    /// Whether the order to stop has been given.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.places.stop.is_given()
    }

    /// The order to stop, to be waited for.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.places.stop
    }
}

/// See [`Desk::lend`].
#[derive(Debug)]
pub struct Lent<'d>(&'d Desk);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut rows = self.0.places.rows.lock();
        rows[self.0.number].socket = None;
        rows[self.0.number].rest = Rest::Busy;
        rows[self.0.number].deaf = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, Sender, bounded};

    fn table(max: usize) -> (HandlerTable<Sender<()>>, Bell) {
        let freed = Bell::default();
        let serve = |done: Sender<()>, _: &Desk| {
            // Holds the session until the test has received.
            let _ = done.send(());
        };
        (
            HandlerTable::new(Task::InboundHandler, max, freed.clone(), serve),
            freed,
        )
    }

    #[test]
    fn handlers_start_on_demand_and_only_up_to_the_maximum() {
        let (table, freed) = table(2);
        assert!(table.rows().is_empty());
        let (first, first_done) = bounded(0);
        let (second, second_done) = bounded(0);
        assert!(table.hand_over(table.reserve().unwrap(), first).unwrap());
        assert!(table.hand_over(table.reserve().unwrap(), second).unwrap());
        assert_eq!(table.reserve(), None);
        assert_eq!(
            table
                .rows()
                .iter()
                .map(|r| r.task.to_string())
                .collect::<Vec<_>>(),
            ["iseshlr0", "iseshlr1"]
        );
        second_done.recv().unwrap();
        freed.heard().recv().unwrap();
        assert_eq!(table.available(9), [1], "the handler that is idle is used again");
        first_done.recv().unwrap();
        assert!(table.stop(Duration::from_secs(10)));
    }

    #[test]
    fn the_console_sees_which_command_a_session_is_at_as_long_as_it_lasts() {
        let serve = |(told, end): (Sender<()>, Receiver<()>), desk: &Desk| {
            desk.write("Session");
            for word in ["MAIL", "STARTTLS", ""] {
                desk.at(word);
                told.send(()).unwrap();
                end.recv().unwrap();
            }
            desk.at("QUIT");
        };
        let freed = Bell::default();
        let table = HandlerTable::new(Task::InboundHandler, 1, freed.clone(), serve);
        let ((told, has_told), (end, ends)) = (bounded(0), bounded(0));
        table.hand_over(table.reserve().unwrap(), (told, ends)).unwrap();
        for doing in ["Session, at MAIL", "Session, at STARTTLS", "Session"] {
            has_told.recv().unwrap();
            assert_eq!(table.rows()[0].doing, doing);
            end.send(()).unwrap();
        }
        freed.heard().recv().unwrap();
        assert_eq!(table.rows()[0].doing, "");
        assert!(table.stop(Duration::from_secs(10)));
    }

    #[test]
    fn a_session_that_says_parts_of_a_command_now_and_then_makes_room_as_a_silent_one_does() {
        let freed = Bell::default();
        let serve = |(rested, done): (Sender<()>, Receiver<()>), desk: &Desk| {
            let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
            let _lent = desk.lend(std::os::fd::AsRawFd::as_raw_fd(&socket));
            let long_ago = Instant::now().checked_sub(Duration::from_secs(11)).unwrap();
            for _ in 0..2 {
                assert!(desk.rest(Rest::Busy));
                assert!(desk.rest_since(Rest::Waiting, long_ago));
            }
            rested.send(()).unwrap();
            done.recv().unwrap();
        };
        let table = HandlerTable::new(Task::InboundHandler, 1, freed, serve);
        let ((rested, has_rested), (end, done)) = (bounded(0), bounded(0));
        table.hand_over(table.reserve().unwrap(), (rested, done)).unwrap();
        has_rested.recv().unwrap();
        let evict = |silent| {
            let patience = Patience {
                newcomers: Duration::ZERO,
                unproven: Duration::ZERO,
                silent: Duration::from_secs(silent),
            };
            table.evict(9, &patience)
        };
        assert_eq!(evict(60), 0, "it has rested for 11 seconds");
        assert_eq!(evict(10), 1);
        assert_eq!(evict(10), 0, "it has been told");
        end.send(()).unwrap();
        assert!(table.stop(Duration::from_secs(10)));
    }

    #[test]
    fn a_panic_costs_the_session_and_frees_the_place() {
        let freed = Bell::default();
        let serve = |job: Option<Sender<()>>, _: &Desk| job.expect("a session that panics").send(()).unwrap();
        let table = HandlerTable::new(Task::OutboundHandler, 1, freed.clone(), serve);
        table.hand_over(table.reserve().unwrap(), None).unwrap();
        freed.heard().recv().unwrap();
        let (job, done) = bounded(1);
        assert!(
            !table.hand_over(table.reserve().unwrap(), Some(job)).unwrap(),
            "the same thread goes on"
        );
        done.recv().unwrap();
        assert!(table.stop(Duration::from_secs(10)));
    }
}
