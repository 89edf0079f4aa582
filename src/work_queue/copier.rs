//! The copier: copies the write-ahead log home while the writer goes on writing behind it.
//!
//! Copying is mostly waiting for the disk, as long as for the commits themselves, and nobody has to wait for it. But the
//! log begins anew only when all of it is at home, and the writer is always some pages ahead: the last of it, which is
//! short then, the writer copies itself. How it is copied is said in `home.rs`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use rusqlite::{Connection, OpenFlags};

use super::error::QueueError;
use super::home::Home;
use super::writer::go_first;

/// The log is copied home when it has this many pages.
const LONG: i32 = 500;

/// So much of it the writer copies itself: a moment.
const SHORT: i32 = 100;

/// When it has grown to so many pages beside the copier, the writer copies it, however long that takes.
const MOST: i32 = 4000;

/// How long to wait for somebody else who has the database locked.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait after something went wrong.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_millis(100);

/// What is to be done about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is short, or being copied.
    Nothing,
    /// The copier goes on with it.
    Beside,
    /// The writer copies the rest.
    Here,
}

/// The copier, in its thread, with a connection of its own.
#[derive(Debug)]
pub(super) struct Copier {
    orders: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<State>,
    /// How long the log was when it was asked last.
    seen: i32,
}

#[derive(Debug, Default)]
struct State {
    is_at_work: AtomicBool,
    /// How many pages of the log are at home, as far as the copier knows.
    copied: AtomicI32,
}

impl Copier {
    /// A copier for the database at `path`, whose log is in WAL mode.
    ///
    /// # Errors
    /// When the database can not be opened once more, or the thread not be started.
    pub(super) fn start(path: &Path, home: Home) -> Result<Copier, QueueError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        // Opens the log, too: opened later, it might be another one.
        db.pragma_update(None, "synchronous", "FULL")?;
        may_write(&db)?;
        let state = Arc::new(State::default());
        let (orders, given) = bounded::<()>(1);
        let thread = Builder::new()
            .name("wq-copier".to_owned())
            .spawn({
                let state = Arc::clone(&state);
                move || {
                    // Where it falls behind, the writer has to wait for the log in the end.
                    go_first();
                    for () in given {
                        match home.copy(&db) {
                            Ok(copied) => state.copied.store(copied, Ordering::SeqCst),
                            Err(_) => std::thread::park_timeout(PAUSE_AFTER_TROUBLE),
                        }
                        state.is_at_work.store(false, Ordering::SeqCst);
                    }
                }
            })
            .map_err(|e| QueueError::file(path, e))?;
        Ok(Copier {
            orders: Some(orders),
            thread: Some(thread),
            state,
            seen: 0,
        })
    }

    /// What is to be done about the log, which has `pages` pages now.
    pub(super) fn next(&mut self, pages: i32) -> Next {
        let is_at_work = self.state.is_at_work.load(Ordering::SeqCst);
        if pages < self.seen {
            // It has begun anew. What the copier is about to say may be of the old one: then the writer copies more, once.
            self.state.copied.store(0, Ordering::SeqCst);
        }
        self.seen = pages;
        let left = pages - self.state.copied.load(Ordering::SeqCst);
        if pages < LONG || is_at_work {
            Next::Nothing
        } else if left <= SHORT || pages >= MOST {
            Next::Here
        } else {
            Next::Beside
        }
    }

    /// Lets the copier go on.
    pub(super) fn order(&self) {
        self.state.is_at_work.store(true, Ordering::SeqCst);
        // There is room: it was not at work.
        let is_taken = self
            .orders
            .as_ref()
            .is_some_and(|orders| orders.try_send(()).is_ok());
        if !is_taken {
            self.state.is_at_work.store(false, Ordering::SeqCst);
        }
    }

    /// Ends it; waits for what it is doing.
    pub(super) fn stop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("queue.db: the copier of its log ended in a panic");
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether `db` can be written to. SQLite opens to read what it may not, or can not just now, open to write to, and the log
/// would never be copied home then.
fn may_write(db: &Connection) -> Result<(), QueueError> {
    if db.is_readonly("main")? {
        let refused = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(rusqlite::Error::SqliteFailure(refused, None).into());
    }
    // And its log.
    db.busy_timeout(Duration::ZERO)?;
    let tried = db.execute_batch("BEGIN IMMEDIATE; ROLLBACK");
    db.busy_timeout(PATIENCE)?;
    match tried.map_err(QueueError::from) {
        // Who has it locked will let go of it.
        Err(error) if !error.is_locked() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::Receiver;

    use super::*;

    /// A copier without a thread, and the orders that it is given.
    fn copier() -> (Copier, Receiver<()>) {
        let (orders, given) = bounded(1);
        let copier = Copier {
            orders: Some(orders),
            thread: None,
            state: Arc::default(),
            seen: 0,
        };
        (copier, given)
    }

    /// The copier has done what it was ordered to do, and `copied` pages are at home.
    fn done(copier: &Copier, given: &Receiver<()>, copied: i32) {
        given.try_recv().unwrap();
        copier.state.copied.store(copied, Ordering::SeqCst);
        copier.state.is_at_work.store(false, Ordering::SeqCst);
    }

    #[test]
    fn the_log_is_copied_beside_the_writer_until_the_rest_is_short() {
        let (mut copier, given) = copier();
        assert_eq!(copier.next(LONG - 1), Next::Nothing);
        assert_eq!(copier.next(LONG), Next::Beside);
        copier.order();
        assert_eq!(copier.next(LONG + 300), Next::Nothing, "it is at work");
        done(&copier, &given, LONG);
        assert_eq!(copier.next(LONG + 300), Next::Beside);
        copier.order();
        done(&copier, &given, LONG + 300);
        assert_eq!(copier.next(LONG + 400), Next::Here);
        assert_eq!(copier.next(10), Next::Nothing, "it has begun anew");
        assert_eq!(copier.next(LONG), Next::Beside);
    }

    #[test]
    fn a_copier_that_has_ended_is_not_waited_for() {
        let (mut copier, given) = copier();
        drop(given);
        assert_eq!(copier.next(LONG), Next::Beside);
        copier.order();
        assert_eq!(copier.next(MOST), Next::Here);
    }

    #[test]
    fn the_writer_copies_what_the_copier_can_not_keep_up_with() {
        let (mut copier, given) = copier();
        copier.order();
        assert_eq!(
            copier.next(MOST),
            Next::Nothing,
            "they would be in each other's way"
        );
        done(&copier, &given, LONG);
        assert_eq!(copier.next(MOST), Next::Here);
    }
}
