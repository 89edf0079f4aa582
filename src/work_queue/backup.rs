//! `smtpmta backup`: a copy of a work queue, of an MTA that runs or of none, which can be started as a spool.
//!
//! Reads, and keeps nobody waiting. The database is copied as it is at one moment, in one transaction of a reader, for as
//! long as which its log grows. The content files that this copy names are there until it has them, whatever becomes of
//! their messages (`stay.rs`): it gets them under a second name, or copies them where that can not be. So does what lies in
//! the maildrop at that moment (`drops.rs`). What is not whole,
//! and on the disk, never has the name that was asked for, and nothing is left of what was given up.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::{fmt, process};

use nix::unistd::geteuid;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::damage::text_in;
use super::drops;
use super::error::QueueError;
use super::folder::FOLDER;
use super::id::MessageId;
use super::ledger::{row, rows};
use super::schema::VERSION;
use super::stay::Stay;
use super::verify::{open, unchanging};
use crate::{maildrop, named_file};

/// Pages that are copied before it is looked whether to stop.
const PAGES: i32 = 512;

/// Octets of a file that are.
const PIECE: usize = 1 << 20;

/// Messages of the copy that are looked at in one go.
const STEP: usize = 500;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Messages, with those that have left the queue and are history.
    pub messages: u64,
    /// Of these: in the queue.
    pub in_queue: u64,
    /// Their recipients.
    pub recipients: u64,
    /// Content files.
    pub files: u64,
    /// Octets of all of it.
    pub octets: u64,
    /// Content files that were missing in the original already, although messages in the queue name them.
    pub missing: u64,
}

/// Why there is no copy. Nothing is left of what there was of it.
#[derive(Debug)]
pub enum BackupError {
    /// The original can not be read.
    Queue(QueueError),
    /// There is something where the copy shall be.
    Taken(PathBuf),
    /// The copy can not be written.
    Target(PathBuf, String),
    /// A file has gone while it was kept: whoever removed it knows of no stay.
    Removed(String),
    /// It was told to stop.
    Stopped,
}

impl BackupError {
    pub(super) fn target(path: &Path, error: impl fmt::Display) -> BackupError {
        BackupError::Target(path.to_owned(), error.to_string())
    }
}

impl From<QueueError> for BackupError {
    fn from(error: QueueError) -> BackupError {
        BackupError::Queue(error)
    }
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> BackupError {
        BackupError::Queue(error.into())
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Queue(error) if error.is_damage() => {
                write!(f, "{error}; smtpmta verify tells what is damaged")
            }
            BackupError::Queue(error) => error.fmt(f),
            BackupError::Taken(path) => write!(
                f,
                "{}: is there already, and no empty folder: expected a folder that is to be made",
                path.display()
            ),
            BackupError::Target(path, what) => write!(f, "{}: {what}", path.display()),
            BackupError::Removed(file) => write!(
                f,
                "{FOLDER}/{file} was removed while it was being copied: is an MTA of an earlier version running?"
            ),
            BackupError::Stopped => f.write_str("told to stop; nothing is left of the copy"),
        }
    }
}

impl std::error::Error for BackupError {}

/// Copies the work queue in the folder `spool` to the folder `target`, which it makes. It is asked again and again whether
/// it `is_told_to_stop`.
///
/// # Errors
/// When the original can not be read, or the copy not be written, or it was told to stop.
pub fn backup(
    spool: &Path,
    target: &Path,
    is_told_to_stop: &dyn Fn() -> bool,
) -> Result<Copied, BackupError> {
    let original = spool.join("queue.db");
    let db = open(&original)?;
    let belongs = fs::metadata(&original).map_err(|error| QueueError::file(&original, error))?;
    let partial = Partial::beside(target)?;
    let copies = Copies {
        from: spool.join(FOLDER),
        to: partial.path.join(FOLDER),
        belongs,
        is_told_to_stop,
    };
    // Before the rows are read: what they name stays.
    let stay = match Stay::of(&copies.from, is_told_to_stop) {
        Ok(Some(stay)) => Some(stay),
        Ok(None) => return Err(BackupError::Stopped),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(QueueError::file(&copies.from, error).into()),
    };
    let copy = partial.path.join("queue.db");
    // What has been acknowledged is in the database or lies in the maildrop: nothing moves from one to the other before
    // the database is read.
    let still = drops::still(spool, is_told_to_stop)?;
    let lying = drops::copy(&copies, spool, &partial.path)?;
    copies.database(&db, &copy, move || drop(still))?;
    let in_drops = drops::settle(&copy, lying)?;
    let mut copied = copies.contents(&copy, &original)?;
    drop(stay);
    copied.octets += in_drops;
    copied.octets += fs::metadata(&copy)
        .map_err(|error| BackupError::target(&copy, error))?
        .len();
    let maildrop = Some(partial.path.join(maildrop::FOLDER)).filter(|folder| folder.exists());
    // What is in it first: nobody else can change that as long as it is ours.
    for folder in maildrop.iter().chain([&copies.to, &partial.path]) {
        copies
            .finish(folder)
            .map_err(|error| BackupError::target(folder, error))?;
    }
    partial.finish()?;
    Ok(copied)
}

