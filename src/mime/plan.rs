//! What has to become of each section of a message, found in one pass over its content.
//!
//! A section changes only if it holds what 7bit does not allow (RFC 2045 2.7), whatever its header says; so the
//! signature over a part that holds nothing of that kind stays good, and content without any is left alone.

use std::io::{self, Read};
use std::sync::Arc;

use memchr::{memchr, memchr2};

use super::body::Body;
use super::header::Header;
use super::lines::Lines;
use super::seven_bit::SevenBit;
use super::structure::{Container, Kind, Structure, Visitor};
use super::{Coding, LONGEST_LINE, Unsuitable};

/// How content becomes 7-bit, and how large it is then.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One for each section, as far as any changes.
    pub(super) codings: Arc<[Coding]>,
    /// A field changes, whatever the bodies do.
    has_fields: bool,
    size: u64,
}

impl Plan {
    /// Reads content to its end and plans; or says why it cannot become 7-bit. Holds one header, twice, or
    /// a field sixteen times, and some 300 KiB.
    ///
    /// # Errors
    /// When the content cannot be read.
    pub fn of(content: impl Read) -> io::Result<Result<Plan, Unsuitable>> {
        let mut lines = Lines::new(content);
        let mut structure = Structure::new();
        let mut planner = Planner::default();
        while let Some(piece) = lines.next_piece()? {
            if let Err(reason) = structure.take(piece, &mut planner) {
                return Ok(Err(reason));
            }
        }
        Ok(structure.finish(&mut planner).map(|()| planner.plan()))
    }

    /// The size of the converted content, in octets.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether anything changes. If not, the content is 7-bit as it is.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.has_fields || !self.codings.is_empty()
    }

    /// Reads the same content again, converted.
    pub fn apply<R: Read>(&self, content: R) -> SevenBit<R> {
        SevenBit::new(content, Arc::clone(&self.codings))
    }
}

/// What a body holds that 7bit does not allow.
#[derive(Debug, Default)]
struct Offences {
    /// Octets above 127, or a long line: quoted-printable helps.
    text: bool,
    /// NUL, or a CR or LF that is no line end: this is not text.
    binary: bool,
    /// The length of the line under way.
    column: usize,
}

impl Offences {
    fn note(&mut self, octets: &[u8]) {
        self.column += octets.len();
        self.text |= self.column > LONGEST_LINE || !octets.is_ascii();
        self.binary |= memchr2(b'\r', b'\n', octets).is_some() || memchr(0, octets).is_some();
    }

    /// The form in which a section of this kind goes.
    fn coding(&self, kind: Kind, is_lost: bool) -> Result<Coding, Unsuitable> {
        if !self.text && !self.binary {
            return Ok(Coding::AsItIs);
        }
        match kind {
            Kind::Text if !self.binary => Ok(Coding::QuotedPrintable),
            Kind::Text | Kind::Data => Ok(Coding::Base64),
            Kind::QuotedPrintable => Ok(Coding::MendedQuotedPrintable),
            Kind::Base64 => Ok(Coding::MendedBase64),
            Kind::Filler if is_lost => Err(Unsuitable::NoParts),
            Kind::Filler => Ok(Coding::Dropped),
            Kind::Opaque(reason) => Err(reason),
            Kind::Container => Ok(Coding::SevenBit),
        }
    }
}

/// A form in which the section under way may go, and how large it is.
#[derive(Debug)]
struct Candidate {
    coding: Coding,
    body: Body,
    size: u64,
}

#[derive(Debug, Default)]
struct Planner {
    codings: Vec<Coding>,
    has_fields: bool,
    size: u64,
    /// By how many octets the headers of the open containers grow if what is in them changes, with their sections.
    growth: Vec<(usize, i64)>,
    section: Option<(Kind, Vec<Candidate>)>,
    offences: Offences,
    /// Takes what candidates write; only its length counts.
    scratch: Vec<u8>,
}

