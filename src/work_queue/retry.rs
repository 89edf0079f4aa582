//! When a recipient is tried again, and when that is enough. Pure: the one place where the next attempt is
//! worked out.

use std::time::Duration;

use crate::clock::Stamp;

/// `--retry-schedule` and `--expire`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pause after the first, second, third … attempt; the last repeats. Never empty.
    pub schedule: Vec<Duration>,
    /// How long after its arrival a message may be tried.
    pub expire: Duration,
}

impl RetryPolicy {
    /// When to try again, after `attempts` attempts (at least 1) of a message that arrived at `arrived`;
    /// `None` when its time is over. The last attempt is made at the moment of expiry itself.
    #[must_use]
    pub fn next_attempt(&self, arrived: Stamp, attempts: u32, now: Stamp) -> Option<Stamp> {
        let expiry = arrived.plus(self.expire);
        if now >= expiry {
            return None;
        }
        let step = usize::try_from(attempts).unwrap_or(usize::MAX).saturating_sub(1);
        let pause = self
            .schedule
            .get(step)
            .or(self.schedule.last())
            .copied()
            .unwrap_or_default();
        Some(now.plus(pause).min(expiry))
    }
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

    #[test]
    fn the_schedule_is_followed_and_its_last_step_repeats() {
        assert_eq!(policy().next_attempt(at(0), 1, at(0)), Some(at(5)));
        assert_eq!(policy().next_attempt(at(0), 2, at(5)), Some(at(20)));
        assert_eq!(policy().next_attempt(at(0), 3, at(20)), Some(at(35)));
    }

    #[test]
    fn the_last_attempt_is_at_the_expiry_and_none_comes_after_it() {
        assert_eq!(policy().next_attempt(at(0), 9, at(50)), Some(at(60)));
        assert_eq!(policy().next_attempt(at(0), 10, at(60)), None);
    }
}
