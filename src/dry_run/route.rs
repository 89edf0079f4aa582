//! `smtpmta route ADDRESS`: works out where mail for an address would go, and with `--connect` tries that as far as RCPT.
//!
//! Asks DNS, the MTA that runs on the spool, and with `--connect` the hosts. Changes nothing.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::DryRunError;
use crate::addin::files::{Files, FilesError};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::exit::Exit;
use crate::console::client;
use crate::console::route::{self, Because, End, Route, Tried, Way};
use crate::console::screen::Screen;
use crate::dns::resolver::Resolver;
use crate::domain_list::next_hop::{NextHop, Router};
use crate::inbound::replies;
use crate::latest::Latest;
use crate::mailbox::directory::Found;
use crate::mailbox::place::place;
use crate::outbound::families::Families;
use crate::outbound::handler::{MOST_TRIES, RESOLVE_DEADLINE};
use crate::outbound::hosts::{Candidate, HostSettings, in_turn, seen, socket};
use crate::outbound::outcome::{Outcome, Peer};
use crate::outbound::security::SecurityRules;
use crate::outbound::trial::Trial;
use crate::smtp::path::{ForwardPath, Mailbox, PathError, ReversePath};

/// Next hops that are looked at: an alias may stand for people at very many.
const MOST_WAYS: usize = 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The address.
    pub address: ForwardPath,
    /// `--connect`: try it.
    pub connect: bool,
    /// `--from`: who is said to send it.
    pub from: ReversePath,
    /// `--json`.
    pub json: bool,
}

impl Asked {
    /// An address as people write it, with angle brackets or without.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn address(text: &str) -> Result<ForwardPath, PathError> {
        match bare(text) {
            text if text.eq_ignore_ascii_case("postmaster") => Ok(ForwardPath::Postmaster),
            text => Mailbox::parse(text).map(ForwardPath::Mailbox),
        }
    }

    /// The same for whoever sends it; nobody is `<>`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn sender(text: &str) -> Result<ReversePath, PathError> {
        bare(text).parse()
    }
}

fn bare(text: &str) -> &str {
    let inside = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    inside.unwrap_or(text)
}

/// Says where mail would go, on `out`.
///
/// # Errors
/// When the configuration names a file that is wrong, or `out` takes nothing.
pub fn run(config: &Config, asked: &Asked, out: &mut dyn Write) -> Result<Exit, DryRunError> {
    let files = Files::read(config)?;
    let address = match &asked.address {
        ForwardPath::Mailbox(mailbox) => mailbox.clone(),
        ForwardPath::Postmaster => {
            let first_domain = config.local_domains.first().map_or("", String::as_str);
            let postmaster = format!("postmaster@{first_domain}");
            Mailbox::parse(&postmaster).map_err(FilesError::LocalDomain)?
        }
    };
    let finder = Finder {
        config,
        json: asked.json,
        router: config.router(),
        resolver: Resolver::new(&config.dns, Clock::System),
        families: Families::default(),
        rules: SecurityRules::new(config, Latest::new(Arc::clone(&files.logins))),
    };
    let (is_alias, ends) = finder.ends(&files, &address);
    let (mut known, mut hops) = (HashSet::new(), Vec::new());
    for (to, end) in &ends {
        let next_hop = finder.router.next_hop(to.domain());
        if matches!(end, End::Elsewhere(_) | End::Server { .. }) && known.insert(next_hop.clone()) {
            hops.push((next_hop, to));
        }
    }
    let more = hops.len().saturating_sub(MOST_WAYS);
    hops.truncate(MOST_WAYS);
    let mut ways = Vec::new();
    let mut reachable = Vec::new();
    for (next_hop, to) in &hops {
        let (way, peers) = finder.way(next_hop, to);
        ways.push(way);
        reachable.push(peers);
    }
    let told = ends.iter().map(|(to, end)| (to.to_string(), end.clone()));
    let found = Route {
        address: address.to_string(),
        is_alias,
        ends: told.collect(),
        ways,
        more,
    };
    let screen = route::route(&found);
    if !asked.json {
        out.write_all(screen.text.as_bytes())?;
        out.flush()?;
    }
    let mut trials = Vec::new();
    if asked.connect {
        for ((next_hop, to), peers) in hops.iter().zip(reachable) {
            if !peers.is_empty() {
                trials.push(finder.tried(&files, asked, (next_hop, *to), peers, out)?);
            }
        }
    }
    if asked.json {
        let facts = match asked.connect {
            true => route::with_trials(screen.json, &trials),
            false => screen.json,
        };
        writeln!(out, "{facts}")?;
        out.flush()?;
    }
    Ok(exit(&found, &trials))
}

