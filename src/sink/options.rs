//! The options of `smtpmta sink`: one table, for getopts and for its help. smtpmta-sink(8) says the same.
//!
//! Never touches a file or the network.

use getopts::{Fail, Matches, Options};

use super::fault::Fault;
use super::settings::{Flaw, OFFERS, Settings, Telling, Tls};
use crate::config::manual::wrapped;
use crate::config::problem::quoted;
use crate::config::values::{self, Expected, address, domain, size};
use crate::sasl::Mechanism;

/// What is not offered in LMTP.
const CHUNKS: [&str; 2] = ["CHUNKING", "BINARYMIME"];

/// One option.
pub struct Row {
    /// The long name, without dashes.
    pub name: &'static str,
    /// What the value is called; empty for a flag.
    pub value: &'static str,
    /// Whether it may be given several times.
    pub repeatable: bool,
    /// What it does, in whole sentences.
    pub help: &'static str,
}

const fn row(name: &'static str, value: &'static str, help: &'static str) -> Row {
    Row {
        name,
        value,
        repeatable: false,
        help,
    }
}

const fn rows(name: &'static str, value: &'static str, help: &'static str) -> Row {
    Row {
        name,
        value,
        repeatable: true,
        help,
    }
}

/// The table.
pub static TABLE: &[Row] = &[
    row("help", "", "Say what the options are, and end."),
    rows(
        "listen",
        "ADDR:PORT",
        "Where to listen. Port 0 takes a free one. [default: 127.0.0.1:2526; repeatable]",
    ),
    row(
        "hostname",
        "NAME",
        "The name in greeting and EHLO. [default: sink.example]",
    ),
    row(
        "max-sessions",
        "N",
        "The most sessions at once; others wait. [default: 100]",
    ),
    row("max-messages", "N", "End after so many messages were taken."),
    row(
        "dir",
        "DIR",
        "Store each message as DIR/N.eml, and its envelope as DIR/N.env.",
    ),
    row("quiet", "", "Say no line for each message."),
    row("dialogue", "", "Show every line of every dialogue."),
    row(
        "offer",
        "LIST",
        "The lines of the answer to EHLO, between commas, or none. [default: PIPELINING, SIZE, 8BITMIME, SMTPUTF8, \
         ENHANCEDSTATUSCODES, DSN, CHUNKING, BINARYMIME]",
    ),
    row(
        "lmtp",
        "",
        "Speak LMTP (RFC 2033): LHLO, and after the content an answer for each recipient, to which orders for dot hold, \
         also as dot[PATTERN]. Chunks are not offered.",
    ),
    row("no-ehlo", "", "Know only HELO: answer EHLO with 502."),
    row("size", "SIZE", "The largest message to take, also said in EHLO."),
    row(
        "max-recipients",
        "N",
        "The most recipients of one message; 452 for the others. [default: 1000]",
    ),
    row(
        "max-per-session",
        "N",
        "The most messages of one session; 421 for the next one.",
    ),
    row("starttls", "", "Offer STARTTLS."),
    row("tls", "", "Speak TLS from the first octet."),
    row("require-tls", "", "Refuse MAIL in the clear with 530."),
    row(
        "tls-cert",
        "FILE",
        "Certificate and chain in PEM form. Without it a certificate is made up, signed by itself.",
    ),
    row(
        "tls-key",
        "FILE",
        "The private key of the certificate in PEM form.",
    ),
    row(
        "cert-flaw",
        "FLAW",
        "What is wrong with the certificate that is made up: expired, not-yet or name.",
    ),
    row(
        "auth",
        "USER:PASSWORD",
        "Offer AUTH, and refuse MAIL with 530 before this login. Also in the clear.",
    ),
    row(
        "mechanisms",
        "LIST",
        "Of PLAIN, LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, between commas. [default: PLAIN,LOGIN]",
    ),
    rows(
        "fault",
        "STAGE=WHAT[@PERCENT]",
        "Misbehave. STAGE is connect, greeting, ehlo, helo, starttls, handshake, auth, mail, rcpt, data, content, dot, \
         bdat, rset or quit; mail[PATTERN], rcpt[PATTERN] and, in LMTP, dot[PATTERN] for addresses in which * stands for anything; #N, #N- or \
         #N-M behind it for the Nth time. WHAT is refuse, defer, a reply such as \"552 5.2.2 full\" with \\n between \
         lines, drop, reset, stall, slow:MS, late:MS, garbage, early or close-after. [repeatable]",
    ),
    row(
        "chaos",
        "",
        "Misbehave at random, in all ways that a client which tries again gets its mail through by; the sums say which, \
         and who got a message twice. A --fault goes before it.",
    ),
    row(
        "seed",
        "N",
        "Draw the lots of percentages and of chaos as in the run that told this seed.",
    ),
];

