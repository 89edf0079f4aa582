//! What a login is good for, who has an account, and what a submission gets.

use crate::support::client::{Client, letter};
use crate::support::submission::{ACCOUNTS, PASSWORD, Port, USER, address, world};
use crate::support::world::files;

const SUBMISSION: [Port; 2] = [Port::Submission, Port::Submissions];

#[test]
fn who_has_logged_in_sends_from_own_addresses_only_unless_any_is_allowed() {
    let not_yours = "553 5.7.1 That sender address is not yours to use";
    let strict = world(&[], &format!("{ACCOUNTS}*@mta.test:\n"));
    for port in [Port::Smtp, Port::Submission, Port::Submissions] {
        let mut client = Client::logged_in(&strict, port, USER, PASSWORD);
        let mut from = |sender: &str| {
            let reply = client.say(&format!("MAIL FROM:<{sender}>"));
            client.say("RSET");
            reply
        };
        for own in [
            USER,
            "JDoe@MTA.test",
            "jdoe+lists@mta.test",
            "\"jdoe\"@mta.test",
            "",
        ] {
            assert_eq!(from(own), "250 2.1.0 OK", "{own}");
        }
        for other in [
            "bsmith@mta.test",
            "nobody@mta.test",
            "jdoe@elsewhere.example",
            "jdoe@mta.test.example",
            "postmaster@mta.test",
        ] {
            assert_eq!(from(other), not_yours, "{other}");
        }
    }
    let loose = world(&["--any-sender"], ACCOUNTS);
    let mut client = Client::logged_in(&loose, Port::Submission, USER, PASSWORD);
    assert_eq!(
        client.say("MAIL FROM:<anybody@elsewhere.example>"),
        "250 2.1.0 OK"
    );
}

#[test]
fn submission_is_for_users_and_users_may_send_anywhere() {
    let world = world(&["--relay-from", "none"], ACCOUNTS);
    let mut clear = Client::try_greet(address(&world, Port::Submission)).unwrap();
    assert_eq!(
        clear.say(&format!("MAIL FROM:<{USER}>")),
        "530 5.7.0 Must issue a STARTTLS command first"
    );
    for port in SUBMISSION {
        let mut client = Client::secure(&world, port);
        assert_eq!(
            client.say(&format!("MAIL FROM:<{USER}>")),
            "530 5.7.0 Authentication required"
        );
        assert_eq!(client.say("RCPT TO:<jdoe@mta.test>"), "503 5.5.1 Give MAIL first");
    }
    // The other port takes mail from strangers, for those who are here.
    let mut stranger = Client::secure(&world, Port::Smtp);
    assert_eq!(stranger.say("MAIL FROM:<bsmith@univac.com>"), "250 2.1.0 OK");
    assert_eq!(
        stranger.say("RCPT TO:<anybody@ibm.com>"),
        "550 5.7.1 relaying denied"
    );
    assert_eq!(
        stranger.say("RCPT TO:<nobody@mta.test>"),
        "550 5.1.1 No such user here"
    );
    assert_eq!(stranger.say(&format!("RCPT TO:<{USER}>")), "250 2.1.5 OK");
    for port in [Port::Smtp, Port::Submission, Port::Submissions] {
        let mut user = Client::logged_in(&world, port, USER, PASSWORD);
        assert_eq!(user.say(&format!("MAIL FROM:<{USER}> AUTH=<>")), "250 2.1.0 OK");
        assert_eq!(user.say("RCPT TO:<anybody@ibm.com>"), "250 2.1.5 OK");
        assert_eq!(
            user.say("RCPT TO:<nobody@mta.test>"),
            "550 5.1.1 No such user here"
        );
    }
}

