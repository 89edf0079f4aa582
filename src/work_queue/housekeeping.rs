//! What housekeeping does to the queue: forgets what left long ago, sweeps up files without a row, gives
//! space back to the disk, shortens the log; and what is noted down of that. Dead and held mail is never touched.

use std::fmt;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use rusqlite::Connection;

use super::content::remove;
use super::error::QueueError;
use super::folder::first_born;
use super::id::MessageId;
use super::ledger::{self, Counts, Ledger};
use super::mending::Mended;
use super::stay::Remover;
use super::{WorkQueue, account};
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};

/// What a sweep of the content folder found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files that a message needs which is in the queue, or may be brought back.
    pub kept: usize,
    /// Files that nobody needed.
    pub removed: usize,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Messages.
    pub messages: usize,
    /// Rows of their history.
    pub events: usize,
    /// Of the messages: those of which an operator had removed something, with the content that was kept for it.
    pub removed: usize,
}

/// What a run of housekeeping did, as `show stat` tells it of the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// When it began.
    pub begun: Stamp,
    /// How long it took.
    pub took: Duration,
    /// What it forgot.
    pub forgotten: Forgotten,
    /// What it put aside and put right.
    pub mended: Mended,
    /// Content files that it removed.
    pub swept: usize,
    /// Octets of the database that it gave back to the disk.
    pub given_back: u64,
    /// How many of its parts failed; the log says why.
    pub failed: usize,
}

/// The counter of when the last run began, in seconds since 1970.
pub const LAST_RUN: &str = "Housekeeping.LastRun";

impl Tally {
    /// What is noted down of it, each by its name in `show stat`.
    fn lines(&self) -> [(&'static str, i64); 10] {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let milliseconds = i64::try_from(self.took.as_millis()).unwrap_or(i64::MAX);
        [
            (LAST_RUN, self.begun.0.div_euclid(1_000_000)),
            ("Housekeeping.LastMilliseconds", milliseconds),
            ("Housekeeping.LastForgotten", count(self.forgotten.messages)),
            ("Housekeeping.LastForgottenHistory", count(self.forgotten.events)),
            ("Housekeeping.LastForgottenRemoved", count(self.forgotten.removed)),
            ("Housekeeping.LastHeld", count(self.mended.held)),
            ("Housekeeping.LastMended", count(self.mended.mended)),
            ("Housekeeping.LastSweptFiles", count(self.swept)),
            (
                "Housekeeping.LastGivenBack",
                i64::try_from(self.given_back).unwrap_or(i64::MAX),
            ),
            ("Housekeeping.LastFailedParts", count(self.failed)),
        ]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            took,
            forgotten,
            mended,
            swept,
            given_back,
            failed,
            ..
        } = self;
        write!(
            f,
            "done in {} ms: {} messages and {} rows of history forgotten ({} messages of them had been removed by hand), \
             {} messages held, {} messages and next hops put right, {swept} content files swept up, {given_back} octets \
             given back to the disk, {failed} parts failed",
            took.as_millis(),
            forgotten.messages,
            forgotten.events,
            forgotten.removed,
            mended.held,
            mended.mended,
        )
    }
}

/// Messages that are forgotten in one transaction: mail that arrives meanwhile waits for it …
const STEP: usize = 25;

/// … and no more of them when so many rows have gone with them: there are messages with very many recipients.
pub(super) const STEP_ROWS: usize = 500;

/// Space is given back when more than this part of the database is free …
const FREE_PART: i64 = 2;
/// … and it is more than this many octets …
const FREE_OCTETS: i64 = 16 << 20;
/// … until no more than this part is: it will be used again.
const KEPT_PART: i64 = 16;

/// Pages that are given back in one transaction.
const COMPACTED: i64 = 64;

impl WorkQueue {
    /// Forgets messages, and their history, that left the queue more than `keep` ago. Gives how many.
    ///
    /// # Errors
    /// When the database refused; what was forgotten before stays forgotten.
    pub fn forget(&self, keep: Duration) -> Result<Forgotten, QueueError> {
        // What is forgotten because the clock was wrong for a moment can not be had back.
        let cutoff = self.moment().certain.minus(keep);
        let mut forgotten = Forgotten::default();
        loop {
            let (step, is_last) = {
                let _forgetting = self.store.forgetting().lock();
                self.store.write_step(move |ledger| forget_some(ledger, cutoff))?
            };
            if step.messages > 0 {
                reach(CrashPoint::ForgettingCommitted);
            }
            forgotten.messages += step.messages;
            forgotten.events += step.events;
            forgotten.removed += step.removed;
            if is_last {
                break;
            }
        }
        self.forget_hops(cutoff)?;
        Ok(forgotten)
    }

