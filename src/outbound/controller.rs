//! osesctl: the outbound session controller. Waits for a kick, for the poll, or for a retry to fall due; has
//! lists made of what is pending, and hands their IDs to session handlers.
//!
//! Never resolves, connects or speaks SMTP.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::select;

use super::dispatch::Dispatch;
use super::handler::OutboundHandler;
use crate::domain_list::next_hop::{NextHop, Router};
use crate::smtp::path::Mailbox;
use crate::tasks::Task;
use crate::tasks::bell::{Bell, Stop};
use crate::tasks::board::Board;
use crate::tasks::table::{Desk, HandlerTable};
use crate::work_queue::{Claim, DomainList, HopId, ListId, QueueError, WorkQueue};

/// Lists that are handed out in one pass at most: a pass is one short transaction.
const LISTS_A_PASS: usize = 32;

/// How long to wait after the queue refused to do its part.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(1);

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
    /// The next hop of a domain.
    pub router: Arc<Router>,
    /// `--poll-interval`.
    pub poll_interval: Duration,
    /// `--list-messages`.
    pub list_messages: usize,
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
        while !stop.is_given() {
            let progress = self.hand_out_waiting().and_then(|()| self.process_domain_lists());
            match progress {
                Ok(true) => {}
                Ok(false) => self.rest(stop, self.until_due()),
                Err(error) => {
                    log::error!("domain lists could not be made: {error}");
                    self.rest(stop, PAUSE_AFTER_TROUBLE);
                }
            }
        }
        let waiting = self.dispatch.turns.lock().clear();
        for list in waiting {
            if let Err(error) = self.queue.end_list(list) {
                log::error!("list {list} waits for the next start: {error}");
            }
        }
    }

    fn rest(&self, stop: &Stop, pause: Duration) {
        let (busy, waiting) = (self.table.busy(), self.dispatch.turns.lock().waiting());
        let doing = match (busy, waiting) {
            (0, 0) => "Idle".to_owned(),
            _ => format!("{busy} lists being sent, {waiting} waiting for a handler"),
        };
        self.board.write(Task::OutboundController, doing);
        select! {
            recv(self.bell.heard()) -> _ => {}
            recv(stop.heard()) -> _ => {}
            default(pause) => {}
        }
    }

    /// Until the next retry falls due, at most a poll interval. What is due and could not be listed waits for a
    /// handler, who rings.
    fn until_due(&self) -> Duration {
        let due = self.queue.next_due().ok().flatten();
        let until = due.map_or(self.poll_interval, |due| due.since(self.queue.now()));
        if until.is_zero() {
            self.poll_interval
        } else {
            until.min(self.poll_interval)
        }
    }

    /// First come, first served, next hops by turns: lists that wait go before lists that are yet to be made.
    fn hand_out_waiting(&self) -> Result<(), QueueError> {
        while let Some(number) = self.table.available(1).first().copied() {
            let Some(mut list) = self.dispatch.turns.lock().next(self.per_next_hop) else {
                break;
            };
            if let Err(error) = self.queue.lock_list(list.id, number) {
                self.dispatch.turns.lock().put_back(list);
                return Err(error);
            }
            list.handler = Some(number);
            self.hand_over(list);
        }
        Ok(())
    }

    /// One pass of Domain List Processing; whether it made a list.
    fn process_domain_lists(&self) -> Result<bool, QueueError> {
        let claim = {
            let turns = self.dispatch.turns.lock();
            Claim {
                handlers: self.table.available(LISTS_A_PASS),
                waiting_room: LISTS_A_PASS.saturating_sub(turns.waiting()),
                waiting: turns.waiting_hops(),
                busy: turns.busy_hops(),
                per_next_hop: self.per_next_hop,
                list_messages: self.list_messages,
                router: self.routing(),
            }
        };
        if claim.handlers.is_empty() && claim.waiting_room == 0 {
            return Ok(false);
        }
        let lists = self.queue.claim(claim)?;
        let made = !lists.is_empty();
        for list in lists {
            if list.handler.is_some() {
                self.dispatch.turns.lock().begin(list.hop);
                self.hand_over(list);
            } else {
                log::debug!(
                    "list {} for {}: {} messages wait for a handler",
                    list.id,
                    list.next_hop,
                    list.messages
                );
                self.dispatch.turns.lock().wait(list);
            }
        }
        Ok(made)
    }

    fn routing(&self) -> Arc<dyn Fn(&Mailbox) -> NextHop + Send + Sync> {
        let router = Arc::clone(&self.router);
        Arc::new(move |path| router.next_hop(path.domain()))
    }

    /// The list is locked for the handler that is the next to be reserved.
    fn hand_over(&self, list: DomainList) {
        let (id, hop, next_hop) = (list.id, list.hop, list.next_hop.clone());
        log::debug!(
            "list {id} for {next_hop}: {} messages, {} recipients",
            list.messages,
            list.recipients
        );
        let refused = match self.table.reserve() {
            None => "the table is full".to_owned(),
            Some(number) => match self.table.hand_over(number, list) {
                Ok(true) => {
                    (self.say)(&crate::console::screen::started(Task::OutboundHandler(number)));
                    return;
                }
                Ok(false) => return,
                Err((_, error)) => error.to_string(),
            },
        };
        log::error!("list {id} for {next_hop} could not be handed over: {refused}");
        self.take_back(id, hop);
    }

    fn take_back(&self, list: ListId, hop: HopId) {
        self.dispatch.end(hop);
        if let Err(error) = self.queue.end_list(list) {
            log::error!("list {list} waits for the next start: {error}");
        }
    }
}
