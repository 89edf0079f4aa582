//! What the operator may say behind `queue`: a verb, and what it is for: messages by their IDs, recipients that look so,
//! or both. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::command::{Command, Limit, MOST_ROWS, Refusal, USUAL_LIST, refuse, shown};
use crate::config::flags;
use crate::config::values::{address, duration, size};
use crate::domain_list::next_hop::NextHop;
use crate::work_queue::id::MessageId;
use crate::work_queue::states::State;
use crate::work_queue::{ByHand, Choice, ExportId, Order, Pattern, Retry, Sizes, Step};

/// Options that say what recipients look like.
const LOOKS: [&str; 8] = ["from", "to", "hop", "state", "older", "size", "subject", "error"];

/// The same, for people.
const LOOKS_SHOWN: &str = "--from, --to, --hop, --state, --older, --size, --subject or --error";

/// Ages that may be asked for.
const OLDEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Words that stand for several states, or for one that is mostly meant.
const STATE_WORDS: [(&str, &[State]); 3] = [
    ("pending", &[State::PendingConversion, State::PendingXmit]),
    ("locked", &[State::LockedForXmit]),
    ("converting", &[State::PendingConversion]),
];

/// What stands behind a verb.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    choice: Choice,
    limit: Option<usize>,
    all: bool,
    dry_run: bool,
    via: Option<Option<NextHop>>,
}

/// Understands the words behind `queue`, in small letters.
///
/// # Errors
/// A sentence that says what was expected.
pub(super) fn queue(words: &[&str]) -> Result<Command, Refusal> {
    match words {
        ["list", rest @ ..] => {
            let said = Said::behind("list", rest, &["limit"])?;
            Ok(Command::List(
                Box::new(said.choice),
                said.limit.unwrap_or(USUAL_LIST),
            ))
        }
        ["age", rest @ ..] => {
            let said = Said::behind("age", rest, &["limit", "all"])?;
            match (said.choice.is_of_everything(), said.all, said.limit) {
                (true, false, None) => Ok(Command::Age(Limit::Usual)),
                (true, false, Some(rows)) => Ok(Command::Age(Limit::Rows(rows))),
                (true, true, None) => Ok(Command::Age(Limit::All)),
                _ => refuse("queue age: expected --limit with a number, or --all, and nothing else"),
            }
        }
        ["retry", rest @ ..] => {
            let said = Said::behind("retry", rest, &["dry-run"])?;
            match said.dry_run {
                true => Ok(Command::Preview(Order::Retry, Box::new(said.choice))),
                false => Ok(Command::Retry(retry(said.choice))),
            }
        }
        ["show", ..] => Err(Refusal::Refused(
            "a message is shown by smtpmta queue show ID, which reads the work queue itself",
        )),
        ["route", rest @ ..] => {
            let said = Said::behind("route", rest, &["dry-run", "all", "via"])?;
            match said.via.clone() {
                Some(via) => said.by_hand("route", ByHand::Route(via)),
                None => refuse("queue route: expected --via HOST[:PORT], or --via none, behind it"),
            }
        }
        [verb, rest @ ..] => match by_hand_verb(verb) {
            Some(deed) => Said::behind(verb, rest, &["dry-run", "all"])?.by_hand(verb, deed),
            None => refuse(&flags::queue_verb_refused(Some(verb))),
        },
        [] => refuse(&flags::queue_verb_refused(None)),
    }
}

