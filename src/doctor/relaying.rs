//! Whether strangers could send mail through this host to other strangers: what they heard in a rehearsal, and whom
//! `--relay-from` lets. Pure.

use std::net::IpAddr;

use super::finding::Finding;
use super::names::is_public;
use crate::config::cidr::Cidr;
use crate::inbound::front::Front;

/// A domain that is nobody's (RFC 2606).
pub const STRANGER: &str = "stranger.example";

/// Addresses that are nobody's (RFC 5737, RFC 3849).
pub const STRANGERS: [IpAddr; 4] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The forward paths by which a stranger may try it, at a host with this local domain.
#[must_use]
pub fn attempts(domain: &str) -> Vec<String> {
    let to = format!("x@{STRANGER}");
    vec![
        to.clone(),
        format!("@{domain}:{to}"),
        format!("@{domain},@{STRANGER}:{to}"),
        format!("x%{STRANGER}@{domain}"),
        format!("\"x%{STRANGER}\"@{domain}"),
        format!("\"{to}\"@{domain}"),
        format!("{STRANGER}!x@{domain}"),
        format!("\"{STRANGER}!x\"@{domain}"),
        format!("{to}@{domain}"),
        "x@[192.0.2.200]".to_owned(),
        "x@[IPv6:2001:db8::200]".to_owned(),
    ]
}

/// What a stranger heard who tried it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where it called.
    pub front: Front,
    /// From where.
    pub client: IpAddr,
    /// Who sent it.
    pub from: String,
    /// The forward path that it gave.
    pub to: String,
    /// The last line of the answer.
    pub reply: String,
}

impl Attempt {
    fn is_taken(&self) -> bool {
        self.reply.starts_with('2')
    }
}

/// What is to be said of all attempts.
#[must_use]
pub fn rehearsed(attempts: &[Attempt]) -> Finding {
    let taken: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.is_taken()).collect();
    match taken.as_slice() {
        [] => Finding::ok(
            "relaying",
            format!(
                "strangers are refused, in {} attempts at a rehearsal",
                attempts.len()
            ),
        ),
        [first, ..] => Finding::error(
            "relaying",
            format!(
                "an open relay: a client at {} that says it is <{}> may send to <{}> ({} of {} attempts)",
                first.client,
                first.from,
                first.to,
                taken.len(),
                attempts.len()
            ),
            "take that address out of --relay-from; if it is not in there, please report it",
        ),
    }
}

/// What is to be said of `--relay-from`.
#[must_use]
pub fn networks(relay_from: &[Cidr]) -> Vec<Finding> {
    let judge = |block: &Cidr| {
        let (is_wide, is_one) = match block.address() {
            IpAddr::V4(_) => (block.prefix() < 16, block.prefix() == 32),
            IpAddr::V6(_) => (block.prefix() < 32, block.prefix() == 128),
        };
        let is_everybody = block.prefix() == 0;
        // Private blocks may be as wide as they are; a wide one that holds them holds others, too.
        if !is_everybody && !is_public(block.address()) && !holds_strangers(block) || is_one {
            return None;
        }
        let who = if is_everybody {
            "everybody may"
        } else {
            "all of them may"
        };
        Some(if is_everybody || is_wide {
            Finding::error(
                "relay-from",
                format!("{block}: {who} send to any domain through this host"),
                "let in your own networks only: others can log in (--listen-submission, --accounts)",
            )
        } else {
            Finding::warning(
                "relay-from",
                format!(
                    "{block} are public addresses, and whoever has one may send to any domain through this host"
                ),
                "make sure that they are all yours",
            )
        })
    };
    relay_from.iter().filter_map(judge).collect()
}

/// Whether a block holds addresses of strangers, whatever its first one is.
fn holds_strangers(block: &Cidr) -> bool {
    let known = ["1.1.1.1", "8.8.8.8", "193.0.0.1", "2001:4860:4860::8888"];
    let mut strangers = known.iter().filter_map(|text| text.parse().ok());
    strangers.any(|address: IpAddr| block.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn whom_relay_from_lets_is_weighed_by_how_many_they_are() {
        let judge = |text: &str| {
            let found = networks(&[Cidr::parse(text).unwrap()]);
            found.first().map(|finding| finding.status)
        };
        for (block, expected) in [
            ("127.0.0.0/8", None),
            ("::1", None),
            ("10.0.0.0/8", None),
            ("192.168.0.0/16", None),
            ("fd00::/8", None),
            ("192.0.2.7", None),
            ("192.0.2.0/24", Some(Status::Warning)),
            ("2001:db8::/48", Some(Status::Warning)),
            ("193.0.0.0/8", Some(Status::Error)),
            ("128.0.0.0/1", Some(Status::Error)),
            ("0.0.0.0/1", Some(Status::Error)),
            ("0.0.0.0/0", Some(Status::Error)),
            ("2000::/3", Some(Status::Error)),
            ("::/0", Some(Status::Error)),
        ] {
            assert_eq!(judge(block), expected, "{block}");
        }
    }

    #[test]
    fn one_attempt_that_is_taken_makes_an_open_relay() {
        let attempt = |reply: &str| Attempt {
            front: Front::Relay,
            client: STRANGERS[0],
            from: String::new(),
            to: "x@a.test".to_owned(),
            reply: reply.to_owned(),
        };
        let refused = attempt("550 5.7.1 relaying denied");
        assert_eq!(
            rehearsed(&[refused.clone(), attempt("501 5.1.3 x")]).status,
            Status::Ok
        );
        let open = rehearsed(&[refused, attempt("250 2.1.5 OK")]);
        assert_eq!(open.status, Status::Error);
        assert!(open.what.contains("(1 of 2 attempts)"), "{}", open.what);
    }
}
