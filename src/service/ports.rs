//! Listening sockets that there are before isesctl is: those that the service manager has opened (sd_listen_fds(3)), and
//! those at root's ports, which are opened while the MTA is root.
//!
//! They are kept until the end, since nobody could open them again. While isesctl is stopped, nobody is let in at one of
//! root's ports; what the service manager has opened lets people wait.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use nix::sys::socket::{Backlog, getsockopt, listen, sockopt};

use super::{FIRST_FREE_PORT, ServiceError};
use crate::config::Config;
use crate::inbound::controller::Listener;
use crate::inbound::front::Front;

/// The sockets.
#[derive(Debug, Default)]
pub struct Ports(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    asked: SocketAddr,
    socket: TcpListener,
    /// The service manager has it, too.
    is_shared: bool,
}

/// Where `config` says that isesctl listens, and for whom.
pub fn fronts(config: &Config) -> impl Iterator<Item = (Front, SocketAddr)> {
    let of = |front, addresses: &[SocketAddr]| addresses.iter().map(|a| (front, *a)).collect::<Vec<_>>();
    of(Front::Relay, &config.listen)
        .into_iter()
        .chain(of(Front::Submission, &config.listen_submission))
        .chain(of(Front::Submissions, &config.listen_submissions))
}

impl Ports {
    /// What the service manager has passed on, each where an option asks for it.
    ///
    /// # Errors
    /// A socket that nobody asked for, or that is none to listen on.
    pub fn passed(config: &Config) -> Result<Ports, ServiceError> {
        let wrong = |what: String| ServiceError::Passed(format!("a socket that was passed: {what}"));
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for place in 0..given.len() {
            let socket = given.take_tcp_listener(place);
            let socket = socket.map_err(|error| wrong(error.to_string()))?;
            let Some(socket) = socket else { continue };
            let at = socket.local_addr().map_err(|error| wrong(error.to_string()))?;
            if !getsockopt(&socket, sockopt::AcceptConn).map_err(|error| wrong(error.to_string()))? {
                return Err(wrong(format!("\"{at}\": expected one that listens")));
            }
            let is_for_both = at.is_ipv6() && getsockopt(&socket, sockopt::Ipv6V6Only) == Ok(false);
            sockets.push((socket, Passed { at, is_for_both }));
        }
        let asked: Vec<_> = fronts(config).collect();
        let passed: Vec<_> = sockets.iter().map(|(_, passed)| *passed).collect();
        let mut kept = Vec::new();
        for ((socket, Passed { at, .. }), places) in sockets.iter().zip(shared_out(&passed, &asked)) {
            if places.is_empty() {
                return Err(wrong(format!(
                    "\"{at}\": expected listen, listen-submission or listen-submissions with this address"
                )));
            }
            for asked in places {
                let socket = socket.try_clone().map_err(|error| wrong(error.to_string()))?;
                kept.push(Kept {
                    asked,
                    socket,
                    is_shared: true,
                });
            }
        }
        Ok(Ports(kept))
    }

    /// Opens root's ports among those that `config` asks for.
    ///
    /// # Errors
    /// The first that can not be opened.
    pub fn open(&mut self, config: &Config) -> Result<(), ServiceError> {
        for (_, asked) in fronts(config) {
            if !(1..FIRST_FREE_PORT).contains(&asked.port()) || self.has(asked) {
                continue;
            }
            let socket = TcpListener::bind(asked).map_err(|error| ServiceError::Listen(asked, error))?;
            self.0.push(Kept {
                asked,
                socket,
                is_shared: false,
            });
        }
        Ok(())
    }

    /// Whether there is one for who asks so.
    #[must_use]
    pub fn has(&self, asked: SocketAddr) -> bool {
        self.0.iter().any(|kept| kept.asked == asked)
    }

    /// The one for who asks so, if it is kept here; people are let in from now on.
    ///
    /// # Errors
    /// When the system does not let us listen.
    pub fn listener(&self, front: Front, asked: SocketAddr) -> io::Result<Option<Listener>> {
        let Some(kept) = self.0.iter().find(|kept| kept.asked == asked) else {
            return Ok(None);
        };
        if !kept.is_shared {
            listen(&kept.socket, Backlog::MAXCONN)?;
        }
        Ok(Some(Listener {
            socket: kept.socket.try_clone()?,
            front,
            is_kept: !kept.is_shared,
        }))
    }
}