/// Understands a step of `queue export` or `queue import`: words that the command says, and nobody else. `words` are in
/// small letters, and `spelled` as they came.
///
/// # Errors
/// A sentence that says what was expected.
pub(super) fn step(words: &[&str], spelled: &[&str]) -> Result<Command, Refusal> {
    let id = |word: &str| match word.parse() {
        Ok(ExportId(id)) => Ok(ExportId(id)),
        Err(_) => refuse("queue export: expected the ID of an export"),
    };
    Ok(match words {
        ["export", "put-aside", export, file, rest @ ..] if !file.is_empty() => {
            let said = Said::behind("export", rest, &["all"])?;
            let file = PathBuf::from(spelled[3]);
            Command::Move(Step::PutAside(
                id(export)?,
                file,
                Box::new(said.chosen("export")?),
            ))
        }
        ["export", "preview", rest @ ..] => {
            let choice = Said::behind("export", rest, &["all"])?.chosen("export")?;
            let order = Order::ByHand(ByHand::PutAside(ExportId::default()));
            Command::Preview(order, Box::new(choice))
        }
        ["export", "seal", export] => Command::Move(Step::Seal(id(export)?, false)),
        ["export", "seal", export, "anyway"] => Command::Move(Step::Seal(id(export)?, true)),
        ["export", "end", export] => Command::Move(Step::End(id(export)?)),
        ["export", "cancel", export] => Command::Move(Step::Cancel(id(export)?)),
        ["import", "take", import, from] => match from.parse() {
            Ok(from) => Command::Move(Step::Take(id(import)?, from)),
            Err(_) => return refuse("queue import: expected a place in the file"),
        },
        _ => {
            return Err(Refusal::Refused(
                "mail is moved by smtpmta queue export and smtpmta queue import, which write and read the file themselves",
            ));
        }
    })
}

/// What the verb behind `queue` does to recipients, if it does that.
fn by_hand_verb(verb: &str) -> Option<ByHand> {
    Some(match verb {
        "hold" => ByHand::Hold,
        "bounce" => ByHand::Bounce,
        "release" => ByHand::Release,
        "delete" => ByHand::Delete,
        "undelete" => ByHand::Undelete,
        _ => return None,
    })
}

/// What is retried where these are chosen: next hops as such are let go, and not only what waits for them.
fn retry(choice: Choice) -> Retry {
    let hops = Choice {
        hops: choice.hops.clone(),
        ..Choice::default()
    };
    match (choice.is_of_everything(), choice.is_by_id()) {
        (true, _) => Retry::Everything,
        (_, true) => Retry::Messages(choice.ids),
        _ if choice == hops => Retry::Hops(choice.hops),
        _ => Retry::Chosen(choice),
    }
}

impl Said {
    /// Understands IDs, options that say what recipients look like, and those that the verb `takes` besides.
    fn behind(verb: &str, words: &[&str], takes: &[&str]) -> Result<Said, Refusal> {
        let mut said = Said::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                match word.parse::<MessageId>() {
                    Ok(id) => said.choice.ids.push(id),
                    Err(_) => {
                        return refuse(&format!(
                            "queue {verb}: {}: expected the ID of a message, or {LOOKS_SHOWN}",
                            shown(word)
                        ));
                    }
                }
                continue;
            };
            let (name, attached) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            if !takes.contains(&name) && !LOOKS.contains(&name) {
                return refuse(&format!("queue {verb}: {}", unknown(name)));
            }
            let wrong = |what: &str| refuse(&format!("queue {verb}: --{name}: {what}"));
            if ["all", "dry-run"].contains(&name) {
                match (name, attached) {
                    (_, Some(_)) => return wrong("expected no value"),
                    ("all", None) => said.all = true,
                    (_, None) => said.dry_run = true,
                }
                continue;
            }
            let value = match attached.or_else(|| words.next()) {
                Some("") | None => return wrong("expected a value behind it"),
                Some(value) => value,
            };
            if let Err(expected) = said.take(name, value) {
                return wrong(&format!("{}: {expected}", shown(value)));
            }
        }
        Ok(said)
    }

    /// Takes an option that has a value. What was expected, if it is not that.
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let pattern = || {
            let expected = "expected an address, @DOMAIN, <>, or one of these with * for any text";
            Pattern::of(value).ok_or_else(|| expected.to_owned())
        };
        let choice = &mut self.choice;
        match name {
            "from" => once(&mut choice.sender, pattern()?),
            "to" => once(&mut choice.recipient, pattern()?),
            "hop" => {
                choice.hops.push(value.to_owned());
                Ok(())
            }
            "state" => {
                choice.states.extend(states(value)?);
                Ok(())
            }
            "older" => {
                let age = duration::parse(value, Duration::ZERO, OLDEST).map_err(|e| e.to_string())?;
                once(&mut choice.older, age)
            }
            "size" => once(&mut choice.size, sizes(value)?),
            "subject" => once(&mut choice.subject, value.to_owned()),
            "error" => once(&mut choice.error, value.to_owned()),
            "via" => once(&mut self.via, via(value)?),
            _ => match value.parse() {
                Ok(rows) if (1..=MOST_ROWS).contains(&rows) => once(&mut self.limit, rows),
                _ => Err(format!("expected a number from 1 to {MOST_ROWS}")),
            },
        }
    }

    /// This is to be done to what is chosen, or shown.
    fn by_hand(&self, verb: &str, deed: ByHand) -> Result<Command, Refusal> {
        let choice = Box::new(self.chosen(verb)?);
        Ok(match self.dry_run {
            true => Command::Preview(Order::ByHand(deed), choice),
            false => Command::ByHand(deed, choice),
        })
    }

    /// What is chosen; never everything unless that is said.
    fn chosen(&self, verb: &str) -> Result<Choice, Refusal> {
        match (self.choice.is_of_everything(), self.all) {
            (true, false) => refuse(&format!(
                "queue {verb}: expected IDs of messages behind it, or {LOOKS_SHOWN}, or --all"
            )),
            (false, true) => refuse(&format!(
                "queue {verb}: --all: expected nothing that says less beside it"
            )),
            _ => Ok(self.choice.clone()),
        }
    }
}

