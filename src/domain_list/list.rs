//! A domain list and its names.

use std::fmt;

use super::next_hop::NextHop;

/// Names a domain list: the reference ID that osesctl gives to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub i64);

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a next hop in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(pub i64);

/// A domain list: frozen, and never sorted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainList {
    /// Its reference ID.
    pub id: ListId,
    /// Where it goes.
    pub hop: HopId,
    /// Where it goes, in words that outbound understands.
    pub next_hop: NextHop,
    /// Messages on it.
    pub messages: usize,
    /// Recipients of these messages on it.
    pub recipients: usize,
    /// The handler that has it; its rows are locked then.
    pub handler: Option<usize>,
}
