//! The one writer: takes what waits, does it in one transaction, commits, answers.
//!
//! Whatever arrives while a commit is on its way to the disk goes into the next one: group commit without a
//! timer. Nobody is answered before the commit that holds the work has returned. Never knows what a verb does, nor what it
//! is written to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::QueueError;
use super::hopper::{Pending, Teller};
use super::intake::Intake;
use super::ledger::Counts;
use crate::sync::{now, thread};
use crate::tasks::bell::Bell;

/// At most this many pieces of work share one commit.
const GROUP: usize = 512;

/// Counters go to the disk this often; every commit would be dearer for a page.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How nice a thread is to others that goes first (setpriority(2)).
const PRIORITY: i32 = -15;

/// What a crash of the machine may do to what has been committed. A crash of the process does nothing to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Nothing: it is on the disk before anybody hears of the commit, and all that was committed before it.
    Synced,
    /// It may be undone, as if it had not been done yet. Only for moves between states in which a message waits, of
    /// which nobody outside has been told, and which are made again without harm.
    Unsynced,
}

/// What is written to, by one writer alone.
pub(super) trait Book: 'static {
    /// What a verb writes with, in a transaction that is open.
    type Ledger<'l>;

    /// One transaction: does `work`, writes `counts` down, and commits as durably as it is said. Gives what was counted
    /// meanwhile.
    ///
    /// # Errors
    /// When any of it failed, or panicked: nothing of it was done.
    fn write(
        &mut self,
        durability: Durability,
        counts: &Counts,
        work: &mut dyn FnMut(&mut Self::Ledger<'_>) -> Result<(), QueueError>,
    ) -> Result<Counts, QueueError>;

    /// Everybody has been answered: now is the time for what nobody waits for.
    fn tidy_up(&mut self);

    /// Makes room where there is none left; whether that could be done.
    fn make_room(&mut self) -> bool;

    /// Content whose message leaves stays, from now on: the book is damaged where it is.
    fn spare_content(&mut self, spares: bool);

    /// Writes `counts` down, and that it is closed: both or neither. Nothing more is written.
    fn close(self, counts: &Counts);
}

/// A verb, as the writer has it in hand.
pub(super) type Piece<B> = Box<dyn Work<B>>;

