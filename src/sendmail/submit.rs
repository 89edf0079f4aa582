//! `sendmail` itself: takes a message from standard input, and leaves it in the maildrop. When it ends with 0 the message
//! is on the disk.

use std::collections::HashSet;
use std::io::BufRead;

use super::addresses::{Address, addresses};
use super::input::Input;
use super::letter::{Header, Line};
use super::options::Asked;
use super::sender::{Caller, from_line};
use super::{Failure, qualified};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::exit::Exit;
use crate::maildrop::{Draft, Slip};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::work_queue::Addressee;

/// The most octets of a header: it is held in memory.
const LONGEST_HEADER: u64 = 4 << 20;

/// Octets of the body that are taken at once.
const PIECE: u64 = 64 * 1024;

/// Takes a message and leaves it.
pub(super) fn submit(config: &Config, asked: &Asked, stdin: impl BufRead) -> Result<Exit, Failure> {
    let mut to = named(config, asked)?;
    if to.is_empty() && !asked.by_header {
        return Err(Failure::new(
            Exit::Usage,
            "expected recipients behind the options, or -t for those in the header",
        ));
    }
    let caller = Caller::here();
    let ours = own_address(config, &caller)?;
    let from = match &asked.sender {
        Some(sender) => envelope_sender(config, sender)?,
        None => ReversePath(Some(ours.clone())),
    };
    let mut draft = Draft::begin(&config.spool).map_err(|error| of_maildrop(config, &error))?;
    let mut input = Input::new(stdin, asked.ignores_dot);
    let (header, first) = read_header(&mut input)?;
    if asked.by_header {
        let found = header
            .recipients()
            .map_err(|(field, bad)| Failure::new(Exit::Damaged, format!("{field}: {bad}")))?;
        for address in &found {
            let mailbox = qualified(config, address).map_err(|bad| Failure::new(Exit::Damaged, bad))?;
            to.push(mailbox);
        }
    }
    let to = each_once(to);
    if to.is_empty() {
        return Err(Failure::new(Exit::Damaged, "there is no recipient in the header"));
    }
    if to.len() > config.max_recipients {
        let told = format!(
            "{} recipients: expected {} at most",
            to.len(),
            config.max_recipients
        );
        return Err(Failure::new(Exit::Damaged, told));
    }
    let sender = from.0.as_ref().unwrap_or(&ours);
    let full_name = asked.full_name.as_deref().or(match sender == &ours {
        true => caller.full_name.as_deref(),
        false => None,
    });
    let mut head = String::new();
    if !header.has("date") {
        head += &format!("Date: {}\n", Clock::System.now().to_rfc5322());
    }
    if !header.has("from") {
        head += &from_line(full_name, sender);
    }
    if header.is_empty() && matches!(first.first(), Some(b' ' | b'\t')) {
        // It would be more of what we have just put there.
        head += "\n";
    }
    let mut write = |piece: &[u8]| -> Result<(), Failure> {
        draft.write(piece).map_err(|error| of_maildrop(config, &error))?;
        if draft.size() > config.max_message_size {
            let told = format!("the message is larger than {} octets", config.max_message_size);
            return Err(Failure::new(Exit::Damaged, told));
        }
        Ok(())
    };
    write(head.as_bytes())?;
    write(header.text())?;
    write(&first)?;
    let mut piece = Vec::new();
    while input
        .next(&mut piece, PIECE)
        .map_err(|error| unreadable(&error))?
    {
        write(&piece)?;
    }
    let addressee = |path: Mailbox| Addressee {
        notify: asked.notify,
        ..Addressee::from(path)
    };
    let slip = Slip {
        from,
        to: to.into_iter().map(addressee).collect(),
        ret: asked.ret,
        envelope_id: asked.envelope_id.clone(),
        body: asked.body,
        wants_message_id: !header.has("message-id"),
    };
    draft.leave(&slip).map_err(|error| of_maildrop(config, &error))?;
    Ok(Exit::Done)
}

/// The recipients of the command line.
pub(super) fn named(config: &Config, asked: &Asked) -> Result<Vec<Mailbox>, Failure> {
    let usage = |told: String| Failure::new(Exit::Usage, told);
    let mut to = Vec::new();
    for word in &asked.words {
        let found = addresses(word).map_err(|bad| usage(format!("{}: {bad}", word.escape_debug())))?;
        for address in &found {
            to.push(qualified(config, address).map_err(usage)?);
        }
    }
    Ok(to)
}