/// What is wrong with this option.
fn unknown(name: &str) -> String {
    match flags::find(name) {
        Some(option) => format!("--{}: expected before queue, not behind it", option.name),
        None => format!("{}: no such option", shown(&format!("--{name}"))),
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("expected once".to_owned()),
    }
}

/// Where mail is to be led; `None` is no longer.
fn via(word: &str) -> Result<Option<NextHop>, String> {
    match word {
        "none" => Ok(None),
        host => address::next_hop(host)
            .map(Some)
            .map_err(|expected| format!("{expected}, or none")),
    }
}

/// The states that a word stands for: a name, with or without its first letters, or one of [`STATE_WORDS`].
fn states(word: &str) -> Result<Vec<State>, String> {
    if let Some((_, states)) = STATE_WORDS.iter().find(|(name, _)| *name == word) {
        return Ok(states.to_vec());
    }
    let named = |state: &State| {
        let name = state.to_string().to_ascii_lowercase();
        name == word || name.strip_prefix("wq_") == Some(word)
    };
    match State::ALL.into_iter().find(named) {
        Some(state) => Ok(vec![state]),
        None => {
            let names = State::ALL.map(|state| state.to_string()).join(", ");
            Err(format!("expected pending, locked, or one of {names}"))
        }
    }
}

