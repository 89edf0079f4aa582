//! The deputy that osesctl leaves with the writer while it rests: a message that comes alone is listed in the transaction
//! that routes it, and not in another one, for which a thread has to wake first.
//!
//! It does nothing but what osesctl would do next, and leaves to it what there is more to consider of.

use std::sync::Arc;

use super::WorkQueue;
use super::intake::{Deputized, Ticket};
use super::ledger::Ledger;
use super::lists::{Claim, Claimed, first_due, make_lists};
use crate::clock::Stamp;
use crate::tasks::bell::Bell;

/// The deputy stands for its task as long as this is not dropped.
#[derive(Debug)]
#[must_use]
pub struct Stand<'q> {
    queue: &'q WorkQueue,
    ticket: Ticket,
}

impl Drop for Stand<'_> {
    fn drop(&mut self) {
        self.queue.store.withdraw(self.ticket);
    }
}

impl WorkQueue {
    /// Lets a pass by `claim` stand for osesctl, whose doorbell is `bell`, while it rests; where there is more to consider
    /// `claim` gives none. `hand_out` gets what came of it as soon as it is committed, without waiting for anything, and
    /// says whether that leaves nothing for osesctl. If not, or if something falls due before `wakes`, when osesctl looks by
    /// itself, the bell rings.
    ///
    /// Both are dropped when the deputy was taken back and is through with what it does then.
    pub fn stand_for_osesctl(
        &self,
        bell: Bell,
        wakes: Stamp,
        claim: impl Fn() -> Option<Claim> + Send + Sync + 'static,
        hand_out: impl Fn(Claimed) -> bool + Send + Sync + 'static,
    ) -> Stand<'_> {
        let hand_out = Arc::new(hand_out);
        let deed = move |ledger: &mut Ledger<'_>| {
            let Some(claim) = claim() else {
                return Ok(Deputized::default());
            };
            let now = ledger.moment();
            let claimed = make_lists(ledger, &claim, now)?;
            let hand_out = Arc::clone(&hand_out);
            Ok(Deputized {
                is_through: first_due(ledger, now)?.is_none_or(|due| due >= wakes),
                then: Some(Box::new(move || hand_out(claimed))),
            })
        };
        Stand {
            queue: self,
            ticket: self.store.deputize(bell, Arc::new(deed)),
        }
    }
}
