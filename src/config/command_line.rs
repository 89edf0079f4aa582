//! The command line: options, then perhaps a word that says what to do, then that word's own.
//!
//! Pure. getopts cuts the words apart; the table says which options and which words there are.

use std::path::PathBuf;

use getopts::{Fail, Matches, Options, ParsingStyle};

use super::Origin;
use super::decision::Given;
use super::flags::{self, SUBCOMMANDS, Subcommand};
use super::invocation::Command;
use super::kind::Kind;
use super::problem::{Problem, quoted};
use super::suggestion::nearest;
use super::values::{Expected, domain};
use crate::accounts::passwd;
use crate::accounts::scheme::Scheme;
use crate::console::letter::Part;
use crate::doctor;
use crate::dry_run::{route, session};
use crate::smtp::path::{PathError, ReversePath};
use crate::transfer::{export, import};
use crate::work_queue::id::MessageId;
use crate::{sendmail, sink};

/// What a command line asks for.
pub(super) struct Asked {
    /// What to do; [`Command::Run`] where that could not be made out.
    pub command: Command,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The settings.
    pub given: Vec<Given>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Reads a command line without the program's own name.
pub(super) fn parse(args: &[String]) -> Asked {
    let mut asked = Asked {
        command: Command::Run,
        file: None,
        given: Vec::new(),
        problems: Vec::new(),
    };
    let Some(matches) = cut(&table(), args, &mut asked.problems) else {
        return asked;
    };
    let broken = !asked.problems.is_empty();
    for option in flags::options().filter(|option| matches.opt_present(option.name)) {
        let values = matches.opt_strs(option.name);
        match &option.kind {
            Kind::Act => {}
            Kind::ConfigFile => {
                if values.len() > 1 {
                    asked.wrong(option.name, format!("{}: expected once", quoted(&values[1])));
                }
                asked.file = values.into_iter().next().map(PathBuf::from);
            }
            _ => {
                let on = || vec!["on".to_owned(); matches.opt_count(option.name)];
                let values = if option.kind.bare() { on() } else { values };
                asked.given.extend(values.into_iter().map(|value| Given {
                    option,
                    value,
                    origin: Origin::CommandLine,
                }));
            }
        }
    }
    let words = &matches.free;
    if matches.opt_present("help") {
        asked.command = Command::Help;
    } else if matches.opt_present("version") {
        asked.command = Command::Version;
    } else if matches.opt_present("check") {
        asked.command = Command::Check;
        if let Some(word) = words.first().filter(|_| !broken) {
            asked.wrong(
                "check",
                format!("{}: expected no command beside it", quoted(word)),
            );
        }
    } else if let Some((word, rest)) = words.split_first() {
        // Behind an unknown option its value looks like a command: one complaint is enough.
        if !broken {
            asked.subcommand(word, rest);
        }
    }
    asked
}

impl Asked {
    fn wrong(&mut self, option: &str, what: String) {
        self.problems.push(Problem {
            origin: Origin::CommandLine,
            option: option.to_owned(),
            what,
        });
    }

