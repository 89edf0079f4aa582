//! `mailq`: what is in the work queues, and what lies in the maildrop, as people know it from other mail servers and
//! scripts count it.
//!
//! Reads the database itself, whether an MTA runs or not, message by message, and keeps nobody from going on.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::Failure;
use crate::clock::Stamp;
use crate::config::exit::Exit;
use crate::maildrop::{self, Left};
use crate::work_queue::states::State;
use crate::work_queue::{self, MailRow};

/// The heads of the columns.
const HEAD: &str = "----Queue ID----- --Size-- ----Arrival Time---- -Sender/Recipient-------\n";

/// Where recipients begin.
const INDENT: usize = 48;

/// What was shown.
#[derive(Debug, Default)]
struct Sum {
    requests: u64,
    octets: u64,
}

/// Shows the queues of this spool.
pub(super) fn run(spool: &Path) -> Result<Exit, Failure> {
    // SQLite does not tell one from the other.
    let database = spool.join("queue.db");
    if let Err(error) = std::fs::File::open(&database) {
        let exit = match error.kind() {
            ErrorKind::PermissionDenied => Exit::NotAllowed,
            _ => Exit::NoInput,
        };
        return Err(Failure::new(exit, format!("{}: {error}", database.display())));
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    match show(spool, &mut out) {
        Ok(()) => Ok(Exit::Done),
        Err(Trouble::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(Trouble::Output(error)) => Err(Failure::new(
            Exit::Unreadable,
            format!("standard output: {error}"),
        )),
        Err(Trouble::Queue(text)) => Err(Failure::new(Exit::TryLater, text)),
    }
}

/// What went wrong.
enum Trouble {
    Output(io::Error),
    Queue(String),
}

fn show(spool: &Path, out: &mut impl Write) -> Result<(), Trouble> {
    let mut sum = Sum::default();
    let mut broken = None;
    let mut say = |text: String, octets: u64| {
        let head = if sum.requests == 0 { HEAD } else { "" };
        sum.requests += 1;
        sum.octets += octets;
        broken = writeln!(out, "{head}{text}").err();
        broken.is_none()
    };
    let in_queue = work_queue::walk(spool, |rows| {
        say(message(rows), rows.first().map_or(0, |row| row.size))
    });
    let looked = in_queue.map_err(|error| error.to_string()).and_then(|()| {
        match maildrop::walk(spool, |left| say(lying(left), left.size)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("the maildrop: {error}")),
            _ => Ok(()),
        }
    });
    if let Some(error) = broken {
        return Err(Trouble::Output(error));
    }
    looked.map_err(Trouble::Queue)?;
    let last = match sum.requests {
        0 => "Mail queue is empty\n".to_owned(),
        number => format!(
            "-- {} Kbytes in {number} Request{}.\n",
            sum.octets.div_ceil(1024),
            if number == 1 { "" } else { "s" }
        ),
    };
    out.write_all(last.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Trouble::Output)
}

/// A message in the queue: its recipients with what keeps each.
fn message(rows: &[MailRow]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let is = |state: State| move |row: &MailRow| row.state.known() == Some(state);
    let sign = if rows.iter().any(is(State::LockedForXmit)) {
        '*'
    } else if rows.iter().any(is(State::Held)) {
        '!'
    } else {
        ' '
    };
    let mut text = line(
        &format!("{}{sign}", first.id),
        first.size,
        first.id.arrived(),
        &first.sender,
    );
    let mut told = None;
    for row in rows {
        let why = row.last_error.as_deref().filter(|why| !why.is_empty());
        if let Some(why) = why.filter(|why| told != Some(*why)) {
            let _ = writeln!(text, "{:>INDENT$}", format!("({})", clean(why)));
        }
        told = why;
        let _ = writeln!(text, "{:INDENT$}{}", "", clean(&row.recipient));
    }
    text
}

/// A message that the MTA has not taken in yet.
fn lying(left: &Left) -> String {
    let at = Stamp(left.at.saturating_mul(1_000_000));
    let mut text = line("(maildrop)", left.size, at, &left.slip.from.to_string());
    for to in &left.slip.to {
        let _ = writeln!(text, "{:INDENT$}{}", "", clean(&to.path.to_string()));
    }
    text
}

fn line(id: &str, size: u64, at: Stamp, sender: &str) -> String {
    let sender = if sender.is_empty() {
        "MAILER-DAEMON"
    } else {
        sender
    };
    format!("{id:<17} {size:>8} {:<20} {}\n", at.to_mailq(), clean(sender))
}

/// As it may stand on a terminal: it may be anybody's.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildrop::Slip;
    use crate::work_queue::Standing;
    use crate::work_queue::id::MessageId;

    fn row(recipient: &str, state: State, why: Option<&str>) -> MailRow {
        MailRow {
            id: MessageId(0x0006_60F7_867D_F443),
            n: 0,
            size: 1234,
            sender: "bob@a.example".to_owned(),
            recipient: recipient.to_owned(),
            state: Standing::Known(state),
            next_hop: None,
            handler: None,
            next_attempt: None,
            attempts: 0,
            last_error: why.map(str::to_owned),
            subject: None,
        }
    }

    /// Without the moment, which is another one elsewhere.
    fn lines(text: &str) -> Vec<String> {
        text.lines()
            .map(|line| match line.get(27..47) {
                Some(moment) if moment.contains(':') => line.replace(moment, "(moment)"),
                _ => line.to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_message_is_shown_with_what_keeps_each_of_its_recipients() {
        let down = Some("451 4.4.1 is down");
        let rows = [
            row("amy@x.example", State::PendingXmit, down),
            row("eve@x.example", State::PendingXmit, down),
            row("joe@\u{1b}y.example", State::LockedForXmit, None),
        ];
        let indent = " ".repeat(INDENT);
        assert_eq!(
            lines(&message(&rows)),
            [
                "000660F7867DF443*     1234 (moment) bob@a.example".to_owned(),
                format!("{:>INDENT$}", "(451 4.4.1 is down)"),
                format!("{indent}amy@x.example"),
                format!("{indent}eve@x.example"),
                format!("{indent}joe@ y.example"),
            ]
        );
        let held = message(&[row("amy@x.example", State::Held, None)]);
        assert!(held.starts_with("000660F7867DF443!  "), "{held}");
    }

    #[test]
    fn what_lies_in_the_maildrop_is_shown_without_an_id() {
        let slip = Slip::parse("smtpmta maildrop 1\nfrom <>\nto <amy@x.example>\n").unwrap();
        let left = Left {
            slip,
            size: 5,
            at: 1_700_000_000,
        };
        let indent = " ".repeat(INDENT);
        assert_eq!(
            lines(&lying(&left)),
            [
                "(maildrop)               5 (moment) MAILER-DAEMON".to_owned(),
                format!("{indent}amy@x.example"),
            ]
        );
    }
}
