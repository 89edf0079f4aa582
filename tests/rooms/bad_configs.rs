//! Every folder in `tests/bad_configs` is a wrong configuration: `conf` (the file), `args` (the command line,
//! a word on each line; `--check -c conf` where there is none) and `expected` (the exit status, and what is
//! said).
//!
//! `UPDATE_GENERATED=1 cargo test --test all` writes `expected` anew: read the difference before you commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_bad_configuration_is_refused_in_the_expected_words() {
    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    let mut failed = Vec::new();
    for case in cases() {
        let said = said(&case);
        let expected = case.join("expected");
        if update {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            failed.push(format!("{}\n{said}", case.display()));
        }
    }
    assert!(failed.is_empty(), "not as expected:\n{}", failed.join("\n"));
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_configs");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() > 20);
    cases
}

/// The exit status and what stands on standard error; standard output must stay empty.
fn said(case: &Path) -> String {
    let args = match fs::read_to_string(case.join("args")) {
        Ok(args) => args.lines().map(String::from).collect(),
        Err(_) => ["--check", "-c", "conf"].map(String::from).to_vec(),
    };
    let run = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
        .args(args)
        .current_dir(case)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "", "{}", case.display());
    format!(
        "exit {}\n{}",
        run.status.code().unwrap(),
        String::from_utf8_lossy(&run.stderr)
    )
}
