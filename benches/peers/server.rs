//! What a server is to the runner: how it is made ready for a role, started, and what its queue is.
//!
//! Says nothing about how it is measured.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// What a server does in a cell. Its durability is its default in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepts, and sends nothing.
    Hold,
    /// Sends everything to the sink, as much at once as it can.
    Relay,
    /// Sends each message to the sink as soon as it can.
    Prompt,
    /// Accepts; what it has goes to the far host, over one session, when it is released.
    Far,
    /// The far host: takes what comes, and drops it; with CHUNKING or without.
    FarHost {
        /// Whether it offers CHUNKING.
        chunking: bool,
    },
}

/// A server.
pub trait Server {
    /// The name that it has in the table.
    fn name(&self) -> &str;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Whether a message is on the disk before its 250.
    fn is_durable(&self) -> bool {
        true
    }

    /// Whether it is a build of ours.
    fn is_ours(&self) -> bool {
        false
    }

    /// Messages that it relays in a second, roughly: how many a cell is made of.
    fn pace(&self) -> u64;

    /// The root of its file system, by which its processes are known, if it has one of its own.
    fn root(&self) -> Option<&Path> {
        None
    }

    /// Its version.
    fn version(&self) -> String;

    /// Empties its queue, and configures it.
    ///
    /// # Errors
    /// The system's.
    fn prepare(&self, role: Role) -> io::Result<()>;

    /// What runs it, in the foreground.
    fn command(&self, role: Role) -> Command;

    /// What is to be done once it listens.
    ///
    /// # Errors
    /// Why it could not be done.
    fn settle(&self, _role: Role) -> Result<(), String> {
        Ok(())
    }

    /// Lets what it holds in [`Role::Far`] go; what sends it, if that is a process of its own.
    ///
    /// # Errors
    /// Why it could not be done.
    fn release(&self) -> Result<Option<Child>, String> {
        Err(format!("{} can not release what it holds", self.name()))
    }
}

/// A command in a chroot.
pub fn within(root: &Path, program: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg(program);
    command
}

/// Runs a command, which must succeed.
///
/// # Errors
/// What it said.
pub fn succeed(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!(
        "{command:?}: {said} {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// The version of a package in a chroot.
pub fn package_version(root: &Path, package: &str) -> String {
    succeed(within(root, "dpkg-query").args(["-W", "-f", "${Version}", package]))
        .unwrap_or_else(|error| error)
}

/// Removes what is in these folders, and below them; the folders at the top stay.
///
/// # Errors
/// The system's.
pub fn empty(base: &Path, folders: &[&str]) -> io::Result<()> {
    for folder in folders {
        let folder: PathBuf = base.join(folder);
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}
