//! Next hops take turns: which waiting list goes next when a handler is free, so that many lists of one
//! next hop never keep the others waiting.
//!
//! The first mail for a next hop makes a list at once. While a session with that next hop is under way, or
//! no handler is free, what comes gathers for a moment: messages that come together share a list, and a
//! session that ends may take it over.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::list::{DomainList, HopId, ListId};

/// The lists that wait for a handler, and how many of each next hop are in the hands of handlers.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: VecDeque<Waiting>,
    busy: HashMap<HopId, usize>,
    in_hand: HashSet<ListId>,
    gathering: HashMap<HopId, Instant>,
    answering: HashSet<HopId>,
    /// When the last list of a next hop ended.
    served: HashMap<HopId, Instant>,
    limits: HashMap<HopId, Limit>,
}

/// Fewer sessions than the operator allows, since the next hop said that there were too many.
#[derive(Debug)]
struct Limit {
    most: usize,
    /// Messages that it has answered since.
    answered: usize,
    /// Lists up to this one were in hand then: what becomes of them is no news.
    since: ListId,
}

/// A next hop that said that there were too many sessions gets one more after it has answered for so many messages.
const FOR_ONE_MORE: usize = 100;

/// A list that waits for a handler.
#[derive(Debug)]
struct Waiting {
    list: DomainList,
    since: Instant,
}

/// How long mail gathers before it is frozen into a list that waits, and a further session may begin.
pub const GATHER: Duration = Duration::from_millis(100);

/// How long it gathers while the next hop has not answered for any message yet: on a long path the first session
/// is still beginning.
pub const GATHER_AT_FIRST: Duration = Duration::from_millis(500);

/// How long lists let mail go before them that has gathered for longer: should nobody come for that, they go.
const YIELD: Duration = Duration::from_secs(10);

/// A next hop that has not answered yet may have so many sessions before it counts as silent.
const FEW: usize = 5;

impl Turns {
    /// A list has been made and no handler was free, or the one that was to get it has gone: it waits, since its mail
    /// began to gather if it did.
    pub fn wait(&mut self, list: DomainList, now: Instant) {
        self.let_go(&list, now);
        let since = self.gathering.get(&list.hop).copied().unwrap_or(now);
        self.waiting.push_back(Waiting { list, since });
    }

    /// A handler gets `list` in hand.
    pub fn begin(&mut self, list: &DomainList) {
        if self.in_hand.insert(list.id) {
            *self.busy.entry(list.hop).or_default() += 1;
        }
    }

    /// A handler is through with `list`. Whatever waits for the same next hop has had its turn by that, and goes behind
    /// what waits for others by now.
    pub fn end(&mut self, list: &DomainList, now: Instant) {
        if !self.in_hand.remove(&list.id) {
            return;
        }
        self.served.insert(list.hop, now);
        if let Some(busy) = self.busy.get_mut(&list.hop) {
            *busy -= 1;
            if *busy == 0 {
                self.busy.remove(&list.hop);
                self.answering.remove(&list.hop);
            }
        }
    }

    /// Whether `list` waits, or a handler has it. A list that is neither has been lost sight of.
    #[must_use]
    pub fn knows(&self, list: ListId) -> bool {
        self.in_hand.contains(&list) || self.waiting.iter().any(|waiting| waiting.list.id == list)
    }

    /// `hop` has answered for a message.
    pub fn answers(&mut self, hop: HopId) {
        if self.busy.contains_key(&hop) {
            self.answering.insert(hop);
        }
        if let Some(limit) = self.limits.get_mut(&hop) {
            limit.answered += 1;
            if limit.answered >= FOR_ONE_MORE {
                (limit.most, limit.answered) = (limit.most + 1, 0);
            }
        }
    }

    /// The next hop of `list`, which a handler has in hand, said that there are too many of us: half as many sessions
    /// from now on, never none. What others that are under way hear counts as the same word.
    pub fn crowded(&mut self, list: &DomainList) {
        let sessions = self.busy(list.hop);
        let before = self.limits.get(&list.hop);
        if before.is_some_and(|limit| list.id <= limit.since) {
            return;
        }
        let sessions = before.map_or(sessions, |limit| limit.most.min(sessions));
        let limit = Limit {
            most: (sessions / 2).max(1),
            answered: 0,
            since: self.in_hand.iter().max().copied().unwrap_or(list.id),
        };
        self.limits.insert(list.hop, limit);
    }

