//! Waiting for what can only be asked for.

use std::time::{Duration, Instant};

/// Waits a moment.
#[expect(clippy::disallowed_methods, reason = "a benchmark is stopped by ending it")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Asks until it is true; whether it was, within `time`.
pub fn until(time: Duration, mut asked: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if asked() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        pause(Duration::from_millis(10));
    }
}
