//! The store: `queue.db` and its folder, opened and locked; the way to its writer, and the connections that
//! read it.
//!
//! Never knows what the verbs do.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use super::broken::Broken;
use super::content::remove;
use super::copier::Copier;
use super::database::Database;
use super::doubt::Doubt;
use super::error::QueueError;
use super::failures::LastFailures;
use super::folder::ContentFolder;
use super::home::Home;
use super::hopper::Pending;
use super::housekeeping::Gaps;
use super::id::Stamps;
use super::intake::{Deed, Intake, Ticket};
use super::ledger::{self, Counts, LAST_CERTAIN, LAST_MOMENT, LAST_STAMP, Ledger};
use super::passage::Passage;
use super::patience::{BUSY, Patience};
use super::pin::Guidance;
use super::place::{Loss, Place};
use super::recall::Recalls;
use super::schema::bring_up;
use super::stay::Remover;
use super::writer::{Durability, Writer};
use crate::clock::{Clock, Moment, Stamp, Watch};
use crate::crash_point::{CrashPoint, reach};
use crate::metrics::Metrics;
use crate::sync::{Mutex, thread};
use crate::tasks::bell::Bell;

/// Octets of a database page: larger ones make large BLOBs cheaper, and every small change dearer.
const PAGE_SIZE: u32 = 8192;

/// Whatever has kept the write-ahead log from being copied home, it is no larger than this afterwards.
const LOG_OCTETS: u32 = 16 << 20;

/// A database of an earlier version is written anew when it is opened, so that its gaps can be given back from then
/// on, if it holds no more than this: that is done in a second or two.
const WRITTEN_ANEW: i64 = 256 << 20;

/// At most this many wait for the writer; whoever comes then waits to hand over.
const WAITING: usize = 4096;

/// Reading connections that are kept open while nobody needs them.
const IDLE_READERS: usize = 16;

/// After a step of long work the others have the writer for so many times as long as it took …
const OTHERS: u32 = 4;
/// … but for no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// While somebody keeps content files for a copy, so often it is looked whether he still does …
const LOOK_AT_STAY: Duration = Duration::from_millis(500);
/// … and no more than so many are remembered: the next sweep of the folder finds the others.
const MOST_KEPT: usize = 200_000;

/// How long whoever cuts the log waits each time for those who read it; nobody else can write meanwhile.
const CUT_PATIENCE: Duration = Duration::from_millis(25);
/// How often it is tried to cut the write-ahead log.
const TRIES: usize = 20;

/// What was given in the time before a crash is not written down; that is no more than this.
const NOT_WRITTEN_DOWN: Duration = Duration::from_secs(60);

/// What others may do to a file.
const OTHERS_RIGHTS: u32 = 0o007;

/// How long whatever is still to be written waits at the end for somebody else who has locked the database.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// The database, its writer and its readers; and the lock that keeps a second MTA away.
pub(super) struct Store {
    spool: PathBuf,
    place: Arc<Place>,
    content: Arc<ContentFolder>,
    stamps: Arc<Stamps>,
    broken: Arc<Broken>,
    recalls: Recalls,
    guidance: Guidance,
    importing: Mutex<()>,
    failures: Arc<LastFailures>,
    watch: Arc<Watch>,
    intake: Arc<Intake<Database>>,
    passage: Passage,
    forgetting: Mutex<()>,
    patience: Patience,
    home: Home,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
    _lock: File,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.spool.display())
    }
}

impl Store {
    /// Opens the database in the folder `spool`; makes both where they do not exist.
    pub(super) fn open(spool: &Path, clock: Clock) -> Result<Store, QueueError> {
        for folder in [spool, ContentFolder::below(spool).path()] {
            make_folder(folder).map_err(|e| QueueError::file(folder, e))?;
        }
        let lock = lock(&spool.join("smtpmta.pid"))?;
        let path = spool.join("queue.db");
        make_private(&path).map_err(|e| QueueError::file(&path, e))?;
        for name in ["queue.db", "queue.db-wal", "queue.db-shm", "smtpmta.pid"] {
            close_to_others(&spool.join(name));
        }
        let doubt = Doubt::of(&path);
        let patience = Patience::default();
        let db = open_writer(&path, &patience)?;
        let place = Arc::new(Place::of(&path).map_err(|e| QueueError::file(&path, e))?);
        sync_folder(spool).map_err(|e| QueueError::file(spool, e))?;
        Store::start(spool, clock, (db, patience), (place, doubt), lock)
    }

