//! What the console shows of the queue: by next hop, and message by message.

use super::*;
use crate::work_queue::states::State;

/// `show queue` in a few words.
fn by_hop(world: &World, limit: usize) -> (String, usize) {
    let (rows, hops) = world.queue.queue_rows(limit).unwrap();
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {}/{} {}",
                row.next_hop, row.locked, row.recipients, row.oldest
            )
        })
        .collect();
    (rows.join(", "), hops)
}

#[test]
fn a_next_hop_knows_how_much_waits_for_it_and_what_is_the_oldest_of_it() {
    let world = World::new();
    let first = world.put("a@example.org", &["b@lotus.com", "b@ibm.com"]);
    let second = world.put("a@example.org", &["c@lotus.com", "d@lotus.com"]);
    world.convert();
    let (lotus, ibm) = (format!("lotus.com 0/3 {first}"), format!("ibm.com 0/1 {first}"));
    assert_eq!(by_hop(&world, 10), (format!("{lotus}, {ibm}"), 2));
    assert_eq!(by_hop(&world, 1), (lotus, 2));
    // One list is in hand, and one waits for a handler.
    let lists = world.claim(&[0], 1);
    let third = world.put("a@example.org", &["e@lotus.com"]);
    world.convert();
    let ibm = format!("ibm.com 0/1 {first}");
    assert_eq!(by_hop(&world, 10), (format!("lotus.com 3/4 {first}, {ibm}"), 2));
    world.settle(&lists[0], first, vec![(0, delivered())]);
    assert_eq!(by_hop(&world, 10).0, format!("{ibm}, lotus.com 2/3 {second}"));
    world.settle(&lists[0], second, vec![(0, delivered()), (1, later())]);
    assert_eq!(by_hop(&world, 10).0, format!("{ibm}, lotus.com 0/2 {second}"));
    world.queue.end_list(lists[0].id).unwrap();
    world.queue.end_list(lists[1].id).unwrap();
    // The message that was the oldest has gone, and a younger one is.
    world.clock.advance(6 * MINUTE);
    let list = &world.claim(&[0], 0)[0];
    for message in world.queue.list_messages(list.id).unwrap() {
        let outcome = if message.id == third { later() } else { delivered() };
        world.settle(
            list,
            message.id,
            message
                .recipients
                .iter()
                .map(|r| (r.n, outcome.clone()))
                .collect(),
        );
    }
    world.queue.end_list(list.id).unwrap();
    let left = [format!("ibm.com 0/1 {first}"), format!("lotus.com 0/1 {third}")];
    assert_eq!(by_hop(&world, 10).0, left.join(", "));
    assert_eq!(world.expire(Duration::ZERO), 2);
    assert_eq!(by_hop(&world, 10), (String::new(), 0));
}

#[test]
fn what_is_rerouted_or_held_is_counted_where_it_goes() {
    let world = World::new();
    let first = world.put("a@example.org", &["b@lotus.com"]);
    world.put("a@example.org", &["c@lotus.com"]);
    world.convert();
    world.sql_run(&format!(
        "UPDATE recipient SET path = 'nobody' WHERE message = {}",
        first.0
    ));
    let elsewhere = |_: &Mailbox| NextHop::Domain("elsewhere.test".to_owned());
    let mut claim = claim(&[0], 0);
    claim.terms.router = Arc::new(move |path, _| elsewhere(path));
    world.queue.claim(claim).unwrap();
    let (rows, hops) = by_hop(&world, 10);
    assert!(rows.starts_with("elsewhere.test 0/1 "), "{rows}");
    assert_eq!(hops, 1);
    assert_eq!(world.states(), "WQ_PENDING_XMIT:1 WQ_HELD:1");
}

#[test]
fn the_queue_is_listed_by_arrival_without_what_has_left_it() {
    let world = World::new();
    let gone = world.put("a@example.org", &["b@lotus.com"]);
    world.convert();
    let list = &world.claim(&[0], 0)[0];
    world.settle(list, gone, vec![(0, delivered())]);
    world.queue.end_list(list.id).unwrap();
    let small = world.put("", &["b@ibm.com", "c@ibm.com"]);
    let id = world.queue.message_id();
    let mut content = world.queue.content_writer(id);
    content.write(&vec![b'x'; THRESHOLD + 1]).unwrap();
    let large = Arrival::new(
        id,
        Origin::Session,
        ReversePath(Some(mailbox("a@example.org"))),
        [mailbox("d@dec.com")],
        content.finish().unwrap(),
    );
    world.queue.put(large).unwrap();
    world.convert();
    let list = &world.claim(&[7], 0)[0];
    world.settle(list, small, vec![(0, never())]);
    let new = world.put("a@example.org", &["e@dec.com", "f@dec.com"]);

    let listing = world.queue.listing(&Choice::default(), 10).unwrap();
    let rows: Vec<_> = listing
        .rows
        .iter()
        .map(|row| (row.id, row.n, row.state.known().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            (small, 0, State::Dead),
            (small, 1, State::LockedForXmit),
            (id, 0, State::PendingXmit),
            (new, 0, State::PendingConversion),
            (new, 1, State::PendingConversion),
        ]
    );
    let [dead, locked, waits, converts, _] = &listing.rows[..] else {
        panic!()
    };
    assert_eq!((dead.sender.as_str(), dead.recipient.as_str()), ("", "b@ibm.com"));
    assert_eq!(dead.last_error.as_deref(), Some("no such user"));
    assert_eq!((locked.handler, locked.next_attempt), (Some(7), None));
    assert_eq!(waits.next_hop.as_deref(), Some("dec.com"));
    assert!(waits.next_attempt.is_some_and(|due| due <= world.queue.now()));
    assert_eq!(waits.size, THRESHOLD as u64 + 1);
    assert_eq!(
        (converts.next_hop.as_deref(), converts.next_attempt),
        (None, Some(Stamp(0)))
    );
    // A message that waits for conversion counts once.
    assert_eq!((listing.more, listing.is_exact), (0, false));
    let begin = world.queue.listing(&Choice::default(), 2).unwrap();
    assert_eq!(begin.rows, listing.rows[..2]);
    assert_eq!((begin.more, begin.is_exact), (2, false));
    world.convert();
    let begin = world.queue.listing(&Choice::default(), 1).unwrap();
    assert_eq!((begin.rows.len(), begin.more, begin.is_exact), (1, 4, true));
}

#[test]
fn one_next_hop_is_known_by_its_name_with_its_lists() {
    let world = World::new();
    assert_eq!(world.queue.hop_state("lotus.com").unwrap(), None);
    world.put("a@example.org", &["b@lotus.com", "b@ibm.com"]);
    world.convert();
    let state = |name: &str| world.queue.hop_state(name).unwrap().unwrap();
    assert_eq!(
        (state("lotus.com").waiting, state("lotus.com").lists.len()),
        (1, 0)
    );
    let list = world.claim(&[0], 0).remove(0);
    let name = list.next_hop.to_string();
    world.put("a@example.org", &[&format!("c@{name}")]);
    world.convert();
    let found = state(&name);
    assert_eq!((found.waiting, found.row.next_hop.as_str()), (1, name.as_str()));
    let lists: Vec<_> = found.lists.iter().map(|list| (list.list, list.handler)).collect();
    assert_eq!(lists, [(list.id.0, Some(0))]);
    world.queue.end_list(list.id).unwrap();
    assert_eq!((state(&name).waiting, state(&name).lists.len()), (2, 0));
}
