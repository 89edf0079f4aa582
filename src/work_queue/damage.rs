//! Rows that do not hold what they should: a message that has one is held for an operator, and the others
//! flow.

use std::str::FromStr;

use rusqlite::Row;

use super::WorkQueue;
use super::error::QueueError;
use super::id::MessageId;
use super::inspection::one;
use super::ledger::Ledger;
use super::moves::{Change, recount, refresh_due, settle_if_done};
use super::soundness::Kind;
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

/// The number in a column; `None` where it is none that can be there.
pub(super) fn number_in<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> Option<T> {
    row.get_ref(column).ok()?.as_i64().ok()?.try_into().ok()
}

/// The text in a column that people read, whatever octets it holds; `None` where there is none.
pub(super) fn text_in(row: &Row<'_>, column: usize) -> Option<String> {
    let text = row.get_ref(column).ok()?.as_bytes().ok()?;
    Some(String::from_utf8_lossy(text).into_owned())
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
            .write(move |ledger| ids.iter().try_for_each(|id| hold(ledger, *id).map(drop)))
            .wait()
    }
}

/// Holds everything of a damaged message that is not settled; what is held stays so. Gives how many recipients it held.
pub(super) fn hold(ledger: &mut Ledger<'_>, id: MessageId) -> Result<usize, QueueError> {
    debug_assert!(
        State::ALL
            .iter()
            .filter(|s| s.number() <= 4)
            .all(|s| s.may_become(State::Held)),
        "whatever waits may be held"
    );
    let reason = reason(ledger, id)?;
    let waited = ledger.rows(
        "SELECT hop, count(*) FROM recipient WHERE message = ? AND state = 2 AND list IS NULL AND hop IS NOT NULL \
         GROUP BY hop",
        [id.0],
        |row| Ok((HopId(row.get(0)?), row.get(1)?)),
    )?;
    // A state that there is none of may have been another one, for which its next hop still counts it.
    let miscounted: Vec<i64> = ledger.rows(
        "SELECT DISTINCT hop FROM recipient WHERE message = ? AND hop IS NOT NULL \
         AND state NOT IN (1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14)",
        [id.0],
        |row| row.get(0),
    )?;
    let held = ledger.run(
        "UPDATE recipient SET state = 5, list = NULL, last_status = '5.3.0', last_error = ? \
         WHERE message = ? AND state NOT IN (5, 6, 10, 11, 12, 13, 14)",
        (&reason, id.0),
    )?;
    for (hop, recipients) in waited {
        refresh_due(ledger, hop, Change::Gone(recipients))?;
    }
    miscounted.into_iter().try_for_each(|hop| recount(ledger, hop))?;
    ledger.run(
        "UPDATE message SET inbound_due = NULL, box_due = NULL WHERE id = ?",
        [id.0],
    )?;
    if held > 0 {
        log::error!("id={id} held: {reason}");
        ledger.record(id, None, "held", &reason)?;
    }
    // Nobody can be told of what ended well, and it must not be found anew for ever.
    ledger.run(
        "UPDATE recipient SET report_due = NULL WHERE message = ? AND report_due IS NOT NULL",
        [id.0],
    )?;
    settle_if_done(ledger, id)?;
    Ok(held)
}

/// Why a message is held whose rows are damaged: what is wrong, and where.
fn reason(ledger: &Ledger<'_>, id: MessageId) -> Result<String, QueueError> {
    let found = one(ledger.db(), id)?;
    let what = found
        .iter()
        .map(|(finding, _)| finding)
        .find(|finding| finding.kind == Kind::Rows)
        .or(found.first().map(|(finding, _)| finding));
    let what = what.map_or_else(String::new, |finding| {
        format!(": {}: {}", finding.place, finding.what)
    });
    Ok(format!("the rows of this message in queue.db are damaged{what}"))
}
