//! The same as in the program, for tests in which shuttle decides which thread goes on.
//!
//! Shuttle knows no time. Here a wait with a limit ends when the dice say so, and the clock jumps to that moment; or it
//! has no limit at all: see [`Time`].
//! Never used outside a test.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout};
use shuttle::rand::{Rng, thread_rng};

pub use channel::{Receiver, RecvError, Sender, bounded, first_of};
pub use shuttle::sync::atomic::AtomicUsize;

mod channel;

/// What becomes of waits with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// They have none: whoever is not woken waits for ever, which shuttle finds.
    StandsStill,
    /// The limit may be over at any moment, and will be.
    Passes,
    /// The same for short waits, those for a few seconds. Longer ones have no limit.
    PassesBriefly,
}

/// What a short wait is.
const BRIEFLY: Duration = Duration::from_secs(10);

thread_local! {
    static TIME: Cell<Time> = const { Cell::new(Time::StandsStill) };
    static THREADS_ARE_SHORT: Cell<bool> = const { Cell::new(false) };
    static BEGINNING: Instant = Instant::now();
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Tries `test` in so many orders, half of them with few changes from one thread to another. `SMTPMTA_ORDERS=40` in the
/// environment makes it forty times as many.
pub fn in_many_orders(orders: usize, time: Time, test: impl Fn() + Send + Sync + Clone + 'static) {
    let times = std::env::var("SMTPMTA_ORDERS")
        .ok()
        .and_then(|times| times.parse().ok());
    let orders = orders * times.unwrap_or(1);
    TIME.set(time);
    THREADS_ARE_SHORT.set(false);
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1024 * 1024;
        config.max_steps = shuttle::MaxSteps::FailAfter(200_000);
        config
    };
    let random = shuttle::scheduler::RandomScheduler::new(orders.div_ceil(2));
    shuttle::Runner::new(random, config()).run(test.clone());
    let few_changes = shuttle::scheduler::PctScheduler::new(4, orders / 2);
    shuttle::Runner::new(few_changes, config()).run(test);
}

/// Whether from now on the system refuses a thread now and then.
pub fn let_threads_be_short(are_short: bool) {
    THREADS_ARE_SHORT.set(are_short);
}

/// The present moment, from which waits are counted.
#[must_use]
pub fn now() -> Instant {
    BEGINNING.with(|beginning| *beginning) + PASSED.get()
}

/// Whether a wait until `limit` has one.
fn is_limited(limit: Instant) -> bool {
    match TIME.get() {
        Time::StandsStill => false,
        Time::Passes => true,
        Time::PassesBriefly => limit <= now() + BRIEFLY,
    }
}

/// A wait came to its limit.
fn pass_until(limit: Instant) {
    PASSED.set(PASSED.get() + limit.saturating_duration_since(now()));
}

/// Waits until something has come for one of these, as poll(2) does; who is patient at all is so for ever. The system rings
/// no bell here: they are looked at each time that it is the turn of who waits.
///
/// # Errors
/// What the system says.
pub fn poll(files: &mut [PollFd<'_>], patience: PollTimeout) -> nix::Result<i32> {
    loop {
        let ready = nix::poll::poll(files, PollTimeout::ZERO)?;
        if ready > 0 || patience == PollTimeout::ZERO {
            return Ok(ready);
        }
        shuttle::thread::yield_now();
    }
}

/// Lets others go on, if it is their turn.
pub fn step() {
    shuttle::thread::sleep(Duration::ZERO);
}

/// A number below `sides`, of which all will be tried.
pub fn dice(sides: usize) -> usize {
    thread_rng().gen_range(0..sides)
}

/// A lock that nothing poisons.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock that holds `value`.
    #[track_caller]
    pub fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    /// Takes it, as soon as it is free.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self
            .0
            .lock()
            .unwrap_or_else(shuttle::sync::PoisonError::into_inner);
        MutexGuard {
            lock: self,
            guard: Some(guard),
        }
    }
}

