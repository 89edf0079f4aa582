//! Recipients: whom we take mail for, and those of one message, each once.
//!
//! Nobody relays who was not let. Never follows a source route or a `%` in a local part.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::mailbox::directory::{Directory, Found};
use crate::smtp::path::{ForwardPath, Mailbox, PathError, address_literal};
use crate::work_queue::Addressee;

/// Whom we take mail for: everybody who is here, the postmaster, and anybody at all from clients that may
/// relay.
#[derive(Clone, Debug)]
pub struct RecipientPolicy {
    directory: Arc<Directory>,
    first_domain: String,
    postmaster: Mailbox,
}

/// What the policy says of one forward path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Take it.
    Accept {
        /// Whom it is for.
        mailbox: Mailbox,
        /// Whether it is one of ours.
        is_local: bool,
    },
    /// Neither ours, nor from a client that may relay; or a name that would send the mail on from here.
    RelayingDenied,
    /// It would be ours, and is not here.
    NoSuchUser,
}

impl RecipientPolicy {
    /// The policy of a host where those of `directory` are; `<Postmaster>` without a domain is the first domain's.
    ///
    /// # Errors
    /// When there is no local domain, or the first one is not a domain.
    pub fn new(directory: Arc<Directory>) -> Result<RecipientPolicy, PathError> {
        let first_domain = directory.local_domains.first().ok_or(PathError::Domain)?.clone();
        Ok(RecipientPolicy {
            postmaster: Mailbox::parse(&format!("postmaster@{first_domain}"))?,
            first_domain,
            directory,
        })
    }

    /// What to do with a recipient named by a client that may relay, or may not, and that has called us at
    /// `called`: a literal of that address is the first local domain. But not a loopback address, which is somebody
    /// else's as soon as the mail has left.
    #[must_use]
    pub fn decide(&self, path: ForwardPath, called: IpAddr, may_relay: bool) -> Decision {
        let accept = |mailbox, is_local| Decision::Accept { mailbox, is_local };
        let mailbox = match path {
            ForwardPath::Postmaster => return accept(self.postmaster.clone(), true),
            ForwardPath::Mailbox(mailbox)
                if !called.is_loopback() && address_literal(mailbox.domain()) == Some(called) =>
            {
                match Mailbox::parse(&format!("{}@{}", mailbox.local_part(), self.first_domain)) {
                    Ok(here) => here,
                    Err(_) => return Decision::NoSuchUser,
                }
            }
            ForwardPath::Mailbox(mailbox) => mailbox,
        };
        match self.directory.find(&mailbox) {
            Found::Alias | Found::Mailbox(_) => accept(mailbox, true),
            Found::Unknown => Decision::NoSuchUser,
            Found::RelayTrick => Decision::RelayingDenied,
            Found::Elsewhere if may_relay => accept(mailbox, false),
            Found::Elsewhere => Decision::RelayingDenied,
        }
    }

    /// Whether mail to `sender` comes to the account `login`, so that its user may send from there.
    #[must_use]
    pub fn is_address_of(&self, sender: &Mailbox, login: &Mailbox) -> bool {
        self.directory.is_address_of(sender, login)
    }
}

/// The recipients of one message, in the order in which they were named.
#[derive(Clone, Debug, Default)]
pub struct Recipients {
    listed: Vec<Addressee>,
    /// So that ten thousand recipients are not ten thousand times compared.
    known: HashSet<Mailbox>,
}

