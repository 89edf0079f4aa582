//! What the operator may say: the grammar of the console, in the seed's words. Pure.

use std::fmt;

use super::queue::{queue, step};
use crate::config::exit::Exit;
use crate::tasks::Task;
use crate::work_queue::id::MessageId;
use crate::work_queue::{ByHand, Choice, Order, Retry, Step};

/// A command, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `show …`, with at most so many rows.
    Show(What, Limit),
    /// `tell smtpmta quit`.
    Quit,
    /// `tell smtpmta start …`.
    Start(Part),
    /// `tell smtpmta stop …`.
    Stop(Part),
    /// `tell smtpmta refresh`.
    Refresh,
    /// `tell smtpmta housekeeping`.
    Housekeeping,
    /// `show hop NAME`: one next hop, and what would become of mail for it.
    Hop(String),
    /// `queue retry …`.
    Retry(Retry),
    /// `queue hold`, `bounce`, `release`, `delete`, `undelete` or `route`, of these.
    ByHand(ByHand, Box<Choice>),
    /// `--dry-run`: what this would do to these.
    Preview(Order, Box<Choice>),
    /// A step of `queue export` or `queue import`, which take them by way of the MTA.
    Move(Step),
    /// `queue list` of these, with at most so many rows.
    List(Box<Choice>, usize),
    /// `queue age`, with at most so many rows.
    Age(Limit),
    /// `trace ID`.
    Trace(MessageId),
    /// `trace` of the last messages, so many, that have to do with an address or a Message-ID.
    Find(String, usize),
    /// `why ID`.
    Why(MessageId),
}

/// How many rows an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many as a screen is good for.
    Usual,
    /// So many: `--limit`.
    Rows(usize),
    /// All of them: `--all`.
    All,
}

impl Limit {
    /// The number of rows, where `usual` is the usual one.
    #[must_use]
    pub fn rows(self, usual: usize) -> usize {
        match self {
            Limit::Usual => usual,
            Limit::Rows(rows) => rows,
            Limit::All => usize::MAX >> 1,
        }
    }
}

/// Messages that `trace` tells of unless `--limit` says how many.
pub const USUAL_TRACES: usize = 10;

/// Rows of `queue list` unless `--limit` says how many.
pub const USUAL_LIST: usize = 100;

/// The most that `--limit` may ask for: the answer is put together in memory.
pub const MOST_ROWS: usize = 10_000;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The tasks, and what each is doing.
    Tasks,
    /// Every option and its value.
    Config,
    /// The counters of the delivery report task.
    Stat,
    /// The version.
    Version,
    /// The work queue by next hop.
    Queue,
    /// The domain lists.
    Lists,
    /// The next hops.
    Hops,
}

impl What {
    /// All of them, by the word that asks for each.
    pub const ALL: [(&'static str, What); 7] = [
        ("tasks", What::Tasks),
        ("config", What::Config),
        ("stat", What::Stat),
        ("version", What::Version),
        ("queue", What::Queue),
        ("lists", What::Lists),
        ("hops", What::Hops),
    ];
}

/// What can be started and stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All tasks but the add-in task.
    All,
    /// isesctl and imsgcnv.
    Inbound,
    /// osesctl and omsgcnv.
    Outbound,
    /// isesctl and its handlers.
    InboundTransport,
    /// imsgcnv.
    InboundConversion,
    /// osesctl and its handlers.
    OutboundTransport,
    /// omsgcnv.
    OutboundConversion,
    /// drt.
    DrTask,
}

