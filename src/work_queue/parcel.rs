//! The file of an export: what waits, whole, with envelope, history and content, as it goes from one spool to another.
//!
//! ```text
//! smtpmta-export-1 {"export":"…","host":"mx1.example.org","made":…}
//! message {"id":"000645B0E3E4D8F1","from":"ann@example.org", …}
//! recipient {"n":0,"path":"bob@example.net","state":"pending", …}
//! event {"at":…,"what":"accepted","text":"…"}
//! content 812
//! … 812 octets, and a line end
//! sum … SHA-256 of all of this message
//! end {"messages":1,"recipients":1,"sum":"… SHA-256 of all sums"}
//! ```
//!
//! Read as the work of somebody who is no friend: whatever stands in it, memory is bounded, and what is wrong is told with
//! its place. Pure but for reading and writing; never looks into a work queue.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

use super::id::MessageId;
use super::moving::ExportId;
use super::states::State;
use crate::smtp::dsn::{EnvelopeId, OriginalRecipient, Return};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::EnhancedCode;

/// What the file begins with.
const MAGIC: &str = "smtpmta-export-1";

/// Octets of a line.
const LONGEST_LINE: u64 = 1 << 20;

/// Octets of all lines of a message; they are in memory at once.
const MOST_LINES: u64 = 32 << 20;

/// Octets of the content that are in memory at once.
const PIECE: usize = 64 << 10;

/// How a recipient stands that moves, as the file says it.
const STANDINGS: [(&str, State); 4] = [
    ("pending", State::PendingConversion),
    ("held", State::Held),
    ("dead", State::Dead),
    // It does not move: what moves came of it.
    ("expanded", State::Expanded),
];

/// What stands at the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub export: ExportId,
    /// Where it was made.
    pub host: String,
    /// When: microseconds since 1970.
    pub made: i64,
}

/// A message, all but its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Its name, where it comes from.
    pub id: MessageId,
    /// The reverse path; empty is the null path.
    pub from: String,
    /// The columns of the work queue that are numbers, in the order of `NUMBERS`.
    pub numbers: [i64; 5],
    /// Those that are text, in the order of `TEXTS`.
    pub texts: [Option<String>; 13],
    /// Whom it is for, as far as it moves; and the aliases of which these came.
    pub recipients: Vec<Person>,
    /// What happened to it, in order.
    pub events: Vec<Happening>,
    /// Octets of its content.
    pub size: u64,
}

/// Columns of a message that are numbers, and what they may be.
pub(super) const NUMBERS: [(&str, RangeInclusive<i64>); 5] = [
    ("origin", 1..=3),
    ("body", 0..=3),
    ("utf8", 0..=1),
    ("utf8_header", 0..=1),
    ("hops", -1..=u32::MAX as i64),
];

/// Columns of a message that are text.
pub(super) const TEXTS: [&str; 13] = [
    "client",
    "helo",
    "protocol",
    "login",
    "tls",
    "envid",
    "ret",
    "subject",
    "header_from",
    "header_to",
    "message_id",
    "date",
    "attachments",
];

/// Texts of a message that are always there.
const NEEDED: [&str; 3] = ["client", "helo", "protocol"];

/// A recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Its number in the message, where that comes from.
    pub n: u32,
    /// Whom it is.
    pub path: String,
    /// Pending for conversion, held or dead; or expanded, and does not move itself.
    pub state: State,
    /// It is read no more by imsgcnv.
    pub in_box: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried last.
    pub attempted: Option<i64>,
    /// When it was given up, if it is dead.
    pub settled: Option<i64>,
    /// Of which ends the sender wants to hear (RFC 3461 4.1).
    pub notify: Option<u8>,
    /// The recipient as the sender first wrote it (RFC 3461 4.2).
    pub original: Option<String>,
    /// The number of the alias of which it came.
    pub parent: Option<u32>,
    /// Where it was tried last, and how that ended: host, status, in words, and the host's own.
    pub last: [Option<String>; 4],
}

/// What is known of the last attempt.
const LAST: [&str; 4] = ["last_host", "last_status", "last_error", "last_reply"];

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When: microseconds since 1970.
    pub at: i64,
    /// In a word.
    pub what: String,
    /// The recipient, by its number.
    pub n: Option<u32>,
    /// In words.
    pub text: String,
}

