//! Replies: the three digits, the enhanced status code and the text (RFC 5321 4.2, RFC 2034, RFC 3463).
//!
//! Writes ours and reads a peer's. Never decides what a reply means for a message: that is
//! `outbound::outcome`; and never chooses words: those of the inbound side are in `inbound::replies`.

use std::fmt;

/// Longest reply line in octets, CRLF included (RFC 5321 4.5.3.1.5).
const MAX_LINE: usize = 512;
/// Most octets of a peer's line that are kept.
const MAX_TEXT: usize = 500;
/// Most lines of one reply that are kept.
const MAX_LINES: usize = 100;
/// Most lines of one reply that a peer may send. What it grants it has granted, in however many words: to leave it for
/// the 101st line would send a message twice.
const MAX_TALK: usize = 20_000;

/// An enhanced status code, `class.subject.detail` (RFC 3463 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// Reads a code from the front of `text`, where a space or the end follows it; gives it and what comes
    /// after the space. `None` where there is none.
    #[must_use]
    pub fn take(text: &str) -> Option<(EnhancedCode, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut numbers = word.split('.');
        let class = match numbers.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let subject = up_to_three_digits(numbers.next()?)?;
        let detail = up_to_three_digits(numbers.next()?)?;
        numbers
            .next()
            .is_none()
            .then_some((EnhancedCode(class, subject, detail), rest))
    }
}

fn up_to_three_digits(word: &str) -> Option<u16> {
    let is_number = (1..=3).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| word.parse().ok()).flatten()
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What the first digit of a reply says (RFC 5321 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2xx: done.
    Positive,
    /// 3xx: go on.
    Intermediate,
    /// 4xx: not now.
    Transient,
    /// 5xx: not ever.
    Permanent,
}