impl Part {
    /// The tasks that it consists of, in the order in which they start.
    #[must_use]
    pub fn members(self) -> &'static [Part] {
        match self {
            Part::All => &[
                Part::OutboundConversion,
                Part::OutboundTransport,
                Part::InboundTransport,
                Part::InboundConversion,
                Part::DrTask,
            ],
            Part::Inbound => &[Part::InboundTransport, Part::InboundConversion],
            Part::Outbound => &[Part::OutboundConversion, Part::OutboundTransport],
            Part::InboundTransport => &[Part::InboundTransport],
            Part::InboundConversion => &[Part::InboundConversion],
            Part::OutboundTransport => &[Part::OutboundTransport],
            Part::OutboundConversion => &[Part::OutboundConversion],
            Part::DrTask => &[Part::DrTask],
        }
    }

    /// The task that it is, if it is one.
    #[must_use]
    pub fn task(self) -> Option<Task> {
        match self {
            Part::All | Part::Inbound | Part::Outbound => None,
            Part::InboundTransport => Some(Task::InboundController),
            Part::InboundConversion => Some(Task::InboundConversion),
            Part::OutboundTransport => Some(Task::OutboundController),
            Part::OutboundConversion => Some(Task::OutboundConversion),
            Part::DrTask => Some(Task::DeliveryReport),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task() {
            Some(task) => task.fmt(f),
            None => write!(f, "{self:?}"),
        }
    }
}

/// Why a command is not obeyed: a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was not understood.
    Usage(String),
    /// It was, and can not be done.
    Refused(&'static str),
}

impl Refusal {
    /// The exit status that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Refusal::Usage(_) => Exit::Usage,
            Refusal::Refused(_) => Exit::Refused,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Usage(text) => text,
            Refusal::Refused(text) => text,
        })
    }
}

impl Command {
    /// Understands the words of a command, in any case: `show tasks`, `tell smtpmta stop inbound transport`,
    /// with or without `smtpmta`; and at the console itself `quit`, `start …`, `stop …` without `tell`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Command, Refusal> {
        let spelled: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let words: Vec<String> = spelled.iter().map(|word| in_lower_case(word)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["queue", "export" | "import", ..] => step(&words[1..], &spelled[1..]),
            ["tell", "smtpmta", rest @ ..] | ["tell", rest @ ..] => told(rest),
            ["load", "smtpmta"] => Err(Refusal::Refused("SMTPMTA is loaded already")),
            rest => told(rest),
        }
    }
}

/// The word in lower case, but for the path of an LMTP server's socket, which is as it is.
fn in_lower_case(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    match lower.find("lmtp:/") {
        Some(at) => {
            let path = at + "lmtp:".len();
            lower[..path].to_owned() + &word[path..]
        }
        None => lower,
    }
}

fn told(words: &[&str]) -> Result<Command, Refusal> {
    if words.iter().any(|word| is_handler(word)) {
        return Err(Refusal::Refused(
            "a session handler can not be stopped or started by TELL: its controller does that \
             (TELL SMTPMTA STOP INBOUND TRANSPORT, TELL SMTPMTA STOP OUTBOUND TRANSPORT)",
        ));
    }
    match words {
        ["quit" | "exit"] => Ok(Command::Quit),
        ["queue", verb @ ..] => queue(verb),
        ["trace", rest @ ..] => trace(rest),
        ["why", id] => match id.parse() {
            Ok(id) => Ok(Command::Why(id)),
            Err(_) => refuse(&format!("why: {}: expected the ID of a message", shown(id))),
        },
        ["why", ..] => refuse("why: expected the ID of one message behind it"),
        ["refresh"] => Ok(Command::Refresh),
        ["housekeeping"] => Ok(Command::Housekeeping),
        ["start", part @ ..] => part_named(part).map(Command::Start),
        ["stop", part @ ..] => part_named(part).map(Command::Stop),
        // An address literal is known by its own spelling (RFC 5321 4.1.3).
        ["show", "hop", name] => Ok(Command::Hop(name.replace("[ipv6:", "[IPv6:"))),
        ["show", what, limit @ ..] => match What::ALL.iter().find(|(name, _)| name == what) {
            Some((_, what)) => show(*what, limit),
            None => refuse(&format!("show {}: expected one of {}", shown(what), names())),
        },
        ["show"] => refuse(&format!("show: expected one of {}", names())),
        ["refresh" | "housekeeping" | "quit" | "exit", .., extra] => {
            refuse(&format!("{}: expected nothing more", shown(extra)))
        }
        [] => refuse("expected a command: show, start, stop, refresh, housekeeping, queue, trace, why, quit"),
        [word, ..] => refuse(&format!(
            "{}: not a command; expected show, start, stop, refresh, housekeeping, queue, trace, why or quit",
            shown(word)
        )),
    }
}

