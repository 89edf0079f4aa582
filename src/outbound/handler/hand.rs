//! The list that a handler has in hand: what is still to be done, what is on its way, and what is not recorded yet.
//!
//! Never touches the network.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::OutboundHandler;
use crate::console::{screen, terminal};
use crate::crash_point::{CrashPoint, reach};
use crate::outbound::dispatch::More;
use crate::outbound::outcome::{Outcome, Reason};
use crate::outbound::session::Session;
use crate::outbound::transaction::{Envelope, Recipient, RecipientKey};
use crate::smtp::dsn::OriginalRecipient;
use crate::sync::now;
use crate::tasks::table::Desk;
use crate::tls::wire::TlsFacts;
use crate::work_queue::id::MessageId;
use crate::work_queue::{
    DomainList, ListId, ListedMessage, ListedRecipient, Pending, QueueError, Settled, Settlement, Silence,
    WorkQueue,
};

/// Outcomes that may be on their way to the disk while the next message is being sent.
const UNRECORDED: usize = 16;

/// How long a handler that is through keeps its connection for more. To begin a session costs several round trips, and to
/// keep one for so long costs the host next to nothing.
const LINGER: Duration = Duration::from_millis(200);

/// How often the queue is asked at least for what it refuses since its rows are damaged …
const LEAST_DAMAGED: u32 = 3;
/// … and for how long what became of a message: what a disk can not read just now SQLite takes for damage, too.
const DAMAGE_LASTS: Duration = Duration::from_secs(5);

/// The list that a handler has in hand. However the handler ends, what is left of the list goes back.
pub(super) struct Hand<'h> {
    handler: &'h OutboundHandler,
    pub(super) list: DomainList,
    desk: &'h Desk,
    /// Not taken by a session yet.
    pub(super) todo: VecDeque<ListedMessage>,
    /// Taken, and not settled yet.
    pub(super) in_flight: Vec<ListedMessage>,
    /// The last list that has been taken apart.
    finished: Option<ListId>,
    /// Hosts that have been tried so far, and the one that is spoken to.
    hosts: usize,
    /// There is another host to try after this one.
    elsewhere: bool,
    /// Put off by this host: the next one may take them.
    put_off: Vec<(ListedMessage, PutOff)>,
    /// Put off by hosts before this one, and in `todo` again or in flight.
    before: HashMap<MessageId, Vec<PutOff>>,
    /// On their way to the disk, since when.
    unrecorded: VecDeque<(Arc<Settlement>, Pending<Settled>, Instant)>,
    /// When the last pause ended that the queue was left after it had refused something.
    rested: Cell<Option<Instant>>,
    /// The message in flight whose content turned out to be damaged, and how.
    damaged: Option<(MessageId, String)>,
    /// Messages that peers have given an answer to so far.
    pub(super) answered: usize,
    /// Messages that have come to an end of whatever kind.
    pub(super) settled: usize,
    /// Connections that were lost with a message and followed by another one.
    pub(super) losses: usize,
    /// Recipients of this list that were sent their message.
    sent: usize,
}

