//! The envelope of a message as the client gave it.
//!
//! Only kept and shown: what was granted, in the client's own words.

use crate::smtp::command::Body;

/// Whom a message is from and for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Without angle brackets; empty for the null path.
    pub reverse_path: String,
    /// What followed the reverse path: `SIZE=812 BODY=8BITMIME`.
    pub parameters: String,
    /// BODY, read.
    pub body: Option<Body>,
    /// The recipients that were granted.
    pub recipients: Vec<Recipient>,
}

/// A recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// Without angle brackets.
    pub path: String,
    /// What followed it: `NOTIFY=NEVER`.
    pub parameters: String,
}

/// What stands between the angle brackets of a command that was understood, and what follows it.
pub(super) fn in_brackets(line: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(line);
    let inside = text.split_once('<').map_or("", |(_, inside)| inside);
    // A `>` in quotes ends nothing, and one in a parameter comes later.
    let mut quoted = false;
    let end = inside.char_indices().scan(false, |escaped, (at, sign)| {
        let is_end = sign == '>' && !quoted;
        quoted ^= sign == '"' && !*escaped;
        *escaped = sign == '\\' && quoted && !*escaped;
        Some((at, is_end))
    });
    let end = end.into_iter().find(|(_, is_end)| *is_end);
    let end = end.map_or(inside.len(), |(at, _)| at);
    let (path, rest) = inside.split_at(end);
    let rest = rest.strip_prefix('>').unwrap_or(rest);
    (path.to_owned(), rest.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_parameters_are_taken_as_they_stand() {
        for (line, path, parameters) in [
            (
                "MAIL FROM:<Bob@A.example> SIZE=12 BODY=7BIT",
                "Bob@A.example",
                "SIZE=12 BODY=7BIT",
            ),
            ("MAIL FROM:<>", "", ""),
            (
                "RCPT TO:<\"a>\\\"b\"@c.example> ORCPT=rfc822;a>b",
                "\"a>\\\"b\"@c.example",
                "ORCPT=rfc822;a>b",
            ),
        ] {
            assert_eq!(
                in_brackets(line.as_bytes()),
                (path.to_owned(), parameters.to_owned())
            );
        }
    }
}
