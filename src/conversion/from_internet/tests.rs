//! Messages whole and broken, and what the reader finds in them.

use proptest::prelude::*;

use super::*;

fn in_chunks(content: &[u8], sizes: &[usize]) -> Structure {
    let mut reader = StructureReader::default();
    let mut rest = content;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at((*size).clamp(1, rest.len()));
        reader.feed(chunk);
        rest = after;
    }
    reader.finish()
}

const REPORT: &str = "Received: from a by b; Mon, 23 Nov 2026 19:20:01 +0100\r\n\
    Delivered-To: Bob@Example.org\r\n\
    Received: from c\r\n\tby a;\r\n Received: folded\r\n\
    Subject: =?utf-8?Q?Bericht_f=C3=BCr?=\r\n =?utf-8?Q?_M=C3=A4rz?=\r\n\
    Subject: another\r\n\
    X-Unknown: ignored\r\n folded\r\n\
    From: \"A\" <a@example.net>\r\n\
    To: b@example.org,\r\n c@example.org\r\n\
    Message-ID: <1@example.net>\r\n\
    Date: Mon, 23 Nov 2026 19:20:01 +0100\r\n\
    Content-Type: multipart/mixed;\r\n boundary=\"outer\"\r\n\
    \r\n\
    preamble\r\n\
    --outer\r\n\
    Content-Type: multipart/alternative; boundary=outer1\r\n\
    \r\n\
    --outer1\r\n\
    \r\n\
    plain\r\n\
    --outer1 \t\r\n\
    Content-Type: text/html\r\n\
    \r\n\
    <p>\r\n\
    --outer1--\r\n\
    epilogue\r\n\
    --outer\r\n\
    Content-Type: application/pdf; name=\"ignored.pdf\"\r\n\
    Content-Disposition: attachment; filename*=utf-8''M%C3%A4rz.pdf\r\n\
    \r\n\
    JVBERi0=\r\n\
    --outer\r\n\
    Content-Type: image/png; name=\"=?utf-8?Q?B=C3=A4r.png?=\"\r\n\
    \r\n\
    --outerX\r\n\
    --outer--\r\n\
    --outer\r\n\
    Content-Type: text/x; name=behind-the-end\r\n\
    \r\n";

#[test]
fn a_message_with_parts_is_taken_apart() {
    let expected = Structure {
        subject: "Bericht für März".into(),
        from: "\"A\" <a@example.net>".into(),
        to: "b@example.org, c@example.org".into(),
        message_id: "<1@example.net>".into(),
        date: "Mon, 23 Nov 2026 19:20:01 +0100".into(),
        hops: 2,
        utf8_header: false,
        eight_bit: false,
        parts: 4,
        attachments: vec!["März.pdf".into(), "Bär.png".into()],
        delivered_to: vec!["Bob@Example.org".into()],
    };
    assert_eq!(Structure::of(REPORT.as_bytes()), expected);
    assert!(expected.was_delivered_to("bob@example.org"));
    assert!(!expected.was_delivered_to("rob@example.org"));
    assert_eq!(in_chunks(REPORT.as_bytes(), &[1]), expected);
    assert_eq!(Structure::of(REPORT.replace("\r\n", "\n").as_bytes()), expected);
}

#[test]
fn a_message_without_any_header_has_empty_fields() {
    let headless = Structure {
        parts: 1,
        ..Structure::default()
    };
    for content in [
        "",
        "\r\n",
        "\r\nSubject: in the body\r\n",
        "hello\r\nSubject: in the body\r\n\r\n",
        " folded\r\nReceived: in the body\r\n",
        ".",
    ] {
        assert_eq!(Structure::of(content.as_bytes()), headless, "{content:?}");
    }
}

#[test]
fn a_line_of_a_mailbox_file_and_broken_lines_do_not_end_the_header() {
    let content = "From a@b Mon Nov 23\nReceived: x\njunk\n more junk\nReceived: y\nSubject: s\n\nSubject: t";
    let found = Structure::of(content.as_bytes());
    assert_eq!(
        (found.hops, found.subject.as_str(), found.from.as_str()),
        (2, "s", "")
    );
}

#[test]
fn hops_are_counted_however_long_the_header_is() {
    let filler = format!("X-Filler: {}\r\n", "x".repeat(20_000));
    let content =
        format!("Received: by a\r\n{filler}").repeat(120) + "Subject: late\r\n\r\nReceived: body\r\n";
    let found = Structure::of(content.as_bytes());
    assert_eq!((found.hops, found.subject.as_str()), (120, "late"));
}