    fn start(
        spool: &Path,
        clock: Clock,
        (mut db, patience): (Connection, Patience),
        (place, doubt): (Arc<Place>, Doubt),
        lock: File,
    ) -> Result<Store, QueueError> {
        let last: i64 = db.query_row(
            "SELECT max(ifnull((SELECT max(id) FROM message), 0), \
                        ifnull((SELECT value FROM marker WHERE name = ?), 0))",
            [LAST_STAMP],
            |row| row.get(0),
        )?;
        let marked = |name: &'static str| {
            let sql = "SELECT value FROM marker WHERE name = ?";
            ledger::row(&db, sql, [name], |row| row.get(0).map(Stamp))
        };
        let (shown, certain) = (marked(LAST_MOMENT)?, marked(LAST_CERTAIN)?);
        let last_moment = shown.map(|shown| Moment {
            shown,
            certain: certain.unwrap_or(shown),
        });
        let last = Stamp(last);
        // With the clock set back nothing else tells which stamps were given since that was written down.
        let is_behind = clock.now() <= last;
        let unknown = if is_behind {
            NOT_WRITTEN_DOWN
        } else {
            Duration::ZERO
        };
        let watch = Arc::new(Watch::new(clock, last_moment));
        let stamps = Arc::new(Stamps::after(last.plus(unknown), Arc::clone(&watch)));
        let intake = Arc::new(Intake::new(WAITING));
        let broken = Arc::new(Broken::default());
        let failures = Arc::new(LastFailures::default());
        let log_pages = Arc::new(AtomicI32::new(0));
        let counted = Arc::clone(&log_pages);
        db.wal_hook(Some(move |_: &mut Wal, pages| {
            counted.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let (sweeper, discarded) = bounded::<Vec<String>>(WAITING);
        let content = Arc::new(ContentFolder::below(spool).scattered());
        let folder = content.path().to_owned();
        let sweeping = std::thread::Builder::new()
            .name("wq-sweeper".to_owned())
            .spawn(move || sweep_up(&folder, &discarded));
        sweeping.map_err(|e| QueueError::file(spool, e))?;
        let home = Home::new(Arc::clone(&place), doubt.clone());
        let copier = Copier::start(&spool.join("queue.db"), home.clone())?;
        let writer = thread::Builder::new()
            .name("wq-writer".to_owned())
            .spawn({
                let (stamps, intake) = (Arc::clone(&stamps), Arc::clone(&intake));
                let (broken, failures) = (Arc::clone(&broken), Arc::clone(&failures));
                let (place, home) = (Arc::clone(&place), home.clone());
                move || {
                    let book = Database {
                        db,
                        place,
                        stamps,
                        broken,
                        failures,
                        sweeper,
                        log_pages,
                        home,
                        copier,
                        durability: Durability::Synced,
                        doubt,
                        spares_content: false,
                    };
                    Writer { book, intake }.run()
                }
            })
            .map_err(|e| QueueError::file(spool, e))?;
        Ok(Store {
            spool: spool.to_owned(),
            place,
            content,
            stamps,
            broken,
            recalls: Recalls::default(),
            guidance: Guidance::default(),
            importing: Mutex::new(()),
            failures,
            watch,
            intake,
            passage: Passage::default(),
            forgetting: Mutex::new(()),
            patience,
            home,
            writer: Mutex::new(Some(writer)),
            readers: Mutex::new(Vec::new()),
            _lock: lock,
        })
    }

    pub(super) fn spool(&self) -> &Path {
        &self.spool
    }

    /// Whether what is committed is where anybody will find it; what is wrong. Where something was wrong this looks
    /// again, and otherwise says what the writer saw after its last commit.
    pub(super) fn loss(&self) -> Option<Loss> {
        self.place.last_seen().and_then(|_| self.place.look())
    }

    /// Nobody opens what is in the place of the database now, but is not it.
    pub(super) fn in_its_place(&self) -> Result<PathBuf, QueueError> {
        match self.place.look() {
            Some(loss) => Err(QueueError::Lost(loss)),
            None => Ok(self.spool.join("queue.db")),
        }
    }

    /// Where the content files are.
    pub(super) fn content(&self) -> &Arc<ContentFolder> {
        &self.content
    }

    /// What the conversion tasks have left for mail that only passes through.
    pub(super) fn passage(&self) -> &Passage {
        &self.passage
    }

    /// Held by whoever forgets messages, for a step.
    pub(super) fn forgetting(&self) -> &Mutex<()> {
        &self.forgetting
    }

    pub(super) fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// The messages that are passed over.
    pub(super) fn broken(&self) -> &Broken {
        &self.broken
    }

    /// What is wanted of messages in the hands of session handlers.
    pub(super) fn recalls(&self) -> &Recalls {
        &self.recalls
    }

    /// What the configuration says of the ways of mail.
    pub(super) fn guidance(&self) -> &Guidance {
        &self.guidance
    }

    /// Whoever imports has this.
    pub(super) fn importing(&self) -> &Mutex<()> {
        &self.importing
    }

    /// The clock, and what was seen of it, before the database was opened, too.
    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Hands `verb` to the writer. It may run more than once; only a run whose commit returned counts. That commit has
    /// been synced.
    pub(super) fn write<T: Send + 'static>(
        &self,
        verb: impl FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Pending<T> {
        self.write_as(Durability::Synced, verb)
    }

    /// Like [`Store::write`]; the commit need not be more durable than that.
    pub(super) fn write_as<T: Send + 'static>(
        &self,
        durability: Durability,
        verb: impl FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Pending<T> {
        self.write_and_kick(durability, Vec::new(), verb)
    }

    /// Like [`Store::write_as`]; `kicks` ring as soon as it has been committed. That is one hand-over sooner than if the
    /// one who waits for the commit rang them.
    pub(super) fn write_and_kick<T: Send + 'static>(
        &self,
        durability: Durability,
        kicks: Vec<Bell>,
        verb: impl FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Pending<T> {
        self.intake.put(durability, kicks, verb)
    }

    /// Leaves a deputy with the writer: see [`Intake::deputize`].
    pub(super) fn deputize(&self, bell: Bell, deed: Arc<Deed<Database>>) -> Ticket {
        self.intake.deputize(bell, deed)
    }

    /// Takes it back: see [`Intake::withdraw`].
    pub(super) fn withdraw(&self, ticket: Ticket) {
        self.intake.withdraw(ticket);
    }

    /// Hands a step of work that takes many of them to the writer, and waits for it. If others have work for the
    /// writer, too, they have it to themselves for a while then: it is mail that waits meanwhile.
    pub(super) fn write_step<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (given, begun) = (self.intake.hopper().given(), Instant::now());
        let done = self.write(step).wait()?;
        if self.intake.hopper().given() - given > 1 {
            std::thread::park_timeout((begun.elapsed() * OTHERS).min(LONGEST_PAUSE));
        }
        Ok(done)
    }

    /// What is measured while mail flows.
    pub(super) fn metrics(&self) -> &Metrics {
        self.intake.metrics()
    }

    /// The last failures.
    pub(super) fn failures(&self) -> &LastFailures {
        &self.failures
    }

    /// What has been counted, and is not in the database yet.
    pub(super) fn uncounted(&self) -> Counts {
        self.intake.uncounted().lock().clone()
    }

    /// Runs `query` on a connection that only reads.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let idle = self.readers.lock().pop();
        let reader = match idle {
            Some(reader) => reader,
            None => open_reader(&self.in_its_place()?)?,
        };
        let result = query(&reader);
        let mut readers = self.readers.lock();
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        result
    }

