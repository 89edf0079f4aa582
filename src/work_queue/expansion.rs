//! Expansion: a recipient that is an alias comes to its end, and what it stands for waits for imsgcnv in its
//! place, in the same transaction.
//!
//! What came of an alias is never expanded again, so that no aliases, however they change, lead in circles.

use std::collections::HashMap;

use super::conversion::{end, put_aside};
use super::damage::mailbox_in;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::Ledger;
use super::moves::success_due;
use super::outcome::{Reason, Success};
use super::states::State;
use crate::smtp::dsn::Notify;
use crate::smtp::path::Mailbox;
use crate::smtp::reply::EnhancedCode;

/// Octets of history that name targets.
const LONGEST_STORY: usize = 400;

/// The recipients of a message, how often each is there, as far as they have not been expanded. Upper and
/// lower case are the same: no host that people use tells them apart (RFC 5321 2.4), and nobody wants a
/// message twice.
pub(super) struct Present(HashMap<Mailbox, usize>);

impl Present {
    pub(super) fn of(ledger: &Ledger<'_>, id: MessageId) -> Result<Present, QueueError> {
        let paths = ledger.rows(
            "SELECT path FROM recipient WHERE message = ? AND state <> ?",
            (id.0, State::Expanded.number()),
            |row| Ok(mailbox_in(row, 0)),
        )?;
        let mut present = Present(HashMap::with_capacity(paths.len()));
        for path in paths.into_iter().flatten() {
            *present.0.entry(path.in_lower_case()).or_default() += 1;
        }
        Ok(present)
    }

    /// This one has been expanded.
    fn leave(&mut self, path: &Mailbox) {
        if let Some(count) = self.0.get_mut(&path.in_lower_case()) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether this one was not there; it is now.
    fn enter(&mut self, path: &Mailbox) -> bool {
        let count = self.0.entry(path.in_lower_case()).or_default();
        let is_new = *count == 0;
        *count += usize::from(is_new);
        is_new
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
        "SELECT path, notify, orcpt FROM recipient \
         WHERE message = ? AND n = ? AND state = 1 AND in_box = 0 AND parent IS NULL",
        (id.0, n),
        |row| {
            let (notify, orcpt): (Option<u8>, Option<String>) = (row.get(1)?, row.get(2)?);
            Ok((mailbox_in(row, 0), notify, orcpt))
        },
    )?;
    // It may have been removed by the operator meanwhile.
    let Some((path, notify, orcpt)) = row else {
        return Ok(false);
    };
    if targets.is_empty() {
        let reason = Reason::here(EnhancedCode(5, 3, 5), "an alias that stands for nobody");
        put_aside(ledger, id, n, &reason)?;
        return Ok(false);
    }
    end(ledger, id, n, State::Expanded, None)?;
    ledger.record(id, Some(n), "expanded", &story(targets))?;
    ledger.count("Mail.Expanded", 1);
    if let Some(path) = &path {
        // Where an alias has itself as a mailbox among its targets, that is another recipient.
        present.leave(path);
    }
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
            "INSERT INTO recipient (message, n, path, state, in_box, notify, orcpt, parent) \
             VALUES (?, ?, ?, ?, 0, ?, ?, ?)",
            (
                id.0,
                next,
                target.to_string(),
                State::PendingConversion.number(),
                notify,
                &orcpt,
                n,
            ),
        )?;
        appended += 1;
    }
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
