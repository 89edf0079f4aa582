//! A world for one test: a folder of its own with a spool and a configuration file, and the live MTA in it.
//!
//! Nothing here sleeps for a fixed time: the console's lines are waited for as they come, all else is looked
//! at again and again by [`eventually`]. Whatever the test leaves behind ends when the world is dropped.

#![allow(dead_code)] // each test uses what it needs
#![allow(clippy::print_stderr)] // a failed test shows what the MTA logged

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use smtpmta::crash_point::{CrashPoint, VARIABLE};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::other_clock::OtherClock;
use super::shim::{self, Faults};

/// How long a test waits for what must come. Generous: the machine may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the host, and its local domain, unless the test says otherwise.
pub const HOSTNAME: &str = "mta.test";

/// What the configuration file says unless the test says otherwise: no name is asked of a real DNS.
const CONFIGURATION: &str = "hostname mta.test\nlisten 127.0.0.1:0\ndns 127.0.0.1:1\n";

/// Looks until it finds what it looks for; `Err` is what it sees instead.
///
/// # Panics
/// When it has not found it within [`PATIENCE`].
#[track_caller]
pub fn eventually<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + PATIENCE;
    // The one pause of all tests: what is on the disk, in a view or in /proc rings no bell when it changes.
    let (_silent, pause) = channel::<()>();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= until => panic!("waited {PATIENCE:?} for {what}; saw {seen:#?}"),
            Err(_) => _ = pause.recv_timeout(Duration::from_millis(5)),
        }
    }
}

/// What the program answered when it was run as a client.
#[derive(Debug)]
pub struct Answer {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub text: String,
    /// Standard error.
    pub complaint: String,
}

impl Answer {
    fn of(run: Output) -> Answer {
        Answer {
            status: run.status.code().expect("an exit status"),
            text: String::from_utf8(run.stdout).unwrap(),
            complaint: String::from_utf8(run.stderr).unwrap(),
        }
    }
}

/// The folder, and the MTA in it while one runs.
pub struct World {
    folder: TempDir,
    flags: Vec<String>,
    manner: Manner,
    /// What the MTA finds in its environment beside what the test has there.
    environment: Vec<(&'static str, PathBuf)>,
    daemon: Option<Daemon>,
    /// What those said that ran before, the last of them last.
    past: VecDeque<Vec<String>>,
}

/// How many of those that ran before are remembered: a letter may hang for so long at a next hop.
const LIVES: usize = 64;

/// How the MTA is run.
#[derive(Clone, Debug)]
enum Manner {
    Plainly,
    /// strace records here what it does.
    Traced(PathBuf),
    /// Its threads come so many milliseconds late.
    WithLateThreads(u32),
    /// It dies at this crash point.
    ToCrash(String),
    /// It goes by this clock, not the machine's.
    ByClock(OtherClock),
}

impl World {
    /// A world in which the MTA accepts mail, run with these flags.
    #[track_caller]
    pub fn load(flags: &[&str]) -> World {
        let mut world = World::without_mta(flags);
        world.start();
        world
    }

    /// A world in which the MTA has not been loaded yet.
    pub fn without_mta(flags: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let world = World {
            folder,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            manner: Manner::Plainly,
            environment: Vec::new(),
            daemon: None,
            past: VecDeque::new(),
        };
        fs::write(world.folder.path().join("empty.conf"), "").unwrap();
        world.configure("");
        world
    }

    /// Loads the MTA, and waits until it accepts mail.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "the MTA runs already");
        let daemon = self.another();
        daemon.wait_for_line("Listening on SMTP port");
        self.daemon = Some(daemon);
    }

