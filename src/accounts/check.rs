//! Whether a client is who it says: passwords, and what SCRAM needs to know.
//!
//! A stranger costs what an account costs and is told what an account is told. Never says who is one.

use std::fmt;
use std::num::NonZeroU32;

use super::password::{LONGEST, Password};
use super::scram::{FEWEST_ITERATIONS, Keys};
use super::table::{Account, Accounts};
use super::{gate, secret};
use crate::smtp::path::Mailbox;

/// Octets of a salt, where we choose it; Dovecot's have as many.
const SALT: usize = 16;

/// Somebody who has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The account's address as the file has it.
    pub address: Mailbox,
}

/// What a client of SCRAM is told before it proves anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramSalt {
    /// The salt, 1 to 64 octets.
    pub salt: Vec<u8>,
    /// How often the hash is to be taken.
    pub iterations: NonZeroU32,
}

/// What a proof of SCRAM is checked with (RFC 5802 3). Never shown.
pub struct ScramKeys {
    /// StoredKey.
    pub stored_key: [u8; 32],
    /// ServerKey.
    pub server_key: [u8; 32],
    /// Who it is if the proof holds; `None` where there is no such account, and then no proof does.
    pub login: Option<Login>,
}

impl Accounts {
    /// Checks a password; that takes time and memory, and perhaps a wait until others are through.
    ///
    /// A name that cannot log in takes as long as one that can: its password is checked against somebody
    /// else's, always the same, and what comes out is thrown away. So strangers are spread over the schemes
    /// and costs of the file as accounts are.
    #[must_use]
    pub fn verify(&self, name: &str, password: &[u8]) -> Option<Login> {
        // A NUL ends a password for other programs, and one at its end changes nothing in HMAC.
        if password.is_empty() || password.len() > LONGEST || password.contains(&0) {
            return None;
        }
        let known = self.account(name).filter(|account| account.password.can_log_in());
        let checked = known.or_else(|| self.stand_in(name, &self.logins))?;
        let right = {
            let _turn = gate::turn();
            checked.password.matches(password)
        };
        known.filter(|_| right).map(Account::login)
    }

    /// Whether SCRAM-SHA-256 is worth offering: whether one account could use it.
    #[must_use]
    pub fn offers_scram(&self) -> bool {
        !self.scrams.is_empty()
    }

    /// What to tell a client of SCRAM that gave this name. One that cannot log in so gets what an account
    /// could have, the same each time.
    #[must_use]
    pub fn scram_salt(&self, name: &str) -> ScramSalt {
        let example = match self.scram_account(name).or_else(|| self.scram_stand_in(name)) {
            Some(Account {
                password: Password::Scram(keys),
                ..
            }) => Some(keys),
            _ => None,
        };
        let known = self.scram_account(name).is_some();
        match example {
            Some(keys) if known => ScramSalt {
                salt: keys.salt.to_vec(),
                iterations: keys.iterations,
            },
            example => ScramSalt {
                salt: self.made_up_salt(name, example.map_or(SALT, |keys| keys.salt.len())),
                iterations: example.map_or(FEWEST_ITERATIONS, |keys| keys.iterations),
            },
        }
    }

    /// What to check a client's proof with; may take time, as long for a stranger as for an account.
    #[must_use]
    pub fn scram_keys(&self, name: &str) -> ScramKeys {
        let known = self.scram_account(name);
        // Where one is derived for each account with a password in clear, all get one.
        let derived = self.derives.then(|| {
            let password: &[u8] = match known {
                Some(Account {
                    password: Password::Plain(password),
                    ..
                }) => password,
                _ => &[],
            };
            let _turn = gate::turn();
            Keys::derive(password, &self.made_up_salt(name, SALT), FEWEST_ITERATIONS)
        });
        let kept = match known.map(|account| &account.password) {
            Some(Password::Scram(keys)) => Some((**keys).clone()),
            Some(Password::Plain(_)) => derived,
            _ => None,
        };
        match kept {
            Some(keys) => ScramKeys {
                stored_key: keys.stored_key,
                server_key: keys.server_key,
                login: known.map(Account::login),
            },
            None => ScramKeys {
                stored_key: secret::octets("stored key", name),
                server_key: secret::octets("server key", name),
                login: None,
            },
        }
    }

    fn scram_account(&self, name: &str) -> Option<&Account> {
        self.account(name).filter(|account| account.password.does_scram())
    }

    /// An account that could use SCRAM in place of one that can not. A stranger has the one of the account that stands
    /// in for it with passwords, so that it differs from nobody in both taken together.
    fn scram_stand_in(&self, name: &str) -> Option<&Account> {
        let known = self.account(name).filter(|account| account.password.can_log_in());
        let like = known.or_else(|| self.stand_in(name, &self.logins))?;
        if like.password.does_scram() {
            return Some(like);
        }
        self.stand_in(&like.address.to_string(), &self.scrams)
    }

    /// An account of `among` in place of one that is not there, for each name always the same.
    pub(super) fn stand_in(&self, name: &str, among: &[usize]) -> Option<&Account> {
        let which = secret::below(among.len(), "stand-in", &self.login_key(name));
        among.get(which).and_then(|place| self.nth(*place))
    }

    /// A salt for a name, the same as long as the process lives.
    fn made_up_salt(&self, name: &str, octets: usize) -> Vec<u8> {
        let key = self.login_key(name);
        let mut salt = [secret::octets("salt", &key), secret::octets("more salt", &key)].concat();
        salt.truncate(octets);
        salt
    }
}

impl Account {
    fn login(&self) -> Login {
        Login {
            address: self.address.clone(),
        }
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({:?}, …)", self.login)
    }
}
