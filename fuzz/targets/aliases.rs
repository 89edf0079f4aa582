//! An aliases file of any octets, and one that it may include: it is read, or all that is wrong with it is told; and
//! whatever is read, what every name stands for in the end is found, and is nothing but mailboxes.

#![no_main]

use std::collections::HashSet;
use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use smtpmta::aliases::Aliases;
use smtpmta::smtp::path::Mailbox;

/// What stands between the file and the one that is there to be included.
const BORDER: u8 = 0xFE;

fuzz_target!(|data: &[u8]| {
    let mut files = data.splitn(2, |octet| *octet == BORDER);
    let (text, included) = (files.next().unwrap_or_default(), files.next().unwrap_or_default());
    let local_domains = ["example.org", "example.net"].map(str::to_owned);
    let mut reads = 0;
    let mut read = |path: &Path, most: usize| {
        reads += 1;
        // They may be included often, but no more often than that.
        assert!(reads <= data.len() * (data.len() + 1));
        if path.to_string_lossy().len().is_multiple_of(2) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(included[..included.len().min(most.saturating_add(1))].to_vec())
    };
    match Aliases::parse(text, Path::new("/etc/aliases"), &local_domains, &mut read) {
        Ok(aliases) => check(&aliases, text),
        Err(error) => {
            let told = error.to_string();
            assert!((1..=20).contains(&error.problems().len()));
            assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told:?}");
            assert!(told.lines().count() <= 21, "{told}");
        }
    }
});

fn check(aliases: &Aliases, text: &[u8]) {
    // Names are not told by the aliases themselves: whatever could be one is asked for.
    let text = String::from_utf8_lossy(text);
    let words = text.split(|c: char| c == ':' || c == ',' || c.is_whitespace());
    for word in words.filter(|word| !word.is_empty()).take(200) {
        let word = word.trim_start_matches('\\');
        for name in [
            word.to_owned(),
            format!("{word}@example.org"),
            format!("any{word}"),
        ] {
            let Ok(address) = Mailbox::parse(&name) else {
                continue;
            };
            check_expanded(aliases, &address);
        }
    }
}

fn check_expanded(aliases: &Aliases, address: &Mailbox) {
    let expanded = aliases.expand(address);
    assert_eq!(
        expanded.is_some(),
        aliases.names(address) || aliases.catches(address),
        "{address}"
    );
    assert!(!aliases.names_exactly(address) || aliases.names(address));
    let nobody = aliases.expand_among(address, &|_| true);
    assert_eq!(nobody.is_some(), aliases.names(address), "{address}");
    for targets in [expanded, nobody].into_iter().flatten() {
        assert!(
            (1..=10_000).contains(&targets.len()),
            "{address}: {}",
            targets.len()
        );
        let each: HashSet<&Mailbox> = targets.iter().collect();
        assert_eq!(each.len(), targets.len(), "a target twice");
    }
}
