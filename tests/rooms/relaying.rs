//! Where mail for elsewhere goes: the relay host, a route, or the hosts that DNS names.

use std::net::SocketAddr;

use domain::base::Rtype;

use crate::support::client::{Client, letter};
use crate::support::dns_server::{DnsServer, Fault};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

/// Two next hops on one port, as hosts found by MX have: 127.0.0.2 and 127.0.0.3.
pub(super) fn two_sinks() -> (Sink, Sink) {
    // The port that the one finds free is most likely free on the other address too.
    (0..20)
        .find_map(|_| {
            let one = Sink::start_on("127.0.0.2:0").ok()?;
            let port = one.address().port();
            let other = Sink::start_on(&format!("127.0.0.3:{port}")).ok()?;
            Some((one, other))
        })
        .expect("a port that is free on two addresses")
}

/// A world that asks `dns`, and may connect to loopback hosts on this port.
fn world_with(dns: &DnsServer, sink: SocketAddr, flags: &[&str]) -> World {
    let (dns, port) = (dns.address().to_string(), sink.port().to_string());
    let own = [
        "--dns",
        &dns,
        "--smtp-port",
        &port,
        "--allow-next-hop",
        "127.0.0.0/8",
    ];
    World::load(&[&own, flags].concat())
}

/// Sends a letter from a local sender, who gets to know if it fails.
fn send(world: &World, to: &str) {
    Client::of(world).mail("bsmith@mta.test", &[to], &letter("by DNS"));
}

/// The report that the local sender gets.
fn report(world: &World) -> String {
    let letters = world.wait_for_letters("bsmith@mta.test", 1);
    String::from_utf8(letters[0].clone()).unwrap()
}

fn arrived(sink: &Sink, number: usize) {
    sink.wait_for(|seen| seen.accepted().count() == number, PATIENCE);
}

#[test]
fn everything_goes_to_the_relay_host_but_what_has_a_route_or_is_local() {
    let (relay, routed, below) = (Sink::start(), Sink::start(), Sink::start());
    let relay_host = relay.address().to_string();
    let ibm = format!("ibm.com={}", routed.address());
    let lotus = format!(".lotus.com={}", below.address());
    let world = World::load(&["--relay-host", &relay_host, "--route", &ibm, "--route", &lotus]);
    let to = [
        "a@iris.com",
        "b@ibm.com",
        "c@IBM.COM",
        "d@research.ibm.com",
        "e@notes.lotus.com",
        "f@mta.test",
    ];
    Client::of(&world).mail("bsmith@univac.com", &to, &letter("many ways"));

    for (sink, recipients) in [
        (&relay, &["a@iris.com", "d@research.ibm.com"][..]),
        (&routed, &["b@ibm.com", "c@ibm.com"]),
        (&below, &["e@notes.lotus.com"]),
    ] {
        arrived(sink, 1);
        // Recipients that share a list travel in one transaction.
        sink.look(|seen| assert_eq!(seen.messages[0].recipients, recipients));
    }
    world.wait_for_letters("f@mta.test", 1);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
}

#[test]
fn the_host_with_the_lowest_preference_gets_the_mail_and_the_next_one_when_it_fails() {
    let (best, second) = two_sinks();
    let dns = DnsServer::start();
    dns.mx("ibm.com", 10, "best.ibm.com")
        .a("best.ibm.com", "127.0.0.2");
    dns.mx("ibm.com", 20, "second.ibm.com")
        .a("second.ibm.com", "127.0.0.3");
    let world = world_with(&dns, best.address(), &[]);
    send(&world, "jdoe@ibm.com");
    arrived(&best, 1);
    assert_eq!(second.look(|seen| seen.sessions.len()), 0);
    // The session is kept open for a moment.
    best.wait_for(|seen| seen.live().count() == 0, PATIENCE);

    // The second one, in the same attempt: the first is tried once more only with the next message.
    best.on(Stage::Greeting, "421 4.3.2 not today");
    send(&world, "jdoe@ibm.com");
    arrived(&second, 1);
    best.behave();
    best.drop_at(Stage::Ehlo);
    send(&world, "jdoe@ibm.com");
    arrived(&second, 2);
    drop(best);
    send(&world, "jdoe@ibm.com");
    arrived(&second, 3);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    assert_eq!(
        world.sql("SELECT count(*) FROM history WHERE event = 'deferred'"),
        "0"
    );
    assert_eq!(
        world.sql("SELECT count(*) FROM history WHERE text LIKE 'second.ibm.com[127.0.0.3]:%said: 250%'"),
        "3"
    );
}

