//! Standard input as a message: piece by piece, up to its end or to a line with only a dot.
//!
//! Never looks at what the pieces say, and never holds more than one of them.

use std::io::{self, BufRead, Read};

/// Reads a message.
#[derive(Debug)]
pub(super) struct Input<R> {
    reader: R,
    /// A line with only a dot ends nothing.
    ignores_dot: bool,
    /// The next octet begins a line.
    at_start: bool,
    is_over: bool,
}

impl<R: BufRead> Input<R> {
    pub(super) fn new(reader: R, ignores_dot: bool) -> Input<R> {
        Input {
            reader,
            ignores_dot,
            at_start: true,
            is_over: false,
        }
    }

    /// Puts the next piece into `piece`, in place of what it holds: a line with its LF, or so many octets of a longer one,
    /// which are three at least. Whether there is one.
    ///
    /// # Errors
    /// When it can not be read.
    pub(super) fn next(&mut self, piece: &mut Vec<u8>, most: u64) -> io::Result<bool> {
        piece.clear();
        if self.is_over {
            return Ok(false);
        }
        self.reader.by_ref().take(most.max(3)).read_until(b'\n', piece)?;
        let begins_line = std::mem::replace(&mut self.at_start, piece.ends_with(b"\n"));
        let is_dot = matches!(&piece[..], b".\n" | b".\r\n" | b".");
        if piece.is_empty() || (is_dot && begins_line && !self.ignores_dot) {
            piece.clear();
            self.is_over = true;
        }
        Ok(!self.is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, ignores_dot: bool, most: u64) -> String {
        let mut input = Input::new(text.as_bytes(), ignores_dot);
        let (mut piece, mut all) = (Vec::new(), Vec::new());
        while input.next(&mut piece, most).unwrap() {
            all.extend_from_slice(&piece);
        }
        assert!(!input.next(&mut piece, most).unwrap());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_line_with_only_a_dot_ends_the_message_unless_it_is_to_be_ignored() {
        for (text, expected) in [
            ("a\n.\nb\n", "a\n"),
            ("a\r\n.\r\nb\r\n", "a\r\n"),
            (".\nb", ""),
            ("a\n.", "a\n"),
            ("", ""),
            ("a\n..\n.b\nc.\n", "a\n..\n.b\nc.\n"),
            ("abcdef.\nx\n", "abcdef.\nx\n"),
            ("a\n .\nb", "a\n .\nb"),
        ] {
            for most in [0, 3, 4, 7, 100] {
                assert_eq!(read(text, false, most), expected, "{text:?} by {most}");
                assert_eq!(read(text, true, most), text);
            }
        }
    }
}
