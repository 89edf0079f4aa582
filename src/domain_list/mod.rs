//! Domain List Processing: what is pending becomes lists by next hop, and next hops take turns.
//!
//! Pure: never touches the queue, a socket or a clock.

pub mod gather;
pub mod guide;
pub mod list;
pub mod next_hop;
pub mod pace;
pub mod turns;
