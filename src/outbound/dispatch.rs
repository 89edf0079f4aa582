//! What osesctl and its handlers share: the lists that wait, who has how many in hand, and what gathers.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain_list::list::DomainList;
use crate::domain_list::turns::Turns;

/// The lists that wait for a handler and those that handlers have. One for all transports that follow each
/// other: a session that is still ending counts.
#[derive(Clone, Debug, Default)]
pub struct Dispatch(Arc<Mutex<Turns>>);

/// What a handler may carry on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum More {
    /// A list that waited. It is in the handler's hand now.
    List(DomainList),
    /// What has gathered, and is on no list yet.
    Gathered,
}

impl Dispatch {
    /// Looks at the turns, or changes them. Held for moves only.
    pub fn with<T>(&self, act: impl FnOnce(&mut Turns) -> T) -> T {
        act(&mut self.0.lock())
    }

    /// What the handler that is through with `list` may carry on with over the same connection. Fair first, then
    /// thrifty: nothing while another next hop waits for a handler.
    #[must_use]
    pub fn more(&self, list: &DomainList, per_next_hop: usize) -> Option<More> {
        let mut turns = self.0.lock();
        if turns.others_wait(list.hop, per_next_hop) {
            return None;
        }
        if let Some(next) = turns.carry_on(list.hop) {
            turns.end(list);
            return Some(More::List(next));
        }
        turns.take_gathered(list.hop).then_some(More::Gathered)
    }
}
