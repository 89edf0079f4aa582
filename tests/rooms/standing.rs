//! What the MTA must stand: crashes under load, many sessions at once, next hops that hang.
//!
//! Sized for a machine of two cores; the constants may be larger by hand.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use domain::base::Rtype;

use crate::support::client::{Client, big_letter, letter};
use crate::support::dns_server::{DnsServer, Fault};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

/// How often the MTA is killed.
const CRASHES: usize = 3;
/// Clients that bring mail meanwhile.
const CLIENTS: usize = 4;
/// Messages that are acknowledged before it is killed.
const MESSAGES_BEFORE_A_CRASH: usize = 400;

/// Sessions that bring mail together, and the messages that each brings.
const SESSIONS: usize = 50;
const MESSAGES_A_SESSION: usize = 20;

/// Brings one message after the other until the MTA is gone; tells the recipient of each that got its 250.
fn bring(address: SocketAddr, name: &str, acknowledged: &Sender<String>) -> std::io::Result<()> {
    let mut client = Client::try_greet(address)?;
    for number in 0.. {
        let to = format!("{name}.{number}@ibm.com");
        // Some are kept in the database, some in files.
        let content = if number % 8 == 7 {
            big_letter(&to, 100_000)
        } else {
            letter(&to)
        };
        let reply = client.try_mail("bsmith@univac.com", &[&to], &content)?;
        assert!(reply.starts_with("250 "), "{to}: {reply}");
        acknowledged.send(to).unwrap();
    }
    Ok(())
}

#[test]
fn every_acknowledged_message_arrives_although_the_mta_is_killed_under_load() {
    let sink = Sink::start();
    let mut world = World::without_mta(&["--relay-host", &sink.address().to_string()]);
    let mut acknowledged: Vec<String> = Vec::new();
    let mut in_flight: HashSet<String> = HashSet::new();
    for crash in 0..CRASHES {
        world.start();
        let address = world.address();
        thread::scope(|scope| {
            let (tell, told) = channel();
            for client in 0..CLIENTS {
                let tell = tell.clone();
                scope.spawn(move || bring(address, &format!("{crash}.{client}"), &tell));
            }
            drop(tell);
            acknowledged.extend(told.iter().take(MESSAGES_BEFORE_A_CRASH));
            world.kill();
            acknowledged.extend(told.iter());
        });
        assert_eq!(world.sql("PRAGMA integrity_check"), "ok");
        let verified = world.ask("verify");
        assert_eq!(verified.status, 0, "{verified:?}");
        let locked = "SELECT recipient FROM outbound_work_queue WHERE state = 'WQ_MSG_LOCKED_FOR_XMIT'";
        in_flight.extend(world.sql(locked).lines().map(str::to_owned));
    }
    assert!(acknowledged.len() >= CRASHES * MESSAGES_BEFORE_A_CRASH);

    world.start();
    for queue in ["inbound_work_queue", "smtp_box", "outbound_work_queue"] {
        world.wait_for_sql(&format!("SELECT count(*) FROM {queue}"), "0");
    }
    assert_eq!(world.sql("PRAGMA integrity_check"), "ok");
    let verified = world.ask("verify --account");
    assert_eq!(verified.status, 0, "{verified:?}");
    let arrived: HashMap<String, usize> = sink.look(|seen| {
        let mut arrived = HashMap::new();
        for message in seen.accepted() {
            let to = message.recipients[0].clone();
            let subject = format!("\r\nSubject: {to}\r\n\r\nHello World\r\n");
            let whole = message
                .content
                .windows(subject.len())
                .any(|part| part == subject.as_bytes());
            assert!(whole, "the content of the message for {to} is not its own");
            *arrived.entry(to).or_default() += 1;
        }
        arrived
    });
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|to| !arrived.contains_key(*to))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // Promise 3: what was sent and not recorded may be sent twice, and nothing else may.
    let twice: Vec<_> = arrived.iter().filter(|(_, times)| **times > 1).collect();
    assert!(
        twice.iter().all(|(to, _)| in_flight.contains(*to)),
        "{twice:?} of {in_flight:?}"
    );
    assert!(twice.iter().all(|(_, times)| **times <= 1 + CRASHES), "{twice:?}");
}

