//! Notices when the machine's clock is set while the MTA runs, by a second one that only ever goes on, and says how far
//! the clock is to be believed.
//!
//! Set back: what waits for a moment would wait for longer by as much, and whoever asks is told by how much that is.
//! Set forward: nothing may come to its end for it until somebody has had an hour to put it right. Never changes what
//! the clock shows, and never acts upon it.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Clock, Stamp};

/// A clock that is set by less than this is believed at once: that much it may go wrong by itself.
pub const TOLERANCE: Duration = Duration::from_secs(60);

/// A clock that was set forward is believed after so long.
pub const DOUBT: Duration = Duration::from_secs(3600);

/// The present moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// As the clock shows it: what is to be done next goes by it.
    pub shown: Stamp,
    /// As far as it has come for certain: what comes to its end goes by it. Earlier than what is shown for an hour after
    /// the clock was set forward; then, and else, the same.
    pub certain: Stamp,
}

/// Of a clock that nobody doubts.
impl From<Stamp> for Moment {
    fn from(shown: Stamp) -> Moment {
        Moment {
            shown,
            certain: shown,
        }
    }
}

/// A clock, and what was seen of it.
#[derive(Debug)]
pub struct Watch {
    clock: Clock,
    seen: Mutex<Seen>,
}

/// How far the clock is ahead of the steady one, in microseconds, at various times.
#[derive(Debug)]
struct Seen {
    /// The most since somebody asked whether it was set back: something may wait for a moment by that.
    most: i64,
    /// When it was last believed.
    believed: i64,
    /// What is not believed yet.
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    ahead: i64,
    /// By the steady clock.
    since: Duration,
}

impl Watch {
    /// Watches `clock` from now on; `last` is the latest that it is known to have shown before.
    #[must_use]
    pub fn new(clock: Clock, last: Option<Stamp>) -> Watch {
        let (shown, steady) = clock.read();
        let ahead = ahead(shown, steady);
        let behind = last.map_or(0, |last| last.0.saturating_sub(shown.0).max(0));
        let seen = Mutex::new(Seen {
            most: ahead.saturating_add(behind),
            believed: ahead,
            doubt: None,
        });
        Watch { clock, seen }
    }

    /// What the clock shows.
    #[must_use]
    pub fn now(&self) -> Stamp {
        let (shown, steady) = self.clock.read();
        let mut seen = self.seen.lock();
        seen.most = seen.most.max(ahead(shown, steady));
        shown
    }

    /// What it shows, and how far that is certain.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let (shown, steady) = self.clock.read();
        let ahead = ahead(shown, steady);
        let mut seen = self.seen.lock();
        seen.most = seen.most.max(ahead);
        let certain = if seen.believes(ahead, steady) {
            seen.believed = ahead;
            shown
        } else {
            Stamp(seen.believed).plus(steady)
        };
        Moment { shown, certain }
    }

    /// By how much the clock has been set back since this was last asked; `None` if by no more than it may go wrong by
    /// itself.
    #[must_use]
    pub fn set_back(&self) -> Option<Duration> {
        let (shown, steady) = self.clock.read();
        let ahead = ahead(shown, steady);
        let mut seen = self.seen.lock();
        let by = Stamp(seen.most).since(Stamp(ahead));
        seen.most = ahead;
        (by > TOLERANCE).then_some(by)
    }
}

impl Seen {
    /// Whether a clock that is so far ahead is to be believed.
    fn believes(&mut self, ahead: i64, steady: Duration) -> bool {
        let by = Stamp(ahead).since(Stamp(self.believed));
        if by <= TOLERANCE {
            if self.doubt.take().is_some() {
                log::warn!("the clock has been put right: nothing has come to its end meanwhile");
            }
            return true;
        }
        match &self.doubt {
            Some(doubt) if Stamp(ahead).since(Stamp(doubt.ahead)) <= TOLERANCE => {
                let is_over = steady.saturating_sub(doubt.since) >= DOUBT;
                if is_over {
                    self.doubt = None;
                }
                is_over
            }
            // Set forward, or further forward.
            _ => {
                let since = steady;
                self.doubt = Some(Doubt { ahead, since });
                log::warn!(
                    "the clock has been set forward by {} s: nothing comes to its end for that in the next {} s",
                    by.as_secs(),
                    DOUBT.as_secs()
                );
                false
            }
        }
    }
}