/// Why an export can not be read, or not be written.
#[derive(Debug)]
pub enum ParcelError {
    /// The system has trouble.
    Io(io::Error),
    /// Something is wrong in it.
    Wrong {
        /// Behind how many octets.
        at: u64,
        /// In which message.
        of: Option<MessageId>,
        /// What.
        what: String,
    },
}

impl From<io::Error> for ParcelError {
    fn from(error: io::Error) -> ParcelError {
        ParcelError::Io(error)
    }
}

impl fmt::Display for ParcelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParcelError::Io(error) => error.fmt(f),
            ParcelError::Wrong { at, of: None, what } => write!(f, "at octet {at}: {what}"),
            ParcelError::Wrong {
                at,
                of: Some(id),
                what,
            } => write!(f, "at octet {at}, in message {id}: {what}"),
        }
    }
}

impl std::error::Error for ParcelError {}

/// Writes an export.
pub struct Packer<W: Write> {
    out: W,
    sum: Context,
    sums: Context,
    messages: u64,
    recipients: u64,
}

impl<W: Write> Packer<W> {
    /// Begins one.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn begin(out: W, head: &Head) -> Result<Packer<W>, ParcelError> {
        let mut packer = Packer {
            out,
            sum: Context::new(&SHA256),
            sums: Context::new(&SHA256),
            messages: 0,
            recipients: 0,
        };
        let Head { export, host, made } = head;
        let head = json!({ "export": export.to_string(), "host": host, "made": made });
        packer.line(MAGIC, &head.to_string())?;
        packer.close_sum()?;
        Ok(packer)
    }

    /// Adds a message; gives how many octets its content had.
    ///
    /// # Errors
    /// When it can not be written, or `content` not be read, or it is not as long as it should be.
    pub fn add(&mut self, letter: &Letter, content: &mut dyn Read) -> Result<(), ParcelError> {
        self.line("message", &letter.json().to_string())?;
        for person in &letter.recipients {
            self.line("recipient", &person.json().to_string())?;
        }
        for event in &letter.events {
            self.line("event", &event.json().to_string())?;
        }
        self.line("content", &letter.size.to_string())?;
        let mut piece = vec![0; PIECE];
        let mut left = letter.size;
        loop {
            let octets = content.read(&mut piece)?;
            if octets == 0 && left == 0 {
                break;
            }
            left = left
                .checked_sub(octets as u64)
                .filter(|_| octets > 0)
                .ok_or_else(|| ParcelError::Wrong {
                    at: 0,
                    of: Some(letter.id),
                    what: format!("its content does not have the {} octets that it had", letter.size),
                })?;
            self.write(&piece[..octets])?;
        }
        self.write(b"\n")?;
        self.close_sum()?;
        self.messages += 1;
        self.recipients += letter.moving();
        Ok(())
    }

    /// Ends it; gives what it was written to, and how many messages and recipients it holds.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn finish(mut self) -> Result<(W, u64, u64), ParcelError> {
        let sums = HEXLOWER.encode(self.sums.clone().finish().as_ref());
        let end = json!({ "messages": self.messages, "recipients": self.recipients, "sum": sums });
        self.line("end", &end.to_string())?;
        self.out.flush()?;
        Ok((self.out, self.messages, self.recipients))
    }

    fn line(&mut self, tag: &str, rest: &str) -> Result<(), ParcelError> {
        let line = format!("{tag} {rest}\n");
        match line.len() as u64 > LONGEST_LINE {
            true => Err(ParcelError::Wrong {
                at: 0,
                of: None,
                what: format!("a line of {tag} would be longer than {LONGEST_LINE} octets"),
            }),
            false => self.write(line.as_bytes()),
        }
    }

    fn write(&mut self, octets: &[u8]) -> Result<(), ParcelError> {
        self.sum.update(octets);
        Ok(self.out.write_all(octets)?)
    }

    fn close_sum(&mut self) -> Result<(), ParcelError> {
        let sum = std::mem::replace(&mut self.sum, Context::new(&SHA256)).finish();
        self.sums.update(sum.as_ref());
        let line = format!("sum {}\n", HEXLOWER.encode(sum.as_ref()));
        Ok(self.out.write_all(line.as_bytes())?)
    }
}

