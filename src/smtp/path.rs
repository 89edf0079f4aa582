//! Paths: who a message is from and who it is for (RFC 5321 4.1.2, 4.1.3; in UTF-8 RFC 6531 3.3).
//!
//! Local parts may be in any script, and are kept as they came; domains come out in ASCII, whatever they were
//! written in. Never asks whether a domain exists or a mailbox is known, whether the client may use UTF-8
//! (the parameter that says so comes after the path), and never keeps a source route.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

mod canonical;
mod domain;
mod local_part;

pub use domain::address_literal;

/// Longest path in octets, angle brackets and source route included (RFC 5321 4.5.3.1.3).
const MAX_PATH: usize = 256;

/// A mailbox, `local-part@domain`, as RFC 5321 4.1.2 and RFC 6531 3.3 define it. Built by [`Mailbox::parse`]
/// alone, so that one in hand is a valid one: it holds no control character and nothing that would disguise
/// it in a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// The local part as it stood on the wire, with its quotes if it had any. Case kept.
    local_part: String,
    /// The domain in lower case and ASCII, or an address literal with its brackets.
    domain: String,
}

impl Mailbox {
    /// Reads `local-part@domain`, without angle brackets. The domain is put in lower case, U-labels become
    /// A-labels, an address literal takes its canonical form. Lengths count octets.
    ///
    /// # Errors
    /// Says what is wrong with the first part that is.
    pub fn parse(text: &str) -> Result<Mailbox, PathError> {
        if text.chars().any(local_part::is_hidden) {
            return Err(PathError::Control);
        }
        let (local_part, domain) = local_part::split(text)?;
        let domain = domain::parse(domain)?;
        // Neither what came may be too long, nor what is passed on.
        let stored = local_part.len() + "@".len() + domain.len();
        if text.len().max(stored) + "<>".len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        Ok(Mailbox {
            local_part: local_part.to_owned(),
            domain,
        })
    }

    /// The local part as it stood on the wire, with its quotes if it had any.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// What the local part says: without its quotes and backslashes, so that `"jane.doe"` and `jane.doe` name
    /// one mailbox (RFC 5321 4.1.2). May hold any printable character, `/` and `.` among them.
    #[must_use]
    pub fn local_text(&self) -> Cow<'_, str> {
        local_part::text(&self.local_part)
    }

    /// The domain in lower case, or an address literal with its brackets. Always ASCII: other scripts are in
    /// their `xn--` form.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether only a host that offers SMTPUTF8 can be given this address (RFC 6531 3.2): its local part is
    /// not ASCII, and there is no other way to write that.
    #[must_use]
    pub fn needs_utf8(&self) -> bool {
        !self.local_part.is_ascii()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

impl FromStr for Mailbox {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Mailbox, PathError> {
        Mailbox::parse(text)
    }
}

/// The reverse path of an envelope: whom to tell when delivery fails. `None` is the null path `<>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReversePath(pub Option<Mailbox>);

impl ReversePath {
    /// Reads `<…>` from the front of `text`, gives it and what follows it. A source route is dropped. UTF-8
    /// is read in any case; whether it was allowed, `text.is_ascii()` and the parameters tell.
    ///
    /// # Errors
    /// When there are no angle brackets, or what is between them is no path.
    pub fn take(text: &str) -> Result<(ReversePath, &str), PathError> {
        let (inside, rest) = take_brackets(text)?;
        if inside.is_empty() {
            return Ok((ReversePath(None), rest));
        }
        let mailbox = parse_route(inside)?;
        Ok((ReversePath(Some(mailbox)), rest))
    }
}

/// Without angle brackets; the null path is the empty string.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(mailbox) => mailbox.fmt(f),
            None => Ok(()),
        }
    }
}

/// Reads what [`fmt::Display`] writes: a mailbox without angle brackets, or nothing.
impl FromStr for ReversePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<ReversePath, PathError> {
        if text.is_empty() {
            return Ok(ReversePath(None));
        }
        Mailbox::parse(text).map(|mailbox| ReversePath(Some(mailbox)))
    }
}

/// The forward path of a recipient: a mailbox, or the bare `<Postmaster>` that every host must take
/// (RFC 5321 4.5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// A mailbox with a domain.
    Mailbox(Mailbox),
    /// `<Postmaster>`, in any case, without a domain.
    Postmaster,
}

