//! The grammar of the accounts file, a passwd-file as Dovecot reads it: `address:password`, and further
//! fields that say nothing here.
//!
//! Pure. Never knows what is in other lines, and never repeats in a problem what stands in the file.

use super::password::Password;
use super::problem::Problem;
use crate::smtp::path::{Mailbox, PathError};

/// Longest line in octets, without its end.
const MAX_LINE: usize = 8 << 10;

/// A line that says something.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    /// Its number, counted from 1.
    pub line: usize,
    /// Whose it is; the local part `*` catches all that is sent to its domain.
    pub address: Mailbox,
    /// What is asked for at login.
    pub password: Password,
}

/// The lines of a file that say something; blank lines and comments are passed over.
pub(super) fn entries<'t>(
    text: &'t [u8],
    default_domain: &'t str,
) -> impl Iterator<Item = Result<Entry, Problem>> + 't {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text); // some editors begin a file with a mark
    let numbered = text.split(|octet| *octet == b'\n').zip(1..);
    numbered.filter_map(move |(line, number)| entry(line, number, default_domain).transpose())
}

/// The mailbox that a name stands for: an address, or a local part of the default domain.
///
/// # Errors
/// As [`Mailbox::parse`].
pub(super) fn named(name: &str, default_domain: &str) -> Result<Mailbox, PathError> {
    match Mailbox::parse(name) {
        Err(PathError::NoAt) => Mailbox::parse(&format!("{name}@{default_domain}")),
        read => read,
    }
}

fn entry(line: &[u8], number: usize, default_domain: &str) -> Result<Option<Entry>, Problem> {
    let wrong = |what: String| Problem { line: number, what };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_LINE {
        return Err(wrong(format!("expected a line of at most {MAX_LINE} octets")));
    }
    let line = str::from_utf8(line).map_err(|_| wrong("expected text in UTF-8".into()))?;
    let begin = line.trim_start();
    if begin.is_empty() || begin.starts_with('#') {
        return Ok(None);
    }
    let mut fields = line.split(':');
    let (name, password) = (fields.next().unwrap_or_default(), fields.next());
    let address = named(name, default_domain).map_err(|error| {
        wrong(format!(
            "expected local@domain, local or *@domain before the first colon: {error}"
        ))
    })?;
    // A line without a colon is a mailbox without a password, as for Dovecot.
    let password = Password::parse(password.unwrap_or_default()).map_err(wrong)?;
    Ok(Some(Entry {
        line: number,
        address,
        password,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Result<(usize, String), (usize, String)>> {
        entries(text.as_bytes(), "example.org")
            .map(|entry| match entry {
                Ok(entry) => Ok((entry.line, entry.address.to_string())),
                Err(problem) => Err((problem.line, problem.what)),
            })
            .collect()
    }

    fn problem(text: &str) -> String {
        read(text).remove(0).unwrap_err().1
    }

    #[test]
    fn only_the_first_two_fields_count() {
        let text =
            "bob@a.example:{PLAIN}x:1000:1000:Bob:/home/bob:/bin/sh:userdb_mail=maildir:~/Mail nologin";
        assert_eq!(read(text), [Ok((1, "bob@a.example".into()))]);
        let entry = entries(text.as_bytes(), "b.example").next().unwrap().unwrap();
        assert!(entry.password.matches(b"x") && !entry.password.matches(b"x:1000"));
    }

    #[test]
    fn blank_lines_comments_and_carriage_returns_are_passed_over() {
        let text = "\u{feff}# accounts\r\n\r\n  \t\n  # more\nbob@a.example:\r\n*@a.example:\nlast";
        assert_eq!(
            read(text),
            [
                Ok((5, "bob@a.example".into())),
                Ok((6, "*@a.example".into())),
                Ok((7, "last@example.org".into()))
            ]
        );
    }

    #[test]
    fn a_name_without_a_domain_is_one_of_the_default_domain() {
        assert_eq!(read("Bob:"), [Ok((1, "Bob@example.org".into()))]);
        assert_eq!(read("\"a@b\":"), [Ok((1, "\"a@b\"@example.org".into()))]);
        assert_eq!(read("*:"), [Ok((1, "*@example.org".into()))]);
    }

    #[test]
    fn what_is_no_address_is_not_repeated() {
        for text in [
            "{PLAIN} sesame:bob",
            ":{PLAIN}sesame",
            "sesame open:x",
            " sesame:x",
            "sesame@-:",
            "a@b@sesame:",
        ] {
            let told = problem(text);
            assert!(told.starts_with("expected local@domain"), "{text}: {told}");
            assert!(!told.contains("sesame"), "{told}");
        }
    }

    #[test]
    fn long_lines_and_other_character_sets_are_refused() {
        let long = format!("bob:{{PLAIN}}x:{}\nbob:", "y".repeat(MAX_LINE));
        assert!(problem(&long).contains("at most 8192 octets"));
        assert_eq!(read(&long)[1], Ok((2, "bob@example.org".into())));
        let latin: Vec<_> = entries(b"b\xf6b:", "a").collect();
        assert_eq!(latin[0].as_ref().unwrap_err().what, "expected text in UTF-8");
    }
}
