//! The machine's clock is set while the MTA runs, a day forward and a day back: nothing bounces, nothing is sent again
//! and again, nothing spins, and mail flows on.

use std::time::{Duration, Instant};

use crate::support::client::{Client, letter};
use crate::support::other_clock::OtherClock;
use crate::support::sink::{Rule, Sink, Stage};
use crate::support::traffic::{Account, next_hop, under_load};
use crate::support::world::{PATIENCE, World};

/// Where the clock is set, one after the other: how far it is ahead of the machine's then, in seconds, and whether that
/// makes due what waits.
const SETTINGS: [(&str, i64, bool); 4] = [
    ("+1d", 86_400, true),
    ("+0", 0, false),
    ("-1d", -86_400, false),
    ("+0", 0, true),
];

/// Messages that wait for their next attempt.
const WAITING: usize = 30;

/// Whatever a setting of the clock leads to is tried once, over this many connections at most: one, and what the
/// machine's load may add.
const CONNECTIONS: usize = 4;

/// A world whose clock can be set, if there may be one.
fn world_and_clock(flags: &[&str]) -> Option<(World, OtherClock)> {
    let mut world = World::without_mta(flags);
    let clock = OtherClock::in_folder(world.spool().parent().unwrap())?;
    world.go_by(clock.clone());
    world.start();
    Some((world, clock))
}

/// Has drt look through the queue once more.
#[track_caller]
fn have_drt_look(world: &World) {
    world.tell("stop drtask");
    world.tell("start drtask");
    world.wait_for_task("drt", "Idle");
}

/// A world whose clock can be set, with mail that waits for a host which puts it off, and another host that takes all. A
/// day ahead what waits is too late, by the clock.
fn world_in_which_mail_waits(more: &[&str]) -> Option<(World, OtherClock, [Sink; 2])> {
    let hops = [Sink::start(), Sink::start()];
    hops[0].on(Stage::Rcpt, "450 4.2.1 later");
    let route = |domain: &str, sink: &Sink| format!("{domain}={}", sink.address());
    let routes = [route("late.test", &hops[0]), route("good.test", &hops[1])];
    let mut flags = vec![
        "--route",
        &routes[0],
        "--route",
        &routes[1],
        "--retry-schedule",
        "1h",
    ];
    flags.extend(["--expire", "12h", "--delay-warning", "4h"]);
    flags.extend(more);
    let (world, clock) = world_and_clock(&flags)?;
    let mut client = Client::of(&world);
    for number in 0..WAITING {
        client.mail(
            "bsmith@mta.test",
            &[&format!("{number}@late.test")],
            &letter("waits"),
        );
    }
    Some((world, clock, hops))
}

/// What becomes of mail that waits while the clock is set like this. Where the MTA `restarts`, it does so at each setting,
/// when it has noticed that.
fn what_waits_is_left_alone(settings: &[(&str, i64, bool)], restarts: bool) {
    let Some((mut world, clock, [late, good])) = world_in_which_mail_waits(&["--poll-interval", "1s"]) else {
        return;
    };
    let mut client = Client::of(&world);
    let tried = |world: &World, attempts: usize| {
        let sql =
            format!("SELECT count(*) FROM outbound_work_queue WHERE attempts = {attempts} AND list IS NULL");
        world.wait_for_sql(&sql, &WAITING.to_string());
    };
    tried(&world, 1);
    let (mut began, mut used) = (Instant::now(), world.daemon().processor_time());
    let mut attempts = 1;
    for &(setting, ahead, makes_due) in settings {
        let connections = late.look(|seen| seen.sessions.len());
        clock.set(setting);
        attempts += usize::from(makes_due);
        tried(&world, attempts);
        // An hour and its tenth, and the time that the test itself takes.
        let far = format!(
            "SELECT count(*) FROM recipient WHERE state = 2 \
             AND next_attempt > (strftime('%s', 'now') + {ahead} + 4200) * 1000000"
        );
        world.wait_for_sql(&far, "0");
        if restarts {
            if !makes_due {
                // Who is stopped in the middle of that does it once more.
                world.daemon().wait_for_word("recipients and messages that wait");
            }
            assert_eq!(world.terminate().0, Some(0));
            world.start();
            client = Client::of(&world);
            (began, used) = (Instant::now(), world.daemon().processor_time());
        }
        // And mail flows on, in the session that was there before, and in a new one.
        for client in [&mut client, &mut Client::of(&world)] {
            let arrived = good.look(|seen| seen.accepted().count());
            client.mail("bsmith@mta.test", &["jdoe@good.test"], &letter("flows"));
            good.wait_for(|seen| seen.accepted().count() == arrived + 1, PATIENCE);
        }
        have_drt_look(&world);
        let more = late.look(|seen| seen.sessions.len()) - connections;
        assert!(more <= CONNECTIONS, "{setting}: {more} connections");
        tried(&world, attempts);
        assert_eq!(world.sql(&far), "0", "{setting}");
    }
    let (took, used) = (began.elapsed(), world.daemon().processor_time() - used);
    assert!(used < took / 4 + Duration::from_secs(1), "{used:?} of {took:?}");
    let told = "SELECT count(*) FROM history WHERE event IN ('given up', 'failed', 'delay notice', 'dead')";
    assert_eq!(world.sql(told), "0");
    let twice = "SELECT count(*) - count(DISTINCT stamp) FROM event";
    assert_eq!(world.sql(twice), "0");
    late.behave();
    assert_eq!(world.ask("queue retry").status, 0);
    late.wait_for(|seen| seen.accepted().count() == WAITING, PATIENCE);
    assert_eq!(world.terminate().0, Some(0));
}

