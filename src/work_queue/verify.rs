//! `smtpmta verify`: looks a whole work queue through, of an MTA that runs or of none, or a copy of it.
//!
//! [`verify_until`] does as much of that as there is time for.
//!
//! Walks, and keeps no more than a few hundred rows and the first findings of each kind in memory. Reads, and changes
//! nothing; nobody waits for it. Where it wants to see all at one moment, for the account, the write-ahead log grows
//! meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::account::Account;
use super::damage::text_in;
use super::error::QueueError;
use super::folder::FOLDER;
use super::id::MessageId;
use super::inspection::{Census, Finding, Seen, contents, cut, histories, messages, recipients};
use super::ledger;
use super::moves::hop_fault;
use super::schema::VERSION;
use super::soundness::Kind;
use super::states::State;

/// So many findings of each kind are told; of the others, how many they are.
const TOLD: usize = 20;

/// Messages, or next hops, that are looked at in one go.
const STEP: usize = 200;

/// SQLite stops to look when it has found so much.
const MOST_DAMAGE: u32 = 100;

/// How often, in steps of SQLite, who has no more than some time looks at the clock.
const STEPS: i32 = 10_000;

/// How long to wait for somebody else who has locked the database.
const BUSY: Duration = Duration::from_secs(10);

/// What came of looking a work queue through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// What was found, as far as it is told: by its kind, the heaviest first.
    pub findings: Vec<Finding>,
    /// Of which kinds there is more, and how much.
    pub more: Vec<(Kind, usize)>,
    /// Messages that were looked at.
    pub messages: u64,
    /// Of these: in the queue.
    pub in_queue: u64,
    /// Recipients that were looked at.
    pub recipients: u64,
    /// Next hops that were looked at.
    pub next_hops: u64,
    /// The account, where it was asked for and could be drawn up.
    pub account: Option<Account>,
}

impl Verdict {
    /// Whether the queue is in order.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.findings.iter().all(|finding| finding.kind.is_harmless())
            && self.account.as_ref().is_none_or(Account::is_in_order)
    }
}

/// Looks the work queue in the folder `spool` through, and draws its account up if that is wanted.
///
/// # Errors
/// When there is none, or it can not be read at all. A damaged one is a finding.
pub fn verify(spool: &Path, with_account: bool) -> Result<Verdict, QueueError> {
    look(spool, with_account, None).map(|(verdict, _)| verdict)
}

/// Looks as much of it through as can be done before `until`, without the account, and whether each index holds what its
/// table holds. Gives what was found, and whether that is all.
///
/// # Errors
/// When there is no work queue, or it can not be read at all.
pub fn verify_until(spool: &Path, until: Instant) -> Result<(Verdict, bool), QueueError> {
    look(spool, false, Some(until))
}

fn look(spool: &Path, with_account: bool, until: Option<Instant>) -> Result<(Verdict, bool), QueueError> {
    let path = spool.join("queue.db");
    let mut findings = Findings::default();
    let mut verdict = Verdict::default();
    let (mut db, mut fresh) = (open(&path)?, open(&path)?);
    if let Some(until) = until {
        for db in [&mut db, &mut fresh] {
            db.progress_handler(STEPS, Some(move || Instant::now() >= until))?;
        }
    }
    let done = Look {
        fresh,
        db,
        folder: spool.join(FOLDER),
        at_one_moment: with_account,
        until,
        verdict: &mut verdict,
        findings: &mut findings,
    }
    .through();
    let is_whole = match done {
        Err(error) if is_interruption(&error) => false,
        Err(error) if !findings.is_damage(&error) => return Err(error),
        _ => true,
    };
    (verdict.findings, verdict.more) = findings.told();
    Ok((verdict, is_whole))
}

/// Whether this error says that the time was over.
fn is_interruption(error: &QueueError) -> bool {
    matches!(error, QueueError::Database(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted))
}

/// Opens a database to read it. One without a log, in a folder in which nothing can be written, is a copy that nobody
/// changes.
pub(super) fn open(path: &Path) -> Result<Connection, QueueError> {
    let found = fs::metadata(path).map_err(|error| QueueError::file(path, error))?;
    if found.is_dir() {
        return Err(QueueError::file(path, ErrorKind::IsADirectory.into()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    match db.query_row("PRAGMA schema_version", [], |_| Ok(())) {
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) && !has_log(path) =>
        {
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            Ok(Connection::open_with_flags(unchanging(path), flags)?)
        }
        // What is wrong with it is told by who looks at it.
        _ => Ok(db),
    }
}

/// Whether there is something in the write-ahead log.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// The URI of a database that nobody changes.
pub(super) fn unchanging(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte))
            }
            other => _ = write!(uri, "%{other:02X}"),
        }
    }
    uri + "?mode=ro&immutable=1"
}