/// One reply, ours or a peer's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// The three digits, 200 to 599.
    pub code: u16,
    /// The enhanced status code, where there is one.
    pub enhanced: Option<EnhancedCode>,
    /// The text, a string for each line, without code, enhanced code and line ends; never empty.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line without an enhanced code.
    #[must_use]
    pub fn new(code: u16, text: impl Into<String>) -> Reply {
        Reply::multiline(code, None, vec![text.into()])
    }

    /// A reply of one line with an enhanced code.
    #[must_use]
    pub fn with_status(code: u16, status: EnhancedCode, text: impl Into<String>) -> Reply {
        Reply::multiline(code, Some(status), vec![text.into()])
    }

    /// A reply of several lines; no lines at all are one empty line.
    #[must_use]
    pub fn multiline(code: u16, enhanced: Option<EnhancedCode>, mut lines: Vec<String>) -> Reply {
        if lines.is_empty() {
            lines.push(String::new());
        }
        Reply {
            code,
            enhanced,
            lines,
        }
    }

    /// What the first digit says.
    #[must_use]
    pub fn class(&self) -> ReplyClass {
        match self.code / 100 {
            2 => ReplyClass::Positive,
            3 => ReplyClass::Intermediate,
            4 => ReplyClass::Transient,
            _ => ReplyClass::Permanent,
        }
    }

    /// 2xx: done.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.class() == ReplyClass::Positive
    }

    /// 3xx: go on.
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        self.class() == ReplyClass::Intermediate
    }

    /// 4xx: not now.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.class() == ReplyClass::Transient
    }

    /// 5xx: not ever.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.class() == ReplyClass::Permanent
    }

    /// Appends the reply as it goes over the wire, with its enhanced code on every line if `enhanced`.
    /// A line is cut at 512 octets with its CRLF, and whatever is not printable ASCII becomes `?`.
    pub fn write_to(&self, out: &mut Vec<u8>, enhanced: bool) {
        let code = self.code.to_string();
        let status = match self.enhanced {
            Some(status) if enhanced => format!("{status} "),
            _ => String::new(),
        };
        let room = MAX_LINE - "250 \r\n".len() - status.len();
        let last = self.lines.len().saturating_sub(1);
        for (number, line) in self.lines.iter().enumerate() {
            out.extend_from_slice(code.as_bytes());
            out.push(if number < last { b'-' } else { b' ' });
            out.extend_from_slice(status.as_bytes());
            out.extend(line.bytes().take(room).map(printable));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// On one line, as the log and the reports show it: `550 5.1.1 No such user here`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.enhanced {
            write!(f, " {status}")?;
        }
        for line in self.lines.iter().filter(|line| !line.is_empty()) {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

fn printable(octet: u8) -> u8 {
    if octet == b' ' || octet.is_ascii_graphic() {
        octet
    } else {
        b'?'
    }
}

/// What is wrong with a peer's reply. There is no telling what its next lines mean: leave the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Not three digits followed by a space, a hyphen or nothing.
    Malformed,
    /// Three digits outside 200 to 599.
    Code(u16),
    /// A line with another code than the one before it.
    MixedCodes(u16, u16),
    /// More than 20,000 lines.
    TooManyLines,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyError::Malformed => f.write_str("malformed reply"),
            ReplyError::Code(code) => write!(f, "reply with the impossible code {code:03}"),
            ReplyError::MixedCodes(first, other) => write!(f, "reply with two codes, {first} and {other}"),
            ReplyError::TooManyLines => write!(f, "reply of more than {MAX_TALK} lines"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// Puts a peer's reply together from its lines. Strict about the code, clean and bounded in what it keeps.
#[derive(Debug, Default)]
pub struct ReplyParser {
    unfinished: Option<Reply>,
    /// Lines of the unfinished reply that were not kept.
    dropped: usize,
}

impl ReplyParser {
    /// A parser that waits for the first line of a reply.
    #[must_use]
    pub fn new() -> ReplyParser {
        ReplyParser::default()
    }

    /// Whether a reply has begun and not ended.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Takes the next line, without its CRLF; gives the reply when this was its last line.
    ///
    /// An enhanced code is recognised, and taken off the text, only where its class is that of the reply
    /// (RFC 2034 4); the first one counts. Lines are cut at 500 octets, and whatever is not printable ASCII
    /// becomes `?`. Of many lines the first 100 are kept.
    ///
    /// # Errors
    /// When the line cannot be part of this reply; the reply begun so far is forgotten.
    pub fn feed(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let unfinished = self.unfinished.take();
        let (code, is_last, text) = split_line(line).inspect_err(|_| self.dropped = 0)?;
        let text: String = text
            .iter()
            .take(MAX_TEXT)
            .map(|b| char::from(printable(*b)))
            .collect();
        let (enhanced, text) = match EnhancedCode::take(&text) {
            Some((status, rest)) if u16::from(status.0) == code / 100 => (Some(status), rest.to_owned()),
            _ => (None, text),
        };
        let reply = match unfinished {
            None => Reply {
                code,
                enhanced,
                lines: vec![text],
            },
            Some(begun) if begun.code != code => {
                self.dropped = 0;
                return Err(ReplyError::MixedCodes(begun.code, code));
            }
            Some(begun) if begun.lines.len() >= MAX_LINES => {
                self.dropped += 1;
                if MAX_LINES + self.dropped > MAX_TALK {
                    self.dropped = 0;
                    return Err(ReplyError::TooManyLines);
                }
                begun
            }
            Some(mut begun) => {
                begun.enhanced = begun.enhanced.or(enhanced);
                begun.lines.push(text);
                begun
            }
        };
        if is_last {
            self.dropped = 0;
            return Ok(Some(reply));
        }
        self.unfinished = Some(reply);
        Ok(None)
    }
}

/// The code, whether this line is the last, and the text.
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyError> {
    let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(ReplyError::Malformed);
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if !(200..=599).contains(&code) {
        return Err(ReplyError::Code(code));
    }
    match rest {
        // RFC 5321 4.2.1: a bare code is a legal last line.
        [] => Ok((code, true, rest)),
        [b' ', text @ ..] => Ok((code, true, text)),
        [b'-', text @ ..] => Ok((code, false, text)),
        _ => Err(ReplyError::Malformed),
    }
}

#[cfg(test)]
mod tests;
