//! How work gets to the writer and its answer back: a hopper that fills while a commit is on its way, and a
//! slot for each answer.
//!
//! Waits without spinning: there may be as few cores as there are threads with something to do.

use std::sync::Arc;
use std::time::Instant;

use super::error::QueueError;
use crate::sync::{Condvar, Mutex};

/// Work that waits for the one who takes it, all at once.
#[derive(Debug)]
pub(super) struct Hopper<W> {
    inside: Mutex<Inside<W>>,
    filled: Condvar,
    emptied: Condvar,
    most: usize,
}

#[derive(Debug)]
struct Inside<W> {
    waiting: Vec<W>,
    given: u64,
    /// There is nothing to wait for any more.
    closed: bool,
    /// Nobody takes anything any more.
    ended: bool,
}

impl<W> Hopper<W> {
    /// A hopper for at most `most` pieces of work.
    pub(super) fn new(most: usize) -> Hopper<W> {
        let inside = Inside {
            waiting: Vec::new(),
            given: 0,
            closed: false,
            ended: false,
        };
        Hopper {
            inside: Mutex::new(inside),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            most,
        }
    }

    /// Puts work in, as soon as there is room. Work that comes when nobody takes it any more is dropped.
    pub(super) fn put(&self, work: W) {
        let mut inside = self.inside.lock();
        while inside.waiting.len() >= self.most && !inside.closed {
            self.emptied.wait(&mut inside);
        }
        // As long as something is still being done, who has heard what became of a message may say so.
        if !inside.ended {
            inside.waiting.push(work);
            inside.given += 1;
            drop(inside);
            self.filled.notify_one();
        }
    }

    /// How many pieces of work have been put in so far.
    pub(super) fn given(&self) -> u64 {
        self.inside.lock().given
    }

    /// Takes all that waits, but not more than `group`; waits for something, at most until `until`, and gives
    /// nothing then. `None` after the end, when nothing is left.
    pub(super) fn take(&self, group: usize, until: Option<Instant>) -> Option<Vec<W>> {
        let mut inside = self.inside.lock();
        while inside.waiting.is_empty() {
            if inside.closed {
                inside.ended = true;
                return None;
            }
            match until {
                None => self.filled.wait(&mut inside),
                Some(until) => {
                    if self.filled.wait_until(&mut inside, until).timed_out() {
                        break;
                    }
                }
            }
        }
        let taken = if inside.waiting.len() <= group {
            std::mem::take(&mut inside.waiting)
        } else {
            inside.waiting.drain(..group).collect()
        };
        drop(inside);
        self.emptied.notify_all();
        Some(taken)
    }

    /// After the end nobody takes anything any more, although something waits, which this gives back. Before it nothing
    /// happens.
    pub(super) fn give_up(&self) -> Vec<W> {
        let mut inside = self.inside.lock();
        if !inside.closed {
            return Vec::new();
        }
        inside.ended = true;
        std::mem::take(&mut inside.waiting)
    }

    /// Nobody waits for work any more: who takes it ends when there is none left.
    pub(super) fn close(&self) {
        self.inside.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }
}

#[derive(Debug)]
struct Slot<T> {
    answer: Mutex<Answer<T>>,
    told: Condvar,
}

#[derive(Debug)]
enum Answer<T> {
    Open,
    Told(Result<T, QueueError>),
    Never,
}

/// Work that the writer has been given, and whose answer comes with the commit.
#[derive(Debug)]
pub struct Pending<T>(Arc<Slot<T>>);

impl<T> Pending<T> {
    /// Waits for the commit.
    ///
    /// # Errors
    /// When the work or its commit failed: nothing of it was done.
    pub fn wait(self) -> Result<T, QueueError> {
        let mut answer = self.0.answer.lock();
        loop {
            match std::mem::replace(&mut *answer, Answer::Open) {
                Answer::Told(result) => return result,
                Answer::Never => return Err(QueueError::Stopped),
                Answer::Open => self.0.told.wait(&mut answer),
            }
        }
    }
}

/// Tells the answer, once. Dropped without having told, it says that none will come.
#[derive(Debug)]
pub(super) struct Teller<T>(Arc<Slot<T>>);

impl<T> Teller<T> {
    /// A teller, and the one who waits for it.
    pub(super) fn new() -> (Teller<T>, Pending<T>) {
        let slot = Arc::new(Slot {
            answer: Mutex::new(Answer::Open),
            told: Condvar::new(),
        });
        (Teller(Arc::clone(&slot)), Pending(slot))
    }

    /// Tells the answer.
    pub(super) fn tell(self, result: Result<T, QueueError>) {
        *self.0.answer.lock() = Answer::Told(result);
    }
}

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        let mut answer = self.0.answer.lock();
        if matches!(*answer, Answer::Open) {
            *answer = Answer::Never;
        }
        drop(answer);
        self.0.told.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_taken_at_once_and_in_order() {
        let hopper = Hopper::new(10);
        (0..5).for_each(|n| hopper.put(n));
        assert_eq!(hopper.take(3, None), Some(vec![0, 1, 2]));
        assert_eq!(hopper.take(3, None), Some(vec![3, 4]));
        hopper.put(5);
        hopper.close();
        hopper.put(6);
        assert_eq!(
            hopper.take(3, None),
            Some(vec![5, 6]),
            "what was put in before the end still comes out"
        );
        assert_eq!(hopper.take(3, None), None);
        hopper.put(7);
        assert_eq!(hopper.take(3, None), None);
    }

    #[test]
    fn what_is_given_up_after_the_end_is_given_back_and_nothing_comes_behind_it() {
        let hopper = Hopper::new(10);
        hopper.put(0);
        assert!(hopper.give_up().is_empty(), "it goes on");
        hopper.put(1);
        hopper.close();
        assert_eq!(hopper.give_up(), [0, 1]);
        hopper.put(2);
        assert!(hopper.give_up().is_empty());
        assert_eq!(hopper.take(3, None), None);
    }

    #[test]
    fn a_full_hopper_makes_wait_until_it_is_emptied() {
        let hopper = Arc::new(Hopper::new(1));
        hopper.put(0);
        let other = Arc::clone(&hopper);
        let putting = std::thread::spawn(move || other.put(1));
        assert_eq!(hopper.take(9, None), Some(vec![0]));
        putting.join().unwrap();
        assert_eq!(hopper.take(9, None), Some(vec![1]));
    }

    #[test]
    fn who_waits_is_told_even_that_no_answer_will_come() {
        let (teller, pending) = Teller::new();
        teller.tell(Ok(7));
        assert!(matches!(pending.wait(), Ok(7)));
        let (teller, pending) = Teller::<()>::new();
        drop(teller);
        assert!(matches!(pending.wait(), Err(QueueError::Stopped)));
    }
}
