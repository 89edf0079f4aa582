//! The slip: what stands behind the content of a message in the maildrop, and says from whom and for whom it is.
//!
//! Lines of text: what they are, then who has sent it, what is said about reports, and a line for each recipient. The last
//! line of the file has always the same length, and says where the slip begins. Anybody may write anything there: reading
//! is bounded, and takes nothing for an address that is none.

use std::fmt::{self, Write as _};
use std::fs::File;
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

/// A slip is never longer than this, however many recipients are let in.
pub(super) const LONGEST: u64 = 64 << 20;

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
        let is_read = rest.is_empty() && lines.all(|line| slip.take(line).is_some());
        match (is_read, slip.to.is_empty()) {
            (false, _) => Err(BadSlip("a line of it is malformed")),
            (true, true) => Err(BadSlip("it has no recipient")),
            (true, false) => Ok(slip),
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
pub(super) fn longest(recipients: usize) -> u64 {
    (recipients as u64 + 16)
        .saturating_mul(LONGEST_RECIPIENT)
        .min(LONGEST)
}

/// The slip of a file, and how many octets of content there are before it; neither may be longer than that.
///
/// # Errors
/// When there is none, and when it can not be read.
pub(super) fn of(file: &File, longest_content: u64, longest: u64) -> Result<(Slip, u64), BadSlip> {
    let unreadable = |_| BadSlip("it can not be read");
    let length = file.metadata().map_err(unreadable)?.len();
    let before_last = length.checked_sub(LAST as u64).ok_or(BadSlip("it is cut off"))?;
    let mut last = [0; LAST];
    file.read_exact_at(&mut last, before_last).map_err(unreadable)?;
    let content = content_of(&last).ok_or(BadSlip("it has no end"))?;
    let size = before_last
        .checked_sub(content)
        .ok_or(BadSlip("it is shorter than it says"))?;
    if content > longest_content {
        return Err(BadSlip("it is larger than --max-message-size"));
    }
    if size > longest {
        return Err(BadSlip("it has more recipients than --max-recipients"));
    }
    let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
    file.read_exact_at(&mut text, content).map_err(unreadable)?;
    let text = String::from_utf8(text).map_err(|_| BadSlip("its slip is no text"))?;
    Slip::parse(&text).map(|slip| (slip, content))
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

    fn read(octets: &[u8]) -> Result<(Slip, u64), BadSlip> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(octets).unwrap();
        of(&file, 1000, longest(10))
    }

    #[test]
    fn the_last_line_of_a_file_says_where_the_slip_begins() {
        let file = |content: &str, said: u64| format!("{content}{}{}", full().text(), last_line(said));
        assert_eq!(read(file("Hello\n", 6).as_bytes()), Ok((full(), 6)));
        assert_eq!(read(file("", 0).as_bytes()), Ok((full(), 0)));
        for wrong in [
            file("Hello\n", 5),
            file("Hello\n", 7),
            file("Hello\n", u64::MAX),
            file("Hello\n", 6) + "\n",
            file(&"x".repeat(1001), 1001),
            String::new(),
            last_line(0),
            format!("Hello\n{}", full().text()),
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
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
