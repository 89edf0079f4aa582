//! What a sender asks for with NOTIFY, RET, ENVID and ORCPT, and what it gets; and content without lines.

use mailparse::{MailHeaderMap, parse_mail};

use crate::support::client::Client;
use crate::support::sink::{Sink, Stage};
use crate::support::world::{PATIENCE, World};

const SENDER: &str = "bsmith@mta.test";
const LETTER: &[u8] = b"From: bsmith@mta.test\r\nSubject: asking\r\n\r\nthe body\r\n";

/// Who shall get a message, and what RCPT said beyond the path.
type To<'t> = (&'t str, Option<&'t str>, Option<&'t str>);

/// A world in which ibm.com is `sink`, and [`LETTER`] has come, with what MAIL said of it.
fn world_with(sink: &Sink, to: &[To<'_>], mail: &str) -> World {
    world_with_letter(sink, to, mail, LETTER)
}

fn world_with_letter(sink: &Sink, to: &[To<'_>], mail: &str, letter: &[u8]) -> World {
    let route = format!("ibm.com={}", sink.address());
    let world = World::load(&["--route", &route]);
    let mut client = Client::of(&world);
    assert!(client.say(mail).starts_with("250"), "{mail}");
    for (path, notify, original) in to {
        let notify = notify.map(|words| format!(" NOTIFY={words}")).unwrap_or_default();
        let original = original.map(|path| format!(" ORCPT={path}")).unwrap_or_default();
        let reply = client.say(&format!("RCPT TO:<{path}>{notify}{original}"));
        assert!(reply.starts_with("250"), "{path}: {reply}");
    }
    client
        .send(format!("BDAT {} LAST\r\n", letter.len()).as_bytes())
        .unwrap();
    client.send(letter).unwrap();
    assert!(client.reply().starts_with("250"));
    world
}

/// The report in this letter: the fields for programs, unfolded, and what came along of the message.
#[track_caller]
fn report(letter: &[u8]) -> (String, String) {
    let report = parse_mail(letter).unwrap();
    assert_eq!(report.ctype.mimetype, "multipart/report");
    assert_eq!(
        report.headers.get_first_value("Return-Path").as_deref(),
        Some("<>")
    );
    let fields = report.subparts[1].get_body().unwrap().replace('\r', "");
    let along = format!(
        "{}: {}",
        report.subparts[2].ctype.mimetype,
        report.subparts[2].get_body().unwrap()
    );
    (fields.replace("\n ", " "), along)
}

fn nothing_waits(world: &World) {
    for view in ["inbound_work_queue", "smtp_box", "outbound_work_queue"] {
        world.wait_for_sql(&format!("SELECT count(*) FROM {view}"), "0");
    }
}

#[test]
fn who_asks_for_success_is_told_how_far_each_recipient_came() {
    let sink = Sink::start();
    // So that there are two reports, one after the other.
    sink.hang_at(Stage::Greeting);
    let to = [
        ("jdoe@mta.test", Some("SUCCESS"), Some("rfc822;J+2BD@mta.test")),
        ("far@ibm.com", Some("SUCCESS,FAILURE"), None),
        ("quiet@mta.test", None, None),
    ];
    let world = world_with(
        &sink,
        &to,
        &format!("MAIL FROM:<{SENDER}> ENVID=QQ+2B31 RET=FULL"),
    );
    world.wait_for_letters(SENDER, 1);
    sink.release();
    let letters = world.wait_for_letters(SENDER, 2);
    let mut reports: Vec<_> = letters.iter().map(|letter| report(letter)).collect();
    reports.sort_by_key(|(fields, _)| fields.contains("Action: relayed"));
    let [(here, along), (there, _)] = &reports[..] else {
        panic!("{reports:?}")
    };
    for expected in [
        "Original-Envelope-Id: QQ+31\n",
        "Original-Recipient: rfc822; J+D@mta.test\n",
        "Final-Recipient: rfc822; jdoe@mta.test\n",
        "Action: delivered\n",
        "Status: 2.0.0\n",
    ] {
        assert!(here.contains(expected), "no {expected:?} in {here}");
    }
    assert_eq!(here.matches("Final-Recipient").count(), 1, "{here}");
    assert!(!there.contains("Original-Recipient"), "{there}");
    for expected in [
        "Original-Envelope-Id: QQ+31\n",
        "Final-Recipient: rfc822; far@ibm.com\n",
        "Action: relayed\n",
        "Status: 2.0.0\n",
        "Remote-MTA: dns; [127.0.0.1]\n",
    ] {
        assert!(there.contains(expected), "no {expected:?} in {there}");
    }
    // RFC 3461 4.3: RET is about failures.
    assert!(along.starts_with("text/rfc822-headers: "), "{along}");
    nothing_waits(&world);
    world.wait_for_sql("SELECT count(*) FROM history WHERE event = 'success notice'", "2");
    let told = "SELECT count(*) FROM (SELECT 1 FROM history WHERE event = 'accepted')";
    assert_eq!(world.sql(told), "3");
}

#[test]
fn a_host_with_dsn_is_told_what_the_sender_wants_and_we_say_nothing() {
    let sink = Sink::start();
    sink.offer(&["PIPELINING", "DSN"]);
    let to = [
        ("far@ibm.com", Some("SUCCESS"), None),
        ("near@ibm.com", Some("NEVER"), Some("rfc822;first@ibm.com")),
        ("plain@ibm.com", None, None),
    ];
    let world = world_with(
        &sink,
        &to,
        &format!("MAIL FROM:<{SENDER}> ENVID=QQ+2B31 RET=HDRS"),
    );
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    nothing_waits(&world);
    sink.look(|seen| {
        let said: Vec<&str> = seen.sessions[0]
            .commands
            .iter()
            .map(String::as_str)
            .filter(|line| line.starts_with("MAIL") || line.starts_with("RCPT"))
            .collect();
        assert_eq!(
            said,
            [
                "MAIL FROM:<bsmith@mta.test> RET=HDRS ENVID=QQ+2B31",
                "RCPT TO:<far@ibm.com> NOTIFY=SUCCESS ORCPT=rfc822;far@ibm.com",
                "RCPT TO:<near@ibm.com> NOTIFY=NEVER ORCPT=rfc822;first@ibm.com",
                "RCPT TO:<plain@ibm.com>",
            ]
        );
    });
    assert!(world.letters(SENDER).is_empty());
}

#[test]
fn a_failure_is_told_to_those_who_want_to_hear_of_it_as_briefly_as_they_want() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "550 5.1.1 no such user here");
    let to = [
        ("told@ibm.com", Some("FAILURE"), Some("rfc822;first@ibm.com")),
        ("never@ibm.com", Some("NEVER"), None),
        ("success@ibm.com", Some("SUCCESS,DELAY"), None),
    ];
    let world = world_with(&sink, &to, &format!("MAIL FROM:<{SENDER}> RET=HDRS"));
    let letters = world.wait_for_letters(SENDER, 1);
    let (fields, along) = report(&letters[0]);
    assert_eq!(fields.matches("Final-Recipient").count(), 1, "{fields}");
    assert!(
        fields.contains("Original-Recipient: rfc822; first@ibm.com\n"),
        "{fields}"
    );
    assert!(
        fields.contains("Final-Recipient: rfc822; told@ibm.com\nAction: failed\n"),
        "{fields}"
    );
    assert!(along.starts_with("text/rfc822-headers: "), "{along}");
    assert!(
        along.contains("Subject: asking") && !along.contains("the body"),
        "{along}"
    );
    // RFC 3464 2.3: who said so, in which words, and when.
    for expected in [
        "Status: 5.1.1\n",
        "Remote-MTA: dns; [127.0.0.1]\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user here\n",
        "Last-Attempt-Date: ",
    ] {
        assert!(fields.contains(expected), "no {expected:?} in {fields}");
    }
    assert!(!fields.contains("Will-Retry-Until"), "{fields}");
    nothing_waits(&world);
    world.wait_for_sql(
        "SELECT recipient FROM history WHERE event = 'failed' AND text = 'no report wanted' \
         ORDER BY recipient",
        "never@ibm.com\nsuccess@ibm.com",
    );
    assert_eq!(world.letters(SENDER).len(), 1);
}

