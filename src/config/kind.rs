//! Which values an option takes, and the field of [`Config`] that keeps them.
//!
//! Pure. The one place that knows how the text of a value and a field of the configuration correspond.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cidr::Cidr;
use super::values::{self, Expected, Parsed, address, domain, duration, rate, size};
use super::{Config, LogLevel, Sandbox, TlsLevel};
use crate::domain_list::next_hop::{LmtpServer, NextHop};
use crate::domain_list::pace::Rate;

/// The way to a field.
pub type Field<T> = fn(&mut Config) -> &mut T;

/// The kind of an option's value, with its bounds and its field.
pub enum Kind {
    /// No value, for the command line only: `--help`, `--version`, `--check`.
    Act,
    /// The configuration file itself; for the command line only.
    ConfigFile,
    /// On or off: a flag without a value, a line with none, `on` or `off`.
    Switch(Field<bool>),
    /// A whole number from, to.
    Number(u64, u64, Field<usize>),
    /// A port that hosts can be reached at.
    Port(Field<u16>),
    /// A duration from, to, in seconds.
    Duration(u64, u64, Field<Duration>),
    /// A duration up to so many seconds; `0` is off.
    DurationOrOff(u64, Field<Option<Duration>>),
    /// A list of durations from, to, in seconds, in one value.
    Schedule(u64, u64, Field<Vec<Duration>>),
    /// A number of octets from, to.
    Size(u64, u64, Field<u64>),
    /// A minute of the day, or never.
    TimeOfDay(Field<Option<u32>>),
    /// A folder.
    Folder(Field<PathBuf>),
    /// A file, or none.
    File(Field<Option<PathBuf>>),
    /// A path with `%d` and `%u` in it.
    MailDir(Field<String>),
    /// A user or group of this machine, or none.
    Owner(Field<Option<String>>),
    /// The name of a host.
    Hostname(Field<String>),
    /// Domains that mail can be addressed to.
    Domains(Field<Vec<String>>),
    /// Addresses with ports to listen on.
    Listeners(Field<Vec<SocketAddr>>),
    /// An address with a port to listen on, or none.
    Listener(Field<Option<SocketAddr>>),
    /// DNS servers.
    DnsServers(Field<Vec<SocketAddr>>),
    /// Blocks of addresses.
    Blocks(Field<Vec<Cidr>>),
    /// An LMTP server, or none.
    Lmtp(Field<Option<LmtpServer>>),
    /// A host to send to, or none.
    NextHop(Field<Option<NextHop>>),
    /// Domains, each with the host to send its mail to.
    Routes(Field<Vec<(String, NextHop)>>),
    /// How much TLS, for everybody or for a domain.
    TlsLevels(Field<Vec<(Option<String>, TlsLevel)>>),
    /// Domains, each with how many messages in which time may go there.
    HopRates(Field<Vec<(String, Rate)>>),
    /// How much goes to the log.
    Level(Field<LogLevel>),
    /// Whether the MTA confines itself.
    Sandbox(Field<Sandbox>),
}

impl Kind {
    /// Whether the option may be given more than once, each time adding a value.
    #[must_use]
    pub fn repeatable(&self) -> bool {
        matches!(
            self,
            Kind::Domains(_)
                | Kind::Listeners(_)
                | Kind::DnsServers(_)
                | Kind::Blocks(_)
                | Kind::Routes(_)
                | Kind::TlsLevels(_)
                | Kind::HopRates(_)
        )
    }

    /// Whether the flag stands without a value on the command line.
    #[must_use]
    pub fn bare(&self) -> bool {
        matches!(self, Kind::Act | Kind::Switch(_))
    }

