//! What the queue should hold, as plain values: each message, each list and each next hop, and what every verb makes of
//! them.
//!
//! Never looks into the database, and never asks the code under test; only the retry policy and the clock's watch, which
//! have tests of their own, are asked for moments.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::moving::Export;
use super::*;

/// All that there is.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) messages: BTreeMap<MessageId, Message>,
    pub(super) lists: BTreeMap<ListId, List>,
    pub(super) hops: BTreeMap<String, Hop>,
    pub(super) exports: BTreeMap<ExportId, Export>,
    /// So many were ever begun.
    pub(super) exports_begun: u128,
    /// What an operator wants done to messages that a handler has in hand.
    recalls: BTreeMap<MessageId, ByHand>,
    /// Up to the message that arrived then senders have been told of what is late.
    told_until: Stamp,
    /// Puts what happens in order.
    tick: u64,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) null_sender: bool,
    pub(super) recipients: Vec<Member>,
}

/// A recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) path: String,
    pub(super) state: State,
    /// While it waits for conversion: whether for omsgcnv.
    pub(super) in_box: bool,
    /// While it is to be sent.
    pub(super) hop: Option<String>,
    pub(super) list: Option<ListId>,
    /// While it waits for conversion or for its next hop.
    pub(super) next: Stamp,
    pub(super) attempts: u32,
    pub(super) notify: Option<u8>,
    pub(super) parent: Option<u32>,
    /// Where an operator leads it.
    pub(super) pin: Option<NextHop>,
    /// The good end that drt has to tell of.
    pub(super) to_tell: Option<u8>,
    /// The export that has it for itself, and how it stood before.
    pub(super) aside: Option<(ExportId, State)>,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) hop: String,
    pub(super) number: HopId,
    pub(super) handler: Option<usize>,
    made: u64,
}

/// A next hop, as far as it backs off.
#[derive(Debug, Default)]
pub(super) struct Hop {
    pub(super) failures: u32,
    pub(super) retry_at: Option<Stamp>,
    failed: u64,
}

/// The states of what is neither settled nor given up.
const UNDECIDED: [State; 4] = [
    State::PendingConversion,
    State::PendingXmit,
    State::LockedForXmit,
    State::Held,
];

impl Member {
    fn new(path: &str, in_box: bool, notify: Option<u8>, parent: Option<u32>) -> Member {
        Member {
            path: path.to_owned(),
            state: State::PendingConversion,
            in_box,
            hop: None,
            list: None,
            next: Stamp::EPOCH,
            attempts: 0,
            notify,
            parent,
            pin: None,
            to_tell: None,
            aside: None,
        }
    }

    /// As far as it can be compared: what means nothing in its state is left out.
    pub(super) fn in_essence(mut self) -> Member {
        let (converts, sends) = (
            self.state == State::PendingConversion,
            matches!(self.state, State::PendingXmit | State::LockedForXmit),
        );
        self.in_box &= converts;
        self.hop = self.hop.filter(|_| sends);
        if !converts && !self.waits() {
            self.next = Stamp::EPOCH;
        }
        self
    }

    /// Whether it waits for its next hop, and is on no list.
    pub(super) fn waits(&self) -> bool {
        self.state == State::PendingXmit && self.list.is_none()
    }

    pub(super) fn is_in_the_queue(&self) -> bool {
        !self.state.is_end() || self.to_tell.is_some()
    }

    fn give_up(&mut self, null_sender: bool) {
        self.list = None;
        self.state = if null_sender {
            State::Dead
        } else {
            State::PendingReport
        };
    }

    /// Its good end has to be told, if its sender asked for that; whether it did.
    fn succeed(&mut self, state: State, success: u8, null_sender: bool) -> bool {
        (self.state, self.list) = (state, None);
        let asked = !null_sender && self.notify.is_some_and(|notify| notify & 1 != 0);
        self.to_tell = asked.then_some(success);
        asked
    }
}

impl Message {
    pub(super) fn is_in_the_queue(&self) -> bool {
        self.recipients.iter().any(Member::is_in_the_queue)
    }

