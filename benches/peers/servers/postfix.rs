//! Postfix, tuned as its documentation says; a second one, in a chroot of its own, is the far host.
//!
//! Its master runs in the foreground as our child, and ends when it is told to.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::path::{FAR_HOST, HERE};
use crate::server::{Role, Server, empty, package_version, succeed, within};

/// Its folder of configuration, in the chroot: nothing that the package has put there is touched.
const CONFIG: &str = "/etc/bench";

const QUEUES: [&str; 9] = [
    "incoming", "active", "deferred", "hold", "maildrop", "defer", "bounce", "corrupt", "trace",
];

/// A Postfix.
#[derive(Debug)]
pub struct Postfix {
    name: &'static str,
    root: PathBuf,
    address: SocketAddr,
    sink: SocketAddr,
}

impl Postfix {
    /// The one that is measured; it relays to `sink`.
    pub fn new(home: &Path, sink: SocketAddr) -> Postfix {
        Postfix {
            name: "postfix",
            root: home.join("postfix"),
            address: ([127, 0, 0, 1], 2525).into(),
            sink,
        }
    }

    /// The far host.
    pub fn far_host(home: &Path) -> Postfix {
        let address = SocketAddr::new(HERE.into(), FAR_HOST.port());
        Postfix {
            name: "far-host",
            root: home.join("postfix-rx"),
            address,
            sink: address,
        }
    }

    fn settings(&self, role: Role) -> String {
        let here = self.address.ip();
        let mut text = include_str!("../conf/postfix.cf").to_owned();
        text += &format!(
            "inet_interfaces = {here}\nmynetworks = 127.0.0.0/8, {here}/32, {}/32\n",
            FAR_HOST.ip()
        );
        let next_hop = match role {
            Role::Far => FAR_HOST,
            _ => self.sink,
        };
        if let Role::FarHost { chunking } = role {
            text += "default_transport = discard:\n";
            if !chunking {
                text += "smtpd_discard_ehlo_keywords = chunking\n";
            }
            return text;
        }
        let relay = format!("[{}]:{}", next_hop.ip(), next_hop.port());
        text += &format!("relayhost = {relay}\nsmtp_connection_cache_destinations = {relay}\n");
        if matches!(role, Role::Hold | Role::Far) {
            text += "smtpd_data_restrictions = check_sender_access static:hold\n";
        }
        text += match role {
            Role::Far => include_str!("../conf/postfix-path.cf"),
            _ => include_str!("../conf/postfix-tuned.cf"),
        };
        text
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = within(&self.root, name);
        command.args(["-c", CONFIG]);
        command
    }
}

impl Server for Postfix {
    fn name(&self) -> &str {
        self.name
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pace(&self) -> u64 {
        600
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn version(&self) -> String {
        package_version(&self.root, "postfix")
    }

    fn prepare(&self, role: Role) -> io::Result<()> {
        empty(&self.root.join("var/spool/postfix"), &QUEUES)?;
        let config = self.root.join(&CONFIG[1..]);
        fs::create_dir_all(&config)?;
        fs::write(config.join("main.cf"), self.settings(role))?;
        let services = fs::read_to_string(self.root.join("usr/share/postfix/master.cf.dist"))?;
        // Only the port is ours.
        let services: Vec<String> = services
            .lines()
            .map(|line| match line.strip_prefix("smtp      inet") {
                Some(rest) => format!("{} inet{rest}", self.address),
                None => line.to_owned(),
            })
            .collect();
        fs::write(config.join("master.cf"), services.join("\n") + "\n")?;
        succeed(self.tool("postfix").arg("check")).map_err(io::Error::other)?;
        Ok(())
    }

    fn command(&self, _role: Role) -> Command {
        let mut command = within(&self.root, "/usr/lib/postfix/sbin/master");
        command.arg("-s").env("MAIL_CONFIG", CONFIG);
        command
    }

    fn release(&self) -> Result<Option<Child>, String> {
        succeed(self.tool("postsuper").args(["-H", "ALL"]))?;
        succeed(self.tool("postqueue").arg("-f"))?;
        Ok(None)
    }
}
