//! Aliases: addresses of ours that stand for others, here or elsewhere.
//!
//! Read from one file, and the files that it includes, and held in memory until the next refresh. Never runs
//! a program and never writes to a file that an alias names.

mod check;
mod line;
mod problem;
mod reader;
mod table;
mod target;

pub use problem::{AliasesError, Problem};
pub use table::Aliases;

#[cfg(test)]
mod tests;
