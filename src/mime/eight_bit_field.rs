//! A header field with octets above 127, written without any: as encoded words (RFC 2047) or extended parameters
//! (RFC 2231) wherever its grammar has room for them.
//!
//! Linear in the field, and never longer than sixteen times what it was. Never asks what was meant where it cannot be
//! said: an address is refused, for only SMTPUTF8 carries it, and so is a boundary; in what people do not read, an
//! octet above 127 becomes a question mark, which is better than a bounce.

use super::Unsuitable;
use super::encoded_word::Charset;
use super::folding::Folding;
use super::structured::{self, Outside, Tokens};
use super::{field, parameters};

/// What a field is made of, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Words of text, each of which may be an encoded word (RFC 2047 5 (1)).
    Text,
    /// Addresses with names, which may (5 (3)).
    Addresses,
    /// The same, and nobody is bounced for an address in it.
    NamesAndWhatever,
    /// A token and parameters (RFC 2045 5.1, RFC 2183 2).
    Parameters,
    /// Anything else that has a grammar: only comments may (5 (2)).
    Structured,
}

impl Form {
    /// The form of the field of this name; that of those that nobody knows is text.
    fn of(name: &[u8]) -> Form {
        const ADDRESSES: &[&str] = &["From", "Sender", "Reply-To", "To", "Cc", "Bcc"];
        const NAMES: &[&str] = &[
            "List-Id",
            "Keywords",
            "Disposition-Notification-To",
            "Mail-Followup-To",
            "Mail-Reply-To",
        ];
        const PARAMETERS: &[&str] = &["Content-Type", "Content-Disposition"];
        // A name that is empty is that of the first line of a mailbox file.
        const STRUCTURED: &[&str] = &[
            "",
            "Received",
            "Return-Path",
            "Date",
            "Message-ID",
            "In-Reply-To",
            "References",
            "MIME-Version",
            "Content-ID",
            "Content-Transfer-Encoding",
            "Content-Language",
            "Content-Location",
            "Content-MD5",
            "Auto-Submitted",
            "Received-SPF",
            "Authentication-Results",
            "DKIM-Signature",
        ];
        let bare = without_prefix(name, "Resent-").unwrap_or(name);
        let is_one_of = |names: &[&str], name: &[u8]| {
            names
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        };
        if is_one_of(ADDRESSES, bare) {
            Form::Addresses
        } else if is_one_of(NAMES, name) {
            Form::NamesAndWhatever
        } else if is_one_of(PARAMETERS, name) {
            Form::Parameters
        } else if is_one_of(STRUCTURED, bare)
            || without_prefix(name, "List-").is_some()
            || without_prefix(name, "ARC-").is_some()
        {
            Form::Structured
        } else {
            Form::Text
        }
    }
}

fn without_prefix<'n>(name: &'n [u8], prefix: &str) -> Option<&'n [u8]> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// Appends a field, with its line end if it has one, in ASCII.
///
/// # Errors
/// When an address or a boundary in it is not ASCII.
pub(super) fn write(field: &[u8], out: &mut Vec<u8>) -> Result<(), Unsuitable> {
    let (content, line_end) = match field.strip_suffix(b"\r\n") {
        Some(content) => (content, &b"\r\n"[..]),
        None => (field, &b""[..]),
    };
    let name = field::name(content).unwrap_or_default();
    let colon = content.iter().position(|&octet| octet == b':');
    let (start, value) = match colon {
        Some(colon) if !name.is_empty() => content.split_at(colon + 1),
        _ => (&b""[..], content),
    };
    let mut folding = Folding::behind(start, Charset::of(field), out);
    match Form::of(name) {
        Form::Text => write_text(value, &mut folding),
        Form::Addresses => structured::write_addresses(value, false, &mut folding)?,
        Form::NamesAndWhatever => structured::write_addresses(value, true, &mut folding)?,
        Form::Parameters => {
            parameters::write(value, name.eq_ignore_ascii_case(b"Content-Type"), &mut folding)?;
        }
        Form::Structured => structured::write(Tokens::of(value, false), Outside::Replaced, &mut folding)?,
    }
    folding.finish();
    out.extend_from_slice(line_end);
    Ok(())
}

fn write_text(value: &[u8], folding: &mut Folding<'_>) {
    let is_blank = |octet: &u8| b" \t\r\n".contains(octet);
    for piece in value.chunk_by(|one, next| is_blank(one) == is_blank(next)) {
        if piece.first().is_some_and(is_blank) {
            folding.blank(piece);
        } else if piece.is_ascii() {
            folding.word(piece);
        } else {
            folding.text(piece);
        }
    }
}

#[cfg(test)]
mod tests;
