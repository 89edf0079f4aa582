//! A delivery report made of what strangers said: a host's reply, a client's ENVID and ORCPT, an address, a message.
//! Whatever they are, it is a well-formed report about one recipient.
//!
//! The first octet chooses the kind; the parts follow, with 0xFE between them, and the message comes last.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::conversion::from_internet::Structure;
use smtpmta::delivery_report::report::{Kind, Original, Report, ReportedRecipient};
use smtpmta::outbound::outcome::{Peer, Reason, Stage, Verdict, judge};
use smtpmta::smtp::dsn::{EnvelopeId, OriginalRecipient};
use smtpmta::smtp::path::Mailbox;
use smtpmta::smtp::reply::{EnhancedCode, ReplyParser};
use smtpmta::work_queue::id::MessageId;
use smtpmta::work_queue::outcome::Success;

/// The longest line, with its end.
const LONGEST_LINE: usize = 1000;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let mut parts = rest.splitn(5, |octet| *octet == 0xFE);
    let mut part = || parts.next().unwrap_or_default();
    let (said, envelope_id, original, address, message) = (part(), part(), part(), part(), part());
    let text = |octets| str::from_utf8(octets).unwrap_or_default();

    let reason = reason(said);
    let envelope_id = text(envelope_id).parse().ok().map(|id: EnvelopeId| id.decoded());
    let original = text(original)
        .parse()
        .ok()
        .map(|original: OriginalRecipient| match choice & 1 {
            0 => original.in_ascii().decoded(),
            _ => original.decoded(),
        });
    let address: Mailbox = text(address).parse().unwrap_or_else(|_| some_address());
    let (sender, alias) = (some_address(), some_address());
    let recipient = ReportedRecipient {
        address: &address,
        expanded_from: Some(&alias).filter(|_| choice & 2 != 0),
        original_recipient: original.as_deref(),
        success: Some(Success::Relayed).filter(|_| choice & 4 != 0),
        reason: &reason,
        remote_mta: Some("mx.example.org").filter(|_| choice & 8 != 0),
        last_attempt: Some("Mon, 1 Jan 2024 00:00:00 +0000"),
        is_held: false,
    };
    let is_whole = choice & 16 != 0;
    let report = Report {
        kind: match choice >> 5 & 3 {
            0 => Kind::Bounce,
            1 => Kind::Delay {
                retry_until: "Mon, 1 Jan 2024 00:00:00 +0000",
            },
            _ => Kind::Success,
        },
        id: MessageId(1),
        about: MessageId(2),
        hostname: "mail.example.org",
        date: "Mon, 1 Jan 2024 00:00:00 +0000",
        arrival: "Mon, 1 Jan 2024 00:00:00 +0000",
        sender: &sender,
        envelope_id: envelope_id.as_deref(),
        recipients: &[recipient],
        utf8: choice & 128 != 0,
        original: if is_whole {
            Original::Message(message)
        } else {
            Original::Headers(message)
        },
    };
    let content = report.content();
    check(&content.octets, content.eight_bit, is_whole);
});

fn some_address() -> Mailbox {
    "bob@example.org".parse().expect("an address")
}

/// Why a recipient was not reached, as a host has said it, if it has.
fn reason(said: &[u8]) -> Reason {
    let peer = Peer {
        name: "mx.example.org".to_owned(),
        address: std::net::SocketAddr::from(([192, 0, 2, 1], 25)).into(),
    };
    let mut parser = ReplyParser::new();
    let replies = said.split(|octet| *octet == b'\n');
    let reply = replies.filter_map(|line| parser.feed(line).ok().flatten()).last();
    match reply.map(|reply| judge(&peer, Stage::Rcpt, &reply)) {
        Some(Verdict::TryLater(reason) | Verdict::GiveUp(reason) | Verdict::Ends(reason)) => reason,
        Some(Verdict::Fine) | None => Reason::here(EnhancedCode(5, 0, 0), &String::from_utf8_lossy(said)),
    }
}

fn check(octets: &[u8], eight_bit: bool, is_whole: bool) {
    assert_eq!(octets.is_ascii(), !eight_bit);
    let mut lines: Vec<&[u8]> = octets.split(|octet| *octet == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]), "the last line has its end");
    for line in &mut lines {
        let text = line.strip_suffix(b"\r").expect("lines end with CRLF");
        assert!(!text.contains(&b'\r'), "{:?}", text.escape_ascii());
        assert!(line.len() < LONGEST_LINE || is_whole, "{} octets", line.len());
        *line = text;
    }
    let kind = lines
        .iter()
        .position(|line| line.starts_with(b"Content-Type: multipart/report;"));
    let boundary = kind.and_then(|at| {
        lines
            .get(at + 1)?
            .strip_prefix(b" boundary=\"")?
            .strip_suffix(b"\"")
    });
    let border = [b"--", boundary.expect("a boundary")].concat();
    let borders: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].starts_with(&border))
        .collect();
    let &[first, second, third, last] = &*borders else {
        panic!("{} borders", borders.len());
    };
    assert_eq!(last + 1, lines.len());
    assert_eq!(lines[last], [&border, &b"--"[..]].concat());
    let ours = &lines[..third];
    assert!(
        ours.iter()
            .all(|line| line.iter().all(|octet| (b' '..=b'~').contains(octet)))
    );
    for name in ["Final-Recipient: ", "Action: ", "Status: ", "Reporting-MTA: "] {
        let count = lines[second..third]
            .iter()
            .filter(|line| line.starts_with(name.as_bytes()))
            .count();
        assert_eq!(count, 1, "{name}");
    }
    assert!(lines[first + 1].starts_with(b"Content-Description: "));

    let found = Structure::of(octets);
    assert!(
        found.parts >= 3 && found.subject.starts_with("DELIVERY "),
        "{found:?}"
    );
}
