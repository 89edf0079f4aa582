//! The store: the one thread that writes `queue.db`, and the connections that read it.
//!
//! Whatever arrives while a commit is on its way to the disk goes into the next one: group commit without
//! a timer. Nobody is answered before the commit that holds the work has returned. Never knows what the
//! verbs do.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, Params, Row};

use super::content::{FOLDER, remove};
use super::error::QueueError;
use super::id::{MessageId, Stamps};
use crate::clock::{Clock, Stamp};

/// The schema that this version writes; `user_version` of the database.
const SCHEMA: i64 = 1;

/// Octets of a database page: larger ones make large BLOBs cheaper, and every small change dearer.
const PAGE_SIZE: u32 = 8192;

/// The write-ahead log is copied home when it has this many pages.
const CHECKPOINT_PAGES: u32 = 4000;

/// At most this many pieces of work share one commit.
const GROUP: usize = 512;

/// At most this many wait for the writer; whoever comes then waits to hand over.
const WAITING: usize = 4096;

/// Reading connections that are kept open while nobody needs them.
const IDLE_READERS: usize = 16;

/// How long to wait for somebody else who has locked the database.
const BUSY: Duration = Duration::from_secs(10);

/// The database, its writer and its readers; and the lock that keeps a second MTA away.
#[derive(Debug)]
pub(super) struct Store {
    spool: PathBuf,
    stamps: Arc<Stamps>,
    to_writer: Mutex<Option<Sender<Box<dyn Work>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
    _lock: Option<File>,
}

impl Store {
    /// Opens the database in the folder `spool`; makes both where they do not exist.
    pub(super) fn open(spool: &Path, clock: Clock) -> Result<Store, QueueError> {
        for folder in [spool.to_owned(), spool.join(FOLDER)] {
            make_folder(&folder).map_err(|e| QueueError::file(&folder, e))?;
        }
        let lock = lock(&spool.join("smtpmta.pid"))?;
        let db = open_writer(&spool.join("queue.db"))?;
        sync_folder(spool).map_err(|e| QueueError::file(spool, e))?;
        Store::start(spool, clock, db, Some(lock))
    }

    fn start(spool: &Path, clock: Clock, db: Connection, lock: Option<File>) -> Result<Store, QueueError> {
        let last: i64 = db.query_row(
            "SELECT max(ifnull((SELECT max(id) FROM message), 0), ifnull((SELECT max(value) FROM marker WHERE name = 'last stamp'), 0))",
            [],
            |row| row.get(0),
        )?;
        let stamps = Arc::new(Stamps::after(Stamp(last), clock));
        let (to_writer, work) = bounded(WAITING);
        let (to_sweeper, discarded) = bounded::<Vec<String>>(WAITING);
        let folder = spool.join(FOLDER);
        let sweeper = std::thread::Builder::new()
            .name("wq-sweeper".to_owned())
            .spawn(move || {
                for name in discarded.iter().flatten() {
                    remove(&folder.join(name));
                }
            });
        sweeper.map_err(|e| QueueError::file(spool, e))?;
        let writer = std::thread::Builder::new()
            .name("wq-writer".to_owned())
            .spawn({
                let stamps = Arc::clone(&stamps);
                move || write_in_groups(db, &stamps, &work, &to_sweeper)
            })
            .map_err(|e| QueueError::file(spool, e))?;
        Ok(Store {
            spool: spool.to_owned(),
            stamps,
            to_writer: Mutex::new(Some(to_writer)),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::new(Vec::new()),
            _lock: lock,
        })
    }

    pub(super) fn spool(&self) -> &Path {
        &self.spool
    }

    pub(super) fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// Hands `verb` to the writer. It may run more than once; only a run whose commit returned counts.
    pub(super) fn write<T: Send + 'static>(
        &self,
        verb: impl FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Pending<T> {
        let (answer, pending) = bounded(1);
        let to_writer = self.to_writer.lock().clone();
        if let Some(to_writer) = to_writer {
            // An error is a writer that has stopped: the answer's sender is dropped with the work.
            let _ = to_writer.send(Box::new(Verb {
                verb,
                outcome: None,
                answer,
            }));
        }
        Pending(pending)
    }