#[test]
fn a_submission_gets_the_date_and_the_message_id_that_it_lacks_and_a_relayed_message_gets_neither() {
    let world = world(&[], ACCOUNTS);
    let dated = [
        &b"Date: Mon, 1 Jan 1996 12:00:00 +0000\r\nMessage-ID: <mine@univac.com>\r\n"[..],
        &letter("has both"),
    ]
    .concat();
    let mut user = Client::logged_in(&world, Port::Submission, USER, PASSWORD);
    let id = user.mail(USER, &[USER], &letter("lacks both"));
    user.mail(USER, &[USER], &dated);
    user.say(&format!("MAIL FROM:<{USER}> BODY=8BITMIME SMTPUTF8"));
    user.say(&format!("RCPT TO:<{USER}>"));
    user.send(b"BDAT 16 LAST\r\nSubject: chunk\r\n").unwrap();
    assert!(user.reply().starts_with("250 2.6.0 "));
    let mut stranger = Client::secure(&world, Port::Smtp);
    stranger.mail("bsmith@univac.com", &[USER], &letter("relayed"));
    let letters = world.wait_for_letters(USER, 4);
    let of = |subject: &str| {
        let mut texts = letters.iter().map(|l| String::from_utf8(l.clone()).unwrap());
        texts
            .find(|text| text.contains(&format!("Subject: {subject}\n")))
            .unwrap()
    };
    let count = |text: &str, name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    let completed = of("lacks both");
    assert!(
        completed.contains(&format!("\nMessage-ID: <{id}@mta.test>\n")),
        "{completed}"
    );
    assert_eq!(count(&completed, "Date: "), 1, "{completed}");
    assert!(completed.ends_with("\n\nHello World\n"), "{completed}");
    let chunk = of("chunk");
    assert!(chunk.contains("with UTF8SMTPSA"), "{chunk}");
    assert_eq!(
        (count(&chunk, "Date: "), count(&chunk, "Message-ID: ")),
        (1, 1),
        "{chunk}"
    );
    let kept = of("has both");
    assert!(kept.contains("\nMessage-ID: <mine@univac.com>\n"), "{kept}");
    assert_eq!(
        (count(&kept, "Date: "), count(&kept, "Message-ID: ")),
        (1, 1),
        "{kept}"
    );
    let relayed = of("relayed");
    assert_eq!(
        (count(&relayed, "Date: "), count(&relayed, "Message-ID: ")),
        (0, 0),
        "{relayed}"
    );
}

#[test]
fn mail_comes_to_accounts_with_detail_and_without_and_what_nobody_takes_to_the_one_that_catches_all() {
    let world = world(&[], &format!("{ACCOUNTS}*@mta.test:\n"));
    let mut client = Client::of(&world);
    client.mail("bsmith@univac.com", &["JDoe+lists@mta.test"], &letter("detail"));
    client.mail(
        "bsmith@univac.com",
        &["anybody@mta.test", "somebody@mta.test"],
        &letter("caught"),
    );
    client.mail("bsmith@univac.com", &["Postmaster"], &letter("postmaster"));
    world.wait_for_letters(USER, 1);
    let delivered = "SELECT count(*) FROM history WHERE event = 'delivered'";
    world.wait_for_sql(delivered, "4");
    let caught = files(&world.spool().join("mail/mta.test/%2A/new"));
    assert_eq!(
        caught.len(),
        3,
        "{:?}",
        files(&world.spool().join("mail/mta.test"))
    );
}

#[test]
fn a_refresh_reads_the_accounts_again_for_new_sessions_and_a_broken_file_changes_nothing() {
    let world = world(&[], ACCOUNTS);
    let mut before = Client::logged_in(&world, Port::Submission, USER, PASSWORD);
    world.write("accounts", format!("new@mta.test:{{PLAIN}}{PASSWORD}\n"));
    world.tell("refresh");
    Client::logged_in(&world, Port::Submission, "new@mta.test", PASSWORD);
    let mut client = Client::of(&world);
    client.say("MAIL FROM:<>");
    assert_eq!(
        client.say(&format!("RCPT TO:<{USER}>")),
        "550 5.1.1 No such user here"
    );
    // Who has begun keeps what was there.
    assert_eq!(before.say(&format!("MAIL FROM:<{USER}>")), "250 2.1.0 OK");
    assert_eq!(before.say(&format!("RCPT TO:<{USER}>")), "250 2.1.5 OK");

    world.write("accounts", "new@mta.test:{MD5-CRYPT}$1$x$y\nnew@mta.test:\n");
    let answer = world.ask("tell refresh");
    let said = format!("{}{}", answer.text, answer.complaint);
    assert_eq!(answer.status, 78, "{said}");
    assert!(
        said.contains("accounts:1: ") && said.ends_with("stays as it was\n"),
        "{said}"
    );
    Client::logged_in(&world, Port::Submission, "new@mta.test", PASSWORD);
}
