//! What the operator decided: one table of options, read from the command line and the file.
//!
//! [`flags`] is the table; everything else is driven by it. [`read`] is the way in. Never touches anything
//! but the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub mod cidr;
mod command_line;
mod contradiction;
mod decision;
pub mod defaults;
pub mod exit;
pub mod file;
pub mod flags;
pub mod invocation;
pub mod kind;
pub mod manual;
pub mod problem;
pub mod suggestion;
pub mod values;

pub use invocation::{Command, Invocation, Setting, read};
pub use problem::{ConfigError, Origin};

use crate::domain_list::next_hop::{NextHop, Router};
use crate::domain_list::pace::Rate;
use cidr::Cidr;

/// Every setting, with a value. Built from the table in `flags`, whose names and defaults these are.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `--spool`: the folder of `queue.db`, `content/`, `control.sock`, `smtpmta.pid`.
    pub spool: PathBuf,
    /// `--hostname`: the name in greetings, in EHLO and in Received lines; lower case.
    pub hostname: String,
    /// `--listen`: where isesctl listens.
    pub listen: Vec<SocketAddr>,
    /// `--max-inbound-handlers`, at least 1.
    pub max_inbound_handlers: usize,
    /// `--max-outbound-handlers`, at least 1.
    pub max_outbound_handlers: usize,
    /// `--local-domain`: lower case, never empty (the hostname, if none was given).
    pub local_domains: Vec<String>,
    /// `--relay-from`: clients that may send to any domain.
    pub relay_from: Vec<Cidr>,
    /// `--relay-host`: where everything goes.
    pub relay_host: Option<NextHop>,
    /// `--route`: a domain (`example.org`, or `.example.org` for what is below it), and where its mail goes.
    pub routes: Vec<(String, NextHop)>,
    /// `--listen-submission`: users, after STARTTLS and AUTH.
    pub listen_submission: Vec<SocketAddr>,
    /// `--listen-submissions`: users, in TLS from the first octet, after AUTH.
    pub listen_submissions: Vec<SocketAddr>,
    /// `--tls-outbound`: how much TLS the hosts of a domain (as in `routes`) are spoken to with, `None` is every other
    /// one. Without a rule for all it is [`TlsLevel::May`].
    pub tls_outbound: Vec<(Option<String>, TlsLevel)>,
    /// `--tls-ca`: whom [`TlsLevel::Verify`] trusts; `None` is whom the system trusts.
    pub tls_ca: Option<PathBuf>,
    /// `--relay-auth`: how we log in at hosts that the operator named.
    pub relay_auth: Option<PathBuf>,
    /// `--smtp-port`: the port of hosts found by MX.
    pub smtp_port: u16,
    /// `--dns`: the servers to ask; empty means those of /etc/resolv.conf.
    pub dns: Vec<SocketAddr>,
    /// `--allow-next-hop`.
    pub allow_next_hop: Vec<Cidr>,
    /// `--poll-interval`.
    pub poll_interval: Duration,
    /// `--list-messages`, at least 1.
    pub list_messages: usize,
    /// `--hop-rate`: how many messages in which time may go to a next hop; by domain, `.domain` or `*`.
    pub hop_rates: Vec<(String, Rate)>,
    /// `--per-next-hop`, at least 1.
    pub per_next_hop: usize,
    /// `--retry-schedule`: never empty; the last repeats.
    pub retry_schedule: Vec<Duration>,
    /// `--expire`.
    pub expire: Duration,
    /// `--delay-warning`: `None` is off.
    pub delay_warning: Option<Duration>,
    /// `--max-message-size`, octets.
    pub max_message_size: u64,
    /// `--max-recipients`.
    pub max_recipients: usize,
    /// `--max-sessions-per-client`.
    pub max_sessions_per_client: usize,
    /// `--max-hops`.
    pub max_hops: usize,
    /// `--session-timeout`.
    pub session_timeout: Duration,
    /// `--mail-dir`: `%d` is the domain, `%u` the local part; `SPOOL` at its start has been replaced.
    pub mail_dir: String,
    /// `--housekeeping`: minutes after midnight, local time; `None` is never.
    pub housekeeping: Option<u32>,
    /// `--keep-history`.
    pub keep_history: Duration,
    /// `--log-level`.
    pub log_level: LogLevel,
    /// `--log-file`; `None` is standard error.
    pub log_file: Option<PathBuf>,
    /// `--pid-file`, besides the one in the spool.
    pub pid_file: Option<PathBuf>,
    /// `--tls-cert`: never without `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key`.
    pub tls_key: Option<PathBuf>,
    /// `--accounts`.
    pub accounts: Option<PathBuf>,
    /// `--aliases`.
    pub aliases: Option<PathBuf>,
    /// `--any-sender`.
    pub any_sender: bool,
    /// `--syslog`: never with `log_file`.
    pub syslog: bool,
    /// `--log-json`.
    pub log_json: bool,
    /// `--daemon`.
    pub daemon: bool,
    /// `--user`: by name or number.
    pub user: Option<String>,
    /// `--group`: by name or number.
    pub group: Option<String>,
    /// `--sandbox`.
    pub sandbox: Sandbox,
    /// `--http`: where those look on who want to.
    pub http: Option<SocketAddr>,
}

