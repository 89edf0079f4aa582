//! The DNS servers to ask: those that the operator named, or those of resolv.conf(5).
//!
//! The file is looked at again once in a while: the MTA may run before the network does. Never asks a server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use resolv_conf::ScopedIp;

use super::client::{Client, Patience};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How often resolv.conf is looked at.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

/// The servers that are taken from resolv.conf: as many as the C library takes.
const MOST_SYSTEM_SERVERS: usize = 3;

/// Those who are asked now. Shared by all threads.
#[derive(Debug)]
pub(super) struct Servers {
    patience: Patience,
    /// Where they are named; none, if the operator named them.
    file: Option<File>,
    client: Mutex<Arc<Client>>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    looks_every: Duration,
    last: Mutex<Look>,
}

/// When the file was looked at, and how it looked.
#[derive(Debug)]
struct Look {
    at: Instant,
    mark: Option<Mark>,
}

/// What is different after a change: when it was written, and its length.
type Mark = (SystemTime, u64);

impl Servers {
    /// These servers; or, if there are none, those of the system.
    pub(super) fn new(named: &[SocketAddr], patience: Patience) -> Servers {
        if named.is_empty() {
            return Servers::of_file(Path::new(RESOLV_CONF), LOOKS_EVERY, patience);
        }
        Servers {
            patience,
            file: None,
            client: Mutex::new(Arc::new(Client::new(named.to_vec(), patience))),
        }
    }

    fn of_file(path: &Path, looks_every: Duration, patience: Patience) -> Servers {
        let last = Look {
            at: Instant::now(),
            mark: mark(path),
        };
        let servers = system_servers(&fs::read(path).unwrap_or_default());
        Servers {
            patience,
            file: Some(File {
                path: path.to_owned(),
                looks_every,
                last: Mutex::new(last),
            }),
            client: Mutex::new(Arc::new(Client::new(servers, patience))),
        }
    }

    /// Whether the operator named them.
    pub(super) fn are_named(&self) -> bool {
        self.file.is_none()
    }

    /// The client that asks them.
    pub(super) fn client(&self) -> Arc<Client> {
        if let Some(servers) = self.file.as_ref().and_then(File::changed) {
            *self.client.lock() = Arc::new(Client::new(servers, self.patience));
        }
        self.client.lock().clone()
    }
}

impl File {
    /// What it says, if that was written since the last look. A file that cannot be read says nothing new.
    fn changed(&self) -> Option<Vec<SocketAddr>> {
        {
            let mut last = self.last.lock();
            if last.at.elapsed() < self.looks_every {
                return None;
            }
            last.at = Instant::now();
        }
        let now = Some(mark(&self.path)?);
        if self.last.lock().mark == now {
            return None;
        }
        let octets = fs::read(&self.path).ok()?;
        self.last.lock().mark = now;
        Some(system_servers(&octets))
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let file = fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

/// The servers of a resolv.conf(5), three at most, as the C library takes them; the machine itself, if it names none.
#[must_use]
pub fn system_servers(resolv_conf: &[u8]) -> Vec<SocketAddr> {
    let (config, _) = resolv_conf::Config::parse_with_errors(resolv_conf);
    let mut servers: Vec<SocketAddr> = config
        .nameservers
        .iter()
        .take(MOST_SYSTEM_SERVERS)
        .map(|server| match server {
            ScopedIp::V4(address) => SocketAddr::from((*address, 53)),
            ScopedIp::V6(address, scope) => {
                let scope = scope.as_deref().map_or(0, interface_number);
                SocketAddrV6::new(*address, 53, 0, scope).into()
            }
        })
        .collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    servers
}

/// The number of a network interface, given by name or number; 0 if there is none.
fn interface_number(interface: &str) -> u32 {
    interface.parse().unwrap_or_else(|_| {
        fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))
            .ok()
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_servers_come_from_resolv_conf() {
        let servers = |text: &str| {
            let servers = system_servers(text.as_bytes());
            servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(servers(""), ["127.0.0.1:53"]);
        assert_eq!(
            servers("search a.test\nnonsense\nnameserver 192.0.2.1\nnameserver fe80::1%7\n"),
            ["192.0.2.1:53", "[fe80::1%7]:53"]
        );
        assert_eq!(servers(&"nameserver 192.0.2.1\n".repeat(9)).len(), 3);
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let of = || Servers::of_file(&path, Duration::ZERO, Patience::default());
        let asked = |servers: &Servers| servers.client().servers().to_vec();
        let late = of();
        assert_eq!(asked(&late), [SocketAddr::from((Ipv4Addr::LOCALHOST, 53))]);
        for address in ["192.0.2.1", "192.0.2.22"] {
            fs::write(&path, format!("nameserver {address}\n")).unwrap();
            let servers: Vec<SocketAddr> = vec![format!("{address}:53").parse().unwrap()];
            assert_eq!(asked(&late), servers);
            assert!(Arc::ptr_eq(&late.client(), &late.client()));
            fs::remove_file(&path).unwrap();
            assert_eq!(asked(&late), servers);
        }
    }

    #[test]
    fn a_file_is_not_looked_at_for_each_question() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let servers = Servers::of_file(&path, Duration::from_secs(3600), Patience::default());
        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert!(servers.client().servers()[0].ip().is_loopback());
    }

    #[test]
    fn servers_that_the_operator_named_stay() {
        let named: SocketAddr = "192.0.2.53:5353".parse().unwrap();
        let servers = Servers::new(&[named], Patience::default());
        assert!(servers.are_named());
        assert_eq!(servers.client().servers(), [named]);
    }
}
