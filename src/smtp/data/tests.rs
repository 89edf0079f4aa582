//! Content in every chunking, with every imitation of its end.

use super::*;
use proptest::prelude::*;

struct Got {
    content: Vec<u8>,
    consumed: usize,
    finished: bool,
    fault: Option<ContentFault>,
}

fn decode(input: &[u8], step: usize) -> Got {
    let mut decoder = Decoder::new();
    let mut got = Got {
        content: Vec::new(),
        consumed: 0,
        finished: false,
        fault: None,
    };
    for piece in input.chunks(step) {
        let decoded = decoder.decode(piece, &mut |slice| got.content.extend_from_slice(slice));
        got.consumed += decoded.consumed;
        got.finished = decoded.finished;
        assert!(decoded.finished || decoded.consumed == piece.len());
    }
    got.fault = decoder.fault();
    assert_eq!(decoder.size(), got.content.len() as u64);
    got
}

fn encode(content: &[u8], step: usize) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    for chunk in content.chunks(step) {
        encoder.encode(chunk, &mut out);
    }
    encoder.finish(&mut out);
    out
}

/// What RFC 5321 4.5.2 says, with whole strings and no care for speed.
fn by_the_book(input: &str) -> (String, bool, usize) {
    let padded = format!("\r\n{input}");
    let (end, finished) = match padded.find("\r\n.\r\n") {
        Some(at) => (at + 2, true),
        None => (padded.len(), false),
    };
    let content = padded[..end].replace("\r\n.", "\r\n");
    let consumed = if finished { end + 3 } else { end } - 2;
    (content[2..].to_owned(), finished, consumed)
}

#[test]
fn content_ends_at_a_line_with_only_a_dot_and_the_next_command_stays() {
    for step in 1..20 {
        let got = decode(b"Hello World\r\n.\r\nQUIT\r\n", step);
        assert_eq!(got.content, b"Hello World\r\n");
        assert!(got.finished && got.fault.is_none());
        assert_eq!(got.consumed, 16, "step {step}");
    }
}

#[test]
fn an_empty_message_ends_at_its_first_line() {
    for step in 1..5 {
        let got = decode(b".\r\n", step);
        assert!(got.content.is_empty() && got.finished && got.consumed == 3);
    }
}

#[test]
fn dots_are_taken_off_at_the_start_of_lines_only() {
    for step in 1..20 {
        let got = decode(b"..a.b\r\n...\r\n.c\r\n..\r\n.\r\n", step);
        assert_eq!(got.content, b".a.b\r\n..\r\nc\r\n.\r\n", "step {step}");
    }
}

#[test]
fn nothing_but_crlf_dot_crlf_ends_content_and_every_imitation_is_a_fault() {
    for (imitation, fault) in [
        ("\n.\n", ContentFault::BareLf),
        ("\n.\r\n", ContentFault::BareLf),
        ("\r\n.\n", ContentFault::BareLf),
        ("\r.\r", ContentFault::BareCr),
        ("\r\n.\r", ContentFault::BareCr),
        ("\r\n.\r\r\n", ContentFault::BareCr),
        ("\r.\r\n", ContentFault::BareCr),
        ("\n\n.\r\n", ContentFault::BareLf),
        ("\r\r.\r\n", ContentFault::BareCr),
    ] {
        for step in 1..12 {
            let input = format!("a{imitation}MAIL FROM:<evil@example.org>\r\n.\r\n");
            let got = decode(input.as_bytes(), step);
            assert!(
                got.finished && got.consumed == input.len(),
                "{imitation:?} {step}"
            );
            assert_eq!(got.fault, Some(fault), "{imitation:?} {step}");
        }
    }
}

#[test]
fn plain_content_is_handed_over_in_one_slice() {
    let mut slices = 0;
    let block = b"a line of some length\r\n".repeat(1000);
    Decoder::new().decode(&block, &mut |_| slices += 1);
    assert_eq!(slices, 1);
}

#[test]
fn a_line_may_be_as_long_as_it_likes() {
    let mut input = vec![b'x'; 100_000];
    input.extend_from_slice(b"\r\n.\r\n");
    let got = decode(&input, 4096);
    assert!(got.finished && got.fault.is_none() && got.content.len() == 100_002);
}

#[test]
fn dots_are_put_on_and_the_end_is_complete() {
    for step in 1..20 {
        assert_eq!(encode(b"", step), b".\r\n");
        assert_eq!(encode(b".a\r\n..\r\nb.\r\n", step), b"..a\r\n...\r\nb.\r\n.\r\n");
        assert_eq!(encode(b"no end", step), b"no end\r\n.\r\n");
        assert_eq!(encode(b"half an end\r", step), b"half an end\r\n.\r\n");
        assert_eq!(encode(b".", step), b"..\r\n.\r\n");
    }
}

#[test]
fn no_bare_cr_or_lf_leaves_the_house() {
    for step in 1..20 {
        let sent = encode(b"a\n.\nb\r.\rc\n\r\n", step);
        assert_eq!(sent, b"a\r\n..\r\nb\r\n..\r\nc\r\n\r\n.\r\n", "step {step}");
    }
}

fn awkward() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![Just("\r"), Just("\n"), Just("."), Just("\r\n"), Just("a")],
        0..60,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_chunking_decodes_by_the_book(input in awkward(), step in 1usize..20) {
        let got = decode(input.as_bytes(), step);
        let (content, finished, consumed) = by_the_book(&input);
        prop_assert_eq!(got.finished, finished);
        prop_assert_eq!(got.consumed, consumed);
        if finished {
            prop_assert_eq!(String::from_utf8(got.content).unwrap(), content.clone());
            let paired = content.replace("\r\n", "");
            prop_assert_eq!(got.fault.is_some(), paired.contains(['\r', '\n']));
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(
        lines in proptest::collection::vec("[.a\\x00\u{e9}]{0,6}", 0..20),
        step in 1usize..20,
    ) {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let sent = encode(content.as_bytes(), step);
        let got = decode(&sent, step + 1);
        prop_assert_eq!(String::from_utf8(got.content).unwrap(), content);
        prop_assert!(got.finished && got.fault.is_none() && got.consumed == sent.len());
    }

    #[test]
    fn whatever_is_encoded_arrives_as_one_message_without_fault(input in awkward(), step in 1usize..20) {
        let sent = encode(input.as_bytes(), step);
        prop_assert_eq!(&sent, &encode(input.as_bytes(), 1000));
        let got = decode(&sent, 1000);
        prop_assert!(got.finished && got.fault.is_none() && got.consumed == sent.len());
    }
}
