//! What osesctl and its handlers share: the lists that wait, who has how many in hand, and what gathers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::domain_list::list::DomainList;
use crate::domain_list::turns::Turns;

/// How long a handler that is through waits for more of the same before it hangs up. Mail that was sent together
/// does not always come together.
const LINGER: Duration = Duration::from_millis(10);

/// The lists that wait for a handler and those that handlers have. One for all transports that follow each
/// other: a session that is still ending counts.
#[derive(Clone, Debug, Default)]
pub struct Dispatch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    turns: Mutex<Turns>,
    changed: Condvar,
}

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
        act(&mut self.0.turns.lock())
    }

    /// As [`Dispatch::with`], where handlers that wait for more may find some now.
    pub fn offer<T>(&self, act: impl FnOnce(&mut Turns) -> T) -> T {
        let done = self.with(act);
        self.0.changed.notify_all();
        done
    }

    /// What the handler that is through with `list` may carry on with over the same connection. Fair first, then
    /// thrifty: nothing while another next hop waits for a handler. Waits a moment for it.
    #[must_use]
    pub fn more(&self, list: &DomainList, per_next_hop: usize, stopping: impl Fn() -> bool) -> Option<More> {
        let deadline = Instant::now() + LINGER;
        let mut turns = self.0.turns.lock();
        loop {
            if stopping() || turns.others_wait(list.hop, per_next_hop) {
                return None;
            }
            if let Some(next) = turns.carry_on(list.hop) {
                turns.end(list);
                return Some(More::List(next));
            }
            if turns.take_gathered(list.hop) {
                return Some(More::Gathered);
            }
            if self.0.changed.wait_until(&mut turns, deadline).timed_out() {
                return None;
            }
        }
    }
}