    /// How many sessions the next hops take that have taught us so; those that take `per_next_hop` again are
    /// forgotten.
    pub fn limits(&mut self, per_next_hop: usize) -> HashMap<HopId, usize> {
        self.limits.retain(|_, limit| limit.most < per_next_hop);
        self.limits
            .iter()
            .map(|(hop, limit)| (*hop, limit.most))
            .collect()
    }

    /// How many sessions `hop` takes, as far as it has taught us.
    #[must_use]
    pub fn limit(&self, hop: HopId) -> Option<usize> {
        self.limits.get(&hop).map(|limit| limit.most)
    }

    /// Whether `hop` has more sessions than it takes: the next one that is through has to end.
    #[must_use]
    pub fn has_too_many(&self, hop: HopId, per_next_hop: usize) -> bool {
        self.busy(hop) > self.most(hop, per_next_hop)
    }

    fn most(&self, hop: HopId, per_next_hop: usize) -> usize {
        self.limit(hop)
            .map_or(per_next_hop, |limit| limit.min(per_next_hop))
    }

    /// Whether `hop` has answered for a message in one of the sessions that are under way.
    #[must_use]
    pub fn is_answering(&self, hop: HopId) -> bool {
        self.answering.contains(&hop)
    }

    /// The next hops that may have hung: several sessions, and no answer yet. They do not get the last handlers.
    #[must_use]
    pub fn silent(&self) -> HashSet<HopId> {
        self.busy
            .keys()
            .filter(|hop| self.is_silent(**hop))
            .copied()
            .collect()
    }

    fn is_silent(&self, hop: HopId) -> bool {
        self.busy(hop) >= FEW && !self.answering.contains(&hop)
    }

    /// The list that has waited longest among those whose next hop has fewer than `per_next_hop` in hand, and is
    /// not silent unless handlers are to `spare`. It is counted as begun. None goes before the mail of another next hop
    /// that has gathered for longer and has no handler: that is to get this one.
    pub fn next(&mut self, per_next_hop: usize, spare: bool, now: Instant) -> Option<DomainList> {
        let may_go = |Waiting { list, .. }: &Waiting| {
            self.busy(list.hop) < self.most(list.hop, per_next_hop) && (spare || !self.is_silent(list.hop))
        };
        let waiting = self.waiting.iter().enumerate();
        let (place, Waiting { list, since }) = waiting
            .filter(|(_, waiting)| may_go(waiting))
            .min_by_key(|(_, waiting)| self.turn(waiting.list.hop, waiting.since))?;
        let its_turn = self.turn(list.hop, *since);
        let goes_before = |(hop, gathers): (&HopId, &Instant)| {
            let yields = now.saturating_duration_since(*gathers) < YIELD;
            *hop != list.hop && self.busy(*hop) == 0 && self.turn(*hop, *gathers) <= its_turn && yields
        };
        if self.gathering.iter().any(goes_before) {
            return None;
        }
        self.take(place)
    }

    /// Since when it is the turn of `hop`, whose mail has waited `since` then: no longer than since its last list ended.
    fn turn(&self, hop: HopId, since: Instant) -> Instant {
        self.served.get(&hop).map_or(since, |served| since.max(*served))
    }

    /// Whether another next hop than `hop` waits for a handler: for fairness it has to get one first.
    #[must_use]
    pub fn others_wait(&self, hop: HopId, per_next_hop: usize) -> bool {
        let waits = |Waiting { list, .. }: &Waiting| {
            list.hop != hop
                && self.busy(list.hop) < self.most(list.hop, per_next_hop)
                && !self.is_silent(list.hop)
        };
        let starves = |other: &HopId| *other != hop && self.busy(*other) == 0;
        self.waiting.iter().any(waits) || self.gathering.keys().any(starves)
    }

    /// The list of `hop` that waits, for a handler that carries on over the same connection. It is counted as
    /// begun.
    pub fn carry_on(&mut self, hop: HopId) -> Option<DomainList> {
        let place = self.waiting.iter().position(|waiting| waiting.list.hop == hop)?;
        self.take(place)
    }

    /// Mail for these next hops, and no others, is due and on no list: it gathers, since when it was first seen. What
    /// has become a list that waits by now is told with [`Turns::wait`] first.
    pub fn gather(&mut self, hops: &[HopId], now: Instant) {
        let since = |hop: &HopId| (*hop, self.gathering.get(hop).copied().unwrap_or(now));
        self.gathering = hops.iter().map(since).collect();
        // Who neither waits nor is served begins anew.
        let (busy, gathering, waiting) = (&self.busy, &self.gathering, self.waiting_hops());
        let is_here =
            |hop: &HopId| busy.contains_key(hop) || gathering.contains_key(hop) || waiting.contains(hop);
        self.served.retain(|hop, _| is_here(hop));
    }

