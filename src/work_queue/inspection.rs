//! Inspection: reads the rows of messages, and finds what the rules of `soundness` are broken by.
//!
//! Reads whatever is in a column, however broken it is, and changes nothing.

use rusqlite::{Connection, Row};

use super::damage::{mailbox_in, reverse_path_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger;
use super::pin::pin_in;
use super::soundness::{Fault, Kind, MessageRow, RecipientRow, Sender, Sum};
use super::states::State;

/// Something that is wrong with a work queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Of what kind.
    pub kind: Kind,
    /// Where: which message, row or file.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

/// The same, with the recipient that it is about, where it is one, and what is wrong with that.
pub(super) type Found = (Finding, Option<(i64, Fault)>);

impl Finding {
    /// Of a message.
    pub(super) fn of(kind: Kind, id: MessageId, what: impl Into<String>) -> Finding {
        Finding {
            kind,
            place: format!("message {id}"),
            what: what.into(),
        }
    }
}

/// A message that is being inspected, with what its rows add up to.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) row: MessageRow,
    pub(super) sum: Sum,
    /// Octets of its content in the database, where there is one.
    pub(super) content: Option<i64>,
    /// The recipients that it had when it was accepted, as its history says.
    pub(super) accepted: Option<i64>,
    /// What its history begins with, up to that number.
    story: Option<String>,
    /// Something is wrong with it by itself.
    fault: Option<String>,
}

/// Recipients by their states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    states: [i64; State::ALL.len()],
    /// In states that do not exist.
    pub(super) unknown: i64,
    /// Those that were named when their message was accepted, as history says.
    pub(super) accepted: i64,
    /// Those that came of aliases.
    pub(super) of_aliases: i64,
}

impl Census {
    fn count(&mut self, number: i64) {
        match State::ALL
            .iter()
            .position(|state| i64::from(state.number()) == number)
        {
            Some(place) => self.states[place] += 1,
            None => self.unknown += 1,
        }
    }

    /// How many are in this state.
    pub(super) fn of(&self, state: State) -> i64 {
        let place = State::ALL.iter().position(|other| *other == state);
        place.map_or(0, |place| self.states[place])
    }

    /// All of them.
    pub(super) fn all(&self) -> i64 {
        self.states.iter().sum::<i64>() + self.unknown
    }
}

/// The messages of a part of the queue, in their order: those with IDs after `after` and up to `upto`, at most `limit`.
pub(super) fn messages(
    db: &Connection,
    after: MessageId,
    upto: MessageId,
    limit: usize,
) -> Result<Vec<Seen>, QueueError> {
    ledger::rows(
        db,
        "SELECT id, reverse_path, left_at IS NOT NULL, inbound_due, box_due, size, origin, body, file \
         FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
        (after.0, upto.0, limit),
        |row| {
            let sender = match reverse_path_in(row, 1) {
                None => Sender::Broken,
                Some(path) if path.0.is_none() => Sender::Null,
                Some(_) => Sender::Mailbox,
            };
            let story = text(row, 1).map(|path| format!("from=<{path}> to="));
            let message = MessageRow {
                id: MessageId(row.get(0)?),
                sender,
                has_left: row.get(2)?,
                inbound_due: row.get(3)?,
                box_due: row.get(4)?,
                size: row.get(5)?,
                origin: row.get(6)?,
                body: row.get(7)?,
                file: text(row, 8),
            };
            Ok(Seen {
                fault: message.fault(),
                row: message,
                sum: Sum::default(),
                content: None,
                accepted: None,
                story,
            })
        },
    )
}

