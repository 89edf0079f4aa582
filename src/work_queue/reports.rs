//! What the delivery report task asks of the queue: recipients whose sender has to be told, and the report
//! that goes into SMTP.BOX in the same transaction as their end.

use super::WorkQueue;
use super::arrival::{Arrival, put};
use super::broken::MOST_LOOKS;
use super::conversion::refresh_conversion_due;
use super::damage::{hold, sift};
use super::due::{Concerned, Due, Dues, due, dues};
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::listing::in_the_queue;
use super::moves::{expired, give_up, settle_if_done, too_late};
use super::moving::reserved;
use super::outcome::Reason;
use super::passage::Course;
use super::states::State;
use rusqlite::Connection;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Stamp;
use crate::crash_point::{CrashPoint, reach};

/// What the sender of a message is told, and what ends with that.
#[derive(Debug)]
pub struct Notice {
    /// The message that it is about.
    pub about: MessageId,
    /// What it tells.
    pub news: News,
    /// The report, or why there is none.
    pub telling: Telling,
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Recipients came to an end.
    Ends {
        /// These were given up; that is their end.
        failed: Vec<u32>,
        /// These had come to a good end; it need not be told again.
        reached: Vec<u32>,
    },
    /// Some are late. Ends nothing.
    Late,
}

/// How the sender is told.
#[derive(Debug)]
pub enum Telling {
    /// By this report, which is ready to go out.
    Report(Box<Arrival>),
    /// Not at all: it said that it does not want to hear of it (NOTIFY, RFC 3461 4.1).
    Unwanted,
    /// Not at all: the message is from the null path.
    Nobody,
}

/// How far the walk through the messages that are late has come.
const DELAY: &str = "delay notices";
/// How far the walk through the messages whose time is over has come.
const EXPIRY: &str = "expiry";
/// Messages that a walk looks at in one step, which is one transaction: mail that arrives meanwhile waits for it.
const STEP: usize = 50;

/// How much longer than its time a recipient may stay in somebody's hand, on the wire or in conversion: its end is
/// the end of that. After it nobody can have it in hand any more, whatever the row says.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// A round of the walk through the messages whose time is over. It begins where everything before is settled.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// How far it has come.
    reached: Option<Stamp>,
    /// Something is still in somebody's hand: the next round begins there.
    is_held_up: bool,
    /// Recipients that were given up so far.
    pub given_up: usize,
    /// Whether there is no more to walk through.
    pub is_done: bool,
}

