//! A build of ours. Only what clients may do is raised; how it relays is its default.
//!
//! For accepting its outbound transport is stopped, as the peers hold what they take.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::path::FAR_HOST;
use crate::server::{Role, Server, succeed};

/// The port of the first build.
const PORT: u16 = 2530;

/// More sessions than any row has.
const SESSIONS: &str = "11000";

/// A build.
#[derive(Debug)]
pub struct Smtpmta {
    name: String,
    binary: PathBuf,
    spool: PathBuf,
    address: SocketAddr,
    sink: SocketAddr,
}

impl Smtpmta {
    /// The `number`th build, with its spool below `home`; it relays to `sink`.
    pub fn new(name: &str, binary: &Path, number: u16, home: &Path, sink: SocketAddr) -> Smtpmta {
        Smtpmta {
            name: name.to_owned(),
            binary: binary.to_owned(),
            spool: home.join("_smtpmta").join(name),
            address: ([127, 0, 0, 1], PORT + number).into(),
            sink,
        }
    }

    fn tell(&self, words: &str) -> Result<(), String> {
        let mut command = Command::new(&self.binary);
        command
            .arg("--spool")
            .arg(&self.spool)
            .args(["tell", "smtpmta"])
            .args(words.split(' '));
        succeed(&mut command).map(drop)
    }
}

impl Server for Smtpmta {
    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn pace(&self) -> u64 {
        4000
    }

    fn version(&self) -> String {
        succeed(Command::new(&self.binary).arg("--version")).unwrap_or_else(|error| error)
    }

    fn prepare(&self, _role: Role) -> io::Result<()> {
        match fs::remove_dir_all(&self.spool) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&self.spool)
    }

    fn command(&self, role: Role) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--spool")
            .arg(&self.spool)
            .arg("--log-file")
            .arg(self.spool.join("log"))
            .args(["--hostname", "smtpmta.bench.test", "--local-domain", "local.test"])
            .args([
                "--listen",
                &self.address.to_string(),
                "--max-message-size",
                "100M",
            ])
            .args([
                "--max-inbound-handlers",
                SESSIONS,
                "--max-sessions-per-client",
                SESSIONS,
            ]);
        match role {
            Role::Far => command
                .args(["--relay-host", &FAR_HOST.to_string(), "--per-next-hop", "1"])
                .args(["--max-outbound-handlers", "1"])
                .args(["--allow-next-hop", &format!("{}/32", FAR_HOST.ip())]),
            _ => command.args(["--relay-host", &self.sink.to_string()]),
        };
        command
    }

    fn settle(&self, role: Role) -> Result<(), String> {
        match role {
            Role::Hold | Role::Far => self.tell("stop outbound transport"),
            _ => Ok(()),
        }
    }

    fn release(&self) -> Result<Option<Child>, String> {
        self.tell("start outbound transport").map(|()| None)
    }
}
