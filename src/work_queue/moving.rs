//! What moves to another spool: an export puts mail aside, and ends it here as soon as the file that holds it is whole, and
//! on the disk.
//!
//! Each step is durable, and may be taken again: whoever was killed in the middle begins anew, and finishes it. What is
//! put aside for an export nobody else touches, neither a task nor an operator. Never writes the file: see `packing.rs`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::Connection;

use super::WorkQueue;
use super::choice::Choice;
use super::conversion::refresh_conversion_due;
use super::error::QueueError;
use super::id::MessageId;
use super::inspection::one;
use super::ledger::{self, Ledger};
use super::moves::settle_if_done;
use super::operator::{ByHand, Done};
use super::reports::expire_again;
use super::states::State;
use super::verify::open;
use crate::crash_point::{CrashPoint, reach};

/// Messages that end, or are let go, in one step: mail that arrives meanwhile waits for it.
const STEP: usize = 25;

/// What history says of what is put aside for an export begins so.
pub(super) const PUT_ASIDE: &str = "for export ";

/// Names an export, and what is imported of it: no other has the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportId(pub u128);

impl ExportId {
    /// A new one.
    ///
    /// # Panics
    /// When the system has no random octets.
    #[must_use]
    pub fn draw() -> ExportId {
        let mut octets = [0; 16];
        aws_lc_rs::rand::fill(&mut octets).expect("the system has random octets");
        ExportId(u128::from_be_bytes(octets))
    }
}

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The word is not 32 hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnExport;

impl FromStr for ExportId {
    type Err = NotAnExport;

    fn from_str(word: &str) -> Result<ExportId, NotAnExport> {
        if word.len() != 32 || !word.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotAnExport);
        }
        u128::from_str_radix(word, 16)
            .map(ExportId)
            .map_err(|_| NotAnExport)
    }
}

/// A step on the way of mail to another spool. The command that moves it takes them one after the other, in its own
/// process where no MTA runs, and otherwise by way of the MTA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What is chosen is put aside for this export, to this file.
    PutAside(ExportId, PathBuf, Box<Choice>),
    /// From now on nothing is put aside for it; unless session handlers still have some of it in hand, and it is not said
    /// that those keep it.
    Seal(ExportId, bool),
    /// Its file is on the disk: what is in it ends here.
    End(ExportId),
    /// It is given up: what was put aside goes on.
    Cancel(ExportId),
    /// What stands in the spool's copy of this export, behind so many octets, is brought in, as far as that is done soon.
    Take(ExportId, u64),
}

/// How far a step came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Messages that were moved by it.
    pub messages: usize,
    /// Their recipients.
    pub recipients: usize,
    /// Recipients that session handlers have in hand, and that are stopped before anything more is said of them.
    pub in_hand: usize,
    /// Messages that had been imported before.
    pub known: usize,
    /// How far it came in the file.
    pub reached: u64,
    /// Whether that was all.
    pub is_done: bool,
}

/// An export that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its name.
    pub id: ExportId,
    /// Nothing is put aside for it any more.
    pub is_sealed: bool,
    /// Its file was on the disk, and what is in it ends.
    pub is_ending: bool,
}

/// The export to `file` that was begun in the work queue in the folder `spool`, and is not finished.
///
/// # Errors
/// When the database can not be read.
pub fn unfinished_export(spool: &Path, file: &Path) -> Result<Option<Begun>, QueueError> {
    let db = open(&spool.join("queue.db"))?;
    if !has_tables(&db)? {
        return Ok(None);
    }
    ledger::row(
        &db,
        "SELECT id, sealed_at IS NOT NULL, ending_at IS NOT NULL FROM export \
         WHERE file = ? AND ended_at IS NULL LIMIT 1",
        [file.to_string_lossy()],
        |row| {
            Ok(Begun {
                id: row.get::<_, String>(0)?.parse().unwrap_or_default(),
                is_sealed: row.get(1)?,
                is_ending: row.get(2)?,
            })
        },
    )
}

/// Whether this export was made of the work queue in the folder `spool`, and is finished.
///
/// # Errors
/// When the database can not be read.
pub fn is_finished_export(spool: &Path, id: ExportId) -> Result<bool, QueueError> {
    let db = open(&spool.join("queue.db"))?;
    let sql = "SELECT 1 FROM export WHERE id = ? AND ended_at IS NOT NULL";
    Ok(has_tables(&db)? && ledger::row(&db, sql, [id.to_string()], |_| Ok(()))?.is_some())
}

/// Whether the database was opened by a version that exports.
pub(super) fn has_tables(db: &Connection) -> Result<bool, QueueError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'put_aside'";
    Ok(ledger::row(db, sql, [], |_| Ok(()))?.is_some())
}