    /// Whether its content is kept: it is in the queue, or what was removed of it may be brought back.
    pub(super) fn keeps_content(&self) -> bool {
        let is_removed = |member: &Member| member.state == State::Removed;
        self.is_in_the_queue() || self.recipients.iter().any(is_removed)
    }
}

impl Memory {
    pub(super) fn put(&mut self, id: MessageId, null_sender: bool, in_box: bool, to: &[(&str, Option<u8>)]) {
        let member = |(path, notify): &(&str, Option<u8>)| Member::new(path, in_box, *notify, None);
        let recipients = to.iter().map(member).collect();
        let message = Message {
            null_sender,
            recipients,
        };
        assert!(self.messages.insert(id, message).is_none(), "{id} is given twice");
    }

    /// All recipients, with the message and their number.
    pub(super) fn all(&self) -> impl Iterator<Item = (MessageId, u32, &Member)> {
        self.messages.iter().flat_map(|(id, message)| {
            let numbered = (0..).zip(&message.recipients);
            numbered.map(|(n, member)| (*id, n, member))
        })
    }

    pub(super) fn member(&mut self, id: MessageId, n: u32) -> &mut Member {
        let message = self.messages.get_mut(&id).expect("a message that was put");
        &mut message.recipients[n as usize]
    }

    /// The recipient, if it is in this state.
    fn member_if(&mut self, id: MessageId, n: u32, state: State) -> Option<&mut Member> {
        let message = self.messages.get_mut(&id)?;
        let member = message.recipients.get_mut(n as usize);
        member.filter(|member| member.state == state)
    }

    /// What imsgcnv did with a message; how many good ends are to be told of.
    pub(super) fn convert(&mut self, id: MessageId, deliveries: &[(u32, Delivery)], now: Stamp) -> usize {
        let Some(message) = self.messages.get(&id) else {
            return 0;
        };
        let null_sender = message.null_sender;
        let is_expanded = |n: u32| {
            let of = |(m, delivery): &(u32, Delivery)| *m == n && matches!(delivery, Delivery::Expand(_));
            deliveries.iter().any(of)
        };
        let mut present: HashSet<String> = (0..)
            .zip(&message.recipients)
            .filter(|(n, member)| {
                let may_be_alias =
                    member.parent.is_none() && member.state == State::PendingConversion && !member.in_box;
                let is_named = deliveries.iter().any(|(m, _)| m == n) && !is_expanded(*n);
                member.state != State::Expanded && (!may_be_alias || is_named)
            })
            .map(|(_, member)| member.path.to_lowercase())
            .collect();
        let mut to_tell = 0;
        for (n, delivery) in deliveries {
            if let Delivery::Expand(targets) = delivery {
                to_tell += usize::from(self.expand(id, *n, targets, &mut present));
                continue;
            }
            if let Delivery::HandOver(hop) = delivery {
                self.hops.entry(hop.to_string()).or_default();
            }
            let Some(member) = self.member_if(id, *n, State::PendingConversion) else {
                continue;
            };
            match delivery {
                Delivery::Delivered(_) => {
                    to_tell += usize::from(member.succeed(State::Delivered, 1, null_sender));
                }
                Delivery::PassOn => (member.in_box, member.next) = (true, Stamp::EPOCH),
                Delivery::HandOver(hop) => {
                    (member.state, member.next) = (State::PendingXmit, now);
                    member.hop = Some(hop.to_string());
                }
                Delivery::Later(_, due) => {
                    member.attempts += 1;
                    member.next = *due;
                }
                Delivery::GiveUp(_) => member.give_up(null_sender),
                Delivery::Hold(_) => member.state = State::Held,
                Delivery::Expand(_) => {}
            }
        }
        to_tell
    }

