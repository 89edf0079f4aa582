//! Waiting to order: pauses and stalls that end early when the sink stops, is told to go on, or the client has gone.
//!
//! Never reads what the client says meanwhile.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};

/// How often a stalled session looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(500);

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Its time has passed, or it was released.
    GoOn,
    /// The sink stops, or the client is gone.
    GiveUp,
}

#[derive(Debug, Default)]
struct Gate {
    stopping: bool,
    /// Grows with each release, so that those who stall know.
    releases: u64,
}

/// Where sessions wait.
#[derive(Debug, Default)]
pub struct Stalls {
    gate: Mutex<Gate>,
    opened: Condvar,
}

impl Stalls {
    /// Whether the sink stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.gate.lock().stopping
    }

    /// Lets everybody go on who stalls.
    pub fn release(&self) {
        self.gate.lock().releases += 1;
        self.opened.notify_all();
    }

    /// Ends every wait, now and in the future.
    pub fn stop(&self) {
        self.gate.lock().stopping = true;
        self.opened.notify_all();
    }

    /// Waits that long.
    pub fn pause(&self, pause: Duration) -> Woken {
        let until = Instant::now() + pause;
        let mut gate = self.gate.lock();
        while !gate.stopping {
            if self.opened.wait_until(&mut gate, until).timed_out() {
                return Woken::GoOn;
            }
        }
        Woken::GiveUp
    }

    /// How many releases there were. To be asked before it is decided to stall: a release after that counts.
    #[must_use]
    pub fn releases(&self) -> u64 {
        self.gate.lock().releases
    }

    /// Waits for more than these `releases`, for as long as the client, if there is one, is there; `most` long at most,
    /// where that is said.
    pub fn stall(&self, releases: u64, client: Option<&TcpStream>, most: Option<Duration>) -> Woken {
        let until = most.map(|most| Instant::now() + most);
        let mut gate = self.gate.lock();
        loop {
            if gate.stopping {
                return Woken::GiveUp;
            }
            if gate.releases != releases {
                return Woken::GoOn;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Woken::GiveUp;
            }
            let in_vain = self.opened.wait_for(&mut gate, LOOK).timed_out();
            if in_vain && client.is_some_and(has_gone) {
                return Woken::GiveUp;
            }
        }
    }
}

/// Whether the other end has closed, or the connection broke.
fn has_gone(client: &TcpStream) -> bool {
    // POLLRDHUP, which nix has no name for; what it can not name it gives back as `None`.
    #[cfg(target_os = "linux")]
    let gone = PollFlags::from_bits_retain(0x2000);
    // Elsewhere a client that has only closed its side cannot be told from one that waits.
    #[cfg(not(target_os = "linux"))]
    let gone = PollFlags::empty();
    let mut fds = [PollFd::new(client.as_fd(), gone)];
    let found = poll(&mut fds, PollTimeout::ZERO);
    found.is_err() || fds[0].any().unwrap_or(true)
}
