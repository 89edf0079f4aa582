//! The Next Hop Entity of a recipient: a route for its domain, the relay host, else its domain.

use std::fmt;

/// Where a list goes: the key by which Domain List Processing groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// The hosts that DNS names for this domain (MX, else its addresses); lower case, or an address literal
    /// with its brackets.
    Domain(String),
    /// A host that the operator named, by `--route` or `--relay-host`: a name or an IP address without
    /// brackets, and a port. No MX look-up.
    Host(String, u16),
}

/// `example.org` for a domain; `mail.example.org:25` and `[::1]:25` for a host.
impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Domain(domain) => f.write_str(domain),
            NextHop::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            NextHop::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}
