//! The work queue: the inbound work queue, SMTP.BOX and the outbound work queue in one SQLite database
//! that anybody may open, with one writer and group commit.
//!
//! It alone says which messages there are and how they stand. All SQL lives in this room, behind verbs;
//! nothing outside knows a table.

mod account;
mod ages;
mod arrival;
mod backoff;
mod backup;
mod board;
mod broken;
mod choice;
mod content;
mod conversion;
mod copier;
mod damage;
mod database;
mod deputy;
mod doubt;
mod drops;
mod due;
mod error;
mod expansion;
mod failures;
mod folder;
mod gauges;
mod glance;
pub mod ground;
mod home;
mod hopper;
mod housekeeping;
pub mod id;
mod inspection;
mod intake;
mod ledger;
mod listing;
mod lists;
mod mending;
mod moves;
mod moving;
mod operator;
pub mod outcome;
mod packing;
pub mod parcel;
mod passage;
mod patience;
mod perusal;
mod pin;
mod place;
mod recall;
mod reports;
pub mod retry;
#[cfg(test)]
#[cfg(feature = "schedules")]
mod schedules;
mod schema;
mod setback;
mod settlement;
mod soundness;
pub mod states;
mod stay;
mod store;
pub mod structure;
mod trace;
mod unpacking;
mod verify;
mod writer;

pub use crate::domain_list::list::{DomainList, HopId, ListId, ListedMessage, ListedRecipient};
pub use account::{Account, Entry, Line};
pub use ages::{AGES, AgeRow};
pub use arrival::{Addressee, Arrival, Origin};
pub use backoff::Silence;
pub use backup::{BackupError, Copied, backup};
pub use board::{BackOff, HopRow, HopState, ListRow, QueueRow};
pub use choice::{Choice, Pattern, Sizes};
pub use content::{Content, ContentReader, ContentWriter, THRESHOLD};
pub use conversion::{Converted, Delivery, Routed, Waiting, WaitingRecipient, Way};
pub use deputy::Stand;
pub use due::{Concerned, Due};
pub use error::QueueError;
pub use failures::Failure;
pub use gauges::{Gauges, MOST_COUNTED};
pub use glance::{Glance, glance};
pub use hopper::Pending;
pub use housekeeping::{Forgotten, LAST_RUN, Swept, Tally};
pub use inspection::Finding;
pub use listing::{Listing, MailRow, Standing, walk};
pub use lists::{Claim, Claimed, Terms};
pub use mending::Mended;
pub use moving::{Begun, ExportId, Moved, Step, is_finished_export, unfinished_export};
pub use operator::{ByHand, Done, Order, Preview, Retry};
pub use packing::{PackError, Packed, pack};
pub use passage::Attendance;
pub use perusal::{Perusal, peruse};
pub use place::Loss;
pub use reports::{News, Notice, Round, Telling};
pub use settlement::{Settled, Settlement};
pub use soundness::Kind;
pub use trace::{Event, Trace, Whereabouts};
pub use unpacking::{TakeError, staged};
pub use verify::{Verdict, verify, verify_until};

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::clock::{Clock, Moment, Stamp, Watch};
use crate::crash_point::{CrashPoint, reach};
use crate::metrics::Metrics;
use id::MessageId;
use store::Store;

/// The work queue of one spool. Clones share it.
#[derive(Clone, Debug)]
pub struct WorkQueue {
    store: Arc<Store>,
    watch: Arc<Watch>,
}

impl WorkQueue {
    /// Opens the queue in the folder `spool`, makes it where there is none, and takes its lock. Rows that a
    /// crash left locked go back to pending (promise 3).
    ///
    /// # Errors
    /// When another MTA has the spool, or the database can not be opened.
    pub fn open(spool: &Path, clock: Clock) -> Result<WorkQueue, QueueError> {
        let store = Arc::new(Store::open(spool, clock)?);
        let watch = Arc::clone(store.watch());
        let queue = WorkQueue { store, watch };
        let (before, now) = (queue.store.read(account::before)?, queue.now());
        queue
            .store
            .write(move |ledger| {
                mending::renumber(ledger)?;
                account::open(ledger, &before, now)
            })
            .wait()?;
        reach(CrashPoint::OpeningCommitted);
        queue.recover()?;
        Ok(queue)
    }

