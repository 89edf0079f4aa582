//! The words of an aliases file: the name before the colon, and the targets after it (aliases(5)).
//!
//! Pure. Never looks into an included file, and never takes a program or a file as a target.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::config::problem::quoted;
use crate::smtp::path::{Mailbox, PathError};

/// Whom an alias is for. Local parts and domains as they are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// `name@domain`.
    Mailbox(Mailbox),
    /// `name`: this local part in each of our domains; written as the mailbox in the first one.
    Everywhere(Mailbox),
    /// `@domain`: all local parts of this domain that nothing else names.
    Domain(String),
}

/// What an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An address, which may be an alias itself.
    Mailbox(Mailbox),
    /// `\name`: this mailbox, even if it is the name of an alias.
    Final(Mailbox),
    /// `:include:/file`: the targets that the file lists.
    Include(PathBuf),
}

/// Name and targets of a line: the name, and the octet after the colon. `None` where there is no colon.
pub(super) fn split_name(line: &str) -> Option<(&str, usize)> {
    let at = find_outside(line, ':', true).ok()??;
    Some((line.get(..at)?, at + 1))
}

/// The targets of a list and the octet in `list` where each begins; commas separate them, empty ones are
/// passed over.
pub(super) fn targets(
    list: &str,
    first_domain: &str,
) -> impl Iterator<Item = (usize, Result<Target, String>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = list.get(at..).filter(|rest| !rest.is_empty())?;
            let (word, length) = match find_outside(rest, ',', false) {
                Ok(Some(comma)) => (&rest[..comma], comma + 1),
                Ok(None) => (rest, rest.len()),
                Err(NotClosed) => (rest, rest.len()),
            };
            let begins = at + (word.len() - word.trim_start().len());
            at += length;
            let word = word.trim();
            if !word.is_empty() {
                return Some((begins, target(word, first_domain)));
            }
        }
    })
}

/// Reads what stands before the colon.
///
/// # Errors
/// Says what was expected.
pub(super) fn name(word: &str, local_domains: &[String]) -> Result<Name, String> {
    let word = word.trim();
    let expected = |error: PathError| {
        format!(
            "{}: expected name, name@domain or @domain before the colon: {error}",
            quoted(word)
        )
    };
    let ours = |mailbox: Mailbox| {
        if local_domains.iter().any(|domain| domain == mailbox.domain()) {
            return Ok(mailbox.in_lower_case());
        }
        let mut domains = local_domains
            .iter()
            .take(5)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if local_domains.len() > 5 {
            domains.push_str(", …");
        }
        Err(format!(
            "{}: expected a name in one of the local domains ({domains})",
            quoted(word)
        ))
    };
    if word.is_empty() {
        return Err("expected a name before the colon".to_owned());
    }
    if let Some(domain) = word.strip_prefix('@') {
        let any = Mailbox::parse(&format!("any@{domain}")).map_err(expected)?;
        return ours(any).map(|any| Name::Domain(any.domain().to_owned()));
    }
    match Mailbox::parse(word) {
        Ok(mailbox) => ours(mailbox).map(Name::Mailbox),
        Err(PathError::NoAt) => {
            let first = local_domains.first().map_or("", String::as_str);
            let mailbox = Mailbox::parse(&format!("{word}@{first}")).map_err(expected)?;
            Ok(Name::Everywhere(mailbox.in_lower_case()))
        }
        Err(error) => Err(expected(error)),
    }
}

