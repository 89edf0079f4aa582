//! Content as a peer gets it that takes only 7-bit lines: read again, each section in the form that was planned.

use std::io::{self, Read};
use std::sync::Arc;

use super::body::Body;
use super::header::Header;
use super::lines::Lines;
use super::structure::{Container, Kind, Structure, Visitor};
use super::{Coding, Unsuitable};

/// How much is written at once, give or take a piece or a header.
const ENOUGH: usize = 64 * 1024;

/// Reads content that is converted on its way: see [`super::Plan::apply`]. Gives as many octets as were planned, the
/// same however it is read.
#[derive(Debug)]
pub struct SevenBit<R> {
    lines: Lines<R>,
    /// `None` behind the end.
    structure: Option<Structure>,
    writer: Writer,
    /// How much of what has been written has been read.
    read: usize,
}

impl<R: Read> SevenBit<R> {
    pub(super) fn new(content: R, codings: Arc<[Coding]>) -> SevenBit<R> {
        SevenBit {
            lines: Lines::new(content),
            structure: Some(Structure::new()),
            writer: Writer {
                codings,
                sections: 0,
                body: Body::Dropped,
                out: Vec::new(),
            },
            read: 0,
        }
    }

    /// Converts the next piece. `false` behind the last.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(structure) = &mut self.structure else {
            return Ok(false);
        };
        match self.lines.next_piece()? {
            Some(piece) => structure.take(piece, &mut self.writer),
            None => match self.structure.take() {
                Some(structure) => structure.finish(&mut self.writer),
                None => Ok(()),
            },
        }
        // It is other content than the plan was made of.
        .map_err(io::Error::other)?;
        Ok(true)
    }
}

impl<R: Read> Read for SevenBit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.writer.out.len() {
            self.read = 0;
            self.writer.out.clear();
            // Fills the buffer, so that short lines do not make short reads.
            let enough = buffer.len().min(ENOUGH);
            while self.writer.out.len() < enough && self.advance()? {}
        }
        let mut rest = &self.writer.out[self.read..];
        let length = rest.read(buffer)?;
        self.read += length;
        Ok(length)
    }
}

#[derive(Debug)]
struct Writer {
    codings: Arc<[Coding]>,
    /// How many sections have begun.
    sections: usize,
    body: Body,
    out: Vec<u8>,
}

impl Visitor for Writer {
    fn begin(&mut self, _: Kind, header: Option<&Header>) -> Result<(), Unsuitable> {
        let coding = self.codings.get(self.sections).copied().unwrap_or(Coding::AsItIs);
        self.sections += 1;
        if let Some(header) = header {
            header.write(coding, &mut self.out);
        }
        self.body = Body::new(coding);
        Ok(())
    }

    fn text(&mut self, octets: &[u8]) {
        self.body.text(octets, &mut self.out);
    }

    fn line_end(&mut self) {
        self.body.line_end(&mut self.out);
    }

    fn end(&mut self, _: &[Container], is_last: bool, _: bool) -> Result<(), Unsuitable> {
        self.body.finish(is_last, &mut self.out);
        Ok(())
    }

    fn delimiter(&mut self, before: &[u8], line: &[u8], behind: &[u8]) {
        for octets in [before, line, behind] {
            self.out.extend_from_slice(octets);
        }
    }
}
