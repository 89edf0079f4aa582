//! The way home: what stands in the write-ahead log is copied into `queue.db` (a checkpoint), by one at a time.
//!
//! The copies have to be on the disk before the log may begin anew. Where others write to the log meanwhile SQLite counts
//! pages as being at home which it has not synced; it syncs them later, with the last ones. If that sync fails the system
//! drops what it could not write and holds it for written, and nobody would ever copy those pages again. So after a sync
//! that failed everything that is counted as being at home is copied out of the log once more, before anything else is.
//! Never copies out of a log that is in doubt: see [`Doubt`].

use std::collections::BTreeMap;
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
const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// What a log begins with; one more where its checksums take the higher octet first.
const LOG_MAGIC: u32 = 0x377f_0682;

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
        let broken = |error| QueueError::file(self.0.place.path(), error);
        if turn.is_unsure {
            // Nobody copies meanwhile, and the log does not begin anew before all of it is at home, and synced.
            let at_home = db.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, i64>(2))?;
            let at_home = usize::try_from(at_home).unwrap_or(0);
            copy_anew(self.0.place.database(), self.0.place.log(), at_home).map_err(broken)?;
            turn.is_unsure = false;
        }
        let sql = match how {
            How::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
            How::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        let gone = db.query_row(sql, [], |row| Ok((row.get::<_, i32>(0)?, row.get::<_, i32>(2)?)));
        let (is_busy, copied) = gone.map_err(|error| {
            let error = QueueError::from(error);
            turn.is_unsure |= error.may_have_happened();
            error
        })?;
        Ok((is_busy == 0, copied.max(0)))
    }
}

/// Copies the first `at_home` frames of `log` to `database` once more, of each page the last one, and syncs them. Nobody
/// else may be copying.
///
/// # Errors
/// When a file can not be read, written or synced, or the log does not hold so many frames.
fn copy_anew(database: &File, log: &File, at_home: usize) -> io::Result<()> {
    let Some(frames) = at_home.checked_sub(1) else {
        return database.sync_data();
    };
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("its log {what}"));
    let mut head = [0; LOG_HEAD];
    log.read_exact_at(&mut head, 0)?;
    let order = match word(&head, 0).wrapping_sub(LOG_MAGIC) {
        0 => u32::from_le_bytes,
        1 => u32::from_be_bytes,
        _ => return Err(broken("does not begin like one")),
    };
    let size = usize::try_from(word(&head, 8)).map_err(io::Error::other)?;
    let place = |number: usize| (LOG_HEAD + number * (FRAME_HEAD + size)) as u64;
    let mut sum = Sum {
        order,
        so_far: (0, 0),
    };
    sum.add(&head[..24]);
    let mut frame = vec![0; FRAME_HEAD + size];
    let (mut last, mut pages) = (BTreeMap::new(), 0);
    for number in 0..=frames {
        log.read_exact_at(&mut frame, place(number))?;
        sum.add(&frame[..8]);
        sum.add(&frame[FRAME_HEAD..]);
        if frame[8..16] != head[16..24] || sum.so_far != (word(&frame, 16), word(&frame, 20)) {
            return Err(broken(&format!("is damaged at frame {number}")));
        }
        last.insert(word(&frame, 0), number);
        // Where a transaction ends it says how many pages the database has.
        match word(&frame, 4) {
            0 => {}
            all => pages = all,
        }
    }
    for (page, number) in last.iter().filter(|(page, _)| (1..=pages).contains(*page)) {
        log.read_exact_at(&mut frame, place(*number))?;
        database.write_all_at(&frame[FRAME_HEAD..], u64::from(page - 1) * size as u64)?;
    }
    database.sync_data()
}

/// The number in a log that begins at octet `at`.
fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

/// The checksum of a log: each frame has that of all before it (SQLite's file format, 4.2).
struct Sum {
    order: fn([u8; 4]) -> u32,
    so_far: (u32, u32),
}