#[test]
fn a_domain_without_mx_is_its_own_host() {
    let sink = Sink::start();
    let dns = DnsServer::start();
    dns.a("univac.com", "127.0.0.1");
    let world = world_with(&dns, sink.address(), &[]);
    send(&world, "jdoe@univac.com");
    arrived(&sink, 1);
    // An address literal needs no DNS at all.
    send(&world, "jdoe@[127.0.0.1]");
    arrived(&sink, 2);
    assert_eq!(dns.queries("univac.com", Rtype::MX), 1);
}

#[test]
fn a_domain_that_takes_no_mail_is_bounced_with_5_1_10() {
    let dns = DnsServer::start();
    dns.mx("example.com", 0, ".").a("example.com", "127.0.0.1");
    let sink = Sink::start();
    let world = world_with(&dns, sink.address(), &[]);
    send(&world, "jdoe@example.com");
    let report = report(&world);
    assert!(report.contains("Status: 5.1.10\n"), "{report}");
    assert_eq!(sink.look(|seen| seen.sessions.len()), 0);
}

#[test]
fn a_domain_that_does_not_exist_is_bounced_with_5_1_2() {
    let dns = DnsServer::start();
    let sink = Sink::start();
    let world = world_with(&dns, sink.address(), &[]);
    send(&world, "jdoe@nowhere.test");
    let report = report(&world);
    assert!(report.contains("Status: 5.1.2\n"), "{report}");
    assert!(report.contains("jdoe@nowhere.test"), "{report}");
}

#[test]
fn a_dns_that_fails_is_asked_again_later() {
    let dns = DnsServer::start();
    dns.mx("ibm.com", 10, "mail.ibm.com")
        .a("mail.ibm.com", "127.0.0.1");
    dns.fault("ibm.com", Rtype::MX, Fault::ServFail);
    let sink = Sink::start();
    let world = world_with(&dns, sink.address(), &["--retry-schedule", "1s"]);
    send(&world, "jdoe@ibm.com");
    world.wait_for_sql(
        "SELECT DISTINCT recipient FROM history WHERE event = 'deferred'",
        "jdoe@ibm.com",
    );
    world.wait_for_sql(
        "SELECT state, last_status FROM outbound_work_queue",
        "WQ_PENDING_XMIT|4.4.3",
    );
    dns.repair("ibm.com", Rtype::MX);
    arrived(&sink, 1);
    assert!(world.letters("bsmith@mta.test").is_empty());
}

#[test]
fn a_strangers_dns_can_not_send_mail_to_this_machine_itself() {
    let dns = DnsServer::start();
    dns.mx("evil.test", 10, "localhost.evil.test");
    dns.a("localhost.evil.test", "127.0.0.1");
    let sink = Sink::start();
    let port = sink.address().port().to_string();
    let world = World::load(&["--dns", &dns.address().to_string(), "--smtp-port", &port]);
    send(&world, "jdoe@evil.test");
    let report = report(&world);
    assert!(report.contains("Status: 5.4.4\n"), "{report}");
    assert_eq!(sink.look(|seen| seen.sessions.len()), 0);
}

#[test]
fn a_host_that_knows_no_ehlo_is_spoken_to_with_helo() {
    let sink = Sink::start();
    sink.on(Stage::Ehlo, "502 5.5.1 What?");
    let world = World::load(&["--relay-host", &sink.address().to_string()]);
    send(&world, "jdoe@ibm.com");
    arrived(&sink, 1);
    sink.wait_for(|seen| seen.sessions[0].ended, PATIENCE);
    sink.look(|seen| {
        assert_eq!(
            seen.sessions[0].commands,
            [
                "EHLO mta.test",
                "HELO mta.test",
                "MAIL FROM:<bsmith@mta.test>",
                "RCPT TO:<jdoe@ibm.com>",
                "DATA",
                "QUIT"
            ]
        );
    });
}
