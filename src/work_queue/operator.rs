//! What an operator does to the queue by hand, with a word in the history of each message that says who did.
//!
//! In short steps: a million messages must not keep the writer from the rest of its work.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::WorkQueue;
use super::backoff::release;
use super::choice::Choice;
use super::conversion::refresh_conversion_due;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::listing::MailRow;
use super::moves::{Change, Place, give_up, refresh_due, settle_if_done, waiting_behind};
use super::moving::{ExportId, PUT_ASIDE, may_be_put_aside, reserve, reserved};
use super::outcome::Reason;
use super::pin::{self, Lead, Verdict, judge};
use super::recall::Mark;
use super::reports::expire_again;
use super::soundness::state;
use super::states::State;
use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};
use crate::domain_list::list::HopId;
use crate::domain_list::next_hop::NextHop;
use crate::smtp::reply::EnhancedCode;

/// What shall be tried again now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// All that waits in the outbound work queue.
    Everything,
    /// What waits for these next hops, by their names.
    Hops(Vec<String>),
    /// What waits of these messages.
    Messages(Vec<MessageId>),
    /// What waits and fits.
    Chosen(Choice),
}

/// What may be done to messages by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByHand {
    /// What waits, for conversion or for its next hop, is put aside.
    Hold,
    /// What waits, or was put aside, is given up: drt tells the sender, or the message is dead.
    Bounce,
    /// What was put aside goes on: it is converted, and routed, once more.
    Release,
    /// What is in the queue, whatever for, is removed. Nobody is told, and the content stays until housekeeping forgets
    /// the message.
    Delete,
    /// What was removed is brought back, and put aside.
    Undelete,
    /// What is under way, or was put aside, goes to this host from now on, whatever the configuration says; `None`: as that
    /// says again.
    Route(Option<NextHop>),
    /// What waits, was put aside or is dead is set apart for an export: nobody else touches it from then on.
    PutAside(ExportId),
}

/// What an operator may have done to recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Those that wait in the outbound work queue are due now.
    Retry,
    /// One of these.
    ByHand(ByHand),
}

/// What an order would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// To how many.
    pub done: Done,
    /// To whom, the first of them.
    pub sample: Vec<MailRow>,
}

/// A message of which something is to be done to these recipients; to all of them, where it does not say to which.
type Target = (MessageId, Option<Vec<u32>>);

/// How many it was done to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Messages with such recipients.
    pub messages: usize,
    /// These recipients.
    pub recipients: usize,
    /// Recipients that a session handler has in hand.
    pub in_hand: usize,
    /// Recipients that are not routed since their mail is for here.
    pub here: usize,
    /// Recipients that are not routed since their domain has to have more TLS than is asked of that host.
    pub barred: usize,
}

/// Recipients that are moved in one step: mail that arrives meanwhile waits for it.
const STEP: usize = 100;

/// Messages that something is done to in one step; each may have many recipients.
const MESSAGES_A_STEP: usize = 10;

impl WorkQueue {
    /// Makes what waits in the outbound work queue due now, and ends the back-off of its next hops; a message that
    /// is named goes first, and is the probe of a next hop that backs off. Gives how many messages that were. `by`
    /// says in their history who wanted it.
    ///
    /// # Errors
    /// When the database refused; what was done before stays done.
    pub fn retry(&self, what: &Retry, by: &str) -> Result<usize, QueueError> {
        let mut messages = HashSet::new();
        match what {
            Retry::Messages(ids) => {
                for id in ids {
                    if self.retry_message(*id, None, by)? {
                        messages.insert(*id);
                    }
                }
            }
            Retry::Chosen(choice) => self.each_target(choice, |targets| {
                for (id, only) in targets {
                    if self.retry_message(*id, only.clone(), by)? {
                        messages.insert(*id);
                    }
                }
                Ok(())
            })?,
            Retry::Everything | Retry::Hops(_) => {
                for hop in self.hops_to_retry(what)? {
                    self.release_hop(hop)?;
                    let mut from = Some((i64::MIN, 0, 0));
                    while let Some(place) = from {
                        from = self.retry_hop(hop, place, by, &mut messages)?;
                    }
                }
            }
        }
        Ok(messages.len())
    }

