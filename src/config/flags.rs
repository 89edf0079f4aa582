//! The one table of options. It drives getopts, `--help`, the configuration file, `show config`, the man page
//! and the example configuration.
//!
//! Owns every option's name, default, bounds and help, and nothing else does. To add an option: a row here, a
//! field in [`Config`], and `UPDATE_GENERATED=1 cargo test --test all`.

use super::Config;
use super::kind::Kind;
use super::problem::quoted;
use super::values::Expected;

/// Options that belong together, under a title.
pub struct Section {
    /// The title in help, man page and example configuration.
    pub title: &'static str,
    /// Its options in the order in which they are shown.
    pub options: &'static [Opt],
}

/// One option: a flag on the command line and, unless it is [`Opt::flag_only`], a line of the file.
pub struct Opt {
    /// The long name, without dashes.
    pub name: &'static str,
    /// The letter, if it has one.
    pub short: Option<char>,
    /// What the value is called in the help; empty for a flag without one.
    pub value: &'static str,
    /// What holds when nobody decides it.
    pub default: Standard,
    /// The kind of the value and its field.
    pub kind: Kind,
    /// What it does, in whole sentences.
    pub help: &'static str,
    /// Whether the word `none` is a value.
    none: bool,
    /// What a refresh makes of another value.
    pub at_refresh: AtRefresh,
}

/// What a refresh makes of another value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtRefresh {
    /// It holds from now on.
    Holds,
    /// It holds from the next start on, and that is said.
    NextStart,
    /// The refresh is refused as a whole.
    Refused,
}

/// What holds when nobody decides an option.
pub enum Standard {
    /// This value.
    Is(&'static [&'static str]),
    /// Nothing; the word that stands for it, which is also a value.
    Nothing(&'static str),
    /// What these words say; and an example of a value.
    Follows(&'static str, &'static str),
}

use AtRefresh::{NextStart, Refused};
use Standard::{Follows, Is, Nothing};

impl Standard {
    /// The default in the words of help and man page.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Is(values) => values.join(", "),
            Nothing(word) => (*word).to_owned(),
            Follows(words, _) => (*words).to_owned(),
        }
    }

    /// The values, as they would be given.
    #[must_use]
    pub fn values(&self) -> &[&'static str] {
        match self {
            Is(values) => values,
            Nothing(_) | Follows(..) => &[],
        }
    }
}

impl Opt {
    const fn new(
        name: &'static str,
        value: &'static str,
        default: Standard,
        kind: Kind,
        help: &'static str,
    ) -> Opt {
        Opt {
            name,
            short: None,
            value,
            default,
            kind,
            help,
            none: false,
            at_refresh: AtRefresh::Holds,
        }
    }

    const fn short(mut self, letter: char) -> Opt {
        self.short = Some(letter);
        self
    }

    const fn or_none(mut self) -> Opt {
        self.none = true;
        self
    }

    const fn at_refresh(mut self, what: AtRefresh) -> Opt {
        self.at_refresh = what;
        self
    }

    /// Whether two configurations differ in it.
    #[must_use]
    pub fn differs(&self, one: &Config, other: &Config) -> bool {
        self.texts(&mut one.clone()) != self.texts(&mut other.clone())
    }

    /// Whether it stands on the command line only.
    #[must_use]
    pub fn flag_only(&self) -> bool {
        matches!(self.kind, Kind::Act | Kind::ConfigFile)
    }

