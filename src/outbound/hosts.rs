//! The hosts of a Next Hop Entity: where a session handler may connect for a list, in which order.
//!
//! By MX, by the domain's own addresses, by an address literal (RFC 5321 5.1, RFC 7505), or the host that the
//! operator named. Never connects, and never lets a stranger's DNS send mail to this machine itself.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::choice::{by_preference, by_turns, is_allowed};
use self::ourselves::Ourselves;
pub use self::turns::in_turn;
use super::outcome::{Address, Outcome, Peer, Reason};
use crate::config::Config;
use crate::config::cidr::Cidr;
use crate::dns::resolver::{DnsError, Mx, MxAnswer, Resolver};
use crate::domain_list::next_hop::{LmtpServer, NextHop};
use crate::smtp::path::address_literal;
use crate::smtp::reply::EnhancedCode;

mod choice;
mod ourselves;
mod turns;

/// The hosts of one domain that are looked up at most; who lists more gets no further by them.
const MOST_NAMES: usize = 100;

/// Those with addresses among them, after which no more are looked up.
const MOST_HOSTS: usize = 20;

/// The addresses of one next hop that are given at most.
const MOST_ADDRESSES: usize = 40;

/// Those of one host among them: the next host is to be found, too.
const MOST_OF_ONE_HOST: usize = 20;

/// How long DNS is asked for a host once another one is known: one whose DNS is silent must not keep all mail for the
/// domain waiting.
const PATIENCE_FOR_FURTHER_HOSTS: Duration = Duration::from_secs(5);

/// What the operator decided about hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// `--hostname`: hosts of this name are ourselves.
    pub hostname: String,
    /// `--listen` and its kin: who is reached there is ourselves.
    pub listeners: Vec<SocketAddr>,
    /// `--smtp-port`: for all hosts but those that the operator named.
    pub smtp_port: u16,
    /// `--allow-next-hop`: addresses that are not public, and allowed all the same.
    pub allow_next_hop: Vec<Cidr>,
}

impl From<&Config> for HostSettings {
    fn from(config: &Config) -> HostSettings {
        HostSettings {
            hostname: config.hostname.clone(),
            listeners: [
                &config.listen,
                &config.listen_submission,
                &config.listen_submissions,
            ]
            .into_iter()
            .flatten()
            .copied()
            .collect(),
            smtp_port: config.smtp_port,
            allow_next_hop: config.allow_next_hop.clone(),
        }
    }
}

/// One host to try, and its addresses in the order in which to try them; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name in lower case, or the IP address or literal that took its place.
    pub name: String,
    /// Both families by turns, IPv6 first.
    pub addresses: Vec<SocketAddr>,
}

/// Why there is no host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHosts {
    /// NXDOMAIN.
    NoSuchDomain,
    /// The domain exists, without MX and without address.
    NeitherMxNorAddress,
    /// An address literal of a form that we cannot reach.
    UnknownLiteral,
    /// The domain takes no mail (RFC 7505).
    NullMx,
    /// There are MX records, and none of their hosts has an address.
    NoAddress,
    /// We are the best exchanger ourselves, and do not know the domain (RFC 5321 5.1).
    Ourselves,
    /// There are better exchangers than ourselves, and none of them has an address.
    NoBetterHost,
    /// There are only addresses to which `--allow-next-hop` does not let mail go: the first of them.
    NotPublic(IpAddr),
    /// DNS knows nothing just now, or the operator's host is not found.
    Temporary(String),
}

/// What was seen of a next hop: all of its hosts, those that are not tried among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sights {
    /// Who names the hosts; `None` where nobody names any.
    pub source: Option<Source>,
    /// Each host with its preference, where it has one, and its name; the best first.
    pub hosts: Vec<(Option<u16>, String, Sight)>,
}

/// Who names the hosts of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// MX records.
    Mx,
    /// Nobody: the domain has no MX, and is its own host.
    Itself,
    /// It is an address literal.
    Literal,
    /// The operator.
    Operator,
}

/// What was seen of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It was not looked up: there is enough before it, or it is no better than we are.
    NotAsked,
    /// It is ourselves, by its name.
    Ourselves,
    /// Its addresses.
    Addresses(Vec<(IpAddr, Standing)>),
    /// It has none, or DNS does not know.
    None(DnsError),
}

