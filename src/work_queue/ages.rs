//! How old what waits is, by next hop: what `queue age` shows. Reads, and changes nothing.

use super::WorkQueue;
use super::damage::text_in;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger;
use super::moves::waiting_behind;
use crate::clock::Stamp;
use crate::domain_list::list::HopId;

/// Ages by which recipients are counted, in minutes: those that are younger than each of these, and no younger than the
/// one before; and those that are older than the last.
pub const AGES: [u64; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1280];

/// The recipients that wait for one next hop, or are on their way there, by the age of their message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgeRow {
    /// The next hop, as it is shown.
    pub next_hop: String,
    /// How many, by [`AGES`].
    pub counts: [u64; AGES.len() + 1],
    /// All their ages added up, in seconds.
    pub seconds: u64,
    /// The message that arrived first.
    pub oldest: Option<MessageId>,
}

/// Recipients that are looked at in one go: nobody's work waits for the end of that.
const STEP: usize = 5000;

impl AgeRow {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn count(&mut self, id: MessageId, now: Stamp) {
        let seconds = now.since(id.arrived()).as_secs();
        self.seconds = self.seconds.saturating_add(seconds);
        self.oldest = Some(self.oldest.map_or(id, |oldest| oldest.min(id)));
        let minutes = seconds / 60;
        let place = AGES.iter().position(|age| minutes < *age);
        self.counts[place.unwrap_or(AGES.len())] += 1;
    }
}

impl WorkQueue {
    /// The ages of what waits for each next hop, or is on its way there; those with most come first. Looks at all of it,
    /// some at a time: nobody waits for it.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn ages(&self) -> Result<Vec<AgeRow>, QueueError> {
        let now = self.now();
        let hops: Vec<(HopId, String)> = self.store.read(|db| {
            let sql = "SELECT id, name FROM next_hop WHERE waiting > 0 \
                       OR EXISTS (SELECT 1 FROM domain_list l WHERE l.hop = next_hop.id)";
            ledger::rows(db, sql, [], |row| {
                Ok((HopId(row.get(0)?), text_in(row, 1).unwrap_or_default()))
            })
        })?;
        let mut rows = Vec::new();
        for (hop, next_hop) in hops {
            let mut row = AgeRow {
                next_hop,
                ..AgeRow::default()
            };
            self.count_waiting(hop, &mut row, now)?;
            self.count_listed(hop, &mut row, now)?;
            if row.total() > 0 {
                rows.push(row);
            }
        }
        rows.sort_by(|one, other| {
            other
                .total()
                .cmp(&one.total())
                .then(one.next_hop.cmp(&other.next_hop))
        });
        Ok(rows)
    }

    /// Those that are on no list. The index alone is read.
    fn count_waiting(&self, hop: HopId, counted: &mut AgeRow, now: Stamp) -> Result<(), QueueError> {
        let mut from = (i64::MIN, 0, 0);
        loop {
            let places = self.store.read(|db| waiting_behind(db, hop, from, STEP))?;
            for (_, id, _) in &places {
                counted.count(MessageId(*id), now);
            }
            match places.last() {
                Some(last) if places.len() == STEP && *last > from => from = *last,
                _ => return Ok(()),
            }
        }
    }

    /// Those on lists.
    fn count_listed(&self, hop: HopId, counted: &mut AgeRow, now: Stamp) -> Result<(), QueueError> {
        self.store.read(|db| {
            let lists: Vec<i64> =
                ledger::rows(db, "SELECT id FROM domain_list WHERE hop = ?", [hop.0], |row| {
                    row.get(0)
                })?;
            for list in lists {
                let sql = "SELECT message FROM recipient WHERE list = ?";
                for id in ledger::rows(db, sql, [list], |row| row.get(0).map(MessageId))? {
                    counted.count(id, now);
                }
            }
            Ok(())
        })
    }
}
