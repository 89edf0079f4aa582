//! The files that the configuration names: certificate and key, accounts, aliases, logins at other hosts, those who are
//! trusted. Read at the start and by refresh, all of them or none.

use std::fmt;
use std::sync::Arc;

use crate::accounts::{Accounts, AccountsError};
use crate::aliases::{Aliases, AliasesError};
use crate::config::Config;
use crate::inbound::reception::Reception;
use crate::inbound::recipients::RecipientPolicy;
use crate::inbound::session::SessionSettings;
use crate::mailbox::directory::Directory;
use crate::outbound::logins::{Logins, LoginsError};
use crate::smtp::path::PathError;
use crate::tls::identity::{Identity, IdentityError};
use crate::tls::trust::{Trust, TrustError};

/// What the files say.
#[derive(Clone, Debug)]
pub struct Files {
    /// Who is here.
    pub directory: Arc<Directory>,
    /// What inbound sessions begin with.
    pub reception: Arc<Reception>,
    /// How we log in at other hosts.
    pub logins: Arc<Logins>,
    /// Whom we trust where a host has to prove its name.
    pub trust: Arc<Trust>,
}

/// What is wrong with one of the files.
#[derive(Debug)]
pub enum FilesError {
    /// `--tls-cert` or `--tls-key`.
    Identity(IdentityError),
    /// `--accounts`.
    Accounts(AccountsError),
    /// `--aliases`.
    Aliases(AliasesError),
    /// `--local-domain`.
    LocalDomain(PathError),
    /// `--relay-auth`.
    Logins(LoginsError),
    /// `--tls-ca`.
    Trust(TrustError),
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilesError::Identity(error) => error.fmt(f),
            FilesError::Accounts(error) => error.fmt(f),
            FilesError::Aliases(error) => error.fmt(f),
            FilesError::Logins(error) => error.fmt(f),
            FilesError::Trust(error) => error.fmt(f),
            FilesError::LocalDomain(error) => write!(f, "local-domain: {error}"),
        }
    }
}

impl std::error::Error for FilesError {}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// At the first file that is wrong.
    pub fn read(config: &Config) -> Result<Files, FilesError> {
        let domains = &config.local_domains;
        let first_domain = domains.first().map_or("", String::as_str);
        let identity = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some(Identity::read(cert, key).map_err(FilesError::Identity)?),
            _ => None,
        };
        let accounts = match &config.accounts {
            Some(path) => Some(Accounts::read(path, first_domain).map_err(FilesError::Accounts)?),
            None => None,
        };
        let aliases = match &config.aliases {
            Some(path) => Aliases::read(path, domains).map_err(FilesError::Aliases)?,
            None => Aliases::default(),
        };
        let logins = match &config.relay_auth {
            Some(path) => Logins::read(path).map_err(FilesError::Logins)?,
            None => Logins::default(),
        };
        let trust = match &config.tls_ca {
            Some(path) => Trust::read(path).map_err(FilesError::Trust)?,
            None => Trust::default(),
        };
        let accounts = accounts.map(Arc::new);
        let directory = Arc::new(Directory {
            local_domains: domains.clone(),
            accounts: accounts.clone(),
            aliases,
        });
        let policy = RecipientPolicy::new(Arc::clone(&directory)).map_err(FilesError::LocalDomain)?;
        let settings = SessionSettings {
            hostname: config.hostname.clone(),
            max_message_size: config.max_message_size,
            max_recipients: config.max_recipients,
            max_hops: config.max_hops,
            policy,
            accounts,
            offers_tls: identity.is_some(),
            any_sender: config.any_sender,
        };
        let reception = Reception {
            settings: Arc::new(settings),
            identity: identity.map(Arc::new),
            relay_from: config.relay_from.clone(),
        };
        Ok(Files {
            directory,
            reception: Arc::new(reception),
            logins: Arc::new(logins),
            trust: Arc::new(trust),
        })
    }
}
