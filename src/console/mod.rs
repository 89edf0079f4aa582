//! What the operator says and sees.

pub mod client;
pub mod command;
mod completion;
pub mod screen;
pub mod server;
pub mod terminal;
pub mod trace;
pub mod verdict;
pub mod why;
