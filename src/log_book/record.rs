//! How one record becomes one line, whatever a client put into it.
//!
//! Pure. Never lets a control character through, and no line grow beyond [`LONGEST`].

use std::fmt::{self, Write};

use log::Level;

/// The most octets of one line; what is beyond is cut off, and `…` stands for it.
pub const LONGEST: usize = 4096;

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
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
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

    proptest! {
        #[test]
        fn whatever_comes_is_one_line(text in any::<String>()) {
            let told = plain(&text.repeat(50));
            prop_assert!(told.len() <= LONGEST);
            prop_assert!(!told.chars().any(char::is_control));
        }
    }
}
