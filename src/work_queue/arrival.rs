//! How a message comes into the queue: from a session into the inbound work queue, from a local
//! submission or a report into SMTP.BOX.

use super::WorkQueue;
use super::content::{Content, Home};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::Ledger;
use super::states::State;
use crate::smtp::path::{Mailbox, ReversePath};

/// Who brought a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client, over SMTP: it goes to the inbound work queue.
    Session,
    /// A program on this machine: it goes to SMTP.BOX.
    Local,
    /// Our own delivery report task: it goes to SMTP.BOX.
    Report,
}

/// A message with its envelope, complete, and not yet in the queue.
#[derive(Debug)]
pub struct Arrival {
    /// Its name from now on.
    pub id: MessageId,
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Whom it is for; at least one.
    pub recipients: Vec<Mailbox>,
    /// Who brought it.
    pub origin: Origin,
    /// The client's address, or the user's name.
    pub client: String,
    /// What the client called itself in HELO or EHLO; empty for local mail.
    pub helo: String,
    /// `SMTP`, `ESMTP`, `local`.
    pub protocol: &'static str,
    /// Header and body, with CRLF line ends, with our Received line on top if it came over SMTP.
    pub content: Content,
}

impl Arrival {
    /// One line for history and log.
    fn story(&self) -> String {
        format!(
            "from=<{}> to={} size={} by {} {} ({})",
            self.reverse_path,
            self.recipients.len(),
            self.content.size,
            self.protocol,
            self.client,
            self.helo,
        )
    }
}

impl WorkQueue {
    /// Puts a message into its queue. When this returns, the message is on the disk.
    ///
    /// # Errors
    /// When it could not be stored: nothing of it is in the queue then.
    pub fn put(&self, mut arrival: Arrival) -> Result<(), QueueError> {
        let adopted = arrival.content.adopt();
        let file = adopted.name.clone();
        let committed = self
            .store
            .write(move |ledger| put(ledger, &arrival, file.as_deref()))
            .wait();
        adopted.settle(&committed);
        committed
    }
}

/// The rows of a message that arrives.
pub(super) fn put(ledger: &mut Ledger<'_>, arrival: &Arrival, file: Option<&str>) -> Result<(), QueueError> {
    let in_box = arrival.origin != Origin::Session;
    let (inbound_due, box_due) = if in_box { (None, Some(0)) } else { (Some(0), None) };
    ledger.run(
        "INSERT INTO message (id, inbound_due, box_due, reverse_path, origin, client, helo, protocol, \
         size, file, eight_bit) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            arrival.id.0,
            inbound_due,
            box_due,
            arrival.reverse_path.to_string(),
            arrival.origin.number(),
            &arrival.client,
            &arrival.helo,
            arrival.protocol,
            arrival.content.size,
            file,
            arrival.content.eight_bit,
        ),
    )?;
    if let Home::Database(bytes) = &arrival.content.home {
        ledger.run(
            "INSERT INTO content (message, bytes) VALUES (?, ?)",
            (arrival.id.0, bytes),
        )?;
    }
    for (n, recipient) in arrival.recipients.iter().enumerate() {
        ledger.run(
            "INSERT INTO recipient (message, n, path, state, in_box) VALUES (?, ?, ?, ?, ?)",
            (
                arrival.id.0,
                n,
                recipient.to_string(),
                State::PendingConversion.number(),
                in_box,
            ),
        )?;
    }
    ledger.record(arrival.id, None, "accepted", &arrival.story())?;
    ledger.count("SMTP.MessagesProcessed", 1);
    Ok(())
}

impl Origin {
    fn number(self) -> u8 {
        match self {
            Origin::Session => 1,
            Origin::Local => 2,
            Origin::Report => 3,
        }
    }

    pub(super) fn from_number(number: u8) -> Origin {
        match number {
            1 => Origin::Session,
            2 => Origin::Local,
            _ => Origin::Report,
        }
    }
}