    /// Runs `query` on a connection that only reads.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let idle = self.readers.lock().pop();
        let reader = match idle {
            Some(reader) => reader,
            None => open_reader(&self.spool.join("queue.db"))?,
        };
        let result = query(&reader);
        let mut readers = self.readers.lock();
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        result
    }

    /// Writes the database anew without its gaps, on a connection of its own; the writer waits meanwhile.
    pub(super) fn vacuum(&self) -> Result<(), QueueError> {
        let db = Connection::open(self.spool.join("queue.db"))?;
        db.busy_timeout(BUSY)?;
        Ok(db.execute_batch("VACUUM")?)
    }

    /// Lets the writer finish what it has been given, and closes the database.
    pub(super) fn close(&self) {
        drop(self.to_writer.lock().take());
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

/// Work that the writer has been given, and whose answer comes with the commit.
#[derive(Debug)]
pub struct Pending<T>(Receiver<Result<T, QueueError>>);

impl<T> Pending<T> {
    /// Waits for the commit.
    ///
    /// # Errors
    /// When the work or its commit failed: nothing of it was done.
    pub fn wait(self) -> Result<T, QueueError> {
        self.0.recv().unwrap_or(Err(QueueError::Stopped))
    }
}

/// What the writer sees of a verb.
trait Work: Send {
    /// Does the work, in the transaction that is open.
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<(), QueueError>;
    /// Its commit has returned.
    fn committed(self: Box<Self>);
    /// Nothing of it was done.
    fn failed(self: Box<Self>, error: QueueError);
}

struct Verb<F, T> {
    verb: F,
    outcome: Option<T>,
    answer: Sender<Result<T, QueueError>>,
}

impl<F, T> Work for Verb<F, T>
where
    F: FnMut(&mut Ledger<'_>) -> Result<T, QueueError> + Send,
    T: Send,
{
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<(), QueueError> {
        self.outcome = Some((self.verb)(ledger)?);
        Ok(())
    }

    fn committed(self: Box<Self>) {
        // Whoever asked may be gone; the work is done all the same.
        let _ = self.answer.send(self.outcome.ok_or(QueueError::Stopped));
    }

    fn failed(self: Box<Self>, error: QueueError) {
        let _ = self.answer.send(Err(error));
    }
}

/// The transaction that a verb works in.
pub(super) struct Ledger<'w> {
    db: &'w Connection,
    stamps: &'w Stamps,
    counts: HashMap<&'static str, i64>,
    discarded: Vec<String>,
}

impl Ledger<'_> {
    /// Runs one statement with bound parameters; gives the number of rows that it changed.
    pub(super) fn run(&self, sql: &'static str, parameters: impl Params) -> Result<usize, QueueError> {
        Ok(self.db.prepare_cached(sql)?.execute(parameters)?)
    }

    /// The rows that a query gives.
    pub(super) fn rows<T>(
        &self,
        sql: &'static str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, QueueError> {
        rows(self.db, sql, parameters, read)
    }

    /// The first row that a query gives.
    pub(super) fn row<T>(
        &self,
        sql: &'static str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, QueueError> {
        row(self.db, sql, parameters, read)
    }

    /// The database itself, for what has no bound on its rows.
    pub(super) fn db(&self) -> &Connection {
        self.db
    }

    /// The present moment, by the database's own rising clock.
    pub(super) fn now(&self) -> Stamp {
        self.stamps.next()
    }

    /// A row of history: `what` happened to message `id`, or to its recipient `n`.
    pub(super) fn record(
        &self,
        id: MessageId,
        n: Option<u32>,
        what: &'static str,
        text: &str,
    ) -> Result<Stamp, QueueError> {
        let stamp = self.stamps.next();
        self.run(
            "INSERT INTO event (message, stamp, what, n, text) VALUES (?, ?, ?, ?, ?)",
            (id.0, stamp.0, what, n, text),
        )?;
        Ok(stamp)
    }

    /// Adds to a counter of `show stat`.
    pub(super) fn count(&mut self, name: &'static str, by: i64) {
        *self.counts.entry(name).or_default() += by;
    }

    /// Once this transaction is committed, nobody needs this content file any more.
    pub(super) fn discard(&mut self, file: Option<String>) {
        self.discarded.extend(file);
    }

    fn write_counts(&mut self) -> Result<(), QueueError> {
        for (name, by) in std::mem::take(&mut self.counts) {
            self.run(
                "INSERT INTO statistic (name, value) VALUES (?, ?) \
                 ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (name, by),
            )?;
        }
        Ok(())
    }
}

