//! The last hour, minute by minute: how many messages came, and how many went. Pure: whoever has the totals and the time
//! says so now and then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Minutes that are remembered, the one that runs among them.
pub const MINUTES: usize = 60;

const MINUTE: Duration = Duration::from_secs(60);

/// Messages that came, and that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Accepted from clients.
    pub accepted: u64,
    /// Taken by a next hop, or put into a mailbox.
    pub delivered: u64,
}

impl Traffic {
    fn since(self, before: Traffic) -> Traffic {
        Traffic {
            accepted: self.accepted.saturating_sub(before.accepted),
            delivered: self.delivered.saturating_sub(before.delivered),
        }
    }
}

/// The minutes that are over, and where the one that runs began.
#[derive(Clone, Debug)]
pub struct Hour {
    over: VecDeque<Traffic>,
    begun: Instant,
    /// The totals then.
    before: Traffic,
}

impl Hour {
    /// From now on; what was before is none of its business.
    #[must_use]
    pub fn begin(now: Instant, totals: Traffic) -> Hour {
        Hour {
            over: VecDeque::new(),
            begun: now,
            before: totals,
        }
    }

    /// The totals are these now. To be said once a minute at least, and before anything is asked: what came since it was
    /// said last counts for the minute that was the running one then.
    pub fn tick(&mut self, now: Instant, totals: Traffic) {
        let minutes = now.saturating_duration_since(self.begun).as_secs() / MINUTE.as_secs();
        let minutes = u32::try_from(minutes).unwrap_or(u32::MAX);
        if minutes == 0 {
            return;
        }
        self.over.push_back(totals.since(self.before));
        let silent = (minutes - 1).min(MINUTES as u32);
        self.over.extend((0..silent).map(|_| Traffic::default()));
        let surplus = self.over.len().saturating_sub(MINUTES - 1);
        self.over.drain(..surplus);
        self.begun += MINUTE * minutes;
        self.before = totals;
    }

    /// Until it is to be told the totals again.
    #[must_use]
    pub fn until_next(&self, now: Instant) -> Duration {
        (self.begun + MINUTE).saturating_duration_since(now)
    }

    /// The last minutes, at most [`MINUTES`], the running one last.
    #[must_use]
    pub fn minutes(&self, totals: Traffic) -> Vec<Traffic> {
        let over = self.over.iter().copied();
        over.chain([totals.since(self.before)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(accepted: u64, delivered: u64) -> Traffic {
        Traffic { accepted, delivered }
    }

    #[test]
    fn what_came_counts_for_its_minute_and_a_minute_without_anything_is_there_too() {
        let begun = Instant::now();
        let mut hour = Hour::begin(begun, traffic(100, 50));
        assert_eq!(hour.minutes(traffic(103, 51)), [traffic(3, 1)]);
        assert_eq!(hour.until_next(begun), MINUTE);
        hour.tick(begun + MINUTE / 2, traffic(104, 51));
        hour.tick(begun + MINUTE, traffic(105, 52));
        assert_eq!(hour.minutes(traffic(105, 54)), [traffic(5, 2), traffic(0, 2)]);
        hour.tick(begun + MINUTE * 4, traffic(107, 60));
        let quiet = traffic(0, 0);
        assert_eq!(
            hour.minutes(traffic(107, 60)),
            [traffic(5, 2), traffic(2, 8), quiet, quiet, quiet]
        );
        assert_eq!(hour.until_next(begun + MINUTE * 4), MINUTE);
    }

    #[test]
    fn an_hour_is_remembered_and_no_more() {
        let begun = Instant::now();
        let mut hour = Hour::begin(begun, traffic(0, 0));
        for minute in 1..=70 {
            hour.tick(begun + MINUTE * minute, traffic(u64::from(minute), 0));
        }
        assert_eq!(hour.minutes(traffic(72, 0)).len(), MINUTES);
        assert_eq!(hour.minutes(traffic(72, 0)).last(), Some(&traffic(2, 0)));
        hour.tick(begun + MINUTE * 1000, traffic(72, 0));
        let minutes = hour.minutes(traffic(72, 0));
        assert!(minutes.len() == MINUTES && minutes.iter().all(|minute| minute.accepted == 0));
    }
}
