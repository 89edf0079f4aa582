//! The MTA as a process of its own: what it says is heard as it comes, so that a test can wait for a line of
//! the console, and it can be measured from outside.

#![allow(dead_code)] // each test uses what it needs

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::other_clock::OtherClock;
use super::trace;
use super::world::PATIENCE;

const PROGRAM: &str = env!("CARGO_BIN_EXE_smtpmta");

/// What the process has said so far.
#[derive(Debug, Default)]
struct Said {
    /// Standard output: the console.
    console: Vec<String>,
    /// Both, as they came.
    all: Vec<String>,
    /// Streams that have ended.
    ended: usize,
}

/// What the process says, and a bell that rings with each line.
#[derive(Debug, Default)]
struct Ear {
    said: Mutex<Said>,
    changed: Condvar,
}

impl Ear {
    fn hear(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until `look` finds something in what was said.
    fn wait<T>(&self, look: impl Fn(&Said) -> Option<T>) -> Result<T, String> {
        let until = Instant::now() + PATIENCE;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&said) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(said.all.join("\n"));
            }
            said = self
                .changed
                .wait_timeout(said, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// A running MTA; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    ear: Arc<Ear>,
    listeners: Vec<JoinHandle<()>>,
    /// What it may leave behind, and nobody needs.
    litter: Vec<PathBuf>,
}

impl Daemon {
    /// Runs the program with these arguments.
    pub fn spawn(arguments: &[String]) -> Daemon {
        Daemon::spawn_with(arguments, &[])
    }

    /// Runs it with these arguments, and this in its environment.
    pub fn spawn_with(arguments: &[String], environment: &[(&str, PathBuf)]) -> Daemon {
        let environment = environment.iter().map(|(name, value)| (name, value));
        Daemon::run(Command::new(PROGRAM).args(arguments).envs(environment))
    }

    /// Runs it with these arguments under strace, which writes to `record`.
    pub fn traced(arguments: &[String], record: &Path) -> Daemon {
        Daemon::run(trace::under_strace(PROGRAM, record).args(arguments))
    }

    /// Runs it with these arguments by another clock.
    pub fn by_clock(arguments: &[String], clock: &OtherClock) -> Daemon {
        let mut daemon = Daemon::spawn_with(arguments, &clock.environment());
        daemon.litter = OtherClock::litter(daemon.child.id());
        daemon
    }

    /// Runs it with these arguments; its threads come so many milliseconds late.
    pub fn with_late_threads(arguments: &[String], by: u32) -> Daemon {
        Daemon::run(trace::with_late_threads(PROGRAM, by).args(arguments))
    }

    /// Runs this command, which the program or a shell for it is.
    pub fn run(command: &mut Command) -> Daemon {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ear = Arc::new(Ear::default());
        let console = listen(child.stdout.take().unwrap(), &ear, |said, line| {
            said.console.push(line.clone());
            said.all.push(line);
        });
        let log = listen(child.stderr.take().unwrap(), &ear, |said, line| {
            said.all.push(line)
        });
        Daemon {
            child,
            ear,
            listeners: vec![console, log],
            litter: Vec::new(),
        }
    }

