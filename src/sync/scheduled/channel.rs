//! Channels like those of `crossbeam-channel`, as far as the program uses them, made of locks that shuttle knows.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use super::{Condvar, Mutex, dice, now};

/// A channel with so many places.
#[must_use]
pub fn bounded<T>(places: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        inside: Mutex::new(Inside {
            queue: VecDeque::new(),
            senders: 1,
            receivers: 1,
            watching: Vec::new(),
        }),
        places,
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

struct Channel<T> {
    inside: Mutex<Inside<T>>,
    places: usize,
}

struct Inside<T> {
    queue: VecDeque<T>,
    senders: usize,
    receivers: usize,
    watching: Vec<Arc<Watch>>,
}

/// Who waits for one of several channels.
#[derive(Default)]
struct Watch {
    called: Mutex<bool>,
    changed: Condvar,
}

impl Watch {
    fn call(&self) {
        *self.called.lock() = true;
        self.changed.notify_all();
    }
}

impl<T> Channel<T> {
    fn change<U>(&self, change: impl FnOnce(&mut Inside<T>) -> U) -> U {
        let mut inside = self.inside.lock();
        let changed = change(&mut inside);
        let watching = inside.watching.clone();
        drop(inside);
        watching.iter().for_each(|watch| watch.call());
        changed
    }
}

/// The side that sends.
pub struct Sender<T>(Arc<Channel<T>>);

/// The side that receives.
pub struct Receiver<T>(Arc<Channel<T>>);

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.inside.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.0.inside.lock().receivers += 1;
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.change(|inside| inside.senders -= 1);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.inside.lock().receivers -= 1;
    }
}

impl<T> Sender<T> {
    /// Puts `value` in, if there is a place for it and somebody to take it.
    ///
    /// # Errors
    /// Gives it back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.0.change(|inside| {
            if inside.receivers == 0 {
                return Err(TrySendError::Disconnected(value));
            }
            if inside.queue.len() >= self.0.places {
                return Err(TrySendError::Full(value));
            }
            inside.queue.push_back(value);
            Ok(())
        })
    }

    /// The same. Nobody here has to wait for a place: who would, has taken something for granted that is not so.
    ///
    /// # Errors
    /// Gives it back if there is nobody to take it.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(value)) => Err(SendError(value)),
            Err(TrySendError::Full(_)) => panic!("a channel is full that should be empty"),
        }
    }
}

impl<T> Receiver<T> {
    /// What is there.
    ///
    /// # Errors
    /// When nothing is.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut inside = self.0.inside.lock();
        match inside.queue.pop_front() {
            Some(value) => Ok(value),
            None if inside.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// What is there, waited for.
    ///
    /// # Errors
    /// When nothing can come any more.
    pub fn recv(&self) -> Result<T, RecvError> {
        loop {
            match self.try_recv() {
                Ok(value) => return Ok(value),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => drop(wait(&[self], None)),
            }
        }
    }

    /// The same, with a limit.
    ///
    /// # Errors
    /// When nothing can come any more, or came in time.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        loop {
            match self.try_recv() {
                Ok(value) => return Ok(value),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) if !wait(&[self], Some(limit)) => {
                    return Err(RecvTimeoutError::Timeout);
                }
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// Whether it is the same channel.
    #[must_use]
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A channel, whatever comes by it.
trait Source {
    fn is_ready(&self) -> bool;
    fn watch(&self, watch: &Arc<Watch>);
    fn leave(&self, watch: &Arc<Watch>);
}

impl<T> Source for Receiver<T> {
    fn is_ready(&self) -> bool {
        let inside = self.0.inside.lock();
        !inside.queue.is_empty() || inside.senders == 0
    }

    fn watch(&self, watch: &Arc<Watch>) {
        self.0.inside.lock().watching.push(Arc::clone(watch));
    }

    fn leave(&self, watch: &Arc<Watch>) {
        let mut inside = self.0.inside.lock();
        inside.watching.retain(|other| !Arc::ptr_eq(other, watch));
    }
}

/// Waits until one of these is ready; `false` if the limit was over first.
fn wait(sources: &[&dyn Source], limit: Option<Duration>) -> bool {
    let (watch, until) = (Arc::default(), limit.map(|limit| now() + limit));
    sources.iter().for_each(|source| source.watch(&watch));
    let is_ready = loop {
        if sources.iter().any(|source| source.is_ready()) {
            break true;
        }
        let mut called = watch.called.lock();
        let mut is_over = false;
        while !*called && !is_over {
            match until {
                None => watch.changed.wait(&mut called),
                Some(until) => is_over = watch.changed.wait_until(&mut called, until).timed_out(),
            }
        }
        if is_over {
            break false;
        }
        *called = false;
    };
    sources.iter().for_each(|source| source.leave(&watch));
    is_ready
}

/// Waits for what comes by the first channel, or for the end of the second one, and at most for `pause`. What came by
/// the first, or that it has ended; `None` for anything else.
pub fn first_of<T>(
    wanted: &Receiver<T>,
    end: &Receiver<()>,
    pause: Duration,
) -> Option<Result<T, RecvError>> {
    loop {
        // Where both are ready, either may be heard.
        let is_wanted_first = dice(2) == 0;
        for is_wanted in [is_wanted_first, !is_wanted_first] {
            match (is_wanted, is_wanted.then(|| wanted.try_recv())) {
                (true, Some(Ok(value))) => return Some(Ok(value)),
                (true, Some(Err(TryRecvError::Disconnected))) => return Some(Err(RecvError)),
                (false, _) if !matches!(end.try_recv(), Err(TryRecvError::Empty)) => return None,
                _ => {}
            }
        }
        if !wait(&[wanted, end], Some(pause)) {
            return None;
        }
    }
}
