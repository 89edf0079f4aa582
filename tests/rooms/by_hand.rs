//! What an operator does to messages by hand: puts them aside and lets them go on, removes them and brings them back.

use std::net::{SocketAddr, TcpListener};

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
fn what_is_done_may_be_looked_at_first_and_is_done_to_what_looks_so() {
    let sink = Sink::start();
    let world = load(&sink);
    let first = send(&world, &["x@a.test", "y@b.test"]);
    let second = send(&world, &["x@c.test"]);
    let choice = "--to x@* --subject wait --size -1k --state pending --from @mta.test --older 0s";
    let would = world.ask(&format!("queue hold --dry-run {choice}"));
    assert!(
        would
            .text
            .starts_with("2 recipients of 2 messages would be put aside\n")
            && would.text.contains(&first)
            && would.text.contains("<x@c.test>")
            && !would.text.contains("y@b.test"),
        "{would:?}"
    );
    does(&world, &format!("hold --dry-run {choice}"), 2);
    assert_eq!(state(&world, &second), "WQ_PENDING_XMIT");
    does(&world, &format!("hold {choice}"), 2);
    assert_eq!(state(&world, &second), "WQ_HELD");
    does(&world, &format!("hold {choice}"), 0);
    let listed = world.ask("queue list --state held --json");
    let listed: serde_json::Value = serde_json::from_str(&listed.text).unwrap();
    assert_eq!(listed["recipients"].as_array().map(Vec::len), Some(2));
    let nothing = world.ask("queue list --error greylisted");
    assert_eq!(
        (nothing.status, nothing.complaint.as_str()),
        (1, "Nothing in the work queues is like that.\n")
    );
    does(&world, &format!("retry {second} --dry-run"), 0);
    does(&world, "release --all", 2);
}

#[test]
fn words_with_blanks_are_one_value() {
    let sink = Sink::start();
    let world = load(&sink);
    let id = Client::of(&world).mail(SENDER, &["x@a.test"], b"Subject: it's \"two words\"\r\n\r\n");
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "1");
    for (subject, status) in [("'S \"Two Words\"", 0), ("two  words", 1), ("words two", 1)] {
        let answer = world.ask_with(&["queue", "list", "--subject", subject]);
        assert_eq!(answer.status, status, "{subject}: {answer:?}");
        assert_eq!(answer.text.contains(&id), status == 0, "{subject}: {answer:?}");
    }
}

#[test]
fn a_message_is_shown_whether_the_mta_runs_or_not() {
    let sink = Sink::start();
    let mut world = load(&sink);
    let content = letter("\x1b[2Jto be read");
    let id = Client::of(&world).mail(SENDER, &["x@a.test"], &content);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "1");
    let raw = world.ask(&format!("queue show --raw {id}"));
    assert!(
        raw.text
            .ends_with(&String::from_utf8_lossy(&content).into_owned()),
        "{raw:?}"
    );
    assert_eq!(world.terminate().0, Some(0));
    let body = world.ask(&format!("queue show --body {id}"));
    assert!(
        body.text.contains("to          <x@a.test> WQ_PENDING_XMIT") && body.text.contains("[2Jto be read"),
        "{body:?}"
    );
    assert!(!body.text.contains('\x1b'), "{body:?}");
    assert_eq!(world.ask("queue show 0000000000000007").status, 1);
    assert_eq!(world.ask("queue show x").status, 64);
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

/// Where nobody listens any more.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The recipients of what a next hop has taken, in order.
fn taken(sink: &Sink) -> Vec<String> {
    let mut to: Vec<String> = sink.look(|seen| seen.accepted().flat_map(|m| m.recipients.clone()).collect());
    to.sort();
    to
}

#[test]
fn what_is_routed_by_hand_goes_there_and_all_else_goes_as_before() {
    let (usual, other) = (Sink::start(), Sink::start());
    let mut world = World::load(&[
        "--relay-host",
        &usual.address().to_string(),
        "--local-domain",
        "mta.test",
        "--route",
        // TLS is asked of a next hop as a whole.
        &format!("strict.test={}", nobody()),
        "--tls-outbound",
        "strict.test=must",
    ]);
    for part in ["outbound transport", "inbound conversion"] {
        world.tell(&format!("smtpmta stop {part}"));
    }
    let mut client = Client::of(&world);
    // imsgcnv has to look at it, since one of them is for here.
    let mixed = client.mail(
        SENDER,
        &["x@a.test", "bsmith@mta.test", "s@strict.test"],
        &letter("mixed"),
    );
    let route = format!("route --via {}", other.address());
    let would = world.ask(&format!("queue {route} --dry-run {mixed}"));
    assert!(
        would.text.starts_with(&format!(
            "1 recipient of 1 message would be routed to {}\n1 recipient left as before: delivered here, and routed \
             nowhere\n1 recipient left as before: --tls-outbound asks for more TLS",
            other.address()
        )),
        "{would:?}"
    );
    does(&world, &format!("{route} {mixed}"), 1);
    world.tell("smtpmta start inbound conversion");
    world.wait_for_letters(SENDER, 1);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "2");
    let second = send(&world, &["y@a.test", "z@b.test"]);
    does(&world, &format!("{route} --to y@a.test --hop a.test"), 1);
    does(&world, &format!("{route} --to y@a.test"), 0);
    let held = send(&world, &["h@a.test"]);
    does(&world, &format!("hold {held}"), 1);
    does(&world, &format!("{route} {held}"), 1);
    let by_hand = format!("{} (by hand)", other.address());
    for asked in [
        "queue list --to y@*".to_owned(),
        format!("queue show {second}"),
        format!("trace {second}"),
        format!("why {second}"),
        format!("why {held}"),
    ] {
        let answer = world.ask(&asked);
        assert!(answer.text.contains(&by_hand), "{asked}: {answer:?}");
    }
    assert_eq!(
        world.sql("SELECT group_concat(recipient) FROM outbound_work_queue WHERE via = next_hop"),
        "x@a.test,y@a.test,h@a.test"
    );
    let told = "SELECT group_concat(DISTINCT event || ' ' || text) FROM history WHERE event LIKE '%pinned'";
    let by = world.sql(told);
    assert!(
        by.starts_with(&format!("pinned to {}, by ", other.address())),
        "{by}"
    );
    // It outlives the MTA, and a refresh.
    assert_eq!(world.terminate().0, Some(0));
    world.start();
    world.tell("smtpmta refresh");
    other.wait_for(|seen| seen.accepted().count() == 2, PATIENCE);
    usual.wait_for(|seen| seen.accepted().count() >= 1, PATIENCE);
    does(&world, &format!("release {held}"), 1);
    other.wait_for(|seen| seen.accepted().count() == 3, PATIENCE);
    world.wait_for_sql(
        "SELECT group_concat(recipient) FROM outbound_work_queue",
        "s@strict.test",
    );
    assert_eq!(taken(&other), ["h@a.test", "x@a.test", "y@a.test"]);
    assert_eq!(taken(&usual), ["z@b.test"]);
}