/// What `smtpmta sink` was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `--help`.
    Help,
    /// Run.
    Run(Box<Settings>),
}

/// What `sink --help` says.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Usage: smtpmta sink [OPTIONS]\n\nReceives mail for tests and trials, and misbehaves to order.\n\n",
    );
    for row in TABLE {
        text += format!("  --{} {}", row.name, row.value).trim_end();
        text += "\n";
        text += &wrapped(row.help, "          ");
    }
    text + "\nSee smtpmta-sink(8).\n"
}

/// Reads what stands behind `sink` on the command line.
///
/// # Errors
/// All that is wrong, a line each: `--option: "value": expected …`.
pub fn parse(args: &[String]) -> Result<Asked, Vec<String>> {
    let mut options = Options::new();
    for row in TABLE {
        match row.value {
            "" => options.optflagmulti("", row.name, ""),
            _ => options.optmulti("", row.name, "", ""),
        };
    }
    let given = match options.parse(args) {
        Ok(matches) => Given {
            matches,
            wrong: Vec::new(),
        },
        Err(fail) => return Err(vec![no_options(&fail)]),
    };
    if given.matches.opt_present("help") {
        return Ok(Asked::Help);
    }
    given.settings().map(|settings| Asked::Run(Box::new(settings)))
}

fn no_options(fail: &Fail) -> String {
    match fail {
        Fail::ArgumentMissing(name) => {
            let value = TABLE
                .iter()
                .find(|row| row.name == name)
                .map_or("", |row| row.value);
            format!("--{name}: expected a value ({value}) behind it")
        }
        Fail::UnexpectedArgument(name) => format!("--{name}: expected no value"),
        Fail::UnrecognizedOption(name) | Fail::OptionMissing(name) | Fail::OptionDuplicated(name) => {
            let dashes = if name.chars().count() == 1 { "-" } else { "--" };
            format!("{}: no such option", quoted(&format!("{dashes}{name}")))
        }
    }
}

/// What was given, and what is wrong with it so far.
struct Given {
    matches: Matches,
    wrong: Vec<String>,
}

