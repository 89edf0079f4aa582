//! `smtpmta verify`: beside a running MTA, without one, and on a copy.

use std::fs;

use nix::errno::Errno;
use rusqlite::Connection;
use serde_json::Value;

use crate::support::client::{Client, big_letter, letter};
use crate::support::shim::{Fault, WRITE};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

/// A world with mail that was delivered, sent, returned, and some that waits.
fn world_at_work(sink: &Sink) -> World {
    sink.on(Stage::Rcpt, "451 4.3.0 later");
    let world = World::load(&["--route", &format!("ibm.com={}", sink.address())]);
    let mut client = Client::of(&world);
    client.mail(
        "bsmith@mta.test",
        &["jdoe@mta.test", "jdoe@ibm.com"],
        &letter("both"),
    );
    client.mail(
        "bsmith@mta.test",
        &["jdoe@ibm.com"],
        &big_letter("large", 100_000),
    );
    world.wait_for_letters("jdoe@mta.test", 1);
    world.wait_for_sql(
        "SELECT count(*) FROM outbound_work_queue WHERE attempts = 1 AND list IS NULL",
        "2",
    );
    world
}

#[test]
fn a_queue_in_order_says_so_with_its_account_while_the_mta_runs_and_after_it() {
    let sink = Sink::start();
    let mut world = world_at_work(&sink);
    let running = world.ask("verify --account");
    assert_eq!(
        (running.status, running.complaint.as_str()),
        (0, ""),
        "{running:?}"
    );
    let lines: Vec<&str> = running.text.lines().collect();
    assert_eq!(
        lines[0],
        "2 messages, 2 of them in the queue, 3 recipients, 1 next hops: in order"
    );
    assert!(
        running.text.contains("\nThe account balances.\n"),
        "{}",
        running.text
    );
    world.terminate();
    let stopped = world.ask("verify --account --json");
    assert_eq!(stopped.status, 0, "{stopped:?}");
    let said: Value = serde_json::from_str(&stopped.text).unwrap();
    let account = &said["account"];
    assert_eq!(
        (&said["in_order"], &account["balances"]),
        (&true.into(), &true.into())
    );
    assert_eq!(account["counters_agree"], true, "{account}");
    assert_eq!(account["accepted"]["counters"], 3);
    assert_eq!(account["delivered"]["database"], 1);
    assert_eq!((&account["waiting"], &account["crashes"]), (&2.into(), &0.into()));
}

#[test]
fn what_is_not_in_order_is_a_line_each_and_the_status_tells() {
    let sink = Sink::start();
    let mut world = world_at_work(&sink);
    world.terminate();
    let copy = world.path("copy");
    fs::create_dir_all(format!("{copy}/content")).unwrap();
    for file in ["queue.db", "queue.db-wal"] {
        let _ = fs::copy(world.spool().join(file), format!("{copy}/{file}"));
    }
    let db = Connection::open(format!("{copy}/queue.db")).unwrap();
    db.execute_batch("UPDATE recipient SET state = 77 WHERE n = 1")
        .unwrap();
    drop(db);
    let answer = world.ask(&format!("verify {copy}"));
    assert_eq!(answer.status, 65, "{answer:?}");
    let has = |words: &[&str]| {
        let found = answer
            .text
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?}: {}", answer.text);
    };
    has(&["message 00", "its content file ", " is missing; "]);
    has(&[
        "message 00",
        "recipient 1: there is no state 77; tell housekeeping",
    ]);
    has(&["next hop 1: waiting is 2, and recipients that wait for it: 1"]);
    has(&[": not in order"]);
    // The spool itself is as it was.
    assert_eq!(world.ask("verify").status, 0);
}

#[test]
fn where_there_is_no_queue_the_status_says_so() {
    let world = World::without_mta(&[]);
    let none = world.ask("verify");
    assert_eq!(none.status, 66, "{none:?}");
    assert!(none.complaint.contains("queue.db"), "{none:?}");
    let other = World::without_mta(&[]);
    fs::create_dir_all(other.spool()).unwrap();
    fs::write(other.spool().join("queue.db"), [1; 9000]).unwrap();
    let broken = other.ask("verify");
    assert_eq!(broken.status, 65, "{broken:?}");
    assert!(broken.text.contains("file is not a database"), "{broken:?}");
}

/// So many writes of a stop are let fail, one after the other: its counters are among the first.
const PLACES: i64 = 8;

#[test]
fn whichever_write_of_a_stop_fails_its_account_is_in_order() {
    let mut world = World::without_mta(&[]);
    let faults = world.faults();
    for place in 0..PLACES {
        world.start();
        Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("counted"));
        world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
        faults.order(&[Fault::of(WRITE, Errno::EIO).on("queue.db").after(place).times(1)]);
        assert_eq!(world.terminate().0, Some(0), "{place}");
        let struck = faults.struck();
        faults.behave();
        assert_eq!(struck, 1, "{place}");
        let verdict = world.ask("verify --account");
        assert_eq!(verdict.status, 0, "{place}: {verdict:?}");
    }
    // What could not be written is counted anew.
    world.start();
    assert_eq!(world.terminate().0, Some(0));
    let verdict = world.ask("verify --account");
    let accepted = format!("accepted         {PLACES}         {PLACES}\n");
    assert!(verdict.text.contains(&accepted), "{verdict:?}");
}

#[test]
fn it_finds_nothing_wrong_while_mail_flows_and_keeps_none_of_it() {
    let sink = Sink::start();
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    let messages = 400;
    std::thread::scope(|scope| {
        let bring = scope.spawn(|| {
            let mut client = Client::of(&world);
            for number in 0..messages {
                let content = match number % 10 {
                    0 => big_letter("large", 100_000),
                    _ => letter("small"),
                };
                client.mail("bsmith@univac.com", &["jdoe@ibm.com", "jroe@ibm.com"], &content);
            }
        });
        let mut looks = 0;
        while !bring.is_finished() || looks == 0 {
            let words = if looks % 2 == 0 {
                "verify"
            } else {
                "verify --account"
            };
            let answer = world.ask(words);
            assert_eq!(answer.status, 0, "{answer:?}");
            looks += 1;
        }
    });
    sink.wait_for(|seen| seen.accepted().count() == messages, PATIENCE);
}
