//! What became of a recipient at its next hop: derived once, here, from the class of the reply.
//!
//! The one owner of the policy of failure. Never decides when to try again: that is `work_queue::retry`.

use crate::smtp::reply::Reply;

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

/// Why a recipient was not delivered: for history, for `why`, and for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// RFC 3463 status: the peer's own, or ours where no peer spoke (4.4.1 no answer, 5.1.2 bad domain …).
    pub status: crate::smtp::reply::EnhancedCode,
    /// One line in the operator's words, at most 500 octets, clean of controls: for a reply its code and text.
    pub text: String,
    /// The peer's reply, where one was the reason (goes into Diagnostic-Code, RFC 3464 2.3.6).
    pub reply: Option<Reply>,
}
