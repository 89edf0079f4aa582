//! What becomes of each recipient: settled, tried again, bounced, or dead.

use mailparse::{MailHeaderMap, ParsedMail, parse_mail};

use crate::support::client::{Client, letter};
use crate::support::sink::{Rule, Sink, Stage};
use crate::support::world::{PATIENCE, World};

const SENDER: &str = "bsmith@mta.test";

/// A world in which ibm.com is `sink`, and a second attempt comes a second after the first.
fn world_with(sink: &Sink, flags: &[&str]) -> World {
    let route = format!("ibm.com={}", sink.address());
    let own = ["--route", &route, "--retry-schedule", "1s"];
    World::load(&[&own, flags].concat())
}

fn send(world: &World, from: &str, to: &[&str]) -> String {
    Client::of(world).mail(from, to, &letter("outcome"))
}

fn arrived(sink: &Sink, number: usize) {
    sink.wait_for(|seen| seen.accepted().count() == number, PATIENCE);
}

fn outbound_queue_is_empty(world: &World) {
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
}

/// The body of the part of this type, which must be there once.
#[track_caller]
fn part(report: &ParsedMail<'_>, kind: &str) -> String {
    let mut parts = report.subparts.iter().filter(|part| part.ctype.mimetype == kind);
    let part = parts.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(parts.next().is_none(), "more than one {kind}");
    let body = part.get_body().unwrap().replace('\r', "");
    // Fields are folded.
    body.replace("\n ", " ")
}

/// Checks that this is a report of RFC 3464 about `to`, and gives its fields for programs.
#[track_caller]
fn report_about(octets: &[u8], to: &str, action: &str) -> String {
    let report = parse_mail(octets).unwrap();
    assert_eq!(report.ctype.mimetype, "multipart/report");
    assert_eq!(report.ctype.params["report-type"], "delivery-status");
    assert_eq!(report.headers.get_first_value("To").as_deref(), Some(SENDER));
    assert!(part(&report, "text/plain").contains(to));
    // RFC 3461 4.3: only a failure brings the message back.
    let original = match action {
        "failed" => "message/rfc822",
        _ => "text/rfc822-headers",
    };
    assert!(part(&report, original).contains("Subject: outcome"));
    let status = part(&report, "message/delivery-status");
    for field in [
        "Reporting-MTA: dns; mta.test\n".to_owned(),
        format!("Final-Recipient: rfc822; {to}\n"),
        format!("Action: {action}\n"),
    ] {
        assert!(status.contains(&field), "no {field:?} in\n{status}");
    }
    status
}

/// The only report that the local sender gets.
#[track_caller]
fn only_report(world: &World) -> Vec<u8> {
    let letters = world.wait_for_letters(SENDER, 1);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].starts_with(b"Return-Path: <>\n"));
    letters.into_iter().next().unwrap()
}

#[test]
fn a_recipient_that_is_refused_for_now_is_tried_again() {
    let stages = [Stage::Greeting, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];
    let sinks = stages.map(|stage| {
        let sink = Sink::start();
        sink.obey(Rule::say(stage, "451 4.3.0 later").times(1));
        sink
    });
    let routes: Vec<String> = sinks
        .iter()
        .enumerate()
        .map(|(number, sink)| format!("d{number}.test={}", sink.address()))
        .collect();
    let routes: Vec<&str> = routes.iter().flat_map(|route| ["--route", route]).collect();
    let world = World::load(&[&["--retry-schedule", "1s"], &routes[..]].concat());
    let to: Vec<String> = (0..stages.len())
        .map(|number| format!("jdoe@d{number}.test"))
        .collect();
    send(&world, SENDER, &to.iter().map(String::as_str).collect::<Vec<_>>());
    sinks.iter().for_each(|sink| arrived(sink, 1));
    outbound_queue_is_empty(&world);
    for (to, stage) in to.iter().zip(stages) {
        let story = "SELECT event FROM history WHERE event IN ('deferred', 'transmitted')";
        let story = format!("{story} AND recipient = '{to}' ORDER BY stamp");
        assert_eq!(world.sql(&story), "deferred\ntransmitted", "{stage:?}");
    }
    assert!(world.letters(SENDER).is_empty());
}

