//! What is wrong with a configuration: each problem names the place, the word and what was expected.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::exit::Exit;

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it: the embedded default.
    Default,
    /// A line of the configuration file, counted from 1; line 0 is the file as a whole.
    File(Arc<PathBuf>, usize),
    /// The command line.
    CommandLine,
}

/// `default`, `/etc/smtpmta/smtpmta.conf:12` or `command line`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, 0) => write!(f, "{}", path.display()),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// The option, without dashes; empty where none is meant.
    pub option: String,
    /// What: the word in quotes and what was expected.
    pub what: String,
}

/// `smtpmta.conf:12: expire: "x": expected …` from the file; from the command line
/// `smtpmta: --expire: "x": expected …`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dashes = match &self.origin {
            Origin::File(..) => {
                write!(f, "{}: ", self.origin)?;
                ""
            }
            Origin::CommandLine | Origin::Default => {
                f.write_str("smtpmta: ")?;
                if self.option.len() == 1 { "-" } else { "--" }
            }
        };
        match self.option.as_str() {
            "" => f.write_str(&self.what),
            option => write!(f, "{dashes}{option}: {}", self.what),
        }
    }
}

/// Everything that is wrong, one line each: the command line first, then the file line by line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// 64 where the command line is to blame, 78 where the file alone is.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let file = |problem: &Problem| matches!(problem.origin, Origin::File(..));
        if self.problems.iter().all(file) {
            Exit::Configuration
        } else {
            Exit::Usage
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A word as it is shown in a problem: in quotes, its control characters made visible, long ones shortened.
#[must_use]
pub fn quoted(word: &str) -> String {
    let mut shown: String = word.chars().take(80).collect();
    if shown.len() < word.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(origin: Origin, option: &str) -> Problem {
        Problem {
            origin,
            option: option.into(),
            what: "\"x\": expected y".into(),
        }
    }

    #[test]
    fn a_problem_names_its_place() {
        let file = Arc::new(PathBuf::from("/etc/smtpmta.conf"));
        let line = problem(Origin::File(Arc::clone(&file), 12), "expire");
        assert_eq!(
            line.to_string(),
            "/etc/smtpmta.conf:12: expire: \"x\": expected y"
        );
        let whole = problem(Origin::File(file, 0), "");
        assert_eq!(whole.to_string(), "/etc/smtpmta.conf: \"x\": expected y");
        let flag = problem(Origin::CommandLine, "expire");
        assert_eq!(flag.to_string(), "smtpmta: --expire: \"x\": expected y");
        assert_eq!(
            problem(Origin::CommandLine, "I").to_string(),
            "smtpmta: -I: \"x\": expected y"
        );
    }

    #[test]
    fn the_command_line_alone_gives_64() {
        let file = problem(Origin::File(Arc::new("a".into()), 1), "expire");
        let flag = problem(Origin::CommandLine, "expire");
        let exit = |problems: &[&Problem]| {
            ConfigError {
                problems: problems.iter().copied().cloned().collect(),
            }
            .exit()
            .status()
        };
        assert_eq!(exit(&[&file]), 78);
        assert_eq!(exit(&[&flag]), 64);
        assert_eq!(exit(&[&file, &flag]), 64);
    }

    #[test]
    fn words_are_shown_on_one_line_and_never_at_length() {
        assert_eq!(quoted("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), 83);
    }
}
