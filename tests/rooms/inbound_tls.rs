//! TLS on the inbound side: STARTTLS, TLS from the first octet, and certificates that are replaced.

use std::io::Read;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::support::client::{Client, big_letter, letter, stuffed};
use crate::support::submission::{ACCOUNTS, PASSWORD, Port, USER, address, issue, world};
use crate::support::world::World;

/// Those who begin in the clear.
const IN_CLEAR: [Port; 2] = [Port::Smtp, Port::Submission];
const ALL: [Port; 3] = [Port::Smtp, Port::Submission, Port::Submissions];

/// "At once", on a machine that is busy with other tests; the session's own time-out is far longer.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn starttls_is_offered_in_the_clear_and_auth_only_inside_tls() {
    let world = world(&[], ACCOUNTS);
    for port in IN_CLEAR {
        let mut client = Client::connect(address(&world, port));
        assert_eq!(client.reply(), "220 mta.test ESMTP smtpmta Service Ready");
        let offers = client.say("EHLO univac.com");
        assert!(
            offers.contains("\n250-STARTTLS\n") && !offers.contains("AUTH"),
            "{offers}"
        );
        let mut client = client.start_tls();
        let offers = client.say("EHLO univac.com");
        let secure = "\n250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\n250 HELP";
        assert!(
            offers.ends_with(secure) && !offers.contains("STARTTLS"),
            "{offers}"
        );
        assert_eq!(client.say("STARTTLS"), "503 5.5.1 TLS is active already");
        let help = client.say("HELP");
        assert!(help.contains(" AUTH ") && !help.contains("STARTTLS"), "{help}");
    }
    let mut client = Client::connect(address(&world, Port::Submissions)).begin_tls(&[&TLS13]);
    assert_eq!(client.reply(), "220 mta.test ESMTP smtpmta Service Ready");
    let offers = client.say("EHLO univac.com");
    assert!(
        offers.contains("\n250-AUTH ") && !offers.contains("STARTTLS"),
        "{offers}"
    );
}

