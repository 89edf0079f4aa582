//! What goes to the Internet, as omsgcnv sends it: the RFC form of a local submission, completed while its
//! content goes by.
//!
//! CRLF everywhere; Date, Message-ID and From where they are missing; no Bcc. For what sendmail(1) and our
//! own reports put into SMTP.BOX. Never applied to mail that is only relayed, and never changes a body beyond
//! its line ends. To may be missing, as RFC 5322 3.6 allows.

use memchr::memchr2;

use crate::mime::{field_name, is_name_octet};
use crate::smtp::path::ReversePath;
use crate::work_queue::id::MessageId;

/// Fields that must not leave: blind recipients (RFC 5322 3.6.3), and the trace field of the final delivery,
/// which no sender may write (RFC 5321 4.4).
const REMOVED: [&str; 3] = ["bcc", "resent-bcc", "return-path"];

/// The longest name of a field, in octets: what a line may hold (RFC 5322 2.1.1).
const LONGEST_NAME: usize = 998;

/// What the completed form needs to know.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The date as RFC 5322 3.3 writes it.
    pub date: String,
    /// Our hostname, the right side of a new Message-ID.
    pub hostname: String,
    /// The message's ID, the left side of a new Message-ID.
    pub id: MessageId,
    /// The envelope's sender, for a new From.
    pub sender: ReversePath,
}

/// Where in the message the completer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the start of a header line, whose first octets are not enough yet to know what it is.
    LineStart,
    /// Within a header line that stays.
    Kept,
    /// Within a header line that goes.
    Removed,
    /// Behind the header.
    Body,
}

/// Completes one message, chunk by chunk. Completing the result again changes nothing.
#[derive(Debug)]
pub struct Completer {
    facts: Facts,
    place: Place,
    /// The first octets of a header line while it is not known what it is; at most some 1000.
    start: Vec<u8>,
    /// Whether no line has ended yet.
    first_line: bool,
    /// What became of the field before, for the lines that continue it; `None` before the first field.
    field_before: Option<Place>,
    has_date: bool,
    has_message_id: bool,
    has_from: bool,
    /// CRs that were seen at the end, at most two: whether they end one line or more depends on what follows.
    returns: u8,
    /// Whether the last line written has its end.
    ended: bool,
}

impl Completer {
    /// Begins a message.
    #[must_use]
    pub fn new(facts: Facts) -> Completer {
        Completer {
            facts,
            place: Place::LineStart,
            start: Vec::new(),
            first_line: true,
            field_before: None,
            has_date: false,
            has_message_id: false,
            has_from: false,
            returns: 0,
            ended: true,
        }
    }

    /// Takes the next octets, with line ends of any kind, and appends what is settled to `out`: at most twice
    /// the octets of `chunk`, and some 2000 more.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(&first) = rest.first() {
            match first {
                b'\n' => {
                    // CR CR LF is what is left of one line end that was translated twice: were it two, the
                    // header would end there, and a Bcc behind it would be told.
                    self.returns = 0;
                    self.end_line(out);
                    rest = &rest[1..];
                }
                b'\r' => {
                    if self.returns == 2 {
                        self.end_line(out);
                    } else {
                        self.returns += 1;
                    }
                    rest = &rest[1..];
                }
                _ => {
                    self.end_bare_returns(out);
                    let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    self.text(&rest[..end], out);
                    rest = &rest[end..];
                }
            }
        }
    }

    /// Ends the message: what was held back, missing fields if the header is still open, the last CRLF.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.end_bare_returns(out);
        if self.place != Place::Body {
            if self.place != Place::LineStart || !self.start.is_empty() {
                self.end_line(out);
            }
            if self.place != Place::Body {
                self.end_header(out);
            }
        }
        if !self.ended {
            out.extend_from_slice(b"\r\n");
        }
    }

    fn end_bare_returns(&mut self, out: &mut Vec<u8>) {
        for _ in 0..std::mem::take(&mut self.returns) {
            self.end_line(out);
        }
    }

    /// Takes octets within a line.
    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self.place {
            Place::Kept | Place::Body => {
                out.extend_from_slice(text);
                self.ended = false;
            }
            Place::Removed => {}
            Place::LineStart => {
                let taken = text
                    .len()
                    .min((LONGEST_NAME + 1).saturating_sub(self.start.len()));
                self.start.extend_from_slice(&text[..taken]);
                if self.start_is_telling() {
                    self.begin_line(out);
                    self.text(&text[taken..], out);
                }
            }
        }
    }

    /// Whether the first octets of a header line say what it is. Answers the same however they were cut.
    fn start_is_telling(&self) -> bool {
        matches!(self.start.first(), Some(b' ' | b'\t'))
            || self.start.len() > LONGEST_NAME
            || self.start.contains(&b':')
            || self
                .start
                .iter()
                .any(|&octet| !is_name_octet(octet) && !matches!(octet, b' ' | b'\t'))
    }

    fn begin_line(&mut self, out: &mut Vec<u8>) {
        let start = std::mem::take(&mut self.start);
        self.place = match (field_name(&start), self.field_before) {
            (Some(name), _) => self.begin_field(name),
            (None, Some(before)) if matches!(start.first(), Some(b' ' | b'\t')) => before,
            // The line that a mailbox file puts before each message.
            (None, None) if self.first_line && start.starts_with(b"From ") => Place::Removed,
            (None, _) => {
                // The sender forgot the empty line, or the whole header.
                self.end_header(out);
                Place::Body
            }
        };
        self.text(&start, out);
    }

    fn begin_field(&mut self, name: &[u8]) -> Place {
        let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
        self.has_date |= is("date");
        self.has_message_id |= is("message-id");
        self.has_from |= is("from");
        let place = if REMOVED.into_iter().any(is) {
            Place::Removed
        } else {
            Place::Kept
        };
        self.field_before = Some(place);
        place
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        if self.place == Place::LineStart && !self.start.is_empty() {
            self.begin_line(out);
        }
        self.first_line = false;
        match self.place {
            Place::LineStart => self.end_header(out),
            Place::Removed => self.place = Place::LineStart,
            Place::Kept | Place::Body => {
                out.extend_from_slice(b"\r\n");
                self.ended = true;
                if self.place == Place::Kept {
                    self.place = Place::LineStart;
                }
            }
        }
    }

    /// Adds what is missing and the empty line.
    fn end_header(&mut self, out: &mut Vec<u8>) {
        let Facts {
            date,
            hostname,
            id,
            sender,
        } = &self.facts;
        let mut missing = String::new();
        if !self.has_date {
            missing += &format!("Date: {date}\r\n");
        }
        if !self.has_from {
            missing += &match &sender.0 {
                Some(mailbox) => format!("From: {mailbox}\r\n"),
                None => format!("From: MAILER-DAEMON@{hostname}\r\n"),
            };
        }
        if !self.has_message_id {
            missing += &format!("Message-ID: <{id}@{hostname}>\r\n");
        }
        missing += "\r\n";
        out.extend_from_slice(missing.as_bytes());
        self.place = Place::Body;
        self.ended = true;
    }
}

#[cfg(test)]
mod tests;
