//! What `verify` prints of a work queue that it has looked through. Pure: facts in, text out.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::screen::{Screen, Table, clean};
use crate::work_queue::states::State;
use crate::work_queue::{Account, Entry, Finding, Verdict};

/// A line for each finding, then what was looked at, and the account if there is one.
#[must_use]
pub fn verdict(verdict: &Verdict) -> Screen {
    let mut text = String::new();
    for finding in &verdict.findings {
        let Finding { kind, place, what } = finding;
        let note = if kind.is_harmless() { "note: " } else { "" };
        let (place, what) = (clean(place), clean(what));
        let _ = writeln!(text, "{note}{place}: {what}; {}", kind.advice());
    }
    for (kind, more) in &verdict.more {
        let _ = writeln!(text, "and {more} more of the kind {}", kind.word());
    }
    let Verdict {
        messages,
        in_queue,
        recipients,
        next_hops,
        ..
    } = verdict;
    let order = if verdict.is_in_order() {
        "in order"
    } else {
        "not in order"
    };
    let _ = writeln!(
        text,
        "{messages} messages, {in_queue} of them in the queue, {recipients} recipients, {next_hops} next hops: {order}"
    );
    if let Some(account) = &verdict.account {
        text += &table(account);
        for sentence in sentences(account) {
            text += &sentence;
            text.push('\n');
        }
    }
    Screen {
        text,
        json: json!({
            "in_order": verdict.is_in_order(), "messages": messages, "in_queue": in_queue,
            "recipients": recipients, "next_hops": next_hops,
            "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
            "more": verdict.more.iter().map(|(kind, more)| (kind.word().to_owned(), json!(more)))
                .collect::<serde_json::Map<_, _>>(),
            "account": verdict.account.as_ref().map(entries),
        }),
    }
}

fn finding(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.word(), "place": finding.place, "what": finding.what,
        "advice": finding.kind.advice(), "harmless": finding.kind.is_harmless(),
    })
}

/// The name of an entry.
fn name(entry: Entry) -> &'static str {
    match entry {
        Entry::Accepted => "accepted",
        Entry::OfAliases => "came of aliases",
        Entry::End(State::Delivered) => "delivered",
        Entry::End(State::Transmitted) => "transmitted",
        Entry::End(State::Expanded) => "expanded",
        Entry::End(State::Failed) => "failed",
        Entry::End(_) => "removed",
    }
}