/// Reads the header; with it comes the line that ended it, or the first one of the body, if there is any.
pub(super) fn read_header<R: BufRead>(input: &mut Input<R>) -> Result<(Header, Vec<u8>), Failure> {
    let mut header = Header::default();
    let mut line = Vec::new();
    loop {
        let left = LONGEST_HEADER.saturating_sub(header.text().len() as u64);
        if left == 0 {
            let told = format!("the header is larger than {LONGEST_HEADER} octets");
            return Err(Failure::new(Exit::Damaged, told));
        }
        if !input.next(&mut line, left).map_err(|error| unreadable(&error))? {
            return Ok((header, Vec::new()));
        }
        match header.take(&line) {
            Line::Header => {}
            Line::End | Line::Body => return Ok((header, line)),
        }
    }
}

/// The address of whoever calls.
fn own_address(config: &Config, caller: &Caller) -> Result<Mailbox, Failure> {
    let address = Address {
        local: caller.name.clone(),
        domain: None,
    };
    qualified(config, &address).map_err(|bad| Failure::new(Exit::NoUser, bad))
}

/// What `-f` says: an address, with a name or without, or the null path.
fn envelope_sender(config: &Config, text: &str) -> Result<ReversePath, Failure> {
    if ["", "<>"].contains(&text.trim()) {
        return Ok(ReversePath(None));
    }
    let wrong = |told: String| Failure::new(Exit::Usage, format!("-f: {told}"));
    let told = |what: &str| wrong(format!("{}: {what}", text.escape_debug()));
    let found = addresses(text).map_err(|bad| told(&bad.to_string()))?;
    match found.as_slice() {
        [address] => qualified(config, address)
            .map(|mailbox| ReversePath(Some(mailbox)))
            .map_err(wrong),
        _ => Err(told("expected one address")),
    }
}

/// In their order, without those that were named before. Whether two that differ in case are the same is for others to
/// say.
fn each_once(mailboxes: Vec<Mailbox>) -> Vec<Mailbox> {
    let mut known = HashSet::new();
    let is_new = |mailbox: &Mailbox| known.insert(mailbox.clone());
    mailboxes.into_iter().filter(is_new).collect()
}

fn of_maildrop(config: &Config, error: &std::io::Error) -> Failure {
    let told = match error.kind() {
        std::io::ErrorKind::NotFound => "no MTA has been started there yet",
        _ => "the message can not be left there",
    };
    Failure::of_spool(error, format_args!("{}: {told}", config.spool.display()))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Unreadable, format!("standard input: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::options;
    use super::*;

    fn config() -> Config {
        Config {
            local_domains: vec!["a.example".to_owned(), "b.example".to_owned()],
            spool: "/nonexistent".into(),
            ..Config::embedded("mx.a.example")
        }
    }

    fn asked(words: &[&str]) -> Asked {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        options::parse("sendmail", &words).unwrap()
    }

    #[test]
    fn the_sender_of_the_envelope_is_the_one_that_was_given() {
        for (given, expected) in [
            ("bob@x.example", "bob@x.example"),
            ("<bob@x.example>", "bob@x.example"),
            ("Bob <bob@x.example>", "bob@x.example"),
            ("bob", "bob@a.example"),
            ("<>", ""),
            ("", ""),
        ] {
            let sender = envelope_sender(&config(), given).unwrap();
            assert_eq!(sender.to_string(), expected, "{given:?}");
        }
        for wrong in ["a@b, c@d", "a b", "a@-", "<", "a\u{1b}@b"] {
            let failure = envelope_sender(&config(), wrong).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!failure.text.contains('\u{1b}'), "{}", failure.text);
        }
    }

    #[test]
    fn recipients_of_the_command_line_are_in_the_first_local_domain_unless_they_say_another() {
        let named = |words: &[&str]| named(&config(), &asked(words));
        let found = named(&["root", "a@x.example,b", "Bob <c@y.example>"]).unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["root@a.example", "a@x.example", "b@a.example", "c@y.example"]
        );
        for wrong in ["a b", "@x", "a@b@c", "\u{fffd}@b"] {
            assert_eq!(named(&[wrong]).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn each_failure_has_its_status() {
        let submit = |words: &[&str], text: &str| submit(&config(), &asked(words), text.as_bytes());
        assert_eq!(submit(&[], "hello\n").unwrap_err().exit, Exit::Usage);
        let failure = submit(&["root"], "hello\n").unwrap_err();
        assert_eq!(failure.exit, Exit::TryLater);
        assert!(
            failure
                .text
                .starts_with("/nonexistent: no MTA has been started there yet: "),
            "{}",
            failure.text
        );
    }
}
