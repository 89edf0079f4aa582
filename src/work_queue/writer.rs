//! The one writer of `queue.db`: takes what waits, does it in one transaction, commits, answers.
//!
//! Whatever arrives while a commit is on its way to the disk goes into the next one: group commit without a
//! timer. Nobody is answered before the commit that holds the work has returned. Never knows what a verb does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::account;
use super::error::QueueError;
use super::hopper::{Hopper, Pending, Teller};
use super::id::Stamps;
use super::ledger::{Counts, Ledger};
use super::place::Place;
use super::store::cut_log;
use crate::tasks::bell::Bell;

/// At most this many pieces of work share one commit.
const GROUP: usize = 512;

/// Counters go to the disk this often; every commit would be dearer for a page.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What a crash of the machine may do to what has been committed. A crash of the process does nothing to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Nothing: it is on the disk before anybody hears of the commit, and all that was committed before it.
    Synced,
    /// It may be undone, as if it had not been done yet. Only for moves between states in which a message waits, of
    /// which nobody outside has been told, and which are made again without harm.
    Unsynced,
}

/// What the writer sees of a verb.
pub(super) trait Work: Send {
    /// What has to be true of its commit.
    fn durability(&self) -> Durability;
    /// The bells that it rings.
    fn kicks(&self) -> &[Bell];
    /// Does the work, in the transaction that is open.
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<(), QueueError>;
    /// Its commit has returned.
    fn committed(self: Box<Self>);
    /// Nothing of it was done.
    fn failed(self: Box<Self>, error: QueueError);
}

/// Work in a box that answers: see [`Pending`]. `kicks` ring as soon as it has been committed.
pub(super) fn work<T: Send + 'static>(
    durability: Durability,
    kicks: Vec<Bell>,
    verb: impl FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
) -> (Box<dyn Work>, Pending<T>) {
    let (answer, pending) = Teller::new();
    (
        Box::new(Verb {
            durability,
            kicks,
            verb,
            outcome: None,
            answer,
        }),
        pending,
    )
}

/// Work that somebody who rests has left with the writer: to be done in the first transaction that rings his bell.
pub(super) struct StandBy {
    /// His bell.
    pub(super) bell: Bell,
    /// What he would do then.
    pub(super) work: Box<dyn Work>,
}

struct Verb<F, T> {
    durability: Durability,
    kicks: Vec<Bell>,
    verb: F,
    outcome: Option<T>,
    answer: Teller<T>,
}

impl<F, T> Work for Verb<F, T>
where
    F: FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send,
    T: Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn kicks(&self) -> &[Bell] {
        &self.kicks
    }

    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<(), QueueError> {
        self.outcome = Some((self.verb)(ledger)?);
        Ok(())
    }

    fn committed(self: Box<Self>) {
        // Before the answer: whoever waits for it may run in place of this thread.
        self.kicks.iter().for_each(Bell::kick);
        self.answer.tell(self.outcome.ok_or(QueueError::Stopped));
    }

    fn failed(self: Box<Self>, error: QueueError) {
        self.answer.tell(Err(error));
    }
}

/// The writer, in its thread.
pub(super) struct Writer {
    /// The only connection that writes.
    pub(super) db: Connection,
    /// Where it is.
    pub(super) place: Arc<Place>,
    /// Gives the stamps of history.
    pub(super) stamps: Arc<Stamps>,
    /// What waits to be done.
    pub(super) work: Arc<Hopper<Box<dyn Work>>>,
    /// What has been left to be done when a bell rings.
    pub(super) stand_by: Arc<Mutex<Option<StandBy>>>,
    /// Whoever removes content files that nobody needs any more.
    pub(super) sweeper: Sender<Vec<String>>,
    /// What has been counted, and is not in the database yet.
    pub(super) uncounted: Arc<Mutex<Counts>>,
    /// How `db` commits at present.
    pub(super) durability: Durability,
    /// Content whose message leaves stays, at present: the database is damaged where it is.
    pub(super) spares_content: bool,
}

