//! All that is known of one message: how it came, how it stands, and what happened to it. What `trace` and `why` tell.
//!
//! Reads, and changes nothing. Whatever stands in a column, it says it as well as it can.

use rusqlite::{Connection, Row};

use super::WorkQueue;
use super::board::BackOff;
use super::damage::{number_in, text_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger;
use super::listing::Standing;
use super::moving::has_tables;
use super::states::State;
use crate::clock::Stamp;

/// A message, in the queue or out of it for no longer than `--keep-history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Its name.
    pub id: MessageId,
    /// The reverse path; empty is the null path.
    pub sender: String,
    /// Who brought it: an address, or a user.
    pub client: String,
    /// What that one called itself; empty for local mail.
    pub helo: String,
    /// `ESMTP`, `local` …
    pub protocol: String,
    /// Who had logged in.
    pub login: Option<String>,
    /// Version and cipher of the connection.
    pub tls: Option<String>,
    /// Octets of the content.
    pub size: u64,
    /// The subject, as far as conversion has read it.
    pub subject: Option<String>,
    /// The Message-ID field, likewise.
    pub message_id: Option<String>,
    /// When its last recipient was settled; `None`: it is in the queue.
    pub left: Option<Stamp>,
    /// In the order of RCPT, and behind these what came of aliases.
    pub recipients: Vec<Whereabouts>,
    /// In their order.
    pub events: Vec<Event>,
}

/// How a recipient stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its number in the message.
    pub n: u32,
    /// Whom it is.
    pub path: String,
    /// How it stands.
    pub state: Standing,
    /// Where it waits for conversion: in SMTP.BOX, or in the inbound work queue.
    pub in_box: bool,
    /// Where it goes, where that is known.
    pub next_hop: Option<String>,
    /// Where an operator leads it by hand.
    pub via: Option<String>,
    /// The list that it is on.
    pub list: Option<i64>,
    /// The handler that has this list.
    pub handler: Option<u32>,
    /// When it falls due by itself.
    pub next_attempt: Stamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried last.
    pub attempted: Option<Stamp>,
    /// How that ended.
    pub last_error: Option<String>,
    /// How its next hop backs off, if it does, and how the last attempt there ended.
    pub back_off: Option<(BackOff, String)>,
    /// The file of the export that it is put aside for, and that is not finished.
    pub export: Option<String>,
}

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Stamp,
    /// In a word.
    pub what: String,
    /// The recipient that it happened to; `None`: the message as a whole.
    pub n: Option<u32>,
    /// In words.
    pub text: String,
}

/// Messages that are looked at in one go by who looks for an address.
const STEP: usize = 2000;

