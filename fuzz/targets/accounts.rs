//! An accounts file of any octets: it is read, or all that is wrong with it is told without anything that stands behind
//! the first colon of a line. No password is ever checked here: that is slow on purpose.

#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use smtpmta::accounts::{Accounts, AccountsError};
use smtpmta::smtp::path::PathError;

/// So many octets in a row are no accident.
const TELLING: usize = 6;

/// What may be wrong with an address.
const PATH_ERRORS: [PathError; 7] = [
    PathError::Control,
    PathError::NoAt,
    PathError::LocalPart,
    PathError::LocalPartTooLong,
    PathError::Domain,
    PathError::DomainTooLong,
    PathError::TooLong,
];

/// Lines with everything that can be wrong with one, so that the words of all problems are known.
const WRONG: &str = include_str!("accounts/wrong");

/// Their parts.
static KNOWN: LazyLock<HashSet<&[u8]>> = LazyLock::new(|| parts(WORDS.as_bytes()));

static WORDS: LazyLock<String> = LazyLock::new(|| {
    let long = "x".repeat(9000);
    let long = [format!("bob:{long}"), format!("bob:{{PLAIN}}{}", &long[..2000])];
    let wrong = WRONG.lines().chain(long.iter().map(String::as_str));
    // A file tells of twenty problems at most; and each line is a double as well.
    let mut files: Vec<Vec<u8>> = wrong.map(|line| format!("{line}\n{line}").into_bytes()).collect();
    files.push(b"\xff:".to_vec());
    let told = files
        .iter()
        .filter_map(|text| Accounts::parse(text, "accounts", "example.org").err());
    let of_paths = PATH_ERRORS.map(|error| format!("before the first colon: {error}\n"));
    told.map(|error| words(&error)).chain(of_paths).collect()
});

fuzz_target!(|data: &[u8]| {
    match Accounts::parse(data, "accounts", "example.org") {
        Ok(accounts) => check(&accounts),
        Err(error) => {
            let told = error.to_string();
            assert!((1..=20).contains(&error.problems().len()));
            assert!(told.lines().count() <= 21 && !told.contains(|c: char| c.is_control() && c != '\n'));
            check_silence(data, &words(&error));
        }
    }
});

/// All problems, without the place of each, and without the name of a scheme in front: that may be told.
fn words(error: &AccountsError) -> String {
    let words = error.problems().iter().map(|problem| {
        let what = problem.what.as_str();
        let behind = what.strip_prefix('{').and_then(|rest| rest.split_once("}: "));
        let words = behind.map_or(what, |(_, words)| words);
        // Nor the number of another line.
        let words = words.split_once("in line ").map_or(words, |(words, _)| words);
        format!("{words}\n")
    });
    words.collect()
}

fn check(accounts: &Accounts) {
    assert_eq!(accounts.len(), accounts.addresses().count());
    assert!(
        accounts
            .addresses()
            .all(|address| accounts.mailbox(address) == Some(address))
    );
    for address in accounts.addresses().take(10) {
        let name = address.to_string();
        let login = accounts.login(&name);
        assert!(login.is_none_or(|login| login == address));
        assert!(accounts.same_login(&name, &name.to_uppercase()) || !name.is_ascii());
        let salt = accounts.scram_salt(&name);
        assert!((1..=64).contains(&salt.salt.len()) && salt.iterations.get() >= 4096);
        assert_eq!(salt, accounts.scram_salt(&name));
        assert!(accounts.verify(&name, b"").is_none());
    }
    assert!(accounts.scram_salt("nobody").salt.len() <= 64);
}

fn check_silence(data: &[u8], told: &str) {
    let told_parts = parts(told.as_bytes());
    let lines = data.split(|octet| *octet == b'\n');
    for part in lines.filter_map(behind_colon).flat_map(parts) {
        assert!(
            !told_parts.contains(part) || KNOWN.contains(part),
            "{:?} is told: {told}",
            part.escape_ascii().to_string()
        );
    }
}

fn parts(text: &[u8]) -> HashSet<&[u8]> {
    text.windows(TELLING).collect()
}

fn behind_colon(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    Some(&line[colon + 1..])
}