/// What is thought of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Mail may go there.
    Fine,
    /// It is not public, and `--allow-next-hop` does not let mail go there.
    NotPublic,
    /// We listen there ourselves.
    Ourselves,
}

impl fmt::Display for NoHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoHosts::NoSuchDomain => f.write_str("there is no such domain"),
            NoHosts::NeitherMxNorAddress => f.write_str("the domain has neither MX nor address"),
            NoHosts::UnknownLiteral => f.write_str("this is not an IP address"),
            NoHosts::NullMx => f.write_str("the domain takes no mail (null MX)"),
            NoHosts::NoAddress => f.write_str("no host of its MX records has an address"),
            NoHosts::Ourselves => {
                f.write_str("its mail loops back: we are its best MX, and it is not local here")
            }
            NoHosts::NoBetterHost => f.write_str("no host that is a better MX than we are has an address"),
            NoHosts::NotPublic(address) => write!(f, "its address {address} is not that of a public host"),
            NoHosts::Temporary(what) => f.write_str(what),
        }
    }
}

impl NoHosts {
    /// What becomes of the recipients of this next hop.
    #[must_use]
    pub fn outcome(&self, next_hop: &NextHop) -> Outcome {
        let status = match self {
            NoHosts::NoSuchDomain | NoHosts::NeitherMxNorAddress | NoHosts::UnknownLiteral => {
                EnhancedCode(5, 1, 2)
            }
            NoHosts::NullMx => EnhancedCode(5, 1, 10),
            NoHosts::NoAddress | NoHosts::NotPublic(_) => EnhancedCode(5, 4, 4),
            NoHosts::Ourselves => EnhancedCode(5, 4, 6),
            NoHosts::NoBetterHost => EnhancedCode(4, 4, 4),
            NoHosts::Temporary(_) => EnhancedCode(4, 4, 3),
        };
        let reason = Reason::here(status, &format!("{next_hop}: {self}"));
        match self {
            // Who is an exchanger for others keeps their mail while their own hosts are away.
            NoHosts::Temporary(_) | NoHosts::NoBetterHost => Outcome::TryLater(reason),
            _ => Outcome::GiveUp(reason),
        }
    }
}

/// The peer that `next_hop` is, where it is a socket of this machine: there are no hosts to be looked for.
#[must_use]
pub fn socket(next_hop: &NextHop) -> Option<Peer> {
    match next_hop {
        NextHop::Lmtp(LmtpServer::Socket(path)) => Some(Peer {
            name: path.display().to_string(),
            address: Address::Socket(path.clone()),
        }),
        NextHop::Lmtp(LmtpServer::Host(..)) | NextHop::Host(..) | NextHop::Domain(_) => None,
    }
}

/// The hosts to try for `next_hop`, best first, at least one; DNS is asked until `deadline`.
///
/// # Errors
/// Why there is none; [`NoHosts::outcome`] makes it the recipients' outcome.
pub fn candidates(
    next_hop: &NextHop,
    resolver: &Resolver,
    settings: &HostSettings,
    deadline: Instant,
) -> Result<Vec<Candidate>, NoHosts> {
    look(next_hop, resolver, settings, deadline, None)
}

/// The same, and all that was seen on the way, for people.
pub fn seen(
    next_hop: &NextHop,
    resolver: &Resolver,
    settings: &HostSettings,
    deadline: Instant,
) -> (Result<Vec<Candidate>, NoHosts>, Sights) {
    let mut sights = Sights::default();
    let found = look(next_hop, resolver, settings, deadline, Some(&mut sights));
    (found, sights)
}

