//! The header fields that say what a body is: Content-Type and Content-Transfer-Encoding (RFC 2045 5.1, 6.1).
//!
//! Reads no more of them than the way through the structure needs, in one pass over the field. Never fails: what
//! cannot be read is not there.

/// The longest boundary, in octets (RFC 2046 5.1.1 allows 70).
const LONGEST_BOUNDARY: usize = 200;

/// The name of the field that begins with this line (RFC 5322 2.2; white space before the colon is let pass, 4.5).
/// `None` if no field begins here.
#[must_use]
pub fn name(line: &[u8]) -> Option<&[u8]> {
    let length = line.iter().position(|&octet| !is_name_octet(octet))?;
    let after = line[length..].iter().find(|&&octet| !is_blank(octet))?;
    (length > 0 && *after == b':').then(|| &line[..length])
}

/// Whether this octet may stand in the name of a field: printable ASCII without the colon (RFC 5322 2.2).
#[must_use]
pub fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && octet != b':'
}

fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

/// What a Content-Transfer-Encoding says about a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    /// 7bit; also where the field is missing.
    #[default]
    SevenBit,
    /// 8bit or binary, or what is meant for one: the octets are what they are.
    Plain,
    QuotedPrintable,
    Base64,
    /// An encoding of somebody's own, whose name begins with `x-` (RFC 2045 6.3).
    Private,
}

impl Encoding {
    /// Reads the value of a Content-Transfer-Encoding.
    pub fn of(value: &[u8]) -> Encoding {
        let word = Scanner(value).word();
        let is_one_of = |names: &[&str]| {
            names
                .iter()
                .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        if is_one_of(&["7bit", ""]) {
            Encoding::SevenBit
        } else if is_one_of(&["quoted-printable"]) {
            Encoding::QuotedPrintable
        } else if is_one_of(&["base64"]) {
            Encoding::Base64
        } else if word
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"x-"))
        {
            Encoding::Private
        } else {
            Encoding::Plain
        }
    }
}

/// What a Content-Type says, as far as the structure hangs on it. All in lower case but the boundary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ContentType {
    /// `multipart` of `multipart/mixed`.
    pub kind: Vec<u8>,
    /// `mixed` of `multipart/mixed`.
    pub subtype: Vec<u8>,
    /// The parameter of that name.
    pub boundary: Option<Vec<u8>>,
}

impl ContentType {
    /// Reads the value of a Content-Type, folded or not.
    pub fn of(value: &[u8]) -> ContentType {
        let mut scanner = Scanner(value);
        let kind = scanner.token().to_ascii_lowercase();
        let subtype = if scanner.takes(b'/') {
            scanner.token().to_ascii_lowercase()
        } else {
            Vec::new()
        };
        ContentType {
            kind,
            subtype,
            boundary: boundary(scanner),
        }
    }
}

/// The first boundary among the parameters; else one that is made of segments (RFC 2231 3).
fn boundary(mut scanner: Scanner<'_>) -> Option<Vec<u8>> {
    let mut segments: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut whole = None;
    while scanner.skip_to_parameter() {
        let attribute = scanner.token().to_ascii_lowercase();
        if !scanner.takes(b'=') {
            continue;
        }
        let value = scanner.value();
        let Some(section) = attribute.strip_prefix(b"boundary") else {
            continue;
        };
        // RFC 2231 4: a star at the end says that the value is encoded.
        let (section, value) = match section.strip_suffix(b"*") {
            Some(section) => (section, decoded(&value, matches!(section, b"" | b"*0"))),
            None => (section, value),
        };
        match section.strip_prefix(b"*") {
            _ if section.is_empty() => {
                whole.get_or_insert(value);
            }
            Some(number) => {
                let number = str::from_utf8(number).ok().and_then(|number| number.parse().ok());
                segments.extend(number.map(|number| (number, value)));
            }
            None => {}
        }
    }
    segments.sort_by_key(|(number, _)| *number);
    let is_whole = |(at, (number, _)): (usize, &(u32, Vec<u8>))| usize::try_from(*number) == Ok(at);
    if whole.is_none() && !segments.is_empty() && segments.iter().enumerate().all(is_whole) {
        whole = Some(segments.into_iter().flat_map(|(_, value)| value).collect());
    }
    // RFC 2046 5.1.1: it does not end with white space.
    let whole = whole?.trim_ascii_end().to_vec();
    // What 7bit does not allow has no place in a delimiter.
    let is_clean = whole.is_ascii() && !whole.iter().any(|octet| b"\0\r\n".contains(octet));
    (is_clean && (1..=LONGEST_BOUNDARY).contains(&whole.len())).then_some(whole)
}

/// The octets of an extended value (RFC 2231 4), without charset and language if it begins with them.
fn decoded(value: &[u8], begins: bool) -> Vec<u8> {
    let text = if begins {
        value.splitn(3, |&octet| octet == b'\'').nth(2).unwrap_or(value)
    } else {
        value
    };
    let digit = |octet: Option<&u8>| {
        char::from(*octet?)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut octets = Vec::new();
    let mut at = 0;
    while let Some(&octet) = text.get(at) {
        match (octet, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                octets.push(high << 4 | low);
                at += 3;
            }
            _ => {
                octets.push(octet);
                at += 1;
            }
        }
    }
    octets
}

/// What is left of a structured value.
struct Scanner<'v>(&'v [u8]);