/// Looks at the recipients of these messages, which are all that there are after `after` and up to `upto`; tells what is
/// wrong with them, and with what is kept about them.
pub(super) fn recipients(
    db: &Connection,
    (after, upto): (MessageId, MessageId),
    seen: &mut [Seen],
    census: &mut Census,
    tell: &mut dyn FnMut(Finding, Option<(i64, Fault)>),
) -> Result<(), QueueError> {
    let mut statement = db.prepare_cached(
        "SELECT r.message, r.n, r.path, r.state, r.in_box, r.hop, h.id IS NOT NULL, r.list, l.hop, \
           l.handler IS NOT NULL, r.next_attempt, r.attempts, r.parent, r.report_due, r.notify, r.pin \
         FROM recipient r LEFT JOIN next_hop h ON h.id = r.hop LEFT JOIN domain_list l ON l.id = r.list \
         WHERE r.message > ? AND r.message <= ? ORDER BY r.message, r.n",
    )?;
    let mut rows = statement.query((after.0, upto.0))?;
    while let Some(row) = rows.next()? {
        let (id, recipient) = (MessageId(row.get(0)?), recipient(row)?);
        census.count(recipient.state);
        census.of_aliases += i64::from(recipient.parent.is_some());
        let place = format!("message {id} recipient {}", recipient.n);
        let finding = |kind, what: &str| Finding {
            kind,
            place: place.clone(),
            what: what.to_owned(),
        };
        let Some(seen) = find(seen, id) else {
            tell(finding(Kind::Lost, "there is no such message"), None);
            continue;
        };
        if let Some(missing) = seen.sum.take(&recipient) {
            tell(Finding::of(Kind::Lost, id, missing), None);
        }
        if let Some(fault) = recipient.fault(&seen.row) {
            let kind = match (&fault, seen.row.has_left) {
                (Fault::Stuck(_), true) | (Fault::Origin(_), _) => Kind::Lost,
                (Fault::Stuck(_), false) => Kind::Rows,
                (Fault::Report(_), _) => Kind::Kept,
            };
            tell(finding(kind, fault.what()), Some((recipient.n, fault)));
        }
    }
    for seen in seen {
        if let Some(fault) = seen.fault.as_ref().filter(|_| seen.sum.at_work > 0) {
            tell(Finding::of(Kind::Rows, seen.row.id, fault), None);
        }
        if let Some(fault) = seen.sum.fault(&seen.row) {
            let kind = if seen.row.has_left { Kind::Lost } else { Kind::Kept };
            tell(Finding::of(kind, seen.row.id, fault), None);
        }
    }
    Ok(())
}

/// Notes the content that the database has of these messages; tells of content that nobody needs.
pub(super) fn contents(
    db: &Connection,
    (after, upto): (MessageId, MessageId),
    seen: &mut [Seen],
    tell: &mut dyn FnMut(Finding),
) -> Result<(), QueueError> {
    let mut statement = db.prepare_cached(
        "SELECT message, length(bytes) FROM content WHERE message > ? AND message <= ? ORDER BY message",
    )?;
    let mut rows = statement.query((after.0, upto.0))?;
    while let Some(row) = rows.next()? {
        let id = MessageId(row.get(0)?);
        match find(seen, id) {
            Some(seen) => seen.content = row.get(1)?,
            None => tell(Finding::of(
                Kind::Stray,
                id,
                "there is content of it, and no message",
            )),
        }
    }
    for seen in seen {
        let fault = match (seen.row.has_left, &seen.row.file, seen.content) {
            (true, _, Some(_)) if seen.sum.removed == 0 => {
                Some((Kind::Stray, "it has left, and its content has not".to_owned()))
            }
            (false, Some(_), Some(_)) => Some((
                Kind::Stray,
                "it has content in the database besides its file".to_owned(),
            )),
            (false, None, None) => Some((Kind::Content, "its content is missing".to_owned())),
            (false, None, Some(size)) => cut(seen.row.size, size).map(|what| (Kind::Content, what)),
            _ => None,
        };
        if let Some((kind, what)) = fault {
            tell(Finding::of(kind, seen.row.id, what));
        }
    }
    Ok(())
}

