//! osesctl and oseshlrN: carry the domain lists to their next hops.
//!
//! What is said to a peer is [`session`], without a socket; what a reply means is [`outcome`]; which hosts there
//! are is [`hosts`], and which family of addresses works here [`families`].

pub mod connection;
pub mod controller;
pub mod dispatch;
pub mod families;
pub mod handler;
pub mod hosts;
pub mod lease;
pub mod lingering;
pub mod logins;
pub mod offered;
pub mod outcome;
#[cfg(test)]
#[cfg(feature = "schedules")]
mod schedules;
pub mod security;
pub mod session;
pub mod transaction;
pub mod trial;
