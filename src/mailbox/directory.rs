//! The directory: who is here, by local domains, accounts and aliases. Asked at RCPT and by imsgcnv.
//!
//! Never looks at the disk, and never decides who may send where.

use std::sync::Arc;

use crate::accounts::Accounts;
use crate::aliases::Aliases;
use crate::smtp::path::Mailbox;

/// Characters by which relays of old were told where to send mail on: `user%host`, `host!user`,
/// `"user@host"`.
const RELAY_TRICKS: [char; 3] = ['%', '!', '@'];
/// The local part of an account that takes what nobody else does in its domain.
const CATCH_ALL: &str = "*";
/// The local part that every domain has (RFC 5321 4.5.1).
const POSTMASTER: &str = "postmaster";

/// Who is here.
#[derive(Clone, Debug)]
pub struct Directory {
    /// `--local-domain`, lower case.
    pub local_domains: Vec<String>,
    /// `--accounts`; without them every local part of a local domain is a mailbox.
    pub accounts: Option<Arc<Accounts>>,
    /// `--aliases`.
    pub aliases: Aliases,
}

/// What the directory knows of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is an alias: [`Directory::expand`] says for whom.
    Alias,
    /// Its mail comes into this mailbox, whose name may be another: without the detail of `user+detail`, or
    /// the account `*@domain`.
    Mailbox(Mailbox),
    /// It would be one of ours, and is not here.
    Unknown,
    /// It would be one of ours, and its local part looks as if it named another host.
    RelayTrick,
    /// Its domain is not ours.
    Elsewhere,
}

impl Directory {
    /// Looks an address up. What is named goes first, aliases before accounts; then what takes the rest of a
    /// domain, in the same order. `postmaster` is always there.
    #[must_use]
    pub fn find(&self, address: &Mailbox) -> Found {
        if !self.is_local(address) {
            return Found::Elsewhere;
        }
        let is_trick = address.local_text().contains(RELAY_TRICKS);
        if self.aliases.names_exactly(address) || !is_trick && self.aliases.names(address) {
            return Found::Alias;
        }
        if !is_trick && self.aliases.catches(address) && self.own_account(address).is_none() {
            return Found::Alias;
        }
        self.find_mailbox(address)
    }

    /// As [`Directory::find`], without aliases: for an address that came of one.
    #[must_use]
    pub fn find_mailbox(&self, address: &Mailbox) -> Found {
        if !self.is_local(address) {
            return Found::Elsewhere;
        }
        let is_trick = address.local_text().contains(RELAY_TRICKS);
        match &self.accounts {
            Some(accounts) => match accounts.mailbox(address) {
                // Only the very spelling of an account is beyond doubt.
                Some(account) if is_trick && account.in_lower_case() != address.in_lower_case() => {
                    Found::RelayTrick
                }
                Some(account) => Found::Mailbox(account.clone()),
                None if is_trick => Found::RelayTrick,
                None if is_postmaster(address) => Found::Mailbox(address.clone()),
                None => Found::Unknown,
            },
            None if is_trick => Found::RelayTrick,
            None => Found::Mailbox(address.without_detail().unwrap_or_else(|| address.clone())),
        }
    }

    /// What an alias stands for in the end; nothing if it is none.
    #[must_use]
    pub fn expand(&self, address: &Mailbox) -> Vec<Mailbox> {
        let is_account = |address: &Mailbox| self.own_account(address).is_some();
        self.aliases
            .expand_among(address, &is_account)
            .unwrap_or_default()
    }

    /// Whether mail to `sender` comes to the account `login`, itself or as one of those that an alias stands
    /// for.
    #[must_use]
    pub fn is_address_of(&self, sender: &Mailbox, login: &Mailbox) -> bool {
        let comes_to_login = |address: &Mailbox| {
            let account = self.own_account(address);
            account.is_some_and(|account| account.in_lower_case() == login.in_lower_case())
        };
        comes_to_login(sender) || self.aliases.names(sender) && self.expand(sender).iter().any(comes_to_login)
    }

    /// Whether mail for this address stays here.
    #[must_use]
    pub fn is_local(&self, address: &Mailbox) -> bool {
        self.local_domains.iter().any(|domain| domain == address.domain())
    }

    /// The account that has this address, with or without a detail; not one that takes the rest of its
    /// domain.
    fn own_account(&self, address: &Mailbox) -> Option<&Mailbox> {
        let account = self.accounts.as_ref()?.mailbox(address)?;
        (account.local_text() != CATCH_ALL).then_some(account)
    }
}

