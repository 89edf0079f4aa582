//! The place of a mailbox: `--mail-dir` with its names put in, made safe.
//!
//! Whatever the mailbox's name is, it stays below the template, and two names never share a place. Never
//! looks at the disk.

use std::path::{Path, PathBuf};

use crate::smtp::path::Mailbox;

/// The longest piece of a name that becomes one directory; file systems allow 255 octets.
const LONGEST_PIECE: usize = 200;

/// The directory that `template` names for this mailbox: `%d` is its domain, `%u` its local part, `%%` a
/// percent sign; any other `%` stands for itself.
///
/// The local part is taken without quotes and in lower case. Of both names only
/// `a-z 0-9 . _ + - =` stay as they are, and a dot not at the beginning; every other octet becomes `%XX`. A
/// name that is too long for one directory goes on in a directory below, and what goes on ends with `%`.
#[must_use]
pub fn place(template: &str, mailbox: &Mailbox) -> PathBuf {
    let text = filled(template, |sign| match sign {
        'd' => Some(safe(mailbox.domain())),
        _ => Some(safe(&mailbox.local_text())),
    });
    PathBuf::from(text.unwrap_or_else(|before| before))
}

/// The folder below which all that `template` names lies, or where a single Maildir is all.
#[must_use]
pub fn common_folder(template: &str) -> PathBuf {
    let folder = match filled(template, |_| None) {
        Ok(whole) => whole,
        Err(before) => before[..before.rfind('/').map_or(0, |slash| slash + 1)].to_owned(),
    };
    match folder.as_str() {
        "" => PathBuf::from("."),
        folder => Path::new(folder).components().collect(),
    }
}

/// The template with what `name` gives for `d` and `u`; what was before the first for which it gives nothing.
fn filled(template: &str, name: impl Fn(char) -> Option<String>) -> Result<String, String> {
    let mut path = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('%') {
        path.push_str(before);
        let sign = after.chars().next();
        match sign {
            Some(sign @ ('d' | 'u')) => match name(sign) {
                Some(name) => path.push_str(&name),
                None => return Err(path),
            },
            _ => path.push('%'),
        }
        rest = match sign {
            Some('d' | 'u' | '%') => &after[1..],
            _ => after,
        };
    }
    path.push_str(rest);
    Ok(path)
}

/// A name that reaches nowhere else. Reversible, so that no two names become the same one: a `%` that is not
/// followed by two digits stands only where a piece ends, or for the empty name.
fn safe(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut safe = String::with_capacity(name.len());
    let mut piece = 0;
    for octet in name.bytes().map(|octet| octet.to_ascii_lowercase()) {
        if piece >= LONGEST_PIECE - 2 {
            safe.push_str("%/");
            piece = 0;
        }
        let plain = match octet {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'+' | b'-' | b'=' => true,
            // `.` and `..` lead elsewhere, and what begins with a dot is hidden (a Maildir++ folder, even).
            b'.' => piece > 0,
            _ => false,
        };
        if plain {
            safe.push(char::from(octet));
            piece += 1;
        } else {
            safe.push_str(&format!("%{octet:02X}"));
            piece += 3;
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    fn placed(template: &str, address: &str) -> String {
        place(template, &Mailbox::parse(address).unwrap())
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn domain_and_local_part_are_put_in() {
        assert_eq!(placed("/m/%d/%u", "Bob@Example.Org"), "/m/example.org/bob");
        assert_eq!(placed("%u%%%x %", "bob@a"), "bob%%x %");
        assert_eq!(placed("/m/all", "bob@a"), "/m/all");
        assert_eq!(placed("/m/%d/%u", "a@[192.0.2.1]"), "/m/%5B192.0.2.1%5D/a");
    }

    #[test]
    fn all_that_a_template_names_is_below_one_folder() {
        for (template, expected) in [
            ("/%u", "/"),
            ("/tmp/mail-%d/%u", "/tmp"),
            ("/srv/mail/%d/%u", "/srv/mail"),
            ("no-such-folder/%u", "no-such-folder"),
            ("%u", "."),
            ("/a%%b/100%/mail/%u", "/a%b/100%/mail"),
            ("/mail", "/mail"),
        ] {
            assert_eq!(common_folder(template), Path::new(expected), "{template}");
        }
    }

    #[test]
    fn names_with_signs_are_places_of_their_own() {
        assert_eq!(placed("%u", "bob+lists@a"), "bob+lists");
        assert_eq!(placed("%u", "*@a"), "%2A");
    }

    #[test]
    fn no_name_leads_elsewhere() {
        for (local_part, expected) in [
            ("\"..\"", "%2E."),
            ("\".\"", "%2E"),
            ("\"\"", "%"),
            ("\"../../etc/passwd\"", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("\"/etc\"", "%2Fetc"),
            ("\"a\\\"b c\"", "a%22b%20c"),
            ("\"%2e\"", "%252e"),
        ] {
            assert_eq!(placed("%u", &format!("{local_part}@a")), expected);
        }
        assert_eq!(safe("a\0"), "a%00");
        assert_eq!(safe("müller"), "m%C3%BCller");
    }

    #[test]
    fn a_long_name_goes_on_in_a_directory_below() {
        assert_eq!(safe(&"a".repeat(198)), "a".repeat(198));
        assert_eq!(safe(&"a".repeat(199)), format!("{}%/a", "a".repeat(198)));
        assert_eq!(safe(&".".repeat(198)), format!("%2E{}%/%2E.", ".".repeat(195)));
    }

    proptest! {
        #[test]
        fn every_name_is_one_place_below_the_template(
            names in prop::collection::vec("([./%a-c+\0ü]|[a.]{190,210}){0,3}", 2..6),
        ) {
            let mut seen = HashMap::new();
            for name in names {
                let safe = safe(&name);
                let path = Path::new("/m").join(&safe);
                prop_assert!(path.components().skip(2).all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(path.components().all(|part| part.as_os_str().len() <= 255));
                prop_assert!(!safe.contains('\0') && path.starts_with("/m") && path != Path::new("/m"));
                if let Some(other) = seen.insert(safe, name.clone()) {
                    prop_assert_eq!(other, name);
                }
            }
        }
    }
}
