//! What a conversion task records of a message that has gone its way meanwhile.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A message that omsgcnv has had in hand until it was given up, and its sender was told.
fn gone() -> (World, Waiting) {
    let world = World::new();
    let id = world.put("ann@example.org", &["b@lotus.com"]);
    let waiting = world
        .queue
        .waiting_inbound(world.queue.now(), 1)
        .unwrap()
        .remove(0);
    let converted = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(0, Delivery::PassOn)],
    };
    assert_eq!((waiting.id, waiting.recipients.len()), (id, 1));
    world.queue.converted(vec![converted]).unwrap();
    let in_hand = world
        .queue
        .waiting_in_box(world.queue.now(), 1)
        .unwrap()
        .remove(0);
    world.clock.advance(7 * DAY);
    assert_eq!(world.expire(DAY), 1);
    let news = News::Ends {
        failed: vec![0],
        reached: vec![],
    };
    let notice = Notice {
        about: id,
        news,
        telling: Telling::Unwanted,
    };
    world.queue.report(vec![notice], None).unwrap();
    (world, in_hand)
}

fn route(world: &World, in_hand: &Waiting, way: Way, octets: usize) {
    let mut content = world.queue.rewritten_content_writer(in_hand.id);
    content.write(&vec![b'x'; octets]).unwrap();
    let routed = Routed {
        id: in_hand.id,
        structure: None,
        content: Some(content.finish().unwrap()),
        ways: vec![(0, way)],
        null_sender: false,
    };
    world.queue.routed(vec![routed]).unwrap();
}

#[test]
fn content_that_was_rewritten_too_late_is_not_kept() {
    for octets in [10, THRESHOLD + 1] {
        let (world, in_hand) = gone();
        route(&world, &in_hand, Way::Local, octets);
        assert_eq!(world.states(), "WQ_FAILED:1");
        assert_eq!(world.sql("SELECT count(*) FROM content"), "0");
        assert_eq!(
            world.sql("SELECT count(*) FROM message WHERE file IS NOT NULL"),
            "0"
        );
    }
}

#[test]
fn history_tells_of_nothing_that_did_not_happen() {
    let (world, in_hand) = gone();
    let later = Way::Later(Reason::here(EnhancedCode(4, 3, 0), "trouble"), world.queue.now());
    for way in [Way::Local, later, Way::Hop(hop_of(&mailbox("b@lotus.com")))] {
        route(&world, &in_hand, way, 10);
    }
    assert_eq!(
        world.sql("SELECT group_concat(event) FROM (SELECT event FROM history ORDER BY stamp)"),
        "accepted,converted,given up,failed"
    );
}
