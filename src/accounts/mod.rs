//! Accounts: who may log in, and who has a mailbox.
//!
//! Read from one file and held in memory until the next refresh. Never says which half of a login was wrong,
//! neither in words nor by the time that it takes.

mod check;
mod file;
mod gate;
pub mod passwd;
mod password;
pub mod problem;
pub mod scheme;
mod scram;
mod secret;
mod table;

pub use check::{Login, ScramKeys, ScramSalt};
pub use password::LONGEST as LONGEST_PASSWORD;
pub use problem::AccountsError;
pub use scram::{hmac_sha256, sha256};
pub use table::Accounts;

#[cfg(test)]
mod tests;