    /// Copies the write-ahead log home and cuts it, unless others use it all the time. The writer waits for moments
    /// meanwhile.
    pub(super) fn cut_log(&self) -> Result<(), QueueError> {
        let db = Connection::open_with_flags(self.in_its_place()?, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.busy_timeout(CUT_PATIENCE)?;
        // Nobody writes while it is cut, but beside this: what is left then is short.
        self.home.copy(&db)?;
        for _ in 0..TRIES {
            if self.home.cut(&db)? {
                break;
            }
            std::thread::park_timeout(LONGEST_PAUSE * OTHERS);
        }
        Ok(())
    }

    /// Whatever is to be written waits no longer for somebody else who has locked the database than there is time left,
    /// and then for a moment.
    pub(super) fn hurry(&self, left: Duration) {
        self.patience.end_within(left);
    }

    /// Lets the writer finish what it has been given, and closes the database.
    pub(super) fn close(&self) {
        self.hurry(LAST_PATIENCE);
        self.intake.hopper().close();
        self.readers.lock().clear();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            log::error!("the work queue's writer ended in a panic");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// Removes the content files of messages that have left, as they come; but none while somebody keeps them.
pub(super) fn sweep_up(folder: &Path, discarded: &Receiver<Vec<String>>) {
    let mut remover = Remover::of(folder);
    let mut names: Vec<String> = Vec::new();
    loop {
        let more = if names.is_empty() {
            discarded.recv().map_err(RecvTimeoutError::from)
        } else {
            discarded.recv_timeout(LOOK_AT_STAY)
        };
        let is_over = more == Err(RecvTimeoutError::Disconnected);
        names.extend(more.unwrap_or_default());
        names.truncate(MOST_KEPT);
        remover.unless_kept(|| {
            for name in names.drain(..) {
                reach(CrashPoint::FileDiscarded);
                remove(&folder.join(name));
            }
        });
        if is_over {
            return;
        }
    }
}

fn open_writer(path: &Path, patience: &Patience) -> Result<Connection, QueueError> {
    // Each connection belongs to one thread at a time, and needs no lock of its own.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_handler(Some(patience.clone().waiter()))?;
    db.pragma_update(None, "page_size", PAGE_SIZE)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "journal_size_limit", LOG_OCTETS)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -32_768)?;
    steady(&db)?;
    db.set_prepared_statement_cache_capacity(128);
    bring_up(&db)?;
    if let Err(error) = make_compactable(&db) {
        log::warn!("queue.db could not be written anew; its gaps are used again, not given back: {error}");
    }
    Ok(db)
}

/// Sees to it that gaps can be given back in small steps; a database of an earlier version is written anew for that.
fn make_compactable(db: &Connection) -> Result<(), QueueError> {
    let gaps = Gaps::of(db)?;
    if gaps.stay() && gaps.left() <= WRITTEN_ANEW {
        db.execute_batch("VACUUM")?;
    }
    Ok(())
}

/// A statement keeps its plan whatever is bound to it; otherwise it would be prepared anew for every value.
fn steady(db: &Connection) -> Result<(), QueueError> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn open_reader(path: &Path) -> Result<Connection, QueueError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cache_size", -1024)?;
    steady(&db)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// A folder that its owner alone may look into: it holds other people's letters. What has to be made for it outlives a
/// power cut.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let above = missing.into_iter().filter_map(Path::parent);
    for folder in above {
        sync_folder(if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        })?;
    }
    Ok(())
}

