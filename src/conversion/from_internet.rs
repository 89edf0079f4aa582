//! What came from the Internet, as imsgcnv sees it: the structure of a message, read while its content
//! goes by.
//!
//! Takes content in chunks of any size and keeps a bounded part of it (about 128 KiB at worst), however large
//! the message is. Never fails and never changes anything: what is broken leaves a field empty.

use memchr::memchr;

use crate::conversion::field::{self, Effort};
use crate::mime::field_name;
pub use crate::work_queue::structure::Structure;

/// The longest text of a field, in characters.
const LONGEST_TEXT: usize = 500;
/// The longest name of an attachment, in characters.
const LONGEST_NAME: usize = 200;
/// How many names of attachments are kept.
const MOST_NAMES: usize = 100;
/// The longest address in a Delivered-To, in characters (RFC 5321 4.5.3.1: 64, the @, 255).
const LONGEST_ADDRESS: usize = 320;
/// How many Delivered-To fields are kept: the topmost, which are the latest.
const MOST_DELIVERED_TO: usize = 20;
/// How much of a header line, and of a whole field, is looked at, in octets.
const LONGEST_FIELD: usize = 8 * 1024;
/// How much of a body's line is looked at for a boundary, in octets.
const LONGEST_BOUNDARY_LINE: usize = 256;
/// The longest boundary, in octets (RFC 2046 5.1.1 allows 70).
const LONGEST_BOUNDARY: usize = 200;
/// How deep multiparts may nest; deeper ones count as one part.
const DEEPEST: usize = 20;

impl Structure {
    /// The structure of content that is at hand as a whole.
    #[must_use]
    pub fn of(content: &[u8]) -> Structure {
        let mut reader = StructureReader::default();
        reader.feed(content);
        reader.finish()
    }

    /// Whether a Delivered-To names this address already: then delivering it there again would be a loop.
    #[must_use]
    pub fn was_delivered_to(&self, address: &str) -> bool {
        self.delivered_to
            .iter()
            .any(|earlier| earlier.eq_ignore_ascii_case(address))
    }
}

/// Where in the message the reader is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    /// In a header block: the message's while no boundary is known, else a part's.
    #[default]
    Header,
    /// In a body that boundaries may end.
    Multipart,
    /// In a body where nothing more is to be found.
    Body,
}

/// The fields that the reader takes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Subject,
    From,
    To,
    MessageId,
    Date,
    DeliveredTo,
    Received,
    ContentType,
    ContentDisposition,
}

const WANTED: [(&[u8], Wanted); 9] = [
    (b"subject", Wanted::Subject),
    (b"from", Wanted::From),
    (b"to", Wanted::To),
    (b"message-id", Wanted::MessageId),
    (b"date", Wanted::Date),
    (b"delivered-to", Wanted::DeliveredTo),
    (b"received", Wanted::Received),
    (b"content-type", Wanted::ContentType),
    (b"content-disposition", Wanted::ContentDisposition),
];

/// Reads the structure of one message, chunk by chunk. The lines of the content end with CRLF or LF.
#[derive(Debug, Default)]
pub struct StructureReader {
    found: Structure,
    place: Place,
    /// The beginning of the line under way.
    line: Vec<u8>,
    /// Whether the line under way is of no interest.
    skipping: bool,
    /// Whether the header block under way has had a field.
    has_field: bool,
    /// The field under way, if it is wanted.
    wanted: Option<Wanted>,
    /// Its value so far, lines separated by LF.
    value: Vec<u8>,
    content_type: Option<Vec<u8>>,
    disposition: Option<Vec<u8>>,
    /// The boundaries of the multiparts that are open, the innermost last.
    boundaries: Vec<Vec<u8>>,
    effort: Effort,
}