/// `show WHAT`; where there may be many rows, with `--limit N` or `--all`.
fn show(what: What, words: &[&str]) -> Result<Command, Refusal> {
    let may_be_long = matches!(what, What::Queue | What::Lists | What::Hops);
    match words {
        [] => Ok(Command::Show(what, Limit::Usual)),
        ["--all"] if may_be_long => Ok(Command::Show(what, Limit::All)),
        words if may_be_long => limit("show", words).map(|rows| Command::Show(what, Limit::Rows(rows))),
        [extra, ..] => refuse(&format!("{}: expected nothing more", shown(extra))),
    }
}

/// `--limit N`, or `--limit=N`.
fn limit(command: &str, words: &[&str]) -> Result<usize, Refusal> {
    let number = match words {
        ["--limit", number] => number,
        [word] => word.strip_prefix("--limit=").unwrap_or_default(),
        _ => "",
    };
    match number.parse() {
        Ok(rows) if (1..=MOST_ROWS).contains(&rows) => Ok(rows),
        _ => refuse(&format!(
            "{command}: {}: expected --limit with a number from 1 to {MOST_ROWS}{}",
            shown(&words.join(" ")),
            if command == "show" { ", or --all" } else { "" }
        )),
    }
}

/// `trace`, with an ID, an address or a Message-ID; of the latter two perhaps with `--limit N`.
fn trace(words: &[&str]) -> Result<Command, Refusal> {
    match words {
        [] => refuse("trace: expected the ID of a message, an address or a Message-ID behind it"),
        [what] => Ok(match what.parse() {
            Ok(id) => Command::Trace(id),
            Err(_) => Command::Find((*what).to_owned(), USUAL_TRACES),
        }),
        [what, rest @ ..] => limit("trace", rest).map(|rows| Command::Find((*what).to_owned(), rows)),
    }
}

fn part_named(words: &[&str]) -> Result<Part, Refusal> {
    match words {
        [] => Ok(Part::All),
        ["inbound"] => Ok(Part::Inbound),
        ["outbound"] => Ok(Part::Outbound),
        ["inbound", "transport"] => Ok(Part::InboundTransport),
        ["inbound", "conversion"] => Ok(Part::InboundConversion),
        ["outbound", "transport"] => Ok(Part::OutboundTransport),
        ["outbound", "conversion"] => Ok(Part::OutboundConversion),
        ["drtask" | "drt"] => Ok(Part::DrTask),
        [word, ..] => refuse(&format!(
            "{}: expected inbound or outbound, with transport or conversion after it or alone, or drtask",
            shown(word)
        )),
    }
}

