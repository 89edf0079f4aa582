//! osesctl: the outbound session controller. Waits for a kick, for the poll, or for a retry to fall due; has
//! lists made of what is pending, and hands their IDs to session handlers.
//!
//! Never resolves, connects or speaks SMTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::dispatch::{Dispatch, tell_of};
use super::handler::OutboundHandler;
use super::lease::Leases;
use crate::clock::Stamp;
use crate::console::screen;
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::turns::Turns;
use crate::sync::{bounded, now};
use crate::tasks::Task;
use crate::tasks::bell::{Bell, Stop};
use crate::tasks::board::Board;
use crate::tasks::table::{Desk, HandlerTable};
use crate::work_queue::{Claim, Claimed, DomainList, ListId, QueueError, Terms, WorkQueue};

/// Lists that are handed out in one pass at most: a pass is one short transaction.
const LISTS_A_PASS: usize = 32;

/// How long to wait after the queue refused to do its part.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// What a pass came to.
enum Progress {
    /// There may be more to do at once.
    Made,
    /// There is nothing to do, or no room.
    None,
    /// A handler could not be started.
    Trouble,
}

/// The outbound session controller, and what it works with.
pub struct OutboundController {
    /// Where its messages are.
    pub queue: WorkQueue,
    /// Its own doorbell.
    pub bell: Bell,
    /// Where it says what it is doing.
    pub board: Board,
    /// Where it speaks to the operator.
    pub say: fn(&str),
    /// `--poll-interval`.
    pub poll_interval: Duration,
    /// How lists are made.
    pub terms: Terms,
    /// `--per-next-hop`.
    pub per_next_hop: usize,
    /// The lists that wait.
    pub dispatch: Dispatch,
    /// Its handlers.
    pub table: HandlerTable<DomainList>,
}

impl OutboundController {
    /// The table of `max` handlers that `handler` describes; `freed` is the controller's own doorbell.
    #[must_use]
    pub fn table(max: usize, freed: Bell, handler: OutboundHandler) -> HandlerTable<DomainList> {
        let serve = move |list: DomainList, desk: &Desk| handler.serve(list, desk);
        HandlerTable::new(Task::OutboundHandler, max, freed, serve)
    }

    /// Works until it is told to stop; then takes the lists apart that no handler has.
    pub fn run(&self, stop: &Stop) {
        let mut watched: Option<Instant> = None;
        let (mut suspects, mut leases) = ([Vec::new(), Vec::new()], Leases::default());
        while !stop.is_given() {
            if watched.is_none_or(|at| now().saturating_duration_since(at) >= self.poll_interval) {
                watched = Some(now());
                self.take_lost_lists_apart(&mut suspects, &mut leases);
            }
            // What falls due or ripens after this moment is waited for: nothing falls between pass and pause.
            let looked = (self.queue.now(), now());
            let progress = self.pass(looked.1);
            let progress = match progress {
                Ok(Progress::None) => Ok(self.rest(stop, self.until_due(looked))),
                made => made,
            };
            match progress {
                Ok(Progress::Made | Progress::None) => {}
                // What went back is due at once, and its doorbell rings: only time helps.
                Ok(Progress::Trouble) => self.pause(stop),
                Err(error) => {
                    log::error!("domain lists could not be made: {error}");
                    self.pause(stop);
                }
            }
        }
        let waiting = self.dispatch.with(Turns::clear);
        for list in waiting {
            if let Err(error) = self.queue.end_list(list) {
                log::error!("list={list} waits for the next start: {error}");
                if matches!(error, QueueError::Locked) {
                    // So do the others: each of them would be waited with as long again.
                    break;
                }
            }
        }
    }

    /// Hands out what waits, and makes new lists; what let others go before it and may go after all goes last.
    fn pass(&self, now: Instant) -> Result<Progress, QueueError> {
        if !self.hand_out_waiting(now)? {
            return Ok(Progress::Trouble);
        }
        let mut progress = self.process_domain_lists(now)?;
        if matches!(progress, Progress::None) && !self.hand_out_waiting(now)? {
            progress = Progress::Trouble;
        }
        if !self.table.has_room() && self.dispatch.with(|turns| turns.has_any()) {
            self.dispatch.dismiss();
        }
        Ok(progress)
    }