    /// Ends the back-off of a next hop.
    fn release_hop(&self, hop: HopId) -> Result<(), QueueError> {
        let release = move |ledger: &mut Ledger<'_>| {
            release(ledger, hop)?;
            reach(CrashPoint::HopReleaseWritten);
            Ok(())
        };
        self.store.write(release).wait()?;
        reach(CrashPoint::HopReleaseCommitted);
        Ok(())
    }

    pub(super) fn hops_to_retry(&self, what: &Retry) -> Result<Vec<HopId>, QueueError> {
        let hop = |row: &rusqlite::Row<'_>| row.get(0).map(HopId);
        self.store.read(|db| match what {
            Retry::Hops(names) => {
                let mut hops = Vec::new();
                for name in names {
                    // As people write it: in any case, and without the usual port.
                    let sql = "SELECT id FROM next_hop WHERE name COLLATE NOCASE IN (?1, ?1 || ':25')";
                    hops.extend(ledger::rows(db, sql, [name], hop)?);
                }
                Ok(hops)
            }
            _ => ledger::rows(
                db,
                "SELECT id FROM next_hop WHERE due IS NOT NULL OR failures > 0",
                [],
                hop,
            ),
        })
    }

    /// The next step of what waits for `hop`; where it ended, if there may be more.
    fn retry_hop(
        &self,
        hop: HopId,
        from: Place,
        by: &str,
        messages: &mut HashSet<MessageId>,
    ) -> Result<Option<Place>, QueueError> {
        let (now, by) = (self.now(), by.to_owned());
        let places = self
            .store
            .write_step(move |ledger| step(ledger, hop, from, now, &by))?;
        reach(CrashPoint::RetryCommitted);
        messages.extend(places.iter().map(|(_, id, _)| MessageId(*id)));
        let next = places.last().filter(|last| places.len() == STEP && **last > from);
        Ok(next.copied())
    }

    /// Does this to the recipients that `choice` is for; those that do not stand so are left alone. To those that session
    /// handlers have in hand it is done before the next thing would be said of them. `by` says in their history who wanted
    /// it.
    ///
    /// # Errors
    /// When the database refused; what was done before stays done.
    pub fn do_by_hand(&self, deed: ByHand, choice: &Choice, by: &str) -> Result<Done, QueueError> {
        let mut all = Done::default();
        let choice = Order::ByHand(deed.clone()).among(choice);
        let lead = self.store.guidance().at_hand();
        self.each_target(&choice, |targets| {
            for some in targets.chunks(MESSAGES_A_STEP) {
                let (to_do, author, states) = (some.to_vec(), by.to_owned(), choice.states.clone());
                let (lead, this) = (Arc::clone(&lead), deed.clone());
                let step = move |ledger: &mut Ledger<'_>| {
                    let mut done = Vec::with_capacity(to_do.len());
                    for (id, only) in &to_do {
                        let is_meant = |n, state| {
                            only.as_ref().is_none_or(|only| only.contains(&n))
                                && (states.is_empty() || states.contains(&state))
                        };
                        done.push(do_by_hand(ledger, (&*lead, &this), *id, &is_meant, &author)?);
                    }
                    reach(CrashPoint::ByHandWritten);
                    Ok(done)
                };
                let done = self.store.write_step(step)?;
                reach(CrashPoint::ByHandCommitted);
                for ((id, only), done) in some.iter().zip(done) {
                    all.add(done);
                    // What is wanted now takes the place of what was wanted before.
                    match done.in_hand {
                        0 => self.store.recalls().forget(*id),
                        _ => {
                            let (deed, only, by) = (deed.clone(), only.clone(), by.to_owned());
                            self.store.recalls().mark(*id, Mark { deed, only, by });
                        }
                    }
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// What `order` would do to the recipients that `choice` is for, with the first `sample` of them. Changes nothing.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn preview(&self, order: &Order, choice: &Choice, sample: usize) -> Result<Preview, QueueError> {
        let mut preview = Preview::default();
        let mut last = None;
        let lead = self.store.guidance().at_hand();
        self.each_chosen(&order.among(choice), |row| {
            let verdict = match order {
                Order::ByHand(ByHand::Route(via)) => row.judge(&*lead, via.as_ref()),
                _ => Verdict::Goes(None),
            };
            match verdict {
                Verdict::Nothing => return true,
                Verdict::Here => preview.done.here += 1,
                Verdict::Barred => preview.done.barred += 1,
                Verdict::Goes(goes) if order.finds_in_hand(&row, goes.as_ref()) => preview.done.in_hand += 1,
                Verdict::Goes(_) if order.concerns(&row) => {
                    preview.done.recipients += 1;
                    preview.done.messages += usize::from(last.replace(row.id) != Some(row.id));
                    if preview.sample.len() < sample {
                        preview.sample.push(row);
                    }
                }
                Verdict::Goes(_) => {}
            }
            true
        })?;
        Ok(preview)
    }

    /// Hands the messages with recipients that `choice` is for to `work`, some at a time. A message that is named, and
    /// nothing else is said, is handed over as a whole, however its rows are damaged. What arrives from now on is not.
    fn each_target(
        &self,
        choice: &Choice,
        mut work: impl FnMut(&[Target]) -> Result<(), QueueError>,
    ) -> Result<(), QueueError> {
        if choice.is_by_id() {
            let named: Vec<Target> = choice.ids.iter().map(|id| (*id, None)).collect();
            return work(&named);
        }
        let end = self.message_id();
        let mut after = Some(MessageId(i64::MIN));
        while let Some(place) = after.filter(|place| *place < end) {
            let (rows, next) = self.chosen(choice, place)?;
            let mut targets: Vec<Target> = Vec::new();
            for row in rows.into_iter().filter(|row| row.id < end) {
                match targets.last_mut() {
                    Some((id, Some(numbers))) if *id == row.id => numbers.push(row.n),
                    _ => targets.push((row.id, Some(vec![row.n]))),
                }
            }
            work(&targets)?;
            after = next;
        }
        Ok(())
    }

    /// Makes this message due, or these of its recipients alone; whether something of that waited.
    fn retry_message(&self, id: MessageId, only: Option<Vec<u32>>, by: &str) -> Result<bool, QueueError> {
        let (now, by) = (self.now(), by.to_owned());
        let retry = move |ledger: &mut Ledger<'_>| {
            let mut rows = ledger.rows(
                "SELECT n, hop FROM recipient WHERE message = ? AND state = 2 AND list IS NULL ORDER BY n",
                [id.0],
                |row| Ok((row.get::<_, u32>(0)?, HopId(row.get(1)?))),
            )?;
            rows.retain(|(n, _)| only.as_ref().is_none_or(|only| only.contains(n)));
            for (n, hop) in &rows {
                // Before all that waits for the same next hop.
                ledger.run(
                    "UPDATE recipient SET next_attempt = 0 WHERE message = ? AND n = ?",
                    (id.0, n),
                )?;
                ledger.run(
                    "UPDATE next_hop SET retry_at = min(retry_at, ?) WHERE id = ?",
                    (now.0, hop.0),
                )?;
                refresh_due(ledger, *hop, Change::Same)?;
                ledger.record(id, Some(*n), "retried", &story(&by))?;
            }
            reach(CrashPoint::RetryWritten);
            Ok(!rows.is_empty())
        };
        let waited = self.store.write(retry).wait()?;
        reach(CrashPoint::RetryCommitted);
        Ok(waited)
    }
}

impl ByHand {
    /// Whether it is done to a recipient in this state.
    fn concerns(&self, state: State) -> bool {
        match self {
            ByHand::Hold => matches!(state, State::PendingConversion | State::PendingXmit),
            ByHand::Bounce => {
                matches!(state, State::PendingConversion | State::PendingXmit | State::Held)
            }
            ByHand::Release => state == State::Held,
            ByHand::Delete => !state.is_end() && state != State::LockedForXmit,
            ByHand::Undelete => state == State::Removed,
            // Whom of these it is up to a judgement of its own.
            ByHand::Route(_) => true,
            ByHand::PutAside(_) => matches!(
                state,
                State::PendingConversion | State::PendingXmit | State::Held | State::Dead
            ),
        }
    }

    /// Whether it would be done to a recipient if no session handler had that in hand.
    fn minds_hands(&self) -> bool {
        matches!(
            self,
            ByHand::Hold | ByHand::Bounce | ByHand::Delete | ByHand::Route(_) | ByHand::PutAside(_)
        )
    }

    /// The state that it leads to; `None`: it stays in its own.
    fn leads_to(&self) -> Option<State> {
        Some(match self {
            ByHand::Hold | ByHand::Undelete | ByHand::PutAside(_) => State::Held,
            ByHand::Bounce => State::PendingReport,
            ByHand::Release => State::PendingConversion,
            ByHand::Delete => State::Removed,
            ByHand::Route(_) => return None,
        })
    }

    /// What history says of it.
    fn word(&self) -> &'static str {
        match self {
            ByHand::Hold | ByHand::PutAside(_) => "held",
            ByHand::Bounce => "returned",
            ByHand::Release => "released",
            ByHand::Delete => "removed",
            ByHand::Undelete => "brought back",
            ByHand::Route(_) => "pinned",
        }
    }

    /// And more about it.
    fn story(&self, by: &str) -> String {
        match self {
            ByHand::PutAside(export) => format!("{PUT_ASIDE}{export}, by {by}"),
            _ => format!("by {by}"),
        }
    }
}

