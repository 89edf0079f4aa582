//! The way through a message: headers, bodies and delimiters, as they come by (RFC 2046 5.1).
//!
//! Tells a [`Visitor`] of every octet, once and in order, so that whoever writes down what he hears has the message
//! again, but for header fields with octets above 127, which are ASCII then. Bounded. Never changes anything else, and
//! never decides what shall become of a body.

use super::field::Encoding;
use super::header::Header;
use super::lines::{End, Piece};
use super::{LONGEST_LINE, Unsuitable};

/// How deep multiparts and messages may nest.
const DEEPEST: usize = 50;
/// How many sections a message may have.
const MOST_SECTIONS: usize = 100_000;

/// What a section is: an entity with its header, or what a multipart has before and behind its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A body that is text.
    Text,
    /// A body that is anything else.
    Data,
    /// A body that is labelled quoted-printable.
    QuotedPrintable,
    /// A body that is labelled base64.
    Base64,
    /// A body that has to go as it is, and why.
    Opaque(Unsuitable),
    /// A header that has entities in its body.
    Container,
    /// A preamble or an epilogue, which nobody reads (RFC 2046 5.1.1).
    Filler,
}

/// A multipart or a message that the way is inside of.
#[derive(Debug)]
pub(super) struct Container {
    /// The number of its section.
    pub section: usize,
    /// A signature vouches for each octet in it (RFC 1847 2.1).
    pub is_sealed: bool,
    /// What parts its parts; a message has none.
    boundary: Option<Vec<u8>>,
    /// Its parts are messages by default (RFC 2046 5.1.5).
    is_digest: bool,
}

/// Hears what a message is made of. Sections are numbered as they begin, from 0.
pub(super) trait Visitor {
    /// A section begins, with its header if it has one. A container's ends here: what is in it has sections of its own.
    fn begin(&mut self, kind: Kind, header: Option<&Header>) -> Result<(), Unsuitable>;
    /// Octets of the section's body: a line or a part of one, without its end.
    fn text(&mut self, octets: &[u8]);
    /// A line end within the body, or at its end if the content ends there.
    fn line_end(&mut self);
    /// The section ends within these containers. `is_last`: and the content with it. `is_lost`: it is the preamble of a
    /// multipart without parts, so that somebody may read it after all.
    fn end(&mut self, open: &[Container], is_last: bool, is_lost: bool) -> Result<(), Unsuitable>;
    /// A delimiter: a line, and the line ends before and behind it that are its own.
    fn delimiter(&mut self, before: &[u8], line: &[u8], behind: &[u8]);
}

/// Where on the way the next line is.
#[derive(Debug)]
enum Place {
    Header(Header),
    Body {
        /// Of a multipart that has had no delimiter yet.
        is_preamble: bool,
        /// A line has ended: with its body, if a delimiter follows.
        owes_line_end: bool,
    },
}

/// Finds the way, piece by piece.
#[derive(Debug)]
pub(super) struct Structure {
    place: Place,
    /// The innermost last.
    open: Vec<Container>,
    /// How many sections have begun.
    sections: usize,
}

impl Structure {
    /// At the start of a message.
    pub fn new() -> Structure {
        Structure {
            place: Place::Header(Header::of_message()),
            open: Vec::new(),
            sections: 0,
        }
    }

    /// Takes the next piece of the content.
    pub fn take(&mut self, piece: Piece<'_>, visitor: &mut impl Visitor) -> Result<(), Unsuitable> {
        let is_whole = piece.starts_line && piece.end != End::Cut;
        if is_whole && let Some((level, closes)) = self.delimiter_of(piece.octets) {
            return self.delimiter(level, closes, piece, visitor);
        }
        while let Place::Header(header) = &mut self.place {
            if piece.octets.is_empty() {
                header.end_with_empty_line();
                return self.end_header(visitor);
            }
            if header.continues_with(piece.octets) {
                return header.take(piece.octets, is_whole, piece.end == End::Crlf);
            }
            // A line that is no field is the first of a body; the empty line before it has been forgotten.
            self.end_header(visitor)?;
            if is_whole && let Some((level, closes)) = self.delimiter_of(piece.octets) {
                return self.delimiter(level, closes, piece, visitor);
            }
        }
        self.body(piece, visitor);
        Ok(())
    }

    /// Takes note that the content ends.
    pub fn finish(mut self, visitor: &mut impl Visitor) -> Result<(), Unsuitable> {
        self.end_section(true, false, visitor).map(drop)
    }

    fn body(&mut self, piece: Piece<'_>, visitor: &mut impl Visitor) {
        if let Place::Body { owes_line_end, .. } = &mut self.place {
            if std::mem::replace(owes_line_end, piece.end == End::Crlf) {
                visitor.line_end();
            }
            visitor.text(piece.octets);
        }
    }

    /// Which container's delimiter this line is, the innermost first, and whether it is its last. White space may
    /// follow (RFC 2046 5.1.1).
    fn delimiter_of(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--").filter(|_| line.len() <= LONGEST_LINE)?;
        let blanks = line
            .iter()
            .rev()
            .take_while(|octet| matches!(octet, b' ' | b'\t'));
        let line = &line[..line.len() - blanks.count()];
        self.open.iter().enumerate().rev().find_map(|(level, container)| {
            match line.strip_prefix(container.boundary.as_deref()?)? {
                b"" => Some((level, false)),
                b"--" => Some((level, true)),
                _ => None,
            }
        })
    }

