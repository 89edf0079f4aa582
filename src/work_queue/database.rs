//! The writing connection to `queue.db`: what one transaction is, and how durable.
//!
//! Never knows what a verb does, nor who waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rusqlite::Connection;

use super::error::QueueError;
use super::id::Stamps;
use super::ledger::{Counts, Ledger};
use super::store::cut_log;
use super::writer::{Book, Durability};

/// The database as its only writer has it.
pub(super) struct Database {
    /// The only connection that writes.
    pub(super) db: Connection,
    /// Gives the stamps of history.
    pub(super) stamps: Arc<Stamps>,
    /// Whoever removes content files that nobody needs any more.
    pub(super) sweeper: Sender<Vec<String>>,
    /// How `db` commits at present.
    pub(super) durability: Durability,
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
            let mut ledger = Ledger::new(&self.db, &self.stamps);
            work(&mut ledger)?;
            ledger.write_counts(counts)?;
            self.db.prepare_cached("COMMIT")?.execute([])?;
            Ok(ledger.finish())
        }));
        match attempt.unwrap_or(Err(QueueError::Panicked)) {
            Ok((counted, discarded)) => {
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
                if !self.db.is_autocommit()
                    && let Err(error) = self.db.execute_batch("ROLLBACK")
                {
                    log::error!("queue.db: can not roll back: {error}");
                }
                Err(error)
            }
        }
    }

    /// The write-ahead log may be what fills the disk: brings it home, and gives its space back.
    fn make_room(&mut self) -> bool {
        matches!(cut_log(&self.db), Ok(true))
    }

    fn hurry(&mut self) {
        let _ = self.db.busy_timeout(Duration::from_secs(1));
    }

    fn close(self) {
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