    fn pause(&self, stop: &Stop) {
        let _ = stop.heard().recv_timeout(PAUSE_AFTER_TROUBLE);
    }

    /// The safety net below the handlers: a list that nobody has, and that yet is there, would keep its messages
    /// locked for ever, and so would a handler that hangs.
    fn take_lost_lists_apart(&self, suspects: &mut [Vec<ListId>; 2], leases: &mut Leases) {
        let lists = match self.queue.lists() {
            Ok(lists) => lists,
            Err(error) => return log::error!("the domain lists can not be looked through: {error}"),
        };
        let unknown: Vec<ListId> = lists
            .into_iter()
            .filter(|list| !self.dispatch.with(|turns| turns.knows(*list)))
            .collect();
        // A list that a handler is just making for itself is unknown for a moment. If the whole process stands still in
        // that moment, it is so at the next poll, too; after that the handler has had all the time of a poll.
        let is_lost = |list: &&ListId| suspects.iter().all(|before| before.contains(list));
        for list in unknown.iter().filter(is_lost) {
            if let Err(error) = self.queue.end_list(*list) {
                log::error!("list={list} {error}");
            }
        }
        suspects.rotate_left(1);
        suspects[1] = unknown;
        let in_hand = self.queue.lists_in_hand().unwrap_or_default();
        for list in leases.overdue(&in_hand, Instant::now()) {
            log::error!("list={list} has been in the hands of a handler for a day: it is taken apart");
            if let Err(error) = self.queue.end_list(list) {
                log::error!("list={list} {error}");
            }
        }
    }

    /// Rests until somebody rings, or for so long. A deputy makes a pass meanwhile that finds nothing before it but what
    /// rings, in the same transaction; what goes to a handler that lingers is given to it at once.
    fn rest(&self, stop: &Stop, (pause, wakes): (Duration, Stamp)) -> Progress {
        let (busy, waiting) = (self.table.busy(), self.dispatch.with(|turns| turns.waiting()));
        let doing = match (busy, waiting) {
            (0, 0) => "Idle".to_owned(),
            _ => format!("Lists in hand: {busy}, waiting for a handler: {waiting}"),
        };
        self.board.write(Task::OutboundController, doing);
        let (made, for_us) = bounded(1);
        // The handlers for which it has made lists are not taken before we have handed those out: no more after that.
        let has_made = Arc::new(AtomicBool::new(false));
        let (claims, may_not) = (self.claims(), Arc::clone(&has_made));
        let claim = move || {
            if may_not.load(Ordering::SeqCst) {
                return None;
            }
            claims.unless_others_wait(now())
        };
        let dispatch = self.dispatch.clone();
        let hand_out = move |mut claimed: Claimed| {
            let is_all = dispatch.give_to_lingering(&mut claimed, now());
            if !is_all {
                has_made.store(true, Ordering::SeqCst);
                // There is room: it is the first.
                let _ = made.try_send(claimed);
            }
            is_all
        };
        let deputy = self
            .queue
            .stand_for_osesctl(self.bell.clone(), wakes, claim, hand_out);
        self.bell.rest(stop, pause);
        drop(deputy);
        // As soon as the deputy is through, if it is at work still.
        match for_us.recv() {
            Ok(claimed) => self.hand_out(claimed, now()),
            Err(_) => Progress::None,
        }
    }