impl WorkQueue {
    /// Puts what is chosen aside for this export. What session handlers have in hand is put aside before the next thing
    /// would be said of it. What can not go on as it is, since its rows or its content are damaged, stays. `by` says in
    /// history who wanted it.
    ///
    /// # Errors
    /// When the database refused; what was put aside before stays so.
    pub fn put_aside(
        &self,
        export: ExportId,
        file: &Path,
        choice: &Choice,
        by: &str,
    ) -> Result<Done, QueueError> {
        let file = file.to_string_lossy().into_owned();
        let begin = move |ledger: &mut Ledger<'_>| {
            let sql = "INSERT INTO export (id, file, begun_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
            ledger
                .run(sql, (export.to_string(), &file, ledger.now().0))
                .map(drop)
        };
        self.store.write(begin).wait()?;
        self.do_by_hand(ByHand::PutAside(export), choice, by)
    }

    /// From now on nothing is put aside for this export: what is, is what its file will hold. Not yet while session
    /// handlers have some of it in hand, unless that shall stay with them; how much that is.
    ///
    /// # Errors
    /// When the database refused.
    pub fn seal(&self, export: ExportId, anyway: bool) -> Result<Moved, QueueError> {
        // What was sent before it could be stopped is in nobody's hand any more.
        self.carry_out_free_recalls()?;
        let in_hand = self.store.recalls().count_for(export);
        if in_hand > 0 && !anyway {
            return Ok(Moved {
                in_hand,
                ..Moved::default()
            });
        }
        self.store.recalls().forget_for(export);
        let seal = move |ledger: &mut Ledger<'_>| {
            let sql = "UPDATE export SET sealed_at = ? WHERE id = ? AND sealed_at IS NULL";
            ledger.run(sql, (ledger.now().0, export.to_string())).map(drop)
        };
        self.store.write(seal).wait()?;
        reach(CrashPoint::ExportSealed);
        Ok(Moved {
            in_hand,
            is_done: true,
            ..Moved::default()
        })
    }

    /// Ends what is put aside for this export: its file is on the disk. It can be brought back like what was removed.
    ///
    /// # Errors
    /// When the database refused; what has ended stays so.
    pub fn end_export(&self, export: ExportId, by: &str) -> Result<Moved, QueueError> {
        let begin = move |ledger: &mut Ledger<'_>| {
            let sql = "UPDATE export SET ending_at = ? WHERE id = ? AND ending_at IS NULL";
            ledger.run(sql, (ledger.now().0, export.to_string())).map(drop)
        };
        self.store.write(begin).wait()?;
        let moved = self.step_by_step(export, by, end_some)?;
        let end = move |ledger: &mut Ledger<'_>| {
            let sql = "UPDATE export SET ended_at = ? WHERE id = ? AND ended_at IS NULL";
            ledger.run(sql, (ledger.now().0, export.to_string())).map(drop)
        };
        self.store.write(end).wait()?;
        Ok(moved)
    }

    /// Lets what was put aside for this export go on: it is converted, and routed, once more. Nothing where it ends
    /// already; whether it was given up.
    ///
    /// # Errors
    /// When the database refused; what was let go stays so.
    pub fn cancel_export(&self, export: ExportId, by: &str) -> Result<Moved, QueueError> {
        self.store.recalls().forget_for(export);
        // Whatever comes late from a session handler, and whoever wants to end it.
        let begin = move |ledger: &mut Ledger<'_>| {
            let sql = "UPDATE export SET sealed_at = ifnull(sealed_at, ?) WHERE id = ? AND ending_at IS NULL";
            ledger.run(sql, (ledger.now().0, export.to_string()))
        };
        if self.store.write(begin).wait()? == 0 {
            return Ok(Moved::default());
        }
        let moved = self.step_by_step(export, by, let_some_go)?;
        let forget = move |ledger: &mut Ledger<'_>| {
            let sql = "DELETE FROM export WHERE id = ? AND ending_at IS NULL";
            ledger.run(sql, [export.to_string()]).map(drop)
        };
        self.store.write(forget).wait()?;
        Ok(moved)
    }

    /// Does this to all that is put aside for this export, in short steps.
    fn step_by_step(
        &self,
        export: ExportId,
        by: &str,
        step: fn(&mut Ledger<'_>, &str, &str) -> Result<Done, QueueError>,
    ) -> Result<Moved, QueueError> {
        let mut moved = Moved::default();
        loop {
            let (export, by) = (export.to_string(), by.to_owned());
            let done = self.store.write_step(move |ledger| {
                let done = step(ledger, &export, &by)?;
                reach(CrashPoint::ExportEndWritten);
                Ok(done)
            })?;
            reach(CrashPoint::ExportEndCommitted);
            moved.messages += done.messages;
            moved.recipients += done.recipients;
            if done.messages == 0 {
                moved.is_done = true;
                return Ok(moved);
            }
        }
    }
}

