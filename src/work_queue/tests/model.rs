//! The queue as a state machine: any verbs in any order, crashes among them, against a model in memory.
//!
//! After each verb the rows are those that the model holds, and every move that was made on the way is a legal one. So
//! nothing vanishes, and each end is reached once and only by what leads there.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::work_queue::id::MessageId;
use crate::work_queue::states::State;
use audit::Audit;
use memory::Memory;

mod audit;
mod memory;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a message may be tried.
const EXPIRE: Duration = DAY;

/// How long a recipient may be in somebody's hand.
const LEASE: Duration = DAY;

/// How late a message is of which its sender is told.
const LATE: Duration = Duration::from_secs(4 * 3600);

const SENDER: &str = "ann@example.org";

/// Whom messages are for. The second of each pair goes to the relay while there is one.
const PATHS: [&str; 5] = [
    "x@lotus.com",
    "y@lotus.com",
    "x@ibm.com",
    "Y@ibm.com",
    "x@dec.com",
];

const RELAYED: &str = "y@";

/// What a client says with NOTIFY.
const NOTIFY: [Option<&str>; 7] = [
    None,
    None,
    Some("SUCCESS"),
    Some("FAILURE"),
    Some("SUCCESS,FAILURE,DELAY"),
    Some("DELAY"),
    Some("NEVER"),
];

/// A recipient, by its message and its number.
type Place = (MessageId, u32);

/// How the time goes on.
const STEPS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_secs(1),
    Duration::from_secs(6 * 60),
    Duration::from_secs(20 * 60),
    Duration::from_secs(5 * 3600),
    DAY,
    Duration::from_secs(26 * 3600),
];

/// What is done next. How, is up to the dice that go with it.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Put,
    /// imsgcnv, or omsgcnv, takes what waits, and is slow.
    LookInbound,
    LookInBox,
    /// They record what they did.
    Convert,
    Route,
    /// Domain List Processing.
    Claim,
    Lock,
    CarryOn,
    Settle,
    EndList,
    BackOff,
    HoldListed,
    /// An operator.
    Retry,
    Reroute,
    /// drt.
    Expire,
    TellDelays,
    ReportFailures,
    ReportSuccesses,
    /// Housekeeping.
    Forget,
    Sweep,
    /// The world.
    Wait,
    Crash,
    Restart,
}

/// The deeds, each as often as it is named by its weight.
fn deed() -> impl Strategy<Value = Deed> {
    use Deed::*;
    prop_oneof![
        8 => Just(Put),
        1 => Just(LookInbound),
        1 => Just(LookInBox),
        7 => Just(Convert),
        7 => Just(Route),
        7 => Just(Claim),
        3 => Just(Lock),
        1 => Just(CarryOn),
        9 => Just(Settle),
        4 => Just(EndList),
        3 => Just(BackOff),
        1 => Just(HoldListed),
        2 => Just(Retry),
        1 => Just(Reroute),
        2 => Just(Expire),
        2 => Just(TellDelays),
        3 => Just(ReportFailures),
        3 => Just(ReportSuccesses),
        1 => Just(Forget),
        1 => Just(Sweep),
        6 => Just(Wait),
        1 => Just(Crash),
        1 => Just(Restart),
    ]
}

/// Numbers that decide what a deed leaves open: the same each time, and none by itself.
struct Dice {
    thrown: [u8; 8],
    at: usize,
}

impl Dice {
    /// A number below `sides`.
    fn below(&mut self, sides: usize) -> usize {
        let thrown = usize::from(self.thrown[self.at % self.thrown.len()]);
        self.at += 1;
        // Whoever throws more often than there are dice does not get the same again.
        (thrown + 37 * (self.at / self.thrown.len())) % sides
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == many - 1
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        match all.len() {
            0 => None,
            many => all.get(self.below(many)).cloned(),
        }
    }
}