    /// Reads one value into its field: repeatable ones add it, the others replace what was there.
    ///
    /// # Errors
    /// Says what was expected; the configuration stays as it was.
    pub fn take(&self, config: &mut Config, text: &str) -> Parsed<()> {
        if text.chars().any(char::is_control) {
            return Err(Expected("printable characters".into()));
        }
        let seconds = Duration::from_secs;
        match self {
            Kind::Act | Kind::ConfigFile => {}
            Kind::Switch(field) => *field(config) = on_or_off(text)?,
            Kind::Number(least, most, field) => {
                let number = values::whole(text, *least, *most)?;
                *field(config) = usize::try_from(number).unwrap_or(usize::MAX);
            }
            Kind::Port(field) => *field(config) = address::port(text)?,
            Kind::Duration(least, most, field) => {
                *field(config) = duration::parse(text, seconds(*least), seconds(*most))?;
            }
            Kind::DurationOrOff(most, field) => {
                let duration = duration::parse(text, Duration::ZERO, seconds(*most))?;
                *field(config) = Some(duration).filter(|duration| !duration.is_zero());
            }
            Kind::Schedule(least, most, field) => {
                *field(config) = duration::schedule(text, seconds(*least), seconds(*most))?;
            }
            Kind::Size(least, most, field) => *field(config) = size::parse(text, *least, *most)?,
            Kind::TimeOfDay(field) => *field(config) = values::time_of_day(text)?,
            Kind::Folder(field) => *field(config) = path(text, "a folder")?,
            Kind::File(field) => *field(config) = Some(path(text, "a file")?),
            Kind::MailDir(field) => *field(config) = mail_dir(text)?,
            Kind::Owner(field) => *field(config) = Some(owner(text)?),
            Kind::Hostname(field) => *field(config) = domain::name(text)?,
            Kind::Domains(field) => field(config).push(domain::addressed(text)?),
            Kind::Listeners(field) => field(config).push(address::listener(text)?),
            Kind::Listener(field) => *field(config) = Some(address::listener(text)?),
            Kind::DnsServers(field) => field(config).push(address::dns_server(text)?),
            Kind::Blocks(field) => field(config).push(Cidr::parse(text)?),
            Kind::Lmtp(field) => *field(config) = Some(address::lmtp_server(text)?),
            Kind::NextHop(field) => *field(config) = Some(address::next_hop(text)?),
            Kind::Routes(field) => field(config).push(address::route(text)?),
            Kind::TlsLevels(field) => field(config).push(address::tls_level(text)?),
            Kind::HopRates(field) => field(config).push(rate::hop_rate(text)?),
            Kind::Level(field) => *field(config) = one_of(&LogLevel::WORDS, text)?,
            Kind::Sandbox(field) => *field(config) = one_of(&Sandbox::WORDS, text)?,
        }
        Ok(())
    }

    /// Empties the field of a repeatable or optional value; others keep what they have.
    pub fn clear(&self, config: &mut Config) {
        match self {
            Kind::File(field) => *field(config) = None,
            Kind::Owner(field) => *field(config) = None,
            Kind::Listener(field) => *field(config) = None,
            Kind::Lmtp(field) => *field(config) = None,
            Kind::NextHop(field) => *field(config) = None,
            Kind::Domains(field) => field(config).clear(),
            Kind::Listeners(field) | Kind::DnsServers(field) => field(config).clear(),
            Kind::Blocks(field) => field(config).clear(),
            Kind::Routes(field) => field(config).clear(),
            Kind::TlsLevels(field) => field(config).clear(),
            Kind::HopRates(field) => field(config).clear(),
            _ => {}
        }
    }