/// Reads an export, message by message.
pub struct Parcel<R> {
    input: BufReader<R>,
    head: Head,
    at: u64,
    /// The message that is being read, and the one before it.
    of: Option<MessageId>,
    last: Option<MessageId>,
    sum: Context,
    /// `None` where it is not read from its beginning.
    sums: Option<Context>,
    messages: u64,
    recipients: u64,
    /// Octets of content that have not been read.
    left: Option<u64>,
}

impl<R: Read> Parcel<R> {
    /// Begins to read one.
    ///
    /// # Errors
    /// When it can not be read, or is none.
    pub fn open(input: R) -> Result<Parcel<R>, ParcelError> {
        let mut parcel = Parcel {
            input: BufReader::with_capacity(PIECE, input),
            head: Head {
                export: ExportId::default(),
                host: String::new(),
                made: 0,
            },
            at: 0,
            of: None,
            last: None,
            sum: Context::new(&SHA256),
            sums: Some(Context::new(&SHA256)),
            messages: 0,
            recipients: 0,
            left: None,
        };
        let (tag, rest) = parcel.line()?;
        if tag != MAGIC {
            return Err(parcel.wrong(0, format!("this is no export of smtpmta: expected {MAGIC}")));
        }
        parcel.head = parcel.told(0, Head::read(&rest))?;
        parcel.check_sum()?;
        Ok(parcel)
    }

    /// What stands at its head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How many octets have been read.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// How many messages and recipients have been read.
    pub fn counted(&self) -> (u64, u64) {
        (self.messages, self.recipients)
    }

    /// The next message, up to its content, which has to be read next; `None` where that was the last one, and the file is
    /// whole.
    ///
    /// # Errors
    /// When it can not be read, or is not as it was written.
    pub fn next_letter(&mut self) -> Result<Option<Letter>, ParcelError> {
        self.of = None;
        let begin = self.at;
        let (tag, rest) = self.line()?;
        match tag.as_str() {
            "message" => {}
            "end" => {
                self.check_end(begin, &rest)?;
                return Ok(None);
            }
            _ => return Err(self.wrong(begin, "expected message or end".to_owned())),
        }
        let mut letter = self.told(begin, Letter::read(&rest))?;
        self.of = Some(letter.id);
        if self.last.replace(letter.id).is_some_and(|last| last >= letter.id) {
            return Err(self.wrong(
                begin,
                "id: expected messages in the order of their IDs".to_owned(),
            ));
        }
        loop {
            let at = self.at;
            if at - begin > MOST_LINES {
                return Err(self.wrong(at, format!("expected at most {MOST_LINES} octets of lines")));
            }
            let (tag, rest) = self.line()?;
            match tag.as_str() {
                "recipient" if letter.events.is_empty() => {
                    let person = self.told(at, Person::read(&rest, &letter.recipients))?;
                    letter.recipients.push(person);
                }
                "event" => {
                    let event = self.told(at, Happening::read(&rest, &letter.recipients))?;
                    if letter.events.last().is_some_and(|last| last.at >= event.at) {
                        return Err(self.wrong(at, "at: expected events in their order".to_owned()));
                    }
                    letter.events.push(event);
                }
                "content" => {
                    let size = rest.parse().ok().filter(|size| *size <= u64::MAX >> 1);
                    letter.size = self.told(at, size.ok_or_else(|| "content: expected a size".to_owned()))?;
                    if letter.moving() == 0 {
                        return Err(self.wrong(at, "expected a recipient before the content".to_owned()));
                    }
                    self.left = Some(letter.size);
                    self.recipients += letter.moving();
                    return Ok(Some(letter));
                }
                _ => return Err(self.wrong(at, "expected recipient, event or content".to_owned())),
            }
        }
    }

