//! Asks DNS for our names, tries the DNS servers, calls the listeners of the configuration, and the hosts of next hops.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;

use super::Patient;
use crate::dns::resolver::{DnsError, MxAnswer};
use crate::doctor::finding::Finding;
use crate::doctor::names::{Names, is_public};
use crate::doctor::network::{self, Entrance, Miss, WayOut};
use crate::doctor::spool::Mta;
use crate::domain_list::next_hop::NextHop;
use crate::inbound::front::Front;
use crate::outbound::connection::connect_here;
use crate::outbound::hosts::{HostSettings, candidates, in_turn, socket};
use crate::outbound::outcome::{Address, Outcome};
use crate::work_queue;

/// How long DNS is asked, all questions together.
const ASKING: Duration = Duration::from_secs(10);

/// How long a DNS server may take.
const PROBING: Duration = Duration::from_secs(4);

/// How long a listener may take to greet us.
const GREETING: Duration = Duration::from_secs(5);

/// How long all next hops are tried.
const CALLING: Duration = Duration::from_secs(20);

/// How long one address of them.
const ONE_CALL: Duration = Duration::from_secs(5);

/// Next hops that are tried, of those for which something waits; and addresses of each.
const MOST_HOPS: usize = 3;

/// Local domains whose MX is looked up.
const MOST_DOMAINS: usize = 5;

/// Addresses whose names are looked up.
const MOST_ADDRESSES: usize = 4;

/// The longest line of a greeting (RFC 5321 4.5.3.1.5).
const LONGEST_LINE: u64 = 512;

/// Who we are, by DNS.
pub(super) fn names(patient: &Patient) -> Vec<Finding> {
    let (config, resolver) = (&patient.config, &patient.resolver);
    let until = Instant::now() + ASKING;
    let own = own_addresses();
    let hostname = config.hostname.clone();
    let addresses = resolver.addresses(&hostname, until);
    // Servers that know nothing now are not asked again and again.
    let dead = match &addresses {
        Err(error @ DnsError::Temporary(_)) => Some(error.clone()),
        _ => None,
    };
    let ours = own.iter().copied().filter(|address| is_public(*address));
    let known: Vec<IpAddr> = match &addresses {
        Ok(addresses) => addresses
            .iter()
            .copied()
            .filter(|address| is_public(*address))
            .collect(),
        Err(_) => ours.collect(),
    };
    let reverse = known.into_iter().take(MOST_ADDRESSES).map(|address| {
        let names = match &dead {
            Some(error) => Err(error.clone()),
            None => resolver.ptr(address, until),
        };
        (address, names)
    });
    let domains = config
        .local_domains
        .iter()
        .filter(|domain| !domain.starts_with('['));
    let told = domains.clone().take(MOST_DOMAINS).map(|domain| {
        let mx = match &dead {
            Some(error) => Err(error.clone()),
            None => resolver.mx(domain, until),
        };
        // By another name it may be this host all the same.
        let hosts: Vec<String> = match &mx {
            Ok(MxAnswer::Hosts(hosts)) if hosts.iter().all(|mx| mx.host != hostname) => hosts
                .iter()
                .take(MOST_ADDRESSES)
                .map(|mx| mx.host.clone())
                .collect(),
            Err(DnsError::NoData) => vec![domain.clone()],
            _ => Vec::new(),
        };
        let found = hosts
            .iter()
            .filter_map(|host| resolver.addresses(host, until).ok());
        (domain.clone(), mx, found.flatten().collect())
    });
    let names = Names {
        more: domains.clone().count().saturating_sub(MOST_DOMAINS),
        reverse: reverse.collect(),
        domains: told.collect(),
        hostname,
        own,
        addresses,
    };
    names.findings(patient.exposure)
}

fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        four.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|address| IpAddr::from(address.ip()))
        })
    });
    addresses.collect()
}

/// The DNS servers.
pub(super) fn resolver(patient: &Patient) -> Vec<Finding> {
    network::resolver(&patient.resolver.probe(PROBING), patient.exposure)
}