impl<'h> Hand<'h> {
    pub(super) fn new(handler: &'h OutboundHandler, list: DomainList, desk: &'h Desk) -> Hand<'h> {
        Hand {
            handler,
            list,
            desk,
            todo: VecDeque::new(),
            in_flight: Vec::new(),
            finished: None,
            hosts: 0,
            elsewhere: false,
            put_off: Vec::new(),
            before: HashMap::new(),
            unrecorded: VecDeque::new(),
            rested: Cell::new(None),
            damaged: None,
            answered: 0,
            settled: 0,
            losses: 0,
            sent: 0,
        }
    }

    pub(super) fn load(&mut self) {
        let id = self.list.id;
        let at_hand = self.list.contents.take();
        self.todo = at_hand
            .or_else(|| self.ask(|queue| queue.list_messages(id)))
            .unwrap_or_default()
            .into();
        reach(CrashPoint::ListInHand);
    }

    /// From now on another host is spoken to, and perhaps not the last one: what the one before put off is to be
    /// done again.
    pub(super) fn begin_host(&mut self, elsewhere: bool) {
        self.hosts += 1;
        self.elsewhere = elsewhere;
        for (message, put_off) in std::mem::take(&mut self.put_off) {
            self.before.entry(message.id).or_default().push(put_off);
            // Recipients of one message travel in one transaction, and what becomes of it goes by its ID: there is never
            // more than one part of it to be done.
            match self.todo.iter_mut().find(|other| other.id == message.id) {
                Some(other) => other.recipients.extend(message.recipients),
                None => self.todo.push_back(message),
            }
        }
    }

    /// How long until all messages that are still to be taken have expired; `None` if there are none.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let last = self.todo.iter().map(|message| message.id.arrived()).max()?;
        let expiry = last.plus(self.handler.retry.expire);
        Some(expiry.since(self.handler.queue.moment().certain))
    }

    /// Whether there is, or may be, a next message. Another list is asked for only when nothing is on the wire.
    pub(super) fn has_next(&self, session: &Session) -> bool {
        !self.todo.is_empty() || (!session.is_waiting() && self.put_off.is_empty())
    }

    /// The next message of the list; or of the next list, if it is in order to carry on.
    pub(super) fn next(&mut self, host: &str, desk: &Desk) -> Option<Envelope> {
        let message = loop {
            if self.todo.is_empty() {
                self.carry_on();
            }
            let message = self.todo.pop_front()?;
            if !self.handler.queue.is_recalled(message.id) {
                break message;
            }
            self.heed_recall(message.id);
        };
        desk.write(format!(
            "Sending {} of list {} to {host}",
            message.id, self.list.id
        ));
        let envelope = Envelope {
            message: message.id,
            reverse_path: message.reverse_path.clone(),
            recipients: message.recipients.iter().map(recipient).collect(),
            size: message.size,
            eight_bit: message.eight_bit,
            binary: message.binary,
            unsuitable: None,
            utf8_header: message.utf8_header,
            envelope_id: message.envelope_id.clone(),
            ret: message.ret,
        };
        self.in_flight.push(message);
        Some(envelope)
    }

    /// The list is through; only then another one is taken up.
    fn carry_on(&mut self) {
        self.finish();
        let (dispatch, number, hop) = (&self.handler.dispatch, self.desk.number(), self.list.hop);
        let next = match dispatch.more(&self.list, self.handler.per_next_hop) {
            None => return,
            Some(More::List(next)) => {
                let id = next.id;
                self.list = next;
                let given = self.ask(|queue| queue.lock_list(id, number));
                given.filter(|given| *given).map(drop)
            }
            Some(More::Gathered) => {
                let terms = &self.handler.terms;
                let next = self.ask(|queue| queue.claim_more(hop, &self.list.next_hop, number, terms));
                next.flatten().map(|next| self.change_to(next))
            }
        };
        if next.is_some() {
            self.load();
        }
        // There may be room for one more list to wait.
        self.handler.bells.osesctl.kick();
    }

    /// Another list is in hand now.
    fn change_to(&mut self, next: DomainList) {
        self.handler.dispatch.with(|turns| {
            turns.begin(&next);
            turns.end(&self.list, now());
        });
        self.list = next;
    }

    /// With nothing left to do for this host or the next one: waits a moment for another list, which `next` gives
    /// the messages of. Not at a host that is second choice: the first one may be back.
    pub(super) fn linger(&mut self) {
        let is_through = self.finished == Some(self.list.id) && self.put_off.is_empty();
        if !is_through || self.hosts > 1 {
            return;
        }
        let until = now() + LINGER;
        let (dispatch, most) = (&self.handler.dispatch, self.handler.per_next_hop);
        let next = dispatch.linger(&self.list, self.desk.number(), most, until, self.desk.stop());
        if let Some(next) = next {
            self.change_to(next);
            self.load();
        }
    }

    /// What became of a message in flight. `interrupted`: the connection was cut by our own stop; what that did to a
    /// message is no attempt.
    pub(super) fn settle(
        &mut self,
        id: MessageId,
        outcomes: Vec<(RecipientKey, Outcome)>,
        spoken: Spoken<'_>,
        interrupted: bool,
    ) {
        let Some(place) = self.in_flight.iter().position(|message| message.id == id) else {
            return;
        };
        let mut message = self.in_flight.remove(place);
        let before = self.before.remove(&id).unwrap_or_default();
        self.settled += 1;
        let ends = |outcome: &Outcome| !interrupted || !matches!(outcome, Outcome::TryLater(_));
        let mut outcomes: Vec<_> = outcomes
            .into_iter()
            .filter(|(_, outcome)| ends(outcome))
            .map(|(key, outcome)| (key.0, outcome))
            .collect();
        if self.handler.queue.is_recalled(id) {
            self.record(&message, spoken, outcomes);
            return self.heed_recall(id);
        }
        if let Some((_, reason)) = self.damaged.take_if(|(damaged, _)| *damaged == id) {
            let list = self.list.id;
            let _ = self.insist(|queue| queue.hold_listed(list, id, &reason));
            return;
        }
        if outcomes.iter().any(|(_, outcome)| outcome.is_answer()) {
            let hop = self.list.hop;
            self.handler.dispatch.with(|turns| turns.answers(hop));
        }
        self.answered += usize::from(outcomes.iter().any(|(_, outcome)| outcome.is_answer()));
        // RFC 5321 4.5.3.1.10: whom the host had no room for in this transaction gets one of his own.
        let delivered = outcomes
            .iter()
            .any(|(_, outcome)| matches!(outcome, Outcome::Delivered(_)));
        let surplus: HashSet<u32> = outcomes
            .iter()
            .filter(|(_, outcome)| delivered && is_surplus(outcome))
            .map(|(n, _)| *n)
            .collect();
        if !surplus.is_empty() {
            outcomes.retain(|(n, _)| !surplus.contains(n));
            let mut again = message.clone();
            again.recipients.retain(|r| surplus.contains(&r.n));
            message.recipients.retain(|r| !surplus.contains(&r.n));
            let still: Vec<_> = before.iter().filter_map(|put_off| put_off.of(&surplus)).collect();
            if !still.is_empty() {
                self.before.insert(id, still);
            }
            self.todo.push_front(again);
        }
        if self.elsewhere {
            let asked_twice: HashSet<u32> = before.iter().flat_map(PutOff::recipients).collect();
            self.put_off(&mut message, &mut outcomes, spoken, &asked_twice);
        }
        self.record(&message, spoken, outcomes);
    }

    /// An operator has stopped this message: that is done to it which he wanted. What was heard of it is recorded before.
    fn heed_recall(&mut self, id: MessageId) {
        self.wait_for_all_records();
        let list = self.list.id;
        let carried_out = self.insist(|queue| queue.carry_out_recall(list, id)).flatten();
        if let Some((deed, done)) = carried_out {
            log::warn!(
                "id={id} stopped by the operator: {deed:?} of {} recipients",
                done.recipients
            );
            self.handler.bells.drt.kick();
        }
    }

    /// Keeps those that were put off for the next host, but for those that have been `asked_twice`: this host was their
    /// second one. RFC 5321 5.1: what one host can not take now another one may.
    fn put_off(
        &mut self,
        message: &mut ListedMessage,
        outcomes: &mut Vec<(u32, Outcome)>,
        spoken: Spoken<'_>,
        asked_twice: &HashSet<u32>,
    ) {
        let waits = |(n, outcome): &(u32, Outcome)| {
            matches!(outcome, Outcome::TryLater(_)) && !asked_twice.contains(n)
        };
        let (later, settled): (Vec<_>, Vec<_>) = std::mem::take(outcomes).into_iter().partition(waits);
        *outcomes = settled;
        if later.is_empty() {
            return;
        }
        let is_later = |n: u32| later.iter().any(|(m, _)| *m == n);
        let mut again = message.clone();
        again.recipients.retain(|r| is_later(r.n));
        message.recipients.retain(|r| !is_later(r.n));
        log::debug!(
            "id={} host={} puts it off, the next host is asked",
            again.id,
            spoken.host
        );
        let put_off = PutOff {
            outcomes: later,
            host: spoken.host.to_owned(),
        };
        self.put_off.push((again, put_off));
    }

    /// The content of a message in flight can not be used. The peer is not at fault: the rest of the list is worth
    /// another connection.
    pub(super) fn note_damage(&mut self, id: MessageId, error: &QueueError) {
        log::error!("id={id} its content can not be sent: {error}");
        self.answered += 1;
        if !error.will_pass() {
            self.damaged = Some((id, error.to_string()));
        }
    }

    pub(super) fn give_back(&mut self, id: MessageId) {
        if let Some(place) = self.in_flight.iter().position(|message| message.id == id) {
            self.todo.push_front(self.in_flight.remove(place));
        }
    }

    /// No host has taken what is left. If none has answered for any message, in no session of this next hop, all
    /// mail for it waits together; else each goes its own way.
    pub(super) fn back_off(&mut self, host: &str, reason: Reason) {
        let hop = self.list.hop;
        if self.answered > 0 || self.handler.dispatch.with(|turns| turns.is_answering(hop)) {
            return self.settle_rest(host, &Outcome::TryLater(reason));
        }
        self.begin_host(false);
        self.before.clear();
        // What ended on its own must not be taken for the rest.
        self.wait_for_all_records();
        for message in std::mem::take(&mut self.todo) {
            for recipient in &message.recipients {
                let (id, to) = (message.id, &recipient.path);
                log::info!("id={id} to=<{to}> deferred with its next hop {}", reason.text);
            }
        }
        let silence = Silence {
            list: self.list.id,
            host: host.to_owned(),
            reason,
            retry: self.handler.retry.clone(),
        };
        let settled = self.insist(|queue| queue.back_off(&silence));
        reach(CrashPoint::BackOffCommitted);
        for list in self.handler.dispatch.with(|turns| turns.call_off(hop)) {
            let _ = self.insist(|queue| queue.end_list(list));
        }
        if settled.is_some_and(|settled| settled.given_up > 0) {
            self.handler.bells.drt.kick();
        }
    }

    /// The same outcome for all that is left; what a host has put off in words of its own keeps those.
    pub(super) fn settle_rest(&mut self, host: &str, outcome: &Outcome) {
        self.begin_host(false);
        for message in std::mem::take(&mut self.todo) {
            let before = self.before.remove(&message.id).unwrap_or_default();
            let told: HashSet<u32> = before.iter().flat_map(PutOff::recipients).collect();
            for PutOff { host, outcomes } in before {
                self.record(&message, Spoken::by(&host), outcomes);
            }
            let rest = message.recipients.iter().filter(|r| !told.contains(&r.n));
            let outcomes = rest.map(|r| (r.n, outcome.clone())).collect();
            self.record(&message, Spoken::by(host), outcomes);
        }
    }

    fn record(&mut self, message: &ListedMessage, spoken: Spoken<'_>, outcomes: Vec<(u32, Outcome)>) {
        if outcomes.is_empty() {
            return;
        }
        let Spoken { host, tls, reports } = spoken;
        let tls = tls.map(|tls| format!("{} {}", tls.version, tls.cipher));
        for (n, outcome) in &outcomes {
            let to = message
                .recipients
                .iter()
                .find(|r| r.n == *n)
                .map(|r| r.path.to_string())
                .unwrap_or_default();
            match outcome {
                Outcome::Delivered(reply) => {
                    self.sent += 1;
                    let tls = tls.as_deref().unwrap_or("none");
                    log::info!(
                        "id={} to=<{to}> host={host} tls={tls:?} transmitted {reply}",
                        message.id
                    );
                }
                Outcome::TryLater(reason) => {
                    log::info!("id={} to=<{to}> deferred {}", message.id, reason.text);
                    self.handler.dispatch.heed(&self.list, reason);
                }
                Outcome::GiveUp(reason) => log::info!("id={} to=<{to}> given up {}", message.id, reason.text),
            }
        }
        let is_delivered = |(_, outcome): &(u32, Outcome)| matches!(outcome, Outcome::Delivered(_));
        if outcomes.iter().any(is_delivered) {
            let queue = &self.handler.queue;
            queue.metrics().transmission.add_time(queue.age(message.id));
        }
        let settlement = Settlement {
            list: self.list.id,
            id: message.id,
            null_sender: message.reverse_path.0.is_none(),
            host: host.to_owned(),
            tls,
            host_reports: reports,
            outcomes,
            retry: self.handler.retry.clone(),
        };
        let settlement = Arc::new(settlement);
        reach(CrashPoint::OutcomeHeard);
        let pending = self.handler.queue.settle(Arc::clone(&settlement));
        self.unrecorded.push_back((settlement, pending, now()));
        while self.unrecorded.len() > UNRECORDED {
            self.wait_for_record();
        }
    }

    /// What was sent has to be recorded, or it would be sent again; whether it was.
    fn wait_for_record(&mut self) -> bool {
        let Some((settlement, pending, since)) = self.unrecorded.pop_front() else {
            return true;
        };
        let (mut first, mut damage) = (Some(pending), Damage::met_since(since));
        let recorded = self.insist_since(since, |queue| {
            let settled = match first.take() {
                Some(pending) => pending.wait(),
                None => queue.settle(Arc::clone(&settlement)).wait(),
            };
            match settled {
                // It must not go out again and again.
                Err(error) if damage.lasts(&error, self.patience_with_damage()) => queue
                    .put_aside_unrecorded(settlement.id, error)
                    .map(|()| Settled::default()),
                settled => settled,
            }
        });
        reach(CrashPoint::OutcomeCommitted);
        if recorded.is_some_and(|settled| settled.given_up + settled.to_tell > 0) {
            self.handler.bells.drt.kick();
        }
        if recorded.is_some_and(|settled| settled.released) {
            self.handler.bells.osesctl.kick();
        }
        recorded.is_some()
    }

    /// Waits for all that is on its way to the disk; whether all of it was recorded.
    fn wait_for_all_records(&mut self) -> bool {
        let mut recorded = true;
        while !self.unrecorded.is_empty() {
            recorded &= self.wait_for_record();
        }
        recorded
    }

    /// Asks the queue until it does it, or a stop is ordered: a full disk passes.
    fn ask<T>(&self, mut verb: impl FnMut(&WorkQueue) -> Result<T, QueueError>) -> Option<T> {
        let given_up = || self.desk.stopping();
        self.until_done(now(), || Duration::ZERO, given_up, &mut verb)
    }

    /// Asks the queue until it does it, stop or not, unless it is closed: what was sent would be sent again.
    fn insist<T>(&self, verb: impl FnMut(&WorkQueue) -> Result<T, QueueError>) -> Option<T> {
        self.insist_since(now(), verb)
    }

    /// The same, where it was asked for the first time at this moment.
    fn insist_since<T>(
        &self,
        since: Instant,
        mut verb: impl FnMut(&WorkQueue) -> Result<T, QueueError>,
    ) -> Option<T> {
        let patience = || self.patience_with_damage();
        self.desk
            .record(|| self.until_done(since, patience, || false, &mut verb))
    }

    /// How long damage has to last until what became of a message is given up. A stop has no time for that.
    fn patience_with_damage(&self) -> Duration {
        if self.desk.stopping() {
            Duration::ZERO
        } else {
            DAMAGE_LASTS
        }
    }

    fn until_done<T>(
        &self,
        mut since: Instant,
        patience_with_damage: impl Fn() -> Duration,
        given_up: impl Fn() -> bool,
        verb: &mut dyn FnMut(&WorkQueue) -> Result<T, QueueError>,
    ) -> Option<T> {
        let mut damage = Damage::met_since(since);
        loop {
            match verb(&self.handler.queue) {
                Ok(done) => return Some(done),
                Err(QueueError::Stopped) => return None,
                Err(error) => {
                    log::error!("list={} {error}", self.list.id);
                    if damage.lasts(&error, patience_with_damage()) {
                        return None;
                    }
                }
            }
            if given_up() {
                return None;
            }
            // What was refused together has one pause together. With one for each a few outcomes take longer than a stop.
            if self.rested.get().is_none_or(|rested| rested <= since) {
                self.desk.stop().pause_after_trouble();
                self.rested.set(Some(now()));
            }
            since = now();
        }
    }

    /// Everything is recorded, and the list is taken apart. If something could not be recorded the list stays, for
    /// what was sent must not go back to pending while there is hope.
    fn finish(&mut self) {
        if self.finished.replace(self.list.id) == Some(self.list.id) {
            return;
        }
        let recorded = self.wait_for_all_records();
        let (list, number, sent) = (&self.list, self.desk.number(), std::mem::take(&mut self.sent));
        terminal::show_list(|| {
            screen::list_sent(number, list.id, &list.next_hop.to_string(), sent, list.recipients)
        });
        let id = self.list.id;
        if !recorded || self.insist(|queue| queue.end_list(id)).is_none() {
            log::warn!("list={id} stays locked: the queue does not record what became of it");
        }
        if self.handler.queue.any_recalled() {
            let _ = self.insist(WorkQueue::carry_out_free_recalls);
            self.handler.bells.drt.kick();
        }
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It would happen again: an operator has to look at these.
            for message in std::mem::take(&mut self.in_flight) {
                let reason = "its session handler met an error in the program while sending it";
                if let Err(error) = self.handler.queue.hold_listed(self.list.id, message.id, reason) {
                    log::error!("id={} could not be held: {error}", message.id);
                }
            }
        }
        self.finish();
        self.handler.dispatch.with(|turns| turns.end(&self.list, now()));
    }
}

