//! Whether this host is who it says: its name, that name's addresses, the names of these, and the MX of local domains.
//! Pure: answers of DNS in, findings out.

use std::net::IpAddr;

use super::exposure::Exposure;
use super::finding::{Finding, Status};
use crate::dns::resolver::{DnsError, MxAnswer};

/// Last labels of names that nobody elsewhere can look up (RFC 2606, RFC 6761, RFC 6762, RFC 8375, and habit).
const NOWHERE: [&str; 7] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "lan",
    "home",
    "invalid",
];

/// What is known of our names.
#[derive(Clone, Debug)]
pub struct Names {
    /// `--hostname`.
    pub hostname: String,
    /// The addresses of this machine.
    pub own: Vec<IpAddr>,
    /// Those that DNS has for the hostname.
    pub addresses: Result<Vec<IpAddr>, DnsError>,
    /// Addresses by which others know us, with the names that DNS has for each.
    pub reverse: Vec<(IpAddr, Result<Vec<String>, DnsError>)>,
    /// Local domains, with what their MX records say, and the domain's own addresses where there are none.
    pub domains: Vec<(String, Result<MxAnswer, DnsError>, Vec<IpAddr>)>,
    /// Local domains that were not looked at, since there are so many.
    pub more: usize,
}

impl Names {
    /// What is to be said of them.
    #[must_use]
    pub fn findings(&self, exposure: Exposure) -> Vec<Finding> {
        let mut found = vec![self.hostname(exposure), self.address(exposure)];
        found.extend(
            self.reverse
                .iter()
                .map(|(address, names)| self.reverse(*address, names, exposure)),
        );
        found.extend(self.domains.iter().map(|domain| self.mx(domain, exposure)));
        if self.more > 0 {
            let what = format!("{} local domains more, not looked at", self.more);
            found.push(Finding::unknown("mx", what, ""));
        }
        found
    }

    fn hostname(&self, exposure: Exposure) -> Finding {
        let name = &self.hostname;
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.contains('.') && !NOWHERE.contains(&last) {
            return Finding::ok("hostname", name);
        }
        let status = exposure.weight().max(Status::Warning);
        let what = format!(
            "{name} is a name that nobody else can look up: other hosts may refuse who greets them by it"
        );
        Finding::of(
            status,
            "hostname",
            what,
            "set --hostname to a name of this host in DNS",
        )
    }

    fn address(&self, exposure: Exposure) -> Finding {
        let name = &self.hostname;
        let addresses = match &self.addresses {
            Ok(addresses) => addresses,
            Err(error @ DnsError::Temporary(_)) => {
                return Finding::unknown("address", format!("{name}: {error}"), "see resolver");
            }
            Err(error) => {
                let what = format!("DNS has no address for {name}: {error}");
                let advice = "make an A or AAAA record for it, or set --hostname to a name that has one";
                return match exposure.weight() {
                    Status::Ok => Finding::ok("address", format!("{what}; of no matter behind a relay host")),
                    status => Finding::of(status, "address", what, advice),
                };
            }
        };
        let told = list(addresses);
        if addresses.iter().all(IpAddr::is_loopback) {
            let what = format!("{told} is what DNS has for {name}: nobody else gets here by it");
            return Finding::of(
                exposure.weight(),
                "address",
                what,
                "make its A record say the public address",
            );
        }
        if addresses.iter().any(|address| self.own.contains(address)) {
            return Finding::ok("address", format!("{told}, of this machine"));
        }
        if self.own.iter().copied().any(is_public) {
            let what = format!(
                "{told} is what DNS has for {name}, and this machine has {}",
                list(&self.own)
            );
            let status = exposure.weight().min(Status::Warning);
            return Finding::of(status, "address", what, "set --hostname, or its A record, right");
        }
        Finding::ok(
            "address",
            format!("{told}; this machine is behind NAT, if that is right"),
        )
    }

