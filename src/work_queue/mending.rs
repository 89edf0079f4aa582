//! Mending: what the rules of `soundness` find broken in the rows of the queue is put right, and what no task can go on
//! with is put aside, so that an operator hears of it.
//!
//! Part of housekeeping. Never touches a message whose rows are sound, and never guesses: where the truth cannot be
//! worked out from other rows, the recipient is held.

use super::WorkQueue;
use super::conversion::refresh_conversion_due;
use super::damage::hold;
use super::error::QueueError;
use super::id::MessageId;
use super::inspection::one;
use super::ledger::{self, Ledger};
use super::listing::in_the_queue;
use super::moves::{hop_fault, recount, settle_if_done};
use super::soundness::{Fault, Kind};
use crate::crash_point::{CrashPoint, reach};

/// What was wrong in the rows of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Messages of which something was put aside.
    pub held: usize,
    /// Messages of which something was put right, and next hops.
    pub mended: usize,
}

/// Messages that are looked at in one go.
const STEP: usize = 200;

impl WorkQueue {
    /// Looks all messages in the queue through, and all next hops, and mends what is broken.
    ///
    /// # Errors
    /// When the database refused; what was mended before stays mended.
    pub fn mend(&self) -> Result<Mended, QueueError> {
        let renumbered = self.store.write_step(renumber)?;
        let mut mended = Mended {
            mended: renumbered,
            ..Mended::default()
        };
        let mut after = MessageId(i64::MIN);
        loop {
            let (ids, broken, unreadable) = self.store.read(|db| {
                let ids = in_the_queue(db, after, STEP)?;
                let (mut broken, mut unreadable) = (Vec::new(), Vec::new());
                for id in &ids {
                    match one(db, *id) {
                        Ok(found) if found.is_empty() => {}
                        Ok(_) => broken.push(*id),
                        Err(error) if error.is_damage() => unreadable.push(*id),
                        Err(error) => return Err(error),
                    }
                }
                Ok((ids, broken, unreadable))
            })?;
            self.mend_messages(broken, &mut mended)?;
            self.pass_over(unreadable);
            match ids.last() {
                Some(last) if *last > after => after = *last,
                // In a damaged database what lies before may be found again, and for ever.
                _ => break,
            }
        }
        let hops: Vec<i64> = self
            .store
            .read(|db| ledger::rows(db, "SELECT id FROM next_hop", [], |row| row.get(0)))?;
        for hop in hops {
            if self.store.read(|db| hop_fault(db, hop))?.is_some() {
                let is_mended = self.store.write_step(move |ledger| mend_hop(ledger, hop))?;
                if is_mended {
                    reach(CrashPoint::MendingCommitted);
                }
                mended.mended += usize::from(is_mended);
            }
        }
        Ok(mended)
    }