fn target(word: &str, first_domain: &str) -> Result<Target, String> {
    // Quotes around the whole are for what follows the first character; else they belong to the local part.
    let inside = whole_quoted(word);
    let means = inside.as_deref().unwrap_or(word);
    // Nor is a program or a file the mailbox of that name.
    let names = means.trim_start_matches('\\');
    if names.starts_with('|') {
        return Err(format!(
            "{}: expected an address; an alias never runs a program",
            quoted(word)
        ));
    }
    if names.starts_with('/') {
        return Err(format!(
            "{}: expected an address; an alias never writes to a file",
            quoted(word)
        ));
    }
    if let Some((_, path)) = means
        .split_at_checked(INCLUDE.len())
        .filter(|(tag, _)| tag.eq_ignore_ascii_case(INCLUDE))
    {
        return match path.trim() {
            "" => Err(format!("{}: expected a file after :include:", quoted(word))),
            // Problems in that file are told under its name.
            path if path.contains(char::is_control) => Err(format!(
                "{}: expected a file without control characters in its name",
                quoted(word)
            )),
            path => Ok(Target::Include(PathBuf::from(path))),
        };
    }
    if let Some(address) = word.strip_prefix('\\') {
        return address_of(address, word, first_domain).map(Target::Final);
    }
    let bracketed = word
        .strip_suffix('>')
        .and_then(|word| word.rsplit_once('<'))
        .map(|(_, address)| address);
    address_of(bracketed.unwrap_or(word), word, first_domain).map(Target::Mailbox)
}

/// How an included file is marked.
const INCLUDE: &str = ":include:";

fn address_of(address: &str, word: &str, first_domain: &str) -> Result<Mailbox, String> {
    let read = match Mailbox::parse(address) {
        Err(PathError::NoAt) => Mailbox::parse(&format!("{address}@{first_domain}")),
        read => read,
    };
    read.map_err(|error| {
        let hint = if matches!(find_outside(address, '#', false), Ok(Some(_))) && address.contains(' ') {
            "; a comment has a line of its own"
        } else if find_outside(address, ',', false).is_err() {
            "; a quote is not closed"
        } else if address.contains([' ', '\t', '\n']) && !address.starts_with('"') {
            "; commas stand between targets"
        } else {
            ""
        };
        format!(
            "{}: expected an address, a local name or :include:/file: {error}{hint}",
            quoted(word)
        )
    })
}

/// What is between the quotes of a word that stands in quotes as a whole.
fn whole_quoted(word: &str) -> Option<Cow<'_, str>> {
    let inside = word.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => text.push(characters.next()?),
            _ => text.push(character),
        }
    }
    Some(Cow::Owned(text))
}

/// A quote that is opened and not closed on its line.
#[derive(Debug, PartialEq)]
struct NotClosed;

