//! How little of the live MTA a client gets that only takes: places in the table, time, and answers.
//!
//! Some of these have to wait until our patience is at its end; nothing here waits for longer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use rustls::version::TLS13;

use crate::support::client::{Client, letter};
use crate::support::submission::{ACCOUNTS, LOGGED_IN, PASSWORD, Port, USER, address, world};
use crate::support::world::{PATIENCE, World, eventually};

/// How long a good client may have to wait for its place.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
/// "At once", and "after a second", on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_table_full_of_idle_clients_has_room_for_a_good_one_and_those_that_brought_mail_keep_their_place() {
    let world = world(&["-I", "5", "--max-sessions-per-client", "100"], ACCOUNTS);
    let mut proven = Client::of(&world);
    proven.mail("bsmith@univac.com", &[USER], &letter("proven"));
    let mut silent = Client::connect(address(&world, Port::Smtp));
    let mut greeted = Client::of(&world);
    let shaking_hands = Client::connect(address(&world, Port::Submissions));
    let mut logging_in = Client::secure(&world, Port::Submission);
    assert!(logging_in.say("AUTH LOGIN").starts_with("334 "));

    // One after the other gets the place of one that has nothing to say.
    let began = Instant::now();
    let mut good: Vec<Client> = (0..4).map(|_| Client::of(&world)).collect();
    let took = began.elapsed();
    assert!(took < SERVED_WITHIN, "{took:?}");
    for client in &mut good {
        client.mail("bsmith@univac.com", &[USER], &letter("good"));
    }
    world.wait_for_letters(USER, 5);
    let busy = "mta.test Busy, and you say nothing; try again later";
    assert!(silent.reply().starts_with("220 "));
    assert_eq!(silent.reply(), format!("421 {busy}"));
    assert_eq!(greeted.reply(), format!("421 4.3.2 {busy}"));
    assert_eq!(logging_in.reply(), format!("421 4.3.2 {busy}"));
    assert!(shaking_hands.hear_out().len() < 10);
    assert_eq!(proven.say("NOOP"), "250 2.0.0 OK");
    world.daemon().wait_for_line("Not listening on SMTP port");
}

#[test]
fn a_client_has_only_so_many_sessions_on_all_ports_together() {
    let world = world(&["--max-sessions-per-client", "3"], ACCOUNTS);
    let ports = [Port::Smtp, Port::Submission, Port::Submissions];
    let sessions = ports.map(|port| Client::secure(&world, port));
    for port in [Port::Smtp, Port::Submission] {
        let mut more = Client::connect(address(&world, port));
        assert_eq!(
            more.reply(),
            "421 4.7.0 mta.test Too many sessions from your address"
        );
        assert!(more.line().is_err());
    }
    // Nobody listens to words in clear where TLS comes first.
    assert!(
        Client::connect(address(&world, Port::Submissions))
            .hear_out()
            .is_empty()
    );
    drop(sessions);
    eventually("a seat", || Client::try_greet(address(&world, Port::Smtp)));
}

