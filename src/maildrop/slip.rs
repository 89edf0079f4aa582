//! The slip: what stands behind the content of a message in the maildrop, and says from whom and for whom it is.
//!
//! Lines of text: what they are, then who has sent it, what is said about reports, and a line for each recipient. The last
//! line of the file has always the same length, and says where the slip begins. Anybody may write anything there: reading
//! is bounded, and takes nothing for an address that is none.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use crate::smtp::command::Body;
use crate::smtp::dsn::{EnvelopeId, Return};
use crate::smtp::path::{ForwardPath, ReversePath};
use crate::work_queue::Addressee;

/// The first line.
const TITLE: &str = "smtpmta maildrop 1";

/// What the last line of the file begins with.
const CONTENT: &str = "content ";
/// Digits behind that.
const DIGITS: usize = 20;
/// The length of that line.
const LAST: usize = CONTENT.len() + DIGITS + 1;

/// No more of a slip is read than this, however many recipients are let in.
const LONGEST: u64 = 64 << 20;

/// Octets of a line for a recipient, at most: a path, NOTIFY and ORCPT.
const LONGEST_RECIPIENT: u64 = 1024;

/// What a message in the maildrop says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slip {
    /// Whom to tell when delivery fails.
    pub from: ReversePath,
    /// Whom it is for: at least one.
    pub to: Vec<Addressee>,
    /// RET.
    pub ret: Option<Return>,
    /// ENVID.
    pub envelope_id: Option<EnvelopeId>,
    /// What octets the content is said to hold.
    pub body: Option<Body>,
    /// Whether the header has no Message-ID yet.
    pub wants_message_id: bool,
}

/// What lies there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSlip(pub &'static str);

/// How much a message may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Octets of content.
    pub(super) size: u64,
    /// Recipients: no more of them are read.
    pub(super) recipients: usize,
}

/// What lies in a file that is a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its slip; of too many recipients the first ones.
    pub(super) slip: Slip,
    /// Octets of content before it.
    pub(super) size: u64,
    /// What it has too much of, if it has.
    pub(super) excess: Option<Excess>,
}

/// What is beyond the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// The content.
    Size,
    /// The recipients.
    Recipients,
}

/// Why a file is not to be read as a message.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is none.
    Bad(BadSlip),
    /// The system does not give it back now: it may be one.
    File(io::Error),
}

impl From<BadSlip> for Unread {
    fn from(bad: BadSlip) -> Unread {
        Unread::Bad(bad)
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Unread {
        match error.kind() {
            ErrorKind::UnexpectedEof => Unread::Bad(BadSlip("it has become shorter")),
            _ => Unread::File(error),
        }
    }
}

impl fmt::Display for BadSlip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadSlip {}

/// The words for what octets there are.
const BODIES: [(&str, Body); 3] = [
    ("7BIT", Body::SevenBit),
    ("8BITMIME", Body::EightBitMime),
    ("BINARYMIME", Body::BinaryMime),
];

impl Slip {
    /// The lines, without the last one of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{TITLE}\nfrom <{}>\n", self.from);
        // A String takes everything.
        if let Some(ret) = self.ret {
            let _ = writeln!(text, "return {ret}");
        }
        if let Some(id) = &self.envelope_id {
            let _ = writeln!(text, "envid {id}");
        }
        if let Some((word, _)) = BODIES.iter().find(|(_, body)| Some(*body) == self.body) {
            let _ = writeln!(text, "body {word}");
        }
        if self.wants_message_id {
            text += "message-id\n";
        }
        for to in &self.to {
            let _ = write!(text, "to <{}>", to.path);
            if let Some(notify) = to.notify {
                let _ = write!(text, " NOTIFY={notify}");
            }
            if let Some(original) = &to.original {
                let _ = write!(text, " ORCPT={original}");
            }
            text.push('\n');
        }
        text
    }

