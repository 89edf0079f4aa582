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
    /// `called`: a literal of that address is the first local domain.
    #[must_use]
    pub fn decide(&self, path: ForwardPath, called: IpAddr, may_relay: bool) -> Decision {
        let accept = |mailbox, is_local| Decision::Accept { mailbox, is_local };
        let mailbox = match path {
            ForwardPath::Postmaster => return accept(self.postmaster.clone(), true),
            ForwardPath::Mailbox(mailbox) if address_literal(mailbox.domain()) == Some(called) => {
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
    /// Adds a recipient; one that is there already stays there once and takes no room. Ours are the same in any
    /// case (RFC 5321 2.4 leaves that to the host they are at).
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
    use super::*;

    fn policy() -> RecipientPolicy {
        RecipientPolicy::new(&["Example.ORG".to_owned(), "example.net".to_owned()]).unwrap()
    }

    fn path(mailbox: &str) -> ForwardPath {
        ForwardPath::Mailbox(Mailbox::parse(mailbox).unwrap())
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    #[test]
    fn local_domains_are_for_everybody_and_others_for_clients_that_may_relay() {
        for domain in ["example.org", "EXAMPLE.NET"] {
            let local = path(&format!("jdoe@{domain}"));
            assert!(matches!(policy().decide(local, false), Decision::Accept(_)));
        }
        let remote = path("jdoe@elsewhere.example");
        assert_eq!(policy().decide(remote.clone(), false), Decision::RelayingDenied);
        assert_eq!(
            policy().decide(remote, true),
            Decision::Accept(mailbox("jdoe@elsewhere.example"))
        );
    }

    #[test]
    fn a_subdomain_of_a_local_domain_is_not_local_and_a_percent_hides_no_other_host() {
        assert_eq!(
            policy().decide(path("a@mail.example.org"), false),
            Decision::RelayingDenied
        );
        assert_eq!(
            policy().decide(path("a%elsewhere.example@example.org"), false),
            Decision::Accept(mailbox("a%elsewhere.example@example.org"))
        );
    }

    #[test]
    fn the_bare_postmaster_is_the_first_local_domains() {
        let decision = policy().decide(ForwardPath::Postmaster, false);
        assert_eq!(decision, Decision::Accept(mailbox("postmaster@example.org")));
        assert!(RecipientPolicy::new(&[]).is_err());
    }

    #[test]
    fn a_recipient_named_twice_is_kept_once_and_takes_no_room() {
        let mut recipients = Recipients::default();
        for text in ["a@b", "c@d", "a@B", "c@d"] {
            assert_eq!(recipients.add(mailbox(text), 2), Ok(()));
        }
        assert_eq!(recipients.add(mailbox("A@b"), 2), Err(Full));
        assert_eq!(recipients.into_vec(), [mailbox("a@b"), mailbox("c@d")]);
    }
}