    /// Reads the content of the message that was read last, and hands it on in pieces.
    ///
    /// # Errors
    /// When it can not be read, or the message is not as it was written; or what `take` says.
    pub fn content<E: From<ParcelError>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = self.left.take().unwrap_or_default();
        while left > 0 {
            let at = self.at;
            let cut =
                |parcel: &Self| parcel.wrong(at, "the file ends in the content of a message".to_owned());
            let most = usize::try_from(left).unwrap_or(PIECE);
            let piece = self.input.fill_buf().map_err(ParcelError::from)?;
            if piece.is_empty() {
                return Err(cut(self).into());
            }
            let piece = &piece[..piece.len().min(most)];
            take(piece)?;
            self.sum.update(piece);
            let octets = piece.len();
            self.input.consume(octets);
            self.at += octets as u64;
            left -= octets as u64;
        }
        let at = self.at;
        let mut end = [0];
        if self.input.read(&mut end).map_err(ParcelError::from)? != 1 || end != *b"\n" {
            return Err(self
                .wrong(at, "expected a line end behind the content".to_owned())
                .into());
        }
        self.sum.update(&end);
        self.at += 1;
        self.check_sum()?;
        self.messages += 1;
        Ok(())
    }

    /// Reads all that is left, to see whether it is whole; how many messages and recipients it holds.
    ///
    /// # Errors
    /// When it can not be read, or is not as it was written.
    pub fn check(&mut self) -> Result<(u64, u64), ParcelError> {
        while self.next_letter()?.is_some() {
            self.content(|_| Ok::<(), ParcelError>(()))?;
        }
        Ok((self.messages, self.recipients))
    }

    /// The next line: its first word, and the rest.
    fn line(&mut self) -> Result<(String, String), ParcelError> {
        let at = self.at;
        let mut line = Vec::new();
        let read = self
            .input
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        self.at += read as u64;
        if line.last() != Some(&b'\n') {
            let what = match read as u64 == LONGEST_LINE {
                true => format!("expected lines of at most {LONGEST_LINE} octets"),
                false => "the file ends before its end line".to_owned(),
            };
            return Err(self.wrong(at, what));
        }
        self.sum.update(&line);
        line.pop();
        let line = self.told(
            at,
            String::from_utf8(line).map_err(|_| "expected UTF-8".to_owned()),
        )?;
        let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
        Ok((tag.to_owned(), rest.to_owned()))
    }

    /// The sum of what was read since the last one has to be the one that stands here.
    fn check_sum(&mut self) -> Result<(), ParcelError> {
        let sum = std::mem::replace(&mut self.sum, Context::new(&SHA256)).finish();
        let at = self.at;
        let (tag, rest) = self.line()?;
        self.sum = Context::new(&SHA256);
        if tag != "sum" || rest != HEXLOWER.encode(sum.as_ref()) {
            return Err(self.wrong(at, "what stands before is not as it was written".to_owned()));
        }
        if let Some(sums) = &mut self.sums {
            sums.update(sum.as_ref());
        }
        Ok(())
    }

    /// The end line has to say what was read, and nothing may stand behind it.
    fn check_end(&mut self, at: u64, rest: &str) -> Result<(), ParcelError> {
        if let Some(sums) = self.sums.take() {
            let sum = HEXLOWER.encode(sums.finish().as_ref());
            let (messages, recipients) = (self.messages, self.recipients);
            let expected = json!({ "messages": messages, "recipients": recipients, "sum": sum });
            if serde_json::from_str::<Value>(rest).ok() != Some(expected) {
                return Err(self.wrong(
                    at,
                    "messages are missing, or are not those that were written".to_owned(),
                ));
            }
        }
        let behind = self.at;
        match self.input.fill_buf()?.is_empty() {
            true => Ok(()),
            false => Err(self.wrong(behind, "expected nothing behind the end line".to_owned())),
        }
    }

    fn wrong(&self, at: u64, what: String) -> ParcelError {
        let of = self.of;
        ParcelError::Wrong { at, of, what }
    }

    fn told<T>(&self, at: u64, read: Result<T, String>) -> Result<T, ParcelError> {
        read.map_err(|what| self.wrong(at, what))
    }
}

impl<R: Read + Seek> Parcel<R> {
    /// Goes on behind so many octets, where a message ended. That it is whole has been seen before.
    ///
    /// # Errors
    /// When it can not be read.
    pub fn skip_to(&mut self, at: u64) -> Result<(), ParcelError> {
        if at > self.at {
            self.input.seek(SeekFrom::Start(at))?;
            self.at = at;
            self.sums = None;
        }
        Ok(())
    }
}

