//! The way home: what stands in the write-ahead log is copied into `queue.db` (a checkpoint), by one at a time.
//!
//! The copies have to be on the disk before the log may begin anew. Where others write to the log meanwhile SQLite counts
//! pages as being at home which it has not synced; it syncs them later, with the last ones. If that sync fails the system
//! drops what it could not write and holds it for written, and nobody would ever write those pages again. So they are
//! synced here as they are copied; and after a sync that failed all pages that the log names are written once more as they
//! are, before anything else is copied. Never copies out of a log that is in doubt: see [`Doubt`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::doubt::Doubt;
use super::error::QueueError;
use super::place::Place;

/// Octets before the first frame of a log, and before the page in each frame (SQLite's file format, 4.1).
const LOG_HEAD: u64 = 32;
const FRAME_HEAD: u64 = 24;

/// How far to go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// As far as nobody reads it any more.
    Passive,
    /// All of it, and the log is cut.
    Truncate,
}

/// The way home of one database. Clones are the same way.
#[derive(Clone, Debug)]
pub(super) struct Home(Arc<Way>);

#[derive(Debug)]
struct Way {
    place: Arc<Place>,
    doubt: Doubt,
    turn: Mutex<Turn>,
}

/// For whoever copies just now.
#[derive(Debug, Default)]
struct Turn {
    /// A sync of `queue.db` has failed: not all that is counted as being at home need be there.
    is_unsure: bool,
}

impl Home {
    /// The way home of the database at `place`, of whose log there is `doubt`.
    pub(super) fn new(place: Arc<Place>, doubt: Doubt) -> Home {
        Home(Arc::new(Way {
            place,
            doubt,
            turn: Mutex::default(),
        }))
    }

    /// Whether the log is in doubt.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.0.doubt.is_there()
    }

    /// Copies home what nobody reads any more of the log, as soon as nobody else does; how many of its pages are at home
    /// then.
    ///
    /// # Errors
    /// When it could not be copied or synced; the log has been told.
    pub(super) fn copy(&self, db: &Connection) -> Result<i32, QueueError> {
        let mut turn = self.0.turn.lock();
        self.go(&mut turn, db, How::Passive).map(|(_, copied)| copied)
    }

    /// The same, unless somebody else is at it.
    pub(super) fn copy_unless_others_do(&self, db: &Connection) {
        if let Some(mut turn) = self.0.turn.try_lock() {
            // What went wrong has been told, and the next time is soon.
            let _ = self.go(&mut turn, db, How::Passive);
        }
    }

    /// Copies the log home and cuts it; whether nobody used it, and there is no doubt about it.
    ///
    /// # Errors
    /// When it could not be copied or synced; the log has been told.
    pub(super) fn cut(&self, db: &Connection) -> Result<bool, QueueError> {
        let mut turn = self.0.turn.lock();
        self.go(&mut turn, db, How::Truncate)
            .map(|(is_whole, _)| is_whole)
    }

    /// Whether all of it is at home then, and how many pages are.
    fn go(&self, turn: &mut Turn, db: &Connection, how: How) -> Result<(bool, i32), QueueError> {
        let gone = self.try_to(turn, db, how);
        gone.inspect_err(|error| {
            log::error!("queue.db: its log could not be copied home: {error}");
            self.0.doubt.heed(error);
        })
    }

    fn try_to(&self, turn: &mut Turn, db: &Connection, how: How) -> Result<(bool, i32), QueueError> {
        if self.is_in_doubt() {
            return Ok((false, 0));
        }
        let database = self.0.place.database();
        let broken = |error| QueueError::file(self.0.place.path(), error);
        if turn.is_unsure {
            write_anew(database, self.0.place.log()).map_err(broken)?;
            turn.is_unsure = false;
        }
        let sql = match how {
            How::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
            How::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        let gone = db.query_row(sql, [], |row| {
            Ok((
                row.get::<_, i32>(0)?,
                row.get::<_, i32>(1)?,
                row.get::<_, i32>(2)?,
            ))
        });
        let (is_busy, pages, copied) = gone.map_err(|error| {
            let error = QueueError::from(error);
            turn.is_unsure |= error.may_have_happened();
            error
        })?;
        // Where it came to the end SQLite has synced them.
        if copied > 0 && copied < pages {
            database.sync_data().map_err(|error| {
                turn.is_unsure = true;
                broken(error)
            })?;
        }
        Ok((is_busy == 0, copied.max(0)))
    }
}

/// Writes the pages of `database` that stand in `log` once more, as they are, and syncs them. Nobody else may be copying.
fn write_anew(database: &File, log: &File) -> io::Result<()> {
    let mut head = [0; 12];
    log.read_exact_at(&mut head, 0)?;
    let size = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let frame = FRAME_HEAD + size as u64;
    let mut pages = BTreeSet::new();
    let mut number = [0; 4];
    let mut at = LOG_HEAD;
    while log.read_at(&mut number, at)? == number.len() {
        pages.insert(u32::from_be_bytes(number));
        at += frame;
    }
    let mut page = vec![0; size];
    let end = database.metadata()?.len();
    for number in pages {
        let at = u64::from(number.saturating_sub(1)) * size as u64;
        if at + size as u64 <= end {
            database.read_exact_at(&mut page, at)?;
            database.write_all_at(&page, at)?;
        }
    }
    database.sync_data()
}
