//! What is wrong with an accounts file: each problem names its line and what was expected there.
//!
//! Never holds what the file says, save for the name of a scheme: where two fields were swapped, the
//! "address" is a secret.

use std::fmt;

/// So many problems are told; the others are counted.
const TOLD: usize = 20;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; 0 is the file as a whole.
    pub line: usize,
    /// What was expected.
    pub what: String,
}

/// Everything that is wrong with an accounts file; nothing of the file holds then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsError {
    file: String,
    problems: Vec<Problem>,
    more: usize,
}

impl AccountsError {
    /// The error about a file in which nothing was found yet.
    pub(super) fn new(file: &str) -> AccountsError {
        AccountsError {
            file: file.to_owned(),
            problems: Vec::new(),
            more: 0,
        }
    }

    /// The error about a file as a whole.
    pub(super) fn whole(file: &str, what: String) -> AccountsError {
        let mut error = AccountsError::new(file);
        error.add(Problem { line: 0, what });
        error
    }

    /// One more thing that is wrong.
    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.len() < TOLD {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The first problems, in the order of their lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// `/etc/smtpmta/accounts:12: expected …`, a line for each problem.
impl fmt::Display for AccountsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, what }) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            match line {
                0 => write!(f, "{newline}{}: {what}", self.file)?,
                _ => write!(f, "{newline}{}:{line}: {what}", self.file)?,
            }
        }
        match self.more {
            0 => Ok(()),
            1 => write!(f, "\n{}: 1 more line is wrong", self.file),
            more => write!(f, "\n{}: {more} more lines are wrong", self.file),
        }
    }
}

impl std::error::Error for AccountsError {}
