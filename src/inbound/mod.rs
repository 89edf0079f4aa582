//! isesctl and iseshlrN: accept connections, and speak SMTP with whoever calls.
//!
//! The dialogue itself is [`session`], without a socket: the handler reads, gives what it read to
//! [`session::Session::advance`], and does the steps that come back.

pub mod caller;
pub mod client_name;
pub mod controller;
pub mod front;
pub mod handler;
pub mod header;
mod incoming;
pub mod received;
pub mod reception;
pub mod recipients;
pub mod rehearsal;
pub mod replies;
#[cfg(test)]
#[cfg(feature = "schedules")]
mod schedules;
pub mod session;
pub mod step;
