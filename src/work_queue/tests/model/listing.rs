//! Domain List Processing: a pass makes lists of what is due, in its order, for the handlers that there are.
//!
//! Which next hops a pass takes is up to it, within what is checked here.

use std::collections::BTreeSet;

use super::*;

impl Machine {
    /// What a pass may do.
    pub(super) fn terms(&mut self, dice: &mut Dice) -> Claim {
        let lists = self.memory.lists.values();
        let handlers: HashSet<usize> = lists.clone().filter_map(|list| list.handler).collect();
        let free: Vec<usize> = (0..100).filter(|n| !handlers.contains(n)).collect();
        let mut busy: HashMap<HopId, usize> = HashMap::new();
        for list in lists.clone().filter(|list| list.handler.is_some()) {
            *busy.entry(list.number).or_default() += 1;
        }
        let hops = self.audit.hops();
        let lingers = dice.one_in(4).then(|| dice.of(&hops)).flatten();
        let relay = Arc::clone(&self.relay);
        Claim {
            lingering: lingers.into_iter().map(|(hop, _)| (hop, 100)).collect(),
            waiting: lists
                .filter(|list| list.handler.is_none())
                .map(|list| list.number)
                .collect(),
            busy,
            per_next_hop: 1 + dice.below(3),
            terms: Terms {
                list_messages: [1, 2, 100][dice.below(3)],
                tokens: Arc::new(Unlimited),
                router: Arc::new(move |path, pin| {
                    let usual = || next_hop(path, relay.load(Ordering::SeqCst));
                    pin.cloned().unwrap_or_else(usual)
                }),
            },
            ..claim(&free[..dice.below(4)], dice.below(3))
        }
    }

    pub(super) fn claim(&mut self, dice: &mut Dice) {
        let claim = self.terms(dice);
        let claimed = self.world.queue.claim(claim.clone()).unwrap();
        let now = self.now();
        self.is_listed(&claim, claimed, now);
    }

    /// What a pass did at `now`, or a little before it, is in order, and from now on what the memory holds, too.
    pub(super) fn is_listed(&mut self, claim: &Claim, claimed: Claimed, now: Stamp) {
        let (surely, due) = (self.memory.due_hops(self.now()), self.memory.due_hops(now));
        let numbers: HashMap<String, HopId> = self
            .audit
            .hops()
            .into_iter()
            .map(|(hop, name)| (name, hop))
            .collect();
        let strayed = self.is_rerouted(&claim.terms, &due, now);
        assert_eq!(strayed.len(), claimed.rerouted, "recipients that go elsewhere");
        let (mut handlers, mut waiting) = (HashSet::new(), 0);
        for list in &claimed.lists {
            let hop = list.next_hop.to_string();
            assert!(due.contains(&hop), "{list:?} is not due: {due:?}");
            assert!(!claim.waiting.contains(&list.hop), "{hop} has a list that waits");
            let lingering = claim.lingering.get(&list.hop);
            match list.handler {
                Some(handler) => {
                    assert!(handlers.insert(handler), "{handler} got two lists");
                    let lingers = Some(&handler) == lingering;
                    assert!(
                        lingers || claim.handlers.contains(&handler),
                        "handler {handler} was not offered"
                    );
                    assert_eq!(lingers, claimed.to_lingering.contains(&list.id));
                    let busy = claim.busy.get(&list.hop).copied().unwrap_or(0);
                    assert!(
                        lingers || busy < claim.per_next_hop,
                        "too many sessions with {hop}"
                    );
                }
                None => waiting += 1,
            }
            self.is_made(list, &claim.terms, &strayed, now);
        }
        assert!(waiting <= claim.waiting_room, "{waiting} lists wait");
        let has_room = |hop: &String| {
            let busy = claim.busy.get(&numbers[hop]).copied().unwrap_or(0);
            busy < claim.per_next_hop
        };
        // With a handler for everybody nobody is passed over.
        if claim.handlers.len() >= due.len() && due.iter().all(has_room) {
            for hop in &surely {
                let listed = claimed.lists.iter().any(|list| list.next_hop.to_string() == *hop);
                assert!(
                    listed || strayed.values().any(|was| was == hop),
                    "{hop} was passed over"
                );
            }
        }
    }

