//! What the delivery report task asks of the queue: recipients whose sender has to be told, and the report
//! that goes into SMTP.BOX in the same transaction as their end.

use super::WorkQueue;
use super::arrival::{Arrival, put};
use super::damage::hold;
use super::due::{Due, due, dues};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::moves::{expired, give_up, settle_if_done};
use super::states::State;
use rusqlite::Connection;

use crate::clock::Stamp;

/// What the sender of a message is told, and what ends with that.
#[derive(Debug)]
pub struct Notice {
    /// The message that it is about.
    pub about: MessageId,
    /// What it tells.
    pub news: News,
    /// The report, or why there is none.
    pub telling: Telling,
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These recipients were given up; that is their end.
    Failed(Vec<u32>),
    /// These recipients had come to a good end; it need not be told again.
    Reached(Vec<u32>),
    /// Some are late. Ends nothing.
    Late,
}

/// How the sender is told.
#[derive(Debug)]
pub enum Telling {
    /// By this report, which is ready to go out.
    Report(Box<Arrival>),
    /// Not at all: it said that it does not want to hear of it (NOTIFY, RFC 3461 4.1).
    Unwanted,
    /// Not at all: the message is from the null path.
    Nobody,
}

/// How far the walk through the messages that are late has come.
const DELAY: &str = "delay notices";
/// How far the walk through the messages whose time is over has come.
const EXPIRY: &str = "expiry";
/// Messages that a walk looks at in one step.
const STEP: usize = 500;

impl WorkQueue {
    /// Up to `limit` messages with recipients that have been given up and whose sender does not know yet.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn awaiting_report(&self, limit: usize) -> Result<Vec<Due>, QueueError> {
        let (dues, damaged) = self.store.read(|db| {
            let ids = ledger::rows(
                db,
                "SELECT DISTINCT message FROM recipient WHERE state = 4 ORDER BY message LIMIT ?",
                [limit],
                |row| row.get(0).map(MessageId),
            )?;
            dues(db, ids, |state, _| state == State::PendingReport)
        })?;
        self.hold_damaged(damaged)?;
        Ok(dues)
    }

    /// Up to `limit` messages with recipients whose good end the sender wants to hear of, and has not yet.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn awaiting_success_report(&self, limit: usize) -> Result<Vec<Due>, QueueError> {
        let (dues, damaged) = self.store.read(|db| {
            let ids = ledger::rows(
                db,
                "SELECT DISTINCT message FROM recipient WHERE report_due IS NOT NULL \
                 ORDER BY message LIMIT ?",
                [limit],
                |row| row.get(0).map(MessageId),
            )?;
            dues(db, ids, |_, success| success.is_some())
        })?;
        self.hold_damaged(damaged)?;
        Ok(dues)
    }

    /// Messages that arrived before `cutoff`, are not through, and whose sender has not been told so: a step of
    /// the walk, how far it has come with it, and whether there is more to walk through.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn delayed(&self, cutoff: Stamp) -> Result<(Vec<Due>, Stamp, bool), QueueError> {
        let (mut dues, damaged, reached) = self.store.read(|db| {
            let (ids, reached) = walk(db, DELAY, cutoff)?;
            let late = |state, _| matches!(state, State::PendingXmit | State::LockedForXmit);
            let (dues, damaged) = dues(db, ids, late)?;
            Ok((dues, damaged, reached))
        })?;
        self.hold_damaged(damaged)?;
        dues.retain(|due| !due.recipients.is_empty() && due.reverse_path.0.is_some());
        Ok((dues, reached, reached < cutoff))
    }

    /// Puts reports into SMTP.BOX, and ends what ends with them, in one transaction; `delay` is
    /// how far the walk of [`WorkQueue::delayed`] has come with them.
    ///
    /// # Errors
    /// When the database refused: nobody has been told, and nothing has ended.
    pub fn report(&self, notices: Vec<Notice>, delay: Option<Stamp>) -> Result<(), QueueError> {
        self.store
            .write(move |ledger| {
                notices.iter().try_for_each(|notice| report(ledger, notice))?;
                match delay {
                    Some(reached) => ledger.mark(DELAY, reached),
                    None => Ok(()),
                }
            })
            .wait()
    }

    /// Gives up the pending recipients of messages that arrived before `cutoff`: a step of the walk. Gives how
    /// many it gave up, and whether there is more to walk through. Those on the wire end with their attempt.
    ///
    /// # Errors
    /// When the database refused: nothing has changed.
    pub fn expire(&self, cutoff: Stamp) -> Result<(usize, bool), QueueError> {
        let (ids, reached) = self.store.read(|db| walk(db, EXPIRY, cutoff))?;
        let more = ids.len() == STEP;
        let given_up = self
            .store
            .write(move |ledger| {
                let mut given_up = 0;
                for id in &ids {
                    let Some(due) = due(ledger.db(), *id, |state, _| state == State::PendingXmit)? else {
                        hold(ledger, *id)?;
                        continue;
                    };
                    for late in &due.recipients {
                        let null_sender = due.reverse_path.0.is_none();
                        give_up(
                            ledger,
                            *id,
                            late.n,
                            State::PendingXmit,
                            null_sender,
                            &expired(&late.reason),
                        )?;
                        given_up += 1;
                    }
                }
                ledger.mark(EXPIRY, reached)?;
                Ok(given_up)
            })
            .wait()?;
        Ok((given_up, more))
    }
}