/// What the writer sees of a verb.
pub(super) trait Work<B: Book>: Send {
    /// What has to be true of its commit.
    fn durability(&self) -> Durability;
    /// The bells that it rings.
    fn kicks(&self) -> &[Bell];
    /// The bell of the task for which it stands, if what was done in its transaction leaves nothing for that.
    fn is_through_for(&self) -> Option<&Bell> {
        None
    }
    /// Does the work, in the transaction that is open.
    fn run(&mut self, ledger: &mut B::Ledger<'_>) -> Result<(), QueueError>;
    /// Its commit has returned, and nobody has heard of it yet.
    fn at_once(&mut self) {}
    /// Its commit has returned.
    fn committed(self: Box<Self>);
    /// Nothing of it was done.
    fn failed(self: Box<Self>, error: QueueError);
}

/// Work in a box that answers: see [`Pending`]. `kicks` ring as soon as it has been committed.
pub(super) fn work<B: Book, T: Send + 'static>(
    durability: Durability,
    kicks: Vec<Bell>,
    verb: impl FnMut(&mut B::Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
) -> (Piece<B>, Pending<T>) {
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

struct Verb<F, T> {
    durability: Durability,
    kicks: Vec<Bell>,
    verb: F,
    outcome: Option<T>,
    answer: Teller<T>,
}

impl<B, F, T> Work<B> for Verb<F, T>
where
    B: Book,
    F: FnMut(&mut B::Ledger<'_>) -> Result<T, QueueError> + Send,
    T: Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn kicks(&self) -> &[Bell] {
        &self.kicks
    }

    fn run(&mut self, ledger: &mut B::Ledger<'_>) -> Result<(), QueueError> {
        self.outcome = Some((self.verb)(ledger)?);
        Ok(())
    }

    fn committed(self: Box<Self>) {
        self.answer.tell(self.outcome.ok_or(QueueError::Stopped));
    }

    fn failed(self: Box<Self>, error: QueueError) {
        self.answer.tell(Err(error));
    }
}

/// Where there are more threads with something to do than cores, this one goes first from now on. Who may not ask for that
/// has it no worse than before.
pub(super) fn go_first() {
    let _ = rustix::process::setpriority_process(None, PRIORITY);
}

/// The writer, in its thread.
pub(super) struct Writer<B: Book> {
    /// What it writes to.
    pub(super) book: B,
    /// Where its work comes from.
    pub(super) intake: Arc<Intake<B>>,
}

impl<B: Book> Writer<B> {
    /// Writes until the hopper is closed and empty, or closed and the book locked; then closes the book.
    pub(super) fn run(mut self) {
        // Everybody waits for it.
        go_first();
        let mut count_at: Option<Instant> = None;
        while let Some(mut group) = self.intake.hopper().take(GROUP, count_at) {
            let counts = match count_at {
                Some(at) if at <= now() => std::mem::take(&mut *self.intake.uncounted().lock()),
                _ => Counts::new(),
            };
            let counted = !counts.is_empty();
            group.extend(self.intake.called(&group));
            let is_crowd = group.len() > 1;
            let mut done = self.in_one_transaction(&mut group, counts);
            if done.as_ref().is_err_and(QueueError::is_full) && self.book.make_room() {
                done = self.in_one_transaction(&mut group, Counts::new());
            }
            match done {
                Ok(()) => self.answer(group),
                // Whoever has it locked has it locked for all; each would wait as long again. At the end nobody may ask
                // again and again for it.
                Err(error) if error.is_locked() => {
                    group.extend(self.intake.hopper().give_up());
                    log::error!("{error}; {} pieces of work refused", group.len());
                    group.into_iter().for_each(|work| work.failed(QueueError::Locked));
                }
                Err(error) => self.one_by_one(group, error),
            }
            self.book.tidy_up();
            if is_crowd {
                // Those who were answered bring more: the more of them come first, the more share the next commit.
                thread::yield_now();
            }
            if counted || count_at.is_none() {
                let is_through = self.intake.uncounted().lock().is_empty();
                count_at = (!is_through).then(|| now() + COUNT_EVERY);
            }
        }
        let counts = std::mem::take(&mut *self.intake.uncounted().lock());
        self.book.close(&counts);
    }

    /// One that fails fails nobody else: each gets a transaction of its own.
    fn one_by_one(&mut self, group: Vec<Piece<B>>, error: QueueError) {
        // What a disk can not read SQLite takes for damage, and it may read it a moment later: that is tried again as it is.
        let mut known = (group.len() == 1 && !error.is_damage()).then_some(error);
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
                self.book.spare_content(true);
                done = self.in_one_transaction(alone, Counts::new());
                self.book.spare_content(false);
            }
            match done {
                Ok(()) => self.answer(vec![work]),
                Err(error) => {
                    log::error!("{error}");
                    work.failed(error);
                }
            }
        }
    }

    /// What a group did is committed.
    fn answer(&self, group: Vec<Piece<B>>) {
        self.intake.metrics().group.add(group.len() as u64);
        answer(group);
    }

    fn in_one_transaction(&mut self, group: &mut [Piece<B>], counts: Counts) -> Result<(), QueueError> {
        let durability = if group.iter().all(|work| work.durability() == Durability::Unsynced) {
            Durability::Unsynced
        } else {
            Durability::Synced
        };
        let mut work = |ledger: &mut B::Ledger<'_>| group.iter_mut().try_for_each(|work| work.run(ledger));
        let (counts, written) = match self.book.write(durability, &counts, &mut work) {
            Ok(counted) => (counted, Ok(())),
            // They are to be written another time.
            Err(error) => (counts, Err(error)),
        };
        let mut uncounted = self.intake.uncounted().lock();
        for (name, by) in counts {
            *uncounted.entry(name).or_default() += by;
        }
        written
    }
}

/// Rings, and answers: what a group did is committed. The bell for which a deputy stands does not ring for what that has
/// done already.
fn answer<B: Book>(mut group: Vec<Piece<B>>) {
    group.iter_mut().for_each(|work| work.at_once());
    let through = group.iter().find_map(|work| work.is_through_for()).cloned();
    let is_done = |bell: &&Bell| through.as_ref().is_some_and(|done| done.is(bell));
    let kicks = group.iter().flat_map(|work| work.kicks());
    // Before the answers: whoever waits for one may run in place of this thread.
    kicks.filter(|bell| !is_done(bell)).for_each(Bell::kick);
    group.into_iter().for_each(|work| work.committed());
}
