//! One header field of a message: its name, its text, its parameters.
//!
//! mailparse decodes them (RFC 2047, RFC 2231); what stands here keeps its work bounded, whatever a stranger
//! wrote. Never fails: what cannot be decoded is taken as it stands. Never reads more than it is given.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mailparse::{parse_content_disposition, parse_content_type, parse_header};
use memchr::{memchr_iter, memmem};

/// What decoding may still cost for one message, in octets looked at.
///
/// mailparse searches each encoded word from each start to each end, so that some kilobytes of `=?` cost
/// minutes. A field that would cost more than what is left is not decoded, only cleaned.
#[derive(Debug)]
pub struct Effort(usize);

impl Effort {
    fn spend(&mut self, cost: usize) -> bool {
        let affordable = cost <= self.0;
        if affordable {
            self.0 -= cost;
        }
        affordable
    }
}

/// Some tens of milliseconds; an ordinary message spends a ten-thousandth of it.
impl Default for Effort {
    fn default() -> Effort {
        Effort(20_000_000)
    }
}

/// The text of a field's value, decoded to UTF-8, unfolded, clean of controls, at most `longest` characters.
/// `value` is what stands after the colon; its lines are separated by LF.
#[must_use]
pub fn text(value: &[u8], longest: usize, effort: &mut Effort) -> String {
    let decoded = effort.spend(cost_of_words(value)).then(|| {
        let field = [b"x:", value].concat();
        parse_header(&field).ok().map(|(header, _)| header.get_value())
    });
    match decoded.flatten() {
        Some(text) => clean(&text, longest),
        None => clean(&plain(value), longest),
    }
}

/// What mailparse may look at to find the encoded words of these lines: from each start to each end, and
/// from the line's beginning for each of them.
fn cost_of_words(value: &[u8]) -> usize {
    value
        .split(|&octet| octet == b'\n')
        .map(|line| {
            let starts = memmem::find_iter(line, b"=?").count();
            let ends = memmem::find_iter(line, b"?=").count();
            starts * (ends + 1) * line.len()
        })
        .sum()
}

/// The value as it stands: as UTF-8, or as Latin-1 if it is not.
fn plain(value: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        // A value that was cut inside of a character is still UTF-8.
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(&value[..error.valid_up_to()]),
        Err(_) => Cow::Owned(value.iter().map(|&octet| char::from(octet)).collect()),
    }
}

/// `text` with a space for each control and for each character that would change the direction of a console's
/// line, without white space at its ends, at most `longest` characters.
#[must_use]
pub fn clean(text: &str, longest: usize) -> String {
    let turns =
        |c: char| matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let spaced: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() || turns(c) { ' ' } else { c })
        .take(longest)
        .collect();
    spaced.trim().to_owned()
}

/// The value and the parameters of a Content-Type (RFC 2045 5.1).
#[derive(Debug, Default)]
pub struct ContentType {
    /// The type in lower case, such as `multipart/mixed`; empty if there was none.
    pub mimetype: String,
    /// The parameters, RFC 2231 decoded, names in lower case.
    pub parameters: BTreeMap<String, String>,
}

/// Reads the value of a Content-Type. Encoded words stay: a boundary may look like one.
#[must_use]
pub fn content_type(value: &[u8], effort: &mut Effort) -> ContentType {
    if !effort.spend(cost_of_parameters(value)) {
        return ContentType::default();
    }
    let parsed = parse_content_type(&unfolded(value));
    ContentType {
        mimetype: parsed.mimetype,
        parameters: parsed.params,
    }
}

/// The parameters of a Content-Disposition (RFC 2183), RFC 2231 decoded, names in lower case.
#[must_use]
pub fn disposition_parameters(value: &[u8], effort: &mut Effort) -> BTreeMap<String, String> {
    if !effort.spend(cost_of_parameters(value)) {
        return BTreeMap::new();
    }
    parse_content_disposition(&unfolded(value)).params
}

/// mailparse compares each continued parameter with every other one.
fn cost_of_parameters(value: &[u8]) -> usize {
    let parameters = memchr_iter(b';', value).count();
    parameters * parameters * 8
}

/// Without the line ends of folding; the white space that follows them stays (RFC 5322 2.2.3).
fn unfolded(value: &[u8]) -> String {
    plain(value).replace(['\r', '\n'], "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(value: &str) -> String {
        text(value.as_bytes(), 500, &mut Effort::default())
    }

    #[test]
    fn encoded_words_become_text() {
        assert_eq!(
            decoded(" =?utf-8?B?R3LDvMOfZQ==?=\n =?utf-8?Q?_an_alle?="),
            "Grüße an alle"
        );
        assert_eq!(decoded(" =?iso-8859-1?Q?se=F1or?= x"), "señor x");
        assert_eq!(decoded(" =?no-such-charset?Q?x?="), "=?no-such-charset?Q?x?=");
    }

    #[test]
    fn bare_eight_bit_is_utf_8_else_latin_1() {
        assert_eq!(decoded(" Grüße"), "Grüße");
        assert_eq!(text(b" Gr\xFC\xDFe", 500, &mut Effort::default()), "Grüße");
        assert_eq!(plain(b"Gr\xC3\xBC\xC3"), "Grü");
    }

    #[test]
    fn controls_become_spaces_and_length_is_bounded() {
        assert_eq!(decoded("\0 a\x1b[31m\r\u{202E}b\x7f "), "a [31m  b");
        assert_eq!(decoded("=?utf-8?Q?a=0D=0Ab?="), "a  b");
        assert_eq!(clean(&"ü".repeat(900), 500), "ü".repeat(500));
    }

    #[test]
    fn ten_thousand_starts_of_words_cost_nothing() {
        let hostile = "(=?a?=b ".repeat(1000);
        let started = std::time::Instant::now();
        let mut effort = Effort::default();
        for _ in 0..1000 {
            assert!(text(hostile.as_bytes(), 500, &mut effort).starts_with("(=?a?=b (=?"));
        }
        assert!(started.elapsed().as_secs() < 10);
    }

    #[test]
    fn continued_parameters_are_joined() {
        let value = b" application/pdf;\n name*0*=utf-8''%E2%82%AC;\n name*1=\" 5.pdf\"; x=\"a;b\"";
        let read = content_type(value, &mut Effort::default());
        assert_eq!(read.mimetype, "application/pdf");
        assert_eq!(read.parameters["name"], "€ 5.pdf");
        assert_eq!(read.parameters["x"], "a;b");
    }

    proptest! {
        #[test]
        fn no_parameter_stops_the_reader(value in "[a-b*0-2=;'%\" \\\\]{0,60}") {
            let mut effort = Effort::default();
            let _ = content_type(value.as_bytes(), &mut effort);
            let _ = disposition_parameters(value.as_bytes(), &mut effort);
        }

        #[test]
        fn no_encoded_word_stops_the_reader(value in "([=?QqBb(\n a]|utf-8|=FF|ü|\0){0,40}") {
            prop_assert!(!decoded(&value).contains(char::is_control));
        }
    }
}