/// Whether something of message `id` may be put aside for this export: that is not sealed, and the message is sound.
pub(super) fn may_be_put_aside(
    ledger: &Ledger<'_>,
    export: ExportId,
    id: MessageId,
) -> Result<bool, QueueError> {
    let sql = "SELECT 1 FROM export WHERE id = ? AND sealed_at IS NULL";
    let is_open = ledger.row(sql, [export.to_string()], |_| Ok(()))?.is_some();
    Ok(is_open && one(ledger.db(), id)?.is_empty())
}

/// Puts a recipient aside for this export; its state is what it was.
pub(super) fn reserve(
    ledger: &Ledger<'_>,
    export: ExportId,
    id: MessageId,
    n: i64,
    state: State,
) -> Result<(), QueueError> {
    ledger
        .run(
            "INSERT INTO put_aside (message, n, export, state) VALUES (?, ?, ?, ?)",
            (id.0, n, export.to_string(), state.number()),
        )
        .map(drop)
}

/// The recipients of message `id` that an export has for itself.
pub(super) fn reserved(ledger: &Ledger<'_>, id: MessageId) -> Result<Vec<i64>, QueueError> {
    let sql = "SELECT n FROM put_aside WHERE message = ?";
    ledger.rows(sql, [id.0], |row| row.get(0))
}

/// A message, and of its recipients that are put aside number and former state.
type PutAside = (MessageId, Vec<(u32, i64)>);

/// What is put aside for this export of its next few messages.
fn next(ledger: &Ledger<'_>, export: &str) -> Result<Vec<PutAside>, QueueError> {
    let ids = ledger.rows(
        "SELECT DISTINCT message FROM put_aside WHERE export = ? ORDER BY message LIMIT ?",
        (export, STEP),
        |row| row.get(0).map(MessageId),
    )?;
    let of = |id: MessageId| {
        let sql = "SELECT n, state FROM put_aside WHERE export = ? AND message = ? ORDER BY n";
        let rows = ledger.rows(sql, (export, id.0), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((id, rows))
    };
    ids.into_iter().map(of).collect()
}

/// Ends what is put aside of the next few messages.
fn end_some(ledger: &mut Ledger<'_>, export: &str, by: &str) -> Result<Done, QueueError> {
    debug_assert!(
        [State::Held, State::Dead]
            .iter()
            .all(|s| s.may_become(State::Removed))
    );
    let sql = "SELECT file FROM export WHERE id = ?";
    let file: Option<String> = ledger.row(sql, [export], |row| row.get(0))?;
    let story = format!("export {export} to {}, by {by}", file.unwrap_or_default());
    let mut done = Done::default();
    for (id, recipients) in next(ledger, export)? {
        for (n, _) in recipients {
            let ended = ledger.run(
                "UPDATE recipient SET state = 14, list = NULL, settled_at = ? \
                 WHERE message = ? AND n = ? AND state IN (5, 6)",
                (ledger.now().0, id.0, n),
            )?;
            if ended > 0 {
                ledger.record(id, Some(n), "exported", &story)?;
                ledger.count("Mail.Removed", 1);
                ledger.count("Mail.Exported", 1);
            }
            done.recipients += ended;
        }
        forget(ledger, export, id)?;
        settle_if_done(ledger, id)?;
        done.messages += 1;
    }
    Ok(done)
}

/// Lets what is put aside of the next few messages go on: what was held or dead before is so still.
fn let_some_go(ledger: &mut Ledger<'_>, export: &str, by: &str) -> Result<Done, QueueError> {
    let mut done = Done::default();
    for (id, recipients) in next(ledger, export)? {
        for (n, was) in recipients {
            let waited = was < i64::from(State::Held.number());
            // Nothing about its way is frozen. What was in SMTP.BOX, or has been routed, is read no more by imsgcnv.
            let sql = "UPDATE recipient SET state = 1, in_box = in_box <> 0 OR hop IS NOT NULL, hop = NULL, \
                 next_attempt = 0, settled_at = NULL WHERE message = ? AND n = ? AND state = 5";
            if waited && ledger.run(sql, (id.0, n))? > 0 {
                ledger.record(
                    id,
                    Some(n),
                    "released",
                    &format!("the export was given up, by {by}"),
                )?;
            }
            done.recipients += 1;
        }
        forget(ledger, export, id)?;
        refresh_conversion_due(ledger, id)?;
        // Its time may have come while nobody else touched it.
        expire_again(ledger, id)?;
        done.messages += 1;
    }
    Ok(done)
}

fn forget(ledger: &Ledger<'_>, export: &str, id: MessageId) -> Result<(), QueueError> {
    let sql = "DELETE FROM put_aside WHERE export = ? AND message = ?";
    ledger.run(sql, (export, id.0)).map(drop)
}