    /// The word that stands for no value at all.
    #[must_use]
    pub fn nothing(&self) -> Option<&'static str> {
        match self.default {
            Nothing(word) => Some(word),
            _ => self.none.then_some("none"),
        }
    }

    /// Reads all values of this option into the configuration, in place of what was there. Gives each wrong
    /// value's index with what was expected.
    pub fn take<S: AsRef<str>>(&self, config: &mut Config, values: &[S]) -> Vec<(usize, Expected)> {
        self.kind.clear(config);
        let mut wrong = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match (value.as_ref(), self.nothing()) {
                (word, Some(nothing)) if word == nothing && values.len() > 1 => {
                    wrong.push((index, Expected(format!("{nothing} alone, or values without it"))));
                }
                (word, Some(nothing)) if word == nothing => {}
                (text, nothing) => {
                    if let Err(Expected(what)) = self.kind.take(config, text) {
                        let or = nothing.map(|word| format!(", or {word}")).unwrap_or_default();
                        wrong.push((index, Expected(format!("{what}{or}"))));
                    }
                }
            }
        }
        wrong
    }

    /// The values that the configuration holds, in the text that is read back; at least one.
    pub fn texts(&self, config: &mut Config) -> Vec<String> {
        let texts = self.kind.texts(config);
        match self.nothing() {
            Some(word) if texts.is_empty() => vec![word.to_owned()],
            _ => texts,
        }
    }
}

/// All options in the order of the table.
pub fn options() -> impl Iterator<Item = &'static Opt> {
    SECTIONS.iter().flat_map(|section| section.options)
}

/// The option of this long name or letter.
#[must_use]
pub fn find(name: &str) -> Option<&'static Opt> {
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    options().find(|option| option.name == name || (letter.is_some() && option.short == letter))
}

const HANDLERS: u64 = 100_000;
const DAY: u64 = 86_400;

