//! Content in every chunking, with every imitation of its end.

use super::*;
use proptest::prelude::*;

#[derive(Debug, PartialEq, Eq)]
struct Got {
    content: Vec<u8>,
    consumed: usize,
    finished: bool,
    fault: Option<ContentFault>,
}

fn decode(input: &[u8], step: usize) -> Got {
    decode_pieces(input.chunks(step))
}

fn decode_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Got {
    let mut decoder = Decoder::new();
    let mut got = Got {
        content: Vec::new(),
        consumed: 0,
        finished: false,
        fault: None,
    };
    for piece in pieces {
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
fn by_the_book(input: &[u8]) -> Got {
    let mut content = Vec::new();
    let mut consumed = 0;
    let mut finished = false;
    for line in crlf_lines(input) {
        consumed += line.len();
        finished = line == b".\r\n";
        if finished {
            break;
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    // What has not come to its end may lack the end of its last line: a dot and a CR alone wait for it.
    if input == b".\r" || !finished && input.ends_with(b"\r\n.\r") {
        content.pop();
    }
    Got {
        content,
        consumed,
        finished,
        fault: first_fault(&input[..consumed]),
    }
}

fn crlf_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut start = 0;
    for end in 2..=text.len() {
        if end >= start + 2 && text[..end].ends_with(b"\r\n") {
            lines.push(&text[start..end]);
            start = end;
        }
    }
    lines.push(&text[start..]);
    lines
}

/// Octet by octet, with a look to either side; a CR at the very end is none yet.
fn first_fault(input: &[u8]) -> Option<ContentFault> {
    (0..input.len()).find_map(|at| match input[at] {
        0 => Some(ContentFault::Nul),
        b'\r' if input.get(at + 1).is_some_and(|next| *next != b'\n') => Some(ContentFault::BareCr),
        b'\n' if at == 0 || input[at - 1] != b'\r' => Some(ContentFault::BareLf),
        _ => None,
    })
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
    use ContentFault::{BareCr, BareLf, Nul};
    for (imitation, fault) in [
        ("\n.\n", BareLf),
        ("\n.\r", BareLf),
        ("\n.\r\n", BareLf),
        ("\r.\n", BareCr),
        ("\r.\r", BareCr),
        ("\r.\r\n", BareCr),
        ("\r\n.\n", BareLf),
        ("\r\n.\r", BareCr),
        ("\r\n.\r\r\n", BareCr),
        ("\r\n.\n\r\n", BareLf),
        ("\n\n.\r\n", BareLf),
        ("\n\r.\r\n", BareLf),
        ("\n\r.\n\r", BareLf),
        ("\r\r.\r\n", BareCr),
        ("\r\n\n.\r\n", BareLf),
        ("\r\n\r.\r\n", BareCr),
        ("\0.\r\n", Nul),
        ("\n\0.\r\n", BareLf),
        ("\r\0.\r\n", BareCr),
        ("\r\n\0.\r\n", Nul),
        ("\r\0\n.\r\n", BareCr),
        ("\0\r\n\0.\r\n", Nul),
        ("\r\n.\0\r\n", Nul),
        ("\r\n.\r\0\n", BareCr),
        ("\r\n\0.\0\r\0\n", Nul),
        ("\r\n.\0\n", Nul),
        ("\n.\0\n", BareLf),
    ] {
        for step in 1..14 {
            let input = format!("a{imitation}MAIL FROM:<evil@example.org>\r\n.\r\nQUIT\r\n");
            let got = decode(input.as_bytes(), step);
            assert!(got.finished, "{imitation:?} {step}");
            assert_eq!(
                got.consumed,
                input.len() - "QUIT\r\n".len(),
                "{imitation:?} {step}"
            );
            assert_eq!(got.fault, Some(fault), "{imitation:?} {step}");
        }
    }
}

#[test]
fn a_real_end_is_one_whatever_is_wrong_before_it() {
    for (content, fault) in [
        ("a\r\r\n.\r\n", ContentFault::BareCr),
        ("a\n\r\n.\r\n", ContentFault::BareLf),
        ("a\0\r\n.\r\n", ContentFault::Nul),
        ("\n.\n\r\n.\r\n", ContentFault::BareLf),
        (".\n\r\n.\r\n", ContentFault::BareLf),
    ] {
        for step in 1..12 {
            let got = decode(format!("{content}QUIT\r\n").as_bytes(), step);
            assert!(
                got.finished && got.consumed == content.len(),
                "{content:?} {step}"
            );
            assert_eq!(got.fault, Some(fault), "{content:?} {step}");
        }
    }
}

#[test]
fn of_several_faults_the_first_one_counts() {
    for (content, fault) in [
        ("a\nb\rc\0d", ContentFault::BareLf),
        ("a\rb\nc\0d", ContentFault::BareCr),
        ("a\0b\rc\nd", ContentFault::Nul),
        ("a\r\0", ContentFault::BareCr),
    ] {
        for step in 1..8 {
            assert_eq!(decode(content.as_bytes(), step).fault, Some(fault), "{content:?}");
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
fn no_bare_cr_or_lf_and_no_nul_leaves_the_house() {
    for step in 1..20 {
        for (stored, expected) in [
            ("a\n.\nb\r.\rc\n\r\n", "a\r\n..\r\nb\r\n..\r\nc\r\n\r\n.\r\n"),
            ("a\r\n\0.\r\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n\0\0.\0\r\0\nb\0", "a\r\n..\r\nb\r\n.\r\n"),
            ("\0.\0", "..\r\n.\r\n"),
            ("\0", ".\r\n"),
            ("a\r\0", "a\r\n.\r\n"),
            ("a\r\0\r\n", "a\r\n\r\n.\r\n"),
        ] {
            let sent = String::from_utf8(encode(stored.as_bytes(), step)).unwrap();
            assert_eq!(sent, expected, "{stored:?} step {step}");
        }
    }
}

/// The lines of somebody who takes anything for the end of a line, and drops every NUL.
fn as_the_most_careless_host_reads(sent: &[u8]) -> Vec<String> {
    let text: String = sent
        .iter()
        .filter(|octet| **octet != 0)
        .map(|octet| char::from(*octet))
        .collect();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split_terminator('\n').map(str::to_owned).collect()
}

const AWKWARD: [u8; 5] = *b"\r\n.\0x";

/// Every string of `AWKWARD` octets up to this length.
fn every_awkward_string(longest: u32, mut look: impl FnMut(&[u8])) {
    for length in 0..=longest {
        for number in 0..5usize.pow(length) {
            let digit = |place| AWKWARD[number / 5usize.pow(place) % 5];
            let input: Vec<u8> = (0..length).map(digit).collect();
            look(&input);
        }
    }
}

#[test]
fn every_short_string_decodes_by_the_book_in_every_split() {
    every_awkward_string(7, |input| {
        let expected = by_the_book(input);
        assert_eq!(
            decode(input, 1),
            expected,
            "{:?}",
            input.escape_ascii().to_string()
        );
        for middle in 0..=input.len() {
            let (first, second) = input.split_at(middle);
            let got = decode_pieces([first, second].into_iter());
            assert_eq!(
                got,
                expected,
                "{:?} at {middle}",
                input.escape_ascii().to_string()
            );
        }
    });
}

#[test]
fn no_short_string_is_encoded_with_an_end_that_a_careless_host_could_see() {
    every_awkward_string(6, |input| {
        let sent = encode(input, 2);
        let lines = as_the_most_careless_host_reads(&sent);
        let ends = lines.iter().filter(|line| *line == ".").count();
        assert_eq!(
            (ends, lines.last().map(String::as_str)),
            (1, Some(".")),
            "{lines:?}"
        );
        assert_eq!(first_fault(&sent), None, "{lines:?}");
    });
}

fn awkward() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(&AWKWARD[..]).prop_map(|octet| vec![octet]),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r\n.".to_vec()),
        1 => Just(b"\r\n.\r".to_vec()),
        1 => Just(vec![b'a'; 40]),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_content_decodes_by_the_book_however_it_is_cut(
        input in awkward(),
        mut cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let expected = by_the_book(&input);
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|ends| &input[ends[0]..ends[1]]);
        prop_assert_eq!(decode_pieces(pieces), expected);
    }

    #[test]
    fn what_is_encoded_is_decoded(
        lines in proptest::collection::vec("[.a\\x01\u{e9}]{0,6}", 0..20),
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
        let sent = encode(&input, step);
        prop_assert_eq!(&sent, &encode(&input, 1000));
        let got = decode(&sent, 1000);
        prop_assert!(got.finished && got.fault.is_none() && got.consumed == sent.len());
        let lines = as_the_most_careless_host_reads(&sent);
        prop_assert_eq!(lines.iter().position(|line| line == "."), Some(lines.len() - 1));
    }

    #[test]
    fn chunks_are_judged_like_content_after_data_however_cut(input in awkward(), step in 1usize..20) {
        let mut checker = ChunkChecker::text();
        for piece in input.chunks(step) {
            checker.check(piece);
        }
        prop_assert_eq!(checker.fault(), first_fault(&input));
        let with_end = [&input[..], b"x"].concat();
        prop_assert_eq!(checker.fault_at_end(), first_fault(&with_end));
        prop_assert_eq!(checker.size(), input.len() as u64);
    }
}