impl Given {
    fn settings(mut self) -> Result<Settings, Vec<String>> {
        let standard = Settings::default();
        for row in TABLE
            .iter()
            .filter(|row| !row.repeatable && !row.value.is_empty())
        {
            if let Some(again) = self.matches.opt_strs(row.name).get(1) {
                self.wrong
                    .push(format!("--{}: {}: expected once", row.name, quoted(again)));
            }
        }
        if let Some(word) = self.matches.free.first() {
            self.wrong
                .push(format!("{}: expected options only", quoted(word)));
        }
        let count = |text: &str| values::whole(text, 1, u64::from(u32::MAX)).map_err(|Expected(what)| what);
        let few = |text: &str| values::whole(text, 1, 10_000).map_err(|Expected(what)| what);
        let path = |text: &str| Ok(std::path::PathBuf::from(text));
        let listen = self.each("listen", |text| {
            address::listener(text).map_err(|Expected(what)| what)
        });
        let (cert, key) = (self.one("tls-cert", path), self.one("tls-key", path));
        let papers = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                self.wrong
                    .push("--tls-cert and --tls-key: expected both or neither".into());
                None
            }
        };
        let has = |given: &Given, name| given.matches.opt_present(name);
        let (starttls, tls) = (has(&self, "starttls"), has(&self, "tls"));
        if starttls && tls {
            self.wrong.push("--tls: expected no --starttls beside it".into());
        }
        let tls = match (tls, starttls) {
            (true, _) => Tls::First,
            (false, true) => Tls::Offered,
            (false, false) => Tls::Never,
        };
        let (quiet, dialogue) = (has(&self, "quiet"), has(&self, "dialogue"));
        if quiet && dialogue {
            self.wrong
                .push("--quiet: expected no --dialogue beside it".into());
        }
        let telling = match (quiet, dialogue) {
            (true, _) => Telling::Quiet,
            (false, true) => Telling::Dialogue,
            (false, false) => Telling::Messages,
        };
        let lmtp = has(&self, "lmtp");
        if lmtp && has(&self, "no-ehlo") {
            self.wrong.push("--no-ehlo: expected no --lmtp beside it".into());
        }
        let offers = self.one("offer", offers).unwrap_or(standard.offers).into_iter();
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let settings = Settings {
            listen: if listen.is_empty() {
                standard.listen
            } else {
                listen
            },
            hostname: self
                .one("hostname", |text| {
                    domain::name(text).map_err(|Expected(what)| what)
                })
                .unwrap_or(standard.hostname),
            offers: if lmtp {
                offers.filter(|line| !CHUNKS.contains(&line.as_str())).collect()
            } else {
                offers.collect()
            },
            lmtp,
            ehlo: !has(&self, "no-ehlo"),
            size: self.one("size", |text| {
                size::parse(text, 1, 1 << 40).map_err(|Expected(what)| what)
            }),
            max_recipients: self
                .one("max-recipients", count)
                .map_or(standard.max_recipients, number),
            max_per_session: self.one("max-per-session", count),
            max_messages: self.one("max-messages", count),
            max_sessions: self
                .one("max-sessions", few)
                .map_or(standard.max_sessions, number),
            dir: self.one("dir", path),
            telling,
            tls,
            require_tls: has(&self, "require-tls"),
            papers,
            flaw: self.one("cert-flaw", flaw),
            login: self.one("auth", login),
            mechanisms: self.one("mechanisms", mechanisms).unwrap_or(standard.mechanisms),
            faults: self.each("fault", |text| text.parse::<Fault>()),
            chaos: has(&self, "chaos"),
            seed: self.one("seed", |text| {
                text.parse().map_err(|_| "a whole number".to_owned())
            }),
        };
        if self.wrong.is_empty() {
            Ok(settings)
        } else {
            Err(self.wrong)
        }
    }

    fn each<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut values = Vec::new();
        for text in self.matches.opt_strs(name) {
            match read(&text) {
                Ok(value) => values.push(value),
                Err(expected) => self
                    .wrong
                    .push(format!("--{name}: {}: expected {expected}", quoted(&text))),
            }
        }
        values
    }

    fn one<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.each(name, read).into_iter().next()
    }
}

fn offers(text: &str) -> Result<Vec<String>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let lines: Vec<String> = text.split(',').map(|line| line.trim().to_owned()).collect();
    let is_good = |line: &String| {
        !line.is_empty()
            && line
                .bytes()
                .all(|octet| octet == b' ' || octet.is_ascii_graphic())
    };
    if lines.iter().all(is_good) {
        Ok(lines)
    } else {
        Err(format!(
            "none, or lines of ASCII between commas, such as {}",
            OFFERS.join(",")
        ))
    }
}

fn flaw(text: &str) -> Result<Flaw, String> {
    let found = Flaw::WORDS.into_iter().find(|(word, _)| *word == text);
    found
        .map(|(_, flaw)| flaw)
        .ok_or_else(|| Flaw::WORDS.map(|(word, _)| word).join(", "))
}

