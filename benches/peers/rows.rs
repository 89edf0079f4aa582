//! The rows of the table, in its order.

mod accept;
mod beside_idle;
mod idle_memory;
mod latency;
mod long_path;
mod relay;

use accept::Accept;

use crate::row::Row;

const KIB: usize = 1024;

/// All of them.
pub fn all() -> Vec<Box<dyn Row>> {
    vec![
        Box::new(Accept::many("accept-1k-50", KIB, 50)),
        Box::new(Accept::many("accept-1k-100", KIB, 100)),
        Box::new(Accept::many("accept-4k-50", 4 * KIB, 50).quick()),
        Box::new(Accept::many("accept-4k-100", 4 * KIB, 100)),
        Box::new(Accept::many("accept-10k-50", 10 * KIB, 50)),
        Box::new(Accept::many("accept-10k-100", 10 * KIB, 100)),
        Box::new(
            Accept::one(
                "accept-one-per-connection",
                4 * KIB,
                50,
                [3.0, 5.0],
                "3 ×, aim 5 ×",
            )
            .quick(),
        ),
        Box::new(Accept::large("accept-100k-50", 100 * KIB, 50, [2.5, 4.0], "2.5 ×, aim 4 ×").quick()),
        Box::new(Accept::large("accept-1m-10", 1024 * KIB, 10, [1.5, 3.0], "1.5 ×, aim 3 ×").quick()),
        Box::new(Accept::large("accept-one-session", 4 * KIB, 1, [1.5, 2.5], "1.5 ×, aim 2.5 ×").quick()),
        Box::new(relay::Relay),
        Box::new(latency::Latency),
        Box::new(idle_memory::IdleMemory { sessions: 1_000 }),
        Box::new(idle_memory::IdleMemory { sessions: 10_000 }),
        Box::new(long_path::OverLongPath { chunking: false }),
        Box::new(long_path::OverLongPath { chunking: true }),
        Box::new(beside_idle::BesideIdle),
    ]
}
