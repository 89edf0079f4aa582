//! The directory: who is here. Aliases, accounts, the postmaster; and without accounts everybody whom a local domain
//! could have.
//!
//! Never decides who may send to whom: that is `inbound::recipients`.

use std::sync::Arc;

use crate::accounts::Accounts;
use crate::aliases::Aliases;
use crate::smtp::path::Mailbox;

/// See the top.
#[derive(Clone, Debug)]
pub struct Directory {
    /// `--local-domain`, lower case; the first one is that of the bare postmaster.
    pub local_domains: Vec<String>,
    /// `--accounts`.
    pub accounts: Option<Arc<Accounts>>,
    /// `--aliases`.
    pub aliases: Aliases,
}

/// What an address is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It stands for others: see [`Aliases::expand`].
    Alias,
    /// Mail for it goes into this mailbox.
    Mailbox(Mailbox),
    /// Its domain is ours, and nobody has that name.
    Unknown,
    /// Nobody has that name, which would send mail on from other hosts: `user%example.net`, `net!user`,
    /// `"user@example.net"`.
    RelayTrick,
    /// Its domain is not ours.
    Elsewhere,
}

impl Directory {
    /// Whether mail for `address` stays here.
    #[must_use]
    pub fn is_local(&self, address: &Mailbox) -> bool {
        self.local_domains.iter().any(|domain| domain == address.domain())
    }

    /// What `address` is.
    #[must_use]
    pub fn find(&self, address: &Mailbox) -> Found {
        if !self.is_local(address) {
            return Found::Elsewhere;
        }
        if self.aliases.expand(address).is_some() {
            return Found::Alias;
        }
        self.mailbox(address)
    }

    /// What `address` is, which is one of ours and stands for nobody else.
    #[must_use]
    pub fn mailbox(&self, address: &Mailbox) -> Found {
        let name = address.local_text();
        let is_trick = name.contains(['%', '!', '@']);
        if let Some(mailbox) = self
            .accounts
            .as_ref()
            .and_then(|accounts| accounts.mailbox(address))
        {
            // A catch-all has not asked for those.
            if !is_trick || mailbox.local_part() != "*" {
                return Found::Mailbox(mailbox.clone());
            }
        }
        // RFC 5321 4.5.1: the postmaster is always there.
        let is_there = self.accounts.is_none() || name.eq_ignore_ascii_case("postmaster");
        if is_trick {
            Found::RelayTrick
        } else if is_there {
            Found::Mailbox(address.clone())
        } else {
            Found::Unknown
        }
    }

    /// Whether mail to `sender` comes to the account `login`, itself or through an alias that names it.
    #[must_use]
    pub fn is_address_of(&self, sender: &Mailbox, login: &Mailbox) -> bool {
        if !self.is_local(sender) {
            return false;
        }
        let is_login = |address: &Mailbox| self.mailbox(address) == Found::Mailbox(login.clone());
        match self.aliases.expand(sender) {
            Some(targets) => targets.iter().any(is_login),
            None => is_login(sender),
        }
    }
}