/// Compares these messages with their history; tells of those of which there is nothing else left.
pub(super) fn histories(
    db: &Connection,
    (after, upto): (MessageId, MessageId),
    seen: &mut [Seen],
    census: &mut Census,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), QueueError> {
    let mut statement = db.prepare_cached(
        "SELECT message, what = 'accepted', text FROM event WHERE message > ? AND message <= ? \
         ORDER BY message, stamp",
    )?;
    let mut rows = statement.query((after.0, upto.0))?;
    let mut told = None;
    while let Some(row) = rows.next()? {
        let id = MessageId(row.get(0)?);
        let Some(seen) = find(seen, id) else {
            if told.replace(id) != Some(id) {
                tell(Finding::of(
                    Kind::Lost,
                    id,
                    "there is history of it, and no message",
                ));
            }
            continue;
        };
        if seen.accepted.is_none() && row.get(1)? {
            seen.accepted = seen.story.as_deref().and_then(|begin| accepted(row, begin));
        }
    }
    for seen in seen {
        let accepted = seen.accepted.unwrap_or(seen.sum.named);
        census.accepted = census.accepted.saturating_add(accepted);
        if let Some(lost) = seen.accepted.and_then(|accepted| seen.sum.lost(accepted)) {
            tell(Finding::of(Kind::Lost, seen.row.id, lost));
        }
    }
    Ok(())
}

/// What is wrong with the rows of message `id`, content and history apart, and with which of its recipients; also that
/// it has left for good, for what there is of it in the queue is astray then, or that there is content of it and nothing
/// else. Nothing where there is no such message.
pub(super) fn one(db: &Connection, id: MessageId) -> Result<Vec<Found>, QueueError> {
    let range = (MessageId(id.0.saturating_sub(1)), id);
    let mut seen = messages(db, range.0, range.1, 1)?;
    let mut found = Vec::new();
    recipients(
        db,
        range,
        &mut seen,
        &mut Census::default(),
        &mut |finding, fault| {
            found.push((finding, fault));
        },
    )?;
    if seen.iter().any(|seen| seen.row.has_left && seen.sum.removed == 0) {
        found.push((Finding::of(Kind::Stray, id, "it has left"), None));
    }
    if seen.is_empty() && is_nobodys(db, id)? {
        found.push((
            Finding::of(Kind::Stray, id, "there is content of it, and nothing else"),
            None,
        ));
    }
    Ok(found)
}

/// Whether there is content of message `id` in the database, and nobody ever heard of that message.
fn is_nobodys(db: &Connection, id: MessageId) -> Result<bool, QueueError> {
    let sql = "SELECT 1 FROM content WHERE message = ?1 AND NOT EXISTS (SELECT 1 FROM message WHERE id = ?1) \
         AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?1) \
         AND NOT EXISTS (SELECT 1 FROM event WHERE message = ?1)";
    Ok(ledger::row(db, sql, [id.0], |_| Ok(()))?.is_some())
}

/// How a content is not as long as it should be.
pub(super) fn cut(whole: i64, size: i64) -> Option<String> {
    (size != whole).then(|| format!("its content has {size} octets, and should have {whole}"))
}

/// How many recipients a message had when it was accepted, by the row of history that begins so.
fn accepted(row: &Row<'_>, begin: &str) -> Option<i64> {
    let story = row.get_ref(2).ok()?.as_str().ok()?.strip_prefix(begin)?;
    story.split(' ').next()?.parse().ok()
}

fn find(seen: &mut [Seen], id: MessageId) -> Option<&mut Seen> {
    let place = seen.binary_search_by_key(&id, |seen| seen.row.id).ok()?;
    seen.get_mut(place)
}

fn recipient(row: &Row<'_>) -> rusqlite::Result<RecipientRow> {
    Ok(RecipientRow {
        n: row.get(1)?,
        has_path: mailbox_in(row, 2).is_some(),
        state: row.get(3)?,
        in_box: row.get(4)?,
        hop: row.get(5)?,
        has_hop: row.get(6)?,
        list: row.get(7)?,
        list_hop: row.get(8)?,
        list_in_hand: row.get(9)?,
        next_attempt: row.get(10)?,
        attempts: row.get(11)?,
        parent: row.get(12)?,
        report_due: row.get(13)?,
        notify: row.get(14)?,
        is_led_astray: pin_in(row, 15).is_err(),
    })
}

fn text(row: &Row<'_>, column: usize) -> Option<String> {
    row.get_ref(column).ok()?.as_str().ok().map(str::to_owned)
}