/// Damage that the queue tells of again and again.
struct Damage {
    since: Instant,
    met: u32,
}

impl Damage {
    /// What the queue was asked for since this moment; it has told of none yet.
    fn met_since(since: Instant) -> Damage {
        Damage { since, met: 0 }
    }

    /// The queue has refused so: whether that is damage, and has lasted for long enough.
    fn lasts(&mut self, error: &QueueError, patience: Duration) -> bool {
        self.met += u32::from(error.is_damage());
        error.is_damage()
            && self.met >= LEAST_DAMAGED
            && now().saturating_duration_since(self.since) >= patience
    }
}

/// What a host said to recipients of a message that it put off.
struct PutOff {
    outcomes: Vec<(u32, Outcome)>,
    host: String,
}

impl PutOff {
    /// To whom it said something.
    fn recipients(&self) -> impl Iterator<Item = u32> {
        self.outcomes.iter().map(|(n, _)| *n)
    }

    /// What it said to these recipients; `None` where it was nothing.
    fn of(&self, recipients: &HashSet<u32>) -> Option<PutOff> {
        let outcomes = self.outcomes.iter().filter(|(n, _)| recipients.contains(n));
        let outcomes: Vec<_> = outcomes.cloned().collect();
        (!outcomes.is_empty()).then(|| PutOff {
            outcomes,
            host: self.host.clone(),
        })
    }
}

