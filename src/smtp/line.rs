//! Lines: received octets become command lines, one CRLF at a time.
//!
//! Only CRLF ends a line. A bare CR or LF spoils everything up to the next CRLF, so that no hidden command
//! is ever obeyed; each bare LF is still reported at once, so that who types into netcat gets an answer.
//! Keeps one line's worth of octets and never more, however long the line. Never looks at what a line says.

use memchr::memchr;

/// Longest command line in octets, CRLF included. RFC 5321 4.5.3.1.4 asks for 512 and more for each
/// extension; nothing that we understand comes near this.
pub const MAX_COMMAND_LINE: usize = 2048;

/// A line as it was received, or why it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line, without its CRLF. Holds no CR and no LF.
    Whole(&'a [u8]),
    /// Something that must be answered and not obeyed.
    Bad(LineFault),
}

/// Why a line is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// Longer than the limit; reported once, as soon as that is certain, the rest is swallowed.
    TooLong,
    /// A CR without LF after it, or what a bare LF left of the line.
    BareCr,
    /// An LF without CR before it.
    BareLf,
}

/// Cuts what was received into lines, wherever the reads happened to fall.
#[derive(Debug)]
pub struct LineSplitter {
    limit: usize,
    /// The line whose end has not come yet; once it has, the line that was given last.
    begun: Vec<u8>,
    /// `begun` was given, and is cleared by the next call.
    given: bool,
    skipping: Option<Skipping>,
}

/// What comes up to the next CRLF is not kept.
#[derive(Clone, Copy, Debug)]
struct Skipping {
    /// The last octet seen was a CR.
    after_cr: bool,
    /// The next LF has been answered for already.
    reported: bool,
}

impl Default for LineSplitter {
    fn default() -> LineSplitter {
        LineSplitter::new(MAX_COMMAND_LINE)
    }
}

impl LineSplitter {
    /// A splitter for lines of at most `limit` octets, CRLF included.
    #[must_use]
    pub fn new(limit: usize) -> LineSplitter {
        LineSplitter {
            limit,
            begun: Vec::new(),
            given: false,
            skipping: None,
        }
    }

    /// Takes the next line off the front of `input`; `None` when there is no whole line, and then all of
    /// `input` has been taken in. What stays in `input` comes after the line: the next one, or content.
    pub fn take<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Line<'a>> {
        if std::mem::take(&mut self.given) {
            self.begun.clear();
        }
        while !input.is_empty() {
            let Some(at) = memchr(b'\n', input) else {
                let fault = self.keep(input);
                *input = &[];
                return fault.map(Line::Bad);
            };
            let (before, rest) = (&input[..at], &input[at + 1..]);
            *input = rest;
            let (is_crlf, fault) = self.end_of_line(before);
            // What follows a bare LF is still the same line, and as bad.
            self.skipping = (!is_crlf).then_some(Skipping {
                after_cr: false,
                reported: false,
            });
            match fault {
                Err(AlreadyReported) => {}
                Ok(Some(fault)) => {
                    self.begun.clear();
                    return Some(Line::Bad(fault));
                }
                Ok(None) if self.begun.is_empty() => return Some(Line::Whole(&before[..at - 1])),
                Ok(None) => {
                    self.begun.extend_from_slice(before);
                    self.begun.pop();
                    self.given = true;
                    return Some(Line::Whole(&self.begun));
                }
            }
        }
        None
    }

    /// Judges the line that ends with `before` and an LF: whether that LF has its CR, and what is wrong.
    fn end_of_line(&self, before: &[u8]) -> (bool, Result<Option<LineFault>, AlreadyReported>) {
        if let Some(skipping) = self.skipping {
            let is_crlf = before.last().map_or(skipping.after_cr, |octet| *octet == b'\r');
            let fault = if skipping.reported {
                Err(AlreadyReported)
            } else {
                Ok(Some(LineFault::BareLf))
            };
            return (is_crlf, fault);
        }
        let is_crlf = before.last().or(self.begun.last()) == Some(&b'\r');
        let first_cr = memchr(b'\r', &self.begun).or_else(|| Some(self.begun.len() + memchr(b'\r', before)?));
        let length = self.begun.len() + before.len();
        let fault = if length + 1 > self.limit {
            Some(LineFault::TooLong)
        } else if !is_crlf {
            Some(LineFault::BareLf)
        } else if first_cr.is_some_and(|at| at + 1 < length) {
            Some(LineFault::BareCr)
        } else {
            None
        };
        (is_crlf, Ok(fault))
    }

    /// Takes in the beginning of a line, which has no LF yet; says so if the line has become too long.
    fn keep(&mut self, beginning: &[u8]) -> Option<LineFault> {
        let after_cr = beginning.last() == Some(&b'\r');
        if let Some(skipping) = &mut self.skipping {
            skipping.after_cr = after_cr;
            return None;
        }
        if self.begun.len() + beginning.len() >= self.limit {
            self.begun.clear();
            self.skipping = Some(Skipping {
                after_cr,
                reported: true,
            });
            return Some(LineFault::TooLong);
        }
        self.begun.extend_from_slice(beginning);
        None
    }
}

/// The line was answered when it passed the limit; its end needs no second answer.
struct AlreadyReported;

#[cfg(test)]
mod tests {
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
    fn every_bare_lf_is_reported_and_nothing_up_to_crlf_is_a_line() {
        for step in 1..30 {
            let lines = split(b"HELO a\nQUIT\nRSET\r\nNOOP\r\n", step);
            let lf = Err(LineFault::BareLf);
            assert_eq!(lines, [lf.clone(), lf.clone(), lf, whole("NOOP")], "step {step}");
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
}
