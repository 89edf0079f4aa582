//! Where mail goes: where an operator leads it by hand, else where the configuration says. Pure.
//!
//! Never leads mail by hand to a host of which less TLS is asked than has to be for its domain.

use super::next_hop::{LmtpServer, NextHop, Router, covers};
use crate::config::{Config, TlsLevel};

/// Works out next hops, and how much TLS is asked of them, as the configuration says now.
#[derive(Clone, Debug, Default)]
pub struct Guide {
    /// Where mail goes that nobody leads by hand.
    pub router: Router,
    /// `--tls-outbound`: for whom, or for all, and how much.
    pub levels: Vec<(Option<String>, TlsLevel)>,
}

impl Guide {
    /// As this configuration says.
    #[must_use]
    pub fn new(config: &Config) -> Guide {
        Guide {
            router: config.router(),
            levels: config.tls_outbound.clone(),
        }
    }

    /// The next hop for `domain` (lower case) of mail that an operator has led to `pin`.
    #[must_use]
    pub fn next_hop(&self, domain: &str, pin: Option<&NextHop>) -> NextHop {
        match pin {
            Some(pin) if self.may_be_led(domain, pin) => pin.clone(),
            _ => self.router.next_hop(domain),
        }
    }

    /// Whether mail for `domain` may be led to `hop` by hand. A domain that has to have TLS has it there, too.
    fn may_be_led(&self, domain: &str, hop: &NextHop) -> bool {
        let own = self.levels.iter().filter(|(pattern, _)| {
            let pattern = pattern.as_deref();
            pattern.is_some_and(|pattern| covers(pattern, domain))
        });
        let least = own.map(|(_, level)| *level).max();
        least.is_none_or(|least| least < TlsLevel::Must || self.level(hop) >= least)
    }

    /// How much TLS is asked of `next_hop`: the strictest level of those that are said for it by name, for it as a host or
    /// for a domain that is routed there; else the level for all.
    #[must_use]
    pub fn level(&self, next_hop: &NextHop) -> TlsLevel {
        if matches!(next_hop, NextHop::Lmtp(LmtpServer::Socket(_))) {
            // It leaves this machine no more than what goes to a file.
            return TlsLevel::Never;
        }
        let names = |pattern: &str| self.router.names(pattern, next_hop);
        let named = self
            .levels
            .iter()
            .filter(|(pattern, _)| pattern.as_deref().is_some_and(names));
        let for_all = || self.levels.iter().find(|(pattern, _)| pattern.is_none());
        named
            .max_by_key(|(_, level)| *level)
            .or_else(for_all)
            .map_or(TlsLevel::May, |(_, level)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> NextHop {
        NextHop::Host(name.to_owned(), 25)
    }

    fn guide(levels: &[(&str, TlsLevel)]) -> Guide {
        let domain = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        Guide {
            router: Router {
                routes: vec![("routed.example".to_owned(), host("route.example"))],
                relay_host: Some(host("relay.example")),
                ..Router::default()
            },
            levels: levels
                .iter()
                .map(|(name, level)| (domain(name), *level))
                .collect(),
        }
    }

    #[test]
    fn what_is_led_by_hand_beats_a_route_and_the_relay_host() {
        let guide = guide(&[]);
        let by_hand = host("other.example");
        for domain in ["routed.example", "example.org"] {
            assert_eq!(guide.next_hop(domain, Some(&by_hand)), by_hand);
        }
        assert_eq!(guide.next_hop("routed.example", None), host("route.example"));
        assert_eq!(guide.next_hop("example.org", None), host("relay.example"));
    }

    #[test]
    fn nobody_leads_mail_by_hand_where_less_tls_is_asked_than_its_domain_has_to_have() {
        use TlsLevel::{May, Must, Never, Verify};
        let by_hand = host("other.example");
        for (levels, is_led) in [
            (&[("example.org", Must)][..], false),
            (&[(".org", Verify)], false),
            (&[("example.org", May)], true),
            (&[("example.org", Never)], true),
            (&[("example.org", Must), ("other.example", Must)], true),
            (&[("example.org", Verify), ("other.example", Must)], false),
            (&[("example.org", Must), ("", Verify)], true),
            // What is asked of the usual way is asked of that.
            (&[("relay.example", Verify)], true),
            (&[("", Must), ("other.example", Never)], true),
        ] {
            let goes = guide(levels).next_hop("example.org", Some(&by_hand));
            assert_eq!(goes == by_hand, is_led, "{levels:?}");
            assert!(is_led || goes == host("relay.example"), "{levels:?}");
        }
    }
}
