//! A message comes, and the conversion tasks bring it on; what they have in hand may be old when they record it.

use super::*;

/// What the conversion tasks have left for a message that comes.
#[derive(Clone, Copy, Debug)]
struct Aids {
    /// imsgcnv runs; whether the message is only to be passed on, as far as it can see.
    read: Option<bool>,
    /// omsgcnv runs; whether it can tell where each recipient goes.
    route: Option<bool>,
}

impl Aids {
    fn thrown(dice: &mut Dice) -> Aids {
        Aids {
            read: dice.one_in(2).then(|| !dice.one_in(4)),
            route: dice.one_in(2).then(|| !dice.one_in(4)),
        }
    }
}

impl Machine {
    /// Content as it comes: one in eight too large for the database.
    pub(super) fn content(&self, mut writer: ContentWriter, dice: &mut Dice) -> Content {
        let octets = if dice.one_in(8) {
            THRESHOLD + 1
        } else {
            40 + dice.below(9)
        };
        writer.write(&vec![b'x'; octets]).unwrap();
        writer.finish().unwrap()
    }

    pub(super) fn put(&mut self, dice: &mut Dice) {
        let id = self.world.queue.message_id();
        let null_sender = dice.one_in(5);
        let in_box = dice.one_in(6);
        let first = dice.below(PATHS.len());
        let to: Vec<_> = (0..=dice.below(4))
            .map(|n| (PATHS[(first + n) % PATHS.len()], NOTIFY[dice.below(NOTIFY.len())]))
            .collect();
        let content = self.content(self.world.queue.content_writer(id), dice);
        let addressees = to.iter().map(|(to, notify)| Addressee {
            notify: notify.map(|words| words.parse().unwrap()),
            ..Addressee::from(mailbox(to))
        });
        let origin = if in_box { Origin::Local } else { Origin::Session };
        let reverse_path = ReversePath((!null_sender).then(|| mailbox(SENDER)));
        let arrival = Arrival::new(id, origin, reverse_path, addressees, content);
        let bits = arrival
            .recipients
            .iter()
            .map(|to| to.notify.map(|notify| notify.bits()));
        let to: Vec<_> = to.iter().zip(bits).map(|((to, _), bits)| (*to, bits)).collect();
        let (aids, relay) = (Aids::thrown(dice), self.relay.load(Ordering::SeqCst));
        self.note((id, &to, aids));
        let is_small = arrival.content.size <= THRESHOLD as u64;
        let passes = is_small && !in_box && aids.read == Some(true);
        let goes_out = passes && aids.route == Some(true);
        self.memory.put(id, null_sender, in_box || passes, &to);
        if goes_out {
            let way = |(n, (path, _)): (u32, &(&str, _))| (n, Way::Hop(next_hop(&mailbox(path), relay)));
            let ways: Vec<_> = (0..).zip(&to).map(way).collect();
            self.memory.route(id, &ways, self.now());
        }
        let bring = move |queue: &WorkQueue, osesctl: Bell| {
            let _imsgcnv = aids.read.map(|passes| {
                queue.attend_inbound(Bell::default(), move |_, _| passes.then(Structure::default))
            });
            let _omsgcnv = aids
                .route
                .map(|knows| queue.attend_box(osesctl, move |path| knows.then(|| next_hop(path, relay))));
            queue.put(arrival).unwrap();
        };
        match goes_out {
            true => self.kick_osesctl(dice, bring),
            false => bring(&self.world.queue, Bell::default()),
        }
    }

    /// Does something for which osesctl's bell rings; at times a pass of Domain List Processing goes with it.
    fn kick_osesctl(&mut self, dice: &mut Dice, act: impl FnOnce(&WorkQueue, Bell)) {
        let bell = Bell::default();
        if !dice.one_in(3) {
            return act(&self.world.queue, bell);
        }
        let claim = self.terms(dice);
        let (deputy, made) = deputize(&self.world, &bell, {
            let claim = claim.clone();
            move || Some(claim.clone())
        });
        act(&self.world.queue, bell);
        drop(deputy);
        let claimed = made.recv().expect("its bell has rung");
        let now = self.now();
        self.is_listed(&claim, claimed, now);
    }