#[test]
fn eight_bit_is_seen_in_header_and_body() {
    assert!(Structure::of(b"Subject: \xFC\r\n\r\nx").eight_bit);
    assert!(Structure::of(b"Subject: u\r\n\r\n\0\x7f\xFC").eight_bit);
    assert!(!Structure::of(b"Subject: u\r\n\r\n\0\x7f").eight_bit);
}

#[test]
fn ten_thousand_parts_are_counted_and_a_hundred_names_kept() {
    let long = "ü".repeat(300);
    let part = format!("--b\r\nContent-Disposition: attachment; filename=\"{long}\"\r\n\r\nx\r\n");
    let content = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned() + &part.repeat(10_000);
    let found = Structure::of(content.as_bytes());
    assert_eq!((found.parts, found.attachments.len()), (10_000, 100));
    assert!(found.attachments.iter().all(|name| *name == "ü".repeat(200)));
}

#[test]
fn multiparts_nest_to_a_bound() {
    let content: String = (0..10_000)
        .map(|depth| format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n"))
        .collect();
    let found = Structure::of(content.as_bytes());
    assert_eq!(found.parts, 1);
}

#[test]
fn an_outer_boundary_ends_what_was_left_open() {
    let content = "Content-Type: multipart/mixed; boundary=o\n\n--o\n\
        Content-Type: multipart/mixed; boundary=i\n\n--i\nContent-Type: x/y; name=one\n--o\n\
        Content-Type: x/y; name=two\n\n--i\n";
    let found = Structure::of(content.as_bytes());
    assert_eq!(found.attachments, ["one", "two"]);
    assert_eq!(found.parts, 2);
}

#[test]
fn a_multipart_without_boundary_is_one_part() {
    for parameters in ["", "; boundary=", "; boundary=\" \"", "; boundary"] {
        let content = format!("Content-Type: multipart/mixed{parameters}\r\n\r\n--\r\n--x\r\n");
        assert_eq!(Structure::of(content.as_bytes()).parts, 1, "{parameters}");
    }
}

#[test]
fn a_line_without_end_keeps_memory_flat() {
    let mut reader = StructureReader::default();
    reader.feed(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nSubject: ");
    let chunk = [b'x'; 64 * 1024];
    for _ in 0..1000 {
        reader.feed(&chunk);
    }
    assert!(reader.line.capacity() + reader.value.capacity() <= 4 * LONGEST_FIELD);
    reader.feed(b"\r\n\r\n--");
    for _ in 0..1000 {
        reader.feed(&chunk);
    }
    assert!(reader.line.capacity() + reader.value.capacity() <= 4 * LONGEST_FIELD);
    assert_eq!(reader.finish().parts, 1);
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "\r\n", "\n", "\r", "--b", "--b\r\n", "--b--\r\n", "--c\r\n", "--", "-", " ", "\t", ":",
            "Subject: s",
            "Received: r\r\n", "From ", "To: =?utf-8?Q?=FC?= x", "\r\n\r\n", "Delivered-To: a@b\r\n",
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
            "Content-Type: multipart/x;\r\n boundary=\"c\"\r\n",
            "Content-Type: text/plain; name*0*=utf-8''%FC; name*1=x\r\n",
            "Content-Disposition: attachment; filename=\"a\r\n b\"\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        1 => (any::<u8>(), 200usize..9000).prop_map(|(octet, length)| vec![octet; length]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn chunks_of_any_size_give_the_same_structure(
        content in pieces(),
        sizes in prop::collection::vec(1usize..300, 1..20),
    ) {
        let whole = Structure::of(&content);
        prop_assert_eq!(&in_chunks(&content, &sizes), &whole);
        prop_assert_eq!(&in_chunks(&content, &[1]), &whole);
        for text in [&whole.subject, &whole.to].into_iter().chain(&whole.attachments) {
            prop_assert!(!text.contains(char::is_control));
        }
    }
}

#[test]
fn eight_bits_in_a_header_are_told_from_those_in_a_body() {
    let header = "Subject: Grüße\r\n\r\nHello\r\n";
    let folded = "Subject: x\r\n Grüße";
    let of_a_part = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; \
                     name=Grüße\r\n\r\nHello\r\n--b--\r\n";
    let body = "Subject: x\r\n\r\nGrüße\r\n";
    let body_of_a_part = "Content-Type: multipart/mixed; boundary=b\r\n\r\nGrüße\r\n--b\r\n\r\n\
                          Grüße\r\n--b--\r\nGrüße\r\n";
    for (content, expected) in [
        (header, true),
        (folded, true),
        (of_a_part, true),
        (body, false),
        (body_of_a_part, false),
    ] {
        for sizes in [&[1][..], &[3, 2], &[1000]] {
            let structure = in_chunks(content.as_bytes(), sizes);
            assert_eq!(structure.utf8_header, expected, "{content:?}");
            assert!(structure.eight_bit);
        }
    }
}