    /// Until the next retry falls due, mail has gathered for long enough or a next hop may have more of it by its
    /// rate, at most a poll interval; and when that is. What is due and could not be listed waits for a handler, who rings.
    fn until_due(&self, (due_looked, ripe_looked): (Stamp, Instant)) -> (Duration, Stamp) {
        let due_by = self.queue.now();
        let until_due = self
            .queue
            .next_due(due_looked)
            .ok()
            .flatten()
            .map(|due| due.since(due_by));
        let until_ripe = self.dispatch.with(|turns| turns.until_ripe(ripe_looked, now()));
        let until_ready = self.dispatch.until_ready(now());
        let pause = [until_due, until_ripe, until_ready]
            .into_iter()
            .flatten()
            .fold(self.poll_interval, Duration::min);
        (pause, due_by.plus(pause))
    }

    /// First come, first served, next hops by turns: lists that wait go before lists that are yet to be made, but
    /// not before mail that gathers, has waited longer and has no handler. Whether the handlers took them.
    fn hand_out_waiting(&self, now: Instant) -> Result<bool, QueueError> {
        while let Some(number) = self.table.available(1).first().copied() {
            let spare = self.claims().spare() > 0;
            let next = self
                .dispatch
                .with(|turns| turns.next(self.per_next_hop, spare, now));
            let Some(mut list) = next else {
                break;
            };
            match self.queue.lock_list(list.id, number) {
                Ok(true) => {}
                Ok(false) => {
                    self.dispatch.with(|turns| turns.end(&list, now));
                    continue;
                }
                Err(error) => {
                    self.dispatch.with(|turns| turns.put_back(list, now));
                    return Err(error);
                }
            }
            list.handler = Some(number);
            if !self.hand_over(list) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One pass of Domain List Processing.
    fn process_domain_lists(&self, now: Instant) -> Result<Progress, QueueError> {
        match self.claims().next(now) {
            Some(claim) => Ok(self.hand_out(self.queue.claim(claim)?, now)),
            None => Ok(Progress::None),
        }
    }

    fn claims(&self) -> Claims {
        Claims {
            dispatch: self.dispatch.clone(),
            table: self.table.clone(),
            terms: self.terms.clone(),
            per_next_hop: self.per_next_hop,
        }
    }

    /// Hands the lists of a pass to their handlers.
    fn hand_out(&self, mut claimed: Claimed, now: Instant) -> Progress {
        let mut progress = match claimed.lists.is_empty() && claimed.rerouted == 0 {
            true => Progress::None,
            false => Progress::Made,
        };
        self.dispatch.give_to_lingering(&mut claimed, now);
        self.dispatch.with(|turns| {
            let waiting = claimed.lists.iter().filter(|list| list.handler.is_none());
            waiting.for_each(|list| turns.wait(list.clone(), now));
            turns.gather(&claimed.gathering, now);
        });
        if !claimed.lists.is_empty() {
            reach(CrashPoint::ListCommitted);
        }
        for list in claimed.lists {
            tell_of(&list);
            if list.handler.is_none() {
                continue;
            }
            self.dispatch.with(|turns| turns.begin(&list));
            if !self.hand_over(list) {
                progress = Progress::Trouble;
            }
        }
        progress
    }

    /// Hands a list to the handler that it is locked for; whether that one took it.
    fn hand_over(&self, list: DomainList) -> bool {
        let kept = list.clone();
        let number = list.handler.filter(|number| self.table.reserve_at(*number));
        let refused = match number {
            None => "its handler is not available".to_owned(),
            Some(number) => match self.table.hand_over(number, list) {
                Ok(started) => {
                    if started {
                        (self.say)(&screen::started(Task::OutboundHandler(number)));
                    }
                    return true;
                }
                Err((_, error)) => error.to_string(),
            },
        };
        // Which is not worth more words when the handlers are being stopped.
        log::warn!("list={} could not be handed over: {refused}", kept.id);
        if let Err(error) = self.queue.end_list(kept.id) {
            log::error!("list={} waits for the next poll: {error}", kept.id);
        }
        self.dispatch.with(|turns| turns.end(&kept, now()));
        false
    }
}

/// Who knows which lists may be made.
#[derive(Clone)]
struct Claims {
    dispatch: Dispatch,
    table: HandlerTable<DomainList>,
    terms: Terms,
    per_next_hop: usize,
}

impl Claims {
    /// What the next pass may do; `None` where there is no room for anything.
    fn next(&self, now: Instant) -> Option<Claim> {
        self.dispatch.begin_pass(now);
        let (handlers, spare) = (self.table.available(LISTS_A_PASS), self.spare());
        let lingering = self.dispatch.lingering();
        let claim = self.dispatch.with(|turns| Claim {
            handlers,
            lingering,
            waiting_room: LISTS_A_PASS.saturating_sub(turns.waiting()),
            waiting: turns.waiting_hops(),
            busy: turns.busy_hops(),
            per_next_hop: self.per_next_hop,
            limits: turns.limits(self.per_next_hop),
            spare,
            silent: turns.silent(),
            ripe: turns.ripe(now),
            terms: self.terms.clone(),
        });
        let has_room = !claim.handlers.is_empty() || claim.waiting_room > 0 || !claim.lingering.is_empty();
        has_room.then_some(claim)
    }

    /// The same; but `None` where something waits or gathers, of which some may have to go first.
    fn unless_others_wait(&self, now: Instant) -> Option<Claim> {
        if self.dispatch.with(|turns| turns.has_any()) {
            return None;
        }
        self.next(now)
    }

    /// How many handlers next hops may take that have not answered yet: a quarter of what one next hop can not
    /// take anyway is kept for the others.
    fn spare(&self) -> usize {
        let kept = self.table.places().saturating_sub(self.per_next_hop) / 4;
        self.table.places().saturating_sub(self.table.busy() + kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain_list::next_hop::NextHop;
    use crate::domain_list::pace::Unlimited;
    use crate::smtp::path::{Mailbox, ReversePath};
    use crate::work_queue::{Arrival, Content, Origin, Routed, Way};

    #[test]
    fn a_list_that_nobody_has_is_taken_apart_when_its_handler_has_had_the_time_to_say_that_it_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Stamp(1_000_000_000_000_000));
        let queue = WorkQueue::open(folder.path(), clock).unwrap();
        let (id, to) = (queue.message_id(), "a@lotus.com".parse::<Mailbox>().unwrap());
        let hop_of = |path: &Mailbox| NextHop::Domain(path.domain().to_owned());
        let ways = vec![(0, Way::Hop(hop_of(&to)))];
        let content = Content::from_bytes(b"Subject: x\r\n\r\nx\r\n".to_vec());
        queue
            .put(Arrival::new(id, Origin::Local, ReversePath(None), [to], content))
            .unwrap();
        let routed = Routed {
            id,
            structure: None,
            content: None,
            ways,
            null_sender: true,
        };
        queue.routed(vec![routed]).unwrap();
        let bell = Bell::default();
        let controller = OutboundController {
            queue: queue.clone(),
            bell: bell.clone(),
            board: Board::default(),
            say: |_| {},
            poll_interval: Duration::from_secs(30),
            terms: Terms {
                list_messages: 1,
                tokens: Arc::new(Unlimited),
                router: Arc::new(hop_of),
            },
            per_next_hop: 1,
            dispatch: Dispatch::default(),
            table: HandlerTable::new(Task::OutboundHandler, 1, bell, |_: DomainList, _: &Desk| {}),
        };
        let claim = controller.claims().next(now()).unwrap();
        let list = queue.claim(claim).unwrap().lists.remove(0);
        let (mut suspects, mut leases) = ([Vec::new(), Vec::new()], Leases::default());
        let mut look = || {
            controller.take_lost_lists_apart(&mut suspects, &mut leases);
            queue.lists().unwrap()
        };
        assert_eq!(look(), [list.id]);
        assert_eq!(look(), [list.id], "all may have stood still since then");
        controller.dispatch.with(|turns| turns.begin(&list));
        assert_eq!(look(), [list.id], "it was only late");
        controller.dispatch.with(|turns| turns.end(&list, now()));
        assert_eq!(look(), [list.id]);
        assert_eq!(look(), [list.id]);
        assert_eq!(look(), []);
    }
}