/// The queue, and what it should hold.
struct Machine {
    world: World,
    audit: Audit,
    memory: Memory,
    /// What imsgcnv and omsgcnv have in hand.
    converting: Vec<Waiting>,
    routing: Vec<Waiting>,
    /// Whether there is a relay.
    relay: Arc<AtomicBool>,
    /// What was recorded last.
    settled: Option<Arc<Settlement>>,
    /// What happened so far, for who has to understand a failure.
    story: Vec<String>,
}

fn policy() -> RetryPolicy {
    RetryPolicy {
        schedule: vec![5 * MINUTE, 15 * MINUTE],
        expire: EXPIRE,
    }
}

fn why() -> Reason {
    Reason::here(EnhancedCode(4, 0, 0), "the dice fell so")
}

/// A refusal, or a word of delay, of the host itself.
fn reply(code: u16) -> Reason {
    Reason {
        reply: Some(said(code, "the host said so")),
        ..why()
    }
}

fn next_hop(path: &Mailbox, relay: bool) -> NextHop {
    if relay && path.to_string().to_lowercase().starts_with(RELAYED) {
        NextHop::Host("relay.example".to_owned(), 25)
    } else {
        hop_of(path)
    }
}

impl Machine {
    fn new() -> Machine {
        let world = World::new();
        let audit = Audit::open(world.folder.path(), None);
        Machine {
            world,
            audit,
            memory: Memory::default(),
            converting: Vec::new(),
            routing: Vec::new(),
            relay: Arc::default(),
            settled: None,
            story: Vec::new(),
        }
    }

    fn now(&self) -> Stamp {
        self.world.queue.now()
    }

    fn note(&mut self, what: impl std::fmt::Debug) {
        self.story.push(format!("{what:?}"));
    }

    fn act(&mut self, deed: Deed, dice: &mut Dice) {
        self.note(deed);
        match deed {
            Deed::Put => self.put(dice),
            Deed::LookInbound => self.look_inbound(),
            Deed::LookInBox => self.look_in_box(),
            Deed::Convert => self.convert(dice),
            Deed::Route => self.route(dice),
            Deed::Claim => self.claim(dice),
            Deed::Lock => self.lock(dice),
            Deed::CarryOn => self.carry_on(dice),
            Deed::Settle => self.settle(dice),
            Deed::EndList => self.end_list(dice),
            Deed::BackOff => self.back_off(dice),
            Deed::HoldListed => self.hold_listed(dice),
            Deed::Retry => self.retry(dice),
            Deed::Reroute => drop(self.relay.fetch_xor(true, Ordering::SeqCst)),
            Deed::Expire => self.expire(),
            Deed::TellDelays => self.tell_delays(),
            Deed::ReportFailures => self.report(true, dice),
            Deed::ReportSuccesses => self.report(false, dice),
            Deed::Forget => self.forget(),
            Deed::Sweep => self.sweep(),
            Deed::Wait => self.world.clock.advance(STEPS[dice.below(STEPS.len())]),
            Deed::Crash => self.restart(false),
            Deed::Restart => self.restart(true),
        }
    }

    /// Content as it comes: one in eight too large for the database.
    fn content(&self, mut writer: ContentWriter, dice: &mut Dice) -> Content {
        let octets = if dice.one_in(8) {
            THRESHOLD + 1
        } else {
            40 + dice.below(9)
        };
        writer.write(&vec![b'x'; octets]).unwrap();
        writer.finish().unwrap()
    }

    fn put(&mut self, dice: &mut Dice) {
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
        self.memory.put(id, null_sender, in_box, &to);
        self.note((id, &to));
        self.world.queue.put(arrival).unwrap();
    }

    fn look_inbound(&mut self) {
        self.converting = self.world.queue.waiting_inbound(self.now(), 100).unwrap();
        self.has_what_waits(&self.converting, false);
    }

    fn look_in_box(&mut self) {
        self.routing = self.world.queue.waiting_in_box(self.now(), 100).unwrap();
        self.has_what_waits(&self.routing, true);
    }

