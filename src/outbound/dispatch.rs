//! What osesctl and its handlers share: the lists that wait, and who has how many in hand.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain_list::list::DomainList;
use crate::domain_list::turns::Turns;

/// The lists that wait for a handler and those that handlers have. One for all transports that follow each
/// other: a session that is still ending counts.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    pub(super) turns: Arc<Mutex<Turns>>,
}

impl Dispatch {
    /// A handler is through with `list`.
    pub fn end(&self, list: &DomainList) {
        self.turns.lock().end(list);
    }

    /// A handler that is through with `list` may carry on with this one, over the same connection. `list` is
    /// counted as ended if there is one.
    #[must_use]
    pub fn carry_on(&self, list: &DomainList, per_next_hop: usize) -> Option<DomainList> {
        let mut turns = self.turns.lock();
        let next = turns.carry_on(list.hop, per_next_hop);
        if next.is_some() {
            turns.end(list);
        }
        next
    }
}