#[test]
fn what_was_said_before_tls_is_forgotten_and_what_came_with_starttls_is_never_obeyed() {
    let world = world(&[], ACCOUNTS);
    for port in IN_CLEAR {
        let mut client = Client::try_greet(address(&world, port)).unwrap();
        client
            .send(b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\nNOOP\r\n")
            .unwrap();
        assert_eq!(client.reply(), "220 2.0.0 Ready to start TLS");
        let mut client = client.begin_tls(&[&TLS13, &TLS12]);
        // The first thing that is heard inside is the answer to the first thing that was said inside, from
        // somebody who has not heard of any EHLO.
        assert_eq!(
            client.say("MAIL FROM:<bsmith@univac.com>"),
            "503 Say HELO or EHLO first"
        );
        assert!(client.say("EHLO univac.com").starts_with("250-"));
        assert_eq!(client.say("RCPT TO:<jdoe@mta.test>"), "503 5.5.1 Give MAIL first");
    }
    let mut client = Client::try_greet(address(&world, Port::Smtp)).unwrap();
    assert_eq!(client.say("MAIL FROM:<bsmith@univac.com>"), "250 2.1.0 OK");
    assert_eq!(
        client.say("STARTTLS"),
        "503 5.5.1 Not while a message is under way"
    );
}

#[test]
fn the_received_line_and_the_work_queue_tell_of_tls_and_login() {
    let world = world(&[], ACCOUNTS);
    let mut relay = Client::secure(&world, Port::Smtp);
    relay.mail("bsmith@univac.com", &[USER], &letter("relayed"));
    let mut old = Client::connect(address(&world, Port::Submissions)).begin_tls(&[&TLS12]);
    old.reply();
    old.say("EHLO univac.com");
    assert!(old.auth_plain(USER, PASSWORD).starts_with("235 "));
    old.mail(USER, &[USER], &letter("submitted"));
    let letters = world.wait_for_letters(USER, 2);
    let of = |subject: &str| {
        let texts = letters.iter().map(|letter| String::from_utf8_lossy(letter));
        let mut texts = texts.map(|text| text.replace("\n\t", " "));
        texts
            .find(|text| text.contains(&format!("Subject: {subject}\n")))
            .unwrap()
    };
    let relayed = of("relayed");
    assert!(
        relayed.contains(" with ESMTPS (TLSv1.3) id ") && relayed.contains(" tls TLS_"),
        "{relayed}"
    );
    let submitted = of("submitted");
    assert!(
        submitted.contains(" with ESMTPSA (TLSv1.2) id ") && submitted.contains(" tls TLS_ECDHE_ECDSA_WITH_"),
        "{submitted}"
    );
    // RFC 5321 7.6: nothing of who has logged in.
    assert!(!submitted.contains(PASSWORD) && !submitted.contains("authenticated"));

    world.tell("stop inbound conversion");
    relay.mail("bsmith@univac.com", &[USER], &letter("relayed"));
    old.mail(USER, &[USER], &letter("submitted"));
    let mut plain = Client::of(&world);
    plain.mail("bsmith@univac.com", &[USER], &letter("in clear"));
    let rows = world.sql("SELECT protocol, login, substr(tls, 1, 12) FROM inbound_work_queue ORDER BY id");
    assert_eq!(
        rows,
        "ESMTPS||TLSv1.3 TLS_\nESMTPSA|jdoe@mta.test|TLSv1.2 TLS_\nESMTP||"
    );
}

#[test]
fn mail_of_any_size_comes_whole_through_tls_by_data_and_by_bdat() {
    let world = world(&[], ACCOUNTS);
    let content = big_letter("large", 1 << 20);
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let mut client = Client::try_greet(address(&world, Port::Smtp)).unwrap();
        assert!(client.say("STARTTLS").starts_with("220 "));
        let mut client = client.begin_tls(versions);
        assert!(client.say("EHLO univac.com").starts_with("250-"));
        client.mail("bsmith@univac.com", &[USER], &content);
        // Commands and chunks in one write, records wherever they fall.
        let mut chunks = format!("MAIL FROM:<bsmith@univac.com>\r\nRCPT TO:<{USER}>\r\n").into_bytes();
        for chunk in content.chunks(100_000) {
            chunks.extend(format!("BDAT {}\r\n", chunk.len()).bytes());
            chunks.extend_from_slice(chunk);
        }
        chunks.extend(b"BDAT 0 LAST\r\nNOOP\r\n");
        client.send(&chunks).unwrap();
        for _ in 0..content.chunks(100_000).count() + 2 {
            assert!(client.reply().starts_with("250 2."));
        }
        assert!(client.reply().starts_with("250 2.6.0 "));
        assert_eq!(client.reply(), "250 2.0.0 OK");
    }
    let body = String::from_utf8(content).unwrap().replace("\r\n", "\n");
    for letter in world.wait_for_letters(USER, 4) {
        assert!(letter.ends_with(body.as_bytes()));
    }
}

#[test]
fn content_that_came_with_data_in_one_record_ends_the_session_as_it_does_in_the_clear() {
    let world = world(&[], ACCOUNTS);
    let all = [
        &b"MAIL FROM:<bsmith@univac.com>\r\nRCPT TO:<jdoe@mta.test>\r\nDATA\r\n"[..],
        &stuffed(&letter("too early")),
        b"QUIT\r\n",
    ]
    .concat();
    for mut client in [Client::of(&world), Client::secure(&world, Port::Smtp)] {
        client.send(&all).unwrap();
        assert_eq!(client.reply(), "250 2.1.0 OK");
        assert_eq!(client.reply(), "250 2.1.5 OK");
        assert_eq!(
            client.reply(),
            "554 5.5.0 Wait for 354 before you send content; goodbye"
        );
        assert!(client.line().is_err());
    }
    assert_eq!(world.sql("SELECT count(*) FROM history"), "0");
}

#[test]
fn tls_is_ended_properly() {
    let world = world(&[], ACCOUNTS);
    for port in ALL {
        let mut client = Client::secure(&world, port);
        assert_eq!(client.say("QUIT"), "221 2.0.0 Goodbye");
        // Without a close_notify this would be an error.
        assert_eq!(client.stream_mut().read(&mut [0]).unwrap(), 0, "{port:?}");
    }
}