fn report(ledger: &mut Ledger<'_>, notice: &Notice) -> Result<(), QueueError> {
    let about = notice.about;
    let told = match &notice.telling {
        Telling::Report(report) => {
            let to = report
                .recipients
                .first()
                .map(|to| to.path.to_string())
                .unwrap_or_default();
            format!("report {} to <{to}>", report.id)
        }
        Telling::Unwanted => "no report wanted".to_owned(),
        Telling::Nobody => "nobody can be told".to_owned(),
    };
    let ended = match &notice.news {
        News::Failed(failed) => fail(ledger, about, failed, &told)?,
        News::Reached(reached) => confirm(ledger, about, reached, &told)?,
        News::Late => {
            ledger.record(about, None, "delay notice", &told)?;
            1
        }
    };
    if ended == 0 {
        // Somebody else has reported it meanwhile.
        return Ok(());
    }
    if let Telling::Report(report) = &notice.telling {
        put(ledger, report, None)?;
        let counter = match notice.news {
            News::Failed(_) => "Mail.Reports",
            News::Reached(_) => "Mail.SuccessReports",
            News::Late => "Mail.DelayNotices",
        };
        ledger.count(counter, 1);
    }
    settle_if_done(ledger, about)
}

/// The end of recipients that were given up; how many ended with this.
fn fail(ledger: &Ledger<'_>, id: MessageId, failed: &[u32], told: &str) -> Result<usize, QueueError> {
    debug_assert!(State::PendingReport.may_become(State::Failed));
    let mut ended = 0;
    for n in failed {
        let changed = ledger.run(
            "UPDATE recipient SET state = ?, settled_at = ? WHERE message = ? AND n = ? AND state = 4",
            (State::Failed.number(), ledger.now().0, id.0, n),
        )?;
        if changed > 0 {
            ledger.record(id, Some(*n), "failed", told)?;
        }
        ended += changed;
    }
    Ok(ended)
}

/// The sender knows of these good ends now; of how many it did not know before.
fn confirm(ledger: &Ledger<'_>, id: MessageId, reached: &[u32], told: &str) -> Result<usize, QueueError> {
    let mut confirmed = 0;
    for n in reached {
        let changed = ledger.run(
            "UPDATE recipient SET report_due = NULL WHERE message = ? AND n = ? AND report_due IS NOT NULL",
            (id.0, n),
        )?;
        if changed > 0 {
            ledger.record(id, Some(*n), "success notice", told)?;
        }
        confirmed += changed;
    }
    Ok(confirmed)
}

/// The next messages of a walk in the order of arrival, and how far it has come with them.
fn walk(db: &Connection, name: &'static str, cutoff: Stamp) -> Result<(Vec<MessageId>, Stamp), QueueError> {
    let from: i64 = ledger::row(db, "SELECT value FROM marker WHERE name = ?", [name], |row| {
        row.get(0)
    })?
    .unwrap_or(0);
    let ids = ledger::rows(
        db,
        "SELECT id FROM message WHERE id > ? AND id <= ? AND left_at IS NULL ORDER BY id LIMIT ?",
        (from, cutoff.0, STEP),
        |row| row.get(0).map(MessageId),
    )?;
    let reached = match ids.last() {
        Some(last) if ids.len() == STEP => last.0,
        _ => cutoff.0.max(from),
    };
    Ok((ids, Stamp(reached)))
}
