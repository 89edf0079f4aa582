//! What an operator does to recipients that he names, or says what they look like.

use super::*;
use crate::work_queue::Whereabouts;
use crate::work_queue::states::State;

/// The states of the recipients of a message, in the order of RCPT.
fn states(world: &World, id: MessageId) -> Vec<State> {
    let trace = world.queue.trace(id).unwrap().unwrap();
    let states = trace.recipients.iter().map(|r| r.state.known().unwrap());
    states.collect()
}

fn to(pattern: &str) -> Choice {
    Choice {
        recipient: Pattern::of(pattern),
        ..Choice::default()
    }
}

/// Two messages for three recipients; both wait for their next hops.
fn two(world: &World) -> (MessageId, MessageId) {
    let first = world.put("ann@lotus.com", &["b@ibm.com", "c@dec.com"]);
    let second = world.put("", &["d@ibm.com"]);
    world.convert();
    (first, second)
}

#[test]
fn it_is_done_to_the_recipients_that_look_so_and_to_no_others() {
    let world = World::new();
    let (first, second) = two(&world);
    let hold = |choice: &Choice| world.queue.do_by_hand(ByHand::Hold, choice, "ann").unwrap();
    let would = world
        .queue
        .preview(&Order::ByHand(ByHand::Hold), &to("@ibm.com"), 1)
        .unwrap();
    assert_eq!(
        (would.done.recipients, would.done.messages, would.sample.len()),
        (2, 2, 1)
    );
    assert_eq!(
        states(&world, first),
        [State::PendingXmit; 2],
        "that was a question"
    );
    assert_eq!(hold(&to("@ibm.com")), would.done);
    assert_eq!(states(&world, first), [State::Held, State::PendingXmit]);
    assert_eq!(states(&world, second), [State::Held]);
    // They have gone over to another state, and a choice by that is one of those who are in it now.
    let held = Choice {
        states: vec![State::Held],
        sender: Pattern::of("<>"),
        ..Choice::default()
    };
    let released = world.queue.do_by_hand(ByHand::Release, &held, "ann").unwrap();
    assert_eq!((released.recipients, released.messages), (1, 1));
    assert_eq!(states(&world, first), [State::Held, State::PendingXmit]);
    assert_eq!(hold(&to("nobody@*")), Done::default());
}

#[test]
fn what_was_removed_is_found_by_what_it_looks_like_and_by_who_brings_it_back_only() {
    let world = World::new();
    let (first, second) = two(&world);
    let by_hand = |deed, choice: &Choice| world.queue.do_by_hand(deed, choice, "ann").unwrap().recipients;
    assert_eq!(by_hand(ByHand::Delete, &to("@ibm.com")), 2);
    assert_eq!(by_hand(ByHand::Delete, &to("@ibm.com")), 0);
    let listed = |choice: &Choice| world.queue.listing(choice, 10).unwrap().rows.len();
    assert_eq!((listed(&to("@ibm.com")), listed(&to("*"))), (0, 1));
    let removed = Choice {
        states: vec![State::Removed],
        ..Choice::default()
    };
    assert_eq!(listed(&removed), 2);
    let would = world
        .queue
        .preview(&Order::ByHand(ByHand::Undelete), &to("d@*"), 9)
        .unwrap();
    assert_eq!(would.sample[0].id, second);
    assert_eq!(by_hand(ByHand::Undelete, &to("d@*")), 1);
    assert_eq!(states(&world, second), [State::Held]);
    assert_eq!(states(&world, first), [State::Removed, State::PendingXmit]);
}

#[test]
fn many_messages_are_gone_through_step_by_step_and_none_twice() {
    let world = World::new();
    let many: Vec<MessageId> = (0..250)
        .map(|_| world.put("ann@lotus.com", &["b@ibm.com"]))
        .collect();
    let other = world.put("ann@lotus.com", &["c@ibm.com"]);
    world.convert();
    let listing = world.queue.listing(&to("b@*"), 120).unwrap();
    assert_eq!(
        (listing.rows.len(), listing.more, listing.is_exact),
        (120, 1, false)
    );
    let all = world.queue.listing(&to("b@*"), 250).unwrap();
    assert_eq!((all.rows.len(), all.more, all.is_exact), (250, 0, true));
    let held = world.queue.do_by_hand(ByHand::Hold, &to("b@*"), "ann").unwrap();
    assert_eq!((held.messages, held.recipients), (250, 250));
    assert!(many.iter().all(|id| states(&world, *id) == [State::Held]));
    assert_eq!(states(&world, other), [State::PendingXmit]);
    let told = "SELECT count(*) FROM event WHERE what = 'held' AND text = 'by ann'";
    assert_eq!(world.sql(told), "250");
}