#[test]
fn plain_text_where_tls_comes_first_and_tls_where_it_does_not_are_closed_at_once() {
    let world = world(&[], ACCOUNTS);
    let began = Instant::now();
    let mut client = Client::connect(address(&world, Port::Submissions));
    client.send(b"EHLO univac.com\r\nQUIT\r\n").unwrap();
    let heard = client.rest();
    assert!(!heard.starts_with(b"2") && heard.len() < 10, "{heard:?}");

    for port in IN_CLEAR {
        // Before the greeting has come, and after it.
        let client = Client::connect(address(&world, port));
        assert!(client.try_tls(&[&TLS13, &TLS12]).is_err());
        let mut client = Client::connect(address(&world, port));
        client.reply();
        assert!(client.try_tls(&[&TLS13, &TLS12]).is_err());
    }
    let mut client = Client::try_greet(address(&world, Port::Smtp)).unwrap();
    assert!(client.say("STARTTLS").starts_with("220 "));
    client.send(b"EHLO univac.com\r\n").unwrap();
    let heard = client.rest();
    assert!(!heard.starts_with(b"2") && heard.len() < 10, "{heard:?}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    // Nobody has taken harm.
    Client::secure(&world, Port::Submissions);
}

#[test]
fn a_handshake_has_a_deadline_on_every_port() {
    let world = world(&["--session-timeout", "1s"], ACCOUNTS);
    let mut silent: Vec<Client> = vec![Client::connect(address(&world, Port::Submissions))];
    for port in IN_CLEAR {
        let mut client = Client::try_greet(address(&world, port)).unwrap();
        assert!(client.say("STARTTLS").starts_with("220 "));
        silent.push(client);
    }
    let began = Instant::now();
    for client in silent {
        let rest = client.hear_out();
        assert!(rest.len() < 10, "{rest:?}");
    }
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[test]
fn a_handshake_that_hangs_does_not_delay_the_end_of_the_mta() {
    let mut world = world(&[], ACCOUNTS);
    let _silent = Client::connect(address(&world, Port::Submissions));
    let mut begun = Client::try_greet(address(&world, Port::Submission)).unwrap();
    assert!(begun.say("STARTTLS").starts_with("220 "));
    let mut asked = Client::secure(&world, Port::Submission);
    assert!(asked.say("AUTH LOGIN").starts_with("334 "));
    let (status, took) = world.terminate();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_refresh_brings_a_new_certificate_to_new_sessions_and_costs_no_session_that_is_open() {
    let world = world(&[], ACCOUNTS);
    let mut before: Vec<Client> = ALL.map(|port| Client::secure(&world, port)).into();
    let fresh = issue(&world);
    assert_eq!(
        world.tell("refresh"),
        "the configuration has not changed; the files that it names have been read again\n"
    );
    for port in ALL {
        assert_eq!(Client::secure(&world, port).servers_certificate(), fresh);
    }
    for client in &mut before {
        assert_eq!(client.say("NOOP"), "250 2.0.0 OK");
        assert_ne!(client.servers_certificate(), fresh);
    }
    before[0].mail("bsmith@univac.com", &[USER], &letter("still there"));
    world.wait_for_letters(USER, 1);
}

#[test]
fn a_broken_certificate_is_refused_by_refresh_and_the_old_one_stays() {
    let world = world(&[], ACCOUNTS);
    let old = Client::secure(&world, Port::Submissions).servers_certificate();
    let (cert, key) = (world.path("cert.pem"), world.path("key.pem"));
    let good = std::fs::read(&key).unwrap();
    let still_refused = |why: &str| {
        let answer = world.ask("tell refresh");
        let said = format!("{}{}", answer.text, answer.complaint);
        assert_eq!(answer.status, 78, "{said}");
        assert!(
            said.contains(why) && said.ends_with("the configuration stays as it was\n"),
            "{said}"
        );
        let shown = Client::secure(&world, Port::Submissions).servers_certificate();
        assert_eq!(shown, old);
    };
    world.write("key.pem", "no key");
    still_refused(&format!("TLS key file {key} "));
    std::fs::remove_file(&key).unwrap();
    still_refused(&format!("TLS key file {key} can not be read"));
    issue(&world);
    world.write("key.pem", good);
    still_refused(&cert);
    world.write("cert.pem", "");
    still_refused(&format!("TLS certificate file {cert} "));

    let fresh = issue(&world);
    world.tell("refresh");
    assert_eq!(Client::secure(&world, Port::Smtp).servers_certificate(), fresh);
}

#[test]
fn the_mta_does_not_start_with_a_broken_certificate() {
    let mut world = World::without_mta(&[]);
    for (flag, file) in [("--tls-cert", "cert.pem"), ("--tls-key", "key.pem")] {
        let path = world.write(file, "neither");
        world.flag(flag, &path);
    }
    let (status, said) = world.another().last_words();
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("TLS certificate file "), "{said}");
}
