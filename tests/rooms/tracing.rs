//! `trace` and `why`: the whole life of a message, and what it waits for, from one command each.

use crate::support::client::{Client, letter};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

const SENDER: &str = "bsmith@mta.test";

#[test]
fn a_message_is_traced_from_the_session_that_brought_it_to_the_host_that_took_it() {
    let sink = Sink::start();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    let content = b"Subject: hello\r\nMessage-ID: <one@mta.test>\r\n\r\nhello\r\n";
    let id = Client::of(&world).mail(SENDER, &["x@a.test", "y@b.test"], content);
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    let by_id = world.ask(&format!("trace {id}"));
    assert_eq!(by_id.status, 0, "{by_id:?}");
    for line in [
        "from        <bsmith@mta.test>",
        "brought by  ESMTP 127.0.0.1",
        "subject     hello",
        "message-id  <one@mta.test>",
        "to          <x@a.test> WQ_TRANSMITTED",
    ] {
        assert!(by_id.text.contains(line), "{line}: {}", by_id.text);
    }
    let words = [
        "accepted",
        "converted",
        "routed",
        "listed",
        "transmitted",
        "transmitted",
    ];
    let places: Vec<_> = words
        .iter()
        .map(|word| by_id.text.rfind(&format!("  {word:<12}")))
        .collect();
    assert!(
        places.is_sorted() && places[0].is_some(),
        "{places:?}: {}",
        by_id.text
    );
    for what in ["X@A.test", SENDER, "<one@mta.test>", "one@mta.test"] {
        assert_eq!(world.ask(&format!("trace {what}")).text, by_id.text, "{what}");
    }
    let other = Client::of(&world).mail(SENDER, &["z@a.test"], &letter("second"));
    let last = world.ask(&format!("trace {SENDER} --limit 1"));
    assert!(
        last.text.starts_with(&other) && last.text.contains("there are more"),
        "{last:?}"
    );
    let both = world.ask(&format!("trace {SENDER} --json"));
    let both: serde_json::Value = serde_json::from_str(&both.text).unwrap();
    assert_eq!(
        (both[0]["id"].as_str(), both[1]["id"].as_str()),
        (Some(&*id), Some(&*other))
    );
    for nothing in [
        "trace nobody@a.test",
        "trace 0000000000000001",
        "why 0000000000000001",
    ] {
        let answer = world.ask(nothing);
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(
            answer.complaint.starts_with("nothing is known of such a message"),
            "{answer:?}"
        );
    }
}

#[test]
fn what_waits_is_counted_by_its_age_and_its_next_hop() {
    let sink = Sink::start();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    assert_eq!(world.ask("queue age").status, 1);
    world.tell("smtpmta stop outbound transport");
    for to in [&["x@a.test", "y@a.test"][..], &["z@a.test"]] {
        Client::of(&world).mail(SENDER, to, &letter("waiting"));
    }
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "3");
    let ages = world.ask("queue age").text;
    let lines: Vec<&str> = ages.lines().collect();
    assert!(
        lines[1].starts_with("3           3 ") && lines[1].ends_with(&sink.address().to_string()),
        "{ages}"
    );
    assert!(
        lines[2].starts_with("3           3 ") && lines[2].ends_with("all"),
        "{ages}"
    );
}

#[test]
fn what_a_message_waits_for_is_a_sentence_that_names_the_command_that_frees_it() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "450 4.2.0 greylisted");
    let world = World::load(&[
        "--relay-host",
        &sink.address().to_string(),
        "--retry-schedule",
        "1h",
    ]);
    let id = Client::of(&world).mail(SENDER, &["x@a.test"], &letter("grey"));
    world.wait_for_sql(
        "SELECT attempts, state FROM outbound_work_queue",
        "1|WQ_PENDING_XMIT",
    );
    let why = |expected: &[&str]| {
        let answer = world.ask(&format!("why {id}"));
        assert_eq!(answer.text.lines().count(), 1, "{answer:?}");
        for words in expected {
            assert!(answer.text.contains(words), "{words}: {answer:?}");
        }
    };
    let retry = format!("queue retry {id} tries it now");
    why(&[
        "<x@a.test>: waits for its next attempt at",
        "greylisted",
        "its time is over",
        &retry,
    ]);
    world.tell("smtpmta stop outbound transport");
    why(&["osesctl is stopped: smtpmta tell start outbound transport starts it"]);
    assert_eq!(world.ask(&format!("queue hold {id}")).status, 0);
    let release = format!("queue release {id} lets it go on");
    why(&["put aside since", "by ", &release]);
    // The command that it names frees it.
    sink.behave();
    world.tell("smtpmta start outbound transport");
    assert_eq!(world.ask(&format!("queue release {id}")).status, 0);
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    why(&["its next hop took it at 20"]);
}
