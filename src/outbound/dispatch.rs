//! What osesctl and its handlers share: the lists that wait, who has how many in hand, what gathers, and how fast each
//! next hop may be served.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lingering::Lingering;
use super::outcome::{Reason, says_too_many};
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::list::{DomainList, HopId};
use crate::domain_list::next_hop::NextHop;
use crate::domain_list::pace::{Pace, Paces, Rates, Tokens};
use crate::domain_list::turns::Turns;
use crate::sync::{Mutex, first_of, now};
use crate::tasks::bell::Stop;
use crate::work_queue::Claimed;

/// The lists that wait for a handler and those that handlers have. One for all transports that follow each
/// other: a session that is still ending counts.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    turns: Arc<Mutex<Turns>>,
    lingering: Arc<Mutex<Lingering>>,
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
            turns.end(list, now());
            return Some(More::List(next));
        }
        turns.take_gathered(list.hop).then_some(More::Gathered)
    }

    /// Waits for a list for handler `number`, which is through with `list` and keeps its connection meanwhile; `None`
    /// at `until`, on the order to stop, and where it had better look for more by itself, or make room for another next
    /// hop.
    #[must_use]
    pub fn linger(
        &self,
        list: &DomainList,
        number: usize,
        per_next_hop: usize,
        until: Instant,
        stop: &Stop,
    ) -> Option<DomainList> {
        let hop = list.hop;
        let offered = self.lingering.lock().begin(hop, number);
        // Looked at after it has begun: whatever comes later finds it there.
        let has_to_move = self.with(|turns| {
            turns.has_more(hop)
                || turns.others_wait(hop, per_next_hop)
                || turns.has_too_many(hop, per_next_hop)
        });
        if !has_to_move {
            let pause = until.saturating_duration_since(now());
            if let Some(Ok(given)) = first_of(&offered, stop.heard(), pause) {
                return Some(given);
            }
        }
        self.lingering.lock().end(hop, number);
        offered.try_recv().ok()
    }

    /// The handlers that linger, by next hop.
    #[must_use]
    pub fn lingering(&self) -> HashMap<HopId, usize> {
        self.lingering.lock().by_hop()
    }

    /// Gives a list to the handler that it is locked for, if that one still lingers; else it waits. Whether it was given.
    pub fn give(&self, list: DomainList, now: Instant) -> bool {
        // However long that handler may take to see it: what nobody has in hand osesctl takes apart.
        self.with(|turns| turns.begin(&list));
        let given = self.lingering.lock().give(list);
        match given {
            Ok(()) => true,
            Err(mut list) => {
                list.contents = None;
                self.with(|turns| turns.wait(list, now));
                false
            }
        }
    }

    /// Gives the lists of a pass that are for handlers that linger; whether that was all that came of it.
    pub fn give_to_lingering(&self, claimed: &mut Claimed, now: Instant) -> bool {
        let for_lingering = std::mem::take(&mut claimed.to_lingering);
        let lists = std::mem::take(&mut claimed.lists).into_iter();
        let (theirs, others): (Vec<_>, Vec<_>) = lists.partition(|list| for_lingering.contains(&list.id));
        claimed.lists = others;
        if !theirs.is_empty() {
            reach(CrashPoint::ListCommitted);
        }
        let mut given = true;
        for list in theirs {
            tell_of(&list);
            given &= self.give(list, now);
        }
        given && claimed.lists.is_empty() && claimed.rerouted == 0 && claimed.gathering.is_empty()
    }

    /// There is no handler left for what waits: none lingers any longer.
    pub fn dismiss(&self) {
        self.lingering.lock().dismiss();
    }

    /// A host of the next hop of `list` gave `reason` for not taking something: if it says that there are too many of
    /// us, there are fewer from now on.
    pub fn heed(&self, list: &DomainList, reason: &Reason) {
        if says_too_many(reason) {
            self.turns.lock().crowded(list);
            self.dismiss();
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
        let free = rate.map(|rate| (rate, self.paces.lock().look(hop, rate, now())));
        let turns = self.turns.lock();
        Pace {
            rate: free,
            limit: turns.limit(hop),
            sessions: turns.busy(hop),
        }
    }
}

/// Tells the log of a list that was made.
pub fn tell_of(list: &DomainList) {
    log::debug!(
        "list={} hop={} messages={} recipients={} made",
        list.id,
        list.next_hop,
        list.messages,
        list.recipients
    );
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
        self.paces.lock().free(hop, rate, now())
    }

    fn take(&self, hop: HopId, next_hop: &NextHop, messages: usize) {
        if let Some(rate) = self.rates.of(next_hop) {
            self.paces.lock().take(hop, Some(rate), messages, now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_list::list::list;

    const AN_HOUR: Duration = Duration::from_secs(3600);

    /// What handler 3 gets, which is through with a list of next hop 1, when this happens as soon as it lingers.
    fn given_when(happens: impl FnOnce(&Dispatch, &Stop)) -> Option<DomainList> {
        let (dispatch, stop) = (Dispatch::default(), Stop::default());
        let through = list(1, 1, Some(3));
        dispatch.with(|turns| turns.begin(&through));
        std::thread::scope(|scope| {
            let lingers = scope.spawn(|| dispatch.linger(&through, 3, 20, Instant::now() + AN_HOUR, &stop));
            while dispatch.lingering().is_empty() && !lingers.is_finished() {
                std::thread::yield_now();
            }
            happens(&dispatch, &stop);
            let given = lingers.join().unwrap();
            assert!(dispatch.lingering().is_empty());
            given
        })
    }

    #[test]
    fn who_lingers_gets_the_next_list_of_its_next_hop() {
        let next = list(2, 1, Some(3));
        let given = given_when(|dispatch, _| {
            assert_eq!(dispatch.lingering(), HashMap::from([(HopId(1), 3)]));
            dispatch.give(next.clone(), Instant::now());
            assert!(
                dispatch.with(|turns| turns.knows(next.id)),
                "it is in hand before its handler knows of it"
            );
        });
        assert_eq!(given, Some(next));
    }

    #[test]
    fn who_lingers_goes_when_its_place_is_wanted_and_when_all_stop() {
        assert_eq!(given_when(|dispatch, _| dispatch.dismiss()), None);
        assert_eq!(given_when(|_, stop| stop.give()), None);
    }

    #[test]
    fn nobody_lingers_while_something_waits() {
        for waiting in [list(2, 1, None), list(2, 2, None)] {
            let (dispatch, through) = (Dispatch::default(), list(1, 1, Some(3)));
            dispatch.with(|turns| {
                turns.begin(&through);
                turns.wait(waiting, Instant::now());
            });
            let until = Instant::now() + AN_HOUR;
            assert_eq!(dispatch.linger(&through, 3, 20, until, &Stop::default()), None);
        }
    }

    #[test]
    fn a_list_for_a_handler_that_has_gone_waits() {
        let dispatch = Dispatch::default();
        dispatch.give(list(2, 1, Some(3)), Instant::now());
        let (waiting, busy) = dispatch.with(|turns| (turns.waiting(), turns.busy(HopId(1))));
        assert_eq!((waiting, busy), (1, 0));
    }
}
