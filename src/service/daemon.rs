//! Going to the background: `--daemon`.
//!
//! The process that was started waits until the MTA takes mail, or can not, and ends with that status: whoever started it
//! knows then. What is said until then still goes where it was started.

use std::fs::OpenOptions;
use std::io::{self, PipeWriter, Read, Write};

use fork::{Fork, fork, setsid};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::config::exit::Exit;

/// Who is who after it.
#[derive(Debug)]
pub enum Detached {
    /// The process that was started: it ends with this status.
    Parent(u8),
    /// The daemon.
    Daemon(Readiness),
}

/// Where the daemon says that it is ready.
#[derive(Debug)]
pub struct Readiness(PipeWriter);

/// Leaves the terminal, in a session of its own that can get none again: two processes end for that. There must be no
/// other thread yet.
///
/// # Errors
/// When the system has no process left.
pub fn detach() -> io::Result<Detached> {
    let (mut told, tell) = io::pipe()?;
    match fork()? {
        Fork::Parent(first) => {
            drop(tell);
            let _ = fork::waitpid(first);
            let mut status = [Exit::TryLater.status()];
            // One that ends without a word has said so on standard error, or was killed.
            let _ = told.read_exact(&mut status);
            return Ok(Detached::Parent(status[0]));
        }
        Fork::Child => {}
    }
    drop(told);
    setsid()?;
    match fork()? {
        // Nobody misses what this one has in memory.
        Fork::Parent(_) => std::process::exit(0),
        Fork::Child => Ok(Detached::Daemon(Readiness(tell))),
    }
}

impl Readiness {
    /// Lets go of the terminal, and of who waits there: all is well.
    ///
    /// # Errors
    /// When there is no `/dev/null`.
    pub fn ready(mut self) -> io::Result<()> {
        let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&nothing)?;
        dup2_stdout(&nothing)?;
        dup2_stderr(&nothing)?;
        // Whoever waited may have been killed.
        let _ = self.0.write_all(&[Exit::Done.status()]);
        Ok(())
    }

    /// Tells who waits that it ends with this status, before it was ready.
    pub fn failed(mut self, exit: Exit) {
        let _ = self.0.write_all(&[exit.status()]);
    }
}