#[test]
fn a_recipient_that_is_refused_for_good_is_bounced_to_the_sender() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "550 5.1.1 no such user here");
    let world = world_with(&sink, &[]);
    let id = send(&world, SENDER, &["nobody@ibm.com"]);
    let status = report_about(&only_report(&world), "nobody@ibm.com", "failed");
    assert!(status.contains("Status: 5.1.1\n"), "{status}");
    assert!(status.contains("550 5.1.1 no such user here"), "{status}");
    outbound_queue_is_empty(&world);
    let end = format!("SELECT event FROM history WHERE id = '{id}' ORDER BY stamp DESC LIMIT 1");
    assert_eq!(world.sql(&end), "failed");
}

#[test]
fn the_reply_of_the_host_is_the_diagnostic_code_of_the_bounce() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "550 5.1.1 no such user here");
    let world = world_with(&sink, &[]);
    send(&world, SENDER, &["nobody@ibm.com"]);
    let status = report_about(&only_report(&world), "nobody@ibm.com", "failed");
    // RFC 3464 2.3.6: the reply as it came, for programs.
    assert!(
        status.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user here\n"),
        "{status}"
    );
}

#[test]
fn a_bounce_to_a_sender_elsewhere_is_relayed_from_the_null_path() {
    let (sink, home) = (Sink::start(), Sink::start());
    sink.on(Stage::Dot, "554 5.6.0 we do not like it");
    let world = world_with(&sink, &["--route", &format!("univac.com={}", home.address())]);
    send(&world, "bsmith@univac.com", &["jdoe@ibm.com"]);
    arrived(&home, 1);
    home.look(|seen| {
        let message = &seen.messages[0];
        assert_eq!(message.reverse_path, "");
        assert_eq!(message.recipients, ["bsmith@univac.com"]);
        let report = parse_mail(&message.content).unwrap();
        assert_eq!(report.ctype.mimetype, "multipart/report");
        assert!(part(&report, "message/delivery-status").contains("Status: 5.6.0\n"));
    });
    outbound_queue_is_empty(&world);
}

#[test]
fn what_comes_from_the_null_path_and_fails_becomes_dead_mail_and_no_bounce() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "550 5.1.1 no such user here");
    let world = world_with(&sink, &[]);
    let id = send(&world, "", &["nobody@ibm.com"]);
    world.wait_for_sql(
        "SELECT id, state, sender, recipient, last_status, subject FROM dead_mail",
        &format!("{id}|WQ_DEAD||nobody@ibm.com|5.1.1|outcome"),
    );
    outbound_queue_is_empty(&world);
    assert_eq!(world.sql("SELECT count(DISTINCT id) FROM history"), "1");
}

#[test]
fn a_bounce_that_bounces_becomes_dead_mail() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "550 5.1.1 no such user here");
    let world = world_with(&sink, &[]);
    send(&world, "forged@ibm.com", &["nobody@ibm.com"]);
    world.wait_for_sql("SELECT sender, recipient FROM dead_mail", "|forged@ibm.com");
    assert_eq!(world.sql("SELECT count(DISTINCT id) FROM history"), "2");
}

#[test]
fn a_message_whose_last_dot_got_no_answer_is_sent_again() {
    let sink = Sink::start();
    sink.obey(Rule::drop(Stage::Dot).times(1));
    let world = world_with(&sink, &[]);
    send(&world, SENDER, &["jdoe@ibm.com"]);
    arrived(&sink, 1);
    outbound_queue_is_empty(&world);
    // The sink has seen it twice, and knows them for the same.
    sink.look(|seen| {
        assert_eq!(seen.messages.len(), 2);
        assert_eq!(seen.messages[0].content, seen.messages[1].content);
    });
    assert!(world.letters(SENDER).is_empty());
}

#[test]
fn a_host_that_does_not_answer_is_tried_again() {
    let sink = Sink::start();
    let address = sink.address().to_string();
    let world = world_with(&sink, &[]);
    drop(sink);
    send(&world, SENDER, &["jdoe@ibm.com"]);
    world.wait_for_sql(
        "SELECT attempts > 0, last_status FROM outbound_work_queue",
        "1|4.4.1",
    );
    let sink = Sink::listen(&address);
    arrived(&sink, 1);
}