    /// Notes down what a run of housekeeping did, for `show stat`.
    ///
    /// # Errors
    /// When the database refused.
    pub fn note_housekeeping(&self, tally: &Tally) -> Result<(), QueueError> {
        let lines = tally.lines();
        let note = move |ledger: &mut Ledger<'_>| {
            ledger.write_counts(&Counts::from([("Housekeeping.Runs", 1)]))?;
            lines
                .iter()
                .try_for_each(|(name, value)| ledger.set_count(name, *value))
        };
        self.store.write(note).wait()
    }

    /// When the last run of housekeeping began that was noted down; before the first one, when the first message left of
    /// which anything is known. `None` if there is neither.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn last_housekeeping(&self) -> Result<Option<Stamp>, QueueError> {
        self.store.read(|db| {
            let noted = "SELECT value FROM statistic WHERE name = ?";
            let noted: Option<i64> = ledger::row(db, noted, [LAST_RUN], |row| row.get(0))?;
            if let Some(seconds) = noted {
                return Ok(Some(Stamp(seconds.saturating_mul(1_000_000))));
            }
            let first = "SELECT left_at FROM message WHERE left_at IS NOT NULL AND left_at > ? ORDER BY left_at LIMIT 1";
            ledger::row(db, first, [0], |row| row.get(0).map(Stamp))
        })
    }

    /// Forgets the next hops that were not used since `cutoff`, and for which nothing waits.
    fn forget_hops(&self, cutoff: Stamp) -> Result<(), QueueError> {
        const UNUSED: &str = "SELECT id FROM next_hop WHERE due IS NULL AND used_at < ?";
        let unused: Vec<i64> = self
            .store
            .read(|db| ledger::rows(db, UNUSED, [cutoff.0], |row| row.get(0)))?;
        for some in unused.chunks(STEP) {
            let some = some.to_vec();
            let forget = move |ledger: &mut Ledger<'_>| {
                for hop in &some {
                    ledger.run(
                        "DELETE FROM next_hop WHERE id = ? AND due IS NULL AND used_at < ? \
                         AND NOT EXISTS (SELECT 1 FROM domain_list l WHERE l.hop = next_hop.id)",
                        (hop, cutoff.0),
                    )?;
                }
                reach(CrashPoint::HopForgettingWritten);
                Ok(())
            };
            self.store.write_step(forget)?;
            reach(CrashPoint::HopForgettingCommitted);
        }
        Ok(())
    }

    /// Removes content files that belong to no message in the queue, and to none that may be brought back. Those that may still be on their way in,
    /// because they are younger than `started`, are left alone.
    ///
    /// # Errors
    /// When the folder or the database can not be read.
    pub fn sweep(&self, started: MessageId) -> Result<Swept, QueueError> {
        let mut swept = Swept::default();
        let folder = self.store.content().path();
        let broken = |e| QueueError::file(folder, e);
        let mut remover = Remover::of(folder);
        for entry in fs::read_dir(folder).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let first = first_born(name);
            let file = first.unwrap_or(name);
            let (id, begun) = file.split_once('.').unwrap_or((file, file));
            let (Ok(id), Ok(begun)) = (id.parse::<MessageId>(), begun.parse::<MessageId>()) else {
                continue;
            };
            if begun >= started {
                continue;
            }
            if first.is_some() {
                swept.removed += clear(&entry.path()).map_err(broken)?;
                continue;
            }
            let needed = self.store.read(|db| {
                let sql = "SELECT file FROM message WHERE id = ?1 AND (left_at IS NULL \
                     OR EXISTS (SELECT 1 FROM recipient WHERE message = ?1 AND state = 14))";
                ledger::row(db, sql, [id.0], |row| row.get::<_, Option<String>>(0))
            })?;
            if needed.flatten().as_deref() == Some(name) {
                swept.kept += 1;
            } else {
                reach(CrashPoint::OrphanFound);
                // Whoever copies the spool may have read of it while its message was there.
                remover.when_free(|| remove(&entry.path()));
                swept.removed += 1;
            }
        }
        Ok(swept)
    }

    /// Gives the database's gaps back to the disk, if they are much of it, in short steps between which others write.
    /// Gives how many octets that were; a database that was made by an earlier version, and is large, keeps its gaps,
    /// and the log says so: to write it anew takes long, and mail would have to wait.
    ///
    /// # Errors
    /// When the database refused; what was given back before stays so.
    pub fn compact(&self) -> Result<u64, QueueError> {
        let begun = self.store.read(Gaps::of)?;
        if !begun.are_much() {
            return Ok(0);
        }
        if begun.stay() {
            log::warn!(
                "{} octets of queue.db are empty, and can not be given back while the MTA runs, since an earlier version \
                 made it; they are used again. With the MTA stopped, sqlite3 queue.db 'PRAGMA auto_vacuum = INCREMENTAL; \
                 VACUUM' gives them back, and lets housekeeping do so from then on",
                begun.free * begun.page_size
            );
            return Ok(0);
        }
        let mut given_back = 0;
        // Mail that flows leaves new gaps meanwhile: an end is in sight all the same.
        while given_back < begun.free {
            let step = self.store.write_step(give_back)?;
            given_back += step;
            if step < COMPACTED {
                break;
            }
        }
        reach(CrashPoint::LogUncut);
        self.store.cut_log()?;
        Ok(u64::try_from(given_back * begun.page_size).unwrap_or_default())
    }

    /// Copies the write-ahead log home and cuts it, unless others use it all the time.
    ///
    /// # Errors
    /// When the database refused.
    pub fn shorten_log(&self) -> Result<(), QueueError> {
        self.store.cut_log()
    }
}