#[test]
fn what_failed_and_what_went_well_in_one_attempt_is_told_in_one_report() {
    let sink = Sink::start();
    sink.order("rcpt[gone@*]=550 5.1.1 nobody");
    let to = [
        ("far@ibm.com", Some("SUCCESS"), None),
        ("gone@ibm.com", Some("SUCCESS,FAILURE"), None),
        ("never@ibm.com", Some("NEVER"), None),
    ];
    let world = world_with(&sink, &to, &format!("MAIL FROM:<{SENDER}>"));
    let letters = world.wait_for_letters(SENDER, 1);
    nothing_waits(&world);
    let (fields, _) = report(&letters[0]);
    let actions: Vec<_> = fields
        .lines()
        .filter(|line| line.starts_with("Action: "))
        .collect();
    assert_eq!(actions, ["Action: failed", "Action: relayed"], "{fields}");
    assert!(!fields.contains("never@ibm.com"), "{fields}");
    assert_eq!(world.letters(SENDER).len(), 1);
}

#[test]
fn mail_from_the_null_path_is_never_confirmed() {
    let sink = Sink::start();
    let to = [
        ("jdoe@mta.test", Some("SUCCESS"), None),
        ("far@ibm.com", Some("SUCCESS"), None),
    ];
    let world = world_with(&sink, &to, "MAIL FROM:<>");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_letters("jdoe@mta.test", 1);
    nothing_waits(&world);
    assert_eq!(world.sql("SELECT count(DISTINCT id) FROM history"), "1");
}

