//! The operator's words to the live MTA, and the signals.

use std::collections::HashMap;

use nix::sys::signal::SIGHUP;
use rusqlite::Connection;

use crate::support::client::{Client, letter};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{World, eventually};

#[test]
fn show_tasks_is_a_line_for_each_task() {
    let world = World::load(&[]);
    world.wait_for_task("imsgcnv", "Idle");
    let port = world.address();
    eventually("all tasks to be idle", || {
        let expected = format!(
            "SMTPMTA smtpmta Running\nSMTPMTA omsgcnv Idle\nSMTPMTA osesctl Idle\n\
             SMTPMTA isesctl Listening on SMTP port {port}\nSMTPMTA imsgcnv Idle\nSMTPMTA drt Idle\n"
        );
        let screen = world.show("tasks");
        if screen == expected { Ok(()) } else { Err(screen) }
    });
}

#[test]
fn show_tasks_says_which_command_a_client_is_at_and_nothing_of_what_it_keeps_secret() {
    let world = World::load(&[]);
    let mut client = Client::of(&world);
    let at = |doing: &str| world.wait_for_task("iseshlr0", &format!("Session with 127.0.0.1{doing}"));
    at(", at EHLO");
    client.say("MAIL FROM:<bsmith@univac.com>");
    at(", at MAIL");
    client.say("c2VjcmV0");
    at(", at MAIL (for ");
    client.say("quit");
    world.wait_for_task("iseshlr0", "Idle");
}

#[test]
fn every_show_answers_and_its_json_is_json() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "451 4.3.0 later");
    let world = World::load(&["--route", &format!("ibm.com={}", sink.address())]);
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("shown"));
    world.wait_for_sql("SELECT attempts FROM outbound_work_queue", "1");
    for what in ["tasks", "config", "stat", "version", "queue", "lists", "hops"] {
        assert!(!world.show(what).is_empty(), "{what}");
        let json = world.ask(&format!("show --json {what}"));
        assert_eq!(json.status, 0, "{json:?}");
        serde_json::from_str::<serde_json::Value>(&json.text)
            .unwrap_or_else(|error| panic!("{what}: {error}: {}", json.text));
    }
    assert!(
        world
            .show("config")
            .contains(&format!("route ibm.com={}", sink.address()))
    );
    assert!(world.show("queue").contains("451 4.3.0 later"));
}

#[test]
fn the_queue_is_listed_by_message_and_by_next_hop_as_far_as_is_wanted() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "451 4.3.0 later");
    let routes = ["ibm.com", "dec.com"].map(|domain| format!("{domain}={}", sink.address()));
    let world = World::load(&["--route", &routes[0], "--route", &routes[1]]);
    let empty = world.ask("queue list");
    assert_eq!(
        (empty.status, empty.complaint.as_str()),
        (1, "There is nothing in the work queues.\n")
    );
    let to = ["jdoe@ibm.com", "jroe@ibm.com", "jdoe@dec.com"];
    let id = Client::of(&world).mail("bsmith@univac.com", &to, &letter("listed"));
    world.wait_for_sql(
        "SELECT count(*), sum(attempts) FROM outbound_work_queue WHERE list IS NULL",
        "3|3",
    );
    let list = world.ask("queue list --limit 2");
    let lines: Vec<&str> = list.text.lines().collect();
    assert_eq!((list.status, lines.len()), (0, 4), "{}", list.text);
    assert!(lines[1].starts_with(&id) && lines[1].contains("<bsmith@univac.com>  <jdoe@ibm.com>"));
    assert!(lines[2].contains("451 4.3.0 later"), "{}", list.text);
    assert_eq!(lines[3], "and 1 more");
    let json = world.ask("queue list --json");
    let json: serde_json::Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!((&json["more"], &json["more_is_exact"]), (&0.into(), &true.into()));
    assert_eq!(json["recipients"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["recipients"][2]["recipient"], "jdoe@dec.com");
    assert_eq!(world.ask("show queue --limit 1").status, 0);
    for wrong in [
        "queue list --limit none",
        "show tasks --all",
        "show queue --limit 0",
    ] {
        assert_eq!(world.ask(wrong).status, 64, "{wrong}");
    }
}

#[test]
fn what_is_not_a_command_is_refused_with_the_status_of_wrong_usage() {
    let world = World::load(&[]);
    for words in [
        "tell smtpmta dance",
        "tell dance",
        "tell stop sideways",
        "show me",
        "tell show me",
    ] {
        let answer = world.ask(words);
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (64, ""),
            "{words}: {answer:?}"
        );
        assert!(answer.complaint.contains("expected"), "{words}: {answer:?}");
    }
}

#[test]
fn words_are_understood_in_any_case_with_and_without_the_name_of_the_mta() {
    let world = World::load(&[]);
    for words in [
        "SMTPMTA STOP DRTASK",
        "smtpmta start drtask",
        "Stop DrTask",
        "start drtask",
    ] {
        world.tell(words);
    }
    assert_eq!(world.tell("smtpmta show version"), world.show("version"));
}

#[test]
fn where_no_mta_runs_the_status_says_so() {
    let mut world = World::without_mta(&[]);
    for words in ["show tasks", "tell smtpmta quit"] {
        let answer = world.ask(words);
        assert_eq!(answer.status, 69, "{answer:?}");
        assert!(answer.complaint.contains("no MTA is running"), "{answer:?}");
    }
    // Nor where one has been killed and left its socket behind.
    world.start();
    world.kill();
    assert_eq!(world.ask("show tasks").status, 69);
    world.start();
    assert_eq!(world.tasks().len(), 6);
}

