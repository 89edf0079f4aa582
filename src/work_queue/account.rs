//! The account: whatever recipient was accepted is somewhere, or came to an end that is known.
//!
//! By the rows it is exact at every moment: what housekeeping forgets is added up in the transaction that forgets it.
//! The counters of `show stat` say the same of what they counted. They are written once a second, so that a crash loses
//! those of its last second; the next opening counts anew, where that is done in a moment, and otherwise remembers that
//! there was a crash.

use std::collections::HashMap;

use rusqlite::Connection;

use super::damage::text_in;
use super::error::QueueError;
use super::inspection::Census;
use super::ledger::{Counts, Ledger, row, rows};
use super::soundness::state;
use super::states::State;
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};

/// The marker of an MTA that has the database open, or had when it crashed.
const RUNNING: &str = "running";

/// Crashes after which the counters were not counted anew.
const CRASHES: &str = "Account.Crashes";

/// After a crash the counters are counted anew if there are no more recipients than this: that is done in a moment.
const MOST_COUNTED: usize = if cfg!(test) { 30 } else { 500_000 };

/// Each kind of entry: its counter, and the sum of what of it was forgotten.
const ENTRIES: [(Entry, &str, &str); 7] = [
    (
        Entry::Accepted,
        "Mail.AcceptedRecipients",
        "Forgotten.AcceptedRecipients",
    ),
    (
        Entry::OfAliases,
        "Mail.RecipientsOfAliases",
        "Forgotten.RecipientsOfAliases",
    ),
    (
        Entry::End(State::Delivered),
        "Mail.Delivered",
        "Forgotten.Delivered",
    ),
    (
        Entry::End(State::Transmitted),
        "Mail.TransferredRecipients",
        "Forgotten.TransferredRecipients",
    ),
    (Entry::End(State::Expanded), "Mail.Expanded", "Forgotten.Expanded"),
    (Entry::End(State::Failed), "Mail.Failed", "Forgotten.Failed"),
    (Entry::End(State::Removed), "Mail.Removed", "Forgotten.Removed"),
];

/// What is entered in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Named by a client, a program or drt.
    Accepted,
    /// Came of an alias.
    OfAliases,
    /// Came to this end.
    End(State),
}

/// An entry, by what the database holds and by what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is entered.
    pub entry: Entry,
    /// By the rows, and what was forgotten of them.
    pub rows: i64,
    /// By the counter of `show stat`, as far as it is on the disk.
    pub counted: i64,
}

/// The account of a work queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What came in, and what ended.
    pub lines: Vec<Line>,
    /// Recipients that wait: for conversion, for transmission, for a report.
    pub waiting: i64,
    /// Recipients that were put aside.
    pub held: i64,
    /// Dead recipients.
    pub dead: i64,
    /// Of all that came in: so many were forgotten by housekeeping since.
    pub forgotten: i64,
    /// Crashes of which the counters lack the last second.
    pub crashes: i64,
    /// An MTA has the queue open, or crashed: the counters on the disk are up to a second behind.
    pub is_open: bool,
}

impl Account {
    /// Draws the account up, after a walk through all messages in the same transaction that counted these.
    pub(super) fn of(db: &Connection, census: &Census) -> Result<Account, QueueError> {
        let counters: HashMap<String, i64> = rows(db, "SELECT name, value FROM statistic", [], |row| {
            Ok((text_in(row, 0).unwrap_or_default(), row.get(1)?))
        })?
        .into_iter()
        .collect();
        let counter = |name: &str| counters.get(name).copied().unwrap_or(0);
        let lines = ENTRIES.map(|(entry, counted, forgotten)| Line {
            entry,
            rows: counter(forgotten).saturating_add(match entry {
                Entry::Accepted => census.accepted,
                Entry::OfAliases => census.of_aliases,
                Entry::End(state) => census.of(state),
            }),
            counted: counter(counted),
        });
        let waiting = [
            State::PendingConversion,
            State::PendingXmit,
            State::LockedForXmit,
            State::PendingReport,
        ];
        Ok(Account {
            lines: lines.to_vec(),
            waiting: waiting.map(|state| census.of(state)).iter().sum(),
            held: census.of(State::Held),
            dead: census.of(State::Dead),
            forgotten: ENTRIES[..2].iter().fold(0_i64, |sum, (_, _, forgotten)| {
                sum.saturating_add(counter(forgotten))
            }),
            crashes: counter(CRASHES),
            is_open: is_running(db)?,
        })
    }

    /// How many came in, less all that are accounted for; by the rows and by the counters. Numbers that somebody else
    /// wrote may be any: it stays at the far end rather than wrapping.
    #[must_use]
    pub fn missing(&self) -> (i64, i64) {
        let here = self.waiting + self.held + self.dead;
        let sum = |of: fn(&Line) -> i64| {
            let add = |sum: i64, line: &Line| match line.entry {
                Entry::End(_) => sum.saturating_sub(of(line)),
                Entry::Accepted | Entry::OfAliases => sum.saturating_add(of(line)),
            };
            self.lines.iter().fold(0_i64, add).saturating_sub(here)
        };
        (sum(|line| line.rows), sum(|line| line.counted))
    }

    /// Whether nobody is missing, and nobody there who never came.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.missing().0 == 0
    }

    /// Whether each counter says what the rows say.
    #[must_use]
    pub fn counters_agree(&self) -> bool {
        self.lines.iter().all(|line| line.rows == line.counted)
    }

    /// Whether it balances, and the counters agree or it is known why they do not.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.balances() && (self.counters_agree() || self.crashes > 0 || self.is_open)
    }
}