    fn expand(&mut self, id: MessageId, n: u32, targets: &[Mailbox], present: &mut HashSet<String>) -> bool {
        let Some(member) = self.member_if(id, n, State::PendingConversion) else {
            return false;
        };
        if targets.is_empty() {
            member.state = State::Held;
            return false;
        }
        // RFC 3461 5.2.7: of several targets none tells of success.
        let (notify, pin) = (member.notify, member.pin.clone());
        let theirs = notify.map(|notify| if targets.len() == 1 { notify } else { notify & !1 });
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let new = targets.iter().filter(|path| present.insert(path.to_lowercase()));
        let new: Vec<Member> = new
            .map(|path| Member {
                pin: pin.clone(),
                ..Member::new(path, false, theirs, Some(n))
            })
            .collect();
        let (all, appended) = (targets.len(), new.len());
        let message = self.messages.get_mut(&id).expect("it was there");
        message.recipients.extend(new);
        let null_sender = message.null_sender;
        let member = self.member(id, n);
        if all == 1 && appended == 1 {
            member.state = State::Expanded;
            return false;
        }
        member.succeed(State::Expanded, 3, null_sender)
    }

    /// What omsgcnv did with a message.
    pub(super) fn route(&mut self, id: MessageId, ways: &[(u32, Way)], now: Stamp) {
        for (n, way) in ways {
            if let Way::Hop(hop) = way {
                self.hops.entry(hop.to_string()).or_default();
            }
            let Some(member) = self.member_if(id, *n, State::PendingConversion) else {
                continue;
            };
            match way {
                Way::Hop(hop) => {
                    (member.state, member.next) = (State::PendingXmit, now);
                    member.hop = Some(hop.to_string());
                }
                Way::Local => (member.in_box, member.next) = (false, Stamp::EPOCH),
                Way::Later(_, due) => {
                    member.attempts += 1;
                    member.next = *due;
                }
                Way::Hold(_) => member.state = State::Held,
            }
        }
    }

    /// The next hops that are due now, have no list that waits, and do not have their probe under way.
    pub(super) fn due_hops(&self, now: Stamp) -> BTreeSet<String> {
        let due = self
            .all()
            .filter(|(.., member)| member.waits() && member.next <= now);
        let hops: BTreeSet<String> = due.filter_map(|(.., member)| member.hop.clone()).collect();
        let may_go = |name: &String| {
            let hop = &self.hops[name];
            let mut lists = self.lists.values().filter(|list| list.hop == *name);
            let is_free = lists.all(|list| list.handler.is_some() && hop.failures == 0);
            hop.retry_at.is_none_or(|at| at <= now) && is_free
        };
        hops.into_iter().filter(may_go).collect()
    }