impl WorkQueue {
    /// Up to `limit` messages with recipients that have been given up and whose sender does not know yet; and with those
    /// of its recipients whose good end it wants to hear of, and has not.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn awaiting_report(&self, limit: usize) -> Result<Vec<Due>, QueueError> {
        let broken = self.store.broken();
        self.those_to_be_read(|db| {
            let ids = ledger::rows(
                db,
                "SELECT DISTINCT message FROM recipient WHERE state = 4 ORDER BY message LIMIT ?",
                [limit + broken.count()],
                |row| row.get(0).map(MessageId),
            )?;
            dues(db, broken.without(ids, limit), |state, success| {
                state == State::PendingReport || success.is_some()
            })
        })
    }

    /// Up to `limit` messages with recipients whose good end the sender wants to hear of, and has not yet.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn awaiting_success_report(&self, limit: usize) -> Result<Vec<Due>, QueueError> {
        let broken = self.store.broken();
        self.those_to_be_read(|db| {
            let ids = ledger::rows(
                db,
                "SELECT DISTINCT message FROM recipient WHERE report_due IS NOT NULL AND state <> 4 \
                 ORDER BY message LIMIT ?",
                [limit + broken.count()],
                |row| row.get(0).map(MessageId),
            )?;
            dues(db, broken.without(ids, limit), |_, success| success.is_some())
        })
    }

    /// What there is to tell by `look`, which looks further where all that it came to can not be read.
    fn those_to_be_read(
        &self,
        look: impl Fn(&Connection) -> Result<Dues, QueueError>,
    ) -> Result<Vec<Due>, QueueError> {
        for _ in 0..MOST_LOOKS {
            let found = self.store.read(&look)?;
            let is_through = found.unreadable.is_empty();
            let dues = self.those_that_are_sound(found)?;
            if is_through || !dues.is_empty() {
                return Ok(dues);
            }
        }
        Ok(Vec::new())
    }

    /// What there is to tell; what is damaged is put aside.
    fn those_that_are_sound(&self, found: Dues) -> Result<Vec<Due>, QueueError> {
        self.hold_damaged(found.damaged)?;
        self.pass_over(found.unreadable);
        Ok(found.dues)
    }

    /// Messages that arrived before `cutoff`, are not through, and whose sender has not been told so: a step of
    /// the walk, how far it has come with it, and whether there is more to walk through.
    ///
    /// # Errors
    /// When the database can not be read.
    pub fn delayed(&self, cutoff: Stamp) -> Result<(Vec<Due>, Stamp, bool), QueueError> {
        let (found, reached, is_more) = self.store.read(|db| {
            let (ids, reached) = walk(db, marker(db, DELAY)?, cutoff)?;
            let is_more = ids.len() == STEP;
            // Whatever keeps it, on the wire or put aside: it is late all the same.
            let late = |state: State, _| IN_THE_QUEUE.contains(&state);
            Ok((dues(db, ids, late)?, reached, is_more))
        })?;
        let mut dues = self.those_that_are_sound(found)?;
        dues.retain(|due| !due.recipients.is_empty() && due.reverse_path.0.is_some());
        Ok((dues, reached, is_more))
    }

    /// Puts reports into SMTP.BOX, and ends what ends with them, in one transaction; `delay` is
    /// how far the walk of [`WorkQueue::delayed`] has come with them.
    ///
    /// # Errors
    /// When the database refused: nobody has been told, and nothing has ended.
    pub fn report(&self, notices: Vec<Notice>, delay: Option<Stamp>) -> Result<(), QueueError> {
        let notices = Arc::new(notices);
        let write = |some: Range<usize>, delay: Option<Stamp>| {
            let notices = Arc::clone(&notices);
            let report = move |ledger: &mut Ledger<'_>| {
                let notices = &notices[some.clone()];
                notices.iter().try_for_each(|notice| report(ledger, notice))?;
                if !notices.is_empty() {
                    reach(CrashPoint::ReportWritten);
                }
                match delay {
                    Some(reached) => ledger.mark(DELAY, reached),
                    None => Ok(()),
                }
            };
            match delay.is_some() {
                true => self.store.write_step(report),
                false => self.store.write(report).wait(),
            }
        };
        match write(0..notices.len(), delay) {
            Err(error) if error.is_damage() && !notices.is_empty() => {}
            written => return written,
        }
        // Where the rows of one message can not be written the others' can.
        let mut trouble = None;
        for (n, notice) in notices.iter().enumerate() {
            if let Err(error) = write(n..n + 1, None) {
                trouble = self.pass_over_unrecorded(notice.about, error).err().or(trouble);
            }
            // None of the others would fare better.
            if trouble.as_ref().is_some_and(QueueError::is_about_all) {
                break;
            }
        }
        match (trouble, delay) {
            (Some(error), _) => Err(error),
            (None, Some(_)) => write(0..0, delay),
            (None, None) => Ok(()),
        }
    }

    /// Gives up the recipients of messages that arrived before `cutoff`, whatever they wait for: a step of `round`.
    /// Those in somebody's hand end with that, so that nothing is delivered and returned both; they hold the next
    /// round up until they have, at most a day.
    ///
    /// # Errors
    /// When the database refused: nothing has changed.
    pub fn expire(&self, cutoff: Stamp, mut round: Round) -> Result<Round, QueueError> {
        let (ids, unreadable, from, reached) = self.store.read(|db| {
            let from = match round.reached {
                Some(reached) => reached,
                None => marker(db, EXPIRY)?,
            };
            let (ids, reached) = walk(db, from, cutoff)?;
            let (ids, unreadable) = sift(db, ids)?;
            Ok((ids, unreadable, from, reached))
        })?;
        round.is_done = ids.len() + unreadable.len() < STEP;
        round.reached = Some(reached);
        // Their time is over, too, as soon as they can be read.
        let unread = unreadable.first().map(|id| id.arrived());
        self.pass_over(unreadable);
        let (was_held_up, overdue) = (round.is_held_up, cutoff.minus(LEASE));
        let ids = Arc::new(ids);
        let write = |some: Range<usize>, held_up_at: Option<Stamp>, is_all: bool| {
            let ids = Arc::clone(&ids);
            self.store.write_step(move |ledger| {
                let (mut given_up, mut held_up_at) = (0, held_up_at);
                for id in &ids[some.clone()] {
                    let (gone, at) = end_time(ledger, *id, overdue)?;
                    given_up += gone;
                    held_up_at = earlier(held_up_at, at);
                }
                match (was_held_up, held_up_at) {
                    _ if !is_all => {}
                    (true, _) => {}
                    // Something before was brought back meanwhile: the next round begins there.
                    _ if marker(ledger.db(), EXPIRY)? < from => {}
                    (false, Some(at)) => ledger.mark(EXPIRY, at.minus(Duration::from_micros(1)))?,
                    (false, None) => ledger.mark(EXPIRY, reached)?,
                }
                Ok((given_up, held_up_at))
            })
        };
        let (given_up, held_up_at) = match write(0..ids.len(), unread, true) {
            // Where the rows of one message can not be written the others' can.
            Err(error) if error.is_damage() => {
                let (mut given_up, mut held_up_at) = (0, unread);
                for (n, id) in ids.iter().enumerate() {
                    let at = match write(n..n + 1, None, false) {
                        Ok((gone, at)) => {
                            given_up += gone;
                            at
                        }
                        Err(error) => {
                            self.pass_over_unrecorded(*id, error)?;
                            Some(id.arrived())
                        }
                    };
                    held_up_at = earlier(held_up_at, at);
                }
                write(0..0, held_up_at, true)?;
                (given_up, held_up_at)
            }
            written => written?,
        };
        round.given_up += given_up;
        round.is_held_up |= held_up_at.is_some();
        Ok(round)
    }
}

