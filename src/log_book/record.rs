//! How one record becomes one line, whatever a client put into it; and the same line as JSON.
//!
//! Pure. Owns the form of a record: fields first, `id=… key=value`, then words. Never lets a control character through,
//! and no line grow beyond [`LONGEST`]. What a peer may choose stands in `<…>` or in quotes, or behind the first word that
//! is no field: so it makes no fields of its own.

use std::fmt::{self, Write};

use log::Level;
use serde_json::{Map, Value};

/// The most octets of one line; what is beyond is cut off, and `…` stands for it.
pub const LONGEST: usize = 4096;

/// The fields that are numbers. An ID is none, though it may look like one.
const NUMBERS: [&str; 6] = ["size", "recipients", "messages", "list", "sessions", "failures"];

/// `iseshlr0 INFO message`: the thread (`-` if it has no name; the main thread is the task smtpmta), the
/// level, and the clean message. The scribe puts the time before it.
#[must_use]
pub fn line(thread: Option<&str>, level: Level, message: &fmt::Arguments) -> String {
    let mut clean = Clean {
        text: String::with_capacity(128),
        full: false,
    };
    // A `Display` that fails leaves what it wrote so far, and that is still worth a line.
    let thread = thread.map_or("-", |name| if name == "main" { "smtpmta" } else { name });
    let _ = write!(clean, "{thread} {level} {message}");
    clean.text
}

/// The level of a [`line()`].
#[must_use]
pub fn level(line: &str) -> Level {
    let word = line.split(' ').nth(1);
    word.and_then(|word| word.parse().ok()).unwrap_or(Level::Info)
}

/// A [`line()`] without its level: for those who are told it otherwise.
#[must_use]
pub fn without_level(line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let (task, message) = (words.next(), words.nth(1));
    format!("{} {}", task.unwrap_or_default(), message.unwrap_or_default())
}

/// A [`line()`] as a JSON object on one line: `ts` (the moment, as `at` writes it), `task`, `level`, the fields that the
/// message begins with, and `msg`, which is the rest of it.
#[must_use]
pub fn json(at: &str, line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let (task, level) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (fields, message) = fields(words.next().unwrap_or_default());
    let mut object: Map<String, Value> = fields
        .into_iter()
        .map(|(name, text)| (name.to_owned(), value(name, text)))
        .collect();
    // Last, so that no field takes the place of one of these.
    for (name, text) in [
        ("ts", at),
        ("task", task),
        ("level", level.to_ascii_lowercase().as_str()),
        ("msg", message),
    ] {
        object.insert(name.to_owned(), text.into());
    }
    Value::Object(object).to_string()
}

/// The fields that a message begins with, and the rest of it.
fn fields(message: &str) -> (Vec<(&str, &str)>, &str) {
    let (mut fields, mut rest) = (Vec::new(), message);
    while let Some((name, text, behind)) = field(rest) {
        fields.push((name, text));
        rest = behind;
    }
    (fields, rest)
}

/// The field at the beginning, and what is behind it.
fn field(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_lowercase()) {
        return None;
    }
    let (value, behind) = rest.split_at(length_of_value(rest)?);
    Some((name, value, behind.strip_prefix(' ').unwrap_or(behind)))
}

/// How long the value at the beginning is: up to a space that is neither in `<…>` nor in quotes. `None` where one of these
/// has no end, as in a line that was cut off.
fn length_of_value(text: &str) -> Option<usize> {
    let (mut in_brackets, mut in_quotes, mut is_escaped) = (false, false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_quotes => is_escaped = true,
            b'"' => in_quotes = !in_quotes,
            b' ' if !in_brackets && !in_quotes => return Some(at),
            b'<' if !in_quotes => in_brackets = true,
            b'>' if !in_quotes => in_brackets = false,
            _ => {}
        }
    }
    (!in_brackets && !in_quotes).then_some(text.len())
}

/// What a field says, without the brackets or quotes around it.
fn value(name: &str, text: &str) -> Value {
    if NUMBERS.contains(&name)
        && let Ok(number) = text.parse::<u64>()
    {
        return number.into();
    }
    let between = |first: char, last: char| text.strip_prefix(first)?.strip_suffix(last);
    between('<', '>')
        .or_else(|| between('"', '"'))
        .unwrap_or(text)
        .into()
}

/// The same cleaning for a line that stands alone.
#[must_use]
pub fn plain(line: &str) -> String {
    let mut clean = Clean {
        text: String::with_capacity(line.len()),
        full: false,
    };
    let _ = clean.write_str(line);
    clean.text
}