/// What there is to know of a socket that was passed.
#[derive(Clone, Copy, Debug)]
struct Passed {
    at: SocketAddr,
    /// It is one of IPv6, and people come by IPv4, too.
    is_for_both: bool,
}

/// What each of the sockets is for among what is `asked`: its own address before another that means the same, and none
/// that is another's. One for both families is for both where both are asked for in the same way.
fn shared_out(passed: &[Passed], asked: &[(Front, SocketAddr)]) -> Vec<Vec<SocketAddr>> {
    let mut taken: Vec<bool> = asked
        .iter()
        .map(|(_, asked)| passed.iter().any(|socket| socket.at == *asked))
        .collect();
    let mut all = Vec::new();
    for socket in passed {
        let own = asked.iter().position(|(_, asked)| *asked == socket.at);
        let alike = |place: &usize| !taken[*place] && is_at(asked[*place].1, socket.at);
        let Some(first) = own.or_else(|| (0..asked.len()).find(alike)) else {
            all.push(Vec::new());
            continue;
        };
        let further = (0..asked.len())
            .filter(|place| socket.is_for_both && *place != first && asked[*place].0 == asked[first].0)
            .filter(alike);
        let places: Vec<usize> = std::iter::once(first).chain(further).collect();
        for place in &places {
            taken[*place] = true;
        }
        all.push(places.into_iter().map(|place| asked[place].1).collect());
    }
    all
}

/// Whether a socket at `at` is what was `asked` for: all addresses are all addresses in either family.
fn is_at(asked: SocketAddr, at: SocketAddr) -> bool {
    let both_are_all = asked.ip().is_unspecified() && at.ip().is_unspecified();
    asked == at || asked.port() == at.port() && both_are_all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_at_all_addresses_is_for_nobody_who_asks_for_one_of_them() {
        let at = |asked: &str, at: &str| is_at(asked.parse().unwrap(), at.parse().unwrap());
        assert!(at("127.0.0.1:25", "127.0.0.1:25"));
        assert!(at("0.0.0.0:25", "[::]:25"));
        assert!(!at("127.0.0.1:25", "[::]:25"));
        assert!(!at("127.0.0.1:25", "127.0.0.1:587"));
        assert!(!at("[::]:25", "[::1]:25"));
    }

    #[test]
    fn each_socket_is_for_its_own_address_first_and_for_both_families_where_it_takes_both() {
        let (v4, v6, one): (SocketAddr, SocketAddr, SocketAddr) = (
            "0.0.0.0:25".parse().unwrap(),
            "[::]:25".parse().unwrap(),
            "127.0.0.1:25".parse().unwrap(),
        );
        let socket = |at, is_for_both| Passed { at, is_for_both };
        let relay = |asked: &[SocketAddr]| {
            asked
                .iter()
                .map(|asked| (Front::Relay, *asked))
                .collect::<Vec<_>>()
        };
        let two = [socket(v6, false), socket(v4, false)];
        assert_eq!(shared_out(&two, &relay(&[v4, v6])), [[v6], [v4]]);
        assert_eq!(shared_out(&two, &relay(&[v6])), [vec![v6], vec![]]);
        let both = [socket(v6, true)];
        assert_eq!(shared_out(&both, &relay(&[v4, one, v6])), [[v6, v4]]);
        assert_eq!(shared_out(&both, &relay(&[v4])), [[v4]]);
        assert_eq!(shared_out(&both, &relay(&[one])), [[]]);
        // Who calls there is either one or the other.
        let other = [(Front::Relay, v4), (Front::Submission, v6)];
        assert_eq!(shared_out(&both, &other), [[v6]]);
    }

    #[test]
    fn nobody_is_let_in_while_nobody_listens_and_everybody_afterwards() {
        use std::net::TcpStream;

        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = free.local_addr().unwrap();
        drop(free);
        // By its number, as root's ports are: one that was free to choose would be let go.
        let socket = TcpListener::bind(asked).unwrap();
        let ports = Ports(vec![Kept {
            asked,
            socket,
            is_shared: false,
        }]);
        let listener = ports.listener(Front::Relay, asked).unwrap().unwrap();
        drop(TcpStream::connect(asked).unwrap());
        drop(listener);
        assert_eq!(
            TcpStream::connect(asked).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let listener = ports.listener(Front::Relay, asked).unwrap().unwrap();
        let _ = TcpStream::connect(asked).unwrap();
        listener.socket.accept().unwrap();
        assert!(
            ports
                .listener(Front::Relay, "127.0.0.1:1".parse().unwrap())
                .unwrap()
                .is_none()
        );
    }
}