    /// A stop has been ordered: whatever is to be written waits no longer for another program that has the database
    /// locked than there is time `left`, and is refused then.
    pub fn hurry(&self, left: Duration) {
        self.store.hurry(left);
    }

    /// Finishes what has been handed in, and closes the database. Work that comes later is refused.
    pub fn close(&self) {
        self.store.close();
    }

    /// An ID that no other message has.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        self.store.stamps().message_id()
    }

    /// The folder of this queue.
    #[must_use]
    pub fn spool(&self) -> &Path {
        self.store.spool()
    }

    /// The clock by which retries fall due.
    #[must_use]
    pub fn now(&self) -> Stamp {
        self.watch.now()
    }

    /// The same, and how far it is certain: by that what waits comes to its end, and is late.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.watch.moment()
    }

    /// When message `id` arrived, to be told to others: while the clock is set back IDs go on rising, and nobody shall
    /// be told a moment that has not come yet.
    #[must_use]
    pub fn arrival(&self, id: MessageId) -> Stamp {
        id.arrived().min(self.now())
    }

    /// How long ago message `id` arrived, for who only measures that.
    #[must_use]
    pub fn age(&self, id: MessageId) -> Duration {
        self.watch.shows().since(id.arrived())
    }

    /// What is measured while mail flows.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.store.metrics()
    }

    /// Why nothing may be put into the queue now, if its files are not where anybody would find them.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.store.loss()
    }

    /// Takes the content of message `id`.
    #[must_use]
    pub fn content_writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(Arc::clone(self.store.content()), id, None)
    }

    /// Takes the content that shall replace that of message `id`.
    #[must_use]
    pub fn rewritten_content_writer(&self, id: MessageId) -> ContentWriter {
        ContentWriter::new(Arc::clone(self.store.content()), id, Some(self.message_id()))
    }

    /// Whether there is message `id`, in the queue or in history.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn holds(&self, id: MessageId) -> Result<bool, QueueError> {
        // A reader that was opened before reads on in what nobody will find.
        self.store.in_its_place()?;
        let sql = "SELECT 1 FROM message WHERE id = ?";
        let found = self.store.read(|db| ledger::row(db, sql, [id.0], |_| Ok(())))?;
        Ok(found.is_some())
    }

    /// Does this while no message is forgotten that has left the queue: whoever relies on [`WorkQueue::holds`] can take
    /// away first what it would be asked about.
    pub fn while_nothing_is_forgotten<T>(&self, deed: impl FnOnce() -> T) -> T {
        let _none = self.store.forgetting().lock();
        deed()
    }

    /// Reads the content of message `id`.
    ///
    /// # Errors
    /// When it is not there, or can not be read.
    pub fn content(&self, id: MessageId) -> Result<ContentReader, QueueError> {
        content_of(&self.store, id)
    }
}

fn content_of(store: &Store, id: MessageId) -> Result<ContentReader, QueueError> {
    store.read(|db| content_in(db, store.content().path(), id))
}

/// The content of message `id`, which stands in `db`, or in a file in `folder`.
fn content_in(db: &Connection, folder: &Path, id: MessageId) -> Result<ContentReader, QueueError> {
    let home = ledger::row(
        db,
        "SELECT m.file, c.bytes FROM message m LEFT JOIN content c ON c.message = m.id WHERE m.id = ?",
        [id.0],
        |row| {
            Ok((
                row.get::<_, Option<String>>(0)?,
                row.get::<_, Option<Vec<u8>>>(1)?,
            ))
        },
    )?;
    match home {
        Some((Some(file), _)) => {
            let path = folder.join(file);
            crate::named_file::open_no_link(&path)
                .map(ContentReader::File)
                .map_err(|e| QueueError::file(&path, e))
        }
        Some((None, Some(bytes))) => Ok(ContentReader::Bytes(std::io::Cursor::new(bytes))),
        Some((None, None)) => Err(QueueError::NoContent),
        None => Err(QueueError::Database(rusqlite::Error::QueryReturnedNoRows)),
    }
}
