//! Messages on their way through controller, dispatch, table, hands and work queue, all as they are in the program, with
//! threads that take turns in many orders. Only the network is left out: whatever is sent arrives.
//!
//! Long waits have no limit here: that everything ends says that no ring is lost, and nothing had to wait for a poll.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::OutboundHandler;
use super::hand::{Hand, Spoken};
use crate::clock::{Clock, Stamp};
use crate::config::Config;
use crate::dns::resolver::Resolver;
use crate::domain_list::next_hop::NextHop;
use crate::domain_list::pace::Unlimited;
use crate::latest::Latest;
use crate::outbound::controller::OutboundController;
use crate::outbound::dispatch::Dispatch;
use crate::outbound::hosts::HostSettings;
use crate::outbound::logins::Logins;
use crate::outbound::outcome::Outcome;
use crate::outbound::security::SecurityRules;
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::Reply;
use crate::sync::{Time, dice, in_many_orders, let_threads_be_short, step, thread};
use crate::tasks::Task;
use crate::tasks::bell::{Bells, Stop};
use crate::tasks::board::Board;
use crate::tasks::member::Member;
use crate::tasks::table::{Desk, HandlerTable};
use crate::tls::trust::Trust;
use crate::work_queue::id::MessageId;
use crate::work_queue::retry::RetryPolicy;
use crate::work_queue::{Arrival, Choice, Content, DomainList, Origin, Routed, Terms, Way, WorkQueue};

const ORDERS: usize = 1000;

const AN_HOUR: Duration = Duration::from_secs(3600);

/// The outbound side of a spool, without a transport.
struct Spool {
    _folder: tempfile::TempDir,
    queue: WorkQueue,
    dispatch: Dispatch,
    bells: Bells,
    /// What was sent, in its order.
    sent: Arc<Mutex<Vec<MessageId>>>,
}

/// A transport that runs.
struct Transport {
    table: HandlerTable<DomainList>,
    controller: Member<HandlerTable<DomainList>>,
}

impl Spool {
    fn new() -> Spool {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Stamp(1_000_000_000_000_000));
        Spool {
            queue: WorkQueue::open(folder.path(), clock).unwrap(),
            _folder: folder,
            dispatch: Dispatch::default(),
            bells: Bells::default(),
            sent: Arc::default(),
        }
    }

    /// A message comes, and omsgcnv routes it.
    fn put(&self, to: &str) -> MessageId {
        let id = self.queue.message_id();
        let to: Mailbox = to.parse().unwrap();
        let content = Content::from_bytes(b"Subject: x\r\n\r\nx\r\n".to_vec());
        let arrival = Arrival::new(id, Origin::Local, ReversePath(None), [to.clone()], content);
        self.queue.put(arrival).unwrap();
        let routed = Routed {
            id,
            structure: None,
            content: None,
            ways: vec![(0, Way::Hop(NextHop::Domain(to.domain().to_owned())))],
            null_sender: true,
        };
        let kicks = vec![self.bells.osesctl.clone()];
        self.queue.routed_and_kick(vec![routed], kicks).unwrap();
        id
    }

    fn handler(&self, terms: &Terms) -> OutboundHandler {
        let config = Config::default();
        OutboundHandler {
            queue: self.queue.clone(),
            resolver: Arc::new(Resolver::new(&[], Clock::System)),
            hosts: HostSettings::from(&config),
            families: Arc::default(),
            hostname: config.hostname.clone(),
            security: SecurityRules::new(&config, Latest::new(Arc::new(Logins::default()))),
            trust: Latest::new(Arc::new(Trust::default())),
            retry: RetryPolicy {
                schedule: vec![AN_HOUR],
                expire: 24 * AN_HOUR,
            },
            dispatch: self.dispatch.clone(),
            per_next_hop: 2,
            terms: terms.clone(),
            bells: self.bells.clone(),
        }
    }

    fn start(&self, handlers: usize) -> Transport {
        let terms = Terms {
            list_messages: 2,
            tokens: Arc::new(Unlimited),
            router: Arc::new(|path: &Mailbox, _| NextHop::Domain(path.domain().to_owned())),
        };
        let (handler, sent) = (self.handler(&terms), Arc::clone(&self.sent));
        let bell = self.bells.osesctl.clone();
        let serve = move |list: DomainList, desk: &Desk| carry(&handler, list, desk, &sent);
        let table = HandlerTable::new(Task::OutboundHandler, handlers, bell.clone(), serve);
        let board = Board::default();
        let controller = OutboundController {
            queue: self.queue.clone(),
            bell,
            board: board.clone(),
            say: |_| {},
            poll_interval: AN_HOUR,
            terms,
            per_next_hop: 2,
            dispatch: self.dispatch.clone(),
            table: table.clone(),
        };
        let handlers = Some(table.clone());
        let run = move |stop: &Stop| controller.run(stop);
        let controller = Member::start(Task::OutboundController, &board, handlers, None, run).unwrap();
        Transport { table, controller }
    }

    /// Everything has been sent, once.
    fn is_through(&self, expected: &[MessageId]) {
        let mut sent = self.sent.lock().unwrap().clone();
        sent.sort_unstable();
        assert_eq!(sent, expected, "what was sent");
        assert_eq!(self.queue.lists().unwrap(), [], "lists that nobody has");
        let waits = self.queue.listing(&Choice::default(), 10).unwrap();
        assert!(waits.rows.is_empty(), "{waits:?}");
        let (waiting, busy) = self.dispatch.with(|turns| (turns.waiting(), turns.busy_hops()));
        assert_eq!(
            (waiting, busy),
            (0, HashMap::new()),
            "what osesctl thinks is in hand"
        );
        assert!(self.dispatch.lingering().is_empty());
    }

    /// Until so many have been sent.
    fn wait_for(&self, many: usize) {
        while self.sent.lock().unwrap().len() < many {
            shuttle::thread::yield_now();
        }
    }
}

