//! What becomes of a list in the hands of a handler, and what an operator does to what waits.

use super::*;

impl Machine {
    pub(super) fn settle(&mut self, dice: &mut Dice) {
        // Recorded a second time: whoever did not hear of it asks again.
        if dice.one_in(8)
            && let Some(settlement) = self.settled.clone()
        {
            return self.record(settlement);
        }
        let Some(list) = self.some_list(true, dice) else {
            return;
        };
        let messages = self.world.queue.list_messages(list).unwrap();
        let numbers = |m: &ListedMessage| m.recipients.iter().map(|r| (m.id, r.n)).collect::<Vec<_>>();
        let found: Vec<_> = messages.iter().flat_map(numbers).collect();
        assert_eq!(found, self.memory.on(list), "what is on list {list}");
        let Some(message) = dice.of(&messages) else { return };
        let mut outcomes = Vec::new();
        for recipient in &message.recipients {
            let outcome = match dice.below(8) {
                0..=2 => delivered(),
                3 => Outcome::TryLater(reply(450)),
                4 => Outcome::TryLater(reply(421)),
                5 => later(),
                6 => Outcome::GiveUp(reply(550)),
                _ => continue,
            };
            outcomes.push((recipient.n, outcome));
        }
        let settlement = Settlement {
            list,
            id: message.id,
            null_sender: message.reverse_path.0.is_none(),
            host: "mx.example[192.0.2.9]".to_owned(),
            tls: None,
            host_reports: dice.one_in(4),
            is_delivery: dice.one_in(4),
            outcomes,
            retry: policy(),
        };
        self.record(Arc::new(settlement));
    }

    pub(super) fn record(&mut self, settlement: Arc<Settlement>) {
        self.note((settlement.list, settlement.id, &settlement.outcomes));
        let expected = self.memory.settle(&settlement, self.moment());
        let settled = self.world.queue.settle(Arc::clone(&settlement)).wait().unwrap();
        assert_eq!(settled, expected);
        self.settled = Some(settlement);
    }

    pub(super) fn end_list(&mut self, dice: &mut Dice) {
        let in_hand = !dice.one_in(4);
        let Some(list) = self.some_list(in_hand, dice) else {
            return;
        };
        self.note(list);
        self.memory.end_list(list, self.now());
        self.world.queue.end_list(list).unwrap();
        if dice.one_in(3) {
            self.world.queue.end_list(list).unwrap();
        }
    }

    /// No host answered; most often the list is taken apart at once.
    pub(super) fn back_off(&mut self, dice: &mut Dice) {
        let Some(list) = self.some_list(true, dice) else {
            return;
        };
        self.note(list);
        let silence = Silence {
            list,
            host: String::new(),
            reason: why(),
            retry: policy(),
        };
        let expected = self.memory.back_off(list, &policy(), self.moment());
        assert_eq!(self.world.queue.back_off(&silence).unwrap(), expected);
        if !dice.one_in(4) {
            self.memory.end_list(list, self.now());
            self.world.queue.end_list(list).unwrap();
        }
    }

    pub(super) fn hold_listed(&mut self, dice: &mut Dice) {
        let Some(list) = self.some_list(true, dice) else {
            return;
        };
        let Some((id, _)) = dice.of(&self.memory.on(list)) else {
            return;
        };
        self.note((list, id));
        self.memory.hold_listed(list, id);
        self.world.queue.hold_listed(list, id, "it met an error").unwrap();
    }

    pub(super) fn retry(&mut self, dice: &mut Dice) {
        let ids: Vec<_> = self.memory.messages.keys().copied().collect();
        let hops: Vec<_> = self.memory.hops.keys().cloned().collect();
        let what = match dice.below(3) {
            0 => Retry::Everything,
            1 => Retry::Hops(dice.of(&hops).into_iter().collect()),
            _ => Retry::Messages(dice.of(&ids).into_iter().collect()),
        };
        self.note(&what);
        let expected = self.memory.retry(&what, self.now());
        assert_eq!(self.world.queue.retry(&what, "somebody").unwrap(), expected);
    }

    /// An operator does this to one message or to several, of which some may have gone.
    pub(super) fn by_hand(&mut self, deed: ByHand, dice: &mut Dice) {
        let ids: Vec<_> = self.memory.messages.keys().copied().collect();
        let some: HashSet<MessageId> = (0..=dice.below(3)).filter_map(|_| dice.of(&ids)).collect();
        let mut some: Vec<_> = some.into_iter().collect();
        some.sort_unstable();
        some.push(MessageId(7));
        self.note((&deed, &some));
        let expected = match &deed {
            ByHand::Route(via) => {
                let relay = self.relay.load(Ordering::SeqCst);
                let usual = |path: &str| next_hop(&mailbox(path), relay);
                self.memory
                    .route_by_hand(via.as_ref(), &some, self.world.queue.now(), usual)
            }
            deed => self.memory.by_hand(deed, &some),
        };
        let choice = Choice::of_messages(some);
        let done = self.world.queue.do_by_hand(deed, &choice, "somebody").unwrap();
        assert_eq!(done, expected);
    }
}
