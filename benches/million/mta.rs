//! The MTA, as its own program on a spool, and a sink where it relays to.

use std::io::{BufRead, BufReader, Read, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_smtpmta");

/// How long a queue may take to be sent.
const PATIENCE: Duration = Duration::from_secs(300);

/// `smtpmta sink`, which takes everything.
pub struct Sink {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Sink {
    /// Starts one.
    pub fn start() -> Result<Sink> {
        let mut command = Command::new(PROGRAM);
        let mut child = command
            .args(["sink", "--quiet", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let address = address_in(&mut child, "listening on ")?;
        Ok(Sink { child, address })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// An MTA that runs.
pub struct Mta {
    child: Child,
    spool: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// How long it took until it did.
    pub start: Duration,
}

impl Mta {
    /// Starts it on `spool`, relaying to `sink`.
    pub fn start(spool: &Path, sink: &Sink, more: &[&str]) -> Result<Mta> {
        let begun = Instant::now();
        let mut command = Command::new(PROGRAM);
        command.arg("--spool").arg(spool);
        command.args(["--hostname", "bench.test", "--listen", "127.0.0.1:0"]);
        command.args([
            "--max-inbound-handlers",
            "200",
            "--max-sessions-per-client",
            "200",
        ]);
        command.args([
            "--relay-host",
            &sink.address.to_string(),
            "--log-level",
            "minimal",
        ]);
        let mut child = command
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let address = address_in(&mut child, "Listening on SMTP port ")?;
        Ok(Mta {
            child,
            spool: spool.to_owned(),
            address,
            start: begun.elapsed(),
        })
    }

    /// Gives it a command; its answer, and how long that took.
    pub fn ask(&self, words: &[&str]) -> Result<(String, Duration)> {
        let begun = Instant::now();
        let output = Command::new(PROGRAM)
            .arg("--spool")
            .arg(&self.spool)
            .args(words)
            .output()?;
        Ok((
            String::from_utf8_lossy(&output.stdout).into_owned(),
            begun.elapsed(),
        ))
    }

    /// The processor time that it has used, of which little depends on what else the machine does.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may have blanks: the 12th and 13th word are ticks, a hundred a second.
        let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = words.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
        Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
    }

    /// A counter of `show stat`.
    pub fn counter(&self, name: &str) -> Result<usize> {
        let (screen, _) = self.ask(&["show", "stat"])?;
        let line = screen
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        Ok(line.and_then(|value| value.parse().ok()).unwrap_or(0))
    }

    /// Waits until it has sent so many messages.
    pub fn wait_for_transfers(&self, count: usize) -> Result<()> {
        let begun = Instant::now();
        while self.counter("Mail.Transferred")? < count {
            if begun.elapsed() > PATIENCE {
                return Err(std::io::Error::other("the mail is not sent"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Mta {
    fn drop(&mut self) {
        let _ = self.ask(&["tell", "quit"]);
        let _ = self.child.wait();
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// What stands behind `words` on standard output; the rest of it is read by nobody.
fn address_in(child: &mut Child, words: &str) -> Result<SocketAddr> {
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if let Some((_, address)) = line.trim_end().split_once(words) {
            let address = address.parse().map_err(std::io::Error::other)?;
            std::thread::spawn(move || std::io::copy(&mut lines.take(u64::MAX), &mut std::io::sink()));
            return Ok(address);
        }
        line.clear();
    }
    end(child);
    Err(std::io::Error::other("it has ended"))
}
