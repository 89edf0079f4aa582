//! Content as it travels after DATA: dots are taken off on the way in and put on on the way out
//! (RFC 5321 4.5.2).
//!
//! Works on chunks of any size and keeps none of them. Only CRLF.CRLF ends a message, whatever else an end
//! could look like to somebody else. Never looks at headers, and never limits the length of a line.

use std::fmt;

use memchr::memchr2;

/// What is wrong with content, although it has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFault {
    /// A CR without LF after it.
    BareCr,
    /// An LF without CR before it.
    BareLf,
}

impl fmt::Display for ContentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContentFault::BareCr => "bare CR in the content",
            ContentFault::BareLf => "bare LF in the content",
        })
    }
}

/// What became of one piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Octets of the input that belonged to the content. Less than all only when it is finished: the next
    /// command follows.
    pub consumed: usize,
    /// CRLF.CRLF has come.
    pub finished: bool,
}

/// Takes the dots off content that arrives, and finds its end. One for each message.
#[derive(Debug, Default)]
pub struct Decoder {
    state: Reading,
    fault: Option<ContentFault>,
    size: u64,
}

/// What the octets so far ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    /// CRLF, or nothing yet.
    #[default]
    LineStart,
    /// Anything else.
    InLine,
    /// A CR that has been handed on.
    Cr,
    /// CRLF and a dot that has not been handed on.
    Dot,
    /// CRLF, a dot and a CR, neither of which has been handed on.
    DotCr,
    /// CRLF.CRLF.
    Finished,
}

impl Decoder {
    /// A decoder at the start of a message's content.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Octets of content handed over so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first bare CR or LF, if there was one. Such content must be refused at its end: another host
    /// may see two messages in it.
    #[must_use]
    pub fn fault(&self) -> Option<ContentFault> {
        self.fault
    }

    /// Decodes the next piece of input and hands the content to `out` in slices of it, most often a single
    /// one. After the end nothing more is consumed.
    pub fn decode(&mut self, input: &[u8], out: &mut impl FnMut(&[u8])) -> Decoded {
        // `start` is the first octet that has not been handed on, `at` the next one to look at.
        let (mut start, mut at) = (0, 0);
        while let Some(octet) = input.get(at) {
            match (self.state, octet) {
                (Reading::Finished, _) => break,
                (Reading::LineStart, b'.') => {
                    self.hand_on(&input[start..at], out);
                    self.state = Reading::Dot;
                    at += 1;
                    start = at;
                }
                (Reading::Dot, b'\r') => {
                    self.state = Reading::DotCr;
                    at += 1;
                    start = at;
                }
                (Reading::DotCr, b'\n') => {
                    self.state = Reading::Finished;
                    at += 1;
                    start = at;
                }
                // The dot was not the end: it goes, the CR after it stays.
                (Reading::DotCr, _) => {
                    self.hand_on(b"\r", out);
                    self.state = Reading::Cr;
                }
                (Reading::Cr, b'\n') => {
                    self.state = Reading::LineStart;
                    at += 1;
                }
                (Reading::Cr, _) => {
                    self.fault.get_or_insert(ContentFault::BareCr);
                    self.state = Reading::InLine;
                }
                (Reading::LineStart | Reading::InLine | Reading::Dot, _) => {
                    match memchr2(b'\r', b'\n', &input[at..]) {
                        None => {
                            self.state = Reading::InLine;
                            at = input.len();
                        }
                        Some(length) => {
                            at += length + 1;
                            if input[at - 1] == b'\r' {
                                self.state = Reading::Cr;
                            } else {
                                self.fault.get_or_insert(ContentFault::BareLf);
                                self.state = Reading::InLine;
                            }
                        }
                    }
                }
            }
        }
        self.hand_on(&input[start..at], out);
        Decoded {
            consumed: at,
            finished: self.state == Reading::Finished,
        }
    }

    fn hand_on(&mut self, content: &[u8], out: &mut impl FnMut(&[u8])) {
        if !content.is_empty() {
            self.size += content.len() as u64;
            out(content);
        }
    }
}

/// Puts dots on content that leaves, and ends it. One for each message.
///
/// Stored content has CRLF lines. Should a bare CR or LF have got into it all the same, it leaves as CRLF,
/// so that no host on the way can be led to see an end where there is none.
#[derive(Debug, Default)]
pub struct Encoder {
    state: Writing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writing {
    #[default]
    LineStart,
    InLine,
    /// A CR has been written and its LF not yet.
    Cr,
}

impl Encoder {
    /// An encoder at the start of a message's content.
    #[must_use]
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Appends the next piece of content to `out`.
    pub fn encode(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        out.reserve(chunk.len());
        let mut rest = chunk;
        while let Some(octet) = rest.first() {
            match (self.state, octet) {
                (Writing::Cr, _) => {
                    out.push(b'\n');
                    rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                    self.state = Writing::LineStart;
                    continue;
                }
                (Writing::LineStart, b'.') => out.push(b'.'),
                _ => {}
            }
            let Some(end) = memchr2(b'\r', b'\n', rest) else {
                out.extend_from_slice(rest);
                self.state = Writing::InLine;
                return;
            };
            out.extend_from_slice(&rest[..end]);
            out.push(b'\r');
            self.state = Writing::Cr;
            // A bare LF stays in `rest`, where the CR just written finds it.
            rest = if rest[end] == b'\r' {
                &rest[end + 1..]
            } else {
                &rest[end..]
            };
        }
    }

    /// Appends the end: CRLF if the last line has none, and the line with only a dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.state {
            Writing::LineStart => b".\r\n",
            Writing::InLine => b"\r\n.\r\n",
            Writing::Cr => b"\n.\r\n",
        });
    }
}

#[cfg(test)]
mod tests {
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
}
