//! What osesctl and its handlers share: the lists that wait, who has how many in hand, what gathers, and how fast each
//! next hop may be served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::outcome::{Reason, says_too_many};
use crate::domain_list::list::{DomainList, HopId};
use crate::domain_list::next_hop::NextHop;
use crate::domain_list::pace::{Pace, Paces, Rates, Tokens};
use crate::domain_list::turns::Turns;

/// The lists that wait for a handler and those that handlers have. One for all transports that follow each
/// other: a session that is still ending counts.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    turns: Arc<Mutex<Turns>>,
    paces: Arc<Mutex<Paces>>,
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
        act(&mut self.turns.lock())
    }

    /// What the handler that is through with `list` may carry on with over the same connection. Fair first, then
    /// thrifty: nothing while another next hop waits for a handler, or this one has more sessions than it takes.
    #[must_use]
    pub fn more(&self, list: &DomainList, per_next_hop: usize) -> Option<More> {
        let mut turns = self.turns.lock();
        if turns.others_wait(list.hop, per_next_hop) || turns.has_too_many(list.hop, per_next_hop) {
            return None;
        }
        if let Some(next) = turns.carry_on(list.hop) {
            turns.end(list, Instant::now());
            return Some(More::List(next));
        }
        turns.take_gathered(list.hop).then_some(More::Gathered)
    }

    /// A host of the next hop of `list` gave `reason` for not taking something: if it says that there are too many of
    /// us, there are fewer from now on.
    pub fn heed(&self, list: &DomainList, reason: &Reason) {
        if says_too_many(reason) {
            self.turns.lock().crowded(list);
        }
    }

    /// The tokens that lists need, by these rates.
    #[must_use]
    pub fn tokens(&self, rates: Rates) -> Arc<dyn Tokens> {
        Arc::new(HopTokens {
            rates,
            paces: Arc::clone(&self.paces),
        })
    }

    /// A pass of Domain List Processing begins.
    pub fn begin_pass(&self, now: Instant) {
        self.paces.lock().begin_pass(now);
    }

    /// How long until a next hop that has had its number of messages may have more.
    #[must_use]
    pub fn until_ready(&self, now: Instant) -> Option<Duration> {
        self.paces.lock().until_ready(now)
    }

    /// How a next hop is served just now, by these rates.
    #[must_use]
    pub fn pace(&self, hop: HopId, next_hop: &NextHop, rates: &Rates) -> Pace {
        let rate = rates.of(next_hop);
        let free = rate.map(|rate| (rate, self.paces.lock().look(hop, rate, Instant::now())));
        let turns = self.turns.lock();
        Pace {
            rate: free,
            limit: turns.limit(hop),
            sessions: turns.busy(hop),
        }
    }
}

/// Tokens by `--hop-rate`.
#[derive(Debug)]
struct HopTokens {
    rates: Rates,
    paces: Arc<Mutex<Paces>>,
}

impl Tokens for HopTokens {
    fn free(&self, hop: HopId, next_hop: &NextHop) -> usize {
        if self.rates.rates.is_empty() {
            return usize::MAX;
        }
        let rate = self.rates.of(next_hop);
        self.paces.lock().free(hop, rate, Instant::now())
    }

    fn take(&self, hop: HopId, next_hop: &NextHop, messages: usize) {
        if let Some(rate) = self.rates.of(next_hop) {
            self.paces.lock().take(hop, Some(rate), messages, Instant::now());
        }
    }
}
