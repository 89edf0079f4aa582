//! A body that says it is quoted-printable or base64 and yet holds what 7bit does not allow: kept as it is but for that.
//!
//! So comes a base64 body to which a list has appended a footer, or quoted-printable with an octet that was forgotten.
//! Lines that are clean stay as they are. In the others no line begins with a hyphen, so that what changes never
//! becomes a delimiter. Never decodes.

use super::LONGEST_LINE;
use super::quoted_printable::code;

/// What the label says that the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    QuotedPrintable,
    Base64,
}

/// Mends one body.
#[derive(Debug)]
pub(super) struct Mended {
    label: Label,
    /// The length of the line under way, as it goes out.
    column: usize,
    /// Nothing of the line under way has come yet.
    starts_line: bool,
    /// How many of the next octets may belong to a code, and must stay in its line.
    of_code: u8,
}

impl Mended {
    /// A body of codes `=XX` and octets that stand for themselves (RFC 2045 6.7).
    pub fn quoted_printable() -> Mended {
        Mended::of(Label::QuotedPrintable)
    }

    /// A body in which decoders ignore what is not of the alphabet (RFC 2045 6.8).
    pub fn base64() -> Mended {
        Mended::of(Label::Base64)
    }

    fn of(label: Label) -> Mended {
        Mended {
            label,
            column: 0,
            starts_line: true,
            of_code: 0,
        }
    }

    /// Appends a line or a part of one, without its line end.
    pub fn text(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        // A line that comes in parts is too long in its first one.
        let is_whole = std::mem::take(&mut self.starts_line);
        if is_whole && octets.len() <= LONGEST_LINE && octets.iter().all(|&octet| is_allowed(octet)) {
            out.extend_from_slice(octets);
            self.column = octets.len();
            return;
        }
        match self.label {
            Label::QuotedPrintable => self.quoted_printable_text(octets, out),
            Label::Base64 => self.base64_text(octets, out),
        }
    }

    fn base64_text(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for &octet in octets.iter().filter(|&&octet| is_allowed(octet)) {
            if self.column == LONGEST_LINE {
                self.line_break(b"\r\n", out);
            }
            if self.column > 0 || octet != b'-' {
                self.write(&[octet], out);
            }
        }
    }

    fn quoted_printable_text(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut octets = octets.iter().copied().peekable();
        while let Some(octet) = octets.next() {
            if self.of_code > 0 && octet.is_ascii_hexdigit() {
                self.of_code -= 1;
                self.write(&[octet], out);
                continue;
            }
            self.of_code = 0;
            let next = octets.peek().copied();
            // A soft line break in content whose lines end with LF.
            if octet == b'=' && next == Some(b'\n') {
                octets.next();
                self.line_break(b"=\r\n", out);
                continue;
            }
            // Whatever comes, there is room for a code, and for the `=` of a soft line break.
            if self.column + 3 >= LONGEST_LINE {
                self.line_break(b"=\r\n", out);
            }
            // Before a code, a stray `=` would make another of it.
            let is_stray = octet == b'=' && next.is_some_and(|next| !is_allowed(next));
            if !is_allowed(octet) || is_stray || (octet == b'-' && self.column == 0) {
                self.write(&code(octet), out);
            } else {
                self.of_code = if octet == b'=' { 2 } else { 0 };
                self.write(&[octet], out);
            }
        }
    }

    fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(octets);
        self.column += octets.len();
    }

    fn line_break(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(octets);
        self.column = 0;
    }

    /// Appends a line end.
    pub fn line_end(&mut self, out: &mut Vec<u8>) {
        self.line_break(b"\r\n", out);
        self.starts_line = true;
        self.of_code = 0;
    }
}

/// Whether 7bit allows this octet within a line (RFC 2045 2.7).
fn is_allowed(octet: u8) -> bool {
    octet.is_ascii() && !b"\0\r\n".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(mut mended: Mended, lines: &[&[u8]]) -> String {
        let mut out = Vec::new();
        for line in lines {
            mended.text(line, &mut out);
            mended.line_end(&mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quoted_printable_keeps_what_is_allowed() {
        for (line, expected) in [
            (&b""[..], ""),
            (b"--b =3D=c3 = \t", "--b =3D=c3 = \t"),
            ("=C3=BC ü =3d.=".as_bytes(), "=C3=BC =C3=BC =3d.="),
            (b"a\0b\rc\nd", "a=00b=0Dc=0Ad"),
            (b"soft=\n--break\xFF", "soft=\r\n=2D-break=FF"),
            (b"stray=\xFF", "stray=3D=FF"),
            (b"--b\xFF", "=2D-b=FF"),
        ] {
            assert_eq!(
                mended(Mended::quoted_printable(), &[line]),
                format!("{expected}\r\n")
            );
        }
    }

    #[test]
    fn base64_leaves_out_what_is_not_allowed() {
        for (line, expected) in [
            (&b"--b"[..], "--b"),
            ("Zm9vüYmFy".as_bytes(), "Zm9vYmFy"),
            (b"a\0b\rc\nd", "abcd"),
            (b"\xFF--b", "b"),
            (b"--b\r", "b"),
            (b"\xFF", ""),
        ] {
            assert_eq!(mended(Mended::base64(), &[line]), format!("{expected}\r\n"));
        }
    }

    #[test]
    fn long_lines_are_broken_and_no_code_is_cut() {
        for before in 980..1000 {
            let line = ["x".repeat(before), "=C3=BCü--b".repeat(500)].concat();
            let out = mended(Mended::quoted_printable(), &[line.as_bytes()]);
            for line in out.lines() {
                assert!(line.len() <= 998 && !line.starts_with('-'), "{line}");
                let whole = line.strip_suffix('=').unwrap_or(line);
                assert!(
                    !whole.ends_with('=') && !whole[whole.len() - 2..].starts_with('='),
                    "{line}"
                );
            }
            let joined = out.replace("=\r\n", "").replace("=2D", "-");
            assert_eq!(joined.trim_end(), line.replace('ü', "=C3=BC"));
            let line = ["x".repeat(before), "abcd".repeat(500)].concat();
            let out = mended(Mended::base64(), &[line.as_bytes()]);
            assert!(out.lines().all(|line| line.len() <= 998));
            assert_eq!(out.replace("\r\n", ""), line);
        }
    }
}
