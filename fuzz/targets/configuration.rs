//! A configuration file of any octets: it is read, and what `show config` makes of it is the same configuration again; or
//! all that is wrong with it is told, clean and with its place.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use smtpmta::config::exit::Exit;
use smtpmta::config::{self, Origin};

/// The most octets of one problem: names and words are shortened where they are shown.
const LONGEST_PROBLEM: usize = 2000;

/// The file, in memory where there is such a place.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("smtpmta-fuzz-{}.conf", std::process::id()))
});

fuzz_target!(|data: &[u8]| {
    match read(data) {
        Ok(invocation) => {
            let shown = invocation.show();
            assert!(
                !shown.contains(|c: char| c.is_control() && c != '\n'),
                "{shown:?}"
            );
            match read(shown.as_bytes()) {
                Ok(again) => assert!(
                    again.config == invocation.config,
                    "{shown}\n{:?}\n{:?}",
                    invocation.config,
                    again.config
                ),
                Err(error) => panic!("what is shown can not be read:\n{error}\n{shown}"),
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            assert_eq!(error.exit(), Exit::Configuration);
            let lines = data.iter().filter(|octet| **octet == b'\n').count() + 1;
            for problem in &error.problems {
                let told = problem.to_string();
                assert!(!told.contains(char::is_control), "{told:?}");
                assert!(told.len() <= LONGEST_PROBLEM, "{} octets: {told}", told.len());
                match &problem.origin {
                    Origin::File(_, line) => assert!(*line <= lines, "{told}"),
                    other => panic!("nobody gave it on the command line: {other}: {told}"),
                }
            }
        }
    }
    let _ = std::fs::remove_file(&*FILE);
});

fn read(text: &[u8]) -> Result<config::Invocation, config::ConfigError> {
    std::fs::write(&*FILE, text).expect("a file can be written");
    let arguments = ["-c".to_owned(), FILE.display().to_string()];
    config::read(&arguments, || "mail.example.org".to_owned())
}
