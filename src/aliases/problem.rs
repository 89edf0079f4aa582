//! What is wrong with an aliases file: each problem names file, line and word, and what was expected there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many problems are told; the others are counted.
const TOLD: usize = 20;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The aliases file, or one that it includes.
    pub file: Arc<PathBuf>,
    /// The line, counted from 1; 0 is the file as a whole.
    pub line: usize,
    /// The word in quotes, and what was expected.
    pub what: String,
}

/// Everything that is wrong with an aliases file; nothing of the file holds then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AliasesError {
    problems: Vec<Problem>,
    more: usize,
}

impl AliasesError {
    /// The error about a file as a whole.
    pub(super) fn whole(file: &Path, what: String) -> AliasesError {
        let mut error = AliasesError::default();
        error.add(&Arc::new(file.to_owned()), 0, what);
        error
    }

    /// One more thing that is wrong.
    pub(super) fn add(&mut self, file: &Arc<PathBuf>, line: usize, what: String) {
        if self.problems.len() < TOLD {
            let file = Arc::clone(file);
            self.problems.push(Problem { file, line, what });
        } else {
            self.more += 1;
        }
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The first problems, in the order in which they were found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// `/etc/smtpmta/aliases:12: "x": expected …`, a line for each problem.
impl fmt::Display for AliasesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { file, line, what }) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            match line {
                0 => write!(f, "{newline}{}: {what}", file.display())?,
                _ => write!(f, "{newline}{}:{line}: {what}", file.display())?,
            }
        }
        match (self.more, self.problems.first()) {
            (0, _) | (_, None) => Ok(()),
            (1, Some(first)) => write!(f, "\n{}: 1 more thing is wrong", first.file.display()),
            (more, Some(first)) => write!(f, "\n{}: {more} more things are wrong", first.file.display()),
        }
    }
}

impl std::error::Error for AliasesError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_problems_are_told_and_the_others_counted() {
        let file = Arc::new(PathBuf::from("/etc/aliases"));
        let mut error = AliasesError::default();
        assert!(error.is_empty());
        for line in 0..21 {
            error.add(&file, line, "expected x".into());
        }
        assert_eq!(error.problems().len(), 20);
        let told = error.to_string();
        assert!(
            told.starts_with("/etc/aliases: expected x\n/etc/aliases:1: expected x\n"),
            "{told}"
        );
        assert!(told.ends_with("\n/etc/aliases: 1 more thing is wrong"), "{told}");
        error.add(&file, 0, "expected x".into());
        assert!(error.to_string().ends_with(": 2 more things are wrong"));
    }
}