    /// Reads what [`Slip::text`] gave.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Slip, BadSlip> {
        Slip::read(text, usize::MAX).map(|(slip, _)| slip)
    }

    /// The same, with so many recipients at most; and whether these are all.
    fn read(text: &str, most: usize) -> Result<(Slip, bool), BadSlip> {
        let lines = text.strip_suffix('\n').ok_or(BadSlip("it is cut off"))?;
        let mut lines = lines.split('\n');
        if lines.next() != Some(TITLE) {
            return Err(BadSlip("it does not begin as one"));
        }
        let from = lines.next().and_then(|line| line.strip_prefix("from "));
        let from = from.ok_or(BadSlip("it has no sender"))?;
        let (from, rest) = ReversePath::take(from).map_err(|_| BadSlip("its sender is malformed"))?;
        let mut slip = Slip {
            from,
            to: Vec::new(),
            ret: None,
            envelope_id: None,
            body: None,
            wants_message_id: false,
        };
        if !rest.is_empty() {
            return Err(BadSlip("its sender is malformed"));
        }
        for line in lines {
            // What is beyond is not looked at: it would be held in memory.
            if slip.to.len() >= most && line.starts_with("to ") {
                return Ok((slip, false));
            }
            slip.take(line).ok_or(BadSlip("a line of it is malformed"))?;
        }
        match slip.to.is_empty() {
            true => Err(BadSlip("it has no recipient")),
            false => Ok((slip, true)),
        }
    }

    /// Takes what a line says; `None` if it says nothing that we know.
    fn take(&mut self, line: &str) -> Option<()> {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "to" => self.to.push(addressee(value)?),
            "return" => self.ret = Some(value.parse().ok()?),
            "envid" => self.envelope_id = Some(value.parse().ok()?),
            "body" => self.body = Some(BODIES.iter().find(|(word, _)| *word == value)?.1),
            "message-id" if value.is_empty() => self.wants_message_id = true,
            _ => return None,
        }
        Some(())
    }
}

