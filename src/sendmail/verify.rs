//! `sendmail -bv`: says what would become of addresses, and sends nothing.

use std::io::BufRead;

use super::input::Input;
use super::options::Asked;
use super::submit::{named, read_header};
use super::{Failure, directory, print, qualified};
use crate::config::Config;
use crate::config::exit::Exit;
use crate::mailbox::directory::{Directory, Found};
use crate::smtp::path::Mailbox;

/// Says it of all that were named, on the command line or, with `-t`, in the header.
pub(super) fn run(config: &Config, asked: &Asked, stdin: impl BufRead) -> Result<Exit, Failure> {
    let mut mailboxes = named(config, asked)?;
    if asked.by_header {
        let (header, _) = read_header(&mut Input::new(stdin, asked.ignores_dot))?;
        let found = header.recipients();
        let found = found.map_err(|(field, bad)| Failure::new(Exit::Damaged, format!("{field}: {bad}")))?;
        for address in &found {
            mailboxes.push(qualified(config, address).map_err(|bad| Failure::new(Exit::Damaged, bad))?);
        }
    }
    if mailboxes.is_empty() {
        return Err(Failure::new(Exit::Usage, "-bv: expected addresses"));
    }
    let directory = directory(config);
    let told: Vec<(String, bool)> = mailboxes.iter().map(|to| told(config, &directory, to)).collect();
    let lines: String = told.iter().map(|(line, _)| format!("{line}\n")).collect();
    print(&lines)?;
    Ok(match told.iter().all(|(_, is_good)| *is_good) {
        true => Exit::Done,
        false => Exit::NoUser,
    })
}

/// What is said of an address, and whether mail for it would be taken.
fn told(config: &Config, directory: &Directory, to: &Mailbox) -> (String, bool) {
    match directory.find(to) {
        Found::Mailbox(mailbox) => (format!("{to}... deliverable: mailer local, user {mailbox}"), true),
        Found::Alias => {
            let targets: Vec<String> = directory.expand(to).iter().map(ToString::to_string).collect();
            (
                format!("{to}... deliverable: alias of {}", targets.join(", ")),
                true,
            )
        }
        Found::Elsewhere => {
            let hop = config.router().next_hop(to.domain());
            (
                format!("{to}... deliverable: mailer esmtp, host {hop}, user {to}"),
                true,
            )
        }
        Found::Unknown => (format!("{to}... User unknown"), false),
        Found::RelayTrick => (format!("{to}... Relaying denied"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_told_what_would_become_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let config = Config {
            accounts: write("accounts", "bob:{PLAIN}x\n"),
            aliases: write("aliases", "staff: bob, amy@x.example\n"),
            relay_host: None,
            ..Config::embedded("a.example")
        };
        let directory = directory(&config);
        for (address, line, is_good) in [
            (
                "bob@a.example",
                "deliverable: mailer local, user bob@a.example",
                true,
            ),
            (
                "staff@a.example",
                "deliverable: alias of bob@a.example, amy@x.example",
                true,
            ),
            (
                "amy@x.example",
                "deliverable: mailer esmtp, host x.example, user amy@x.example",
                true,
            ),
            ("amy@a.example", "User unknown", false),
            ("bob%x@a.example", "Relaying denied", false),
        ] {
            let to = Mailbox::parse(address).unwrap();
            assert_eq!(
                told(&config, &directory, &to),
                (format!("{address}... {line}"), is_good)
            );
        }
    }
}
