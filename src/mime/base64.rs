//! Any octets as base64 (RFC 2045 6.8), in lines of 76.
//!
//! The last line has no end before a delimiter, which brings its own.

use data_encoding::BASE64;

/// What makes a line of 76.
const OCTETS_OF_A_LINE: usize = 57;

/// Encodes one body.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    /// What the next line is made of.
    gathered: Vec<u8>,
    /// A line has been written and its end has not.
    owes_line_end: bool,
}

impl Base64 {
    /// Appends the next octets.
    pub fn octets(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while !octets.is_empty() {
            let room = OCTETS_OF_A_LINE - self.gathered.len();
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.gathered.extend_from_slice(now);
            octets = later;
            if self.gathered.len() == OCTETS_OF_A_LINE {
                self.line(out);
            }
        }
    }

    fn line(&mut self, out: &mut Vec<u8>) {
        if self.owes_line_end {
            out.extend_from_slice(b"\r\n");
        }
        let start = out.len();
        out.resize(start + BASE64.encode_len(self.gathered.len()), 0);
        BASE64.encode_mut(&self.gathered, &mut out[start..]);
        self.gathered.clear();
        self.owes_line_end = true;
    }

    /// Ends the body, and its last line too if nothing follows.
    pub fn finish(&mut self, ends_content: bool, out: &mut Vec<u8>) {
        if !self.gathered.is_empty() {
            self.line(out);
        }
        if ends_content && self.owes_line_end {
            out.extend_from_slice(b"\r\n");
            self.owes_line_end = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_76_octets_and_decode_to_what_they_were_made_of() {
        for length in [0, 1, 2, 3, 56, 57, 58, 114, 115] {
            let octets: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(37)).collect();
            for ends_content in [false, true] {
                let (mut encoder, mut out) = (Base64::default(), Vec::new());
                octets
                    .chunks(10)
                    .for_each(|chunk| encoder.octets(chunk, &mut out));
                encoder.finish(ends_content, &mut out);
                let out = String::from_utf8(out).unwrap();
                assert_eq!(out.ends_with("\r\n"), ends_content && length > 0);
                let lines: Vec<&str> = out.lines().collect();
                assert!(lines.iter().rev().skip(1).all(|line| line.len() == 76), "{out}");
                assert_eq!(BASE64.decode(lines.concat().as_bytes()).unwrap(), octets);
            }
        }
    }
}
