//! How a run of the program ends: the exit statuses that scripts rely on (sysexits.h), and no others.

use std::process::ExitCode;

/// The exit statuses of smtpmta. The man page's EXIT STATUS says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Nothing matched, or the MTA refused.
    Refused,
    /// The command line is wrong (`EX_USAGE`).
    Usage,
    /// The work queue is not in order, or a message not one that can be sent (`EX_DATAERR`).
    Damaged,
    /// There is no work queue (`EX_NOINPUT`).
    NoInput,
    /// An address of ours is nobody's (`EX_NOUSER`).
    NoUser,
    /// No MTA is running on this spool (`EX_UNAVAILABLE`).
    NotRunning,
    /// Standard input could not be read, or standard output not written (`EX_IOERR`).
    Unreadable,
    /// Try later (`EX_TEMPFAIL`).
    TryLater,
    /// That is not for this user (`EX_NOPERM`).
    NotAllowed,
    /// The configuration file is wrong (`EX_CONFIG`).
    Configuration,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 64,
            Exit::Damaged => 65,
            Exit::NoInput => 66,
            Exit::NoUser => 67,
            Exit::NotRunning => 69,
            Exit::Unreadable => 74,
            Exit::TryLater => 75,
            Exit::NotAllowed => 77,
            Exit::Configuration => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.status())
    }
}
