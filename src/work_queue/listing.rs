//! The work queue message by message, in the order of arrival: what `queue list` shows. Reads, and changes nothing.
//!
//! Never walks through what has left the queue, of which there may be much more.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;

use super::WorkQueue;
use super::choice::Choice;
use super::damage::{number_in, text_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger;
use super::soundness::state;
use super::states::State;
use super::verify;
use crate::clock::Stamp;

/// How a recipient stands, as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In this state.
    Known(State),
    /// In none that there is: somebody else wrote this number. Housekeeping holds it.
    Unknown(i64),
}

impl Standing {
    pub(super) fn of(number: i64) -> Standing {
        state(number).map_or(Standing::Unknown(number), Standing::Known)
    }

    /// Its state, if it has one.
    #[must_use]
    pub fn known(self) -> Option<State> {
        match self {
            Standing::Known(state) => Some(state),
            Standing::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Known(state) => state.fmt(f),
            Standing::Unknown(number) => number.fmt(f),
        }
    }
}

/// A recipient in the queue, with what is to be known of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRow {
    /// The message.
    pub id: MessageId,
    /// The recipient's number in it.
    pub n: u32,
    /// Octets of the content.
    pub size: u64,
    /// The reverse path; empty is the null path.
    pub sender: String,
    /// Whom it is for.
    pub recipient: String,
    /// How it stands.
    pub state: Standing,
    /// Where it goes, where that is known.
    pub next_hop: Option<String>,
    /// The handler that has it in hand.
    pub handler: Option<u32>,
    /// When it falls due; `None` while it is on a list, put aside or given up.
    pub next_attempt: Option<Stamp>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it is still here: its own last error, or that of its next hop while that backs off.
    pub last_error: Option<String>,
    /// The subject, as far as conversion has read it.
    pub subject: Option<String>,
}

/// The beginning of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The oldest first.
    pub rows: Vec<MailRow>,
    /// How many recipients more there are, at least.
    pub more: usize,
    /// Whether there are just so many.
    pub is_exact: bool,
}

/// Messages that are looked at in one go.
const STEP: usize = 500;

/// No limit to what SQLite gives.
const ALL: usize = usize::MAX >> 1;

/// So many messages that wait for conversion are counted at most: usually there are few.
const MOST_COUNTED: usize = 10_000;

/// Messages that are looked at in one go by who looks for recipients of some kind: each may have many.
const CHOOSING_STEP: usize = 100;

impl WorkQueue {
    /// The recipients that are in the queue and fit `choice`, at most `limit`, the oldest first. Those that have been
    /// removed are not, unless it is them that are asked for.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn listing(&self, choice: &Choice, limit: usize) -> Result<Listing, QueueError> {
        if choice.is_of_everything() {
            return self.beginning(limit);
        }
        let mut rows = Vec::new();
        self.each_chosen(choice, |row| {
            rows.push(row);
            rows.len() <= limit
        })?;
        let more = rows.len().saturating_sub(limit);
        rows.truncate(limit);
        Ok(Listing {
            rows,
            more,
            is_exact: more == 0,
        })
    }

    /// Hands each recipient that fits `choice` to `work`, the oldest first, as long as that says to go on.
    ///
    /// # Errors
    /// When the database can not be read.
    pub(super) fn each_chosen(
        &self,
        choice: &Choice,
        mut work: impl FnMut(MailRow) -> bool,
    ) -> Result<(), QueueError> {
        let mut after = Some(MessageId(i64::MIN));
        while let Some(place) = after {
            let (rows, next) = self.chosen(choice, place)?;
            if !rows.into_iter().all(&mut work) {
                break;
            }
            after = next;
        }
        Ok(())
    }

    /// Of the next messages behind `after` the recipients that fit `choice`; and the last of these messages, if there may be
    /// more.
    ///
    /// # Errors
    /// When the database can not be read.
    pub(super) fn chosen(
        &self,
        choice: &Choice,
        after: MessageId,
    ) -> Result<(Vec<MailRow>, Option<MessageId>), QueueError> {
        let now = self.now();
        self.store.read(|db| {
            // All of it at one moment.
            let db = db.unchecked_transaction()?;
            let removed = choice.may_be_of_removed();
            let ids = match (choice.ids.is_empty(), removed) {
                (false, _) => next_named(&choice.ids, after),
                (true, false) => in_the_queue(&db, after, CHOOSING_STEP)?,
                (true, true) => with_content(&db, after, CHOOSING_STEP)?,
            };
            let mut rows = Vec::new();
            for id in &ids {
                let of_message = recipients(&db, *id, removed, ALL)?;
                rows.extend(of_message.into_iter().filter(|row| choice.fits(row, now)));
            }
            Ok((rows, ids.last().copied()))
        })
    }

    /// The recipients that are in the queue, whatever they wait for, at most `limit`, the oldest first.
    fn beginning(&self, limit: usize) -> Result<Listing, QueueError> {
        self.store.read(|db| {
            // All of it at one moment.
            let db = db.unchecked_transaction()?;
            let mut rows = Vec::new();
            let mut after = MessageId(i64::MIN);
            while rows.len() < limit {
                let ids = in_the_queue(&db, after, STEP.min(limit - rows.len()))?;
                let Some(last) = ids.last() else { break };
                after = *last;
                for id in ids {
                    rows.extend(recipients(&db, id, false, limit - rows.len())?);
                }
            }
            let (all, is_exact) = count(&db)?;
            Ok(Listing {
                more: all.saturating_sub(rows.len()),
                is_exact,
                rows,
            })
        })
    }
}

