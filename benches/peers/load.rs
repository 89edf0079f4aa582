//! The load: many sessions in one thread, which sends messages as fast as they are taken, or at a fixed rate.
//!
//! At a fixed rate a message begins when it is due, whether or not a session is free for it: a server that stalls has
//! the wait in its latencies. Never sends a message twice: one that fails is an error, and counted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

use crate::client::{Client, News};
use crate::latencies::Latencies;
use crate::message::Model;

/// A session of which nothing is heard for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after a failure nothing new is connected: a server that is down is not to be hammered.
const PAUSE: Duration = Duration::from_millis(50);

/// So many more sessions than there are active ones may wait for their 221.
const MOST_LEAVING: usize = 200;

/// How long QUIT may take once everything is sent.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is to be sent, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whereto.
    pub target: SocketAddr,
    /// What the messages are like.
    pub model: Model,
    /// How many sessions there are at once.
    pub sessions: usize,
    /// How many messages go over one connection.
    pub per_connection: u64,
    /// How many messages there are in all.
    pub count: u64,
    /// For how long at most new ones begin.
    pub time: Option<Duration>,
    /// How many a second; as fast as they go without it.
    pub rate: Option<f64>,
    /// How often the sums are told.
    pub every: Option<Duration>,
    /// Errors until it is given up.
    pub most_errors: u64,
}