impl ForwardPath {
    /// Reads `<…>` from the front of `text`, gives it and what follows it. A source route is dropped, so
    /// that mail is never passed on along one (RFC 5321 C). UTF-8 is read as by [`ReversePath::take`].
    ///
    /// # Errors
    /// When there are no angle brackets, or what is between them is no path; the null path is none here.
    pub fn take(text: &str) -> Result<(ForwardPath, &str), PathError> {
        let (inside, rest) = take_brackets(text)?;
        if inside.eq_ignore_ascii_case("postmaster") {
            return Ok((ForwardPath::Postmaster, rest));
        }
        let mailbox = parse_route(inside)?;
        Ok((ForwardPath::Mailbox(mailbox), rest))
    }
}

/// Without angle brackets.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardPath::Mailbox(mailbox) => mailbox.fmt(f),
            ForwardPath::Postmaster => f.write_str("Postmaster"),
        }
    }
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// An octet outside ASCII although SMTPUTF8 was not asked for. Nothing here finds this: who reads the
    /// parameters does.
    NotAscii,
    /// A control character, or another one that cannot be seen or changes how the text is shown.
    Control,
    /// No `<` at the start, or no `>` at the end.
    NoBrackets,
    /// A source route that is none.
    SourceRoute,
    /// No `@` between local part and domain.
    NoAt,
    /// Neither a dot-string nor a quoted string.
    LocalPart,
    /// More than 64 octets.
    LocalPartTooLong,
    /// Neither a domain nor an address literal; or a label in another script that has no `xn--` form.
    Domain,
    /// More than 255 octets.
    DomainTooLong,
    /// More than 256 octets with the angle brackets and the source route.
    TooLong,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::NotAscii => "address is not ASCII, and SMTPUTF8 was not given",
            PathError::Control => "control character in the address",
            PathError::NoBrackets => "address is not between < and >",
            PathError::SourceRoute => "malformed source route",
            PathError::NoAt => "address has no @domain",
            PathError::LocalPart => "malformed local part",
            PathError::LocalPartTooLong => "local part is longer than 64 octets",
            PathError::Domain => "malformed domain",
            PathError::DomainTooLong => "domain is longer than 255 octets",
            PathError::TooLong => "address is longer than 256 octets",
        })
    }
}

impl std::error::Error for PathError {}

/// What is between `<` and `>`, and what follows; a `>` in a quoted string ends nothing.
fn take_brackets(text: &str) -> Result<(&str, &str), PathError> {
    let path = text.strip_prefix('<').ok_or(PathError::NoBrackets)?;
    let mut at = 0;
    while let Some(octet) = path.as_bytes().get(at) {
        match octet {
            b'>' => return Ok((&path[..at], &path[at + 1..])),
            b'"' => at += local_part::quoted_string_end(&path[at..]).ok_or(PathError::LocalPart)?,
            _ => at += 1,
        }
    }
    Err(PathError::NoBrackets)
}

/// What stands between the brackets, with or without a source route.
fn parse_route(inside: &str) -> Result<Mailbox, PathError> {
    let mailbox = Mailbox::parse(after_source_route(inside)?)?;
    if inside.len() + "<>".len() > MAX_PATH {
        return Err(PathError::TooLong);
    }
    Ok(mailbox)
}

/// `@a,@b:c@d` is `c@d`: RFC 5321 4.1.1.3 has servers read source routes and ignore them.
fn after_source_route(path: &str) -> Result<&str, PathError> {
    let mut rest = path;
    while let Some(route) = rest.strip_prefix('@') {
        let end = match route.strip_prefix('[') {
            Some(literal) => literal.find(']').map(|at| at + "[]".len()),
            None => route.find([',', ':']),
        };
        let (domain, after) = route.split_at_checked(end.unwrap_or(0)).unwrap_or_default();
        domain::parse(domain).map_err(|_| PathError::SourceRoute)?;
        match after.strip_prefix(':') {
            Some(mailbox) => return Ok(mailbox),
            None => {
                rest = after
                    .strip_prefix(',')
                    .filter(|next| next.starts_with('@'))
                    .ok_or(PathError::SourceRoute)?
            }
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests;
