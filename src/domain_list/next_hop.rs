//! The Next Hop Entity of a recipient: a route for its domain, the relay host, else its domain; and for who is one of
//! ours the LMTP server, if there is one.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::smtp::path::Mailbox;

/// Where a list goes: the key by which Domain List Processing groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// The hosts that DNS names for this domain (MX, else its addresses); lower case, or an address literal
    /// with its brackets.
    Domain(String),
    /// A host that the operator named, by `--route` or `--relay-host`: a name or an IP address without
    /// brackets, and a port. No MX look-up.
    Host(String, u16),
    /// The server with our users' mailboxes, by `--lmtp`: what it takes is delivered.
    Lmtp(LmtpServer),
}

/// Where a server listens that speaks LMTP (RFC 2033).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LmtpServer {
    /// A socket of this machine.
    Socket(PathBuf),
    /// A host, as in [`NextHop::Host`], and a port.
    Host(String, u16),
}

/// What the name of an LMTP server begins with. A host of this name has only its port behind it.
const LMTP: &str = "lmtp:";

impl NextHop {
    /// Reads back what [`NextHop`] displays. A domain never ends in a colon and digits, a host always does.
    #[must_use]
    pub fn from_name(name: &str) -> NextHop {
        let host_of = |name: &str| {
            let (host, port) = name.rsplit_once(':')?;
            let port = port.parse().ok()?;
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            Some((bare.unwrap_or(host).to_owned(), port))
        };
        let server = name.strip_prefix(LMTP).and_then(|server| match server {
            path if path.starts_with('/') => Some(LmtpServer::Socket(path.into())),
            host => host_of(host).map(|(host, port)| LmtpServer::Host(host, port)),
        });
        match (server, host_of(name)) {
            (Some(server), _) => NextHop::Lmtp(server),
            (None, Some((host, port))) => NextHop::Host(host, port),
            (None, None) => NextHop::Domain(name.to_owned()),
        }
    }

    /// The host that has this name, if it is the name of one, to the letter.
    #[must_use]
    pub fn host_from_name(name: &str) -> Option<NextHop> {
        let hop = NextHop::from_name(name);
        let NextHop::Host(host, port) = &hop else {
            return None;
        };
        let is_domain = || {
            format!("x@{host}")
                .parse()
                .is_ok_and(|path: Mailbox| path.domain() == host)
        };
        let is_host = *port != 0 && (host.parse::<IpAddr>().is_ok() || is_domain());
        (is_host && hop.to_string() == name).then_some(hop)
    }

    /// Whether it is the server with our users' mailboxes.
    #[must_use]
    pub fn is_lmtp(&self) -> bool {
        matches!(self, NextHop::Lmtp(_))
    }
}

/// Works out next hops, as the configuration says now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// `--route`: `example.org` for itself, `.example.org` for what is below it.
    pub routes: Vec<(String, NextHop)>,
    /// `--relay-host`.
    pub relay_host: Option<NextHop>,
    /// `--lmtp`.
    pub lmtp: Option<LmtpServer>,
    /// `--local-domain`: whose mail goes to that server.
    pub local_domains: Vec<String>,
}

impl Router {
    /// The next hop for `domain` (lower case): the LMTP server if it is one of ours and there is one, else the most
    /// special route for it, the relay host, or the domain.
    #[must_use]
    pub fn next_hop(&self, domain: &str) -> NextHop {
        if let Some(server) = &self.lmtp
            && self.local_domains.iter().any(|local| local == domain)
        {
            return NextHop::Lmtp(server.clone());
        }
        match (self.route(domain), &self.relay_host) {
            (Some((_, hop)), _) | (None, Some(hop)) => hop.clone(),
            (None, None) => NextHop::Domain(domain.to_owned()),
        }
    }

    /// The most special route for `domain` (lower case), if there is one.
    #[must_use]
    pub fn route(&self, domain: &str) -> Option<&(String, NextHop)> {
        let covering = self.routes.iter().filter(|(pattern, _)| covers(pattern, domain));
        covering.max_by_key(|(pattern, _)| (!pattern.starts_with('.'), pattern.len()))
    }
}

impl Router {
    /// Whether `pattern` names `hop`: by its domain (as in a route), by the name or address of its host, or by a domain
    /// whose mail a route sends there.
    #[must_use]
    pub fn names(&self, pattern: &str, hop: &NextHop) -> bool {
        let host = match hop {
            NextHop::Domain(domain) => return covers(pattern, domain),
            NextHop::Lmtp(LmtpServer::Socket(_)) => return false,
            NextHop::Host(host, _) | NextHop::Lmtp(LmtpServer::Host(host, _)) => host,
        };
        let leads_there =
            |(routed, to): &(String, NextHop)| to == hop && (routed == pattern || covers(pattern, routed));
        let literals = || [format!("[{host}]"), format!("[IPv6:{host}]")];
        covers(pattern, host)
            || self.routes.iter().any(leads_there)
            || literals().iter().any(|l| l == pattern)
    }
}

