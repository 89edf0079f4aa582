//! What those see who look on: the queue in numbers, and the last failures.

use super::*;

/// The states that somebody is in, as [`World::states`] has them, and how many recipients are outbound.
fn in_numbers(world: &World) -> (String, u64) {
    let gauges = world.queue.gauges(10).unwrap();
    let there = gauges.states.iter().filter(|(_, recipients)| *recipients > 0);
    let states: Vec<String> = there
        .map(|(state, recipients)| format!("{state}:{recipients}"))
        .collect();
    (states.join(" "), gauges.outbound)
}

#[test]
fn the_queue_in_numbers_is_what_its_rows_say_at_every_step() {
    let world = World::new();
    let outbound = |outbound| assert_eq!(in_numbers(&world), (world.states(), outbound));
    let first = world.put("", &["b@lotus.com", "b@ibm.com"]);
    let second = world.put("a@example.org", &["c@lotus.com", "d@lotus.com"]);
    outbound(0);
    world.convert();
    outbound(4);
    let gauges = world.queue.gauges(1).unwrap();
    let hops: Vec<_> = gauges
        .hops
        .iter()
        .map(|hop| (hop.next_hop.as_str(), hop.recipients))
        .collect();
    assert_eq!(
        (hops, gauges.all_hops, gauges.backing_off),
        (vec![("lotus.com", 3)], 2, 0)
    );
    // One list is in hand, and one waits for a handler.
    let lists = world.claim(&[0], 1);
    outbound(4);
    let gauges = world.queue.gauges(10).unwrap();
    let locked: Vec<_> = gauges
        .hops
        .iter()
        .map(|hop| (hop.recipients, hop.locked))
        .collect();
    assert_eq!((locked, gauges.all_hops), (vec![(3, 3), (1, 0)], 2));
    world.settle(&lists[0], first, vec![(0, never())]);
    outbound(3);
    world.settle(&lists[0], second, vec![(0, never()), (1, later())]);
    outbound(2);
    world.put("a@example.org", &["e@dec.com"]);
    outbound(2);
    let states = "WQ_PENDING_CONVERSION:1 WQ_PENDING_XMIT:2 WQ_PENDING_REPORT:1 WQ_DEAD:1";
    assert_eq!(world.states(), states);
    for list in lists {
        world.queue.end_list(list.id).unwrap();
    }
    outbound(2);
}

#[test]
fn the_last_failures_are_told_with_their_recipients_and_no_more_than_a_few_of_them() {
    let world = World::new();
    let told = || {
        let failures = world.queue.last_failures().unwrap().into_iter();
        failures
            .map(|(failure, path)| format!("{} {} {}", failure.what, path.unwrap_or_default(), failure.text))
            .collect::<Vec<_>>()
    };
    let id = world.put("a@example.org", &["b@lotus.com", "c@lotus.com", "d@lotus.com"]);
    world.convert();
    assert!(told().is_empty());
    let list = &world.claim(&[0], 0)[0];
    world.settle(list, id, vec![(0, delivered()), (1, later()), (2, never())]);
    let failures = told();
    assert_eq!(failures[0], "given up d@lotus.com no such user");
    assert!(
        failures[1].starts_with("deferred c@lotus.com no answer; next attempt "),
        "{failures:?}"
    );
    assert_eq!(failures.len(), 2);
    world.queue.end_list(list.id).unwrap();
    let many: Vec<String> = (0..30).map(|n| format!("{n:02}@ibm.com")).collect();
    let id = world.put(
        "a@example.org",
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    world.convert();
    let list = &world.claim(&[0], 0)[0];
    world.settle(list, id, (0..30).map(|n| (n, never())).collect());
    let failures = told();
    assert_eq!(failures.len(), 20);
    assert!(
        failures[0].contains(" 29@ibm.com ") && failures[19].contains(" 10@ibm.com "),
        "{failures:?}"
    );
    world.queue.end_list(list.id).unwrap();
}

#[test]
fn of_a_message_no_more_is_read_than_is_wanted() {
    let world = World::new();
    let id = world.put("a@example.org", &["b@lotus.com", "c@lotus.com", "d@ibm.com"]);
    world.convert();
    let begin = world.queue.begin_of_trace(id, 2).unwrap().unwrap();
    let paths: Vec<&str> = begin.recipients.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(
        (paths, begin.events.len()),
        (vec!["b@lotus.com", "c@lotus.com"], 2)
    );
    let whole = world.queue.trace(id).unwrap().unwrap();
    assert_eq!(
        (whole.recipients.len(), &whole.events[..2]),
        (3, &begin.events[..])
    );
}

#[test]
fn what_shares_a_commit_is_counted_and_so_is_what_has_one_of_its_own() {
    let world = World::new();
    let before = world.queue.metrics().group.counted();
    world.put("a@example.org", &["b@lotus.com"]);
    let after = world.queue.metrics().group.counted();
    assert_eq!((after.count - before.count, after.sum - before.sum), (1, 1));
}
