//! SMTPMTA, the add-in task: starts, stops and watches the others; housekeeping.

use std::process::ExitCode;

use crate::config::Invocation;
use crate::config::exit::Exit;

/// PLACEHOLDER, the lead replaces it: runs the MTA until it is told to stop.
#[must_use]
pub fn run(invocation: Invocation) -> ExitCode {
    log::info!("spool={}", invocation.config.spool.display());
    Exit::Done.into()
}