/// The table.
pub static SECTIONS: &[Section] = &[
    Section {
        title: "Command line",
        options: &[
            Opt::new(
                "help",
                "",
                Nothing("off"),
                Kind::Act,
                "Say what the options are, and end.",
            )
            .short('h'),
            Opt::new(
                "version",
                "",
                Nothing("off"),
                Kind::Act,
                "Say the version, and end.",
            )
            .short('V'),
            Opt::new(
                "config",
                "FILE",
                Follows("/etc/smtpmta/smtpmta.conf where it exists", ""),
                Kind::ConfigFile,
                "Read this configuration file. Its lines are the long options of this list without their \
                 dashes. An option on the command line beats the file; a repeatable one replaces the file's \
                 list.",
            )
            .short('c'),
            Opt::new(
                "check",
                "",
                Nothing("off"),
                Kind::Act,
                "Read the configuration, say everything that is wrong with it, and end with 0 or 78.",
            ),
        ],
    },
    Section {
        title: "This host",
        options: &[
            Opt::new(
                "spool",
                "DIR",
                Is(&["./spool"]),
                Kind::Folder(|c| &mut c.spool),
                "The folder of the work queues: queue.db, content, control.sock and smtpmta.pid. It also \
                 says which running MTA the commands speak to.",
            )
            .short('s')
            .at_refresh(Refused),
            Opt::new(
                "hostname",
                "NAME",
                Follows("the machine's name", "mail.example.org"),
                Kind::Hostname(|c| &mut c.hostname),
                "The name in greetings, in EHLO and in Received lines.",
            )
            .short('n'),
        ],
    },
    Section {
        title: "Inbound transport",
        options: &[
            Opt::new(
                "listen",
                "ADDR:PORT",
                Is(&["127.0.0.1:2525"]),
                Kind::Listeners(|c| &mut c.listen),
                "Where isesctl listens for SMTP. Port 0 takes a free one.",
            )
            .short('l'),
            Opt::new(
                "listen-submission",
                "ADDR:PORT",
                Nothing("none"),
                Kind::Listeners(|c| &mut c.listen_submission),
                "Where users submit mail after STARTTLS and AUTH; usually port 587. Needs --tls-cert and \
                 --accounts.",
            ),
            Opt::new(
                "listen-submissions",
                "ADDR:PORT",
                Nothing("none"),
                Kind::Listeners(|c| &mut c.listen_submissions),
                "Where users submit mail in TLS from the first octet, after AUTH; usually port 465. Needs \
                 --tls-cert and --accounts.",
            ),
            Opt::new(
                "max-inbound-handlers",
                "N",
                Is(&["100"]),
                Kind::Number(1, HANDLERS, |c| &mut c.max_inbound_handlers),
                "How many inbound session handlers there may be. While all are busy nobody is accepted.",
            )
            .short('I'),
            Opt::new(
                "max-sessions-per-client",
                "N",
                Follows("half of the inbound handlers, never below 10", "50"),
                Kind::Number(1, HANDLERS, |c| &mut c.max_sessions_per_client),
                "How many sessions one client address may have at once.",
            ),
            Opt::new(
                "session-timeout",
                "T",
                Is(&["5m"]),
                Kind::Duration(1, 3_600, |c| &mut c.session_timeout),
                "How long a client may take over a command or a TLS handshake; over a message a second longer \
                 for each 8K of it. While all handlers are busy and others wait it is 10s at most, and 3s for \
                 a session that has done nothing yet.",
            ),
            Opt::new(
                "max-message-size",
                "SIZE",
                Is(&["50M"]),
                Kind::Size(1 << 10, 100 << 30, |c| &mut c.max_message_size),
                "The largest message that is accepted.",
            ),
            Opt::new(
                "max-recipients",
                "N",
                Is(&["1000"]),
                Kind::Number(1, 100_000, |c| &mut c.max_recipients),
                "The most recipients of one message.",
            ),
            Opt::new(
                "max-hops",
                "N",
                Is(&["100"]),
                Kind::Number(1, 1_000, |c| &mut c.max_hops),
                "A message with more Received lines than this goes in circles, and is refused.",
            ),
        ],
    },
    Section {
        title: "Who may send where",
        options: &[
            Opt::new(
                "local-domain",
                "DOMAIN",
                Follows("the hostname", "example.org"),
                Kind::Domains(|c| &mut c.local_domains),
                "A domain whose mail is delivered here.",
            ),
            Opt::new(
                "relay-from",
                "CIDR",
                Is(&["127.0.0.0/8", "::1"]),
                Kind::Blocks(|c| &mut c.relay_from),
                "Clients that may send to any domain without having logged in. Giving one replaces the default; \
                 none lets nobody.",
            )
            .or_none(),
            Opt::new(
                "accounts",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.accounts),
                "Who may log in and who has a mailbox: a file with lines address:hash, as Dovecot reads them; \
                 see smtpmta-accounts(5). Without it every local part of a local domain is a mailbox. Read \
                 again by refresh.",
            ),
            Opt::new(
                "aliases",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.aliases),
                "Names that stand for others, here or elsewhere, in the usual format of aliases; see \
                 smtpmta-accounts(5). Read again by refresh.",
            ),
            Opt::new(
                "any-sender",
                "",
                Is(&["off"]),
                Kind::Switch(|c| &mut c.any_sender),
                "Let users who have logged in send from any address, not only from their own.",
            ),
            Opt::new(
                "mail-dir",
                "TEMPLATE",
                Is(&["SPOOL/mail/%d/%u"]),
                Kind::MailDir(|c| &mut c.mail_dir),
                "The Maildir of a local recipient: %d is the domain, %u the local part, %% a %, SPOOL \
                 at the start the value of --spool.",
            ),
            Opt::new(
                "lmtp",
                "PATH|HOST:PORT",
                Nothing("none"),
                Kind::Lmtp(|c| &mut c.lmtp),
                "The LMTP server, such as Dovecot, that keeps the mailboxes in place of --mail-dir: its socket, or \
                 its host and port. It decides for each recipient.",
            ),
        ],
    },
    Section {
        title: "Outbound transport",
        options: &[
            Opt::new(
                "max-outbound-handlers",
                "N",
                Is(&["100"]),
                Kind::Number(1, HANDLERS, |c| &mut c.max_outbound_handlers),
                "How many outbound session handlers there may be. While all are busy lists wait.",
            )
            .short('O'),
            Opt::new(
                "relay-host",
                "HOST[:PORT]",
                Nothing("none"),
                Kind::NextHop(|c| &mut c.relay_host),
                "The host that everything is sent to, unless a route says otherwise.",
            ),
            Opt::new(
                "route",
                "DOMAIN=HOST[:PORT]",
                Nothing("none"),
                Kind::Routes(|c| &mut c.routes),
                "The host that mail for this domain is sent to. A domain with a dot before it stands for its \
                 subdomains.",
            ),
            Opt::new(
                "relay-auth",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.relay_auth),
                "How to log in at the relay host and at hosts of routes: a file with lines HOST[:PORT] \
                 USER:PASSWORD, or USER:PASSWORD alone for the relay host. We log in over TLS only, unless the \
                 host is this machine or --tls-outbound says never for it. Read again by refresh.",
            ),
            Opt::new(
                "smtp-port",
                "PORT",
                Is(&["25"]),
                Kind::Port(|c| &mut c.smtp_port),
                "The port of hosts that were found by MX.",
            ),
            Opt::new(
                "dns",
                "ADDR[:PORT]",
                Nothing("/etc/resolv.conf"),
                Kind::DnsServers(|c| &mut c.dns),
                "A DNS server to ask, in place of those that /etc/resolv.conf names.",
            ),
            Opt::new(
                "allow-next-hop",
                "CIDR",
                Nothing("none"),
                Kind::Blocks(|c| &mut c.allow_next_hop),
                "Hosts found by MX may have these addresses although they are loopback, unspecified, \
                 link-local or multicast, which are refused otherwise.",
            ),
            Opt::new(
                "poll-interval",
                "T",
                Is(&["30s"]),
                Kind::Duration(1, DAY, |c| &mut c.poll_interval),
                "How often osesctl looks into the outbound work queue without having been kicked.",
            ),
            Opt::new(
                "list-messages",
                "N",
                Is(&["100"]),
                Kind::Number(1, 100_000, |c| &mut c.list_messages),
                "The most messages of one domain list.",
            ),
            Opt::new(
                "per-next-hop",
                "N",
                Is(&["20"]),
                Kind::Number(1, HANDLERS, |c| &mut c.per_next_hop),
                "The most sessions with one next hop at once.",
            ),
            Opt::new(
                "hop-rate",
                "DOMAIN=N/T",
                Nothing("none"),
                Kind::HopRates(|c| &mut c.hop_rates),
                "How many messages may go to this next hop in any period of this length, such as \
                 example.org=60/1m. A domain with a dot before it stands for its subdomains, and * for every next \
                 hop, each with a rate of its own; the most special one counts. It may also name the host of a route or \
                 relay host.",
            ),
            Opt::new(
                "retry-schedule",
                "TIMES",
                Is(&["5m 15m 30m 1h 2h 4h"]),
                Kind::Schedule(1, 30 * DAY, |c| &mut c.retry_schedule),
                "How long to wait after the first attempt, after the second, and so on; the last repeats. Pauses are \
                 longer by up to a tenth, so that what failed together is not tried together. A next hop that does \
                 not answer at all is tried by the same times, with one message, while all mail for it waits.",
            ),
            Opt::new(
                "expire",
                "T",
                Is(&["5d"]),
                Kind::Duration(1, 365 * DAY, |c| &mut c.expire),
                "A message that could not be delivered for so long is returned.",
            ),
            Opt::new(
                "delay-warning",
                "T",
                Is(&["4h"]),
                Kind::DurationOrOff(365 * DAY, |c| &mut c.delay_warning),
                "After this time the sender is told that a message still waits; 0 is off. It must be shorter \
                 than --expire.",
            ),
        ],
    },
    Section {
        title: "TLS",
        options: &[
            Opt::new(
                "tls-cert",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.tls_cert),
                "The certificate chain in PEM. STARTTLS is offered where it and --tls-key are given. Read again \
                 by refresh.",
            ),
            Opt::new(
                "tls-key",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.tls_key),
                "The private key of --tls-cert in PEM.",
            ),
            Opt::new(
                "tls-outbound",
                "[DOMAIN=]LEVEL",
                Is(&["may"]),
                Kind::TlsLevels(|c| &mut c.tls_outbound),
                "Whether other hosts get mail over TLS: may (where they offer it, with any certificate; else in the \
                 clear), must (with any certificate, or the mail waits), verify (with a certificate for the host's \
                 name by somebody who is trusted, or the mail waits) or never. With DOMAIN= it is for this domain \
                 (.domain for its subdomains) or for this host of a route or relay host.",
            ),
            Opt::new(
                "tls-ca",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.tls_ca),
                "The certificates in PEM that the level verify trusts, in place of those that the system trusts.",
            ),
        ],
    },
    Section {
        title: "Housekeeping and log",
        options: &[
            Opt::new(
                "housekeeping",
                "HH:MM",
                Is(&["01:00"]),
                Kind::TimeOfDay(|c| &mut c.housekeeping),
                "When the work queues are tidied up each day, in local time, or never.",
            ),
            Opt::new(
                "keep-history",
                "T",
                Is(&["7d"]),
                Kind::Duration(0, 3_650 * DAY, |c| &mut c.keep_history),
                "How long the history of a message is kept after the message has left.",
            ),
            Opt::new(
                "log-level",
                "LEVEL",
                Is(&["normal"]),
                Kind::Level(|c| &mut c.log_level),
                "How much is logged: minimal (errors and warnings), normal (and what happened to each \
                 message), informational (and sessions) or verbose (and every line of every dialogue).",
            ),
            Opt::new(
                "log-file",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.log_file),
                "The file that the log is appended to. Without it the log goes to standard error. After it has been \
                 moved away it is made anew: at once on SIGUSR1 or refresh, else within a second.",
            ),
            Opt::new(
                "syslog",
                "",
                Is(&["off"]),
                Kind::Switch(|c| &mut c.syslog),
                "Log to the system's log, with the facility mail, in place of a file or standard error. While its daemon \
                 is away, lines wait for it, as long as there is room.",
            ),
            Opt::new(
                "log-json",
                "",
                Is(&["off"]),
                Kind::Switch(|c| &mut c.log_json),
                "Write each line of the log as a JSON object, for programs that read it.",
            ),
            Opt::new(
                "http",
                "ADDR:PORT",
                Nothing("none"),
                Kind::Listener(|c| &mut c.http),
                "Where metrics for Prometheus, /healthz and a status page are served, to everybody who can connect there. \
                 Port 0 takes a free one.",
            ),
        ],
    },
    Section {
        title: "Daemon",
        options: &[
            Opt::new(
                "pid-file",
                "FILE",
                Nothing("none"),
                Kind::File(|c| &mut c.pid_file),
                "A file that tells the process ID, besides smtpmta.pid in the spool.",
            )
            .at_refresh(NextStart),
            Opt::new(
                "daemon",
                "",
                Is(&["off"]),
                Kind::Switch(|c| &mut c.daemon),
                "Go to the background once mail is accepted: the command ends then, or says why it can not be. Without \
                 log-file the log goes to the system's.",
            )
            .short('d')
            .at_refresh(NextStart),
            Opt::new(
                "user",
                "NAME",
                Nothing("none"),
                Kind::Owner(|c| &mut c.user),
                "Become this user, by name or number, once root's ports are open and what only root can read is read. \
                 Root needs it with daemon and at ports below 1024.",
            )
            .at_refresh(NextStart),
            Opt::new(
                "group",
                "NAME",
                Nothing("none"),
                Kind::Owner(|c| &mut c.group),
                "Become this group, and be in no other, in place of the user's own.",
            )
            .at_refresh(NextStart),
            Opt::new(
                "sandbox",
                "WORD",
                Is(&["auto"]),
                Kind::Sandbox(|c| &mut c.sandbox),
                "Reach no files but the MTA's own, start nothing, and call nothing of the system that is not needed, as \
                 far as the system knows how (Landlock, seccomp): on, off, or auto, with daemon and with user.",
            )
            .at_refresh(NextStart),
        ],
    },
];

