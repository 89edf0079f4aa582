//! Content that leaves after DATA: dots are put on, and the end is made (RFC 5321 4.5.2).
//!
//! Whatever it is fed, nobody on the way can see an end in it but the one that `finish` wrote: what was
//! stored with a fault leaves without. Binary content must not come here (RFC 3030 3): it would be changed.

use memchr::memchr3;

/// Puts dots on content that leaves, and ends it. One for each message.
///
/// Stored content has CRLF lines. Should a bare CR or LF have got into it all the same, it leaves as CRLF; a
/// NUL does not leave at all, because a host that drops it may find a dot at the start of a line behind it.
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
                (_, 0) => {
                    rest = &rest[1..];
                    continue;
                }
                (Writing::Cr, _) => {
                    out.push(b'\n');
                    rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                    self.state = Writing::LineStart;
                    continue;
                }
                (Writing::LineStart, b'.') => out.push(b'.'),
                _ => {}
            }
            let Some(end) = memchr3(b'\r', b'\n', 0, rest) else {
                out.extend_from_slice(rest);
                self.state = Writing::InLine;
                return;
            };
            out.extend_from_slice(&rest[..end]);
            if rest[end] == 0 {
                self.state = Writing::InLine;
                rest = &rest[end + 1..];
                continue;
            }
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
