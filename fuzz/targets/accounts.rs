//! An accounts file of any octets: it is read, or all that is wrong with it is told without anything that stands behind
//! the first colon of a line. No password is ever checked here: that is slow on purpose.

#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use smtpmta::accounts::Accounts;

/// So many octets in a row are no accident.
const TELLING: usize = 6;

/// Lines with everything that can be wrong with one, so that the words of all problems are known.
const WRONG: &str = include_str!("accounts/wrong");

/// Their parts.
static KNOWN: LazyLock<HashSet<&[u8]>> = LazyLock::new(|| parts(WORDS.as_bytes()));

static WORDS: LazyLock<String> = LazyLock::new(|| {
    // A file tells of twenty problems at most.
    let told = WRONG.lines().filter_map(|line| {
        let text = format!("{line}\n{line}");
        Accounts::parse(text.as_bytes(), "accounts", "example.org").err()
    });
    told.map(|error| error.to_string() + "\n").collect()
});

fuzz_target!(|data: &[u8]| {
    match Accounts::parse(data, "accounts", "example.org") {
        Ok(accounts) => check(&accounts),
        Err(error) => {
            let told = error.to_string();
            assert!((1..=20).contains(&error.problems().len()));
            assert!(told.lines().count() <= 21 && !told.contains(|c: char| c.is_control() && c != '\n'));
            check_silence(data, &told);
        }
    }
});

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
    let lines: Vec<&[u8]> = data.split(|octet| *octet == b'\n').collect();
    // What looks like the name of a scheme may be told.
    let schemes = lines.iter().filter_map(|line| scheme(behind_colon(line)?));
    let schemes: HashSet<&[u8]> = schemes.flat_map(parts).collect();
    for part in lines.iter().filter_map(|line| behind_colon(line)).flat_map(parts) {
        let is_known = || KNOWN.contains(part) || schemes.contains(part);
        assert!(
            !told_parts.contains(part) || is_known(),
            "{:?} is told: {told}",
            part.escape_ascii()
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

fn scheme(secret: &[u8]) -> Option<&[u8]> {
    let end = secret.iter().position(|octet| *octet == b'}')?;
    secret.starts_with(b"{").then(|| &secret[..=end])
}