#[test]
fn what_waits_neither_bounces_nor_waits_for_longer_when_the_clock_is_set() {
    what_waits_is_left_alone(&SETTINGS, false);
}

#[test]
fn what_waits_neither_bounces_nor_waits_for_longer_when_the_mta_is_restarted_while_the_clock_is_ahead() {
    what_waits_is_left_alone(&SETTINGS[..2], true);
}

#[test]
fn mail_flows_on_while_the_clock_is_set() {
    let sink = next_hop();
    let flags = [
        "--relay-host",
        &sink.address().to_string(),
        "--poll-interval",
        "1s",
    ];
    let Some((mut world, clock)) = world_and_clock(&flags) else {
        return;
    };
    let mut account = Account::default();
    under_load(world.address(), "clock", 4, &mut account, |load, account| {
        for (setting, ..) in SETTINGS {
            load.wait_for(account, 50);
            clock.set(setting);
        }
        load.wait_for(account, 50);
    });
    assert_eq!(
        (account.not_taken.len(), account.open.len(), account.lost_sessions),
        (0, 0, 0)
    );
    world.wait_for_sql("SELECT count(*) FROM message WHERE left_at IS NULL", "0");
    account.balance(&world, &sink);
    assert_eq!(world.terminate().0, Some(0));
}

#[test]
fn a_clock_that_is_wrong_at_the_start_ends_nothing_and_nobody_hears_that_mail_is_late() {
    let Some((mut world, clock, [late, good])) = world_in_which_mail_waits(&[]) else {
        return;
    };
    good.obey(Rule::say(Stage::Rcpt, "550 5.1.1 no such user").only_for("gone@good.test"));
    let all_wait = |world: &World, attempts: usize| {
        let sql = format!(
            "SELECT count(*) FROM outbound_work_queue WHERE attempts = {attempts} AND state = 'WQ_PENDING_XMIT'"
        );
        world.wait_for_sql(&sql, &WAITING.to_string());
    };
    all_wait(&world, 1);
    assert_eq!(world.terminate().0, Some(0));
    clock.set("+1d");
    let mut bounced = 0;
    // As far as anybody can tell the MTA was away for a day. Then it crashes, and knows no better.
    for _ in 0..2 {
        world.start();
        world
            .daemon()
            .wait_for_word(" s more than when the work queue was last in use");
        // All of it was due by this clock, once.
        all_wait(&world, 2);
        let mut client = Client::of(&world);
        let arrived = good.look(|seen| seen.accepted().count());
        client.mail("bsmith@mta.test", &["jdoe@good.test"], &letter("flows"));
        good.wait_for(|seen| seen.accepted().count() == arrived + 1, PATIENCE);
        // When drt has made a second report, it is through with its round after the first.
        for _ in 0..2 {
            client.mail("bsmith@mta.test", &["gone@good.test"], &letter("bounces"));
            bounced += 1;
            let letters = world.wait_for_letters("bsmith@mta.test", bounced);
            assert_eq!(letters.len(), bounced);
        }
        all_wait(&world, 2);
        let ended = "SELECT count(*) FROM history WHERE event IN ('given up', 'delay notice')";
        assert_eq!(world.sql(ended), bounced.to_string());
        world.kill();
    }
    clock.set("+0");
    world.start();
    // What was put off by the other clock does not wait for a day.
    world.wait_for_sql(
        "SELECT count(*) FROM recipient WHERE state = 2 AND next_attempt > (strftime('%s', 'now') + 4200) * 1000000",
        "0",
    );
    all_wait(&world, 2);
    assert_eq!(world.letters("bsmith@mta.test").len(), bounced);
    late.behave();
    assert_eq!(world.ask("queue retry").status, 0);
    late.wait_for(|seen| seen.accepted().count() == WAITING, PATIENCE);
    assert_eq!(world.terminate().0, Some(0));
}