    fn delimiter(
        &mut self,
        level: usize,
        closes: bool,
        piece: Piece<'_>,
        visitor: &mut impl Visitor,
    ) -> Result<(), Unsuitable> {
        let has_parts = !closes && level + 1 == self.open.len();
        let before = self.end_section(false, has_parts, visitor)?;
        let behind = if piece.end == End::Crlf { &b"\r\n"[..] } else { b"" };
        visitor.delimiter(before, piece.octets, behind);
        // Whatever was open inside of this multipart ends with it, closed or not (RFC 2046 5.1.2).
        if closes {
            self.open.truncate(level);
            self.begin_filler(false, visitor)
        } else {
            self.open.truncate(level + 1);
            self.place = Place::Header(Header::of_part(self.open[level].is_digest));
            Ok(())
        }
    }

    /// Ends what is under way. Gives the line end that is not the section's own.
    fn end_section(
        &mut self,
        is_last: bool,
        has_parts: bool,
        visitor: &mut impl Visitor,
    ) -> Result<&'static [u8], Unsuitable> {
        loop {
            match self.place {
                // A message in a message may end with the header of either.
                Place::Header(_) => self.end_header(visitor)?,
                Place::Body {
                    is_preamble,
                    owes_line_end,
                } => {
                    if is_last && owes_line_end {
                        visitor.line_end();
                    }
                    visitor.end(&self.open, is_last, is_preamble && !has_parts)?;
                    return Ok(if owes_line_end { b"\r\n" } else { b"" });
                }
            }
        }
    }

    fn end_header(&mut self, visitor: &mut impl Visitor) -> Result<(), Unsuitable> {
        const BODY: Place = Place::Body {
            is_preamble: false,
            owes_line_end: false,
        };
        let Place::Header(mut header) = std::mem::replace(&mut self.place, BODY) else {
            return Ok(());
        };
        let is_sealed = self.open.last().is_some_and(|container| container.is_sealed);
        header.encode(is_sealed)?;
        let found = match Found::of(&header) {
            Found::Multipart { .. } | Found::Message if self.open.len() == DEEPEST => {
                Found::Leaf(Kind::Opaque(Unsuitable::TooDeep))
            }
            found => found,
        };
        let (kind, inside) = match found {
            Found::Leaf(kind) => (kind, None),
            Found::Message => (Kind::Container, Some((None, false, is_sealed))),
            Found::Multipart {
                boundary,
                is_digest,
                is_signed,
            } => (
                Kind::Container,
                Some((Some(boundary), is_digest, is_sealed || is_signed)),
            ),
        };
        let section = self.begin(kind, Some(&header), visitor)?;
        let Some((boundary, is_digest, is_sealed)) = inside else {
            return Ok(());
        };
        let is_multipart = boundary.is_some();
        self.open.push(Container {
            section,
            is_sealed,
            boundary,
            is_digest,
        });
        if is_multipart {
            self.begin_filler(true, visitor)
        } else {
            self.place = Place::Header(Header::of_message());
            Ok(())
        }
    }

    fn begin_filler(&mut self, is_preamble: bool, visitor: &mut impl Visitor) -> Result<(), Unsuitable> {
        self.place = Place::Body {
            is_preamble,
            owes_line_end: false,
        };
        self.begin(Kind::Filler, None, visitor).map(drop)
    }

    fn begin(
        &mut self,
        kind: Kind,
        header: Option<&Header>,
        visitor: &mut impl Visitor,
    ) -> Result<usize, Unsuitable> {
        if self.sections == MOST_SECTIONS {
            return Err(Unsuitable::TooManyParts);
        }
        visitor.begin(kind, header)?;
        self.sections += 1;
        Ok(self.sections - 1)
    }
}

/// What a header says of its body.
enum Found {
    Leaf(Kind),
    Message,
    Multipart {
        boundary: Vec<u8>,
        is_digest: bool,
        is_signed: bool,
    },
}

impl Found {
    fn of(header: &Header) -> Found {
        // An encoding goes before what is in it; but for a multipart, which has none (RFC 2045 6.4).
        match (Found::within(header), header.encoding()) {
            (found, Encoding::SevenBit | Encoding::Plain) | (found @ Found::Multipart { .. }, _) => found,
            (Found::Leaf(Kind::Text | Kind::Data), Encoding::QuotedPrintable) => {
                Found::Leaf(Kind::QuotedPrintable)
            }
            (Found::Leaf(Kind::Text | Kind::Data), Encoding::Base64) => Found::Leaf(Kind::Base64),
            _ => Found::Leaf(Kind::Opaque(Unsuitable::Misencoded)),
        }
    }

    /// What the Content-Type says.
    fn within(header: &Header) -> Found {
        let Some(content_type) = header.content_type() else {
            return if header.is_message_by_default() {
                Found::Message
            } else {
                Found::Leaf(Kind::Text)
            };
        };
        match (&content_type.kind[..], &content_type.subtype[..]) {
            (b"text", _) => Found::Leaf(Kind::Text),
            (b"multipart", subtype) => match content_type.boundary {
                None => Found::Leaf(Kind::Opaque(Unsuitable::NoParts)),
                Some(boundary) => Found::Multipart {
                    boundary,
                    is_digest: subtype == b"digest",
                    is_signed: subtype == b"signed",
                },
            },
            (b"message", b"rfc822" | b"global") => Found::Message,
            // RFC 2046 5.2.2.1, 5.2.3: these are 7bit, and their encoding says nothing about what they stand for.
            (b"message", b"partial" | b"external-body") => Found::Leaf(Kind::Opaque(Unsuitable::Fragment)),
            // Reports and the like: fields in lines.
            (b"message", _) => Found::Leaf(Kind::Text),
            _ => Found::Leaf(Kind::Data),
        }
    }
}
