//! One message on its way to the peer: its envelope, how far it has come, and what became of each recipient.
//!
//! Never sends and never reads: the session does, and notes the results here.

use crate::outbound::outcome::Outcome;
use crate::smtp::path::{Mailbox, ReversePath};
use crate::work_queue::id::MessageId;

/// Names a recipient in the outbound work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipientKey(pub u32);

/// What the session must know of a message in order to send it: all but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whose content [`Step::SendContent`](super::session::Step::SendContent) asks for.
    pub message: MessageId,
    /// For MAIL.
    pub reverse_path: ReversePath,
    /// One RCPT each, in this order; all in one transaction.
    pub recipients: Vec<(RecipientKey, Mailbox)>,
    /// Octets of the content, before dot-stuffing (RFC 1870 3).
    pub size: u64,
    /// The content has octets above 127.
    pub eight_bit: bool,
}

/// What goes to the peer next for this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Mail,
    Rcpt(usize),
    Data,
    /// Nothing until DATA is answered.
    WaitForGo,
    Content,
    /// A dot alone: the peer said 354 although nobody is left to deliver to (RFC 2920 3.1).
    Dot,
    /// Nothing: all of it is on the wire.
    Nothing,
}

/// A message that the session has taken and not yet settled.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) envelope: Envelope,
    pub(super) next: Next,
    /// MAIL was answered, and with a 2xx.
    pub(super) mail_accepted: bool,
    /// How many RCPTs were answered with a 2xx.
    pub(super) accepted: usize,
    /// What is settled, in the order of the envelope; `None` is not settled yet.
    settled: Vec<Option<Outcome>>,
}

impl Transaction {
    pub(super) fn new(envelope: Envelope) -> Transaction {
        let settled = vec![None; envelope.recipients.len()];
        Transaction {
            envelope,
            next: Next::Mail,
            mail_accepted: false,
            accepted: 0,
            settled,
        }
    }

    /// MAIL was refused: that is the outcome for everybody.
    pub(super) fn refuse(&mut self, outcome: &Outcome) {
        self.settled.fill(Some(outcome.clone()));
    }

    /// The RCPT at `index` was refused. The first outcome of a recipient stays.
    pub(super) fn refuse_recipient(&mut self, index: usize, outcome: Outcome) {
        if let Some(place @ None) = self.settled.get_mut(index) {
            *place = Some(outcome);
        }
    }

    /// Whether nobody waits for an outcome any more.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.iter().all(Option::is_some)
    }

    /// The end: an outcome for every recipient, `rest` for those that had none.
    pub(super) fn settle(self, rest: &Outcome) -> (MessageId, Vec<(RecipientKey, Outcome)>) {
        let keys = self.envelope.recipients.into_iter().map(|(key, _)| key);
        let outcomes = self
            .settled
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| rest.clone()));
        (self.envelope.message, keys.zip(outcomes).collect())
    }
}
