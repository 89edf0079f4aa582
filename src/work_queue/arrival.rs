//! How a message comes into the queue: from a session into the inbound work queue, from a local
//! submission or a report into SMTP.BOX; what only passes through comes further at once.

use rusqlite::params;

use super::WorkQueue;
use super::content::{Content, Home};
use super::conversion::{PASSED_ON, Ways};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::Ledger;
use super::passage::Course;
use super::states::State;
use super::writer::Durability;
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};
use crate::smtp::command::Body;
use crate::smtp::dsn::{EnvelopeId, Notify, OriginalRecipient, Return};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::tasks::bell::Bell;

/// Who brought a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client, over SMTP: it goes to the inbound work queue, unless it only passes through.
    Session,
    /// A program on this machine: it goes to SMTP.BOX.
    Local,
    /// Our own delivery report task: it goes to SMTP.BOX.
    Report,
}

/// A recipient as the client named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee {
    /// Whom it is.
    pub path: Mailbox,
    /// Of which ends the sender wants to hear; `None` if it did not say (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// The recipient as the sender first wrote it (RFC 3461 4.2).
    pub original: Option<OriginalRecipient>,
}

/// Without a word about reports.
impl From<Mailbox> for Addressee {
    fn from(path: Mailbox) -> Addressee {
        Addressee {
            path,
            notify: None,
            original: None,
        }
    }
}

/// A message with its envelope, complete, and not yet in the queue.
#[derive(Debug)]
pub struct Arrival {
    /// Its name from now on.
    pub id: MessageId,
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Whom it is for; at least one.
    pub recipients: Vec<Addressee>,
    /// Who brought it.
    pub origin: Origin,
    /// The client's address, or the user's name.
    pub client: String,
    /// What the client called itself in HELO or EHLO; empty for local mail.
    pub helo: String,
    /// `SMTP`, `ESMTP`, `ESMTPSA`, `local` …
    pub protocol: &'static str,
    /// Who had logged in.
    pub login: Option<String>,
    /// Version and cipher of the connection, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    pub tls: Option<String>,
    /// The sender's own name for the envelope (RFC 3461 4.4).
    pub envelope_id: Option<EnvelopeId>,
    /// How much of the message a failure report shall bring back (RFC 3461 4.3).
    pub ret: Option<Return>,
    /// What octets the client said the content holds; `None` if it did not say (RFC 6152, RFC 3030).
    pub body: Option<Body>,
    /// Whether the client gave SMTPUTF8 (RFC 6531).
    pub utf8: bool,
    /// Header and body, with CRLF line ends, with our Received line on top if it came over SMTP.
    pub content: Content,
}

impl Arrival {
    /// A message of which no more is known than this: local mail from nobody in particular, nothing said
    /// about reports. The fields are there to say more.
    #[must_use]
    pub fn new<R: Into<Addressee>>(
        id: MessageId,
        origin: Origin,
        reverse_path: ReversePath,
        recipients: impl IntoIterator<Item = R>,
        content: Content,
    ) -> Arrival {
        Arrival {
            id,
            reverse_path,
            recipients: recipients.into_iter().map(Into::into).collect(),
            origin,
            client: String::new(),
            helo: String::new(),
            protocol: "local",
            login: None,
            tls: None,
            envelope_id: None,
            ret: None,
            body: None,
            utf8: false,
            content,
        }
    }

    /// One line for history and log.
    fn story(&self) -> String {
        let mut story = format!(
            "from=<{}> to={} size={} by {} {} ({})",
            self.reverse_path,
            self.recipients.len(),
            self.content.size,
            self.protocol,
            self.client,
            self.helo,
        );
        for (what, fact) in [("login", &self.login), ("tls", &self.tls)] {
            if let Some(fact) = fact {
                story += &format!(" {what}={fact}");
            }
        }
        story
    }
}

impl WorkQueue {
    /// Puts a message into its queue. When this returns, the message is on the disk.
    ///
    /// # Errors
    /// When it could not be stored: nothing of it is in the queue then.
    pub fn put(&self, arrival: Arrival) -> Result<(), QueueError> {
        self.put_and_kick(arrival, Vec::new())
    }

