//! Paths: who a message is from and who it is for (RFC 5321 4.1.2, 4.1.3).
//!
//! ASCII only. Never asks whether a domain exists or a mailbox is known, and never keeps a source route.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest local part in octets, with its quotes (RFC 5321 4.5.3.1.1).
const MAX_LOCAL_PART: usize = 64;
/// Longest domain in octets (RFC 5321 4.5.3.1.2).
const MAX_DOMAIN: usize = 255;
/// Longest path in octets, angle brackets included (RFC 5321 4.5.3.1.3).
const MAX_PATH: usize = 256;
/// Longest label of a domain (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

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
    /// Reads `local-part@domain`, without angle brackets. The domain is put in lower case, an address
    /// literal in its canonical form.
    ///
    /// # Errors
    /// Says what is wrong with the first part that is.
    pub fn parse(text: &str) -> Result<Mailbox, PathError> {
        only_printable_ascii(text)?;
        let (local_part, domain) = if text.starts_with('"') {
            let end = quoted_string_end(text).ok_or(PathError::LocalPart)?;
            let domain = text[end..].strip_prefix('@').ok_or(PathError::NoAt)?;
            (&text[..end], domain)
        } else {
            let (local_part, domain) = text.split_once('@').ok_or(PathError::NoAt)?;
            if !is_dot_string(local_part) {
                return Err(PathError::LocalPart);
            }
            (local_part, domain)
        };
        if local_part.len() > MAX_LOCAL_PART {
            return Err(PathError::LocalPartTooLong);
        }
        let domain = parse_domain(domain)?;
        if local_part.len() + domain.len() + "<@>".len() > MAX_PATH {
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

    /// What the local part says: without its quotes and backslashes, so that `"jane doe"` and `jane\ doe`
    /// name one mailbox (RFC 5321 4.1.2). May hold any printable character, `/` and `.` among them.
    #[must_use]
    pub fn local_text(&self) -> Cow<'_, str> {
        let Some(quoted) = self
            .local_part
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            return Cow::Borrowed(&self.local_part);
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
    /// Reads `<…>` from the front of `text`, gives it and what follows it. A source route is dropped.
    ///
    /// # Errors
    /// When there are no angle brackets, or what is between them is no path.
    pub fn take(text: &str) -> Result<(ReversePath, &str), PathError> {
        let (inside, rest) = take_brackets(text)?;
        if inside.is_empty() {
            return Ok((ReversePath(None), rest));
        }
        let mailbox = Mailbox::parse(after_source_route(inside)?)?;
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
    /// that mail is never passed on along one (RFC 5321 C).
    ///
    /// # Errors
    /// When there are no angle brackets, or what is between them is no path; the null path is none here.
    pub fn take(text: &str) -> Result<(ForwardPath, &str), PathError> {
        let (inside, rest) = take_brackets(text)?;
        if inside.eq_ignore_ascii_case("postmaster") {
            return Ok((ForwardPath::Postmaster, rest));
        }
        let mailbox = Mailbox::parse(after_source_route(inside)?)?;
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
    /// An octet outside ASCII; SMTPUTF8 is not offered.
    NotAscii,
    /// A control character.
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
    /// Neither a domain nor an address literal.
    Domain,
    /// More than 255 octets.
    DomainTooLong,
    /// More than 256 octets with the angle brackets.
    TooLong,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::NotAscii => "address is not ASCII",
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

/// The address in a literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3); `None` for anything else.
#[must_use]
pub fn address_literal(domain: &str) -> Option<IpAddr> {
    const TAG: usize = "IPv6:".len();
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inside.get(..TAG) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            Ipv6Addr::from_str(&inside[TAG..]).ok().map(IpAddr::V6)
        }
        _ => Ipv4Addr::from_str(inside).ok().map(IpAddr::V4),
    }
}

/// `domain` in lower case, an address literal in canonical form.
fn parse_domain(domain: &str) -> Result<String, PathError> {
    if domain.len() > MAX_DOMAIN {
        return Err(PathError::DomainTooLong);
    }
    if domain.starts_with('[') {
        return match address_literal(domain) {
            Some(IpAddr::V4(address)) => Ok(format!("[{address}]")),
            Some(IpAddr::V6(address)) => Ok(format!("[IPv6:{address}]")),
            None => Err(PathError::Domain),
        };
    }
    // An address without its brackets is no domain, and must not become a next hop by the back door.
    let is_address = domain.contains('.') && domain.bytes().all(|b| b == b'.' || b.is_ascii_digit());
    if is_address || !domain.split('.').all(is_label) {
        return Err(PathError::Domain);
    }
    Ok(domain.to_ascii_lowercase())
}

/// RFC 5321 4.1.2 sub-domain, and the underscore that real hosts have in their names.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    })
}

/// The length of the quoted string at the front of `text`, closing quote included.
fn quoted_string_end(text: &str) -> Option<usize> {
    let mut octets = text.bytes().enumerate().skip(1);
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'"' => return Some(at + 1),
            b'\\' => {
                octets.next()?;
            }
            _ => {}
        }
    }
    None
}

