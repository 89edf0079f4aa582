//! What the operator says and sees.

pub mod client;