/// The listeners of the configuration, side by side.
pub(super) fn entrances(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let of =
        |front, listeners: &[SocketAddr]| listeners.iter().map(move |at| (front, *at)).collect::<Vec<_>>();
    let listeners = [
        of(Front::Relay, &config.listen),
        of(Front::Submission, &config.listen_submission),
        of(Front::Submissions, &config.listen_submissions),
    ];
    let runs = matches!(patient.mta, Mta::Runs(_));
    thread::scope(|scope| {
        let tries: Vec<_> = listeners
            .concat()
            .into_iter()
            .map(|(front, at)| (front, at, scope.spawn(move || entrance(front, at, runs))))
            .collect();
        let found = tries.into_iter().map(|(front, at, tried)| {
            // Nothing in there panics.
            let entrance = tried.join().unwrap_or(Entrance::Silent);
            network::entrance(front, at, &entrance)
        });
        found.collect()
    })
}

fn entrance(front: Front, at: SocketAddr, runs: bool) -> Entrance {
    if at.port() == 0 {
        return Entrance::Any;
    }
    if !runs {
        match TcpListener::bind(at) {
            Ok(_) => return Entrance::Free,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Entrance::Privileged,
            // Perhaps the MTA, which we may not ask.
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Entrance::Closed(error.to_string()),
        }
    }
    let whom = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    match call(
        &SocketAddr::new(whom, at.port()).into(),
        GREETING,
        !front.begins_with_tls(),
    ) {
        Err(error) if error.kind() == ErrorKind::TimedOut => Entrance::Silent,
        Err(error) if runs => Entrance::Unreached(error.to_string()),
        Err(_) => Entrance::Taken,
        Ok(None) => Entrance::Takes,
        Ok(Some(line)) if !runs && !line.contains("smtpmta") => Entrance::Taken,
        Ok(Some(line)) => Entrance::Greets(line),
    }
}

/// Connects, and reads the first line that comes, if one is to come; says goodbye. [`ErrorKind::TimedOut`] is silence.
fn call(peer: &Address, patience: Duration, greets: bool) -> std::io::Result<Option<String>> {
    let until = Instant::now() + patience;
    let stream = match peer {
        Address::Net(address) => TcpStream::connect_timeout(address, patience)?,
        Address::Socket(path) => connect_here(path)?,
    };
    if !greets {
        return Ok(None);
    }
    let left = || {
        until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    };
    stream.set_read_timeout(Some(left()))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = Vec::new();
    let read = BufReader::new((&stream).take(LONGEST_LINE)).read_until(b'\n', &mut line);
    match read {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Err(ErrorKind::TimedOut.into());
        }
        read => read?,
    };
    // It may have gone by now.
    let _ = (&stream).write_all(b"QUIT\r\n");
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// The relay host, or the hosts of `--to`, or of what waits most.
pub(super) fn ways_out(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let hops = match (&patient.to, &config.relay_host) {
        (Some(domain), _) => vec![config.router().next_hop(domain)],
        (None, Some(relay)) => vec![relay.clone()],
        (None, None) => {
            let glance = work_queue::glance(&config.spool, MOST_HOPS);
            glance.map(|glance| glance.waiting).unwrap_or_default()
        }
    };
    let until = Instant::now() + CALLING;
    let tried: Vec<WayOut> = thread::scope(|scope| {
        let tries: Vec<_> = hops
            .iter()
            .map(|hop| (hop, scope.spawn(move || way_out(patient, hop, until))))
            .collect();
        let tried = tries.into_iter().map(|(hop, tried)| WayOut {
            next_hop: hop.to_string(),
            // Nothing in there panics.
            result: tried
                .join()
                .unwrap_or_else(|_| Err(Miss::NoAnswer("was not tried".to_owned()))),
        });
        tried.collect()
    });
    let are_named = patient.to.is_some() || config.relay_host.is_some();
    network::ways_out(&tried, are_named, config.smtp_port)
}

fn way_out(patient: &Patient, hop: &NextHop, until: Instant) -> Result<(String, String), Miss> {
    let settings = HostSettings::from(&patient.config);
    let hosts = candidates(hop, &patient.resolver, &settings, until);
    let hosts = hosts.map_err(|none| match none.outcome(hop) {
        Outcome::TryLater(reason) | Outcome::GiveUp(reason) => Miss::NoHost(reason.text),
        Outcome::Delivered(reply) => Miss::NoHost(reply.to_string()),
    })?;
    let mut wrong = format!("{hop}: there was no time to try it");
    let hosts = in_turn(hosts, MOST_HOPS, |_| false);
    for peer in socket(hop).into_iter().chain(hosts) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match call(&peer.address, left.min(ONE_CALL), true) {
            Ok(said) => return Ok((peer.to_string(), said.unwrap_or_default())),
            Err(error) => wrong = format!("{peer}: {error}"),
        }
    }
    Err(Miss::NoAnswer(wrong))
}
