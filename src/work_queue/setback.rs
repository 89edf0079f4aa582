//! What the queue does when the clock is set back: all that waits for a moment would wait for longer by as much, and is
//! moved by it.
//!
//! In short steps, as every walk. Never makes anything later, and never counts an attempt.

use std::time::Duration;

use super::WorkQueue;
use super::conversion::refresh_conversion_due;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, LAST_MOMENT, Ledger};
use super::moves::{Change, Place, refresh_due, waiting_behind};
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::list::HopId;

/// Recipients or messages that are moved in one step: mail that arrives meanwhile waits for it.
const STEP: usize = 100;

/// How long to wait after the queue refused to do its part.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });

/// How the clock was set: what was due later than `now` is due earlier by so much, but not before `now`.
#[derive(Clone, Copy, Debug)]
struct Setback {
    now: Stamp,
    by: i64,
}

impl WorkQueue {
    /// By how much the clock has been set back, while the queue was open and before, as far as that has not been made up
    /// for; `None` where there is nothing to make up for.
    #[must_use]
    pub fn set_back(&self) -> Option<Duration> {
        self.watch.set_back()
    }

    /// Makes up for a clock that was set back by so much: what waits for its next attempt or conversion, and next hops
    /// that back off, wait no longer for it. Gives how many recipients were moved in the outbound work queue, and
    /// messages in the others. What the database refuses is tried again until it is done, however long that takes: to be
    /// called in a thread of its own, and not by two at once.
    ///
    /// # Errors
    /// When the queue has been closed: the next start finds that there is something to make up for.
    pub fn make_up_for(&self, by: Duration) -> Result<usize, QueueError> {
        let noticed = self.now();
        let setback = || Setback {
            // Set back once more meanwhile it is earlier, and nothing may wait for longer than until then.
            now: noticed.min(self.now()),
            by: i64::try_from(by.as_micros()).unwrap_or(i64::MAX),
        };
        let mut moved = 0;
        let hops = self.insist(|| self.hops_that_wait(noticed))?;
        for hop in hops.unwrap_or_default() {
            self.insist(|| {
                let setback = setback();
                self.store
                    .write(move |ledger| shorten_back_off(ledger, hop, setback))
                    .wait()
                    .inspect(|()| reach(CrashPoint::SetbackCommitted))
            })?;
            let mut from = Some((noticed.0, i64::MAX, 0));
            while let Some(place) = from {
                let places = self.insist(|| {
                    let setback = setback();
                    self.store
                        .write_step(move |ledger| move_recipients(ledger, hop, place, setback))
                        .inspect(|_| reach(CrashPoint::SetbackCommitted))
                })?;
                let places = places.unwrap_or_default();
                moved += places.len();
                from = next(&places, place);
            }
        }
        for in_box in [false, true] {
            // All of them: one of whose recipients some are due may have others that are not.
            let mut from = Some((i64::MIN, i64::MIN));
            while let Some(place) = from {
                let step = self.insist(|| {
                    let setback = setback();
                    self.store
                        .write_step(move |ledger| move_messages(ledger, in_box, place, setback))
                        .inspect(|_| reach(CrashPoint::SetbackCommitted))
                })?;
                let (places, some) = step.unwrap_or_default();
                moved += some;
                from = next(&places, place);
            }
        }
        self.insist(|| {
            self.store
                .write(|ledger| {
                    ledger.mark(LAST_MOMENT, ledger.moment())?;
                    reach(CrashPoint::MadeUpWritten);
                    Ok(())
                })
                .wait()
                .inspect(|()| reach(CrashPoint::MadeUpCommitted))
        })?;
        self.watch.made_up_for(by);
        Ok(moved)
    }

