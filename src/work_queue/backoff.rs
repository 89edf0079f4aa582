//! A next hop that does not answer backs off as a whole: what waits for it waits together, one probe at a time, and
//! the first answer for a message lets it all go.
//!
//! The rows that wait are never touched: the next hop alone says until when, so that a million of them cost no more
//! than one. Never decides how long: that is `retry`.

use super::WorkQueue;
use super::damage::{number_in, text_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::Ledger;
use super::moves::{Change, expired, give_up, refresh_due};
use super::outcome::{Outcome, Reason};
use super::retry::RetryPolicy;
use super::settlement::Settled;
use super::states::State;
use crate::clock::{Moment, Stamp};
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::list::{HopId, ListId};

/// How a list ended for which no host of the next hop gave an answer.
#[derive(Clone, Debug)]
pub struct Silence {
    /// The list.
    pub list: ListId,
    /// The host that was tried last, `name[address]:port`; empty where none was reached.
    pub host: String,
    /// What came in place of an answer.
    pub reason: Reason,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl WorkQueue {
    /// Records that no host of a next hop answered for anything on a list: the next hop backs off, and what is left
    /// of the list waits with the rest of its mail, but for what is too old by now. Sessions that fail side by side
    /// count once.
    ///
    /// # Errors
    /// When the database refused: the list is as it was.
    pub fn back_off(&self, silence: &Silence) -> Result<Settled, QueueError> {
        let (moment, silence) = (self.moment(), silence.clone());
        self.store
            .write(move |ledger| back_off(ledger, &silence, moment))
            .wait()
    }
}

/// What a back-off knows of a list: where it goes, and whether its failure is news.
struct Standing {
    hop: HopId,
    name: String,
    failures: u32,
    is_news: bool,
    retry_at: Option<Stamp>,
}

/// How the next hop of a list stands; `None` where there is no such list.
fn standing(ledger: &Ledger<'_>, list: ListId) -> Result<Option<Standing>, QueueError> {
    ledger.row(
        "SELECT h.id, h.failures, l.made_at > ifnull(h.failed_at, 0), h.retry_at, h.name \
         FROM domain_list l JOIN next_hop h ON h.id = l.hop WHERE l.id = ?",
        [list.0],
        |row| {
            Ok(Standing {
                hop: HopId(row.get(0)?),
                failures: number_in(row, 1).unwrap_or(0),
                is_news: row.get(2)?,
                retry_at: row.get::<_, Option<i64>>(3)?.map(Stamp),
                name: text_in(row, 4).unwrap_or_default(),
            })
        },
    )
}

fn back_off(ledger: &mut Ledger<'_>, silence: &Silence, moment: Moment) -> Result<Settled, QueueError> {
    let now = moment.shown;
    let Silence {
        list,
        host,
        reason,
        retry,
    } = silence;
    let mut settled = Settled::default();
    let Some(standing) = standing(ledger, *list)? else {
        return Ok(settled);
    };
    let retry_at = if standing.is_news {
        Some(fail(ledger, &standing, reason, retry, now)?)
    } else {
        standing.retry_at
    };
    let rows = ledger.rows(
        "SELECT r.message, r.n, r.attempts, m.reverse_path = '' FROM recipient r JOIN message m ON m.id = r.message \
         WHERE r.list = ? AND r.state = 3 ORDER BY r.message, r.n",
        [list.0],
        |row| {
            let attempts = number_in::<u32>(row, 2).unwrap_or(0);
            Ok((MessageId(row.get(0)?), row.get(1)?, attempts, row.get(3)?))
        },
    )?;
    debug_assert!(State::LockedForXmit.may_become(State::PendingXmit));
    let mut oldest = None;
    for (id, n, attempts, null_sender) in rows {
        ledger.run(
            "UPDATE recipient SET attempts = attempts + 1, last_host = ?, attempted_at = ? WHERE message = ? AND n = ?",
            (host, now.0, id.0, n),
        )?;
        let Some(next) = retry.next_attempt(id.arrived(), attempts.saturating_add(1), moment) else {
            let reason = expired(reason);
            give_up(ledger, id, n, State::LockedForXmit, null_sender, &reason)?;
            settled.given_up += 1;
            continue;
        };
        // It goes behind those that have waited longer: a message that takes its host down is the probe once, and
        // not for ever.
        let next = if retry_at.is_some() { now } else { next };
        ledger.run(
            "UPDATE recipient SET state = 2, list = NULL, next_attempt = ?, last_status = ?, last_error = ?, \
             last_reply = ? WHERE message = ? AND n = ?",
            (
                next.0,
                reason.status.to_string(),
                &reason.text,
                reason.reply.as_ref().map(ToString::to_string),
                id.0,
                n,
            ),
        )?;
        let story = match retry_at {
            Some(at) => format!(
                "{}; waits with all mail for its next hop, next probe {at}",
                reason.text
            ),
            None => format!("{}; next attempt {next}", reason.text),
        };
        ledger.record(id, Some(n), "deferred", &story)?;
        ledger.count("Mail.Deferred", 1);
        settled.deferred += 1;
        // They come in the order of their arrival.
        oldest = oldest.or(Some(id));
    }
    let change = oldest.map_or(Change::Same, |oldest| Change::More(settled.deferred, oldest));
    refresh_due(ledger, standing.hop, change)?;
    reach(CrashPoint::BackOffWritten);
    Ok(settled)
}

/// Counts a failure of a next hop; gives when the next probe may go.
fn fail(
    ledger: &mut Ledger<'_>,
    standing: &Standing,
    reason: &Reason,
    retry: &RetryPolicy,
    now: Stamp,
) -> Result<Stamp, QueueError> {
    let failures = standing.failures.saturating_add(1);
    let retry_at = retry.next_probe(standing.hop, failures, now);
    ledger.run(
        "UPDATE next_hop SET failures = ?, down_since = ifnull(down_since, ?), failed_at = ?, retry_at = ?, \
         last_error = ?, last_status = ?, error_at = ? WHERE id = ?",
        (
            failures,
            now.0,
            ledger.now().0,
            retry_at.0,
            &reason.text,
            reason.status.to_string(),
            now.0,
            standing.hop.0,
        ),
    )?;
    ledger.count("SMTP.HopFailures", 1);
    log::info!(
        "hop={} failures={failures} backs off until {retry_at}: {}",
        standing.name,
        reason.text
    );
    Ok(retry_at)
}

/// What the outcomes of a message mean for its next hop: an answer ends the back-off, and whether it did so is what
/// this gives. A probe that got none is a failure.
pub(super) fn heed(
    ledger: &mut Ledger<'_>,
    list: ListId,
    outcomes: &[(u32, Outcome)],
    retry: &RetryPolicy,
    now: Stamp,
) -> Result<bool, QueueError> {
    let Some(standing) = standing(ledger, list)?.filter(|standing| standing.failures > 0) else {
        return Ok(false);
    };
    if outcomes.iter().any(|(_, outcome)| outcome.is_answer()) {
        release(ledger, standing.hop)?;
        log::info!("hop={} answers again", standing.name);
        return Ok(true);
    }
    let reason = outcomes.iter().find_map(|(_, outcome)| match outcome {
        Outcome::TryLater(reason) => Some(reason),
        _ => None,
    });
    if let Some(reason) = reason.filter(|_| standing.is_news) {
        fail(ledger, &standing, reason, retry, now)?;
        refresh_due(ledger, standing.hop, Change::Same)?;
    }
    Ok(false)
}

/// Ends the back-off of a next hop: what waits for it is due.
pub(super) fn release(ledger: &Ledger<'_>, hop: HopId) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE next_hop SET failures = 0, down_since = NULL, retry_at = NULL WHERE id = ?",
        [hop.0],
    )?;
    refresh_due(ledger, hop, Change::Same)
}