#[test]
fn what_waits_for_a_host_that_is_down_is_routed_around_it_and_back() {
    let other = Sink::start();
    other.hang_at(Stage::Rcpt);
    let down = nobody();
    let world = World::load(&["--relay-host", &down.to_string(), "--retry-schedule", "1h"]);
    let id = Client::of(&world).mail(SENDER, &["x@a.test"], &letter("around"));
    world.wait_for_sql("SELECT count(*) FROM next_hops WHERE failures > 0", "1");
    world.wait_for_sql("SELECT state FROM outbound_work_queue", "WQ_PENDING_XMIT");
    let route = format!("route --hop {down} --via {}", other.address());
    does(&world, &route, 1);
    // It is on the wire there now, and is stopped before more is said of it.
    other.wait_for(|seen| !seen.sessions.is_empty(), PATIENCE);
    world.wait_for_sql("SELECT state FROM outbound_work_queue", "WQ_MSG_LOCKED_FOR_XMIT");
    let back = world.ask(&format!("queue route {id} --via none"));
    assert_eq!(back.status, 0);
    assert!(
        back.text
            .contains("1 recipient in the hands of session handlers: marked"),
        "{back:?}"
    );
    other.release();
    world.wait_for_sql(
        "SELECT state || ' ' || next_hop || ' ' || ifnull(via, '-') FROM outbound_work_queue",
        &format!("WQ_PENDING_XMIT {down} -"),
    );
    assert!(taken(&other).is_empty());
    // That host backs off as it did; and the second time it goes.
    does(&world, &route, 1);
    other.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    let verdict = world.ask("verify --account");
    assert!(
        verdict.text.contains(": in order") && verdict.text.contains("balances"),
        "{verdict:?}"
    );
}

#[test]
fn what_a_session_handler_has_in_hand_is_stopped_before_anything_more_is_said_of_it() {
    for (stage, verb, becomes) in [
        (Stage::Mail, "hold", "WQ_HELD"),
        (Stage::Rcpt, "delete", "WQ_REMOVED"),
        (Stage::Rcpt, "bounce", "WQ_FAILED"),
        (Stage::Data, "hold", "WQ_HELD"),
    ] {
        let sink = Sink::start();
        sink.hang_at(stage);
        let world = World::load(&["--relay-host", &sink.address().to_string()]);
        let id = Client::of(&world).mail(SENDER, &["x@a.test"], &letter("on the wire"));
        sink.wait_for(|seen| !seen.sessions.is_empty(), PATIENCE);
        world.wait_for_sql("SELECT state FROM outbound_work_queue", "WQ_MSG_LOCKED_FOR_XMIT");
        let other = Client::of(&world).mail(SENDER, &["y@a.test"], &letter("goes on"));
        let answer = world.ask(&format!("queue {verb} {id}"));
        assert_eq!(answer.status, 0, "{answer:?}");
        assert!(
            answer
                .text
                .contains("1 recipient in the hands of session handlers: marked"),
            "{answer:?}"
        );
        sink.release();
        let now = format!(
            "SELECT s.name FROM recipient r JOIN state s ON s.number = r.state WHERE printf('%016X', r.message) = '{id}'"
        );
        world.wait_for_sql(&now, becomes);
        let now = now.replace(&id, &other);
        world.wait_for_sql(&now, "WQ_TRANSMITTED");
        assert!(
            sink.look(|seen| {
                seen.accepted()
                    .all(|message| !String::from_utf8_lossy(&message.content).contains("on the wire"))
            }),
            "{stage:?}"
        );
        assert_eq!(
            world.sql("SELECT count(*) FROM next_hops WHERE failures > 0"),
            "0",
            "the host is not at fault"
        );
    }
}