#[test]
fn a_message_whose_time_is_over_is_bounced_and_the_last_reason_is_told() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "450 4.2.2 mailbox full");
    let world = world_with(&sink, &["--expire", "2s"]);
    send(&world, SENDER, &["jdoe@ibm.com"]);
    let status = report_about(&only_report(&world), "jdoe@ibm.com", "failed");
    assert!(status.contains("Status: 5.4.7\n"), "{status}");
    assert!(status.contains("450 4.2.2 mailbox full"), "{status}");
    outbound_queue_is_empty(&world);
    assert!(sink.look(|seen| seen.sessions.len()) >= 2);
}

#[test]
fn a_late_message_is_reported_once_and_still_delivered() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "450 4.2.2 mailbox full");
    let world = world_with(&sink, &["--delay-warning", "1s", "--expire", "1h"]);
    send(&world, SENDER, &["jdoe@ibm.com"]);
    let notice = only_report(&world);
    let status = report_about(&notice, "jdoe@ibm.com", "delayed");
    assert!(status.contains("Will-Retry-Until: "), "{status}");
    // Two more attempts: far longer than the task needs to look again.
    let attempts: u32 = world
        .sql("SELECT attempts FROM outbound_work_queue")
        .parse()
        .unwrap();
    let more = format!("SELECT attempts >= {} FROM outbound_work_queue", attempts + 2);
    world.wait_for_sql(&more, "1");
    sink.behave();
    arrived(&sink, 1);
    outbound_queue_is_empty(&world);
    assert_eq!(world.letters(SENDER).len(), 1);
}

#[test]
fn each_recipient_of_a_message_is_settled_on_its_own() {
    let (ibm, lotus) = (Sink::start(), Sink::start());
    ibm.obey(Rule::say(Stage::Rcpt, "550 5.1.1 no such user here").only_for("gone@ibm.com"));
    ibm.obey(
        Rule::say(Stage::Rcpt, "450 4.2.2 mailbox full")
            .only_for("full@ibm.com")
            .times(1),
    );
    lotus.obey(Rule::drop(Stage::Greeting).times(1));
    let world = world_with(&ibm, &["--route", &format!("lotus.com={}", lotus.address())]);
    let to = [
        "full@ibm.com",
        "gone@ibm.com",
        "fine@ibm.com",
        "jdoe@lotus.com",
        "jdoe@mta.test",
    ];
    send(&world, SENDER, &to);

    arrived(&ibm, 2);
    arrived(&lotus, 1);
    world.wait_for_letters("jdoe@mta.test", 1);
    ibm.look(|seen| {
        let recipients: Vec<_> = seen
            .accepted()
            .map(|message| message.recipients.clone())
            .collect();
        assert_eq!(recipients, [["fine@ibm.com"], ["full@ibm.com"]]);
    });
    let status = report_about(&only_report(&world), "gone@ibm.com", "failed");
    assert_eq!(status.matches("Final-Recipient").count(), 1, "{status}");
    outbound_queue_is_empty(&world);
    let ends = "SELECT recipient, event FROM history \
                WHERE event IN ('transmitted', 'delivered', 'failed') AND recipient <> 'bsmith@mta.test' \
                ORDER BY recipient";
    assert_eq!(
        world.sql(ends),
        "fine@ibm.com|transmitted\nfull@ibm.com|transmitted\ngone@ibm.com|failed\n\
         jdoe@lotus.com|transmitted\njdoe@mta.test|delivered"
    );
}

#[test]
fn one_message_that_fails_fails_no_other_on_its_list() {
    let sink = Sink::start();
    sink.obey(Rule::say(Stage::Dot, "554 5.6.0 we do not like it").times(1));
    let world = world_with(&sink, &[]);
    world.tell("smtpmta stop outbound transport");
    for _ in 0..5 {
        send(&world, SENDER, &["jdoe@ibm.com"]);
    }
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "5");
    world.tell("smtpmta start outbound transport");
    arrived(&sink, 4);
    assert_eq!(sink.look(|seen| seen.sessions.len()), 1);
    report_about(&only_report(&world), "jdoe@ibm.com", "failed");
}
