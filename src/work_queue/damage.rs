//! Rows that do not hold what they should: a message that has one is held for an operator, and the others
//! flow.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, Row};

use super::WorkQueue;
use super::error::QueueError;
use super::id::MessageId;
use super::inspection::one;
use super::ledger::{self, Ledger};
use super::moves::{Change, recount, refresh_due, settle_if_done};
use super::soundness::Kind;
use super::states::State;
use crate::crash_point::{CrashPoint, reach};
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
    /// Holds messages that turned out to be damaged. One of which not even that can be written down is passed over until it
    /// can.
    ///
    /// # Errors
    /// When the database refused for another reason.
    pub(super) fn hold_damaged(&self, mut ids: Vec<MessageId>) -> Result<(), QueueError> {
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let ids = Arc::new(ids);
        let all = Arc::clone(&ids);
        let held = self
            .store
            .write(move |ledger| all.iter().try_for_each(|id| hold(ledger, *id).map(drop)));
        match held.wait() {
            Err(error) if error.is_damage() => {}
            held => return held.inspect(|()| reach(CrashPoint::HoldCommitted)),
        }
        // The page on which one of them stands is broken: those of the others need not be.
        ids.iter().try_for_each(|id| self.hold_somehow(*id))
    }

    /// Holds a message, or has it passed over until that can be written down.
    fn hold_somehow(&self, id: MessageId) -> Result<(), QueueError> {
        match self.try_to_hold(id) {
            Err(error) if error.is_damage() => {
                self.store.broken().pass_over_until_held(id);
                log::error!("id={id} can not be held, and is passed over until it can: {error}; {ADVICE}");
                Ok(())
            }
            held => held,
        }
    }

    /// Holds a message, without a word in its history if there is no other way.
    fn try_to_hold(&self, id: MessageId) -> Result<(), QueueError> {
        let hold = |with_history| {
            self.store
                .write(move |ledger| hold_with(ledger, id, with_history).map(drop))
                .wait()
        };
        let held = match hold(true) {
            Err(error) if error.is_damage() => hold(false),
            held => held,
        };
        held.inspect(|()| reach(CrashPoint::HoldCommitted))
    }

    /// Holds some of those that could not be held before, where that can be written down by now.
    ///
    /// # Errors
    /// When the database refused for another reason than damage: they are tried again later.
    pub fn hold_what_could_not_be_held(&self) -> Result<(), QueueError> {
        let broken = self.store.broken();
        for id in broken.to_be_held(Instant::now()) {
            match self.try_to_hold(id) {
                Err(error) if error.is_damage() => {}
                held => {
                    held?;
                    broken.is_held(id);
                }
            }
        }
        Ok(())
    }

    /// Passes over messages that stand on pages that are broken, or beside one, for a moment. Says so the first time.
    pub(super) fn pass_over(&self, ids: Vec<MessageId>) {
        for id in ids {
            if self.store.broken().pass_over(id) {
                log::error!(
                    "id={id} is passed over, since a page of queue.db is malformed: the others go on without it; {ADVICE}"
                );
            }
        }
    }

    /// What is to be done to message `id` can not be recorded, and may be done again. If that is since its rows are damaged
    /// it is passed over for a moment.
    ///
    /// # Errors
    /// This `error` itself, where it may pass.
    pub(super) fn pass_over_unrecorded(&self, id: MessageId, error: QueueError) -> Result<(), QueueError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.pass_over(vec![id]);
        Ok(())
    }

    /// What became of message `id` can not be recorded. If that is since its rows are damaged it is put aside: it must not
    /// be delivered again and again.
    ///
    /// # Errors
    /// This `error` itself, where it may pass; or what is in the way of putting the message aside.
    pub fn put_aside_unrecorded(&self, id: MessageId, error: QueueError) -> Result<(), QueueError> {
        log::error!("id={id} what became of it can not be recorded: {error}");
        if error.is_damage() {
            self.hold_damaged(vec![id])
        } else {
            Err(error)
        }
    }
}

/// What the operator can do about pages that are broken.
const ADVICE: &str = "see smtpmta-queue(5), DAMAGE";

/// Whether the rows of message `id` can be read, and its history.
///
/// # Errors
/// When they can not be read for another reason than damage.
pub(super) fn is_readable(db: &Connection, id: MessageId) -> Result<bool, QueueError> {
    let read = one(db, id).and_then(|_| {
        let sql = "SELECT count(*) FROM event WHERE message = ?";
        ledger::row(db, sql, [id.0], |row| row.get::<_, i64>(0))
    });
    match read {
        Ok(_) => Ok(true),
        Err(error) if error.is_damage() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Those of `ids` that can be read, and those that can not.
///
/// # Errors
/// When they can not be read for another reason than damage.
pub(super) fn sift(
    db: &Connection,
    ids: Vec<MessageId>,
) -> Result<(Vec<MessageId>, Vec<MessageId>), QueueError> {
    let (mut readable, mut unreadable) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        match is_readable(db, id)? {
            true => readable.push(id),
            false => unreadable.push(id),
        }
    }
    Ok((readable, unreadable))
}

/// Holds everything of a damaged message that is not settled; what is held stays so. Gives how many recipients it held.
pub(super) fn hold(ledger: &mut Ledger<'_>, id: MessageId) -> Result<usize, QueueError> {
    hold_with(ledger, id, true)
}

/// The same; with a word in its history or not.
fn hold_with(ledger: &mut Ledger<'_>, id: MessageId, with_history: bool) -> Result<usize, QueueError> {
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
        if with_history {
            ledger.record(id, None, "held", &reason)?;
        }
    }
    // Nobody can be told of what ended well, and it must not be found anew for ever.
    ledger.run(
        "UPDATE recipient SET report_due = NULL WHERE message = ? AND report_due IS NOT NULL",
        [id.0],
    )?;
    settle_if_done(ledger, id)?;
    reach(CrashPoint::HoldWritten);
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