fn look(
    next_hop: &NextHop,
    resolver: &Resolver,
    settings: &HostSettings,
    deadline: Instant,
    mut sights: Option<&mut Sights>,
) -> Result<Vec<Candidate>, NoHosts> {
    match next_hop {
        NextHop::Domain(domain) if domain.starts_with('[') => {
            let address = address_literal(domain).ok_or(NoHosts::UnknownLiteral)?;
            note_source(&mut sights, Source::Literal);
            settle(&itself(domain), settings, deadline, sights, |_, _| {
                Ok(vec![address])
            })
        }
        NextHop::Domain(domain) => of_domain(domain, resolver, settings, deadline, sights),
        NextHop::Host(host, port) | NextHop::Lmtp(LmtpServer::Host(host, port)) => {
            of_operator(host, *port, resolver, deadline, sights)
        }
        // It is on no host: `socket` knows the way.
        NextHop::Lmtp(LmtpServer::Socket(_)) => Ok(Vec::new()),
    }
}

fn note_source(sights: &mut Option<&mut Sights>, source: Source) {
    if let Some(sights) = sights {
        sights.source = Some(source);
    }
}

/// The hosts that DNS names for a domain (RFC 5321 5.1).
fn of_domain(
    domain: &str,
    resolver: &Resolver,
    settings: &HostSettings,
    deadline: Instant,
    mut sights: Option<&mut Sights>,
) -> Result<Vec<Candidate>, NoHosts> {
    let look_up = |host: &str, until: Instant| match host.parse::<IpAddr>() {
        // An address is no name of a host, but what is meant is plain.
        Ok(address) => Ok(vec![address]),
        Err(_) => resolver.addresses(host, until),
    };
    match resolver.mx(domain, deadline) {
        Ok(MxAnswer::Hosts(mx)) => {
            note_source(&mut sights, Source::Mx);
            settle(&by_preference(mx, any_below), settings, deadline, sights, look_up)
        }
        Ok(MxAnswer::Null) => Err(NoHosts::NullMx),
        Err(DnsError::NoData) => {
            note_source(&mut sights, Source::Itself);
            settle(&itself(domain), settings, deadline, sights, look_up).map_err(|none| match none {
                NoHosts::NoAddress => NoHosts::NeitherMxNorAddress,
                other => other,
            })
        }
        Err(DnsError::NoSuchDomain) => Err(NoHosts::NoSuchDomain),
        Err(DnsError::Temporary(what)) => Err(NoHosts::Temporary(what)),
    }
}

/// The implicit MX of a domain that has none (RFC 5321 5.1).
fn itself(domain: &str) -> [Mx; 1] {
    [Mx {
        preference: 0,
        host: domain.to_string(),
    }]
}

/// Until when a host is looked up: half of the time that is left is for those behind it.
fn patience(deadline: Instant, others_are_known: bool) -> Instant {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now) / 2;
    now + if others_are_known {
        left.min(PATIENCE_FOR_FURTHER_HOSTS)
    } else {
        left
    }
}

/// The host that the operator named. It may be anywhere, and whatever is wrong with it is no reason to bounce
/// mail: the operator will put it right.
fn of_operator(
    host: &str,
    port: u16,
    resolver: &Resolver,
    deadline: Instant,
    sights: Option<&mut Sights>,
) -> Result<Vec<Candidate>, NoHosts> {
    let found = match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) => resolver.named_host(host, deadline),
    };
    if let Some(sights) = sights {
        sights.source = Some(Source::Operator);
        let sight = match &found {
            // What the operator named may be anywhere.
            Ok(found) => Sight::Addresses(found.iter().map(|address| (*address, Standing::Fine)).collect()),
            Err(error) => Sight::None(error.clone()),
        };
        sights.hosts = vec![(None, host.to_ascii_lowercase(), sight)];
    }
    let mut addresses = by_turns(found.map_err(|error| NoHosts::Temporary(error.to_string()))?);
    addresses.truncate(MOST_ADDRESSES);
    Ok(vec![Candidate {
        name: host.to_ascii_lowercase(),
        addresses: with_port(addresses, port),
    }])
}