impl Order {
    /// Whether it does something to this recipient.
    fn concerns(&self, row: &MailRow) -> bool {
        let Some(state) = row.state.known() else {
            return false;
        };
        match self {
            // On a list it is not due by itself.
            Order::Retry => state == State::PendingXmit && row.next_attempt.is_some(),
            Order::ByHand(deed) => deed.concerns(state),
        }
    }

    /// Whether it would be done to this recipient, which would go to `goes` then, if no session handler had it in hand.
    fn finds_in_hand(&self, row: &MailRow, goes: Option<&NextHop>) -> bool {
        row.state.known() == Some(State::LockedForXmit)
            && match self {
                Order::Retry => true,
                Order::ByHand(ByHand::Route(_)) => {
                    goes.is_some_and(|goes| row.next_hop.as_ref() != Some(&goes.to_string()))
                }
                Order::ByHand(deed) => deed.minds_hands(),
            }
    }

    /// Among whom it looks: nobody comes upon what was removed who does not look for it.
    fn among(&self, choice: &Choice) -> Choice {
        let mut choice = choice.clone();
        if *self == Order::ByHand(ByHand::Undelete) && choice.states.is_empty() {
            choice.states = vec![State::Removed];
        }
        choice
    }
}

impl Done {
    fn add(&mut self, more: Done) {
        self.messages += more.messages;
        self.recipients += more.recipients;
        self.in_hand += more.in_hand;
        self.here += more.here;
        self.barred += more.barred;
    }
}

