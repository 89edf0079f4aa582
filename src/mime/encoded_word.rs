//! Text of a header field as encoded words (RFC 2047 2, 4).
//!
//! Never cuts a character, and never decides where an encoded word may stand.

use data_encoding::BASE64;

/// The longest encoded word, in octets (RFC 2047 2).
pub(super) const LONGEST: usize = 75;

/// What the octets of a field stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// UTF-8, which nothing else looks like.
    Utf8,
    /// Nobody has said it (RFC 1428).
    Unknown,
}

impl Charset {
    /// The charset of this field.
    pub fn of(field: &[u8]) -> Charset {
        if str::from_utf8(field).is_ok() {
            Charset::Utf8
        } else {
            Charset::Unknown
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Charset::Utf8 => "utf-8",
            Charset::Unknown => "unknown-8bit",
        }
    }

    /// What must not be cut: characters, or octets where nobody knows better.
    pub fn characters(self, text: &[u8]) -> impl Iterator<Item = &[u8]> {
        text.chunk_by(move |_, next| self == Charset::Utf8 && next & 0xC0 == 0x80)
    }
}

/// Whether this is an encoded word already.
pub(super) fn is_encoded_word(word: &[u8]) -> bool {
    let inside = word.strip_prefix(b"=?").and_then(|word| word.strip_suffix(b"?="));
    let mut parts = inside.unwrap_or_default().split(|&octet| octet == b'?');
    let (charset, encoding, text) = (parts.next(), parts.next(), parts.next());
    charset.is_some_and(|charset| !charset.is_empty())
        && matches!(encoding, Some(b"b" | b"B" | b"q" | b"Q"))
        && text.is_some()
        && parts.next().is_none()
        && word.iter().all(u8::is_ascii_graphic)
}

/// Whether this octet stands for itself in the Q encoding, wherever the word does (RFC 2047 5 (3)).
fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!*+-/".contains(&octet)
}

/// How long this is in the Q encoding.
fn quoted_length(text: &[u8]) -> usize {
    let is_short = |octet: &&u8| is_plain(**octet) || **octet == b' ';
    3 * text.len() - 2 * text.iter().filter(is_short).count()
}

/// Encodes one text, word by word.
#[derive(Debug)]
pub(super) struct EncodedWords<'t> {
    rest: &'t [u8],
    charset: Charset,
    /// As Q; else as B.
    quoted: bool,
}

impl<'t> EncodedWords<'t> {
    /// Of this text, in the encoding that is shorter.
    pub fn of(text: &'t [u8], charset: Charset) -> EncodedWords<'t> {
        EncodedWords {
            rest: text,
            charset,
            quoted: quoted_length(text) <= BASE64.encode_len(text.len()),
        }
    }

    /// Whether all of the rest goes into one word of at most `room` octets.
    pub fn fit(&self, room: usize) -> bool {
        self.fitting(room) == self.rest.len()
    }

    /// How much of the rest goes into one word.
    fn fitting(&self, room: usize) -> usize {
        let around = "=??Q??=".len() + self.charset.name().len();
        let room = room.min(LONGEST).saturating_sub(around);
        let (mut taken, mut quoted) = (0, 0);
        for character in self.charset.characters(self.rest) {
            let after = taken + character.len();
            quoted += quoted_length(character);
            let length = if self.quoted {
                quoted
            } else {
                BASE64.encode_len(after)
            };
            if length > room {
                break;
            }
            taken = after;
        }
        taken
    }

    /// The next word, of at most `room` octets. `None` if nothing is left, or not even a character has room, as it
    /// has in 40.
    pub fn next(&mut self, room: usize) -> Option<Vec<u8>> {
        let (text, rest) = self.rest.split_at(self.fitting(room));
        self.rest = rest;
        (!text.is_empty()).then(|| {
            let (letter, text) = if self.quoted {
                ('Q', quoted(text))
            } else {
                ('B', BASE64.encode(text))
            };
            format!("=?{}?{letter}?{text}?=", self.charset.name()).into_bytes()
        })
    }
}

fn quoted(text: &[u8]) -> String {
    let mut out = String::new();
    for &octet in text {
        match octet {
            b' ' => out.push('_'),
            octet if is_plain(octet) => out.push(char::from(octet)),
            octet => out += &format!("={octet:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[u8], room: usize) -> Vec<String> {
        let mut words = EncodedWords::of(text, Charset::of(text));
        std::iter::from_fn(|| words.next(room).map(|word| String::from_utf8(word).unwrap())).collect()
    }

    #[test]
    fn the_shorter_encoding_is_taken() {
        assert_eq!(
            words("Grüße, _a".as_bytes(), 75),
            ["=?utf-8?B?R3LDvMOfZSwgX2E=?="]
        );
        assert_eq!(
            words("Grün ist das Meer".as_bytes(), 75),
            ["=?utf-8?Q?Gr=C3=BCn_ist_das_Meer?="]
        );
        assert_eq!(words(b"\xFC", 75), ["=?unknown-8bit?Q?=FC?="]);
        assert_eq!(words("日本".as_bytes(), 75), ["=?utf-8?B?5pel5pys?="]);
        assert_eq!(words(b"", 75), [""; 0]);
    }

    #[test]
    fn no_word_is_longer_than_its_room_and_no_character_is_cut() {
        for room in 40..80 {
            for text in ["ü".repeat(90), "x".repeat(90) + "ü", "😀a ".repeat(40)] {
                let words = words(text.as_bytes(), room);
                let parsed = format!("S: {}", words.join("\r\n "));
                let (field, _) = mailparse::parse_header(parsed.as_bytes()).unwrap();
                // A word that ends within a character would decode to something else.
                assert_eq!(field.get_value(), text);
                assert!(words.iter().all(|word| word.len() <= room.min(75)), "{words:?}");
            }
        }
        assert_eq!(words("ü".as_bytes(), 12), [""; 0]);
    }

    #[test]
    fn an_encoded_word_is_known_by_its_form() {
        assert!(is_encoded_word(b"=?utf-8?q?a?="));
        assert!(is_encoded_word(b"=?x*en?B??="));
        for word in [
            &b"=?="[..],
            b"=??q?a?=",
            b"=?x?a?=",
            b"=?x?c?a?=",
            b"=?x?q?a?b?=",
            b"=?x?q?a?=,",
            b"=?x?q?\xFC?=",
            b"",
        ] {
            assert!(!is_encoded_word(word), "{}", word.escape_ascii());
        }
    }
}
