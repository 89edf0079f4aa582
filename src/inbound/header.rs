//! The header of a message on its way in: how many Received fields it has, and what a submission lacks.
//!
//! Content streams through in pieces of any size, dots already off. Relayed content goes through unchanged;
//! a submission gets Date and Message-ID where they are missing (RFC 6409 8.2, 8.3), and nothing else. Never
//! keeps more of a message than the start of one line, never looks into the body, and never judges.

use memchr::memchr;

use crate::mime::is_name_octet;

/// The longest name of a field, in octets: what a line may hold (RFC 5322 2.1.1).
const LONGEST_NAME: usize = 998;

/// Watches the header of one message. Our own Received line is not for it.
#[derive(Debug)]
pub struct HeaderWatch {
    place: Place,
    /// The start of a line whose octets so far do not tell what it is.
    start: Vec<u8>,
    /// Whether a field has begun: only then can a line continue one.
    in_field: bool,
    /// Whether the last octet was a CR whose LF may still come.
    at_return: bool,
    received: usize,
    has_date: bool,
    has_message_id: bool,
    missing: Option<Missing>,
}

/// What a submission gets where it is missing: whole lines.
#[derive(Debug)]
struct Missing {
    date: String,
    message_id: String,
}

/// Where in the message we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the start of a header line, or where its octets do not tell yet what it is.
    LineStart,
    /// Within a line of the header.
    InLine,
    /// Behind the header.
    Over,
}

/// What a line of the header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Field(Field),
    /// More of the field before.
    Folded,
    /// The end of the header.
    Empty,
    /// No header line: the header has ended without an empty line.
    Foreign,
}

/// The fields that count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Received,
    Date,
    MessageId,
    Other,
}

impl HeaderWatch {
    /// For mail that is passed on: whatever comes goes through as it is.
    #[must_use]
    pub fn relay() -> HeaderWatch {
        HeaderWatch {
            place: Place::LineStart,
            start: Vec::new(),
            in_field: false,
            at_return: false,
            received: 0,
            has_date: false,
            has_message_id: false,
            missing: None,
        }
    }

    /// For a submission. `date` as RFC 5322 3.3 writes it; `message_id` with its angle brackets.
    #[must_use]
    pub fn submission(date: &str, message_id: &str) -> HeaderWatch {
        let missing = Missing {
            date: format!("Date: {date}\r\n"),
            message_id: format!("Message-ID: {message_id}\r\n"),
        };
        HeaderWatch {
            missing: Some(missing),
            ..HeaderWatch::relay()
        }
    }

    /// The Received fields seen so far in the header, for the loop check (RFC 5321 6.3).
    #[must_use]
    pub fn received_fields(&self) -> usize {
        self.received
    }

    /// Whether it is a submission, whose header is completed.
    #[must_use]
    pub fn completes(&self) -> bool {
        self.missing.is_some()
    }

    /// Whether the content's own header has had a Date so far.
    #[must_use]
    pub fn has_date(&self) -> bool {
        self.has_date
    }

    /// Whether the content's own header has had a Message-ID so far.
    #[must_use]
    pub fn has_message_id(&self) -> bool {
        self.has_message_id
    }

    /// Takes the next piece of content and hands on what is settled, in slices, most often a single one.
    pub fn feed(&mut self, piece: &[u8], out: &mut impl FnMut(&[u8])) {
        if self.place == Place::Over {
            out(piece);
        } else if self.missing.is_some() {
            self.read(piece, out);
        } else {
            out(piece);
            self.read(piece, &mut |_| {});
        }
    }

    /// The content has ended: hands on what was held back, and what is missing if the header is still open.
    pub fn finish(&mut self, out: &mut impl FnMut(&[u8])) {
        if self.place == Place::Over {
            return;
        }
        // What never became a field is the first line of a body; it was handed on already if it is relayed.
        let start = std::mem::take(&mut self.start);
        let additions = self.additions(!start.is_empty());
        if self.place == Place::InLine && !additions.is_empty() {
            out(if self.at_return { b"\n" } else { b"\r\n" });
        }
        hand_on(additions.as_bytes(), out);
        if self.missing.is_some() {
            hand_on(&start, out);
        }
        self.place = Place::Over;
    }