#[test]
fn as_many_messages_arrive_as_were_acknowledged_to_many_sessions_and_their_ids_are_unique() {
    let sink = Sink::start();
    let sessions = (SESSIONS + 10).to_string();
    let limits = [
        "--max-inbound-handlers",
        &sessions,
        "--max-sessions-per-client",
        &sessions,
    ];
    let world = World::load(&[&limits[..], &["--relay-host", &sink.address().to_string()]].concat());
    let ids: Vec<String> = thread::scope(|scope| {
        let bring = |session: usize| {
            let mut client = Client::of(&world);
            let mail = |number| {
                let to = format!("{session}.{number}@ibm.com");
                client.mail("bsmith@univac.com", &[&to], &letter(&to))
            };
            (0..MESSAGES_A_SESSION).map(mail).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..SESSIONS)
            .map(|session| scope.spawn(move || bring(session)))
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(ids.len(), SESSIONS * MESSAGES_A_SESSION);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    sink.wait_for(|seen| seen.accepted().count() >= ids.len(), PATIENCE);
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    sink.look(|seen| {
        let recipients: HashSet<_> = seen.accepted().map(|message| &message.recipients[0]).collect();
        assert_eq!(
            (recipients.len(), seen.accepted().count()),
            (ids.len(), ids.len())
        );
    });
}

#[test]
fn a_next_hop_that_hangs_at_any_stage_does_not_delay_mail_for_others() {
    use Stage::{Connect, Content, Data, Dot, Ehlo, Greeting, Mail, Quit, Rcpt};
    let stages = [Connect, Greeting, Ehlo, Mail, Rcpt, Data, Content, Dot, Quit];
    let hanging = stages.map(|stage| {
        let sink = Sink::start();
        sink.hang_at(stage);
        sink
    });
    let good = Sink::start();
    let dns = DnsServer::start();
    dns.fault("silent.test", Rtype::MX, Fault::Silence);
    let mut flags = vec!["--dns".to_owned(), dns.address().to_string()];
    let mut to = vec!["jdoe@silent.test".to_owned()];
    for (number, sink) in hanging.iter().chain([&good]).enumerate() {
        flags.extend(["--route".to_owned(), format!("d{number}.test={}", sink.address())]);
        to.push(format!("jdoe@d{number}.test"));
    }
    let world = World::load(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mut client = Client::of(&world);
    for _ in 0..5 {
        client.mail("bsmith@univac.com", &to, &letter("to all"));
    }
    good.wait_for(|seen| seen.accepted().count() == 5, PATIENCE);
    for (stage, sink) in stages.iter().zip(&hanging).skip(1) {
        sink.wait_for(|seen| seen.hangs_at(*stage), PATIENCE);
    }
    // And again, now that all of them hang.
    client.mail("bsmith@univac.com", &to, &letter("to all"));
    good.wait_for(|seen| seen.accepted().count() == 6, PATIENCE);
    // Only where the message was through, at QUIT, it had got a 2xx.
    let quit = hanging.last().unwrap();
    for sink in &hanging {
        let accepted = sink.look(|seen| seen.accepted().count());
        assert_eq!(accepted > 0, std::ptr::eq(sink, quit));
    }
}

#[test]
fn a_next_hop_that_hangs_gets_no_more_than_its_part_of_the_handlers() {
    let (slow, good) = (Sink::start(), Sink::start());
    slow.hang_at(Stage::Mail);
    let routes = [&slow, &good].map(|sink| sink.address().to_string());
    let (to_slow, to_good) = (
        format!("slow.test={}", routes[0]),
        format!("good.test={}", routes[1]),
    );
    let limits = [
        "--max-outbound-handlers",
        "3",
        "--per-next-hop",
        "2",
        "--list-messages",
        "1",
    ];
    let world = World::load(&[&limits[..], &["--route", &to_slow, "--route", &to_good]].concat());
    let mut client = Client::of(&world);
    for _ in 0..20 {
        client.mail("bsmith@univac.com", &["jdoe@slow.test"], &letter("slow"));
    }
    slow.wait_for(|seen| seen.live().count() == 2, PATIENCE);
    for _ in 0..20 {
        client.mail("bsmith@univac.com", &["jdoe@good.test"], &letter("good"));
    }
    good.wait_for(|seen| seen.accepted().count() == 20, PATIENCE);
    assert_eq!(slow.look(|seen| seen.sessions.len()), 2);
    slow.release();
    slow.wait_for(|seen| seen.accepted().count() == 20, PATIENCE);
}
