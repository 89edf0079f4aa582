//! AUTH on the inbound side: who gets in, what everybody else is told, and what the log is not told.

use std::path::{Path, PathBuf};
use std::thread;

use data_encoding::BASE64;
use smtpmta::accounts::scheme::Scheme;

use crate::support::client::{Client, letter};
use crate::support::scram::Scram;
use crate::support::submission::{ACCOUNTS, LOGGED_IN, PASSWORD, Port, REFUSED, USER, address, plain, world};
use crate::support::world::{World, files};

const SUBMISSION: [Port; 2] = [Port::Submission, Port::Submissions];

/// The challenge that says nothing.
const GO_ON: &str = "334 ";

/// An accounts file with a user for each form of a hash, named after it.
fn every_form() -> String {
    let salt = [9; 16];
    let mut lines = String::new();
    for (word, scheme) in Scheme::WORDS {
        let field = scheme.field(PASSWORD, salt).unwrap();
        lines += &format!("{word}@mta.test:{field}:1000:1000::/home:/bin/sh\n");
        if let Some((_, bare)) = field.split_once("}$") {
            lines += &format!("bare-{word}:${bare}\n");
        }
    }
    lines
}

#[test]
fn every_form_of_a_hash_logs_in_by_every_mechanism_that_it_can_do() {
    let world = world(&[], &every_form());
    let mut users: Vec<String> = Scheme::WORDS.map(|(word, _)| format!("{word}@mta.test")).into();
    // Names without a domain, and hashes without a prefix.
    users.extend(
        [
            "argon2id",
            "bare-argon2id",
            "bare-sha512-crypt",
            "bare-sha256-crypt",
        ]
        .map(str::to_owned),
    );
    users.push("ARGON2id@MTA.test".to_owned());
    for user in &users {
        for port in SUBMISSION {
            let mut client = Client::secure(&world, port);
            let said = match port {
                Port::Submission => client.auth_plain(user, PASSWORD),
                _ => client.auth_login(user, PASSWORD),
            };
            assert_eq!(said, LOGGED_IN, "{user}");
        }
    }
    for user in ["scram-sha-256@mta.test", "plain@mta.test", "plain"] {
        let mut client = Client::secure(&world, Port::Submission);
        let scram = Scram::new("n", user, PASSWORD);
        assert_eq!(client.auth_scram("SCRAM-SHA-256", scram), LOGGED_IN, "{user}");
        let mut client = Client::secure(&world, Port::Smtp);
        let scram = Scram::bound("p=tls-exporter", &client.tls_exporter(), user, PASSWORD);
        assert_eq!(
            client.auth_scram("scram-sha-256-plus", scram),
            LOGGED_IN,
            "{user}"
        );
    }
}

#[test]
fn mechanisms_are_offered_as_the_accounts_can_do_them_and_until_one_has_been_used() {
    let hash = Scheme::Sha256Crypt.field(PASSWORD, [1; 16]).unwrap();
    let world = world(&[], &format!("{USER}:{hash}\n"));
    let mut client = Client::secure(&world, Port::Submission);
    let offers = client.say("EHLO univac.com");
    assert!(offers.contains("\n250-AUTH PLAIN LOGIN\n"), "{offers}");
    for mechanism in [
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "CRAM-MD5",
        "EXTERNAL",
        "XOAUTH2",
        "=",
    ] {
        let refused = client.say(&format!("AUTH {mechanism}"));
        assert_eq!(refused, "504 5.5.4 Authentication mechanism not offered");
    }
    assert_eq!(client.auth_plain(USER, PASSWORD), LOGGED_IN);
    let offers = client.say("EHLO univac.com");
    assert!(!offers.contains("AUTH"), "{offers}");
    assert_eq!(
        client.auth_plain(USER, PASSWORD),
        "503 5.5.1 You are logged in already"
    );
    // EHLO has not ended the login.
    assert_eq!(client.say(&format!("MAIL FROM:<{USER}>")), "250 2.1.0 OK");
}

/// Ways to fail, each with a name and a password.
const WRONG: [(&str, &str); 7] = [
    (USER, "battery staple"),
    ("nobody@mta.test", PASSWORD),
    ("jdoe@elsewhere.example", PASSWORD),
    ("empty@mta.test", ""),
    ("empty@mta.test", PASSWORD),
    ("locked@mta.test", "!"),
    ("*@mta.test", PASSWORD),
];