impl<'v> Scanner<'v> {
    /// Passes over white space, folding and comments (RFC 5322 3.2.2).
    fn skip_blanks(&mut self) {
        let mut depth = 0_usize;
        while let Some((&octet, rest)) = self.0.split_first() {
            match octet {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\\' if depth > 0 => {
                    self.0 = rest.get(1..).unwrap_or_default();
                    continue;
                }
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if depth > 0 => {}
                _ => return,
            }
            self.0 = rest;
        }
    }

    fn takes(&mut self, octet: u8) -> bool {
        self.skip_blanks();
        let taken = self.0.first() == Some(&octet);
        if taken {
            self.0 = &self.0[1..];
        }
        taken
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'v [u8] {
        self.skip_blanks();
        let length = self
            .0
            .iter()
            .position(|&octet| !belongs(octet))
            .unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn token(&mut self) -> &'v [u8] {
        self.take_while(|octet| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&octet))
    }

    /// What others than RFC 2045 take for a token: `----=_Part_1` is often seen without quotes.
    fn word(&mut self) -> &'v [u8] {
        self.take_while(|octet| octet.is_ascii_graphic() && !b"();\"".contains(&octet))
    }

    fn value(&mut self) -> Vec<u8> {
        if !self.takes(b'"') {
            return self.word().to_vec();
        }
        let mut value = Vec::new();
        while let Some((&octet, rest)) = self.0.split_first() {
            self.0 = rest;
            match octet {
                b'"' => break,
                b'\\' => {
                    value.extend(rest.first());
                    self.0 = rest.get(1..).unwrap_or_default();
                }
                b'\r' | b'\n' => {}
                octet => value.push(octet),
            }
        }
        value
    }

    /// Goes behind the next semicolon that is neither quoted nor in a comment.
    fn skip_to_parameter(&mut self) -> bool {
        loop {
            if self.takes(b';') {
                return true;
            }
            match self.0.first() {
                None => return false,
                Some(b'"') => drop(self.value()),
                Some(_) => self.0 = &self.0[1..],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundary_of(value: &str) -> Option<String> {
        ContentType::of(value.as_bytes())
            .boundary
            .map(|boundary| String::from_utf8(boundary).unwrap())
    }

    #[test]
    fn a_name_ends_at_its_colon() {
        assert_eq!(name(b"Subject: x"), Some(&b"Subject"[..]));
        assert_eq!(name(b"Subject \t: x"), Some(&b"Subject"[..]));
        for line in [
            &b""[..],
            b":",
            b" : x",
            b"no colon",
            b"From a: b",
            b"S\xFCb: x",
            b"S\0: x",
            b"--b",
        ] {
            assert_eq!(name(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_type_is_read_through_folding_comments_and_capitals() {
        let read = ContentType::of(b" (a (nested\\) one)) Multipart / (x) Mixed ;\r\n\tboundary=b");
        assert_eq!(
            (&read.kind[..], &read.subtype[..]),
            (&b"multipart"[..], &b"mixed"[..])
        );
        assert_eq!(read.boundary.as_deref(), Some(&b"b"[..]));
        let read = ContentType::of(b" text");
        assert_eq!((&read.kind[..], &read.subtype[..]), (&b"text"[..], &b""[..]));
        assert_eq!(ContentType::of(b" ;/"), ContentType::default());
    }

    #[test]
    fn a_boundary_is_found_however_it_is_written() {
        for (parameters, expected) in [
            ("boundary=b", Some("b")),
            ("BOUNDARY = b", Some("b")),
            ("boundary=----=_Part_1:/2; x=y", Some("----=_Part_1:/2")),
            ("boundary=\"a b;(c)\\\"\\\\ \"", Some("a b;(c)\"\\")),
            ("boundary=\"folded\r\n here\"", Some("folded here")),
            ("boundary=b(comment)", Some("b")),
            ("x=\"; boundary=no\"; boundary=b", Some("b")),
            ("x; =; boundary=b", Some("b")),
            ("(; boundary=no) ; boundary=b; boundary=c", Some("b")),
            ("boundary*=us-ascii'en'a%20b%2", Some("a b%2")),
            ("boundary*1=\"b\"; boundary*0=a; boundary*2*=%63", Some("abc")),
            ("boundary*0*=''%61; boundary*1='b'", Some("a'b'")),
            ("boundary*1=b", None),
            ("boundary=\"\"", None),
            ("boundary=\"  \"", None),
            ("boundary*=utf-8''%C3%BC", None),
            ("boundary*=us-ascii''a%00", None),
            ("boundary*=us-ascii''a%0Db", None),
            ("boundary", None),
            ("boundaries=b", None),
            ("", None),
        ] {
            let value = format!("multipart/mixed; {parameters}");
            assert_eq!(boundary_of(&value).as_deref(), expected, "{value}");
        }
        assert_eq!(boundary_of(&format!("a/b; boundary={}", "x".repeat(201))), None);
    }

    #[test]
    fn an_encoding_is_one_word() {
        for (value, expected) in [
            (" 7bit", Encoding::SevenBit),
            ("", Encoding::SevenBit),
            (" (c) Base64 (d)", Encoding::Base64),
            ("\r\n Quoted-Printable;", Encoding::QuotedPrintable),
            (" 8BIT", Encoding::Plain),
            (" binary", Encoding::Plain),
            (" 8-bit", Encoding::Plain),
            (" X-uue", Encoding::Private),
        ] {
            assert_eq!(Encoding::of(value.as_bytes()), expected, "{value}");
        }
    }
}