    /// The field's values in the text that [`Kind::take`] reads back; empty where there are none. The
    /// configuration is not changed, only reached through the same [`Field`].
    pub fn texts(&self, config: &mut Config) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        match self {
            Kind::Act | Kind::ConfigFile => Vec::new(),
            Kind::Switch(field) => vec![if *field(config) { "on" } else { "off" }.into()],
            Kind::Number(_, _, field) => vec![field(config).to_string()],
            Kind::Port(field) => vec![field(config).to_string()],
            Kind::Duration(_, _, field) => vec![duration::text(*field(config))],
            Kind::DurationOrOff(_, field) => vec![duration::text(field(config).unwrap_or_default())],
            Kind::Schedule(_, _, field) => {
                let durations: Vec<String> = field(config).iter().map(|d| duration::text(*d)).collect();
                vec![durations.join(" ")]
            }
            Kind::Size(_, _, field) => vec![size::text(*field(config))],
            Kind::TimeOfDay(field) => vec![values::time_of_day_text(*field(config))],
            Kind::Folder(field) => vec![path(field(config))],
            Kind::File(field) => field(config).iter().map(|file| path(file)).collect(),
            Kind::MailDir(field) | Kind::Hostname(field) => vec![field(config).clone()],
            Kind::Owner(field) => field(config).iter().cloned().collect(),
            Kind::Domains(field) => field(config).clone(),
            Kind::Listeners(field) | Kind::DnsServers(field) => shown(field(config).iter()),
            Kind::Listener(field) => shown(field(config).iter()),
            Kind::Blocks(field) => shown(field(config).iter()),
            Kind::Lmtp(field) => shown(field(config).iter()),
            Kind::NextHop(field) => shown(field(config).iter()),
            Kind::Routes(field) => {
                let routes = field(config).iter();
                routes.map(|(domain, host)| format!("{domain}={host}")).collect()
            }
            Kind::TlsLevels(field) => {
                let text = |(domain, level): &(Option<String>, TlsLevel)| match domain {
                    Some(domain) => format!("{domain}={}", level.word()),
                    None => level.word().to_owned(),
                };
                field(config).iter().map(text).collect()
            }
            Kind::HopRates(field) => {
                let rates = field(config).iter();
                rates.map(|(pattern, rate)| rate::text(pattern, rate)).collect()
            }
            Kind::Level(field) => vec![field(config).word().into()],
            Kind::Sandbox(field) => vec![field(config).word().into()],
        }
    }
}

fn shown(values: impl Iterator<Item = impl ToString>) -> Vec<String> {
    values.map(|value| value.to_string()).collect()
}

fn on_or_off(text: &str) -> Parsed<bool> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Expected("on or off".into())),
    }
}

fn path(text: &str, what: &str) -> Parsed<PathBuf> {
    if text.is_empty() {
        return Err(Expected(what.into()));
    }
    Ok(PathBuf::from(text))
}

/// Without `%u` all users would share one mailbox; `%%` is a sign; another `%` would be a folder that nobody meant.
fn mail_dir(text: &str) -> Parsed<String> {
    let wrong =
        || Expected("a path with %u (the local part) and, if wanted, %d (the domain); %% is a %".into());
    let (mut rest, mut has_user) = (text, false);
    while let Some((_, after)) = rest.split_once('%') {
        if !after.starts_with(['d', 'u', '%']) {
            return Err(wrong());
        }
        has_user |= after.starts_with('u');
        rest = &after[1..];
    }
    if has_user {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}

fn owner(text: &str) -> Parsed<String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if (1..=32).contains(&text.len()) && text.chars().all(known) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err(Expected("the name or number of a user or group".into()))
    }
}

/// What one of these words stands for.
fn one_of<T: Copy, const N: usize>(words: &[(&'static str, T); N], text: &str) -> Parsed<T> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, meant)) => Ok(*meant),
        None => Err(Expected(format!(
            "one of {}",
            words.map(|(word, _)| word).join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_dir_names_the_user() {
        assert!(mail_dir("SPOOL/mail/%d/%u").is_ok());
        assert!(mail_dir("/home/%u/Maildir").is_ok());
        assert!(mail_dir("%%d/%%/%u%%").is_ok());
        for wrong in [
            "",
            "/var/mail",
            "/var/mail/%d",
            "/var/mail/%u/%x",
            "/var/mail/%u%",
            "%%u",
            "%u%%%",
        ] {
            assert!(mail_dir(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn control_characters_are_in_no_value() {
        let mut config = Config::embedded("mail.example.org");
        let before = config.clone();
        let kind = Kind::Folder(|c| &mut c.spool);
        assert!(kind.take(&mut config, "/var/spool\n/smtpmta").is_err());
        assert!(kind.take(&mut config, "").is_err());
        assert_eq!(config, before);
    }

    #[test]
    fn every_level_has_its_word() {
        for (word, known) in LogLevel::WORDS {
            assert_eq!((one_of(&LogLevel::WORDS, word), known.word()), (Ok(known), word));
        }
        let told = one_of(&LogLevel::WORDS, "loud").unwrap_err().to_string();
        assert_eq!(told, "expected one of minimal, normal, informational, verbose");
        for (word, known) in Sandbox::WORDS {
            assert_eq!((one_of(&Sandbox::WORDS, word), known.word()), (Ok(known), word));
        }
    }
}
