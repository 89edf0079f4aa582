//! The hatch through which a handler gets its jobs: a place for one, and a bell of its own.
//!
//! A channel does the same, and takes many times the memory: there is one for each handler that was ever started.
//! Never knows what a job is.

use std::sync::Arc;

use crate::sync::{Condvar, Mutex};

/// The controller's side: puts jobs in. Closes the hatch when it is dropped.
pub(super) struct Hatch<J>(Arc<Shelf<J>>);

/// The handler's side: takes jobs out. When it is dropped no more can be put in.
pub(super) struct Taker<J>(Arc<Shelf<J>>);

struct Shelf<J> {
    held: Mutex<Held<J>>,
    changed: Condvar,
}

struct Held<J> {
    job: Option<J>,
    closed: bool,
}

/// An open hatch, and who takes from it.
pub(super) fn hatch<J>() -> (Hatch<J>, Taker<J>) {
    let held = Held {
        job: None,
        closed: false,
    };
    let shelf = Arc::new(Shelf {
        held: Mutex::new(held),
        changed: Condvar::new(),
    });
    (Hatch(Arc::clone(&shelf)), Taker(shelf))
}

impl<J> Hatch<J> {
    /// Puts a job in, and never waits.
    ///
    /// # Errors
    /// Gives the job back when there is nobody to take it any more, or the last one has not been taken.
    pub(super) fn put(&self, job: J) -> Result<(), J> {
        let mut held = self.0.held.lock();
        if held.closed || held.job.is_some() {
            return Err(job);
        }
        held.job = Some(job);
        drop(held);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<J> Drop for Hatch<J> {
    fn drop(&mut self) {
        self.0.held.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl<J> Taker<J> {
    /// The next job, waited for; `None` when the hatch is closed and empty.
    pub(super) fn take(&self) -> Option<J> {
        let mut held = self.0.held.lock();
        while held.job.is_none() && !held.closed {
            self.0.changed.wait(&mut held);
        }
        held.job.take()
    }
}

impl<J> Drop for Taker<J> {
    fn drop(&mut self) {
        let mut held = self.0.held.lock();
        held.closed = true;
        let forgotten = held.job.take();
        drop(held);
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_one_job_and_a_closed_hatch_gives_out_the_last() {
        let (hatch, taker) = hatch();
        assert_eq!(hatch.put(1), Ok(()));
        assert_eq!(hatch.put(2), Err(2));
        assert_eq!(taker.take(), Some(1));
        assert_eq!(hatch.put(3), Ok(()));
        drop(hatch);
        assert_eq!(taker.take(), Some(3));
        assert_eq!(taker.take(), None);
    }

    #[test]
    fn who_waits_is_woken_by_a_job_and_by_the_end() {
        let (hatch, taker) = hatch();
        let taking = std::thread::spawn(move || std::iter::from_fn(|| taker.take()).collect::<Vec<_>>());
        for job in 0..100 {
            while hatch.put(job).is_err() {
                std::thread::yield_now();
            }
        }
        drop(hatch);
        assert_eq!(taking.join().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_puts_a_job_where_it_would_never_be_taken_and_one_that_was_not_is_dropped() {
        let (hatch, taker) = hatch();
        let job = Arc::new(());
        assert!(hatch.put(Arc::clone(&job)).is_ok());
        drop(taker);
        assert_eq!(Arc::strong_count(&job), 1);
        assert!(hatch.put(job).is_err());
    }
}