    fn reverse(&self, address: IpAddr, names: &Result<Vec<String>, DnsError>, exposure: Exposure) -> Finding {
        let hostname = &self.hostname;
        let advice = format!("ask whoever gave you the address to let its PTR record say {hostname}");
        match names {
            Ok(names) if names.iter().any(|name| name.eq_ignore_ascii_case(hostname)) => {
                Finding::ok("reverse", format!("{address} is {hostname}"))
            }
            Ok(names) => {
                let what = format!(
                    "{address} is {} by its PTR record, not {hostname}",
                    names.join(", ")
                );
                Finding::of(exposure.weight().min(Status::Warning), "reverse", what, advice)
            }
            Err(error @ DnsError::Temporary(_)) => {
                Finding::unknown("reverse", format!("{address}: {error}"), "see resolver")
            }
            Err(_) => {
                let what = format!("{address} has no PTR record: many hosts refuse mail from it");
                match exposure.weight() {
                    Status::Ok => Finding::ok(
                        "reverse",
                        format!("{address} has no PTR record; of no matter here"),
                    ),
                    status => Finding::of(status, "reverse", what, advice),
                }
            }
        }
    }

    fn mx(
        &self,
        (domain, mx, own): &(String, Result<MxAnswer, DnsError>, Vec<IpAddr>),
        exposure: Exposure,
    ) -> Finding {
        let known = self.addresses.as_deref().unwrap_or_default();
        let is_here = |addresses: &[IpAddr]| {
            addresses
                .iter()
                .any(|address| self.own.contains(address) || known.contains(address))
        };
        // Whom nobody can call gets no mail by MX.
        let status = match exposure.receives {
            true => Status::Warning,
            false => Status::Ok,
        };
        let warning = |what: String, advice: String| Finding::of(status, "mx", what, advice);
        match mx {
            Ok(MxAnswer::Hosts(hosts)) => {
                let names: Vec<&str> = hosts.iter().map(|mx| mx.host.as_str()).collect();
                let told = format!("mail for {domain} goes to {}", names.join(", "));
                match names.iter().any(|name| name.eq_ignore_ascii_case(&self.hostname)) || is_here(own) {
                    true => Finding::ok("mx", told),
                    false => warning(
                        format!("{told}, and not to {}", self.hostname),
                        "make an MX record for this host, or take the domain out of --local-domain"
                            .to_owned(),
                    ),
                }
            }
            Ok(MxAnswer::Null) => warning(
                format!("{domain} says in DNS that it takes no mail (null MX)"),
                "make an MX record for this host, or take the domain out of --local-domain".to_owned(),
            ),
            Err(DnsError::NoData) if is_here(own) => Finding::ok(
                "mx",
                format!("{domain} has no MX record; its address is that of this host"),
            ),
            Err(error @ DnsError::Temporary(_)) => {
                Finding::unknown("mx", format!("{domain}: {error}"), "see resolver")
            }
            Err(_) => warning(
                format!("{domain} has no MX record: nothing comes here from other hosts by it"),
                format!("make one: {domain} MX 10 {}", self.hostname),
            ),
        }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

/// Whether an address may be known to others.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // 100.64.0.0/10 is between a provider and its customers (RFC 6598).
            let is_shared = first == 100 && second & 0xc0 == 64;
            let is_local = address.is_private() || address.is_loopback() || address.is_link_local();
            // Broadcast is above 223, too.
            !is_local && !is_shared && first != 0 && first < 224
        }
        IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::resolver::Mx;

