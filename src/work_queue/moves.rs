//! The moves of recipients that several verbs share: given up, due for a next hop, settled for good.

use rusqlite::Connection;

use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{Ledger, row, rows};
use super::outcome::{Reason, Success};
use super::states::State;
use crate::clock::Stamp;
use crate::domain_list::list::HopId;
use crate::smtp::reply::{EnhancedCode, Reply};

/// Gives a recipient up: the sender will be told, or the message is dead.
pub(super) fn give_up(
    ledger: &mut Ledger<'_>,
    id: MessageId,
    n: u32,
    from: State,
    null_sender: bool,
    reason: &Reason,
) -> Result<(), QueueError> {
    let to = if null_sender {
        State::Dead
    } else {
        State::PendingReport
    };
    debug_assert!(from.may_become(to));
    let waited_for = match from {
        State::PendingXmit => ledger.row(
            "SELECT hop FROM recipient WHERE message = ? AND n = ? AND state = 2 AND list IS NULL",
            (id.0, n),
            |row| row.get(0).map(HopId),
        )?,
        _ => None,
    };
    let changed = ledger.run(
        "UPDATE recipient SET state = ?, list = NULL, settled_at = ?, last_status = ?, last_error = ?, \
         last_reply = ? WHERE message = ? AND n = ? AND state = ?",
        (
            to.number(),
            ledger.now().0,
            reason.status.to_string(),
            &reason.text,
            reason.reply.as_ref().map(ToString::to_string),
            id.0,
            n,
            from.number(),
        ),
    )?;
    if changed > 0 {
        let what = if null_sender { "dead" } else { "given up" };
        ledger.record(id, Some(n), what, &reason.text)?;
        ledger.count(
            if null_sender {
                "Mail.Dead"
            } else {
                "Mail.TotalFailures"
            },
            1,
        );
    }
    waited_for.map_or(Ok(()), |hop| refresh_due(ledger, hop, Change::Gone(1)))
}

/// Notes that drt has to tell the sender of a recipient's good end, if it asked for that and can be told;
/// whether this is so. `reply` is what the next hop said, where one took it.
pub(super) fn success_due(
    ledger: &Ledger<'_>,
    id: MessageId,
    n: u32,
    success: Success,
    reply: Option<&Reply>,
) -> Result<bool, QueueError> {
    let status = reply
        .and_then(|reply| reply.enhanced)
        .filter(|status| status.0 == 2);
    let due = ledger.run(
        "UPDATE recipient SET report_due = ?, last_status = ?, last_reply = ? \
         WHERE message = ? AND n = ? AND notify & 1 \
         AND EXISTS (SELECT 1 FROM message WHERE id = recipient.message AND reverse_path <> '')",
        (
            success.number(),
            status.unwrap_or(EnhancedCode(2, 0, 0)).to_string(),
            reply.map(ToString::to_string),
            id.0,
            n,
        ),
    )?;
    Ok(due > 0)
}

/// What has become of the recipients that wait for a next hop: those that are pending and on no list. The next hop
/// knows how many they are, so that nobody has to count them; whoever moves one says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// They are as many as before.
    Same,
    /// So many wait no longer.
    Gone(usize),
    /// So many more wait; the oldest is of this message.
    More(usize, MessageId),
}

/// Notes that a recipient of message `id` waits for the next hop `name`, and is due at `due`, or when its back-off lets
/// it; gives the number of the next hop.
pub(super) fn now_due(
    ledger: &Ledger<'_>,
    name: &str,
    id: MessageId,
    due: Stamp,
) -> Result<HopId, QueueError> {
    // Nearly always it is known, and due as it shall be: then no index changes.
    let known = ledger.run(
        "UPDATE next_hop SET waiting = waiting + 1, oldest = iif(waiting = 0, ?3, min(oldest, ?3)) \
         WHERE name = ?1 AND due = max(min(due, ?2), ifnull(retry_at, 0))",
        (name, due.0, id.0),
    )?;
    if known == 0 {
        ledger.run(
            "INSERT INTO next_hop (name, due, used_at, waiting, oldest) VALUES (?, ?, ?, 1, ?) \
             ON CONFLICT (name) DO UPDATE SET \
               due = max(min(ifnull(due, excluded.due), excluded.due), ifnull(retry_at, 0)), \
               waiting = waiting + 1, \
               oldest = iif(waiting = 0, excluded.oldest, min(oldest, excluded.oldest))",
            (name, due.0, ledger.now().0, id.0),
        )?;
    }
    let hop = ledger.row("SELECT id FROM next_hop WHERE name = ?", [name], |row| {
        row.get(0).map(HopId)
    })?;
    hop.ok_or(QueueError::Database(rusqlite::Error::QueryReturnedNoRows))
}

/// Works out anew when a next hop is due, never while it backs off; after a change to what waits for it.
pub(super) fn refresh_due(ledger: &Ledger<'_>, hop: HopId, change: Change) -> Result<(), QueueError> {
    let (more, oldest) = change.in_numbers();
    ledger.run(
        "UPDATE next_hop SET due = max((SELECT min(next_attempt) FROM recipient \
           WHERE hop = ?1 AND state = 2 AND list IS NULL), ifnull(retry_at, 0)), \
         waiting = waiting + ?2, oldest = iif(waiting = 0, ?3, ifnull(min(oldest, ?3), oldest)) WHERE id = ?1",
        (hop.0, more, oldest),
    )?;
    Ok(())
}

