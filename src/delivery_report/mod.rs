//! drt: bounces, delay notices and statistics.