/// What is in the queue, by its name.
fn here(account: &Account) -> [(&'static str, i64); 3] {
    [
        ("waiting", account.waiting),
        ("held", account.held),
        ("dead", account.dead),
    ]
}

fn table(account: &Account) -> String {
    let mut table = Table::new(["Recipients", "Database", "Counters"]);
    for line in &account.lines {
        table.add([
            name(line.entry).to_owned(),
            line.rows.to_string(),
            line.counted.to_string(),
        ]);
    }
    for (name, count) in here(account) {
        table.add([name.to_owned(), count.to_string(), String::new()]);
    }
    let (rows, counted) = account.missing();
    table.add(["missing".to_owned(), rows.to_string(), counted.to_string()]);
    table.text("")
}

fn sentences(account: &Account) -> Vec<String> {
    let mut told = Vec::new();
    told.push(match account.missing().0 {
        0 => "The account balances.".to_owned(),
        missing if missing > 0 => {
            format!("The account does not balance: {missing} recipients came in of which nothing is known.")
        }
        more => format!(
            "The account does not balance: there are {} more than came in.",
            more.saturating_neg()
        ),
    });
    if account.forgotten > 0 {
        told.push(format!(
            "Housekeeping has forgotten {} of those that came in: they are known by their sums.",
            account.forgotten
        ));
    }
    if !account.counters_agree() {
        told.push(match (account.crashes, account.is_open) {
            (1.., _) => format!(
                "The counters lack what was counted in the last second before each of {} crashes.",
                account.crashes
            ),
            (_, true) => {
                "The MTA runs, or did not end in good order: the counters on the disk are up to a second behind."
                    .to_owned()
            }
            _ => "The counters do not say what the database says, and nothing is known that explains it.".to_owned(),
        });
    }
    told
}

fn entries(account: &Account) -> Value {
    let lines = account.lines.iter().map(|line| {
        let name = name(line.entry).replace(' ', "_");
        (name, json!({ "database": line.rows, "counters": line.counted }))
    });
    let here = here(account)
        .into_iter()
        .map(|(name, count)| (name.to_owned(), json!(count)));
    let mut entries: serde_json::Map<String, Value> = lines.chain(here).collect();
    let (rows, counted) = account.missing();
    entries.insert(
        "missing".to_owned(),
        json!({ "database": rows, "counters": counted }),
    );
    entries.insert("forgotten".to_owned(), json!(account.forgotten));
    entries.insert("crashes".to_owned(), json!(account.crashes));
    entries.insert("balances".to_owned(), json!(account.balances()));
    entries.insert("counters_agree".to_owned(), json!(account.counters_agree()));
    Value::Object(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work_queue::{Kind, Line};

    fn account(rows: [i64; 7], counted: [i64; 7]) -> Account {
        let entries = [
            Entry::Accepted,
            Entry::OfAliases,
            Entry::End(State::Delivered),
            Entry::End(State::Transmitted),
            Entry::End(State::Expanded),
            Entry::End(State::Failed),
            Entry::End(State::Removed),
        ];
        let lines = entries.into_iter().zip(rows.into_iter().zip(counted));
        Account {
            lines: lines
                .map(|(entry, (rows, counted))| Line { entry, rows, counted })
                .collect(),
            waiting: 2,
            held: 1,
            dead: 0,
            forgotten: 0,
            crashes: 0,
            is_open: false,
        }
    }

    #[test]
    fn each_finding_is_a_line_that_says_where_what_and_what_to_do() {
        let seen = Verdict {
            findings: vec![
                Finding {
                    kind: Kind::Rows,
                    place: "message 00038D7EA4C68000 recipient 2".to_owned(),
                    what: "there is no state 77".to_owned(),
                },
                Finding {
                    kind: Kind::StrayFile,
                    place: "content/00038D7EA4C68001".to_owned(),
                    what: "no message in the queue names it".to_owned(),
                },
            ],
            more: vec![(Kind::Rows, 7)],
            messages: 5,
            in_queue: 3,
            recipients: 9,
            next_hops: 1,
            account: None,
        };
        assert_eq!(
            verdict(&seen).text,
            "message 00038D7EA4C68000 recipient 2: there is no state 77; tell housekeeping puts the message aside\n\
             note: content/00038D7EA4C68001: no message in the queue names it; housekeeping sweeps it up, unless it \
             is on its way in\n\
             and 7 more of the kind rows\n\
             5 messages, 3 of them in the queue, 9 recipients, 1 next hops: not in order\n"
        );
        let hostile = Finding {
            kind: Kind::Database,
            place: "queue.db".to_owned(),
            what: "row 1 missing from index \u{1b}[2J".to_owned(),
        };
        let told = verdict(&Verdict {
            findings: vec![hostile],
            ..Verdict::default()
        });
        assert!(!told.text.contains('\u{1b}'), "{:?}", told.text);
        let harmless = Verdict {
            findings: seen.findings[1..].to_vec(),
            ..Verdict::default()
        };
        assert!(verdict(&harmless).text.ends_with("0 next hops: in order\n"));
    }

    #[test]
    fn the_account_is_a_table_and_says_whether_it_balances() {
        let rows = [10, 2, 4, 3, 1, 1, 0];
        let balanced = Verdict {
            account: Some(account(rows, rows)),
            ..Verdict::default()
        };
        let text = verdict(&balanced).text;
        assert!(
            text.contains(
                "Recipients       Database  Counters\naccepted         10        10\ncame of aliases  2         2\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("missing          0         0\nThe account balances.\n"),
            "{text}"
        );
        assert!(balanced.is_in_order());
    }

    #[test]
    fn a_difference_is_told_as_what_it_is() {
        let (rows, counted) = ([10, 2, 4, 3, 1, 1, 0], [10, 2, 4, 2, 1, 1, 0]);
        let said = |account: Account| {
            let is_in_order = account.is_in_order();
            (sentences(&account).join(" "), is_in_order)
        };
        let (unknown, order) = said(account(rows, counted));
        assert!(
            unknown.contains("nothing is known that explains it") && !order,
            "{unknown}"
        );
        let crashed = Account {
            crashes: 3,
            ..account(rows, counted)
        };
        let (lost, order) = said(crashed);
        assert!(lost.contains("each of 3 crashes") && order, "{lost}");
        let running = Account {
            is_open: true,
            ..account(rows, counted)
        };
        assert!(said(running).0.contains("a second behind"));
        let (missing, order) = said(account([11, 2, 4, 3, 1, 1, 0], rows));
        assert!(
            missing.contains("1 recipients came in of which nothing is known") && !order,
            "{missing}"
        );
    }
}