    /// Loads the MTA, and waits until all of its tasks run, or it has ended.
    ///
    /// # Errors
    /// Where it has ended: its exit status, and all that it said.
    #[track_caller]
    pub fn try_to_start(&mut self) -> Result<(), (Option<i32>, String)> {
        assert!(self.daemon.is_none(), "the MTA runs already");
        let daemon = self.another();
        let runs = eventually("an MTA that runs or has ended", || {
            match daemon.count_said(0, " started, spool ").0 {
                0 if daemon.has_ended() => Ok(false),
                0 => Err(()),
                _ => Ok(true),
            }
        });
        if !runs {
            return Err(daemon.last_words());
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Another MTA on the same spool, without any waiting.
    pub fn another(&self) -> Daemon {
        let arguments = [&self.place("smtpmta.conf")[..], &self.flags[..]].concat();
        match &self.manner {
            Manner::Plainly => Daemon::spawn_with(&arguments, &self.environment),
            Manner::Traced(record) => Daemon::traced(&arguments, record),
            Manner::WithLateThreads(by) => Daemon::with_late_threads(&arguments, *by),
            Manner::ToCrash(at) => Daemon::spawn_with(&arguments, &[(VARIABLE, PathBuf::from(at))]),
            Manner::ByClock(clock) => Daemon::by_clock(&arguments, clock),
        }
    }

    /// Loads the MTA so that it dies when it comes to `point` for the `times`th time.
    #[track_caller]
    pub fn start_to_crash(&mut self, point: CrashPoint, times: u32) {
        self.manner = Manner::ToCrash(format!("{}:{times}", point.name()));
        self.start();
        self.manner = Manner::Plainly;
    }

    /// Loads the MTA, which dies at `point` by what it does at its start, when it comes there for the `times`th time.
    #[track_caller]
    pub fn crash_at_start(&mut self, point: CrashPoint, times: u32) {
        let at = format!("{}:{times}", point.name());
        let (status, said) = self.crash_at(&at).last_words();
        assert_eq!(status, None, "it was not reached: {said}");
    }

    /// Another MTA on the same spool, to which this is said of where it dies.
    pub fn crash_at(&mut self, said: &str) -> Daemon {
        self.manner = Manner::ToCrash(said.to_owned());
        let daemon = self.another();
        self.manner = Manner::Plainly;
        daemon
    }

    /// The options that name this configuration file and the spool.
    fn place(&self, configuration: &str) -> Vec<String> {
        vec![
            "-c".to_owned(),
            self.path(configuration),
            "-s".to_owned(),
            self.path("spool"),
        ]
    }

    /// The MTA.
    #[track_caller]
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the MTA has been loaded")
    }

    /// Ends the MTA as a crash does.
    #[track_caller]
    pub fn kill(&mut self) {
        let said = self.daemon.take().expect("the MTA has been loaded").kill();
        self.remember(said);
    }

    fn remember(&mut self, said: Vec<String>) {
        self.past.push_back(said);
        if self.past.len() > LIVES {
            self.past.pop_front();
        }
    }

    /// What the MTA that runs has said and logged so far, and those that ran last before it, as far as it holds `word`.
    pub fn said_of(&self, word: &str) -> Vec<String> {
        let now = self.daemon.as_ref().map(Daemon::said);
        let all = self.past.iter().chain(&now).flatten();
        all.filter(|line| line.contains(word)).cloned().collect()
    }

    /// Sends SIGTERM, and gives the exit status and how long it took.
    #[track_caller]
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        self.end(|daemon| daemon.signal(nix::sys::signal::SIGTERM))
    }

    /// Does what should end the MTA, and gives its exit status and how long it took.
    #[track_caller]
    pub fn end(&mut self, order: impl FnOnce(&Daemon)) -> (Option<i32>, Duration) {
        let daemon = self.daemon.take().expect("the MTA has been loaded");
        let began = Instant::now();
        order(&daemon);
        let (status, said) = daemon.wait_for_last_line();
        let took = began.elapsed();
        self.remember(said);
        (status, took)
    }