/// The fields of a line.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(text: &str) -> Result<Fields, String> {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            _ => Err("expected an object in JSON".to_owned()),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text.clone())),
            Some(_) => Err(format!("{name}: expected text")),
        }
    }

    fn needed(&self, name: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| format!("{name}: is missing"))
    }

    /// Text that is what a parser takes.
    fn word<T: FromStr>(&self, name: &str) -> Result<Option<String>, String> {
        let text = self.text(name)?.map(|text| plain(name, text)).transpose()?;
        match text.as_ref().is_none_or(|text| text.parse::<T>().is_ok()) {
            true => Ok(text),
            false => Err(format!("{name}: is not what can be there")),
        }
    }

    fn number<T: TryFrom<i64>>(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<T>, String> {
        let number = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value.as_i64().filter(|number| range.contains(number)),
        };
        let wrong = || {
            let (least, most) = (range.start(), range.end());
            format!("{name}: expected a number from {least} to {most}")
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(wrong)
    }
}

/// Text without controls: it goes into lines of ours.
fn plain(name: &str, text: String) -> Result<String, String> {
    match text.contains(char::is_control) {
        true => Err(format!("{name}: expected no controls")),
        false => Ok(text),
    }
}

/// Moments, in microseconds since 1970.
const MOMENTS: RangeInclusive<i64> = 0..=i64::MAX;

/// Numbers of recipients, and of attempts.
const COUNTS: RangeInclusive<i64> = 0..=u32::MAX as i64;

impl Head {
    fn read(text: &str) -> Result<Head, String> {
        let fields = Fields::of(text)?;
        let export = fields.needed("export")?.parse();
        let host = fields.needed("host")?;
        if host.is_empty() || host.len() > 255 || !host.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("host: expected a name".to_owned());
        }
        Ok(Head {
            export: export.map_err(|_| "export: expected 32 hexadecimal digits".to_owned())?,
            host,
            made: fields.number("made", MOMENTS)?.unwrap_or_default(),
        })
    }
}

impl Letter {
    /// Recipients that move.
    #[must_use]
    pub fn moving(&self) -> u64 {
        let moving = |person: &&Person| person.state != State::Expanded;
        self.recipients.iter().filter(moving).count() as u64
    }

    fn json(&self) -> Value {
        let numbers = NUMBERS.iter().zip(self.numbers);
        let numbers = numbers.map(|((name, _), value)| ((*name).to_owned(), json!(value)));
        let texts = TEXTS.iter().zip(&self.texts);
        let texts = texts.filter_map(|(name, text)| Some(((*name).to_owned(), json!(text.as_ref()?))));
        let mut fields: Map<String, Value> = numbers.chain(texts).collect();
        fields.insert("id".to_owned(), json!(self.id.to_string()));
        fields.insert("from".to_owned(), json!(self.from));
        Value::Object(fields)
    }

    fn read(text: &str) -> Result<Letter, String> {
        let fields = Fields::of(text)?;
        let id = fields.needed("id")?.parse();
        let from = fields.word::<ReversePath>("from")?;
        let mut letter = Letter {
            id: id.map_err(|_| "id: expected the ID of a message".to_owned())?,
            from: from.ok_or_else(|| "from: is missing".to_owned())?,
            ..Letter::default()
        };
        for ((name, range), number) in NUMBERS.into_iter().zip(&mut letter.numbers) {
            *number = fields
                .number(name, range)?
                .ok_or_else(|| format!("{name}: is missing"))?;
        }
        for (name, text) in TEXTS.iter().zip(&mut letter.texts) {
            *text = match *name {
                "envid" => fields.word::<EnvelopeId>(name)?,
                "ret" => fields.word::<Return>(name)?,
                name if NEEDED.contains(&name) => Some(plain(name, fields.needed(name)?)?),
                "login" | "tls" => fields.text(name)?.map(|text| plain(name, text)).transpose()?,
                name => fields.text(name)?,
            };
        }
        Ok(letter)
    }
}

