//! Content as it travels: after DATA with dots, which are taken off on the way in and put on on the way out
//! (RFC 5321 4.5.2), and after BDAT without (RFC 3030).
//!
//! Works on pieces of any size and keeps none of them. Only CRLF.CRLF ends a message after DATA, whatever
//! else an end could look like to somebody else. Never looks at headers, and never limits the length of a
//! line.

use std::fmt;

use memchr::{memchr, memchr3};

mod chunk;
mod encoder;

pub use chunk::ChunkChecker;
pub use encoder::Encoder;

/// What is wrong with content, although it has come to its end. Such content must be refused: another host
/// may see two messages in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFault {
    /// A CR without LF after it.
    BareCr,
    /// An LF without CR before it.
    BareLf,
    /// A NUL, which no text holds (RFC 2045 2.8): some hosts drop it, and with it what kept a dot from being an
    /// end.
    Nul,
}

impl fmt::Display for ContentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContentFault::BareCr => "bare CR in the content",
            ContentFault::BareLf => "bare LF in the content",
            ContentFault::Nul => "NUL in the content",
        })
    }
}

/// What has been found out about content so far: how much there is, and what is wrong with it first.
#[derive(Debug, Default)]
struct Findings {
    size: u64,
    fault: Option<ContentFault>,
}

impl Findings {
    /// Only the first fault counts.
    fn blame(&mut self, fault: ContentFault) {
        self.fault.get_or_insert(fault);
    }

    /// Looks for faults in `text`, which follows no CR, until a CR makes a difference. Gives how many octets
    /// it has looked at, and whether the last of them is that CR.
    fn look(&mut self, text: &[u8]) -> (usize, bool) {
        let mut at = 0;
        if self.fault.is_none() {
            let Some(found) = memchr3(b'\r', b'\n', 0, text) else {
                return (text.len(), false);
            };
            at = found + 1;
            match text[found] {
                b'\r' => return (at, true),
                b'\n' => self.blame(ContentFault::BareLf),
                _ => self.blame(ContentFault::Nul),
            }
        }
        match memchr(b'\r', &text[at..]) {
            Some(found) => (at + found + 1, true),
            None => (text.len(), false),
        }
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
    findings: Findings,
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
        self.findings.size
    }

    /// The first bare CR, bare LF or NUL, if there was one. Such content must be refused at its end.
    #[must_use]
    pub fn fault(&self) -> Option<ContentFault> {
        self.findings.fault
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
                    self.findings.blame(ContentFault::BareCr);
                    self.state = Reading::InLine;
                }
                (Reading::LineStart | Reading::InLine | Reading::Dot, _) => {
                    let (length, after_cr) = self.findings.look(&input[at..]);
                    self.state = if after_cr { Reading::Cr } else { Reading::InLine };
                    at += length;
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
            self.findings.size += content.len() as u64;
            out(content);
        }
    }
}

#[cfg(test)]
mod tests;