#[test]
fn whatever_is_wrong_with_a_login_the_answer_is_the_same_and_the_third_ends_the_session() {
    let accounts = format!("{ACCOUNTS}empty@mta.test:\nlocked@mta.test:!\n*@mta.test:{{PLAIN}}{PASSWORD}\n");
    let world = world(&[], &accounts);
    // Each refusal takes its time: all at once.
    thread::scope(|scope| {
        for (user, password) in WRONG {
            let world = &world;
            scope.spawn(move || {
                let mut client = Client::secure(world, Port::Submission);
                assert_eq!(client.auth_plain(user, password), REFUSED, "{user}");
                let scram = Scram::new("n", user, password);
                assert_eq!(client.auth_scram("SCRAM-SHA-256", scram), REFUSED, "{user}");
                // Neither a message nor EHLO makes up for that.
                assert!(client.say("EHLO univac.com").starts_with("250-"));
                assert_eq!(
                    client.say(&format!("MAIL FROM:<{USER}>")),
                    "530 5.7.0 Authentication required"
                );
                let last = client.auth_login(user, password);
                assert_eq!(
                    last, "421 4.7.0 mta.test Too many failed logins, goodbye",
                    "{user}"
                );
                assert!(client.line().is_err());
            });
        }
    });
}

#[test]
fn an_exchange_can_be_given_up_or_go_wrong_and_the_session_goes_on() {
    let world = world(&[], ACCOUNTS);
    let mut client = Client::secure(&world, Port::Submission);
    let not_base64 = "501 5.5.2 Not base64";
    let malformed = "501 5.5.2 Malformed authentication";
    let cancelled = "501 5.7.0 Authentication cancelled";

    // Each way ends the exchange: what comes next is a command again.
    assert_eq!(client.say("AUTH PLAIN"), GO_ON);
    assert_eq!(client.say("*"), cancelled);
    assert_eq!(client.say("AUTH LOGIN"), "334 VXNlcm5hbWU6");
    assert_eq!(client.say("amRvZQ=="), "334 UGFzc3dvcmQ6");
    assert_eq!(client.say("*"), cancelled);
    assert_eq!(client.say("AUTH SCRAM-SHA-256"), GO_ON);
    assert_eq!(client.say("*"), cancelled);
    assert_eq!(client.say("AUTH PLAIN"), GO_ON);
    assert_eq!(
        client.say("QUIT"),
        malformed,
        "QUIT is base64, and no more a command"
    );
    assert_eq!(client.say("AUTH PLAIN"), GO_ON);
    assert_eq!(client.say("not base64"), not_base64);
    assert_eq!(client.say("NOOP"), "250 2.0.0 OK");

    let mut client = Client::secure(&world, Port::Submissions);
    for initial in ["AA", "=AAA", "AGpkb2U", "AAAA=AAA", "*", "AA-_"] {
        assert_eq!(
            client.say(&format!("AUTH PLAIN {initial}")),
            not_base64,
            "{initial}"
        );
    }
    assert_eq!(client.say("AUTH PLAIN ="), malformed, "an empty response");
    let three = "501 5.5.4 Syntax: AUTH mechanism [initial-response]";
    assert_eq!(client.say("AUTH PLAIN AAAA AAAA"), three);

    // 12288 octets are an authentication of RFC 4954 4; more are too many, in the command or behind it.
    let mut client = Client::secure(&world, Port::Submission);
    let too_long = "500 5.5.6 Authentication line too long or malformed";
    assert_eq!(client.say("AUTH PLAIN"), GO_ON);
    assert_eq!(client.say(&"A".repeat(12_288)), malformed);
    assert_eq!(client.say("AUTH PLAIN"), GO_ON);
    assert_eq!(client.say(&"A".repeat(12_292)), too_long);
    let initial = "A".repeat(12_292);
    assert_eq!(
        client.say(&format!("AUTH PLAIN {initial}")),
        "500 5.5.2 Line too long"
    );
    assert_eq!(client.say("AUTH PLAIN"), GO_ON);
    client.send(b"AGpkb2U\rA\r\n").unwrap();
    assert_eq!(client.reply(), too_long);

    // And after all of that.
    assert_eq!(client.say("auth plain"), GO_ON);
    assert_eq!(client.say(&plain(USER, PASSWORD)), LOGGED_IN);
    let mut client = Client::secure(&world, Port::Submission);
    let asked = client.say(&format!("AUTH LOGIN {}", BASE64.encode(USER.as_bytes())));
    assert_eq!(asked, "334 UGFzc3dvcmQ6");
    assert_eq!(client.say(&BASE64.encode(PASSWORD.as_bytes())), LOGGED_IN);
}

#[test]
fn auth_waits_for_tls_and_for_accounts_and_does_not_interrupt_a_message() {
    let submission = world(&[], ACCOUNTS);
    for port in [Port::Smtp, Port::Submission] {
        let mut client = Client::try_greet(address(&submission, port)).unwrap();
        let in_clear = "538 5.7.11 Encryption required; give STARTTLS first";
        assert_eq!(client.auth_plain(USER, PASSWORD), in_clear);
        assert_eq!(client.say("AUTH LOGIN"), in_clear);
    }
    let mut client = Client::secure(&submission, Port::Smtp);
    assert_eq!(client.say("MAIL FROM:<bsmith@univac.com>"), "250 2.1.0 OK");
    assert_eq!(
        client.auth_plain(USER, PASSWORD),
        "503 5.5.1 Not while a message is under way"
    );
    assert_eq!(client.say("RSET"), "250 2.0.0 OK");
    assert_eq!(client.auth_plain(USER, PASSWORD), LOGGED_IN);

    let mut world = World::without_mta(&[]);
    crate::support::submission::issue(&world);
    for (flag, file) in [("--tls-cert", "cert.pem"), ("--tls-key", "key.pem")] {
        let path = world.path(file);
        world.flag(flag, &path);
    }
    world.start();
    let mut client = Client::of(&world).start_tls();
    let offers = client.say("EHLO univac.com");
    assert!(!offers.contains("AUTH"), "{offers}");
    assert_eq!(
        client.auth_plain(USER, PASSWORD),
        "502 5.5.1 Command not implemented"
    );
}