/// What has been found, as much of each kind as is told.
#[derive(Debug, Default)]
struct Findings {
    told: BTreeMap<Kind, Vec<Finding>>,
    more: BTreeMap<Kind, usize>,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        let told = self.told.entry(finding.kind).or_default();
        if told.len() < TOLD {
            told.push(finding);
        } else {
            *self.more.entry(finding.kind).or_default() += 1;
        }
    }

    /// Whether this error says that the database is damaged: then it is a finding.
    fn is_damage(&mut self, error: &QueueError) -> bool {
        if error.is_damage() {
            self.add(Finding {
                kind: Kind::Database,
                place: "queue.db".to_owned(),
                what: error.to_string().trim_start_matches("queue.db: ").to_owned(),
            });
        }
        error.is_damage()
    }

    fn told(self) -> (Vec<Finding>, Vec<(Kind, usize)>) {
        (
            self.told.into_values().flatten().collect(),
            self.more.into_iter().collect(),
        )
    }
}

/// A look at a whole work queue.
struct Look<'v> {
    db: Connection,
    /// Sees what is so now, while `db` sees what was so at one moment.
    fresh: Connection,
    folder: PathBuf,
    at_one_moment: bool,
    /// When the time is over.
    until: Option<Instant>,
    verdict: &'v mut Verdict,
    findings: &'v mut Findings,
}

