//! Expansion: a recipient that is an alias comes to its end, and what it stands for waits for imsgcnv in its
//! place, in the same transaction.
//!
//! What came of an alias is never expanded again, so that no aliases, however they change, lead in circles.

use std::collections::HashSet;

use super::conversion::{Converted, Delivery, end, put_aside, tell_of_held};
use super::damage::mailbox_in;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::Ledger;
use super::moves::success_due;
use super::outcome::{Reason, Success};
use super::states::State;
use crate::crash_point::{CrashPoint, reach};
use crate::smtp::dsn::Notify;
use crate::smtp::path::Mailbox;
use crate::smtp::reply::EnhancedCode;

/// Octets of history that name targets.
const LONGEST_STORY: usize = 400;

/// The recipients of a message that are final: who stands among the targets of an alias is not added to them again.
/// One that was named by the client and waits may be an alias itself, which is another recipient than the mailbox of
/// that name. Upper and lower case are the same: no host that people use tells them apart (RFC 5321 2.4), and nobody
/// wants a message twice.
pub(super) struct Present(HashSet<Mailbox>);

impl Present {
    /// Those of `message`, before anything that was done with it has been recorded.
    pub(super) fn of(ledger: &Ledger<'_>, message: &Converted) -> Result<Present, QueueError> {
        let mailboxes: HashSet<u32> = message
            .deliveries
            .iter()
            .filter(|(_, delivery)| !matches!(delivery, Delivery::Expand(_)))
            .map(|(n, _)| *n)
            .collect();
        let rows = ledger.rows(
            "SELECT path, n, parent IS NULL AND state = 1 AND in_box = 0 FROM recipient \
             WHERE message = ? AND state <> ?",
            (message.id.0, State::Expanded.number()),
            |row| Ok((mailbox_in(row, 0), row.get(1)?, row.get(2)?)),
        )?;
        let is_final = |n: u32, may_be_alias: bool| !may_be_alias || mailboxes.contains(&n);
        let paths = rows
            .into_iter()
            .filter(|(_, n, may_be_alias)| is_final(*n, *may_be_alias))
            .filter_map(|(path, ..)| path);
        Ok(Present(paths.map(|path| path.in_lower_case()).collect()))
    }

    /// Whether this one was not there; it is now.
    fn enter(&mut self, path: &Mailbox) -> bool {
        self.0.insert(path.in_lower_case())
    }
}

/// Ends recipient `n` as an alias of `targets`, and appends those that are not recipients yet; whether the
/// sender has to be told.
pub(super) fn expand(
    ledger: &mut Ledger<'_>,
    id: MessageId,
    n: u32,
    targets: &[Mailbox],
    present: &mut Present,
) -> Result<bool, QueueError> {
    let row = ledger.row(
        "SELECT notify, orcpt, pin FROM recipient \
         WHERE message = ? AND n = ? AND state = 1 AND in_box = 0 AND parent IS NULL",
        (id.0, n),
        |row| {
            let (notify, orcpt): (Option<u8>, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok((notify, orcpt, row.get::<_, Option<String>>(2)?))
        },
    )?;
    // It may have been removed by the operator meanwhile.
    let Some((notify, orcpt, pin)) = row else {
        return Ok(false);
    };
    if targets.is_empty() {
        let reason = Reason::here(EnhancedCode(5, 3, 5), "an alias that stands for nobody");
        tell_of_held(id, put_aside(ledger, id, n, &reason)?);
        return Ok(false);
    }
    end(ledger, id, n, State::Expanded, None)?;
    ledger.record(id, Some(n), "expanded", &story(targets))?;
    ledger.count("Mail.Expanded", 1);
    let notify = notify.map(|bits| Notify::from_bits(bits).for_expansion(targets.len()).bits());
    let last: Option<u32> = ledger
        .row("SELECT max(n) FROM recipient WHERE message = ?", [id.0], |row| {
            row.get(0)
        })?
        .flatten();
    let free = last.map_or(0, |last| last + 1)..;
    let mut appended = 0;
    for (next, target) in free.zip(targets.iter().filter(|target| present.enter(target))) {
        ledger.run(
            "INSERT INTO recipient (message, n, path, state, in_box, notify, orcpt, parent, pin) \
             VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?)",
            (
                id.0,
                next,
                target.to_string(),
                State::PendingConversion.number(),
                notify,
                &orcpt,
                n,
                &pin,
            ),
        )?;
        appended += 1;
    }
    reach(CrashPoint::ExpansionWritten);
    ledger.count("Mail.RecipientsOfAliases", appended);
    // RFC 3461 5.2.7: a single target that tells of its own end tells of this one; else the alias does.
    if targets.len() == 1 && appended == 1 {
        Ok(false)
    } else {
        success_due(ledger, id, n, Success::Expanded, None)
    }
}

/// The targets, as far as there is room.
fn story(targets: &[Mailbox]) -> String {
    let mut story = String::new();
    for (told, target) in targets.iter().enumerate() {
        if story.len() > LONGEST_STORY {
            story += &format!(", and {} more", targets.len() - told);
            break;
        }
        if told > 0 {
            story.push_str(", ");
        }
        story += &target.to_string();
    }
    story
}
