//! One message on its way to the peer: its envelope, how far it has come, and what became of each recipient.
//!
//! Never sends and never reads: the session does, and notes the results here.

use std::fmt;

use crate::outbound::offered::Offered;
use crate::outbound::outcome::Outcome;
use crate::smtp::dsn::{EnvelopeId, Notify, OriginalRecipient, Return};
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
    pub recipients: Vec<Recipient>,
    /// Octets of the content, before dot-stuffing (RFC 1870 3).
    pub size: u64,
    /// The content has octets above 127.
    pub eight_bit: bool,
    /// The content may have no lines, and must not be sent as if it had (RFC 3030 3).
    pub binary: bool,
    /// The content would have to be converted for the peer, and cannot be: why not.
    pub unsuitable: Option<String>,
    /// The header needs SMTPUTF8 (RFC 6531 3.6).
    pub utf8_header: bool,
    /// What the sender calls this envelope (RFC 3461 4.4).
    pub envelope_id: Option<EnvelopeId>,
    /// How much of the message a failure report shall bring back (RFC 3461 4.3).
    pub ret: Option<Return>,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Its name in the outbound work queue.
    pub key: RecipientKey,
    /// For RCPT.
    pub mailbox: Mailbox,
    /// Of which ends the sender wants to hear; `None` if it did not say (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// The recipient as the sender first wrote it (RFC 3461 4.2).
    pub original: Option<OriginalRecipient>,
}

/// Without a word about reports.
impl From<(RecipientKey, Mailbox)> for Recipient {
    fn from((key, mailbox): (RecipientKey, Mailbox)) -> Recipient {
        Recipient {
            key,
            mailbox,
            notify: None,
            original: None,
        }
    }
}

impl Envelope {
    /// A message of which no more is known than this: nothing special about its content, nothing said about
    /// reports.
    #[must_use]
    pub fn new<R: Into<Recipient>>(
        message: MessageId,
        reverse_path: ReversePath,
        recipients: impl IntoIterator<Item = R>,
        size: u64,
    ) -> Envelope {
        Envelope {
            message,
            reverse_path,
            recipients: recipients.into_iter().map(Into::into).collect(),
            size,
            eight_bit: false,
            binary: false,
            unsuitable: None,
            utf8_header: false,
            envelope_id: None,
            ret: None,
        }
    }

    /// What needs SMTPUTF8 whoever the recipients are: in the words of a reason.
    pub(super) fn needs_utf8(&self) -> Option<&'static str> {
        self.sender_needs_utf8()
            .or(self.utf8_header.then_some("the header"))
    }

    /// The same of the sender alone.
    pub(super) fn sender_needs_utf8(&self) -> Option<&'static str> {
        let reverse_path = self.reverse_path.0.as_ref();
        let needs_utf8 = reverse_path.is_some_and(Mailbox::needs_utf8);
        needs_utf8.then_some("the address of the sender")
    }

    /// MAIL, with the parameters that the peer offers and this message needs.
    pub(super) fn mail(&self, offered: &Offered) -> String {
        let mut line = format!("MAIL FROM:<{}>", self.reverse_path);
        if offered.size.is_some() {
            line += &format!(" SIZE={}", self.size);
        }
        if self.binary {
            line += " BODY=BINARYMIME";
        } else if offered.eight_bit_mime && self.eight_bit {
            line += " BODY=8BITMIME";
        }
        if self.goes_as_utf8(offered) {
            line += " SMTPUTF8";
        }
        if offered.dsn {
            line += &parameter("RET", self.ret.as_ref());
            line += &parameter("ENVID", self.envelope_id.as_ref());
        }
        line + "\r\n"
    }

    /// RCPT for one of the recipients, likewise. RFC 3461 5.2.1: what the client gave is handed on as it is.
    pub(super) fn rcpt(&self, recipient: &Recipient, offered: &Offered) -> String {
        let mut line = format!("RCPT TO:<{}>", recipient.mailbox);
        if offered.dsn {
            line += &parameter("NOTIFY", recipient.notify.as_ref());
            let original = match &recipient.original {
                Some(original) if !self.goes_as_utf8(offered) => Some(original.in_ascii()),
                original => original.clone(),
            };
            line += &parameter("ORCPT", original.as_ref());
        }
        line + "\r\n"
    }

    /// Whether SMTPUTF8 is said. RFC 6531 3.4: only where it is needed.
    fn goes_as_utf8(&self, offered: &Offered) -> bool {
        let of_recipients = || self.recipients.iter().any(|r| r.mailbox.needs_utf8());
        offered.smtp_utf8 && (self.needs_utf8().is_some() || of_recipients())
    }
}

fn parameter(name: &str, value: Option<&impl fmt::Display>) -> String {
    value.map(|value| format!(" {name}={value}")).unwrap_or_default()
}

/// What goes to the peer next for this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Mail,
    Rcpt(usize),
    Data,
    /// BDAT with all of the content; where that is much, once RCPT is answered.
    Bdat,
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
    /// MAIL was refused because the dialogue is confused: the peer has not looked at it.
    pub(super) out_of_sequence: bool,
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
            out_of_sequence: false,
            accepted: 0,
            settled,
        }
    }

    /// MAIL was refused: that is the outcome for everybody.
    pub(super) fn refuse(&mut self, outcome: &Outcome) {
        self.settled.fill(Some(outcome.clone()));
    }

    /// What became of the recipient at `index`: its RCPT was refused, or the content was answered for it alone. The first
    /// outcome of a recipient stays.
    pub(super) fn settle_recipient(&mut self, index: usize, outcome: Outcome) {
        if let Some(place @ None) = self.settled.get_mut(index) {
            *place = Some(outcome);
        }
    }

    /// Whether RCPT need not be said for the recipient at `index`: its outcome is known already.
    pub(super) fn is_passed_over(&self, index: usize) -> bool {
        self.settled.get(index).is_some_and(Option::is_some)
    }

    /// Those that have no outcome yet, in the order of the envelope.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = usize> {
        let places = self.settled.iter().enumerate();
        places
            .filter(|(_, outcome)| outcome.is_none())
            .map(|(index, _)| index)
    }

    /// Whether nobody waits for an outcome any more.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.iter().all(Option::is_some)
    }

    /// The end: an outcome for every recipient, `rest` for those that had none.
    pub(super) fn settle(self, rest: &Outcome) -> (MessageId, Vec<(RecipientKey, Outcome)>) {
        let keys = self
            .envelope
            .recipients
            .into_iter()
            .map(|recipient| recipient.key);
        let outcomes = self
            .settled
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| rest.clone()));
        (self.envelope.message, keys.zip(outcomes).collect())
    }
}
