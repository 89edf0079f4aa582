//! What an operator does to the queue by hand, with a word in the history of each message that says who did.
//!
//! In short steps: a million messages must not keep the writer from the rest of its work.

use std::collections::HashSet;

use super::WorkQueue;
use super::backoff::release;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::moves::{Change, Place, refresh_due, waiting_behind};
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::list::HopId;

/// What shall be tried again now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// All that waits in the outbound work queue.
    Everything,
    /// What waits for these next hops, by their names.
    Hops(Vec<String>),
    /// What waits of these messages.
    Messages(Vec<MessageId>),
}

/// Recipients that are moved in one step: mail that arrives meanwhile waits for it.
const STEP: usize = 100;

impl WorkQueue {
    /// Makes what waits in the outbound work queue due now, and ends the back-off of its next hops; a message that
    /// is named goes first, and is the probe of a next hop that backs off. Gives how many messages that were. `by`
    /// says in their history who wanted it.
    ///
    /// # Errors
    /// When the database refused; what was done before stays done.
    pub fn retry(&self, what: &Retry, by: &str) -> Result<usize, QueueError> {
        let mut messages = HashSet::new();
        match what {
            Retry::Messages(ids) => {
                for id in ids {
                    if self.retry_message(*id, by)? {
                        messages.insert(*id);
                    }
                }
            }
            Retry::Everything | Retry::Hops(_) => {
                for hop in self.hops_to_retry(what)? {
                    self.release_hop(hop)?;
                    let mut from = Some((i64::MIN, 0, 0));
                    while let Some(place) = from {
                        from = self.retry_hop(hop, place, by, &mut messages)?;
                    }
                }
            }
        }
        Ok(messages.len())
    }

    /// Ends the back-off of a next hop.
    fn release_hop(&self, hop: HopId) -> Result<(), QueueError> {
        let release = move |ledger: &mut Ledger<'_>| {
            release(ledger, hop)?;
            reach(CrashPoint::HopReleaseWritten);
            Ok(())
        };
        self.store.write(release).wait()?;
        reach(CrashPoint::HopReleaseCommitted);
        Ok(())
    }

    pub(super) fn hops_to_retry(&self, what: &Retry) -> Result<Vec<HopId>, QueueError> {
        let hop = |row: &rusqlite::Row<'_>| row.get(0).map(HopId);
        self.store.read(|db| match what {
            Retry::Hops(names) => {
                let mut hops = Vec::new();
                for name in names {
                    // As people write it: in any case, and without the usual port.
                    let sql = "SELECT id FROM next_hop WHERE name COLLATE NOCASE IN (?1, ?1 || ':25')";
                    hops.extend(ledger::rows(db, sql, [name], hop)?);
                }
                Ok(hops)
            }
            _ => ledger::rows(
                db,
                "SELECT id FROM next_hop WHERE due IS NOT NULL OR failures > 0",
                [],
                hop,
            ),
        })
    }

    /// The next step of what waits for `hop`; where it ended, if there may be more.
    fn retry_hop(
        &self,
        hop: HopId,
        from: Place,
        by: &str,
        messages: &mut HashSet<MessageId>,
    ) -> Result<Option<Place>, QueueError> {
        let (now, by) = (self.now(), by.to_owned());
        let places = self
            .store
            .write_step(move |ledger| step(ledger, hop, from, now, &by))?;
        reach(CrashPoint::RetryCommitted);
        messages.extend(places.iter().map(|(_, id, _)| MessageId(*id)));
        let next = places.last().filter(|last| places.len() == STEP && **last > from);
        Ok(next.copied())
    }

    /// Whether something of this message waited.
    fn retry_message(&self, id: MessageId, by: &str) -> Result<bool, QueueError> {
        let (now, by) = (self.now(), by.to_owned());
        let retry = move |ledger: &mut Ledger<'_>| {
            let rows = ledger.rows(
                "SELECT n, hop FROM recipient WHERE message = ? AND state = 2 AND list IS NULL ORDER BY n",
                [id.0],
                |row| Ok((row.get::<_, u32>(0)?, HopId(row.get(1)?))),
            )?;
            for (n, hop) in &rows {
                // Before all that waits for the same next hop.
                ledger.run(
                    "UPDATE recipient SET next_attempt = 0 WHERE message = ? AND n = ?",
                    (id.0, n),
                )?;
                ledger.run(
                    "UPDATE next_hop SET retry_at = min(retry_at, ?) WHERE id = ?",
                    (now.0, hop.0),
                )?;
                refresh_due(ledger, *hop, Change::Same)?;
                ledger.record(id, Some(*n), "retried", &story(&by))?;
            }
            reach(CrashPoint::RetryWritten);
            Ok(!rows.is_empty())
        };
        let waited = self.store.write(retry).wait()?;
        reach(CrashPoint::RetryCommitted);
        Ok(waited)
    }
}

/// Up to so many that wait for `hop`, behind the place `from`: they are due now at the latest.
fn step(
    ledger: &mut Ledger<'_>,
    hop: HopId,
    from: Place,
    now: Stamp,
    by: &str,
) -> Result<Vec<Place>, QueueError> {
    let places = waiting_behind(ledger, hop, from, STEP)?;
    for (due, id, n) in &places {
        if *due > now.0 {
            ledger.run(
                "UPDATE recipient SET next_attempt = ? WHERE message = ? AND n = ?",
                (now.0, id, n),
            )?;
        }
        ledger.record(MessageId(*id), Some(*n), "retried", &story(by))?;
    }
    refresh_due(ledger, hop, Change::Same)?;
    reach(CrashPoint::RetryWritten);
    Ok(places)
}

fn story(by: &str) -> String {
    format!("due now, by {by}")
}
