//! Where work for the writer is handed in: to be done at once, or left to be done as soon as a bell rings.
//!
//! Never knows what the work is, and never writes.

use super::error::QueueError;
use super::hopper::{Hopper, Pending};
use super::ledger::Counts;
use super::writer::{Book, Durability, Piece, work};
use crate::sync::Mutex;
use crate::tasks::bell::Bell;

/// What the writer and those who have work for it share.
pub(super) struct Intake<B: Book> {
    hopper: Hopper<Piece<B>>,
    stand_by: Mutex<StandBy<B>>,
    uncounted: Mutex<Counts>,
}

/// The work that somebody who rests has left with the writer.
struct StandBy<B: Book> {
    last: Ticket,
    left: Option<Left<B>>,
}

/// To be done in the first transaction that rings this bell.
struct Left<B: Book> {
    ticket: Ticket,
    bell: Bell,
    work: Piece<B>,
}

/// Names work that was left with the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl<B: Book> Intake<B> {
    /// An empty one, in which at most `most` pieces of work wait.
    pub(super) fn new(most: usize) -> Intake<B> {
        let stand_by = StandBy {
            last: Ticket::default(),
            left: None,
        };
        Intake {
            hopper: Hopper::new(most),
            stand_by: Mutex::new(stand_by),
            uncounted: Mutex::default(),
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

    /// Leaves `verb` with the writer, to be done in the first transaction that rings `bell`, which rings for it, too. It
    /// replaces what was left before, of which no answer comes then.
    pub(super) fn stand_by<T: Send + 'static>(
        &self,
        durability: Durability,
        bell: Bell,
        verb: impl FnMut(&mut B::Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> (Ticket, Pending<T>) {
        let (work, pending) = work(durability, vec![bell.clone()], verb);
        let mut stand_by = self.stand_by.lock();
        let ticket = Ticket(stand_by.last.0 + 1);
        stand_by.last = ticket;
        let before = stand_by.left.replace(Left { ticket, bell, work });
        drop(stand_by);
        drop(before);
        (ticket, pending)
    }

    /// Takes back what was left with the writer; `false` if it has begun already, or was replaced.
    pub(super) fn withdraw(&self, ticket: Ticket) -> bool {
        let mut stand_by = self.stand_by.lock();
        let taken = stand_by.left.take_if(|left| left.ticket == ticket);
        drop(stand_by);
        taken.is_some()
    }

    /// The work that stands by, if a bell is rung for which it does.
    pub(super) fn called(&self, group: &[Piece<B>]) -> Option<Piece<B>> {
        let rings = |left: &mut Left<B>| {
            let mut kicks = group.iter().flat_map(|work| work.kicks());
            kicks.any(|kick| kick.is(&left.bell))
        };
        self.stand_by.lock().left.take_if(rings).map(|called| called.work)
    }
}
