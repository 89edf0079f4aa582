//! Doubt whether the write-ahead log is on the disk as far as it was synced.
//!
//! When a sync fails the system drops what it could not write: it holds it for written from then on, and the next sync
//! goes well without it. A log with such a hole ends there after a power cut, and all that was committed behind the hole
//! would be lost, although its own sync went well. So a log in doubt is written once more, as it is, before anything is
//! committed behind it. That a sync by another descriptor of the log has failed its next sync by this one is told, too
//! (fsync(2), since Linux 4.13), so that nothing is taken for committed in between. Never knows what stands in it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::error::QueueError;

/// What is copied at once.
const PIECE: usize = 64 * 1024;

/// Whether there is doubt. Clones are the same doubt.
#[derive(Clone, Debug)]
pub(super) struct Doubt(Arc<AtomicBool>);

impl Doubt {
    /// To begin with there is some if a log of this database has been left by whoever had it before: nobody knows what he
    /// has met. To be asked before the database is opened.
    pub(super) fn of(db: &Path) -> Doubt {
        let left = fs::metadata(log_of(db)).is_ok_and(|log| log.len() > 0);
        Doubt(Arc::new(AtomicBool::new(left)))
    }

    /// Work with the log has failed so.
    pub(super) fn heed(&self, error: &QueueError) {
        if error.may_have_happened() {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// Whether there is any. What stands in such a log must not be copied home: where a power cut comes in the midst of it,
    /// the database has the pages of a log that ends before them.
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Removes it, if there is any. To be called in a transaction that writes: nobody else changes the log then.
    ///
    /// # Errors
    /// When the log can not be written or synced: the doubt stays.
    pub(super) fn remove(&self, db: &Connection) -> Result<(), QueueError> {
        // Whatever somebody else meets from now on is a new doubt.
        if self.0.swap(false, Ordering::SeqCst) {
            let log = log_of(Path::new(db.path().unwrap_or_default()));
            write_anew(&log).map_err(|error| {
                self.0.store(true, Ordering::SeqCst);
                QueueError::file(&log, error)
            })?;
        }
        Ok(())
    }
}

/// The write-ahead log of a database.
fn log_of(db: &Path) -> PathBuf {
    let mut log = db.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

/// Writes a file as it is, and syncs it.
fn write_anew(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        match file.read_at(&mut piece, at) {
            Ok(0) => return file.sync_data(),
            Ok(length) => {
                file.write_all_at(&piece[..length], at)?;
                at += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