/// A client whose socket takes next to nothing.
fn deaf(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    setsockopt(&stream, sockopt::RcvBuf, &1024).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Writes the same again and again, until the server does not take it any more.
#[track_caller]
fn shout(stream: &mut TcpStream, what: &[u8]) {
    let until = Instant::now() + PATIENCE;
    loop {
        match stream.write_all(what) {
            Ok(()) => assert!(Instant::now() < until, "it listens for ever"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("it neither listens nor hangs up")
            }
            Err(_) => return,
        }
    }
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let world = World::load(&["--session-timeout", "1s", "-I", "1"]);
    let mut client = deaf(world.address());
    let begin = "EHLO univac.com\r\nMAIL FROM:<bsmith@univac.com>\r\n";
    client.write_all(begin.as_bytes()).unwrap();
    // Each of these is answered, and none of them is a bad command.
    shout(&mut client, "RCPT TO:<jdoe@mta.test>\r\n".repeat(1000).as_bytes());
    // Its place is free again.
    Client::of(&world).mail("bsmith@univac.com", &["jdoe@mta.test"], &letter("next"));
}

#[test]
fn content_that_came_fast_buys_no_time_for_silence() {
    let world = World::load(&["--session-timeout", "1s"]);
    let mut client = Client::of(&world);
    for command in ["MAIL FROM:<>", "RCPT TO:<jdoe@mta.test>", "DATA"] {
        let reply = client.say(command);
        assert!(reply.starts_with("250") || reply.starts_with("354"), "{reply}");
    }
    client
        .send(&b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(4096))
        .unwrap();
    assert!(client.reply().starts_with("421 4.4.2"));
}

/// Sends an octet at a time, a tenth of a second apart, until something is heard or the server hangs up.
#[track_caller]
fn trickle(client: Client, octets: &[u8]) -> String {
    let mut stream = client.into_stream();
    stream
        .socket()
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let began = Instant::now();
    for octet in octets.iter().cycle() {
        assert!(began.elapsed() < SOON, "it listens for ever");
        let _ = stream.write_all(&[*octet]);
        let mut heard = [0; 200];
        match stream.read(&mut heard) {
            Ok(length) => return String::from_utf8_lossy(&heard[..length]).into_owned(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return error.to_string(),
        }
    }
    unreachable!("a cycle has no end")
}

#[test]
fn one_octet_at_a_time_does_not_make_a_session_longer() {
    let world = world(&["--session-timeout", "1s"], ACCOUNTS);
    let too_long = "mta.test You took too long, goodbye\r\n";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(address(&world, Port::Smtp));
            client.reply();
            assert_eq!(trickle(client, b"x"), format!("421 {too_long}"), "a command");
        });
        scope.spawn(|| {
            let mut client = Client::of(&world);
            client.say("MAIL FROM:<bsmith@univac.com>");
            client.say(&format!("RCPT TO:<{USER}>"));
            client.say("DATA");
            assert_eq!(
                trickle(client, b"x\r\n"),
                format!("421 4.4.2 {too_long}"),
                "content"
            );
        });
        scope.spawn(|| {
            let mut client = Client::of(&world);
            client.say("MAIL FROM:<bsmith@univac.com>");
            client.say(&format!("RCPT TO:<{USER}>"));
            client.send(b"BDAT 1000 LAST\r\n").unwrap();
            assert_eq!(trickle(client, b"x"), format!("421 4.4.2 {too_long}"), "a chunk");
        });
        scope.spawn(|| {
            let mut client = Client::secure(&world, Port::Submission);
            client.say("AUTH PLAIN");
            assert_eq!(trickle(client, b"A"), format!("421 4.4.2 {too_long}"), "a login");
        });
        scope.spawn(|| {
            // A ClientHello of 200 octets, of which no more than ten a second come.
            let client = Client::connect(address(&world, Port::Submissions));
            let heard = trickle(client, &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0, 0, 0, 0]);
            assert!(heard.is_empty() || heard.len() < 10, "{heard}");
        });
    });
    assert_eq!(world.sql("SELECT count(*) FROM history"), "0");
}