impl Planner {
    fn plan(mut self) -> Plan {
        let used = self.codings.iter().rposition(|coding| *coding != Coding::AsItIs);
        self.codings.truncate(used.map_or(0, |last| last + 1));
        Plan {
            codings: self.codings.into(),
            has_fields: self.has_fields,
            size: self.size,
        }
    }

    /// Lets each candidate write.
    fn each(&mut self, mut write: impl FnMut(&mut Body, &mut Vec<u8>)) {
        for candidate in self.section.iter_mut().flat_map(|(_, candidates)| candidates) {
            self.scratch.clear();
            write(&mut candidate.body, &mut self.scratch);
            candidate.size += self.scratch.len() as u64;
        }
    }

    /// The size of a header in this form.
    fn header_size(&mut self, header: Option<&Header>, coding: Coding) -> u64 {
        self.scratch.clear();
        if let Some(header) = header {
            header.write(coding, &mut self.scratch);
        }
        self.scratch.len() as u64
    }
}

impl Visitor for Planner {
    fn begin(&mut self, kind: Kind, header: Option<&Header>) -> Result<(), Unsuitable> {
        self.has_fields |= header.is_some_and(Header::has_changed);
        let forms: &[Coding] = match kind {
            Kind::Text => &[Coding::AsItIs, Coding::QuotedPrintable, Coding::Base64],
            Kind::Data => &[Coding::AsItIs, Coding::Base64],
            Kind::QuotedPrintable => &[Coding::AsItIs, Coding::MendedQuotedPrintable],
            Kind::Base64 => &[Coding::AsItIs, Coding::MendedBase64],
            Kind::Opaque(_) => &[Coding::AsItIs],
            Kind::Filler => &[Coding::AsItIs, Coding::Dropped],
            Kind::Container => &[],
        };
        let candidates = forms.iter().map(|&coding| Candidate {
            coding,
            body: Body::new(coding),
            size: self.header_size(header, coding),
        });
        self.section = Some((kind, candidates.collect()));
        self.offences = Offences::default();
        if kind == Kind::Container {
            let as_it_is = self.header_size(header, Coding::AsItIs);
            let changed = self.header_size(header, Coding::SevenBit);
            self.size += as_it_is;
            self.growth
                .push((self.codings.len(), changed.cast_signed() - as_it_is.cast_signed()));
        }
        self.codings.push(Coding::AsItIs);
        Ok(())
    }

    fn text(&mut self, octets: &[u8]) {
        self.offences.note(octets);
        self.each(|body, out| body.text(octets, out));
    }

    fn line_end(&mut self) {
        self.offences.column = 0;
        self.each(Body::line_end);
    }

    fn end(&mut self, open: &[Container], is_last: bool, is_lost: bool) -> Result<(), Unsuitable> {
        self.each(|body, out| body.finish(is_last, out));
        let Some((kind, candidates)) = self.section.take() else {
            return Ok(());
        };
        let coding = self.offences.coding(kind, is_lost)?;
        self.size += candidates
            .iter()
            .find(|candidate| candidate.coding == coding)
            .map_or(0, |candidate| candidate.size);
        // Those that have closed meanwhile grow no more. Sections are numbered as they begin, so they are the last.
        let innermost = open.last().map(|container| container.section);
        while self
            .growth
            .pop_if(|(section, _)| Some(*section) > innermost)
            .is_some()
        {}
        if coding == Coding::AsItIs {
            return Ok(());
        }
        if open.last().is_some_and(|container| container.is_sealed) {
            return Err(Unsuitable::Signed);
        }
        if let Some(last) = self.codings.last_mut() {
            *last = coding;
        }
        for (section, growth) in self.growth.drain(..) {
            self.codings[section] = Coding::SevenBit;
            self.size = self.size.saturating_add_signed(growth);
        }
        Ok(())
    }

    fn delimiter(&mut self, before: &[u8], line: &[u8], behind: &[u8]) {
        self.size += (before.len() + line.len() + behind.len()) as u64;
    }
}