impl WorkQueue {
    /// All that is known of message `id`; `None` where there is none.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn trace(&self, id: MessageId) -> Result<Option<Trace>, QueueError> {
        self.begin_of_trace(id, usize::MAX >> 1)
    }

    /// The same, with at most so many recipients, and as many events, the first of each.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn begin_of_trace(&self, id: MessageId, most: usize) -> Result<Option<Trace>, QueueError> {
        // All of it at one moment.
        self.store.read(|db| {
            let db = db.unchecked_transaction()?;
            traced(&db, id, most)
        })
    }

    /// The last messages, at most `limit`, that are from or for the address `what`, or have it for their Message-ID. The
    /// latest comes first. Looks through all that there is, some at a time: nobody waits for it.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn find(&self, what: &str, limit: usize) -> Result<Vec<MessageId>, QueueError> {
        let mut found = Vec::new();
        let mut before = MessageId(i64::MAX);
        while found.len() < limit {
            let (matching, reached) = self.store.read(|db| matching(db, what, before))?;
            found.extend(matching);
            match reached {
                Some(reached) if reached < before => before = reached,
                // In a damaged database what lies behind may be found again, and for ever.
                _ => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

/// All that is known of message `id`, with at most so many recipients and events.
pub(super) fn traced(db: &Connection, id: MessageId, most: usize) -> Result<Option<Trace>, QueueError> {
    let Some(message) = message(db, id)? else {
        return Ok(None);
    };
    Ok(Some(Trace {
        recipients: recipients(db, id, most)?,
        events: events(db, id, most)?,
        ..message
    }))
}

/// Those of the last messages before this one that have to do with `what`; and how far back that went, unless there are
/// no more.
fn matching(
    db: &Connection,
    what: &str,
    before: MessageId,
) -> Result<(Vec<MessageId>, Option<MessageId>), QueueError> {
    let is_it = |text: Option<String>| {
        let text = text.unwrap_or_default();
        let bare = |text: &str| text.trim_start_matches('<').trim_end_matches('>').to_lowercase();
        !text.is_empty() && bare(&text) == bare(what)
    };
    let messages = ledger::rows(
        db,
        "SELECT id, reverse_path, message_id FROM message WHERE id < ? ORDER BY id DESC LIMIT ?",
        (before.0, STEP),
        |row| {
            let is_it = is_it(text_in(row, 1)) || is_it(text_in(row, 2));
            Ok((row.get(0).map(MessageId)?, is_it))
        },
    )?;
    let Some((reached, _)) = messages.last().copied() else {
        return Ok((Vec::new(), None));
    };
    let mut found: Vec<MessageId> = messages
        .into_iter()
        .filter_map(|(id, is_it)| is_it.then_some(id))
        .collect();
    let recipients = ledger::rows(
        db,
        "SELECT message, path FROM recipient WHERE message >= ? AND message < ? ORDER BY message DESC",
        (reached.0, before.0),
        |row| Ok((row.get(0).map(MessageId)?, is_it(text_in(row, 1)))),
    )?;
    found.extend(
        recipients
            .into_iter()
            .filter_map(|(id, is_it)| is_it.then_some(id)),
    );
    found.sort_unstable();
    found.dedup();
    found.reverse();
    Ok((found, Some(reached)))
}

/// The message itself.
fn message(db: &Connection, id: MessageId) -> Result<Option<Trace>, QueueError> {
    ledger::row(
        db,
        "SELECT reverse_path, client, helo, protocol, login, tls, size, subject, message_id, left_at \
         FROM message WHERE id = ?",
        [id.0],
        |row| {
            let text = |column| text_in(row, column).unwrap_or_default();
            Ok(Trace {
                id,
                sender: text(0),
                client: text(1),
                helo: text(2),
                protocol: text(3),
                login: text_in(row, 4),
                tls: text_in(row, 5),
                size: number_in(row, 6).unwrap_or(0),
                subject: text_in(row, 7),
                message_id: text_in(row, 8),
                left: stamp_in(row, 9),
                recipients: Vec::new(),
                events: Vec::new(),
            })
        },
    )
}

fn recipients(db: &Connection, id: MessageId, most: usize) -> Result<Vec<Whereabouts>, QueueError> {
    let mut recipients = ledger::rows(
        db,
        "SELECT r.n, r.path, r.state, r.in_box, ifnull(h.name, r.pin), r.list, l.handler, r.next_attempt, r.attempts, \
           r.attempted_at, r.last_error, h.failures, h.down_since, h.retry_at, h.last_error, r.pin \
         FROM recipient r LEFT JOIN next_hop h ON h.id = r.hop LEFT JOIN domain_list l ON l.id = r.list \
         WHERE r.message = ? ORDER BY r.n LIMIT ?",
        (id.0, most),
        |row| {
            let failures = number_in(row, 11).filter(|failures| *failures > 0);
            let back_off = failures.map(|failures| BackOff {
                failures,
                since: stamp_in(row, 12).unwrap_or_default(),
                next_probe: stamp_in(row, 13).unwrap_or_default(),
            });
            Ok(Whereabouts {
                n: number_in(row, 0).unwrap_or(0),
                path: text_in(row, 1).unwrap_or_default(),
                state: Standing::of(row.get(2)?),
                in_box: number_in::<i64>(row, 3) != Some(0),
                next_hop: text_in(row, 4),
                via: text_in(row, 15),
                list: number_in(row, 5),
                handler: number_in(row, 6),
                next_attempt: stamp_in(row, 7).unwrap_or_default(),
                attempts: number_in(row, 8).unwrap_or(0),
                attempted: stamp_in(row, 9),
                last_error: text_in(row, 10),
                back_off: back_off.map(|back_off| (back_off, text_in(row, 14).unwrap_or_default())),
                export: None,
            })
        },
    )?;
    if recipients.iter().any(|r| r.state.known() == Some(State::Held)) && has_tables(db)? {
        let sql = "SELECT p.n, e.file FROM put_aside p JOIN export e ON e.id = p.export \
                   WHERE p.message = ? AND e.ended_at IS NULL";
        let exports = ledger::rows(db, sql, [id.0], |row| {
            Ok((number_in::<u32>(row, 0), text_in(row, 1)))
        })?;
        for (n, file) in exports {
            if let Some(recipient) = recipients.iter_mut().find(|r| Some(r.n) == n) {
                recipient.export = file;
            }
        }
    }
    Ok(recipients)
}

fn events(db: &Connection, id: MessageId, most: usize) -> Result<Vec<Event>, QueueError> {
    ledger::rows(
        db,
        "SELECT stamp, what, n, text FROM event WHERE message = ? ORDER BY stamp LIMIT ?",
        (id.0, most),
        |row| {
            Ok(Event {
                at: Stamp(row.get(0)?),
                what: text_in(row, 1).unwrap_or_default(),
                n: number_in(row, 2),
                text: text_in(row, 3).unwrap_or_default(),
            })
        },
    )
}

fn stamp_in(row: &Row<'_>, column: usize) -> Option<Stamp> {
    number_in(row, column).map(Stamp)
}
