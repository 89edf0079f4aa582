//! The parameters of a Content-Type or Content-Disposition with octets above 127, as extended ones (RFC 2231 3, 4).
//!
//! Never touches a parameter without any, and never a boundary, which the body has, too. What has an extended form
//! already, or a name that nobody uses, gets question marks.

use std::collections::HashSet;

use super::Unsuitable;
use super::field::ContentType;
use super::folding::Folding;
use super::structured::{self, Outside, Token, Tokens, append_text};

/// The longest name of a parameter that is extended, in octets.
const LONGEST_NAME: usize = 40;
/// The longest parameter or segment of one, in octets, with its semicolon.
const LONGEST_SEGMENT: usize = 75;

/// A parameter, or what stands before the first.
struct Parameter<'v> {
    tokens: std::iter::Take<Tokens<'v>>,
    has_semicolon: bool,
}

/// The parameters of a value, cut at their semicolons.
fn parameters(value: &[u8]) -> impl Iterator<Item = Parameter<'_>> {
    let mut rest = Some(Tokens::of(value, false));
    std::iter::from_fn(move || {
        let mut tokens = rest.take()?;
        let start = tokens.clone();
        let mut length = 0;
        let has_semicolon = loop {
            match tokens.next() {
                Some((Token::Special, b";")) => break true,
                Some(_) => length += 1,
                None => break false,
            }
        };
        rest = has_semicolon.then_some(tokens);
        Some(Parameter {
            tokens: start.take(length),
            has_semicolon,
        })
    })
}

impl Parameter<'_> {
    /// Its name, in lower case, and its value. Comments are left out, and so are quotation marks; white space within
    /// is what others forgot to quote.
    fn read(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut name, mut value, mut is_named) = (Vec::new(), Vec::new(), false);
        let mut end = 0;
        for (token, octets) in self.tokens.clone().filter(|(token, _)| *token != Token::Comment) {
            match octets.iter().position(|&octet| octet == b'=') {
                Some(at) if !is_named && token == Token::Atom => {
                    name.extend_from_slice(&octets[..at]);
                    value.extend_from_slice(&octets[at + 1..]);
                    is_named = true;
                }
                _ if is_named && value.is_empty() && token == Token::Blank => {}
                _ if is_named => append_text(token, octets, &mut value),
                _ => append_text(token, octets, &mut name),
            }
            if token != Token::Blank {
                end = value.len();
            }
        }
        value.truncate(end);
        (name.trim_ascii().to_ascii_lowercase(), value)
    }

    fn is_eight_bit(&self) -> bool {
        self.tokens
            .clone()
            .any(|(token, octets)| token != Token::Comment && !octets.is_ascii())
    }
}

/// Writes the value of a Content-Type (`of_type`) or Content-Disposition.
pub(super) fn write(value: &[u8], of_type: bool, folding: &mut Folding<'_>) -> Result<(), Unsuitable> {
    let is_multipart = of_type && ContentType::of(value).kind == b"multipart";
    // Of `name*0*` and `name*` this is `name`.
    let extended: HashSet<Vec<u8>> = parameters(value)
        .skip(1)
        .filter_map(|parameter| {
            let (name, _) = parameter.read();
            let star = name.iter().position(|&octet| octet == b'*')?;
            Some(name[..star].to_vec())
        })
        .collect();
    for (number, parameter) in parameters(value).enumerate() {
        let (name, text) = if number > 0 && parameter.is_eight_bit() {
            parameter.read()
        } else {
            Default::default()
        };
        if is_multipart && (name == b"boundary" || name.starts_with(b"boundary*")) {
            return Err(Unsuitable::EightBitBoundary);
        }
        if is_extendable(&name) && !text.is_ascii() && !extended.contains(&name) {
            write_extended(&name, &text, folding);
        } else {
            structured::write(parameter.tokens, Outside::Replaced, folding)?;
        }
        if parameter.has_semicolon {
            folding.word(b";");
        }
    }
    Ok(())
}

/// RFC 2045 5.1, RFC 2231 7.
fn is_extendable(name: &[u8]) -> bool {
    let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.".contains(octet);
    (1..=LONGEST_NAME).contains(&name.len()) && name.iter().all(is_plain)
}

/// Writes an extended parameter, in segments if it is long.
fn write_extended(name: &[u8], text: &[u8], folding: &mut Folding<'_>) {
    let name = String::from_utf8_lossy(name);
    let charset = folding.charset();
    let mut segments = vec![format!("{}''", charset.name())];
    let room = |number: usize| LONGEST_SEGMENT - format!("{name}*{number}*=;").len();
    for character in charset.characters(text) {
        let encoded = percent_encoded(character);
        let number = segments.len() - 1;
        match segments.last_mut() {
            Some(segment) if segment.len() + encoded.len() <= room(number) => segment.push_str(&encoded),
            _ => segments.push(encoded),
        }
    }
    let is_one = segments.len() == 1;
    for (number, segment) in segments.iter().enumerate() {
        let starred = if is_one {
            String::new()
        } else {
            format!("*{number}")
        };
        folding.blank(b" ");
        folding.word(format!("{name}{starred}*={segment}").as_bytes());
        if number + 1 < segments.len() {
            folding.word(b";");
        }
    }
}

fn percent_encoded(octets: &[u8]) -> String {
    let mut out = String::new();
    for &octet in octets {
        if octet.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out += &format!("%{octet:02X}");
        }
    }
    out
}