/// What is between `<` and `>`, and what follows; a `>` in a quoted string ends nothing.
fn take_brackets(text: &str) -> Result<(&str, &str), PathError> {
    let path = text.strip_prefix('<').ok_or(PathError::NoBrackets)?;
    let mut at = 0;
    while let Some(octet) = path.as_bytes().get(at) {
        match octet {
            b'>' => return Ok((&path[..at], &path[at + 1..])),
            b'"' => at += quoted_string_end(&path[at..]).ok_or(PathError::LocalPart)?,
            _ => at += 1,
        }
    }
    Err(PathError::NoBrackets)
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
        parse_domain(domain).map_err(|_| PathError::SourceRoute)?;
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

fn only_printable_ascii(text: &str) -> Result<(), PathError> {
    if !text.is_ascii() {
        Err(PathError::NotAscii)
    } else if text.bytes().any(|b| b.is_ascii_control()) {
        Err(PathError::Control)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> String {
        Mailbox::parse(text).unwrap().to_string()
    }

    #[test]
    fn mailboxes_of_every_form_are_read_and_only_the_domain_loses_its_case() {
        assert_eq!(parsed("B.Smith@Univac.COM"), "B.Smith@univac.com");
        assert_eq!(parsed("!#$%&'*+-/=?^_`{|}~@a"), "!#$%&'*+-/=?^_`{|}~@a");
        assert_eq!(parsed(r#""a b@\"c"@Example.org"#), r#""a b@\"c"@example.org"#);
        assert_eq!(parsed(r#"""@example.org"#), r#"""@example.org"#);
        assert_eq!(parsed("a@[192.0.2.1]"), "a@[192.0.2.1]");
        assert_eq!(parsed("a@[ipv6:2001:DB8:0:0::1]"), "a@[IPv6:2001:db8::1]");
        assert_eq!(parsed("a@mail_out.example.org"), "a@mail_out.example.org");
        assert_eq!(parsed("a@012345678901"), "a@012345678901");
    }

    #[test]
    fn broken_mailboxes_are_refused_with_what_is_wrong() {
        let long = |n| "x".repeat(n);
        for (text, error) in [
            ("", PathError::NoAt),
            ("jdoe", PathError::NoAt),
            ("@example.org", PathError::LocalPart),
            ("a..b@example.org", PathError::LocalPart),
            (".a@example.org", PathError::LocalPart),
            ("a b@example.org", PathError::LocalPart),
            (r#""a@example.org"#, PathError::LocalPart),
            (r#""a\"@example.org"#, PathError::LocalPart),
            (r#""a"b@example.org"#, PathError::NoAt),
            ("a@", PathError::Domain),
            ("a@b@c", PathError::Domain),
            ("a@example..org", PathError::Domain),
            ("a@example.org.", PathError::Domain),
            ("a@-example.org", PathError::Domain),
            ("a@127.0.0.1", PathError::Domain),
            ("a@[127.0.0.1", PathError::Domain),
            ("a@[300.0.0.1]", PathError::Domain),
            ("a@[IPv6:::1%lo]", PathError::Domain),
            ("a@[]", PathError::Domain),
            ("a@ex ample.org", PathError::Domain),
            ("jörg@example.org", PathError::NotAscii),
            ("a\r\nb@example.org", PathError::Control),
            ("\"a\0b\"@example.org", PathError::Control),
            (&format!("{}@b", long(65)), PathError::LocalPartTooLong),
            (&format!("a@{}", long(64)), PathError::Domain),
            (&format!("a@{}", "x.".repeat(128)), PathError::DomainTooLong),
            (&format!("{}@{}x", long(64), "x.".repeat(95)), PathError::TooLong),
        ] {
            assert_eq!(Mailbox::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn limits_are_reached_without_being_passed() {
        let local = "l".repeat(64);
        let domain = format!("{}xxx", "x.".repeat(93));
        assert_eq!(format!("<{local}@{domain}>").len(), 256);
        assert!(Mailbox::parse(&format!("{local}@{domain}")).is_ok());
    }

    #[test]
    fn the_local_text_is_what_the_quotes_hold() {
        let text = |m: &str| Mailbox::parse(m).unwrap().local_text().into_owned();
        assert_eq!(text("jdoe@a"), "jdoe");
        assert_eq!(text(r#""jane doe"@a"#), "jane doe");
        assert_eq!(text(r#""a\"b\\c"@a"#), r#"a"b\c"#);
        assert_eq!(text(r#""\""@a"#), "\"");
    }

    #[test]
    fn source_routes_are_read_and_dropped() {
        for path in [
            "<@one.example,@two.example:jdoe@three.example>",
            "<@[192.0.2.1],@[IPv6:::1]:jdoe@three.example>",
            "<@one.example:jdoe@three.example>",
        ] {
            let (reverse, rest) = ReversePath::take(path).unwrap();
            assert_eq!((reverse.to_string().as_str(), rest), ("jdoe@three.example", ""));
        }
        for path in [
            "<@one.example>",
            "<@one.example,two:a@b>",
            "<@one.example,@two>",
            "<@:a@b>",
        ] {
            assert_eq!(ForwardPath::take(path), Err(PathError::SourceRoute), "{path}");
        }
    }

    #[test]
    fn a_path_ends_at_its_own_bracket_and_gives_what_follows() {
        let (path, rest) = ReversePath::take(r#"<"a>b"@example.org> SIZE=1"#).unwrap();
        assert_eq!(
            (path.to_string().as_str(), rest),
            (r#""a>b"@example.org"#, " SIZE=1")
        );
        assert_eq!(ReversePath::take("<>").unwrap(), (ReversePath(None), ""));
        assert_eq!(
            ForwardPath::take("<pOSTmaster>").unwrap(),
            (ForwardPath::Postmaster, "")
        );
        assert_eq!(ForwardPath::take("<>"), Err(PathError::NoAt));
        assert_eq!(ReversePath::take("a@b"), Err(PathError::NoBrackets));
        assert_eq!(ReversePath::take("<a@b"), Err(PathError::NoBrackets));
        assert_eq!(ReversePath::take("<\"a@b>"), Err(PathError::LocalPart));
    }

    #[test]
    fn a_reverse_path_is_read_back_as_it_was_written() {
        for text in ["", "jdoe@example.org", r#""a b"@[IPv6:::1]"#] {
            assert_eq!(text.parse::<ReversePath>().unwrap().to_string(), text);
        }
        assert!("<>".parse::<ReversePath>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_read_back_unchanged(text in "[\"a-c\\\\.@<>: \\[\\]IPv6:0-9]{0,20}") {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                prop_assert_eq!(mailbox.to_string().parse::<Mailbox>(), Ok(mailbox.clone()));
                let path = format!("<{mailbox}>");
                let taken = (ForwardPath::Mailbox(mailbox), "");
                prop_assert_eq!(ForwardPath::take(&path), Ok(taken));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = Mailbox::parse(&text);
            let _ = ReversePath::take(&text);
            let _ = ForwardPath::take(&format!("<{text}"));
        }
    }
}
