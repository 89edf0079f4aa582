//! The man page and the example configuration say what the table of options says.
//!
//! `UPDATE_GENERATED=1 cargo test --test all` writes their generated parts anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use smtpmta::config::{Config, manual};

const EXAMPLE: &str = "etc/smtpmta.conf";
const MAN_PAGE: &str = "man/smtpmta.8";

#[test]
fn the_man_page_has_the_options_of_the_table() {
    compare(MAN_PAGE, ".\\\" ", &manual::mdoc());
}

#[test]
fn the_example_configuration_has_the_options_of_the_table() {
    compare(EXAMPLE, "# ", &manual::example());
}

#[test]
fn the_shells_complete_the_options_and_commands_of_the_table() {
    for shell in ["bash", "zsh"] {
        compare(
            &format!("etc/completions/smtpmta.{shell}"),
            "# ",
            &manual::shell_words(),
        );
    }
    compare("etc/completions/smtpmta.fish", "# ", &manual::fish());
}

/// The part of the file between the two marks must be this text; it is written anew on demand.
fn compare(file: &str, comment: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let whole = fs::read_to_string(&path).unwrap();
    let begin = format!("{comment}{}\n", manual::BEGIN);
    let end = format!("{comment}{}\n", manual::END);
    let (head, rest) = whole
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{file}: expected {begin}"));
    let (part, tail) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("{file}: expected {end}"));
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, format!("{head}{begin}{text}{end}{tail}")).unwrap();
    } else {
        assert!(
            part == text,
            "{file} is not what the table says: UPDATE_GENERATED=1 cargo test --test all"
        );
    }
}

#[test]
fn the_example_configuration_without_its_comment_signs_is_the_embedded_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smtpmta.conf");
    let example: String = manual::example()
        .lines()
        .filter_map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with([' ', '#']))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, &example).unwrap();
    let args = ["-c", path.to_str().unwrap()].map(String::from);
    let asked = smtpmta::config::read(&args, || "unused".into()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut expected = Config::embedded("mail.example.org");
    expected.local_domains = vec!["example.org".into()];
    assert_eq!(asked.config, expected);
}

#[test]
fn the_example_configuration_is_in_order() {
    let run = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
        .args(["--check", "-c", EXAMPLE])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    assert_eq!(
        String::from_utf8_lossy(&run.stdout),
        "etc/smtpmta.conf: the configuration is in order\n"
    );
    assert!(run.status.success());
}
