//! What the operator says and sees.

pub mod client;
pub mod command;
mod completion;
pub mod hop;
pub mod letter;
mod queue;
pub mod route;
pub mod screen;
pub mod server;
pub mod terminal;
pub mod trace;
pub mod verdict;
pub mod why;