#[test]
fn only_the_recipients_that_look_so_are_due_now() {
    let world = World::new();
    let (first, _) = two(&world);
    let chosen = Retry::Chosen(Choice {
        ids: vec![first],
        ..to("c@dec.com")
    });
    let would = world.queue.preview(&Order::Retry, &to("c@dec.com"), 9).unwrap();
    assert_eq!(would.done.recipients, 1);
    assert_eq!(world.queue.retry(&chosen, "ann").unwrap(), 1);
    let due = "SELECT group_concat(path) FROM recipient WHERE next_attempt = 0";
    assert_eq!(world.sql(due), "c@dec.com");
}

#[test]
fn what_a_handler_has_in_hand_is_marked_and_it_is_done_when_the_handler_lets_go_of_it() {
    let world = World::new();
    let first = world.put("ann@lotus.com", &["b@ibm.com", "c@ibm.com"]);
    let other = world.put("ann@lotus.com", &["d@ibm.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    assert!(!world.queue.any_recalled());
    let done = world
        .queue
        .do_by_hand(ByHand::Hold, &to("b@ibm.com"), "ann")
        .unwrap();
    assert_eq!((done.in_hand, done.recipients), (1, 0));
    assert!(world.queue.is_recalled(first) && !world.queue.is_recalled(other));
    assert_eq!(world.queue.carry_out_recall(list.id, other).unwrap(), None);
    let (deed, done) = world.queue.carry_out_recall(list.id, first).unwrap().unwrap();
    assert_eq!((deed, done.recipients, done.in_hand), (ByHand::Hold, 1, 0));
    assert_eq!(states(&world, first), [State::Held, State::PendingXmit]);
    assert_eq!(states(&world, other), [State::LockedForXmit]);
    assert!(!world.queue.any_recalled());
    world.settle(&list, other, vec![(0, delivered())]);
    world.queue.end_list(list.id).unwrap();
}

#[test]
fn what_is_marked_on_a_list_that_ends_without_it_is_done_then_and_never_later() {
    let world = World::new();
    let first = world.put("ann@lotus.com", &["b@ibm.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    let by_id = Choice::of_messages(vec![first]);
    world.queue.do_by_hand(ByHand::Hold, &by_id, "ann").unwrap();
    world.queue.carry_out_free_recalls().unwrap();
    assert_eq!(states(&world, first), [State::LockedForXmit]);
    assert!(world.queue.is_recalled(first), "it is in hand yet");
    world.queue.end_list(list.id).unwrap();
    world.queue.carry_out_free_recalls().unwrap();
    assert_eq!(states(&world, first), [State::Held]);
    assert!(!world.queue.any_recalled());
    // A mark that is not needed any more is none.
    world.queue.do_by_hand(ByHand::Release, &by_id, "ann").unwrap();
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    world.queue.do_by_hand(ByHand::Delete, &by_id, "ann").unwrap();
    world.queue.end_list(list.id).unwrap();
    world.queue.do_by_hand(ByHand::Hold, &by_id, "ann").unwrap();
    assert!(!world.queue.any_recalled());
    assert_eq!(states(&world, first), [State::Held]);
}

fn via(host: &str) -> ByHand {
    ByHand::Route(Some(NextHop::from_name(host)))
}

/// Where the recipients of a message go, and of those that wait where they wait.
fn ways(world: &World, id: MessageId) -> Vec<String> {
    let trace = world.queue.trace(id).unwrap().unwrap();
    let way = |r: &Whereabouts| {
        let hop = r.next_hop.clone().unwrap_or_default();
        r.via
            .as_ref()
            .map_or(hop.clone(), |via| format!("{hop} via {via}"))
    };
    trace.recipients.iter().map(way).collect()
}

#[test]
fn who_is_routed_by_hand_waits_for_that_host_alone_until_he_is_no_longer() {
    let world = World::new();
    let (first, second) = two(&world);
    let route = |deed: &ByHand, choice: &Choice| {
        let would = world
            .queue
            .preview(&Order::ByHand(deed.clone()), choice, 9)
            .unwrap();
        let done = world.queue.do_by_hand(deed.clone(), choice, "ann").unwrap();
        assert_eq!(would.done, done, "as it was said");
        (done.recipients, done.messages)
    };
    let there = via("relay2.example:25");
    assert_eq!(route(&there, &to("@ibm.com")), (2, 2));
    assert_eq!(route(&there, &to("@ibm.com")), (0, 0), "they go there already");
    let led = "relay2.example:25 via relay2.example:25";
    assert_eq!(ways(&world, first), [led, "dec.com"]);
    assert_eq!(ways(&world, second), [led]);
    let told = "SELECT group_concat(what || ': ' || text, '; ') FROM event WHERE what LIKE '%pinned'";
    assert_eq!(
        world.sql(told),
        "pinned: to relay2.example:25, by ann; pinned: to relay2.example:25, by ann"
    );
    // What backs off there makes it wait, and what backed off here does not.
    let lists = world.claim(&[0, 1], 0);
    let mut hops: Vec<String> = lists.iter().map(|list| list.next_hop.to_string()).collect();
    hops.sort();
    assert_eq!(hops, ["dec.com", "relay2.example:25"]);
    for list in &lists {
        world.queue.end_list(list.id).unwrap();
    }
    assert_eq!(route(&ByHand::Route(None), &to("*")), (2, 2));
    assert_eq!(route(&ByHand::Route(None), &to("*")), (0, 0));
    assert_eq!(ways(&world, first), ["ibm.com", "dec.com"]);
    assert_eq!(world.claim(&[0, 1, 2], 0).len(), 2);
}

#[test]
fn what_is_routed_by_hand_goes_there_after_a_restart_too_whatever_the_configuration_says() {
    let mut world = World::new();
    let (first, second) = two(&world);
    world
        .queue
        .do_by_hand(via("relay2.example:25"), &to("*"), "ann")
        .unwrap();
    world.reopen();
    let mut claim = claim(&[0], 0);
    claim.terms.router = Arc::new(|_, pin| {
        let relay = || NextHop::Host("relay.example".to_owned(), 25);
        pin.cloned().unwrap_or_else(relay)
    });
    let claimed = world.queue.claim(claim).unwrap();
    assert_eq!((claimed.lists.len(), claimed.rerouted), (1, 0));
    assert_eq!(claimed.lists[0].recipients, 3);
    // Put aside and let go it is converted again, and goes there.
    let list = &claimed.lists[0];
    world.queue.end_list(list.id).unwrap();
    world.queue.do_by_hand(ByHand::Hold, &to("*"), "ann").unwrap();
    world
        .queue
        .do_by_hand(via("relay3.example:25"), &to("d@*"), "ann")
        .unwrap();
    assert_eq!(ways(&world, second), ["relay3.example:25 via relay3.example:25"]);
    world.queue.do_by_hand(ByHand::Release, &to("*"), "ann").unwrap();
    world.convert();
    let led = "relay2.example:25 via relay2.example:25";
    assert_eq!(ways(&world, first), [led, led]);
    assert_eq!(ways(&world, second), ["relay3.example:25 via relay3.example:25"]);
}

#[test]
fn nobody_is_routed_whose_mail_is_for_here_or_has_to_have_more_tls_than_there() {
    let world = World::new();
    let (first, _) = two(&world);
    world.queue.be_guided(|path, pin| match path.domain() {
        "dec.com" => None,
        domain if pin.is_some() && path.to_string().starts_with("d@") => {
            Some(NextHop::Domain(domain.to_owned()))
        }
        domain => Some(pin.cloned().unwrap_or_else(|| NextHop::Domain(domain.to_owned()))),
    });
    let there = via("relay2.example:25");
    let would = world
        .queue
        .preview(&Order::ByHand(there.clone()), &to("*"), 9)
        .unwrap();
    let done = world.queue.do_by_hand(there, &to("*"), "ann").unwrap();
    assert_eq!((done.recipients, done.here, done.barred), (1, 1, 1));
    assert_eq!(would.done, done);
    assert_eq!(
        ways(&world, first),
        ["relay2.example:25 via relay2.example:25", "dec.com"]
    );
}

#[test]
fn what_a_handler_has_in_hand_is_stopped_and_goes_to_the_other_host_then() {
    let world = World::new();
    let (first, _) = two(&world);
    let lists = world.claim(&[0, 1], 0);
    let list = lists
        .iter()
        .find(|list| list.next_hop.to_string() == "ibm.com")
        .unwrap();
    let there = via("relay2.example:25");
    let would = world
        .queue
        .preview(&Order::ByHand(there.clone()), &to("b@*"), 9)
        .unwrap();
    let done = world.queue.do_by_hand(there.clone(), &to("b@*"), "ann").unwrap();
    assert_eq!((done.in_hand, done.recipients), (1, 0));
    assert_eq!(would.done, done);
    assert_eq!(ways(&world, first)[0], "ibm.com");
    let (deed, done) = world.queue.carry_out_recall(list.id, first).unwrap().unwrap();
    assert_eq!((deed, done.recipients), (there, 1));
    assert_eq!(ways(&world, first)[0], "relay2.example:25 via relay2.example:25");
    assert_eq!(states(&world, first)[0], State::PendingXmit);
    // Where it is on its way already it is only remembered.
    let list = world.claim(&[2], 0).remove(0);
    world
        .queue
        .do_by_hand(ByHand::Route(None), &to("b@*"), "ann")
        .unwrap();
    assert!(world.queue.is_recalled(first));
    world.queue.carry_out_recall(list.id, first).unwrap().unwrap();
    assert_eq!(ways(&world, first)[0], "ibm.com");
    let list = world.claim(&[3], 0).remove(0);
    let done = world
        .queue
        .do_by_hand(via("ibm.com:25"), &to("c@*"), "ann")
        .unwrap();
    assert_eq!(done.in_hand, 1, "another host, whatever it is called");
    assert_eq!(list.next_hop.to_string(), "ibm.com");
}

#[test]
fn what_stands_for_an_alias_goes_where_that_was_routed() {
    let world = World::new();
    let id = world.put("ann@lotus.com", &["team@ibm.com"]);
    world
        .queue
        .do_by_hand(via("relay2.example:25"), &to("*"), "ann")
        .unwrap();
    let waiting = world.queue.waiting_inbound(world.queue.now(), 9).unwrap();
    assert_eq!(
        waiting[0].recipients[0].pin,
        Some(NextHop::from_name("relay2.example:25"))
    );
    let expanded = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(
            0,
            Delivery::Expand(vec![mailbox("x@dec.com"), mailbox("y@dec.com")]),
        )],
    };
    world.queue.converted(vec![expanded]).unwrap();
    world.convert();
    let led = "relay2.example:25 via relay2.example:25";
    assert_eq!(ways(&world, id)[1..], [led, led]);
}

#[test]
fn a_pin_that_is_no_host_puts_its_message_aside_and_keeps_nobody_else() {
    for (pin, when) in [
        ("'nowhere at all'", 1),
        ("x'ff'", 1),
        ("'relay2.example'", 1),
        ("''", 0),
    ] {
        let world = World::new();
        let first = world.put("ann@lotus.com", &["b@ibm.com"]);
        let second = world.put("ann@lotus.com", &["c@ibm.com"]);
        if when == 1 {
            world.convert();
        }
        let spoil = format!(
            "UPDATE recipient SET pin = CAST({pin} AS TEXT) WHERE message = {}",
            first.0
        );
        world.sql_run(&spoil);
        if when == 0 {
            world.convert();
        }
        let list = world.claim(&[0], 0).remove(0);
        assert_eq!(list.messages, 1, "{pin}");
        assert_eq!(states(&world, first), [State::Held], "{pin}");
        assert_eq!(states(&world, second), [State::LockedForXmit], "{pin}");
        let held = "SELECT text FROM event WHERE what = 'held'";
        assert!(
            world.sql(held).ends_with("its pin is no host"),
            "{}",
            world.sql(held)
        );
    }
}

#[test]
fn of_what_was_sent_before_it_could_be_stopped_nothing_is_undone() {
    let world = World::new();
    let first = world.put("ann@lotus.com", &["b@ibm.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    let by_id = Choice::of_messages(vec![first]);
    world.queue.do_by_hand(ByHand::Delete, &by_id, "ann").unwrap();
    world.settle(&list, first, vec![(0, delivered())]);
    let (_, done) = world.queue.carry_out_recall(list.id, first).unwrap().unwrap();
    assert_eq!(done, Done::default());
    assert_eq!(states(&world, first), [State::Transmitted]);
    let told = "SELECT count(*) FROM event WHERE what = 'released'";
    assert_eq!(world.sql(told), "0");
}
