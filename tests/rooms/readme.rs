//! README.md is true to the program: its commands are understood, its options exist, its SQL can be asked.

use std::fs;
use std::path::Path;

use smtpmta::config::{self, Command, flags};
use smtpmta::console;

use super::manual_queue::empty_queue;

/// How the README calls the program.
const PROGRAMS: [&str; 3] = [
    "target/release/smtpmta",
    "cargo run --release --",
    "/usr/local/sbin/smtpmta",
];

/// Options of other programs that the text speaks of.
const OF_OTHERS: [&str; 1] = ["--crlf"];

pub(super) fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The blocks that begin with this fence.
pub(super) fn blocks<'p>(page: &'p str, fence: &str) -> Vec<&'p str> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, begun)) = rest.split_once("```") {
        let (block, after) = begun.split_once("\n```").unwrap();
        if let Some((_, block)) = block.split_once('\n').filter(|(kind, _)| *kind == fence) {
            blocks.push(block);
        }
        rest = after;
    }
    blocks
}

/// Every command line, with the lines that a backslash continues, and those that stand in the text.
fn commands(page: &str) -> Vec<String> {
    let in_blocks = blocks(page, "").join("\n").replace("\\\n", " ");
    let in_text = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| !text.contains('\n'));
    in_blocks
        .lines()
        .chain(in_text)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The words behind the program's name, where the line calls it.
fn arguments(line: &str) -> Option<Vec<String>> {
    let rest = PROGRAMS.iter().find_map(|program| line.strip_prefix(program))?;
    // Where the output goes is the shell's business.
    let words = rest.split_whitespace().take_while(|word| !word.starts_with('>'));
    // No word in the page holds a blank: quotes keep the shell from its own signs only.
    Some(words.map(|word| word.trim_matches('\'').to_owned()).collect())
}

#[test]
fn it_opens_with_the_two_commands() {
    let page = page();
    let blocks = blocks(&page, "");
    assert_eq!(blocks[..2], ["cargo run --release", "cargo test"]);
}

#[test]
fn every_command_is_understood() {
    let page = page();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("smtpmta.conf");
    fs::write(&file, blocks(&page, "conf")[0]).unwrap();
    let file = file.display().to_string();
    let calls: Vec<Vec<String>> = commands(&page)
        .iter()
        .filter_map(|line| arguments(line))
        .collect();
    assert!(calls.len() > 10, "{calls:?}");
    for mut call in calls {
        match call.iter_mut().find(|word| *word == "smtpmta.conf") {
            Some(word) => word.clone_from(&file),
            // What this machine is configured to is of no interest.
            None => call.splice(..0, ["-c".to_owned(), file.clone()]).for_each(drop),
        }
        let asked =
            config::read(&call, || "myhost".into()).unwrap_or_else(|wrong| panic!("{call:?}: {wrong}"));
        let said = match asked.command {
            Command::Show { words, .. } => [vec!["show".to_owned()], words].concat(),
            Command::Tell(words) => [vec!["tell".to_owned()], words].concat(),
            _ => continue,
        };
        if let Err(refusal) = console::command::Command::parse(&said) {
            panic!("{call:?}: {refusal}");
        }
    }
}

#[test]
fn every_configuration_is_in_order() {
    let page = page();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("smtpmta.conf");
    let recipes = blocks(&page, "conf");
    assert!(recipes.len() > 3, "{recipes:?}");
    for recipe in recipes {
        fs::write(&file, recipe).unwrap();
        let words = ["-c".to_owned(), file.display().to_string()];
        config::read(&words, || "myhost".into()).unwrap_or_else(|wrong| panic!("{recipe}\n{wrong}"));
    }
}

#[test]
fn every_option_in_the_text_exists() {
    let page = page();
    let quoted = page.split('`').skip(1).step_by(2);
    for word in quoted.filter(|word| word.starts_with("--") && !OF_OTHERS.contains(word)) {
        let name = word.trim_start_matches("--").split_whitespace().next().unwrap();
        assert!(flags::find(name).is_some(), "{word}");
    }
}

#[test]
fn every_query_can_be_asked() {
    let db = empty_queue();
    let queries: Vec<String> = commands(&page())
        .iter()
        .filter(|line| line.starts_with("sqlite3 "))
        .map(|line| line.split('\'').nth(1).unwrap().to_owned())
        .collect();
    assert!(queries.len() > 2, "{queries:?}");
    for query in queries {
        db.prepare(&query)
            .unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}
