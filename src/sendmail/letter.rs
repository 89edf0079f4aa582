//! The header of a message as a program hands it over: who stands in it, and what it lacks. Pure.
//!
//! Reads it as omsgcnv does when it completes it (`conversion::to_internet`), so that nobody is written to who is not in
//! the header, and nobody told who is in Bcc. Never changes a field; the line that a mailbox file puts before it goes.

use super::addresses::{Address, BadList, addresses};
use crate::mime::field_name;

/// What a line of the header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It belongs to the header.
    Header,
    /// It is empty, and ends it.
    End,
    /// It belongs to the body: the header had no end.
    Body,
}

/// A header under way, and then as a whole.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// Its lines, as they came.
    text: Vec<u8>,
    fields: Vec<Field>,
    /// A line has come.
    has_begun: bool,
}

/// A field.
#[derive(Debug)]
struct Field {
    name: String,
    /// What stands behind the colon, with the line ends of folding.
    value: Vec<u8>,
}

/// The fields that name recipients, and those that do so instead in a message that is sent once more (RFC 5322 3.6.6).
const RECIPIENTS: [&str; 3] = ["to", "cc", "bcc"];
/// See [`RECIPIENTS`].
const RESENT: [&str; 3] = ["resent-to", "resent-cc", "resent-bcc"];

impl Header {
    /// Takes the next line, with its end if it has one.
    pub(super) fn take(&mut self, line: &[u8]) -> Line {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let returns = bare.iter().rev().take_while(|octet| **octet == b'\r').count();
        let bare = &bare[..bare.len() - returns];
        if bare.is_empty() {
            return Line::End;
        }
        if let Some(name) = field_name(bare) {
            let value = bare
                .iter()
                .position(|octet| *octet == b':')
                .map_or(0, |at| at + 1);
            self.fields.push(Field {
                name: String::from_utf8_lossy(name).to_ascii_lowercase(),
                value: bare[value..].to_vec(),
            });
        } else if let (b' ' | b'\t', Some(before)) = (bare[0], self.fields.last_mut()) {
            before.value.push(b'\n');
            before.value.extend_from_slice(bare);
        } else if is_first && bare.starts_with(b"From ") {
            return Line::Header;
        } else {
            return Line::Body;
        }
        self.text.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            self.text.push(b'\n');
        }
        Line::Header
    }

    /// The lines, as they came; each has an end.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether there is a field of this name, in lower case.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    /// Whether there is no field at all.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whom the message is for.
    ///
    /// # Errors
    /// The name of a field that can not be read, and why.
    pub(super) fn recipients(&self) -> Result<Vec<Address>, (&str, BadList)> {
        let names = if RESENT.iter().any(|name| self.has(name)) {
            RESENT
        } else {
            RECIPIENTS
        };
        let mut found = Vec::new();
        for field in self.fields.iter().filter(|field| names.contains(&&*field.name)) {
            let value = String::from_utf8_lossy(&field.value);
            found.extend(addresses(&value).map_err(|bad| (&*field.name, bad))?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, and the line with which it ended.
    fn read(text: &str) -> (Header, Option<(Line, &str)>) {
        let mut header = Header::default();
        for line in text.split_inclusive('\n') {
            let what = header.take(line.as_bytes());
            if what != Line::Header {
                return (header, Some((what, line)));
            }
        }
        (header, None)
    }

    fn recipients(text: &str) -> Vec<String> {
        let header = read(text).0;
        let found = header.recipients().unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn recipients_are_those_of_to_cc_and_bcc() {
        for (text, expected) in [
            (
                "To: a@b\nCC: c@d,\n e\nbcc : f@g\nFrom: x@y\n\nTo: no@body\n",
                &["a@b", "c@d", "e", "f@g"][..],
            ),
            ("To: a@b\r\nTo: c@d\r\n\r\n", &["a@b", "c@d"]),
            ("To: undisclosed-recipients:;\nBcc: a@b\n", &["a@b"]),
            (
                "Resent-To: a@b\nResent-Bcc: c@d\nTo: e@f\nCc: g@h\n",
                &["a@b", "c@d"],
            ),
            ("To: a@b\r\r\nBcc: c@d\r\r\n\r\r\nTo: no@body\n", &["a@b", "c@d"]),
            ("From bob Mon Nov 30 15:39:43 2026\nTo: a@b\n", &["a@b"]),
            ("To: a@b", &["a@b"]),
            ("Subject: none\n", &[]),
            ("hello\nTo: a@b\n", &[]),
            (" To: a@b\n", &[]),
            ("To: Gr\u{fc}\u{df}e <a@b>\n", &["a@b"]),
        ] {
            assert_eq!(recipients(text), expected, "{text:?}");
        }
        let header = read("To: a@b\nCc: Bob Smith\n").0;
        assert_eq!(header.recipients().unwrap_err().0, "cc");
    }

    #[test]
    fn a_header_ends_with_an_empty_line_or_with_what_is_no_field() {
        for (text, ended) in [
            ("A: b\n\nc", Some((Line::End, "\n"))),
            ("A: b\r\n\r\nc", Some((Line::End, "\r\n"))),
            ("A: b\nhello world\n", Some((Line::Body, "hello world\n"))),
            ("A: b\n c\n", None),
            ("\nA: b\n", Some((Line::End, "\n"))),
            (" A: b\n", Some((Line::Body, " A: b\n"))),
            ("A: b\nFrom x\n", Some((Line::Body, "From x\n"))),
            ("From x\nFrom y\n", Some((Line::Body, "From y\n"))),
        ] {
            assert_eq!(read(text).1, ended, "{text:?}");
        }
        let header = read("From bob\nFrom: b@c\nX: y").0;
        assert_eq!(header.text(), b"From: b@c\nX: y\n");
        assert!(header.has("from") && !header.has("date") && !header.is_empty());
    }
}