/// A word that may follow the options, with what it does.
pub struct Subcommand {
    /// The word.
    pub name: &'static str,
    /// What follows it, for the help.
    pub words: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// Whether it takes `--json`.
    pub json: bool,
}

const fn word(name: &'static str, words: &'static str, json: bool, help: &'static str) -> Subcommand {
    Subcommand {
        name,
        words,
        help,
        json,
    }
}

/// The words that may follow the options.
pub static SUBCOMMANDS: &[Subcommand] = &[
    word(
        "show",
        "tasks|config|stat|version|queue|lists|hops",
        true,
        "Show what the running MTA does or holds; of queue, lists and hops at most so many rows (--limit N), or all \
         (--all).",
    ),
    word(
        "tell",
        "WORDS",
        false,
        "Give the running MTA an operator's command, in any case: [smtpmta] quit, start|stop \
         [inbound|outbound [transport|conversion]], start|stop drtask, refresh, housekeeping, show WHAT.",
    ),
    word(
        "passwd",
        "[--scheme SCHEME] [ADDRESS]",
        false,
        "Ask for a password and print it as the accounts file wants it: as argon2id, sha512-crypt, \
         sha256-crypt, scram-sha-256 or plain.",
    ),
    word(
        "sink",
        "[OPTIONS]",
        false,
        "Receive mail for tests and trials, and misbehave to order. sink --help tells how.",
    ),
    word(
        "queue",
        "VERB ...",
        true,
        "List what is in the work queues, the oldest first (list [--limit N]); count it by age and next hop (age \
         [--limit N | --all]); show a message, with its header, its text or all of it (show ID [--body | --raw]); make \
         what waits in the outbound work queue due now (retry); put messages aside, return them to their senders, let \
         those that were put aside go on, remove them without a word to anybody, or bring those back (hold, bounce, \
         release, delete, undelete); lead them to another host than the configuration says, or no longer (route --via \
         HOST[:PORT] | --via none). list and these take IDs of messages, and --from, --to, --hop, --state, --older, \
         --size, --subject and --error, of which each that is given has to fit; all but list do it to all that there is \
         with --all (retry without a word), and say with --dry-run what they would do. Move what is chosen, in the same way, to \
         another spool: to a file (export ... FILE; with --cancel FILE give that up), and from one (import FILE).",
    ),
    word(
        "verify",
        "[--account] [DIR]",
        true,
        "Look through the work queues in DIR, or in the spool, while the MTA runs or not, and say what is not in order; \
         with --account also whether everything that was accepted is accounted for.",
    ),
    word(
        "backup",
        "DIR",
        false,
        "Copy the work queues in the spool, with all content, to a folder that is made for it, while the MTA runs or not: \
         it can be started as a spool.",
    ),
    word(
        "trace",
        "ID|ADDRESS [--limit N]",
        true,
        "Show everything that is known of a message, from who brought it to where it went; or of the last messages, 10 \
         or N, that are from or for an address, or have it for their Message-ID.",
    ),
    word(
        "why",
        "ID",
        true,
        "Say in a sentence what a message waits for, since when, until when, and what would free it.",
    ),
    word(
        "route",
        "ADDRESS [--connect [--from ADDRESS]]",
        true,
        "Say where mail for an address would go, by this configuration: its next hop and why, hosts, addresses, TLS, and \
         of the running MTA, if there is one, how that next hop stands; with --connect try it as far as RCPT, from <> or \
         an address, and show the dialogue.",
    ),
    word(
        "session",
        "[--client ADDR] [--front smtp|submission|submissions]",
        false,
        "Read an SMTP dialogue from standard input and answer it as this configuration would, to a client at ADDR; \
         nothing is queued.",
    ),
    word(
        "sendmail",
        "ARGS",
        false,
        "Take a message from standard input, as sendmail does, whether the MTA runs or not; also when started under the \
         name sendmail. smtpmta-sendmail(8) tells how.",
    ),
    word(
        "mailq",
        "[-C FILE]",
        false,
        "Show what is in the work queues as sendmail does; also when started under the name mailq.",
    ),
    word(
        "newaliases",
        "[-C FILE]",
        false,
        "Check the aliases file, and let the running MTA read it again; also when started under the name newaliases.",
    ),
    word(
        "doctor",
        "[--to DOMAIN]",
        true,
        "Look for what keeps mail from flowing, or lets in who should stay out, while the MTA runs or not: names in DNS, \
         ports, clock, disks, limits, certificate, files, the spool and what is in it, and whether strangers could relay; \
         a line each, with what to do. --to tries the hosts of a domain, too.",
    ),
];

