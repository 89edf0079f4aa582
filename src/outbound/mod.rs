//! osesctl and oseshlrN: carry the domain lists to their next hops.
pub mod hosts;
pub mod outcome;
