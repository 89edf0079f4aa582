//! What became of a recipient, as the queue records it.
//!
//! Values only: which reply means what is up to `outbound::outcome`, when to try again is up to `retry`.

use crate::smtp::reply::{EnhancedCode, Reply};

/// The end of one attempt for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop took responsibility: a 2xx after the last octet.
    Delivered(Reply),
    /// Try later: a 4xx, a lost connection, no answer, no route just now.
    TryLater(Reason),
    /// Give up: a 5xx, or a destination that can never exist.
    GiveUp(Reason),
}

impl Outcome {
    /// Whether the host has said what it thinks of a recipient. Silence, a lost connection and 421 are no answer: the
    /// next message would fare no better.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Outcome::Delivered(_) => true,
            Outcome::TryLater(reason) | Outcome::GiveUp(reason) => {
                reason.reply.as_ref().is_some_and(|reply| reply.code != 421)
            }
        }
    }
}

/// A good end that a sender may want to hear of (NOTIFY=SUCCESS, RFC 3464 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// It is in a local mailbox.
    Delivered,
    /// The next hop took it, and sends no reports of this kind.
    Relayed,
    /// It is an alias, and has gone to all that it stands for.
    Expanded,
}

impl Success {
    /// What `queue.db` holds for it.
    pub(super) fn number(self) -> u8 {
        match self {
            Success::Delivered => 1,
            Success::Relayed => 2,
            Success::Expanded => 3,
        }
    }

    /// What [`Success::number`] gave.
    pub(super) fn from_number(number: u8) -> Success {
        match number {
            1 => Success::Delivered,
            2 => Success::Relayed,
            _ => Success::Expanded,
        }
    }
}

/// Why a recipient was not delivered: for history, for `why`, and for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// RFC 3463 status: the peer's own, or ours where no peer spoke (4.4.1 no answer, 5.1.2 bad domain …).
    pub status: EnhancedCode,
    /// One line in the operator's words, at most 500 octets, clean of controls: a reply's code and text.
    pub text: String,
    /// The peer's reply, where one was the reason (goes into Diagnostic-Code, RFC 3464 2.3.6).
    pub reply: Option<Reply>,
}

impl Reason {
    /// The longest text, in octets.
    pub const LONGEST: usize = 500;

    /// Something on our side of the wire, in one sentence.
    #[must_use]
    pub fn here(status: EnhancedCode, what: &str) -> Reason {
        Reason::ours(status, "", what, "")
    }

    /// Puts the text together; what does not fit is cut from `what`, which is the peer's or the system's.
    pub(crate) fn ours(status: EnhancedCode, head: &str, what: &str, tail: &str) -> Reason {
        let clean = |s: &str| {
            s.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect::<String>()
        };
        let (mut head, mut what, tail) = (clean(head), clean(what), clean(tail));
        cut(&mut head, Reason::LONGEST - 100);
        cut(&mut what, Reason::LONGEST.saturating_sub(head.len() + tail.len()));
        Reason {
            status,
            text: head + &what + &tail,
            reply: None,
        }
    }
}

/// Shortens `text` to at most `longest` octets, between characters, and shows that it did.
fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        let mut end = longest.saturating_sub(3);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
}