    fn subcommand(&mut self, word: &str, rest: &[String]) {
        let Some(known) = SUBCOMMANDS
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(word))
        else {
            let meant = nearest(word, SUBCOMMANDS.iter().map(|known| known.name));
            let meant = meant
                .map(|meant| format!("; did you mean {meant}?"))
                .unwrap_or_default();
            return self.wrong("", format!("{}: no such command{meant}", quoted(word)));
        };
        if known.name == "sink" {
            // It has a table of its own.
            return match sink::options::parse(rest) {
                Ok(asked) => self.command = Command::Sink(asked),
                Err(wrong) => wrong
                    .iter()
                    .for_each(|wrong| self.wrong("", format!("sink: {wrong}"))),
            };
        }
        if known.name == "queue" {
            return self.queue(rest);
        }
        if sendmail::NAMES.contains(&known.name) {
            // So do these, which others have drawn up.
            return match sendmail::options::parse(known.name, rest) {
                Ok(asked) => {
                    self.file = self.file.take().or_else(|| asked.config.clone());
                    self.command = Command::Sendmail(Box::new(asked));
                }
                Err(wrong) => self.wrong("", format!("{}: {wrong}", known.name)),
            };
        }
        let mut options = Options::new();
        options.optflagmulti("h", "help", "");
        if known.json {
            options.optflagmulti("", "json", "");
        }
        if known.name == "passwd" {
            options.optmulti("", "scheme", "", "");
        }
        if known.name == "verify" {
            options.optflagmulti("", "account", "");
        }
        if known.name == "trace" {
            options.optmulti("", "limit", "", "");
        }
        if known.name == "route" {
            options.optflagmulti("", "connect", "");
            options.optmulti("", "from", "", "");
        }
        if known.name == "doctor" {
            options.optmulti("", "to", "", "");
        }
        if known.name == "session" {
            options.optmulti("", "client", "", "");
            options.optmulti("", "front", "", "");
        }
        if known.name == "show" {
            options.optmulti("", "limit", "", "");
            options.optflagmulti("", "all", "");
        }
        let matches = match options.parse(rest) {
            Ok(matches) => matches,
            Err(fail) => return self.wrong("", behind(known, &fail)),
        };
        let mut words = matches.free.clone();
        if ["show", "trace"].contains(&known.name) && !words.is_empty() {
            // What follows the first words is the MTA's to understand.
            for limit in matches.opt_strs("limit") {
                words.extend(["--limit".to_owned(), limit]);
            }
            if known.name != "trace" && matches.opt_present("all") {
                words.push("--all".to_owned());
            }
        }
        if matches.opt_present("help") {
            self.command = Command::Help;
        } else if known.name == "passwd" {
            self.passwd(&matches.opt_strs("scheme"), &words);
        } else if known.name == "verify" {
            if let Some(word) = words.get(1) {
                self.wrong(
                    "",
                    format!("verify: {}: expected one folder at most", quoted(word)),
                );
            }
            self.command = Command::Verify {
                folder: words.first().map(PathBuf::from),
                account: matches.opt_present("account"),
                json: matches.opt_present("json"),
            };
        } else if known.name == "route" {
            self.route(&matches, &words);
        } else if known.name == "session" {
            self.session(&matches, &words);
        } else if known.name == "doctor" {
            self.doctor(&matches, &words);
        } else if words.is_empty() {
            let expected = known.words.replace('|', ", ");
            self.wrong("", format!("{}: expected {expected} behind it", known.name));
        } else if known.name == "backup" {
            if let Some(word) = words.get(1) {
                self.wrong("", format!("backup: {}: expected one folder", quoted(word)));
            }
            self.command = Command::Backup(PathBuf::from(&words[0]));
        } else if let Some(verb) = ["trace", "why"].into_iter().find(|verb| *verb == known.name) {
            self.command = Command::About {
                verb,
                words,
                json: matches.opt_present("json"),
            };
        } else if known.name == "show" {
            self.command = Command::Show {
                words,
                json: known.json && matches.opt_present("json"),
            };
        } else {
            self.command = Command::Tell(words);
        }
    }

    /// What follows the verb is understood by the grammar of the console, see `console/queue.rs`.
    fn queue(&mut self, words: &[String]) {
        if words.iter().any(|word| ["-h", "--help"].contains(&word.as_str())) {
            self.command = Command::Help;
            return;
        }
        let (json, words): (Vec<String>, Vec<String>) =
            words.iter().cloned().partition(|word| word == "--json");
        let verb = words.first().map(|verb| verb.to_ascii_lowercase());
        if !verb
            .as_deref()
            .is_some_and(|verb| flags::QUEUE_VERBS.contains(&verb))
        {
            return self.wrong("", flags::queue_verb_refused(verb.as_deref()));
        }
        let json = !json.is_empty();
        self.command = match verb.as_deref() {
            Some("show") => match letter(&words[1..]) {
                Some((id, part)) => Command::Letter { id, part, json },
                None => {
                    let expected =
                        "expected the ID of one message, and --body or --raw if more of it is wanted";
                    return self.wrong("", format!("queue show: {expected}"));
                }
            },
            Some("export") => match export::Asked::parse(&words[1..], json) {
                Ok(asked) => Command::Export(asked),
                Err(what) => return self.wrong("", what),
            },
            Some("import") => match &words[1..] {
                [file] if !file.is_empty() && !file.starts_with('-') => Command::Import(import::Asked {
                    file: PathBuf::from(file),
                    json,
                }),
                _ => return self.wrong("", "queue import: expected one file behind it".to_owned()),
            },
            _ => Command::Queue { words, json },
        };
    }

