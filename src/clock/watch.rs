//! Notices when the machine's clock is set while the MTA runs, by a second one that only ever goes on, and says how far
//! the clock is to be believed.
//!
//! Set back: what waits for a moment would wait for longer by as much, and whoever asks is told by how much that is, until
//! it has been made up for. Set forward, or ahead at the start of what it is known to have shown: nothing may come to its
//! end for it until somebody has had an hour to put it right. Never changes what the clock shows, and never acts upon it.

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
    /// the clock was set forward, or after a start that finds it ahead; then, and else, the same.
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
    /// By how much it was set back, as far as that has not been made up for.
    owed: Duration,
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
    /// Watches `clock` from now on; `last` is the latest that it is known to have shown before, and how far that was
    /// certain. Who was away for long can not know whether it is right, and doubts it.
    #[must_use]
    pub fn new(clock: Clock, last: Option<Moment>) -> Watch {
        let (shown, steady) = clock.read();
        let last = last.unwrap_or(Moment::from(shown));
        let certain = last.certain.min(shown);
        let by = shown.since(certain);
        let shows = ahead(shown, steady);
        let doubt = (by > TOLERANCE).then_some(Doubt {
            ahead: shows,
            since: steady,
        });
        if doubt.is_some() {
            let level = if by > DOUBT {
                log::Level::Warn
            } else {
                log::Level::Info
            };
            log::log!(
                level,
                "the clock shows {} s more than when the work queue was last in use: nothing comes to its end for that \
                 in the next {} s, in case it is wrong",
                by.as_secs(),
                DOUBT.as_secs()
            );
        }
        let seen = Seen {
            most: ahead(last.shown.max(shown), steady),
            owed: Duration::ZERO,
            believed: ahead(certain, steady),
            doubt,
        };
        Watch {
            clock,
            seen: Mutex::new(seen),
        }
    }

    /// What the clock shows, of which nobody takes note: for who waits for nothing by it.
    #[must_use]
    pub fn shows(&self) -> Stamp {
        self.clock.now()
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

    /// By how much the clock has been set back, as far as that has not been made up for; `None` if by no more than it may
    /// go wrong by itself.
    #[must_use]
    pub fn set_back(&self) -> Option<Duration> {
        let (shown, steady) = self.clock.read();
        let ahead = ahead(shown, steady);
        let mut seen = self.seen.lock();
        let by = Stamp(seen.most).since(Stamp(ahead));
        seen.most = ahead;
        if by > TOLERANCE {
            log::warn!("the clock has been set back by {} s", by.as_secs());
            seen.owed = seen.owed.saturating_add(by);
        }
        (!seen.owed.is_zero()).then_some(seen.owed)
    }

    /// So much of what [`Watch::set_back`] said has been made up for.
    pub fn made_up_for(&self, by: Duration) {
        let mut seen = self.seen.lock();
        seen.owed = seen.owed.saturating_sub(by);
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
        match &mut self.doubt {
            Some(doubt) if Stamp(ahead).since(Stamp(doubt.ahead)) <= TOLERANCE => {
                // Put right in part: who was away does not know how long that was.
                doubt.ahead = doubt.ahead.min(ahead);
                let is_over = steady.saturating_sub(doubt.since) >= DOUBT;
                if is_over {
                    log::info!(
                        "the clock has been left as it is, {} s ahead, and is believed now",
                        by.as_secs()
                    );
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
        watch.made_up_for(DAY);
        assert_eq!(watch.set_back(), None);
        clock.advance(2 * DAY);
        assert_eq!(watch.set_back(), None);
    }

    #[test]
    fn that_the_clock_was_set_back_is_not_forgotten_before_it_was_made_up_for() {
        let (clock, watch) = watched();
        clock.set(at().minus(DAY));
        assert_eq!(watch.set_back(), Some(DAY));
        clock.advance(MINUTE);
        assert_eq!(watch.set_back(), Some(DAY), "nobody could do it");
        // And further, while somebody is at it.
        clock.set(at().minus(3 * DAY));
        watch.made_up_for(DAY);
        assert_eq!(watch.set_back(), Some(2 * DAY + MINUTE));
        watch.made_up_for(2 * DAY + MINUTE);
        assert_eq!(watch.set_back(), None);
    }

    #[test]
    fn what_was_only_shown_for_a_moment_is_made_up_for_too_if_somebody_has_looked() {
        let (clock, watch) = watched();
        clock.set(at().plus(DAY));
        assert_eq!(watch.now(), at().plus(DAY));
        clock.set(at());
        assert_eq!(watch.set_back(), Some(DAY));
        watch.made_up_for(DAY);
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
        let watch = Watch::new(clock.clone(), Some(Moment::from(at().plus(DAY))));
        assert_eq!(watch.moment(), Moment::from(at()));
        assert_eq!(watch.set_back(), Some(DAY));
        watch.made_up_for(DAY);
        assert_eq!(watch.set_back(), None);
        let watch = Watch::new(clock, Some(Moment::from(at().minus(DAY))));
        assert_eq!(watch.set_back(), None);
    }

    #[test]
    fn a_clock_that_is_ahead_at_the_start_of_what_it_is_known_to_have_shown_is_doubted_for_an_hour() {
        let clock = Clock::manual(at().plus(3 * DAY));
        let watch = Watch::new(clock.clone(), Some(Moment::from(at())));
        let doubted = Moment {
            shown: at().plus(3 * DAY),
            certain: at(),
        };
        assert_eq!(watch.moment(), doubted);
        clock.advance(59 * MINUTE);
        assert_eq!(watch.moment().certain, at().plus(59 * MINUTE));
        assert_eq!(watch.set_back(), None);
        // Whoever starts once more in this hour knows no more than that, and has an hour again.
        let watch = Watch::new(clock.clone(), Some(watch.moment()));
        assert_eq!(watch.moment().certain, at().plus(59 * MINUTE));
        clock.advance(59 * MINUTE);
        assert_eq!(watch.moment().certain, at().plus(118 * MINUTE));
        // It was really so long.
        clock.advance(MINUTE);
        assert_eq!(watch.moment(), Moment::from(at().plus(3 * DAY + 119 * MINUTE)));
    }

    #[test]
    fn a_clock_that_was_ahead_at_the_start_and_is_put_right_is_doubted_again_when_it_is_set_forward() {
        let clock = Clock::manual(at().plus(3 * DAY));
        let watch = Watch::new(clock.clone(), Some(Moment::from(at())));
        // Ten minutes of it were true.
        clock.set(at().plus(10 * MINUTE));
        assert_eq!(watch.moment().certain, at());
        assert_eq!(watch.set_back(), Some(3 * DAY - 10 * MINUTE));
        clock.advance(30 * MINUTE);
        clock.set(at().plus(3 * DAY));
        assert_eq!(watch.moment().certain, at().plus(30 * MINUTE));
        clock.advance(59 * MINUTE);
        assert_eq!(watch.moment().certain, at().plus(89 * MINUTE));
        clock.advance(MINUTE);
        assert_eq!(watch.moment(), Moment::from(at().plus(3 * DAY + 60 * MINUTE)));
    }

    #[test]
    fn who_was_away_for_a_moment_doubts_nothing() {
        let clock = Clock::manual(at().plus(MINUTE));
        let watch = Watch::new(clock.clone(), Some(Moment::from(at())));
        assert_eq!(watch.moment(), Moment::from(clock.now()));
        assert_eq!(
            Watch::new(clock.clone(), None).moment(),
            Moment::from(clock.now())
        );
    }
}