/// Gives up what there is in the queue of message `id`, whose time is over; how many recipients. And since when something
/// of it is in somebody's hand, if it is.
fn end_time(
    ledger: &mut Ledger<'_>,
    id: MessageId,
    overdue: Stamp,
) -> Result<(usize, Option<Stamp>), QueueError> {
    let Some(due) = due(ledger.db(), id, |state, _| IN_THE_QUEUE.contains(&state))? else {
        hold(ledger, id)?;
        return Ok((0, None));
    };
    let reserved = reserved(ledger, id)?;
    let (mut given_up, mut held_up_at) = (0, None);
    let is_overdue = id.arrived() <= overdue;
    for late in &due.recipients {
        if reserved.contains(&late.n.into()) {
            // It is about to go elsewhere, with its time.
            continue;
        }
        if is_in_hand(late.state) && !is_overdue {
            held_up_at = Some(id.arrived());
            continue;
        }
        let null_sender = due.reverse_path.0.is_none();
        give_up(ledger, id, late.n, late.state, null_sender, &time_is_over(late))?;
        reach(CrashPoint::ExpiryWritten);
        given_up += 1;
    }
    if due
        .recipients
        .iter()
        .any(|late| late.state == State::PendingConversion)
    {
        refresh_conversion_due(ledger, id)?;
    }
    Ok((given_up, held_up_at))
}

/// The earlier one of two moments, as far as there are any.
fn earlier(one: Option<Stamp>, other: Option<Stamp>) -> Option<Stamp> {
    one.into_iter().chain(other).min()
}

/// The states of recipients that are neither settled nor given up.
const IN_THE_QUEUE: [State; 4] = [
    State::PendingConversion,
    State::PendingXmit,
    State::LockedForXmit,
    State::Held,
];

/// Whether somebody may be at work on a recipient in this state, and be through with it at any moment.
fn is_in_hand(state: State) -> bool {
    matches!(state, State::PendingConversion | State::LockedForXmit)
}

/// Why a recipient is given up whose time is over.
fn time_is_over(late: &Concerned) -> Reason {
    match late.state {
        State::Held => too_late("it has been put aside: ", &late.reason),
        _ if late.backs_off => too_late("its next hop does not answer: ", &late.reason),
        _ if late.reason.text.is_empty() => too_late("it has not been tried", &late.reason),
        _ => expired(&late.reason),
    }
}