    /// Whoever asks what waits gets all of it.
    fn has_what_waits(&self, waiting: &[Waiting], in_box: bool) {
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

    fn later(&self, dice: &mut Dice) -> Stamp {
        self.now().plus(STEPS[dice.below(4)])
    }

    /// imsgcnv records what it did; what it has in hand may have been looked up long ago.
    fn convert(&mut self, dice: &mut Dice) {
        if self.converting.is_empty() {
            self.look_inbound();
        }
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
                    _ => Delivery::PassOn,
                };
                deliveries.push((recipient.n, delivery));
            }
            self.note((waiting.id, &deliveries));
            to_tell += self.memory.convert(waiting.id, &deliveries);
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

    /// omsgcnv records what it did; at times a pass of Domain List Processing goes with it.
    fn route(&mut self, dice: &mut Dice) {
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
                    _ => Way::Hop(next_hop(&recipient.path, relay)),
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
        if !dice.one_in(3) {
            return self.world.queue.routed(routed).unwrap();
        }
        let (claim, bell) = (self.terms(dice), Bell::default());
        let left = {
            let claim = claim.clone();
            self.world
                .queue
                .leave_claim(bell.clone(), move || Some(claim.clone()))
        };
        self.world.queue.routed_and_kick(routed, vec![bell]).unwrap();
        let claimed = left.withdraw().unwrap().expect("its bell has rung");
        // It has the moment from the queue's own clock, which may be ahead of ours.
        let latest = self.world.queue.message_id().arrived();
        self.is_listed(&claim, claimed, latest);
    }

