//! `smtpmta session`: what a client would hear from an MTA of this configuration, with nothing queued.

use crate::support::submission::{ACCOUNTS, LOGGED_IN, PASSWORD, REFUSED, USER, plain, world_without_mta};
use crate::support::world::World;

/// What the program says to this dialogue, without the lines of an answer that another one follows.
#[track_caller]
fn last_lines(world: &World, words: &str, said: &str) -> (Vec<String>, String) {
    let answer = world.run(&format!("session {words}"), said.as_bytes());
    assert_eq!(answer.status, 0, "{answer:?}");
    let lines = answer.text.lines().filter(|line| line.as_bytes()[3] != b'-');
    (lines.map(str::to_owned).collect(), answer.complaint)
}

#[test]
fn a_candidate_configuration_says_what_a_client_of_an_address_would_hear() {
    let world = World::without_mta(&["--relay-from", "192.0.2.0/24"]);
    let said = "EHLO there\nMAIL FROM:<a@b.test>\nRCPT TO:<x@mta.test>\nRCPT TO:<x@c.test>\nDATA\n\
                Subject: hello\n\n..\n.\nMAIL FROM:<> SIZE=60000000\nQUIT\nNOOP\n";
    let (stranger, notes) = last_lines(&world, "--client 203.0.113.7", said);
    assert_eq!(
        stranger,
        [
            "220 mta.test ESMTP smtpmta Service Ready",
            "250 HELP",
            "250 2.1.0 OK",
            "250 2.1.5 OK",
            "550 5.7.1 relaying denied",
            "354 Enter Mail, end by a line with only '.'",
            "250 2.6.0 Message received OK. 0000000000000000",
            "552 5.3.4 Message too big, the limit is 52428800 octets",
            "221 2.0.0 Goodbye",
        ]
    );
    assert_eq!(
        notes,
        "session: a message of 21 octets from <a@b.test> to 1 would be stored; it is thrown away, and nothing is \
         queued\n"
    );
    let (friend, notes) = last_lines(&world, "--client 192.0.2.9", &said.replace('\n', "\r\n"));
    assert_eq!(friend[4], "250 2.1.5 OK");
    assert!(notes.contains("to 2 would be stored"), "{notes}");
    assert!(!world.spool().exists());
}

#[test]
fn users_begin_tls_and_log_in_by_the_accounts_of_the_configuration() {
    let world = world_without_mta(&[], ACCOUNTS);
    let said = format!(
        "EHLO there\nMAIL FROM:<{USER}>\nSTARTTLS\nEHLO there\nAUTH PLAIN {}\nAUTH PLAIN {}\nMAIL FROM:<{USER}>\n\
         RCPT TO:<x@a.test>\nBDAT 7 LAST\nhello\nQUIT",
        plain(USER, "wrong"),
        plain(USER, PASSWORD)
    );
    let (heard, notes) = last_lines(&world, "--front submission --client 2001:db8::1", &said);
    assert_eq!(
        heard,
        [
            "220 mta.test ESMTP smtpmta Service Ready",
            "250 HELP",
            "530 5.7.0 Must issue a STARTTLS command first",
            "220 2.0.0 Ready to start TLS",
            "250 HELP",
            REFUSED,
            LOGGED_IN,
            "250 2.1.0 OK",
            "250 2.1.5 OK",
            "250 2.6.0 Message received OK. 0000000000000000",
            "221 2.0.0 Goodbye",
        ]
    );
    let told: Vec<&str> = notes.lines().collect();
    assert_eq!(told.len(), 4, "{notes}");
    assert!(told[0].starts_with("session: TLS is only acted: "), "{notes}");
    assert_eq!(
        told[1..3],
        [
            format!("session: login of {USER:?} failed"),
            format!("session: login of {USER:?}")
        ]
    );
    assert!(
        !notes.contains(PASSWORD) && told[3].contains("message of 7 octets"),
        "{notes}"
    );
    let hello = world.run("session --front submissions", b"EHLO there\n");
    let offered = "\n250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\n";
    assert!(
        hello.text.contains(offered) && !hello.text.contains("STARTTLS"),
        "{hello:?}"
    );
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_78() {
    let world = World::without_mta(&[]);
    let refused = world.run("session --front submissions", b"QUIT\n");
    assert_eq!(refused.status, 78, "{refused:?}");
    let wanted =
        "smtpmta: session: --front submissions: expected tls-cert and tls-key in the configuration\n";
    assert_eq!((refused.text.as_str(), refused.complaint.as_str()), ("", wanted));
    let gone = world.path("gone");
    world.configure(&format!("accounts {gone}\n"));
    for words in ["session", "route bob@mta.test"] {
        let refused = world.run(words, b"QUIT\n");
        assert_eq!(refused.status, 78, "{refused:?}");
        assert!(
            refused.complaint.contains(&gone) && refused.text.is_empty(),
            "{refused:?}"
        );
    }
}
