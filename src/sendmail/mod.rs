//! What programs of this machine call to send mail and to look at the queue: `sendmail`, `mailq` and `newaliases`, as
//! other mail servers have them (cron, PHP, git and mutt know no others).
//!
//! Runs with the rights of whoever calls, and needs no MTA that runs: a message is left in the maildrop. Exit statuses are
//! those of sysexits(3). Never writes to the work queue.

pub mod addresses;
mod dialogue;
mod input;
mod letter;
mod mailq;
pub mod options;
mod sender;
mod submit;
mod verify;

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::aliases::Aliases;
use crate::config::Config;
use crate::config::exit::Exit;
use crate::console;
use crate::mailbox::directory::Directory;
use crate::smtp::path::Mailbox;
use addresses::Address;
use options::{Asked, Flush, Mode};

/// The names under which it is known: the program started so is that command.
pub const NAMES: [&str; 3] = ["sendmail", "mailq", "newaliases"];

/// Why it could not be done.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure {
            exit,
            text: text.into(),
        }
    }

    /// What came out of an attempt to do something to the spool.
    fn of_spool(error: &io::Error, what: fmt::Arguments<'_>) -> Failure {
        let exit = match error.kind() {
            ErrorKind::PermissionDenied => Exit::NotAllowed,
            _ => Exit::TryLater,
        };
        Failure::new(exit, format!("{what}: {error}"))
    }
}

/// Does what was asked for, and says on standard error what went wrong.
#[must_use]
pub fn run(config: &Config, asked: &Asked) -> Exit {
    match obey(config, asked) {
        Ok(exit) => exit,
        Err(Failure { exit, text }) => {
            // Where standard error is closed the status alone must do.
            let _ = writeln!(io::stderr(), "sendmail: {text}");
            exit
        }
    }
}

fn obey(config: &Config, asked: &Asked) -> Result<Exit, Failure> {
    match &asked.mode {
        Mode::Submit => submit::submit(config, asked, io::stdin().lock()),
        Mode::Dialogue => dialogue::run(config, &mut io::stdin().lock(), &mut io::stdout().lock()),
        Mode::List => mailq::run(&config.spool),
        Mode::Verify => verify::run(config, asked, io::stdin().lock()),
        Mode::Flush(what) => flush(&config.spool, what),
        Mode::Aliases => new_aliases(config),
        Mode::Nothing => Ok(Exit::Done),
        Mode::Help => {
            print(&options::help())?;
            Ok(Exit::Done)
        }
    }
}

/// `-q`: what waits is due now.
fn flush(spool: &Path, what: &Flush) -> Result<Exit, Failure> {
    let words = match what {
        Flush::All => vec!["queue", "retry"],
        Flush::Message(id) => vec!["queue", "retry", id],
        Flush::Hop(name) => vec!["queue", "retry", "--hop", name],
    };
    let answer = ask(spool, &words)?;
    match answer.status {
        // That nothing waits is as good.
        0 | 1 => Ok(Exit::Done),
        64 => Err(Failure::new(Exit::Usage, answer.text.trim_end())),
        _ => Err(Failure::new(Exit::TryLater, answer.text.trim_end())),
    }
}

/// `newaliases`: an MTA that runs reads its files again. There is no database to be made.
fn new_aliases(config: &Config) -> Result<Exit, Failure> {
    if let Some(path) = &config.aliases {
        let aliases = Aliases::read(path, &config.local_domains)
            .map_err(|wrong| Failure::new(Exit::Configuration, wrong.to_string()))?;
        print(&format!("{}: {} aliases\n", path.display(), aliases.len()))?;
    }
    match ask(&config.spool, &["tell", "refresh"]) {
        Ok(answer) if answer.status != 0 => Err(Failure::new(Exit::Configuration, answer.text.trim_end())),
        // It reads them when it starts.
        Ok(_)
        | Err(Failure {
            exit: Exit::NotRunning,
            ..
        }) => Ok(Exit::Done),
        Err(failure) => Err(failure),
    }
}

/// Asks the MTA that runs on this spool.
fn ask(spool: &Path, words: &[&str]) -> Result<console::server::Answer, Failure> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    console::client::ask(spool, &words, false).map_err(|error| {
        let exit = match error.kind() {
            ErrorKind::PermissionDenied => Exit::NotAllowed,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Exit::TryLater,
            _ => Exit::NotRunning,
        };
        Failure::new(
            exit,
            format!("the MTA in {} does not answer: {error}", spool.display()),
        )
    })
}

/// Who is here, as far as this user may know: without the accounts file everybody may be.
fn directory(config: &Config) -> Directory {
    let domains = &config.local_domains;
    let first = domains.first().map_or("", String::as_str);
    let accounts = config
        .accounts
        .as_deref()
        .and_then(|path| Accounts::read(path, first).ok());
    let aliases = config
        .aliases
        .as_deref()
        .and_then(|path| Aliases::read(path, domains).ok());
    Directory {
        local_domains: domains.clone(),
        accounts: accounts.map(Arc::new),
        aliases: aliases.unwrap_or_default(),
    }
}

/// An address in full: one without a domain is of the first local domain.
fn qualified(config: &Config, address: &Address) -> Result<Mailbox, String> {
    let domain = match &address.domain {
        Some(domain) => domain,
        None => config.local_domains.first().unwrap_or(&config.hostname),
    };
    let local = &address.local;
    // What was no UTF-8 is nobody's address.
    let is_text = !local.contains(char::REPLACEMENT_CHARACTER);
    let mailbox = Mailbox::parse(&format!("{local}@{domain}")).map_err(|wrong| wrong.to_string());
    let mailbox = mailbox.and_then(|mailbox| {
        is_text
            .then_some(mailbox)
            .ok_or_else(|| "it is no UTF-8".to_owned())
    });
    mailbox.map_err(|wrong| format!("{address}: {wrong}"))
}

/// Prints. Somebody who reads only the head of it is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Unreadable,
            format!("standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
