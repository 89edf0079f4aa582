//! Packing: what is put aside for an export is read from the rows, and written to its file.
//!
//! Reads, and changes nothing; whoever runs the command does it, and the MTA goes on meanwhile. Nobody touches what is put
//! aside, so that it may be read step by step.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;

use rusqlite::{Connection, Row};

use super::content_in;
use super::damage::{number_in, text_in};
use super::error::QueueError;
use super::folder::FOLDER;
use super::id::MessageId;
use super::ledger::{row, rows};
use super::moving::{ExportId, PUT_ASIDE};
use super::parcel::{Happening, Head, Letter, NUMBERS, Packer, ParcelError, Person, TEXTS};
use super::states::State;
use super::verify::open;

/// Messages that are looked for at once.
const STEP: usize = 200;

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Messages.
    pub messages: u64,
    /// Their recipients that move.
    pub recipients: u64,
}

/// Why nothing was packed.
#[derive(Debug)]
pub enum PackError {
    /// The work queue can not be read.
    Queue(QueueError),
    /// The content of this message can not be read, or is not what it was.
    Content(MessageId, String),
    /// The file can not be written.
    File(ParcelError),
}

impl From<QueueError> for PackError {
    fn from(error: QueueError) -> PackError {
        PackError::Queue(error)
    }
}

impl From<ParcelError> for PackError {
    fn from(error: ParcelError) -> PackError {
        PackError::File(error)
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Queue(error) => error.fmt(f),
            PackError::Content(id, what) => write!(f, "message {id} can not be exported: {what}"),
            PackError::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PackError {}

/// Writes all that is put aside for the export that `head` names, in the work queue in the folder `spool`.
///
/// # Errors
/// When it can not be read, or not be written.
pub fn pack<W: Write>(spool: &Path, head: &Head, out: W) -> Result<(W, Packed), PackError> {
    let db = open(&spool.join("queue.db"))?;
    let mut packer = Packer::begin(out, head)?;
    let export = head.export.to_string();
    let mut after = MessageId(i64::MIN);
    loop {
        let ids = rows(
            &db,
            "SELECT DISTINCT message FROM put_aside WHERE export = ? AND message > ? ORDER BY message LIMIT ?",
            (&export, after.0, STEP),
            |row| row.get(0).map(MessageId),
        )?;
        let Some(last) = ids.last().filter(|last| **last > after) else {
            break;
        };
        after = *last;
        for id in ids {
            let letter = letter(&db, head.export, id)?;
            let broken = |what: String| PackError::Content(id, what);
            let content = content_in(&db, &spool.join(FOLDER), id);
            let mut content = Content(content.map_err(|error| broken(error.to_string()))?, None);
            match packer.add(&letter, &mut content) {
                Ok(()) => {}
                Err(ParcelError::Wrong { what, .. }) => return Err(broken(what)),
                Err(error) => {
                    return Err(content.1.map_or_else(|| error.into(), broken));
                }
            }
        }
    }
    let (out, messages, recipients) = packer.finish()?;
    Ok((out, Packed { messages, recipients }))
}

/// Content that is read, and what went wrong with that.
struct Content<R>(R, Option<String>);

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0
            .read(buffer)
            .inspect_err(|error| self.1 = Some(error.to_string()))
    }
}

/// Message `id`, as it moves with this export.
fn letter(db: &Connection, export: ExportId, id: MessageId) -> Result<Letter, PackError> {
    let letter = row(
        db,
        "SELECT size, reverse_path, origin, body, utf8, utf8_header, ifnull(hops, -1), \
           client, helo, protocol, login, tls, envid, ret, subject, header_from, header_to, message_id, date, \
           attachments \
         FROM message WHERE id = ?",
        [id.0],
        |row| {
            let mut letter = Letter {
                id,
                size: number_in(row, 0).unwrap_or(0),
                from: text_in(row, 1).unwrap_or_default(),
                ..Letter::default()
            };
            for (at, number) in letter.numbers.iter_mut().enumerate() {
                *number = row.get(2 + at)?;
            }
            for (at, text) in letter.texts.iter_mut().enumerate() {
                *text = text_in(row, 2 + NUMBERS.len() + at);
            }
            Ok(letter)
        },
    )?;
    debug_assert_eq!((NUMBERS[0].0, TEXTS[0]), ("origin", "client"));
    let letter = letter.ok_or_else(|| PackError::Content(id, "its row has gone".to_owned()))?;
    let people = rows(
        db,
        "SELECT r.n, r.path, p.state, r.in_box <> 0 OR r.hop IS NOT NULL, r.attempts, r.attempted_at, \
           r.settled_at, r.notify, r.orcpt, r.parent, r.last_host, r.last_status, r.last_error, r.last_reply, \
           p.export = ? \
         FROM recipient r LEFT JOIN put_aside p ON p.message = r.message AND p.n = r.n \
         WHERE r.message = ? ORDER BY r.n",
        (export.to_string(), id.0),
        |row| Ok((person(row)?, row.get::<_, Option<bool>>(14)? == Some(true))),
    )?;
    let moves = people.iter().filter(|(_, moves)| *moves);
    let aliases: BTreeSet<u32> = moves.filter_map(|(person, _)| person.parent).collect();
    let events = rows(
        db,
        "SELECT stamp, what, n, text FROM event WHERE message = ? ORDER BY stamp",
        [id.0],
        |row| {
            Ok(Happening {
                at: row.get(0)?,
                what: text_in(row, 1).unwrap_or_default(),
                n: number_in(row, 2),
                text: text_in(row, 3).unwrap_or_default(),
            })
        },
    )?;
    let is_there = |n: u32| {
        let person = people.iter().find(|(person, _)| person.n == n);
        person.is_some_and(|(_, moves)| *moves || aliases.contains(&n))
    };
    let tell = |mut event: Happening| {
        // What happened to somebody who stays is told, too, and to whom.
        if let Some(n) = event.n.take_if(|n| !is_there(*n)) {
            let path = people.iter().find(|(person, _)| person.n == n);
            let path = path.map_or("", |(person, _)| person.path.as_str());
            event.text = format!("<{path}>: {}", event.text);
        }
        event
    };
    let is_of_this = |event: &Happening| event.text.starts_with(&format!("{PUT_ASIDE}{export}"));
    Ok(Letter {
        events: events
            .into_iter()
            .filter(|event| !is_of_this(event))
            .map(tell)
            .collect(),
        recipients: people
            .into_iter()
            .filter(|(person, moves)| *moves || aliases.contains(&person.n))
            .map(|(person, _)| person)
            .collect(),
        ..letter
    })
}

/// A recipient as it moves; one that is not put aside is there for what came of it.
fn person(row: &Row<'_>) -> rusqlite::Result<Person> {
    let was: Option<i64> = row.get(2)?;
    let state = match was {
        None => State::Expanded,
        Some(5) => State::Held,
        Some(6) => State::Dead,
        Some(_) => State::PendingConversion,
    };
    Ok(Person {
        n: row.get(0)?,
        path: text_in(row, 1).unwrap_or_default(),
        state,
        in_box: row.get(3)?,
        attempts: number_in(row, 4).unwrap_or(0),
        attempted: number_in(row, 5),
        settled: number_in(row, 6).filter(|_| matches!(state, State::Dead | State::Expanded)),
        notify: number_in(row, 7),
        original: text_in(row, 8),
        // An alias that is here for others came of none.
        parent: number_in(row, 9).filter(|_| state != State::Expanded),
        last: [
            text_in(row, 10),
            text_in(row, 11),
            text_in(row, 12),
            text_in(row, 13),
        ],
    })
}
