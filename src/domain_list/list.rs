//! A domain list and its names.

use std::fmt;

use super::next_hop::NextHop;
use crate::smtp::dsn::{EnvelopeId, Notify, OriginalRecipient, Return};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::work_queue::id::MessageId;

/// Names a domain list: the reference ID that osesctl gives to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub i64);

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a next hop in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(pub i64);

/// A domain list: frozen, and never sorted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainList {
    /// Its reference ID.
    pub id: ListId,
    /// Where it goes.
    pub hop: HopId,
    /// Where it goes, in words that outbound understands.
    pub next_hop: NextHop,
    /// Messages on it.
    pub messages: usize,
    /// Recipients of these messages on it.
    pub recipients: usize,
    /// The handler that has it; its rows are locked then.
    pub handler: Option<usize>,
    /// Its messages, where they were read as it was made.
    pub contents: Option<Vec<ListedMessage>>,
}

/// A message on a list, with those of its recipients that are on it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMessage {
    /// The message.
    pub id: MessageId,
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Octets of its content.
    pub size: u64,
    /// Whether the content has octets above 127.
    pub eight_bit: bool,
    /// Whether the content may have no lines: it came as BINARYMIME (RFC 3030).
    pub binary: bool,
    /// Whether it came with SMTPUTF8, and its header needs that (RFC 6531).
    pub utf8_header: bool,
    /// The sender's own name for the envelope (RFC 3461 4.4).
    pub envelope_id: Option<EnvelopeId>,
    /// How much of the message a failure report shall bring back (RFC 3461 4.3).
    pub ret: Option<Return>,
    /// In the order of RCPT; they travel in one transaction.
    pub recipients: Vec<ListedRecipient>,
}

/// A recipient on a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecipient {
    /// Its number in the message.
    pub n: u32,
    /// Whom it is.
    pub path: Mailbox,
    /// The recipient that the client named, where this one was expanded from it.
    pub expanded_from: Option<Mailbox>,
    /// Of which ends the sender wants to hear; `None` if it did not say (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// The recipient as the sender first wrote it, where the client said so (RFC 3461 4.2).
    pub original: Option<OriginalRecipient>,
}

/// A list of one message, for tests.
#[cfg(test)]
pub(crate) fn list(id: i64, hop: i64, handler: Option<usize>) -> DomainList {
    DomainList {
        id: ListId(id),
        hop: HopId(hop),
        next_hop: NextHop::from_name("lotus.com"),
        messages: 1,
        recipients: 1,
        handler,
        contents: None,
    }
}