    /// The same; `kicks` ring as soon as it waits there for conversion.
    ///
    /// # Errors
    /// When it could not be stored: nothing of it is in the queue then.
    pub fn put_and_kick(&self, mut arrival: Arrival, kicks: Vec<Bell>) -> Result<(), QueueError> {
        if let Some(loss) = self.store.loss() {
            return Err(QueueError::Lost(loss));
        }
        let (course, others) = self.store.passage().course(&arrival);
        let kicks = others.map_or(kicks, |bell| vec![bell]);
        let now = self.now();
        let adopted = arrival.content.adopt();
        let file = adopted.name.clone();
        let committed = self
            .store
            .write_and_kick(Durability::Synced, kicks, move |ledger| {
                put(ledger, &arrival, file.as_deref(), &course, now)?;
                reach(CrashPoint::AcceptWritten);
                Ok(())
            })
            .wait();
        reach(CrashPoint::AcceptCommitted);
        let committed = committed.and_then(|()| match self.store.loss() {
            None => Ok(()),
            Some(loss) => Err(QueueError::Lost(loss)),
        });
        adopted.settle(&committed);
        committed
    }
}

/// The rows of a message that arrives at the moment `now`, as far on its way as `course` says.
pub(super) fn put(
    ledger: &mut Ledger<'_>,
    arrival: &Arrival,
    file: Option<&str>,
    course: &Course,
    now: Stamp,
) -> Result<(), QueueError> {
    let id = arrival.id;
    let in_box = match course {
        Course::First => arrival.origin != Origin::Session,
        Course::Box(_) => true,
        Course::Out(..) => false,
    };
    let (inbound_due, box_due) = match course {
        Course::Out(..) => (None, None),
        Course::First | Course::Box(_) if in_box => (None, Some(0)),
        Course::First | Course::Box(_) => (Some(0), None),
    };
    let structure = match course {
        Course::First => None,
        Course::Box(structure) | Course::Out(structure, _) => Some(structure),
    };
    ledger.run(
        "INSERT INTO message (id, inbound_due, box_due, reverse_path, origin, client, helo, protocol, \
         size, file, eight_bit, login, tls, envid, ret, body, utf8, \
         subject, header_from, header_to, message_id, date, attachments, hops, utf8_header) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            id.0,
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
            arrival.login,
            arrival.tls,
            arrival.envelope_id.as_ref().map(ToString::to_string),
            arrival.ret.as_ref().map(ToString::to_string),
            body_number(arrival.body),
            arrival.utf8,
            structure.map(|found| &found.subject),
            structure.map(|found| &found.from),
            structure.map(|found| &found.to),
            structure.map(|found| &found.message_id),
            structure.map(|found| &found.date),
            structure.map(|found| found.attachments.join("\n")),
            structure.map(|found| found.hops),
            structure.is_some_and(|found| found.utf8_header),
        ],
    )?;
    if let Home::Database(bytes) = &arrival.content.home {
        ledger.run(
            "INSERT INTO content (message, bytes) VALUES (?, ?)",
            (id.0, bytes),
        )?;
    }
    let mut ways = Ways::default();
    for (n, recipient) in arrival.recipients.iter().enumerate() {
        let (state, hop, next_attempt) = match course {
            Course::First | Course::Box(_) => (State::PendingConversion, None, Stamp(0)),
            Course::Out(_, hops) => (
                State::PendingXmit,
                hops.get(n)
                    .map(|hop| ways.lead(ledger, id, hop, now))
                    .transpose()?,
                now,
            ),
        };
        ledger.run(
            "INSERT INTO recipient (message, n, path, state, in_box, hop, next_attempt, notify, orcpt) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                id.0,
                n,
                recipient.path.to_string(),
                state.number(),
                in_box,
                hop.map(|hop| hop.0),
                next_attempt.0,
                recipient.notify.map(Notify::bits),
                recipient.original.as_ref().map(ToString::to_string),
            ),
        )?;
    }
    let accepted = arrival.story();
    match (structure, ways.story()) {
        (Some(_), Some(routed)) => {
            let story = [
                ("accepted", &*accepted),
                ("converted", PASSED_ON),
                ("routed", routed),
            ];
            ledger.record_first(id, story)?;
        }
        (converted, _) => {
            ledger.record(id, None, "accepted", &accepted)?;
            if converted.is_some() {
                ledger.record(id, None, "converted", PASSED_ON)?;
            }
        }
    }
    ledger.count("SMTP.MessagesProcessed", 1);
    let recipients = i64::try_from(arrival.recipients.len()).unwrap_or(0);
    ledger.count("Mail.AcceptedRecipients", recipients);
    Ok(())
}

/// What the column `body` holds for it.
fn body_number(body: Option<Body>) -> u8 {
    match body {
        None => 0,
        Some(Body::SevenBit) => 1,
        Some(Body::EightBitMime) => 2,
        Some(Body::BinaryMime) => 3,
    }
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
