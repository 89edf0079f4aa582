//! Aliases in the work queue: who comes in whose place, and what the sender hears of it.

use super::*;

fn expand(world: &World, id: MessageId, expansions: &[(u32, &[&str])]) -> usize {
    expand_beside(world, id, expansions, &[])
}

/// The same, with recipients that are no aliases and are passed on.
fn expand_beside(world: &World, id: MessageId, expansions: &[(u32, &[&str])], passed_on: &[u32]) -> usize {
    let deliveries = expansions
        .iter()
        .map(|(n, targets)| (*n, Delivery::Expand(targets.iter().map(|t| mailbox(t)).collect())))
        .chain(passed_on.iter().map(|n| (*n, Delivery::PassOn)))
        .collect();
    let converted = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries,
    };
    world.queue.converted(vec![converted]).unwrap()
}

/// Number, path, state, parent and NOTIFY of each recipient.
fn recipients(world: &World) -> String {
    world.sql(
        "SELECT group_concat(n || ' ' || path || ' ' || state || ' ' || ifnull(parent, '-') || ' ' \
         || ifnull(notify, '-'), '; ') FROM (SELECT * FROM recipient ORDER BY message, n)",
    )
}

fn waiting(world: &World) -> Vec<(u32, String, bool)> {
    let waiting = world.queue.waiting_inbound(world.queue.now(), 10).unwrap();
    let recipients = waiting.into_iter().flat_map(|message| message.recipients);
    recipients
        .map(|r| (r.n, r.path.to_string(), r.is_expanded))
        .collect()
}

#[test]
fn what_an_alias_stands_for_comes_in_its_place_at_once() {
    let world = World::new();
    let id = world.put("ann@a.example", &["staff@lotus.com", "carol@lotus.com"]);
    let staff: (u32, &[&str]) = (0, &["bob@lotus.com", "Carol@LOTUS.com", "dave@b.example"]);
    assert_eq!(expand_beside(&world, id, &[staff], &[1]), 0);
    assert_eq!(
        recipients(&world),
        "0 staff@lotus.com 12 - -; 1 carol@lotus.com 1 - -; 2 bob@lotus.com 1 0 -; 3 dave@b.example 1 0 -"
    );
    assert_eq!(
        waiting(&world),
        [
            (2, "bob@lotus.com".to_owned(), true),
            (3, "dave@b.example".to_owned(), true),
        ]
    );
    assert_eq!(
        world.sql("SELECT recipient || ': ' || text FROM history WHERE event = 'expanded'"),
        "staff@lotus.com: bob@lotus.com, Carol@lotus.com, dave@b.example"
    );
    world.convert();
    for list in world.claim(&[0, 1], 0) {
        let messages = world.queue.list_messages(list.id).unwrap();
        let outcomes = messages[0].recipients.iter().map(|r| (r.n, delivered()));
        world.settle(&list, id, outcomes.collect());
        world.queue.end_list(list.id).unwrap();
    }
    assert_eq!(world.states(), "WQ_TRANSMITTED:3 WQ_EXPANDED:1");
    assert_eq!(world.sql("SELECT left_at IS NOT NULL FROM message"), "1");
}

#[test]
fn an_alias_that_has_itself_as_a_mailbox_is_another_recipient_and_no_alias_any_more() {
    let world = World::new();
    let id = world.put("ann@a.example", &["team@lotus.com", "bob@lotus.com"]);
    let both = ["bob@lotus.com", "alice@b.example"];
    // team is bob and alice; bob, who is named too, is an alias, and the mailbox bob another recipient.
    expand(&world, id, &[(0, &both), (1, &both)]);
    assert_eq!(
        recipients(&world),
        "0 team@lotus.com 12 - -; 1 bob@lotus.com 12 - -; 2 bob@lotus.com 1 0 -; 3 alice@b.example 1 0 -"
    );
    // Whatever the aliases say by now, it is one no more.
    expand(
        &world,
        id,
        &[(3, &["round@lotus.com"]), (2, &["round@lotus.com"])],
    );
    assert!(
        waiting(&world)
            .iter()
            .all(|(n, _, is_expanded)| *n > 1 && *is_expanded)
    );
    assert_eq!(world.states(), "WQ_PENDING_CONVERSION:2 WQ_EXPANDED:2");
}

