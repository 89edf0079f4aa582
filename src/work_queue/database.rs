//! The writing connection to `queue.db`: what one transaction is, and how durable.
//!
//! Never knows what a verb does, nor who waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crossbeam_channel::Sender;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::account;
use super::broken::Broken;
use super::copier::{Copier, Next};
use super::doubt::Doubt;
use super::error::QueueError;
use super::failures::LastFailures;
use super::home::Home;
use super::id::Stamps;
use super::ledger::{Counts, Ledger};
use super::place::Place;
use super::writer::{Book, Durability};
use crate::crash_point::{CrashPoint, reach};

/// The database as its only writer has it.
pub(super) struct Database {
    /// The only connection that writes.
    pub(super) db: Connection,
    /// Where it is.
    pub(super) place: Arc<Place>,
    /// Gives the stamps of history.
    pub(super) stamps: Arc<Stamps>,
    /// The messages that are passed over.
    pub(super) broken: Arc<Broken>,
    /// The last failures, for who looks on.
    pub(super) failures: Arc<LastFailures>,
    /// Whoever removes content files that nobody needs any more.
    pub(super) sweeper: Sender<Vec<String>>,
    /// How many pages the write-ahead log has, by `db`.
    pub(super) log_pages: Arc<AtomicI32>,
    /// The way of that log home.
    pub(super) home: Home,
    /// Who copies it beside us.
    pub(super) copier: Copier,
    /// How `db` commits at present.
    pub(super) durability: Durability,
    /// Whether the log may not be on the disk as it should.
    pub(super) doubt: Doubt,
    /// Content whose message leaves stays, at present.
    pub(super) spares_content: bool,
}

impl Book for Database {
    type Ledger<'l> = Ledger<'l>;

    fn write(
        &mut self,
        durability: Durability,
        counts: &Counts,
        work: &mut dyn FnMut(&mut Ledger<'_>) -> Result<(), QueueError>,
    ) -> Result<Counts, QueueError> {
        self.commit_as(durability)?;
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.doubt.remove(&self.db)?;
            let ledger = Ledger::new(&self.db, &self.stamps, &self.broken);
            let mut ledger = ledger.sparing_content(self.spares_content);
            work(&mut ledger)?;
            ledger.write_counts(counts)?;
            reach(CrashPoint::GroupWritten);
            self.db.prepare_cached("COMMIT")?.execute([])?;
            reach(CrashPoint::GroupCommitted);
            Ok(ledger.finish())
        }));
        match attempt.unwrap_or(Err(QueueError::Panicked)) {
            Ok((counted, discarded, failed)) => {
                self.failures.add(failed);
                // Before anybody is answered: what went into a file that nobody will find is not acknowledged. Of what need
                // not be synced nobody outside is told.
                if durability == Durability::Synced {
                    self.place.look();
                }
                debug_assert!(
                    discarded.is_empty() || self.durability == Durability::Synced,
                    "the row of a file that is gone may come back"
                );
                if !discarded.is_empty() {
                    // A sweeper that has more than enough to do leaves them to the next sweep of the folder.
                    let _ = self.sweeper.try_send(discarded);
                }
                Ok(counted)
            }
            Err(error) => {
                self.doubt.heed(&error);
                // What was written over can not be written to either.
                self.place.look();
                if !self.db.is_autocommit()
                    && let Err(error) = self.db.execute_batch("ROLLBACK")
                {
                    log::error!("queue.db: can not roll back: {error}");
                }
                Err(error)
            }
        }
    }

    /// Sees to it that the write-ahead log is copied home when it has become long.
    fn tidy_up(&mut self) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        match self.copier.next(pages) {
            Next::Nothing => {}
            Next::Beside => self.copier.order(),
            Next::Here => self.home.copy_unless_others_do(&self.db),
        }
    }

    /// The write-ahead log may be what fills the disk: brings it home, and gives its space back.
    fn make_room(&mut self) -> bool {
        matches!(self.home.cut(&self.db), Ok(true))
    }

    fn spare_content(&mut self, spares: bool) {
        self.spares_content = spares;
    }

    fn close(mut self, counts: &Counts) {
        // What says that nothing is missing of the counters must not be there without them.
        let closed = self.write(Durability::Unsynced, counts, &mut |ledger| account::close(ledger));
        match closed {
            Ok(_) => reach(CrashPoint::ClosingCommitted),
            Err(error) => {
                log::error!("queue.db: the account could not be closed, the next start counts anew: {error}");
            }
        }
        self.copier.stop();
        // SQLite copies the log home as it closes it, and removes it. What can not be relied upon stays for the next start.
        let is_home = self.home.copy(&self.db).is_ok() && !self.home.is_in_doubt();
        let keeps_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if !is_home && let Err(error) = self.db.set_db_config(keeps_log, true) {
            log::error!("queue.db: its log can not be kept: {error}");
        }
        if let Err((_, error)) = self.db.close() {
            log::error!("queue.db: can not be closed: {error}");
        }
    }
}

impl Database {
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
}
