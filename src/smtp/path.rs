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
