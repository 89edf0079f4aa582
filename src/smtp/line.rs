//! Lines: received octets become command lines, one CRLF at a time.
//!
//! Only CRLF ends a line. A bare CR or LF spoils everything up to the next CRLF, so that no hidden command
//! is ever obeyed; each LF is still answered on its own and at once, so that who types into netcat gets an
//! answer, and a client that pipelines as many as it counts lines. Keeps one line's worth of octets and never
//! more, however long the line, and none between lines. Never looks at what a line says.

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
    /// A CR without LF after it.
    BareCr,
    /// An LF without CR before it; and again for the next LF, bare or not: one for each.
    BareLf,
}

/// Cuts what was received into lines, wherever the reads happened to fall.
#[derive(Debug)]
pub struct LineSplitter {
    limit: usize,
    /// The line whose end has not come yet; once it has, the line that was given last.
    begun: Vec<u8>,
    /// `begun` was given, and is let go by the next call.
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
        self.release();
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
                    self.begun = Vec::new();
                    return Some(Line::Bad(fault));
                }
                Ok(None) if self.begun.is_empty() => return Some(Line::Whole(&before[..at - 1])),
                Ok(None) => {
                    self.append(before);
                    self.begun.pop();
                    self.given = true;
                    return Some(Line::Whole(&self.begun));
                }
            }
        }
        None
    }

    /// Gives back the memory of the line that was given last, before a long wait. The next
    /// [`LineSplitter::take`] does so as well.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.given) {
            self.begun = Vec::new();
        }
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
            self.begun = Vec::new();
            self.skipping = Some(Skipping {
                after_cr,
                reported: true,
            });
            return Some(LineFault::TooLong);
        }
        self.append(beginning);
        None
    }

    /// A line that dribbles in may not take twice its length: ten thousand of them would.
    fn append(&mut self, octets: &[u8]) {
        let needed = self.begun.len() + octets.len();
        if needed > self.begun.capacity() {
            let roomy = (2 * self.begun.capacity()).min(self.limit).max(needed);
            self.begun.reserve_exact(roomy - self.begun.len());
        }
        self.begun.extend_from_slice(octets);
    }
}

/// The line was answered when it passed the limit; its end needs no second answer.
struct AlreadyReported;

#[cfg(test)]
mod tests;