fn login(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        // The line of an accounts file that is made of it has room for no third colon.
        Some((user, password)) if ![user, password].contains(&"") && !password.contains(':') => {
            Ok((user.to_owned(), password.to_owned()))
        }
        _ => Err("USER:PASSWORD, with one colon".to_owned()),
    }
}

fn mechanisms(text: &str) -> Result<Vec<Mechanism>, String> {
    let read = |word: &str| Mechanism::from_name(word.trim());
    text.split(',')
        .map(read)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            let known = Mechanism::ALL.map(Mechanism::name);
            format!("{} between commas", known.join(", "))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Asked, Vec<String>> {
        parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    fn settings(args: &[&str]) -> Settings {
        match parsed(args) {
            Ok(Asked::Run(settings)) => *settings,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(settings(&[]), Settings::default());
    }

    #[test]
    fn every_option_is_understood() {
        let asked = settings(&[
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:2526",
            "--hostname",
            "mx.example",
            "--max-sessions",
            "3",
            "--max-messages",
            "5",
            "--dir",
            "/tmp/x",
            "--dialogue",
            "--offer",
            "SIZE 12, PIPELINING",
            "--no-ehlo",
            "--size",
            "1M",
            "--max-recipients",
            "7",
            "--max-per-session",
            "8",
            "--starttls",
            "--require-tls",
            "--tls-cert",
            "a",
            "--tls-key",
            "b",
            "--cert-flaw",
            "expired",
            "--auth",
            "bob:sesame",
            "--mechanisms",
            "plain,SCRAM-SHA-256",
            "--fault",
            "dot=drop",
            "--fault",
            "rcpt=defer@5",
            "--chaos",
            "--seed",
            "99",
        ]);
        assert_eq!(asked.listen.len(), 2);
        assert_eq!(asked.offers, ["SIZE 12", "PIPELINING"]);
        assert_eq!(
            (asked.ehlo, asked.size, asked.max_per_session),
            (false, Some(1 << 20), Some(8))
        );
        assert_eq!(asked.login, Some(("bob".into(), "sesame".into())));
        assert_eq!((asked.tls, asked.flaw), (Tls::Offered, Some(Flaw::Expired)));
        assert_eq!(asked.mechanisms, [Mechanism::Plain, Mechanism::ScramSha256]);
        assert_eq!((asked.faults.len(), asked.chaos, asked.seed), (2, true, Some(99)));
        assert_eq!(settings(&["--offer", "none"]).offers, Vec::<String>::new());
        let lmtp = settings(&["--lmtp", "--fault", "dot[bob@*]=refuse"]);
        assert!(lmtp.lmtp && lmtp.offers.iter().all(|offer| !CHUNKS.contains(&offer.as_str())));
        assert_eq!(parsed(&["--fault", "nonsense", "--help"]), Ok(Asked::Help));
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let wrong = parsed(&[
            "--fault",
            "dot=explode",
            "--size",
            "x",
            "--size",
            "1",
            "--tls-cert",
            "a",
            "word",
        ]);
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        assert!(
            wrong
                .iter()
                .any(|line| line.starts_with("--fault: \"dot=explode\": expected at the stage dot"))
        );
        assert_eq!(
            parsed(&["--nonsense"]).unwrap_err(),
            ["\"--nonsense\": no such option"]
        );
        assert_eq!(
            parsed(&["--dir"]).unwrap_err(),
            ["--dir: expected a value (DIR) behind it"]
        );
        assert_eq!(parsed(&["--quiet", "--dialogue"]).unwrap_err().len(), 1);
        assert_eq!(parsed(&["--lmtp", "--no-ehlo"]).unwrap_err().len(), 1);
    }

    #[test]
    fn help_names_every_option_and_stage_and_fits_a_terminal() {
        let help = help();
        for row in TABLE {
            assert!(help.contains(&format!("--{}", row.name)), "{}", row.name);
        }
        for stage in super::super::stage::Stage::ALL {
            assert!(help.contains(stage.word()), "{stage}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}
