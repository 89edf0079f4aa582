//! The deputy that osesctl leaves with the writer while it rests.

use super::*;

#[test]
fn what_is_routed_is_listed_in_the_same_transaction_and_its_bell_rings() {
    let (world, bell) = (World::new(), Bell::default());
    let (deputy, made) = deputize(&world, &bell, || Some(claim(&[3], 0)));
    let id = world.put("a@example.org", &["b@lotus.com"]);
    world.convert_and_kick(&bell);
    // Nobody but the writer had a hand in it.
    assert_eq!(
        world.sql("SELECT state || handler FROM outbound_work_queue"),
        "WQ_MSG_LOCKED_FOR_XMIT3"
    );
    assert!(bell.heard().try_recv().is_ok());
    drop(deputy);
    let claimed = made.recv().unwrap();
    assert!(made.recv().is_err(), "it is through");
    let lists: Vec<_> = claimed.lists.iter().map(|list| list.handler).collect();
    assert_eq!((lists, claimed.to_lingering), (vec![Some(3)], vec![]));
    let contents = claimed.lists[0].contents.as_ref().unwrap();
    assert_eq!(contents, &world.queue.list_messages(claimed.lists[0].id).unwrap());
    assert_eq!(contents[0].id, id);
}

#[test]
fn a_list_goes_to_the_handler_that_lingers_whoever_else_is_free() {
    let world = World::new();
    world.put("a@example.org", &["b@lotus.com"]);
    world.convert();
    let hop = world.sql("SELECT id FROM next_hop").parse().map(HopId).unwrap();
    // Also with its own session counted as busy, and no other handler.
    for handlers in [&[0, 1][..], &[]] {
        let with_lingering = Claim {
            lingering: HashMap::from([(hop, 7)]),
            busy: HashMap::from([(hop, 20)]),
            ripe: HashSet::new(),
            ..claim(handlers, 0)
        };
        let claimed = world.queue.claim(with_lingering).unwrap();
        assert_eq!(claimed.lists[0].handler, Some(7));
        assert_eq!(claimed.to_lingering, [claimed.lists[0].id]);
        world.queue.end_list(claimed.lists[0].id).unwrap();
    }
}

#[test]
fn a_pass_that_nobody_rang_for_or_that_has_more_to_consider_is_not_made() {
    let (world, bell) = (World::new(), Bell::default());
    let (deputy, made) = deputize(&world, &bell, || Some(claim(&[3], 0)));
    world.put("a@example.org", &["b@lotus.com"]);
    world.convert();
    drop(deputy);
    assert!(made.recv().is_err(), "another bell");
    let (_deputy, made) = deputize(&world, &bell, || None);
    world.put("a@example.org", &["c@lotus.com"]);
    world.convert_and_kick(&bell);
    assert!(made.try_recv().is_err());
    assert_eq!(world.states(), "WQ_PENDING_XMIT:2");
    assert!(bell.heard().try_recv().is_ok(), "who rests looks for himself");
}

#[test]
fn a_pass_that_fails_keeps_nobody_from_being_routed() {
    let (world, bell) = (World::new(), Bell::default());
    let (_deputy, made) = deputize(&world, &bell, || panic!("an error in the program"));
    world.put("a@example.org", &["b@lotus.com"]);
    world.convert_and_kick(&bell);
    assert!(made.try_recv().is_err());
    assert_eq!(world.states(), "WQ_PENDING_XMIT:1");
    assert!(bell.heard().try_recv().is_ok());
}

/// When osesctl will look by itself.
fn soon(world: &World) -> Stamp {
    world.queue.now().plus(MINUTE)
}

#[test]
fn a_bell_rings_for_what_falls_due_before_somebody_looks() {
    for (retry_at, rings) in [(MINUTE / 2, true), (2 * MINUTE, false)] {
        let (world, bell) = (World::new(), Bell::default());
        world.put("a@example.org", &["b@lotus.com"]);
        world.convert();
        let lists = world.claim(&[0], 0);
        world.queue.end_list(lists[0].id).unwrap();
        // It backs off.
        let retry_at = world.queue.now().plus(retry_at);
        let backs_off = format!(
            "UPDATE next_hop SET failures = 1, retry_at = {}, due = {}",
            retry_at.0, retry_at.0
        );
        world.sql_run(&backs_off);
        let all = |_| true;
        let _deputy = world
            .queue
            .stand_for_osesctl(bell.clone(), soon(&world), || Some(claim(&[3], 0)), all);
        world.put("a@example.org", &["c@lotus.com"]);
        world.convert_and_kick(&bell);
        assert_eq!(bell.heard().try_recv().is_ok(), rings);
        assert_eq!(world.states(), "WQ_PENDING_XMIT:2");
    }
}

#[test]
fn a_bell_does_not_ring_for_what_has_been_handed_out_unless_more_is_due() {
    let (world, bell) = (World::new(), Bell::default());
    let list_one = || {
        Some(Claim {
            handlers: vec![3],
            waiting_room: 0,
            ..claim(&[], 0)
        })
    };
    let _deputy = world
        .queue
        .stand_for_osesctl(bell.clone(), soon(&world), list_one, |claimed| {
            claimed.lists.len() == 1
        });
    world.put("a@example.org", &["b@lotus.com"]);
    world.convert_and_kick(&bell);
    assert_eq!(world.states(), "WQ_MSG_LOCKED_FOR_XMIT:1");
    assert!(bell.heard().try_recv().is_err());
    world.put("a@example.org", &["b@lotus.com", "c@ibm.com"]);
    world.convert_and_kick(&bell);
    assert!(bell.heard().try_recv().is_ok(), "one of two next hops waits");
}
