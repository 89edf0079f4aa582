//! What the console shows of the queue: counts, next hops, lists. Reads, and changes nothing.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Row};

use super::WorkQueue;
use super::damage::{number_in, text_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Counts};
use crate::clock::Stamp;
use crate::domain_list::list::HopId;

/// What waits for one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    /// The next hop, as it is shown.
    pub next_hop: String,
    /// Recipients that wait for it.
    pub recipients: u64,
    /// Of these: on the wire, or on a list that a handler has.
    pub locked: u64,
    /// The message that has waited longest.
    pub oldest: MessageId,
    /// When the next recipient falls due; `None` when all are on lists.
    pub next_attempt: Option<Stamp>,
    /// How often in a row it has not answered; above 0 all its mail waits together.
    pub failures: u32,
    /// How the last attempt that failed ended.
    pub last_error: Option<String>,
}

/// A domain list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow {
    /// Its reference ID.
    pub list: i64,
    /// Where it goes.
    pub next_hop: String,
    /// The number of the handler that has it.
    pub handler: Option<u32>,
    /// Messages and recipients on it when it was made.
    pub messages: u32,
    /// Recipients on it when it was made.
    pub recipients: u32,
    /// Recipients that are not settled yet.
    pub unsettled: u32,
    /// When it was made.
    pub made: Stamp,
}

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopRow {
    /// Its number.
    pub hop: HopId,
    /// The next hop, as it is shown.
    pub next_hop: String,
    /// When its next recipient falls due, of those on no list.
    pub due: Option<Stamp>,
    /// How many lists of it there are.
    pub lists: u32,
    /// How the last attempt that failed ended, and when.
    pub last_error: Option<(String, Stamp)>,
    /// When it was last used.
    pub used: Stamp,
    /// How it backs off, if it does.
    pub back_off: Option<BackOff>,
}

/// A next hop that has not answered, and whose mail waits as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// Since when.
    pub since: Stamp,
    /// Failures in a row.
    pub failures: u32,
    /// When the next probe may go.
    pub next_probe: Stamp,
}

/// A next hop as whoever would send there finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopState {
    /// What is known of it.
    pub row: HopRow,
    /// Recipients that wait for it, and are on no list.
    pub waiting: u64,
    /// Its lists, the oldest first, as many as a line can hold.
    pub lists: Vec<ListRow>,
}

/// Lists that are told of one next hop at most.
const MOST_LISTS: usize = 20;

