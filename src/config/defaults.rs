//! The embedded default: what smtpmta does when nobody has told it anything.
//!
//! The values are those of the table in `flags`; here are only the ones that follow from others.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::flags;
use super::values::domain;
use super::{Config, LogLevel, Sandbox};

/// Never fewer sessions than this for one client, however small the table of handlers is.
const LEAST_SESSIONS_PER_CLIENT: usize = 10;

impl Config {
    /// The embedded default on a machine of this name; a name that no greeting could carry becomes
    /// `localhost`.
    #[must_use]
    pub fn embedded(machine: &str) -> Config {
        let mut config = Config::undecided();
        config.derive(machine, |_| false);
        config
    }

    /// The defaults of the table, without what follows from them.
    pub(super) fn undecided() -> Config {
        let mut config = Config::blank();
        for option in flags::options() {
            let wrong = option.take(&mut config, option.default.values());
            // A test reads every default of the table, so there is nothing wrong to report.
            debug_assert!(wrong.is_empty(), "{}: {wrong:?}", option.name);
        }
        config
    }

    /// Fills in what follows from other settings, where `given` says that the operator did not decide it.
    pub(super) fn derive(&mut self, machine: &str, given: impl Fn(&str) -> bool) {
        if !given("hostname") {
            self.hostname = greeting_name(machine);
        }
        if !given("local-domain") {
            self.local_domains = vec![self.hostname.clone()];
        }
        if !given("max-sessions-per-client") {
            self.max_sessions_per_client = (self.max_inbound_handlers / 2).max(LEAST_SESSIONS_PER_CLIENT);
        }
        // Whoever shortens --expire below the default of --delay-warning has said enough.
        if !given("delay-warning") {
            self.delay_warning = self.delay_warning.filter(|warning| *warning < self.expire);
        }
        // Nobody reads what a daemon says to standard error.
        if !given("syslog") && self.daemon && self.log_file.is_none() {
            self.syslog = true;
        }
        if let Some(below) = self.mail_dir.strip_prefix("SPOOL/") {
            // A sign in the spool's own name is no sign of the template.
            let spool = self.spool.display().to_string().replace('%', "%%");
            let place = Path::new(&spool).join(below).display().to_string();
            // A folder of that name is not the word.
            let is_word = place.starts_with("SPOOL/");
            self.mail_dir = if is_word { format!("./{place}") } else { place };
        }
    }

    /// Every field empty: what the table's defaults are then read into.
    fn blank() -> Config {
        Config {
            spool: PathBuf::new(),
            hostname: String::new(),
            listen: Vec::new(),
            max_inbound_handlers: 0,
            max_outbound_handlers: 0,
            local_domains: Vec::new(),
            relay_from: Vec::new(),
            relay_host: None,
            routes: Vec::new(),
            listen_submission: Vec::new(),
            listen_submissions: Vec::new(),
            tls_outbound: Vec::new(),
            tls_ca: None,
            relay_auth: None,
            smtp_port: 0,
            dns: Vec::new(),
            allow_next_hop: Vec::new(),
            poll_interval: Duration::ZERO,
            list_messages: 0,
            per_next_hop: 0,
            hop_rates: Vec::new(),
            retry_schedule: Vec::new(),
            expire: Duration::ZERO,
            delay_warning: None,
            max_message_size: 0,
            max_recipients: 0,
            max_sessions_per_client: 0,
            max_hops: 0,
            session_timeout: Duration::ZERO,
            lmtp: None,
            mail_dir: String::new(),
            housekeeping: None,
            keep_history: Duration::ZERO,
            log_level: LogLevel::Normal,
            log_file: None,
            pid_file: None,
            tls_cert: None,
            tls_key: None,
            accounts: None,
            aliases: None,
            any_sender: false,
            syslog: false,
            log_json: false,
            daemon: false,
            user: None,
            group: None,
            sandbox: Sandbox::Auto,
            http: None,
        }
    }
}

impl Default for Config {
    /// The embedded default on this machine.
    fn default() -> Config {
        Config::embedded(&machine_name())
    }
}

/// What this machine calls itself; `localhost` where it does not say.
#[must_use]
pub fn machine_name() -> String {
    dns_lookup::get_hostname().unwrap_or_else(|_| "localhost".into())
}

/// The machine's name in the form that a greeting can carry.
fn greeting_name(machine: &str) -> String {
    let address = machine.parse::<IpAddr>().is_ok();
    domain::name(machine)
        .ok()
        .filter(|_| !address)
        .unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_default_is_the_one_of_the_design() {
        let config = Config::embedded("Mail.Example.org");
        assert_eq!(config.hostname, "mail.example.org");
        assert_eq!(config.local_domains, ["mail.example.org"]);
        assert_eq!(config.spool, PathBuf::from("./spool"));
        assert_eq!(config.mail_dir, "./spool/mail/%d/%u");
        assert_eq!(config.listen, ["127.0.0.1:2525".parse().unwrap()]);
        assert_eq!(config.max_inbound_handlers, 100);
        assert_eq!(config.max_sessions_per_client, 50);
        assert_eq!(config.relay_from.len(), 2);
        assert_eq!(config.retry_schedule.len(), 6);
        assert_eq!(config.delay_warning, Some(Duration::from_secs(14_400)));
        assert_eq!(config.max_message_size, 50 << 20);
        assert_eq!(config.housekeeping, Some(60));
        assert_eq!(config.log_level, LogLevel::Normal);
        assert!(config.dns.is_empty() && config.routes.is_empty() && config.relay_host.is_none());
    }

    #[test]
    fn a_machine_without_a_usable_name_is_localhost() {
        for machine in ["", "my_host", "192.0.2.1", "::1", "Büro"] {
            assert_eq!(Config::embedded(machine).hostname, "localhost", "{machine}");
        }
    }

    #[test]
    fn a_client_never_has_fewer_than_ten_sessions_by_default() {
        let mut config = Config::embedded("a");
        for (handlers, sessions) in [(1, 10), (20, 10), (22, 11), (1000, 500)] {
            config.max_inbound_handlers = handlers;
            config.derive("a", |_| false);
            assert_eq!(config.max_sessions_per_client, sessions);
        }
    }
}