impl Sum {
    fn add(&mut self, octets: &[u8]) {
        let (mut first, mut second) = self.so_far;
        for pair in octets.chunks_exact(8) {
            let of = |at: usize| (self.order)([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
            first = first.wrapping_add(of(0)).wrapping_add(second);
            second = second.wrapping_add(of(4)).wrapping_add(first);
        }
        self.so_far = (first, second);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use rusqlite::OpenFlags;

    use super::*;

    /// A database with a log, and its way home.
    struct World {
        folder: tempfile::TempDir,
        db: Connection,
        home: Home,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("queue.db");
            let db = Connection::open(&path).unwrap();
            db.execute_batch(
                "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT); \
                 PRAGMA wal_checkpoint(TRUNCATE)",
            )
            .unwrap();
            let place = Arc::new(Place::of(&path).unwrap());
            let home = Home::new(place, Doubt::of(&folder.path().join("none")));
            World { folder, db, home }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("queue.db")
        }

        /// Writes rows with these numbers over what there is.
        fn write(&self, numbers: std::ops::Range<usize>) {
            for n in numbers {
                let text = format!("{n} ").repeat(200);
                let sql = "INSERT OR REPLACE INTO t VALUES (?, ?)";
                self.db.execute(sql, (n % 100, text)).unwrap();
            }
        }

        /// Somebody who reads what there is now.
        fn reader(&self) -> Connection {
            let reader = Connection::open(self.path()).unwrap();
            let begin = "BEGIN; SELECT count(*) FROM sqlite_schema";
            reader.execute_batch(begin).unwrap();
            reader
        }

        /// A sync fails, and the disk loses what was not synced of the database: it is what it was `before`.
        fn lose(&self, before: &[u8]) {
            let file = fs::OpenOptions::new().write(true).open(self.path()).unwrap();
            file.write_all_at(before, 0).unwrap();
            self.home.0.turn.lock().is_unsure = true;
        }
    }

    /// What is in the database at `path`, as it is without its log.
    fn rows_without_log(path: &Path) -> i64 {
        let copy = tempfile::tempdir().unwrap();
        let alone = copy.path().join("alone.db");
        fs::copy(path, &alone).unwrap();
        let db = Connection::open_with_flags(&alone, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let sound: String = db
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn what_the_disk_lost_of_the_copies_is_copied_once_more() {
        let world = World::new();
        world.write(0..50);
        let before = fs::read(world.path()).unwrap();
        // No more than this comes home as long as somebody reads it, and as there is more nothing is synced.
        let reader = world.reader();
        world.write(50..100);
        assert!(world.home.copy(&world.db).unwrap() > 0);
        assert_ne!(fs::read(world.path()).unwrap(), before);
        world.lose(&before);
        reader.execute_batch("COMMIT").unwrap();
        assert!(world.home.cut(&world.db).unwrap());
        assert_eq!(rows_without_log(&world.path()), 100);
    }

    #[test]
    fn no_page_comes_further_than_it_is_counted() {
        let sum = |db: &Connection| {
            db.query_row("SELECT sum(length(text)) FROM t", [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        let world = World::new();
        let before = fs::read(world.path()).unwrap();
        world.write(0..100);
        // Somebody reads the log, so that it goes on behind this.
        let _other = world.reader();
        world.home.copy(&world.db).unwrap();
        world.write(0..1);
        // What is at home already this one reads there.
        let reader = world.reader();
        let seen = sum(&world.db);
        world.write(1000..1100);
        world.lose(&before);
        world.home.copy(&world.db).unwrap();
        assert_eq!(sum(&reader), seen, "who reads does not see what came later");
        assert_ne!(sum(&world.db), seen);
    }

    #[test]
    fn what_is_at_home_as_a_whole_may_be_copied_again() {
        let world = World::new();
        world.write(0..100);
        world.home.copy(&world.db).unwrap();
        let whole = fs::read(world.path()).unwrap();
        for _ in 0..2 {
            world.lose(&[]);
            world.home.copy(&world.db).unwrap();
            assert_eq!(fs::read(world.path()).unwrap(), whole);
        }
        assert!(world.home.cut(&world.db).unwrap());
        world.lose(&[]);
        assert!(world.home.cut(&world.db).unwrap(), "an empty log holds nothing");
        assert_eq!(rows_without_log(&world.path()), 100);
    }

    #[test]
    fn a_log_that_does_not_hold_what_is_counted_is_told_of_and_nothing_is_copied() {
        let world = World::new();
        world.write(0..100);
        let _reader = world.reader();
        world.write(0..10);
        world.home.copy(&world.db).unwrap();
        let log = world.folder.path().join("queue.db-wal");
        let file = fs::OpenOptions::new().write(true).open(log).unwrap();
        file.write_all_at(b"garbage", 3 * 4096).unwrap();
        let whole = fs::read(world.path()).unwrap();
        world.lose(&[]);
        for _ in 0..2 {
            let error = world.home.copy(&world.db).unwrap_err().to_string();
            assert!(error.contains("is damaged at frame 2"), "{error}");
            assert_eq!(fs::read(world.path()).unwrap(), whole);
        }
    }
}