    /// Where the MTA takes mail.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.daemon().address()
    }

    /// Writes the configuration file anew: the usual lines and these.
    pub fn configure(&self, lines: &str) {
        let file = self.folder.path().join("smtpmta.conf");
        fs::write(file, format!("{CONFIGURATION}{lines}")).unwrap();
    }

    /// From its next start on the MTA is run with this flag, too.
    pub fn flag(&mut self, name: &str, value: &str) {
        self.flags.extend([name.to_owned(), value.to_owned()]);
    }

    /// From its next start on the MTA finds this in its environment, too.
    pub fn environment(&mut self, name: &'static str, value: PathBuf) {
        self.environment.push((name, value));
    }

    /// From its next start on the MTA is run under strace; gives where the record will be.
    pub fn trace(&mut self) -> PathBuf {
        let record = self.folder.path().join("record");
        self.manner = Manner::Traced(record.clone());
        record
    }

    /// From its next start on the MTA goes by this clock.
    pub fn go_by(&mut self, clock: OtherClock) {
        self.manner = Manner::ByClock(clock);
    }

    /// From its next start on calls of the MTA fail to order.
    pub fn faults(&mut self) -> Faults {
        let orders = self.folder.path().join("orders");
        self.environment.push((shim::PRELOAD, shim::library().to_owned()));
        self.environment.push(("SHIM_ORDERS", orders.clone()));
        Faults::new(&orders)
    }

    /// From its next start on what the MTA does to the files of this world goes into a journal, too; gives where that
    /// is. Needs [`World::faults`].
    pub fn journal(&mut self) -> PathBuf {
        let journal = self.folder.path().join("journal");
        fs::write(&journal, "").unwrap();
        self.environment.push(("SHIM_JOURNAL", journal.clone()));
        self.environment
            .push(("SHIM_FOLDER", self.folder.path().to_owned()));
        journal
    }

    /// From its next start on the MTA's threads come so many milliseconds late.
    pub fn delay_threads(&mut self, by: u32) {
        self.manner = Manner::WithLateThreads(by);
    }

    /// Writes a file beside the configuration; gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let file = self.path(name);
        fs::write(&file, content).unwrap();
        file
    }

    /// Where a file beside the configuration is.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The spool.
    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// Runs the program as a client, with these words. It needs no more than the spool.
    pub fn ask(&self, words: &str) -> Answer {
        self.ask_with(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// The same, with words that may hold blanks.
    pub fn ask_with(&self, words: &[&str]) -> Answer {
        let run = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
            .args(self.place("empty.conf"))
            .args(words)
            .output()
            .unwrap();
        Answer::of(run)
    }

    /// Runs the program with these words by the configuration of this world, and with this on standard input.
    pub fn run(&self, words: &str, input: &[u8]) -> Answer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
            .args(self.place("smtpmta.conf"))
            .args(&self.flags)
            .args(words.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who reads nothing needs nothing.
        let _ = child.stdin.take().unwrap().write_all(input);
        Answer::of(child.wait_with_output().unwrap())
    }

    /// Leaves a message with `sendmail` and these words, and gives the exit status.
    pub fn leave(&self, words: &[&str], message: &[u8]) -> Option<i32> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
            .args(self.place("empty.conf"))
            .arg("sendmail")
            .args(words)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has read that.
        let _ = child.stdin.take().unwrap().write_all(message);
        child.wait().unwrap().code()
    }

    /// `tell …`, which must be obeyed; what was said to it.
    #[track_caller]
    pub fn tell(&self, words: &str) -> String {
        let answer = self.ask(&format!("tell {words}"));
        assert_eq!(answer.status, 0, "tell {words}: {answer:?}");
        answer.text
    }

    /// `show …`, which must be answered.
    #[track_caller]
    pub fn show(&self, what: &str) -> String {
        let answer = self.ask(&format!("show {what}"));
        assert_eq!(answer.status, 0, "show {what}: {answer:?}");
        answer.text
    }

    /// The names of the tasks that `show tasks` lists, in its order.
    #[track_caller]
    pub fn tasks(&self) -> Vec<String> {
        let screen = self.show("tasks");
        let name = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
        screen.lines().map(name).collect()
    }

    /// The tasks among [`World::tasks`] that are handlers of this kind: `oseshlr`, `iseshlr`.
    #[track_caller]
    pub fn handlers(&self, kind: &str) -> Vec<String> {
        let mut tasks = self.tasks();
        tasks.retain(|task| task.starts_with(kind));
        tasks
    }

    /// Waits until `show tasks` says this of a task.
    #[track_caller]
    pub fn wait_for_task(&self, task: &str, doing: &str) {
        let begin = format!("SMTPMTA {task} {doing}");
        eventually(&begin, || {
            let screen = self.show("tasks");
            let found = screen.lines().any(|line| line.starts_with(&begin));
            if found { Ok(()) } else { Err(screen) }
        });
    }

    /// Opens the work queue as anybody may, and shows the rows as the sqlite3 program does.
    #[track_caller]
    pub fn sql(&self, query: &str) -> String {
        self.query(query)
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The same, where the queue may not answer.
    ///
    /// # Errors
    /// What the database says instead.
    pub fn query(&self, query: &str) -> rusqlite::Result<String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = Connection::open_with_flags(self.spool().join("queue.db"), flags)?;
        db.busy_timeout(PATIENCE)?;
        let mut statement = db.prepare(query)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let cells: rusqlite::Result<Vec<String>> =
                (0..columns).map(|at| row.get_ref(at).map(shown)).collect();
            lines.push(cells?.join("|"));
        }
        Ok(lines.join("\n"))
    }

    /// Changes rows of the work queue by hand, as somebody with the sqlite3 program would.
    #[track_caller]
    pub fn tamper(&self, statements: &str) {
        let db = Connection::open(self.spool().join("queue.db")).unwrap();
        db.busy_timeout(PATIENCE).unwrap();
        db.execute_batch(statements)
            .unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// Waits until the work queue answers so.
    #[track_caller]
    pub fn wait_for_sql(&self, query: &str, expected: &str) {
        eventually(&format!("{expected:?} from {query}"), || {
            let got = self.sql(query);
            if got == expected { Ok(()) } else { Err(got) }
        });
    }

    /// The Maildir of a local recipient.
    pub fn mailbox(&self, address: &str) -> PathBuf {
        let (user, domain) = address.split_once('@').unwrap();
        self.spool().join("mail").join(domain).join(user)
    }

    /// The new letters in a Maildir, as they are on the disk.
    pub fn letters(&self, address: &str) -> Vec<Vec<u8>> {
        let mut files = files(&self.mailbox(address).join("new"));
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// Waits for so many new letters in a Maildir.
    #[track_caller]
    pub fn wait_for_letters(&self, address: &str, number: usize) -> Vec<Vec<u8>> {
        eventually(&format!("{number} letters for {address}"), || {
            let letters = self.letters(address);
            if letters.len() >= number {
                Ok(letters)
            } else {
                Err(letters.len())
            }
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let log = self.daemon.take().map(Daemon::kill);
        if let Some(log) = log.filter(|_| std::thread::panicking()) {
            let last = log.len().saturating_sub(100);
            eprintln!(
                "--- what the MTA said and logged last:\n{}",
                log[last..].join("\n")
            );
        }
    }
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

/// The files of a folder; none where there is no such folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}