impl WorkQueue {
    /// The next hop of this name; `None` if no mail has gone there as far as the queue remembers.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn hop_state(&self, name: &str) -> Result<Option<HopState>, QueueError> {
        self.store.read(|db| {
            // All of it at one moment.
            let db = db.unchecked_transaction()?;
            let one = "SELECT h.name, h.due, (SELECT count(*) FROM domain_list l WHERE l.hop = h.id), \
                         h.last_error, h.error_at, h.used_at, h.id, h.failures, h.down_since, h.retry_at, h.waiting \
                       FROM next_hop h WHERE h.name = ?";
            let found = ledger::row(&db, one, [name], |row| {
                Ok((hop_in(row)?, number_in(row, 10).unwrap_or(0_u64)))
            })?;
            let Some((row, waiting)) = found else {
                return Ok(None);
            };
            let lists = "SELECT l.id, h.name, l.handler, l.messages, l.recipients, \
                           (SELECT count(*) FROM recipient r WHERE r.list = l.id), l.made_at \
                         FROM domain_list l JOIN next_hop h ON h.id = l.hop WHERE l.hop = ? ORDER BY l.id LIMIT ?";
            let lists = ledger::rows(&db, lists, (row.hop.0, MOST_LISTS), list_in)?;
            Ok(Some(HopState { row, waiting, lists }))
        })
    }

    /// The outbound work queue by next hop, at most `limit` rows, those that waited longest first; and how many next
    /// hops there are. Nothing that waits is counted for this, and little is looked at, however much it is.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn queue_rows(&self, limit: usize) -> Result<(Vec<QueueRow>, usize), QueueError> {
        self.store.read(|db| {
            // All of it at one moment.
            let db = db.unchecked_transaction()?;
            let mut listed = on_lists(&db)?;
            let waiting = "SELECT id, name, waiting, oldest, due, last_error, failures FROM next_hop \
                           WHERE waiting > 0 ORDER BY oldest LIMIT ?";
            let mut hops = ledger::rows(&db, waiting, [limit], hop_row)?;
            let seen: HashSet<HopId> = hops.iter().map(|(hop, _)| *hop).collect();
            let count = "SELECT count(*) FROM next_hop WHERE waiting > 0";
            let mut count = ledger::row(&db, count, [], |row| row.get(0))?.unwrap_or(0);
            for hop in listed.keys().filter(|hop| !seen.contains(hop)) {
                let one =
                    "SELECT id, name, waiting, oldest, due, last_error, failures FROM next_hop WHERE id = ?";
                let row = ledger::row(&db, one, [hop.0], hop_row)?;
                count += row.iter().filter(|(_, row)| row.recipients == 0).count();
                hops.extend(row);
            }
            let mut rows = Vec::with_capacity(hops.len());
            for (hop, mut row) in hops {
                if row.recipients > 0 {
                    row.oldest = oldest(&db, hop, row.oldest)?;
                }
                if let Some(listed) = listed.remove(&hop) {
                    row.oldest = match row.recipients {
                        0 => listed.oldest,
                        _ => row.oldest.min(listed.oldest),
                    };
                    row.recipients += listed.recipients;
                    row.locked = listed.locked;
                }
                rows.push(row);
            }
            rows.sort_by_key(|row| row.oldest);
            rows.truncate(limit);
            Ok((rows, count))
        })
    }

    /// The domain lists, at most `limit`, the oldest first.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn list_rows(&self, limit: usize) -> Result<Vec<ListRow>, QueueError> {
        self.store.read(|db| {
            ledger::rows(
                db,
                "SELECT l.id, h.name, l.handler, l.messages, l.recipients, \
                   (SELECT count(*) FROM recipient r WHERE r.list = l.id), l.made_at \
                 FROM domain_list l JOIN next_hop h ON h.id = l.hop ORDER BY l.id LIMIT ?",
                [limit],
                list_in,
            )
        })
    }

    /// The next hops, at most `limit`, those used last first.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn hop_rows(&self, limit: usize) -> Result<Vec<HopRow>, QueueError> {
        self.store.read(|db| {
            ledger::rows(
                db,
                "SELECT h.name, h.due, (SELECT count(*) FROM domain_list l WHERE l.hop = h.id), \
                   h.last_error, h.error_at, h.used_at, h.id, h.failures, h.down_since, h.retry_at \
                 FROM next_hop h ORDER BY h.used_at DESC LIMIT ?",
                [limit],
                hop_in,
            )
        })
    }

    /// The counters of `show stat`, by name: what was counted since the queue was made, and what is in the
    /// queue now.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn statistics(&self) -> Result<Vec<(String, i64)>, QueueError> {
        self.store.read(|db| {
            let mut counters = counters(db, self.store.uncounted())?;
            let now: [(&str, &'static str); 6] = [
                (
                    "Mail.WaitingInbound",
                    "SELECT count(*) FROM message WHERE inbound_due IS NOT NULL",
                ),
                (
                    "Mail.WaitingInBox",
                    "SELECT count(*) FROM message WHERE box_due IS NOT NULL",
                ),
                (
                    "Mail.TotalPending",
                    "SELECT sum(waiting) FROM next_hop WHERE waiting > 0",
                ),
                (
                    "Mail.OnLists",
                    "SELECT count(*) FROM recipient WHERE list IS NOT NULL",
                ),
                (
                    "Mail.Held",
                    "SELECT count(*) FROM recipient WHERE state IN (5, 6) AND state = 5",
                ),
                (
                    "Mail.Dead",
                    "SELECT count(*) FROM recipient WHERE state IN (5, 6) AND state = 6",
                ),
            ];
            for (name, sql) in now {
                let count: Option<Option<i64>> = ledger::row(db, sql, [], |row| row.get(0))?;
                counters.retain(|(counted, _)| counted != name);
                counters.push((name.to_owned(), count.flatten().unwrap_or(0)));
            }
            counters.sort();
            Ok(counters)
        })
    }
}

