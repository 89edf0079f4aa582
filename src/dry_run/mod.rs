//! Dry runs, in the process of the command that asks for them, by its configuration: where mail for an address would go
//! ([`route`]), and what a client would hear ([`session`]).
//!
//! Nothing is queued, and nothing that is queued is touched. An MTA that runs on the spool is asked how a next hop
//! stands, and need not be there.

pub mod route;
pub mod session;

use std::fmt;
use std::io;

use crate::addin::files::FilesError;
use crate::config::exit::Exit;

/// Why there is no dry run.
#[derive(Debug)]
pub enum DryRunError {
    /// A file that the configuration names is wrong.
    Files(FilesError),
    /// The configuration has no certificate, and nobody can call that port.
    NoCertificate,
    /// What goes in or out could not be read or written.
    Io(io::Error),
}

impl DryRunError {
    /// How the run ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            DryRunError::Files(_) | DryRunError::NoCertificate => Exit::Configuration,
            // Somebody who reads only the head of it (`| head -1`) is no error.
            DryRunError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            DryRunError::Io(_) => Exit::TryLater,
        }
    }
}

impl fmt::Display for DryRunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DryRunError::Files(error) => error.fmt(f),
            DryRunError::NoCertificate => {
                f.write_str("--front submissions: expected tls-cert and tls-key in the configuration")
            }
            DryRunError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DryRunError {}

impl From<FilesError> for DryRunError {
    fn from(error: FilesError) -> DryRunError {
        DryRunError::Files(error)
    }
}

impl From<io::Error> for DryRunError {
    fn from(error: io::Error) -> DryRunError {
        DryRunError::Io(error)
    }
}
