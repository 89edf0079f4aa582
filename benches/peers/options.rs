//! The options of the subcommands: `--name value` pairs, read by name.
//!
//! Never takes a name that the subcommand does not know.

use std::collections::HashMap;
use std::str::FromStr;

/// What was given.
#[derive(Debug)]
pub struct Options {
    values: HashMap<String, String>,
}

impl Options {
    /// Reads `words`; `flags` stand alone, `names` have a value.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn read(words: &[String], names: &[&str], flags: &[&str]) -> Result<Options, String> {
        let mut values = HashMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").unwrap_or_default();
            let value = if flags.contains(&name) {
                String::new()
            } else if names.contains(&name) {
                words.next().ok_or(format!("{word} needs a value"))?.clone()
            } else {
                return Err(format!(
                    "{word}: not known; there are --{}",
                    [names, flags].concat().join(" --")
                ));
            };
            values.insert(name.to_owned(), value);
        }
        Ok(Options { values })
    }

    /// Whether it was given.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Its words.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Its value.
    ///
    /// # Errors
    /// When it can not be read.
    pub fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| format!("--{name} {text}: can not be read"))
        };
        self.values.get(name).map(parse).transpose()
    }
}
