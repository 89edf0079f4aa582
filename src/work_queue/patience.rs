//! How long the writer waits for another program that has the database locked.
//!
//! Long, as a rule: to wait is better than to refuse mail. When a stop has been ordered it is as long as that leaves time
//! for, and only for a moment after that. Never knows who it is that has it locked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long it waits as a rule.
pub(super) const BUSY: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 10_000 });

/// How long it waits each time when there is no time left.
const MOMENT: Duration = Duration::from_millis(100);

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The patience of one writer. Clones are the same patience.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    /// When it ends, if there is an end to it.
    ends: Arc<Mutex<Option<Instant>>>,
}

impl Patience {
    /// There is so much time left, or less, where less was said before.
    pub(super) fn end_within(&self, left: Duration) {
        let at = Instant::now() + left;
        let mut ends = self.ends.lock();
        *ends = Some(ends.map_or(at, |before| before.min(at)));
    }

    /// What SQLite asks each time that it finds the database locked, with how often it has asked for the same reason:
    /// pauses, and says whether to look again.
    pub(super) fn waiter(self) -> impl FnMut(i32) -> bool + Send + 'static {
        let mut began = Instant::now();
        move |asked| {
            let now = Instant::now();
            if asked == 0 {
                began = now;
            }
            let goes_on = now < until(began, *self.ends.lock());
            if goes_on {
                let pause = Duration::from_millis(u64::from(asked.unsigned_abs()) + 1);
                std::thread::park_timeout(pause.min(LONGEST_PAUSE));
            }
            goes_on
        }
    }
}

/// Until when somebody waits who began to at this moment.
fn until(began: Instant, ends: Option<Instant>) -> Instant {
    let usual = began + BUSY;
    ends.map_or(usual, |ends| usual.min(ends.max(began + MOMENT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_as_much_time_as_usual_until_an_end_is_set_and_a_moment_each_time_after_it() {
        let began = Instant::now();
        assert_eq!(until(began, None), began + BUSY);
        assert_eq!(until(began, Some(began + BUSY * 2)), began + BUSY);
        assert_eq!(until(began, Some(began + BUSY / 2)), began + BUSY / 2);
        assert_eq!(until(began, Some(began)), began + MOMENT);
        assert_eq!(until(began + BUSY, Some(began)), began + BUSY + MOMENT);
    }

    #[test]
    fn an_end_that_was_set_is_not_put_off() {
        let patience = Patience::default();
        patience.end_within(BUSY);
        let ends = *patience.ends.lock();
        patience.end_within(BUSY * 2);
        assert_eq!(*patience.ends.lock(), ends);
        patience.end_within(Duration::ZERO);
        assert!(*patience.ends.lock() < ends);
    }

    #[test]
    fn whoever_waits_already_hears_that_there_is_no_time_left() {
        let patience = Patience::default();
        let mut waiter = patience.clone().waiter();
        let began = Instant::now();
        assert!(waiter(0));
        while began.elapsed() <= MOMENT * 2 {
            assert!(waiter(1) || began.elapsed() >= BUSY);
        }
        patience.end_within(Duration::ZERO);
        assert!(!waiter(2));
    }
}