/// What a next hop says wrongly of the recipients that wait for it; read as they stand in `db`.
pub(super) fn hop_fault(db: &Connection, hop: i64) -> Result<Option<String>, QueueError> {
    type Kept = (i64, Option<i64>, Option<i64>, Option<i64>);
    let kept: Option<Kept> = row(
        db,
        "SELECT waiting, oldest, due, retry_at FROM next_hop WHERE id = ?",
        [hop],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let Some((waiting, oldest, due, retry_at)) = kept else {
        return Ok(None);
    };
    let counted: Option<Kept> = row(
        db,
        "SELECT count(*), min(message), min(next_attempt), NULL FROM recipient \
         WHERE hop = ? AND state = 2 AND list IS NULL",
        [hop],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let (count, first, next, _) = counted.unwrap_or_default();
    let latest = next.map(|next| next.max(retry_at.unwrap_or(0)));
    Ok(if waiting != count {
        Some(format!(
            "waiting is {waiting}, and recipients that wait for it: {count}"
        ))
    } else if first.is_some_and(|first| oldest.is_none_or(|oldest| oldest > first)) {
        Some("oldest is later than the first message that waits for it".to_owned())
    } else if latest.is_some_and(|latest| due.is_none_or(|due| due > latest)) {
        // A due that is too early costs a look, and is mended with it.
        Some("due is later than what waits for it".to_owned())
    } else {
        None
    })
}

/// Counts anew what waits for a next hop. That takes the longer the more it is: only where something was damaged.
pub(super) fn recount(ledger: &Ledger<'_>, hop: i64) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE next_hop SET \
         waiting = (SELECT count(*) FROM recipient WHERE hop = ?1 AND state = 2 AND list IS NULL), \
         oldest = (SELECT min(message) FROM recipient WHERE hop = ?1 AND state = 2 AND list IS NULL), \
         due = max((SELECT min(next_attempt) FROM recipient WHERE hop = ?1 AND state = 2 AND list IS NULL), \
           ifnull(retry_at, 0)) WHERE id = ?1",
        [hop],
    )?;
    Ok(())
}

impl Change {
    /// How many more wait, and the oldest message of these.
    fn in_numbers(self) -> (i64, Option<i64>) {
        let number = |recipients| i64::try_from(recipients).unwrap_or(i64::MAX);
        match self {
            Change::Same => (0, None),
            Change::Gone(recipients) => (-number(recipients), None),
            Change::More(recipients, oldest) => (number(recipients), Some(oldest.0)),
        }
    }
}

/// The reason of a recipient whose time is over, after an attempt that ended so.
pub(super) fn expired(last: &Reason) -> Reason {
    too_late("the last attempt ended so: ", last)
}

/// The reason of a recipient whose time is over; `how` leads to what kept it.
pub(super) fn too_late(how: &str, what: &Reason) -> Reason {
    let head = format!("the message could not be delivered in time; {how}");
    Reason {
        reply: what.reply.clone(),
        ..Reason::ours(EnhancedCode(5, 4, 7), &head, &what.text, "")
    }
}

/// A message whose last recipient has been settled leaves the queue; but not while its sender has yet to be told of a
/// good end. Its content goes with it, unless a recipient was removed: that one may be brought back.
pub(super) fn settle_if_done(ledger: &mut Ledger<'_>, id: MessageId) -> Result<(), QueueError> {
    let left = ledger.run(
        "UPDATE message SET left_at = ?1, inbound_due = NULL, box_due = NULL WHERE id = ?2 AND left_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?2 \
         AND (state NOT BETWEEN 10 AND 14 OR report_due IS NOT NULL))",
        (ledger.now().0, id.0),
    )?;
    if left == 0 {
        return Ok(());
    }
    let content = "DELETE FROM content WHERE message = ?1 \
         AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?1 AND state = 14)";
    if !ledger.spares_content() && ledger.run(content, [id.0])? > 0 {
        return Ok(());
    }
    let file = "SELECT file FROM message WHERE id = ?1 \
         AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?1 AND state = 14)";
    let file = ledger.row(file, [id.0], |row| row.get(0))?;
    ledger.discard(file.flatten());
    Ok(())
}

/// A place in the row of what waits for a next hop: due when, which message, which recipient.
pub(super) type Place = (i64, i64, i64);

/// The next ones that wait for `hop`, behind the place `from`, at most so many.
pub(super) fn waiting_behind(
    db: &Connection,
    hop: HopId,
    from: Place,
    most: usize,
) -> Result<Vec<Place>, QueueError> {
    rows(
        db,
        "SELECT next_attempt, message, n FROM recipient \
         WHERE hop = ? AND state = 2 AND list IS NULL AND (next_attempt, message, n) > (?, ?, ?) \
         ORDER BY next_attempt, message, n LIMIT ?",
        (hop.0, from.0, from.1, from.2, most),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}