    /// Mends these messages, each by itself.
    pub(super) fn mend_messages(&self, ids: Vec<MessageId>, mended: &mut Mended) -> Result<(), QueueError> {
        for id in ids {
            match self.store.write_step(move |ledger| mend(ledger, id)) {
                Ok(Some(done)) => {
                    reach(CrashPoint::MendingCommitted);
                    match done {
                        Kind::Rows => mended.held += 1,
                        _ => mended.mended += 1,
                    }
                }
                Ok(None) => {}
                // The page that it stands on is broken: the others' need not be.
                Err(error) if error.is_damage() => log::error!("id={id} can not be mended: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// No next hop and no list is ever given a number beyond this one by itself.
const LAST_NUMBER: i64 = 1 << 53;

/// Gives those next hops and lists other numbers that somebody has given such high ones that SQLite would have none left
/// for new ones, and nothing would flow any more; how many these were.
pub(super) fn renumber(ledger: &mut Ledger<'_>) -> Result<usize, QueueError> {
    match renumber_all(ledger) {
        // Whoever can be served without it is served.
        Err(error) if error.is_damage() => {
            log::error!("next hops and lists could not be numbered anew: {error}");
            Ok(0)
        }
        done => done,
    }
}

fn renumber_all(ledger: &Ledger<'_>) -> Result<usize, QueueError> {
    let mut done = 0;
    let number = |sql| {
        ledger
            .row(sql, [], |row| row.get::<_, Option<i64>>(0))
            .map(Option::flatten)
    };
    while let Some(hop) = number("SELECT max(id) FROM next_hop")?.filter(|last| *last > LAST_NUMBER) {
        let free = "SELECT ifnull(max(id), 0) + 1 FROM next_hop WHERE id BETWEEN 0 AND ?";
        let free: i64 = ledger
            .row(free, [LAST_NUMBER - 1], |row| row.get(0))?
            .unwrap_or(1);
        ledger.run("UPDATE next_hop SET id = ? WHERE id = ?", (free, hop))?;
        // Of those that have ended nobody asks any more where they went.
        for recipients in [
            "UPDATE recipient SET hop = ? WHERE hop = ? AND state = 2 AND list IS NULL",
            "UPDATE recipient SET hop = ?1 WHERE list IN (SELECT id FROM domain_list WHERE hop = ?2)",
            "UPDATE recipient SET hop = ? WHERE hop = ? AND state IN (5, 6)",
        ] {
            ledger.run(recipients, (free, hop))?;
        }
        ledger.run("UPDATE domain_list SET hop = ? WHERE hop = ?", (free, hop))?;
        log::warn!("next_hop={free} had the number {hop}, behind which there is no room");
        done += 1;
    }
    while let Some(list) = number("SELECT max(id) FROM domain_list")?.filter(|last| *last > LAST_NUMBER) {
        let free = "SELECT ifnull(max(id), 0) + 1 FROM domain_list WHERE id BETWEEN 0 AND ?";
        let free: i64 = ledger
            .row(free, [LAST_NUMBER - 1], |row| row.get(0))?
            .unwrap_or(1);
        ledger.run("UPDATE domain_list SET id = ? WHERE id = ?", (free, list))?;
        ledger.run("UPDATE recipient SET list = ? WHERE list = ?", (free, list))?;
        log::warn!("list={free} had the number {list}, behind which there is no room");
        done += 1;
    }
    ledger.run(
        "UPDATE sqlite_sequence SET seq = CASE name \
           WHEN 'next_hop' THEN (SELECT ifnull(max(id), 0) FROM next_hop) \
           ELSE (SELECT ifnull(max(id), 0) FROM domain_list) END \
         WHERE name IN ('next_hop', 'domain_list') AND seq > ?",
        [LAST_NUMBER],
    )?;
    Ok(done)
}

/// Mends what is wrong with a message now; the heaviest that there was to be done.
pub(super) fn mend(ledger: &mut Ledger<'_>, id: MessageId) -> Result<Option<Kind>, QueueError> {
    let mut done = None;
    for (finding, fault) in one(ledger.db(), id)? {
        match (finding.kind, fault) {
            // The message itself can not be read.
            (Kind::Rows, None) => {
                return Ok((hold(ledger, id)? > 0).then_some(Kind::Rows));
            }
            (_, Some((n, Fault::Stuck(what)))) => {
                done = put_aside(ledger, id, n, &what)?.then_some(Kind::Rows).or(done);
            }
            (_, Some((n, Fault::Report(what)))) => {
                let forget = "UPDATE recipient SET report_due = NULL WHERE message = ? AND n = ?";
                ledger.run(forget, (id.0, n))?;
                log::error!("id={id} recipient {n}: {what}: its sender is not told of its good end");
                done = done.or(Some(Kind::Kept));
            }
            (Kind::Stray, None) => {
                let content = "DELETE FROM content WHERE message = ?";
                if ledger.run(content, [id.0])? > 0 {
                    done = done.or(Some(Kind::Stray));
                }
            }
            (Kind::Kept, None) => {
                log::error!("id={id} {}: put right", finding.what);
                done = done.or(Some(Kind::Kept));
            }
            // Nothing of what has gone is known.
            _ => {}
        }
    }
    if done.is_some() {
        refresh_conversion_due(ledger, id)?;
        settle_if_done(ledger, id)?;
        reach(CrashPoint::MendingWritten);
    }
    Ok(done)
}

/// Holds a recipient that no task can go on with; one that has ended, or is put aside, only leaves the list on which it
/// stands. Whether there was anything to be done.
fn put_aside(ledger: &mut Ledger<'_>, id: MessageId, n: i64, what: &str) -> Result<bool, QueueError> {
    let hop: Option<Option<i64>> = ledger.row(
        "SELECT hop FROM recipient WHERE message = ? AND n = ?",
        (id.0, n),
        |row| row.get(0),
    )?;
    let off_list = ledger.run(
        "UPDATE recipient SET list = NULL WHERE message = ? AND n = ? AND list IS NOT NULL \
         AND state IN (5, 6, 10, 11, 12, 13, 14)",
        (id.0, n),
    )?;
    let reason = format!("the rows of this message in queue.db are damaged: recipient {n}: {what}");
    let held = ledger.run(
        "UPDATE recipient SET state = 5, list = NULL, report_due = NULL, last_status = '5.3.0', last_error = ? \
         WHERE message = ? AND n = ? AND state NOT IN (5, 6, 10, 11, 12, 13, 14)",
        (&reason, id.0, n),
    )?;
    if held > 0 {
        log::error!("id={id} held: {reason}");
        ledger.record(id, u32::try_from(n).ok(), "held", &reason)?;
    }
    // Whatever it was before, its next hop may still count it.
    if let Some(hop) = hop.flatten() {
        recount(ledger, hop)?;
    }
    Ok(held + off_list > 0)
}

fn mend_hop(ledger: &mut Ledger<'_>, hop: i64) -> Result<bool, QueueError> {
    let Some(what) = hop_fault(ledger.db(), hop)? else {
        return Ok(false);
    };
    recount(ledger, hop)?;
    log::error!("hop={hop} {what}: counted anew");
    reach(CrashPoint::MendingWritten);
    Ok(true)
}