    pub(super) fn look_inbound(&mut self) {
        self.converting = self.world.queue.waiting_inbound(self.now(), 100).unwrap();
        self.has_what_waits(&self.converting, false);
    }

    pub(super) fn look_in_box(&mut self) {
        self.routing = self.world.queue.waiting_in_box(self.now(), 100).unwrap();
        self.has_what_waits(&self.routing, true);
    }

    /// Whoever asks what waits gets all of it.
    pub(super) fn has_what_waits(&self, waiting: &[Waiting], in_box: bool) {
        let recipients = |w: &Waiting| w.recipients.iter().map(|r| (w.id, r.n)).collect::<Vec<_>>();
        let mut found: Vec<_> = waiting.iter().flat_map(recipients).collect();
        found.sort_unstable();
        let now = self.now();
        let waits = self.memory.all().filter(|(.., member)| {
            member.state == State::PendingConversion && member.in_box == in_box && member.next <= now
        });
        assert_eq!(
            found,
            waits.map(|(id, n, _)| (id, n)).collect::<Vec<_>>(),
            "what waits"
        );
    }

    pub(super) fn later(&self, dice: &mut Dice) -> Stamp {
        self.now().plus(STEPS[dice.below(4)])
    }

    /// imsgcnv records what it did; what it has in hand may have been looked up long ago.
    pub(super) fn convert(&mut self, dice: &mut Dice) {
        if self.converting.is_empty() {
            self.look_inbound();
        }
        let relay = self.relay.load(Ordering::SeqCst);
        let mut converted = Vec::new();
        let mut to_tell = 0;
        for waiting in std::mem::take(&mut self.converting) {
            let mut deliveries = Vec::new();
            for recipient in &waiting.recipients {
                let delivery = match dice.below(10) {
                    0 | 1 => Delivery::Delivered("in a mailbox".to_owned()),
                    2 => Delivery::Later(why(), self.later(dice)),
                    3 => Delivery::GiveUp(why()),
                    4 if dice.one_in(2) => Delivery::Hold(why()),
                    5 | 6 if !recipient.is_expanded => {
                        let (first, many) = (dice.below(PATHS.len()), dice.below(4));
                        let targets = PATHS.iter().cycle().skip(first).take(many);
                        Delivery::Expand(targets.map(|path| mailbox(path)).collect())
                    }
                    7 => Delivery::HandOver(next_hop(&recipient.path, relay)),
                    _ => Delivery::PassOn,
                };
                deliveries.push((recipient.n, delivery));
            }
            self.note((waiting.id, &deliveries));
            to_tell += self.memory.convert(waiting.id, &deliveries, self.now());
            converted.push(Converted {
                id: waiting.id,
                null_sender: waiting.reverse_path.0.is_none(),
                structure: None,
                deliveries,
            });
        }
        assert_eq!(
            self.world.queue.converted(converted).unwrap(),
            to_tell,
            "good ends to tell of"
        );
    }

    /// omsgcnv records what it did.
    pub(super) fn route(&mut self, dice: &mut Dice) {
        if self.routing.is_empty() {
            self.look_in_box();
        }
        let relay = self.relay.load(Ordering::SeqCst);
        let mut routed = Vec::new();
        for waiting in std::mem::take(&mut self.routing) {
            let mut ways = Vec::new();
            for recipient in &waiting.recipients {
                let way = match dice.below(10) {
                    0 => Way::Local,
                    1 => Way::Later(why(), self.later(dice)),
                    2 if dice.one_in(3) => Way::Hold(why()),
                    _ => Way::Hop(match &recipient.pin {
                        Some(pin) => pin.clone(),
                        None => next_hop(&recipient.path, relay),
                    }),
                };
                ways.push((recipient.n, way));
            }
            self.note((waiting.id, &ways));
            self.memory.route(waiting.id, &ways, self.now());
            let rewritten = dice.one_in(6) && self.memory.messages.contains_key(&waiting.id);
            let content =
                rewritten.then(|| self.content(self.world.queue.rewritten_content_writer(waiting.id), dice));
            routed.push(Routed {
                id: waiting.id,
                structure: None,
                content,
                ways,
                null_sender: waiting.reverse_path.0.is_none(),
            });
        }
        self.kick_osesctl(dice, |queue, osesctl| {
            queue.routed_and_kick(routed, vec![osesctl]).unwrap();
        });
    }
}
