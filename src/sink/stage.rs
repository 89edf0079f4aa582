//! The stages of a dialogue at which the sink can be told to misbehave, and what can go wrong at each.
//!
//! One table of words. Never looks at a dialogue.

use std::fmt;

use super::fault::Deed;

/// Where in a dialogue something can go wrong: what is about to be answered, unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Somebody has called, and nothing was said. A stall leaves everybody in the kernel's backlog.
    Connect,
    /// The greeting is due.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS.
    Starttls,
    /// The client is about to begin its TLS handshake.
    Handshake,
    /// AUTH, or the client's answer to a challenge.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// Content is about to come; nothing is due.
    Content,
    /// The end of a message, after its dot or its last chunk.
    Dot,
    /// A chunk, after its octets.
    Bdat,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

impl Stage {
    /// All of them, in the order in which a dialogue meets them.
    pub const ALL: [Stage; 15] = [
        Stage::Connect,
        Stage::Greeting,
        Stage::Ehlo,
        Stage::Helo,
        Stage::Starttls,
        Stage::Handshake,
        Stage::Auth,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Content,
        Stage::Dot,
        Stage::Bdat,
        Stage::Rset,
        Stage::Quit,
    ];

    /// The word for it in `--fault`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Greeting => "greeting",
            Stage::Ehlo => "ehlo",
            Stage::Helo => "helo",
            Stage::Starttls => "starttls",
            Stage::Handshake => "handshake",
            Stage::Auth => "auth",
            Stage::Mail => "mail",
            Stage::Rcpt => "rcpt",
            Stage::Data => "data",
            Stage::Content => "content",
            Stage::Dot => "dot",
            Stage::Bdat => "bdat",
            Stage::Rset => "rset",
            Stage::Quit => "quit",
        }
    }

    /// The stage of this word, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Stage> {
        let mut all = Stage::ALL.into_iter();
        all.find(|stage| stage.word().eq_ignore_ascii_case(word))
    }

    /// What is said for `refuse`.
    pub(super) fn refusal(self) -> Option<&'static str> {
        Some(match self {
            Stage::Connect | Stage::Handshake => return None,
            // RFC 5321 3.1.
            Stage::Greeting => "554 5.3.2 No SMTP service here, to order",
            Stage::Ehlo | Stage::Helo => "550 5.7.1 Refused to order",
            Stage::Starttls => "554 5.7.3 No TLS, to order",
            Stage::Auth => "535 5.7.8 Authentication failed, to order",
            Stage::Mail => "550 5.7.1 Sender refused to order",
            Stage::Rcpt => "550 5.1.1 No such user here, to order",
            Stage::Data => "554 5.5.1 No valid recipients, to order",
            Stage::Content | Stage::Dot | Stage::Bdat => "554 5.6.0 Message refused to order",
            Stage::Rset | Stage::Quit => "500 5.5.1 Refused to order",
        })
    }

    /// What is said for `defer`.
    pub(super) fn deferral(self) -> Option<&'static str> {
        Some(match self {
            Stage::Connect | Stage::Handshake => return None,
            Stage::Greeting | Stage::Ehlo | Stage::Helo => "421 4.3.2 Not now, to order",
            Stage::Starttls | Stage::Auth => "454 4.7.0 Not now, to order",
            Stage::Rcpt => "450 4.2.1 Mailbox busy, to order",
            Stage::Mail | Stage::Data | Stage::Content | Stage::Dot | Stage::Bdat => {
                "451 4.3.0 Not now, to order"
            }
            Stage::Rset | Stage::Quit => "421 4.3.2 Closing, to order",
        })
    }

    /// What is said when all is well, where nothing needs to be known for it. For [`Deed::Early`].
    pub(super) fn consent(self) -> &'static str {
        match self {
            Stage::Starttls | Stage::Greeting => "220 2.0.0 Go ahead, before you asked",
            Stage::Auth => "235 2.7.0 Welcome, before you asked",
            Stage::Data => "354 Go ahead, before you asked",
            Stage::Quit => "221 2.0.0 Goodbye, before you asked",
            _ => "250 2.0.0 OK, before you asked",
        }
    }

    /// The stage whose reply an [early](Deed::Early) one comes with.
    pub(super) fn before(self) -> Option<Stage> {
        match self {
            Stage::Connect | Stage::Greeting | Stage::Handshake | Stage::Content => None,
            Stage::Ehlo | Stage::Helo => Some(Stage::Greeting),
            Stage::Starttls | Stage::Auth | Stage::Mail => Some(Stage::Ehlo),
            Stage::Rcpt => Some(Stage::Mail),
            Stage::Data | Stage::Bdat => Some(Stage::Rcpt),
            Stage::Dot => Some(Stage::Data),
            Stage::Rset | Stage::Quit => Some(Stage::Dot),
        }
    }

    /// Whether that can be done here.
    pub(super) fn allows(self, deed: &Deed) -> bool {
        match (self, deed) {
            (_, Deed::Drop | Deed::Reset | Deed::Stall | Deed::Late(_)) => true,
            (Stage::Connect, _) => false,
            (_, Deed::Say(_)) => true,
            (Stage::Handshake, _) => false,
            (_, Deed::Slow(_)) => true,
            (Stage::Content, _) => false,
            (_, Deed::CloseAfter) => true,
            (_, Deed::Early) => self.before().is_some(),
        }
    }

    /// The words for what can be done here.
    pub(super) fn deeds(self) -> impl Iterator<Item = &'static str> {
        let replies = self.refusal().is_some();
        let words = [
            ("refuse", replies),
            ("defer", replies),
            ("a reply such as \"552 5.2.2 full\"", replies),
            ("drop", true),
            ("reset", true),
            ("stall", true),
            ("slow:MS", self.allows(&Deed::Slow(std::time::Duration::ZERO))),
            ("late:MS", true),
            ("garbage", self.allows(&Deed::Say(Vec::new()))),
            ("early", self.allows(&Deed::Early)),
            ("close-after", self.allows(&Deed::CloseAfter)),
        ];
        words
            .into_iter()
            .filter(|(_, is_possible)| *is_possible)
            .map(|(word, _)| word)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
