//! How a next hop is spoken to: how much TLS (`--tls-outbound`), and whether we log in (`--relay-auth`).
//!
//! Rules only. Never speaks TLS, and never says a password.

use std::sync::Arc;

use super::logins::{Login, Logins};
use crate::config::{Config, TlsLevel};
use crate::domain_list::guide::Guide;
use crate::domain_list::next_hop::NextHop;
use crate::latest::Latest;

/// What holds for one next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// How much TLS.
    pub level: TlsLevel,
    /// As whom we log in, and with what; `None`: we do not.
    pub login: Option<Arc<Login>>,
    /// TLS was tried and failed in a connection before this one: where it is not required, it is left out.
    pub tls_failed: bool,
    /// The host offered CHUNKING in a connection before this one, and did not know BDAT.
    pub chunks_failed: bool,
    /// Printable, without a comma, never used before: for an exchange of AUTH that needs one.
    pub nonce: String,
}

/// What holds for whom.
#[derive(Clone, Debug)]
pub struct SecurityRules {
    guide: Guide,
    logins: Latest<Logins>,
}

impl SecurityRules {
    /// The rules of a configuration, with the logins as they are read last.
    #[must_use]
    pub fn new(config: &Config, logins: Latest<Logins>) -> SecurityRules {
        SecurityRules {
            guide: Guide::new(config),
            logins,
        }
    }

    /// What holds for `next_hop` now.
    #[must_use]
    pub fn of(&self, next_hop: &NextHop) -> Security {
        let login = match next_hop {
            NextHop::Host(host, port) => {
                let is_relay_host = self.guide.router.relay_host.as_ref() == Some(next_hop);
                self.logins.take().of(host, *port, is_relay_host)
            }
            // Whoever is found by MX is a stranger, and hears no password. A server with our own mailboxes wants none.
            NextHop::Domain(_) | NextHop::Lmtp(_) => None,
        };
        Security {
            level: self.guide.level(next_hop),
            login,
            tls_failed: false,
            chunks_failed: false,
            nonce: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_list::next_hop::Router;

    fn host(name: &str, port: u16) -> NextHop {
        NextHop::Host(name.to_owned(), port)
    }

    fn rules(levels: &[(&str, TlsLevel)], logins: &str) -> SecurityRules {
        let domain = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        SecurityRules {
            guide: Guide {
                levels: levels
                    .iter()
                    .map(|(name, level)| (domain(name), *level))
                    .collect(),
                router: Router {
                    routes: vec![
                        ("example.org".to_owned(), host("mail.example.net", 587)),
                        (".example.org".to_owned(), host("sub.example.net", 25)),
                    ],
                    relay_host: Some(host("relay.example.com", 587)),
                    ..Router::default()
                },
            },
            logins: Latest::new(Arc::new(Logins::parse(logins.as_bytes()).unwrap())),
        }
    }

    #[test]
    fn a_level_is_for_a_domain_for_the_host_of_its_route_or_for_all() {
        let rules = rules(
            &[
                ("example.com", TlsLevel::Never),
                ("example.org", TlsLevel::Must),
                (".example.org", TlsLevel::Verify),
                ("192.0.2.1", TlsLevel::Never),
                ("", TlsLevel::May),
            ],
            "",
        );
        let level = |hop: NextHop| rules.of(&hop).level;
        assert_eq!(level(NextHop::Domain("example.com".into())), TlsLevel::Never);
        assert_eq!(level(NextHop::Domain("sub.example.com".into())), TlsLevel::May);
        assert_eq!(
            level(host("mail.example.net", 587)),
            TlsLevel::Must,
            "by its route"
        );
        assert_eq!(level(host("mail.example.net", 25)), TlsLevel::May, "another port");
        assert_eq!(level(host("sub.example.net", 25)), TlsLevel::Verify);
        assert_eq!(level(host("192.0.2.1", 25)), TlsLevel::Never);
    }

    #[test]
    fn where_several_levels_are_said_the_strictest_holds_and_without_any_it_is_may() {
        let strict = rules(
            &[
                ("example.org", TlsLevel::Must),
                ("mail.example.net", TlsLevel::Never),
            ],
            "",
        );
        assert_eq!(strict.of(&host("mail.example.net", 587)).level, TlsLevel::Must);
        assert_eq!(rules(&[], "").of(&host("x", 25)).level, TlsLevel::May);
    }

    #[test]
    fn only_hosts_that_the_operator_named_hear_a_login() {
        let rules = rules(&[], "me:secret\nmail.example.net:587 you:other\n");
        let user = |hop: NextHop| rules.of(&hop).login.map(|login| login.user.clone());
        assert_eq!(user(host("relay.example.com", 587)).as_deref(), Some("me"));
        assert_eq!(user(host("mail.example.net", 587)).as_deref(), Some("you"));
        assert_eq!(user(host("mail.example.net", 25)), None);
        assert_eq!(user(NextHop::Domain("relay.example.com".into())), None);
    }
}
