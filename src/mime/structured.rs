//! Structured fields with octets above 127: what may be encoded in them, and what becomes of the rest
//! (RFC 5322 3.2, RFC 2047 5 (2) and (3)).
//!
//! One pass and a second over each address; never fails at what is badly formed: a quotation mark or a bracket that
//! nothing closes is a character like others.

use memchr::memchr;

use super::Unsuitable;
use super::folding::Folding;

/// What a piece of a structured value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// White space and folds.
    Blank,
    Comment,
    Quoted,
    /// An address or whatever stands in angle brackets.
    Angle,
    /// One of `,;:@`.
    Special,
    /// Anything else.
    Atom,
}

/// Cuts a value into tokens, none of which is lost.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'v> {
    rest: &'v [u8],
    has_angles: bool,
    /// Whether those that open may be closed: after the first that is not, none is looked for again.
    has_quoted: bool,
    has_comments: bool,
}

impl<'v> Tokens<'v> {
    /// Of a value, without the line end behind it. `has_angles`: angle brackets mean something in it.
    pub fn of(value: &'v [u8], has_angles: bool) -> Tokens<'v> {
        Tokens {
            rest: value,
            has_angles,
            has_quoted: true,
            has_comments: true,
        }
    }

    fn quoted(&mut self) -> Option<(Token, usize)> {
        let length = self.has_quoted.then(|| quoted_length(self.rest)).flatten();
        self.has_quoted = length.is_some();
        Some((Token::Quoted, length?))
    }

    fn comment(&mut self) -> Option<(Token, usize)> {
        let length = self.has_comments.then(|| comment_length(self.rest)).flatten();
        self.has_comments = length.is_some();
        Some((Token::Comment, length?))
    }

    fn atom_length(&self) -> usize {
        let after = &self.rest[1..];
        let length = after.iter().position(|octet| b" \t\r\n\"(<,;:@".contains(octet));
        1 + length.unwrap_or(after.len())
    }
}

impl<'v> Iterator for Tokens<'v> {
    type Item = (Token, &'v [u8]);

    fn next(&mut self) -> Option<(Token, &'v [u8])> {
        let found = match self.rest.first()? {
            b' ' | b'\t' | b'\r' | b'\n' => {
                let length = self.rest.iter().position(|octet| !b" \t\r\n".contains(octet));
                Some((Token::Blank, length.unwrap_or(self.rest.len())))
            }
            b'"' => self.quoted(),
            b'(' => self.comment(),
            b'<' if self.has_angles => {
                let length = memchr(b'>', self.rest).map_or(self.rest.len(), |at| at + 1);
                Some((Token::Angle, length))
            }
            b',' | b';' | b':' | b'@' => Some((Token::Special, 1)),
            _ => None,
        };
        let (token, length) = found.unwrap_or_else(|| (Token::Atom, self.atom_length()));
        let (octets, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some((token, octets))
    }
}

/// How long the quoted string is that begins here, if it ends.
fn quoted_length(value: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match value.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// How long the comment is that begins here, if it ends.
fn comment_length(value: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    loop {
        match value.get(at)? {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at + 1),
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

/// Appends what a part of a quoted string or a comment stands for.
fn unescape(octets: &[u8], text: &mut Vec<u8>) {
    let mut is_escaped = false;
    for &octet in octets {
        let escapes = octet == b'\\' && !is_escaped;
        if !escapes && !b"\r\n".contains(&octet) {
            text.push(octet);
        }
        is_escaped = escapes;
    }
}

/// Appends what a token stands for.
pub(super) fn append_text(token: Token, octets: &[u8], text: &mut Vec<u8>) {
    match token {
        Token::Quoted => unescape(&octets[1..octets.len() - 1], text),
        Token::Blank => text.extend(octets.iter().filter(|octet| !b"\r\n".contains(octet))),
        _ => text.extend_from_slice(octets),
    }
}

/// What becomes of octets above 127 outside of comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// The words of a phrase become encoded words.
    Encoded,
    /// Each becomes a question mark.
    Replaced,
    /// They are of an address.
    Refused,
}

/// Writes tokens. Comments are encoded.
pub(super) fn write<'v>(
    tokens: impl Iterator<Item = (Token, &'v [u8])>,
    outside: Outside,
    folding: &mut Folding<'_>,
) -> Result<(), Unsuitable> {
    // Tokens that touch are one word: `J"ö"rg`.
    let (mut word, mut text) = (Vec::new(), Vec::new());
    for (token, octets) in tokens {
        match token {
            Token::Blank | Token::Comment => {
                write_word(&mut word, &mut text, outside, folding)?;
                if token == Token::Blank {
                    folding.blank(octets);
                } else {
                    write_comment(octets, folding);
                }
            }
            _ => {
                word.extend_from_slice(octets);
                append_text(token, octets, &mut text);
            }
        }
    }
    write_word(&mut word, &mut text, outside, folding)
}

fn write_word(
    word: &mut Vec<u8>,
    text: &mut Vec<u8>,
    outside: Outside,
    folding: &mut Folding<'_>,
) -> Result<(), Unsuitable> {
    if word.is_empty() {
        return Ok(());
    }
    match outside {
        _ if word.is_ascii() => folding.word(word),
        Outside::Encoded => folding.text(text),
        Outside::Replaced => {
            replace(word);
            folding.word(word);
        }
        Outside::Refused => return Err(Unsuitable::EightBitField),
    }
    word.clear();
    text.clear();
    Ok(())
}

/// Puts a question mark in the place of each octet above 127.
fn replace(octets: &mut [u8]) {
    for octet in octets.iter_mut().filter(|octet| !octet.is_ascii()) {
        *octet = b'?';
    }
}

fn write_comment(comment: &[u8], folding: &mut Folding<'_>) {
    let (mut rest, mut depth) = (comment, 0_usize);
    while let Some(&octet) = rest.first() {
        let mut length = 1;
        match octet {
            b'(' => {
                folding.bracket(octet, depth == 0);
                depth += 1;
            }
            b')' => {
                depth = depth.saturating_sub(1);
                folding.bracket(octet, depth == 0);
            }
            b' ' | b'\t' | b'\r' | b'\n' => folding.blank(&rest[..1]),
            _ => {
                length = comment_word_length(rest);
                let word = &rest[..length];
                if word.is_ascii() {
                    folding.word(word);
                } else {
                    let mut text = Vec::new();
                    unescape(word, &mut text);
                    folding.text(&text);
                }
            }
        }
        rest = &rest[length..];
    }
}

/// How long the word is that begins here in a comment.
fn comment_word_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&octet) = rest.get(at) {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' => break,
            b'\\' if rest.get(at + 1).is_some_and(|next| !b"\r\n".contains(next)) => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// Writes a list of addresses: names and comments are encoded, and what is of an address itself is refused or, if it
/// `replaces`, replaced.
pub(super) fn write_addresses(
    value: &[u8],
    replaces: bool,
    folding: &mut Folding<'_>,
) -> Result<(), Unsuitable> {
    let in_address = if replaces {
        Outside::Replaced
    } else {
        Outside::Refused
    };
    let mut tokens = Tokens::of(value, true);
    loop {
        let start = tokens.clone();
        let (mut length, mut has_at) = (0, false);
        let end = loop {
            match tokens.next() {
                Some((Token::Special, b"@")) => has_at = true,
                Some(end @ (Token::Angle | Token::Special, _)) => break Some(end),
                Some(_) => {}
                None => break None,
            }
            length += 1;
        };
        // `j@example.org <j@example.org>` is often seen: the first is a name.
        let is_name = !has_at || matches!(end, Some((Token::Angle, _)));
        let outside = if is_name { Outside::Encoded } else { in_address };
        write(start.take(length), outside, folding)?;
        let Some(end) = end else {
            return Ok(());
        };
        write(std::iter::once(end), in_address, folding)?;
    }
}
