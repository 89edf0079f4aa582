//! Rows that do not hold what they should: a message that has one is held for an operator, and the others
//! flow.

use std::str::FromStr;

use rusqlite::types::ValueRef;
use rusqlite::{Error, Row};

use super::WorkQueue;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::Ledger;
use super::moves::{Change, refresh_due, settle_if_done};
use super::states::State;
use crate::domain_list::list::HopId;
use crate::smtp::path::{Mailbox, ReversePath};

/// The mailbox in a column; `None` where the column holds something else.
pub(super) fn mailbox_in(row: &Row<'_>, column: usize) -> Option<Mailbox> {
    word_in(row, column)
}

/// The reverse path in a column; `None` where the column holds something else.
pub(super) fn reverse_path_in(row: &Row<'_>, column: usize) -> Option<ReversePath> {
    match row.get_ref(column).ok()?.as_str().ok()? {
        "" => Some(ReversePath(None)),
        path => path.parse().ok().map(|mailbox| ReversePath(Some(mailbox))),
    }
}

/// A value that the client gave; `None` where there is none, or none that it could have given.
pub(super) fn word_in<T: FromStr>(row: &Row<'_>, column: usize) -> Option<T> {
    row.get_ref(column).ok()?.as_str().ok()?.parse().ok()
}

/// What was read of a row; `None` where one of its columns holds what it can not hold.
///
/// # Errors
/// When the database could not be read.
pub(super) fn sound<T>(read: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(
            Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::FromSqlConversionFailure(..)
            | Error::Utf8Error(..),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The count in a column, whatever it holds: what is no count is none, or as many as can be counted.
pub(super) fn count_in(row: &Row<'_>, column: usize) -> u32 {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(number)) => u32::try_from(number.max(0)).unwrap_or(u32::MAX),
        _ => 0,
    }
}

/// The text in a column, whatever it holds: for what is told to people, and for names that are looked up again.
pub(super) fn text_in(row: &Row<'_>, column: usize) -> Option<String> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

impl WorkQueue {
    /// Holds messages that turned out to be damaged.
    pub(super) fn hold_damaged(&self, mut ids: Vec<MessageId>) -> Result<(), QueueError> {
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        self.store
            .write(move |ledger| ids.iter().try_for_each(|id| hold(ledger, *id)))
            .wait()
    }
}

/// Holds everything of a damaged message that is not settled; what is held stays so.
pub(super) fn hold(ledger: &mut Ledger<'_>, id: MessageId) -> Result<(), QueueError> {
    const REASON: &str = "the rows of this message in queue.db are damaged";
    debug_assert!(
        State::ALL
            .iter()
            .filter(|s| s.number() <= 4)
            .all(|s| s.may_become(State::Held)),
        "whatever waits may be held"
    );
    let waited = ledger.rows(
        "SELECT hop, count(*) FROM recipient \
         WHERE message = ? AND state = 2 AND list IS NULL AND typeof(hop) = 'integer' GROUP BY hop",
        [id.0],
        |row| Ok((HopId(row.get(0)?), row.get(1)?)),
    )?;
    let held = ledger.run(
        "UPDATE recipient SET state = 5, list = NULL, last_status = '5.3.0', last_error = ? \
         WHERE message = ? AND state BETWEEN 1 AND 4",
        (REASON, id.0),
    )?;
    for (hop, recipients) in waited {
        refresh_due(ledger, hop, Change::Gone(recipients))?;
    }
    ledger.run(
        "UPDATE message SET inbound_due = NULL, box_due = NULL WHERE id = ?",
        [id.0],
    )?;
    if held > 0 {
        log::error!("id={id} held: {REASON}");
        ledger.record(id, None, "held", REASON)?;
    }
    // Nobody can be told of what ended well, and it must not be found anew for ever.
    ledger.run(
        "UPDATE recipient SET report_due = NULL WHERE message = ? AND report_due IS NOT NULL",
        [id.0],
    )?;
    settle_if_done(ledger, id)
}