    /// Asks the queue until it does it: nobody can begin anew, for what was moved must not be moved once more. `None` where
    /// that would be of no use, because something is damaged there.
    fn insist<T>(&self, mut verb: impl FnMut() -> Result<T, QueueError>) -> Result<Option<T>, QueueError> {
        let mut is_told = false;
        loop {
            match verb() {
                Ok(done) => return Ok(Some(done)),
                Err(QueueError::Stopped) => return Err(QueueError::Stopped),
                Err(error) if error.is_damage() || !error.will_pass() => {
                    log::error!(
                        "some of what waits may wait for longer, for the clock was set back: {error}"
                    );
                    return Ok(None);
                }
                Err(error) if !is_told => {
                    log::error!(
                        "what waits is not due earlier yet, although the clock was set back: {error}"
                    );
                    is_told = true;
                }
                Err(_) => {}
            }
            std::thread::park_timeout(PAUSE_AFTER_TROUBLE);
        }
    }

    /// The next hops that back off until later than `now`, or for which something waits until then.
    fn hops_that_wait(&self, now: Stamp) -> Result<Vec<HopId>, QueueError> {
        self.store.read(|db| {
            ledger::rows(
                db,
                "SELECT id FROM next_hop WHERE retry_at > ?1 OR EXISTS (SELECT 1 FROM recipient \
                 WHERE hop = next_hop.id AND state = 2 AND list IS NULL AND next_attempt > ?1)",
                [now.0],
                |row| row.get(0).map(HopId),
            )
        })
    }
}

/// Where the next step begins; `None` where this was the last one.
fn next<P: Copy + PartialOrd>(places: &[P], from: P) -> Option<P> {
    let last = places.last().copied();
    // In a damaged database what lies before may be found again, and for ever.
    last.filter(|last| places.len() == STEP && *last > from)
}

fn shorten_back_off(
    ledger: &mut Ledger<'_>,
    hop: HopId,
    Setback { now, by }: Setback,
) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE next_hop SET retry_at = max(?1, retry_at - ?2) WHERE id = ?3 AND retry_at > ?1",
        (now.0, by, hop.0),
    )?;
    refresh_due(ledger, hop, Change::Same)?;
    reach(CrashPoint::SetbackWritten);
    Ok(())
}

/// The next ones that wait for `hop`, behind the place `from`; where they were.
fn move_recipients(
    ledger: &mut Ledger<'_>,
    hop: HopId,
    from: Place,
    Setback { now, by }: Setback,
) -> Result<Vec<Place>, QueueError> {
    let places = waiting_behind(ledger.db(), hop, from, STEP)?;
    for (_, id, n) in &places {
        ledger.run(
            "UPDATE recipient SET next_attempt = max(?1, next_attempt - ?2) WHERE message = ?3 AND n = ?4",
            (now.0, by, id, n),
        )?;
    }
    refresh_due(ledger, hop, Change::Same)?;
    reach(CrashPoint::SetbackWritten);
    Ok(places)
}

/// The next messages that wait for their conversion, in SMTP.BOX or in the inbound work queue; where they were, and of how
/// many something is due earlier now.
fn move_messages(
    ledger: &mut Ledger<'_>,
    in_box: bool,
    from: (i64, i64),
    Setback { now, by }: Setback,
) -> Result<(Vec<(i64, i64)>, usize), QueueError> {
    let sql = match in_box {
        false => {
            "SELECT inbound_due, id FROM message WHERE inbound_due IS NOT NULL AND (inbound_due, id) > (?, ?) \
             ORDER BY inbound_due, id LIMIT ?"
        }
        true => {
            "SELECT box_due, id FROM message WHERE box_due IS NOT NULL AND (box_due, id) > (?, ?) \
             ORDER BY box_due, id LIMIT ?"
        }
    };
    let places: Vec<(i64, i64)> =
        ledger.rows(sql, (from.0, from.1, STEP), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut moved = 0;
    for (_, id) in &places {
        let changed = ledger.run(
            "UPDATE recipient SET next_attempt = max(?1, next_attempt - ?2) \
             WHERE message = ?3 AND state = 1 AND in_box = ?4 AND next_attempt > ?1",
            (now.0, by, id, in_box),
        )?;
        if changed > 0 {
            refresh_conversion_due(ledger, MessageId(*id))?;
            moved += 1;
        }
    }
    reach(CrashPoint::SetbackWritten);
    Ok((places, moved))
}