/// See [`Mutex::lock`].
pub struct MutexGuard<'m, T> {
    lock: &'m Mutex<T>,
    guard: Option<shuttle::sync::MutexGuard<'m, T>>,
}

impl<T> MutexGuard<'_, T> {
    /// Does something without the lock.
    fn unlocked<U>(&mut self, what: impl FnOnce() -> U) -> U {
        drop(self.guard.take());
        let done = what();
        self.guard = self.lock.lock().guard.take();
        done
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is locked")
    }
}

/// A condition that threads wait for.
#[derive(Debug, Default)]
pub struct Condvar {
    // Shuttle changes threads at its own steps only: what this lock guards is never seen half done.
    waiting: std::sync::Mutex<Vec<Arc<Ticket>>>,
}

/// One who waits.
#[derive(Debug)]
struct Ticket {
    thread: shuttle::thread::Thread,
    called: AtomicBool,
}

/// Whether a wait with a limit came to it.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it did.
    #[must_use]
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition that nobody waits for.
    #[must_use]
    pub fn new() -> Condvar {
        Condvar::default()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Ticket>>> {
        self.waiting.lock().expect("nobody panics with it")
    }

    fn begin(&self) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket {
            thread: shuttle::thread::current(),
            called: AtomicBool::new(false),
        });
        self.waiting().push(Arc::clone(&ticket));
        ticket
    }

    /// Waits until it is called.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let ticket = self.begin();
        guard.unlocked(|| {
            while !ticket.called.load(Ordering::SeqCst) {
                shuttle::thread::park();
            }
        });
    }

    /// The same, with a limit.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Instant) -> WaitTimeoutResult {
        if !is_limited(limit) {
            self.wait(guard);
            return WaitTimeoutResult(false);
        }
        let ticket = self.begin();
        guard.unlocked(|| {
            while !ticket.called.load(Ordering::SeqCst) {
                if dice(6) == 0 {
                    self.waiting().retain(|waits| !Arc::ptr_eq(waits, &ticket));
                    pass_until(limit);
                    return WaitTimeoutResult(true);
                }
                shuttle::thread::yield_now();
            }
            WaitTimeoutResult(false)
        })
    }

    /// Calls one of those who wait, whichever.
    pub fn notify_one(&self) {
        step();
        let many = self.waiting().len();
        if many > 0 {
            let one = dice(many);
            let called = self.waiting().swap_remove(one);
            called.call();
        }
    }

    /// Calls all who wait.
    pub fn notify_all(&self) {
        step();
        let called = std::mem::take(&mut *self.waiting());
        called.iter().for_each(|ticket| ticket.call());
    }
}

impl Ticket {
    fn call(&self) {
        self.called.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Threads that shuttle runs.
pub mod thread {
    use std::io;

    use super::{THREADS_ARE_SHORT, dice};

    pub use shuttle::thread::{JoinHandle, park_timeout, spawn, yield_now};

    /// Starts a thread.
    #[derive(Debug, Default)]
    pub struct Builder(shuttle::thread::Builder);

    impl Builder {
        /// A thread like any other.
        #[must_use]
        pub fn new() -> Builder {
            Builder::default()
        }

        /// Its name.
        #[must_use]
        pub fn name(self, name: String) -> Builder {
            Builder(self.0.name(name))
        }

        /// All have the stack that the test gives them.
        #[must_use]
        pub fn stack_size(self, _octets: usize) -> Builder {
            self
        }

        /// Starts it.
        ///
        /// # Errors
        /// When threads are short: now and then.
        #[track_caller]
        pub fn spawn<T: Send + 'static>(
            self,
            run: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            if THREADS_ARE_SHORT.get() && dice(3) == 0 {
                return Err(io::Error::other("there are no threads left"));
            }
            self.0.spawn(run)
        }
    }
}
