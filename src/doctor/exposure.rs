//! How far an MTA of this configuration meets strangers: what is a mistake for the mail host of a domain may be right for
//! a machine that only passes its own mail on. Pure.

use crate::config::Config;

use super::finding::Status;

/// Whom the MTA meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Other machines may call it: it listens not on the loopback alone.
    pub receives: bool,
    /// It calls the hosts of other domains itself: there is no relay host for all of them.
    pub sends: bool,
}

impl Exposure {
    /// That of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Exposure {
        let listeners = [
            &config.listen,
            &config.listen_submission,
            &config.listen_submissions,
        ];
        let mut listeners = listeners.into_iter().flatten();
        Exposure {
            receives: listeners.any(|listener| !listener.ip().to_canonical().is_loopback()),
            sends: config.relay_host.is_none(),
        }
    }

    /// How heavy it is that strangers can not find out who this host is.
    #[must_use]
    pub fn weight(self) -> Status {
        match (self.receives, self.sends) {
            (true, true) => Status::Error,
            (false, false) => Status::Ok,
            _ => Status::Warning,
        }
    }

    /// How heavy it is that something does not work which is needed for mail to other domains.
    #[must_use]
    pub fn weight_of_sending(self) -> Status {
        match self.sends {
            true => Status::Error,
            false => Status::Warning,
        }
    }
}
