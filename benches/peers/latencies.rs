//! How long things took: a histogram whose size is fixed, with percentiles that are right to 2 %.
//!
//! Never keeps the single times, so that an hour of load costs no more than a second of it.

use std::time::Duration;

/// Buckets for each doubling.
const FINENESS: u64 = 64;

/// Its base-2 logarithm.
const FINENESS_BITS: u32 = FINENESS.trailing_zeros();

/// Times in microseconds, counted by size.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.longest = self.longest.max(micros);
    }

    /// Counts those of another one, too.
    pub fn join(&mut self, other: &Latencies) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The time that this part of them (0 to 1) did not exceed, in milliseconds.
    pub fn percentile(&self, part: f64) -> f64 {
        let wanted = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return top_of(bucket).min(self.longest) as f64 / 1000.0;
            }
        }
        0.0
    }

    /// The longest, in milliseconds.
    pub fn longest(&self) -> f64 {
        self.longest as f64 / 1000.0
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < FINENESS {
        return micros as usize;
    }
    let shift = micros.ilog2() - FINENESS_BITS;
    (u64::from(shift + 1) * FINENESS + ((micros >> shift) - FINENESS)) as usize
}

/// The largest time that belongs there.
fn top_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINENESS {
        return bucket;
    }
    let shift = bucket / FINENESS - 1;
    ((bucket % FINENESS + FINENESS + 1) << shift) - 1
}
