//! The fronts on which isesctl listens, and what each asks of its clients (RFC 6409, RFC 8314).

/// Which kind of listener a client called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// `--listen`: other hosts, and clients that may relay.
    Relay,
    /// `--listen-submission`: users, after STARTTLS and AUTH.
    Submission,
    /// `--listen-submissions`: users, in TLS from the first octet, after AUTH.
    Submissions,
}

impl Front {
    /// Whether TLS comes before the greeting.
    #[must_use]
    pub fn begins_with_tls(self) -> bool {
        self == Front::Submissions
    }

    /// Whether only users who have logged in may send from here.
    #[must_use]
    pub fn demands_login(self) -> bool {
        self != Front::Relay
    }
}