/// `1M` and `1M-` are so many octets at least, `-10K` so many at most, `10K-1M` what lies between.
fn sizes(word: &str) -> Result<Sizes, String> {
    let expected = || "expected a size at least, such as 1M, or at most, -10K, or both, 10K-1M".to_owned();
    let octets = |text: &str, otherwise| match text {
        "" => Ok(otherwise),
        text => size::parse(text, 0, u64::MAX).map_err(|_| expected()),
    };
    let (least, most) = word.split_once('-').unwrap_or((word, ""));
    let sizes = Sizes {
        least: octets(least, 0)?,
        most: octets(most, u64::MAX)?,
    };
    match word == "-" || sizes.least > sizes.most {
        true => Err(expected()),
        false => Ok(sizes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId(0x0003_8D7E_A4C6_8000);

    fn parse(line: &str) -> Result<Command, String> {
        let words = shlex::split(line).unwrap();
        Command::parse(&words).map_err(|refusal| {
            assert!(matches!(refusal, Refusal::Usage(_)), "{line}");
            refusal.to_string()
        })
    }

    fn listed(line: &str) -> Choice {
        match parse(line).unwrap() {
            Command::List(choice, USUAL_LIST) => *choice,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_listed_may_be_said_in_many_ways_at_once() {
        let choice = listed(
            "queue list --from @a.example --TO='Ann@B.example' --hop c.example --hop [::1]:25 --state held \
             --state WQ_DEAD --older 4h --size 10k-1m --subject 'Two Words' --error=greylist 00038d7ea4c68000",
        );
        let said = Choice {
            ids: vec![ID],
            sender: Pattern::of("@a.example"),
            recipient: Pattern::of("ann@b.example"),
            hops: vec!["c.example".to_owned(), "[::1]:25".to_owned()],
            states: vec![State::Held, State::Dead],
            older: Some(Duration::from_secs(4 * 3600)),
            size: Some(Sizes {
                least: 10 << 10,
                most: 1 << 20,
            }),
            subject: Some("two words".to_owned()),
            error: Some("greylist".to_owned()),
        };
        assert_eq!(choice, said);
        assert_eq!(listed("queue list"), Choice::default());
        let rows = Command::List(Box::default(), 7);
        assert_eq!(parse("queue list --limit=7"), Ok(rows));
    }

    #[test]
    fn a_state_is_its_name_or_a_word_for_it() {
        for (word, states) in [
            ("pending", vec![State::PendingConversion, State::PendingXmit]),
            ("pending_xmit", vec![State::PendingXmit]),
            ("wq_msg_locked_for_xmit", vec![State::LockedForXmit]),
            ("locked", vec![State::LockedForXmit]),
            ("removed", vec![State::Removed]),
        ] {
            assert_eq!(
                listed(&format!("queue list --state {word}")).states,
                states,
                "{word}"
            );
        }
    }

    #[test]
    fn a_size_is_at_least_at_most_or_between() {
        for (word, least, most) in [
            ("1000", 1000, u64::MAX),
            ("1k-", 1024, u64::MAX),
            ("-1K", 0, 1024),
            ("1k-1k", 1024, 1024),
        ] {
            let size = listed(&format!("queue list --size {word}")).size;
            assert_eq!(size, Some(Sizes { least, most }), "{word}");
        }
    }

    #[test]
    fn queue_retry_is_for_next_hops_or_messages_or_everything_or_what_looks_so() {
        let retry = |line: &str| match parse(line).unwrap() {
            Command::Retry(retry) => retry,
            other => panic!("{line}: {other:?}"),
        };
        let hops = |names: &[&str]| Retry::Hops(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(retry("queue retry"), Retry::Everything);
        assert_eq!(retry("queue retry --hop Example.ORG"), hops(&["example.org"]));
        assert_eq!(retry("Queue Retry --hop=LMTP:/run/A"), hops(&["lmtp:/run/A"]));
        assert_eq!(
            retry("QUEUE RETRY --hop=a.example --hop [::1]:25"),
            hops(&["a.example", "[::1]:25"])
        );
        assert_eq!(retry("queue retry 00038D7EA4C68000"), Retry::Messages(vec![ID]));
        let both = Choice {
            ids: vec![ID],
            hops: vec!["a".to_owned()],
            ..Choice::default()
        };
        assert_eq!(retry("queue retry --hop a 00038D7EA4C68000"), Retry::Chosen(both));
    }

    #[test]
    fn what_is_done_by_hand_is_done_to_those_that_are_chosen_and_to_no_others() {
        for (verb, deed) in [
            ("hold", ByHand::Hold),
            ("bounce", ByHand::Bounce),
            ("RELEASE", ByHand::Release),
            ("delete", ByHand::Delete),
            ("undelete", ByHand::Undelete),
        ] {
            let by_id = Box::new(Choice::of_messages(vec![ID, ID]));
            assert_eq!(
                parse(&format!("queue {verb} 00038D7EA4C68000 00038d7ea4c68000")),
                Ok(Command::ByHand(deed.clone(), by_id))
            );
            let from = Choice {
                sender: Pattern::of("<>"),
                ..Choice::default()
            };
            assert_eq!(
                parse(&format!("queue {verb} --dry-run --from '<>'")),
                Ok(Command::Preview(Order::ByHand(deed.clone()), Box::new(from)))
            );
            assert_eq!(
                parse(&format!("queue {verb} --all")),
                Ok(Command::ByHand(deed, Box::default()))
            );
            let refused = parse(&format!("queue {verb}")).unwrap_err();
            assert!(refused.ends_with("or --error, or --all"), "{refused}");
            let refused = parse(&format!("queue {verb} --dry-run")).unwrap_err();
            assert!(refused.contains("expected IDs of messages"), "{refused}");
            let refused = parse(&format!("queue {verb} --all --to a")).unwrap_err();
            assert!(refused.contains("nothing that says less"), "{refused}");
        }
    }

    #[test]
    fn queue_route_says_whose_mail_goes_where_or_no_longer_does() {
        let host = |name: &str, port| Some(NextHop::Host(name.to_owned(), port));
        for (via, goes) in [
            ("--via Relay2.example", host("relay2.example", 25)),
            ("--via=[2001:DB8::1]:2525", host("2001:db8::1", 2525)),
            ("--via NONE", None),
        ] {
            let hop = Choice {
                hops: vec!["old.example".to_owned()],
                ..Choice::default()
            };
            let route = ByHand::Route(goes);
            assert_eq!(
                parse(&format!("queue route --hop old.example {via}")),
                Ok(Command::ByHand(route.clone(), Box::new(hop)))
            );
            let by_id = Box::new(Choice::of_messages(vec![ID]));
            assert_eq!(
                parse(&format!("queue route {via} --dry-run 00038D7EA4C68000")),
                Ok(Command::Preview(Order::ByHand(route), by_id))
            );
        }
        for (line, refusal) in [
            ("--all", "expected --via HOST[:PORT], or --via none, behind it"),
            (
                "--via x",
                "expected IDs of messages behind it, or --from, --to, --hop, --state, --older, --size, --subject or \
                 --error, or --all",
            ),
            (
                "--all --via a:b",
                "--via: a:b: expected HOST or HOST:PORT, such as mail.example.org:25, 192.0.2.1 or [2001:db8::1]:25, \
                 or none",
            ),
            ("--all --via a --via b", "--via: b: expected once"),
        ] {
            let said = Err(format!("queue route: {refusal}"));
            assert_eq!(parse(&format!("queue route {line}")), said);
        }
        assert_eq!(
            parse("queue hold --all --via x"),
            Err("queue hold: --via: no such option".to_owned())
        );
    }

    #[test]
    fn what_is_wrong_behind_a_verb_is_said() {
        for (line, refusal) in [
            (
                "queue retry x",
                "queue retry: x: expected the ID of a message, or --from, --to, --hop, --state, --older, --size, \
                 --subject or --error",
            ),
            (
                "queue retry --hop",
                "queue retry: --hop: expected a value behind it",
            ),
            (
                "queue list --limit 0",
                "queue list: --limit: 0: expected a number from 1 to 10000",
            ),
            (
                "queue list --limit 5 --limit 6",
                "queue list: --limit: 6: expected once",
            ),
            ("queue list --all", "queue list: --all: no such option"),
            (
                "queue list --spool /q",
                "queue list: --spool: expected before queue, not behind it",
            ),
            (
                "queue hold --dry-run=no --all",
                "queue hold: --dry-run: expected no value",
            ),
            (
                "queue list --size 2m-1m",
                "queue list: --size: 2m-1m: expected a size at least, such as 1M, or at most, -10K, or both, 10K-1M",
            ),
            (
                "queue age --to a",
                "queue age: expected --limit with a number, or --all, and nothing else",
            ),
        ] {
            assert_eq!(parse(line), Err(refusal.to_owned()), "{line}");
        }
        for line in [
            "queue list --state x",
            "queue list --older soon",
            "queue list --size -",
        ] {
            assert!(parse(line).unwrap_err().contains("expected "), "{line}");
        }
    }
}