impl Config {
    /// Who works out next hops by `--route` and `--relay-host`.
    #[must_use]
    pub fn router(&self) -> Router {
        Router {
            routes: self.routes.clone(),
            relay_host: self.relay_host.clone(),
        }
    }
}

/// Whether the MTA confines itself once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// As a daemon, and with a user of its own.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Sandbox {
    /// The words of the option.
    pub const WORDS: [(&'static str, Sandbox); 3] = [
        ("auto", Sandbox::Auto),
        ("on", Sandbox::On),
        ("off", Sandbox::Off),
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Sandbox::Auto => "auto",
            Sandbox::On => "on",
            Sandbox::Off => "off",
        }
    }

    /// Whether that means: now.
    #[must_use]
    pub fn is_on(self, config: &Config) -> bool {
        match self {
            Sandbox::Auto => config.daemon || config.user.is_some(),
            Sandbox::On => true,
            Sandbox::Off => false,
        }
    }
}

/// `--log-level`, in the seed's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors and warnings.
    Minimal,
    /// And a line for what happened to each message.
    #[default]
    Normal,
    /// And sessions.
    Informational,
    /// And every line of every dialogue.
    Verbose,
}

impl LogLevel {
    /// Every level with its word, the quietest first.
    pub const WORDS: [(&'static str, LogLevel); 4] = [
        ("minimal", LogLevel::Minimal),
        ("normal", LogLevel::Normal),
        ("informational", LogLevel::Informational),
        ("verbose", LogLevel::Verbose),
    ];

    /// The word for this level.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LogLevel::Minimal => "minimal",
            LogLevel::Normal => "normal",
            LogLevel::Informational => "informational",
            LogLevel::Verbose => "verbose",
        }
    }
}

/// `--tls-outbound`: what is asked of a host before it gets mail. The later, the stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsLevel {
    /// TLS is never begun.
    Never,
    /// TLS where it is offered and can be had, whatever the certificate says; else in the clear (RFC 7435).
    #[default]
    May,
    /// TLS, whatever the certificate says, or the mail waits.
    Must,
    /// TLS with a certificate for the host's name by somebody who is trusted, or the mail waits.
    Verify,
}

impl TlsLevel {
    /// Every level with its word.
    pub const WORDS: [(&'static str, TlsLevel); 4] = [
        ("never", TlsLevel::Never),
        ("may", TlsLevel::May),
        ("must", TlsLevel::Must),
        ("verify", TlsLevel::Verify),
    ];

    /// The level of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<TlsLevel> {
        let known = TlsLevel::WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, level)| *level)
    }

    /// The word for this level.
    #[must_use]
    pub fn word(self) -> &'static str {
        let known = TlsLevel::WORDS.iter().find(|(_, level)| *level == self);
        known.map_or("", |(word, _)| word)
    }

    /// Whether mail waits rather than going in the clear.
    #[must_use]
    pub fn is_required(self) -> bool {
        self >= TlsLevel::Must
    }
}
