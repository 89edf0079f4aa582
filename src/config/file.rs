//! The grammar of the configuration file: lines of `name value`, `#` begins a comment.
//!
//! Pure. Never knows which names there are; that is `flags`.

use std::borrow::Cow;

/// A line that decides something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, counted from 1.
    pub number: usize,
    /// The first word.
    pub name: String,
    /// The rest of the line without its comment and its quotes; `None` where there is no rest.
    pub value: Option<String>,
}

/// A line that cannot be read, with what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number, counted from 1.
    pub number: usize,
    /// The first word; empty where there is none.
    pub name: String,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The lines of a file that decide something; blank lines and comments are passed over.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Result<Line, Broken>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text); // some editors begin a file with a mark
    let numbered = text.split(|byte| *byte == b'\n').zip(1..);
    numbered.filter_map(|(line, number)| read(line, number).transpose())
}

/// A line that [`lines`] reads back as this name and value.
#[must_use]
pub fn line(name: &str, value: &str) -> String {
    format!("{name} {}", quote(value))
}

fn read(line: &[u8], number: usize) -> Result<Option<Line>, Broken> {
    let broken = |name: &str, what| Broken {
        number,
        name: name.to_owned(),
        what,
    };
    let Ok(line) = str::from_utf8(line) else {
        return Err(broken("", "expected text in UTF-8"));
    };
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let value = match rest.trim_start().strip_prefix('"') {
        Some(rest) => Some(unquote(rest).map_err(|what| broken(name, what))?),
        None => Some(without_comment(rest).trim().to_owned()).filter(|value| !value.is_empty()),
    };
    Ok(Some(Line {
        number,
        name: name.to_owned(),
        value,
    }))
}

/// What stands before a `#` that follows a blank; the blank after the name counts.
fn without_comment(rest: &str) -> &str {
    let mut blank = true;
    for (at, letter) in rest.char_indices() {
        if letter == '#' && blank {
            return &rest[..at];
        }
        blank = letter.is_whitespace();
    }
    rest
}

/// What stands before the closing quote; a backslash keeps the meaning of a quote or backslash from it.
fn unquote(rest: &str) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next() {
            Some('"') => break,
            Some('\\') => value.push(letters.next().ok_or("expected a closing quote")?),
            Some(letter) => value.push(letter),
            None => return Err("expected a closing quote"),
        }
    }
    let after = letters.as_str();
    let comment = after.starts_with(char::is_whitespace) && after.trim_start().starts_with('#');
    if after.is_empty() || comment {
        Ok(value)
    } else {
        Err("expected nothing after the closing quote")
    }
}

fn quote(value: &str) -> Cow<'_, str> {
    let blank_at_an_end = value.trim() != value || value.is_empty();
    if blank_at_an_end || value.contains(['"', '#', '\\']) {
        Cow::Owned(format!(
            "\"{}\"",
            value.replace('\\', "\\\\").replace('"', "\\\"")
        ))
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<(String, Option<String>)> {
        lines(text.as_bytes())
            .map(Result::unwrap)
            .map(|line| (line.name, line.value))
            .collect()
    }

    fn one(text: &str) -> Option<String> {
        values(text).pop().and_then(|(_, value)| value)
    }

    #[test]
    fn a_value_is_the_rest_of_the_line() {
        assert_eq!(one("retry-schedule  5m 15m\t1h \r\n"), Some("5m 15m\t1h".into()));
        assert_eq!(
            one("\t spool\t/var/spool/smtpmta"),
            Some("/var/spool/smtpmta".into())
        );
        assert_eq!(values("daemon\n"), [("daemon".into(), None)]);
    }

    #[test]
    fn a_comment_begins_at_the_start_or_after_a_blank() {
        assert_eq!(values("# all\n  # of this\n#\n\n \n"), []);
        assert_eq!(one("spool /a#b # here"), Some("/a#b".into()));
        assert_eq!(one("spool # nothing"), None);
        assert_eq!(one("spool #nothing"), None);
    }

    #[test]
    fn quotes_keep_blanks_and_hashes() {
        assert_eq!(one(r#"spool "/a b # c " # comment"#), Some("/a b # c ".into()));
        assert_eq!(one(r#"spool "a\"b\\c""#), Some(r#"a"b\c"#.into()));
        assert_eq!(one(r#"spool """#), Some(String::new()));
        assert_eq!(one(r#"spool a"b"#), Some(r#"a"b"#.into()));
    }

    #[test]
    fn broken_lines_keep_their_numbers_and_the_others_are_read() {
        let text = b"\xef\xbb\xbfspool \"a\n\nhostname b\nuser \"a\" b\nexpire \xff\nuser \"a\"b\nuser \"a\\";
        let read: Vec<_> = lines(text).collect();
        let numbers: Vec<usize> = read
            .iter()
            .filter_map(|line| Some(line.as_ref().err()?.number))
            .collect();
        assert_eq!(numbers, [1, 4, 5, 6, 7]);
        let line = Line {
            number: 3,
            name: "hostname".into(),
            value: Some("b".into()),
        };
        assert_eq!(read[1], Ok(line));
    }

    proptest! {
        #[test]
        fn every_value_without_line_ends_is_read_back(value in "[^\r\n]*") {
            prop_assert_eq!(one(&line("name", &value)), Some(value));
        }

        #[test]
        fn no_file_is_beyond_reading(text in any::<Vec<u8>>()) {
            prop_assert!(lines(&text).count() <= text.len() + 1);
        }
    }
}