/// The rows that a query gives.
pub(super) fn rows<T>(
    db: &Connection,
    sql: &'static str,
    parameters: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, QueueError> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, read)?;
    Ok(rows.collect::<rusqlite::Result<Vec<T>>>()?)
}

/// The first row that a query gives.
pub(super) fn row<T>(
    db: &Connection,
    sql: &'static str,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, QueueError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(parameters)?;
    Ok(found.next()?.map(&mut read).transpose()?)
}

/// The writer: takes what waits, does it in one transaction, commits, answers.
fn write_in_groups(
    db: Connection,
    stamps: &Stamps,
    work: &Receiver<Box<dyn Work>>,
    to_sweeper: &Sender<Vec<String>>,
) {
    while let Ok(first) = work.recv() {
        let mut group = vec![first];
        group.extend(work.try_iter().take(GROUP - 1));
        match in_one_transaction(&db, stamps, &mut group) {
            Ok(discarded) => {
                group.into_iter().for_each(Work::committed);
                if !discarded.is_empty() {
                    // A sweeper that has more than enough to do leaves them to the next sweep of the folder.
                    let _ = to_sweeper.try_send(discarded);
                }
            }
            Err(error) => one_by_one(&db, stamps, group, error),
        }
    }
    if let Err((_, error)) = db.close() {
        log::error!("queue.db: can not be closed: {error}");
    }
}

/// One that fails fails nobody else: each gets a transaction of its own.
fn one_by_one(db: &Connection, stamps: &Stamps, group: Vec<Box<dyn Work>>, error: QueueError) {
    let mut first_error = Some(error);
    let alone = group.len() == 1;
    for work in group {
        let mut work = vec![work];
        let result = match first_error.take() {
            Some(error) if alone => Err(error),
            _ => in_one_transaction(db, stamps, &mut work),
        };
        for work in work {
            match result {
                Ok(_) => work.committed(),
                Err(ref error) => {
                    log::error!("{error}");
                    break_off(work, error);
                }
            }
        }
    }
}

/// Answers with an error that says the same as `error`.
fn break_off(work: Box<dyn Work>, error: &QueueError) {
    work.failed(match error {
        QueueError::Database(rusqlite::Error::SqliteFailure(code, text)) => {
            QueueError::Database(rusqlite::Error::SqliteFailure(*code, text.clone()))
        }
        QueueError::Panicked => QueueError::Panicked,
        other => QueueError::Database(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
            Some(other.to_string()),
        )),
    });
}

/// Gives the names of the content files that nobody needs any more.
fn in_one_transaction(
    db: &Connection,
    stamps: &Stamps,
    group: &mut [Box<dyn Work>],
) -> Result<Vec<String>, QueueError> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut ledger = Ledger {
            db,
            stamps,
            counts: HashMap::new(),
            discarded: Vec::new(),
        };
        for work in group.iter_mut() {
            work.run(&mut ledger)?;
        }
        ledger.write_counts()?;
        db.prepare_cached("COMMIT")?.execute([])?;
        Ok(ledger.discarded)
    }));
    let result = attempt.unwrap_or(Err(QueueError::Panicked));
    if result.is_err()
        && !db.is_autocommit()
        && let Err(error) = db.execute_batch("ROLLBACK")
    {
        log::error!("queue.db: can not roll back: {error}");
    }
    result
}

fn open_writer(path: &Path) -> Result<Connection, QueueError> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "page_size", PAGE_SIZE)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -32_768)?;
    db.set_prepared_statement_cache_capacity(128);
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        0 => {
            db.execute_batch("BEGIN IMMEDIATE")?;
            db.execute_batch(include_str!("schema.sql"))?;
            db.pragma_update(None, "user_version", SCHEMA)?;
            db.execute_batch("COMMIT")?;
        }
        SCHEMA => {}
        newer => {
            return Err(QueueError::Newer {
                found: newer,
                known: SCHEMA,
            });
        }
    }
    Ok(db)
}

fn open_reader(path: &Path) -> Result<Connection, QueueError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cache_size", -1024)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// A folder that its owner alone may look into: it holds other people's letters.
fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
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
        .mode(0o644);
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

/// Whether the file exists, for the sweep.
pub(super) fn content_files(spool: &Path) -> std::io::Result<fs::ReadDir> {
    fs::read_dir(spool.join(FOLDER))
}