impl Person {
    fn json(&self) -> Value {
        let standing = STANDINGS.iter().find(|(_, state)| *state == self.state);
        let last = LAST.iter().zip(&self.last);
        let last = last.filter_map(|(name, text)| Some(((*name).to_owned(), json!(text.as_ref()?))));
        let mut fields: Map<String, Value> = last.collect();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                fields.insert(name.to_owned(), value);
            }
        };
        put("n", json!(self.n));
        put("path", json!(self.path));
        put("state", json!(standing.map(|(word, _)| *word)));
        put("in_box", json!(u8::from(self.in_box)));
        put("attempts", json!(self.attempts));
        put("attempted", json!(self.attempted));
        put("settled", json!(self.settled));
        put("notify", json!(self.notify));
        put("original", json!(self.original));
        put("parent", json!(self.parent));
        Value::Object(fields)
    }

    /// The recipient that comes behind `others`.
    fn read(text: &str, others: &[Person]) -> Result<Person, String> {
        let fields = Fields::of(text)?;
        let missing = |name: &str| format!("recipient: {name}: is missing");
        let n = fields.number("n", COUNTS)?.ok_or_else(|| missing("n"))?;
        if others.last().is_some_and(|last| last.n >= n) {
            return Err("n: expected recipients in the order of their numbers".to_owned());
        }
        let word = fields.needed("state")?;
        let (_, state) = STANDINGS
            .iter()
            .find(|(known, _)| *known == word)
            .ok_or("state: expected pending, held, dead or expanded")?;
        let parent: Option<u32> = fields.number("parent", COUNTS)?;
        let is_alias = |parent: u32| {
            let found = others.binary_search_by_key(&parent, |other| other.n);
            found.is_ok_and(|found| others[found].state == State::Expanded)
        };
        if parent.is_some_and(|parent| !is_alias(parent)) {
            return Err("parent: expected an alias before it".to_owned());
        }
        if parent.is_some() && *state == State::Expanded {
            return Err("parent: what came of an alias is not expanded".to_owned());
        }
        let path = fields.word::<Mailbox>("path")?.ok_or_else(|| missing("path"))?;
        let mut last: [Option<String>; 4] = Default::default();
        for (name, text) in LAST.iter().zip(&mut last) {
            *text = fields.text(name)?;
        }
        let is_status = |text: &String| EnhancedCode::take(text).is_some_and(|(_, rest)| rest.is_empty());
        if last[1].as_ref().is_some_and(|status| !is_status(status)) {
            return Err("last_status: expected a status such as 4.4.1".to_owned());
        }
        Ok(Person {
            n,
            path,
            state: *state,
            in_box: fields.number("in_box", 0..=1)? == Some(1),
            attempts: fields.number("attempts", COUNTS)?.unwrap_or_default(),
            attempted: fields.number("attempted", MOMENTS)?,
            settled: fields.number("settled", MOMENTS)?,
            notify: fields.number("notify", 0..=7)?,
            original: fields.word::<OriginalRecipient>("original")?,
            parent,
            last,
        })
    }
}

impl Happening {
    fn json(&self) -> Value {
        let mut event = json!({ "at": self.at, "what": self.what, "text": self.text });
        if let (Some(n), Some(fields)) = (self.n, event.as_object_mut()) {
            fields.insert("n".to_owned(), json!(n));
        }
        event
    }