    /// Waits for a line of the console that contains `text`, and gives the first one.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        let found = self.ear.wait(|said| {
            let line = said.console.iter().find(|line| line.contains(text)).cloned();
            line.map(Ok)
                .or_else(|| (said.ended == 2).then(|| Err(said.all.join("\n"))))
        });
        match found.and_then(|found| found) {
            Ok(line) => line,
            Err(said) => panic!("the console did not say {text:?}; it said\n{said}"),
        }
    }

    /// How many lines of the console contain `text` so far.
    pub fn count_lines(&self, text: &str) -> usize {
        let said = self.ear.said.lock().unwrap();
        said.console.iter().filter(|line| line.contains(text)).count()
    }

    /// Where the first listener listens.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let line = self.wait_for_line("SMTPMTA isesctl Listening on SMTP port");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Where the listeners listen, in their order, of which there are so many.
    #[track_caller]
    pub fn addresses(&self, number: usize) -> Vec<SocketAddr> {
        let heard = self.ear.wait(|said| {
            let lines = said.console.iter();
            let ports: Vec<SocketAddr> = lines
                .filter_map(|line| line.strip_prefix("SMTPMTA isesctl Listening on SMTP port "))
                .filter_map(|port| port.parse().ok())
                .collect();
            (ports.len() >= number).then_some(ports)
        });
        heard.unwrap_or_else(|said| panic!("the MTA does not listen on {number} ports; it said\n{said}"))
    }

    /// Waits for a line of the console or of the log that contains `text`.
    #[track_caller]
    pub fn wait_for_word(&self, text: &str) -> String {
        let found = self
            .ear
            .wait(|said| said.all.iter().find(|line| line.contains(text)).cloned());
        found.unwrap_or_else(|said| panic!("nobody said {text:?}; they said\n{said}"))
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ear.said.lock().unwrap().ended == 2
    }

    /// How many lines of the console and of the log contain `text`, of those behind the first `from`; and how many lines
    /// there are.
    pub fn count_said(&self, from: usize, text: &str) -> (usize, usize) {
        let said = self.ear.said.lock().unwrap();
        let lines = said.all.iter().skip(from);
        (lines.filter(|line| line.contains(text)).count(), said.all.len())
    }

    /// All that was said so far.
    pub fn said(&self) -> Vec<String> {
        self.ear.said.lock().unwrap().all.clone()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Waits until it ends by itself; gives its exit status, `None` for a signal.
    #[track_caller]
    pub fn wait_for_end(mut self) -> Option<i32> {
        if let Err(said) = self.ear.wait(|said| (said.ended == 2).then_some(())) {
            panic!("the MTA did not end within {PATIENCE:?}; it said\n{said}");
        }
        self.child.wait().unwrap().code()
    }

    /// Waits until it ends by itself; gives all that it said, too.
    #[track_caller]
    pub fn last_words(self) -> (Option<i32>, String) {
        let (status, said) = self.wait_for_last_line();
        (status, said.join("\n"))
    }

    /// The same, line by line.
    #[track_caller]
    pub fn wait_for_last_line(self) -> (Option<i32>, Vec<String>) {
        let ear = Arc::clone(&self.ear);
        let status = self.wait_for_end();
        let said = std::mem::take(&mut ear.said.lock().unwrap().all);
        (status, said)
    }

    /// Ends it as a crash does; gives all that it said.
    pub fn kill(self) -> Vec<String> {
        let ear = Arc::clone(&self.ear);
        drop(self);
        let mut said = ear.said.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut said.all)
    }

    /// Its resident memory, octets: counted page by page, where `status` is some MiB behind on large machines.
    pub fn memory(&self) -> u64 {
        let pages = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let line = pages.lines().find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Its open descriptors: sockets and files, but for those of the database, whose readers are a pool of
    /// their own and are kept open on purpose.
    pub fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        // One that is closed while we look has no target any more.
        let targets = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        targets
            .filter(|to| !to.to_string_lossy().contains("/queue.db"))
            .count()
    }

    /// The processor's time that it has used so far. The system counts it in hundredths of a second.
    pub fn processor_time(&self) -> Duration {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind the name, which may hold anything: the 14th and 15th word of the line, in user and system mode.
        let (_, behind) = line.rsplit_once(')').unwrap();
        let words = behind.split_whitespace().skip(11).take(2);
        let ticks: u64 = words.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Its threads.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid()))
            .unwrap()
            .count()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
        for file in &self.litter {
            let _ = fs::remove_file(file);
        }
    }
}

fn listen(
    stream: impl Read + Send + 'static,
    ear: &Arc<Ear>,
    take: impl Fn(&mut Said, String) + Send + 'static,
) -> JoinHandle<()> {
    let ear = Arc::clone(ear);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            ear.hear(|said| take(said, line));
        }
        ear.hear(|said| said.ended += 1);
    })
}
