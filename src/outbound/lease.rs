//! How long handlers may have lists in hand: whoever has one for longer has hung, and its messages must not. Pure.
//!
//! By a clock that nobody can set: a list that was made a moment ago must not be taken from its handler because the
//! machine's clock was set forward, or what it is sending would go out a second time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain_list::list::ListId;

/// Every step of a session has its deadline, so that none needs as long.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// The lists in the hands of handlers, and since when they have been seen there.
#[derive(Debug, Default)]
pub struct Leases {
    since: HashMap<ListId, Instant>,
}

impl Leases {
    /// Those of the lists that are in hand now which have been for too long.
    pub fn overdue(&mut self, in_hand: &[ListId], now: Instant) -> Vec<ListId> {
        self.since.retain(|list, _| in_hand.contains(list));
        let mut overdue = Vec::new();
        for list in in_hand {
            let since = *self.since.entry(*list).or_insert(now);
            if now.saturating_duration_since(since) >= LEASE {
                overdue.push(*list);
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_a_handler_has_had_for_a_day_is_overdue_and_one_that_has_ended_is_forgotten() {
        let mut leases = Leases::default();
        let begin = Instant::now();
        assert!(leases.overdue(&[ListId(1), ListId(2)], begin).is_empty());
        assert!(leases.overdue(&[ListId(1)], begin + LEASE / 2).is_empty());
        // The second one has ended meanwhile, and here is another.
        let in_hand = [ListId(1), ListId(3)];
        assert_eq!(leases.overdue(&in_hand, begin + LEASE), [ListId(1)]);
        assert_eq!(leases.since.len(), 2);
        assert!(leases.overdue(&[], begin + LEASE).is_empty());
        assert!(leases.since.is_empty());
    }
}
