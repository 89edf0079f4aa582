//! The way in: what the command line and the configuration file ask for, checked as a whole.
//!
//! Reads one file and touches nothing else. Finds everything that is wrong, not only the first.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::contradiction::contradictions;
use super::decision::{Decisions, decide, given_by_file};
use super::problem::Problem;
use super::{Config, ConfigError, Origin, command_line, file, flags};
use crate::accounts::scheme::Scheme;
use crate::console::letter::Part;
use crate::doctor;
use crate::dry_run;
use crate::work_queue::id::MessageId;
use crate::{sendmail, sink, transfer};

/// Where the configuration is looked for when nobody names it.
const DEFAULT_FILE: &str = "/etc/smtpmta/smtpmta.conf";
/// A configuration file is never longer than this; a device or a log taken for one would be.
const LONGEST_FILE: u64 = 4 << 20;

/// What the program was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// Every setting, with its value.
    pub config: Config,
    /// What to do.
    pub command: Command,
    /// Every setting in the words of the operator, with where it comes from; in the order of the table, and
    /// a repeatable one once for each value.
    pub settings: Vec<Setting>,
    /// The configuration file that was read, if there was one.
    pub file: Option<PathBuf>,
    source: Source,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run in the foreground: LOAD SMTPMTA.
    Run,
    /// `--check`: say that the configuration is in order.
    Check,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `show WHAT`: the words after `show`, never none; and whether the answer is to be JSON.
    Show {
        /// What to show.
        words: Vec<String>,
        /// `--json`.
        json: bool,
    },
    /// `queue VERB …`: the words after `queue`, never none; and whether the answer is to be JSON.
    Queue {
        /// The verb, and what it is for.
        words: Vec<String>,
        /// `--json`.
        json: bool,
    },
    /// `queue export`: move what waits to a file.
    Export(transfer::export::Asked),
    /// `queue import`: bring in what such a file holds.
    Import(transfer::import::Asked),
    /// `queue show`: a message, for who wants to read it.
    Letter {
        /// Which.
        id: MessageId,
        /// What of it.
        part: Part,
        /// `--json`.
        json: bool,
    },
    /// `trace` and `why`: the words behind them, never none; and whether the answer is to be JSON.
    About {
        /// The verb.
        verb: &'static str,
        /// What it is about.
        words: Vec<String>,
        /// `--json`.
        json: bool,
    },
    /// `tell WORDS`: an operator's command, never empty.
    Tell(Vec<String>),
    /// `verify`: look a work queue through.
    Verify {
        /// Its folder; `None` is the spool.
        folder: Option<PathBuf>,
        /// `--account`.
        account: bool,
        /// `--json`.
        json: bool,
    },
    /// `route`: say where mail would go.
    Route(dry_run::route::Asked),
    /// `session`: answer a dialogue, with nothing queued.
    Session(dry_run::session::Asked),
    /// `doctor`: look for what keeps mail from flowing.
    Doctor(doctor::Asked),
    /// `backup DIR`: copy the work queue to this folder.
    Backup(PathBuf),
    /// `sink`: receive mail for tests and trials.
    Sink(sink::options::Asked),
    /// `sendmail`, `mailq` and `newaliases`.
    Sendmail(Box<sendmail::options::Asked>),
    /// `passwd`: ask for a password and print it as the accounts file wants it.
    Passwd {
        /// `--scheme`.
        scheme: Scheme,
        /// For whom, as it is to stand in the file.
        address: Option<String>,
    },
}

/// One option with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option, without dashes.
    pub name: &'static str,
    /// The value in the text that the configuration file takes.
    pub value: String,
    /// Who decided it.
    pub origin: Origin,
}

/// What an invocation was read from, kept so that it can be read again.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    args: Vec<String>,
    machine: String,
    default_file: PathBuf,
}