/// A recipient, with what is said about reports.
fn addressee(text: &str) -> Option<Addressee> {
    let Ok((ForwardPath::Mailbox(path), rest)) = ForwardPath::take(text) else {
        return None;
    };
    let mut addressee = Addressee::from(path);
    for word in rest.split(' ').skip(1) {
        match word.split_once('=')? {
            ("NOTIFY", value) => addressee.notify = Some(value.parse().ok()?),
            ("ORCPT", value) => addressee.original = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    (rest.is_empty() || rest.starts_with(' ')).then_some(addressee)
}

/// The last line of a file whose content has so many octets.
pub(super) fn last_line(content: u64) -> String {
    format!("{CONTENT}{content:0width$}\n", width = DIGITS)
}

/// The most octets that a slip for so many recipients has.
fn longest(recipients: usize) -> u64 {
    (recipients as u64)
        .saturating_add(16)
        .saturating_mul(LONGEST_RECIPIENT)
        .min(LONGEST)
}

/// What lies in this file.
///
/// # Errors
/// When it is no message, and when it can not be read.
pub(super) fn of(file: &File, limits: Limits) -> Result<Found, Unread> {
    let length = file.metadata()?.len();
    let before_last = length.checked_sub(LAST as u64).ok_or(BadSlip("it is cut off"))?;
    let mut last = [0; LAST];
    file.read_exact_at(&mut last, before_last)?;
    let size = content_of(&last).ok_or(BadSlip("it has no end"))?;
    let length = before_last
        .checked_sub(size)
        .ok_or(BadSlip("it is shorter than it says"))?;
    let read = length.min(longest(limits.recipients));
    let mut text = vec![0; usize::try_from(read).unwrap_or_default()];
    file.read_exact_at(&mut text, size)?;
    if read < length {
        // What is no whole line goes.
        text.truncate(memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1));
    }
    let text = String::from_utf8(text).map_err(|_| BadSlip("its slip is no text"))?;
    let (slip, are_all) = Slip::read(&text, limits.recipients)?;
    let excess = if size > limits.size {
        Some(Excess::Size)
    } else if are_all && read == length {
        None
    } else {
        Some(Excess::Recipients)
    };
    Ok(Found { slip, size, excess })
}

/// The number in a last line.
fn content_of(last: &[u8; LAST]) -> Option<u64> {
    let line = str::from_utf8(last).ok()?;
    let digits = line.strip_prefix(CONTENT)?.strip_suffix('\n')?;
    let are_digits = digits.bytes().all(|octet| octet.is_ascii_digit());
    are_digits.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::smtp::path::Mailbox;

    fn mailbox(text: &str) -> Addressee {
        Addressee::from(Mailbox::parse(text).unwrap())
    }

    fn full() -> Slip {
        let confirmed = Addressee {
            notify: Some("SUCCESS,DELAY".parse().unwrap()),
            original: Some("rfc822;a+2Bb@a.example".parse().unwrap()),
            ..mailbox("\"j d> oe\"@a.example")
        };
        Slip {
            from: "jürgen@a.example".parse().unwrap(),
            to: vec![confirmed, mailbox("amy@b.example")],
            ret: Some(Return::Headers),
            envelope_id: Some("a+20b".parse().unwrap()),
            body: Some(Body::EightBitMime),
            wants_message_id: true,
        }
    }

    fn bare() -> Slip {
        Slip {
            from: ReversePath(None),
            to: vec![mailbox("amy@b.example")],
            ret: None,
            envelope_id: None,
            body: None,
            wants_message_id: false,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for slip in [full(), bare()] {
            assert_eq!(Slip::parse(&slip.text()), Ok(slip));
        }
        assert_eq!(bare().text(), "smtpmta maildrop 1\nfrom <>\nto <amy@b.example>\n");
    }

    #[test]
    fn what_is_no_slip_is_told_from_one() {
        let whole = full().text();
        for cut in 0..whole.len() {
            let Some(begin) = whole.get(..cut) else { continue };
            // A whole line less is a slip with a recipient less.
            let is_line = begin.ends_with('\n') && begin.contains("\nto ");
            assert_eq!(Slip::parse(begin).is_ok(), is_line, "{begin:?}");
        }
        let with = |line: &str| Slip::parse(&format!("{}{line}\n", bare().text()));
        for line in [
            "",
            "to",
            "to amy@b.example",
            "to <amy>",
            "to <postmaster>",
            "to <a@b> ",
            "to <a@b>NOTIFY=NEVER",
            "to <a@b> NOTIFY=ALWAYS",
            "to <a@b> X=Y",
            "from <a@b>",
            "body 9BIT",
            "return",
            "message-id x",
        ] {
            assert!(with(line).is_err(), "{line:?}");
        }
    }

    fn read(octets: &[u8]) -> Result<Found, Unread> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(octets).unwrap();
        let limits = Limits {
            size: 1000,
            recipients: 10,
        };
        of(&file, limits)
    }

    fn found(octets: &[u8]) -> (Slip, u64, Option<Excess>) {
        let Found { slip, size, excess } = read(octets).unwrap();
        (slip, size, excess)
    }

    #[test]
    fn the_last_line_of_a_file_says_where_the_slip_begins() {
        let file = |content: &str, said: u64| format!("{content}{}{}", full().text(), last_line(said));
        assert_eq!(found(file("Hello\n", 6).as_bytes()), (full(), 6, None));
        assert_eq!(found(file("", 0).as_bytes()), (full(), 0, None));
        for wrong in [
            file("Hello\n", 5),
            file("Hello\n", 7),
            file("Hello\n", u64::MAX),
            file("Hello\n", 6) + "\n",
            String::new(),
            last_line(0),
            format!("Hello\n{}", full().text()),
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_too_much_is_still_a_message_and_no_more_of_it_is_read() {
        let to = |count: usize| "to <amy@b.example>\n".repeat(count);
        let file = |size: usize, slip: &str| {
            let content = "x".repeat(size);
            format!("{content}{TITLE}\nfrom <>\n{slip}{}", last_line(size as u64))
        };
        for (file, excess, recipients) in [
            (file(1000, &to(10)), None, 10),
            (file(1001, &to(1)), Some(Excess::Size), 1),
            (file(1, &to(11)), Some(Excess::Recipients), 10),
            // Nor is what stands behind it judged.
            (file(1, &(to(11) + "rubbish\n")), Some(Excess::Recipients), 10),
            (file(1, &to(100_000)), Some(Excess::Recipients), 10),
        ] {
            let (slip, _, found) = found(file.as_bytes());
            assert_eq!((found, slip.to.len()), (excess, recipients));
        }
    }

    #[test]
    fn what_the_system_does_not_give_back_now_may_be_a_message() {
        // A folder has a length, and can not be read.
        let folder = tempfile::tempdir().unwrap();
        for name in 0..200 {
            std::fs::write(folder.path().join(format!("{name:0>100}")), "").unwrap();
        }
        let file = File::open(folder.path()).unwrap();
        let limits = Limits {
            size: 1000,
            recipients: 10,
        };
        assert!(matches!(of(&file, limits), Err(Unread::File(_))));
    }

    #[test]
    fn there_is_a_bound_for_each_number_of_recipients() {
        let longest_line = "to <>".len() + 254 + " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=\n".len() + 500;
        assert!((longest_line as u64) < LONGEST_RECIPIENT);
        let many = Slip {
            to: vec![mailbox("amy@b.example"); 1000],
            ..bare()
        };
        assert!((many.text().len() as u64) < longest(1000));
    }

    proptest! {
        #[test]
        fn no_octets_stop_the_reader(text in "(from |to |<|>|a@b|\n|NOTIFY=|envid |[ -~]|ü){0,40}") {
            let _ = Slip::parse(&format!("{TITLE}\n{text}"));
            let _ = Slip::parse(&format!("{TITLE}\nfrom <>\n{text}\n"));
        }

        #[test]
        fn no_file_stops_the_reader(octets in proptest::collection::vec(any::<u8>(), 0..200), said in 0..200_u64) {
            let mut file = octets;
            let _ = read(&file);
            file.extend_from_slice(last_line(said).as_bytes());
            let _ = read(&file);
        }
    }
}
