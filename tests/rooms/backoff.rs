//! Next hops that do not answer: they wait as a whole, cost one connection an interval, and delay nobody else.

use crate::support::client::{Client, letter};
use crate::support::sink::{Rule, Sink, Stage};
use crate::support::world::{PATIENCE, World, eventually};

const SENDER: &str = "bsmith@mta.test";

/// What waits for dead.test, and how often it has failed in a row.
const PENDING: &str = "SELECT pending FROM next_hops WHERE failures > 0";

/// Sends so many messages to `to`.
fn send(world: &World, many: usize, to: &str) {
    let mut client = Client::of(world);
    for _ in 0..many {
        client.mail(SENDER, &[to], &letter("waiting"));
    }
}

fn number(world: &World, query: &str) -> usize {
    world.sql(query).parse().unwrap_or(0)
}

/// dead.test is `dead`, live.test is `live`.
fn routes(dead: &Sink, live: &Sink) -> [String; 4] {
    [
        "--route".to_owned(),
        format!("dead.test={}", dead.address()),
        "--route".to_owned(),
        format!("live.test={}", live.address()),
    ]
}

fn load(routes: &[String], flags: &[&str]) -> World {
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    World::load(&[&routes[..], flags].concat())
}

#[test]
fn a_dead_next_hop_costs_a_connection_an_interval_and_the_first_answer_releases_all() {
    let (dead, live) = (Sink::start(), Sink::start());
    dead.drop_at(Stage::Greeting);
    let world = load(&routes(&dead, &live), &["--retry-schedule", "1s", "-O", "1"]);
    send(&world, 1, "x@dead.test");
    world.wait_for_sql(PENDING, "1");
    send(&world, 150, "x@dead.test");
    world.wait_for_sql(PENDING, "151");
    // Meanwhile others are served at once, by the only handler that there is.
    send(&world, 1, "x@live.test");
    live.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    eventually("a few probes", || {
        match number(&world, "SELECT max(failures) FROM next_hops") {
            0..3 => Err(()),
            _ => Ok(()),
        }
    });
    let (failures, sessions) = (
        number(&world, "SELECT max(failures) FROM next_hops"),
        dead.look(|seen| seen.sessions.len()),
    );
    assert!(
        sessions <= failures + 1,
        "{sessions} sessions for {failures} failures"
    );
    let listed = number(
        &world,
        "SELECT count(*) FROM history WHERE event = 'listed' AND recipient IS NULL AND text LIKE '%probe%'",
    );
    assert!(
        (2..=failures + 1).contains(&listed),
        "{listed} probes for {failures} failures"
    );
    let hops = world.show("hops");
    assert!(
        hops.contains("Failures") && hops.contains("lost connection"),
        "{hops}"
    );

    dead.behave();
    dead.wait_for(|seen| seen.accepted().count() == 151, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM next_hops WHERE failures > 0", "0");
}

#[test]
fn a_back_off_survives_a_crash_and_is_ended_by_the_operator() {
    let (dead, live) = (Sink::start(), Sink::start());
    dead.on(Stage::Greeting, "421 4.3.2 not today");
    let mut world = load(&routes(&dead, &live), &["--retry-schedule", "1h"]);
    let name = dead.address().to_string();
    send(&world, 3, "x@dead.test");
    world.wait_for_sql(PENDING, "3");
    let before = "SELECT failures, down_since, next_probe FROM next_hops WHERE failures > 0";
    let told = world.sql(before);
    assert!(told.starts_with("1|"), "{told}");
    world.kill();
    world.start();
    send(&world, 2, "x@dead.test");
    world.wait_for_sql(PENDING, "5");
    assert_eq!(world.sql(before), told);
    assert_eq!(dead.look(|seen| seen.sessions.len()), 1);
    let hops = world.ask("show hops --json");
    let hops: serde_json::Value = serde_json::from_str(&hops.text).unwrap();
    assert_eq!(
        (&hops[0]["failures"], hops[0]["next_hop"].as_str()),
        (&1.into(), Some(&*name))
    );
    assert!(
        hops[0]["next_probe"].is_string() && hops[0]["down_since"].is_string(),
        "{hops}"
    );
    assert!(world.show("queue").contains("not today"));

    let nothing = world.ask("queue retry --hop elsewhere.test");
    assert_eq!(
        (nothing.status, nothing.complaint.as_str()),
        (1, "nothing that waits matched\n")
    );
    // By the domain that is routed there as well as by its own name.
    world.tell("smtpmta stop outbound transport");
    dead.behave();
    for hop in ["Dead.test", &name] {
        let retried = world.ask(&format!("queue retry --hop {hop} --json"));
        assert_eq!(
            (retried.status, retried.text.as_str()),
            (0, "{\"messages\":5}\n"),
            "{hop}"
        );
    }
    world.tell("smtpmta start outbound transport");
    dead.wait_for(|seen| seen.accepted().count() == 5, PATIENCE);
    assert_eq!(
        world.sql("SELECT count(*) FROM history WHERE event = 'retried'"),
        "10"
    );
    assert!(
        world
            .sql("SELECT text FROM history WHERE event = 'retried' LIMIT 1")
            .starts_with("due now, by ")
    );
}

#[test]
fn a_message_that_a_host_refuses_for_now_can_be_retried_by_its_id() {
    let (grey, live) = (Sink::start(), Sink::start());
    grey.on(Stage::Rcpt, "450 4.2.0 greylisted");
    let world = load(&routes(&grey, &live), &["--retry-schedule", "1h"]);
    let id = Client::of(&world).mail(SENDER, &["x@dead.test"], &letter("grey"));
    world.wait_for_sql(
        "SELECT attempts, state FROM outbound_work_queue",
        "1|WQ_PENDING_XMIT",
    );
    // One message's fault is none of the next hop's.
    assert_eq!(
        world.sql("SELECT count(*) FROM next_hops WHERE failures > 0"),
        "0"
    );
    grey.behave();
    assert_eq!(
        world.ask(&format!("queue retry {id}")).text,
        "1 message is due now\n"
    );
    grey.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    assert_eq!(world.ask("queue retry").status, 1);
    assert_eq!(world.ask("queue retry nonsense").status, 64);
    // Half of a command would be another one.
    let too_long = world.ask(&format!("queue retry {}", "0123456789ABCDEF ".repeat(4000)));
    assert_eq!(too_long.status, 64, "{too_long:?}");
    assert!(too_long.complaint.contains("at most"), "{too_long:?}");
}

#[test]
fn what_waits_for_a_dead_next_hop_expires_with_its_error() {
    let (dead, live) = (Sink::start(), Sink::start());
    dead.on(Stage::Greeting, "554 5.7.1 go away");
    let world = load(
        &routes(&dead, &live),
        &["--retry-schedule", "1h", "--expire", "2s"],
    );
    send(&world, 2, "x@dead.test");
    let letters = world.wait_for_letters(SENDER, 2);
    let report = String::from_utf8(letters[1].clone()).unwrap();
    assert!(report.contains("Status: 5.4.7\n"), "{report}");
    let text = report.replace("\n      ", " ");
    assert!(text.contains("its next hop does not answer: host"), "{report}");
    assert!(text.contains("go away"), "{report}");
}

#[test]
fn a_flood_for_one_next_hop_lets_a_message_for_another_go_after_a_list() {
    let (flooded, live) = (Sink::start(), Sink::start());
    let limits = ["-O", "1", "--list-messages", "5"];
    let world = load(&routes(&flooded, &live), &limits);
    world.tell("smtpmta stop outbound transport");
    send(&world, 100, "x@dead.test");
    send(&world, 1, "x@live.test");
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "101");
    flooded.hang_at(Stage::Dot);
    world.tell("smtpmta start outbound transport");
    flooded.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    flooded.release();
    flooded.wait_for(|seen| seen.accepted().count() == 100, PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    // At most one list of the flood went before it.
    let order = world.sql("SELECT recipient FROM history WHERE event = 'transmitted' ORDER BY stamp");
    let before = order.lines().position(|to| to == "x@live.test");
    let lists = "SELECT DISTINCT event, text FROM history WHERE event IN ('listed', 'locked', 'released')";
    assert!(
        before.is_some_and(|before| before <= 5),
        "{before:?}\n{}",
        world.sql(lists)
    );
}

#[test]
fn no_more_messages_go_to_a_next_hop_than_its_rate_allows_and_others_are_not_slowed_down() {
    let (slow, live) = (Sink::start(), Sink::listen("127.0.0.2:0"));
    let world = load(
        &routes(&slow, &live),
        &["--hop-rate", "[127.0.0.1]=4/1s", "-O", "1"],
    );
    world.tell("smtpmta stop outbound transport");
    send(&world, 10, "x@dead.test");
    send(&world, 20, "x@live.test");
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "30");
    world.tell("smtpmta start outbound transport");
    live.wait_for(|seen| seen.accepted().count() == 20, PATIENCE);
    let hops: serde_json::Value = serde_json::from_str(&world.ask("show hops --json").text).unwrap();
    let rates: Vec<_> = hops.as_array().unwrap().iter().map(|hop| &hop["rate"]).collect();
    assert!(
        rates.contains(&&"4/1s".into()) && rates.contains(&&serde_json::Value::Null),
        "{hops}"
    );
    slow.wait_for(|seen| seen.accepted().count() == 10, PATIENCE);
    let listed = format!(
        "SELECT stamp FROM history WHERE event = 'listed' AND text LIKE '%{}%' ORDER BY stamp",
        slow.address()
    );
    let listed: Vec<i64> = world
        .sql(&listed)
        .lines()
        .map(|stamp| stamp.parse().unwrap())
        .collect();
    assert_eq!(listed.len(), 10);
    // The only handler that there is did not wait for the tokens.
    let last = |to: &str| {
        let last =
            format!("SELECT max(stamp) FROM history WHERE event = 'transmitted' AND recipient = '{to}'");
        world.sql(&last)
    };
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    assert!(last("x@live.test") < last("x@dead.test"));
    for period in listed.windows(5) {
        assert!(
            period[4] - period[0] > 900_000,
            "five in less than a second: {listed:?}"
        );
    }
}

#[test]
fn a_next_hop_that_says_too_many_gets_fewer_sessions_and_show_hops_says_so() {
    let (busy, live) = (Sink::start(), Sink::start());
    busy.obey(Rule::say(Stage::Mail, "421 4.7.0 too many connections from you").times(1));
    let world = load(&routes(&busy, &live), &["--retry-schedule", "1s"]);
    send(&world, 1, "x@dead.test");
    busy.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    let hops: serde_json::Value = serde_json::from_str(&world.ask("show hops --json").text).unwrap();
    assert_eq!(hops[0]["limit"], 1, "{hops}");
}
