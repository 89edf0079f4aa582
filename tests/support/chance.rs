//! Chance that can be had again: the same numbers for the same seed, which a test that fails tells.

#![allow(dead_code)] // each test uses what it needs

use std::env;
use std::process;
use std::thread;
use std::time::Duration;

/// The variable that says the seed; without it, each run has another one.
const SEED: &str = "SMTPMTA_SEED";

/// Numbers by chance.
#[derive(Debug)]
pub struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    /// Of the seed that the environment says, or of one of its own.
    pub fn begin() -> Chance {
        let said = env::var(SEED).ok().map(|seed| seed.parse::<u64>().unwrap());
        let seed = said.unwrap_or_else(|| process::id().into());
        Chance { seed, state: seed }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `most`.
    pub fn below(&mut self, most: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).unwrap() % most
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }

    /// A time that is no longer than this.
    pub fn upto(&mut self, longest: Duration) -> Duration {
        let milliseconds = self.below(usize::try_from(longest.as_millis()).unwrap() + 1);
        Duration::from_millis(milliseconds as u64)
    }
}

impl Drop for Chance {
    fn drop(&mut self) {
        #[allow(clippy::print_stderr)] // whoever reads of the failure wants to see it again
        if thread::panicking() {
            eprintln!("{SEED}={} was the seed", self.seed);
        }
    }
}
