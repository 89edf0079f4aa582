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
mod tests;