impl Writer {
    /// Writes until the hopper is closed and empty, then closes the database.
    pub(super) fn run(mut self) {
        let mut count_at: Option<Instant> = None;
        while let Some(mut group) = self.work.take(GROUP, count_at) {
            let counts = match count_at {
                Some(at) if at <= Instant::now() => std::mem::take(&mut *self.uncounted.lock()),
                _ => Counts::new(),
            };
            let counted = !counts.is_empty();
            group.extend(self.called(&group));
            let mut done = self.in_one_transaction(&mut group, counts);
            if done.as_ref().is_err_and(QueueError::is_full) && self.make_room() {
                done = self.in_one_transaction(&mut group, Counts::new());
            }
            match done {
                Ok(()) => group.into_iter().for_each(Work::committed),
                // Whoever has it locked has it locked for all; each would wait as long again.
                Err(error) if error.is_locked() => {
                    log::error!("{error}; {} pieces of work refused", group.len());
                    group.into_iter().for_each(|work| work.failed(QueueError::Locked));
                }
                Err(error) => self.one_by_one(group, error),
            }
            if counted || count_at.is_none() {
                count_at = (!self.uncounted.lock().is_empty()).then(|| Instant::now() + COUNT_EVERY);
            }
        }
        let counts = std::mem::take(&mut *self.uncounted.lock());
        // The end must not wait for long: it is only about counters.
        let _ = self.db.busy_timeout(Duration::from_secs(1));
        let (close, _) = work(Durability::Unsynced, Vec::new(), account::close);
        if let Err(error) = self.in_one_transaction(&mut [close], counts) {
            log::error!("queue.db: the statistics could not be written: {error}");
        }
        if let Err((_, error)) = self.db.close() {
            log::error!("queue.db: can not be closed: {error}");
        }
    }

    /// The work that stands by, if a bell is rung for which it does.
    fn called(&self, group: &[Box<dyn Work>]) -> Option<Box<dyn Work>> {
        let rings = |stand_by: &mut StandBy| {
            let mut kicks = group.iter().flat_map(|work| work.kicks());
            kicks.any(|kick| kick.is(&stand_by.bell))
        };
        self.stand_by.lock().take_if(rings).map(|called| called.work)
    }

    /// The disk is full, and the write-ahead log may be what fills it: brings it home, and gives its space back;
    /// whether that could be done.
    fn make_room(&self) -> bool {
        matches!(cut_log(&self.db), Ok(true))
    }

    /// One that fails fails nobody else: each gets a transaction of its own.
    fn one_by_one(&mut self, group: Vec<Box<dyn Work>>, error: QueueError) {
        let mut known = (group.len() == 1).then_some(error);
        for mut work in group {
            let alone = std::slice::from_mut(&mut work);
            let mut done = match known.take() {
                Some(error) => Err(error),
                None => self.in_one_transaction(alone, Counts::new()),
            };
            if let Err(error) = &done
                && error.is_damage()
            {
                log::error!("{error}; tried again without removing content");
                self.spares_content = true;
                done = self.in_one_transaction(alone, Counts::new());
                self.spares_content = false;
            }
            match done {
                Ok(()) => work.committed(),
                Err(error) => {
                    log::error!("{error}");
                    work.failed(error);
                }
            }
        }
    }

    fn in_one_transaction(&mut self, group: &mut [Box<dyn Work>], counts: Counts) -> Result<(), QueueError> {
        self.commit_as(
            if group.iter().all(|work| work.durability() == Durability::Unsynced) {
                Durability::Unsynced
            } else {
                Durability::Synced
            },
        )?;
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut ledger = Ledger::new(&self.db, &self.stamps).sparing_content(self.spares_content);
            for work in group.iter_mut() {
                work.run(&mut ledger)?;
            }
            ledger.write_counts(&counts)?;
            self.db.prepare_cached("COMMIT")?.execute([])?;
            Ok(ledger.finish())
        }));
        match attempt.unwrap_or(Err(QueueError::Panicked)) {
            Ok((counts, discarded)) => {
                // Before anybody is answered: what went into a file that nobody will find is not acknowledged.
                self.place.look();
                self.count(counts);
                debug_assert!(
                    discarded.is_empty() || self.durability == Durability::Synced,
                    "the row of a file that is gone may come back"
                );
                if !discarded.is_empty() {
                    // A sweeper that has more than enough to do leaves them to the next sweep of the folder.
                    let _ = self.sweeper.try_send(discarded);
                }
                Ok(())
            }
            Err(error) => {
                // What was written over can not be written to either.
                self.place.look();
                self.count(counts);
                if !self.db.is_autocommit()
                    && let Err(error) = self.db.execute_batch("ROLLBACK")
                {
                    log::error!("queue.db: can not roll back: {error}");
                }
                Err(error)
            }
        }
    }

    /// Lets commits be as durable as `durability` says, from the next one on. In WAL mode FULL syncs the log with each
    /// commit, and with it all that stands before it; NORMAL leaves that to the next such commit or checkpoint.
    fn commit_as(&mut self, durability: Durability) -> Result<(), QueueError> {
        if self.durability != durability {
            let synchronous = match durability {
                Durability::Synced => "FULL",
                Durability::Unsynced => "NORMAL",
            };
            self.db.pragma_update(None, "synchronous", synchronous)?;
            self.durability = durability;
        }
        Ok(())
    }

    fn count(&self, counts: Counts) {
        let mut uncounted = self.uncounted.lock();
        for (name, by) in counts {
            *uncounted.entry(name).or_default() += by;
        }
    }
}