/// A password that stands in no other text.
const SECRET: &str = "Sesam0ffneDichXyzzy";
const WRONG_SECRET: &str = "Abrakadabra1SimsalaBim";

/// All files below a folder.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut found): (Vec<_>, Vec<_>) = files(folder).into_iter().partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| all_files(folder)));
    found
}

#[test]
fn passwords_are_in_no_log_and_in_no_file() {
    let world = world(&["--log-level", "verbose"], &format!("jdoe:{{PLAIN}}{SECRET}\n"));
    let base64 = |text: &str| BASE64.encode(text.as_bytes());
    let (right, wrong) = (plain(USER, SECRET), plain(USER, WRONG_SECRET));

    // In the clear, where it should never have been said.
    let mut client = Client::try_greet(address(&world, Port::Submission)).unwrap();
    client.say(&format!("AUTH PLAIN {right}"));
    client.say("AUTH LOGIN");
    client.say(&base64(USER));
    client.say(&base64(SECRET));
    client.say(&format!("auth  plain   {right}"));
    client.say(&format!("AUTHPLAIN {right}"));
    client.say(SECRET);
    client.say(&format!("AUTH PLAIN {right} {right}"));
    client
        .send(format!("AUTH PLAIN {right}\n\r\n").as_bytes())
        .unwrap();
    client.reply();

    let mut client = Client::secure(&world, Port::Submission);
    client.say("AUTH PLAIN");
    client.say("*");
    client.say(&right);
    client.say(&format!("AUTH CRAM-MD5 {right}"));
    client.say("AUTH PLAIN");
    client.say(&format!("{right}!"));
    client.say("AUTH PLAIN");
    client.send(format!("{right}\r{right}\r\n").as_bytes()).unwrap();
    client.reply();
    assert_eq!(client.auth_plain(USER, WRONG_SECRET), REFUSED);
    assert_eq!(client.auth_login(USER, SECRET), LOGGED_IN);
    client.say(&format!("AUTH PLAIN {wrong}"));
    client.mail(USER, &[USER], &letter("after it"));
    client.say("QUIT");
    let mut client = Client::logged_in(&world, Port::Submissions, USER, SECRET);
    client.say("QUIT");
    let mut client = Client::secure(&world, Port::Submissions);
    let scram = Scram::new("n", USER, SECRET);
    assert_eq!(client.auth_scram("SCRAM-SHA-256", scram), LOGGED_IN);
    client.say("QUIT");
    world.wait_for_letters(USER, 1);
    // A mistake in the accounts file is told without what stands there.
    world.write(
        "accounts",
        format!("jdoe:{{MD5}}{SECRET}\n{SECRET}jdoe:x:{SECRET}\n"),
    );
    let answer = world.ask("tell refresh");
    assert_eq!(answer.status, 78, "{answer:?}");

    // Base64 of a text says the same whatever stands before it, but for three ways to begin.
    let mut tells = vec![SECRET.to_owned(), WRONG_SECRET.to_owned(), right, wrong];
    for secret in [SECRET, WRONG_SECRET] {
        for before in ["", "x", "xx"] {
            let text = base64(&format!("{before}{secret}"));
            tells.push(text[4..text.len() - 4].to_owned());
        }
    }
    let log = world.daemon().said().join("\n");
    assert!(
        log.contains("C: EHLO univac.com") && log.contains("C: AUTH …"),
        "{log}"
    );
    // Nor is what is asked in the course of a login.
    let asked = |line: &&str| line.contains("S: 334");
    let told: Vec<&str> = log.lines().filter(asked).collect();
    assert!(told.len() > 3, "{log}");
    assert!(told.iter().all(|line| line.ends_with("S: 334 …")), "{told:#?}");
    for tell in &tells {
        assert!(!log.contains(tell), "{tell} in {log}");
        assert!(!format!("{answer:?}").contains(tell), "{answer:?}");
        for file in all_files(&world.spool()) {
            let Ok(content) = std::fs::read(&file) else {
                continue;
            };
            let found = content.windows(tell.len()).any(|part| part == tell.as_bytes());
            assert!(!found, "{tell} in {}", file.display());
        }
    }
}
