//! How the live MTA ends, and how its parts are stopped and started.

use nix::sys::signal::{SIGINT, SIGTERM};

use crate::support::client::{Client, letter};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

const STATES: &str = "SELECT state, attempts, count(*) FROM outbound_work_queue GROUP BY state, attempts";

fn world_with(sink: &Sink) -> World {
    World::load(&["--relay-host", &sink.address().to_string()])
}

fn send(world: &World, subject: &str) {
    Client::of(world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter(subject));
}

#[test]
fn every_way_to_stop_ends_the_mta_with_status_zero() {
    let mut world = World::load(&[]);
    let (status, _) = world.end(|mta| mta.signal(SIGINT));
    assert_eq!(status, Some(0));
    world.start();
    world.tell("smtpmta quit");
    let (status, _) = world.end(|_| {});
    assert_eq!(status, Some(0));
    assert_eq!(world.ask("show tasks").status, 69);
}

#[test]
fn sigterm_ends_the_mta_within_ten_seconds_although_peers_hang() {
    let sink = Sink::start();
    sink.hang_at(Stage::Dot);
    let mut world = World::load(&["--route", &format!("ibm.com={}", sink.address())]);
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("in flight"));
    sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    let _silent = Client::connect(world.address());
    let mut in_content = Client::of(&world);
    let commands = b"MAIL FROM:<bsmith@univac.com>\r\nRCPT TO:<jdoe@mta.test>\r\nDATA\r\nHello";
    in_content.send(commands).unwrap();
    for _ in 0..3 {
        in_content.reply();
    }

    let (status, took) = world.end(|mta| mta.signal(SIGTERM));
    assert_eq!(status, Some(0));
    assert!(took.as_secs() < 10, "{took:?}");
    // What hung is tried again by the next one, and what was not complete was never there.
    let left = "SELECT recipient, state, attempts FROM outbound_work_queue";
    assert_eq!(world.sql(left), "jdoe@ibm.com|WQ_PENDING_XMIT|0");
    sink.behave();
    world.start();
    world.wait_for_sql(left, "");
    assert_eq!(world.sql("SELECT count(DISTINCT id) FROM history"), "1");
}

#[test]
fn sigterm_waits_for_nobody_who_has_nothing_on_the_wire() {
    let sink = Sink::start();
    sink.hang_at(Stage::Ehlo);
    let mut world = world_with(&sink);
    send(&world, "not begun");
    sink.wait_for(|seen| seen.hangs_at(Stage::Ehlo), PATIENCE);
    let mut silent = Client::of(&world);
    let (status, took) = world.terminate();
    assert_eq!(status, Some(0));
    assert!(took.as_secs() < 5, "{took:?}");
    assert!(silent.reply().starts_with("421 4.3.2 "));
    assert_eq!(world.sql(STATES), "WQ_PENDING_XMIT|0|1");
}

#[test]
fn a_second_sigterm_ends_the_mta_at_once() {
    let sink = Sink::start();
    sink.hang_at(Stage::Dot);
    let mut world = world_with(&sink);
    send(&world, "in flight");
    sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    let (status, took) = world.end(|mta| {
        mta.signal(SIGTERM);
        mta.wait_for_line("SMTPMTA smtpmta Stopping");
        mta.signal(SIGTERM);
    });
    assert!(status.is_some());
    assert!(took.as_secs() < 5, "{took:?}");
    world.start();
    sink.behave();
    world.wait_for_sql(STATES, "");
}

