//! What there is to report about a message, as the delivery report task needs it.
//!
//! Read, and never changed here. Whether anything is told is up to the task.

use rusqlite::{Connection, Row};

use super::damage::{mailbox_in, number_in, reverse_path_in, text_in, word_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger;
use super::outcome::{Reason, Success};
use super::soundness::state;
use super::states::State;
use crate::clock::Stamp;
use crate::smtp::dsn::{EnvelopeId, Notify, OriginalRecipient, Return};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::{EnhancedCode, ReplyParser};

/// A message that something has to be reported about.
#[derive(Clone, Debug)]
pub struct Due {
    /// The message.
    pub id: MessageId,
    /// Whom to tell.
    pub reverse_path: ReversePath,
    /// Octets of its content.
    pub size: u64,
    /// Whether the content may have no lines: it came as BINARYMIME.
    pub binary: bool,
    /// Whether it came with SMTPUTF8.
    pub utf8: bool,
    /// The sender's own name for the envelope.
    pub envelope_id: Option<EnvelopeId>,
    /// How much of the message a failure report shall bring back.
    pub ret: Option<Return>,
    /// The recipients to tell about.
    pub recipients: Vec<Concerned>,
}

/// A recipient that failed, is late, or came to a good end.
#[derive(Clone, Debug)]
pub struct Concerned {
    /// Its number in the message.
    pub n: u32,
    /// How it stands.
    pub state: State,
    /// Whom it is.
    pub path: Mailbox,
    /// The recipient that the client named, where this one was expanded from it.
    pub expanded_from: Option<Mailbox>,
    /// The recipient as the sender first wrote it, where the client said so.
    pub original: Option<OriginalRecipient>,
    /// Of which ends the sender wants to hear; `None` if it did not say.
    pub notify: Option<Notify>,
    /// The good end that it came to.
    pub success: Option<Success>,
    /// The host that the reason is from; empty where none was reached.
    pub host: String,
    /// When it was tried last.
    pub last_attempt: Option<Stamp>,
    /// Whether it waits because its next hop backs off.
    pub backs_off: bool,
    /// How the last attempt ended: its own, or the next hop's while that backs off. Of a good end: its status, and
    /// what the next hop said.
    pub reason: Reason,
}

/// What there is to tell about message `id`, of the recipients that are `wanted` by their state and good end;
/// `None` where its rows are damaged.
pub(super) fn due(
    db: &Connection,
    id: MessageId,
    wanted: impl Fn(State, Option<Success>) -> bool,
) -> Result<Option<Due>, QueueError> {
    let message = ledger::row(
        db,
        "SELECT reverse_path, size, body, utf8, envid, ret FROM message WHERE id = ?",
        [id.0],
        |row| {
            let (Some(reverse_path), Some(size)) = (reverse_path_in(row, 0), number_in(row, 1)) else {
                return Ok(None);
            };
            Ok(Some(Due {
                id,
                reverse_path,
                size,
                binary: number_in(row, 2) == Some(3_u8),
                utf8: row.get(3)?,
                envelope_id: word_in(row, 4),
                ret: word_in(row, 5),
                recipients: Vec::new(),
            }))
        },
    )?;
    let Some(mut due) = message.flatten() else {
        return Ok(None);
    };
    let recipients = ledger::rows(
        db,
        "SELECT r.n, r.path, r.state, ifnull(r.last_host, ''), r.last_status, r.last_error, \
           ifnull(r.last_reply, ''), r.notify, r.orcpt, r.report_due, p.path, \
           ifnull(r.attempted_at, iif(r.state = 10, r.settled_at, NULL)), \
           r.state = 2 AND ifnull(h.failures, 0) > 0, h.last_status, h.last_error \
         FROM recipient r LEFT JOIN recipient p ON p.message = r.message AND p.n = r.parent \
           LEFT JOIN next_hop h ON h.id = r.hop \
         WHERE r.message = ? ORDER BY r.n",
        [id.0],
        |row| {
            let Some(state) = state(row.get(2)?) else {
                return Ok(Some(None));
            };
            // Who was given up has come to no good end, whatever a damaged row says.
            let success = number_in(row, 9)
                .map(Success::from_number)
                .filter(|_| state != State::PendingReport);
            Ok(match wanted(state, success) {
                true => Some(concerned(row, state, success)?),
                false => None,
            })
        },
    )?;
    let recipients: Option<Vec<Concerned>> = recipients.into_iter().flatten().collect();
    Ok(recipients.map(|recipients| {
        due.recipients = recipients;
        due
    }))
}

/// What there is to tell about several messages.
#[derive(Debug, Default)]
pub(super) struct Dues {
    /// That.
    pub(super) dues: Vec<Due>,
    /// Messages whose rows hold what can not be.
    pub(super) damaged: Vec<MessageId>,
    /// Messages whose rows can not be read.
    pub(super) unreadable: Vec<MessageId>,
}

/// As [`due`], for many.
pub(super) fn dues(
    db: &Connection,
    ids: Vec<MessageId>,
    wanted: impl Fn(State, Option<Success>) -> bool,
) -> Result<Dues, QueueError> {
    let mut found = Dues::default();
    for id in ids {
        match due(db, id, &wanted) {
            Ok(Some(due)) => found.dues.push(due),
            Ok(None) => found.damaged.push(id),
            Err(error) if error.is_damage() => found.unreadable.push(id),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The recipient in a row; `None` where its path is none.
fn concerned(row: &Row<'_>, state: State, success: Option<Success>) -> rusqlite::Result<Option<Concerned>> {
    let backs_off: bool = row.get(12)?;
    let (status, text): (Option<String>, Option<String>) = match backs_off {
        true => (text_in(row, 13), text_in(row, 14)),
        false => (text_in(row, 4), text_in(row, 5)),
    };
    // What another message met at its next hop may have been at another host.
    let is_own = !backs_off || text == text_in(row, 5);
    let (host, reply): (String, String) = match is_own {
        true => (
            text_in(row, 3).unwrap_or_default(),
            text_in(row, 6).unwrap_or_default(),
        ),
        false => Default::default(),
    };
    let status = status.and_then(|status| EnhancedCode::take(&status).map(|(code, _)| code));
    let reason = Reason {
        status: status.unwrap_or(EnhancedCode(4, 0, 0)),
        text: text.unwrap_or_default(),
        reply: ReplyParser::default().feed(reply.as_bytes()).ok().flatten(),
    };
    let notify = number_in::<u8>(row, 7);
    let last_attempt: Option<i64> = row.get(11)?;
    let named = number_in(row, 0).zip(mailbox_in(row, 1));
    Ok(named.map(|(n, path)| Concerned {
        n,
        state,
        path,
        expanded_from: mailbox_in(row, 10),
        original: word_in(row, 8),
        notify: notify.map(Notify::from_bits),
        success,
        host,
        last_attempt: last_attempt.map(Stamp),
        backs_off,
        reason,
    }))
}