/// Where `wanted` stands first outside quotes, and where that is asked for, outside an address literal.
fn find_outside(text: &str, wanted: char, literals: bool) -> Result<Option<usize>, NotClosed> {
    let (mut in_quotes, mut in_literal) = (false, false);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\n' if in_quotes => return Err(NotClosed),
            '\\' if in_quotes => _ = characters.next(),
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            _ if character == wanted && !in_literal => return Ok(Some(at)),
            '[' => in_literal = literals,
            ']' => in_literal = false,
            _ => {}
        }
    }
    if in_quotes { Err(NotClosed) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains() -> Vec<String> {
        ["example.org", "example.net", "[192.0.2.1]", "[IPv6:2001:db8::1]"]
            .map(str::to_owned)
            .to_vec()
    }

    fn named(word: &str) -> Result<Name, String> {
        name(word, &domains())
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn read(list: &str) -> Vec<String> {
        targets(list, "example.org")
            .map(|(at, target)| match target {
                Ok(Target::Mailbox(mailbox)) => format!("{at} {mailbox}"),
                Ok(Target::Final(mailbox)) => format!("{at} \\{mailbox}"),
                Ok(Target::Include(path)) => format!("{at} < {}", path.display()),
                Err(what) => format!("{at} ! {what}"),
            })
            .collect()
    }

    #[test]
    fn the_colon_of_a_quoted_name_or_a_literal_is_not_the_one() {
        for (line, name) in [
            ("a: b", "a"),
            ("a:b:c", "a"),
            (r#""a: b" : c"#, r#""a: b" "#),
            ("a@[IPv6:2001:db8::1]: b", "a@[IPv6:2001:db8::1]"),
            (":", ""),
        ] {
            let (found, rest) = split_name(line).unwrap();
            assert_eq!(found, name);
            assert_eq!(&line[rest - 1..rest], ":");
        }
        for line in ["a b", r#""a: b"#, "a[b: c", ""] {
            assert_eq!(split_name(line), None, "{line}");
        }
    }

    #[test]
    fn names_are_local_parts_addresses_or_domains_of_ours_in_any_case() {
        assert_eq!(named(" Bob "), Ok(Name::Everywhere(mailbox("bob@example.org"))));
        assert_eq!(
            named(r#""Jane Doe""#),
            Ok(Name::Everywhere(mailbox(r#""jane doe"@example.org"#)))
        );
        assert_eq!(
            named(r#""Bob"@Example.NET"#),
            Ok(Name::Mailbox(mailbox("bob@example.net")))
        );
        assert_eq!(named("@Example.NET"), Ok(Name::Domain("example.net".into())));
        assert_eq!(named("@[192.0.2.1]"), Ok(Name::Domain("[192.0.2.1]".into())));
        for (word, expected) in [
            ("", "expected a name before the colon"),
            ("a b", "\"a b\": expected name, name@domain or @domain"),
            ("@", "expected name, name@domain or @domain"),
            ("a@b@c", "expected name, name@domain or @domain"),
            ("a@elsewhere.example", "local domains (example.org, example.net, "),
            ("@elsewhere.example", "local domains"),
        ] {
            let told = named(word).unwrap_err();
            assert!(told.contains(expected), "{word}: {told}");
        }
    }

    #[test]
    fn targets_are_addresses_local_names_and_included_files() {
        assert_eq!(
            read(r#" root, Bob@Example.NET,"a, b","x y"@c.example, \bob , Jane Doe <jane@d.example>,,"#),
            [
                "1 root@example.org",
                "7 Bob@example.net",
                r#"23 "a, b"@example.org"#,
                r#"30 "x y"@c.example"#,
                r"47 \bob@example.org",
                "54 jane@d.example",
            ]
        );
        assert_eq!(
            read(r#":include:/a/b, ":include: lists/a b", :Include:c"#),
            ["0 < /a/b", "15 < lists/a b", "38 < c"]
        );
        assert_eq!(read(" , \n ,"), <[&str; 0]>::default());
    }

    #[test]
    fn programs_and_files_are_no_targets() {
        for word in ["|/bin/cat", r#""|/bin/cat -v""#, r#""\|cat""#, "|a@b.example"] {
            let told = read(word).remove(0);
            assert!(told.contains("never runs a program"), "{told}");
        }
        for word in ["/dev/null", r#""/var/mail/a b""#, "/a@b.example"] {
            let told = read(word).remove(0);
            assert!(told.contains("never writes to a file"), "{told}");
        }
    }

    #[test]
    fn what_is_no_target_is_told_with_what_was_expected() {
        for (word, expected) in [
            (
                "a@",
                "\"a@\": expected an address, a local name or :include:/file: malformed domain",
            ),
            ("a..b", "malformed local part"),
            ("a b@c.example", "commas stand between targets"),
            ("a # the first", "a comment has a line of its own"),
            ("\"a", "a quote is not closed"),
            ("\"a\nb\"", "a quote is not closed"),
            (":include: ", "expected a file after :include:"),
            (":include:/a\u{7}", "expected a file without control characters"),
            (":include:/a\n/b", "expected a file without control characters"),
            ("<>", "malformed local part"),
            ("\\", "malformed local part"),
        ] {
            let told = read(word).remove(0);
            assert!(told.contains(expected), "{word}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_list_is_beyond_reading(list in any::<String>()) {
            for (at, _) in targets(&list, "example.org") {
                prop_assert!(at < list.len());
            }
            let _ = named(&list);
            if let Some((name, rest)) = split_name(&list) {
                prop_assert_eq!(name.len() + 1, rest);
            }
        }

        #[test]
        fn what_is_quoted_never_becomes_a_program_or_a_file(text in r#"["\\|/a:, ]{0,8}"#) {
            let word = format!("\"{text}\"");
            for (_, target) in targets(&word, "example.org") {
                if let Ok(Target::Mailbox(mailbox)) = target {
                    let text = mailbox.local_text();
                    prop_assert!(!text.starts_with('|') && !text.starts_with('/'), "{}", text);
                }
            }
        }
    }
}
