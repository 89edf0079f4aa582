//! The accounts of a file, and who takes mail for an address.
//!
//! Never checks a password; that is `check`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fmt;
use std::path::Path;

use super::file::{self, Entry};
use super::password::Password;
use super::problem::{AccountsError, Problem};
use crate::named_file;
use crate::smtp::path::Mailbox;

/// An accounts file is never longer than this, in octets.
const LONGEST_FILE: u64 = 64 << 20;
/// The local part of an account that catches all that is sent to its domain.
pub(super) const CATCH_ALL: &str = "*";

/// All accounts of a file.
pub struct Accounts {
    default_domain: String,
    accounts: Vec<Account>,
    /// Where an account stands, by its local part in lower case, `@`, and its domain.
    places: HashMap<Box<str>, usize>,
    /// Those that can log in.
    pub(super) logins: Vec<usize>,
    /// Those that can do so with SCRAM.
    pub(super) scrams: Vec<usize>,
    /// Whether keys for SCRAM must be derived for one of them.
    pub(super) derives: bool,
}

/// One of them.
pub(super) struct Account {
    line: usize,
    pub address: Mailbox,
    pub password: Password,
}

impl Accounts {
    /// Reads the file. A name without a domain is one of `default_domain`.
    ///
    /// # Errors
    /// Everything that is wrong with it, or why it cannot be read.
    pub fn read(path: &Path, default_domain: &str) -> Result<Accounts, AccountsError> {
        let name = path.display().to_string();
        match named_file::read(path, LONGEST_FILE) {
            Ok(text) if text.len() as u64 > LONGEST_FILE => Err(AccountsError::whole(
                &name,
                "expected a file of 64M at most".into(),
            )),
            Ok(text) => Accounts::parse(&text, &name, default_domain),
            Err(error) => Err(AccountsError::whole(&name, format!("cannot be read: {error}"))),
        }
    }

    /// Reads the text of a file that is called `name`.
    ///
    /// # Errors
    /// Everything that is wrong with it; nothing of it holds then.
    pub fn parse(text: &[u8], name: &str, default_domain: &str) -> Result<Accounts, AccountsError> {
        let mut wrong = AccountsError::new(name);
        let mut accounts = Accounts {
            default_domain: default_domain.to_owned(),
            accounts: Vec::new(),
            places: HashMap::new(),
            logins: Vec::new(),
            scrams: Vec::new(),
            derives: false,
        };
        for entry in file::entries(text, default_domain) {
            if let Err(problem) = entry.and_then(|entry| accounts.add(entry)) {
                wrong.add(problem);
            }
        }
        if wrong.is_empty() {
            Ok(accounts)
        } else {
            Err(wrong)
        }
    }

    fn add(&mut self, entry: Entry) -> Result<(), Problem> {
        let Entry {
            line,
            address,
            mut password,
        } = entry;
        let place = self.accounts.len();
        match self.places.entry(key(&address).into()) {
            Place::Occupied(first) => {
                let first = self.accounts.get(*first.get()).map_or(0, |account| account.line);
                let what = format!("expected each address once; this one stands in line {first}, too");
                return Err(Problem { line, what });
            }
            Place::Vacant(free) => {
                free.insert(place);
            }
        }
        if address.local_text() == CATCH_ALL {
            password = Password::Locked; // it is everybody's
        }
        if password.can_log_in() {
            self.logins.push(place);
        }
        if password.does_scram() {
            self.scrams.push(place);
        }
        self.derives |= matches!(password, Password::Plain(_));
        self.accounts.push(Account {
            line,
            address,
            password,
        });
        Ok(())
    }

    /// How many accounts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The address of each account, in the order of the file; `*@domain` for one that catches all.
    pub fn addresses(&self) -> impl Iterator<Item = &Mailbox> {
        self.accounts.iter().map(|account| &account.address)
    }

    /// The account that takes mail for this address: its own, else that without `+detail`, else the one that
    /// catches all of its domain. Upper and lower case are the same, quoted and unquoted as well.
    #[must_use]
    pub fn mailbox(&self, address: &Mailbox) -> Option<&Mailbox> {
        let (key, domain) = (key(address), address.domain());
        let local = key.strip_suffix(domain)?.strip_suffix('@')?;
        let plain = local.split_once('+').map(|(plain, _)| plain);
        let account = self
            .at(&key)
            .or_else(|| {
                let plain = plain.filter(|plain| !plain.is_empty())?;
                self.at(&format!("{plain}@{domain}"))
            })
            .or_else(|| self.at(&format!("{CATCH_ALL}@{domain}")))?;
        Some(&account.address)
    }

    /// The address of the account with this login name, an address or a local part of the default domain, if
    /// it can log in at all.
    #[must_use]
    pub fn login(&self, name: &str) -> Option<&Mailbox> {
        let account = self.account(name)?;
        account.password.can_log_in().then_some(&account.address)
    }

    /// Whether two login names stand for the same account, if there is one.
    #[must_use]
    pub fn same_login(&self, one: &str, other: &str) -> bool {
        self.login_key(one) == self.login_key(other)
    }

    fn at(&self, key: &str) -> Option<&Account> {
        self.places.get(key).and_then(|place| self.accounts.get(*place))
    }

    /// The account at one of these places.
    pub(super) fn nth(&self, place: usize) -> Option<&Account> {
        self.accounts.get(place)
    }

    /// The account with this login name, whether it can log in or not.
    pub(super) fn account(&self, name: &str) -> Option<&Account> {
        self.at(&self.login_key(name))
    }

    /// Under which a login name is found; what is no name has one that no account has.
    pub(super) fn login_key(&self, name: &str) -> String {
        match file::named(name, &self.default_domain) {
            Ok(address) => key(&address),
            Err(_) => name.to_lowercase() + "@",
        }
    }
}

/// The numbers alone: the rest is secret, or much.
impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (accounts, logins) = (self.accounts.len(), self.logins.len());
        write!(f, "Accounts({accounts}, {logins} can log in)")
    }
}

/// Under which an address is found. The last `@` is the one before the domain, so no two share one.
fn key(address: &Mailbox) -> String {
    format!("{}@{}", address.local_text().to_lowercase(), address.domain())
}