impl Look<'_> {
    fn through(mut self) -> Result<(), QueueError> {
        self.integrity()?;
        if !self.schema()? {
            return Ok(());
        }
        self.begin()?;
        let mut census = Census::default();
        let walked = self.walk(&mut census);
        let hops = self.next_hops();
        let account = match (&walked, self.at_one_moment) {
            (Ok(()), true) => Account::of(&self.db, &census).map(Some),
            _ => Ok(None),
        };
        self.end()?;
        let swept = self.files();
        // Whatever can not be read keeps nobody from reading the rest.
        for error in [walked, hops, swept].into_iter().filter_map(Result::err) {
            if !self.findings.is_damage(&error) {
                return Err(error);
            }
        }
        self.verdict.account = account?;
        Ok(())
    }

    /// Stops where the time is over: what takes SQLite few steps it does not stop itself.
    fn look_at_clock(&self) -> Result<(), QueueError> {
        match self.until {
            Some(until) if Instant::now() >= until => {
                let over = ffi::Error::new(ffi::SQLITE_INTERRUPT);
                Err(QueueError::Database(rusqlite::Error::SqliteFailure(over, None)))
            }
            _ => Ok(()),
        }
    }

    /// What SQLite thinks of the file.
    fn integrity(&mut self) -> Result<(), QueueError> {
        // Comparing each index with its table is the longest part.
        let how = if self.until.is_some() {
            "quick_check"
        } else {
            "integrity_check"
        };
        let mut check = self.db.prepare(&format!("PRAGMA {how}({MOST_DAMAGE})"))?;
        let mut rows = check.query([])?;
        while let Some(row) = rows.next()? {
            let said: String = row.get(0)?;
            if said != "ok" {
                self.findings.add(Finding {
                    kind: Kind::Database,
                    place: "queue.db".to_owned(),
                    what: said.split_whitespace().collect::<Vec<_>>().join(" "),
                });
            }
        }
        Ok(())
    }

    /// Whether the tables are those of this version.
    fn schema(&mut self) -> Result<bool, QueueError> {
        let version: i64 = self
            .db
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        let mut wrong = |what: String| {
            self.findings.add(Finding {
                kind: Kind::Schema,
                place: "queue.db".to_owned(),
                what,
            });
        };
        if version != VERSION {
            wrong(format!(
                "its schema is {version}, that of this version is {VERSION}: nothing more was looked at"
            ));
            return Ok(false);
        }
        let names = ledger::rows(
            &self.db,
            "SELECT number, name FROM state ORDER BY number",
            [],
            |row| Ok((row.get(0)?, text_in(row, 1))),
        )?;
        let expected = State::ALL.map(|state| (i64::from(state.number()), Some(state.name().to_owned())));
        if names != expected {
            wrong("the table state does not hold the states that there are".to_owned());
        }
        Ok(true)
    }

    /// From here on all is seen at one moment: for the account, or for the next few rows.
    fn begin(&self) -> Result<(), QueueError> {
        if self.db.is_autocommit() {
            self.db.execute_batch("BEGIN")?;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), QueueError> {
        if !self.db.is_autocommit() {
            self.db.execute_batch("COMMIT")?;
        }
        Ok(())
    }

    /// The end of a step: the log need not be kept for us any longer, unless all is to be seen at one moment.
    fn pause(&self) -> Result<(), QueueError> {
        if self.at_one_moment { Ok(()) } else { self.end() }
    }

    /// Message by message, with all that belongs to it, and what belongs to none.
    fn walk(&mut self, census: &mut Census) -> Result<(), QueueError> {
        let mut after = MessageId(i64::MIN);
        loop {
            self.look_at_clock()?;
            self.begin()?;
            let (db, findings) = (&self.db, &mut *self.findings);
            let mut seen = messages(db, after, MessageId(i64::MAX), STEP)?;
            let is_last = seen.len() < STEP;
            let reached = seen
                .last()
                .filter(|_| !is_last)
                .map_or(MessageId(i64::MAX), |last| last.row.id);
            let range = (after, reached);
            recipients(db, range, &mut seen, census, &mut |finding, _| {
                findings.add(finding)
            })?;
            contents(db, range, &mut seen, &mut |finding| findings.add(finding))?;
            histories(db, range, &mut seen, census, &mut |finding| findings.add(finding))?;
            self.pause()?;
            self.content_files(&seen)?;
            self.verdict.messages += seen.len() as u64;
            self.verdict.in_queue += seen.iter().filter(|seen| !seen.row.has_left).count() as u64;
            self.verdict.recipients = u64::try_from(census.all()).unwrap_or_default();
            // In a damaged database what lies before may be found again, and for ever.
            if is_last || reached <= after {
                return Ok(());
            }
            after = reached;
        }
    }

    /// The content files of these messages.
    fn content_files(&mut self, seen: &[Seen]) -> Result<(), QueueError> {
        for message in seen.iter().map(|seen| &seen.row).filter(|row| !row.has_left) {
            let Some(file) = &message.file else { continue };
            let what = match fs::metadata(self.folder.join(file)) {
                Ok(found) => cut(message.size, i64::try_from(found.len()).unwrap_or(i64::MAX)),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Some(format!("its content file {} is missing", file.escape_default()))
                }
                Err(error) => Some(format!("its content file {}: {error}", file.escape_default())),
            };
            let Some(what) = what else { continue };
            // The message may have left since its row was read.
            let sql = "SELECT file = ? AND size = ? FROM message WHERE id = ? AND left_at IS NULL";
            let parameters = (file, message.size, message.id.0);
            if ledger::row(&self.fresh, sql, parameters, |row| row.get(0))? == Some(Some(true)) {
                self.findings.add(Finding::of(Kind::Content, message.id, what));
            }
        }
        Ok(())
    }

    /// Whether each next hop knows what waits for it.
    fn next_hops(&mut self) -> Result<(), QueueError> {
        let mut after = i64::MIN;
        loop {
            let sql = "SELECT id FROM next_hop WHERE id > ? ORDER BY id LIMIT ?";
            let ids: Vec<i64> = ledger::rows(&self.fresh, sql, (after, STEP), |row| row.get(0))?;
            for id in &ids {
                self.look_at_clock()?;
                self.begin()?;
                let fault = hop_fault(&self.db, *id)?;
                self.pause()?;
                if let Some(what) = fault {
                    self.findings.add(Finding {
                        kind: Kind::NextHop,
                        place: format!("next hop {id}"),
                        what,
                    });
                }
            }
            self.verdict.next_hops += ids.len() as u64;
            match ids.last() {
                Some(last) if *last > after => after = *last,
                // In a damaged database what lies before may be found again, and for ever.
                _ => return Ok(()),
            }
        }
    }

    /// Content files that no message names which is in the queue, or may be brought back.
    fn files(&mut self) -> Result<(), QueueError> {
        let broken = |error| QueueError::file(&self.folder, error);
        let entries = match fs::read_dir(&self.folder) {
            // Whatever should be in there has been missed already.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(broken)?,
        };
        for entry in entries {
            self.look_at_clock()?;
            let name = entry.map_err(broken)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let id = name.split_once('.').map_or(name, |(id, _)| id);
            let Ok(id) = id.parse::<MessageId>() else { continue };
            let sql = "SELECT file FROM message WHERE id = ?1 AND (left_at IS NULL \
                 OR EXISTS (SELECT 1 FROM recipient WHERE message = ?1 AND state = 14))";
            let named: Option<Option<String>> = ledger::row(&self.fresh, sql, [id.0], |row| row.get(0))?;
            if named.flatten().as_deref() != Some(name) {
                self.findings.add(Finding {
                    kind: Kind::StrayFile,
                    place: format!("{FOLDER}/{name}"),
                    what: "no message in the queue names it".to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_nobody_changes_is_opened_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a copy?of#100%\u{e4}").join("queue.db");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE here (x)").unwrap();
        drop(db);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let db = Connection::open_with_flags(unchanging(&path), flags).unwrap();
        let tables: String = db
            .query_row("SELECT name FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, "here");
        assert!(!has_log(&path));
        fs::write(path.with_file_name("queue.db-wal"), b"x").unwrap();
        assert!(has_log(&path));
    }
}