    /// Whether a list of `hop` waits, or mail for it gathers.
    #[must_use]
    pub fn has_more(&self, hop: HopId) -> bool {
        self.gathering.contains_key(&hop) || self.waiting.iter().any(|waiting| waiting.list.hop == hop)
    }

    /// Whether anything waits for a handler, or gathers until there is one.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.waiting.is_empty() || !self.gathering.is_empty()
    }

    /// Whether mail for `hop` gathers. It does so no longer when this says yes.
    pub fn take_gathered(&mut self, hop: HopId) -> bool {
        self.gathering.remove(&hop).is_some()
    }

    /// The next hops whose mail has gathered for long enough.
    #[must_use]
    pub fn ripe(&self, now: Instant) -> HashSet<HopId> {
        self.ripening()
            .filter(|(_, at)| *at <= now)
            .map(|(hop, _)| hop)
            .collect()
    }

    /// How long until mail that gathers, and had not gathered for long enough at `looked`, will have.
    #[must_use]
    pub fn until_ripe(&self, looked: Instant, now: Instant) -> Option<Duration> {
        let first = self
            .ripening()
            .map(|(_, at)| at)
            .filter(|at| *at > looked)
            .min()?;
        Some(first.saturating_duration_since(now))
    }

    /// When what gathers will have gathered for long enough.
    fn ripening(&self) -> impl Iterator<Item = (HopId, Instant)> {
        self.gathering.iter().map(|(hop, since)| {
            let first = self.busy(*hop) > 0 && !self.answering.contains(hop);
            (*hop, *since + if first { GATHER_AT_FIRST } else { GATHER })
        })
    }

    /// A list could not be handed over after all: first in the queue again.
    pub fn put_back(&mut self, list: DomainList, now: Instant) {
        self.let_go(&list, now);
        let since = self
            .waiting
            .iter()
            .map(|other| other.since)
            .fold(now, Instant::min);
        self.waiting.push_front(Waiting { list, since });
    }

    /// A list did not come into the hand for which it was counted, if it was: its next hop has not had its turn.
    fn let_go(&mut self, list: &DomainList, now: Instant) {
        let before = self.served.get(&list.hop).copied();
        self.end(list, now);
        match before {
            Some(before) => self.served.insert(list.hop, before),
            None => self.served.remove(&list.hop),
        };
    }

    /// Takes the lists of `hop` away that wait: it does not answer, and they would not fare better.
    pub fn call_off(&mut self, hop: HopId) -> Vec<ListId> {
        let of_hop = |waiting: &Waiting| (waiting.list.hop == hop).then_some(waiting.list.id);
        let called_off = self.waiting.iter().filter_map(of_hop).collect();
        self.waiting.retain(|waiting| waiting.list.hop != hop);
        called_off
    }

    /// Takes all waiting lists away, for a stop.
    pub fn clear(&mut self) -> Vec<ListId> {
        self.waiting.drain(..).map(|waiting| waiting.list.id).collect()
    }

    /// The next hops of the lists that wait.
    #[must_use]
    pub fn waiting_hops(&self) -> HashSet<HopId> {
        self.waiting.iter().map(|waiting| waiting.list.hop).collect()
    }

    /// How many lists wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many lists of each next hop are in the hands of handlers.
    #[must_use]
    pub fn busy_hops(&self) -> HashMap<HopId, usize> {
        self.busy.clone()
    }

    /// How many lists of `hop` are in the hands of handlers.
    #[must_use]
    pub fn busy(&self, hop: HopId) -> usize {
        self.busy.get(&hop).copied().unwrap_or(0)
    }

    fn take(&mut self, place: usize) -> Option<DomainList> {
        let list = self.waiting.remove(place)?.list;
        self.begin(&list);
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_list::next_hop::NextHop;

    fn list(id: i64, hop: i64) -> DomainList {
        DomainList {
            id: ListId(id),
            hop: HopId(hop),
            next_hop: NextHop::Domain(format!("hop{hop}.example")),
            messages: 1,
            recipients: 1,
            handler: None,
            contents: None,
        }
    }

    fn turns(waiting: &[(i64, i64)]) -> Turns {
        let mut turns = Turns::default();
        waiting
            .iter()
            .for_each(|(id, hop)| turns.wait(list(*id, *hop), Instant::now()));
        turns
    }

    #[test]
    fn the_list_that_waited_longest_goes_first() {
        let mut turns = turns(&[(1, 1), (2, 2)]);
        assert_eq!(turns.next(9, true, Instant::now()).map(|l| l.id), Some(ListId(1)));
        assert_eq!(turns.next(9, true, Instant::now()).map(|l| l.id), Some(ListId(2)));
        assert_eq!(turns.next(9, true, Instant::now()), None);
    }

    #[test]
    fn a_next_hop_with_enough_sessions_lets_the_others_pass() {
        let mut turns = turns(&[(1, 1), (2, 1), (3, 2)]);
        assert_eq!(turns.next(1, true, Instant::now()).map(|l| l.id), Some(ListId(1)));
        assert_eq!(turns.next(1, true, Instant::now()).map(|l| l.id), Some(ListId(3)));
        assert_eq!(turns.next(1, true, Instant::now()), None);
        turns.end(&list(1, 1), Instant::now());
        assert_eq!(turns.next(1, true, Instant::now()).map(|l| l.id), Some(ListId(2)));
    }

    #[test]
    fn a_handler_carries_on_only_when_no_other_next_hop_waits() {
        let mut turns = turns(&[(1, 1), (2, 2)]);
        assert!(turns.others_wait(HopId(1), 20), "next hop 2 waits: fair first");
        assert_eq!(
            turns.next(20, true, Instant::now()).map(|l| l.id),
            Some(ListId(1))
        );
        assert_eq!(
            turns.next(20, true, Instant::now()).map(|l| l.id),
            Some(ListId(2))
        );
        turns.wait(list(3, 1), Instant::now());
        assert!(!turns.others_wait(HopId(1), 20));
        assert_eq!(turns.carry_on(HopId(1)).map(|l| l.id), Some(ListId(3)));
    }

    #[test]
    fn a_next_hop_that_has_had_a_list_lets_those_pass_that_came_meanwhile() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        let later = |n: u32| start + GATHER * n;
        turns.begin(&list(1, 1));
        turns.wait(list(2, 1), start);
        turns.wait(list(3, 2), later(1));
        turns.gather(&[HopId(1), HopId(3)], later(2));
        turns.end(&list(1, 1), later(3));
        let next = |turns: &mut Turns, n| turns.next(20, true, later(n)).map(|list| list.id);
        assert_eq!(next(&mut turns, 3), Some(ListId(3)));
        turns.end(&list(3, 2), later(4));
        assert_eq!(
            next(&mut turns, 4),
            None,
            "next hop 3 gathers, and has waited longer"
        );
        turns.gather(&[HopId(1)], later(5));
        // Who comes now has not waited as long.
        turns.wait(list(4, 4), later(5));
        assert_eq!(next(&mut turns, 5), Some(ListId(2)));
        assert_eq!(next(&mut turns, 5), Some(ListId(4)));
    }

    #[test]
    fn a_list_lets_mail_go_before_it_that_has_gathered_for_longer_and_has_no_handler() {
        let (mut turns, start) = (Turns::default(), Instant::now() + GATHER);
        turns.gather(&[HopId(2)], start);
        turns.wait(list(1, 1), start + GATHER);
        assert_eq!(turns.next(20, true, start), None, "next hop 2 has waited longer");
        turns.begin(&list(9, 2));
        assert!(turns.next(20, true, start).is_some(), "it has a handler now");
        turns.end(&list(9, 2), Instant::now());
        turns.wait(list(2, 1), start - GATHER);
        assert!(
            turns.next(20, true, start).is_some(),
            "this one has waited longer still"
        );
        // What has gathered for longer goes first as a list, too.
        turns.wait(list(3, 1), start + GATHER);
        turns.wait(list(4, 2), start + 2 * GATHER);
        assert_eq!(
            turns.next(20, true, Instant::now()).map(|l| l.id),
            Some(ListId(4))
        );
        turns.gather(&[HopId(7)], start);
        assert_eq!(turns.next(20, true, start), None);
        assert!(
            turns.next(20, true, start + YIELD).is_some(),
            "nobody came for it"
        );
    }

    #[test]
    fn a_list_that_is_put_back_is_the_next_again() {
        let mut turns = turns(&[(1, 1), (2, 2)]);
        let first = turns.next(20, true, Instant::now()).unwrap();
        turns.put_back(first, Instant::now());
        assert_eq!(
            turns.next(20, true, Instant::now()).map(|l| l.id),
            Some(ListId(1))
        );
    }

    #[test]
    fn the_lists_of_a_next_hop_that_does_not_answer_are_called_off() {
        let mut turns = turns(&[(1, 1), (2, 2), (3, 1)]);
        assert_eq!(turns.call_off(HopId(1)), [ListId(1), ListId(3)]);
        assert_eq!((turns.waiting(), turns.knows(ListId(3))), (1, false));
    }

    #[test]
    fn mail_gathers_from_when_it_was_first_seen_until_it_is_ripe_or_taken() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        turns.gather(&[HopId(1), HopId(2)], start);
        turns.gather(&[HopId(1), HopId(2)], start + GATHER / 2);
        assert!(turns.ripe(start + GATHER / 2).is_empty());
        assert_eq!(
            turns.until_ripe(start + GATHER / 2, start + GATHER / 2),
            Some(GATHER / 2)
        );
        let late = turns.until_ripe(start + GATHER / 2, start + 2 * GATHER);
        assert_eq!(
            late,
            Some(Duration::ZERO),
            "it ripened meanwhile, and was not looked at"
        );
        assert!(turns.take_gathered(HopId(2)));
        assert!(!turns.take_gathered(HopId(2)));
        assert_eq!(turns.ripe(start + GATHER), HashSet::from([HopId(1)]));
        turns.gather(&[], start + GATHER);
        assert!(turns.ripe(start + 2 * GATHER).is_empty());
    }

    #[test]
    fn mail_that_gathers_because_no_handler_is_free_comes_before_carrying_on() {
        let mut turns = turns(&[(1, 1)]);
        let _ = turns.next(20, true, Instant::now());
        turns.gather(&[HopId(1)], Instant::now());
        assert!(!turns.others_wait(HopId(1), 20));
        turns.gather(&[HopId(1), HopId(2)], Instant::now());
        assert!(turns.others_wait(HopId(1), 20));
    }

    #[test]
    fn a_next_hop_that_says_too_many_gets_half_the_sessions_and_slowly_more_again() {
        let lists: Vec<(i64, i64)> = (0..10).map(|id| (id, 1)).collect();
        let mut turns = turns(&lists);
        assert_eq!(
            std::iter::from_fn(|| turns.next(8, true, Instant::now())).count(),
            8
        );
        turns.crowded(&list(3, 1));
        turns.crowded(&list(7, 1));
        assert_eq!(turns.limit(HopId(1)), Some(4), "both were under way: one word");
        assert!(turns.has_too_many(HopId(1), 8));
        (0..5).for_each(|id| turns.end(&list(id, 1), Instant::now()));
        assert!(!turns.has_too_many(HopId(1), 8));
        let fourth = turns.next(8, true, Instant::now()).unwrap();
        assert_eq!(turns.next(8, true, Instant::now()), None);
        turns.crowded(&fourth);
        assert_eq!(turns.limit(HopId(1)), Some(2));
        for _ in 0..FOR_ONE_MORE * 6 {
            turns.answers(HopId(1));
        }
        assert_eq!(turns.limits(20), HashMap::from([(HopId(1), 8)]));
        assert!(turns.limits(8).is_empty(), "as many as the operator allows");
    }

    #[test]
    fn a_next_hop_keeps_one_session_whatever_it_says() {
        let mut turns = turns(&[(1, 1), (2, 1), (3, 1)]);
        for _ in 0..3 {
            let list = turns.next(20, true, Instant::now()).unwrap();
            turns.crowded(&list);
            assert_eq!(turns.limit(HopId(1)), Some(1));
            turns.end(&list, Instant::now());
        }
    }

    #[test]
    fn a_next_hop_that_has_not_answered_gets_a_few_handlers_and_the_last_ones_only_after_it_has() {
        let lists: Vec<(i64, i64)> = (0..7).map(|id| (id, 1)).collect();
        let mut turns = turns(&lists);
        let taken = std::iter::from_fn(|| turns.next(20, false, Instant::now())).count();
        assert_eq!((taken, turns.silent()), (FEW, HashSet::from([HopId(1)])));
        assert!(
            turns.next(20, true, Instant::now()).is_some(),
            "while there are handlers to spare"
        );
        turns.answers(HopId(1));
        assert!(turns.silent().is_empty());
        assert!(turns.next(20, false, Instant::now()).is_some());
    }
}
