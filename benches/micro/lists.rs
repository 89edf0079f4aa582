//! Domain List Processing: a pass over the queue with many next hops waiting, and its pure parts.

use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use smtpmta::domain_list::gather::Gather;
use smtpmta::domain_list::next_hop::{NextHop, Router};
use smtpmta::domain_list::turns::Turns;
use smtpmta::smtp::path::Mailbox;
use smtpmta::work_queue::{DomainList, HopId, ListId, WorkQueue};

use crate::world::{World, claim, convert, put, route};

const HOPS: [usize; 3] = [1, 100, 10_000];

/// Recipients of one message.
const TOGETHER: usize = 1000;

/// A queue with one recipient for each of so many next hops, all due.
fn waiting_for(hops: usize) -> World {
    let world = World::new();
    let to = |number| -> Mailbox { format!("jdoe@host{number}.example.org").parse().unwrap() };
    for first in (0..hops).step_by(TOGETHER) {
        let recipients = (first..hops.min(first + TOGETHER)).map(to);
        put(&world.queue, recipients, b"Subject: hello\r\n\r\nHello World\r\n");
        convert(&world.queue);
        route(&world.queue);
    }
    world
}

/// Lists that are taken apart, outside of what is measured.
struct Taken<'q>(&'q WorkQueue, Vec<DomainList>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for list in &self.1 {
            self.0.end_list(list.id).unwrap();
        }
    }
}

/// One pass with one free handler: one list, and its commit.
#[divan::bench(args = HOPS, sample_count = 50, sample_size = 1)]
fn claim_one(bencher: Bencher<'_, '_>, hops: usize) {
    claim_lists(bencher, hops, 1);
}

/// One pass with twenty: as many lists as there are next hops for them.
#[divan::bench(args = HOPS, sample_count = 50, sample_size = 1)]
fn claim_twenty(bencher: Bencher<'_, '_>, hops: usize) {
    claim_lists(bencher, hops, 20);
}

fn claim_lists(bencher: Bencher<'_, '_>, hops: usize, handlers: usize) {
    let world = waiting_for(hops);
    let queue = &world.queue;
    let made = handlers.min(hops);
    bencher.counter(ItemsCount::new(made)).bench_local(|| {
        let lists = queue.claim(claim(handlers, 100)).unwrap().lists;
        assert_eq!(lists.len(), made);
        Taken(queue, lists)
    });
}

/// Messages that are gathered to a full list.
#[divan::bench]
fn gather(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(100usize)).bench_local(|| {
        let mut gather = Gather::new(100);
        while gather.take(gather.messages(), 0) {}
        assert_eq!(gather.messages(), 100);
        gather
    });
}

/// A list of each of so many next hops waits; one gets its turn, and comes back.
#[divan::bench(args = HOPS)]
fn turns(bencher: Bencher<'_, '_>, hops: usize) {
    let (mut turns, now) = (Turns::default(), Instant::now());
    for number in 0..hops {
        let number = i64::try_from(number).unwrap();
        let list = DomainList {
            id: ListId(number),
            hop: HopId(number),
            next_hop: NextHop::Domain(format!("host{number}.example.org")),
            messages: 1,
            recipients: 1,
            handler: None,
            contents: None,
        };
        turns.wait(list, now);
    }
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        let list = turns.next(20, true, now).unwrap();
        turns.begin(&list);
        turns.answers(list.hop);
        turns.end(&list, now);
        turns.wait(list, now);
    });
}

/// The next hop of a recipient, where so many routes are configured.
#[divan::bench(args = [0, 10, 1000])]
fn router(bencher: Bencher<'_, '_>, routes: usize) {
    let route = |number| {
        let host = NextHop::Host(format!("host{number}.example.net"), 25);
        (format!("domain{number}.example.org"), host)
    };
    let router = Router {
        routes: (0..routes).map(route).collect(),
        ..Router::default()
    };
    bencher
        .counter(ItemsCount::new(1usize))
        .bench_local(|| router.next_hop("ibm.com"));
}
