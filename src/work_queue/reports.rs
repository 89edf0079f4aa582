//! What the delivery report task asks of the queue: recipients whose sender has to be told, and the report
//! that goes into SMTP.BOX in the same transaction as their end.

use super::WorkQueue;
use super::arrival::{Arrival, put};
use super::damage::{hold, mailbox_in, reverse_path_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::moves::{expired, give_up, settle_if_done};
use super::states::State;
use rusqlite::Connection;

use super::outcome::Reason;
use crate::clock::Stamp;
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::{EnhancedCode, ReplyParser};

/// A message that something has to be reported about.
#[derive(Clone, Debug)]
pub struct Due {
    /// The message.
    pub id: MessageId,
    /// Whom to tell.
    pub reverse_path: ReversePath,
    /// Octets of its content.
    pub size: u64,
    /// The recipients to tell about.
    pub recipients: Vec<Failure>,
}

/// A recipient that failed, or is late.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its number in the message.
    pub n: u32,
    /// Whom it is.
    pub path: Mailbox,
    /// The host that was tried last; empty where none was reached.
    pub host: String,
    /// How that ended.
    pub reason: Reason,
}

/// A report, ready to go out.
#[derive(Debug)]
pub struct Notice {
    /// The message that it is about.
    pub about: MessageId,
    /// The recipients that end with it; empty for a delay notice, which ends nothing.
    pub failed: Vec<u32>,
    /// The report itself; `None` where nobody can be told.
    pub report: Option<Arrival>,
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
            dues(db, ids, |state| state == State::PendingReport)
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
            let late = |state| matches!(state, State::PendingXmit | State::LockedForXmit);
            let (dues, damaged) = dues(db, ids, late)?;
            Ok((dues, damaged, reached))
        })?;
        self.hold_damaged(damaged)?;
        dues.retain(|due| !due.recipients.is_empty() && due.reverse_path.0.is_some());
        Ok((dues, reached, reached < cutoff))
    }

    /// Puts reports into SMTP.BOX and ends the recipients that they are about, in one transaction; `delay` is
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
                    let Some(due) = due(ledger.db(), *id, |state| state == State::PendingXmit)? else {
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
    let told = match &notice.report {
        Some(report) => {
            let to = report
                .recipients
                .first()
                .map(|to| to.path.to_string())
                .unwrap_or_default();
            format!("report {} to <{to}>", report.id)
        }
        None => "nobody can be told".to_owned(),
    };
    debug_assert!(State::PendingReport.may_become(State::Failed));
    let mut ended = 0;
    for n in &notice.failed {
        let changed = ledger.run(
            "UPDATE recipient SET state = ?, settled_at = ? WHERE message = ? AND n = ? AND state = 4",
            (State::Failed.number(), ledger.now().0, notice.about.0, n),
        )?;
        if changed > 0 {
            ledger.record(notice.about, Some(*n), "failed", &told)?;
        }
        ended += changed;
    }
    if !notice.failed.is_empty() && ended == 0 {
        // Somebody else has reported it meanwhile.
        return Ok(());
    }
    if let Some(report) = &notice.report {
        put(ledger, report, None)?;
    }
    if notice.failed.is_empty() {
        ledger.record(notice.about, None, "delay notice", &told)?;
        ledger.count("Mail.DelayNotices", 1);
        return Ok(());
    }
    ledger.count("Mail.Reports", 1);
    settle_if_done(ledger, notice.about)
}

/// What there is to tell about message `id`; `None` where its rows are damaged.
fn due(db: &Connection, id: MessageId, wanted: impl Fn(State) -> bool) -> Result<Option<Due>, QueueError> {
    let message = ledger::row(
        db,
        "SELECT reverse_path, size FROM message WHERE id = ?",
        [id.0],
        |row| Ok((reverse_path_in(row, 0), row.get(1)?)),
    )?;
    let Some((Some(reverse_path), size)) = message else {
        return Ok(None);
    };
    let recipients = ledger::rows(
        db,
        "SELECT n, path, state, ifnull(last_host, ''), ifnull(last_status, ''), ifnull(last_error, ''), \
         ifnull(last_reply, '') FROM recipient WHERE message = ? ORDER BY n",
        [id.0],
        |row| {
            let (n, state, host) = (row.get(0)?, row.get::<_, u8>(2)?, row.get(3)?);
            let (status, text, reply): (String, String, String) = (row.get(4)?, row.get(5)?, row.get(6)?);
            let status = EnhancedCode::take(&status).map_or(EnhancedCode(4, 0, 0), |(code, _)| code);
            let reason = Reason {
                status,
                text,
                reply: ReplyParser::default().feed(reply.as_bytes()).ok().flatten(),
            };
            let failure = mailbox_in(row, 1).map(|path| Failure {
                n,
                path,
                host,
                reason,
            });
            Ok((State::ALL.into_iter().find(|s| s.number() == state), failure))
        },
    )?;
    let told = recipients
        .into_iter()
        .filter(|(state, _)| state.is_some_and(&wanted))
        .map(|(_, failure)| failure);
    let recipients: Option<Vec<Failure>> = told.collect();
    Ok(recipients.map(|recipients| Due {
        id,
        reverse_path,
        size,
        recipients,
    }))
}

/// As [`due`], for many; and those that are damaged.
fn dues(
    db: &Connection,
    ids: Vec<MessageId>,
    wanted: impl Fn(State) -> bool,
) -> Result<(Vec<Due>, Vec<MessageId>), QueueError> {
    let (mut dues, mut damaged) = (Vec::new(), Vec::new());
    for id in ids {
        match due(db, id, &wanted)? {
            Some(due) => dues.push(due),
            None => damaged.push(id),
        }
    }
    Ok((dues, damaged))
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
