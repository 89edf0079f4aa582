//! Micro-benchmarks: what one part costs, without a socket and, where it can be, without a disk. Their rooms mirror
//! `src/`.
//!
//! `benches/README.md` tells how to run them and how to read them. Never part of the tests: they judge nothing.

// A measurement that cannot go on ends where it stands, as a test does.
#![allow(clippy::unwrap_used)]

mod content;
mod conversion;
mod inbound;
mod letters;
mod lists;
mod queue;
mod world;

/// Counts what is allocated: on the measuring thread, per iteration.
#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}
