//! What strangers can not make grow: memory, threads and descriptors of the live MTA.
//!
//! Sized for a machine of two cores; the constants may be larger by hand.

use std::net::{Shutdown, TcpStream};

use crate::support::client::{Client, letter, stuffed};
use crate::support::dns_server::DnsServer;
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World, eventually};

const MIB: usize = 1 << 20;

/// The content that is sent against a limit of 1 MiB.
const TOO_MUCH: usize = 64 * MIB;
/// A command line without an end.
const ENDLESS_LINE: usize = 32 * MIB;
/// A message that is allowed.
const LARGE: usize = 40 * MIB;
/// How much the resident memory may grow.
const GROWTH: u64 = 16 << 20;

/// Sessions that are idle after EHLO, and what each may cost of memory. In a release it is 12 KiB, of which 8 are the
/// two pages of its stack that a command reaches; without optimisation frames are many times as large.
const IDLE: usize = 200;
const IDLE_COST: u64 = if cfg!(debug_assertions) { 34 } else { 14 } << 10;

/// Connections that are closed at once.
const CONNECTS: usize = 300;
/// Handlers that they meet.
const HANDLERS: usize = 20;
/// Messages to a host that hangs up, each on a list of its own.
const DROPPED: usize = 100;

/// Checks now and then that the memory of the MTA stays what it was.
struct Scale<'w> {
    world: &'w World,
    before: u64,
}

impl Scale<'_> {
    /// To be called when everything has happened once.
    fn of(world: &World) -> Scale<'_> {
        let before = world.daemon().memory();
        Scale { world, before }
    }

    #[track_caller]
    fn check(&self) {
        let grown = self.world.daemon().memory().saturating_sub(self.before);
        assert!(grown < GROWTH, "the memory has grown by {grown} octets");
    }
}

/// Says a transaction up to the 354.
fn begin(client: &mut Client, to: &str) {
    let commands = format!("MAIL FROM:<bsmith@univac.com>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    client.send(commands.as_bytes()).unwrap();
    client.reply();
    client.reply();
    assert!(client.reply().starts_with("354 "));
}

#[test]
fn content_beyond_the_limit_is_refused_at_its_end_and_costs_no_memory() {
    let world = World::load(&["--max-message-size", "1M"]);
    let mut client = Client::of(&world);
    client.mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("small"));
    world.wait_for_letters("jdoe@mta.test", 1);
    let scale = Scale::of(&world);
    begin(&mut client, "jdoe@mta.test");
    let line = [&[b'x'; 62][..], b"\r\n"].concat();
    for _ in 0..TOO_MUCH / MIB {
        client.send(&line.repeat(MIB / line.len())).unwrap();
        scale.check();
    }
    client.send(b".\r\n").unwrap();
    let refused = client.reply();
    assert!(refused.starts_with("552 5.3.4 "), "{refused}");
    scale.check();
    // The session goes on, and nothing is left of it.
    client.mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("small"));
    world.wait_for_letters("jdoe@mta.test", 2);
    assert!(crate::support::world::files(&world.spool().join("content")).is_empty());
}

#[test]
fn a_command_line_without_an_end_is_refused_when_it_ends_and_costs_no_memory() {
    let world = World::load(&[]);
    let mut client = Client::of(&world);
    let scale = Scale::of(&world);
    let piece = vec![b'x'; MIB];
    for _ in 0..ENDLESS_LINE / MIB {
        client.send(&piece).unwrap();
        scale.check();
    }
    client.send(b"\r\n").unwrap();
    let refused = client.reply();
    assert_eq!(refused, "500 5.5.2 Line too long");
    scale.check();
    assert_eq!(client.say("NOOP"), "250 2.0.0 OK");
}

#[test]
fn a_large_message_costs_no_more_memory_than_a_small_one_on_its_way_in_and_out() {
    let sink = Sink::start();
    let route = format!("ibm.com={}", sink.address());
    let world = World::load(&["--route", &route]);
    let mut client = Client::of(&world);
    let to = ["jdoe@ibm.com", "jdoe@mta.test"];
    client.mail("bsmith@univac.com", &to, &letter("small"));
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    let scale = Scale::of(&world);
    // Half of it is one line.
    let lines = [&[b'x'; 62][..], b"\r\n"].concat().repeat(LARGE / 128);
    let content = [letter("large"), vec![b'x'; LARGE / 2], b"\r\n".to_vec(), lines].concat();
    begin(&mut client, to[0]);
    for piece in stuffed(&content).chunks(MIB) {
        client.send(piece).unwrap();
        scale.check();
    }
    assert!(client.reply().starts_with("250 "));
    eventually("the large message", || {
        scale.check();
        sink.look(|seen| {
            if seen.accepted().count() == 2 {
                Ok(())
            } else {
                Err(())
            }
        })
    });
    assert!(sink.look(|seen| seen.messages[1].content.ends_with(&content)));
}

