//! What an operator does to recipients that he names, or says what they look like.

use super::*;
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
        .preview(Order::ByHand(ByHand::Hold), &to("@ibm.com"), 1)
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
        .preview(Order::ByHand(ByHand::Undelete), &to("d@*"), 9)
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
    let would = world.queue.preview(Order::Retry, &to("c@dec.com"), 9).unwrap();
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
