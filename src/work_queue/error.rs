//! What can go wrong with the work queue, in the operator's words.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use super::place::Loss;

/// The work queue could not do what it was asked. Nothing of it was done.
#[derive(Debug)]
pub enum QueueError {
    /// The database refused: full disk, locked by somebody else, damaged …
    Database(rusqlite::Error),
    /// A file or folder of the spool.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another MTA has this spool.
    InUse {
        /// The spool's lock file.
        path: PathBuf,
        /// The process that has it, as it wrote itself down.
        by: String,
    },
    /// The database was written by a newer version.
    Newer {
        /// Its schema.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// The content of a message is not as long as it was when it arrived.
    Cut {
        /// Octets that there are.
        size: u64,
        /// Octets that there were.
        whole: u64,
    },
    /// The files of the database are not where they were: nobody would find what is written now.
    Lost(Loss),
    /// The content of a message is not in the database, where its row says it is.
    NoContent,
    /// Somebody else has locked the database for longer than we wait.
    Locked,
    /// The writer has stopped.
    Stopped,
    /// The work panicked; its transaction was rolled back.
    Panicked,
}

impl QueueError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            QueueError::Database(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            QueueError::File { error, .. } => error.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// Whether a file that is needed is not there, or a folder is in its place.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, QueueError::File { error, .. }
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory))
    }

    /// Whether the same may succeed later: the disk is full, the database is locked, descriptors are short.
    /// What is missing, is not what it should be or met an error in the program stays so.
    #[must_use]
    pub fn will_pass(&self) -> bool {
        match self {
            QueueError::NoContent | QueueError::Panicked | QueueError::Cut { .. } => false,
            // Otherwise SQLite did what it was asked to, and it is about what a row holds.
            QueueError::Database(error) => error.sqlite_error().is_some(),
            QueueError::File { error, .. } => error.kind() != io::ErrorKind::NotFound,
            _ => true,
        }
    }

    /// Whether the database found no room on the disk.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, QueueError::Database(_)) && self.is_out_of_space()
    }

    /// Whether the file of the database does not hold what SQLite wrote into it. SQLite says so, too, where the disk can
    /// not read it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let code = match self {
            QueueError::Database(error) => error.sqlite_error_code(),
            _ => None,
        };
        matches!(
            code,
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
        )
    }

    /// Whether it is about the database as a whole, whatever was to be written: nothing else could be written either, and
    /// all of it may be later.
    #[must_use]
    pub fn is_about_all(&self) -> bool {
        let QueueError::Database(error) = self else {
            return !matches!(
                self,
                QueueError::Panicked | QueueError::NoContent | QueueError::Cut { .. }
            );
        };
        error.sqlite_error().is_some_and(|error| match error.code {
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::NoLargeFileSupport
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted => true,
            ErrorCode::SystemIoFailure => !is_about_a_page(error),
            _ => false,
        })
    }

    /// Whether the disk does not give back some page of the database.
    pub(super) fn is_unreadable(&self) -> bool {
        match self {
            QueueError::Database(error) => error.sqlite_error().is_some_and(is_about_a_page),
            _ => false,
        }
    }

    /// Whether somebody else has the database locked.
    pub(super) fn is_locked(&self) -> bool {
        let code = match self {
            QueueError::Database(error) => error.sqlite_error_code(),
            _ => None,
        };
        matches!(
            code,
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
        )
    }

    /// Whether the work may be found done after a restart, although it failed: the log was written, but
    /// not all of it could be synced.
    pub(super) fn may_have_happened(&self) -> bool {
        match self {
            QueueError::Database(error) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure)
            }
            // The process may go on with it.
            QueueError::Stopped | QueueError::Lost(_) => true,
            _ => false,
        }
    }

    pub(super) fn file(path: &Path, error: io::Error) -> QueueError {
        QueueError::File {
            path: path.to_owned(),
            error,
        }
    }
}

/// What can not be read is a page; what can not be written may be any.
fn is_about_a_page(error: &ffi::Error) -> bool {
    matches!(
        error.extended_code,
        ffi::SQLITE_IOERR_READ
            | ffi::SQLITE_IOERR_SHORT_READ
            | ffi::SQLITE_IOERR_DATA
            | ffi::SQLITE_IOERR_CORRUPTFS
    )
}

#[cfg(test)]
impl QueueError {
    /// What SQLite says of a database that is damaged.
    pub(crate) fn damage() -> QueueError {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        QueueError::Database(rusqlite::Error::SqliteFailure(corrupt, None))
    }
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> QueueError {
        QueueError::Database(error)
    }
}

/// Lets no control through: a name in the database, or of a file, may be of somebody who is no friend.
struct Clean<'w, W>(&'w mut W);

impl<W: fmt::Write> fmt::Write for Clean<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut signs = text.chars().filter(|sign| !sign.is_control());
        signs.try_for_each(|sign| self.0.write_char(sign))
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Clean(f);
        match self {
            QueueError::Database(error) => write!(f, "queue.db: {error}"),
            QueueError::File { path, error } => write!(f, "{}: {error}", path.display()),
            QueueError::InUse { path, by } => {
                write!(
                    f,
                    "{}: this spool is in use by another smtpmta, process {by}",
                    path.display()
                )
            }
            QueueError::Newer { found, known } => write!(
                f,
                "queue.db was written by a newer smtpmta (schema {found}, this version knows up to {known})"
            ),
            QueueError::Cut { size, whole } => {
                write!(f, "the content has {size} octets; when it arrived it had {whole}")
            }
            QueueError::Lost(loss) => write!(f, "{loss}"),
            QueueError::NoContent => f.write_str("the content is not in queue.db"),
            QueueError::Locked => f.write_str("queue.db has been locked by another program for too long"),
            QueueError::Stopped => f.write_str("the work queue has been closed"),
            QueueError::Panicked => {
                f.write_str("the work queue met an error in the program; nothing was changed")
            }
        }
    }
}

impl std::error::Error for QueueError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_by_somebody_who_is_no_friend_is_told_without_controls() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        let error = db.prepare("SELECT * FROM \"no\u{1b}[2J such\"").unwrap_err();
        let told = QueueError::from(error).to_string();
        assert!(
            told.starts_with("queue.db: no such table: no[2J such"),
            "{told:?}"
        );
        let file = QueueError::file(Path::new("content/\u{1b}[2J"), io::ErrorKind::NotFound.into());
        assert_eq!(file.to_string(), "content/[2J: entity not found");
    }
}
