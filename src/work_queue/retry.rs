//! When a recipient, or a next hop that does not answer, is tried again, and when that is enough. Pure: the one
//! place where the next attempt is worked out.
//!
//! Never draws lots: the same message and attempt, or the same next hop and failure, give the same moment.

use std::time::Duration;

use crate::clock::{Moment, Stamp};
use crate::domain_list::list::HopId;

/// `--retry-schedule` and `--expire`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pause after the first, second, third … attempt; the last repeats. Never empty.
    pub schedule: Vec<Duration>,
    /// How long after its arrival a message may be tried.
    pub expire: Duration,
}

/// A pause is made longer by up to a tenth, so that what failed together is not tried together for ever: in
/// ten-thousandths.
const MOST_JITTER: u64 = 1000;

impl RetryPolicy {
    /// When to try again, after `attempts` attempts (at least 1) of a message that arrived at `arrived`, which is what
    /// tells it from others; `None` when its time is over for certain. The last attempt is made at the moment of expiry
    /// itself.
    #[must_use]
    pub fn next_attempt(&self, arrived: Stamp, attempts: u32, now: impl Into<Moment>) -> Option<Stamp> {
        let (expiry, now): (Stamp, Moment) = (arrived.plus(self.expire), now.into());
        if now.certain >= expiry {
            return None;
        }
        let next = now.shown.plus(self.pause(attempts, arrived.0.unsigned_abs()));
        // A clock that may be wrong says that it is over: until that is certain nothing is tried more often for it.
        Some(if now.shown < expiry {
            next.min(expiry)
        } else {
            next
        })
    }

    /// When to try a next hop again that has failed `failures` times in a row (at least 1). It never expires: its
    /// messages do, each at its time.
    #[must_use]
    pub fn next_probe(&self, hop: HopId, failures: u32, now: Stamp) -> Stamp {
        now.plus(self.pause(failures, hop.0.unsigned_abs()))
    }

    /// The pause after this many attempts, and a little more that `seed` and the number decide.
    fn pause(&self, attempts: u32, seed: u64) -> Duration {
        let step = usize::try_from(attempts).unwrap_or(usize::MAX).saturating_sub(1);
        let pause = self.schedule.get(step).or(self.schedule.last());
        let micros = pause.map_or(0, |pause| u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
        let part = scatter(seed, u64::from(attempts)) % (MOST_JITTER + 1);
        Duration::from_micros(micros.saturating_add(micros / 10_000 * part))
    }
}

/// Numbers side by side give numbers far apart (the last step of splitmix64).
fn scatter(seed: u64, attempts: u64) -> u64 {
    let mut z = seed.wrapping_add(attempts.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        let minutes = |m: u64| Duration::from_secs(60 * m);
        RetryPolicy {
            schedule: vec![minutes(5), minutes(15)],
            expire: minutes(60),
        }
    }

    fn at(minutes: u64) -> Stamp {
        Stamp(1_000_000).plus(Duration::from_secs(60 * minutes))
    }

    /// Whether the attempt comes at `from` or up to a tenth of the `pause` later.
    #[track_caller]
    fn comes(next: Option<Stamp>, after: Stamp, pause: u64) {
        let waits = next.unwrap().since(after);
        let (least, most) = (Duration::from_secs(60 * pause), Duration::from_secs(66 * pause));
        assert!(
            (least..=most).contains(&waits),
            "{waits:?} is not {least:?} to {most:?}"
        );
    }

    #[test]
    fn the_schedule_is_followed_and_its_last_step_repeats() {
        comes(policy().next_attempt(at(0), 1, at(0)), at(0), 5);
        comes(policy().next_attempt(at(0), 2, at(5)), at(5), 15);
        comes(policy().next_attempt(at(0), 3, at(20)), at(20), 15);
        comes(Some(policy().next_probe(HopId(3), 1, at(0))), at(0), 5);
        comes(Some(policy().next_probe(HopId(3), 90, at(0))), at(0), 15);
    }

    #[test]
    fn the_last_attempt_is_at_the_expiry_and_none_comes_after_it() {
        assert_eq!(policy().next_attempt(at(0), 9, at(50)), Some(at(60)));
        assert_eq!(policy().next_attempt(at(0), 10, at(60)), None);
    }

    #[test]
    fn while_it_is_not_certain_that_its_time_is_over_a_message_is_tried_as_often_as_before() {
        let doubtful = Moment {
            shown: at(600),
            certain: at(30),
        };
        comes(policy().next_attempt(at(0), 1, doubtful), at(600), 5);
        comes(policy().next_attempt(at(0), 9, doubtful), at(600), 15);
        assert_eq!(policy().next_attempt(at(0), 9, at(600)), None);
    }

    #[test]
    fn messages_that_failed_together_are_tried_apart_and_each_always_at_the_same_moment() {
        let next = |micros: i64| policy().next_attempt(Stamp(at(0).0 + micros), 1, at(1));
        let mut moments: Vec<_> = (0..100).map(next).collect();
        assert_eq!(moments, (0..100).map(next).collect::<Vec<_>>());
        moments.iter().for_each(|moment| comes(*moment, at(1), 5));
        moments.sort_unstable();
        moments.dedup();
        assert!(moments.len() > 80, "{} moments", moments.len());
        let spread = moments[moments.len() - 1].unwrap().since(moments[0].unwrap());
        assert!(spread > Duration::from_secs(15), "{spread:?}");
    }
}