fn report(ledger: &mut Ledger<'_>, notice: &Notice) -> Result<(), QueueError> {
    let about = notice.about;
    let told = match &notice.telling {
        Telling::Report(report) => {
            let to = report
                .recipients
                .first()
                .map(|to| to.path.to_string())
                .unwrap_or_default();
            format!("report {} to <{to}>", report.id)
        }
        Telling::Unwanted => "no report wanted".to_owned(),
        Telling::Nobody => "nobody can be told".to_owned(),
    };
    let ended = match &notice.news {
        News::Ends { failed, reached } => {
            fail(ledger, about, failed, &told)? + confirm(ledger, about, reached, &told)?
        }
        News::Late => {
            ledger.record(about, None, "delay notice", &told)?;
            1
        }
    };
    if ended == 0 {
        // Somebody else has reported it meanwhile.
        return Ok(());
    }
    if let Telling::Report(report) = &notice.telling {
        put(ledger, report, None, &Course::First, ledger.moment())?;
        let counter = match &notice.news {
            News::Ends { failed, .. } if failed.is_empty() => "Mail.SuccessReports",
            News::Ends { .. } => "Mail.Reports",
            News::Late => "Mail.DelayNotices",
        };
        ledger.count(counter, 1);
    }
    settle_if_done(ledger, about)
}

/// The end of recipients that were given up; how many ended with this.
fn fail(ledger: &mut Ledger<'_>, id: MessageId, failed: &[u32], told: &str) -> Result<usize, QueueError> {
    debug_assert!(State::PendingReport.may_become(State::Failed));
    let mut ended = 0;
    for n in failed {
        let changed = ledger.run(
            "UPDATE recipient SET state = ?, settled_at = ?, report_due = NULL \
             WHERE message = ? AND n = ? AND state = 4",
            (State::Failed.number(), ledger.now().0, id.0, n),
        )?;
        if changed > 0 {
            ledger.record(id, Some(*n), "failed", told)?;
            ledger.count("Mail.Failed", 1);
        }
        ended += changed;
    }
    Ok(ended)
}

/// The sender knows of these good ends now; of how many it did not know before.
fn confirm(ledger: &Ledger<'_>, id: MessageId, reached: &[u32], told: &str) -> Result<usize, QueueError> {
    let mut confirmed = 0;
    for n in reached {
        let changed = ledger.run(
            "UPDATE recipient SET report_due = NULL WHERE message = ? AND n = ? AND report_due IS NOT NULL",
            (id.0, n),
        )?;
        if changed > 0 {
            ledger.record(id, Some(*n), "success notice", told)?;
        }
        confirmed += changed;
    }
    Ok(confirmed)
}

/// How far a walk has come.
fn marker(db: &Connection, name: &'static str) -> Result<Stamp, QueueError> {
    let reached = ledger::row(db, "SELECT value FROM marker WHERE name = ?", [name], |row| {
        row.get(0)
    })?;
    Ok(Stamp(reached.unwrap_or(0)))
}

/// A message is in the queue again that had left it: its time may be over all the same.
pub(super) fn expire_again(ledger: &Ledger<'_>, id: MessageId) -> Result<(), QueueError> {
    let earlier = "UPDATE marker SET value = min(value, ?) WHERE name = ?";
    ledger.run(earlier, (id.0.saturating_sub(1), EXPIRY)).map(drop)
}

/// The next messages of a walk in the order of arrival, and how far it has come with them: to the last message that there
/// is, and no further. Where the clock is set back none that comes later lies behind that.
fn walk(db: &Connection, from: Stamp, cutoff: Stamp) -> Result<(Vec<MessageId>, Stamp), QueueError> {
    let ids = ledger::rows(
        db,
        "SELECT id FROM message WHERE id > ? AND id <= ? AND left_at IS NULL ORDER BY id LIMIT ?",
        (from.0, cutoff.0, STEP),
        |row| row.get(0).map(MessageId),
    );
    let mut ids = match ids {
        // The page of one is broken: the index of what is in the queue names them, too.
        Err(error) if error.is_damage() => {
            let mut ids = in_the_queue(db, MessageId(from.0), STEP)?;
            ids.retain(|id| id.arrived() <= cutoff);
            ids
        }
        ids => ids?,
    };
    // In a damaged database what lies before may be found again, and for ever.
    ids.retain(|id| id.arrived() > from);
    let reached = match ids.last() {
        Some(last) if ids.len() == STEP => last.arrived(),
        _ => {
            let last = "SELECT max(id) FROM message WHERE id <= ?";
            match ledger::row(db, last, [cutoff.0], |row| row.get::<_, Option<i64>>(0)) {
                // The page that it stands on is broken.
                Err(error) if error.is_damage() => ids.last().map_or(from, |last| last.arrived()),
                last => last?.flatten().map_or(from, |last| Stamp(last).max(from)),
            }
        }
    };
    Ok((ids, reached))
}
