//! How we log in at other hosts: the file of `--relay-auth`.
//!
//! Pure but for reading the file. Never shows a password, neither in a problem nor in a log.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::config::values::address;
use crate::domain_list::next_hop::NextHop;
use crate::named_file;

/// The file is never longer than this, in octets.
const LONGEST_FILE: u64 = 1 << 20;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?}, …)", self.user)
    }
}

/// All logins of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    entries: Vec<Entry>,
}

/// What is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginsError {
    /// The file, and the line in it, counted from 1, where it is about one.
    place: String,
    what: String,
}

impl fmt::Display for LoginsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for LoginsError {}

impl Logins {
    /// Reads the file.
    ///
    /// # Errors
    /// The first thing that is wrong with it, or why it cannot be read.
    pub fn read(path: &Path) -> Result<Logins, LoginsError> {
        let name = path.display().to_string();
        let whole = |what: String| LoginsError {
            place: name.clone(),
            what,
        };
        let text = named_file::read(path, LONGEST_FILE)
            .map_err(|error| whole(format!("cannot be read: {error}")))?;
        if text.len() as u64 > LONGEST_FILE {
            return Err(whole("expected a file of 1M at most".into()));
        }
        Logins::parse(&text).map_err(|(line, what)| LoginsError {
            place: format!("{name}: line {line}"),
            what,
        })
    }

    /// Reads the text of a file: a line each, `HOST[:PORT] USER:PASSWORD`, or `USER:PASSWORD` for the relay host;
    /// blank lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// The number of the first line that is none, and what was expected of it.
    pub fn parse(text: &[u8]) -> Result<Logins, (usize, String)> {
        let mut logins = Logins::default();
        for (line, number) in text.split(|octet| *octet == b'\n').zip(1..) {
            let line = str::from_utf8(line).map_err(|_| (number, "expected text in UTF-8".to_owned()))?;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = entry(line).ok_or_else(|| {
                let form = "expected HOST[:PORT] USER:PASSWORD, or USER:PASSWORD for the relay host";
                (number, form.to_owned())
            })?;
            if logins.entries.iter().any(|(place, _)| *place == entry.0) {
                return Err((number, "expected each host once".to_owned()));
            }
            logins.entries.push(entry);
        }
        Ok(logins)
    }

    /// The login for a host (lower case) at this port: a line with the port before one without, and what is said for
    /// the relay host if it is that.
    #[must_use]
    pub fn of(&self, host: &str, port: u16, is_relay_host: bool) -> Option<Arc<Login>> {
        let find = |wanted: Option<(&str, Option<u16>)>| {
            let mut entries = self.entries.iter();
            entries.find(|(place, _)| place.as_ref().map(|(name, port)| (name.as_str(), *port)) == wanted)
        };
        find(Some((host, Some(port))))
            .or_else(|| find(Some((host, None))))
            .or_else(|| find(None).filter(|_| is_relay_host))
            .map(|(_, login)| Arc::clone(login))
    }
}

/// A line of the file: for which host, `None` is the relay host.
type Entry = (Option<Place>, Arc<Login>);

/// A host, with its port where one was given.
type Place = (String, Option<u16>);

fn entry(line: &str) -> Option<Entry> {
    let (place, login) = match line.split_once(char::is_whitespace) {
        Some((host, rest)) if place(host).is_some() && rest.contains(':') => (place(host), rest.trim_start()),
        // A password may have blanks in it.
        _ => (None, line),
    };
    let (user, password) = login.split_once(':')?;
    let is_fine = |text: &str| !text.is_empty() && !text.contains('\0') && text.len() <= 1000;
    let login = Login {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    (is_fine(user) && is_fine(password)).then(|| (place, Arc::new(login)))
}

/// `HOST[:PORT]`; a name may stand in brackets, as Postfix writes it.
fn place(text: &str) -> Option<Place> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) if !inner.contains(':') => (format!("{inner}{rest}"), rest),
        Some((_, rest)) => (text.to_owned(), rest),
        None => (text.to_owned(), text),
    };
    let has_port = port.contains(':');
    match address::next_hop(&host).ok()? {
        NextHop::Host(name, port) => Some((name, has_port.then_some(port))),
        NextHop::Domain(_) | NextHop::Lmtp(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, host: &str, port: u16, is_relay_host: bool) -> Option<(String, String)> {
        let logins = Logins::parse(text.as_bytes()).unwrap();
        let login = logins.of(host, port, is_relay_host)?;
        Some((login.user.clone(), login.password.clone()))
    }

    fn login(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn a_line_with_the_port_goes_before_one_without_and_the_relay_host_comes_last() {
        let text = "# ours\n\nme@example.org:a:b c\nMail.example.net you:x\n[mail.example.net]:587 they:y z\n\
                    [2001:db8::1]:25 six:6\r\n";
        assert_eq!(of(text, "mail.example.net", 587, false), login("they", "y z"));
        assert_eq!(of(text, "mail.example.net", 25, true), login("you", "x"));
        assert_eq!(of(text, "2001:db8::1", 25, false), login("six", "6"));
        assert_eq!(
            of(text, "other.example.net", 25, true),
            login("me@example.org", "a:b c")
        );
        assert_eq!(of(text, "other.example.net", 25, false), None);
    }

    #[test]
    fn a_line_that_says_no_login_is_told_by_its_number_and_never_by_its_words() {
        for wrong in ["secret", ":secret", "user:", "host.example user", "me:a\nme:b"] {
            let text = format!("# first\n{wrong}\n");
            let (line, what) = Logins::parse(text.as_bytes()).unwrap_err();
            assert!(line >= 2 && !what.contains("secret"), "{wrong}: {line} {what}");
        }
        assert!(Logins::parse(b"me:\xff").is_err());
    }

    #[test]
    fn a_password_is_never_shown() {
        let logins = Logins::parse(b"me:sesame").unwrap();
        assert!(!format!("{logins:?}").contains("sesame"));
    }
}
