//! The queue's writer, by how much shares a commit: durable, on the disk that cargo builds on.

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use smtpmta::smtp::path::Mailbox;
use smtpmta::smtp::reply::Reply;
use smtpmta::work_queue::outcome::Outcome;
use smtpmta::work_queue::retry::RetryPolicy;
use smtpmta::work_queue::{DomainList, ListedMessage, Settlement};

use crate::letters::SMALL;
use crate::world::{Crowd, World, claim, convert, put, route};

const GROUPS: [usize; 4] = [1, 8, 64, 512];

/// A crowd of which each puts a message of 4 KiB into the queue of `world`.
fn senders(world: &World, number: usize) -> Crowd {
    let (queue, content) = (world.queue.clone(), SMALL.content());
    let to: Mailbox = "jdoe@ibm.com".parse().unwrap();
    Crowd::of(number, move || _ = put(&queue, [to.clone()], &content))
}

/// Messages of 4 KiB from so many sessions at once, up to the last commit.
#[divan::bench(args = GROUPS, sample_count = 30, sample_size = 1)]
fn accept(bencher: Bencher<'_, '_>, group: usize) {
    let world = World::new();
    let crowd = senders(&world, group);
    crowd.act();
    bencher
        .counter(ItemsCount::new(group))
        .bench_local(|| crowd.act());
}

/// The whole life of so many messages: accepted, converted, routed, listed, each settled on its own, and gone. What
/// tasks and handlers do beside that is not in it.
#[divan::bench(args = GROUPS, sample_count = 20, sample_size = 1)]
fn life(bencher: Bencher<'_, '_>, group: usize) {
    let world = World::new();
    let crowd = senders(&world, group);
    bencher.counter(ItemsCount::new(group)).bench_local(|| {
        crowd.act();
        convert(&world.queue);
        route(&world.queue);
        let (list, messages) = listed(&world, group);
        settle(&world, &list, &messages);
    });
}

/// Only the end of it: so many outcomes on their way to the disk at once.
#[divan::bench(args = GROUPS, sample_count = 20, sample_size = 1)]
fn settle_messages(bencher: Bencher<'_, '_>, group: usize) {
    let world = World::new();
    let crowd = senders(&world, group);
    let inputs = || {
        crowd.act();
        convert(&world.queue);
        route(&world.queue);
        listed(&world, group)
    };
    bencher
        .with_inputs(inputs)
        .input_counter(move |_| ItemsCount::new(group))
        .bench_local_refs(|(list, messages)| settle(&world, list, messages));
}

/// All that waits, on one list, in the hands of a handler.
fn listed(world: &World, group: usize) -> (DomainList, Vec<ListedMessage>) {
    let list = world.queue.claim(claim(1, group)).unwrap().lists.remove(0);
    let messages = world.queue.list_messages(list.id).unwrap();
    assert_eq!(messages.len(), group);
    (list, messages)
}

/// The next hop took them all.
fn settle(world: &World, list: &DomainList, messages: &[ListedMessage]) {
    let reply = Reply {
        code: 250,
        enhanced: None,
        lines: vec!["2.0.0 OK".to_owned()],
    };
    let settle = |message: &ListedMessage| {
        world.queue.settle(Arc::new(Settlement {
            list: list.id,
            id: message.id,
            null_sender: false,
            host: "mx.ibm.com[192.0.2.9]:25".to_owned(),
            tls: None,
            host_reports: true,
            is_delivery: false,
            outcomes: vec![(0, Outcome::Delivered(reply.clone()))],
            retry: RetryPolicy {
                schedule: vec![Duration::from_secs(300)],
                expire: Duration::from_secs(432_000),
            },
        }))
    };
    let pending: Vec<_> = messages.iter().map(settle).collect();
    for pending in pending {
        assert_eq!(pending.wait().unwrap().transmitted, 1);
    }
    world.queue.end_list(list.id).unwrap();
}
