//! What an operator does to messages by hand: puts them aside and lets them go on, removes them and brings them back.

use crate::support::client::{Client, letter};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

const SENDER: &str = "bsmith@mta.test";

/// All goes to `sink`; so that something waits, nothing goes out until that is told.
fn load(sink: &Sink) -> World {
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    world.tell("smtpmta stop outbound transport");
    world
}

/// A message for these recipients, which waits for its next hop.
fn send(world: &World, to: &[&str]) -> String {
    let id = Client::of(world).mail(SENDER, to, &letter("waiting"));
    world.wait_for_sql(
        &format!("SELECT count(*) FROM outbound_work_queue WHERE id = '{id}'"),
        &to.len().to_string(),
    );
    id
}

/// Does this, which has to be done to so many recipients.
#[track_caller]
fn does(world: &World, words: &str, recipients: usize) {
    let answer = world.ask(&format!("queue {words} --json"));
    let said = format!("{}{}", answer.text, answer.complaint);
    let done: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (done["recipients"].as_u64(), answer.status),
        (Some(recipients as u64), i32::from(recipients == 0)),
        "{words}: {answer:?}"
    );
}

fn state(world: &World, id: &str) -> String {
    world.sql(&format!(
        "SELECT group_concat(DISTINCT s.name) FROM recipient r JOIN state s ON s.number = r.state \
         WHERE printf('%016X', r.message) = '{id}'"
    ))
}

#[test]
fn what_is_held_stays_until_it_is_released() {
    let sink = Sink::start();
    let world = load(&sink);
    let (held, other) = (
        send(&world, &["x@a.test", "y@b.test"]),
        send(&world, &["z@a.test"]),
    );
    does(&world, &format!("hold {held}"), 2);
    does(&world, &format!("hold {held}"), 0);
    does(&world, &format!("release {other}"), 0);
    world.tell("smtpmta start outbound transport");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_sql(
        "SELECT count(*) FROM outbound_work_queue WHERE state <> 'WQ_HELD'",
        "0",
    );
    assert_eq!(
        (state(&world, &held), state(&world, &other)),
        ("WQ_HELD".into(), "WQ_TRANSMITTED".into())
    );
    does(&world, &format!("release {held}"), 2);
    sink.wait_for(|seen| seen.accepted().count() == 2, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    let told = "SELECT group_concat(event || ' ' || recipient || ' ' || substr(text, 1, 3), ', ') \
                FROM history WHERE event IN ('held', 'released')";
    assert_eq!(
        world.sql(told),
        "held x@a.test by , held y@b.test by , released x@a.test by , released y@b.test by "
    );
}

#[test]
fn what_is_removed_goes_nowhere_and_can_be_brought_back() {
    let sink = Sink::start();
    let world = load(&sink);
    let small = send(&world, &["x@a.test", "y@b.test"]);
    let content = format!("Subject: large\r\n\r\n{}", "xyz\r\n".repeat(40_000));
    let large = Client::of(&world).mail(SENDER, &["z@a.test"], content.as_bytes());
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "3");
    does(&world, &format!("delete {small} {large}"), 3);
    world.tell("smtpmta start outbound transport");
    assert_eq!(
        world.ask("queue list").status,
        1,
        "there is nothing in the work queues"
    );
    assert_eq!(
        world.sql("SELECT count(*) FROM message WHERE left_at IS NULL"),
        "0"
    );
    let verdict = world.ask("verify --account");
    assert!(
        verdict.text.contains(": in order") && verdict.text.contains("balances"),
        "{verdict:?}"
    );
    assert!(sink.look(|seen| seen.accepted().count() == 0));
    does(&world, &format!("undelete {small} {large}"), 3);
    does(&world, &format!("undelete {small} {large}"), 0);
    assert_eq!(
        (state(&world, &small), state(&world, &large)),
        ("WQ_HELD".into(), "WQ_HELD".into())
    );
    does(&world, &format!("release {small} {large}"), 3);
    sink.wait_for(|seen| seen.accepted().count() == 2, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    // What was sent is gone for good.
    does(&world, &format!("delete {small}"), 0);
    does(&world, &format!("undelete {small}"), 0);
    assert_eq!(world.ask("queue delete").status, 64);
    assert_eq!(world.ask("queue delete all").status, 64);
}

#[test]
fn what_is_returned_by_hand_is_told_to_its_sender() {
    let sink = Sink::start();
    let world = World::load(&[
        "--relay-host",
        &sink.address().to_string(),
        "--local-domain",
        "mta.test",
    ]);
    world.tell("smtpmta stop outbound transport");
    let id = send(&world, &["x@a.test", "y@b.test"]);
    does(&world, &format!("bounce {id}"), 2);
    let report = world.wait_for_letters(SENDER, 1).remove(0);
    let report = String::from_utf8_lossy(&report);
    assert!(
        report.contains("an operator returned the message") && report.contains("x@a.test"),
        "{report}"
    );
    assert_eq!(state(&world, &id), "WQ_FAILED");
    does(&world, &format!("bounce {id}"), 0);
}

#[test]
fn what_a_session_handler_has_in_hand_is_left_to_it() {
    let sink = Sink::start();
    sink.hang_at(Stage::Rcpt);
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    let id = Client::of(&world).mail(SENDER, &["x@a.test"], &letter("on the wire"));
    sink.wait_for(|seen| !seen.sessions.is_empty(), PATIENCE);
    world.wait_for_sql("SELECT state FROM outbound_work_queue", "WQ_MSG_LOCKED_FOR_XMIT");
    for verb in ["hold", "bounce", "delete"] {
        let answer = world.ask(&format!("queue {verb} {id}"));
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(
            answer
                .complaint
                .contains("1 recipient in the hands of session handlers"),
            "{answer:?}"
        );
    }
    sink.release();
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
}
