//! What housekeeping does to the queue: forgets what left long ago, sweeps up files without a row, gives
//! space back to the disk. Dead and held mail is never touched.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use rusqlite::Connection;

use super::content::remove;
use super::error::QueueError;
use super::folder::first_born;
use super::id::MessageId;
use super::ledger::{self, Counts, Ledger};
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

/// Messages that are forgotten in one transaction: mail that arrives meanwhile waits for it.
const STEP: usize = 25;

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
    pub fn forget(&self, keep: Duration) -> Result<usize, QueueError> {
        // What is forgotten because the clock was wrong for a moment can not be had back.
        let cutoff = self.moment().certain.minus(keep);
        let mut forgotten = 0;
        loop {
            let step = self
                .store
                .write_step(move |ledger| {
                    let ids = ledger.rows(
                        "SELECT id FROM message WHERE left_at IS NOT NULL AND left_at < ? ORDER BY left_at LIMIT ?",
                        (cutoff.0, STEP),
                        |row| row.get(0).map(MessageId),
                    )?;
                    let mut sums = Counts::new();
                    for id in &ids {
                        account::forget(ledger, id.0, &mut sums)?;
                        forget_removed(ledger, *id)?;
                        ledger.run("DELETE FROM event WHERE message = ?", [id.0])?;
                        ledger.run("DELETE FROM recipient WHERE message = ?", [id.0])?;
                        reach(CrashPoint::ForgettingWritten);
                        ledger.run("DELETE FROM message WHERE id = ?", [id.0])?;
                    }
                    ledger.write_counts(&sums)?;
                    Ok(ids.len())
                })?;
            if step > 0 {
                reach(CrashPoint::ForgettingCommitted);
            }
            forgotten += step;
            if step < STEP {
                break;
            }
        }
        self.forget_hops(cutoff)?;
        Ok(forgotten)
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
                remove(&entry.path());
                swept.removed += 1;
            }
        }
        Ok(swept)
    }

    /// Gives the database's gaps back to the disk, if they are much of it, in short steps between which others write.
    /// Gives how many octets that were; a database that was made by an earlier version, and is large, keeps its gaps.
    ///
    /// # Errors
    /// When the database refused; what was given back before stays so.
    pub fn compact(&self) -> Result<u64, QueueError> {
        let begun = self.store.read(Gaps::of)?;
        if !begun.are_much() {
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
}

/// The content of a message that has left is still there if a recipient was removed. It goes with the message.
fn forget_removed(ledger: &mut Ledger<'_>, id: MessageId) -> Result<(), QueueError> {
    let file = "SELECT file FROM message WHERE id = ?1 \
         AND EXISTS (SELECT 1 FROM recipient WHERE message = ?1 AND state = 14)";
    let removed: Option<Option<String>> = ledger.row(file, [id.0], |row| row.get(0))?;
    if let Some(file) = removed {
        ledger.run("DELETE FROM content WHERE message = ?", [id.0])?;
        ledger.discard(file);
    }
    Ok(())
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
}

impl Gaps {
    /// Those of `db`, at present.
    pub(super) fn of(db: &Connection) -> Result<Gaps, QueueError> {
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok(Gaps {
            free: pragma("freelist_count")?,
            pages: pragma("page_count")?,
            page_size: pragma("page_size")?,
        })
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