/// The folder in which a copy is made, beside the one that it will be. Unless it is finished nothing of it stays.
struct Partial {
    path: PathBuf,
    target: PathBuf,
    is_finished: bool,
}

impl Partial {
    fn beside(target: &Path) -> Result<Partial, BackupError> {
        let broken = |error: io::Error| BackupError::target(target, error);
        match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(BackupError::Taken(target.to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(BackupError::Taken(target.to_owned()));
            }
            Err(error) => return Err(broken(error)),
        }
        let Some(name) = target.file_name() else {
            return Err(BackupError::target(target, "expected a folder with a name"));
        };
        let mut name = name.to_owned();
        name.push(format!(".partial-{}", process::id()));
        let path = target.with_file_name(name);
        let make = |folder: &Path| DirBuilder::new().mode(0o700).create(folder);
        make(&path).map_err(|error| BackupError::target(&path, error))?;
        let partial = Partial {
            path,
            target: target.to_owned(),
            is_finished: false,
        };
        make(&partial.path.join(FOLDER)).map_err(broken)?;
        Ok(partial)
    }

    /// Gives the whole copy its name.
    fn finish(mut self) -> Result<(), BackupError> {
        let broken = |error: io::Error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                BackupError::Taken(self.target.clone())
            }
            _ => BackupError::target(&self.target, error),
        };
        fs::rename(&self.path, &self.target).map_err(broken)?;
        self.is_finished = true;
        let above = match self.target.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        sync(above).map_err(|error| BackupError::target(above, error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_finished {
            // What can not be removed says by its name what it is.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// How the copies are made.
pub(super) struct Copies<'s> {
    from: PathBuf,
    to: PathBuf,
    /// The original of the database: the copy belongs to whom it belongs.
    pub(super) belongs: Metadata,
    is_told_to_stop: &'s dyn Fn() -> bool,
}

impl Copies<'_> {
    pub(super) fn heed(&self) -> Result<(), BackupError> {
        match (self.is_told_to_stop)() {
            true => Err(BackupError::Stopped),
            false => Ok(()),
        }
    }

    /// Who copies for somebody else, as only root may, gives it to him.
    fn hand_over(&self, made: &File) -> io::Result<()> {
        let (ours, theirs) = (made.metadata()?, &self.belongs);
        if (ours.uid(), ours.gid()) == (theirs.uid(), theirs.gid()) {
            return Ok(());
        }
        match fchown(made, Some(theirs.uid()), Some(theirs.gid())) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            done => done,
        }
    }

    /// The same with what is there, which is on the disk then.
    pub(super) fn finish(&self, made: &Path) -> io::Result<()> {
        let made = File::open(made)?;
        self.hand_over(&made)?;
        made.sync_all()
    }

    /// Copies the database as it is at one moment, at which it does what is to be done then.
    fn database(&self, db: &Connection, to: &Path, at_that_moment: impl FnOnce()) -> Result<(), BackupError> {
        let broken = |error: rusqlite::Error| match QueueError::from(error) {
            error if error.is_damage() => BackupError::Queue(error),
            QueueError::Database(error) => BackupError::target(to, error),
            error => BackupError::target(to, error),
        };
        make_file(to).map_err(|error| BackupError::target(to, error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut copy = Connection::open_with_flags(to, flags).map_err(broken)?;
        // Nobody has it yet: it is synced as a whole when it is whole.
        copy.pragma_update(None, "journal_mode", "OFF").map_err(broken)?;
        copy.pragma_update(None, "synchronous", "OFF").map_err(broken)?;
        db.execute_batch("BEGIN")?;
        // The first thing that is read in it says of which moment it is.
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        at_that_moment();
        if found > VERSION {
            let known = VERSION;
            return Err(QueueError::Newer { found, known }.into());
        }
        {
            let pages = Backup::new(db, &mut copy).map_err(broken)?;
            loop {
                self.heed()?;
                match pages.step(PAGES).map_err(broken)? {
                    StepResult::Done => break,
                    StepResult::More => {}
                    // In that transaction nobody keeps us from reading, and nobody else has the copy.
                    _ => return Err(QueueError::Locked.into()),
                }
            }
        }
        db.execute_batch("COMMIT")?;
        copy.close().map_err(|(_, error)| broken(error))?;
        self.finish(to).map_err(|error| BackupError::target(to, error))
    }

    /// Brings the content files that the copy names, and counts what is in it.
    fn contents(&self, copy: &Path, original: &Path) -> Result<Copied, BackupError> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let copy = Connection::open_with_flags(unchanging(copy), flags)?;
        let mut copied = Copied::default();
        let mut after = i64::MIN;
        loop {
            self.heed()?;
            let messages = rows(
                &copy,
                "SELECT id, left_at IS NULL, file, file IS NOT NULL AND (left_at IS NULL \
                   OR EXISTS (SELECT 1 FROM recipient r WHERE r.message = message.id AND r.state = 14)) \
                 FROM message WHERE id > ? ORDER BY id LIMIT ?",
                (after, STEP),
                |row| {
                    let needed = row.get::<_, bool>(3)?.then(|| text_in(row, 2)).flatten();
                    Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, needed))
                },
            )?;
            let Some((last, ..)) = messages.last().filter(|(last, ..)| *last > after) else {
                return Ok(copied);
            };
            let counted = "SELECT count(*) FROM recipient WHERE message > ? AND message <= ?";
            copied.recipients += row(&copy, counted, (after, last), |row| row.get::<_, u64>(0))?.unwrap_or(0);
            copied.messages += messages.len() as u64;
            after = *last;
            for (id, is_in_queue, file) in messages {
                copied.in_queue += u64::from(is_in_queue);
                let Some(file) = file else { continue };
                match self.bring(&file)? {
                    Some(octets) => {
                        copied.files += 1;
                        copied.octets += octets;
                    }
                    None => {
                        if !is_still_named(original, id, &file)? {
                            return Err(BackupError::Removed(file));
                        }
                        copied.missing += 1;
                    }
                }
            }
        }
    }

    /// Brings a content file: how many octets it has; `None` if there is no such file.
    fn bring(&self, name: &str) -> Result<Option<u64>, BackupError> {
        self.heed()?;
        // Somebody else may have written the row.
        if !name.split('.').all(|part| part.parse::<MessageId>().is_ok()) {
            return Ok(None);
        }
        let (from, to) = (self.from.join(name), self.to.join(name));
        let unreadable = |error| QueueError::file(&from, error);
        let original = match named_file::open_no_link(&from) {
            Ok(original) => original,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error).into()),
        };
        let found = original.metadata().map_err(unreadable)?;
        // Whoever copies for somebody else may read what that one may not.
        let (owner, theirs) = (found.uid(), self.belongs.uid());
        if owner != theirs && theirs != geteuid().as_raw() {
            let whose = format!("it belongs to user {owner}, and queue.db to {theirs}: chown it");
            return Err(unreadable(io::Error::other(whose)).into());
        }
        // Content is never written to again. On another file system, and where files have one name only, it is copied.
        let is_linked = fs::hard_link(&from, &to).is_ok();
        let is_it = |linked: Metadata| (linked.dev(), linked.ino()) == (found.dev(), found.ino());
        if is_linked && !fs::symlink_metadata(&to).is_ok_and(is_it) {
            fs::remove_file(&to).map_err(|error| BackupError::target(&to, error))?;
            return self.copy_of(original, &from, &to).map(|()| Some(found.len()));
        }
        if !is_linked {
            self.copy_of(original, &from, &to)?;
        }
        Ok(Some(found.len()))
    }

    /// Copies an open file, which is called `from`.
    pub(super) fn copy_of(&self, mut original: File, from: &Path, to: &Path) -> Result<(), BackupError> {
        let unreadable = |error| QueueError::file(from, error);
        let broken = |error| BackupError::target(to, error);
        let mut copy = make_file(to).map_err(broken)?;
        let mut piece = vec![0; PIECE];
        loop {
            self.heed()?;
            match original.read(&mut piece) {
                Ok(0) => break,
                Ok(octets) => copy.write_all(&piece[..octets]).map_err(broken)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error).into()),
            }
        }
        copy.sync_all().map_err(broken)?;
        self.hand_over(&copy).map_err(broken)
    }
}

/// Whether the message still names this file in the original, as it is now.
fn is_still_named(original: &Path, id: i64, file: &str) -> Result<bool, QueueError> {
    let named = "SELECT file = ?1 AND (left_at IS NULL \
           OR EXISTS (SELECT 1 FROM recipient WHERE message = ?2 AND state = 14)) \
         FROM message WHERE id = ?2";
    let named = row(&open(original)?, named, (file, id), |row| {
        row.get::<_, Option<bool>>(0)
    })?;
    Ok(named.flatten() == Some(true))
}

/// A file that its owner alone may read.
fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