fn is_postmaster(address: &Mailbox) -> bool {
    address.local_text().eq_ignore_ascii_case(POSTMASTER)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn directory(accounts: Option<&str>, aliases: &str) -> Directory {
        let local_domains = vec!["example.org".to_owned(), "example.net".to_owned()];
        let mut no_files = |_: &Path, _| Err(io::Error::other("no files here"));
        Directory {
            accounts: accounts
                .map(|text| Arc::new(Accounts::parse(text.as_bytes(), "accounts", "example.org").unwrap())),
            aliases: Aliases::parse(
                aliases.as_bytes(),
                Path::new("aliases"),
                &local_domains,
                &mut no_files,
            )
            .unwrap(),
            local_domains,
        }
    }

    fn found(directory: &Directory, address: &str) -> String {
        match directory.find(&mailbox(address)) {
            Found::Mailbox(mailbox) => mailbox.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn check(directory: &Directory, expected: &[(&str, &str)]) {
        for (address, what) in expected {
            assert_eq!(found(directory, address), *what, "{address}");
        }
    }

    const ACCOUNTS: &str =
        "Bob:\ncarol@example.net:\nodd%name:\ndave+x:\n*@example.net:\nfar@elsewhere.example:\n";

    #[test]
    fn without_accounts_every_local_part_of_a_local_domain_is_a_mailbox() {
        check(
            &directory(None, "staff: bob\n"),
            &[
                ("Anybody@example.net", "Anybody@example.net"),
                ("bob+lists@example.org", "bob@example.org"),
                ("staff+x@example.net", "Alias"),
                ("bob@elsewhere.example", "Elsewhere"),
                ("bob@sub.example.org", "Elsewhere"),
                ("bob@[192.0.2.1]", "Elsewhere"),
            ],
        );
    }

    #[test]
    fn with_accounts_only_they_and_the_postmaster_are_here() {
        check(
            &directory(Some(ACCOUNTS), ""),
            &[
                ("bob@example.org", "Bob@example.org"),
                ("BOB+x@example.org", "Bob@example.org"),
                ("dave+X@example.org", "dave+x@example.org"),
                ("dave@example.org", "Unknown"),
                ("carol@example.org", "Unknown"),
                ("PostMaster@example.org", "PostMaster@example.org"),
                ("postmaster+x@example.org", "Unknown"),
                ("carol@example.net", "carol@example.net"),
                ("anybody@example.net", "*@example.net"),
                ("postmaster@example.net", "*@example.net"),
                ("far@elsewhere.example", "Elsewhere"),
            ],
        );
    }

    #[test]
    fn what_is_named_comes_before_what_takes_the_rest() {
        check(
            &directory(
                Some("bob@example.net:\n*@example.net:\n"),
                "@example.net: info@a.example\ncarol: x@a.example\npostmaster@example.org: y@a.example\n",
            ),
            &[
                ("bob@example.net", "bob@example.net"),
                ("bob+x@example.net", "bob@example.net"),
                ("carol@example.net", "Alias"),
                ("dave@example.net", "Alias"),
                ("postmaster@example.net", "Alias"),
                ("postmaster@example.org", "Alias"),
            ],
        );
        let directory = directory(Some("bob:\n"), "bob: x@a.example\n@example.net: bob, info\n");
        assert_eq!(found(&directory, "bob@example.org"), "Alias");
        let bob = mailbox("bob@example.org");
        assert_eq!(directory.find_mailbox(&bob), Found::Mailbox(bob.clone()));
        assert_eq!(directory.expand(&bob), [mailbox("x@a.example")]);
        assert_eq!(directory.expand(&mailbox("carol@example.org")), []);
    }

    #[test]
    fn a_local_part_that_names_another_host_is_here_only_if_it_is_spelled_so() {
        let tricks = [
            "bob%elsewhere.example@example.org",
            "elsewhere.example!bob@example.org",
            "\"bob@elsewhere.example\"@example.org",
            "\"\\b\\o\\b\\%x\"@example.org",
            "bob+x%elsewhere.example@example.org",
            "any%thing@example.net",
        ];
        let aliases = "bob: x@a.example\n@example.net: info\nby%name: y@a.example\n";
        for directory in [
            directory(None, aliases),
            directory(None, ""),
            directory(Some(ACCOUNTS), aliases),
            directory(Some(ACCOUNTS), ""),
        ] {
            check(&directory, &tricks.map(|address| (address, "RelayTrick")));
        }
        check(
            &directory(Some(ACCOUNTS), aliases),
            &[
                ("Odd%name@example.org", "odd%name@example.org"),
                ("by%name@example.org", "Alias"),
                ("by%name+x@example.org", "RelayTrick"),
                ("odd%name+x@example.org", "RelayTrick"),
                ("bob%x@elsewhere.example", "Elsewhere"),
            ],
        );
    }

    #[test]
    fn an_account_has_its_own_addresses_and_the_aliases_that_lead_to_it() {
        let directory = directory(
            Some(ACCOUNTS),
            "staff: bob, x@a.example\nboss: staff\nodd: carol@example.net\ncarol: y@a.example\n",
        );
        let bob = mailbox("bob@example.org");
        for mine in [
            "BOB@example.org",
            "bob+x@example.org",
            "\"bob\"@example.org",
            "staff@example.net",
            "boss@example.org",
        ] {
            assert!(directory.is_address_of(&mailbox(mine), &bob), "{mine}");
        }
        for other in [
            "bob@example.net",
            "odd@example.org",
            "carol@example.net",
            "x@a.example",
            "postmaster@example.org",
        ] {
            assert!(!directory.is_address_of(&mailbox(other), &bob), "{other}");
        }
        let carol = mailbox("carol@example.net");
        assert!(directory.is_address_of(&carol, &carol));
        assert!(!directory.is_address_of(&mailbox("anybody@example.net"), &carol));
        let far = mailbox("far@elsewhere.example");
        assert!(directory.is_address_of(&far, &far));
    }
}
