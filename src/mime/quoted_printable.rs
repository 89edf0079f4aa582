//! Text as quoted-printable (RFC 2045 6.7).
//!
//! Line ends stay line ends. Besides what has to be encoded, so is at the start of a line what others stumble over: a
//! dot and `From ` (RFC 2049 3), and `--`, so that no line becomes a delimiter where a long one is cut.

/// The longest line, without the `=` of a soft line break.
const LONGEST_LINE: usize = 75;

/// What stands for an octet that may not stand for itself (RFC 2045 6.7, rule 1).
pub(super) fn code(octet: u8) -> [u8; 3] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    [b'=', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]
}

/// Encodes one text.
#[derive(Debug, Default)]
pub(super) struct QuotedPrintable {
    /// The length of the encoded line under way.
    column: usize,
}

impl QuotedPrintable {
    /// Appends a line or a part of one, without its line end.
    pub fn text(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for (at, &octet) in octets.iter().enumerate() {
            let rest = &octets[at..];
            let mut plain = self.is_plain(rest);
            let length = if plain { 1 } else { 3 };
            if self.column + length > LONGEST_LINE {
                out.extend_from_slice(b"=\r\n");
                self.column = 0;
                plain = self.is_plain(rest);
            }
            if plain {
                out.push(octet);
                self.column += 1;
            } else {
                out.extend_from_slice(&code(octet));
                self.column += 3;
            }
        }
    }

    /// Whether the first of these octets may stand for itself.
    fn is_plain(&self, rest: &[u8]) -> bool {
        let starts_line = self.column == 0;
        match rest[0] {
            // What is the last of a piece may be the last of its line.
            b' ' | b'\t' => rest.len() > 1,
            b'=' => false,
            b'.' => !starts_line,
            b'-' => !starts_line || rest.get(1).is_some_and(|&next| next != b'-'),
            b'F' => !starts_line || !rest.starts_with(b"From "),
            octet => octet.is_ascii_graphic(),
        }
    }

    /// Appends a line end.
    pub fn line_end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    /// Ends the text where the content ends. If that is within a line, a soft line break keeps it so, whoever adds a
    /// line end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.column > 0 {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &[u8]) -> String {
        let mut encoder = QuotedPrintable::default();
        let mut out = Vec::new();
        encoder.text(text, &mut out);
        encoder.line_end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_not_plain_is_encoded() {
        for (text, expected) in [
            (&b""[..], ""),
            ("Grüße = schön".as_bytes(), "Gr=C3=BC=C3=9Fe =3D sch=C3=B6n"),
            (b"two \t", "two =09"),
            (b" ", "=20"),
            (b"a\0b\rc\x7f", "a=00b=0Dc=7F"),
            (b".", "=2E"),
            (b"..a.", "=2E.a."),
            (b"From here", "=46rom here"),
            (b"Fromage, From ", "Fromage, From=20"),
            (b"--b", "=2D-b"),
            (b"- b", "- b"),
            (b"a--b", "a--b"),
        ] {
            assert_eq!(encoded(text), format!("{expected}\r\n"));
        }
    }

    #[test]
    fn no_line_is_longer_than_76_and_no_code_is_cut() {
        for before in 70..80 {
            let text = [
                &b"x".repeat(before)[..],
                "ü--b \n.From ü".as_bytes(),
                &b"y".repeat(90),
            ]
            .concat();
            let out = encoded(&text);
            for line in out.lines() {
                assert!(
                    line.len() <= 76 && !line.starts_with("--") && !line.starts_with("From "),
                    "{line}"
                );
                assert!(!line.ends_with("=C") && !line.ends_with(' '), "{line}");
            }
            assert_eq!(out.replace("=\r\n", "").matches("=C3=BC").count(), 2, "{out}");
        }
    }
}