fn is_handler(word: &str) -> bool {
    let number = word
        .strip_prefix("iseshlr")
        .or_else(|| word.strip_prefix("oseshlr"));
    number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// A word of the operator's, short and clean enough to be shown.
pub(super) fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn names() -> String {
    What::ALL.map(|(name, _)| name).join(", ")
}

pub(super) fn refuse<T>(text: &str) -> Result<T, Refusal> {
    Err(Refusal::Usage(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Refusal> {
        Command::parse(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn one_next_hop_is_named_as_the_queue_spells_it() {
        let hop = |name: &str| Ok(Command::Hop(name.to_owned()));
        assert_eq!(parse("show hop Example.ORG"), hop("example.org"));
        assert_eq!(parse("show hop [IPv6:2001:db8::1]"), hop("[IPv6:2001:db8::1]"));
        assert!(parse("show hop").is_err() && parse("show hop a b").is_err());
    }

    #[test]
    fn commands_are_understood_in_any_case_and_with_or_without_the_name_of_the_mta() {
        for line in [
            "tell smtpmta stop outbound transport",
            "TELL SMTPMTA STOP OUTBOUND TRANSPORT",
            "Tell Stop Outbound Transport",
            "stop outbound transport",
        ] {
            assert_eq!(parse(line), Ok(Command::Stop(Part::OutboundTransport)), "{line}");
        }
        assert_eq!(parse("tell smtpmta start"), Ok(Command::Start(Part::All)));
        assert_eq!(parse("TELL SMTPMTA STOP DRTASK"), Ok(Command::Stop(Part::DrTask)));
        assert_eq!(
            parse("tell show config"),
            Ok(Command::Show(What::Config, Limit::Usual))
        );
        assert_eq!(parse("show tasks"), Ok(Command::Show(What::Tasks, Limit::Usual)));
        assert_eq!(parse("tell smtpmta quit"), Ok(Command::Quit));
    }

    #[test]
    fn a_handler_can_not_be_stopped_and_the_refusal_says_who_can() {
        for line in [
            "tell smtpmta stop oseshlr0",
            "tell iseshlr12 quit",
            "stop OSESHLR3",
        ] {
            let refusal = parse(line).unwrap_err();
            assert!(
                refusal.to_string().contains("its controller"),
                "{line}: {refusal}"
            );
        }
    }

    #[test]
    fn a_message_is_traced_by_its_id_and_found_by_an_address_or_its_message_id() {
        let id = MessageId(0x0003_8D7E_A4C6_8000);
        let find = |what: &str, rows| Ok(Command::Find(what.to_owned(), rows));
        assert_eq!(parse("trace 00038D7EA4C68000"), Ok(Command::Trace(id)));
        assert_eq!(parse("why 00038d7ea4c68000"), Ok(Command::Why(id)));
        assert_eq!(parse("trace Ann@B.example"), find("ann@b.example", USUAL_TRACES));
        assert_eq!(parse("trace <1@b.example> --limit 3"), find("<1@b.example>", 3));
        for (line, refusal) in [
            (
                "trace",
                "trace: expected the ID of a message, an address or a Message-ID behind it",
            ),
            (
                "trace a b",
                "trace: b: expected --limit with a number from 1 to 10000",
            ),
            ("why", "why: expected the ID of one message behind it"),
            ("why x", "why: x: expected the ID of a message"),
        ] {
            assert_eq!(parse(line), Err(Refusal::Usage(refusal.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_may_be_long_takes_a_limit() {
        for (line, command) in [
            ("show queue", Command::Show(What::Queue, Limit::Usual)),
            ("show queue --limit 5", Command::Show(What::Queue, Limit::Rows(5))),
            (
                "TELL SMTPMTA SHOW HOPS --LIMIT=5",
                Command::Show(What::Hops, Limit::Rows(5)),
            ),
            ("show lists --all", Command::Show(What::Lists, Limit::All)),
            ("queue age", Command::Age(Limit::Usual)),
            ("queue age --all", Command::Age(Limit::All)),
            ("queue age --limit 7", Command::Age(Limit::Rows(7))),
            ("queue list", Command::List(Box::default(), USUAL_LIST)),
            ("queue list --limit 10000", Command::List(Box::default(), 10_000)),
            ("queue list --limit=1", Command::List(Box::default(), 1)),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
        for (line, refusal) in [
            ("show tasks --all", "--all: expected nothing more"),
            (
                "show queue --limit",
                "show: --limit: expected --limit with a number from 1 to 10000, or --all",
            ),
            (
                "show queue --limit 0",
                "show: --limit 0: expected --limit with a number from 1 to 10000, or --all",
            ),
        ] {
            assert_eq!(parse(line), Err(Refusal::Usage(refusal.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_gets_a_sentence_that_says_what_was_expected() {
        for line in [
            "",
            "tell",
            "show",
            "show me",
            "tell smtpmta dance",
            "stop sideways",
            "stop inbound x",
        ] {
            let refusal = parse(line).unwrap_err();
            assert!(refusal.to_string().contains("expected"), "{line}: {refusal}");
        }
    }
}
