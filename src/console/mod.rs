//! What the operator says and sees.

pub mod client;
pub mod command;
pub mod letter;
mod queue;
pub mod screen;
pub mod server;
pub mod trace;
pub mod verdict;
pub mod why;
