//! `smtpmta passwd`: asks for a password and makes a line for the accounts file of it.
//!
//! Never shows the password, and never touches the accounts file.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read, Write};

use aws_lc_rs::rand;
use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};

use super::scheme::{Scheme, SchemeError};
use super::table::CATCH_ALL;
use super::{LONGEST_PASSWORD, file};
use crate::config::exit::Exit;

/// Ctrl-C, as a terminal gives it while it makes no signal of it.
const CTRL_C: u8 = 3;

/// Asks for a password, twice on a terminal and once where standard input is none, and gives the line:
/// `address:{SCHEME}…`, or without an address its second field alone.
///
/// # Errors
/// When no password comes that could be used, or the hash cannot be made.
pub fn line(scheme: Scheme, address: Option<&str>) -> Result<String, PasswdError> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        ask()?
    } else {
        password(first_line(&mut stdin.lock())?)?
    };
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| PasswdError::Random)?;
    let field = scheme.field(&password, salt).map_err(PasswdError::Scheme)?;
    Ok(match address {
        Some(address) => format!("{address}:{field}\n"),
        None => format!("{field}\n"),
    })
}

/// What is wrong with an address whose line is to be made, or with the part of one before the `@`.
#[must_use]
pub fn wrong(address: &str) -> Option<String> {
    match file::named(address, "domain") {
        Err(error) => Some(format!("expected an address: {error}")),
        Ok(mailbox) if mailbox.local_text() == CATCH_ALL => {
            Some("expected an address that can log in; this one catches all".into())
        }
        // Nothing in the file keeps the meaning of these from them.
        Ok(_) if address.contains(':') || address.starts_with('#') => {
            Some("expected an address without a colon, and without # in front".into())
        }
        Ok(_) => None,
    }
}

/// What went wrong.
#[derive(Debug)]
pub enum PasswdError {
    /// An empty password.
    Empty,
    /// More octets than a password may have.
    TooLong,
    /// Not UTF-8.
    NotText,
    /// The second one was another.
    Different,
    /// Ctrl-C.
    Cancelled,
    /// Standard input.
    Input(io::Error),
    /// No random octets.
    Random,
    /// No hash.
    Scheme(SchemeError),
}

impl PasswdError {
    /// How the run ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            PasswdError::Empty | PasswdError::TooLong | PasswdError::NotText => Exit::Usage,
            PasswdError::Different | PasswdError::Cancelled => Exit::Refused,
            PasswdError::Input(_) | PasswdError::Random | PasswdError::Scheme(_) => Exit::TryLater,
        }
    }
}

impl fmt::Display for PasswdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswdError::Empty => f.write_str("expected a password that is not empty"),
            PasswdError::TooLong => {
                write!(f, "expected a password of at most {LONGEST_PASSWORD} octets")
            }
            PasswdError::NotText => f.write_str("expected a password in UTF-8"),
            PasswdError::Different => f.write_str("the two passwords are not the same"),
            PasswdError::Cancelled => f.write_str("cancelled"),
            PasswdError::Input(error) => write!(f, "standard input: {error}"),
            PasswdError::Random => f.write_str("the system has no random octets to give"),
            PasswdError::Scheme(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PasswdError {}

/// Asks twice on the terminal that standard input is.
fn ask() -> Result<String, PasswdError> {
    let _silent = Silence::begin().map_err(PasswdError::Input)?;
    let first = password(prompted("Password: ")?)?;
    if prompted("The same again: ")? != first.as_bytes() {
        return Err(PasswdError::Different);
    }
    Ok(first)
}

/// Asks once. What is asked goes to standard error, so that standard output has the line alone.
fn prompted(question: &str) -> Result<Vec<u8>, PasswdError> {
    let mut stderr = io::stderr();
    stderr
        .write_all(question.as_bytes())
        .map_err(PasswdError::Input)?;
    let line = first_line(&mut io::stdin().lock());
    // The terminal echoed not even the end of the line.
    let _ = stderr.write_all(b"\n");
    line
}

/// A line without its end; Ctrl-C ends one, too.
fn first_line(input: &mut impl BufRead) -> Result<Vec<u8>, PasswdError> {
    let mut line = Vec::new();
    let most = LONGEST_PASSWORD as u64 + 2;
    for octet in input.take(most).bytes() {
        match octet.map_err(PasswdError::Input)? {
            b'\n' => break,
            CTRL_C => return Err(PasswdError::Cancelled),
            octet => line.push(octet),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn password(line: Vec<u8>) -> Result<String, PasswdError> {
    match line.len() {
        0 => Err(PasswdError::Empty),
        octets if octets > LONGEST_PASSWORD => Err(PasswdError::TooLong),
        _ => String::from_utf8(line).map_err(|_| PasswdError::NotText),
    }
}

/// A terminal that echoes nothing, until this is dropped. Ctrl-C is a letter meanwhile: a signal would leave
/// the terminal so.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Silence> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG);
        silent.control_chars[SpecialCharacterIndices::VEOL as usize] = CTRL_C;
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Where the terminal has gone there is nothing left to put back.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<String, PasswdError> {
        password(first_line(&mut &*input)?)
    }

    #[test]
    fn one_line_is_the_password() {
        for input in [&b"pencil\n"[..], b"pencil\r\n", b"pencil", b"pencil\nand more\n"] {
            assert_eq!(read(input).unwrap(), "pencil");
        }
        assert_eq!(read(b" p c \n").unwrap(), " p c ");
    }

    #[test]
    fn what_is_no_password_is_refused() {
        assert!(matches!(read(b""), Err(PasswdError::Empty)));
        assert!(matches!(read(b"\r\n"), Err(PasswdError::Empty)));
        assert!(matches!(read(b"\xff\n"), Err(PasswdError::NotText)));
        assert!(matches!(read(b"pen\x03"), Err(PasswdError::Cancelled)));
        let long = [b'x'; LONGEST_PASSWORD + 1];
        assert!(matches!(read(&long), Err(PasswdError::TooLong)));
        assert!(matches!(
            read(&[&long[..], b"\n"].concat()),
            Err(PasswdError::TooLong)
        ));
        assert_eq!(read(&long[1..]).unwrap().len(), LONGEST_PASSWORD);
        assert_eq!(
            read(&[&long[1..], b"\r\n"].concat()).unwrap().len(),
            LONGEST_PASSWORD
        );
    }
}