#[test]
fn stopping_outbound_transport_finishes_what_is_on_the_wire_and_releases_the_rest_of_the_list() {
    let sink = Sink::start();
    // With PIPELINING the next message is on the wire by then, too.
    sink.offer(&[]);
    let world = world_with(&sink);
    world.tell("smtpmta stop outbound transport");
    for number in 0..5 {
        send(&world, &format!("number {number}"));
    }
    world.wait_for_sql(STATES, "WQ_PENDING_XMIT|0|5");
    sink.hang_at(Stage::Dot);
    world.tell("smtpmta start outbound transport");
    sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    world.wait_for_sql(STATES, "WQ_MSG_LOCKED_FOR_XMIT|0|5");

    let answer = world.tell("smtpmta stop outbound transport");
    assert!(answer.contains("as soon as its sessions have ended"), "{answer}");
    sink.release();
    world.wait_for_task("osesctl", "Stopped");
    sink.look(|seen| assert_eq!((seen.sessions.len(), seen.accepted().count()), (1, 1)));
    assert_eq!(world.sql(STATES), "WQ_PENDING_XMIT|0|4");
    assert_eq!(world.sql("SELECT count(*) FROM domain_lists"), "0");

    world.tell("smtpmta start outbound transport");
    world.wait_for_sql(STATES, "");
    sink.look(|seen| assert_eq!(seen.accepted().count(), 5));
}

#[test]
fn a_conversion_that_is_stopped_keeps_its_messages_and_takes_them_up_when_it_is_started() {
    let sink = Sink::start();
    let world = world_with(&sink);
    for (conversion, queue) in [("inbound", "inbound_work_queue"), ("outbound", "smtp_box")] {
        world.tell(&format!("smtpmta stop {conversion} conversion"));
        send(&world, conversion);
        world.wait_for_sql(&format!("SELECT state FROM {queue}"), "WQ_PENDING_CONVERSION");
        world.tell(&format!("smtpmta start {conversion} conversion"));
        sink.wait_for(
            |seen| seen.messages.iter().any(|m| contains(&m.content, conversion)),
            PATIENCE,
        );
    }
}

fn contains(content: &[u8], subject: &str) -> bool {
    String::from_utf8_lossy(content).contains(&format!("Subject: {subject}\r\n"))
}

#[test]
fn everything_can_be_stopped_and_started_and_an_order_given_twice_changes_nothing() {
    let sink = Sink::start();
    let world = world_with(&sink);
    let port = world.address();
    for _ in 0..2 {
        world.tell("smtpmta stop");
        let stopped = world.show("tasks").matches(" Stopped\n").count();
        assert_eq!(stopped, 5, "{}", world.show("tasks"));
    }
    for _ in 0..2 {
        world.tell("smtpmta start");
    }
    assert_eq!(world.show("tasks").matches("Stopped").count(), 0);
    assert_eq!(world.address(), port);
    send(&world, "after all");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
}

/// The configuration in which ibm.com is `sink`.
fn by_way_of(sink: &Sink, poll_interval: &str) -> String {
    let route = format!("route ibm.com={}", sink.address());
    format!("retry-schedule 1s\npoll-interval {poll_interval}\n{route}\n")
}

fn waiting_mail_goes_the_new_way(poll_interval: &str) {
    let (before, after) = (Sink::start(), Sink::start());
    let mut world = World::without_mta(&[]);
    world.configure(&by_way_of(&before, poll_interval));
    before.on(Stage::Rcpt, "450 4.2.1 not here any more");
    world.start();
    send(&world, "first here, then there");
    world.wait_for_sql("SELECT attempts > 0 FROM outbound_work_queue", "1");
    world.configure(&by_way_of(&after, poll_interval));
    world.tell("smtpmta refresh");
    after.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_sql(STATES, "");

    // And over a restart.
    after.on(Stage::Rcpt, "450 4.2.1 not here any more");
    send(&world, "first there, then here");
    world.wait_for_sql("SELECT attempts > 0 FROM outbound_work_queue", "1");
    assert_eq!(world.terminate().0, Some(0));
    before.behave();
    world.configure(&by_way_of(&before, poll_interval));
    world.start();
    before.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
}

#[test]
fn mail_that_waits_takes_the_way_that_the_configuration_says_when_it_goes() {
    waiting_mail_goes_the_new_way("1s");
}

#[test]
fn mail_that_is_rerouted_does_not_wait_for_the_poll() {
    waiting_mail_goes_the_new_way("1h");
}