/// What is to be tried of these hosts, which stand by preference; looks up no more of them than it needs.
///
/// RFC 5321 5.1: where we are among them, only those that are better than we are count, for the others would
/// give the mail to us.
fn settle(
    hosts: &[Mx],
    settings: &HostSettings,
    deadline: Instant,
    mut sights: Option<&mut Sights>,
    mut look_up: impl FnMut(&str, Instant) -> Result<Vec<IpAddr>, DnsError>,
) -> Result<Vec<Candidate>, NoHosts> {
    let ourselves = Ourselves::new(&settings.hostname, &settings.listeners);
    if let Some(sights) = &mut sights {
        let sight = |mx: &Mx| {
            let what = match ourselves.is_named(&mx.host) {
                true => Sight::Ourselves,
                false => Sight::NotAsked,
            };
            (Some(mx.preference), mx.host.clone(), what)
        };
        sights.hosts = hosts.iter().map(sight).collect();
    }
    let mut ours = hosts
        .iter()
        .find(|mx| ourselves.is_named(&mx.host))
        .map(|mx| mx.preference);
    let mut candidates = Vec::new();
    let mut room = MOST_ADDRESSES;
    let mut trouble = None;
    let mut refused = None;
    for (place, Mx { preference, host }) in hosts.iter().take(MOST_NAMES).enumerate() {
        let enough = room == 0 || candidates.len() == MOST_HOSTS;
        if enough || ours.is_some_and(|ours| *preference >= ours) {
            break;
        }
        let looked_up = look_up(host, patience(deadline, !candidates.is_empty()));
        if let Some((_, _, sight)) = sights.as_mut().and_then(|sights| sights.hosts.get_mut(place)) {
            *sight = match &looked_up {
                Ok(found) => Sight::Addresses(
                    found
                        .iter()
                        .map(|address| (*address, standing(*address, settings, &ourselves)))
                        .collect(),
                ),
                Err(error) => Sight::None(error.clone()),
            };
        }
        match looked_up {
            Ok(found) => {
                let (allowed, others): (Vec<_>, Vec<_>) = found
                    .into_iter()
                    .partition(|address| is_allowed(*address, &settings.allow_next_hop));
                refused = refused.or(others.first().map(|address| (*preference, *address)));
                let mut addresses = with_port(by_turns(allowed), settings.smtp_port);
                if addresses.iter().any(|address| ourselves.listens_at(*address)) {
                    ours = Some(*preference);
                    continue;
                }
                addresses.truncate(room.min(MOST_OF_ONE_HOST));
                room -= addresses.len();
                if !addresses.is_empty() {
                    let name = host.clone();
                    candidates.push((*preference, Candidate { name, addresses }));
                }
            }
            Err(DnsError::Temporary(what)) => trouble = trouble.or(Some((*preference, what))),
            Err(DnsError::NoData | DnsError::NoSuchDomain) => {}
        }
    }
    if let Some(next) = hosts.get(MOST_NAMES) {
        // It may have an address: nothing is final.
        let what = format!(
            "the first {MOST_NAMES} of its {} MX hosts are of no use",
            hosts.len()
        );
        trouble = trouble.or(Some((next.preference, what)));
    }
    let is_better = |preference: u16| ours.is_none_or(|ours| preference < ours);
    candidates.retain(|(preference, _)| is_better(*preference));
    if !candidates.is_empty() {
        return Ok(candidates.into_iter().map(|(_, candidate)| candidate).collect());
    }
    Err(
        if let Some((_, what)) = trouble.filter(|(preference, _)| is_better(*preference)) {
            NoHosts::Temporary(what)
        } else if let Some((_, address)) = refused.filter(|(preference, _)| is_better(*preference)) {
            NoHosts::NotPublic(address)
        } else if ours.is_none() {
            NoHosts::NoAddress
        } else if hosts.iter().any(|mx| is_better(mx.preference)) {
            NoHosts::NoBetterHost
        } else {
            NoHosts::Ourselves
        },
    )
}

/// What is thought of an address that DNS names.
fn standing(address: IpAddr, settings: &HostSettings, ourselves: &Ourselves<'_>) -> Standing {
    if !is_allowed(address, &settings.allow_next_hop) {
        Standing::NotPublic
    } else if ourselves.listens_at(SocketAddr::new(address, settings.smtp_port)) {
        Standing::Ourselves
    } else {
        Standing::Fine
    }
}

fn with_port(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect()
}

/// A random number below `n`, which is not zero: each `RandomState` hashes under keys of its own.
fn any_below(n: usize) -> usize {
    (RandomState::new().build_hasher().finish() % n as u64) as usize
}

#[cfg(test)]
mod tests;