/// Makes the file, if there is none, so that its owner alone may look into it: others may come through the spool, to the
/// maildrop. Its log is made as it is.
fn make_private(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Takes the rights of others from a file that is there already: a copy that was put back may be everybody's. Those of its
/// group stay: somebody may have let it in.
fn close_to_others(path: &Path) {
    let Ok(found) = path.symlink_metadata() else {
        return;
    };
    let mode = found.mode() & 0o7777;
    if !found.is_file() || mode & OTHERS_RIGHTS == 0 {
        return;
    }
    match std::fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS_RIGHTS)) {
        Ok(()) => log::info!(
            "file=\"{}\" closed to others; its mode was {mode:04o}",
            path.display()
        ),
        Err(error) => log::warn!(
            "file=\"{}\" mode={mode:04o} can not be closed to others: {error}",
            path.display()
        ),
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Takes the lock file for this process and writes its ID into it.
fn lock(path: &Path) -> Result<File, QueueError> {
    let broken = |e| QueueError::file(path, e);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // Who can open it can lock it.
        .mode(0o600);
    let mut file = options.open(path).map_err(broken)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut by = String::new();
            let _ = file.read_to_string(&mut by);
            return Err(QueueError::InUse {
                path: path.to_owned(),
                by: by.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(e)) => return Err(broken(e)),
    }
    file.set_len(0).map_err(broken)?;
    file.rewind().map_err(broken)?;
    writeln!(file, "{}", std::process::id()).map_err(broken)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_was_put_back_is_closed_to_others_and_to_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        Store::open(folder.path(), Clock::System).unwrap().close();
        for (before, after) in [(0o644, 0o640), (0o666, 0o660), (0o600, 0o600)] {
            std::fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            Store::open(folder.path(), Clock::System).unwrap().close();
            let mode = path.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, after, "{before:o}");
        }
    }
}
