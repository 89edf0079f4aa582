//! What threads share and wait on, for those rooms whose threads depend on each other: locks, conditions, channels, files
//! that somebody may write to, and the start of a thread.
//!
//! In the program these are those of `parking_lot`, `crossbeam-channel`, the standard library and the system, and nothing
//! else. The tests named `schedules`, built with the feature of that name, run the same rooms with those of
//! `sync/scheduled.rs`: there [shuttle](https://docs.rs/shuttle) decides which thread goes on at each step, and tries
//! thousands of orders.

#[cfg(all(test, feature = "schedules"))]
mod scheduled;

#[cfg(all(test, feature = "schedules"))]
pub use scheduled::*;

#[cfg(not(all(test, feature = "schedules")))]
pub use real::*;

#[cfg(not(all(test, feature = "schedules")))]
mod real {
    use std::time::{Duration, Instant};

    pub use crossbeam_channel::{Receiver, RecvError, Sender, bounded};
    pub use nix::poll::poll;
    pub use parking_lot::{Condvar, Mutex};
    pub use std::sync::atomic::AtomicUsize;
    pub use std::thread;

    /// The present moment, from which waits are counted.
    #[must_use]
    pub fn now() -> Instant {
        Instant::now()
    }

    /// Waits for what comes by the first channel, or for the end of the second one, and at most for `pause`. What came by
    /// the first, or that it has ended; `None` for anything else.
    pub fn first_of<T>(
        wanted: &Receiver<T>,
        end: &Receiver<()>,
        pause: Duration,
    ) -> Option<Result<T, RecvError>> {
        crossbeam_channel::select! {
            recv(wanted) -> came => Some(came),
            recv(end) -> _ => None,
            default(pause) => None,
        }
    }
}
