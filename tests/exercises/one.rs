//! Exercise #1: Spawning Outbound Session Handlers.
//!
//! The seed sends its message from a workstation; here a client of the MTA brings it.

use crate::support::client::{Client, letter};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

const SIX_PRIMARY_TASKS: [&str; 6] = ["smtpmta", "omsgcnv", "osesctl", "isesctl", "imsgcnv", "drt"];

/// A world in which everything for ibm.com goes to `sink`.
fn world_with(sink: &Sink, flags: &[&str]) -> World {
    let route = format!("ibm.com={}", sink.address());
    World::load(&[&["--route", route.as_str()], flags].concat())
}

fn send(world: &World, subject: &str) {
    Client::of(world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter(subject));
}

#[test]
fn a_message_spawns_an_outbound_handler_which_only_its_controller_can_stop() {
    let sink = Sink::start();
    // "Once all of the initial server tasks are started, start the SMTP MTA by entering LOAD SMTPMTA."
    let world = world_with(&sink, &[]);

    // "To verify that the six primary MTA tasks are started, enter SHOW TASKS at the server console. Notice
    // that the Inbound and Outbound Session Handlers do not appear."
    assert_eq!(world.tasks(), SIX_PRIMARY_TASKS);

    // "To get a handler such as the Outbound Session Handler to start, create a simple test message addressed
    // to someone on the Internet, click the Send button, and watch the server console."
    send(&world, "test");
    world.daemon().wait_for_line("SMTPMTA oseshlr0 Started");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);

    // "To verify that the Outbound Session Handler has started, enter SHOW TASKS at the server console.
    // Notice that an extra SMTP task is listed: oseshlr0."
    world.wait_for_task("oseshlr0", "Idle");
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0"]);

    // "Unlike the other tasks, however, this newly listed task (oseshlr0) can't be stopped using a TELL
    // command (try it)."
    let refused = world.ask("tell smtpmta stop oseshlr0");
    assert_ne!(refused.status, 0);
    assert!(refused.complaint.contains("can not be stopped"), "{refused:?}");
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0"]);

    // "To stop the session handler task, stop its controller by entering TELL SMTPMTA STOP OUTBOUND TRANSPORT
    // at the server console. This command stops not only the Outbound Session Controller, but also the idle
    // Outbound Session Handler that the controller previously spawned."
    world.tell("SMTPMTA STOP OUTBOUND TRANSPORT");
    world.wait_for_task("osesctl", "Stopped");
    assert_eq!(world.handlers("oseshlr"), [""; 0]);

    // "Once these tasks are completely shut down, enter TELL SMTPMTA START OUTBOUND TRANSPORT at the server
    // console. The Outbound Session Controller starts up again, but the previously stopped handler does not."
    world.tell("SMTPMTA START OUTBOUND TRANSPORT");
    world.wait_for_task("osesctl", "Idle");
    assert_eq!(world.handlers("oseshlr"), [""; 0]);
    assert_eq!(world.daemon().count_lines("SMTPMTA oseshlr0 Started"), 1);

    // And on demand it comes again.
    send(&world, "test again");
    sink.wait_for(|seen| seen.accepted().count() == 2, PATIENCE);
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0"]);
}

#[test]
fn messages_that_keep_coming_spawn_handlers_until_the_maximum_number_is_reached() {
    // "If you were to keep sending messages, however, you'd eventually see other Outbound Session Handlers
    // spawned until the maximum number of handlers was reached. Try it."
    let sink = Sink::start();
    sink.hang_at(Stage::Dot);
    let world = world_with(&sink, &["--max-outbound-handlers", "3"]);
    for (number, handler) in ["oseshlr0", "oseshlr1", "oseshlr2"].into_iter().enumerate() {
        send(&world, "one of three");
        sink.wait_for(|seen| seen.live().count() == number + 1, PATIENCE);
        assert_eq!(world.handlers("oseshlr").last().unwrap(), handler);
    }
    send(&world, "one too many");
    // The fourth list waits for a handler, and its message is not locked.
    world.wait_for_sql("SELECT state FROM domain_lists WHERE handler IS NULL", "waiting");
    assert_eq!(
        world.sql("SELECT state, count(*) FROM outbound_work_queue GROUP BY state ORDER BY 2"),
        "WQ_PENDING_XMIT|1\nWQ_MSG_LOCKED_FOR_XMIT|3"
    );
    assert_eq!(world.handlers("oseshlr").len(), 3);

    sink.release();
    sink.wait_for(|seen| seen.accepted().count() == 4, PATIENCE);
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0", "oseshlr1", "oseshlr2"]);
}

#[test]
fn an_idle_handler_is_used_again_before_another_is_spawned() {
    let sink = Sink::start();
    let world = world_with(&sink, &[]);
    for number in 1..=3 {
        send(&world, "one after the other");
        sink.wait_for(|seen| seen.accepted().count() == number, PATIENCE);
        world.wait_for_task("oseshlr0", "Idle");
    }
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0"]);
    assert_eq!(world.daemon().count_lines("SMTPMTA oseshlr"), 1);
}