/// What an opening finds of the one before it.
#[derive(Debug)]
pub(super) enum Before {
    /// It was closed in good order.
    Closed,
    /// It crashed, or was of a version that kept no account; so the counters are to be these.
    Counted {
        /// By the rows alone.
        counted: Counts,
        /// The account begins.
        begins: bool,
    },
    /// It crashed, and the recipients are too many to be counted, or can not be read.
    Crashed,
}

/// Looks how the opening before this one ended, and counts anew if that is due.
pub(super) fn before(db: &Connection) -> Result<Before, QueueError> {
    let has_begun = "SELECT 1 FROM statistic WHERE name = ?";
    let begins = row(db, has_begun, [ENTRIES[0].1], |_| Ok(()))?.is_none();
    if !begins && !is_running(db)? {
        return Ok(Before::Closed);
    }
    match count(db, if begins { usize::MAX } else { MOST_COUNTED }) {
        Ok(Some(counted)) => Ok(Before::Counted { counted, begins }),
        Ok(None) => Ok(Before::Crashed),
        // It is only about counters: whoever can be served is served.
        Err(error) if error.is_damage() => {
            log::error!("the recipients could not be counted: {error}");
            Ok(Before::Crashed)
        }
        Err(error) => Err(error),
    }
}

/// Notes in the database that it is open, and puts the counters right.
pub(super) fn open(ledger: &Ledger<'_>, before: &Before, now: Stamp) -> Result<(), QueueError> {
    ledger.mark(RUNNING, now)?;
    ledger.mark_moment()?;
    match before {
        Before::Closed => {}
        Before::Counted { counted, begins } => set_counters(ledger, counted, *begins)?,
        Before::Crashed => ledger.write_counts(&Counts::from([(CRASHES, 1)]))?,
    }
    reach(CrashPoint::OpeningWritten);
    Ok(())
}

/// Notes that it is closed, when that was, and that all counters are on the disk.
pub(super) fn close(ledger: &mut Ledger<'_>) -> Result<(), QueueError> {
    ledger.mark_moment()?;
    ledger.run("DELETE FROM marker WHERE name = ?", [RUNNING])?;
    reach(CrashPoint::ClosingWritten);
    Ok(())
}

/// Adds up what a message is about to be forgotten with.
pub(super) fn forget(ledger: &Ledger<'_>, message: i64, sums: &mut Counts) -> Result<(), QueueError> {
    let sql = "SELECT state, parent IS NOT NULL, count(*) FROM recipient WHERE message = ? GROUP BY 1, 2";
    let counted = ledger.rows(sql, [message], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?))
    })?;
    for (number, of_alias, count) in counted {
        for (_, _, forgotten) in entries(number, of_alias) {
            *sums.entry(forgotten).or_default() += count;
        }
    }
    Ok(())
}

/// The entries that a recipient stands in: how it came in, and how it ended.
fn entries(number: i64, of_alias: bool) -> impl Iterator<Item = (Entry, &'static str, &'static str)> {
    let came = if of_alias {
        Entry::OfAliases
    } else {
        Entry::Accepted
    };
    let end = state(number).map(Entry::End);
    ENTRIES
        .into_iter()
        .filter(move |(entry, ..)| *entry == came || Some(*entry) == end)
}

fn is_running(db: &Connection) -> Result<bool, QueueError> {
    let running = row(db, "SELECT 1 FROM marker WHERE name = ?", [RUNNING], |_| Ok(()))?;
    Ok(running.is_some())
}

/// What the counters would be by the rows alone; `None` if there are more than `most` recipients.
fn count(db: &Connection, most: usize) -> Result<Option<Counts>, QueueError> {
    let mut statement = db.prepare(include_str!("account.sql"))?;
    let mut recipients = statement.query([])?;
    let (mut groups, mut seen) = (HashMap::<(i64, bool), i64>::new(), 0);
    while let Some(row) = recipients.next()? {
        seen += 1;
        if seen > most {
            return Ok(None);
        }
        *groups.entry((row.get(0)?, row.get(1)?)).or_default() += 1;
    }
    let mut counted = Counts::new();
    for ((number, of_alias), count) in groups {
        for (_, counter, _) in entries(number, of_alias) {
            *counted.entry(counter).or_default() += count;
        }
    }
    Ok(Some(counted))
}

/// Sets each counter to what was counted and the forgotten sums. Where the account begins, a counter of earlier days
/// that has counted more is believed: that much was forgotten before.
fn set_counters(ledger: &Ledger<'_>, counted: &Counts, begins: bool) -> Result<(), QueueError> {
    let value = |name: &'static str| {
        let sql = "SELECT value FROM statistic WHERE name = ?";
        Ok::<i64, QueueError>(ledger.row(sql, [name], |row| row.get(0))?.unwrap_or(0))
    };
    let mut forgotten_before = 0;
    for (entry, counter, forgotten) in ENTRIES.into_iter().rev() {
        let here = counted.get(counter).copied().unwrap_or(0);
        if begins {
            let before = match entry {
                // Each of those that ended had come in.
                Entry::Accepted => forgotten_before,
                Entry::OfAliases => 0,
                Entry::End(_) => value(counter)?.saturating_sub(here).max(0),
            };
            forgotten_before = before.saturating_add(forgotten_before);
            set(ledger, forgotten, before)?;
        }
        set(ledger, counter, value(forgotten)?.saturating_add(here))?;
    }
    set(ledger, CRASHES, 0)
}

fn set(ledger: &Ledger<'_>, name: &'static str, value: i64) -> Result<(), QueueError> {
    if value == 0 && name != ENTRIES[0].1 {
        // What never happened need not be shown.
        ledger.run("UPDATE statistic SET value = 0 WHERE name = ?", [name])?;
        return Ok(());
    }
    ledger.set_count(name, value)
}
