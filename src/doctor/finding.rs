//! What doctor finds: a line for each thing that it has looked at. Pure.

/// How something stands. The later, the heavier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It could not be looked at; why is said.
    Unknown,
    /// Mail flows, or may; not as it should.
    Warning,
    /// It keeps mail from flowing, or lets in who should stay out.
    Error,
}

impl Status {
    /// All of them, the heaviest first.
    pub const ALL: [Status; 4] = [Status::Error, Status::Warning, Status::Unknown, Status::Ok];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Unknown => "unknown",
            Status::Warning => "warning",
            Status::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was seen.
    pub what: String,
    /// What to do; empty where there is nothing to do.
    pub advice: String,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn ok(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::of(Status::Ok, check, what, "")
    }

    /// It could not be looked at.
    #[must_use]
    pub fn unknown(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::of(Status::Unknown, check, what, advice)
    }

    /// Not as it should be.
    #[must_use]
    pub fn warning(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::of(Status::Warning, check, what, advice)
    }

    /// Mail does not flow for it.
    #[must_use]
    pub fn error(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::of(Status::Error, check, what, advice)
    }

    /// It stands so. Where all is well, there is nothing to do.
    #[must_use]
    pub fn of(
        status: Status,
        check: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        let advice = match status {
            Status::Ok => String::new(),
            _ => advice.into(),
        };
        Finding {
            check,
            status,
            what: what.into(),
            advice,
        }
    }
}