impl MailRow {
    /// What becomes of it where it shall be led to `via`, or no longer led.
    fn judge(&self, lead: &Lead, via: Option<&NextHop>) -> Verdict {
        let path = self.recipient.parse().ok();
        match self.state.known() {
            Some(state) => judge(lead, via, state, path.as_ref(), self.via.as_deref()),
            None => Verdict::Nothing,
        }
    }
}

/// Does this to the recipients of message `id` that `is_meant` says so of, by their number and state. `lead` says where mail
/// goes.
pub(super) fn do_by_hand(
    ledger: &mut Ledger<'_>,
    (lead, deed): (&Lead, &ByHand),
    id: MessageId,
    is_meant: &dyn Fn(u32, State) -> bool,
    by: &str,
) -> Result<Done, QueueError> {
    if *deed == ByHand::Undelete && !has_content(ledger, id)? {
        return Ok(Done::default());
    }
    if let ByHand::PutAside(export) = deed
        && !(has_content(ledger, id)? && may_be_put_aside(ledger, *export, id)?)
    {
        return Ok(Done::default());
    }
    let reserved = reserved(ledger, id)?;
    if let ByHand::Route(via) = deed {
        let is_meant = |n: u32, state| is_meant(n, state) && !reserved.contains(&i64::from(n));
        return pin::route(ledger, (lead, via.as_ref()), id, &is_meant, by);
    }
    let recipients = ledger.rows(
        "SELECT n, state, hop, list IS NOT NULL FROM recipient WHERE message = ? ORDER BY n",
        [id.0],
        |row| {
            // However its row is damaged, it can be removed.
            let (n, hop): (i64, Option<i64>) = (row.get(0)?, row.get(2)?);
            Ok((n, state(row.get(1)?), hop.map(HopId), row.get::<_, bool>(3)?))
        },
    )?;
    let mut done = Done::default();
    let mut waited = BTreeMap::<HopId, usize>::new();
    for (n, state, hop, is_listed) in recipients {
        let Some(state) = state else { continue };
        let number = u32::try_from(n).ok();
        if !is_meant(number.unwrap_or_default(), state) || reserved.contains(&n) {
            continue;
        }
        if state == State::LockedForXmit && deed.minds_hands() {
            done.in_hand += 1;
        }
        if !deed.concerns(state) {
            continue;
        }
        let is_aside = matches!(state, State::Held | State::Dead);
        debug_assert!(deed.leads_to().is_none_or(|next| state.may_become(next)) || is_aside);
        if let ByHand::PutAside(export) = deed {
            reserve(ledger, *export, id, n, state)?;
        }
        let now = ledger.now();
        match deed {
            ByHand::Bounce => {
                let Some(n) = number else { continue };
                let null_sender = "SELECT reverse_path = '' FROM message WHERE id = ?";
                let null_sender = ledger.row(null_sender, [id.0], |row| row.get(0))?.unwrap_or(true);
                ledger.record(id, number, deed.word(), &deed.story(by))?;
                let reason = Reason::here(EnhancedCode(5, 0, 0), "an operator returned the message");
                give_up(ledger, id, n, state, null_sender, &reason)?;
                done.recipients += 1;
                continue;
            }
            ByHand::PutAside(_) if is_aside => 0,
            ByHand::Hold | ByHand::Undelete | ByHand::PutAside(_) => ledger.run(
                "UPDATE recipient SET state = 5, list = NULL, settled_at = NULL WHERE message = ? AND n = ?",
                (id.0, n),
            )?,
            // Nothing about its way is frozen. What was in SMTP.BOX, or has been routed, is read no more by imsgcnv.
            ByHand::Release => ledger.run(
                "UPDATE recipient SET state = 1, in_box = in_box <> 0 OR hop IS NOT NULL, hop = NULL, \
                 next_attempt = 0, settled_at = NULL WHERE message = ? AND n = ?",
                (id.0, n),
            )?,
            ByHand::Delete => ledger.run(
                "UPDATE recipient SET state = 14, list = NULL, settled_at = ? WHERE message = ? AND n = ?",
                (now.0, id.0, n),
            )?,
            ByHand::Route(_) => continue,
        };
        if let (State::PendingXmit, Some(hop), false) = (state, hop, is_listed) {
            *waited.entry(hop).or_default() += 1;
        }
        ledger.record(id, number, deed.word(), &deed.story(by))?;
        done.recipients += 1;
    }
    if done.recipients == 0 {
        return Ok(done);
    }
    done.messages = 1;
    let removed = i64::try_from(done.recipients).unwrap_or(i64::MAX);
    match deed {
        ByHand::Hold | ByHand::Bounce | ByHand::Release | ByHand::Route(_) | ByHand::PutAside(_) => {}
        ByHand::Delete => ledger.count("Mail.Removed", removed),
        ByHand::Undelete => {
            ledger.count("Mail.Removed", -removed);
            ledger.run("UPDATE message SET left_at = NULL WHERE id = ?", [id.0])?;
            expire_again(ledger, id)?;
        }
    }
    for (hop, recipients) in waited {
        refresh_due(ledger, hop, Change::Gone(recipients))?;
    }
    refresh_conversion_due(ledger, id)?;
    settle_if_done(ledger, id)?;
    Ok(done)
}