/// The host that the outcomes are from.
#[derive(Clone, Copy)]
pub(super) struct Spoken<'h> {
    /// `name[address]:port`; empty where none was reached.
    pub(super) host: &'h str,
    /// What TLS had agreed upon; `None` in the clear.
    pub(super) tls: Option<&'h TlsFacts>,
    /// It offers DSN: it was told what the sender wants to hear of, and sees to that.
    pub(super) reports: bool,
}

impl<'h> Spoken<'h> {
    /// Words of this host that are no good end, or none.
    fn by(host: &'h str) -> Spoken<'h> {
        Spoken {
            host,
            tls: None,
            reports: false,
        }
    }
}

/// A recipient as the session needs it. RFC 3461 5.2.1: where the sender asks for reports and gave no ORCPT,
/// the next host is told which recipient the client named.
fn recipient(listed: &ListedRecipient) -> Recipient {
    let named = listed.expanded_from.as_ref().unwrap_or(&listed.path);
    let added = || OriginalRecipient::of(&named.to_string());
    let original = listed.original.clone();
    Recipient {
        key: RecipientKey(listed.n),
        mailbox: listed.path.clone(),
        notify: listed.notify,
        original: original.or_else(|| listed.notify.and_then(|_| added())),
    }
}

/// Whether the host refused a recipient only because there were too many before him.
fn is_surplus(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::TryLater(reason) => {
            let code = reason.reply.as_ref().map(|reply| reply.code);
            matches!(code, Some(452 | 552)) && reason.status.1 == 5 && reason.status.2 == 3
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_host_is_told_the_recipient_that_the_client_named_where_reports_are_asked_for() {
        let mailbox = |text: &str| text.parse().ok();
        let plain = ListedRecipient {
            n: 3,
            path: "target@example.org".parse().unwrap(),
            expanded_from: None,
            notify: None,
            original: None,
        };
        let orcpt = |listed: &ListedRecipient| recipient(listed).original.map(|o| o.to_string());
        assert_eq!(orcpt(&plain), None);
        let asking = ListedRecipient {
            notify: Some("FAILURE".parse().unwrap()),
            ..plain.clone()
        };
        assert_eq!(orcpt(&asking).as_deref(), Some("rfc822;target@example.org"));
        let expanded = ListedRecipient {
            expanded_from: mailbox("team+all@example.net"),
            ..asking
        };
        assert_eq!(orcpt(&expanded).as_deref(), Some("rfc822;team+2Ball@example.net"));
        let known = ListedRecipient {
            original: "rfc822;first@example.com".parse().ok(),
            ..expanded
        };
        assert_eq!(orcpt(&known).as_deref(), Some("rfc822;first@example.com"));
    }
}