    /// What waits for `hop` and is due, those that are due longest first.
    pub(super) fn due_for(&self, hop: &str, now: Stamp) -> Vec<(MessageId, u32)> {
        let waits =
            |member: &Member| member.waits() && member.next <= now && member.hop.as_deref() == Some(hop);
        let due = self.all().filter(|(.., member)| waits(member));
        let mut due: Vec<_> = due.map(|(id, n, member)| (member.next, id, n)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id, n)| (id, n)).collect()
    }

    /// A list was made.
    pub(super) fn list(&mut self, list: &DomainList, members: &[(MessageId, u32)]) {
        self.tick += 1;
        let made = List {
            hop: list.next_hop.to_string(),
            number: list.hop,
            handler: list.handler,
            made: self.tick,
        };
        assert!(
            self.lists.insert(list.id, made).is_none(),
            "{} is made twice",
            list.id
        );
        for (id, n) in members {
            let member = self.member(*id, *n);
            member.list = Some(list.id);
            if list.handler.is_some() {
                member.state = State::LockedForXmit;
            }
        }
    }

    /// Who is on a list.
    pub(super) fn on(&self, list: ListId) -> Vec<(MessageId, u32)> {
        let on = self.all().filter(|(.., member)| member.list == Some(list));
        on.map(|(id, n, _)| (id, n)).collect()
    }

    pub(super) fn lock(&mut self, list: ListId, handler: usize) {
        for (id, n) in self.on(list) {
            self.member(id, n).state = State::LockedForXmit;
        }
        self.lists.get_mut(&list).expect("a list that waits").handler = Some(handler);
    }

    /// What is on it goes back. It was due when the list was made, and is still, however the clock was set since.
    pub(super) fn end_list(&mut self, list: ListId, now: Stamp) {
        for (id, n) in self.on(list) {
            let member = self.member(id, n);
            (member.state, member.list) = (State::PendingXmit, None);
            member.next = member.next.min(now);
        }
        self.lists.remove(&list);
    }

    /// A crash, or a stop: nobody has anything in hand.
    pub(super) fn restart(&mut self, now: Stamp) {
        for list in self.lists.keys().copied().collect::<Vec<_>>() {
            self.end_list(list, now);
        }
        self.recalls.clear();
    }

    /// The next hop of `list` has failed, unless that was before the list was made; when the next probe goes.
    fn fail(&mut self, list: ListId, retry: &RetryPolicy, now: Stamp) -> Option<Stamp> {
        let (name, number, made) = {
            let list = &self.lists[&list];
            (list.hop.clone(), list.number, list.made)
        };
        self.tick += 1;
        let tick = self.tick;
        let hop = self.hops.entry(name).or_default();
        if made > hop.failed {
            hop.failures += 1;
            hop.retry_at = Some(retry.next_probe(number, hop.failures, now));
            hop.failed = tick;
        }
        hop.retry_at
    }

    pub(super) fn settle(&mut self, settlement: &Settlement, now: Moment) -> Settled {
        let mut settled = Settled::default();
        let (list, id) = (settlement.list, settlement.id);
        let name = self.lists.get(&list).map(|list| list.hop.clone());
        let hop = name.and_then(|name| self.hops.get_mut(&name));
        if let Some(hop) = hop.filter(|hop| hop.failures > 0) {
            let outcomes = &settlement.outcomes;
            if outcomes.iter().any(|(_, outcome)| outcome.is_answer()) {
                (hop.failures, hop.retry_at) = (0, None);
                settled.released = true;
            } else if outcomes
                .iter()
                .any(|(_, outcome)| matches!(outcome, Outcome::TryLater(_)))
            {
                self.fail(list, &settlement.retry, now.shown);
            }
        }
        let null_sender = settlement.null_sender;
        for (n, outcome) in &settlement.outcomes {
            let member = self.member_if(id, *n, State::LockedForXmit);
            let Some(member) = member.filter(|member| member.list == Some(list)) else {
                continue;
            };
            member.attempts += 1;
            match outcome {
                Outcome::Delivered(_) => {
                    settled.transmitted += 1;
                    let (end, success) = match settlement.is_delivery {
                        true => (State::Delivered, 1),
                        false => (State::Transmitted, 2),
                    };
                    let asked = member.succeed(end, success, null_sender);
                    if settlement.host_reports {
                        member.to_tell = None;
                    } else {
                        settled.to_tell += usize::from(asked);
                    }
                }
                Outcome::TryLater(_) => {
                    match settlement.retry.next_attempt(id.arrived(), member.attempts, now) {
                        Some(next) => {
                            (member.state, member.list, member.next) = (State::PendingXmit, None, next);
                            settled.deferred += 1;
                        }
                        None => {
                            member.give_up(null_sender);
                            settled.given_up += 1;
                        }
                    }
                }
                Outcome::GiveUp(_) => {
                    member.give_up(null_sender);
                    settled.given_up += 1;
                }
            }
        }
        settled
    }

    pub(super) fn back_off(&mut self, list: ListId, retry: &RetryPolicy, now: Moment) -> Settled {
        let mut settled = Settled::default();
        let retry_at = self.fail(list, retry, now.shown);
        for (id, n) in self.on(list) {
            let null_sender = self.messages[&id].null_sender;
            let member = self.member(id, n);
            member.attempts += 1;
            match retry.next_attempt(id.arrived(), member.attempts, now) {
                Some(next) => {
                    (member.state, member.list) = (State::PendingXmit, None);
                    member.next = if retry_at.is_some() { now.shown } else { next };
                    settled.deferred += 1;
                }
                None => {
                    member.give_up(null_sender);
                    settled.given_up += 1;
                }
            }
        }
        settled
    }

    pub(super) fn hold_listed(&mut self, list: ListId, id: MessageId) {
        for (_, n) in self.on(list).into_iter().filter(|(on, _)| *on == id) {
            self.hold(id, n);
        }
    }

    /// A recipient is put aside.
    pub(super) fn hold(&mut self, id: MessageId, n: u32) {
        let member = self.member(id, n);
        (member.state, member.list) = (State::Held, None);
    }

    /// What is due later than `now` is due earlier by so much, but not before `now`. Gives how many recipients that were
    /// which wait for their next hop, and how many messages which wait for a conversion.
    pub(super) fn make_up_for(&mut self, by: Duration, now: Stamp) -> usize {
        let sooner = |at: Stamp| if at > now { at.minus(by).max(now) } else { at };
        for hop in self.hops.values_mut() {
            hop.retry_at = hop.retry_at.map(sooner);
        }
        let mut moved = 0;
        for message in self.messages.values_mut() {
            let mut conversions = [false; 2];
            for member in &mut message.recipients {
                let converts = member.state == State::PendingConversion;
                if member.next <= now || !(converts || member.waits()) {
                    continue;
                }
                member.next = sooner(member.next);
                match converts {
                    true => conversions[usize::from(member.in_box)] = true,
                    false => moved += 1,
                }
            }
            moved += conversions.into_iter().filter(|moved| *moved).count();
        }
        moved
    }

    /// How many messages an operator's `queue retry` made due.
    pub(super) fn retry(&mut self, what: &Retry, now: Stamp) -> usize {
        let names = |name: &str| match what {
            Retry::Everything => true,
            Retry::Hops(names) => names.iter().any(|n| n == name),
            Retry::Messages(_) | Retry::Chosen(_) => false,
        };
        for (name, hop) in &mut self.hops {
            if names(name) {
                (hop.failures, hop.retry_at) = (0, None);
            }
        }
        let (mut messages, mut sooner) = (HashSet::new(), Vec::new());
        for (id, message) in &mut self.messages {
            let is_named = matches!(what, Retry::Messages(ids) if ids.contains(id));
            for member in message.recipients.iter_mut().filter(|member| member.waits()) {
                let hop = member.hop.clone().unwrap_or_default();
                if is_named {
                    member.next = Stamp::EPOCH;
                    sooner.push(hop);
                } else if names(&hop) {
                    member.next = member.next.min(now);
                } else {
                    continue;
                }
                messages.insert(*id);
            }
        }
        for hop in sooner {
            let hop = self.hops.get_mut(&hop).expect("it waits for one");
            hop.retry_at = hop.retry_at.map(|at| at.min(now));
        }
        messages.len()
    }

    /// An operator leads messages to `via`, or no longer; unless he does, they go as `usual` says.
    pub(super) fn route_by_hand(
        &mut self,
        via: Option<&NextHop>,
        ids: &[MessageId],
        now: Stamp,
        usual: impl Fn(&str) -> NextHop,
    ) -> Done {
        let mut done = Done::default();
        for id in ids {
            let Some(message) = self.messages.get_mut(id) else {
                continue;
            };
            self.recalls.remove(id);
            let mut recipients = 0;
            for member in &mut message.recipients {
                let in_hand = member.state == State::LockedForXmit;
                let is_decided = !UNDECIDED.contains(&member.state) || member.aside.is_some();
                if member.pin.as_ref() == via || is_decided {
                    continue;
                }
                let goes = via.cloned().unwrap_or_else(|| usual(&member.path)).to_string();
                let goes_elsewhere = member.hop.as_ref() != Some(&goes);
                if in_hand && goes_elsewhere {
                    self.recalls.insert(*id, ByHand::Route(via.cloned()));
                    done.in_hand += 1;
                    continue;
                }
                member.pin = via.cloned();
                if goes_elsewhere && member.state == State::PendingXmit {
                    (member.list, member.next) = (None, now);
                }
                if goes_elsewhere && member.hop.is_some() && member.state != State::PendingConversion {
                    self.hops.entry(goes.clone()).or_default();
                    member.hop = Some(goes);
                }
                recipients += 1;
            }
            done.recipients += recipients;
            done.messages += usize::from(recipients > 0);
        }
        done
    }

    /// What an operator does to messages by hand.
    pub(super) fn by_hand(&mut self, deed: &ByHand, ids: &[MessageId]) -> Done {
        let mut done = Done::default();
        for id in ids {
            let Some(message) = self.messages.get_mut(id) else {
                continue;
            };
            // Who brings back is after nothing but what was removed.
            let is_removed = |member: &Member| member.state == State::Removed;
            if *deed != ByHand::Undelete || message.recipients.iter().any(is_removed) {
                self.recalls.remove(id);
            }
            if let ByHand::PutAside(export) = deed
                && (!message.keeps_content()
                    || self.exports.get(export).is_none_or(|export| export.is_sealed))
            {
                continue;
            }
            let mut recipients = 0;
            for member in &mut message.recipients {
                let is_in_hand = member.state == State::LockedForXmit;
                match deed {
                    ByHand::Hold | ByHand::Bounce | ByHand::Delete | ByHand::PutAside(_) if is_in_hand => {
                        self.recalls.insert(*id, deed.clone());
                        done.in_hand += 1;
                        continue;
                    }
                    _ if member.aside.is_some() => continue,
                    ByHand::PutAside(export) => match member.state {
                        was @ (State::PendingConversion | State::PendingXmit) => {
                            (member.state, member.list) = (State::Held, None);
                            member.aside = Some((*export, was));
                        }
                        was @ (State::Held | State::Dead) => member.aside = Some((*export, was)),
                        _ => continue,
                    },
                    ByHand::Hold if matches!(member.state, State::PendingConversion | State::PendingXmit) => {
                        (member.state, member.list) = (State::Held, None);
                    }
                    ByHand::Bounce if UNDECIDED.contains(&member.state) => {
                        member.give_up(message.null_sender);
                    }
                    ByHand::Release if member.state == State::Held => {
                        member.in_box |= member.hop.take().is_some();
                        (member.state, member.next) = (State::PendingConversion, Stamp::EPOCH);
                    }
                    ByHand::Delete if !member.state.is_end() => {
                        (member.state, member.list) = (State::Removed, None);
                    }
                    ByHand::Undelete if member.state == State::Removed => member.state = State::Held,
                    _ => continue,
                }
                recipients += 1;
            }
            done.recipients += recipients;
            done.messages += usize::from(recipients > 0);
        }
        done
    }

    /// Whether an operator wants something done to what a handler has in hand.
    pub(super) fn any_recalled(&self) -> bool {
        !self.recalls.is_empty()
    }

    /// Nothing is put aside for an export any more, unless a handler has some of it in hand, and may not keep it. What an
    /// operator wanted done to what handlers have in hand no longer is done before.
    pub(super) fn seal(
        &mut self,
        export: ExportId,
        anyway: bool,
        now: Stamp,
        usual: impl Fn(&str) -> NextHop,
    ) -> Moved {
        for (id, deed) in self.recalls.clone() {
            let message = self.messages.get(&id);
            let mut recipients = message.iter().flat_map(|message| &message.recipients);
            if recipients.any(|member| member.state == State::LockedForXmit) {
                continue;
            }
            match deed {
                ByHand::Route(via) => self.route_by_hand(via.as_ref(), &[id], now, &usual),
                deed => self.by_hand(&deed, &[id]),
            };
            self.recalls.remove(&id);
        }
        let is_for = |deed: &ByHand| *deed == ByHand::PutAside(export);
        let in_hand = self.recalls.values().filter(|deed| is_for(deed)).count();
        let is_done = anyway || in_hand == 0;
        if is_done {
            self.recalls.retain(|_, deed| !is_for(deed));
            self.exports.get_mut(&export).expect("it has begun").is_sealed = true;
        }
        Moved {
            in_hand,
            is_done,
            ..Moved::default()
        }
    }

    /// What is in the file of an export ends.
    pub(super) fn end_export(&mut self, export: ExportId) -> Moved {
        self.exports.get_mut(&export).expect("it has begun").has_ended = true;
        self.each_aside(export, |member, _| member.state = State::Removed)
    }

    /// An export is given up: what waited before is converted, and routed, once more. Nothing if it has ended.
    pub(super) fn cancel_export(&mut self, export: ExportId) -> Moved {
        self.recalls.retain(|_, deed| *deed != ByHand::PutAside(export));
        if self.exports[&export].has_ended {
            return Moved::default();
        }
        self.exports.remove(&export);
        self.each_aside(export, |member, was| {
            if !matches!(was, State::Held | State::Dead) {
                member.in_box |= member.hop.take().is_some();
                (member.state, member.next) = (State::PendingConversion, Stamp::EPOCH);
            }
        })
    }

    /// Does this to what is put aside for an export, which is so no longer.
    fn each_aside(&mut self, export: ExportId, act: impl Fn(&mut Member, State)) -> Moved {
        let mut moved = Moved {
            is_done: true,
            ..Moved::default()
        };
        for message in self.messages.values_mut() {
            let before = moved.recipients;
            for member in &mut message.recipients {
                if let Some((_, was)) = member.aside.take_if(|(whose, _)| *whose == export) {
                    act(member, was);
                    moved.recipients += 1;
                }
            }
            moved.messages += usize::from(moved.recipients > before);
        }
        moved
    }

    /// How many were given up because their time was over.
    pub(super) fn expire(&mut self, cutoff: Stamp, lease: Duration) -> usize {
        let mut given_up = 0;
        for (id, message) in self.messages.range_mut(..=MessageId(cutoff.0)) {
            let is_overdue = id.arrived() <= cutoff.minus(lease);
            for member in &mut message.recipients {
                let in_hand = matches!(member.state, State::PendingConversion | State::LockedForXmit);
                let is_free = member.aside.is_none() && (!in_hand || is_overdue);
                if UNDECIDED.contains(&member.state) && is_free {
                    member.give_up(message.null_sender);
                    given_up += 1;
                }
            }
        }
        given_up
    }

    /// The messages that are late, and whose sender has not been told; from now on it has.
    pub(super) fn late(&mut self, cutoff: Stamp) -> Vec<MessageId> {
        let late = |(id, message): (&MessageId, &Message)| {
            let is_late = !message.null_sender
                && message
                    .recipients
                    .iter()
                    .any(|member| UNDECIDED.contains(&member.state));
            (id.arrived() > self.told_until && id.arrived() <= cutoff && is_late).then_some(*id)
        };
        let late: Vec<MessageId> = self.messages.iter().filter_map(late).collect();
        // Whoever comes later is none of these, however the clock is set.
        if let Some((last, _)) = self.messages.range(..=MessageId(cutoff.0)).next_back() {
            self.told_until = self.told_until.max(last.arrived());
        }
        late
    }

    /// What drt has to report, by message: those that were given up, or came to a good end that is to be told.
    pub(super) fn to_report(&self, of_failures: bool) -> Vec<(MessageId, Vec<u32>)> {
        let concerns = |member: &Member| {
            (of_failures && member.state == State::PendingReport) || member.to_tell.is_some()
        };
        let is_due = |member: &Member| match of_failures {
            true => member.state == State::PendingReport,
            false => member.to_tell.is_some(),
        };
        let due = self
            .messages
            .iter()
            .filter(|(_, message)| message.recipients.iter().any(is_due));
        let numbers = |message: &Message| {
            let numbered = (0..).zip(&message.recipients);
            numbered
                .filter(|(_, member)| concerns(member))
                .map(|(n, _)| n)
                .collect()
        };
        due.map(|(id, message)| (*id, numbers(message))).collect()
    }

    /// The sender of `id` has been told, or need not be; whether that was news.
    pub(super) fn report(&mut self, id: MessageId, news: &News) -> bool {
        let News::Ends { failed, reached } = news else {
            return true;
        };
        let mut is_news = false;
        for n in failed {
            if let Some(member) = self.member_if(id, *n, State::PendingReport) {
                member.state = State::Failed;
                is_news = true;
            }
        }
        for n in reached {
            is_news |= self.member(id, *n).to_tell.take().is_some();
        }
        is_news
    }
}
