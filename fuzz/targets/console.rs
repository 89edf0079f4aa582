//! What somebody says to the control socket, and at the terminal: it is understood in any case, with and without the
//! name of the MTA, or refused in one clean line; and whoever asks has a name that may stand in history.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::console::command::{Command, MOST_ROWS, Refusal};
use smtpmta::console::server::{Asked, line_of};
use smtpmta::work_queue::Retry;

/// The most octets of a refusal: of what is not understood 80 characters are shown, each by ten octets at most.
const LONGEST_REFUSAL: usize = 1100;

fuzz_target!(|data: &[u8]| {
    let line = String::from_utf8_lossy(data);
    let asked = Asked::in_line(&line);
    assert!((1..=64).contains(&asked.by.len()) && asked.by.bytes().all(|octet| octet.is_ascii_graphic()));
    let understood = Command::parse(&asked.words);
    check(&understood);

    // In any case, and as TELL SMTPMTA says it.
    let louder: Vec<String> = asked.words.iter().map(|word| word.to_ascii_uppercase()).collect();
    assert_eq!(understood, Command::parse(&louder));
    let is_plain = |word: &String| !["tell", "load"].contains(&word.to_ascii_lowercase().as_str());
    if asked.words.first().is_some_and(is_plain) {
        let mut told = vec!["tell".to_owned(), "smtpmta".to_owned()];
        told.extend(asked.words.iter().cloned());
        assert_eq!(understood, Command::parse(&told));
    }
    // One blank or many; and words with blanks in them stay what they are.
    if let Some(line) = line_of(&asked.words) {
        assert_eq!(
            Asked::in_line(&format!(" --json  --by={} {line}\n", asked.by)),
            Asked { json: true, ..asked }
        );
    }
});

fn check(understood: &Result<Command, Refusal>) {
    match understood {
        Ok(Command::Show(_, limit)) => assert!(limit.rows(10) >= 1),
        Ok(Command::List(_, rows)) => assert!((1..=MOST_ROWS).contains(rows)),
        Ok(Command::Retry(Retry::Hops(hops))) => assert!(hops.iter().all(|hop| !hop.is_empty())),
        Ok(Command::Retry(Retry::Messages(ids))) => assert!(!ids.is_empty()),
        Ok(_) => {}
        Err(refusal) => {
            let said = refusal.to_string();
            assert!(!said.contains(char::is_control), "{said:?}");
            assert!(
                (1..=LONGEST_REFUSAL).contains(&said.len()),
                "{} octets: {said}",
                said.len()
            );
        }
    }
}
