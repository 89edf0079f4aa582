//! Lines in every chunking, with every wrong end.

use super::*;
use proptest::prelude::*;

/// What comes out when `input` arrives in pieces of at most `step` octets.
fn split(input: &[u8], step: usize) -> Vec<Result<Vec<u8>, LineFault>> {
    let mut splitter = LineSplitter::new(16);
    let mut lines = Vec::new();
    for mut piece in input.chunks(step) {
        while let Some(line) = splitter.take(&mut piece) {
            lines.push(match line {
                Line::Whole(line) => Ok(line.to_vec()),
                Line::Bad(fault) => Err(fault),
            });
        }
        assert!(piece.is_empty());
    }
    lines
}

fn whole(text: &str) -> Result<Vec<u8>, LineFault> {
    Ok(text.as_bytes().to_vec())
}

#[test]
fn lines_come_out_whole_however_they_arrive() {
    for step in 1..30 {
        let lines = split(b"HELO a\r\n\r\nQUIT\r\nrest", step);
        assert_eq!(lines, [whole("HELO a"), whole(""), whole("QUIT")], "step {step}");
    }
}

#[test]
fn what_follows_a_line_stays_in_the_input() {
    let mut splitter = LineSplitter::default();
    let mut input: &[u8] = b"DATA\r\ncontent\r\n.\r\n";
    assert_eq!(splitter.take(&mut input), Some(Line::Whole(b"DATA")));
    assert_eq!(input, b"content\r\n.\r\n");
}

#[test]
fn every_lf_gets_one_answer_and_nothing_up_to_crlf_is_a_line() {
    for step in 1..30 {
        let lines = split(b"HELO a\nQUIT\nRSET\r\nNOOP\r\n", step);
        let lf = Err(LineFault::BareLf);
        assert_eq!(
            lines,
            [lf.clone(), lf.clone(), lf.clone(), whole("NOOP")],
            "step {step}"
        );
        let lines = split(b"NOOP\nNOOP\r\nNOOP\r\n", step);
        assert_eq!(lines, [lf.clone(), lf, whole("NOOP")], "step {step}");
    }
}

#[test]
fn a_bare_cr_spoils_its_line() {
    for step in 1..30 {
        let lines = split(b"NOOP\rQUIT\r\n\r\r\nA\r\n", step);
        let cr = Err(LineFault::BareCr);
        assert_eq!(lines, [cr.clone(), cr, whole("A")], "step {step}");
    }
}

#[test]
fn the_limit_counts_the_crlf() {
    for step in 1..30 {
        assert_eq!(split(b"12345678901234\r\n", step), [whole("12345678901234")]);
        assert_eq!(
            split(b"123456789012345\r\nA\r\n", step),
            [Err(LineFault::TooLong), whole("A")],
            "step {step}"
        );
    }
}

#[test]
fn a_line_without_an_end_is_reported_once_and_takes_no_memory() {
    let mut splitter = LineSplitter::default();
    let block = [b'x'; 65536];
    let mut faults = 0;
    for _ in 0..100 {
        let mut input: &[u8] = &block;
        while splitter.take(&mut input).is_some() {
            faults += 1;
        }
    }
    assert_eq!(faults, 1);
    assert!(splitter.begun.capacity() <= MAX_COMMAND_LINE * 2);
    let mut input: &[u8] = b"tail\r\nNOOP\r\n";
    assert_eq!(splitter.take(&mut input), Some(Line::Whole(b"NOOP")));
}

#[test]
fn memory_is_taken_for_a_line_in_pieces_only_and_no_more_than_it_may_be_long() {
    const LIMIT: usize = 12_290;
    let mut splitter = LineSplitter::new(LIMIT);
    let mut whole: &[u8] = b"EHLO example.org\r\nNOOP\r\n";
    while splitter.take(&mut whole).is_some() {}
    assert_eq!(splitter.begun.capacity(), 0);
    let long = [vec![b'x'; LIMIT - 2], b"\r\n".to_vec()].concat();
    for step in [1, 7, 1000, LIMIT - 1] {
        for mut piece in long.chunks(step) {
            assert!(splitter.begun.capacity() <= LIMIT);
            if let Some(line) = splitter.take(&mut piece) {
                assert_eq!(line, Line::Whole(&long[..LIMIT - 2]));
            }
        }
        assert!((LIMIT - 2..=LIMIT).contains(&splitter.begun.capacity()));
        splitter.release();
        assert_eq!(splitter.begun.capacity(), 0, "step {step}");
    }
    // Without `release` the next line gives it back; and so does one that is refused.
    for (end, next) in [("\r\n", "NOOP\r\n"), ("\n", "\r\n"), ("\rx\r\n", "")] {
        let mut input: &[u8] = b"NO";
        assert_eq!(splitter.take(&mut input), None);
        assert!((2..64).contains(&splitter.begun.capacity()));
        for text in [end, next] {
            let mut input = text.as_bytes();
            while splitter.take(&mut input).is_some() {}
        }
        assert_eq!(splitter.begun.capacity(), 0);
    }
}

#[test]
fn a_bare_lf_after_a_line_too_long_keeps_what_follows_from_being_obeyed() {
    for step in 1..40 {
        let lines = split(b"12345678901234567890\nQUIT\r\nNOOP\r\n", step);
        let expected = [Err(LineFault::TooLong), Err(LineFault::BareLf), whole("NOOP")];
        assert_eq!(lines, expected, "step {step}");
    }
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_lines(
        input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..80),
        step in 1usize..20,
    ) {
        prop_assert_eq!(split(&input, step), split(&input, 1));
    }

    #[test]
    fn there_are_as_many_answers_as_lfs_or_one_more_for_a_line_without_end(
        input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..80),
    ) {
        let ends = input.iter().filter(|octet| **octet == b'\n').count();
        let tail = input.len() - input.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        let answers = split(&input, 7).len();
        prop_assert!(answers == ends || answers == ends + 1 && tail >= 16);
    }

    #[test]
    fn only_what_stands_between_two_crlf_is_ever_a_line(
        input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..80),
    ) {
        let text = String::from_utf8(input.clone()).unwrap();
        let real: Vec<&str> = text.split("\r\n").collect();
        for line in split(&input, 7).into_iter().flatten() {
            prop_assert!(real.contains(&std::str::from_utf8(&line).unwrap()));
        }
    }
}