#[test]
fn targets_that_are_recipients_already_end_with_those() {
    let world = World::new();
    let id = world.put("ann@a.example", &["staff@lotus.com", "bob@b.example"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    let later = world.put("ann@a.example", &["all@lotus.com", "staff@lotus.com"]);
    expand(&world, later, &[(0, &["bob@b.example"])]);
    expand(&world, later, &[(1, &["BOB@b.example"])]);
    assert_eq!(
        world.states(),
        "WQ_PENDING_CONVERSION:1 WQ_PENDING_XMIT:1 WQ_MSG_LOCKED_FOR_XMIT:1 WQ_EXPANDED:2"
    );
    assert_eq!(waiting(&world), [(2, "bob@b.example".to_owned(), true)]);
    world.queue.end_list(list.id).unwrap();
    let _ = id;
    let gone = Converted {
        id: later,
        null_sender: false,
        structure: None,
        deliveries: vec![(2, Delivery::Delivered("mail/bob".to_owned()))],
    };
    world.queue.converted(vec![gone]).unwrap();
    let left = format!("SELECT left_at IS NOT NULL FROM message WHERE id = {}", later.0);
    assert_eq!(world.sql(&left), "1");
}

#[test]
fn a_message_whose_alias_adds_nobody_may_leave_with_it() {
    let world = World::new();
    let id = world.put("ann@a.example", &["bob@lotus.com", "staff@lotus.com"]);
    let delivered = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(0, Delivery::Delivered("mail/bob".to_owned()))],
    };
    world.queue.converted(vec![delivered]).unwrap();
    expand(&world, id, &[(1, &["bob@lotus.com"])]);
    assert_eq!(world.states(), "WQ_DELIVERED:1 WQ_EXPANDED:1");
    assert_eq!(world.sql("SELECT left_at IS NOT NULL FROM message"), "1");
    assert_eq!(world.sql("SELECT count(*) FROM content"), "0");
}

#[test]
fn a_single_target_tells_of_itself_and_of_several_the_alias_does() {
    let world = World::new();
    let to = [
        ("one@lotus.com", Some("SUCCESS,FAILURE")),
        ("many@lotus.com", Some("SUCCESS,FAILURE")),
        ("only@lotus.com", Some("SUCCESS")),
        ("again@lotus.com", Some("SUCCESS")),
        ("never@lotus.com", Some("NEVER")),
    ];
    let id = world.put_asking("ann@a.example", &to);
    world.sql_run("UPDATE recipient SET orcpt = 'rfc822;x@a.example' WHERE n < 2");
    let told = expand(
        &world,
        id,
        &[
            (0, &["a@b.example"]),
            (1, &["b@b.example", "c@b.example"]),
            (2, &["d@b.example", "e@b.example"]),
            (3, &["a@b.example"]),
            (4, &["f@b.example", "g@b.example"]),
        ],
    );
    assert_eq!(told, 3);
    let asked = world.sql(
        "SELECT group_concat(path || ' ' || notify || ' ' || ifnull(orcpt, '-'), '; ') \
         FROM (SELECT * FROM recipient WHERE parent IS NOT NULL ORDER BY n)",
    );
    assert_eq!(
        asked,
        "a@b.example 3 rfc822;x@a.example; b@b.example 2 rfc822;x@a.example; c@b.example 2 \
         rfc822;x@a.example; d@b.example 0 -; e@b.example 0 -; f@b.example 0 -; g@b.example 0 -"
    );
    let due = world.queue.awaiting_success_report(10).unwrap().remove(0);
    let ends: Vec<_> = due.recipients.iter().map(|r| (r.n, r.success)).collect();
    assert_eq!(ends, [1, 2, 3].map(|n| (n, Some(Success::Expanded))));
}

#[test]
fn an_alias_of_thousands_is_told_in_few_words_and_delivered_in_parts() {
    let world = World::new();
    let id = world.put("ann@a.example", &["all@lotus.com"]);
    let targets: Vec<String> = (0..2500).map(|n| format!("user{n}@lotus.com")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    expand(&world, id, &[(0, &targets)]);
    let story = world.sql("SELECT text FROM history WHERE event = 'expanded'");
    assert!(story.len() < 500 && story.ends_with(" more"), "{story}");
    let first = waiting(&world);
    assert_eq!((first.len(), first[0].0, first[999].0), (1000, 1, 1000));
    let passed = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: first.iter().map(|(n, ..)| (*n, Delivery::PassOn)).collect(),
    };
    world.queue.converted(vec![passed]).unwrap();
    assert_eq!(waiting(&world)[0].0, 1001);
}

#[test]
fn an_alias_that_stands_for_nobody_is_held_and_not_lost() {
    let world = World::new();
    let id = world.put("ann@a.example", &["nobody@lotus.com"]);
    expand(&world, id, &[(0, &[])]);
    assert_eq!(world.states(), "WQ_HELD:1");
}