#[test]
fn a_session_that_is_idle_after_its_ehlo_costs_little() {
    let handlers = (IDLE + HANDLERS).to_string();
    let limits = [
        "--max-inbound-handlers",
        &handlers,
        "--max-sessions-per-client",
        &handlers,
    ];
    let world = World::load(&limits);
    // What is there once is there.
    let _first: Vec<Client> = (0..HANDLERS).map(|_| Client::of(&world)).collect();
    let before = world.daemon().memory();
    let _idle: Vec<Client> = (0..IDLE).map(|_| Client::of(&world)).collect();
    let each = world.daemon().memory().saturating_sub(before) / IDLE as u64;
    assert!(each < IDLE_COST, "an idle session costs {each} octets");
}

/// Waits until the MTA has no more threads and descriptors than before.
#[track_caller]
fn returns_to(world: &World, before: (usize, usize)) {
    eventually("threads and descriptors to be what they were", || {
        let now = (world.daemon().threads(), world.daemon().descriptors());
        if now.0 <= before.0 && now.1 <= before.1 {
            Ok(())
        } else {
            Err((now, before))
        }
    });
}

#[test]
fn connections_that_are_closed_at_once_leave_nothing_behind() {
    let handlers = HANDLERS.to_string();
    let limits = [
        "--max-inbound-handlers",
        &handlers,
        "--max-sessions-per-client",
        &handlers,
    ];
    let world = World::load(&limits);
    // Every handler has been started, and has taken a message.
    let mut all: Vec<Client> = (0..HANDLERS).map(|_| Client::of(&world)).collect();
    for client in &mut all {
        client.mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("first"));
    }
    world.wait_for_letters("jdoe@mta.test", HANDLERS);
    let before = (world.daemon().threads(), world.daemon().descriptors() - HANDLERS);
    drop(all);
    returns_to(&world, before);

    for number in 0..CONNECTS {
        let stream = TcpStream::connect(world.address()).unwrap();
        match number % 3 {
            0 => drop(stream),
            1 => stream.shutdown(Shutdown::Both).unwrap(),
            _ => {
                use std::io::Write;
                (&stream)
                    .write_all(b"EHLO univac.com\r\nMAIL FROM:<a@b.c>\r\nRC")
                    .unwrap();
            }
        }
    }
    returns_to(&world, before);
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("last"));
    world.wait_for_letters("jdoe@mta.test", HANDLERS + 1);
}

#[test]
fn next_hops_that_hang_up_leave_nothing_behind() {
    let (sink, dns) = (Sink::start(), DnsServer::start());
    let (handlers, port) = (HANDLERS.to_string(), sink.address().port().to_string());
    let flags = [
        "--max-outbound-handlers",
        &handlers,
        "--list-messages",
        "1",
        "--dns",
        &dns.address().to_string(),
        "--smtp-port",
        &port,
        "--allow-next-hop",
        "127.0.0.0/8",
    ];
    let world = World::load(&flags);
    let mut client = Client::of(&world);
    // A next hop for each message: one that hangs up is not tried again so soon.
    let mut send = |number: usize| {
        for number in 0..number {
            let domain = format!("d{number}.test");
            dns.a(&domain, "127.0.0.1");
            client.mail(
                "bsmith@univac.com",
                &[&format!("jdoe@{domain}")],
                &letter("dropped"),
            );
        }
    };
    // Every handler has been started, and has sent a message.
    sink.hang_at(Stage::Dot);
    send(HANDLERS);
    sink.wait_for(|seen| seen.live().count() == HANDLERS, PATIENCE);
    sink.release();
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    sink.wait_for(|seen| seen.live().count() == 0, PATIENCE);
    let before = (world.daemon().threads(), world.daemon().descriptors());

    sink.drop_at(Stage::Rcpt);
    send(DROPPED);
    world.wait_for_sql(
        "SELECT count(*) FROM outbound_work_queue WHERE attempts = 1",
        &DROPPED.to_string(),
    );
    returns_to(&world, before);
}