    fn route(&mut self, matches: &Matches, words: &[String]) {
        let not_an_address =
            |word: &str, wrong: PathError| format!("{}: expected an address: {wrong}", quoted(word));
        let [word] = words else {
            return self.wrong("", "route: expected one address behind it".to_owned());
        };
        let address = route::Asked::address(word).map_err(|wrong| not_an_address(word, wrong));
        let connect = matches.opt_present("connect");
        let from = match matches.opt_strs("from").as_slice() {
            [] => Ok(ReversePath::default()),
            [_] if !connect => Err("--from: expected --connect beside it".to_owned()),
            [word] => {
                route::Asked::sender(word).map_err(|wrong| format!("--from: {}", not_an_address(word, wrong)))
            }
            [_, again, ..] => Err(format!("--from: {}: expected once", quoted(again))),
        };
        match (address, from) {
            (Ok(address), Ok(from)) => {
                self.command = Command::Route(route::Asked {
                    address,
                    connect,
                    from,
                    json: matches.opt_present("json"),
                });
            }
            (address, from) => {
                let wrong = address.err().into_iter().chain(from.err());
                wrong.for_each(|what| self.wrong("", format!("route: {what}")));
            }
        }
    }

    fn session(&mut self, matches: &Matches, words: &[String]) {
        let mut asked = session::Asked::default();
        let mut wrong = |word: &str, what: &str| self.wrong("", format!("session: {}: {what}", quoted(word)));
        for word in words {
            wrong(word, "expected no word; the dialogue is read from standard input");
        }
        for option in ["client", "front"] {
            for again in matches.opt_strs(option).iter().skip(1) {
                wrong(again, &format!("expected --{option} once"));
            }
        }
        for word in matches.opt_strs("client") {
            match word.parse() {
                Ok(address) => asked.client = address,
                Err(_) => wrong(&word, "expected the IP address of a client behind --client"),
            }
        }
        for word in matches.opt_strs("front") {
            match session::Asked::FRONTS.iter().find(|(name, _)| *name == word) {
                Some((_, front)) => asked.front = *front,
                None => wrong(&word, "expected smtp, submission or submissions behind --front"),
            }
        }
        self.command = Command::Session(asked);
    }

    fn doctor(&mut self, matches: &Matches, words: &[String]) {
        let mut asked = doctor::Asked {
            json: matches.opt_present("json"),
            ..doctor::Asked::default()
        };
        for word in words {
            let what = "expected no word; --to DOMAIN says whose hosts to try";
            self.wrong("", format!("doctor: {}: {what}", quoted(word)));
        }
        for (word, n) in matches.opt_strs("to").iter().zip(0..) {
            match domain::addressed(word) {
                _ if n > 0 => self.wrong("", format!("doctor: --to: {}: expected once", quoted(word))),
                Ok(domain) => asked.to = Some(domain),
                Err(Expected(what)) => {
                    self.wrong("", format!("doctor: --to: {}: expected {what}", quoted(word)))
                }
            }
        }
        self.command = Command::Doctor(asked);
    }