fn ahead(shown: Stamp, steady: Duration) -> i64 {
    shown.minus(steady).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn at() -> Stamp {
        Stamp(1_000_000_000_000_000)
    }

    fn watched() -> (Clock, Watch) {
        let clock = Clock::manual(at());
        (clock.clone(), Watch::new(clock, None))
    }

    #[test]
    fn time_that_passes_is_certain_and_nobody_has_set_the_clock() {
        let (clock, watch) = watched();
        for _ in 0..10 {
            clock.advance(DAY);
            assert_eq!(watch.moment(), Moment::from(clock.now()));
            assert_eq!(watch.set_back(), None);
        }
    }

    #[test]
    fn a_clock_that_is_set_forward_is_doubted_for_an_hour() {
        let (clock, watch) = watched();
        clock.set(at().plus(10 * DAY));
        assert_eq!(watch.moment().certain, at());
        clock.advance(59 * MINUTE);
        assert_eq!(watch.moment().certain, at().plus(59 * MINUTE));
        assert_eq!(watch.moment().shown, at().plus(10 * DAY + 59 * MINUTE));
        // And further: the hour begins anew.
        clock.set(at().plus(20 * DAY));
        assert_eq!(watch.moment().certain, at().plus(59 * MINUTE));
        clock.advance(59 * MINUTE);
        assert_eq!(watch.moment().certain, at().plus(118 * MINUTE));
        clock.advance(MINUTE);
        assert_eq!(watch.moment(), Moment::from(at().plus(20 * DAY + 60 * MINUTE)));
        clock.advance(DAY);
        assert_eq!(watch.moment(), Moment::from(at().plus(21 * DAY + 60 * MINUTE)));
    }

    #[test]
    fn a_clock_that_is_put_right_in_time_was_never_believed() {
        let (clock, watch) = watched();
        clock.set(at().plus(10 * DAY));
        assert_eq!(watch.moment().certain, at());
        clock.advance(MINUTE);
        clock.set(at().plus(MINUTE));
        assert_eq!(watch.moment(), Moment::from(at().plus(MINUTE)));
        // It may be wrong again, and gets its hour again.
        clock.advance(2 * DAY);
        clock.set(at().plus(10 * DAY));
        assert_eq!(watch.moment().certain, at().plus(2 * DAY + MINUTE));
    }

    #[test]
    fn a_clock_that_is_set_back_is_believed_and_told_of_once() {
        let (clock, watch) = watched();
        clock.advance(MINUTE);
        clock.set(at().plus(MINUTE).minus(DAY));
        assert_eq!(watch.moment(), Moment::from(at().plus(MINUTE).minus(DAY)));
        assert_eq!(watch.set_back(), Some(DAY));
        assert_eq!(watch.set_back(), None);
        clock.advance(2 * DAY);
        assert_eq!(watch.set_back(), None);
    }

    #[test]
    fn what_was_only_shown_for_a_moment_is_made_up_for_too_if_somebody_has_looked() {
        let (clock, watch) = watched();
        clock.set(at().plus(DAY));
        assert_eq!(watch.now(), at().plus(DAY));
        clock.set(at());
        assert_eq!(watch.set_back(), Some(DAY));
        clock.set(at().plus(DAY));
        clock.set(at());
        assert_eq!(watch.set_back(), None, "nobody has looked");
    }

    #[test]
    fn a_clock_that_goes_wrong_by_itself_is_followed() {
        let (clock, watch) = watched();
        for step in 0..1000 {
            clock.advance(MINUTE);
            let wrong = Duration::from_secs(30);
            let now = clock.now();
            clock.set(if step < 500 {
                now.plus(wrong)
            } else {
                now.minus(wrong)
            });
            assert_eq!(watch.moment(), Moment::from(clock.now()));
            assert_eq!(watch.set_back(), None);
        }
    }

    #[test]
    fn a_clock_that_shows_less_than_before_the_last_end_was_set_back() {
        let clock = Clock::manual(at());
        let watch = Watch::new(clock.clone(), Some(at().plus(DAY)));
        assert_eq!(watch.moment(), Moment::from(at()));
        assert_eq!(watch.set_back(), Some(DAY));
        assert_eq!(watch.set_back(), None);
        let watch = Watch::new(clock, Some(at().minus(DAY)));
        assert_eq!(watch.set_back(), None);
    }
}
