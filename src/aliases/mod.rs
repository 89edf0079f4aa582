//! Aliases: addresses of ours that stand for others.

use std::fmt;
use std::path::Path;

use crate::smtp::path::Mailbox;

/// placeholder until the room is built
#[derive(Debug, Default, Clone)]
pub struct Aliases;

/// placeholder
#[derive(Debug)]
pub struct AliasesError;

impl fmt::Display for AliasesError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl Aliases {
    /// placeholder
    pub fn read(_: &Path, _: &[String]) -> Result<Aliases, AliasesError> {
        Ok(Aliases)
    }
    /// placeholder
    pub fn expand(&self, _: &Mailbox) -> Option<Vec<Mailbox>> {
        None
    }
}