/// Shows the recipients that are in the queue in the folder `spool` to `show`, message by message, the oldest first, until
/// it says that this is enough: of an MTA that runs, or of none. Whoever looks keeps nobody from going on.
///
/// # Errors
/// When there is none, or it can not be read.
pub fn walk(spool: &Path, mut show: impl FnMut(&[MailRow]) -> bool) -> Result<(), QueueError> {
    let db = verify::open(&spool.join("queue.db"))?;
    let mut after = MessageId(i64::MIN);
    loop {
        let ids = in_the_queue(&db, after, STEP)?;
        let Some(last) = ids.last() else {
            return Ok(());
        };
        after = *last;
        for id in ids {
            let mut rows = recipients(&db, id, false, usize::MAX >> 1)?;
            // What has only to be told of has arrived.
            rows.retain(|row| !row.state.known().is_some_and(State::is_end));
            if !rows.is_empty() && !show(&rows) {
                return Ok(());
            }
        }
    }
}

/// The next messages in the queue after `after`, at most `limit`: each has its content in the database, or in a file.
pub(super) fn in_the_queue(
    db: &Connection,
    after: MessageId,
    limit: usize,
) -> Result<Vec<MessageId>, QueueError> {
    let large =
        "SELECT id FROM message WHERE file IS NOT NULL AND left_at IS NULL AND id > ? ORDER BY id LIMIT ?";
    next(db, large, after, limit)
}

/// The same, with messages that have been removed. Those among them that are large are looked for in all of history.
fn with_content(db: &Connection, after: MessageId, limit: usize) -> Result<Vec<MessageId>, QueueError> {
    let large = "SELECT id FROM message WHERE file IS NOT NULL AND id > ? ORDER BY id LIMIT ?";
    next(db, large, after, limit)
}

/// The next messages after `after`, at most `limit`: those of which content stands in the database, and those that `large`
/// gives.
fn next(
    db: &Connection,
    large: &'static str,
    after: MessageId,
    limit: usize,
) -> Result<Vec<MessageId>, QueueError> {
    let small = "SELECT message FROM content WHERE message > ? ORDER BY message LIMIT ?";
    let mut ids = Vec::new();
    for sql in [small, large] {
        ids.extend(ledger::rows(db, sql, (after.0, limit), |row| {
            row.get(0).map(MessageId)
        })?);
    }
    // In a damaged database what lies before may be found again, and for ever.
    ids.retain(|id| *id > after);
    ids.sort_unstable();
    ids.truncate(limit);
    Ok(ids)
}

/// The next of the messages that are named.
fn next_named(ids: &[MessageId], after: MessageId) -> Vec<MessageId> {
    let mut ids: Vec<MessageId> = ids.iter().copied().filter(|id| *id > after).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(CHOOSING_STEP);
    ids
}

/// The recipients of message `id` that are in the queue, or `removed` from it, at most `limit`, in the order of RCPT.
fn recipients(
    db: &Connection,
    id: MessageId,
    removed: bool,
    limit: usize,
) -> Result<Vec<MailRow>, QueueError> {
    ledger::rows(
        db,
        "SELECT r.n, m.size, m.reverse_path, r.path, r.state, h.name, l.handler, \
           CASE WHEN r.state = 1 THEN r.next_attempt \
             WHEN r.state = 2 AND r.list IS NULL THEN max(r.next_attempt, ifnull(h.retry_at, 0)) END, \
           r.attempts, iif(r.state = 2 AND h.failures > 0, h.last_error, r.last_error), m.subject \
         FROM message m CROSS JOIN recipient r ON r.message = m.id \
           LEFT JOIN next_hop h ON h.id = r.hop LEFT JOIN domain_list l ON l.id = r.list \
         WHERE m.id = ? AND (r.state NOT BETWEEN 10 AND 14 OR r.report_due IS NOT NULL OR r.state = 14 AND ?) \
         ORDER BY r.n LIMIT ?",
        (id.0, removed, limit),
        |row| {
            Ok(MailRow {
                id,
                n: number_in(row, 0).unwrap_or(0),
                size: number_in(row, 1).unwrap_or(0),
                sender: text_in(row, 2).unwrap_or_default(),
                recipient: text_in(row, 3).unwrap_or_default(),
                state: Standing::of(row.get(4)?),
                next_hop: text_in(row, 5),
                handler: number_in(row, 6),
                next_attempt: row.get::<_, Option<i64>>(7)?.map(Stamp),
                attempts: number_in(row, 8).unwrap_or(0),
                last_error: text_in(row, 9),
                subject: text_in(row, 10),
            })
        },
    )
}

/// How many recipients there are in the queue, at least; and whether there are just so many, those apart that are in no
/// state.
fn count(db: &Connection) -> Result<(usize, bool), QueueError> {
    let number = |sql| ledger::row(db, sql, [], |row| row.get::<_, Option<usize>>(0)).map(Option::flatten);
    let mut all = 0;
    for sql in [
        "SELECT sum(waiting) FROM next_hop WHERE waiting > 0",
        "SELECT count(*) FROM recipient WHERE list IS NOT NULL",
        "SELECT count(*) FROM recipient WHERE state = 4",
        "SELECT count(*) FROM recipient WHERE state IN (5, 6)",
        "SELECT count(*) FROM recipient WHERE report_due IS NOT NULL",
    ] {
        all += number(sql)?.unwrap_or(0);
    }
    // Each of these messages has one recipient or more: they are not counted.
    let mut converting = 0;
    for sql in [
        "SELECT count(*) FROM (SELECT 1 FROM message WHERE inbound_due IS NOT NULL LIMIT ?)",
        "SELECT count(*) FROM (SELECT 1 FROM message WHERE box_due IS NOT NULL LIMIT ?)",
    ] {
        converting += ledger::row(db, sql, [MOST_COUNTED], |row| row.get::<_, usize>(0))?.unwrap_or(0);
    }
    Ok((all + converting, converting == 0))
}
