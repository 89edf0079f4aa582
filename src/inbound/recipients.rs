//! Recipients: whom we take mail for, and those of one message, each once.
//!
//! Nobody relays who was not let. Never asks whether a mailbox exists, and never follows a source route or
//! a `%` in a local part.

use std::collections::HashSet;

use crate::smtp::path::{ForwardPath, Mailbox, PathError};

/// Whom we take mail for: everybody in a local domain, the postmaster, and anybody at all from clients
/// that may relay.
#[derive(Clone, Debug)]
pub struct RecipientPolicy {
    local_domains: HashSet<String>,
    postmaster: Mailbox,
}

/// What the policy says of one forward path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Take it, for this mailbox.
    Accept(Mailbox),
    /// Neither ours, nor from a client that may relay.
    RelayingDenied,
}

impl RecipientPolicy {
    /// The policy of a host with these local domains; `<Postmaster>` without a domain is the first one's.
    ///
    /// # Errors
    /// When there is no local domain, or the first one is not a domain.
    pub fn new(local_domains: &[String]) -> Result<RecipientPolicy, PathError> {
        let first = local_domains.first().ok_or(PathError::Domain)?;
        Ok(RecipientPolicy {
            local_domains: local_domains
                .iter()
                .map(|domain| domain.to_ascii_lowercase())
                .collect(),
            postmaster: Mailbox::parse(&format!("postmaster@{first}"))?,
        })
    }

    /// What to do with a recipient named by a client that may relay, or may not.
    #[must_use]
    pub fn decide(&self, path: ForwardPath, may_relay: bool) -> Decision {
        match path {
            ForwardPath::Postmaster => Decision::Accept(self.postmaster.clone()),
            ForwardPath::Mailbox(mailbox) if may_relay || self.local_domains.contains(mailbox.domain()) => {
                Decision::Accept(mailbox)
            }
            ForwardPath::Mailbox(_) => Decision::RelayingDenied,
        }
    }
}

/// The recipients of one message, in the order in which they were named.
#[derive(Clone, Debug, Default)]
pub struct Recipients {
    listed: Vec<Mailbox>,
    /// So that ten thousand recipients are not ten thousand times compared.
    known: HashSet<Mailbox>,
}

/// There is no room for one more recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Recipients {
    /// Adds a recipient; one that is there already stays there once and takes no room.
    ///
    /// # Errors
    /// When there are `limit` others.
    pub fn add(&mut self, mailbox: Mailbox, limit: usize) -> Result<(), Full> {
        if self.known.contains(&mailbox) {
            return Ok(());
        }
        if self.listed.len() >= limit {
            return Err(Full);
        }
        self.known.insert(mailbox.clone());
        self.listed.push(mailbox);
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
            [mailbox] => Some(mailbox),
            _ => None,
        }
    }

    /// The recipients, each once.
    #[must_use]
    pub fn into_vec(self) -> Vec<Mailbox> {
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
