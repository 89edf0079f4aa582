//! What every session of a sink shares, and does not change: settings, certificate, who may log in.
//!
//! Reads the certificate's files, or makes one up; touches nothing else.

use std::fmt;
use std::sync::Arc;

use super::papers;
use super::settings::{Settings, Tls};
use crate::accounts::Accounts;
use crate::sasl::{Bindings, Mechanism};
use crate::tls::identity::{Identity, IdentityError};

/// What a session begins with.
#[derive(Debug)]
pub struct Service {
    /// The settings.
    pub settings: Settings,
    /// Our certificate, if there is TLS at all.
    pub identity: Option<Identity>,
    /// The one who may log in, if anybody has to.
    pub accounts: Option<Arc<Accounts>>,
}

/// Why there is no sink of these settings.
#[derive(Debug)]
pub enum ServiceError {
    /// A certificate or key file.
    Identity(IdentityError),
    /// No certificate could be made up.
    Papers(String),
    /// The login is none that anybody could use.
    Login(String),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceError::Identity(error) => error.fmt(f),
            ServiceError::Papers(error) => write!(f, "no certificate can be made up: {error}"),
            ServiceError::Login(error) => write!(f, "nobody can log in with this --auth: {error}"),
        }
    }
}

impl std::error::Error for ServiceError {}

impl Service {
    /// Makes ready what these settings ask for.
    ///
    /// # Errors
    /// Certificate or login are good for nothing.
    pub fn new(settings: Settings) -> Result<Service, ServiceError> {
        let identity = match (settings.tls, &settings.papers) {
            (Tls::Never, _) => None,
            (_, Some((cert, key))) => Some(Identity::read(cert, key).map_err(ServiceError::Identity)?),
            (_, None) => {
                let made = papers::identity(&settings.hostname, settings.flaw);
                Some(made.map_err(ServiceError::Papers)?)
            }
        };
        let accounts = match &settings.login {
            None => None,
            Some((name, password)) => {
                let line = format!("{name}:{{PLAIN}}{password}\n");
                let accounts = Accounts::parse(line.as_bytes(), "--auth", &settings.hostname);
                let accounts = accounts.map_err(|error| ServiceError::Login(error.to_string()))?;
                Some(Arc::new(accounts))
            }
        };
        Ok(Service {
            settings,
            identity,
            accounts,
        })
    }

    /// The mechanisms to offer, with what the connection has to bind to.
    #[must_use]
    pub fn mechanisms(&self, bindings: &Bindings) -> Vec<Mechanism> {
        let Some(accounts) = &self.accounts else {
            return Vec::new();
        };
        Mechanism::offered(accounts, bindings)
            .filter(|mechanism| self.settings.mechanisms.contains(mechanism))
            .collect()
    }

    /// Whether an extension is offered.
    #[must_use]
    pub fn offers(&self, keyword: &str) -> bool {
        let mut lines = self.settings.offers.iter();
        lines.any(|line| {
            let word = line.split(' ').next().unwrap_or_default();
            word.eq_ignore_ascii_case(keyword)
        })
    }
}