    /// Reads a piece that begins in the header.
    fn read(&mut self, piece: &[u8], out: &mut impl FnMut(&[u8])) {
        // `at` is the next octet to look at, `handed` the first one that has not been handed on.
        let (mut at, mut handed) = (0, 0);
        while at < piece.len() && self.place != Place::Over {
            if self.place == Place::InLine {
                match memchr(b'\n', &piece[at..]) {
                    Some(length) => {
                        at += length + 1;
                        self.place = Place::LineStart;
                    }
                    None => at = piece.len(),
                }
                continue;
            }
            let held = self.start.len();
            let rest = &piece[at..piece.len().min(at + LONGEST_NAME + 1 - held)];
            let line = if held == 0 {
                line(rest, self.in_field)
            } else {
                self.start.extend_from_slice(rest);
                line(&self.start, self.in_field)
            };
            let Some(line) = line else {
                if held == 0 {
                    self.start.extend_from_slice(rest);
                }
                hand_on(&piece[handed..at], out);
                return;
            };
            match line {
                Line::Field(field) => self.note(field),
                Line::Folded => self.place = Place::InLine,
                Line::Empty | Line::Foreign => {
                    hand_on(&piece[handed..at], out);
                    handed = at;
                    hand_on(self.additions(line == Line::Foreign).as_bytes(), out);
                    self.place = Place::Over;
                }
            }
            // Something is held at the start of a piece only, so that it comes before all of the piece.
            hand_on(&self.start[..held], out);
            self.start.clear();
        }
        self.at_return = piece.last().map_or(self.at_return, |&octet| octet == b'\r');
        hand_on(&piece[handed..], out);
    }

    fn note(&mut self, field: Field) {
        match field {
            Field::Received => self.received += 1,
            Field::Date => self.has_date = true,
            Field::MessageId => self.has_message_id = true,
            Field::Other => {}
        }
        self.in_field = true;
        self.place = Place::InLine;
    }

    /// The fields that are missing, and an empty line if a body follows that has none before it.
    fn additions(&self, with_empty_line: bool) -> String {
        let mut text = String::new();
        let Some(missing) = &self.missing else {
            return text;
        };
        if !self.has_date {
            text += &missing.date;
        }
        if !self.has_message_id {
            text += &missing.message_id;
        }
        if with_empty_line && !text.is_empty() {
            text += "\r\n";
        }
        text
    }
}

/// What the line is that begins with `start`; `None` while that cannot be told. However a line is cut into
/// pieces, the answer is the same: it is told by the first octets that tell anything.
fn line(start: &[u8], in_field: bool) -> Option<Line> {
    match start {
        [] | [b'\r'] => return None,
        [b'\n', ..] | [b'\r', b'\n', ..] => return Some(Line::Empty),
        [b' ' | b'\t', ..] if in_field => return Some(Line::Folded),
        _ => {}
    }
    let name = start.iter().position(|&octet| !is_name_octet(octet));
    let colon = name.and_then(|length| {
        // RFC 5322 4.5: white space before the colon is obsolete, and still a field.
        let blank = |&octet: &u8| octet == b' ' || octet == b'\t';
        start[length..].iter().find(|octet| !blank(octet))
    });
    match (name, colon) {
        (Some(length @ 1..), Some(b':')) => Some(Line::Field(field(&start[..length]))),
        (_, Some(_)) => Some(Line::Foreign),
        (Some(0), None) => Some(Line::Foreign),
        (_, None) => (start.len() > LONGEST_NAME).then_some(Line::Foreign),
    }
}

fn field(name: &[u8]) -> Field {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    if is("Received") {
        Field::Received
    } else if is("Date") {
        Field::Date
    } else if is("Message-ID") {
        Field::MessageId
    } else {
        Field::Other
    }
}

fn hand_on(octets: &[u8], out: &mut impl FnMut(&[u8])) {
    if !octets.is_empty() {
        out(octets);
    }
}

#[cfg(test)]
mod tests;
