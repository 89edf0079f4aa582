//! The header of a message or of a part: gathered line by line, and written again as its body demands.
//!
//! Bounded. Takes only lines that are none too long. Never changes a field but Content-Transfer-Encoding and those with
//! octets above 127, and adds what MIME asks for (RFC 2045 4, 5, 6).

use memchr::{memchr_iter, memchr3};

use super::field::{self, ContentType, Encoding};
use super::{Coding, LONGEST_LINE, Unsuitable, eight_bit_field};

/// How much of a header is held, in octets.
const LONGEST_HEADER: usize = 512 * 1024;

/// A header under way, and then as a whole.
#[derive(Debug)]
pub(super) struct Header {
    /// Its lines, with their ends.
    lines: Vec<u8>,
    /// It is a message's, which has a MIME-Version, rather than a part's.
    of_message: bool,
    /// What it is the header of where it has no Content-Type: a message (RFC 2046 5.1.5), or text.
    is_message_by_default: bool,
    /// An empty line ends it.
    has_empty_line: bool,
    /// A field of it has become ASCII.
    has_changed: bool,
}

impl Header {
    /// The header of a message.
    pub fn of_message() -> Header {
        Header {
            lines: Vec::new(),
            of_message: true,
            is_message_by_default: false,
            has_empty_line: false,
            has_changed: false,
        }
    }

    /// The header of a part of a multipart, whose parts may be messages by default.
    pub fn of_part(is_message_by_default: bool) -> Header {
        Header {
            of_message: false,
            is_message_by_default,
            ..Header::of_message()
        }
    }

    /// Whether this line belongs here.
    pub fn continues_with(&self, line: &[u8]) -> bool {
        let folds = !self.lines.is_empty() && matches!(line.first(), Some(b' ' | b'\t'));
        // What a mailbox file puts before the first field.
        let of_mailbox_file = self.of_message && self.lines.is_empty() && line.starts_with(b"From ");
        folds || of_mailbox_file || field::name(line).is_some()
    }

    /// Takes a line of a field. `is_whole` says that it is one, `has_end` that it ends with CRLF.
    pub fn take(&mut self, line: &[u8], is_whole: bool, has_end: bool) -> Result<(), Unsuitable> {
        if memchr3(0, b'\r', b'\n', line).is_some() {
            return Err(Unsuitable::BrokenField);
        }
        if !is_whole || line.len() > LONGEST_LINE {
            return Err(Unsuitable::LongField);
        }
        if self.lines.len() + line.len() > LONGEST_HEADER {
            return Err(Unsuitable::LargeHeader);
        }
        self.lines.extend_from_slice(line);
        self.lines.extend_from_slice(if has_end { b"\r\n" } else { b"" });
        Ok(())
    }

    /// The empty line has come.
    pub fn end_with_empty_line(&mut self) {
        self.has_empty_line = true;
    }

    /// Writes those of its fields in ASCII that are not, before anything is read of them. Not what is signed
    /// (`is_sealed`).
    pub fn encode(&mut self, is_sealed: bool) -> Result<(), Unsuitable> {
        if self.lines.is_ascii() {
            return Ok(());
        }
        if is_sealed {
            return Err(Unsuitable::Signed);
        }
        let mut lines = Vec::with_capacity(self.lines.len() * 2);
        for (_, field) in self.fields() {
            if field.is_ascii() {
                lines.extend_from_slice(field);
            } else {
                eight_bit_field::write(field, &mut lines)?;
            }
            if lines.len() > LONGEST_HEADER {
                return Err(Unsuitable::LargeHeader);
            }
        }
        self.lines = lines;
        self.has_changed = true;
        Ok(())
    }

    /// Whether [`Header::encode`] has changed it.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// The fields, as they stand, each with its name.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.lines[..];
        std::iter::from_fn(move || {
            // No LF stands anywhere else.
            let end = memchr_iter(b'\n', rest)
                .map(|at| at + 1)
                .find(|&end| !matches!(rest.get(end), Some(b' ' | b'\t')))
                .unwrap_or(rest.len());
            let (this, after) = rest.split_at(end);
            rest = after;
            (!this.is_empty()).then(|| (field::name(this).unwrap_or_default(), this))
        })
    }

    /// The value of the first field of this name.
    fn value(&self, wanted: &str) -> Option<&[u8]> {
        self.fields()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))
            .map(|(_, field)| field.splitn(2, |&octet| octet == b':').nth(1).unwrap_or_default())
    }

    /// The Content-Type; `None` where there is none.
    pub fn content_type(&self) -> Option<ContentType> {
        self.value("Content-Type").map(ContentType::of)
    }

    /// The Content-Transfer-Encoding.
    pub fn encoding(&self) -> Encoding {
        self.value("Content-Transfer-Encoding")
            .map(Encoding::of)
            .unwrap_or_default()
    }

    /// See [`Header::of_part`].
    pub fn is_message_by_default(&self) -> bool {
        self.is_message_by_default
    }

    /// Appends the header of a body that goes like this.
    pub fn write(&self, coding: Coding, out: &mut Vec<u8>) {
        let Some(encoding) = coding.name() else {
            out.extend_from_slice(&self.lines);
            // Where the first line of the body changes, it could look like a field.
            let has_empty_line = self.has_empty_line || coding != Coding::AsItIs;
            out.extend_from_slice(if has_empty_line { b"\r\n" } else { b"" });
            return;
        };
        let encoding = format!("Content-Transfer-Encoding: {encoding}\r\n");
        let mut is_said = coding == Coding::SevenBit && self.encoding() == Encoding::SevenBit;
        let keeps_encoding = is_said;
        for (name, field) in self.fields() {
            if keeps_encoding || !name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
                out.extend_from_slice(field);
            } else if !is_said {
                out.extend_from_slice(encoding.as_bytes());
                is_said = true;
            }
        }
        if self.of_message && self.value("MIME-Version").is_none() {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        if coding != Coding::SevenBit && self.value("Content-Type").is_none() {
            // RFC 1428 3: nobody has said what the octets above 127 stand for.
            out.extend_from_slice(b"Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
        if !is_said {
            out.extend_from_slice(encoding.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}