    fn passwd(&mut self, schemes: &[String], words: &[String]) {
        if let Some((word, what)) = words.first().and_then(|word| Some((word, passwd::wrong(word)?))) {
            self.wrong("", format!("passwd: {}: {what}", quoted(word)));
        }
        if let Some(word) = words.get(1) {
            self.wrong(
                "",
                format!("passwd: {}: expected one address at most", quoted(word)),
            );
        }
        if let Some(again) = schemes.get(1) {
            self.wrong("", format!("passwd: --scheme: {}: expected once", quoted(again)));
        }
        let scheme = match schemes.first() {
            None => Scheme::default(),
            Some(word) => Scheme::from_word(word).unwrap_or_else(|| {
                let words = Scheme::WORDS.map(|(word, _)| word).join(", ");
                self.wrong(
                    "",
                    format!("passwd: --scheme: {}: expected {words}", quoted(word)),
                );
                Scheme::default()
            }),
        };
        self.command = Command::Passwd {
            scheme,
            address: words.first().cloned(),
        };
    }
}

/// Which message `queue show` shows, and what of it.
fn letter(words: &[String]) -> Option<(MessageId, Part)> {
    let (options, ids): (Vec<&str>, Vec<&str>) = words
        .iter()
        .map(String::as_str)
        .partition(|word| word.starts_with("--"));
    let part = match options.as_slice() {
        [] => Part::Header,
        ["--body"] => Part::Body,
        ["--raw"] => Part::Raw,
        _ => return None,
    };
    match ids.as_slice() {
        [id] => Some((id.parse().ok()?, part)),
        _ => None,
    }
}

/// What is wrong with an option behind a subcommand.
fn behind(known: &Subcommand, fail: &Fail) -> String {
    let (name, command) = (name_in(fail), known.name);
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    if let Fail::ArgumentMissing(_) = fail {
        return format!(
            "{command}: {dashes}{name}: expected a value ({}) behind it",
            name.to_uppercase()
        );
    }
    match flags::find(&name) {
        Some(_) => format!("{dashes}{name}: expected before {command}, not behind it"),
        None => format!(
            "{command}: {}: no such option",
            quoted(&format!("{dashes}{name}"))
        ),
    }
}

/// The table in the words of getopts. Every option may be repeated, so that we can say what is wrong with it.
fn table() -> Options {
    let mut options = Options::new();
    options.parsing_style(ParsingStyle::StopAtFirstFree);
    for option in flags::options() {
        let letter = option.short.map(String::from).unwrap_or_default();
        if option.kind.bare() {
            options.optflagmulti(&letter, option.name, "");
        } else {
            options.optmulti(&letter, option.name, "", "");
        }
    }
    options
}

/// Cuts the words apart. getopts gives up at the first wrong option: it is noted, taken out, and the rest is
/// tried again.
fn cut(options: &Options, args: &[String], problems: &mut Vec<Problem>) -> Option<Matches> {
    let mut args = args.to_vec();
    loop {
        let fail = match options.parse(&args) {
            Ok(matches) => return Some(matches),
            Err(fail) => fail,
        };
        let name = name_in(&fail);
        let option = flags::find(&name);
        let what = match (&fail, option) {
            (Fail::ArgumentMissing(_), Some(option)) => {
                format!("expected a value ({}) behind it", option.value)
            }
            (Fail::UnexpectedArgument(_), _) => "expected no value".to_owned(),
            _ => match nearest(&name, flags::options().map(|option| option.name)) {
                Some(meant) => format!("no such option; did you mean --{meant}?"),
                None => "no such option".to_owned(),
            },
        };
        problems.push(Problem {
            origin: Origin::CommandLine,
            option: name.clone(),
            what,
        });
        let culprit = args.iter().position(|arg| names(arg, &name))?;
        args.remove(culprit);
    }
}

/// Whether this word of the command line carries that option.
fn names(arg: &str, name: &str) -> bool {
    match (arg.strip_prefix("--"), arg.strip_prefix('-')) {
        (Some(long), _) => long.split('=').next() == Some(name),
        (None, Some(letters)) => name.chars().count() == 1 && letters.contains(name),
        (None, None) => false,
    }
}

fn name_in(fail: &Fail) -> String {
    match fail {
        Fail::ArgumentMissing(name)
        | Fail::UnrecognizedOption(name)
        | Fail::OptionMissing(name)
        | Fail::OptionDuplicated(name)
        | Fail::UnexpectedArgument(name) => name.clone(),
    }
}
