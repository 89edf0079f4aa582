//! OpenSMTPD, with the limits of its relaying raised.
//!
//! Its backlog of 5 is raised, too: see `native/listen-backlog.c`. It is not durable.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::server::{Role, Server, empty, package_version, succeed, within};
use crate::wait::pause;

/// Its configuration, in the chroot.
const CONFIG: &str = "/etc/bench/smtpd.conf";

/// An OpenSMTPD.
#[derive(Debug)]
pub struct OpenSmtpd {
    root: PathBuf,
    sink: SocketAddr,
}

impl OpenSmtpd {
    /// The one in its chroot below `home`; it relays to `sink`.
    pub fn new(home: &Path, sink: SocketAddr) -> OpenSmtpd {
        OpenSmtpd {
            root: home.join("opensmtpd"),
            sink,
        }
    }
}

impl Server for OpenSmtpd {
    fn name(&self) -> &str {
        "opensmtpd"
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 2526).into()
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn pace(&self) -> u64 {
        1000
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn version(&self) -> String {
        package_version(&self.root, "opensmtpd")
    }

    fn prepare(&self, _role: Role) -> io::Result<()> {
        empty(
            &self.root.join("var/spool/smtpd"),
            &["queue", "incoming", "corrupt", "purge", "temporary", "offline"],
        )?;
        let config = self.root.join(&CONFIG[1..]);
        fs::create_dir_all(config.parent().unwrap_or(&self.root))?;
        fs::write(
            &config,
            include_str!("../conf/opensmtpd.conf").replace("@SINK@", &self.sink.to_string()),
        )?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644))
    }

    fn command(&self, _role: Role) -> Command {
        let mut command = within(&self.root, "env");
        command
            .arg("LD_PRELOAD=/usr/local/lib/listen-backlog.so")
            .args(["smtpd", "-F", "-f", CONFIG]);
        command
    }

    fn settle(&self, role: Role) -> Result<(), String> {
        if role != Role::Hold {
            return Ok(());
        }
        // It listens before its control socket does.
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            match succeed(within(&self.root, "smtpctl").args(["pause", "mta"])) {
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => pause(Duration::from_millis(20)),
                Ok(_) => return Ok(()),
            }
        }
    }
}