/// Takes text and keeps what may stand in a line.
struct Clean {
    text: String,
    full: bool,
}

impl Write for Clean {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for letter in piece.chars() {
            if self.full {
                break;
            }
            if self.text.len() + 12 > LONGEST {
                self.full = true;
                self.text.push('…');
            } else if forges(letter) {
                write!(self.text, "{}", letter.escape_default())?;
            } else {
                self.text.push(letter);
            }
        }
        Ok(())
    }
}

/// Whether a letter could end the line, move the cursor, or turn the direction of reading.
fn forges(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}'
        )
        || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_names_thread_and_level() {
        let told = line(Some("iseshlr0"), Level::Info, &format_args!("id={} stored", "A1"));
        assert_eq!(told, "iseshlr0 INFO id=A1 stored");
        assert_eq!(
            line(Some("main"), Level::Warn, &format_args!("x")),
            "smtpmta WARN x"
        );
        assert_eq!(line(None, Level::Warn, &format_args!("x")), "- WARN x");
    }

    #[test]
    fn no_client_can_forge_a_line() {
        let from = "a\r\n2026-11-23T19:20:01.123 smtpmta ERROR forged\0\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\t";
        let told = line(Some("iseshlr0"), Level::Info, &format_args!("from=<{from}>"));
        assert!(told.starts_with(r"iseshlr0 INFO from=<a\r\n2026-11-23T"));
        assert!(
            told.ends_with(r"\u{0}\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\t>"),
            "{told}"
        );
    }

    #[test]
    fn letters_of_all_scripts_stay() {
        assert_eq!(plain("Bücher → 本"), "Bücher → 本");
    }

    #[test]
    fn a_long_record_is_cut_off() {
        let told = plain(&"é".repeat(10_000));
        assert!(told.len() <= LONGEST && told.ends_with('…'), "{}", told.len());
    }

    fn read(line: &str) -> Value {
        let told = json("2026-11-23T19:20:01.123+01:00", line);
        assert!(!told.chars().any(char::is_control), "{told:?}");
        serde_json::from_str(&told).unwrap()
    }

    #[test]
    fn as_json_a_line_has_the_fields_that_it_begins_with_and_the_rest_is_its_message() {
        let told = read(
            "iseshlr0 INFO id=0006 from=<> recipients=2 client=192.0.2.7 tls=\"TLSv1.3 AES\" stored size=5",
        );
        let expected = serde_json::json!({
            "ts": "2026-11-23T19:20:01.123+01:00", "task": "iseshlr0", "level": "info", "id": "0006", "from": "",
            "recipients": 2, "client": "192.0.2.7", "tls": "TLSv1.3 AES", "msg": "stored size=5",
        });
        assert_eq!(told, expected);
        assert_eq!(read("smtpmta WARN x")["msg"], "x");
        assert_eq!(
            without_level("iseshlr0 INFO id=0006 stored"),
            "iseshlr0 id=0006 stored"
        );
        assert_eq!(level("iseshlr0 TRACE id=0006 INFO"), Level::Trace);
    }

    #[test]
    fn no_peer_makes_fields_of_its_own_nor_takes_the_place_of_others() {
        let told = read(r#"iseshlr0 INFO id=0006 to=<"a> id=0007 msg=\" x"@b.example> deferred 450 id=0008"#);
        assert_eq!(told["id"], "0006");
        assert_eq!(told["to"], r#""a> id=0007 msg=\" x"@b.example"#);
        assert_eq!(told["msg"], "deferred 450 id=0008");
        let told = read("iseshlr0 INFO level=high task=none ts=never msg=no yes");
        assert_eq!(
            (&told["level"], &told["msg"]),
            (&Value::from("info"), &Value::from("yes"))
        );
        // What has lost its end is no field.
        let told = read("iseshlr0 INFO id=0006 to=<a b…");
        assert_eq!((told.get("to"), &told["msg"]), (None, &Value::from("to=<a b…")));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_json_object_on_one_line(text in any::<String>(), field in any::<String>()) {
            let line = line(Some("iseshlr0"), Level::Warn, &format_args!("id=0006 from=<{field}> {text}"));
            let told = read(&line);
            prop_assert_eq!(&told["task"], "iseshlr0");
            prop_assert_eq!(&told["level"], "warn");
            prop_assert_eq!(level(&line), Level::Warn);
        }

        #[test]
        fn whatever_comes_is_one_line(text in any::<String>()) {
            let told = plain(&text.repeat(50));
            prop_assert!(told.len() <= LONGEST);
            prop_assert!(!told.chars().any(char::is_control));
        }
    }
}