impl StructureReader {
    /// Takes the next octets of the content.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.found.eight_bit = self.found.eight_bit || !chunk.is_ascii();
        let mut rest = chunk;
        while self.place != Place::Body && !rest.is_empty() {
            match memchr(b'\n', rest) {
                Some(end) => {
                    self.note_octets(&rest[..end]);
                    self.gather(&rest[..end]);
                    self.end_line();
                    rest = &rest[end + 1..];
                }
                None => {
                    self.note_octets(rest);
                    self.gather(rest);
                    return;
                }
            }
        }
    }

    /// Gives what was found, after the last octet.
    #[must_use]
    pub fn finish(mut self) -> Structure {
        if self.place != Place::Body && !self.line.is_empty() {
            self.end_line();
        }
        if self.place == Place::Header {
            self.end_header();
        }
        self.found
    }

    fn note_octets(&mut self, text: &[u8]) {
        // RFC 6532 3: those of parts are header fields too.
        if self.place == Place::Header {
            self.found.utf8_header = self.found.utf8_header || !text.is_ascii();
        }
    }

    fn gather(&mut self, text: &[u8]) {
        let longest = match self.place {
            Place::Header => LONGEST_FIELD,
            Place::Multipart | Place::Body => LONGEST_BOUNDARY_LINE,
        };
        if self.place == Place::Multipart && self.line.is_empty() {
            self.skipping |= text.first().is_some_and(|&octet| octet != b'-');
        }
        if !self.skipping {
            let room = longest.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
        }
    }

    fn end_line(&mut self) {
        self.skipping = false;
        // Taken and put back, so that its memory serves every line.
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        match self.place {
            Place::Header => self.header_line(&line),
            Place::Multipart => self.body_line(&line),
            Place::Body => {}
        }
        line.clear();
        self.line = line;
    }

    fn header_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return self.end_header();
        }
        if self.boundary_of(line).is_some() {
            self.end_header();
            return self.body_line(line);
        }
        if matches!(line[0], b' ' | b'\t') && self.has_field {
            if self.wanted.is_some() {
                self.value.push(b'\n');
                self.take_down(line);
            }
            return;
        }
        self.end_field();
        if let Some(name) = field_name(line) {
            self.has_field = true;
            self.begin_field(name, line);
        } else if !self.has_field {
            // A block that does not begin with a field, or with a mailbox file's `From ` line, is no header.
            let of_mailbox_file = self.boundaries.is_empty() && line.starts_with(b"From ");
            if !of_mailbox_file {
                self.end_header();
            }
        }
    }

    fn begin_field(&mut self, name: &[u8], line: &[u8]) {
        let Some(&(_, wanted)) = WANTED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            return;
        };
        let of_part = matches!(wanted, Wanted::ContentType | Wanted::ContentDisposition);
        if !of_part && !self.boundaries.is_empty() {
            return;
        }
        if wanted == Wanted::Received {
            self.found.hops += 1;
            return;
        }
        self.wanted = Some(wanted);
        if let Some(colon) = memchr(b':', line) {
            self.take_down(&line[colon + 1..]);
        }
    }

    fn take_down(&mut self, text: &[u8]) {
        let room = LONGEST_FIELD.saturating_sub(self.value.len());
        self.value.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn end_field(&mut self) {
        let Some(wanted) = self.wanted.take() else {
            return;
        };
        let value = &self.value;
        let kept = match wanted {
            Wanted::ContentType => {
                self.content_type.get_or_insert_with(|| value.clone());
                None
            }
            Wanted::ContentDisposition => {
                self.disposition.get_or_insert_with(|| value.clone());
                None
            }
            Wanted::DeliveredTo => {
                if self.found.delivered_to.len() < MOST_DELIVERED_TO {
                    let address = field::text(value, LONGEST_ADDRESS, &mut self.effort);
                    self.found.delivered_to.push(address);
                }
                None
            }
            Wanted::Subject => Some(&mut self.found.subject),
            Wanted::From => Some(&mut self.found.from),
            Wanted::To => Some(&mut self.found.to),
            Wanted::MessageId => Some(&mut self.found.message_id),
            Wanted::Date => Some(&mut self.found.date),
            Wanted::Received => None,
        };
        if let Some(text) = kept.filter(|text| text.is_empty()) {
            *text = field::text(value, LONGEST_TEXT, &mut self.effort);
        }
        self.value.clear();
    }

    fn end_header(&mut self) {
        self.end_field();
        self.has_field = false;
        let content_type = self.content_type.take().unwrap_or_default();
        let content_type = field::content_type(&content_type, &mut self.effort);
        let disposition = self.disposition.take();
        if let Some(boundary) = boundary(&content_type).filter(|_| self.boundaries.len() < DEEPEST) {
            self.boundaries.push(boundary);
            self.place = Place::Multipart;
            return;
        }
        self.found.parts += 1;
        if self.found.attachments.len() < MOST_NAMES {
            let mut parameters = disposition
                .map(|value| field::disposition_parameters(&value, &mut self.effort))
                .unwrap_or_default();
            let name = parameters
                .remove("filename")
                .or_else(|| content_type.parameters.get("name").cloned())
                .map(|name| field::text(name.as_bytes(), LONGEST_NAME, &mut self.effort))
                .filter(|name| !name.is_empty());
            self.found.attachments.extend(name);
        }
        self.leave_header();
    }

    fn leave_header(&mut self) {
        self.place = if self.boundaries.is_empty() {
            Place::Body
        } else {
            Place::Multipart
        };
    }

    /// Which open multipart's boundary this line is, and what follows the boundary on it; innermost first.
    fn boundary_of<'l>(&self, line: &'l [u8]) -> Option<(usize, &'l [u8])> {
        let line = line.strip_prefix(b"--")?;
        self.boundaries
            .iter()
            .enumerate()
            .rev()
            .find_map(|(level, boundary)| {
                let after = line.strip_prefix(boundary.as_slice())?;
                (after.starts_with(b"--") || after.trim_ascii().is_empty()).then_some((level, after))
            })
    }

    fn body_line(&mut self, line: &[u8]) {
        let Some((level, after)) = self.boundary_of(line) else {
            return;
        };
        // Whatever was open inside of this multipart ends with it, closed or not (RFC 2046 5.1.2).
        if after.starts_with(b"--") {
            self.boundaries.truncate(level);
            self.leave_header();
        } else {
            self.boundaries.truncate(level + 1);
            self.place = Place::Header;
        }
    }
}

/// The boundary of a multipart, if this is one.
fn boundary(content_type: &field::ContentType) -> Option<Vec<u8>> {
    if !content_type.mimetype.starts_with("multipart/") {
        return None;
    }
    let boundary = content_type.parameters.get("boundary")?.trim_end();
    (!boundary.is_empty() && boundary.len() <= LONGEST_BOUNDARY).then(|| boundary.as_bytes().to_vec())
}

#[cfg(test)]
mod tests;
