//! osesctl and oseshlrN: carry the domain lists to their next hops.
pub mod offered;
pub mod outcome;
pub mod session;
pub mod transaction;