/// Whether the content of a message is kept.
fn has_content(ledger: &Ledger<'_>, id: MessageId) -> Result<bool, QueueError> {
    let sql = "SELECT file IS NOT NULL OR EXISTS (SELECT 1 FROM content WHERE message = ?1) FROM message WHERE id = ?1";
    Ok(ledger.row(sql, [id.0], |row| row.get(0))?.unwrap_or(false))
}

/// Up to so many that wait for `hop`, behind the place `from`: they are due now at the latest.
fn step(
    ledger: &mut Ledger<'_>,
    hop: HopId,
    from: Place,
    now: Stamp,
    by: &str,
) -> Result<Vec<Place>, QueueError> {
    let places = waiting_behind(ledger.db(), hop, from, STEP)?;
    for (due, id, n) in &places {
        if *due > now.0 {
            ledger.run(
                "UPDATE recipient SET next_attempt = ? WHERE message = ? AND n = ?",
                (now.0, id, n),
            )?;
        }
        ledger.record(MessageId(*id), u32::try_from(*n).ok(), "retried", &story(by))?;
    }
    refresh_due(ledger, hop, Change::Same)?;
    reach(CrashPoint::RetryWritten);
    Ok(places)
}

fn story(by: &str) -> String {
    format!("due now, by {by}")
}