    /// Who was found to go elsewhere, and for which next hop it was before.
    pub(super) fn is_rerouted(
        &mut self,
        terms: &Terms,
        due: &BTreeSet<String>,
        now: Stamp,
    ) -> HashMap<Place, String> {
        let mut strayed = HashMap::new();
        let earliest = self.now();
        for ((id, n), found) in self.audit.members() {
            let member = self.memory.member(id, n);
            if !member.waits() || member.hop == found.hop {
                continue;
            }
            let was = member.hop.take().unwrap_or_default();
            assert!(
                due.contains(&was) && member.next <= now,
                "{id} {n} was not due for {was}"
            );
            let hop = (terms.router)(&mailbox(&member.path), member.pin.as_ref()).to_string();
            assert_eq!(found.hop.as_ref(), Some(&hop), "where {id} {n} goes");
            assert!((earliest..=now).contains(&found.next), "when {id} {n} is due");
            (member.hop, member.next) = (Some(hop.clone()), found.next);
            self.memory.hops.entry(hop).or_default();
            strayed.insert((id, n), was);
        }
        strayed
    }

    /// A list holds what was due longest, and no more than it may. What strayed to its next hop in the same pass may be
    /// on it or not.
    pub(super) fn is_made(
        &mut self,
        list: &DomainList,
        terms: &Terms,
        strayed: &HashMap<Place, String>,
        now: Stamp,
    ) {
        let hop = list.next_hop.to_string();
        let is_probe = self.memory.hops[&hop].failures > 0;
        let most = if is_probe { 1 } else { terms.list_messages };
        assert!(
            (1..=most).contains(&list.messages),
            "{list:?} is longer than {most}"
        );
        let found = self.audit.members().into_iter();
        let members: Vec<_> = found
            .filter(|(_, member)| member.list == Some(list.id))
            .map(|(place, _)| place)
            .collect();
        let messages: BTreeSet<_> = members.iter().map(|(id, _)| *id).collect();
        assert_eq!(
            (members.len(), messages.len()),
            (list.recipients, list.messages),
            "{list:?}"
        );
        let goes_there = |(id, n): &Place| {
            let member = &self.memory.messages[id].recipients[*n as usize];
            (terms.router)(&mailbox(&member.path), member.pin.as_ref()) == list.next_hop
        };
        let due = self.memory.due_for(&hop, now);
        assert!(
            members.iter().all(|place| due.contains(place)),
            "{members:?} were not due, but {due:?}"
        );
        let settled = due
            .into_iter()
            .filter(|place| goes_there(place) && !strayed.contains_key(place));
        let (first, rest): (Vec<_>, Vec<_>) = settled.partition(|place| members.contains(place));
        let last = first.iter().map(|place| self.turn(place)).max();
        let next = rest.iter().map(|place| self.turn(place)).min();
        assert!(
            last.is_none() || next.is_none() || last < next,
            "{list:?} passes {rest:?} over"
        );
        self.note((list.id, list.handler, &members));
        self.memory.list(list, &members);
        if list.handler.is_some() {
            let contents = self.world.queue.list_messages(list.id).unwrap();
            assert!(list.contents.as_ref().is_none_or(|at_hand| *at_hand == contents));
        }
    }

    /// When it is the turn of a recipient.
    pub(super) fn turn(&self, (id, n): &Place) -> (Stamp, Place) {
        (self.memory.messages[id].recipients[*n as usize].next, (*id, *n))
    }

    /// A list, one that a handler has or one that waits.
    pub(super) fn some_list(&self, in_hand: bool, dice: &mut Dice) -> Option<ListId> {
        let lists = self
            .memory
            .lists
            .iter()
            .filter(|(_, list)| list.handler.is_some() == in_hand);
        dice.of(&lists.map(|(id, _)| *id).collect::<Vec<_>>())
    }

    pub(super) fn lock(&mut self, dice: &mut Dice) {
        let Some(list) = self.some_list(false, dice) else {
            return;
        };
        let handler = 200 + dice.below(50);
        self.note((list, handler));
        self.memory.lock(list, handler);
        self.world.queue.lock_list(list, handler).unwrap();
    }

    /// A handler carries on with what has gathered for a next hop.
    pub(super) fn carry_on(&mut self, dice: &mut Dice) {
        let Some((hop, name)) = dice.of(&self.audit.hops()) else {
            return;
        };
        let terms = self.terms(dice).terms;
        let (handler, now) = (300 + dice.below(50), self.now());
        let next_hop = NextHop::from_name(&name);
        let list = self
            .world
            .queue
            .claim_more(hop, &next_hop, handler, &terms)
            .unwrap();
        let strayed = self.is_rerouted(&terms, &[name.clone()].into(), now);
        if let Some(list) = list {
            assert_eq!(list.handler, Some(handler));
            // It is no probe: who carries on has had an answer.
            let failures = std::mem::take(&mut self.memory.hops.get_mut(&name).expect("it is due").failures);
            self.is_made(&list, &terms, &strayed, now);
            self.memory.hops.entry(name).or_default().failures = failures;
        } else {
            assert!(self.memory.due_for(&name, now).is_empty(), "{name} has more");
        }
    }
}
