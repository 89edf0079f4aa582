//! Exim, with its limits raised, and for relaying with several queue runners and many messages per connection.
//!
//! For single messages it delivers at once, as it does of itself: the queue runners would only make it wait.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::path::FAR_HOST;
use crate::server::{Role, Server, empty, package_version, succeed, within};

/// Its configuration, in the chroot: with any other name it drops its privileges.
const CONFIG: &str = "etc/exim4/exim4.conf";

/// An Exim.
#[derive(Debug)]
pub struct Exim {
    root: PathBuf,
    sink: SocketAddr,
}

impl Exim {
    /// The one in its chroot below `home`; it relays to `sink`.
    pub fn new(home: &Path, sink: SocketAddr) -> Exim {
        Exim {
            root: home.join("exim"),
            sink,
        }
    }
}

impl Server for Exim {
    fn name(&self) -> &str {
        "exim"
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 2527).into()
    }

    fn pace(&self) -> u64 {
        250
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn version(&self) -> String {
        package_version(&self.root, "exim4-daemon-light")
    }

    fn prepare(&self, role: Role) -> io::Result<()> {
        empty(&self.root.join("var/spool/exim4"), &["input", "msglog", "db"])?;
        empty(&self.root.join("var/log"), &["exim4"])?;
        let (role_lines, next_hop) = match role {
            Role::Relay => (
                "split_spool_directory = true\nqueue_only = true\nqueue_run_in_order = false\n\
                 queue_run_max = 4\nremote_max_parallel = 8",
                self.sink,
            ),
            Role::Far => ("queue_only = true", FAR_HOST),
            Role::Hold => ("split_spool_directory = true\nqueue_only = true", self.sink),
            Role::Prompt | Role::FarHost { .. } => ("", self.sink),
        };
        let text = include_str!("../conf/exim.conf")
            .replace("@ROLE@", role_lines)
            .replace("@HOST@", &next_hop.ip().to_string())
            .replace("@PORT@", &next_hop.port().to_string());
        let config = self.root.join(CONFIG);
        fs::write(&config, text)?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o640))?;
        for folder in ["run/exim4", "var/log/exim4"] {
            fs::create_dir_all(self.root.join(folder))?;
        }
        let own = |who: &str, what: &[&str]| {
            succeed(within(&self.root, "chown").arg(who).args(what)).map_err(io::Error::other)
        };
        own("root:Debian-exim", &["/etc/exim4/exim4.conf"])?;
        own("Debian-exim:", &["/run/exim4", "/var/log/exim4"])?;
        Ok(())
    }

    fn command(&self, role: Role) -> Command {
        let mut command = within(&self.root, "exim4");
        command.arg("-bdf").args(["-oP", "/run/exim4/exim.pid"]);
        if role == Role::Relay {
            command.arg("-q1s");
        }
        command
    }

    fn release(&self) -> Result<Option<Child>, String> {
        within(&self.root, "exim4")
            .arg("-qqf")
            .spawn()
            .map(Some)
            .map_err(|error| error.to_string())
    }
}
