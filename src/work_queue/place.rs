//! The place of `queue.db`: whether the files that are open are still those that the next one to come will find there.
//!
//! Mail must not be acknowledged into a file that nobody will ever open again. Never reads what is in it but for the
//! first words, and never closes it before SQLite does: whoever closes a file takes the locks of his whole process on
//! it with him.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

/// What every database of SQLite begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What has become of the files below us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// `queue.db` was deleted, moved away or replaced.
    Database,
    /// Its write-ahead log was.
    Log,
    /// Somebody has written over its beginning.
    Overwritten,
}

impl Loss {
    const ALL: [Loss; 3] = [Loss::Database, Loss::Log, Loss::Overwritten];
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Database => "queue.db was deleted, moved or replaced while it was open",
            Loss::Log => "queue.db-wal was deleted, moved or replaced while it was open",
            Loss::Overwritten => "something else has been written over queue.db",
        })
    }
}

/// A file that is open, and where it was found.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    file: File,
    identity: Identity,
}

/// The database and its log, where they were when they were opened.
#[derive(Debug)]
pub(super) struct Place {
    database: Found,
    log: Found,
    /// What was last seen: the place of a loss in [`Loss::ALL`], plus one.
    seen: AtomicU8,
}

impl Place {
    /// The place of the database at `path`, which SQLite has open.
    pub(super) fn of(path: &Path) -> io::Result<Place> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Place {
            database: Found::at(path)?,
            log: Found::at(Path::new(&log))?,
            seen: AtomicU8::new(0),
        })
    }

    /// The database, open for reading and writing. Not to be closed by anybody.
    pub(super) fn database(&self) -> &File {
        &self.database.file
    }

    /// Its log, likewise.
    pub(super) fn log(&self) -> &File {
        &self.log.file
    }

    /// Where the database is.
    pub(super) fn path(&self) -> &Path {
        &self.database.path
    }

    /// What was wrong when somebody looked last.
    pub(super) fn last_seen(&self) -> Option<Loss> {
        let seen = usize::from(self.seen.load(Ordering::SeqCst));
        seen.checked_sub(1)
            .and_then(|place| Loss::ALL.get(place).copied())
    }

    /// Looks, and says so in the log when it has changed. Costs three short calls of the system.
    pub(super) fn look(&self) -> Option<Loss> {
        let loss = if !self.database.is_there() {
            Some(Loss::Database)
        } else if !self.log.is_there() {
            Some(Loss::Log)
        } else if !self.has_its_beginning() {
            Some(Loss::Overwritten)
        } else {
            None
        };
        let seen = loss.and_then(|loss| Loss::ALL.iter().position(|other| *other == loss));
        let seen = seen.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(0);
        if self.seen.load(Ordering::SeqCst) != seen && self.seen.swap(seen, Ordering::SeqCst) != seen {
            match loss {
                None => log::warn!("queue.db is where it was: new mail is accepted again"),
                Some(loss) => log::error!(
                    "{loss}: no new mail is accepted until it is back; {}",
                    self.advice(loss)
                ),
            }
        }
        loss
    }

    fn has_its_beginning(&self) -> bool {
        let mut begin = [0; MAGIC.len()];
        match self.database.file.read_exact_at(&mut begin, 0) {
            Ok(()) => begin == *MAGIC,
            // Cut to nothing is gone; what can not be read now may be read again.
            Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
        }
    }

    /// What the operator can do.
    fn advice(&self, loss: Loss) -> String {
        let open = |found: &Found| format!("/proc/{}/fd/{}", std::process::id(), found.file.as_raw_fd());
        match loss {
            Loss::Database => format!(
                "mail that is queued goes out as long as this process runs, so copy {} to queue.db and {} to \
                 queue.db-wal before you stop it",
                open(&self.database),
                open(&self.log)
            ),
            Loss::Log => "stop the MTA in good order: that brings home what is in it".to_owned(),
            Loss::Overwritten => {
                "stop the MTA, copy the spool, and save what can be read with sqlite3 and its .recover"
                    .to_owned()
            }
        }
    }
}

impl Found {
    fn at(path: &Path) -> io::Result<Found> {
        let file = File::options().read(true).write(true).open(path)?;
        let identity = identity(&file.metadata()?);
        Ok(Found {
            path: path.to_owned(),
            file,
            identity,
        })
    }

    /// Whether who comes by this path finds this file.
    fn is_there(&self) -> bool {
        match identity_at(&self.path) {
            Ok(found) if found == self.identity => true,
            // There are file systems that number a file anew.
            Ok(found) => self.file.metadata().is_ok_and(|ours| identity(&ours) == found),
            // What can not be seen now need not be gone.
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
        }
    }
}

/// Which file that is: of which file system, and which one there.
type Identity = (u64, u64);

/// Which file is at `path`. Not `stat`, which asks for the times of the file as well: to be able to tell them apart Linux
/// (since 6.13) notes down the time of the next write then, and after each commit that would be one more change of the
/// file system for the next one.
#[cfg(target_os = "linux")]
fn identity_at(path: &Path) -> io::Result<Identity> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
    use rustix::io::Errno;

    match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(found) => Ok((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino)),
        // Not every kernel has it, and not every container lets it through.
        Err(Errno::NOSYS | Errno::PERM) => std::fs::metadata(path).map(|found| identity(&found)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn identity_at(path: &Path) -> io::Result<Identity> {
    std::fs::metadata(path).map(|found| identity(&found))
}

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with both files, as they are when SQLite has opened them.
    fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["queue.db", "queue.db-wal"].map(|name| folder.path().join(name));
        fs::write(&paths[0], [&MAGIC[..], b"and more"].concat()).unwrap();
        fs::write(&paths[1], b"").unwrap();
        let [database, log] = paths;
        (folder, database, log)
    }

    #[test]
    fn what_becomes_of_the_files_is_seen_and_that_they_are_back() {
        let (folder, database, log) = folder();
        let place = Place::of(&database).unwrap();
        assert_eq!((place.look(), place.last_seen()), (None, None));
        let aside = folder.path().join("aside");
        for (file, loss) in [(&database, Loss::Database), (&log, Loss::Log)] {
            fs::rename(file, &aside).unwrap();
            assert_eq!((place.look(), place.last_seen()), (Some(loss), Some(loss)));
            fs::create_dir(file).unwrap();
            assert_eq!(place.look(), Some(loss), "in its place is something else");
            fs::remove_dir(file).unwrap();
            fs::rename(&aside, file).unwrap();
            assert_eq!((place.look(), place.last_seen()), (None, None));
        }
        fs::copy(&database, &aside).unwrap();
        fs::rename(&aside, &database).unwrap();
        assert_eq!(place.look(), Some(Loss::Database), "a copy is another file");
    }

    #[test]
    fn what_is_written_over_the_beginning_or_cut_off_is_seen() {
        let (_folder, database, _) = folder();
        let place = Place::of(&database).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&database).unwrap();
        file.write_all_at(b"garbage", 0).unwrap();
        assert_eq!(place.look(), Some(Loss::Overwritten));
        file.write_all_at(MAGIC, 0).unwrap();
        assert_eq!(place.look(), None);
        file.set_len(3).unwrap();
        assert_eq!(place.look(), Some(Loss::Overwritten));
    }
}