#[test]
fn browsers_are_sent_away_and_what_they_bring_is_not_obeyed() {
    let world = World::load(&[]);
    let mail = format!("HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<{USER}>\r\nDATA\r\n\r\nevil\r\n.\r\n");
    let length = mail.len();
    for request in [
        "GET / HTTP/1.1\r\nHost: mta.test:25\r\n\r\n".to_owned(),
        format!("POST / HTTP/1.1\r\nHost: mta.test:25\r\nContent-Length: {length}\r\n\r\n{mail}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let mut client = Client::connect(world.address());
        client.reply();
        client.send(request.as_bytes()).unwrap();
        assert_eq!(client.reply(), "554 This is SMTP; goodbye");
        assert!(client.line().is_err());
        // In the middle of a session it is no better.
        let mut client = Client::of(&world);
        client.send(request.as_bytes()).unwrap();
        assert_eq!(client.reply(), "554 5.5.0 This is SMTP; goodbye");
        assert!(client.line().is_err());
    }
    assert_eq!(world.sql("SELECT count(*) FROM history"), "0");
}

#[test]
fn who_talks_before_the_greeting_is_heard_only_where_it_does_no_harm() {
    let world = World::load(&["-I", "1"]);
    // Its words are there before a handler is.
    let early = |words: &[u8]| {
        let mut only = Client::of(&world);
        let mut client = Client::connect(world.address());
        client.send(words).unwrap();
        assert!(only.say("QUIT").starts_with("221 "));
        client
    };
    let mut client = early(b"EHLO univac.com\r\n");
    assert_eq!(client.reply(), "220 mta.test ESMTP smtpmta Service Ready");
    assert!(client.reply().starts_with("250-mta.test\n"));
    drop(client);
    let mut client = early(b"quit\r\n");
    assert!(client.reply().starts_with("220 "));
    assert_eq!(client.reply(), "221 Goodbye");
    drop(client);
    for words in [
        &b"EHLO univac.com\r\nMAIL FROM:<bsmith@univac.com>\r\n"[..],
        b"MAIL FROM:<bsmith@univac.com>\r\n",
        b"RSET\r\n",
        b"EHLO univac.com",
        b"GET / HTTP/1.1\r\nHost: mta.test\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n",
        b"\0",
    ] {
        let mut client = early(words);
        assert_eq!(
            client.reply(),
            "554 Wait for the greeting before you speak; goodbye",
            "{words:?}"
        );
        assert!(client.line().is_err(), "{words:?}");
    }
    assert_eq!(world.sql("SELECT count(*) FROM history"), "0");
}

#[test]
fn who_has_used_up_our_patience_in_tls_hears_so_in_tls() {
    let world = world(&["--session-timeout", "1s"], ACCOUNTS);
    let client = Client::secure(&world, Port::Submissions);
    let heard = String::from_utf8(client.hear_out()).unwrap();
    assert_eq!(heard, "421 4.4.2 mta.test You took too long, goodbye\r\n");
    // A refused login takes a second; that second is not the client's.
    let mut client = Client::secure(&world, Port::Submission);
    assert!(client.auth_plain(USER, "wrong").starts_with("535 "));
    assert_eq!(client.say("NOOP"), "250 2.0.0 OK");
}

#[test]
fn sessions_in_tls_leave_nothing_behind() {
    let world = world(&["--max-sessions-per-client", "100"], ACCOUNTS);
    // As many as come later: the handlers that were started for them stay.
    let mut first: Vec<Client> = (0..60)
        .map(|_| Client::secure(&world, Port::Submissions))
        .collect();
    assert_eq!(first[0].auth_plain(USER, PASSWORD), LOGGED_IN);
    first[0].mail(USER, &[USER], &letter("first"));
    world.wait_for_letters(USER, 1);
    let before = (
        world.daemon().threads(),
        world.daemon().descriptors() - first.len(),
    );
    drop(first);
    for number in 0..60 {
        let mut client = Client::connect(address(&world, Port::Submissions));
        match number % 4 {
            0 => drop(client),
            1 => client.send(&[22, 3, 1, 0, 200, 1]).unwrap(),
            2 => drop(client.begin_tls(&[&TLS13])),
            _ => {
                let mut client = client.begin_tls(&[&TLS13]);
                client.send(b"EHLO univac.com\r\nAUTH LOGIN\r\n").unwrap();
            }
        }
    }
    eventually("threads and descriptors to be what they were", || {
        let now = (world.daemon().threads(), world.daemon().descriptors());
        if now.0 <= before.0 && now.1 <= before.1 {
            Ok(())
        } else {
            Err((now, before))
        }
    });
}