impl Transport {
    fn halt(self) {
        assert!(self.controller.halt(AN_HOUR), "handlers have outlived the stop");
        assert_eq!(self.table.busy(), 0);
    }
}

/// A handler, as [`OutboundHandler::serve`] is one, but that a host takes everything.
fn carry(handler: &OutboundHandler, list: DomainList, desk: &Desk, sent: &Mutex<Vec<MessageId>>) {
    let mut hand = Hand::new(handler, list, desk);
    hand.load();
    hand.begin_host(false);
    loop {
        if desk.stopping() {
            return;
        }
        let mut next = hand.next("mx", desk);
        if next.is_none() && hand.answered > 0 && !desk.stopping() {
            hand.linger();
            if desk.stopping() {
                return;
            }
            next = hand.next("mx", desk);
        }
        let Some(envelope) = next else { return };
        step();
        sent.lock().unwrap().push(envelope.message);
        let took = Reply {
            code: 250,
            enhanced: None,
            lines: vec!["ok".to_owned()],
        };
        let outcomes = envelope.recipients.iter();
        let outcomes = outcomes.map(|to| (to.key, Outcome::Delivered(took.clone())));
        let spoken = Spoken {
            host: "mx",
            tls: None,
            reports: false,
        };
        hand.settle(envelope.message, outcomes.collect(), spoken, false);
    }
}

#[test]
fn every_message_goes_out_once_without_a_poll() {
    in_many_orders(ORDERS, Time::PassesBriefly, || {
        let spool = Spool::new();
        let transport = spool.start(1 + dice(3));
        let ids: Vec<_> = ["a@lotus.com", "b@ibm.com", "c@lotus.com", "d@lotus.com"]
            .iter()
            .map(|to| spool.put(to))
            .collect();
        spool.wait_for(ids.len());
        transport.halt();
        spool.is_through(&ids);
        spool.queue.close();
    });
}

#[test]
fn a_transport_that_is_stopped_and_started_again_at_any_moment_loses_nothing() {
    in_many_orders(ORDERS, Time::PassesBriefly, || {
        let spool = Spool::new();
        let first = spool.start(1 + dice(2));
        let mut ids: Vec<_> = ["a@lotus.com", "b@ibm.com"]
            .iter()
            .map(|to| spool.put(to))
            .collect();
        // The successor begins while sessions are still ending.
        let halting = thread::spawn(move || first.halt());
        ids.push(spool.put("c@lotus.com"));
        let second = spool.start(2);
        spool.wait_for(ids.len());
        halting.join().unwrap();
        second.halt();
        spool.is_through(&ids);
        spool.queue.close();
    });
}

#[test]
fn a_handler_that_can_not_be_started_costs_no_message() {
    in_many_orders(ORDERS, Time::PassesBriefly, || {
        let_threads_be_short(false);
        let spool = Spool::new();
        let transport = spool.start(2);
        let_threads_be_short(true);
        let ids: Vec<_> = ["a@lotus.com", "b@ibm.com", "c@dec.com"]
            .iter()
            .map(|to| spool.put(to))
            .collect();
        spool.wait_for(ids.len());
        transport.halt();
        spool.is_through(&ids);
        spool.queue.close();
    });
}
