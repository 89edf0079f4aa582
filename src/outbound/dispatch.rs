//! What osesctl and its handlers share: the lists that wait, and who has how many in hand.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain_list::turns::Turns;
use crate::work_queue::{DomainList, HopId};

/// The lists that wait for a handler and those that handlers have: shared by the controller and its handlers,
/// which ask here whether to carry on.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    pub(super) turns: Arc<Mutex<Turns>>,
}

impl Dispatch {
    /// A handler is through with a list of `hop`.
    pub fn end(&self, hop: HopId) {
        self.turns.lock().end(hop);
    }

    /// A handler that is through with a list of `hop` may carry on with this one, over the same connection.
    /// The list before is counted as ended if there is one.
    #[must_use]
    pub fn carry_on(&self, hop: HopId, per_next_hop: usize) -> Option<DomainList> {
        let mut turns = self.turns.lock();
        let next = turns.carry_on(hop, per_next_hop);
        if next.is_some() {
            turns.end(hop);
        }
        next
    }
}
