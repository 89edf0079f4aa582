//! Reports as people see them, and as programs read them back.

use expect_test::expect;
use mailparse::{MailHeaderMap, ParsedMail, parse_headers, parse_mail};

use super::*;
use crate::smtp::reply::{EnhancedCode, Reply};

const HOSTNAME: &str = "mx.example.org";
const DATE: &str = "Mon, 23 Nov 2026 19:20:01 +0100";
const ORIGINAL: &[u8] = b"Received: by x\r\nFrom: ann@example.org\r\nSubject: lunch\r\n\r\nAt one?\r\n";

fn refused(text: &str) -> Reason {
    Reason {
        status: EnhancedCode(5, 1, 1),
        text: format!("550 5.1.1 {text}"),
        reply: Some(Reply {
            code: 550,
            enhanced: Some(EnhancedCode(5, 1, 1)),
            lines: text.lines().map(str::to_owned).collect(),
        }),
    }
}

fn mailbox(address: &str) -> Mailbox {
    Mailbox::parse(address).unwrap()
}

fn failed<'a>(address: &'a Mailbox, reason: &'a Reason) -> ReportedRecipient<'a> {
    ReportedRecipient {
        address,
        expanded_from: None,
        original_recipient: None,
        success: None,
        reason,
        remote_mta: None,
        last_attempt: None,
        is_held: false,
    }
}

fn report<'a>(
    kind: Kind<'a>,
    sender: &'a Mailbox,
    recipients: &'a [ReportedRecipient<'a>],
    original: Original<'a>,
) -> Report<'a> {
    Report {
        kind,
        id: MessageId(0x0006_0000_0000_0002),
        about: MessageId(0x0006_0000_0000_0001),
        hostname: HOSTNAME,
        date: DATE,
        arrival: DATE,
        sender,
        envelope_id: None,
        recipients,
        utf8: false,
        original,
    }
}

fn bounce_about(reason: &Reason, original: Original<'_>) -> Content {
    let (sender, bob) = (mailbox("ann@example.org"), mailbox("bob@example.net"));
    report(Kind::Bounce, &sender, &[failed(&bob, reason)], original).content()
}

fn shown(content: &Content) -> String {
    String::from_utf8(content.octets.clone())
        .unwrap()
        .replace("\r\n", "\n")
}

fn status_fields(mail: &ParsedMail<'_>) -> Vec<Vec<(String, String)>> {
    let status = mail.subparts[1].get_body_raw().unwrap();
    let mut groups = Vec::new();
    let mut rest = status.as_slice();
    while !rest.is_empty() {
        let (headers, end) = parse_headers(rest).unwrap();
        groups.push(
            headers
                .iter()
                .map(|header| (header.get_key(), header.get_value()))
                .collect(),
        );
        rest = &rest[end..];
    }
    groups
}

