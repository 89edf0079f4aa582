//! Domain List Processing: pending messages become lists by next hop.
pub mod next_hop;
