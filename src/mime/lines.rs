//! Content cut at its line ends, CRLF and no other (RFC 2045 2.8, RFC 3030 3).
//!
//! Where a cut falls depends on the content alone, never on how reads bring it. Holds 64 KiB, however long a line
//! is. Never changes an octet.

use std::io::{self, Read};

use memchr::memchr_iter;

/// The longest piece but one octet. Whatever has to be seen as a whole, a header's line or a delimiter, is much
/// shorter.
const LONGEST_PIECE: usize = 8 * 1024;
/// How much is read at once.
const BUFFER: usize = 64 * 1024;

/// A line, or a part of one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'b> {
    /// What it holds, without its line end.
    pub octets: &'b [u8],
    /// A line starts here.
    pub starts_line: bool,
    /// What follows.
    pub end: End,
}

/// What follows a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// CRLF.
    Crlf,
    /// More of the same line.
    Cut,
    /// Nothing: the content ends within a line.
    OfContent,
}

/// Where the first CRLF is.
fn line_end(octets: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', octets)
        .filter_map(|at| at.checked_sub(1))
        .find(|&at| octets[at] == b'\r')
}

/// Reads content piece by piece.
#[derive(Debug)]
pub(super) struct Lines<R> {
    content: R,
    buffer: Vec<u8>,
    /// What of the buffer has been read and not been given yet.
    start: usize,
    end: usize,
    /// How much behind `start` holds no line end.
    searched: usize,
    starts_line: bool,
    at_end: bool,
}

impl<R: Read> Lines<R> {
    pub fn new(content: R) -> Lines<R> {
        Lines {
            content,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            searched: 0,
            starts_line: true,
            at_end: false,
        }
    }

    /// The next piece; `None` after the last.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece<'_>>> {
        loop {
            let held = &self.buffer[self.start..self.end];
            let window = &held[..held.len().min(LONGEST_PIECE + 2)];
            if let Some(found) = line_end(&window[self.searched..]) {
                let length = self.searched + found;
                return Ok(Some(self.give(length, End::Crlf)));
            }
            if window.len() == LONGEST_PIECE + 2 {
                // A CR waits for what may be its LF.
                let length = LONGEST_PIECE - usize::from(window[LONGEST_PIECE - 1] == b'\r');
                return Ok(Some(self.give(length, End::Cut)));
            }
            if self.at_end {
                let length = window.len();
                return Ok((length > 0).then(|| self.give(length, End::OfContent)));
            }
            self.searched = window.len().saturating_sub(1);
            self.fill()?;
        }
    }

    fn give(&mut self, length: usize, end: End) -> Piece<'_> {
        let octets = &self.buffer[self.start..self.start + length];
        let starts_line = self.starts_line;
        self.start += length + if end == End::Crlf { 2 } else { 0 };
        self.starts_line = end == End::Crlf;
        self.searched = 0;
        Piece {
            octets,
            starts_line,
            end,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = loop {
            match self.content.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        self.at_end = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(content: &[u8]) -> Vec<(Vec<u8>, bool, End)> {
        let mut lines = Lines::new(content);
        let mut pieces = Vec::new();
        while let Some(piece) = lines.next_piece().unwrap() {
            pieces.push((piece.octets.to_vec(), piece.starts_line, piece.end));
        }
        pieces
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(pieces(b""), []);
        assert_eq!(
            pieces(b"a\nb\r\r\n\r\nc\r"),
            [
                (b"a\nb\r".to_vec(), true, End::Crlf),
                (b"".to_vec(), true, End::Crlf),
                (b"c\r".to_vec(), true, End::OfContent),
            ]
        );
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_no_line_end_is_cut() {
        let around = |length| length - 3..length + 4;
        for length in around(LONGEST_PIECE).chain(around(LONGEST_PIECE * 2)) {
            let content = [vec![b'x'; length], b"\r\ny".to_vec()].concat();
            let found = pieces(&content);
            let joined: Vec<u8> = found
                .iter()
                .flat_map(|(octets, _, end)| {
                    let line_end = if *end == End::Crlf { &b"\r\n"[..] } else { b"" };
                    [octets, line_end].concat()
                })
                .collect();
            assert_eq!(joined, content);
            assert!(found.iter().all(|(octets, ..)| octets.len() <= LONGEST_PIECE + 1));
            let starts = found.iter().filter(|(_, starts_line, _)| *starts_line).count();
            assert_eq!(starts, 2, "{length}");
        }
    }

    #[test]
    fn more_than_the_buffer_holds_comes_whole() {
        let content = b"0123456789\r\n".repeat(3 * BUFFER / 12);
        assert!(
            pieces(&content)
                .iter()
                .all(|(octets, ..)| octets == b"0123456789")
        );
        assert_eq!(pieces(&content).len(), 3 * BUFFER / 12);
    }
}
