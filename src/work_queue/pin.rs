//! Pins: where an operator leads recipients by hand, whatever the configuration says; each in its recipient's row, until
//! an operator takes it back. Nobody is led anywhere whose mail is for here.
//!
//! Never says where mail goes that nobody leads: whoever knows the configuration has left that here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rusqlite::Row;

use super::WorkQueue;
use super::damage::{mailbox_in, text_in};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::Ledger;
use super::moves::{Change, now_due, refresh_due};
use super::operator::Done;
use super::soundness::state;
use super::states::State;
use crate::domain_list::list::HopId;
use crate::domain_list::next_hop::NextHop;
use crate::smtp::path::Mailbox;

/// Where the mail of a recipient goes, if an operator leads it there; `None` for one that is here. Elsewhere than that
/// where it must not go there.
pub(super) type Lead = dyn Fn(&Mailbox, Option<&NextHop>) -> Option<NextHop> + Send + Sync;

/// What the configuration says of the ways of mail.
pub(super) struct Guidance(RwLock<Arc<Lead>>);

impl Guidance {
    pub(super) fn at_hand(&self) -> Arc<Lead> {
        Arc::clone(&self.0.read())
    }
}

impl Default for Guidance {
    fn default() -> Guidance {
        let usual = |path: &Mailbox| NextHop::Domain(path.domain().to_owned());
        Guidance(RwLock::new(Arc::new(move |path, pin| {
            Some(pin.cloned().unwrap_or_else(|| usual(path)))
        })))
    }
}

impl fmt::Debug for Guidance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guidance")
    }
}

impl WorkQueue {
    /// From now on `lead` says where a recipient goes that an operator leads to the next hop behind it, or leads nowhere;
    /// `None` for one that is here. Until it is said all may be led anywhere.
    pub fn be_guided(
        &self,
        lead: impl Fn(&Mailbox, Option<&NextHop>) -> Option<NextHop> + Send + Sync + 'static,
    ) {
        *self.store.guidance().0.write() = Arc::new(lead);
    }
}

/// The pin in a column; an error where the column holds something else.
pub(super) fn pin_in(row: &Row<'_>, column: usize) -> Result<Option<NextHop>, ()> {
    let value = row.get_ref(column).map_err(drop)?;
    let Some(text) = value.as_str_or_null().map_err(drop)? else {
        return Ok(None);
    };
    NextHop::host_from_name(text).map(Some).ok_or(())
}

/// What `queue route` makes of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it has ended, or is led so already.
    Nothing,
    /// Nothing: its mail is for here.
    Here,
    /// Nothing: its domain has to have more TLS than is asked of that host.
    Barred,
    /// It goes there from now on; `None`: where it would have gone, since it is here.
    Goes(Option<NextHop>),
}

/// What becomes of a recipient in `state`, which is led to `pin` by now, and shall be led to `via` or no longer led.
pub(super) fn judge(
    lead: &Lead,
    via: Option<&NextHop>,
    state: State,
    path: Option<&Mailbox>,
    pin: Option<&str>,
) -> Verdict {
    let is_under_way = matches!(
        state,
        State::PendingConversion | State::PendingXmit | State::LockedForXmit | State::Held
    );
    let name = via.map(ToString::to_string);
    let Some(path) = path.filter(|_| is_under_way && name.as_deref() != pin) else {
        return Verdict::Nothing;
    };
    match (lead(path, via), via) {
        (None, Some(_)) => Verdict::Here,
        (Some(goes), Some(via)) if goes != *via => Verdict::Barred,
        (goes, _) => Verdict::Goes(goes),
    }
}

/// Leads the recipients of message `id` that `is_meant` says so of to `via`, or lets them go their usual way again. What
/// waits for another next hop is due for this one now. Those that handlers have in hand are left alone, and counted.
pub(super) fn route(
    ledger: &mut Ledger<'_>,
    (lead, via): (&Lead, Option<&NextHop>),
    id: MessageId,
    is_meant: &dyn Fn(u32, State) -> bool,
    by: &str,
) -> Result<Done, QueueError> {
    let recipients = ledger.rows(
        "SELECT r.n, r.state, r.path, r.pin, r.hop, h.name, r.list IS NOT NULL \
         FROM recipient r LEFT JOIN next_hop h ON h.id = r.hop WHERE r.message = ? ORDER BY r.n",
        [id.0],
        |row| {
            let hop: Option<i64> = row.get(4)?;
            let way = (hop.map(HopId), text_in(row, 5), row.get::<_, bool>(6)?);
            let (n, number) = (row.get::<_, i64>(0)?, row.get(1)?);
            Ok((n, state(number), mailbox_in(row, 2), text_in(row, 3), way))
        },
    )?;
    let mut done = Done::default();
    let mut waited = BTreeMap::<HopId, usize>::new();
    let (pin, now) = (via.map(ToString::to_string), ledger.moment());
    for (n, state, path, before, (hop, was_for, is_listed)) in recipients {
        let (Some(state), Ok(n)) = (state, u32::try_from(n)) else {
            continue;
        };
        if !is_meant(n, state) {
            continue;
        }
        let goes = match judge(lead, via, state, path.as_ref(), before.as_deref()) {
            Verdict::Nothing => continue,
            Verdict::Here => {
                done.here += 1;
                continue;
            }
            Verdict::Barred => {
                done.barred += 1;
                continue;
            }
            Verdict::Goes(goes) => goes.map(|hop| hop.to_string()),
        };
        let elsewhere = goes.as_ref().filter(|goes| was_for.as_ref() != Some(*goes));
        match (state, elsewhere, hop) {
            (State::LockedForXmit, Some(_), _) => {
                done.in_hand += 1;
                continue;
            }
            (State::PendingXmit, Some(name), _) => {
                let next = now_due(ledger, name, id, now)?;
                ledger.run(
                    "UPDATE recipient SET pin = ?, hop = ?, list = NULL, next_attempt = ? WHERE message = ? AND n = ?",
                    (&pin, next.0, now.0, id.0, n),
                )?;
                if let (Some(hop), false) = (hop, is_listed) {
                    *waited.entry(hop).or_default() += 1;
                }
            }
            (State::Held, Some(name), Some(_)) => {
                // It does not wait there, but people look for it there.
                let next = now_due(ledger, name, id, now)?;
                refresh_due(ledger, next, Change::Gone(1))?;
                ledger.run(
                    "UPDATE recipient SET pin = ?, hop = ? WHERE message = ? AND n = ?",
                    (&pin, next.0, id.0, n),
                )?;
            }
            _ => {
                ledger.run(
                    "UPDATE recipient SET pin = ? WHERE message = ? AND n = ?",
                    (&pin, id.0, n),
                )?;
            }
        }
        let (what, story) = match (&pin, goes) {
            (Some(pin), _) => ("pinned", format!("to {pin}, by {by}")),
            (None, Some(goes)) => ("unpinned", format!("goes to {goes} again, by {by}")),
            (None, None) => ("unpinned", format!("by {by}")),
        };
        ledger.record(id, Some(n), what, &story)?;
        done.recipients += 1;
    }
    done.messages = usize::from(done.recipients > 0);
    for (hop, recipients) in waited {
        refresh_due(ledger, hop, Change::Gone(recipients))?;
    }
    Ok(done)
}
