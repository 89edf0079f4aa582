//! A session that is through is kept open for a moment, for mail that comes after all.

use crate::support::client::{Client, letter};
use crate::support::sink::Sink;
use crate::support::world::{PATIENCE, World};

/// How often chance may be against us: the moment is short, and a busy machine may miss it.
const ROUNDS: usize = 40;

fn world(sink: &Sink, flags: &[&str]) -> World {
    let relay_host = sink.address().to_string();
    World::load(&[&["--relay-host", &relay_host][..], flags].concat())
}

/// Sends letters one after the other, each when the one before has arrived, until `enough`.
fn send_until(world: &World, sink: &Sink, enough: impl Fn(&[usize]) -> bool) {
    let mut client = Client::of(world);
    for round in 1..=ROUNDS {
        client.mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("one more"));
        sink.wait_for(|seen| seen.accepted().count() == round, PATIENCE);
        if enough(&sessions(sink)) {
            return;
        }
    }
    panic!("{:?}", sessions(sink));
}

/// The session of each message that was accepted.
fn sessions(sink: &Sink) -> Vec<usize> {
    sink.look(|seen| seen.accepted().map(|message| message.session).collect())
}

fn nothing_was_deferred(world: &World) {
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    let deferred = "SELECT count(*) FROM history WHERE event IN ('deferred', 'released')";
    assert_eq!(world.sql(deferred), "0");
}

#[test]
fn mail_that_comes_soon_after_goes_over_the_same_connection() {
    let sink = Sink::start();
    let world = world(&sink, &[]);
    send_until(&world, &sink, |sessions| {
        sessions
            .windows(3)
            .any(|three| three.iter().all(|session| *session == three[0]))
    });
    sink.wait_for(|seen| seen.live().count() == 0, PATIENCE);
    sink.look(|seen| {
        for session in &seen.sessions {
            assert_eq!(session.commands.last().map(String::as_str), Some("QUIT"));
        }
    });
    nothing_was_deferred(&world);
}

#[test]
fn a_host_that_closes_after_each_message_gets_each_over_a_connection_of_its_own() {
    let sink = Sink::start();
    sink.order("dot=close-after");
    let world = world(&sink, &[]);
    send_until(&world, &sink, |sessions| sessions.len() == 5);
    assert_eq!(sessions(&sink), [0, 1, 2, 3, 4]);
    nothing_was_deferred(&world);
}

#[test]
fn another_next_hop_gets_the_only_handler_at_once() {
    let (sink, other) = (Sink::start(), Sink::start());
    let route = format!("lotus.com={}", other.address());
    let world = world(&sink, &["-O", "1", "--route", &route]);
    let mut client = Client::of(&world);
    for round in 1..=10 {
        client.mail("bsmith@univac.com", &["jdoe@ibm.com"], &letter("the one"));
        client.mail("bsmith@univac.com", &["jdoe@lotus.com"], &letter("the other"));
        for sink in [&sink, &other] {
            sink.wait_for(|seen| seen.accepted().count() == round, PATIENCE);
        }
    }
    nothing_was_deferred(&world);
}
