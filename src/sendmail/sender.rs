//! Who calls: the user whose real ID this process has, for the envelope and for a From line that is missing.
//!
//! Never asks the environment where the system knows the user: what stands there anybody can say.

use data_encoding::BASE64;
use nix::unistd::{Uid, User};

use crate::smtp::path::Mailbox;

/// Octets of text that fit into one encoded word (RFC 2047 2: 75 with what stands around it).
const ENCODED: usize = 42;

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Its login name, or its number where it has none.
    pub(super) name: String,
    /// What it is called by people.
    pub(super) full_name: Option<String>,
}

impl Caller {
    /// The one who calls.
    pub(super) fn here() -> Caller {
        let uid = Uid::current();
        match User::from_uid(uid) {
            Ok(Some(user)) => Caller::new(user.name, &user.gecos.to_string_lossy()),
            _ => Caller::new(uid.to_string(), ""),
        }
    }

    /// By what the system knows of it: in the first part of the last field `&` stands for the name.
    fn new(name: String, gecos: &str) -> Caller {
        let mut capital = name.clone();
        if let Some(first) = capital.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let full = gecos.split(',').next().unwrap_or_default();
        let full = full.trim().replace('&', &capital);
        Caller {
            name,
            full_name: Some(full).filter(|full| !full.is_empty()),
        }
    }
}

/// A From line, with its end.
pub(super) fn from_line(full_name: Option<&str>, address: &Mailbox) -> String {
    match full_name.map(phrase).filter(|phrase| !phrase.is_empty()) {
        Some(phrase) => format!("From: {phrase} <{address}>\n"),
        None => format!("From: {address}\n"),
    }
}

/// A name as a header can hold it (RFC 5322 3.2.5, RFC 2047 5): as it is, quoted, or encoded.
fn phrase(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let name = name.trim();
    let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~ ".contains(c);
    if !name.is_ascii() {
        return encoded(name);
    }
    if name.chars().all(is_atom) && !name.contains("=?") {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn encoded(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut piece = String::new();
    for character in text.chars() {
        if piece.len() + character.len_utf8() > ENCODED {
            words.push(std::mem::take(&mut piece));
        }
        piece.push(character);
    }
    words.push(piece);
    let words = words
        .iter()
        .map(|word| format!("=?utf-8?B?{}?=", BASE64.encode(word.as_bytes())));
    // White space between two encoded words is none of the text (RFC 2047 6.2).
    words.collect::<Vec<_>>().join("\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_as_the_system_calls_it() {
        let caller = |gecos| Caller::new("bob".to_owned(), gecos).full_name;
        assert_eq!(caller("Bob Smith,Room 5,,"), Some("Bob Smith".to_owned()));
        assert_eq!(caller("& Smith"), Some("Bob Smith".to_owned()));
        assert_eq!(caller(",,,"), None);
        assert_eq!(Caller::new("ü".to_owned(), "&").full_name, Some("ü".to_owned()));
        assert!(!Caller::here().name.is_empty());
    }

    #[test]
    fn a_name_is_written_so_that_it_can_be_read_again() {
        let bob = Mailbox::parse("bob@a.example").unwrap();
        for (name, line) in [
            ("Bob Smith", "From: Bob Smith <bob@a.example>\n"),
            (
                "Smith, Bob \"B\\\"",
                "From: \"Smith, Bob \\\"B\\\\\\\"\" <bob@a.example>\n",
            ),
            ("Bob\r\nBcc: x@y", "From: \"Bob  Bcc: x@y\" <bob@a.example>\n"),
            ("Jörg", "From: =?utf-8?B?SsO2cmc=?= <bob@a.example>\n"),
            ("=?x?q?y?=", "From: \"=?x?q?y?=\" <bob@a.example>\n"),
            ("  ", "From: bob@a.example\n"),
        ] {
            assert_eq!(from_line(Some(name), &bob), line);
        }
        assert_eq!(from_line(None, &bob), "From: bob@a.example\n");
        let long = from_line(Some(&"ü".repeat(50)), &bob);
        let field = mailparse::parse_header(long.as_bytes()).unwrap().0;
        assert_eq!(field.get_value(), format!("{} <bob@a.example>", "ü".repeat(50)));
        assert!(long.lines().all(|line| line.len() < 90), "{long}");
    }
}
