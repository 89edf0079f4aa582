//! What a verb of the work queue writes with: the open transaction, and what goes with it.
//!
//! Bound parameters only: SQL is never put together from values.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, Params, Row, params};

use super::broken::Broken;
use super::error::QueueError;
use super::failures::{self, Failure};
use super::id::{MessageId, Stamps};
use crate::clock::Stamp;

/// The marker of the last stamp that was given, as far as it was written down.
pub(super) const LAST_STAMP: &str = "last stamp";

/// The marker of the latest that the clock showed, as far as that was not made up for.
pub(super) const LAST_MOMENT: &str = "last moment";

/// The marker of how far the clock was certain when that was last written down.
pub(super) const LAST_CERTAIN: &str = "last certain moment";

/// Counters of `show stat`, by name.
pub(super) type Counts = HashMap<&'static str, i64>;

/// The transaction that a verb works in.
pub(super) struct Ledger<'w> {
    db: &'w Connection,
    stamps: &'w Stamps,
    broken: &'w Broken,
    counts: Counts,
    discarded: Vec<String>,
    failed: RefCell<VecDeque<Failure>>,
    spares_content: bool,
}

impl<'w> Ledger<'w> {
    /// For the transaction that is open on `db`.
    pub(super) fn new(db: &'w Connection, stamps: &'w Stamps, broken: &'w Broken) -> Ledger<'w> {
        Ledger {
            db,
            stamps,
            broken,
            counts: Counts::new(),
            discarded: Vec::new(),
            failed: RefCell::default(),
            spares_content: false,
        }
    }

    /// Lets the content of messages that leave stay in the database if `spares` is said: where the pages that hold it
    /// are damaged, what became of its message shall be recorded all the same.
    pub(super) fn sparing_content(mut self, spares: bool) -> Ledger<'w> {
        self.spares_content = spares;
        self
    }

    /// Whether content stays in the database whose message leaves.
    pub(super) fn spares_content(&self) -> bool {
        self.spares_content
    }

    /// Runs one statement with bound parameters; gives the number of rows that it changed.
    pub(super) fn run(&self, sql: &'static str, parameters: impl Params) -> Result<usize, QueueError> {
        Ok(self.db.prepare_cached(sql)?.execute(parameters)?)
    }

    /// The rows that a query gives.
    pub(super) fn rows<T>(
        &self,
        sql: &'static str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, QueueError> {
        rows(self.db, sql, parameters, read)
    }

    /// The first row that a query gives.
    pub(super) fn row<T>(
        &self,
        sql: &'static str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, QueueError> {
        row(self.db, sql, parameters, read)
    }

    /// The database itself, for what has no bound on its rows.
    pub(super) fn db(&self) -> &Connection {
        self.db
    }

    /// The messages that are passed over.
    pub(super) fn broken(&self) -> &'w Broken {
        self.broken
    }

    /// The present moment, by the database's own rising clock.
    pub(super) fn now(&self) -> Stamp {
        self.stamps.next()
    }

    /// The present moment as the clock shows it: what is due goes by it.
    pub(super) fn moment(&self) -> Stamp {
        self.stamps.moment()
    }

    /// A row of history: `what` happened to message `id`, or to its recipient `n`.
    pub(super) fn record(
        &self,
        id: MessageId,
        n: Option<u32>,
        what: &'static str,
        text: &str,
    ) -> Result<Stamp, QueueError> {
        loop {
            let stamp = self.stamps.next();
            // After a crash, with the clock set back, a stamp may come a second time: the next one is as good.
            let written = self.run(
                "INSERT INTO event (message, stamp, what, n, text) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (id.0, stamp.0, what, n, text),
            )?;
            if written > 0 {
                failures::note(&mut self.failed.borrow_mut(), || (stamp, id, n), what, text);
                return Ok(stamp);
            }
        }
    }

    /// The first rows of history of message `id`, which comes just now: what happened to it as a whole, in order. In one
    /// statement they cost hardly more than one of them. There are no others yet whose stamps they could meet.
    pub(super) fn record_first(
        &self,
        id: MessageId,
        [first, second, third]: [(&'static str, &str); 3],
    ) -> Result<(), QueueError> {
        self.run(
            "INSERT INTO event (message, stamp, what, text) VALUES (?1, ?2, ?3, ?4), (?1, ?5, ?6, ?7), (?1, ?8, ?9, ?10)",
            params![
                id.0,
                self.stamps.next().0,
                first.0,
                first.1,
                self.stamps.next().0,
                second.0,
                second.1,
                self.stamps.next().0,
                third.0,
                third.1,
            ],
        )?;
        Ok(())
    }

    /// Adds to a counter of `show stat`.
    pub(super) fn count(&mut self, name: &'static str, by: i64) {
        *self.counts.entry(name).or_default() += by;
    }

    /// Once this transaction is committed, nobody needs this content file any more.
    pub(super) fn discard(&mut self, file: Option<String>) {
        self.discarded.extend(file);
    }

    /// Adds counters up in the database.
    pub(super) fn write_counts(&self, counts: &Counts) -> Result<(), QueueError> {
        if !counts.is_empty() {
            // With the clock set back and the history forgotten, no ID shall be given a second time.
            self.mark(LAST_STAMP, self.now())?;
            self.mark_moment()?;
        }
        for (name, by) in counts {
            self.run(
                "INSERT INTO statistic (name, value) VALUES (?, ?) \
                 ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (name, by),
            )?;
        }
        Ok(())
    }

    /// Sets a counter of `show stat` in the database.
    pub(super) fn set_count(&self, name: &'static str, value: i64) -> Result<(), QueueError> {
        self.run(
            "INSERT INTO statistic (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )?;
        Ok(())
    }

    /// Writes down what the clock shows, and how far that is certain: the next start knows by the one whether it was set
    /// back meanwhile, and by the other how far to believe it.
    pub(super) fn mark_moment(&self) -> Result<(), QueueError> {
        self.run(
            "INSERT INTO marker (name, value) VALUES (?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            (LAST_MOMENT, self.moment().0),
        )?;
        self.mark(LAST_CERTAIN, self.stamps.certain())
    }

    /// Writes down how far a task, or the clock, has come.
    pub(super) fn mark(&self, name: &'static str, reached: Stamp) -> Result<(), QueueError> {
        self.run(
            "INSERT INTO marker (name, value) VALUES (?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
            (name, reached.0),
        )?;
        Ok(())
    }

    /// What the transaction leaves to be done after its commit: counters, files to be removed, and failures to be told of.
    pub(super) fn finish(self) -> (Counts, Vec<String>, VecDeque<Failure>) {
        (self.counts, self.discarded, self.failed.into_inner())
    }
}

/// The rows that a query gives.
pub(super) fn rows<T>(
    db: &Connection,
    sql: &'static str,
    parameters: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, QueueError> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, read)?;
    Ok(rows.collect::<rusqlite::Result<Vec<T>>>()?)
}

/// The first row that a query gives.
pub(super) fn row<T>(
    db: &Connection,
    sql: &'static str,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, QueueError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(parameters)?;
    Ok(found.next()?.map(&mut read).transpose()?)
}
