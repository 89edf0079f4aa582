//! Local parts: what stands before the `@` (RFC 5321 4.1.2, RFC 6531 3.3).
//!
//! A dot-string or a quoted string, in any script. Never changed, not even normalised: only the host whose
//! mailbox it is knows what it means (RFC 5321 2.3.11, RFC 6530 10.1).

use std::borrow::Cow;

use super::PathError;

/// Longest local part in octets, with its quotes (RFC 5321 4.5.3.1.1).
const MAX_LOCAL_PART: usize = 64;

/// The local part at the front of a mailbox and what follows its `@`. Expects a text without anything
/// [hidden](is_hidden) in it.
pub(super) fn split(mailbox: &str) -> Result<(&str, &str), PathError> {
    let (local_part, domain) = if mailbox.starts_with('"') {
        let end = quoted_string_end(mailbox).ok_or(PathError::LocalPart)?;
        let domain = mailbox[end..].strip_prefix('@').ok_or(PathError::NoAt)?;
        (&mailbox[..end], domain)
    } else {
        let (local_part, domain) = mailbox.split_once('@').ok_or(PathError::NoAt)?;
        if !is_dot_string(local_part) {
            return Err(PathError::LocalPart);
        }
        (local_part, domain)
    };
    if local_part.len() > MAX_LOCAL_PART {
        return Err(PathError::LocalPartTooLong);
    }
    Ok((local_part, domain))
}

pub(super) fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| {
        !atom.is_empty()
            && atom.chars().all(|character| {
                character.is_ascii_alphanumeric()
                    || !character.is_ascii()
                    || "!#$%&'*+-/=?^_`{|}~".contains(character)
            })
    })
}

/// The length of the quoted string at the front of `text`, closing quote included. RFC 6531 3.3 lets any
/// script into the quotes, but only ASCII behind a backslash.
pub(super) fn quoted_string_end(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(at + 1),
            '\\' if !characters.next()?.1.is_ascii() => return None,
            _ => {}
        }
    }
    None
}

/// A local part without its quotes and backslashes.
pub(super) fn text(local_part: &str) -> Cow<'_, str> {
    let Some(quoted) = local_part
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Cow::Borrowed(local_part);
    };
    if !quoted.contains('\\') {
        return Cow::Borrowed(quoted);
    }
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        // A backslash always has a character after it: `quoted_string_end` saw to that.
        text.push(if character == '\\' {
            characters.next().unwrap_or(character)
        } else {
            character
        });
    }
    Cow::Owned(text)
}

/// What may stand nowhere in an address, because a terminal or a log would not show it, or would show
/// something else than is there: controls (C1 as well), ends of lines, marks that turn the direction of
/// writing, invisible marks, and code points that are no characters. The joiners U+200C and U+200D stay:
/// Persian and Hindi are written with them.
pub(super) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61C}'
                | '\u{200B}'
                | '\u{200E}'
                | '\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{FDD0}'..='\u{FDEF}'
                | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}'
        )
        || u32::from(character) & 0xFFFE == 0xFFFE
}
