//! What Tab makes of a command that is being typed. Pure.
//!
//! Knows no words of its own: they are those of the grammar in `command`, and of the table of options.

use super::command::{Command, Refusal, What};
use crate::config::flags::{self, SUBCOMMANDS};

/// What is put in place of the word at the cursor, or what it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// No word begins so.
    Nothing,
    /// From here on this stands.
    Replace(usize, String),
    /// There is more than one way to go on.
    Choices(Vec<&'static str>),
}

/// Completes the last word of what was `typed`, in any case.
pub(super) fn complete(typed: &str) -> Completion {
    let before = typed.trim_end_matches(|letter: char| !letter.is_whitespace());
    let word = typed[before.len()..].to_ascii_lowercase();
    let words: Vec<String> = before.split_whitespace().map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let choices: Vec<&'static str> = follow(&words)
        .into_iter()
        .filter(|choice| choice.starts_with(&word))
        .collect();
    match choices.as_slice() {
        [] => Completion::Nothing,
        [only] => Completion::Replace(before.len(), format!("{only} ")),
        [first, others @ ..] => {
            let shared = others.iter().fold(first.len(), |length, other| {
                let alike = first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
                length.min(alike.count())
            });
            if shared > word.len() {
                Completion::Replace(before.len(), first[..shared].to_owned())
            } else {
                Completion::Choices(choices)
            }
        }
    }
}

/// The words that may follow these.
fn follow(words: &[&str]) -> Vec<&'static str> {
    match words {
        [] => {
            let mut words = first();
            words.push("tell");
            words
        }
        ["tell"] => {
            let mut words = first();
            words.push("smtpmta");
            words
        }
        ["tell", "smtpmta"] => first(),
        ["tell", "smtpmta", rest @ ..] | ["tell", rest @ ..] | rest => behind(rest),
    }
}

/// The words with which a command begins.
fn first() -> Vec<&'static str> {
    let told = ["start", "stop", "refresh", "housekeeping", "quit"].into_iter();
    let asked = SUBCOMMANDS.iter().map(|word| word.name);
    // Not all of the latter are the console's.
    let is_known = |word: &&str| match Command::parse(&[word]) {
        Ok(_) => true,
        Err(refusal) => !refusal.to_string().contains("not a command"),
    };
    told.chain(asked)
        .filter(|word| *word != "tell")
        .filter(is_known)
        .collect()
}

fn behind(words: &[&str]) -> Vec<&'static str> {
    match words {
        ["show"] => What::ALL.map(|(name, _)| name).to_vec(),
        ["start" | "stop"] => vec!["inbound", "outbound", "drtask"],
        ["start" | "stop", "inbound" | "outbound"] => vec!["transport", "conversion"],
        ["queue"] => flags::QUEUE_VERBS
            .into_iter()
            .filter(|verb| !matches!(Command::parse(&["queue", verb]), Err(Refusal::Refused(_))))
            .collect(),
        ["show", "queue" | "lists" | "hops"] | ["queue", "age"] => vec!["--limit", "--all"],
        ["queue", "list"] | ["trace", _] => vec!["--limit"],
        ["queue", "retry"] => vec!["--hop"],
        ["queue", "route"] => vec!["--via"],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(typed: &str) -> String {
        match complete(typed) {
            Completion::Replace(at, text) => format!("{}{text}", &typed[..at]),
            other => panic!("{typed:?}: {other:?}"),
        }
    }

    #[test]
    fn a_word_is_completed_in_any_case_as_far_as_there_is_one_way_to_go_on() {
        for (typed, completed) in [
            ("sh", "show "),
            ("SHOW T", "SHOW tasks "),
            ("show tasks", "show tasks "),
            ("st", "st"),
            ("tell smtpmta q", "tell smtpmta qu"),
            ("tell smtpmta qui", "tell smtpmta quit "),
            ("TELL SM", "TELL smtpmta "),
            ("stop in", "stop inbound "),
            ("stop inbound tr", "stop inbound transport "),
            ("queue u", "queue undelete "),
            ("queue re", "queue re"),
            ("show hops --l", "show hops --limit "),
        ] {
            if completed == typed {
                assert!(matches!(complete(typed), Completion::Choices(_)), "{typed:?}");
            } else {
                assert_eq!(replaced(typed), completed, "{typed:?}");
            }
        }
        assert_eq!(complete("st"), Completion::Choices(vec!["start", "stop"]));
        for nothing in ["x", "show tasks ", "quit ", "why ", "queue hold ", "é"] {
            assert_eq!(complete(nothing), Completion::Nothing, "{nothing:?}");
        }
    }

    #[test]
    fn whatever_tab_offers_the_console_understands() {
        let mut lines: Vec<Vec<&str>> = vec![Vec::new()];
        let (mut looked_at, mut whole) = (0, 0);
        while let Some(line) = lines.pop() {
            for word in follow(&line) {
                let longer: Vec<&str> = line.iter().copied().chain([word]).collect();
                looked_at += 1;
                match Command::parse(&longer) {
                    Ok(_) => whole += 1,
                    Err(refusal) => {
                        let refusal = refusal.to_string();
                        let is_half = refusal.contains("expected") && !refusal.contains("nothing more");
                        assert!(
                            is_half && !refusal.contains("not a command"),
                            "{longer:?}: {refusal}"
                        );
                        assert!(!refusal.contains("no such verb"), "{longer:?}: {refusal}");
                    }
                }
                if longer.len() < 5 {
                    lines.push(longer);
                }
            }
        }
        assert!(whole > 60 && looked_at > whole, "{whole} of {looked_at}");
    }
}
