//! What the operator decided: one table of options, read from the command line and the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub mod cidr;

use crate::domain_list::next_hop::NextHop;
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