/// Reads the command line (without the program's own name) and the configuration file that it names, or
/// the default one where it exists. `hostname` says what this machine calls itself.
///
/// # Errors
/// Everything that is wrong; nothing of it holds then.
pub fn read(args: &[String], hostname: impl Fn() -> String) -> Result<Invocation, ConfigError> {
    Source {
        args: args.to_vec(),
        machine: hostname(),
        default_file: DEFAULT_FILE.into(),
    }
    .read()
}

impl Invocation {
    /// Who decided the option of this name.
    #[must_use]
    pub fn origin(&self, name: &str) -> Origin {
        let decided = self.settings.iter().find(|setting| setting.name == name);
        decided.map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Reads the same command line and the file as it is now: what `tell refresh` asks for.
    ///
    /// # Errors
    /// As [`read`].
    pub fn reread(&self) -> Result<Invocation, ConfigError> {
        self.source.read()
    }

    /// What `show config` says: a configuration file that gives these very settings, with a comment behind
    /// each that tells where it comes from.
    #[must_use]
    pub fn show(&self) -> String {
        let lines: Vec<String> = self
            .settings
            .iter()
            .map(|s| file::line(s.name, &s.value))
            .collect();
        let width = lines
            .iter()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
            .min(48);
        let file = match &self.file {
            Some(path) => format!("# configuration file {}\n", path.display()),
            None => "# no configuration file\n".to_owned(),
        };
        let shown = lines.iter().zip(&self.settings);
        file + &shown
            .map(|(line, s)| format!("{line:width$}  # {}\n", s.origin))
            .collect::<String>()
    }
}

impl Source {
    fn read(&self) -> Result<Invocation, ConfigError> {
        let mut asked = command_line::parse(&self.args);
        if matches!(asked.command, Command::Help | Command::Version) {
            // Whoever asks for help gets it, whatever else is wrong.
            return Ok(self.invocation(Config::embedded(&self.machine), asked.command, Vec::new(), None));
        }
        let needs_none = matches!(asked.command, Command::Passwd { .. } | Command::Sink(_));
        if needs_none && asked.problems.is_empty() {
            // It needs no configuration, and whoever makes a password may not be allowed to read it.
            return Ok(self.invocation(Config::embedded(&self.machine), asked.command, Vec::new(), None));
        }
        let mut problems = std::mem::take(&mut asked.problems);
        let (path, named) = match &asked.file {
            Some(path) => (path.as_path(), true),
            None => (self.default_file.as_path(), false),
        };
        let (from_file, path) = match content(path, named) {
            Ok(Some(text)) => (given_by_file(&text, path, &mut problems), Some(path.to_owned())),
            Ok(None) => (Vec::new(), None),
            Err(problem) => {
                problems.push(problem);
                (Vec::new(), None)
            }
        };
        let mut config = Config::undecided();
        let decisions = decide(&mut config, [asked.given, from_file], &mut problems);
        config.derive(&self.machine, |name| decisions.contains_key(name));
        contradictions(&config, &decisions, &mut problems);
        if problems.is_empty() {
            let settings = settings(&mut config.clone(), &decisions);
            Ok(self.invocation(config, asked.command, settings, path))
        } else {
            problems.sort_by_key(|problem| match problem.origin {
                Origin::File(_, line) => (1, line),
                Origin::CommandLine | Origin::Default => (0, 0),
            });
            Err(ConfigError { problems })
        }
    }

    fn invocation(
        &self,
        config: Config,
        command: Command,
        settings: Vec<Setting>,
        file: Option<PathBuf>,
    ) -> Invocation {
        Invocation {
            config,
            command,
            settings,
            file,
            source: self.clone(),
        }
    }
}

/// What the file holds; `None` where nobody named it and there is none.
fn content(path: &Path, named: bool) -> Result<Option<Vec<u8>>, Problem> {
    let whole = |what: String| {
        let origin = Origin::File(Arc::new(path.to_owned()), 0);
        Problem {
            origin,
            option: String::new(),
            what,
        }
    };
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut text));
    match read {
        Ok(octets) if octets as u64 > LONGEST_FILE => Err(whole("expected a file of 4M at most".into())),
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !named => Ok(None),
        Err(error) => Err(whole(format!("cannot be read: {error}"))),
    }
}