    const WORLD: Exposure = Exposure {
        receives: true,
        sends: true,
    };
    const NULL_CLIENT: Exposure = Exposure {
        receives: false,
        sends: false,
    };
    const OUTWARD: Exposure = Exposure {
        receives: false,
        sends: true,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn hosts(names: &[&str]) -> Result<MxAnswer, DnsError> {
        let host = |name: &&str| Mx {
            preference: 10,
            host: (*name).to_owned(),
        };
        Ok(MxAnswer::Hosts(names.iter().map(host).collect()))
    }

    fn sound() -> Names {
        let here = ip("192.0.2.1");
        Names {
            hostname: "mail.example.org".to_owned(),
            own: vec![ip("127.0.0.1"), here],
            addresses: Ok(vec![here]),
            reverse: vec![(here, Ok(vec!["Mail.example.org".to_owned()]))],
            domains: vec![("example.org".to_owned(), hosts(&["mail.example.org"]), Vec::new())],
            more: 0,
        }
    }

    /// Check and status of each finding that is not ok.
    fn wrong(names: &Names, exposure: Exposure) -> Vec<(&'static str, Status)> {
        let found = names.findings(exposure).into_iter();
        let found = found.filter(|finding| finding.status != Status::Ok);
        found
            .inspect(|finding| assert!(!finding.advice.is_empty(), "{finding:?}"))
            .map(|finding| (finding.check, finding.status))
            .collect()
    }

    #[test]
    fn what_is_wrong_with_our_names_weighs_as_much_as_strangers_meet_us() {
        use Status::{Error, Unknown, Warning};
        let change = |change: fn(&mut Names)| {
            let mut names = sound();
            change(&mut names);
            names
        };
        assert_eq!(wrong(&sound(), WORLD), []);
        for (names, world, outward, null_client) in [
            (
                change(|names| names.hostname = "myhost".to_owned()),
                vec![("hostname", Error), ("reverse", Warning), ("mx", Warning)],
                vec![("hostname", Warning), ("reverse", Warning)],
                vec![("hostname", Warning)],
            ),
            (
                change(|names| names.addresses = Err(DnsError::NoData)),
                vec![("address", Error)],
                vec![("address", Warning)],
                vec![],
            ),
            (
                change(|names| names.addresses = Ok(vec![ip("127.0.1.1")])),
                vec![("address", Error)],
                vec![("address", Warning)],
                vec![],
            ),
            (
                change(|names| names.own = vec![ip("203.0.113.5")]),
                vec![("address", Warning)],
                vec![("address", Warning)],
                vec![],
            ),
            // Behind NAT.
            (
                change(|names| names.own = vec![ip("10.0.0.5")]),
                vec![],
                vec![],
                vec![],
            ),
            (
                change(|names| names.reverse[0].1 = Err(DnsError::NoSuchDomain)),
                vec![("reverse", Error)],
                vec![("reverse", Warning)],
                vec![],
            ),
            (
                change(|names| names.reverse[0].1 = Ok(vec!["a.example.net".to_owned()])),
                vec![("reverse", Warning)],
                vec![("reverse", Warning)],
                vec![],
            ),
            (
                change(|names| names.domains[0].1 = hosts(&["mx.example.net"])),
                vec![("mx", Warning)],
                vec![],
                vec![],
            ),
            (
                change(|names| names.domains[0].1 = Ok(MxAnswer::Null)),
                vec![("mx", Warning)],
                vec![],
                vec![],
            ),
            (
                change(|names| names.domains[0].1 = Err(DnsError::NoSuchDomain)),
                vec![("mx", Warning)],
                vec![],
                vec![],
            ),
            // No MX, and the address is ours.
            (
                change(|names| {
                    names.domains[0] = (
                        "a.example".to_owned(),
                        Err(DnsError::NoData),
                        vec![ip("192.0.2.1")],
                    );
                }),
                vec![],
                vec![],
                vec![],
            ),
        ] {
            assert_eq!(wrong(&names, WORLD), world, "{names:?}");
            assert_eq!(wrong(&names, OUTWARD), outward, "{names:?}");
            assert_eq!(wrong(&names, NULL_CLIENT), null_client, "{names:?}");
        }
        let dead = || DnsError::Temporary("no answer".to_owned());
        let mut names = sound();
        (names.addresses, names.reverse[0].1, names.domains[0].1) = (Err(dead()), Err(dead()), Err(dead()));
        let unknown = ["address", "reverse", "mx"].map(|check| (check, Unknown));
        assert_eq!(wrong(&names, WORLD), unknown);
    }

    #[test]
    fn addresses_of_private_networks_are_not_public() {
        for (address, expected) in [
            ("192.0.2.1", true),
            ("8.8.8.8", true),
            ("2001:db8::1", true),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::1", false),
            ("::ffff:192.168.1.1", false),
        ] {
            assert_eq!(is_public(ip(address)), expected, "{address}");
        }
    }
}
