//! The copier: copies the write-ahead log home while the writer goes on writing behind it.
//!
//! Copying is mostly waiting for the disk, as long as for the commits themselves, and nobody has to wait for it. But the
//! log begins anew only when all of it is at home, and the writer is always some pages ahead: the last of it, which is
//! short then, the writer copies itself. Never copies more than is committed, and syncs the log before and the database
//! after it, as SQLite does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Sender, bounded};
use rusqlite::{Connection, OpenFlags};

use super::doubt::Doubt;
use super::error::QueueError;
use super::writer::go_first;

/// The log is copied home when it has this many pages.
const LONG: i32 = 500;

/// So much of it the writer copies itself: a moment.
const SHORT: i32 = 100;

/// When it has grown to so many pages beside the copier, the writer copies it, however long that takes.
const MOST: i32 = 4000;

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
    pub(super) fn start(path: &Path, doubt: Doubt) -> Result<Copier, QueueError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.pragma_update(None, "synchronous", "FULL")?;
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
                        let copied = copy(&db, &doubt).unwrap_or(0);
                        state.copied.store(copied, Ordering::SeqCst);
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
        if pages < self.seen && !is_at_work {
            // It has begun anew.
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
        if let Some(orders) = &self.orders {
            // There is room: it is not at work.
            let _ = orders.try_send(());
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

/// Copies home what nobody reads any more of the log, and waits for nobody; how many of its pages are at home then. SQLite
/// would do so within a commit, for which somebody waits, and tell nobody that a sync failed there.
///
/// # Errors
/// When it could not be copied or synced; the log says so, and whoever writes behind it hears of the doubt.
pub(super) fn copy(db: &Connection, doubt: &Doubt) -> Result<i32, QueueError> {
    let copied = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2));
    copied.map_err(|error| {
        let error = QueueError::from(error);
        log::error!("queue.db: its log could not be copied home: {error}");
        doubt.heed(&error);
        error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copier whose thread does nothing.
    fn copier() -> Copier {
        Copier {
            orders: None,
            thread: None,
            state: Arc::default(),
            seen: 0,
        }
    }

    /// The copier has done what it was ordered to do, and `copied` pages are at home.
    fn done(copier: &Copier, copied: i32) {
        assert!(copier.state.is_at_work.swap(false, Ordering::SeqCst));
        copier.state.copied.store(copied, Ordering::SeqCst);
    }

    #[test]
    fn the_log_is_copied_beside_the_writer_until_the_rest_is_short() {
        let mut copier = copier();
        assert_eq!(copier.next(LONG - 1), Next::Nothing);
        assert_eq!(copier.next(LONG), Next::Beside);
        copier.order();
        assert_eq!(copier.next(LONG + 300), Next::Nothing, "it is at work");
        done(&copier, LONG);
        assert_eq!(copier.next(LONG + 300), Next::Beside);
        copier.order();
        done(&copier, LONG + 300);
        assert_eq!(copier.next(LONG + 400), Next::Here);
        assert_eq!(copier.next(10), Next::Nothing, "it has begun anew");
        assert_eq!(copier.next(LONG), Next::Beside);
    }

    #[test]
    fn the_writer_copies_what_the_copier_can_not_keep_up_with() {
        let mut copier = copier();
        copier.order();
        assert_eq!(
            copier.next(MOST),
            Next::Nothing,
            "they would be in each other's way"
        );
        done(&copier, LONG);
        assert_eq!(copier.next(MOST), Next::Here);
    }
}