    fn read(text: &str, recipients: &[Person]) -> Result<Happening, String> {
        let fields = Fields::of(text)?;
        let what = fields.needed("what")?;
        let is_word = |octet: u8| octet.is_ascii_lowercase() || octet == b' ' || octet == b'-';
        if what.is_empty() || what.len() > 40 || !what.bytes().all(is_word) {
            return Err("what: expected a word".to_owned());
        }
        let n: Option<u32> = fields.number("n", COUNTS)?;
        let is_known = |n: u32| recipients.binary_search_by_key(&n, |person| person.n).is_ok();
        if n.is_some_and(|n| !is_known(n)) {
            return Err("n: expected one of the recipients".to_owned());
        }
        Ok(Happening {
            at: fields
                .number("at", MOMENTS)?
                .ok_or_else(|| "at: is missing".to_owned())?,
            what,
            n,
            text: fields.needed("text")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            export: ExportId(7),
            host: "mx1.example.org".to_owned(),
            made: 5,
        }
    }

    fn person(n: u32, state: State, parent: Option<u32>) -> Person {
        Person {
            n,
            path: format!("r{n}@example.net"),
            state,
            in_box: n == 1,
            attempts: 3,
            attempted: Some(17),
            settled: None,
            notify: Some(5),
            original: Some("rfc822;r@example.net".to_owned()),
            parent,
            last: [
                Some("mx[192.0.2.1]:25".to_owned()),
                Some("4.4.1".to_owned()),
                Some("\u{e4} \u{1}".to_owned()),
                None,
            ],
        }
    }

    fn letter(id: i64, size: u64) -> Letter {
        let mut texts: [Option<String>; 13] = Default::default();
        for (text, name) in texts.iter_mut().zip(TEXTS) {
            *text = match name {
                "envid" => Some("QQ+2B1".to_owned()),
                "ret" => Some("HDRS".to_owned()),
                "login" => None,
                name => Some(format!("the {name}")),
            };
        }
        let event = |at, n| Happening {
            at,
            what: "given up".to_owned(),
            n,
            text: "a \"word\"\nand another".to_owned(),
        };
        Letter {
            id: MessageId(id),
            from: "ann@example.org".to_owned(),
            numbers: [1, 2, 0, 1, -1],
            texts,
            recipients: vec![
                person(1, State::Expanded, None),
                person(4, State::Held, None),
                person(9, State::PendingConversion, Some(1)),
            ],
            events: vec![event(1, None), event(2, Some(4))],
            size,
        }
    }

    /// An export of two messages, the second with this content.
    fn written(content: &[u8]) -> Vec<u8> {
        let mut packer = Packer::begin(Vec::new(), &head()).unwrap();
        packer.add(&letter(3, 0), &mut io::empty()).unwrap();
        packer
            .add(&letter(5, content.len() as u64), &mut &*content)
            .unwrap();
        let (file, messages, recipients) = packer.finish().unwrap();
        assert_eq!((messages, recipients), (2, 4));
        file
    }

    fn wrong(file: &[u8]) -> String {
        let looked = Parcel::open(file).and_then(|mut parcel| parcel.check());
        looked.expect_err("it is wrong").to_string()
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let content = b"message {}\nend {}\n\xff\0".repeat(9000);
        let file = written(&content);
        let mut parcel = Parcel::open(&*file).unwrap();
        assert_eq!(parcel.head(), &head());
        let mut places = Vec::new();
        for (id, content) in [(3, &b""[..]), (5, &content[..])] {
            assert_eq!(
                parcel.next_letter().unwrap().as_ref(),
                Some(&letter(id, content.len() as u64))
            );
            let mut read = Vec::new();
            let take = |piece: &[u8]| {
                read.extend_from_slice(piece);
                Ok::<(), ParcelError>(())
            };
            parcel.content(take).unwrap();
            assert!(read == content);
            places.push(parcel.at());
        }
        assert_eq!(parcel.next_letter().unwrap(), None);
        assert_eq!(Parcel::open(&*file).unwrap().check().unwrap(), (2, 4));
        // From a place where a message ended it goes on as well.
        let mut parcel = Parcel::open(io::Cursor::new(&file)).unwrap();
        parcel.skip_to(places[0]).unwrap();
        assert_eq!(parcel.check().unwrap(), (1, 2));
    }

    #[test]
    fn whatever_octet_is_changed_or_missing_it_is_seen() {
        let file = written(b"Subject: x\r\n\r\nbody\r\n");
        for at in 0..file.len() {
            for by in [1, 0x20, 0x80] {
                let mut other = file.clone();
                other[at] ^= by;
                wrong(&other);
            }
            wrong(&file[..at]);
        }
        let told = wrong(&[&file[..], b"\n"].concat());
        assert_eq!(
            told,
            format!("at octet {}: expected nothing behind the end line", file.len())
        );
    }

    /// An export of these lines, with sums that are right.
    fn made_by_hand(lines: &[&str], content: &[u8]) -> Vec<u8> {
        let mut packer = Packer::begin(Vec::new(), &head()).unwrap();
        for line in lines {
            packer.write(format!("{line}\n").as_bytes()).unwrap();
        }
        packer
            .write(&[format!("content {}\n", content.len()).as_bytes(), content, b"\n"].concat())
            .unwrap();
        packer.close_sum().unwrap();
        (packer.messages, packer.recipients) = (1, 1);
        packer.finish().unwrap().0
    }

    const MESSAGE: &str = "message {\"id\":\"0000000000000003\",\"from\":\"\",\"origin\":1,\"body\":0,\"utf8\":0,\
         \"utf8_header\":0,\"hops\":1,\"client\":\"c\",\"helo\":\"h\",\"protocol\":\"SMTP\"}";
    const RECIPIENT: &str = "recipient {\"n\":2,\"path\":\"a@b.example\",\"state\":\"dead\"}";
    const EVENT: &str = "event {\"at\":7,\"what\":\"dead\",\"text\":\"x\",\"n\":2}";

    #[test]
    fn what_somebody_made_by_hand_is_refused_with_its_place_where_it_can_not_be() {
        let right = made_by_hand(&[MESSAGE, RECIPIENT, EVENT], b"x");
        assert_eq!(Parcel::open(&*right).unwrap().check().unwrap(), (1, 1));
        let second = RECIPIENT.replace("2,", "3,");
        for (lines, from, to, told) in [
            (0, "0000000000000003", "x", "id: expected the ID"),
            (
                0,
                "\"from\":\"\"",
                "\"from\":\"<\"",
                "from: is not what can be there",
            ),
            (
                0,
                "\"from\":\"\"",
                "\"from\":\"a@b\\r\\nRCPT\"",
                "from: expected no controls",
            ),
            (
                0,
                "\"origin\":1",
                "\"origin\":4",
                "origin: expected a number from 1 to 3",
            ),
            (0, "\"origin\":1,", "", "origin: is missing"),
            (0, "\"helo\":\"h\"", "\"helo\":null", "helo: is missing"),
            (0, "\"helo\":\"h\"", "\"helo\":[]", "helo: expected text"),
            (
                0,
                "\"helo\":\"h\"",
                "\"helo\":\"h\",\"ret\":\"ALL\"",
                "ret: is not what can be there",
            ),
            (0, "message {", "message x{", "expected an object in JSON"),
            (0, "message", "letter", "expected message or end"),
            (1, "a@b.example", "@", "path: is not what can be there"),
            (
                1,
                "dead",
                "removed",
                "state: expected pending, held, dead or expanded",
            ),
            (1, "dead", "expanded", "expected a recipient before the content"),
            (
                1,
                "\"n\":2",
                "\"n\":2,\"parent\":1",
                "parent: expected an alias before it",
            ),
            (
                1,
                "\"n\":2",
                "\"n\":4294967296",
                "n: expected a number from 0 to 4294967295",
            ),
            (
                1,
                "\"n\":2",
                "\"n\":2,\"notify\":8",
                "notify: expected a number from 0 to 7",
            ),
            (
                1,
                "\"n\":2",
                "\"n\":2,\"last_status\":\"soon\"",
                "last_status: expected a status",
            ),
            (2, "\"n\":2", "\"n\":3", "n: expected one of the recipients"),
            (2, "\"dead\"", "\"\\u001b\"", "what: expected a word"),
            (2, "\"at\":7", "\"at\":-7", "at: expected a number from 0"),
            (
                2,
                EVENT,
                &format!("{EVENT}\n{EVENT}"),
                "at: expected events in their order",
            ),
            (
                2,
                EVENT,
                &format!("{EVENT}\n{second}"),
                "expected recipient, event or content",
            ),
            (
                1,
                RECIPIENT,
                &format!("{second}\n{RECIPIENT}"),
                "n: expected recipients in the order",
            ),
            (
                2,
                EVENT,
                &format!("content 1\nx\nsum 0\n{MESSAGE}"),
                "what stands before is not as it was written",
            ),
        ] {
            let mut made = [MESSAGE, RECIPIENT, EVENT].map(str::to_owned);
            assert!(made[lines].contains(from), "{from}");
            made[lines] = made[lines].replacen(from, to, 1);
            let file = made_by_hand(&made.each_ref().map(String::as_str), b"x");
            let said = wrong(&file);
            assert!(said.contains(told), "{from} {to}: {said}");
            assert!(
                said.starts_with("at octet ") && !said.contains(char::is_control),
                "{said}"
            );
        }
        let long = format!("event {{\"text\":\"{}\"}}", "x".repeat(2 << 20));
        let said = wrong(&made_by_hand(&[MESSAGE, RECIPIENT, &long], b"x"));
        assert!(
            said.contains("in message 0000000000000003: expected lines of at most"),
            "{said}"
        );
        for other in [
            &b""[..],
            b"smtpmta-export-2 {}\n",
            b"SQLite format 3\0\n",
            &[b'x'; 3 << 20],
        ] {
            wrong(other);
        }
    }

    #[test]
    fn content_that_is_not_as_long_as_it_was_is_not_packed() {
        for content in [&b"abc"[..], b"abcde"] {
            let mut packer = Packer::begin(Vec::new(), &head()).unwrap();
            let error = packer.add(&letter(3, 4), &mut &*content).unwrap_err();
            assert!(error.to_string().contains("the 4 octets that it had"), "{error}");
        }
    }
}