/// What was counted since the queue was made: what is in the database, and what is yet to come there.
pub(super) fn counters(db: &Connection, uncounted: Counts) -> Result<Vec<(String, i64)>, QueueError> {
    let mut counters = ledger::rows(db, "SELECT name, value FROM statistic", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    for (name, by) in uncounted {
        match counters
            .iter_mut()
            .find(|(counted, _): &&mut (String, i64)| counted == name)
        {
            Some((_, value)) => *value = value.saturating_add(by),
            None => counters.push((name.to_owned(), by)),
        }
    }
    Ok(counters)
}

/// What is on the lists of a next hop.
pub(super) struct OnLists {
    pub(super) recipients: u64,
    pub(super) locked: u64,
    oldest: MessageId,
}

/// What is on lists, by next hop: as many rows as handlers can have in hand, and some more.
pub(super) fn on_lists(db: &Connection) -> Result<HashMap<HopId, OnLists>, QueueError> {
    let lists = ledger::rows(
        db,
        "SELECT l.hop, l.handler IS NOT NULL, count(*), min(r.message) \
         FROM domain_list l CROSS JOIN recipient r ON r.list = l.id GROUP BY l.id",
        [],
        |row| {
            let (is_locked, recipients): (bool, u64) = (row.get(1)?, row.get(2)?);
            let on_list = OnLists {
                recipients,
                locked: if is_locked { recipients } else { 0 },
                oldest: MessageId(row.get(3)?),
            };
            Ok((HopId(row.get(0)?), on_list))
        },
    )?;
    let mut hops: HashMap<HopId, OnLists> = HashMap::new();
    for (hop, list) in lists {
        match hops.get_mut(&hop) {
            Some(all) => {
                all.recipients += list.recipients;
                all.locked += list.locked;
                all.oldest = all.oldest.min(list.oldest);
            }
            None => drop(hops.insert(hop, list)),
        }
    }
    Ok(hops)
}

/// A domain list.
fn list_in(row: &Row<'_>) -> rusqlite::Result<ListRow> {
    Ok(ListRow {
        list: row.get(0)?,
        next_hop: text_in(row, 1).unwrap_or_default(),
        handler: number_in(row, 2),
        messages: number_in(row, 3).unwrap_or(0),
        recipients: number_in(row, 4).unwrap_or(0),
        unsettled: number_in(row, 5).unwrap_or(0),
        made: Stamp(row.get(6)?),
    })
}

/// A next hop, and how it backs off.
fn hop_in(row: &Row<'_>) -> rusqlite::Result<HopRow> {
    let error = text_in(row, 3);
    let error_at: Option<i64> = row.get(4)?;
    let back_off = match (number_in(row, 7).unwrap_or(0), row.get(8)?, row.get(9)?) {
        (failures, Some(since), Some(next_probe)) if failures > 0 => Some(BackOff {
            since: Stamp(since),
            failures,
            next_probe: Stamp(next_probe),
        }),
        _ => None,
    };
    Ok(HopRow {
        hop: HopId(row.get(6)?),
        next_hop: text_in(row, 0).unwrap_or_default(),
        due: row.get::<_, Option<i64>>(1)?.map(Stamp),
        lists: row.get(2)?,
        last_error: error.zip(error_at.map(Stamp)),
        used: Stamp(row.get(5)?),
        back_off,
    })
}

/// A next hop, with what waits for it and is on no list.
pub(super) fn hop_row(row: &Row<'_>) -> rusqlite::Result<(HopId, QueueRow)> {
    let waiting = QueueRow {
        next_hop: text_in(row, 1).unwrap_or_default(),
        recipients: number_in(row, 2).unwrap_or(0),
        locked: 0,
        oldest: MessageId(row.get::<_, Option<i64>>(3)?.unwrap_or(0)),
        next_attempt: row.get::<_, Option<i64>>(4)?.map(Stamp),
        last_error: text_in(row, 5),
        failures: number_in(row, 6).unwrap_or(0),
    };
    Ok((HopId(row.get(0)?), waiting))
}

/// The oldest message that waits for a next hop. Where it does not answer that is the one that was the oldest, `known`,
/// and still is; where that has gone, there is a row in an index to be walked through.
fn oldest(db: &Connection, hop: HopId, known: MessageId) -> Result<MessageId, QueueError> {
    // The message is what leads there: the plus keeps the row of the next hop out of it.
    let still = "SELECT 1 FROM recipient WHERE message = ? AND +hop = ? AND state = 2 AND list IS NULL";
    if ledger::row(db, still, (known.0, hop.0), |_| Ok(()))?.is_some() {
        return Ok(known);
    }
    let first = "SELECT min(message) FROM recipient WHERE hop = ? AND state = 2 AND list IS NULL";
    let first: Option<Option<i64>> = ledger::row(db, first, [hop.0], |row| row.get(0))?;
    Ok(first.flatten().map_or(known, MessageId))
}