/// Every option with its values and who decided them.
fn settings(config: &mut Config, decisions: &Decisions) -> Vec<Setting> {
    let mut settings = Vec::new();
    for option in flags::options().filter(|option| !option.flag_only()) {
        let given = decisions.get(option.name).map_or(&[][..], Vec::as_slice);
        for (index, value) in option.texts(config).into_iter().enumerate() {
            let by = given.get(index).or(given.first());
            let origin = by.map_or(Origin::Default, |given| given.origin.clone());
            settings.push(Setting {
                name: option.name,
                value,
                origin,
            });
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::front::Front;
    use std::fs;
    use std::time::Duration;

    /// A configuration file of this text in a folder of its own; the folder ends with the returned value.
    fn file(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf");
        fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        (folder, path)
    }

    fn source(args: &[&str]) -> Source {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Source {
            args,
            machine: "Mail.Example.org".into(),
            default_file: "/nonexistent/conf".into(),
        }
    }

    fn asked(args: &[&str]) -> Invocation {
        source(args).read().unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    fn wrong(args: &[&str]) -> String {
        source(args).read().unwrap_err().to_string()
    }

    #[test]
    fn nothing_said_is_the_embedded_default() {
        let asked = asked(&[]);
        assert_eq!(asked.config, Config::embedded("mail.example.org"));
        assert_eq!((asked.command, asked.file), (Command::Run, None));
        assert!(
            asked
                .settings
                .iter()
                .all(|setting| setting.origin == Origin::Default)
        );
    }

    #[test]
    fn a_flag_beats_the_file_and_a_repeatable_one_replaces_its_list() {
        let (_folder, path) =
            file("expire 3d\nlist-messages 7\nlocal-domain a.example\nlocal-domain B.example\n");
        let by_file = asked(&["-c", &path]);
        assert_eq!(by_file.config.expire, Duration::from_secs(3 * 86_400));
        assert_eq!(by_file.config.local_domains, ["a.example", "b.example"]);
        assert_eq!(by_file.file, Some(PathBuf::from(&path)));
        let by_flag = asked(&["-c", &path, "--expire=2d", "--local-domain", "c.example"]);
        assert_eq!(by_flag.config.expire, Duration::from_secs(2 * 86_400));
        assert_eq!(by_flag.config.local_domains, ["c.example"]);
        assert_eq!(by_flag.config.list_messages, 7);
    }

    #[test]
    fn every_setting_tells_who_decided_it() {
        let (_folder, path) = file("\nlocal-domain a.example\nlocal-domain b.example\nlist-messages 7\n");
        let asked = asked(&["--config", &path, "-O", "3", "--relay-from", "none"]);
        let told: Vec<String> = asked
            .settings
            .iter()
            .filter(|setting| setting.origin != Origin::Default)
            .map(|setting| {
                format!("{} {} {}", setting.name, setting.value, setting.origin).replace(&path, "conf")
            })
            .collect();
        assert_eq!(
            told,
            [
                "local-domain a.example conf:2",
                "local-domain b.example conf:3",
                "relay-from none command line",
                "max-outbound-handlers 3 command line",
                "list-messages 7 conf:4",
            ]
        );
    }

    #[test]
    fn what_show_config_says_gives_the_same_configuration_when_it_is_read() {
        let args = [
            &[
                "-s",
                "/var/spool/smtp mta # 1",
                "-n",
                "MX.example.org",
                "-l",
                "[::1]:0",
                "-l",
                "127.0.0.1:25",
            ][..],
            &[
                "--relay-from",
                "10.0.0.0/8",
                "--relay-from",
                "2001:db8::/32",
                "--relay-host",
                "[::1]:2525",
            ],
            &[
                "--route",
                "a.example=b.example",
                "--route",
                ".a.example=192.0.2.1:26",
                "--dns",
                "192.0.2.53",
            ],
            &[
                "--hop-rate",
                "*=1000/1h",
                "--hop-rate",
                ".a.example=60/1m",
                "--tls-outbound",
                "must",
                "--tls-outbound",
                ".a.example=never",
            ],
            &[
                "--retry-schedule",
                "1s 90m 1d",
                "--delay-warning",
                "0",
                "--housekeeping",
                "never",
                "-I",
                "6",
            ],
            &[
                "--mail-dir",
                "/srv/%d/%u/\"Mail\"",
                "--log-level",
                "verbose",
                "--log-file",
                "/tmp/log",
            ],
        ]
        .concat();
        for args in [&args[..], &[], &["--relay-from", "none"], &["--expire", "1h"]] {
            let first = asked(args);
            let (_folder, path) = file(&first.show());
            let again = asked(&["-c", &path]);
            assert_eq!(again.config, first.config, "{}", first.show());
            assert_eq!(again.show().lines().count(), first.show().lines().count());
        }
    }

    #[test]
    fn rereading_sees_what_the_file_says_now() {
        let (_folder, path) = file("list-messages 7\n");
        let asked = asked(&["-c", &path, "-O", "3"]);
        fs::write(&path, "list-messages 8\nmax-outbound-handlers 9\n").unwrap();
        let again = asked.reread().unwrap();
        assert_eq!(
            (again.config.list_messages, again.config.max_outbound_handlers),
            (8, 3)
        );
        fs::write(&path, "list-messages x\n").unwrap();
        assert_eq!(asked.reread().unwrap_err().exit().status(), 78);
    }

    #[test]
    fn the_default_file_is_read_where_it_exists_and_a_named_one_must_exist() {
        let (_folder, path) = file("list-messages 7\n");
        let with_default = Source {
            default_file: path.into(),
            ..source(&[])
        };
        assert_eq!(with_default.read().unwrap().config.list_messages, 7);
        let missing = source(&["-c", "/nonexistent/conf"]).read().unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("/nonexistent/conf: cannot be read: "),
            "{missing}"
        );
        assert_eq!(missing.exit().status(), 78);
        assert_eq!(source(&["-c", "/"]).read().unwrap_err().exit().status(), 78);
        assert!(wrong(&["-c", "/dev/zero"]).contains("expected a file of 4M at most"));
    }

    #[test]
    fn all_that_is_wrong_is_told_and_not_only_the_first() {
        let (_folder, path) = file("expire x\nexpires 5d\nlisten 25\n");
        let told = wrong(&[
            "-c",
            &path,
            "-I",
            "many",
            "--nonsense",
            "--relay-hsot",
            "x",
            "--smtp-port",
            "0",
        ]);
        let told = told.replace(&path, "conf");
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "smtpmta: --nonsense: no such option",
                "smtpmta: --relay-hsot: no such option; did you mean --relay-host?",
                "smtpmta: --max-inbound-handlers: \"many\": expected a whole number from 1 to 100000",
                "conf:1: expire: \"x\": expected a duration from 1s to 365d, such as 30s, 5m, 4h or 5d",
                "conf:2: \"expires\": no such option; did you mean expire?",
                "conf:3: listen: \"25\": expected an IP address and a port, such as 127.0.0.1:2525 or \
                 [::]:25",
            ]
        );
    }

    #[test]
    fn a_value_that_is_beaten_is_checked_all_the_same() {
        let (_folder, path) = file("expire x\n");
        assert!(wrong(&["-c", &path, "--expire", "5d"]).contains("conf:1: expire: \"x\": expected"));
    }

    #[test]
    fn a_default_may_be_said_in_the_words_that_stand_for_it() {
        let (_folder, path) =
            file("tls-cert none\nsyslog off\ndaemon off\nhttp none\nuser none\nsandbox auto\n");
        assert_eq!(asked(&["-c", &path]).config, Config::embedded("mail.example.org"));
    }

    #[test]
    fn a_daemon_without_a_log_file_logs_to_the_system() {
        assert!(asked(&["-d"]).config.syslog);
        assert!(!asked(&["-d", "--log-file", "log"]).config.syslog);
        let (_folder, path) = file("syslog off\n");
        assert!(!asked(&["-d", "-c", &path]).config.syslog);
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(wrong(&["--expire", "2h", "--delay-warning", "2h"]).contains("expected less than expire"));
        assert_eq!(asked(&["--expire", "2h"]).config.delay_warning, None);
        assert!(wrong(&["--tls-cert", "a"]).contains("--tls-cert: expected tls-key beside it"));
        assert!(wrong(&["--route", "a=b", "--route", "A.=c"]).contains("--route: \"A.=c\": expected a once"));
        assert!(wrong(&["--hop-rate", "A.=1/1s", "--hop-rate", "a=2/1s"]).contains("expected a once"));
        assert!(wrong(&["-l", "127.0.0.1:25", "-l", "127.0.0.1:25"]).contains("expected 127.0.0.1:25 once"));
        assert_eq!(
            asked(&["-l", "127.0.0.1:0", "-l", "127.0.0.1:0"])
                .config
                .listen
                .len(),
            2
        );
        assert!(wrong(&["--expire", "5d", "--expire", "5d"]).contains("--expire: \"5d\": expected once"));
    }

    #[test]
    fn commands_keep_their_words() {
        let show = |words: &[&str], json| Command::Show {
            words: words.iter().map(|w| (*w).into()).collect(),
            json,
        };
        assert_eq!(asked(&["show", "tasks"]).command, show(&["tasks"], false));
        assert_eq!(
            asked(&["-s", "/q", "show", "queue", "--json"]).command,
            show(&["queue"], true)
        );
        let retry = Command::Queue {
            words: ["retry", "--hop=a.example"].map(String::from).to_vec(),
            json: true,
        };
        assert_eq!(
            asked(&["queue", "retry", "--hop=a.example", "--json"]).command,
            retry
        );
        assert_eq!(
            asked(&["show", "--limit=5", "queue"]).command,
            show(&["queue", "--limit", "5"], false)
        );
        let list = Command::Queue {
            words: ["list", "--limit", "50"].map(String::from).to_vec(),
            json: true,
        };
        assert_eq!(asked(&["queue", "list", "--json", "--limit", "50"]).command, list);
        let about = |verb, words: &[&str]| Command::About {
            verb,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            json: false,
        };
        assert_eq!(asked(&["why", "x"]).command, about("why", &["x"]));
        assert_eq!(
            asked(&["trace", "--limit=5", "a@b.example"]).command,
            about("trace", &["a@b.example", "--limit", "5"])
        );
        let letter = |part, json| Command::Letter {
            id: MessageId(0x0003_8D7E_A4C6_8000),
            part,
            json,
        };
        assert_eq!(
            asked(&["queue", "show", "00038d7ea4c68000", "--json"]).command,
            letter(Part::Header, true)
        );
        assert_eq!(
            asked(&["queue", "Show", "--raw", "00038D7EA4C68000"]).command,
            letter(Part::Raw, false)
        );
        let tell = Command::Tell(["SmtpMTA", "quit"].map(String::from).to_vec());
        assert_eq!(asked(&["tell", "SmtpMTA", "quit"]).command, tell);
        assert_eq!(asked(&["--check"]).command, Command::Check);
        let passwd = |scheme, address: Option<&str>| Command::Passwd {
            scheme,
            address: address.map(str::to_owned),
        };
        assert_eq!(asked(&["passwd"]).command, passwd(Scheme::Argon2id, None));
        for args in [
            &["passwd", "--scheme", "PLAIN", "bob@a.example"][..],
            &["passwd", "bob@a.example", "--scheme=plain"],
        ] {
            assert_eq!(asked(args).command, passwd(Scheme::Plain, Some("bob@a.example")));
        }
        let verify = |folder: Option<&str>, account, json| Command::Verify {
            folder: folder.map(PathBuf::from),
            account,
            json,
        };
        assert_eq!(asked(&["verify"]).command, verify(None, false, false));
        assert_eq!(
            asked(&["verify", "/copy", "--account", "--json"]).command,
            verify(Some("/copy"), true, true)
        );
        let backup = asked(&["-s", "/q", "backup", "/copy"]);
        assert_eq!(backup.command, Command::Backup(PathBuf::from("/copy")));
        assert_eq!(backup.config.spool, PathBuf::from("/q"));
        // It does without a configuration.
        assert_eq!(
            asked(&["-c", "/nonexistent/conf", "passwd", "bob"]).command,
            passwd(Scheme::Argon2id, Some("bob"))
        );
    }

    #[test]
    fn dry_runs_say_what_they_are_about() {
        let route = |address: &str, connect, from: &str| {
            Command::Route(dry_run::route::Asked {
                address: dry_run::route::Asked::address(address).unwrap(),
                connect,
                from: from.parse().unwrap(),
                json: false,
            })
        };
        assert_eq!(
            asked(&["route", "x@a.example"]).command,
            route("x@a.example", false, "")
        );
        assert_eq!(
            asked(&["route", "--connect", "--from=<b@a.example>", "postmaster"]).command,
            route("Postmaster", true, "b@a.example")
        );
        assert_eq!(
            asked(&["session"]).command,
            Command::Session(dry_run::session::Asked::default())
        );
        assert_eq!(
            asked(&["doctor"]).command,
            Command::Doctor(doctor::Asked::default())
        );
        assert_eq!(
            asked(&["doctor", "--json", "--to=A.example"]).command,
            Command::Doctor(doctor::Asked {
                to: Some("a.example".to_owned()),
                json: true,
            })
        );
        assert_eq!(
            asked(&["session", "--client", "2001:db8::1", "--front=submission"]).command,
            Command::Session(dry_run::session::Asked {
                client: "2001:db8::1".parse().unwrap(),
                front: Front::Submission,
            })
        );
    }

    #[test]
    fn wrong_commands_are_told_with_64() {
        for (args, expected) in [
            (&["shwo"][..], "\"shwo\": no such command; did you mean show?"),
            (
                &["queue", "dance"],
                "queue: \"dance\": no such verb; there are retry, list, age, hold, bounce, release, delete, \
                 undelete, route, show, export, import",
            ),
            (
                &["queue"],
                "queue: expected a verb behind it: retry, list, age, hold, bounce, release, delete, undelete, route, \
                 show, export, import",
            ),
            (
                &["queue", "export", "--all"],
                "queue export: expected a file that is to be made, as the last word",
            ),
            (
                &["queue", "export", "00038D7EA4C68000"],
                "queue export: expected a file that is to be made, as the last word",
            ),
            (
                &["queue", "export", "moved"],
                "queue export: expected IDs of messages behind it, or --from, --to, --hop, --state, --older, --size, \
                 --subject or --error, or --all",
            ),
            (
                &["queue", "export", "--to", "moved"],
                "queue export: --to: expected a value behind it",
            ),
            (
                &["queue", "export", "--cancel", "--all", "moved"],
                "queue export: --cancel: expected a file behind it, and nothing else",
            ),
            (
                &["queue", "import", "one", "two"],
                "queue import: expected one file behind it",
            ),
            (
                &["queue", "show"],
                "queue show: expected the ID of one message, and --body or --raw if more of it is wanted",
            ),
            (
                &["queue", "show", "00038D7EA4C68000", "--raw", "--body"],
                "queue show: expected the ID of one message, and --body or --raw if more of it is wanted",
            ),
            (
                &["doctor", "a.example"],
                "doctor: \"a.example\": expected no word; --to DOMAIN says whose hosts to try",
            ),
            (
                &["doctor", "--to", "a b"],
                "doctor: --to: \"a b\": expected a name such as mail.example.org",
            ),
            (
                &["doctor", "--to", "a.example", "--to", "b.example"],
                "doctor: --to: \"b.example\": expected once",
            ),
            (
                &["show"],
                "show: expected tasks, config, stat, version, queue, lists, hops behind it",
            ),
            (&["tell"], "tell: expected WORDS behind it"),
            (&["tell", "refresh", "--json"], "tell: \"--json\": no such option"),
            (
                &["passwd", "--scheme", "md5"],
                "passwd: --scheme: \"md5\": expected argon2id, sha512-crypt, sha256-crypt, scram-sha-256, plain",
            ),
            (
                &["passwd", "--scheme=plain", "--scheme=plain"],
                "passwd: --scheme: \"plain\": expected once",
            ),
            (
                &["passwd", "--scheme"],
                "passwd: --scheme: expected a value (SCHEME) behind it",
            ),
            (
                &["passwd", "a", "b"],
                "passwd: \"b\": expected one address at most",
            ),
            (
                &["passwd", "a b"],
                "passwd: \"a b\": expected an address: malformed local part",
            ),
            (
                &["passwd", "*@a.example"],
                "passwd: \"*@a.example\": expected an address that can log in; this one catches all",
            ),
            (
                &["passwd", "\"a:b\"@a.example"],
                "passwd: \"\\\"a:b\\\"@a.example\": expected an address without a colon, and without # in front",
            ),
            (
                &["sendmail", "-N", "always", "x"],
                "sendmail: -N: \"always\": expected never, or some of success, failure and delay",
            ),
            (&["mailq", "-C"], "mailq: -C: expected a value behind it"),
            (
                &["verify", "a", "b"],
                "verify: \"b\": expected one folder at most",
            ),
            (&["backup"], "backup: expected DIR behind it"),
            (&["backup", "a", "b"], "backup: \"b\": expected one folder"),
            (&["passwd", "bob", "--json"], "passwd: \"--json\": no such option"),
            (&["route"], "route: expected one address behind it"),
            (
                &["route", "a@b.example", "c@d.example"],
                "route: expected one address behind it",
            ),
            (
                &["route", "bob"],
                "route: \"bob\": expected an address: address has no @domain",
            ),
            (
                &["route", "a@b.example", "--from", "a@b.example"],
                "route: --from: expected --connect beside it",
            ),
            (
                &["route", "a@b.example", "--connect", "--from", "bob"],
                "route: --from: \"bob\": expected an address: address has no @domain",
            ),
            (
                &["session", "--client", "localhost"],
                "session: \"localhost\": expected the IP address of a client behind --client",
            ),
            (
                &["session", "--front", "25"],
                "session: \"25\": expected smtp, submission or submissions behind --front",
            ),
            (
                &["session", "dialogue.txt"],
                "session: \"dialogue.txt\": expected no word; the dialogue is read from standard input",
            ),
            (&["session", "--json"], "session: \"--json\": no such option"),
            (
                &["show", "tasks", "--spool", "x"],
                "--spool: expected before show, not behind it",
            ),
            (
                &["show", "tasks", "-s", "x"],
                "-s: expected before show, not behind it",
            ),
            (
                &["--check", "show"],
                "--check: \"show\": expected no command beside it",
            ),
            (&["--spool"], "--spool: expected a value (DIR) behind it"),
            (&["--check=yes"], "--check: expected no value"),
            (&["-x"], "-x: no such option"),
            (&["--", "-x"], "\"-x\": no such command"),
            (&["-c", "a", "-c", "b"], "--config: \"b\": expected once"),
        ] {
            let error = source(args).read().unwrap_err();
            assert_eq!(
                error.to_string().lines().next(),
                Some(&*format!("smtpmta: {expected}"))
            );
            assert_eq!(error.exit().status(), 64, "{args:?}");
        }
    }

    #[test]
    fn help_is_given_whatever_else_is_wrong() {
        for args in [
            &["--help"][..],
            &["-h", "--nonsense", "-I", "x"],
            &["-c", "/nonexistent/x", "show", "-h"],
        ] {
            assert_eq!(asked(args).command, Command::Help);
        }
        assert_eq!(asked(&["-V"]).command, Command::Version);
    }
}
