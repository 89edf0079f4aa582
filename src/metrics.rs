//! What is measured while mail flows: how long things take, and how many of them share a commit.
//!
//! To measure is to add, twice, and nothing else: never a lock, an allocation or a look at the clock, and nobody's counters
//! share a cache line with another's. Whoever measures says how long it was; whoever looks reads as it goes on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// From the last octet of a message to its 250, in microseconds.
const ACCEPTANCE: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// From the arrival of a message until somebody else has it, in microseconds: from a millisecond to five days.
const DELIVERY: [u64; 18] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    86_400_000_000,
    432_000_000_000,
];

/// Pieces of work that share a commit.
const GROUP: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// How often values of which size came, counted in `N` sizes and beyond.
#[derive(Debug)]
#[repr(align(128))]
pub struct Histogram<const N: usize> {
    /// No value of a size is above its bound.
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// What a histogram had counted at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bounds, rising, each with how many values were not above it.
    pub up_to: Vec<(u64, u64)>,
    /// How many values there were.
    pub count: u64,
    /// All of them added up.
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [u64; N]) -> Histogram<N> {
        Histogram {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// A value has come.
    pub fn add(&self, value: u64) {
        let mut sizes = self.bounds.iter().zip(&self.counts);
        let size = sizes.find(|(bound, _)| value <= **bound);
        let count = size.map_or(&self.beyond, |(_, count)| count);
        count.fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// A time has come, which is counted in microseconds.
    pub fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many values there were so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter().chain([&self.beyond]);
        counts.map(|count| count.load(Relaxed)).sum()
    }

    /// What came so far. Values that come meanwhile may be counted, and not be in the sum yet.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let mut count = 0;
        let sum = self.sum.load(Relaxed);
        let up_to = self.bounds.iter().zip(&self.counts).map(|(bound, of_size)| {
            count += of_size.load(Relaxed);
            (*bound, count)
        });
        let up_to = up_to.collect();
        Counted {
            up_to,
            count: count + self.beyond.load(Relaxed),
            sum,
        }
    }
}

/// All that is measured of one work queue, and of the mail that goes through it.
#[derive(Debug)]
pub struct Metrics {
    /// From the last octet of a message that a client sent until its 250 was written down to be sent.
    pub acceptance: Histogram<15>,
    /// From the arrival of a message until a next hop has taken it, whoever of its recipients that was for.
    pub transmission: Histogram<18>,
    /// From the arrival of a message until a local recipient has it.
    pub local_delivery: Histogram<18>,
    /// Pieces of work in a commit.
    pub group: Histogram<10>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            acceptance: Histogram::new(&ACCEPTANCE),
            transmission: Histogram::new(&DELIVERY),
            local_delivery: Histogram::new(&DELIVERY),
            group: Histogram::new(&GROUP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_all_sizes_that_are_not_below_it() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 101, 5000] {
            histogram.add(value);
        }
        let counted = histogram.counted();
        assert_eq!(counted.up_to, [(1, 2), (10, 4), (100, 5)]);
        assert_eq!((counted.count, counted.sum), (7, 5125));
        assert_eq!(histogram.count(), 7);
    }

    #[test]
    fn times_are_counted_in_microseconds_and_the_longest_there_is_is_counted_too() {
        let histogram = Histogram::new(&[1000]);
        histogram.add_time(Duration::from_millis(1));
        histogram.add_time(Duration::MAX);
        assert_eq!(histogram.counted().up_to, [(1000, 1)]);
        assert_eq!(histogram.count(), 2);
    }

    #[test]
    fn bounds_rise() {
        assert!(ACCEPTANCE.is_sorted() && DELIVERY.is_sorted() && GROUP.is_sorted());
    }

    #[test]
    fn nothing_is_lost_when_many_threads_measure_at_once() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let group = &metrics.group;
                scope.spawn(move || (0..1000).for_each(|_| group.add(1 << thread)));
            }
        });
        let counted = metrics.group.counted();
        assert_eq!((counted.count, counted.sum), (4000, 15_000));
        assert_eq!(counted.up_to[1], (2, 2000));
    }
}
