//! Mail that only passes through, with what the conversion tasks have left for it.

use super::*;
use crate::tasks::bell::Bells;
use crate::work_queue::structure::Structure;

/// All of what the queue says of its messages, but for moments.
const ALL: &str = "SELECT group_concat(line, char(10)) FROM (\
     SELECT concat_ws('|', inbound_due, box_due, subject, header_from, header_to, message_id, date, attachments, hops, \
       utf8_header, left_at) line FROM message UNION ALL \
     SELECT concat_ws('|', n, path, state, in_box, hop, list, next_attempt > 0, attempts, notify) FROM recipient \
     UNION ALL SELECT concat_ws('|', name, due > 0, waiting, oldest > 0) FROM next_hop \
     UNION ALL SELECT * FROM (SELECT concat_ws('|', n, what, text) FROM event ORDER BY stamp))";

/// imsgcnv runs: what goes to `here.example` is not only passed on, nor is what has passed a host before us.
fn imsgcnv<'w>(world: &'w World, bells: &Bells) -> Attendance<'w> {
    let read = |arrival: &Arrival, content: &[u8]| {
        let mut recipients = arrival.recipients.iter();
        let is_for_us = recipients.any(|recipient| recipient.path.to_string().ends_with("@here.example"));
        let structure = Structure::of(content);
        (!is_for_us && structure.hops == 0).then_some(structure)
    };
    world.queue.attend_inbound(bells.omsgcnv.clone(), read)
}

/// omsgcnv runs.
fn omsgcnv<'w>(world: &'w World, bells: &Bells) -> Attendance<'w> {
    world
        .queue
        .attend_box(bells.osesctl.clone(), |path| Some(hop_of(path)))
}

/// Whether imsgcnv, omsgcnv and osesctl were rung for.
fn rung(bells: &Bells) -> [bool; 3] {
    [&bells.imsgcnv, &bells.omsgcnv, &bells.osesctl].map(|bell| bell.heard().try_recv().is_ok())
}

fn put(world: &World, bells: &Bells, to: &[&str], content: &[u8], origin: Origin) {
    let id = world.queue.message_id();
    let mut writer = world.queue.content_writer(id);
    writer.write(content).unwrap();
    let arrival = Arrival::new(
        id,
        origin,
        ReversePath(Some(mailbox("a@example.org"))),
        to.iter().map(|to| mailbox(to)),
        writer.finish().unwrap(),
    );
    world
        .queue
        .put_and_kick(arrival, vec![bells.imsgcnv.clone()])
        .unwrap();
}

const LETTER: &[u8] =
    b"Subject: x\r\nFrom: a@example.org\r\nMessage-ID: <1@x>\r\nTo: \xc3\xa4@ibm.com\r\n\r\nbody\r\n";

const ELSEWHERE: &[&str] = &["b@lotus.com", "c@ibm.com", "d@lotus.com"];

#[test]
fn what_passes_through_stands_in_the_queue_as_the_tasks_would_have_left_it() {
    let (by_tasks, at_once) = (World::new(), World::new());
    let bells = Bells::default();
    put(&by_tasks, &bells, ELSEWHERE, LETTER, Origin::Session);
    assert_eq!(rung(&bells), [true, false, false]);
    let waiting = by_tasks.queue.waiting_inbound(by_tasks.queue.now(), 9).unwrap();
    let converted = Converted {
        id: waiting[0].id,
        null_sender: false,
        structure: Some(Structure::of(LETTER)),
        deliveries: (0..3).map(|n| (n, Delivery::PassOn)).collect(),
    };
    by_tasks.queue.converted(vec![converted]).unwrap();
    by_tasks.convert();
    let _running = (imsgcnv(&at_once, &bells), omsgcnv(&at_once, &bells));
    put(&at_once, &bells, ELSEWHERE, LETTER, Origin::Session);
    assert_eq!(rung(&bells), [false, false, true]);
    assert_eq!(at_once.sql(ALL), by_tasks.sql(ALL));
    assert_eq!(at_once.states(), "WQ_PENDING_XMIT:3");
}

#[test]
fn a_message_waits_for_a_task_that_does_not_run() {
    let (world, bells) = (World::new(), Bells::default());
    let only_omsgcnv = omsgcnv(&world, &bells);
    put(&world, &bells, ELSEWHERE, LETTER, Origin::Session);
    assert_eq!(rung(&bells), [true, false, false]);
    assert_eq!(world.sql("SELECT count(*) FROM inbound_work_queue"), "3");
    drop(only_omsgcnv);
    let _only_imsgcnv = imsgcnv(&world, &bells);
    put(&world, &bells, ELSEWHERE, LETTER, Origin::Session);
    assert_eq!(rung(&bells), [false, true, false]);
    assert_eq!(world.sql("SELECT count(*) FROM smtp_box"), "3");
    let _both = omsgcnv(&world, &bells);
    put(&world, &bells, ELSEWHERE, LETTER, Origin::Session);
    assert_eq!(rung(&bells), [false, false, true]);
}

#[test]
fn whatever_a_task_has_to_look_at_longer_waits_for_it() {
    let (world, bells) = (World::new(), Bells::default());
    let _running = (imsgcnv(&world, &bells), omsgcnv(&world, &bells));
    let large = [LETTER, &vec![b'x'; THRESHOLD]].concat();
    let looping = [b"Received: from somewhere\r\n", LETTER].concat();
    let session = Origin::Session;
    put(&world, &bells, &["b@here.example"], LETTER, session);
    put(
        &world,
        &bells,
        &["b@lotus.com", "b@here.example"],
        LETTER,
        session,
    );
    put(&world, &bells, ELSEWHERE, &large, session);
    put(&world, &bells, ELSEWHERE, &looping, session);
    put(&world, &bells, ELSEWHERE, LETTER, Origin::Local);
    assert_eq!(rung(&bells), [true, false, false]);
    assert_eq!(world.states(), "WQ_PENDING_CONVERSION:12");
    assert_eq!(
        world.sql("SELECT count(*) FROM smtp_box"),
        "3",
        "it is local mail"
    );
}

#[test]
fn a_task_that_is_still_ending_takes_nothing_from_its_successor() {
    let (world, bells) = (World::new(), Bells::default());
    let before = (imsgcnv(&world, &bells), omsgcnv(&world, &bells));
    let _after = (imsgcnv(&world, &bells), omsgcnv(&world, &bells));
    drop(before);
    put(&world, &bells, ELSEWHERE, LETTER, Origin::Session);
    assert_eq!(world.states(), "WQ_PENDING_XMIT:3");
}