/// The verbs that may follow `queue`.
pub static QUEUE_VERBS: [&str; 12] = [
    "retry", "list", "age", "hold", "bounce", "release", "delete", "undelete", "route", "show", "export",
    "import",
];

/// Why a word behind `queue`, or none, is no verb of it.
#[must_use]
pub fn queue_verb_refused(verb: Option<&str>) -> String {
    let there = QUEUE_VERBS.join(", ");
    match verb {
        None => format!("queue: expected a verb behind it: {there}"),
        Some(verb) => format!("queue: {}: no such verb; there are {there}", quoted(verb)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_name_and_every_letter_stands_for_one_option() {
        let names: HashSet<&str> = options().map(|option| option.name).collect();
        assert_eq!(names.len(), options().count());
        let letters: Vec<char> = options().filter_map(|option| option.short).collect();
        assert_eq!(letters.iter().collect::<HashSet<_>>().len(), letters.len());
        assert_eq!(find("I").map(|option| option.name), Some("max-inbound-handlers"));
        assert!(find("").is_none() && find("nonsense").is_none());
    }

    #[test]
    fn every_default_and_every_example_is_a_value_of_its_option() {
        for option in options() {
            let mut config = Config::embedded("mail.example.org");
            assert_eq!(
                option.take(&mut config, option.default.values()),
                [],
                "{}",
                option.name
            );
            if let Follows(_, example) = option.default {
                assert_eq!(option.take(&mut config, &[example]), [], "{}", option.name);
            }
        }
    }

    #[test]
    fn every_value_is_read_back_as_it_is_shown() {
        for option in options().filter(|option| !option.flag_only()) {
            let mut config = Config::embedded("mail.example.org");
            let texts = option.texts(&mut config);
            assert!(!texts.is_empty(), "{}", option.name);
            let mut again = config.clone();
            assert_eq!(option.take(&mut again, &texts), [], "{}: {texts:?}", option.name);
            assert_eq!(again, config, "{}", option.name);
        }
    }

    #[test]
    fn none_empties_a_list_and_stands_alone() {
        let mut config = Config::embedded("mail.example.org");
        let relay_from = find("relay-from").unwrap();
        assert_eq!(relay_from.take(&mut config, &["none"]), []);
        assert!(config.relay_from.is_empty());
        let wrong = relay_from.take(&mut config, &["10.0.0.0/8", "none"]);
        assert_eq!(wrong, [(1, Expected("none alone, or values without it".into()))]);
        assert!(!find("listen").unwrap().take(&mut config, &["none"]).is_empty());
    }

    #[test]
    fn help_is_in_whole_sentences() {
        let words = SUBCOMMANDS.iter().map(|word| (word.name, word.help));
        for (name, help) in options().map(|option| (option.name, option.help)).chain(words) {
            assert!(
                help.ends_with('.') && help.starts_with(|c: char| c.is_ascii_uppercase()),
                "{name}"
            );
            assert!(!help.contains("  ") && !help.contains('\\'), "{name}");
        }
    }
}