#[test]
fn a_bounce_says_who_and_why() {
    let (sender, bob) = (mailbox("ann@example.org"), mailbox("bob@example.net"));
    let reason = refused("No such user here");
    let recipients = [ReportedRecipient {
        original_recipient: Some("rfc822;robert@example.net"),
        remote_mta: Some("mail.example.net"),
        last_attempt: Some(DATE),
        ..failed(&bob, &reason)
    }];
    let content = report(Kind::Bounce, &sender, &recipients, Original::Headers(ORIGINAL)).content();
    expect![[r#"
        Date: Mon, 23 Nov 2026 19:20:01 +0100
        From: Mail Delivery Subsystem <MAILER-DAEMON@mx.example.org>
        To: ann@example.org
        Subject: DELIVERY FAILURE: 550 5.1.1 No such user here
        Message-ID: <0006000000000002@mx.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type=delivery-status;
         boundary="=_0006000000000002_0"

        This is a delivery report in MIME format (RFC 3464).

        --=_0006000000000002_0
        Content-Description: Explanation
        Content-Type: text/plain; charset=us-ascii

        This is the mail system at mx.example.org.

        Your message could not be delivered to the recipient below. It is not tried
        again.

          <bob@example.net>
              which you addressed as robert@example.net
              at mail.example.net:
              550 5.1.1 No such user here

        Message ID: 0006000000000001
        Arrived:    Mon, 23 Nov 2026 19:20:01 +0100

        The operator of mx.example.org finds everything that happened to the message
        under this ID. What follows is for programs, and then comes the header of
        your message.

        --=_0006000000000002_0
        Content-Description: Delivery status
        Content-Type: message/delivery-status

        Reporting-MTA: dns; mx.example.org
        Arrival-Date: Mon, 23 Nov 2026 19:20:01 +0100
        X-Smtpmta-Queue-ID: 0006000000000001

        Original-Recipient: rfc822; robert@example.net
        Final-Recipient: rfc822; bob@example.net
        Action: failed
        Status: 5.1.1
        Remote-MTA: dns; mail.example.net
        Diagnostic-Code: smtp; 550 5.1.1 No such user here
        Last-Attempt-Date: Mon, 23 Nov 2026 19:20:01 +0100

        --=_0006000000000002_0
        Content-Description: Header of the message
        Content-Type: text/rfc822-headers

        Received: by x
        From: ann@example.org
        Subject: lunch

        --=_0006000000000002_0--
    "#]]
    .assert_eq(&shown(&content));
}

#[test]
fn a_delay_notice_says_until_when_it_is_tried() {
    let (sender, bob) = (mailbox("ann@example.org"), mailbox("bob@example.net"));
    let reason = Reason {
        status: EnhancedCode(4, 4, 1),
        text: "mail.example.net does not answer".into(),
        reply: None,
    };
    let recipients = [failed(&bob, &reason)];
    let kind = Kind::Delay {
        retry_until: "Sat, 28 Nov 2026 19:20:01 +0100",
    };
    let content = report(kind, &sender, &recipients, Original::Headers(ORIGINAL)).content();
    expect![[r#"
        Date: Mon, 23 Nov 2026 19:20:01 +0100
        From: Mail Delivery Subsystem <MAILER-DAEMON@mx.example.org>
        To: ann@example.org
        Subject: DELIVERY DELAYED: mail.example.net does not answer
        Message-ID: <0006000000000002@mx.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type=delivery-status;
         boundary="=_0006000000000002_0"

        This is a delivery report in MIME format (RFC 3464).

        --=_0006000000000002_0
        Content-Description: Explanation
        Content-Type: text/plain; charset=us-ascii

        This is the mail system at mx.example.org.

        Your message has not reached the recipient below yet. You need not send it
        again: it is tried until Sat, 28 Nov 2026 19:20:01 +0100.

          <bob@example.net>
              mail.example.net does not answer

        Message ID: 0006000000000001
        Arrived:    Mon, 23 Nov 2026 19:20:01 +0100

        The operator of mx.example.org finds everything that happened to the message
        under this ID. What follows is for programs, and then comes the header of
        your message.

        --=_0006000000000002_0
        Content-Description: Delivery status
        Content-Type: message/delivery-status

        Reporting-MTA: dns; mx.example.org
        Arrival-Date: Mon, 23 Nov 2026 19:20:01 +0100
        X-Smtpmta-Queue-ID: 0006000000000001

        Final-Recipient: rfc822; bob@example.net
        Action: delayed
        Status: 4.4.1
        Diagnostic-Code: X-Smtpmta; mail.example.net does not answer
        Will-Retry-Until: Sat, 28 Nov 2026 19:20:01 +0100

        --=_0006000000000002_0
        Content-Description: Header of the message
        Content-Type: text/rfc822-headers

        Received: by x
        From: ann@example.org
        Subject: lunch

        --=_0006000000000002_0--
    "#]]
    .assert_eq(&shown(&content));
}

#[test]
fn a_program_reads_it_back() {
    let content = bounce_about(&refused("No such user here"), Original::Message(ORIGINAL));
    let mail = parse_mail(&content.octets).unwrap();
    assert_eq!(mail.ctype.mimetype, "multipart/report");
    assert_eq!(mail.ctype.params["report-type"], "delivery-status");
    assert_eq!(
        mail.headers.get_first_value("Auto-Submitted").unwrap(),
        "auto-replied"
    );
    let types: Vec<_> = mail
        .subparts
        .iter()
        .map(|part| part.ctype.mimetype.as_str())
        .collect();
    assert_eq!(types, ["text/plain", "message/delivery-status", "message/rfc822"]);
    assert_eq!(mail.subparts[2].get_body_raw().unwrap(), ORIGINAL);
    let fields = status_fields(&mail);
    assert_eq!(fields.len(), 2);
    assert!(fields[1].contains(&("Final-Recipient".into(), "rfc822; bob@example.net".into())));
    assert!(fields[1].contains(&(
        "Diagnostic-Code".into(),
        "smtp; 550 5.1.1 No such user here".into()
    )));
    assert!(!content.eight_bit);
}

#[test]
fn an_eight_bit_original_is_declared_and_kept() {
    let original = b"Subject: Gr\xC3\xBC\xC3\x9Fe\r\n\r\n\xFF\r\n";
    let content = bounce_about(&refused("no"), Original::Message(original));
    let mail = parse_mail(&content.octets).unwrap();
    assert!(content.eight_bit);
    assert_eq!(
        mail.headers.get_first_value("Content-Transfer-Encoding").unwrap(),
        "8bit"
    );
    assert_eq!(
        mail.subparts[2]
            .headers
            .get_first_value("Content-Transfer-Encoding")
            .unwrap(),
        "8bit"
    );
    assert!(memmem::find(&content.octets, original).is_some());
    assert!(bounce_about(&refused("no"), Original::Headers(original)).eight_bit);
}

#[test]
fn what_a_stranger_said_stays_7_bit_and_on_its_line() {
    let content = bounce_about(
        &refused("Grüße\u{1b}[31m\rX-Evil: 1"),
        Original::Headers(ORIGINAL),
    );
    let shown = shown(&content);
    assert!(shown.is_ascii() && !shown.contains('\u{1b}') && !shown.contains('\r') && !content.eight_bit);
    assert!(shown.contains("\nDiagnostic-Code: smtp; 550 5.1.1 Gr??e [31m X-Evil: 1\n"));
}

#[test]
fn long_diagnostics_are_folded() {
    let reason = refused(&format!("{} {}", "x".repeat(1500), "word ".repeat(300)));
    let content = bounce_about(
        &reason,
        Original::Headers(&[b"Subject: ", [b'y'; 5000].as_slice()].concat()),
    );
    assert!(shown(&content).lines().all(|line| line.len() <= 998));
    let mail = parse_mail(&content.octets).unwrap();
    assert_eq!(mail.subparts.len(), 3);
    assert_eq!(status_fields(&mail).len(), 2);
}

#[test]
fn a_hundred_recipients_are_spelled_out_and_the_others_counted() {
    let (sender, reason, other) = (mailbox("ann@example.org"), refused("no"), refused("never"));
    let addresses: Vec<_> = (0..123)
        .map(|n| mailbox(&format!("user{n}@example.net")))
        .collect();
    let mut recipients: Vec<_> = addresses.iter().map(|address| failed(address, &reason)).collect();
    recipients[122].reason = &other;
    let content = report(Kind::Bounce, &sender, &recipients, Original::Headers(b"")).content();
    let mail = parse_mail(&content.octets).unwrap();
    assert_eq!(status_fields(&mail).len(), 101);
    assert_eq!(
        mail.headers.get_first_value("Subject").unwrap(),
        "DELIVERY FAILURE: 123 recipients were not reached"
    );
    assert!(shown(&content).contains("\nand 23 more recipients.\n"));
}

#[test]
fn a_boundary_in_the_original_is_avoided() {
    let original = b"Subject: x\r\n\r\n--=_0006000000000002_0--\r\n--=_0006000000000002_1\r\n";
    let content = bounce_about(&refused("no"), Original::Message(original));
    let mail = parse_mail(&content.octets).unwrap();
    assert_eq!(mail.ctype.params["boundary"], "=_0006000000000002_2");
    assert_eq!(mail.subparts[2].get_body_raw().unwrap(), original);
}

#[test]
fn line_ends_of_the_original_become_crlf() {
    let content = bounce_about(&refused("no"), Original::Message(b"A: b\n\nx\ry\r\nz"));
    assert!(memmem::find(&content.octets, b"\r\n\r\nA: b\r\n\r\nx\r\ny\r\nz\r\n\r\n--=_").is_some());
}

#[test]
fn a_confirmation_says_how_far_each_recipient_came() {
    let sender = mailbox("ann@example.org");
    let (bob, list, remote) = (
        mailbox("bob@example.org"),
        mailbox("list@example.org"),
        mailbox("carl@example.net"),
    );
    let well = Reason {
        status: EnhancedCode(2, 0, 0),
        text: String::new(),
        reply: None,
    };
    let taken = Reason {
        reply: Some(Reply::new(250, "queued as 17")),
        ..well.clone()
    };
    let recipients = [
        ReportedRecipient {
            success: Some(Success::Delivered),
            original_recipient: Some("rfc822;Bob@Example.org"),
            ..failed(&bob, &well)
        },
        ReportedRecipient {
            success: Some(Success::Expanded),
            ..failed(&list, &well)
        },
        ReportedRecipient {
            success: Some(Success::Relayed),
            expanded_from: Some(&bob),
            remote_mta: Some("mail.example.net"),
            ..failed(&remote, &taken)
        },
    ];
    let report = Report {
        envelope_id: Some("QQ  31"),
        ..report(Kind::Success, &sender, &recipients, Original::Headers(ORIGINAL))
    };
    let shown = shown(&report.content());
    let (_, from_subject) = shown.split_once("To: ann@example.org\n").unwrap();
    let (subject, rest) = from_subject.split_once("\nMessage-ID").unwrap();
    let (_, words) = rest.split_once("us-ascii\n\n").unwrap();
    let (words, fields) = words.split_once("Message ID:").unwrap();
    let (_, fields) = fields.split_once("delivery-status\n\n").unwrap();
    let (fields, _) = fields.split_once("\n--").unwrap();
    expect![[r#"
        Subject: DELIVERY CONFIRMATION: 3 recipients were reached
        This is the mail system at mx.example.org.

        As you asked, you are told what became of your message to the 3 recipients
        below.

          <bob@example.org>
              which you addressed as Bob@Example.org
              It is in the mailbox.

          <list@example.org>
              It stands for several recipients, and goes on to all of them.

          <carl@example.net>
              which you addressed as bob@example.org
              at mail.example.net:
              The next host took it. It sends no confirmations of its own.

        Original-Envelope-Id: QQ  31
        Reporting-MTA: dns; mx.example.org
        Arrival-Date: Mon, 23 Nov 2026 19:20:01 +0100
        X-Smtpmta-Queue-ID: 0006000000000001

        Original-Recipient: rfc822; Bob@Example.org
        Final-Recipient: rfc822; bob@example.org
        Action: delivered
        Status: 2.0.0

        Final-Recipient: rfc822; list@example.org
        Action: expanded
        Status: 2.0.0

        Final-Recipient: rfc822; carl@example.net
        Action: relayed
        Status: 2.0.0
        Remote-MTA: dns; mail.example.net
        Diagnostic-Code: smtp; 250 queued as 17
    "#]]
    .assert_eq(&format!("{subject}\n{words}{fields}"));
}

#[test]
fn what_came_with_smtputf8_is_named_so() {
    let (sender, bob) = (mailbox("ann@example.org"), mailbox("bob@example.net"));
    let reason = refused("no");
    let recipients = [ReportedRecipient {
        original_recipient: Some("utf-8;b\\x{F6}b@example.net"),
        ..failed(&bob, &reason)
    }];
    let original = "Subject: Grüße\r\n\r\nx\r\n".as_bytes();
    for (original, kind) in [
        (Original::Headers(original), "message/global-headers"),
        (Original::Message(original), "message/global"),
    ] {
        let report = Report {
            utf8: true,
            ..report(Kind::Bounce, &sender, &recipients, original)
        };
        let content = report.content();
        let mail = parse_mail(&content.octets).unwrap();
        assert_eq!(mail.subparts[2].ctype.mimetype, kind);
        let original = ("Original-Recipient".into(), "utf-8; b\\x{F6}b@example.net".into());
        assert!(status_fields(&mail)[1].contains(&original));
    }
}

#[test]
fn addresses_in_utf8_stand_in_their_ascii_form_where_the_report_is_ascii() {
    let (sender, bob) = (mailbox("änn@example.org"), mailbox("\"jö rg\"@example.net"));
    let (reason, alias) = (refused("no"), mailbox("用户@example.org"));
    let recipients = [ReportedRecipient {
        expanded_from: Some(&alias),
        ..failed(&bob, &reason)
    }];
    let content = report(Kind::Bounce, &sender, &recipients, Original::Headers(ORIGINAL)).content();
    let shown = shown(&content);
    // RFC 6532: whoever gets it is named as he is, and such a report travels with SMTPUTF8.
    assert!(shown.contains("\nTo: änn@example.org\n"), "{shown}");
    let rest = shown.replace("änn", "");
    assert!(rest.is_ascii(), "{rest}");
    for expected in [
        "\n  <\"j\\x{F6}\\x{20}rg\"@example.net>\n",
        "which you addressed as \\x{7528}\\x{6237}@example.org\n",
        "\nFinal-Recipient: utf-8; \"j\\x{F6}\\x{20}rg\"@example.net\n",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in {shown}");
    }
}

#[test]
fn what_is_held_is_late_and_not_tried_by_itself() {
    let (bob, sender) = (mailbox("bob@example.net"), mailbox("alice@example.org"));
    let reason = Reason::here(EnhancedCode(5, 3, 0), "its content is cut");
    let held = ReportedRecipient {
        is_held: true,
        ..failed(&bob, &reason)
    };
    let kind = Kind::Delay { retry_until: DATE };
    let late = |recipients: &[ReportedRecipient<'_>]| {
        let content = report(kind, &sender, recipients, Original::Headers(ORIGINAL)).content();
        String::from_utf8(content.octets).unwrap()
    };
    let text = late(&[held]);
    assert!(text.contains("put aside here"), "{text}");
    assert!(
        text.contains("\r\nAction: delayed\r\nStatus: 4.3.0\r\n"),
        "{text}"
    );
    assert!(!text.contains("Will-Retry-Until"), "{text}");
    // Beside one that is tried, each has its own fields.
    let text = late(&[held, failed(&bob, &reason)]);
    assert_eq!(text.matches("Will-Retry-Until").count(), 1, "{text}");
    assert!(text.contains("it is tried until"), "{text}");
}