    /// What a pass may do.
    fn terms(&mut self, dice: &mut Dice) -> Claim {
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
                router: Arc::new(move |path| next_hop(path, relay.load(Ordering::SeqCst))),
            },
            ..claim(&free[..dice.below(4)], dice.below(3))
        }
    }

    fn claim(&mut self, dice: &mut Dice) {
        let claim = self.terms(dice);
        let claimed = self.world.queue.claim(claim.clone()).unwrap();
        let now = self.now();
        self.is_listed(&claim, claimed, now);
    }

    /// What a pass did at `now`, or a little before it, is in order, and from now on what the memory holds, too.
    fn is_listed(&mut self, claim: &Claim, claimed: Claimed, now: Stamp) {
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
    fn is_rerouted(&mut self, terms: &Terms, due: &BTreeSet<String>, now: Stamp) -> HashMap<Place, String> {
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
            let hop = (terms.router)(&mailbox(&member.path)).to_string();
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
    fn is_made(&mut self, list: &DomainList, terms: &Terms, strayed: &HashMap<Place, String>, now: Stamp) {
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
            let path = mailbox(&self.memory.messages[id].recipients[*n as usize].path);
            (terms.router)(&path) == list.next_hop
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
    fn turn(&self, (id, n): &Place) -> (Stamp, Place) {
        (self.memory.messages[id].recipients[*n as usize].next, (*id, *n))
    }

    /// A list, one that a handler has or one that waits.
    fn some_list(&self, in_hand: bool, dice: &mut Dice) -> Option<ListId> {
        let lists = self
            .memory
            .lists
            .iter()
            .filter(|(_, list)| list.handler.is_some() == in_hand);
        dice.of(&lists.map(|(id, _)| *id).collect::<Vec<_>>())
    }

    fn lock(&mut self, dice: &mut Dice) {
        let Some(list) = self.some_list(false, dice) else {
            return;
        };
        let handler = 200 + dice.below(50);
        self.note((list, handler));
        self.memory.lock(list, handler);
        self.world.queue.lock_list(list, handler).unwrap();
    }

    /// A handler carries on with what has gathered for a next hop.
    fn carry_on(&mut self, dice: &mut Dice) {
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

    fn settle(&mut self, dice: &mut Dice) {
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
            outcomes,
            retry: policy(),
        };
        self.record(Arc::new(settlement));
    }

    fn record(&mut self, settlement: Arc<Settlement>) {
        self.note((settlement.list, settlement.id, &settlement.outcomes));
        let expected = self.memory.settle(&settlement, self.now());
        let settled = self.world.queue.settle(Arc::clone(&settlement)).wait().unwrap();
        assert_eq!(settled, expected);
        self.settled = Some(settlement);
    }

    fn end_list(&mut self, dice: &mut Dice) {
        let in_hand = !dice.one_in(4);
        let Some(list) = self.some_list(in_hand, dice) else {
            return;
        };
        self.note(list);
        self.memory.end_list(list);
        self.world.queue.end_list(list).unwrap();
        if dice.one_in(3) {
            self.world.queue.end_list(list).unwrap();
        }
    }

    /// No host answered; most often the list is taken apart at once.
    fn back_off(&mut self, dice: &mut Dice) {
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
        let expected = self.memory.back_off(list, &policy(), self.now());
        assert_eq!(self.world.queue.back_off(&silence).unwrap(), expected);
        if !dice.one_in(4) {
            self.memory.end_list(list);
            self.world.queue.end_list(list).unwrap();
        }
    }

    fn hold_listed(&mut self, dice: &mut Dice) {
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

    fn retry(&mut self, dice: &mut Dice) {
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

    fn expire(&mut self) {
        let expected = self.memory.expire(self.now().minus(EXPIRE), LEASE);
        assert_eq!(self.world.expire(EXPIRE), expected, "given up for their age");
    }

    /// The report of drt about message `about`.
    fn written(&mut self, about: MessageId, news: News) -> Notice {
        let id = self.world.queue.message_id();
        let content = Content::from_bytes(b"a report".to_vec());
        let report = Arrival::new(id, Origin::Report, ReversePath(None), [mailbox(SENDER)], content);
        if self.memory.report(about, &news) {
            self.memory.put(id, true, true, &[(SENDER, None)]);
        }
        self.note((about, &news, id));
        let telling = Telling::Report(Box::new(report));
        Notice { about, news, telling }
    }

    fn tell_delays(&mut self) {
        let cutoff = self.now().minus(LATE);
        let expected = self.memory.late(cutoff);
        let mut told = Vec::new();
        loop {
            let (late, reached, more) = self.world.queue.delayed(cutoff).unwrap();
            told.extend(late.iter().map(|due| due.id));
            let asked = late.into_iter().filter(|due| {
                let mut wants = due
                    .recipients
                    .iter()
                    .map(|r| r.notify.is_none_or(|notify| notify.delay));
                wants.any(|wants| wants)
            });
            let asked: Vec<_> = asked.map(|due| due.id).collect();
            let notices = asked.into_iter().map(|id| self.written(id, News::Late)).collect();
            self.world.queue.report(notices, Some(reached)).unwrap();
            if !more {
                break;
            }
        }
        assert_eq!(told, expected, "whose senders hear that they are late");
    }

    /// As drt reports, of failures or of good ends; now and then twice.
    fn report(&mut self, of_failures: bool, dice: &mut Dice) {
        let due = match of_failures {
            true => self.world.queue.awaiting_report(1000).unwrap(),
            false => self.world.queue.awaiting_success_report(1000).unwrap(),
        };
        let numbers = |due: &Due| (due.id, due.recipients.iter().map(|r| r.n).collect::<Vec<_>>());
        let found: Vec<_> = due.iter().map(numbers).collect();
        assert_eq!(found, self.memory.to_report(of_failures), "what drt has to tell");
        let most = dice.below(4);
        for _ in 0..=usize::from(dice.one_in(4)) {
            let mut notices = Vec::new();
            for due in due.iter().take(most) {
                let (reached, failed): (Vec<_>, Vec<_>) =
                    due.recipients.iter().partition(|r| r.success.is_some());
                let (told, untold): (Vec<_>, Vec<_>) = failed
                    .into_iter()
                    .partition(|r| r.notify.is_none_or(|notify| notify.failure));
                let ends = |failed: Vec<&Concerned>, reached: Vec<&Concerned>| News::Ends {
                    failed: failed.iter().map(|r| r.n).collect(),
                    reached: reached.iter().map(|r| r.n).collect(),
                };
                if !untold.is_empty() {
                    let news = ends(untold, Vec::new());
                    self.memory.report(due.id, &news);
                    notices.push(Notice {
                        about: due.id,
                        news,
                        telling: Telling::Unwanted,
                    });
                }
                if !told.is_empty() || !reached.is_empty() {
                    notices.push(self.written(due.id, ends(told, reached)));
                }
            }
            self.world.queue.report(notices, None).unwrap();
        }
    }

    fn forget(&mut self) {
        let left = self.audit.left_before(self.now().minus(DAY));
        for id in &left {
            let message = self.memory.messages.remove(id).expect("it was there");
            assert!(
                !message.is_in_the_queue(),
                "{id} is forgotten while it is in the queue"
            );
        }
        assert_eq!(self.world.queue.forget(DAY).unwrap(), left.len());
        // A next hop for which nothing waits may be forgotten, too, and what was known of it.
        let hops: HashSet<String> = self.audit.hops().into_iter().map(|(_, name)| name).collect();
        self.memory.hops.retain(|name, _| hops.contains(name));
    }

    fn sweep(&mut self) {
        let needed = self.audit.files();
        let swept = self.world.queue.sweep(self.world.queue.message_id()).unwrap();
        assert_eq!(swept.kept, needed.len());
        let folder = fs::read_dir(self.world.folder.path().join("content")).unwrap();
        let mut there: Vec<_> = folder
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort_unstable();
        assert_eq!(there, needed, "the content files");
    }

    /// Goes on in another folder with what was on the disk: at the end of the queue, or in the middle of it.
    fn restart(&mut self, in_order: bool) {
        if in_order {
            self.world.queue.close();
        }
        // While somebody reads, nobody copies the log home.
        self.audit
            .db
            .execute_batch("BEGIN; SELECT count(*) FROM message;")
            .unwrap();
        let (from, to) = (self.world.folder.path(), tempfile::tempdir().unwrap());
        fs::create_dir(to.path().join("content")).unwrap();
        let mut files = vec!["queue.db".to_owned(), "queue.db-wal".to_owned()];
        files.extend(
            self.audit
                .files()
                .into_iter()
                .map(|file| format!("content/{file}")),
        );
        for file in files {
            if from.join(&file).exists() {
                fs::copy(from.join(&file), to.path().join(&file)).unwrap();
            }
        }
        self.audit.db.execute_batch("COMMIT").unwrap();
        let clock = self.world.clock.clone();
        let queue = WorkQueue::open(to.path(), clock.clone()).unwrap();
        self.audit = Audit::open(to.path(), Some(&self.audit));
        self.world = World {
            folder: to,
            queue,
            clock,
        };
        self.memory.restart();
        self.converting.clear();
        self.routing.clear();
        self.audit.look_closely(&self.world.queue, &self.memory);
    }

    /// Does one deed, and looks what came of it.
    fn step(&mut self, deed: Deed, dice: &mut Dice) {
        self.act(deed, dice);
        self.audit.look(&self.memory);
    }
}

/// Tells how it came to a failure.
impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.story.join("\n"));
        }
    }
}

proptest! {
    // As many cases as PROPTEST_CASES in the environment says, else 256.
    #[test]
    fn any_verbs_in_any_order_make_legal_moves_only_and_lose_nothing(
        deeds in proptest::collection::vec((deed(), any::<[u8; 8]>()), 1..60),
    ) {
        let mut machine = Machine::new();
        for (deed, thrown) in deeds {
            machine.step(deed, &mut Dice { thrown, at: 0 });
        }
        let (world, memory) = (&machine.world, &machine.memory);
        machine.audit.look_closely(&world.queue, memory);
    }
}