/// A refusal anywhere is one; else what is only put off is.
fn exit(found: &Route, trials: &[Tried]) -> Exit {
    let ways = found.ways.iter().filter_map(|way| way.peers.as_ref().err());
    let outcomes: Vec<&Outcome> = ways.chain(trials.iter().map(|tried| &tried.outcome)).collect();
    let is_refused = found.ends.iter().any(|(_, end)| matches!(end, End::Refused(_)));
    if is_refused
        || outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::GiveUp(_)))
    {
        Exit::Refused
    } else if outcomes
        .iter()
        .any(|outcome| matches!(outcome, Outcome::TryLater(_)))
    {
        Exit::TryLater
    } else {
        Exit::Done
    }
}

/// Who looks.
struct Finder<'f> {
    config: &'f Config,
    json: bool,
    router: Router,
    resolver: Resolver,
    families: Families,
    rules: SecurityRules,
}

impl Finder<'_> {
    /// What an address comes to, and whether it is an alias.
    fn ends(&self, files: &Files, address: &Mailbox) -> (bool, Vec<(Mailbox, End)>) {
        let directory = &files.directory;
        match directory.find(address) {
            Found::Alias => {
                let stands_for = directory.expand(address).into_iter();
                let end = |to: Mailbox| {
                    let end = self.end(&to, &directory.find_mailbox(&to));
                    (to, end)
                };
                (true, stands_for.map(end).collect())
            }
            found => (false, vec![(address.clone(), self.end(address, &found))]),
        }
    }

    fn end(&self, address: &Mailbox, found: &Found) -> End {
        match found {
            Found::Mailbox(mailbox) if self.config.lmtp.is_some() => End::Server {
                name: mailbox.to_string(),
                next_hop: self.router.next_hop(address.domain()).to_string(),
            },
            Found::Mailbox(mailbox) => End::Mailbox {
                name: mailbox.to_string(),
                maildir: place(&self.config.mail_dir, mailbox).display().to_string(),
            },
            Found::Alias | Found::Unknown => End::Refused(replies::no_such_user()),
            Found::RelayTrick => End::Refused(replies::relaying_denied()),
            Found::Elsewhere => End::Elsewhere(self.router.next_hop(address.domain()).to_string()),
        }
    }

    /// How a next hop is reached, and whom a handler would connect to in turn.
    fn way(&self, next_hop: &NextHop, to: &Mailbox) -> (Way, Vec<Peer>) {
        let because = match (self.router.route(to.domain()), &self.router.relay_host) {
            _ if next_hop.is_lmtp() => Because::Local,
            (Some((pattern, _)), _) => Because::Route(pattern.clone()),
            (None, Some(_)) => Because::RelayHost,
            (None, None) => Because::Itself,
        };
        let settings = HostSettings::from(self.config);
        let deadline = Instant::now() + RESOLVE_DEADLINE;
        let (found, sights) = seen(next_hop, &self.resolver, &settings, deadline);
        let here = socket(next_hop);
        let mut last = Vec::new();
        let peers = found.map(|hosts| {
            self.try_families(&hosts);
            let now = Instant::now();
            let peers = in_turn(hosts, MOST_TRIES, |address| self.families.is_broken(address, now));
            for (is_six, name) in [(true, "IPv6"), (false, "IPv4")] {
                let mut of_it = peers
                    .iter()
                    .filter_map(|peer| Some(peer.address.ip()?.to_canonical()));
                let one = of_it.find(|address| address.is_ipv6() == is_six);
                if one.is_some_and(|address| self.families.is_broken(address, now)) {
                    last.push(name);
                }
            }
            here.map_or(peers, |peer| vec![peer])
        });
        let security = self.rules.of(next_hop);
        let name = next_hop.to_string();
        let way = Way {
            because,
            sights,
            peers: match &peers {
                Ok(peers) => Ok(peers.iter().map(Peer::to_string).collect()),
                Err(none) => Err(none.outcome(next_hop)),
            },
            last,
            level: security.level,
            login: security.login.as_ref().map(|login| login.user.clone()),
            mta: self.mta_says(&name),
            next_hop: name,
        };
        (way, peers.unwrap_or_default())
    }

    /// Learns which families of addresses this machine has a way to. Nothing is sent for that.
    fn try_families(&self, hosts: &[Candidate]) {
        let addresses = || hosts.iter().flat_map(|host| &host.addresses);
        for is_six in [true, false] {
            let is_of_it = |address: &&SocketAddr| address.ip().to_canonical().is_ipv6() == is_six;
            if let Some(address) = addresses().find(is_of_it) {
                let made = way_to(*address);
                self.families.note(address.ip(), &made, Instant::now());
            }
        }
    }

    /// What the MTA says of a next hop that runs on the spool; or why it says nothing.
    fn mta_says(&self, next_hop: &str) -> Result<Screen, String> {
        let words = ["show", "hop", next_hop].map(str::to_owned);
        let spool = self.config.spool.display();
        match client::ask(&self.config.spool, &words, self.json) {
            Ok(answer) if answer.status == 0 => Ok(Screen {
                json: serde_json::from_str(&answer.text).unwrap_or(Value::Null),
                text: answer.text,
            }),
            Ok(answer) => Err(format!("the one in {spool} says: {}", answer.text.trim_end())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Err(format!("none runs in {spool}"))
            }
            Err(error) => Err(format!("the one in {spool} cannot be asked: {error}")),
        }
    }

    /// Tries a next hop for a recipient.
    fn tried(
        &self,
        files: &Files,
        asked: &Asked,
        (next_hop, to): (&NextHop, &Mailbox),
        peers: Vec<Peer>,
        out: &mut dyn Write,
    ) -> io::Result<Tried> {
        let trial = Trial {
            hostname: &self.config.hostname,
            security: self.rules.of(next_hop),
            trust: &files.trust,
            families: &self.families,
            from: asked.from.clone(),
            to: to.clone(),
            in_lmtp: next_hop.is_lmtp(),
        };
        let (mut lines, mut written) = (Vec::new(), Ok(()));
        if !self.json {
            writeln!(out, "\n{next_hop}, tried with <{to}>")?;
        }
        let outcome = trial.run(peers, &mut |line| {
            if !self.json && written.is_ok() {
                written = writeln!(out, "{line}").and_then(|()| out.flush());
            }
            lines.push(line);
        });
        written?;
        let tried = Tried {
            next_hop: next_hop.to_string(),
            recipient: to.to_string(),
            lines,
            outcome,
        };
        if !self.json {
            writeln!(out, "{}", route::outcome(&tried))?;
        }
        Ok(tried)
    }
}

/// Whether this machine has a way to an address: the system says that without sending anything.
fn way_to(address: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match address.ip().to_canonical() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let to = SocketAddr::new(address.ip().to_canonical(), address.port());
    UdpSocket::bind((any, 0))?.connect(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_angle_brackets_or_without() {
        let mailbox = ForwardPath::Mailbox("bob@a.test".parse().unwrap());
        for text in ["bob@a.test", "<bob@A.test>"] {
            assert_eq!(Asked::address(text), Ok(mailbox.clone()));
        }
        assert_eq!(Asked::address("Postmaster"), Ok(ForwardPath::Postmaster));
        assert!(Asked::address("bob").is_err() && Asked::address("<bob@a.test").is_err());
        assert_eq!(Asked::sender("<>"), Ok(ReversePath(None)));
        assert!(Asked::sender("bob").is_err());
    }

    #[test]
    fn this_machine_has_a_way_to_itself() {
        assert!(way_to("127.0.0.1:25".parse().unwrap()).is_ok());
    }
}
