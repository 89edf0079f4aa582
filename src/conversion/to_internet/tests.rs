//! Submissions whole and odd, and their RFC form.

use proptest::prelude::*;

use super::*;
use crate::smtp::path::Mailbox;

fn completer() -> Completer {
    Completer::new(Facts {
        date: "Mon, 23 Nov 2026 19:20:01 +0100".into(),
        hostname: "mx.example.org".into(),
        id: MessageId(0x0006_0000_0000_002A),
        sender: ReversePath(Some(Mailbox::parse("ann@example.org").unwrap())),
    })
}

fn in_chunks(content: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut completer, mut out, mut rest) = (completer(), Vec::new(), content);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at((*size).clamp(1, rest.len()));
        completer.feed(chunk, &mut out);
        rest = after;
    }
    completer.finish(&mut out);
    out
}

fn completed(content: &str) -> String {
    String::from_utf8(in_chunks(content.as_bytes(), &[usize::MAX])).unwrap()
}

const DATE: &str = "Date: Mon, 23 Nov 2026 19:20:01 +0100\r\n";
const FROM: &str = "From: ann@example.org\r\n";
const ID: &str = "Message-ID: <000600000000002A@mx.example.org>\r\n";

#[test]
fn missing_fields_are_added_at_the_end_of_the_header() {
    assert_eq!(
        completed("Subject: s\n\tfolded\nTo: b@example.net\n\nhello\n\nthere\n"),
        format!("Subject: s\r\n\tfolded\r\nTo: b@example.net\r\n{DATE}{FROM}{ID}\r\nhello\r\n\r\nthere\r\n")
    );
}

#[test]
fn fields_that_are_there_stay_as_they_are() {
    let whole = "date: whenever\r\nFROM : a@b (x)\r\nMessage-Id:\r\n <1@b>\r\n\r\nbody\r\n";
    assert_eq!(completed(whole), whole);
}

#[test]
fn blind_recipients_and_the_return_path_go_with_their_continuation_lines() {
    assert_eq!(
        completed(
            "Bcc: x@y,\n z@y\nDate: d\nReturn-path : <x>\nResent-BCC:\n\tq\nFrom: f\nMessage-ID: i\n\nBcc: b"
        ),
        "Date: d\r\nFrom: f\r\nMessage-ID: i\r\n\r\nBcc: b\r\n"
    );
}

#[test]
fn a_line_end_that_was_translated_twice_does_not_end_the_header() {
    let out = completed("Subject: s\r\r\nBcc: secret@example.net\r\r\n\r\r\nx\r\r\n");
    assert_eq!(out, format!("Subject: s\r\n{DATE}{FROM}{ID}\r\nx\r\n"));
}

#[test]
fn text_without_header_becomes_a_body() {
    for (content, body) in [
        ("", ""),
        ("\n", ""),
        ("hello", "hello\r\n"),
        ("\nSubject: not\n", "Subject: not\r\n"),
        (" folded: x\n", " folded: x\r\n"),
        ("From nobody Mon Nov 23 19:20:01 2026\nhello", "hello\r\n"),
        ("From one\nFrom two\n", "From two\r\n"),
        (": x\n", ": x\r\n"),
    ] {
        assert_eq!(
            completed(content),
            format!("{DATE}{FROM}{ID}\r\n{body}"),
            "{content:?}"
        );
    }
}

#[test]
fn a_forgotten_empty_line_is_put_in() {
    assert_eq!(
        completed("Subject: s\nhello\nBcc: x\n"),
        format!("Subject: s\r\n{DATE}{FROM}{ID}\r\nhello\r\nBcc: x\r\n")
    );
}

#[test]
fn the_line_of_a_mailbox_file_goes_but_a_from_field_stays() {
    assert!(completed("From a@b Mon Nov 23\nSubject: s\n\n").starts_with("Subject: s\r\n"));
    assert!(completed("From : a@b\n\n").starts_with("From : a@b\r\nDate:"));
}

#[test]
fn every_kind_of_line_end_becomes_crlf() {
    let header = format!("{DATE}{FROM}{ID}\r\n");
    assert_eq!(
        completed("\na\rb\nc\r\nd\r\r\re"),
        format!("{header}a\r\nb\r\nc\r\nd\r\n\r\n\r\ne\r\n")
    );
    assert_eq!(completed("\na\r"), format!("{header}a\r\n"));
}

#[test]
fn octets_of_the_body_are_kept() {
    let out = in_chunks(b"\n\0\xFF.\n..\n", &[1]);
    assert!(out.ends_with(b"\r\n\r\n\0\xFF.\r\n..\r\n"));
}

#[test]
fn the_null_sender_is_the_mailer_daemon() {
    let mut completer = completer();
    completer.facts.sender = ReversePath(None);
    let mut out = Vec::new();
    completer.feed(b"hello", &mut out);
    completer.finish(&mut out);
    assert!(
        String::from_utf8(out)
            .unwrap()
            .contains("\r\nFrom: MAILER-DAEMON@mx.example.org\r\n")
    );
}

#[test]
fn a_header_line_without_end_keeps_memory_flat() {
    let (mut completer, mut out) = (completer(), Vec::new());
    let chunk = [b'x'; 64 * 1024];
    for start in [&b"Bcc: "[..], b"\nSubject: ", b"\n"] {
        completer.feed(start, &mut out);
        for _ in 0..100 {
            out.clear();
            completer.feed(&chunk, &mut out);
            assert!(completer.start.capacity() <= 4096 && out.len() <= 2 * chunk.len());
        }
    }
    assert_eq!(completer.place, Place::Body);
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "\r\n", "\n", "\r", "\n\n", " ", "\t", ":", "x", "Subject: s\n", "Bcc: b\r\n", "bcc", "From ",
            "From a\n",
            "From: f\n", "Date", "Date: d\r\n", "Message-ID: i\n", "Return-Path: <>\n", " folded\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => (990usize..1005).prop_map(|length| vec![b'n'; length]),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn completing_the_result_again_changes_nothing(content in pieces()) {
        let once = in_chunks(&content, &[usize::MAX]);
        prop_assert_eq!(&in_chunks(&once, &[usize::MAX]), &once);
        let bare = once.iter().enumerate().any(|(at, &octet)| match octet {
            b'\r' => once.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || once[at - 1] != b'\r',
            _ => false,
        });
        prop_assert!(!bare && once.ends_with(b"\r\n"));
    }

    #[test]
    fn chunks_of_any_size_give_the_same_form(
        content in pieces(),
        sizes in prop::collection::vec(1usize..40, 1..10),
    ) {
        let whole = in_chunks(&content, &[usize::MAX]);
        prop_assert_eq!(&in_chunks(&content, &sizes), &whole);
        prop_assert_eq!(&in_chunks(&content, &[1]), &whole);
    }
}
