//! Paths: who a message is from and who it is for (RFC 5321 4.1.2, 4.1.3).

use std::fmt;

/// A mailbox, `local-part@domain`, as RFC 5321 4.1.2 defines it. Built by [`Mailbox::parse`] alone, so
/// that one in hand is a valid one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// The local part as it stood on the wire, with its quotes if it had any. Case kept.
    local_part: String,
    /// The domain in lower case, or an address literal with its brackets.
    domain: String,
}

impl Mailbox {
    /// A stand-in until the grammar is there: splits at the last `@`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Mailbox> {
        let (local_part, domain) = text.rsplit_once('@')?;
        Some(Mailbox {
            local_part: local_part.to_owned(),
            domain: domain.to_ascii_lowercase(),
        })
    }

    /// The local part without its quotes and backslashes.
    #[must_use]
    pub fn local_text(&self) -> String {
        let Some(quoted) = self
            .local_part
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            return self.local_part.clone();
        };
        let mut text = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            text.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
        }
        text
    }

    /// The local part as it stood on the wire, with its quotes if it had any.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// The domain in lower case, or an address literal with its brackets.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

/// The reverse path of an envelope: whom to tell when delivery fails. `None` is the null path `<>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReversePath(pub Option<Mailbox>);

/// Without angle brackets; the null path is the empty string.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(mailbox) => mailbox.fmt(f),
            None => Ok(()),
        }
    }
}
