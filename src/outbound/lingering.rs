//! Handlers that are through with a list, and keep their connection for a moment: a list of the same next hop that is
//! made meanwhile goes to one of them, over a session that need not be begun.
//!
//! Never waits, and knows nothing of connections.

use std::collections::HashMap;

use crate::domain_list::list::{DomainList, HopId};
use crate::sync::{Receiver, Sender, bounded};

/// Who lingers, by next hop.
#[derive(Debug, Default)]
pub struct Lingering {
    /// Those who began last stand last.
    handlers: HashMap<HopId, Vec<Lingerer>>,
}

#[derive(Debug)]
struct Lingerer {
    number: usize,
    offer: Sender<DomainList>,
}

impl Lingering {
    /// Handler `number` lingers from now on. It may be given one list by the channel; when that is disconnected, its
    /// place is wanted.
    pub fn begin(&mut self, hop: HopId, number: usize) -> Receiver<DomainList> {
        let (offer, offered) = bounded(1);
        self.handlers
            .entry(hop)
            .or_default()
            .push(Lingerer { number, offer });
        offered
    }

    /// Handler `number` lingers no longer. What it was given before is in its channel.
    pub fn end(&mut self, hop: HopId, number: usize) {
        let _ = self.take(hop, number);
    }

    /// For each next hop the handler that a list would go to.
    #[must_use]
    pub fn by_hop(&self) -> HashMap<HopId, usize> {
        let last = self.handlers.iter();
        last.filter_map(|(hop, handlers)| Some((*hop, handlers.last()?.number)))
            .collect()
    }

    /// Gives `list` to the handler that it is locked for.
    ///
    /// # Errors
    /// Gives it back if that one lingers no longer.
    pub fn give(&mut self, list: DomainList) -> Result<(), DomainList> {
        let lingerer = list.handler.and_then(|number| self.take(list.hop, number));
        match lingerer {
            // Its channel is empty, and it looks there once more after its end.
            Some(lingerer) => lingerer.offer.send(list).map_err(|refused| refused.0),
            None => Err(list),
        }
    }

    /// All places are wanted.
    pub fn dismiss(&mut self) {
        self.handlers.clear();
    }

    fn take(&mut self, hop: HopId, number: usize) -> Option<Lingerer> {
        let handlers = self.handlers.get_mut(&hop)?;
        let place = handlers.iter().position(|handler| handler.number == number)?;
        let taken = handlers.remove(place);
        if handlers.is_empty() {
            self.handlers.remove(&hop);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_list::list::{ListId, list};

    #[test]
    fn a_list_goes_to_the_handler_that_came_last_and_each_gets_one() {
        let mut lingering = Lingering::default();
        let first = lingering.begin(HopId(1), 3);
        let second = lingering.begin(HopId(1), 4);
        assert_eq!(lingering.by_hop(), HashMap::from([(HopId(1), 4)]));
        lingering.give(list(7, 1, Some(4))).unwrap();
        assert_eq!(lingering.by_hop(), HashMap::from([(HopId(1), 3)]));
        assert_eq!(lingering.give(list(8, 1, Some(4))), Err(list(8, 1, Some(4))));
        lingering.give(list(8, 1, Some(3))).unwrap();
        assert!(lingering.by_hop().is_empty());
        assert_eq!(
            (first.try_recv().unwrap().id, second.try_recv().unwrap().id),
            (ListId(8), ListId(7))
        );
    }

    #[test]
    fn who_has_ended_gets_nothing_more_but_keeps_what_was_given_before() {
        let mut lingering = Lingering::default();
        let offered = lingering.begin(HopId(1), 0);
        lingering.give(list(7, 1, Some(0))).unwrap();
        lingering.end(HopId(1), 0);
        assert_eq!(offered.try_recv().unwrap().id, ListId(7));
        let offered = lingering.begin(HopId(1), 0);
        lingering.end(HopId(1), 0);
        assert!(lingering.give(list(8, 1, Some(0))).is_err());
        assert!(offered.try_recv().is_err());
    }

    #[test]
    fn who_is_dismissed_hears_of_it() {
        let mut lingering = Lingering::default();
        let offered = lingering.begin(HopId(1), 0);
        lingering.dismiss();
        assert!(offered.recv().is_err());
        assert!(lingering.by_hop().is_empty());
    }
}
