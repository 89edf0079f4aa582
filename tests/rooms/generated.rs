//! The man page and the example configuration say what the table of options says.
//!
//! `UPDATE_GENERATED=1 cargo test --test all` writes their generated parts anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use smtpmta::config::flags::{QUEUE_VERBS, SUBCOMMANDS};
use smtpmta::config::{Config, manual};
use smtpmta::console::command::{Command as Told, What};

const EXAMPLE: &str = "etc/smtpmta.conf";
const MAN_PAGE: &str = "man/smtpmta.8";
const CONSOLE: &str = "man/smtpmta-console.8";

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

/// The words of each `.It Cm` of a manual page, without those of options.
fn commands(page: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let items = text.lines().filter_map(|line| {
        line.strip_prefix(".It Cm ")
            .or_else(|| line.strip_prefix(".It Xo Cm "))
    });
    let words = |item: &str| -> Vec<String> {
        let words = item
            .split([' ', '|'])
            .take_while(|word| !matches!(*word, "Oo" | "Op" | "Ar"));
        let is_word = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
        words.filter(is_word).map(str::to_owned).collect()
    };
    items.map(words).collect()
}

#[test]
fn the_manual_has_every_command_and_the_console_knows_each_that_it_has() {
    let (console, others) = (commands(CONSOLE), commands(MAN_PAGE));
    let begins = |page: &[Vec<String>], words: &[&str]| {
        page.iter()
            .any(|item| item.starts_with(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()))
    };
    for verb in QUEUE_VERBS {
        assert!(begins(&console, &["queue", verb]), "queue {verb}");
    }
    for word in SUBCOMMANDS {
        let among = |item: &Vec<String>| item.iter().any(|known| known == word.name);
        assert!(others.iter().any(among), "{MAN_PAGE}: {}", word.name);
    }
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(CONSOLE)).unwrap();
    for (what, _) in What::ALL {
        assert!(
            text.contains(&format!("\n.Cm {what}\n")) || text.contains(&format!("\n.Cm {what} ,\n")),
            "show {what}"
        );
    }
    for item in &console {
        let refused = Told::parse(&item[..1]).err().map(|refusal| refusal.to_string());
        assert!(
            !refused.is_some_and(|told| told.contains("not a command")),
            "{item:?}"
        );
    }
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
