//! A server that runs: started fresh, known to listen, and ended with all its processes.
//!
//! Ends only what it has started: its child, and what is in the child's group or chroot.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::account::Account;
use crate::server::{Role, Server};
use crate::syslog::Syslog;
use crate::wait::until;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// How long the end may take before it is forced.
const END: Duration = Duration::from_secs(10);

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where it is counted.
    pub account: Account,
    /// What it logs to the system, if it does.
    pub log: Option<Syslog>,
    name: String,
}

impl Running {
    /// Empties the server's queue, configures it, starts it, and waits until it greets. What it prints goes to
    /// `prints`.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn start(server: &dyn Server, role: Role, prints: &Path) -> Result<Running, String> {
        server
            .prepare(role)
            .map_err(|error| format!("{}: {error}", server.name()))?;
        Running::resume(server, role, prints)
    }

    /// The same, with the queue and the configuration that are there.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn resume(server: &dyn Server, role: Role, prints: &Path) -> Result<Running, String> {
        let name = server.name();
        // What the one before has yet to write to the disk is not ours to wait for.
        nix::unistd::sync();
        let log = server
            .root()
            .map(Syslog::start)
            .transpose()
            .map_err(|error| format!("{name}: log: {error}"))?;
        let mut account = Account::new(name, server.root());
        let file = File::create(prints).map_err(|error| format!("{}: {error}", prints.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let child = account
            .enter(&server.command(role))
            .stdout(file)
            .stderr(copy)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        account.child = child.id();
        let mut running = Running {
            child,
            account,
            log,
            name: name.to_owned(),
        };
        let mut ended = None;
        let greets = until(START, || {
            ended = running.child.try_wait().ok().flatten();
            ended.is_some() || greets(server.address())
        });
        if !greets || ended.is_some() {
            let said = fs::read_to_string(prints).unwrap_or_default();
            let said = said.lines().last().unwrap_or("nothing").to_owned();
            return Err(format!("{name}: does not run ({ended:?}); it said: {said}"));
        }
        server.settle(role)?;
        Ok(running)
    }

    /// Whether its first process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    fn end(&mut self) {
        signal(self.child.id(), Signal::SIGTERM);
        let ended = until(END, || !self.is_alive());
        if !ended {
            eprintln!("{}: does not end, and is killed", self.name);
        }
        for force in [Signal::SIGTERM, Signal::SIGKILL] {
            if until(Duration::from_millis(300), || self.account.processes().is_empty()) {
                break;
            }
            for id in self.account.processes() {
                signal(id, force);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        until(Duration::from_secs(2), || self.account.processes().is_empty());
        self.account.close();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn signal(id: u32, signal: Signal) {
    if let Ok(id) = i32::try_from(id) {
        let _ = kill(Pid::from_raw(id), signal);
    }
}

/// Whether somebody greets there.
fn greets(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    let greeted = reader.read_line(&mut line).is_ok() && line.starts_with("220");
    let _ = (&stream).write_all(b"QUIT\r\n");
    let _ = reader.read_line(&mut line);
    greeted
}
