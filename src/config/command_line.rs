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
use crate::accounts::passwd;
use crate::accounts::scheme::Scheme;
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
        if !known.available {
            let name = known.name;
            return self.wrong(
                "",
                format!("{name}: this command is not available in this version"),
            );
        }
        if known.name == "sink" {
            // It has a table of its own.
            return match sink::options::parse(rest) {
                Ok(asked) => self.command = Command::Sink(asked),
                Err(wrong) => wrong
                    .iter()
                    .for_each(|wrong| self.wrong("", format!("sink: {wrong}"))),
            };
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
        if known.name == "queue" {
            options.optmulti("", "hop", "", "");
        }
        if known.name == "verify" {
            options.optflagmulti("", "account", "");
        }
        if known.name == "trace" {
            options.optmulti("", "limit", "", "");
        }
        if ["queue", "show"].contains(&known.name) {
            options.optmulti("", "limit", "", "");
            options.optflagmulti("", "all", "");
        }
        let matches = match options.parse(rest) {
            Ok(matches) => matches,
            Err(fail) => return self.wrong("", behind(known, &fail)),
        };
        let mut words = matches.free.clone();
        if ["queue", "show", "trace"].contains(&known.name) && !words.is_empty() {
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
        } else if known.name == "queue" {
            self.queue(words, &matches.opt_strs("hop"), matches.opt_present("json"));
        } else if words.is_empty() {
            let expected = known.words.replace('|', ", ");
            self.wrong("", format!("{}: expected {expected} behind it", known.name));
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

    fn queue(&mut self, mut words: Vec<String>, hops: &[String], json: bool) {
        for hop in hops {
            words.extend(["--hop".to_owned(), hop.clone()]);
        }
        // What follows the verb is the MTA's to understand.
        let verb = words.first().map(|verb| verb.to_ascii_lowercase());
        if !verb.as_deref().is_some_and(flags::has_queue_verb) {
            self.wrong("", flags::queue_verb_refused(verb.as_deref()));
        }
        self.command = Command::Queue { words, json };
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