#[test]
fn a_second_mta_on_the_same_spool_is_refused_and_the_first_goes_on() {
    let world = World::load(&[]);
    let (status, said) = world.another().last_words();
    assert_eq!(status, Some(75), "{said}");
    assert!(said.contains("this spool is in use by another smtpmta"), "{said}");
    assert!(!said.contains("Listening"), "{said}");
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("still here"));
    world.wait_for_letters("jdoe@mta.test", 1);
}

#[test]
fn a_refresh_takes_the_new_configuration_and_what_the_operator_stopped_stays_stopped() {
    let world = World::load(&[]);
    world.tell("smtpmta stop outbound transport");
    world.configure("local-domain ibm.com\n");
    world.daemon().signal(SIGHUP);
    eventually("the new configuration", || {
        let config = world.show("config");
        if config.contains("local-domain ibm.com") {
            Ok(())
        } else {
            Err(config)
        }
    });
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("local now"));
    world.wait_for_letters("jdoe@ibm.com", 1);
    world.wait_for_task("osesctl", "Stopped");
    for task in ["omsgcnv", "imsgcnv", "drt"] {
        world.wait_for_task(task, "Idle");
    }
}

#[test]
fn a_wrong_configuration_is_refused_at_a_refresh_and_the_old_one_stays() {
    let world = World::load(&[]);
    let before = world.show("config");
    world.configure("max-recipients many\n");
    let refused = world.ask("tell smtpmta refresh");
    assert_eq!(refused.status, 78, "{refused:?}");
    assert!(refused.complaint.contains("max-recipients"), "{refused:?}");
    assert_eq!(world.show("config"), before);
}

#[test]
fn housekeeping_compacts_the_queue_beside_the_tasks_and_what_the_operator_stopped_stays_stopped() {
    let mut world = World::load(&[]);
    world.terminate();
    // Gaps such as the mail of a busy day leaves behind.
    let db = Connection::open(world.spool().join("queue.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE day (mail BLOB); INSERT INTO day VALUES (zeroblob(80000000)); DROP TABLE day",
    )
    .unwrap();
    drop(db);
    let pages = "SELECT page_count > 1000 FROM pragma_page_count";
    assert_eq!(world.sql(pages), "1");
    world.configure("housekeeping never\n");
    world.start();
    world.tell("smtpmta stop outbound transport");
    world.tell("smtpmta stop drtask");
    let mut client = Client::of(&world);

    world.tell("smtpmta housekeeping");
    world.wait_for_sql(pages, "0");
    let log = world.spool().join("queue.db-wal");
    eventually("the log to be cut", || {
        let octets = std::fs::metadata(&log).unwrap().len();
        if octets < 1 << 20 {
            Ok(())
        } else {
            Err(octets.to_string())
        }
    });
    for task in ["omsgcnv", "imsgcnv"] {
        world.wait_for_task(task, "Idle");
    }
    for task in ["osesctl", "drt"] {
        world.wait_for_task(task, "Stopped");
    }
    // A session that had begun before goes on.
    client.mail(
        "bsmith@univac.com",
        &["jdoe@mta.test"],
        &letter("after the housekeeping"),
    );
    world.wait_for_letters("jdoe@mta.test", 1);
}

/// The lines of `show stat` about housekeeping, without their common beginning, by their names.
fn told_of_housekeeping(world: &World) -> HashMap<String, String> {
    let screen = world.show("stat");
    let lines = screen
        .lines()
        .filter_map(|line| line.strip_prefix("Housekeeping."));
    lines
        .map(|line| line.split_once(" = ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Waits until housekeeping has run through so often, and gives what is told of it.
#[track_caller]
fn wait_for_housekeeping(world: &World, runs: &str) -> HashMap<String, String> {
    eventually(&format!("{runs} runs of housekeeping"), || {
        let told = told_of_housekeeping(world);
        match told.get("Runs") {
            Some(through) if through == runs => Ok(told),
            _ => Err(told),
        }
    })
}

#[test]
fn show_stat_says_when_housekeeping_ran_and_what_it_did_and_one_that_was_missed_is_made_up_for() {
    let sink = Sink::start();
    sink.order("rcpt[dead@*]=550 5.1.1 nobody");
    let relay = sink.address().to_string();
    let mut world = World::load(&["--relay-host", &relay, "--keep-history", "0s"]);
    let mut client = Client::of(&world);
    client.mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("forgotten"));
    client.mail("", &["dead@ibm.com"], &letter("stays"));
    world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "1");
    world.wait_for_sql("SELECT count(*) FROM dead_mail", "1");
    assert!(told_of_housekeeping(&world).is_empty());
    world.tell("stop drtask");
    eventually("housekeeping to begin", || {
        let said = world.tell("housekeeping");
        let has_begun = said == "Housekeeping has begun\n";
        has_begun.then_some(()).ok_or(said)
    });
    let told = wait_for_housekeeping(&world, "1");
    assert_eq!(
        (told["LastForgotten"].as_str(), told["LastFailedParts"].as_str()),
        ("1", "0"),
        "{told:?}"
    );
    assert!(
        told["LastRun"].starts_with("20") && told["LastRun"].contains(':'),
        "{told:?}"
    );
    let json = world.ask("show --json stat");
    let json: serde_json::Value = serde_json::from_str(&json.text).unwrap();
    assert!(
        json["Housekeeping.LastRun"].as_i64() > Some(1_700_000_000),
        "{json}"
    );
    world.wait_for_task("drt", "Stopped");

    // It is down at its time, two days long.
    world.terminate();
    let days_ago = "UPDATE statistic SET value = value - 2 * 86400 WHERE name = 'Housekeeping.LastRun'";
    world.tamper(days_ago);
    world.start();
    let told = wait_for_housekeeping(&world, "2");
    assert_eq!(told["LastForgotten"], "0");
    assert_eq!(world.sql("SELECT recipient FROM dead_mail"), "dead@ibm.com");
}
