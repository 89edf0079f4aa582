//! How the recipients on a list fared: each is settled on its own, with its message's history.

use std::sync::Arc;

use super::WorkQueue;
use super::backoff::heed;
use super::damage::number_in;
use super::error::QueueError;
use super::hopper::Pending;
use super::id::MessageId;
use super::ledger::Ledger;
use super::moves::{expired, give_up, settle_if_done, success_due};
use super::outcome::{Outcome, Reason, Success};
use super::retry::RetryPolicy;
use super::states::State;
use crate::clock::{Moment, Stamp};
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::list::{HopId, ListId};

/// How the recipients of one message on a list fared.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The list they were on.
    pub list: ListId,
    /// The message.
    pub id: MessageId,
    /// Whether there is nobody to tell of a failure.
    pub null_sender: bool,
    /// The host that was spoken to, `name[address]:port`; empty where none was reached.
    pub host: String,
    /// Version and cipher of the connection; `None` where it was in the clear.
    pub tls: Option<String>,
    /// Whether that host takes care of reports from here on: it offers DSN, and was told what the sender
    /// wants.
    pub host_reports: bool,
    /// Whether what that host took is in its recipient's mailbox: it speaks LMTP.
    pub is_delivery: bool,
    /// The end of this attempt for each of them.
    pub outcomes: Vec<(u32, Outcome)>,
    /// When to try again.
    pub retry: RetryPolicy,
}

/// How often each end occurred in a settlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Taken by the next hop, into the mailbox or to be sent on.
    pub transmitted: usize,
    /// To be tried again.
    pub deferred: usize,
    /// Given up: there is work for the delivery report task.
    pub given_up: usize,
    /// Of those transmitted: the delivery report task has to tell the sender so.
    pub to_tell: usize,
    /// The next hop answered again: what had waited for it is due.
    pub released: bool,
}

impl WorkQueue {
    /// Records how the recipients of one message fared. The answer comes with the commit; the caller may go on
    /// in the meantime.
    pub fn settle(&self, settlement: Arc<Settlement>) -> Pending<Settled> {
        let moment = self.moment();
        self.store
            .write(move |ledger| settle(ledger, &settlement, moment))
    }
}

fn settle(ledger: &mut Ledger<'_>, settlement: &Settlement, moment: Moment) -> Result<Settled, QueueError> {
    let (id, now) = (settlement.id, moment.shown);
    let mut settled = Settled {
        released: heed(
            ledger,
            settlement.list,
            &settlement.outcomes,
            &settlement.retry,
            now,
        )?,
        ..Settled::default()
    };
    let (end, word, success) = match settlement.is_delivery {
        true => (State::Delivered, "delivered", Success::Delivered),
        // RFC 3461 5.2.2: the trail ends here, and so it is us who tell.
        false => (State::Transmitted, "transmitted", Success::Relayed),
    };
    for (n, outcome) in &settlement.outcomes {
        let row = ledger.row(
            "SELECT attempts, hop FROM recipient WHERE message = ? AND n = ? AND list = ? AND state = 3",
            (id.0, n, settlement.list.0),
            |row| Ok((number_in::<u32>(row, 0).unwrap_or(0), HopId(row.get(1)?))),
        )?;
        // It may have been removed by the operator meanwhile.
        let Some((attempts, hop)) = row else { continue };
        match outcome {
            Outcome::Delivered(reply) => {
                ledger.run(
                    "UPDATE recipient SET state = ?, list = NULL, settled_at = ?, attempts = attempts + 1, \
                     last_host = ?, attempted_at = ? WHERE message = ? AND n = ?",
                    (end.number(), now.0, &settlement.host, now.0, id.0, n),
                )?;
                let tls = settlement.tls.as_ref().map(|tls| format!(" over {tls}"));
                let story = format!("{}{} said: {reply}", settlement.host, tls.unwrap_or_default());
                ledger.record(id, Some(*n), word, &story)?;
                settled.transmitted += 1;
                if !settlement.host_reports && success_due(ledger, id, *n, success, Some(reply))? {
                    settled.to_tell += 1;
                }
            }
            Outcome::TryLater(reason) => {
                attempted(ledger, settlement, *n, now)?;
                match settlement
                    .retry
                    .next_attempt(id.arrived(), attempts.saturating_add(1), moment)
                {
                    Some(next) => {
                        defer(ledger, settlement, *n, hop, reason, next)?;
                        settled.deferred += 1;
                    }
                    None => {
                        let expired = expired(reason);
                        give_up(
                            ledger,
                            id,
                            *n,
                            State::LockedForXmit,
                            settlement.null_sender,
                            &expired,
                        )?;
                        settled.given_up += 1;
                    }
                }
            }
            Outcome::GiveUp(reason) => {
                attempted(ledger, settlement, *n, now)?;
                give_up(
                    ledger,
                    id,
                    *n,
                    State::LockedForXmit,
                    settlement.null_sender,
                    reason,
                )?;
                settled.given_up += 1;
            }
        }
    }
    if settled.transmitted > 0 {
        let recipients = i64::try_from(settled.transmitted).unwrap_or(0);
        if settlement.is_delivery {
            ledger.count("Mail.Delivered", recipients);
        } else {
            ledger.count("Mail.Transferred", 1);
            ledger.count("Mail.TransferredRecipients", recipients);
        }
        settle_if_done(ledger, id)?;
    }
    reach(CrashPoint::OutcomeWritten);
    Ok(settled)
}

fn attempted(ledger: &Ledger<'_>, settlement: &Settlement, n: u32, now: Stamp) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE recipient SET attempts = attempts + 1, last_host = ?, attempted_at = ? WHERE message = ? AND n = ?",
        (&settlement.host, now.0, settlement.id.0, n),
    )?;
    Ok(())
}

fn defer(
    ledger: &mut Ledger<'_>,
    settlement: &Settlement,
    n: u32,
    hop: HopId,
    reason: &Reason,
    next: Stamp,
) -> Result<(), QueueError> {
    ledger.run(
        "UPDATE recipient SET state = ?, list = NULL, next_attempt = ?, last_status = ?, last_error = ?, \
         last_reply = ? WHERE message = ? AND n = ?",
        (
            State::PendingXmit.number(),
            next.0,
            reason.status.to_string(),
            &reason.text,
            reason.reply.as_ref().map(ToString::to_string),
            settlement.id.0,
            n,
        ),
    )?;
    ledger.run(
        "UPDATE next_hop SET due = max(min(ifnull(due, ?1), ?1), ifnull(retry_at, 0)), last_error = ?2, \
         last_status = ?3, error_at = ?4, waiting = waiting + 1, \
         oldest = iif(waiting = 0, ?6, min(oldest, ?6)) WHERE id = ?5",
        (
            next.0,
            &reason.text,
            reason.status.to_string(),
            ledger.now().0,
            hop.0,
            settlement.id.0,
        ),
    )?;
    let story = format!("{}; next attempt {next}", reason.text);
    ledger.record(settlement.id, Some(n), "deferred", &story)?;
    ledger.count("Mail.Deferred", 1);
    Ok(())
}