/// There is no room for one more recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Recipients {
    /// Adds a recipient; one that is there already stays there once and takes no room. Ours are the same in any case
    /// (RFC 5321 2.4 leaves that to the host they are at).
    ///
    /// # Errors
    /// When there are `limit` others.
    pub fn add(&mut self, addressee: Addressee, is_local: bool, limit: usize) -> Result<(), Full> {
        let key = if is_local {
            addressee.path.in_lower_case()
        } else {
            addressee.path.clone()
        };
        if self.known.contains(&key) {
            return Ok(());
        }
        if self.listed.len() >= limit {
            return Err(Full);
        }
        self.known.insert(key);
        self.listed.push(addressee);
        Ok(())
    }

    /// Whether nobody was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The recipient, if there is exactly one.
    #[must_use]
    pub fn only_one(&self) -> Option<&Mailbox> {
        match self.listed.as_slice() {
            [addressee] => Some(&addressee.path),
            _ => None,
        }
    }

    /// The recipients, each once.
    #[must_use]
    pub fn into_vec(self) -> Vec<Addressee> {
        self.listed
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::accounts::Accounts;
    use crate::aliases::Aliases;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 25));

    fn policy() -> RecipientPolicy {
        with_accounts(None)
    }

    fn with_accounts(accounts: Option<&str>) -> RecipientPolicy {
        let parse = |text: &str| Accounts::parse(text.as_bytes(), "accounts", "example.org").unwrap();
        let directory = Directory {
            local_domains: vec!["example.org".to_owned(), "example.net".to_owned()],
            accounts: accounts.map(|text| Arc::new(parse(text))),
            aliases: Aliases::default(),
        };
        RecipientPolicy::new(Arc::new(directory)).unwrap()
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn path(text: &str) -> ForwardPath {
        ForwardPath::Mailbox(mailbox(text))
    }

    fn local(text: &str) -> Decision {
        Decision::Accept {
            mailbox: mailbox(text),
            is_local: true,
        }
    }

    #[test]
    fn local_domains_are_for_everybody_and_others_for_clients_that_may_relay() {
        for address in ["jdoe@example.org", "jdoe@EXAMPLE.NET"] {
            assert_eq!(policy().decide(path(address), HERE, false), local(address));
        }
        let remote = path("jdoe@elsewhere.example");
        assert_eq!(
            policy().decide(remote.clone(), HERE, false),
            Decision::RelayingDenied
        );
        assert_eq!(
            policy().decide(remote, HERE, true),
            Decision::Accept {
                mailbox: mailbox("jdoe@elsewhere.example"),
                is_local: false
            }
        );
    }

    #[test]
    fn no_spelling_makes_us_relay() {
        for trick in [
            "a@mail.example.org",
            "a%elsewhere.example@example.org",
            "elsewhere.example!a@example.org",
            "\"a@elsewhere.example\"@example.org",
            "\"a@elsewhere.example\"@[192.0.2.25]",
            "a%elsewhere.example@[192.0.2.25]",
            "a@[192.0.2.26]",
            "a@[127.0.0.1]",
        ] {
            for policy in [policy(), with_accounts(Some("*@example.org:\n"))] {
                assert_eq!(
                    policy.decide(path(trick), HERE, false),
                    Decision::RelayingDenied,
                    "{trick}"
                );
            }
        }
    }

    #[test]
    fn with_accounts_only_those_and_the_postmaster_are_here() {
        let policy = with_accounts(Some("bob@example.org:\n"));
        for (address, there) in [
            ("bob@example.org", true),
            ("BOB+lists@example.org", true),
            ("bob@example.net", false),
            ("jdoe@example.org", false),
            ("Postmaster@example.net", true),
        ] {
            let expected = if there {
                local(address)
            } else {
                Decision::NoSuchUser
            };
            assert_eq!(policy.decide(path(address), HERE, true), expected, "{address}");
        }
    }

    #[test]
    fn a_literal_of_the_address_that_was_called_is_the_first_local_domain() {
        assert_eq!(
            policy().decide(path("bob@[192.0.2.25]"), HERE, false),
            local("bob@example.org")
        );
    }

    #[test]
    fn the_bare_postmaster_is_the_first_local_domains() {
        let decision = policy().decide(ForwardPath::Postmaster, HERE, false);
        assert_eq!(decision, local("postmaster@example.org"));
        let nowhere = Directory {
            local_domains: Vec::new(),
            accounts: None,
            aliases: Aliases::default(),
        };
        assert!(RecipientPolicy::new(Arc::new(nowhere)).is_err());
    }

    #[test]
    fn a_recipient_named_twice_is_kept_once_and_takes_no_room() {
        let mut recipients = Recipients::default();
        for text in ["a@b", "c@d", "a@B", "c@d"] {
            assert!(recipients.add(mailbox(text).into(), false, 2).is_ok());
        }
        assert_eq!(recipients.add(mailbox("A@b").into(), false, 2), Err(Full));
        let named: Vec<Mailbox> = recipients.into_vec().into_iter().map(|a| a.path).collect();
        assert_eq!(named, [mailbox("a@b"), mailbox("c@d")]);
    }

    #[test]
    fn ours_are_the_same_in_any_case_and_quoting() {
        let mut recipients = Recipients::default();
        for text in ["Bob@example.org", "bOB@example.org", "\"bob\"@example.org"] {
            assert!(recipients.add(mailbox(text).into(), true, 1).is_ok(), "{text}");
        }
    }
}