impl Order {
    /// `count` messages over `sessions` sessions, as fast as they go, as many per connection as there are.
    pub fn new(target: SocketAddr, model: Model, sessions: usize, count: u64) -> Order {
        Order {
            target,
            model,
            sessions,
            per_connection: u64::MAX,
            count,
            time: None,
            rate: None,
            every: None,
            most_errors: 20,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// From each message's beginning to its last reply; of the first one over a connection, from the connecting on.
    pub latencies: Latencies,
    /// Messages that failed.
    pub errors: u64,
    /// The first one's reason.
    pub first_error: Option<String>,
    /// Connections that were begun.
    pub connections: u64,
    /// From the beginning to the last reply.
    pub took: Duration,
}

impl Sums {
    /// Messages taken per second.
    pub fn rate(&self) -> f64 {
        self.latencies.count() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Sends what `order` says. `tell` gets the sums of each interval, and how far the whole is.
///
/// # Errors
/// When the system has no epoll.
pub fn run(order: &Order, tell: impl FnMut(Duration, &Sums)) -> Result<Sums, String> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
    let began = Instant::now();
    let load = Load {
        order,
        epoll,
        clients: Vec::new(),
        vacant: Vec::new(),
        ready: VecDeque::new(),
        active: 0,
        leaving: 0,
        begun: 0,
        began,
        paused: None,
        sums: Sums::default(),
        part: Sums::default(),
        part_began: began,
        tell,
    };
    load.run()
}

struct Load<'a, T> {
    order: &'a Order,
    epoll: Epoll,
    clients: Vec<Option<Client>>,
    /// Places in `clients` that are free.
    vacant: Vec<usize>,
    /// Sessions without a message in hand. The one that has been idle longest is first, so that none grows too old.
    ready: VecDeque<usize>,
    /// Sessions that are not leaving.
    active: usize,
    leaving: usize,
    /// Messages begun.
    begun: u64,
    began: Instant,
    paused: Option<Instant>,
    sums: Sums,
    part: Sums,
    part_began: Instant,
    tell: T,
}

impl<T: FnMut(Duration, &Sums)> Load<'_, T> {
    fn run(mut self) -> Result<Sums, String> {
        let mut events = vec![EpollEvent::empty(); 256];
        let mut buffer = vec![0; 16 * 1024];
        let mut looked = Instant::now();
        loop {
            self.begin_what_is_due();
            let now = Instant::now();
            if self.begun_all(now) && self.active == self.ready.len() {
                break;
            }
            if now - looked > Duration::from_secs(1) {
                looked = now;
                self.drop_the_silent(now);
            }
            self.tell_part(now);
            let count = self.wait(&mut events, self.pause_before_next(now));
            for event in &events[..count] {
                self.attend(event.data() as usize, event.events(), &mut buffer);
            }
            if self.sums.errors >= self.order.most_errors {
                break;
            }
        }
        self.part_from_all(&mut events, &mut buffer);
        Ok(self.sums)
    }

    fn begun_all(&self, now: Instant) -> bool {
        self.begun >= self.order.count || self.order.time.is_some_and(|time| now - self.began >= time)
    }

    /// When the next message is due, at a fixed rate.
    fn due(&self, rate: f64) -> Instant {
        self.began + Duration::from_secs_f64(self.begun as f64 / rate)
    }

    fn pause_before_next(&self, now: Instant) -> Duration {
        let mut pause = Duration::from_millis(500);
        if let Some(rate) = self.order.rate {
            pause = pause.min(self.due(rate).saturating_duration_since(now));
        }
        if let Some(until) = self.paused {
            pause = pause.min(until.saturating_duration_since(now));
        }
        pause
    }

    fn begin_what_is_due(&mut self) {
        loop {
            let now = Instant::now();
            if self.begun_all(now) {
                return;
            }
            let began = match self.order.rate {
                Some(rate) if self.due(rate) > now => return,
                Some(rate) => self.due(rate),
                None => now,
            };
            if let Some(place) = self.ready.pop_front() {
                self.send_over(place, began);
            } else if self.active < self.order.sessions
                && self.leaving <= self.order.sessions + MOST_LEAVING
                && !self.is_paused(now)
            {
                self.connect(began);
            } else {
                return;
            }
        }
    }

    fn is_paused(&mut self, now: Instant) -> bool {
        self.paused = self.paused.filter(|until| *until > now);
        self.paused.is_some()
    }

    fn connect(&mut self, began: Instant) {
        self.sums.connections += 1;
        let client = match Client::connect(self.order.target, &self.order.model) {
            Ok(client) => client,
            Err(error) => {
                self.begun += 1;
                return self.fail(format!("connect: {error}"));
            }
        };
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let all = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        if let Err(error) = self
            .epoll
            .add(client.stream(), EpollEvent::new(all, place as u64))
        {
            self.vacant.push(place);
            self.begun += 1;
            return self.fail(format!("epoll: {error}"));
        }
        self.clients[place] = Some(client);
        self.active += 1;
        self.send_over(place, began);
    }

    fn send_over(&mut self, place: usize, began: Instant) {
        let number = self.begun;
        self.begun += 1;
        let Some(client) = &mut self.clients[place] else {
            return;
        };
        if let Err(error) = client.send(number, began) {
            self.lose(place, error);
        }
    }

    fn wait(&self, events: &mut [EpollEvent], pause: Duration) -> usize {
        if self.order.rate.is_none() {
            let millis = u16::try_from(pause.as_millis()).unwrap_or(u16::MAX);
            return self.epoll.wait(events, EpollTimeout::from(millis)).unwrap_or(0);
        }
        // epoll knows whole milliseconds only, too coarse for a fixed rate.
        let mut polled = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        if ppoll(&mut polled, Some(TimeSpec::from_duration(pause)), None).unwrap_or(0) == 0 {
            return 0;
        }
        self.epoll.wait(events, EpollTimeout::ZERO).unwrap_or(0)
    }

    fn attend(&mut self, place: usize, flags: EpollFlags, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let mut result = Ok(News::None);
        if flags.contains(EpollFlags::EPOLLOUT) {
            result = client.flush().map(|()| News::None);
        }
        let readable =
            EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if result.is_ok() && flags.intersects(readable) {
            result = client.read(buffer);
        }
        match result {
            Ok(News::None | News::Ready) => {}
            Ok(News::Taken(time)) => self.note(place, time),
            Ok(News::Over) => {
                self.leaving -= 1;
                self.clear(place);
            }
            Err(error) => self.lose(place, error),
        }
    }

    fn note(&mut self, place: usize, time: Duration) {
        self.sums.latencies.add(time);
        self.sums.took = self.began.elapsed();
        if self.order.every.is_some() {
            self.part.latencies.add(time);
        }
        let Some(client) = &mut self.clients[place] else {
            return;
        };
        if client.taken < self.order.per_connection {
            self.ready.push_back(place);
            return;
        }
        // It waits for the 221 aside, as a client does that has more to do.
        self.active -= 1;
        self.leaving += 1;
        if client.quit().is_err() {
            self.leaving -= 1;
            self.clear(place);
        }
    }

    /// The session is over before its time.
    fn lose(&mut self, place: usize, error: String) {
        let Some(client) = &self.clients[place] else {
            return;
        };
        let (leaving, busy) = (client.is_leaving(), client.is_busy());
        self.clear(place);
        if leaving {
            // The message was taken; that the farewell failed costs nothing.
            self.leaving -= 1;
            return;
        }
        self.active -= 1;
        self.ready.retain(|other| *other != place);
        if busy {
            self.fail(error);
        }
    }

    fn clear(&mut self, place: usize) {
        if let Some(client) = self.clients[place].take() {
            let _ = self.epoll.delete(client.stream());
        }
        self.vacant.push(place);
    }

    fn fail(&mut self, error: String) {
        self.sums.errors += 1;
        self.part.errors += 1;
        self.part.first_error.get_or_insert_with(|| error.clone());
        self.sums.first_error.get_or_insert(error);
        self.paused = Some(Instant::now() + PAUSE);
    }

    fn drop_the_silent(&mut self, now: Instant) {
        for place in 0..self.clients.len() {
            let silent = self.clients[place].as_ref().is_some_and(|client| {
                client.is_waiting() && now.saturating_duration_since(client.heard) > PATIENCE
            });
            if silent {
                self.lose(place, format!("nothing heard for {} s", PATIENCE.as_secs()));
            }
        }
    }

    fn tell_part(&mut self, now: Instant) {
        let Some(every) = self.order.every else { return };
        if now - self.part_began >= every {
            self.part.took = now - self.part_began;
            (self.tell)(now - self.began, &self.part);
            self.part = Sums::default();
            self.part_began = now;
        }
    }

    /// QUIT for all that are left, outside what is measured.
    fn part_from_all(&mut self, events: &mut [EpollEvent], buffer: &mut [u8]) {
        for place in std::mem::take(&mut self.ready) {
            if self.clients[place]
                .as_mut()
                .is_some_and(|client| client.quit().is_ok())
            {
                self.active -= 1;
                self.leaving += 1;
            }
        }
        let until = Instant::now() + FAREWELL;
        while self.leaving > 0 && Instant::now() < until {
            let count = self.wait(events, Duration::from_millis(50));
            for event in &events[..count] {
                self.attend(event.data() as usize, event.events(), buffer);
            }
        }
    }
}
