//! Where work for the writer is handed in: to be done at once, or by a deputy as soon as its bell rings.
//!
//! Never knows what the work is, and never writes.

use std::sync::Arc;

use super::error::QueueError;
use super::hopper::{Hopper, Pending};
use super::ledger::Counts;
use super::writer::{Book, Durability, Piece, Work, work};
use crate::metrics::Metrics;
use crate::sync::Mutex;
use crate::tasks::bell::Bell;

/// What the writer and those who have work for it share.
pub(super) struct Intake<B: Book> {
    hopper: Hopper<Piece<B>>,
    stand_by: Mutex<StandBy<B>>,
    uncounted: Mutex<Counts>,
    metrics: Metrics,
}

/// The deputy that somebody who rests has left with the writer.
struct StandBy<B: Book> {
    last: Ticket,
    deputy: Option<Deputy<B>>,
}

/// What a deputy does in a transaction that is open: moves that need not be synced, and that may be done once more.
pub(super) type Deed<B> = dyn Fn(&mut <B as Book>::Ledger<'_>) -> Result<Deputized, QueueError> + Send + Sync;

/// What a deputy came to.
#[derive(Default)]
pub(super) struct Deputized {
    /// There is nothing left for the task for which it stands.
    pub(super) is_through: bool,
    /// To be done as soon as it is committed, without waiting for anything; whether it leaves nothing for the task.
    pub(super) then: Option<Box<dyn FnOnce() -> bool + Send>>,
}

/// Stands for the task with this bell in each transaction that rings it.
struct Deputy<B: Book> {
    ticket: Ticket,
    bell: Bell,
    deed: Arc<Deed<B>>,
}

/// A deputy that was called, as the writer has it in hand.
struct Called<B: Book> {
    bell: Bell,
    deed: Arc<Deed<B>>,
    done: Deputized,
}

impl<B: Book> Work<B> for Called<B> {
    fn durability(&self) -> Durability {
        Durability::Unsynced
    }

    fn kicks(&self) -> &[Bell] {
        std::slice::from_ref(&self.bell)
    }

    fn is_through_for(&self) -> Option<&Bell> {
        self.done.is_through.then_some(&self.bell)
    }

    fn run(&mut self, ledger: &mut B::Ledger<'_>) -> Result<(), QueueError> {
        self.done = Deputized::default();
        self.done = (self.deed)(ledger)?;
        Ok(())
    }

    fn at_once(&mut self) {
        if let Some(then) = self.done.then.take() {
            self.done.is_through &= then();
        }
    }

    fn committed(self: Box<Self>) {}

    fn failed(self: Box<Self>, _: QueueError) {
        // The task itself has more ways to deal with what is in the way.
        self.bell.kick();
    }
}

/// Names a deputy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl<B: Book> Intake<B> {
    /// An empty one, in which at most `most` pieces of work wait.
    pub(super) fn new(most: usize) -> Intake<B> {
        let stand_by = StandBy {
            last: Ticket::default(),
            deputy: None,
        };
        Intake {
            hopper: Hopper::new(most),
            stand_by: Mutex::new(stand_by),
            uncounted: Mutex::default(),
            metrics: Metrics::default(),
        }
    }

    /// What waits to be done.
    pub(super) fn hopper(&self) -> &Hopper<Piece<B>> {
        &self.hopper
    }

    /// What has been counted, and is not in the book yet.
    pub(super) fn uncounted(&self) -> &Mutex<Counts> {
        &self.uncounted
    }

    /// What is measured.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Hands `verb` to the writer. It may run more than once; only a run whose commit returned counts. `kicks` ring as
    /// soon as it has been committed.
    pub(super) fn put<T: Send + 'static>(
        &self,
        durability: Durability,
        kicks: Vec<Bell>,
        verb: impl FnMut(&mut B::Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Pending<T> {
        let (work, pending) = work(durability, kicks, verb);
        self.hopper.put(work);
        pending
    }

    /// Leaves a deputy with the writer for the task with this bell: `deed` is done in each transaction that rings it, last,
    /// and if that leaves nothing to do it does not ring. It replaces the one that was left before.
    pub(super) fn deputize(&self, bell: Bell, deed: Arc<Deed<B>>) -> Ticket {
        let mut stand_by = self.stand_by.lock();
        let ticket = Ticket(stand_by.last.0 + 1);
        stand_by.last = ticket;
        let before = stand_by.deputy.replace(Deputy { ticket, bell, deed });
        drop(stand_by);
        drop(before);
        ticket
    }

    /// Takes a deputy back, unless it was replaced. It may be at work still: what it holds is dropped when it is through.
    pub(super) fn withdraw(&self, ticket: Ticket) {
        let mut stand_by = self.stand_by.lock();
        let taken = stand_by.deputy.take_if(|deputy| deputy.ticket == ticket);
        drop(stand_by);
        drop(taken);
    }

    /// What the deputy will do, if a bell is rung for which it stands.
    pub(super) fn called(&self, group: &[Piece<B>]) -> Option<Piece<B>> {
        let stand_by = self.stand_by.lock();
        let deputy = stand_by.deputy.as_ref()?;
        let mut kicks = group.iter().flat_map(|work| work.kicks());
        kicks.any(|kick| kick.is(&deputy.bell)).then(|| -> Piece<B> {
            Box::new(Called {
                bell: deputy.bell.clone(),
                deed: Arc::clone(&deputy.deed),
                done: Deputized::default(),
            })
        })
    }
}