/// Whether `pattern` (`example.org` for itself, `.example.org` for what is below it) stands for `domain`. Both are in
/// lower case.
#[must_use]
pub fn covers(pattern: &str, domain: &str) -> bool {
    match pattern.strip_prefix('.') {
        Some(parent) => domain
            .strip_suffix(parent)
            .is_some_and(|sub| sub.ends_with('.') && sub.len() > 1),
        None => pattern == domain,
    }
}

/// `example.org` for a domain; `mail.example.org:25` and `[::1]:25` for a host; with `lmtp:` before it, an LMTP server.
impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Domain(domain) => f.write_str(domain),
            NextHop::Host(host, port) => write_host(host, *port, f),
            NextHop::Lmtp(server) => write!(f, "{LMTP}{server}"),
        }
    }
}

/// `/run/dovecot/lmtp`, `mail.example.org:24`.
impl fmt::Display for LmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LmtpServer::Socket(path) => path.display().fmt(f),
            LmtpServer::Host(host, port) => write_host(host, *port, f),
        }
    }
}

fn write_host(host: &str, port: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]:{port}"),
        false => write!(f, "{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_itself_and_by_the_domains_that_are_routed_there() {
        let host = |name: &str, port| NextHop::Host(name.to_owned(), port);
        let router = Router {
            routes: vec![
                ("example.org".to_owned(), host("192.0.2.1", 2525)),
                (".example.net".to_owned(), host("mail.example.com", 25)),
            ],
            relay_host: Some(host("2001:db8::1", 25)),
            ..Router::default()
        };
        for (pattern, hop, named) in [
            ("example.org", host("192.0.2.1", 2525), true),
            ("example.org", host("192.0.2.1", 25), false),
            ("192.0.2.1", host("192.0.2.1", 25), true),
            ("[192.0.2.1]", host("192.0.2.1", 25), true),
            ("2001:db8::1", host("2001:db8::1", 25), true),
            (".example.net", host("mail.example.com", 25), true),
            (".example.com", host("mail.example.com", 25), true),
            ("a.example.net", host("mail.example.com", 25), false),
            ("example.org", NextHop::Domain("example.org".to_owned()), true),
            (".example.org", NextHop::Domain("a.example.org".to_owned()), true),
            ("example.org", NextHop::Domain("a.example.org".to_owned()), false),
        ] {
            assert_eq!(router.names(pattern, &hop), named, "{pattern} {hop}");
        }
    }

    #[test]
    fn a_next_hop_is_read_back_as_it_was_shown() {
        for hop in [
            NextHop::Domain("example.org".to_owned()),
            NextHop::Domain("[192.0.2.1]".to_owned()),
            NextHop::Domain("[IPv6:2001:db8::1]".to_owned()),
            NextHop::Host("mail.example.org".to_owned(), 25),
            NextHop::Host("192.0.2.1".to_owned(), 2600),
            NextHop::Host("::1".to_owned(), 25),
            NextHop::Host("lmtp".to_owned(), 25),
            NextHop::Lmtp(LmtpServer::Socket("/run/dovecot/lmtp:24".into())),
            NextHop::Lmtp(LmtpServer::Host("mail.example.org".to_owned(), 24)),
            NextHop::Lmtp(LmtpServer::Host("::1".to_owned(), 24)),
        ] {
            assert_eq!(NextHop::from_name(&hop.to_string()), hop);
        }
    }

    #[test]
    fn a_route_beats_the_relay_host_and_the_relay_host_beats_the_domain() {
        let host = |name: &str| NextHop::Host(name.to_owned(), 25);
        let mut router = Router {
            routes: vec![
                (".example.org".to_owned(), host("below")),
                ("example.org".to_owned(), host("itself")),
                (".deep.example.org".to_owned(), host("deeper")),
            ],
            ..Router::default()
        };
        assert_eq!(
            router.next_hop("example.net"),
            NextHop::Domain("example.net".to_owned())
        );
        router.relay_host = Some(host("relay"));
        assert_eq!(router.next_hop("example.net"), host("relay"));
        assert_eq!(router.next_hop("notexample.org"), host("relay"));
        assert_eq!(router.next_hop("example.org"), host("itself"));
        assert_eq!(router.next_hop("a.example.org"), host("below"));
        assert_eq!(router.next_hop("a.deep.example.org"), host("deeper"));
        let server = LmtpServer::Socket("/run/lmtp".into());
        router.lmtp = Some(server.clone());
        router.local_domains = vec!["example.org".to_owned()];
        assert_eq!(router.next_hop("example.org"), NextHop::Lmtp(server));
        assert_eq!(router.next_hop("a.example.org"), host("below"));
    }
}