#[test]
fn binary_content_goes_in_one_chunk_to_a_host_that_takes_it() {
    let sink = Sink::start();
    sink.offer(&["PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME"]);
    let binary = format!("MAIL FROM:<{SENDER}> BODY=BINARYMIME");
    let world = world_with(&sink, &[("far@ibm.com", None, None)], &binary);
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    nothing_waits(&world);
    sink.look(|seen| {
        let content = &seen.messages[0].content;
        assert!(content.ends_with(LETTER));
        assert_eq!(seen.messages[0].parameters, "BODY=BINARYMIME");
        let chunk = format!("BDAT {} LAST", content.len());
        assert!(seen.sessions[0].commands.contains(&chunk));
    });
}

#[test]
fn content_is_converted_for_a_host_that_takes_only_lines_of_seven_bits() {
    let text = "Subject: inside\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\u{fc}\u{df}e\r\n.\r\n";
    let nested = format!(
        "Subject: asking\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n{text}\r\n--x--\r\n"
    );
    let sink = Sink::start();
    sink.offer(&["PIPELINING", "SIZE 100000", "CHUNKING"]);
    for (number, mail) in [(1, " BODY=8BITMIME"), (2, " BODY=BINARYMIME")] {
        let mail = format!("MAIL FROM:<{SENDER}>{mail}");
        let world = world_with_letter(&sink, &[("far@ibm.com", None, None)], &mail, nested.as_bytes());
        sink.wait_for(|seen| seen.accepted().count() == number, PATIENCE);
        nothing_waits(&world);
        sink.look(|seen| {
            let got = &seen.messages[number - 1];
            assert!(got.content.is_ascii());
            let message = parse_mail(&got.content).unwrap();
            let inside = parse_mail(message.subparts[0].raw_bytes).unwrap();
            let inside = inside.get_body().unwrap();
            assert!(inside.contains("Gr=C3=BC=C3=9Fe"), "{inside}");
            assert_eq!(got.parameters, format!("SIZE={}", got.content.len()));
        });
    }
}

#[test]
fn content_that_a_signature_keeps_from_being_converted_is_bounced() {
    let signed = "Subject: asking\r\nMIME-Version: 1.0\r\n\
                  Content-Type: multipart/signed; boundary=x; protocol=\"application/pgp-signature\"\r\n\r\n\
                  --x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
                  Gr\u{fc}\u{df}e\r\n--x\r\nContent-Type: application/pgp-signature\r\n\r\n==\r\n--x--\r\n";
    let sink = Sink::start();
    sink.offer(&["PIPELINING"]);
    let mail = format!("MAIL FROM:<{SENDER}> BODY=BINARYMIME");
    let to = [("far@ibm.com", None, None), ("jdoe@mta.test", None, None)];
    let world = world_with_letter(&sink, &to, &mail, signed.as_bytes());
    let letters = world.wait_for_letters(SENDER, 1);
    let (fields, along) = report(&letters[0]);
    assert!(fields.contains("Action: failed\nStatus: 5.6.3\n"), "{fields}");
    // What has no lines does not go along.
    assert!(along.starts_with("text/rfc822-headers: "), "{along}");
    world.wait_for_letters("jdoe@mta.test", 1);
    nothing_waits(&world);
    assert_eq!(sink.look(|seen| seen.messages.len()), 0);
}
