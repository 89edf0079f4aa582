//! drt: bounces, delay notices and statistics.

pub mod report;