/// Forgets the next few of what left before `cutoff`; what that was, and whether it was the last of it.
fn forget_some(ledger: &mut Ledger<'_>, cutoff: Stamp) -> Result<(Forgotten, bool), QueueError> {
    let ids = ledger.rows(
        "SELECT id FROM message WHERE left_at IS NOT NULL AND left_at < ? ORDER BY left_at LIMIT ?",
        (cutoff.0, STEP),
        |row| row.get(0).map(MessageId),
    )?;
    let (mut forgotten, mut rows) = (Forgotten::default(), 0);
    let mut sums = Counts::new();
    for id in &ids {
        account::forget(ledger, id.0, &mut sums)?;
        let is_removed = forget_removed(ledger, *id)?;
        let events = ledger.run("DELETE FROM event WHERE message = ?", [id.0])?;
        let recipients = ledger.run("DELETE FROM recipient WHERE message = ?", [id.0])?;
        reach(CrashPoint::ForgettingWritten);
        ledger.run("DELETE FROM message WHERE id = ?", [id.0])?;
        forgotten.messages += 1;
        forgotten.events += events;
        forgotten.removed += usize::from(is_removed);
        rows += events + recipients;
        if rows >= STEP_ROWS {
            break;
        }
    }
    ledger.write_counts(&sums)?;
    let is_last = ids.len() < STEP && forgotten.messages == ids.len();
    Ok((forgotten, is_last))
}

/// The content of a message that has left is still there if a recipient was removed. It goes with the message. Whether
/// that is so.
fn forget_removed(ledger: &mut Ledger<'_>, id: MessageId) -> Result<bool, QueueError> {
    let file = "SELECT file FROM message WHERE id = ?1 \
         AND EXISTS (SELECT 1 FROM recipient WHERE message = ?1 AND state = 14)";
    let removed: Option<Option<String>> = ledger.row(file, [id.0], |row| row.get(0))?;
    let is_removed = removed.is_some();
    if let Some(file) = removed {
        ledger.run("DELETE FROM content WHERE message = ?", [id.0])?;
        ledger.discard(file);
    }
    Ok(is_removed)
}

/// Removes a folder in which files were begun, with what is left of them; how many those were.
fn clear(nursery: &Path) -> io::Result<usize> {
    let mut left = 0;
    for entry in fs::read_dir(nursery)? {
        reach(CrashPoint::OrphanFound);
        remove(&entry?.path());
        left += 1;
    }
    // What could not be removed has been told, and the next sweep tries again.
    let _ = fs::remove_dir(nursery);
    Ok(left)
}

/// Gives a few pages back; how many.
fn give_back(ledger: &mut Ledger<'_>) -> Result<i64, QueueError> {
    let before = Gaps::of(ledger.db())?;
    if before.is_nearly_none() {
        return Ok(0);
    }
    // A row for each page that has gone.
    let mut moved = ledger
        .db()
        .prepare_cached(&format!("PRAGMA incremental_vacuum({COMPACTED})"))?;
    let mut pages = moved.query([])?;
    while pages.next()?.is_some() {}
    reach(CrashPoint::CompactionWritten);
    Ok(before.pages - Gaps::of(ledger.db())?.pages)
}

/// How much of the database is gaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gaps {
    free: i64,
    pages: i64,
    page_size: i64,
    /// They can be used again, and not be given back.
    stay: bool,
}

impl Gaps {
    /// Those of `db`, at present.
    pub(super) fn of(db: &Connection) -> Result<Gaps, QueueError> {
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok(Gaps {
            free: pragma("freelist_count")?,
            pages: pragma("page_count")?,
            page_size: pragma("page_size")?,
            stay: pragma("auto_vacuum")? == 0,
        })
    }

    /// Whether they can be used again, and not be given back.
    pub(super) fn stay(self) -> bool {
        self.stay
    }

    /// Octets that are no gaps.
    pub(super) fn left(self) -> i64 {
        (self.pages - self.free) * self.page_size
    }

    fn are_much(self) -> bool {
        self.free * FREE_PART > self.pages && self.free * self.page_size > FREE_OCTETS
    }

    fn is_nearly_none(self) -> bool {
        self.free * KEPT_PART <= self.pages
    }
}
