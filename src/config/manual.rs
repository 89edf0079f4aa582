//! The table of options as people read it: `--help`, the OPTIONS of smtpmta(8), the example configuration.
//!
//! Pure: gives text. A test compares the text with the files and writes it when `UPDATE_GENERATED=1`.

use super::flags::{AtRefresh, Opt, SECTIONS, SUBCOMMANDS, Standard};

/// What stands before the generated part of a file, behind that file's own comment sign.
pub const BEGIN: &str = "BEGIN GENERATED from src/config/flags.rs: UPDATE_GENERATED=1 cargo test --test all";
/// What stands behind it.
pub const END: &str = "END GENERATED";

/// The width of a line of help.
const WIDTH: usize = 80;

/// What `--version` says.
#[must_use]
pub fn version() -> String {
    format!("smtpmta {}\n", env!("CARGO_PKG_VERSION"))
}

/// What `--help` says.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Usage: smtpmta [OPTIONS]              run in the foreground\n       \
         smtpmta [OPTIONS] COMMAND ...  speak to the MTA that runs on this spool\n\nCommands:\n",
    );
    for word in SUBCOMMANDS {
        let json = if word.json { " [--json]" } else { "" };
        text += &format!("  {} {}{json}\n", word.name, word.words);
        text += &wrapped(word.help, "          ");
    }
    for section in SECTIONS {
        text += &format!("\n{}:\n", section.title);
        for option in section.options {
            let letter = option
                .short
                .map_or_else(|| "   ".into(), |letter| format!("-{letter},"));
            text += &format!("  {letter} --{}\n", with_value(option));
            text += &wrapped(&described(option), "          ");
        }
    }
    text + "\nSee smtpmta(8) and smtpmta.conf(5).\n"
}

/// The commands and options, as variables of a shell: the generated part of the completions for bash and zsh.
#[must_use]
pub fn shell_words() -> String {
    let commands: Vec<&str> = SUBCOMMANDS.iter().map(|word| word.name).collect();
    let options = SECTIONS.iter().flat_map(|section| section.options);
    let options: Vec<String> = options.map(|option| format!("--{}", option.name)).collect();
    format!(
        "commands='{}'\noptions='{}'\n",
        commands.join(" "),
        options.join(" ")
    )
}

/// The generated part of the completions for fish.
#[must_use]
pub fn fish() -> String {
    // A backslash and a single quote are all that it would not take for themselves.
    let quoted = |help: &str| help.replace('\\', "\\\\").replace('\'', "\\'");
    let first = |help: &str| {
        quoted(
            help.split_once(". ")
                .map_or(help.trim_end_matches('.'), |(first, _)| first),
        )
    };
    let mut text = String::new();
    for word in SUBCOMMANDS {
        text += &format!(
            "complete -c smtpmta -n __fish_use_subcommand -a {} -d '{}'\n",
            word.name,
            first(word.help)
        );
    }
    for option in SECTIONS.iter().flat_map(|section| section.options) {
        let short = option
            .short
            .map(|letter| format!(" -s {letter}"))
            .unwrap_or_default();
        let value = if option.value.is_empty() { "" } else { " -r" };
        text += &format!(
            "complete -c smtpmta{short} -l {}{value} -d '{}'\n",
            option.name,
            first(option.help)
        );
    }
    text
}

/// The generated part of OPTIONS in man/smtpmta.8, in mdoc.
#[must_use]
pub fn mdoc() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        text += &format!(".Ss {}\n.Bl -tag -width Ds\n", section.title);
        for option in section.options {
            let value = if option.value.is_empty() {
                String::new()
            } else {
                format!(" Ar {}", option.value)
            };
            let letter = option
                .short
                .map(|letter| format!("Fl {letter}{value} , "))
                .unwrap_or_default();
            text += &format!(".It {letter}Fl \\-{}{value}\n", roff(option.name));
            for sentence in sentences(&described(option)) {
                text += &wrapped(&roff(&sentence), "");
            }
        }
        text += ".El\n";
    }
    text
}

/// The generated part of etc/smtpmta.conf: every option that can be used in a file, commented out.
#[must_use]
pub fn example() -> String {
    let mut text = String::new();
    for section in SECTIONS
        .iter()
        .filter(|section| section.options.iter().any(in_file))
    {
        text += &format!("\n## {}\n", section.title);
        for option in section.options.iter().filter(|option| in_file(option)) {
            text += &format!("\n{}", wrapped(&described(option), "# "));
            let values: &[&str] = match &option.default {
                Standard::Is(values) => values,
                Standard::Nothing(word) => &[word],
                Standard::Follows(_, example) => &[example],
            };
            for value in values {
                text += &format!("#{} {value}\n", option.name);
            }
        }
    }
    text
}

fn in_file(option: &Opt) -> bool {
    !option.flag_only()
}

fn with_value(option: &Opt) -> String {
    format!("{} {}", option.name, option.value).trim_end().to_owned()
}

/// The help with what the table knows besides, in brackets.
fn described(option: &Opt) -> String {
    let mut besides = Vec::new();
    if option.kind.repeatable() {
        besides.push("repeatable".to_owned());
    }
    match &option.default {
        Standard::Nothing(_) if option.kind.bare() => {}
        default => besides.push(format!("default: {}", default.words())),
    }
    match option.at_refresh {
        AtRefresh::Holds => {}
        AtRefresh::NextStart => besides.push("a refresh leaves it to the next start".to_owned()),
        AtRefresh::Refused => besides.push("not to be changed by a refresh".to_owned()),
    }
    match besides.join("; ").as_str() {
        "" => option.help.to_owned(),
        besides => format!("{} [{besides}]", option.help),
    }
}

/// Whole sentences, since mdoc begins each on a line of its own.
fn sentences(text: &str) -> Vec<String> {
    let mut sentences: Vec<String> = text.split(". ").map(|sentence| format!("{sentence}.")).collect();
    if let Some(last) = sentences.last_mut() {
        last.pop(); // the text's own full stop was not split away
    }
    sentences
}

/// Text in which roff finds nothing to obey, and whose hyphens can be copied into a terminal.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Lines of at most [`WIDTH`], each behind `indent`, broken at blanks.
pub(crate) fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{indent}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &format!("{indent}{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags;

    #[test]
    fn help_names_every_option_and_fits_a_terminal() {
        let help = help();
        for option in flags::options() {
            assert!(
                help.contains(&format!("--{}", with_value(option))),
                "{}",
                option.name
            );
        }
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn no_line_of_the_man_page_begins_with_a_sign_that_roff_obeys_by_accident() {
        let known = [".Ss ", ".Bl ", ".It ", ".El"];
        for line in mdoc().lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(
                known.iter().any(|macro_name| line.starts_with(macro_name)),
                "{line}"
            );
        }
    }

    #[test]
    fn sentences_keep_their_full_stops() {
        assert_eq!(sentences("One. Two a.b. Three."), ["One.", "Two a.b.", "Three."]);
    }
}
