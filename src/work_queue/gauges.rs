//! How the queue stands, in numbers, for who looks every few seconds. Reads, and changes nothing.
//!
//! Never looks at more than a few thousand rows, however much waits: what the next hops know of their mail is added up, and
//! what nobody keeps count of is counted up to [`MOST_COUNTED`].

use std::collections::HashSet;

use super::WorkQueue;
use super::board::{self, QueueRow, hop_row, on_lists};
use super::error::QueueError;
use super::ledger;
use super::states::State;

/// Recipients in a state of which nobody keeps count are counted up to this.
pub const MOST_COUNTED: usize = 10_000;

/// The queue in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Recipients in each state that is no end. Those that wait for conversion or a report, or are held or dead, up to
    /// [`MOST_COUNTED`].
    pub states: Vec<(State, u64)>,
    /// The next hops for which most recipients wait, or are on their way, the most first. The oldest message of each is
    /// not looked for.
    pub hops: Vec<QueueRow>,
    /// Next hops for which something waits, or is on its way.
    pub all_hops: u64,
    /// Of these: such that have not answered, and are left alone for now.
    pub backing_off: u64,
    /// Recipients that wait for next hops, or are on their way there.
    pub outbound: u64,
}

impl WorkQueue {
    /// The queue in numbers, with at most `most` next hops.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn gauges(&self, most: usize) -> Result<Gauges, QueueError> {
        self.store.read(|db| {
            // All of it at one moment.
            let db = db.unchecked_transaction()?;
            let listed = on_lists(&db)?;
            let waiting = "SELECT id, name, waiting, oldest, due, last_error, failures FROM next_hop \
                           WHERE waiting > 0 ORDER BY waiting DESC LIMIT ?";
            let mut hops = ledger::rows(&db, waiting, [most], hop_row)?;
            let sums = "SELECT count(*), sum(waiting), sum(failures > 0) FROM next_hop WHERE waiting > 0";
            let sums = ledger::row(&db, sums, [], |row| {
                let number = |column| row.get::<_, Option<i64>>(column);
                Ok([number(0)?, number(1)?, number(2)?])
            })?;
            let [mut all_hops, waiting, backing_off] = sums
                .unwrap_or_default()
                .map(|sum| u64::try_from(sum.unwrap_or(0)).unwrap_or(0));
            let seen: HashSet<_> = hops.iter().map(|(hop, _)| *hop).collect();
            for hop in listed.keys().filter(|hop| !seen.contains(hop)) {
                let one =
                    "SELECT id, name, waiting, oldest, due, last_error, failures FROM next_hop WHERE id = ?";
                let row = ledger::row(&db, one, [hop.0], hop_row)?;
                all_hops += row.iter().filter(|(_, row)| row.recipients == 0).count() as u64;
                hops.extend(row);
            }
            let (mut on_list, mut locked) = (0, 0);
            for (hop, row) in &mut hops {
                if let Some(listed) = listed.get(&*hop) {
                    row.recipients += listed.recipients;
                    row.locked = listed.locked;
                }
            }
            for listed in listed.values() {
                on_list += listed.recipients;
                locked += listed.locked;
            }
            let mut hops: Vec<QueueRow> = hops.into_iter().map(|(_, row)| row).collect();
            hops.sort_by(|one, other| {
                let most_first = other.recipients.cmp(&one.recipients);
                most_first.then_with(|| one.next_hop.cmp(&other.next_hop))
            });
            hops.truncate(most);
            let count = |sql: &'static str| -> Result<u64, QueueError> {
                Ok(ledger::row(&db, sql, [MOST_COUNTED], |row| row.get(0))?.unwrap_or(0))
            };
            let converting = [
                "SELECT count(*) FROM (SELECT 1 FROM message m CROSS JOIN recipient r ON r.message = m.id \
                 WHERE m.inbound_due IS NOT NULL AND r.state = 1 LIMIT ?)",
                "SELECT count(*) FROM (SELECT 1 FROM message m CROSS JOIN recipient r ON r.message = m.id \
                 WHERE m.box_due IS NOT NULL AND r.state = 1 LIMIT ?)",
            ];
            let [inbound, in_box] = converting.map(count);
            let reporting = "SELECT count(*) FROM (SELECT 1 FROM recipient WHERE state = 4 LIMIT ?)";
            let held =
                "SELECT count(*) FROM (SELECT 1 FROM recipient WHERE state IN (5, 6) AND state = 5 LIMIT ?)";
            let dead =
                "SELECT count(*) FROM (SELECT 1 FROM recipient WHERE state IN (5, 6) AND state = 6 LIMIT ?)";
            let states = vec![
                (State::PendingConversion, inbound? + in_box?),
                (State::PendingXmit, (waiting + on_list).saturating_sub(locked)),
                (State::LockedForXmit, locked),
                (State::PendingReport, count(reporting)?),
                (State::Held, count(held)?),
                (State::Dead, count(dead)?),
            ];
            Ok(Gauges {
                states,
                hops,
                all_hops,
                backing_off,
                outbound: waiting + on_list,
            })
        })
    }

    /// What was counted since the queue was made, by the names of `show stat`.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn counters(&self) -> Result<Vec<(String, i64)>, QueueError> {
        self.store.read(|db| board::counters(db, self.store.uncounted()))
    }
}
